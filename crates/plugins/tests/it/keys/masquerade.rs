//! `ipMasq`: what a pod sends beyond its subnet leaves with the node's address.

use serde_json::{Value, json};

use super::{BOTH, V4, V6};
use crate::harness::*;

/// The world beyond the node: a host that knows the node but no pod network, so that only answers
/// to the node's own address find back.
fn world(node: &Node) -> Pod {
    let world = node.pod("world");
    for space in [&node.namespace, &world.namespace] {
        // Neighbours are asked for with an address that would be claimed for a second first.
        space.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    }
    node.namespace.sh("ip link add up0 type veth peer name down0 netns world
         ip address add 192.0.2.1/24 dev up0; ip address add 2001:db8:99::1/64 dev up0 nodad
         ip link set up0 up");
    world.namespace.sh(
        "ip address add 192.0.2.9/24 dev down0; ip address add 2001:db8:99::9/64 dev down0 nodad
         ip link set down0 up",
    );
    world
}

/// The source addresses that the world sees of a pod, IPv4 and IPv6.
fn seen_by_the_world(pod: &Pod, world: &Pod) -> Vec<String> {
    let see = |address: &str| {
        let seen = source_seen(pod.namespace.netns(), world.namespace.netns(), bare(address));
        seen.unwrap_or_else(|| panic!("{address} is not reached")).to_string()
    };
    ["192.0.2.9", "2001:db8:99::9"].map(see).into()
}

#[test]
fn the_world_sees_the_node_and_the_pods_see_each_other() {
    testbed::isolated!();
    for plugin in CABLED {
        for by in BOTH {
            let node = Node::new(by);
            let world = world(&node);
            let (one, two) = (node.pod("one"), node.pod("two"));
            let plain = node.routed(plugin, "1.0.0", &[V4, V6], json!({}));
            let config = node.routed(plugin, "1.0.0", &[V4, V6], json!({ "ipMasq": true }));
            let (first, second) = (node.add(&one, &config), node.add(&two, &plain));
            assert_eq!(seen_by_the_world(&one, &world), ["192.0.2.1", "2001:db8:99::1"], "{by:?}");
            // The other one did not ask for it, and is itself.
            assert_eq!(seen_by_the_world(&two, &world), ["10.1.2.3", "2001:db8:1::3"]);
            for (own, other) in ips(&first).iter().zip(&ips(&second)) {
                let (a, b) = (one.namespace.netns(), two.namespace.netns());
                assert_eq!(source_seen(a, b, bare(other)), Some(bare(own)));
            }
            if by == By::Podwire {
                node.check(&one, &config, &first);
            }
            node.del(&one, &after(&config, &first));
            let rules = node.namespace.sh("nft list ruleset");
            assert!(!rules.contains("10.1.2.2"), "{by:?} {rules}");
        }
    }
}

#[test]
fn every_backend_that_may_be_named_does_it() {
    testbed::isolated!();
    for plugin in CABLED {
        for backend in ["iptables", "nftables"] {
            let node = Node::new(By::Podwire);
            let (world, pod) = (world(&node), node.pod("pod"));
            let keys = json!({ "ipMasq": true, "ipMasqBackend": backend });
            node.add(&pod, &node.routed(plugin, "1.1.0", &[V4, V6], keys));
            assert_eq!(seen_by_the_world(&pod, &world), ["192.0.2.1", "2001:db8:99::1"]);
        }
    }
}

#[test]
fn pods_of_two_subnets_of_one_family_are_both_masqueraded_but_not_towards_their_own() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let (world, pod, other) = (world(&node), node.pod("pod"), node.pod("other"));
        let more = "2001:db8:2::/64";
        let config = node.routed(plugin, "1.1.0", &[V4, V6, more], json!({ "ipMasq": true }));
        let results = [node.add(&pod, &config), node.add(&other, &config)];
        assert_eq!(seen_by_the_world(&pod, &world), ["192.0.2.1", "2001:db8:99::1"]);
        for (own, address) in ips(&results[0]).iter().zip(&ips(&results[1])) {
            let seen = source_seen(pod.namespace.netns(), other.namespace.netns(), bare(address));
            assert_eq!(seen, Some(bare(own)));
        }
    }
}

#[test]
fn multicast_keeps_the_pod_s_address() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let config = node.network("1.1.0", &[V4, V6], json!({ "ipMasq": true, "isGateway": true }));
    node.add(&pod, &config);
    let rules = node.namespace.sh("nft list ruleset");
    for spared in ["ip daddr 224.0.0.0/4 return", "ip6 daddr ff00::/8 return"] {
        assert!(rules.contains(spared), "{rules}");
    }
}

#[test]
fn a_late_del_leaves_the_rule_of_the_address_s_new_owner() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let (world, old, new) = (world(&node), node.pod("old"), node.pod("new"));
        let config = node.routed(
            plugin,
            "1.1.0",
            &["10.1.2.0/30", "2001:db8:1::/126"],
            json!({ "ipMasq": true }),
        );
        let result = node.add(&old, &config);
        // The sandbox is gone and its address was given back, but the runtime's DEL comes late.
        old.namespace.sh("ip link delete eth0");
        for address in ["10.1.2.2", "2001:db8:1::2"] {
            std::fs::remove_file(node.data().join("pods").join(address)).unwrap();
        }
        let next = node.add(&new, &config);
        for config in [after(&config, &result), config.clone()] {
            node.del(&old, &config);
            assert_eq!(seen_by_the_world(&new, &world), ["192.0.2.1", "2001:db8:99::1"]);
            node.check(&new, &config, &next);
        }
        node.del(&new, &config);
        assert!(!node.namespace.sh("nft list ruleset").contains("id: "));
    }
}

#[test]
fn two_interfaces_of_one_container_are_masqueraded_each() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let mut pod = node.pod("pod");
        let config = node.routed(plugin, "1.1.0", &[V4, V6], json!({ "ipMasq": true }));
        let first = node.add(&pod, &config);
        pod.ifname = "eth1".to_owned();
        let second: Value = node.add(&pod, &config);
        node.del(&pod, &config);
        pod.ifname = "eth0".to_owned();
        node.check(&pod, &config, &first);
        assert!(
            !node.namespace.sh("nft list ruleset").contains(&bare(&ips(&second)[0]).to_string())
        );
    }
}
