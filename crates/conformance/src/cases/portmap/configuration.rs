//! What portmap takes and refuses, and what it prints.

use serde_json::{Value, json};

use super::{CHAIN, CHAINS, INSIDE, OUTSIDE, README, both, mapping, network};
use crate::case::{Case, case};
use crate::node::{Network, Node, VERSION, after};

const PORTMAP: &[&str] = &["portmap"];

pub(in crate::cases) const CASES: &[Case] = &[
    case!(
        previous_result_is_unchanged,
        CHAINS,
        "CNI spec, section 2, ADD",
        "the result is the previous one, unchanged"
    ),
    case!(
        nothing_to_map,
        CHAIN,
        README,
        "without mappings the previous result is handed on, and no rule is made"
    ),
    case!(must_be_chained, PORTMAP, README, "ADD and CHECK without a previous result are refused"),
    case!(invalid_ports, PORTMAP, README, "ports that cannot be are refused"),
    case!(
        invalid_keys,
        PORTMAP,
        README,
        "keys that exclude each other, and values out of range, are refused"
    ),
    case!(
        invalid_previous_result,
        PORTMAP,
        README,
        "a previous result that cannot be read is refused"
    ),
    case!(
        result_without_the_interface,
        PORTMAP,
        README,
        "a result whose addresses are not the pod's is handed on"
    ),
];

fn previous_result_is_unchanged(node: &Node) {
    let pod = node.pod("pod");
    let network = network(node, both(OUTSIDE), json!({}));
    let whole = node.add(&pod, &network);
    node.del(&pod, &network, &whole);
    let previous = json!({
        "cniVersion": VERSION,
        "interfaces": [
            { "name": "br7", "mac": "02:00:00:00:00:01" },
            { "name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": pod.netns },
            { "name": "net1", "mac": "02:00:00:00:00:03", "sandbox": pod.netns },
        ],
        "ips": [
            { "address": "10.1.2.2/24", "gateway": "10.1.2.1", "interface": 1 },
            { "address": "10.9.9.9/24", "interface": 2 },
        ],
        "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.2.1" }, { "dst": "192.0.2.0/24" }],
        "dns": { "nameservers": ["192.0.2.53"], "domain": "a.example", "options": ["ndots:5"] },
    });
    // A way to the pod.
    node.namespace.sh("ip link add way type bridge; ip link set way up
        ip route add 10.1.2.2 dev way");
    let call = node.call("ADD", &pod, &after(network.last(), &previous));
    assert_eq!(node.run(&call).ok(), previous);
}

fn nothing_to_map(node: &Node) {
    let pod = node.pod("pod");
    for runtime in [Value::Null, json!({}), json!({ "portMappings": [] })] {
        let network = network(node, json!([]), json!({ "runtimeConfig": runtime }))
            .with(json!({ "ipMasq": false }));
        let result = node.add(&pod, &network);
        assert!(result["ips"].is_array());
        let rules = node.rules();
        assert!(!rules.to_lowercase().contains("hostport") && !rules.contains("dnat"), "{rules}");
        node.check(&pod, &network, &result);
        node.del(&pod, &network, &result);
    }
}

/// portmap alone, with these mappings.
fn alone(mappings: &Value, keys: Value) -> Network {
    let runtime = json!({ "type": "portmap", "runtimeConfig": { "portMappings": mappings } });
    Network::of(vec![runtime]).with(keys)
}

fn previous() -> Value {
    json!({
        "cniVersion": VERSION,
        "interfaces": [{ "name": "eth0", "sandbox": "/run/netns/pod" }],
        "ips": [{ "address": "10.1.2.2/24", "interface": 0 }],
    })
}

#[track_caller]
fn refused(node: &Node, command: &str, network: &Network, previous: &Value) -> String {
    let pod = node.pod("pod");
    node.attempt(command, &pod, network, previous).refused().msg
}

fn must_be_chained(node: &Node) {
    let network = alone(&both(OUTSIDE), json!({}));
    assert_eq!(refused(node, "ADD", &network, &Value::Null), "must be called as chained plugin");
    let said = refused(node, "CHECK", &network, &Value::Null);
    assert!(said.ends_with("equired prevResult missing"), "{said}");
}

fn invalid_ports(node: &Node) {
    for (outside, inside, said) in [
        (json!(0), json!(80), "Invalid host port number: 0"),
        (json!(-1), json!(80), "Invalid host port number: -1"),
        (json!(8080), json!(0), "Invalid container port number: 0"),
        (json!(8080), json!(-80), "Invalid container port number: -80"),
    ] {
        let mappings = json!([{ "hostPort": outside, "containerPort": inside, "protocol": "tcp" }]);
        let msg = refused(node, "ADD", &alone(&mappings, json!({})), &previous());
        assert_eq!(msg, format!("failed to parse config: {said}"));
    }
    assert!(!node.rules().contains("8080"));
}

fn invalid_keys(node: &Node) {
    for (keys, said) in [
        (
            json!({ "externalSetMarkChain": "KUBE-MARK-MASQ", "markMasqBit": 5 }),
            "Cannot specify externalSetMarkChain and markMasqBit",
        ),
        (json!({ "markMasqBit": 32 }), "MasqMarkBit must be between 0 and 31"),
        (json!({ "markMasqBit": -1 }), "MasqMarkBit must be between 0 and 31"),
    ] {
        let msg = refused(node, "ADD", &alone(&both(OUTSIDE), keys), &previous());
        assert_eq!(msg, format!("failed to parse config: {said}"));
    }
}

fn invalid_previous_result(node: &Node) {
    let mut strange = previous();
    strange["ips"][0]["address"] = "kaput".into();
    for previous in [strange, json!({ "cniVersion": "9.9.9" })] {
        let msg = refused(node, "ADD", &alone(&both(OUTSIDE), json!({})), &previous);
        let start = "failed to parse config: could not parse prevResult: ";
        assert!(msg.starts_with(start), "{msg}");
    }
}

fn result_without_the_interface(node: &Node) {
    let pod = node.pod("pod");
    let mut elsewhere = previous();
    elsewhere["interfaces"][0]["name"] = "net1".into();
    let network = alone(&json!([mapping("tcp", OUTSIDE, INSIDE)]), json!({}));
    let call = node.call("ADD", &pod, &after(network.only(), &elsewhere));
    assert_eq!(node.run(&call).ok()["interfaces"], elsewhere["interfaces"]);
    assert!(!node.rules().contains(&OUTSIDE.to_string()), "{}", node.rules());
}
