//! What only ptp does.

use serde_json::{Value, json};
use testbed::look::{addresses, link, links, routes};

use crate::case::{Case, case};
use crate::node::{Network, Node, V4, V6, interface};

const PTP: &[&str] = &["ptp"];
const README: &str = "reference, ptp's page";

pub(super) const CASES: &[Case] = &[
    case!(
        pod_knows_only_its_gateway,
        PTP,
        README,
        "the pod reaches its gateway by the cable, and the rest of its subnet by the gateway"
    ),
    case!(
        node_knows_the_pod,
        PTP,
        README,
        "the node has the gateway's address on the cable, and a route to the pod"
    ),
    case!(cable_without_bridge, PTP, README, "nothing is made on the node but one cable a pod"),
    case!(
        needs_ipam,
        PTP,
        README,
        "a network without IPAM, or of one that gives no address, is refused"
    )
    .also(&["static"]),
    case!(
        routes_of_several_families,
        PTP,
        README,
        "routes without a gateway of their own lead to their family's gateway"
    ),
];

fn has(routes: &[String], start: &str) -> bool {
    routes.iter().any(|line| format!("{line} ").starts_with(&format!("{start} ")))
}

fn pod_knows_only_its_gateway(node: &Node) {
    let pod = node.pod("pod");
    node.add(&pod, &node.network(&[V4, V6], json!({})));
    let all = pod.namespace.sh("ip -4 route; ip -6 route");
    let all: Vec<_> = all.lines().map(str::to_owned).collect();
    for route in [
        "10.1.2.1 dev eth0 scope link src 10.1.2.2",
        "10.1.2.0/24 via 10.1.2.1 dev eth0 src 10.1.2.2",
        "default via 10.1.2.1 dev eth0",
        "2001:db8:1::1 dev eth0",
        "2001:db8:1::/64 via 2001:db8:1::1 dev eth0",
        "default via 2001:db8:1::1 dev eth0",
    ] {
        assert!(has(&all, route), "{route}: {all:#?}");
    }
    for connected in ["10.1.2.0/24 dev eth0", "2001:db8:1::/64 dev eth0"] {
        assert!(!has(&all, connected), "{connected}: {all:#?}");
    }
}

fn node_knows_the_pod(node: &Node) {
    let pod = node.pod("pod");
    let result = node.add(&pod, &node.network(&[V4, V6], json!({})));
    let cable = interface(&result, 0);
    assert_eq!(addresses(&node.namespace, cable), ["10.1.2.1/32", "2001:db8:1::1/128"]);
    let made = routes(&node.namespace, "main");
    for route in [format!("10.1.2.2 dev {cable}"), format!("2001:db8:1::2 dev {cable}")] {
        assert!(has(&made, &route), "{route}: {made:#?}");
    }
}

fn cable_without_bridge(node: &Node) {
    let pods = ["a", "b"].map(|id| node.pod(id));
    let network = node.network(&[V4, V6], json!({}));
    let cables = [0, 1].map(|place| interface(&node.add(&pods[place], &network), 0).to_owned());
    let [a, b] = &cables;
    let mut there = links(&node.namespace);
    there.retain(|name| name != "lo");
    there.sort();
    let mut expected = [a.clone(), b.clone()];
    expected.sort();
    assert_eq!(there, expected);
    node.del(&pods[0], &network, &Value::Null);
    assert!(link(&node.namespace, a).is_null() && link(&node.namespace, b).is_object());
}

fn needs_ipam(node: &Node) {
    let pod = node.pod("pod");
    let refused = |ipam: Value| {
        let network = Network::of(vec![json!({ "type": "ptp" })]).with(ipam);
        node.attempt("ADD", &pod, &network, &Value::Null).refused().msg
    };
    assert_eq!(refused(json!({})), "no plugin name provided");
    let empty = json!({ "ipam": { "type": "static", "addresses": [] } });
    assert_eq!(refused(empty), "IPAM plugin returned missing IP config");
}

fn routes_of_several_families(node: &Node) {
    let pod = node.pod("pod");
    let wanted = json!([{ "dst": "192.0.2.0/24" }, { "dst": "2001:db8:5::/48" }]);
    node.add(&pod, &node.network(&[V4, V6], json!({ "ipam": { "routes": wanted } })));
    let made = routes(&pod.namespace, "main");
    for route in
        ["192.0.2.0/24 via 10.1.2.1 dev eth0", "2001:db8:5::/48 via 2001:db8:1::1 dev eth0"]
    {
        assert!(has(&made, route), "{route}: {made:#?}");
    }
    assert!(!has(&made, "default"), "{made:#?}");
}
