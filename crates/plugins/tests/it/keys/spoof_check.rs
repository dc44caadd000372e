//! `macspoofchk`: a pod that lies about its hardware address is cut off.

use serde_json::json;

use super::{BOTH, V4};
use crate::harness::*;

#[test]
fn a_pod_that_lies_about_its_hardware_address_is_cut_off() {
    testbed::isolated!();
    for by in BOTH {
        for checked in [true, false] {
            let node = Node::new(by);
            let (liar, witness) = (node.pod("liar"), node.pod("witness"));
            let config =
                node.network("1.0.0", &[V4], json!({ "isGateway": true, "macspoofchk": checked }));
            let results = [node.add(&liar, &config), node.add(&witness, &config)];
            let (a, b, host) =
                (liar.namespace.netns(), witness.namespace.netns(), node.namespace.netns());
            let (own, other) = (bare(&ips(&results[0])[0]), bare(&ips(&results[1])[0]));
            assert_eq!(source_seen(a, b, other), Some(own));
            let honest = link(&liar.namespace, "eth0")["address"].as_str().unwrap().to_owned();
            let set = |mac: &str| {
                liar.namespace
                    .sh(&format!("ip link set eth0 address {mac}; ip neighbour flush all"));
            };
            set("02:00:00:00:00:66");
            if checked {
                assert!(is_lost(a, b, other) && is_lost(a, host, bare("10.1.2.1")), "{by:?}");
                // Only the liar.
                assert_eq!(source_seen(b, host, bare("10.1.2.1")), Some(other));
            } else {
                assert_eq!(source_seen(a, b, other), Some(own));
            }
            set(&honest);
            assert_eq!(source_seen(a, b, other), Some(own), "{by:?}");
            for pod in [&liar, &witness] {
                node.del(pod, &config);
            }
            let rules = node.namespace.sh("nft list ruleset");
            assert!(!rules.contains("veth") && !rules.contains("liar"), "{by:?} {rules}");
        }
    }
}

#[test]
fn the_check_goes_by_the_address_that_was_asked_for() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let keys = json!({ "isGateway": true, "macspoofchk": true, "runtimeConfig": { "mac": "02:00:00:00:00:0a" } });
    let config = node.network("1.1.0", &[V4], keys);
    let result = node.add(&pod, &config);
    let seen = source_seen(pod.namespace.netns(), node.namespace.netns(), bare("10.1.2.1"));
    assert_eq!(seen, Some(bare(&ips(&result)[0])));
    node.check(&pod, &config, &result);
}

#[test]
fn a_bridge_without_addresses_can_be_guarded() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let config = node.bridged("1.1.0", json!({ "macspoofchk": true }));
    let result = node.add(&pod, &config);
    node.check(&pod, &config, &result);
    let del = node.call("DEL", &pod, &after(&config, &result)).without("CNI_NETNS");
    node.run(&del).ok();
    assert!(!node.namespace.sh("nft list ruleset").contains("veth"));
}
