//! `ipMasq`: what a pod sends beyond its subnet leaves with the node's address.

use serde_json::{Value, json};

use super::MAIN;
use super::lifecycle::end_sandbox;
use crate::case::{By, Case, Known, case};
use crate::node::{Node, Pod, V4, V6, ips};
use crate::traffic::{Protocol, Server, World, answer, assert_reach, place};

const KEYS: &str = "reference, ipMasq";
const DEL: &str = "CNI spec, section 2, DEL";
const NEEDS_LINK: &str = "it takes the masquerade only with the interface";

pub(super) const CASES: &[Case] = &[
    case!(
        the_world_sees_the_node,
        MAIN,
        KEYS,
        "beyond the subnet a pod with ipMasq is seen as the node, in both families"
    ),
    case!(the_world_sees_the_pod, MAIN, KEYS, "a pod without ipMasq is seen as itself"),
    case!(pods_see_each_other, MAIN, KEYS, "within the subnet a pod with ipMasq is seen as itself"),
    case!(masquerade_of_neighbours, MAIN, KEYS, "DEL leaves the masquerade of other pods alone"),
    case!(
        late_del,
        MAIN,
        DEL,
        "a DEL that comes late leaves the masquerade of the address's next owner alone"
    ),
    case!(masquerade_ends, MAIN, DEL, "DEL takes the pod's masquerade"),
    case!(
        masquerade_ends_without_namespace,
        MAIN,
        DEL,
        "DEL without a namespace takes the pod's masquerade, too"
    )
    .known(&[Known::new(By::Reference, "of the pod is left", NEEDS_LINK)]),
    case!(
        masquerade_ends_without_interface,
        MAIN,
        DEL,
        "DEL takes the pod's masquerade when the interface is gone"
    )
    .known(&[Known::new(By::Reference, "of the pod is left", NEEDS_LINK)]),
    case!(multicast_is_not_masqueraded, MAIN, KEYS, "multicast keeps the pod's address"),
];

/// What the node's rules must not hold after a pod is gone.
#[track_caller]
pub(super) fn assert_no_rule_of(node: &Node, result: &Value) {
    let rules = node.rules();
    for address in ips(result) {
        let word = address.to_string();
        let of_pod = |line: &&str| line.split_whitespace().any(|it| it == word);
        let left: Vec<_> = rules.lines().filter(of_pod).collect();
        assert!(left.is_empty(), "of the pod is left: {left:?}");
    }
    assert!(!rules.contains("podx"), "of the pod is left: {rules}");
}

/// The addresses that the world sees of a pod, IPv4 and IPv6.
fn seen(pod: &Pod, world: &World) -> Vec<String> {
    let _server = Server::start("world", &world.namespace, 8000);
    let see = |address: &str| {
        let to = (address.parse::<std::net::IpAddr>().unwrap(), 8000).into();
        let told = answer(&pod.namespace, Protocol::Tcp, to);
        let told = told.unwrap_or_else(|| panic!("{address} is not reached"));
        told.strip_prefix("world ").unwrap().to_owned()
    };
    World::OWN.map(see).into()
}

/// Lets the world find the pods by themselves.
fn introduce(world: &World) {
    world.namespace.sh(&format!(
        "ip route add {V4} via {}; ip route add {V6} via {}",
        World::NODE[0],
        World::NODE[1]
    ));
}

fn the_world_sees_the_node(node: &Node) {
    let (world, pod) = (World::new(node), node.pod("pod"));
    let network = node.network(&[V4, V6], json!({ "ipMasq": true }));
    let result = node.add(&pod, &network);
    assert_eq!(seen(&pod, &world), World::NODE);
    node.check(&pod, &network, &result);
}

fn the_world_sees_the_pod(node: &Node) {
    let (world, pod) = (World::new(node), node.pod("pod"));
    introduce(&world);
    node.add(&pod, &node.network(&[V4, V6], json!({ "ipMasq": false })));
    assert_eq!(seen(&pod, &world), ["10.1.2.2", "2001:db8:1::2"]);
}

fn pods_see_each_other(node: &Node) {
    let pods = ["a", "b"].map(|id| node.pod(id));
    let network = node.network(&[V4, V6], json!({ "ipMasq": true }));
    let [a, b] = [0, 1].map(|place| ips(&node.add(&pods[place], &network)));
    for (own, other) in a.into_iter().zip(b) {
        let (own, other) = (place(&pods[0].namespace, own), place(&pods[1].namespace, other));
        assert_reach(&[(own, other), (other, own)]);
    }
}

fn masquerade_of_neighbours(node: &Node) {
    let (world, pods) = (World::new(node), ["a", "b"].map(|id| node.pod(id)));
    let network = node.network(&[V4, V6], json!({ "ipMasq": true }));
    let results = [0, 1].map(|place| node.add(&pods[place], &network));
    node.del(&pods[0], &network, &results[0]);
    assert_eq!(seen(&pods[1], &world), World::NODE);
}

fn late_del(node: &Node) {
    let (world, old, new) = (World::new(node), node.pod("old"), node.pod("new"));
    let asked = json!({ "ips": ["10.1.2.77", "2001:db8:1::77"] });
    let network = node.network(&[V4, V6], json!({ "ipMasq": true, "runtimeConfig": asked }));
    let result = node.add(&old, &network);
    // The sandbox is gone and somebody has given its addresses back.
    end_sandbox(node, &old, &result);
    for address in ips(&result) {
        std::fs::remove_file(node.data().join("pods").join(address.to_string())).unwrap();
    }
    let next = node.add(&new, &network);
    assert_eq!(ips(&next), ips(&result));
    for previous in [&result, &Value::Null] {
        node.del(&old, &network, previous);
        assert_eq!(seen(&new, &world), World::NODE);
    }
    assert_eq!(node.reservations().len(), 2);
}

fn masquerade_ends(node: &Node) {
    let pod = node.pod("podx");
    let network = node.network(&[V4, V6], json!({ "ipMasq": true }));
    let result = node.add(&pod, &network);
    assert!(node.rules().contains("podx"), "the rules do not say whose they are");
    node.del(&pod, &network, &result);
    assert_no_rule_of(node, &result);
}

fn masquerade_ends_without_namespace(node: &Node) {
    let mut pod = node.pod("podx");
    let network = node.network(&[V4, V6], json!({ "ipMasq": true }));
    let result = node.add(&pod, &network);
    pod.namespace.sh("ip link delete eth0");
    pod.netns.clear();
    node.del(&pod, &network, &result);
    assert_no_rule_of(node, &result);
}

fn masquerade_ends_without_interface(node: &Node) {
    let pod = node.pod("podx");
    let network = node.network(&[V4, V6], json!({ "ipMasq": true }));
    let result = node.add(&pod, &network);
    pod.namespace.sh("ip link delete eth0");
    node.del(&pod, &network, &result);
    assert_no_rule_of(node, &result);
}

fn multicast_is_not_masqueraded(node: &Node) {
    let pod = node.pod("pod");
    node.add(&pod, &node.network(&[V4, V6], json!({ "ipMasq": true })));
    let rules = node.rules();
    for spared in ["224.0.0.0/4", "ff00::/8"] {
        assert!(rules.contains(spared), "{rules}");
    }
}
