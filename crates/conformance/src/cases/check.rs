//! CHECK: passes as long as all is as ADD left it, and otherwise fails.

use serde_json::{Value, json};
use testbed::look::eventually;

use super::MAIN;
use crate::case::{By, Case, Known, case};
use crate::node::{Node, V4, V6, interface};

const CHECK: &str = "CNI spec, section 2, CHECK";
const IGNORED: &str = "it does not look for the masquerade";

pub(super) const CASES: &[Case] = &[
    case!(
        check_passes,
        MAIN,
        CHECK,
        "CHECK passes after ADD, in every version that has it, and changes nothing"
    ),
    case!(
        check_needs_a_previous_result,
        MAIN,
        CHECK,
        "CHECK without the result of the ADD is refused"
    ),
    case!(check_of_another_sandbox, MAIN, CHECK, "CHECK of a result of another sandbox is refused"),
    case!(check_sees_lost_interface, MAIN, CHECK, "CHECK sees that the pod's interface is gone"),
    case!(
        check_sees_interface_of_another_kind,
        MAIN,
        CHECK,
        "CHECK sees that the interface is no cable any more"
    ),
    case!(check_sees_changed_hardware_address, MAIN, CHECK, "CHECK sees another hardware address"),
    case!(
        check_sees_lost_address,
        MAIN,
        CHECK,
        "CHECK sees that an address is gone, of either family"
    ),
    case!(check_sees_changed_prefix, MAIN, CHECK, "CHECK sees that an address has another prefix"),
    case!(
        check_sees_lost_default_route,
        MAIN,
        CHECK,
        "CHECK sees that the default route is gone, of either family"
    ),
    case!(check_sees_lost_route, MAIN, CHECK, "CHECK sees that a route is gone"),
    case!(check_sees_interface_down, MAIN, CHECK, "CHECK sees that the interface is down"),
    case!(
        check_sees_lost_reservation,
        MAIN,
        CHECK,
        "CHECK asks IPAM, which sees that the reservation is gone"
    ),
    case!(check_sees_lost_masquerade, MAIN, CHECK, "CHECK sees that the masquerade is gone")
        .known(&[Known::new(By::Reference, "is not noticed", IGNORED)]),
    case!(
        check_sees_lost_bridge,
        &["bridge"],
        CHECK,
        "CHECK sees that the bridge is gone, or has another hardware address"
    ),
    case!(
        check_sees_lost_port,
        &["bridge"],
        CHECK,
        "CHECK sees that the cable is no port of the bridge any more"
    ),
    case!(
        check_of_a_bare_port,
        &["bridge"],
        CHECK,
        "CHECK of a pod without addresses passes, and sees that its interface is gone"
    )
    .known(&[Known::new(
        By::Reference,
        "no plugin name provided",
        "bridge asks for IPAM where there is none",
    )]),
];

/// Does damage in the pod and in the node, each time to a fresh attachment, and asserts that CHECK
/// passes before and fails after. `VETH` stands for the host's end of the cable.
#[track_caller]
fn assert_noticed(node: &Node, keys: &Value, damages: &[(&str, &str)]) {
    for (number, (in_pod, in_node)) in damages.iter().enumerate() {
        let pod = node.pod(&format!("pod{number}"));
        let network = node.network(&[V4, V6], keys.clone());
        let result = node.add(&pod, &network);
        node.check(&pod, &network, &result);
        let veth = interface(&result, usize::from(node.main() == "bridge"));
        let own = |text: &str, place: usize| {
            let address = result["ips"][place]["address"].as_str().unwrap();
            text.replace("ADDRESS", address)
        };
        let in_pod = own(&in_pod.replace("ADDRESS6", &own("ADDRESS", 1)), 0);
        pod.namespace.sh(&in_pod);
        node.namespace.sh(&in_node.replace("VETH", veth));
        let answer = node.attempt("CHECK", &pod, &network, &result);
        assert!(!answer.is_ok(), "{in_pod} {in_node} is not noticed");
        answer.refused();
        assert!(node.attempt("DEL", &pod, &network, &result).is_ok());
    }
}

/// A route, and what a plugin that makes no default routes itself needs for these.
fn routes(node: &Node) -> Value {
    let route = json!({ "dst": "192.0.2.0/24", "gw": "10.1.2.1" });
    match node.main() {
        "bridge" => json!([route]),
        _ => json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }, route]),
    }
}

fn check_passes(node: &Node) {
    let pod = node.pod("pod");
    let keys = json!({
        "ipMasq": true, "mtu": 1400, "dns": { "search": ["a.example"] },
        "ipam": { "routes": routes(node) },
    });
    for version in node.versions(node.main()) {
        if version.as_str() < "0.4.0" {
            continue;
        }
        let network = node.network(&[V4, V6], keys.clone()).version(&version);
        let result = node.add(&pod, &network);
        let state = || (testbed::state(&node.namespace), testbed::state(&pod.namespace));
        // The kernel finishes in its own time what an address of IPv6 takes.
        let before = eventually("a state that stays", || {
            let [first, second] = [state(), state()];
            (first == second).then_some(second)
        });
        node.check(&pod, &network, &result);
        let after = state();
        testbed::assert_same_state(&before.0, &after.0);
        testbed::assert_same_state(&before.1, &after.1);
        node.del(&pod, &network, &result);
    }
}

fn check_needs_a_previous_result(node: &Node) {
    let pod = node.pod("pod");
    let network = node.network(&[V4], json!({}));
    node.add(&pod, &network);
    let refusal = node.attempt("CHECK", &pod, &network, &Value::Null).refused();
    assert!(refusal.msg.ends_with("equired prevResult missing"), "{refusal:?}");
}

fn check_of_another_sandbox(node: &Node) {
    let (pod, other) = (node.pod("pod"), node.pod("other"));
    let network = node.network(&[V4], json!({}));
    let mut result = node.add(&pod, &network);
    let place = result["interfaces"].as_array().unwrap().len() - 1;
    result["interfaces"][place]["sandbox"] = other.netns.as_str().into();
    node.attempt("CHECK", &pod, &network, &result).refused();
}

fn check_sees_lost_interface(node: &Node) {
    assert_noticed(node, &json!({}), &[("ip link delete eth0", "true")]);
}

fn check_sees_interface_of_another_kind(node: &Node) {
    let damage = "ip link delete eth0; ip link add eth0 type bridge";
    assert_noticed(node, &json!({}), &[(damage, "true")]);
}

fn check_sees_changed_hardware_address(node: &Node) {
    let damage = "ip link set eth0 address 02:00:00:00:00:07";
    assert_noticed(node, &json!({}), &[(damage, "true")]);
}

fn check_sees_lost_address(node: &Node) {
    let damages = [
        ("ip address delete ADDRESS dev eth0", "true"),
        ("ip address delete ADDRESS6 dev eth0", "true"),
    ];
    assert_noticed(node, &json!({}), &damages);
}

fn check_sees_changed_prefix(node: &Node) {
    let damage = "ip address delete ADDRESS dev eth0
        address=ADDRESS; ip address add ${address%/*}/16 dev eth0";
    assert_noticed(node, &json!({}), &[(damage, "true")]);
}

fn check_sees_lost_default_route(node: &Node) {
    let damages = [("ip route delete default", "true"), ("ip -6 route delete default", "true")];
    assert_noticed(node, &json!({}), &damages);
}

fn check_sees_lost_route(node: &Node) {
    let keys = json!({ "ipam": { "routes": routes(node) } });
    assert_noticed(node, &keys, &[("ip route delete 192.0.2.0/24", "true")]);
}

fn check_sees_interface_down(node: &Node) {
    assert_noticed(node, &json!({}), &[("ip link set eth0 down", "true")]);
}

fn check_sees_lost_reservation(node: &Node) {
    let files = format!("rm {}/pods/10.1.2.* {0}/pods/2001:*", node.data().display());
    assert_noticed(node, &json!({}), &[("true", &files)]);
}

fn check_sees_lost_masquerade(node: &Node) {
    assert_noticed(node, &json!({ "ipMasq": true }), &[("true", "nft flush ruleset")]);
}

fn check_sees_lost_bridge(node: &Node) {
    let damages =
        [("true", "ip link set cni0 address 02:00:00:00:00:07"), ("true", "ip link delete cni0")];
    assert_noticed(node, &json!({}), &damages);
}

fn check_sees_lost_port(node: &Node) {
    let damages = [
        ("true", "ip link set VETH nomaster"),
        ("true", "ip link add br1 type bridge; ip link set VETH master br1"),
    ];
    assert_noticed(node, &json!({}), &damages);
}

fn check_of_a_bare_port(node: &Node) {
    let pod = node.pod("pod");
    let network = crate::node::Network::of(vec![json!({ "type": "bridge" })]);
    let result = node.add(&pod, &network);
    node.check(&pod, &network, &result);
    pod.namespace.sh("ip link delete eth0");
    node.attempt("CHECK", &pod, &network, &result).refused();
}
