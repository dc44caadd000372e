//! Gateway addresses, default routes, and what is in the way of them.

use serde_json::{Value, json};

use super::{BOTH, V4, V6};
use crate::harness::*;

fn v4_and_v6(node: &Node, keys: Value) -> Value {
    node.network("1.0.0", &[V4, V6], keys)
}

#[test]
fn a_gateway_is_on_the_bridge_only_if_asked_for() {
    testbed::isolated!();
    for by in BOTH {
        for (keys, on_bridge, default) in [
            (json!({}), false, false),
            (json!({ "isGateway": true }), true, false),
            (json!({ "isDefaultGateway": true }), true, true),
        ] {
            let node = Node::new(by);
            let pod = node.pod("pod");
            let result = node.add(&pod, &v4_and_v6(&node, keys));
            let gateways = addresses(&node.namespace, "cni0");
            assert_eq!(gateways.is_empty(), !on_bridge, "{gateways:?}");
            for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                assert_eq!(sysctl(&node.namespace, key) == "1", on_bridge);
            }
            // host-local always tells where the gateway would be.
            assert_eq!(result["ips"][0]["gateway"], "10.1.2.1");
            assert_eq!(result["routes"].is_null(), !default);
            let routes = routes(&pod.namespace, "main");
            assert_eq!(
                routes.iter().filter(|route| route.starts_with("default")).count() == 2,
                default
            );
        }
    }
}

#[test]
fn a_default_route_from_ipam_is_not_doubled() {
    testbed::isolated!();
    for by in BOTH {
        for (dst, count) in [
            // One that says where it goes is kept; one without is only a wish, and ours is beside it.
            (json!({ "dst": "0.0.0.0/0", "gw": "10.1.2.254" }), 1),
            (json!({ "dst": "192.0.2.0/24", "gw": "10.1.2.1" }), 2),
        ] {
            let node = Node::new(by);
            let pod = node.pod("pod");
            let keys = json!({ "isDefaultGateway": true, "ipam": { "routes": [dst] } });
            let result = node.add(&pod, &node.network("1.0.0", &[V4], keys));
            assert_eq!(result["routes"].as_array().unwrap().len(), count, "{result}");
            assert_eq!(routes(&pod.namespace, "main").len(), count);
            assert_eq!(result["routes"][0], dst);
        }
    }
}

#[test]
fn a_default_route_without_a_gateway_goes_by_the_gateway() {
    testbed::isolated!();
    for by in BOTH {
        for keys in [json!({ "isGateway": true }), json!({ "isDefaultGateway": true })] {
            let node = Node::new(by);
            let pod = node.pod("pod");
            let keys = merged(keys, json!({ "ipam": { "routes": [{ "dst": "0.0.0.0/0" }] } }));
            let twice = keys["isDefaultGateway"] == true;
            let config = node.network("1.0.0", &[V4], keys);
            let answer = node.run(&node.call("ADD", &pod, &config));
            if twice && by == By::Reference && !answer.is_ok() {
                // 1.1.1 adds the same route twice, and does not expect the kernel's refusal.
                continue;
            }
            let result = answer.ok();
            assert_eq!(routes(&pod.namespace, "main"), ["default via 10.1.2.1 dev eth0"], "{by:?}");
            assert_eq!(result["routes"][0], json!({ "dst": "0.0.0.0/0" }));
        }
    }
}

#[test]
fn the_gateway_of_the_range_is_the_gateway() {
    testbed::isolated!();
    for by in BOTH {
        let node = Node::new(by);
        let pod = node.pod("pod");
        let ranges = json!([[{ "subnet": V4, "gateway": "10.1.2.254" }]]);
        let keys = json!({ "isDefaultGateway": true, "ipam": { "ranges": ranges } });
        let result = node.add(&pod, &node.network("1.0.0", &[V4], keys));
        assert_eq!(result["ips"][0]["gateway"], "10.1.2.254");
        assert_eq!(addresses(&node.namespace, "cni0"), ["10.1.2.254/24"]);
        assert_eq!(routes(&pod.namespace, "main"), ["default via 10.1.2.254 dev eth0"]);
    }
}

/// The addresses on the bridge before, the subnet, whether `forceAddress` is needed, and the
/// addresses after.
type Case = (&'static str, &'static str, bool, &'static [&'static str]);

const CASES: &[Case] = &[
    ("10.9.9.1/24", V4, true, &["10.1.2.1/24"]),
    ("10.1.2.1/16", V4, true, &["10.1.2.1/24"]),
    ("10.1.2.1/24", V4, false, &["10.1.2.1/24"]),
    ("2001:db8:1::5/48", V6, true, &["2001:db8:1::1/64"]),
    ("2001:db8:1::5/64", V6, true, &["2001:db8:1::1/64"]),
    ("2001:db8:1::1/64", V6, false, &["2001:db8:1::1/64"]),
    ("2001:db8:7::1/64", V6, false, &["2001:db8:1::1/64", "2001:db8:7::1/64"]),
    ("10.9.9.1/24", V6, false, &["10.9.9.1/24", "2001:db8:1::1/64"]),
];

#[test]
fn another_address_gives_way_only_to_force() {
    testbed::isolated!();
    for by in BOTH {
        for (before, subnet, needs_force, wanted) in CASES {
            let node = Node::new(by);
            let pod = node.pod("pod");
            node.namespace.sh(&format!(
                "ip link add cni0 address 02:00:00:00:00:01 type bridge; ip link set cni0 up; ip address add {before} dev cni0 "
            ));
            let config = |force: bool| {
                node.network(
                    "1.0.0",
                    &[subnet],
                    json!({ "isGateway": true, "forceAddress": force }),
                )
            };
            let call = node.call("ADD", &pod, &config(false));
            if *needs_force {
                let text = format!(
                    "failed to set bridge addr: \"cni0\" already has an IP address different from {}",
                    wanted[0]
                );
                assert_eq!(
                    node.run(&call).refused().said(),
                    (999, text.as_str()),
                    "{by:?} {before}"
                );
                assert_eq!(addresses(&node.namespace, "cni0"), [*before]);
                assert!(node.reservations().is_empty());
                if by == By::Reference {
                    // It leaves the cable.
                    pod.namespace.sh("ip link delete eth0 2>/dev/null || true");
                }
                node.add(&pod, &config(true));
            } else {
                node.run(&call).ok();
            }
            assert_eq!(addresses(&node.namespace, "cni0"), *wanted, "{by:?} {before}");
        }
    }
}

#[test]
fn force_that_fails_later_gives_the_old_address_back() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    node.namespace.sh("ip link add cni0 type bridge; ip address add 10.9.9.1/24 dev cni0");
    let lost = json!([{ "dst": "10.0.0.0/8", "gw": "192.0.2.1" }]);
    let keys = json!({ "isGateway": true, "forceAddress": true, "ipam": { "routes": lost } });
    node.run(&node.call("ADD", &pod, &node.network("1.1.0", &[V4], keys))).refused();
    assert_eq!(addresses(&node.namespace, "cni0"), ["10.9.9.1/24"]);
    let keys = json!({ "isGateway": true, "forceAddress": true });
    node.add(&pod, &node.network("1.1.0", &[V4], keys));
}

#[test]
fn two_networks_share_a_bridge() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let (one, two) = (node.pod("one"), node.pod("two"));
    let first = node.network("1.1.0", &[V6], json!({ "isGateway": true }));
    let second = json!({ "isGateway": true, "name": "others" });
    let second = node.network("1.1.0", &["2001:db8:2::/64"], second);
    let results = [node.add(&one, &first), node.add(&two, &second)];
    assert_eq!(addresses(&node.namespace, "cni0"), ["2001:db8:1::1/64", "2001:db8:2::1/64"]);
    let (a, host) = (one.namespace.netns(), node.namespace.netns());
    let gateway = "2001:db8:1::1".parse().unwrap();
    assert_eq!(source_seen(a, host, gateway), Some(bare(&ips(&results[0])[0])));
    node.del(&one, &first);
    node.check(&two, &second, &results[1]);
}
