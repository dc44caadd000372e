//! What is `ptp`'s own, seen from outside. What the reference's version knows, its plugin shows
//! first.

use std::fs;

use serde_json::{Value, json};

use crate::harness::*;

const V4: &str = "10.1.2.0/24";
const V6: &str = "2001:db8:1::/64";
const BOTH: [By; 2] = [By::Reference, By::Podwire];

/// A network whose pods get these addresses, which nobody reserves.
fn written_down(node: &Node, addresses: &Value, keys: Value) -> Value {
    let ipam = json!({ "type": "static", "addresses": addresses });
    node.bridged("1.0.0", merged(json!({ "type": "ptp", "ipam": ipam }), keys))
}

#[test]
fn both_ends_have_the_mtu_that_is_asked_for() {
    testbed::isolated!();
    for by in BOTH {
        let node = Node::new(by);
        let pod = node.pod("pod");
        for (keys, wanted) in
            [(json!({}), 1500), (json!({ "mtu": 1400 }), 1400), (json!({ "MTU": 0 }), 1500)]
        {
            let config = node.routed("ptp", "1.0.0", &[V4], keys);
            let result = node.add(&pod, &config);
            assert_eq!(link(&pod.namespace, "eth0")["mtu"], wanted);
            assert_eq!(link(&node.namespace, host_end(&result))["mtu"], wanted);
            node.del(&pod, &config);
        }
    }
}

#[test]
fn without_an_ipam_plugin_there_is_no_cable() {
    testbed::isolated!();
    for by in BOTH {
        let node = Node::new(by);
        let pod = node.pod("pod");
        for ipam in [json!({}), Value::Null, json!({ "type": "" })] {
            let config = node.bridged("1.0.0", json!({ "type": "ptp", "ipam": ipam }));
            let before = node.state();
            let told = after(&config, &json!({ "cniVersion": "1.0.0", "ips": [] }));
            for call in [node.call("ADD", &pod, &config), node.call("CHECK", &pod, &told)] {
                let refused = node.run(&call).refused();
                assert_eq!(refused.said(), (999, "no plugin name provided"), "{by:?}");
            }
            testbed::assert_same_state(&before, &node.state());
            let del = node.run(&node.call("DEL", &pod, &config));
            match by {
                // Nobody has given an address that could be given back.
                By::Podwire => assert!(del.is_ok()),
                By::Reference => {
                    assert_eq!(del.refused().said(), (999, "no plugin name provided"));
                }
            }
            let newest = merged(config, json!({ "cniVersion": "1.1.0" }));
            if by == By::Podwire {
                let refused = node.run(&node.call_about_all("STATUS", &newest)).refused();
                assert_eq!(refused.said(), (999, "no plugin name provided"));
                node.run(&node.call_about_all("GC", &newest)).ok();
            }
        }
    }
}

#[test]
fn an_address_without_a_gateway_is_refused_and_given_back() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let before = (node.state(), testbed::state(&pod.namespace));
    for (address, msg) in [
        (json!({ "address": "10.1.2.9/24" }), "IPAM plugin returned no gateway for 10.1.2.9/24"),
        (
            json!({ "address": "10.1.2.9/24", "gateway": "2001:db8:1::1" }),
            "2001:db8:1::1 cannot be the gateway of 10.1.2.9/24",
        ),
        (
            json!({ "address": "10.1.2.9/24", "gateway": "10.1.2.9" }),
            "10.1.2.9 cannot be the gateway of 10.1.2.9/24",
        ),
        (
            json!({ "address": "10.1.2.9/24", "gateway": "127.0.0.1" }),
            "127.0.0.1 cannot be the gateway of 10.1.2.9/24",
        ),
        (
            json!([
                { "address": "10.1.2.9/24", "gateway": "10.1.2.1" },
                { "address": "10.1.2.9/16", "gateway": "10.1.2.1" },
            ]),
            "IPAM plugin returned 10.1.2.9 twice",
        ),
    ] {
        let addresses = if address.is_array() { address } else { json!([address]) };
        let config = written_down(&node, &addresses, json!({ "ipMasq": true }));
        let refused = node.run(&node.call("ADD", &pod, &config)).refused();
        assert_eq!(refused.said(), (999, msg));
        assert!(refused.details.contains("in the IPAM configuration"), "{refused:?}");
        testbed::assert_same_state(&before.0, &node.state());
        testbed::assert_same_state(&before.1, &testbed::state(&pod.namespace));
    }
}

/// What a pod gets, and the routes that it then has.
type Case = (Value, Value, &'static [&'static str]);

#[test]
fn any_gateway_leads_out_of_any_subnet() {
    testbed::isolated!();
    let default4 = json!([{ "dst": "0.0.0.0/0" }]);
    let default6 = json!([{ "dst": "::/0" }]);
    let cases: [Case; 6] = [
        // Subnets of one address, and a gateway that is in none.
        (
            json!([{ "address": "10.1.2.9/32", "gateway": "169.254.1.1" }]),
            default4.clone(),
            &["169.254.1.1 dev eth0 scope link src 10.1.2.9", "default via 169.254.1.1 dev eth0"],
        ),
        // Somebody who knows the reference's routes writes them down himself.
        (
            json!([{ "address": "10.1.2.9/32", "gateway": "10.1.2.1" }]),
            json!([{ "dst": "10.1.2.1/32", "scope": 253 }, { "dst": "0.0.0.0/0", "gw": "10.1.2.1" }]),
            &["10.1.2.1 dev eth0 scope link", "default via 10.1.2.1 dev eth0"],
        ),
        (
            json!([{ "address": "10.1.2.9/24", "gateway": "10.1.2.1" }]),
            json!([{ "dst": V4, "mtu": 1300 }]),
            &[
                "10.1.2.0/24 via 10.1.2.1 dev eth0 mtu 1300",
                "10.1.2.1 dev eth0 scope link src 10.1.2.9",
            ],
        ),
        (
            json!([{ "address": "10.1.2.2/31", "gateway": "10.1.2.3" }]),
            default4,
            &[
                "10.1.2.2/31 via 10.1.2.3 dev eth0 src 10.1.2.2",
                "10.1.2.3 dev eth0 scope link src 10.1.2.2",
                "default via 10.1.2.3 dev eth0",
            ],
        ),
        (
            json!([{ "address": "2001:db8:1::9/128", "gateway": "fe80::1" }]),
            default6.clone(),
            &[
                "default via fe80::1 dev eth0 metric 1024 pref medium",
                "fe80::1 dev eth0 src 2001:db8:1::9 metric 1024 pref medium",
            ],
        ),
        // Two addresses of one subnet.
        (
            json!([{ "address": "2001:db8:1::8/64", "gateway": "2001:db8:1::1" },
                { "address": "2001:db8:1::9/64", "gateway": "2001:db8:1::1" }]),
            default6,
            &[
                "2001:db8:1::/64 via 2001:db8:1::1 dev eth0 src 2001:db8:1::8 metric 1024 pref medium",
                "2001:db8:1::1 dev eth0 src 2001:db8:1::8 metric 1024 pref medium",
                "default via 2001:db8:1::1 dev eth0 metric 1024 pref medium",
            ],
        ),
    ];
    for (addresses, wanted, told) in cases {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        let keys = json!({ "ipMasq": true, "ipam": { "routes": wanted } });
        let config = written_down(&node, &addresses, keys);
        let before = (node.remains("cni0"), testbed::state(&pod.namespace));
        let result = node.add(&pod, &config);
        assert_eq!(routes(&pod.namespace, "main"), told);
        node.check(&pod, &config, &result);
        for ip in ips(&result) {
            let (a, b) = (node.namespace.netns(), pod.namespace.netns());
            assert!(source_seen(a, b, bare(&ip)).is_some(), "{ip}");
        }
        let gateway = addresses[0]["gateway"].as_str().unwrap();
        if !gateway.starts_with("fe80") {
            let seen = source_seen(pod.namespace.netns(), node.namespace.netns(), bare(gateway));
            assert_eq!(seen, Some(bare(&ips(&result)[0])));
        }
        node.del(&pod, &after(&config, &result));
        node.namespace.sh("nft flush ruleset");
        testbed::assert_same_state(&before.0, &node.remains("cni0"));
        testbed::assert_same_state(&before.1, &testbed::state(&pod.namespace));
    }
}

#[test]
fn ipv6_is_switched_on_for_the_cable_where_a_node_switches_it_off() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    for space in [&node.namespace, &pod.namespace] {
        space.sh("for c in all default; do echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done");
    }
    let config = node.routed("ptp", "1.1.0", &[V6], json!({}));
    let result = node.add(&pod, &config);
    let gateway = bare("2001:db8:1::1");
    let seen = source_seen(pod.namespace.netns(), node.namespace.netns(), gateway);
    assert_eq!(seen, Some(bare(&ips(&result)[0])));
    node.check(&pod, &config, &result);
}

#[test]
fn a_new_owner_of_an_address_is_reached_whatever_an_earlier_one_left() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let (old, new) = (node.pod("old"), node.pod("new"));
    let addresses = json!([{ "address": "10.1.2.9/24", "gateway": "10.1.2.1" },
        { "address": "2001:db8:1::9/64", "gateway": "2001:db8:1::1" }]);
    let config = written_down(&node, &addresses, json!({ "ipMasq": true }));
    let results = [&old, &new].map(|pod| node.add(pod, &config));
    for ip in ips(&results[1]) {
        let (a, b) = (node.namespace.netns(), new.namespace.netns());
        assert!(source_seen(a, b, bare(&ip)).is_some(), "{ip}");
    }
    node.check(&new, &config, &results[1]);
    let lost = node.run(&node.call("CHECK", &old, &after(&config, &results[0]))).refused();
    assert!(lost.msg.starts_with("Expected Route 10.1.2.9/32 dev "), "{lost:?}");
    // The late DEL takes nothing of the new one's.
    node.del(&old, &after(&config, &results[0]));
    node.check(&new, &config, &results[1]);
    node.del(&new, &config);
    assert_eq!(routes(&node.namespace, "main"), [""; 0]);
}

#[test]
fn an_add_that_fails_gives_the_way_back_to_the_earlier_owner() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let (old, new) = (node.pod("old"), node.pod("new"));
    let addresses = json!([{ "address": "10.1.2.9/24", "gateway": "10.1.2.1" }]);
    let config = written_down(&node, &addresses, json!({ "ipMasq": true }));
    let result = node.add(&old, &config);
    node.namespace.sh("echo 0 > /proc/sys/net/ipv4/ip_forward");
    testbed::sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
    let before = node.state();
    let refused = node.run(&node.call("ADD", &new, &config)).refused();
    let text = "Could not enable IP forwarding: ";
    assert!(refused.msg.starts_with(text) && refused.msg.contains("read-only"), "{refused:?}");
    assert!(refused.details.contains("sysctl"), "{refused:?}");
    testbed::assert_same_state(&before, &node.state());
    assert_eq!(links(&new.namespace), ["lo"]);
    testbed::sh("umount /proc/sys");
    node.namespace.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
    node.check(&old, &config, &result);
}

#[test]
fn an_add_repairs_what_one_that_was_killed_has_left() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let addresses = json!([{ "address": "10.1.2.9/24", "gateway": "10.1.2.1" }]);
    let config = written_down(&node, &addresses, json!({ "ipMasq": true }));
    let result = node.add(&pod, &config);
    let veth = host_end(&result);
    node.del(&pod, &config);
    // Its sandbox was made anew, and its end of the old cable is in the node.
    node.namespace.sh(&format!(
        "ip link add {veth} type veth peer name rest; ip link set {veth} up
         ip address add 10.1.2.1/32 dev {veth}; ip route add 10.1.2.9 dev {veth}"
    ));
    let again = node.add(&pod, &config);
    assert_eq!(host_end(&again), veth);
    node.check(&pod, &config, &again);
    assert_eq!(link(&node.namespace, "rest"), Value::Null);
}

#[test]
fn eight_pods_at_once_reach_each_other() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pods: Vec<_> = (0..8).map(|number| node.pod(&format!("pod{number}"))).collect();
    let config = node.routed("ptp", "1.1.0", &[V4, V6], json!({ "ipMasq": true }));
    let running: Vec<_> =
        pods.iter().map(|pod| node.start(&node.call("ADD", pod, &config))).collect();
    let results: Vec<_> = running.into_iter().map(|it| it.wait().ok()).collect();
    for (pod, result) in pods.iter().zip(&results) {
        node.check(pod, &config, result);
    }
    for (one, other) in [(0, 7), (7, 0), (3, 4)] {
        for (own, address) in ips(&results[one]).iter().zip(&ips(&results[other])) {
            let (a, b) = (pods[one].namespace.netns(), pods[other].namespace.netns());
            assert_eq!(source_seen(a, b, bare(address)), Some(bare(own)));
        }
    }
    let dels: Vec<_> = pods.iter().map(|pod| node.start(&node.call("DEL", pod, &config))).collect();
    for del in dels {
        del.wait().ok();
    }
    assert!(pods.iter().all(|pod| links(&pod.namespace) == ["lo"]));
    assert_eq!((node.reservations().len(), host_ends(&node.namespace).len()), (0, 0));
    assert!(!node.namespace.sh("nft list ruleset").contains("id: pod"));
}

#[test]
fn what_was_done_can_be_written_down() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        let directory = node.home.join("explained");
        fs::create_dir(&directory).unwrap();
        let keys = json!({ "explainIn": directory.to_str().unwrap() });
        let config = node.routed(plugin, "1.1.0", &[V4], keys);
        let result = node.add(&pod, &config);
        let told = fs::read_to_string(directory.join(format!("{}.sh", host_end(&result)))).unwrap();
        assert!(told.contains("# plugs the cable in"), "{told}");
        node.del(&pod, &config);
        assert!(files(&directory).is_empty());
        // No pod goes without network for want of an explanation.
        fs::remove_dir(&directory).unwrap();
        node.add(&pod, &config);
    }
}

#[test]
fn a_node_keeps_the_way_out_that_a_router_announced() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        node.namespace.sh("ip link add up0 type veth peer name down0; ip link set up0 up
             ip -6 route add default via fe80::9 dev up0 proto ra metric 1024");
        node.add(&pod, &node.routed(plugin, "1.1.0", &[V6], json!({})));
        assert_eq!(sysctl(&node.namespace, "net/ipv6/conf/up0/accept_ra"), "2");
        assert_eq!(sysctl(&node.namespace, "net/ipv6/conf/all/forwarding"), "1");
        let told = node.namespace.sh("ip -6 route show default");
        assert!(told.contains("via fe80::9 dev up0"), "{told}");
    }
}
