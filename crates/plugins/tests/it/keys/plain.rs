//! A bridge without addresses.

use serde_json::{Value, json};

use super::BOTH;
use crate::harness::*;

const MODERN: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

#[test]
fn a_pod_without_addresses_is_plugged_in() {
    testbed::isolated!();
    for by in BOTH {
        for version in &MODERN[..if by == By::Podwire { 5 } else { 4 }] {
            let node = Node::new(by);
            let pod = node.pod("pod");
            let before = node.remains("cni0");
            let config = node.bridged(version, json!({}));
            let result = node.add(&pod, &config);
            assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
            assert!(result["ips"].is_null() && result["routes"].is_null(), "{result}");
            assert_eq!(link(&pod.namespace, "eth0")["operstate"], "UP");
            assert_eq!(ports(&node.namespace, "cni0"), [interface(&result, 1)]);
            assert_eq!(addresses(&pod.namespace, "eth0"), [""; 0]);
            if by == By::Podwire && !version.starts_with("0.3") {
                // The reference asks an IPAM plugin that there is not.
                node.check(&pod, &config, &result);
            }
            for _ in 0..2 {
                node.del(&pod, &config);
            }
            testbed::assert_same_state(&before, &node.remains("cni0"));
        }
    }
}

#[test]
fn a_result_without_addresses_has_no_place_in_the_oldest_versions() {
    testbed::isolated!();
    for by in BOTH {
        let node = Node::new(by);
        let pod = node.pod("pod");
        let before = node.state();
        for version in ["0.1.0", "0.2.0"] {
            let config = node.bridged(version, json!({}));
            let refused = node.run(&node.call("ADD", &pod, &config)).refused();
            assert_eq!(refused.said(), (999, "cannot convert: no valid IP addresses"), "{by:?}");
            if by == By::Podwire {
                testbed::assert_same_state(&before, &node.state());
                assert_eq!(links(&pod.namespace), ["lo"]);
            }
            node.del(&pod, &config);
        }
    }
}

#[test]
fn a_pod_s_interface_can_be_left_down() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let config = node.bridged("1.1.0", json!({ "disableContainerInterface": true }));
    let result = node.add(&pod, &config);
    let eth0 = link(&pod.namespace, "eth0");
    assert!(!eth0["flags"].as_array().unwrap().contains(&"UP".into()), "{eth0}");
    assert_eq!(ports(&node.namespace, "cni0"), [interface(&result, 1)]);
    node.check(&pod, &config, &result);
    // Whoever brings it up later breaks nothing.
    pod.namespace.sh("ip link set eth0 up");
    node.check(&pod, &config, &result);
    node.del(&pod, &config);
    assert_eq!(links(&pod.namespace), ["lo"]);
}

#[test]
fn frames_pass_a_bridge_without_addresses() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let (one, two) = (node.pod("one"), node.pod("two"));
    let config = node.bridged("1.1.0", json!({ "isGateway": true, "ipMasq": true }));
    for (pod, address) in [(&one, "192.0.2.1/24"), (&two, "192.0.2.2/24")] {
        let result: Value = node.add(pod, &config);
        assert!(result["ips"].is_null());
        pod.namespace.sh(&format!("ip address add {address} dev eth0"));
    }
    let (a, b) = (one.namespace.netns(), two.namespace.netns());
    assert_eq!(source_seen(a, b, bare("192.0.2.2")), Some(bare("192.0.2.1")));
}
