//! loopback: the pod's `lo`.

use serde_json::{Value, json};
use testbed::Namespace;
use testbed::look::link;

use crate::case::{Case, case};
use crate::node::{Network, Node, VERSION, ips};

const LOOPBACK: &[&str] = &["loopback"];
const README: &str = "reference, loopback's page";

pub(super) const CASES: &[Case] = &[
    case!(
        up_and_down,
        LOOPBACK,
        README,
        "ADD brings lo up and tells its addresses, CHECK sees it down, DEL brings it down"
    ),
    case!(whatever_its_name, LOOPBACK, README, "whatever interface is asked for, it is lo"),
    case!(
        result_of_before,
        LOOPBACK,
        "CNI spec, section 2, ADD",
        "in a chain the previous result is handed on, unchanged"
    ),
    case!(
        loopback_del_of_nothing,
        LOOPBACK,
        "CNI spec, section 2, DEL",
        "DEL without a namespace, or of one that is gone, succeeds"
    ),
    case!(
        strange_address,
        LOOPBACK,
        README,
        "an address of lo that is none of a loopback is refused"
    ),
];

fn is_up(space: &Namespace) -> bool {
    link(space, "lo")["flags"].as_array().unwrap().iter().any(|flag| flag == "UP")
}

fn network() -> Network {
    Network::of(vec![json!({ "type": "loopback" })])
}

fn up_and_down(node: &Node) {
    let pod = node.pod("pod");
    pod.namespace.sh("ip link set lo down");
    let result = node.add(&pod, &network());
    assert!(is_up(&pod.namespace));
    let interface = json!([{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": pod.netns }]);
    assert_eq!(result["interfaces"], interface);
    assert_eq!(ips(&result), ["127.0.0.1", "::1"].map(crate::node::bare));
    node.check(&pod, &network(), &result);
    pod.namespace.sh("ip link set lo down");
    let refusal = node.attempt("CHECK", &pod, &network(), &result).refused();
    assert_eq!(refusal.msg, "loopback interface is down");
    node.add(&pod, &network());
    node.del(&pod, &network(), &result);
    assert!(!is_up(&pod.namespace));
    assert!(is_up(&node.namespace), "the node's own lo is down");
}

fn whatever_its_name(node: &Node) {
    let mut pod = node.pod("pod");
    pod.ifname = "eth0".to_owned();
    pod.namespace.sh("ip link set lo down");
    assert_eq!(node.add(&pod, &network())["interfaces"][0]["name"], "lo");
    assert!(is_up(&pod.namespace));
}

fn result_of_before(node: &Node) {
    let pod = node.pod("pod");
    let previous = json!({
        "cniVersion": VERSION,
        "interfaces": [{ "name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": pod.netns }],
        "ips": [{ "address": "10.1.2.2/24", "gateway": "10.1.2.1", "interface": 0 }],
        "routes": [{ "dst": "0.0.0.0/0" }],
        "dns": { "nameservers": ["192.0.2.53"] },
    });
    assert_eq!(node.attempt("ADD", &pod, &network(), &previous).ok(), previous);
}

fn loopback_del_of_nothing(node: &Node) {
    let mut pod = node.pod("pod");
    for netns in ["", "/run/netns/nowhere"] {
        pod.netns = netns.to_owned();
        node.del(&pod, &network(), &Value::Null);
    }
    assert!(is_up(&pod.namespace));
}

fn strange_address(node: &Node) {
    let pod = node.pod("pod");
    pod.namespace.sh("ip address flush dev lo; ip address add 10.1.2.2/24 dev lo");
    let refusal = node.attempt("ADD", &pod, &network(), &Value::Null).refused();
    assert!(refusal.msg.starts_with("loopback interface found with non-loopback address"));
}
