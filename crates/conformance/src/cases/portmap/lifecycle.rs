//! A mapping from ADD to DEL, and what CHECK sees of it.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::call::{Answer, Call};

use super::{
    CHAIN, CHAINS, INSIDE, OUTSIDE, README, assert_answers, assert_silent, at, both, listening,
    mapping, network, of, to,
};
use crate::case::{By, Case, Known, case};
use crate::node::{Network, Node, Pod, V4};
use crate::traffic::{Client, PROTOCOLS, Protocol, Server, World};

const DEL: &str = "CNI spec, section 2, DEL";
const CHECK: &str = "CNI spec, section 2, CHECK";

pub(in crate::cases) const CASES: &[Case] = &[
    case!(
        del_ends_it,
        CHAINS,
        DEL,
        "after DEL nobody answers at the port, and other pods keep theirs"
    ),
    case!(
        mapping_del_twice,
        CHAIN,
        DEL,
        "DEL of mappings that are gone, or were never there, succeeds"
    ),
    case!(
        del_without_mappings,
        CHAIN,
        DEL,
        "DEL that is told no mappings succeeds, and hurts no other pod"
    ),
    case!(
        del_of_one_network,
        CHAIN,
        DEL,
        "DEL of one network of a container leaves the ports of another one"
    ),
    case!(add_twice, CHAIN, README, "an ADD that is repeated works, and one DEL ends it"),
    case!(port_moves, CHAINS, README, "a port of a pod that is gone can be another pod's at once"),
    case!(
        udp_flow_moves,
        CHAINS,
        README,
        "a UDP flow that goes on is the next pod's as soon as the port is"
    ),
    case!(
        udp_flow_from_before,
        CHAIN,
        README,
        "a UDP flow that began before the mapping reaches the pod afterwards"
    ),
    case!(
        mapping_check_passes,
        CHAINS,
        CHECK,
        "CHECK passes after ADD, also with mappings of one address or family"
    ),
    case!(
        mapping_check_of_both_families,
        CHAIN,
        CHECK,
        "CHECK passes after ADD of a pod with addresses of both families"
    )
    .known(&[Known::new(
        By::OldReference,
        "could not check ipv6 dnat",
        "portmap looks for the rules of each family among those of the other one, too",
    )]),
    case!(check_sees_lost_mapping, CHAINS, CHECK, "CHECK sees that the rules are gone"),
];

fn del_ends_it(node: &Node) {
    let world = World::new(node);
    let (one, _one) = listening(node, "one");
    let (two, _two) = listening(node, "two");
    let networks = [OUTSIDE, OUTSIDE + 1].map(|port| network(node, both(port), json!({})));
    let result = node.add(&one, &networks[0]);
    node.add(&two, &networks[1]);
    assert_answers(&world.namespace, Protocol::Udp, to(World::NODE[0], OUTSIDE), "one");
    node.del(&one, &networks[0], &result);
    for from in [&world.namespace, &node.namespace] {
        for address in World::NODE {
            for protocol in PROTOCOLS {
                assert_silent(from, protocol, to(address, OUTSIDE));
                assert_answers(from, protocol, to(address, OUTSIDE + 1), "two");
            }
        }
    }
    assert!(!node.rules().contains(&OUTSIDE.to_string()), "{}", node.rules());
}

fn mapping_del_twice(node: &Node) {
    let (pod, stranger) = (node.pod("pod"), node.pod("stranger"));
    let network = network(node, both(OUTSIDE), json!({}));
    node.del(&stranger, &network, &Value::Null);
    let result = node.add(&pod, &network);
    for previous in [&result, &result, &Value::Null] {
        node.del(&pod, &network, previous);
    }
    node.del(&stranger, &network, &Value::Null);
}

fn del_without_mappings(node: &Node) {
    let world = World::new(node);
    let (one, _one) = listening(node, "one");
    let (two, _two) = listening(node, "two");
    let first = network(node, both(OUTSIDE), json!({}));
    let result = node.add(&one, &first);
    node.add(&two, &network(node, both(OUTSIDE + 1), json!({})));
    for runtime in [json!({}), Value::Null, json!({ "portMappings": [] })] {
        let told_nothing = network(node, json!([]), json!({ "runtimeConfig": runtime }));
        node.del(&one, &told_nothing, &result);
    }
    let second = to(World::NODE[0], OUTSIDE + 1);
    assert_answers(&world.namespace, Protocol::Tcp, second, "two");
    node.del(&one, &first, &result);
    assert_silent(&world.namespace, Protocol::Tcp, to(World::NODE[0], OUTSIDE));
    assert_answers(&world.namespace, Protocol::Tcp, second, "two");
}

fn del_of_one_network(node: &Node) {
    let world = World::new(node);
    let (mut pod, _server) = listening(node, "pod");
    let first = network(node, both(OUTSIDE), json!({}));
    let second = network(node, both(OUTSIDE + 1), json!({})).named("others").with(json!({
        "bridge": "cni1", "isDefaultGateway": false, "isGateway": true,
        "ipam": { "ranges": [[{ "subnet": "10.1.3.0/24" }]] },
    }));
    node.add(&pod, &first);
    pod.ifname = "eth1".to_owned();
    let result = node.add(&pod, &second);
    node.del(&pod, &second, &result);
    assert_answers(&world.namespace, Protocol::Tcp, to(World::NODE[0], OUTSIDE), "pod");
    assert_silent(&world.namespace, Protocol::Tcp, to(World::NODE[0], OUTSIDE + 1));
}

fn add_twice(node: &Node) {
    let world = World::new(node);
    let (pod, _server) = listening(node, "pod");
    let network = network(node, both(OUTSIDE), json!({}));
    let result = node.add(&pod, &network);
    let portmap = network.last();
    let again = node.run(&node.call("ADD", &pod, &crate::node::after(portmap, &result))).ok();
    assert_eq!(again, result);
    for protocol in PROTOCOLS {
        assert_answers(&world.namespace, protocol, to(World::NODE[0], OUTSIDE), "pod");
    }
    node.del(&pod, &network, &result);
    for protocol in PROTOCOLS {
        assert_silent(&world.namespace, protocol, to(World::NODE[0], OUTSIDE));
    }
    assert!(!node.rules().contains(&OUTSIDE.to_string()), "{}", node.rules());
}

fn port_moves(node: &Node) {
    let world = World::new(node);
    let (one, _one) = listening(node, "one");
    let (two, _two) = listening(node, "two");
    let network = network(node, both(OUTSIDE), json!({}));
    let result = node.add(&one, &network);
    for (from, address) in [(&world.namespace, World::NODE[0]), (&node.namespace, World::NODE[1])] {
        for protocol in PROTOCOLS {
            assert_answers(from, protocol, to(address, OUTSIDE), "one");
        }
    }
    node.del(&one, &network, &result);
    node.add(&two, &network);
    for (from, address) in [(&world.namespace, World::NODE[0]), (&node.namespace, World::NODE[1])] {
        for protocol in PROTOCOLS {
            assert_answers(from, protocol, to(address, OUTSIDE), "two");
        }
    }
}

/// Clients of both families in the world, each with a flow of its own.
fn clients(world: &World) -> [Client; 2] {
    World::NODE.map(|address| Client::new(world.namespace.netns(), to(address, OUTSIDE)))
}

#[track_caller]
fn assert_flows_reach(clients: &[Client; 2], who: &str) {
    for (client, own) in clients.iter().zip(World::OWN) {
        assert_eq!(client.insist(), Some(format!("{who} {own}")));
    }
}

fn udp_flow_moves(node: &Node) {
    let world = World::new(node);
    let network = network(node, json!([mapping("udp", OUTSIDE, INSIDE)]), json!({}));
    let clients = clients(&world);
    let (one, server) = listening(node, "one");
    let result = node.add(&one, &network);
    assert_flows_reach(&clients, "one");
    // The pod is gone for good, but its flow goes on.
    node.del(&one, &network, &result);
    drop((server, one));
    for client in &clients {
        client.ask(Duration::from_millis(10));
    }
    let (two, _two) = listening(node, "two");
    node.add(&two, &network);
    assert_flows_reach(&clients, "two");
}

fn udp_flow_from_before(node: &Node) {
    let world = World::new(node);
    let clients = clients(&world);
    // The node itself takes the packets, as long as nobody else does.
    let on_node = Server::start("node", &node.namespace, OUTSIDE);
    assert_flows_reach(&clients, "node");
    let (pod, _server) = listening(node, "pod");
    let mapping = json!([mapping("udp", OUTSIDE, INSIDE)]);
    drop(on_node);
    node.add(&pod, &network(node, mapping, json!({})));
    assert_flows_reach(&clients, "pod");
}

/// CHECK on a node without ip6tables, which a plugin that calls helper programs does not look for
/// rules of IPv6 with.
fn check(node: &Node, pod: &Pod, network: &Network, result: &Value) -> Answer {
    let path = node.home.join("bin");
    std::fs::create_dir_all(&path).unwrap();
    testbed::sh(&format!(
        "! command -v iptables >/dev/null || ln -sf \"$(command -v iptables)\" {}",
        path.display()
    ));
    let without = |call: Call| call.with("PATH", path.to_str().unwrap());
    node.attempt_with("CHECK", pod, network, result, &without)
}

fn mapping_check_passes(node: &Node) {
    let mappings = json!([
        mapping("tcp", OUTSIDE, INSIDE),
        mapping("udp", OUTSIDE, 81),
        at("::", "tcp", 8081)
    ]);
    for keys in [json!({}), json!({ "snat": false }), json!({ "markMasqBit": 5 })] {
        let pod = node.pod("pod");
        let network = of(&[V4], node, mappings.clone(), keys);
        let result = node.add(&pod, &network);
        assert_eq!(check(node, &pod, &network, &result).ok(), Value::Null);
        node.del(&pod, &network, &result);
    }
}

fn mapping_check_of_both_families(node: &Node) {
    let pod = node.pod("pod");
    let network = network(node, both(OUTSIDE), json!({}));
    let result = node.add(&pod, &network);
    node.check(&pod, &network, &result);
}

fn check_sees_lost_mapping(node: &Node) {
    let pod = node.pod("pod");
    // Without ipMasq, so that only portmap can miss its rules.
    let network = of(&[V4], node, both(OUTSIDE), json!({})).with(json!({ "ipMasq": false }));
    let result = node.add(&pod, &network);
    assert_eq!(check(node, &pod, &network, &result).ok(), Value::Null);
    node.namespace.sh("nft flush ruleset");
    check(node, &pod, &network, &result).refused();
}
