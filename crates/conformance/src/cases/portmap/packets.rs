//! Where packets to a mapped port arrive, and as whose.

use serde_json::json;
use testbed::Namespace;

use super::{
    CHAIN, CHAINS, OUTSIDE, README, assert_answers, assert_silent, at, both, listening, mapping,
    network, to,
};
use crate::case::{By, Case, Known, case};
use crate::node::{Network, Node, ips};
use crate::traffic::{PROTOCOLS, Protocol, Server, World, answer};

pub(in crate::cases) const CASES: &[Case] = &[
    case!(
        from_outside,
        CHAINS,
        README,
        "the world reaches the pod at the node's port by TCP and UDP, in both families, and is \
         seen as itself"
    ),
    case!(
        from_the_node,
        CHAINS,
        README,
        "the node reaches the pod by each of its own addresses, in both families"
    ),
    case!(from_localhost, CHAINS, README, "the node reaches the pod by 127.0.0.1"),
    case!(
        hairpin,
        CHAINS,
        README,
        "the pod reaches itself by the node's port, with and without br_netfilter"
    ),
    case!(
        from_a_sibling,
        CHAINS,
        README,
        "another pod of the network reaches it by the node's port, with and without br_netfilter"
    ),
    case!(
        host_ip,
        CHAIN,
        README,
        "a mapping with a hostIP holds for that address of the node only"
    ),
    case!(
        same_port_of_two_addresses,
        CHAIN,
        README,
        "two pods may have the same port of different addresses of the node"
    ),
    case!(
        unspecified_host_ip,
        CHAIN,
        README,
        "0.0.0.0 and :: stand for all addresses of their family, and of no other"
    ),
    case!(two_pods, CHAINS, README, "two pods have different ports, each its own"),
    case!(
        many_ports,
        CHAIN,
        README,
        "a pod may have many ports, to different ports inside, of either protocol"
    ),
    case!(
        ports_of_others,
        CHAINS,
        README,
        "the same port of an address that is not the node's leads where it always led"
    ),
    case!(
        own_port_inside,
        CHAIN,
        README,
        "the pod's own port is still reached at the pod's own address"
    ),
    case!(
        without_snat,
        CHAINS,
        README,
        "without snat the world still reaches the pod, and the node does not by 127.0.0.1"
    ),
    case!(masquerade_all, CHAIN, README, "with masqAll the world is seen as the node")
        .known(&[Known::new(By::OldReference, "pod 192.0.2.9", "portmap does not know masqAll")]),
    case!(masquerade_mark, CHAIN, README, "markMasqBit names another bit, and hairpin works"),
    case!(
        negated_condition,
        CHAIN,
        README,
        "conditionsV4 that exclude a destination leave that destination alone"
    ),
    case!(
        condition_of_nftables,
        CHAIN,
        README,
        "conditionsV4 may be written as nft writes them, for that backend"
    )
    .since(cni::Version::V1_1_0),
    case!(
        source_condition,
        CHAIN,
        README,
        "conditionsV4 and conditionsV6 that name a source let only that source in"
    ),
];

fn from_outside(node: &Node) {
    let world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    node.add(&pod, &network(node, both(OUTSIDE), json!({})));
    for (own, of_node) in World::OWN.iter().zip(World::NODE) {
        for protocol in PROTOCOLS {
            let told = answer(&world.namespace, protocol, to(of_node, OUTSIDE));
            assert_eq!(told, Some(format!("pod {own}")), "{protocol:?} to {of_node}");
        }
    }
    // Nothing else of the node leads there.
    assert_silent(&world.namespace, Protocol::Tcp, to(World::NODE[0], OUTSIDE + 1));
}

fn from_the_node(node: &Node) {
    let _world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    node.add(&pod, &network(node, both(OUTSIDE), json!({})));
    for address in World::NODE.into_iter().chain(World::OTHER) {
        for protocol in PROTOCOLS {
            assert_answers(&node.namespace, protocol, to(address, OUTSIDE), "pod");
        }
    }
}

fn from_localhost(node: &Node) {
    let (pod, _server) = listening(node, "pod");
    node.add(&pod, &network(node, both(OUTSIDE), json!({})));
    for protocol in PROTOCOLS {
        assert_answers(&node.namespace, protocol, to("127.0.0.1", OUTSIDE), "pod");
    }
}

/// Asserts that a port of the node leads from a pod to `pod`.
#[track_caller]
fn assert_led(from: &Namespace) {
    for address in World::NODE {
        for protocol in PROTOCOLS {
            assert_answers(from, protocol, to(address, OUTSIDE), "pod");
        }
    }
}

/// Asserts that a port of the node leads from a pod to `pod`, with and without br_netfilter. Where
/// the kernel has none, bridges never ask it.
#[track_caller]
fn assert_led_bridged(node: &Node, from: &Namespace) {
    for asked in ["0", "1"] {
        node.namespace.sh(&format!(
            "for file in /proc/sys/net/bridge/bridge-nf-call-ip*; do
                ! [ -e $file ] || echo {asked} >$file
             done"
        ));
        assert_led(from);
    }
}

/// With br_netfilter, only a port in hairpin mode lets a pod's packets come back to it.
fn in_hairpin_mode(network: Network) -> Network {
    network.with(json!({ "hairpinMode": true }))
}

fn hairpin(node: &Node) {
    let _world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    node.add(&pod, &in_hairpin_mode(network(node, both(OUTSIDE), json!({}))));
    assert_led_bridged(node, &pod.namespace);
}

fn from_a_sibling(node: &Node) {
    let _world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    let sibling = node.pod("sibling");
    node.add(&pod, &network(node, both(OUTSIDE), json!({})));
    node.add(&sibling, &network(node, json!([]), json!({})));
    assert_led_bridged(node, &sibling.namespace);
}

fn host_ip(node: &Node) {
    let world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    let mappings: Vec<_> = World::NODE
        .iter()
        .flat_map(|address| PROTOCOLS.map(|protocol| at(address, protocol.name(), OUTSIDE)))
        .collect();
    node.add(&pod, &network(node, mappings.into(), json!({})));
    for from in [&world.namespace, &node.namespace] {
        for protocol in PROTOCOLS {
            for place in 0..2 {
                assert_answers(from, protocol, to(World::NODE[place], OUTSIDE), "pod");
                assert_silent(from, protocol, to(World::OTHER[place], OUTSIDE));
            }
        }
    }
    assert_silent(&node.namespace, Protocol::Tcp, to("127.0.0.1", OUTSIDE));
}

fn same_port_of_two_addresses(node: &Node) {
    let world = World::new(node);
    let (one, _one) = listening(node, "one");
    let (two, _two) = listening(node, "two");
    let of = |addresses: [&str; 2]| addresses.map(|address| at(address, "tcp", OUTSIDE)).to_vec();
    node.add(&one, &network(node, of(World::NODE).into(), json!({})));
    node.add(&two, &network(node, of(World::OTHER).into(), json!({})));
    for place in 0..2 {
        let (first, second) = (World::NODE[place], World::OTHER[place]);
        assert_answers(&world.namespace, Protocol::Tcp, to(first, OUTSIDE), "one");
        assert_answers(&world.namespace, Protocol::Tcp, to(second, OUTSIDE), "two");
    }
}

fn unspecified_host_ip(node: &Node) {
    let world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    let mappings = json!([at("0.0.0.0", "tcp", OUTSIDE), at("::", "tcp", OUTSIDE + 1)]);
    node.add(&pod, &network(node, mappings, json!({})));
    let from = &world.namespace;
    for (v4, v6) in [(World::NODE[0], World::NODE[1]), (World::OTHER[0], World::OTHER[1])] {
        assert_answers(from, Protocol::Tcp, to(v4, OUTSIDE), "pod");
        assert_silent(from, Protocol::Tcp, to(v6, OUTSIDE));
        assert_answers(from, Protocol::Tcp, to(v6, OUTSIDE + 1), "pod");
        assert_silent(from, Protocol::Tcp, to(v4, OUTSIDE + 1));
    }
}

fn two_pods(node: &Node) {
    let world = World::new(node);
    let pods = ["one", "two"].map(|id| listening(node, id));
    for (place, (pod, _)) in pods.iter().enumerate() {
        node.add(pod, &network(node, both(OUTSIDE + place as u16), json!({})));
    }
    for from in [&world.namespace, &node.namespace] {
        for protocol in PROTOCOLS {
            assert_answers(from, protocol, to(World::NODE[0], OUTSIDE), "one");
            assert_answers(from, protocol, to(World::NODE[0], OUTSIDE + 1), "two");
        }
    }
}

fn many_ports(node: &Node) {
    /// More than iptables takes in one rule.
    const MANY: u16 = 20;
    let world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    let _other = Server::start("other", &pod.namespace, 81);
    let mut mappings: Vec<_> =
        (0..MANY).map(|number| mapping("tcp", OUTSIDE + number, super::INSIDE)).collect();
    mappings.push(mapping("udp", OUTSIDE, 81));
    node.add(&pod, &network(node, mappings.into(), json!({})));
    for number in 0..MANY {
        let port = to(World::NODE[0], OUTSIDE + number);
        assert_answers(&world.namespace, Protocol::Tcp, port, "pod");
    }
    assert_answers(&world.namespace, Protocol::Udp, to(World::NODE[0], OUTSIDE), "other");
    assert_silent(&world.namespace, Protocol::Udp, to(World::NODE[0], OUTSIDE + 1));
}

fn ports_of_others(node: &Node) {
    let world = World::new(node);
    let _far = Server::start("world", &world.namespace, OUTSIDE);
    let (pod, _server) = listening(node, "pod");
    node.add(&pod, &network(node, both(OUTSIDE), json!({})));
    for from in [&node.namespace, &pod.namespace] {
        for address in World::OWN {
            for protocol in PROTOCOLS {
                assert_answers(from, protocol, to(address, OUTSIDE), "world");
            }
        }
    }
}

fn own_port_inside(node: &Node) {
    let (pod, _server) = listening(node, "pod");
    let result = node.add(&pod, &network(node, both(OUTSIDE), json!({})));
    for address in ips(&result) {
        let own = to(&address.to_string(), super::INSIDE);
        assert_answers(&node.namespace, Protocol::Tcp, own, "pod");
    }
}

fn without_snat(node: &Node) {
    let world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    node.add(&pod, &network(node, both(OUTSIDE), json!({ "snat": false })));
    for (own, of_node) in World::OWN.iter().zip(World::NODE) {
        for protocol in PROTOCOLS {
            let told = answer(&world.namespace, protocol, to(of_node, OUTSIDE));
            assert_eq!(told, Some(format!("pod {own}")), "{protocol:?} to {of_node}");
        }
    }
    assert_silent(&node.namespace, Protocol::Tcp, to("127.0.0.1", OUTSIDE));
}

fn masquerade_all(node: &Node) {
    let world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    let keys = json!({ "masqAll": true });
    node.add(&pod, &network(node, both(OUTSIDE), keys));
    for (place, gateway) in ["10.1.2.1", "2001:db8:1::1"].into_iter().enumerate() {
        for protocol in PROTOCOLS {
            let told = answer(&world.namespace, protocol, to(World::NODE[place], OUTSIDE));
            assert_eq!(told, Some(format!("pod {gateway}")), "{protocol:?}");
        }
    }
}

fn masquerade_mark(node: &Node) {
    let _world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    let keys = json!({ "markMasqBit": 5 });
    node.add(&pod, &in_hairpin_mode(network(node, both(OUTSIDE), keys)));
    assert_led(&pod.namespace);
}

fn negated_condition(node: &Node) {
    let world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    let keys = json!({ "conditionsV4": ["!", "-d", "192.0.2.0/24"] });
    node.add(&pod, &network(node, both(OUTSIDE), keys));
    for from in [&world.namespace, &node.namespace] {
        for protocol in PROTOCOLS {
            assert_silent(from, protocol, to(World::NODE[0], OUTSIDE));
            assert_answers(from, protocol, to(World::OTHER[0], OUTSIDE), "pod");
            // The other family has no conditions.
            assert_answers(from, protocol, to(World::NODE[1], OUTSIDE), "pod");
        }
    }
}

fn condition_of_nftables(node: &Node) {
    let world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    let condition = ["ip", "daddr", "!=", "192.0.2.0/24"];
    let keys = json!({ "backend": "nftables", "conditionsV4": condition });
    node.add(&pod, &network(node, both(OUTSIDE), keys).version("1.1.0"));
    for protocol in PROTOCOLS {
        assert_silent(&world.namespace, protocol, to(World::NODE[0], OUTSIDE));
        assert_answers(&world.namespace, protocol, to(World::OTHER[0], OUTSIDE), "pod");
    }
}

fn source_condition(node: &Node) {
    let world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    let sibling = node.pod("sibling");
    let keys = json!({
        "conditionsV4": ["-s", "192.0.2.9/32"], "conditionsV6": ["-s", "2001:db8:99::9/128"],
    });
    node.add(&pod, &network(node, both(OUTSIDE), keys));
    node.add(&sibling, &network(node, json!([]), json!({})));
    for address in World::NODE {
        assert_answers(&world.namespace, Protocol::Tcp, to(address, OUTSIDE), "pod");
        assert_silent(&sibling.namespace, Protocol::Tcp, to(address, OUTSIDE));
    }
}
