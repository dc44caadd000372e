//! The bridge and its ports.

use serde_json::{Value, json};

use super::{BOTH, V4, V6};
use crate::harness::*;

#[test]
fn the_bridge_and_both_ends_have_the_mtu_that_is_asked_for() {
    testbed::isolated!();
    for by in BOTH {
        let node = Node::new(by);
        let pod = node.pod("pod");
        let mtu = |space, name: &str| link(space, name)["mtu"].clone();
        for (keys, wanted) in
            [(json!({}), 1500), (json!({ "mtu": 1400 }), 1400), (json!({ "MTU": 0 }), 1500)]
        {
            let config = node.network("1.0.0", &[V4], keys);
            let result = node.add(&pod, &config);
            assert_eq!(mtu(&pod.namespace, "eth0"), wanted);
            assert_eq!(mtu(&node.namespace, interface(&result, 1)), wanted);
            assert_eq!(mtu(&node.namespace, "cni0"), wanted);
            node.del(&pod, &config);
            node.namespace.sh("ip link delete cni0");
        }
    }
}

#[test]
fn a_bridge_that_is_there_is_used_as_it_is() {
    testbed::isolated!();
    for by in BOTH {
        let node = Node::new(by);
        let pod = node.pod("pod");
        node.namespace
            .sh("ip link add br9 address 02:00:00:00:00:09 mtu 1450 type bridge ageing_time 700");
        for keys in [json!({ "isGateway": true }), json!({ "mtu": 1400 })] {
            let config = node.network("1.0.0", &[V4], merged(json!({ "bridge": "br9" }), keys));
            let result = node.add(&pod, &config);
            let bridge = link(&node.namespace, "br9");
            assert_eq!(bridge["address"], "02:00:00:00:00:09");
            assert_eq!(bridge["linkinfo"]["info_data"]["ageing_time"], 700);
            assert_eq!(
                result["interfaces"][0],
                json!({ "mac": "02:00:00:00:00:09", "name": "br9" })
            );
            assert!(bridge["flags"].as_array().unwrap().contains(&"UP".into()));
            node.check(&pod, &config, &result);
            node.del(&pod, &config);
        }
        assert_eq!(link(&node.namespace, "cni0"), Value::Null);
    }
}

#[test]
fn the_bridge_keeps_its_hardware_address_while_pods_come_and_go() {
    testbed::isolated!();
    // With a gateway, both; without one only ours does.
    let gateway = |subnet| (json!({ "isGateway": true }), vec![subnet]);
    for (by, (keys, subnets)) in [
        (By::Reference, gateway(V4)),
        (By::Reference, gateway(V6)),
        (By::Podwire, gateway(V4)),
        (By::Podwire, gateway(V6)),
        (By::Podwire, (json!({}), vec![V4])),
    ] {
        // One bridge that the plugin makes, and one that an administrator has made.
        let with_port = "ip link add x type veth peer name y; ip link set x master cni0";
        let portless = format!("ip link add cni0 type bridge; {with_port}; ip link delete x");
        for prepare in ["true", "ip link add cni0 type bridge", &portless] {
            if by == By::Reference && prepare == portless {
                // It fails there: a bridge that has lost its last port has an address of zeros.
                continue;
            }
            let node = Node::new(by);
            node.namespace.sh(prepare);
            let pods = ["one", "two", "three"].map(|id| node.pod(id));
            let config = node.network("1.0.0", &subnets, keys.clone());
            let mac = || link(&node.namespace, "cni0")["address"].clone();
            let results = pods.each_ref().map(|pod| node.add(pod, &config));
            let first = mac();
            for result in &results {
                assert_eq!(result["interfaces"][0]["mac"], first, "{by:?} {keys} {prepare}");
            }
            for pod in &pods {
                node.del(pod, &config);
                assert_eq!(mac(), first);
            }
            node.add(&pods[0], &config);
            assert_eq!(mac(), first);
        }
    }
}

#[test]
fn ports_have_the_flags_that_are_asked_for() {
    testbed::isolated!();
    for by in BOTH {
        let node = Node::new(by);
        let pod = node.pod("pod");
        for (keys, hairpin, isolated) in [
            (json!({}), false, false),
            (json!({ "hairpinMode": true }), true, false),
            (json!({ "portIsolation": true }), false, true),
        ] {
            if isolated && by == By::Reference {
                continue;
            }
            let config = node.network("1.0.0", &[V4], keys);
            let result = node.add(&pod, &config);
            let port = link(&node.namespace, interface(&result, 1));
            let data = &port["linkinfo"]["info_slave_data"];
            assert_eq!((&data["hairpin"], &data["isolated"]), (&hairpin.into(), &isolated.into()));
            assert_eq!(port["master"], "cni0");
            node.check(&pod, &config, &result);
            node.del(&pod, &config);
        }
    }
}

#[test]
fn isolated_ports_do_not_reach_each_other_but_the_node() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let (one, two, open) = (node.pod("one"), node.pod("two"), node.pod("open"));
    let isolated =
        node.network("1.1.0", &[V4], json!({ "isGateway": true, "portIsolation": true }));
    let results = [&one, &two].map(|pod| node.add(pod, &isolated));
    let free = node.network("1.1.0", &[V4], json!({ "isGateway": true }));
    let third = node.add(&open, &free);
    let address = |result: &Value| bare(&ips(result)[0]);
    let (a, b, c) = (one.namespace.netns(), two.namespace.netns(), open.namespace.netns());
    assert!(is_lost(a, b, address(&results[1])));
    assert_eq!(source_seen(a, c, address(&third)), Some(address(&results[0])));
    let gateway = "10.1.2.1".parse().unwrap();
    assert_eq!(source_seen(b, node.namespace.netns(), gateway), Some(address(&results[1])));
}

#[test]
fn promiscuous_mode_is_switched_on_and_never_off() {
    testbed::isolated!();
    for by in BOTH {
        let node = Node::new(by);
        let (one, two) = (node.pod("one"), node.pod("two"));
        let promiscuity = || link(&node.namespace, "cni0")["promiscuity"].clone();
        let plain = node.network("1.0.0", &[V4], json!({}));
        let wide = node.network("1.0.0", &[V4], json!({ "promiscMode": true }));
        node.add(&one, &plain);
        assert_eq!(promiscuity(), 0);
        let result = node.add(&two, &wide);
        assert_eq!(promiscuity(), 1);
        node.check(&two, &wide, &result);
        node.del(&two, &wide);
        assert_eq!(promiscuity(), 1);
        node.add(&two, &plain);
        assert_eq!(promiscuity(), 1);
    }
}

#[test]
fn the_node_does_not_listen_to_routers_among_its_pods() {
    testbed::isolated!();
    for by in BOTH {
        let node = Node::new(by);
        let pod = node.pod("pod");
        let result = node.add(&pod, &node.network("1.0.0", &[V4], json!({})));
        let ours: &[&str] = if by == By::Podwire { &["cni0"] } else { &[] };
        for name in [interface(&result, 1)].iter().chain(ours) {
            assert_eq!(sysctl(&node.namespace, &format!("net/ipv6/conf/{name}/accept_ra")), "0");
        }
    }
}
