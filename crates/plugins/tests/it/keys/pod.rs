//! The pod's interface, its routes, and what the result says about names.

use std::fs;

use serde_json::{Value, json};

use super::{BOTH, V4, V6};
use crate::harness::*;

#[test]
fn the_last_source_of_a_hardware_address_wins() {
    testbed::isolated!();
    let in_args = "MAC=02:00:00:00:00:01;IgnoreUnknown=1;K8S_POD_NAME=web";
    let args = json!({ "args": { "cni": { "mac": "02:00:00:00:00:02" } } });
    let runtime = json!({ "runtimeConfig": { "mac": "02-00-00-00-00-03" } });
    for by in BOTH {
        let node = Node::new(by);
        let pod = node.pod("pod");
        for (args_variable, keys, wanted) in [
            (in_args, json!({}), "02:00:00:00:00:01"),
            (in_args, args.clone(), "02:00:00:00:00:02"),
            (in_args, merged(args.clone(), runtime.clone()), "02:00:00:00:00:03"),
            ("", runtime.clone(), "02:00:00:00:00:03"),
        ] {
            for config in [node.network("1.0.0", &[V4], keys.clone()), node.bridged("1.0.0", keys)]
            {
                let call = node.call("ADD", &pod, &config).with("CNI_ARGS", args_variable);
                let result = node.run(&call).ok();
                assert_eq!(link(&pod.namespace, "eth0")["address"], wanted);
                assert_eq!(result["interfaces"][2]["mac"], wanted);
                let host = link(&node.namespace, interface(&result, 1));
                assert_ne!(host["address"], wanted);
                node.run(&call.with("CNI_COMMAND", "DEL")).ok();
            }
        }
    }
}

#[test]
fn hardware_addresses_are_local_and_each_pod_s_own() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pods = ["a", "b", "c", "d"].map(|id| node.pod(id));
    let config = node.bridged("1.1.0", json!({}));
    let mut seen = std::collections::BTreeSet::new();
    for pod in &pods {
        for interface in &node.add(pod, &config)["interfaces"].as_array().unwrap()[1..] {
            let mac = interface["mac"].as_str().unwrap().to_owned();
            let first = u8::from_str_radix(&mac[..2], 16).unwrap();
            assert_eq!((mac.len(), first & 3), (17, 2), "{mac}");
            assert!(seen.insert(mac));
        }
    }
}

#[test]
fn dns_of_the_configuration_is_before_ipam_s_if_it_says_anything() {
    testbed::isolated!();
    for plugin in CABLED {
        let ipam = json!({ "nameservers": ["192.0.2.1"], "domain": "d", "search": ["s"], "options": ["o"] });
        for by in BOTH {
            let node = Node::new(by);
            let pod = node.pod("pod");
            let file = node.home.join("resolv.conf");
            fs::write(&file, "nameserver 192.0.2.1\ndomain d\nsearch s\noptions o\n").unwrap();
            let resolv = json!({ "resolvConf": file.to_str().unwrap() });
            for (keys, wanted) in [
                (json!({ "ipam": resolv }), ipam.clone()),
                (json!({ "ipam": resolv, "dns": {} }), ipam.clone()),
                (json!({ "ipam": resolv, "dns": { "domain": "" } }), ipam.clone()),
                (json!({ "ipam": resolv, "dns": { "search": ["x"] } }), json!({ "search": ["x"] })),
                // An empty list is a choice.
                (json!({ "ipam": resolv, "dns": { "search": [] } }), Value::Null),
                (
                    json!({ "dns": { "nameservers": ["192.0.2.9"] } }),
                    json!({ "nameservers": ["192.0.2.9"] }),
                ),
                (json!({}), Value::Null),
            ] {
                if by == By::Reference && plugin == "bridge" && keys["ipam"].is_object() {
                    // 1.1.1 throws IPAM's away.
                    continue;
                }
                let config = node.routed(plugin, "1.0.0", &[V4], keys.clone());
                let result = node.add(&pod, &config);
                let mut dns = result["dns"].clone();
                if dns == json!({}) {
                    dns = Value::Null;
                }
                assert_eq!(dns, wanted, "{by:?} {keys}");
                node.del(&pod, &config);
            }
        }
    }
}

#[test]
fn routes_have_what_they_are_asked_to_have() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let asked = json!([
        { "dst": "192.0.2.0/24" },
        { "dst": "192.0.2.77/24", "gw": "10.1.2.9", "priority": 7 },
        { "dst": "198.51.100.0/24", "gw": "10.1.2.9", "mtu": 1300, "advmss": 1200 },
        { "dst": "203.0.113.0/24", "scope": 253 },
        { "dst": "10.5.0.0/16", "table": 100 },
        { "dst": "10.6.0.0/16", "gw": "10.1.2.8", "table": 100, "priority": 5 },
        { "dst": "2001:db8:f::/48" },
        { "dst": "2001:db8:e::/48", "gw": "2001:db8:1::9", "priority": 7, "mtu": 1300 },
        { "dst": "10.7.0.0/16", "gw": "10.1.2.8" },
        { "dst": "10.7.0.0/16", "gw": "10.1.2.9" },
    ]);
    let keys = json!({ "isGateway": true, "ipam": { "routes": asked } });
    let config = node.network("1.1.0", &[V4, V6], keys);
    let result = node.add(&pod, &config);
    // With every attribute, in the order in which they were asked for.
    assert_eq!(result["routes"], asked);
    assert_eq!(
        routes(&pod.namespace, "main"),
        [
            "10.7.0.0/16 via 10.1.2.8 dev eth0",
            "10.7.0.0/16 via 10.1.2.9 dev eth0",
            "192.0.2.0/24 via 10.1.2.1 dev eth0",
            "192.0.2.0/24 via 10.1.2.9 dev eth0 metric 7",
            "198.51.100.0/24 via 10.1.2.9 dev eth0 mtu 1300 advmss 1200",
            "2001:db8:e::/48 via 2001:db8:1::9 dev eth0 metric 7 mtu 1300 pref medium",
            "2001:db8:f::/48 via 2001:db8:1::1 dev eth0 metric 1024 pref medium",
            "203.0.113.0/24 dev eth0 scope link",
        ]
    );
    assert_eq!(
        routes(&pod.namespace, "100"),
        ["10.5.0.0/16 via 10.1.2.1 dev eth0", "10.6.0.0/16 via 10.1.2.8 dev eth0 metric 5"]
    );
    node.check(&pod, &config, &result);
    node.del(&pod, &config);
}

#[test]
fn add_waits_until_duplicate_addresses_would_have_been_noticed() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let config = node.network("1.0.0", &[V6], json!({ "enabledad": true, "isGateway": true }));
    // A second less.
    pod.namespace.sh("echo 0 > /proc/sys/net/ipv6/conf/default/router_solicitation_delay");
    node.add(&pod, &config);
    assert_eq!(sysctl(&pod.namespace, "net/ipv6/conf/eth0/accept_dad"), "1");
    assert_eq!(sysctl(&pod.namespace, "net/ipv6/conf/eth0/enhanced_dad"), "1");
    let told = pod.namespace.sh("ip -6 address show dev eth0 scope global");
    assert!(!told.contains("tentative") && told.contains("2001:db8:1::2/64"), "{told}");
}

#[test]
fn addresses_can_be_used_before_the_kernel_tells_of_the_carrier() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    node.add(&pod, &node.network("1.1.0", &[V6], json!({ "isGateway": true })));
    let told = pod.namespace.sh("ip -6 address show dev eth0 scope global");
    assert!(told.contains("nodad") && !told.contains("tentative"), "{told}");
}

#[test]
fn a_pod_does_not_get_an_address_that_somebody_uses() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let (pod, thief) = (node.pod("pod"), node.pod("thief"));
    node.add(&thief, &node.bridged("1.1.0", json!({})));
    thief.namespace.sh("ip address add 2001:db8:1::2/64 dev eth0 nodad");
    pod.namespace.sh("echo 0 > /proc/sys/net/ipv6/conf/default/router_solicitation_delay");
    let config = node.network("1.1.0", &[V6], json!({ "enabledad": true, "isGateway": true }));
    let refusal = node.run(&node.call("ADD", &pod, &config)).refused();
    assert!(refusal.msg.contains("2001:db8:1::2"), "{refusal:?}");
    assert_eq!(links(&pod.namespace), ["lo"]);
    assert!(node.reservations().is_empty());
}

#[test]
fn ipv6_is_switched_on_where_a_runtime_has_switched_it_off() {
    testbed::isolated!();
    for plugin in CABLED {
        for by in BOTH {
            let node = Node::new(by);
            let pod = node.pod("pod");
            pod.namespace.sh(
            "for c in all default lo; do echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done",
        );
            let config = node.routed(plugin, "1.0.0", &[V4, V6], json!({}));
            let result = node.add(&pod, &config);
            assert_eq!(addresses(&pod.namespace, "eth0"), ["10.1.2.2/24", "2001:db8:1::2/64"]);
            let (a, b) = (pod.namespace.netns(), node.namespace.netns());
            let seen = source_seen(a, b, "2001:db8:1::1".parse().unwrap());
            assert_eq!(seen, Some(bare(&ips(&result)[1])));
            node.del(&pod, &config);
        }
    }
}

#[test]
fn an_address_survives_that_the_interface_is_down_for_a_while() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        let config = node.routed(plugin, "1.1.0", &[V4, V6], json!({}));
        node.add(&pod, &config);
        pod.namespace.sh("ip link set eth0 down; ip link set eth0 up");
        assert_eq!(addresses(&pod.namespace, "eth0"), ["10.1.2.2/24", "2001:db8:1::2/64"]);
    }
}
