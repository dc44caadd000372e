//! An attachment from ADD to DEL: refused as a whole, taken away as a whole, whatever is left.

use std::fs;
use std::path::Path;

use kernel::Netns;
use serde_json::{Value, json};
use testbed::look::{addresses, link, links, routes};

use super::MAIN;
use crate::case::{By, Case, Known, case};
use crate::node::{Network, Node, Pod, V4, V6, bare, interface, ips};
use crate::traffic::{assert_reach, place};

const ADD: &str = "CNI spec, section 2, ADD";
const DEL: &str = "CNI spec, section 2, DEL";
const LEFT: &str = "what it made before the failure stays";

pub(super) const CASES: &[Case] = &[
    case!(
        second_add_is_refused,
        MAIN,
        ADD,
        "a second ADD of the same attachment is refused and does not hurt the first"
    ),
    case!(
        failed_add_leaves_nothing,
        MAIN,
        ADD,
        "an ADD that fails leaves no interface, no cable and no address"
    )
    .known(&[Known::new(By::Reference, "left on the node", LEFT)])
    .also(&["static"]),
    case!(exhausted_ipam, MAIN, ADD, "IPAM's error is the plugin's, and its code is passed on"),
    case!(
        missing_ipam_plugin,
        MAIN,
        "reference, libcni",
        "an IPAM plugin that is not there is named with the path that was searched"
    ),
    case!(
        missing_namespace,
        MAIN,
        ADD,
        "a namespace that is not there is named, and its pod has no address"
    ),
    case!(
        no_namespace,
        MAIN,
        ADD,
        "a path that leads to no namespace is named, and its pod has no address"
    ),
    case!(
        del_takes_all,
        MAIN,
        DEL,
        "DEL takes interface, cable and address, and the pod's neighbours stay as they are"
    ),
    case!(del_twice, MAIN, DEL, "DEL of what is gone already, or was never there, succeeds"),
    case!(del_without_previous_result, MAIN, DEL, "DEL does not need the result of the ADD"),
    case!(del_without_namespace, MAIN, DEL, "DEL without a namespace gives the address back"),
    case!(
        del_of_a_namespace_that_is_gone,
        MAIN,
        DEL,
        "DEL whose namespace is gone gives the address back, and the cable is gone too"
    ),
    case!(
        del_of_a_file_in_the_place_of_a_namespace,
        MAIN,
        DEL,
        "DEL succeeds where only an empty file is left of the namespace"
    )
    .known(&[Known::new(
        By::Reference,
        "unknown FS magic",
        "it refuses a file in a namespace's place for ever",
    )]),
    case!(
        del_of_an_interface_that_is_gone,
        MAIN,
        DEL,
        "DEL gives the address back when somebody else has taken the interface"
    ),
    case!(again_after_del, MAIN, ADD, "after DEL the same attachment can be made again"),
];

fn host_end<'a>(node: &Node, result: &'a Value) -> &'a str {
    interface(result, usize::from(node.main() == "bridge"))
}

/// Asserts that nothing of any pod is on the node; an empty bridge may stay.
#[track_caller]
fn assert_nothing_left(node: &Node) {
    let left = links(&node.namespace);
    let left: Vec<_> =
        left.iter().filter(|name| !["lo", "cni0"].contains(&name.as_str())).collect();
    assert!(left.is_empty(), "left on the node: {left:?}");
    let reservations = node.reservations();
    assert!(reservations.is_empty(), "left in the store: {reservations:?}");
}

fn second_add_is_refused(node: &Node) {
    let pod = node.pod("pod");
    let network = node.network(&[V4], json!({}));
    let result = node.add(&pod, &network);
    let state = || (addresses(&pod.namespace, "eth0"), routes(&pod.namespace, "main"));
    let before = state();
    node.attempt("ADD", &pod, &network, &Value::Null).refused();
    assert_eq!(state(), before);
    assert_eq!(node.reservations().into_keys().collect::<Vec<_>>(), ["10.1.2.2"]);
    let (own, gateway) = (ips(&result)[0], bare("10.1.2.1"));
    assert_reach(&[(place(&pod.namespace, own), place(&node.namespace, gateway))]);
    node.check(&pod, &network, &result);
}

fn failed_add_leaves_nothing(node: &Node) {
    let pod = node.pod("pod");
    // An address without a gateway is what ptp cannot do with, and one that is the bridge's own
    // gateway with another size of subnet is what bridge refuses after the cable is there.
    let ipam = json!({ "type": "static", "addresses": [{ "address": "10.1.2.2/24" }] });
    let mut main = json!({ "type": node.main(), "isGateway": true, "ipam": ipam });
    if node.main() == "bridge" {
        node.namespace.sh("ip link add cni0 type bridge; ip link set cni0 up
            ip address add 10.9.9.9/24 dev cni0");
        main["isDefaultGateway"] = true.into();
    }
    node.attempt("ADD", &pod, &Network::of(vec![main]), &Value::Null).refused();
    assert_nothing_left(node);
    assert_eq!(links(&pod.namespace), ["lo"]);
}

fn exhausted_ipam(node: &Node) {
    let pods = ["a", "b"].map(|id| node.pod(id));
    let network = node.network(&["10.1.2.0/30"], json!({}));
    node.add(&pods[0], &network);
    let refusal = node.attempt("ADD", &pods[1], &network, &Value::Null).refused();
    let msg =
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.2.1-10.1.2.2";
    assert_eq!(refusal.said(), (999, msg));
    assert_eq!(node.reservations().into_keys().collect::<Vec<_>>(), ["10.1.2.2"]);
}

fn missing_ipam_plugin(node: &Node) {
    let pod = node.pod("pod");
    let network = Network::of(vec![json!({ "type": node.main(), "ipam": { "type": "nobody" } })]);
    for command in ["ADD", "DEL"] {
        let refusal = node.attempt(command, &pod, &network, &Value::Null).refused();
        let path = node.bin.display();
        assert_eq!(refusal.msg, format!("failed to find plugin \"nobody\" in path [{path}]"));
    }
}

fn missing_namespace(node: &Node) {
    let mut pod = node.pod("pod");
    pod.netns = "/run/netns/nowhere".to_owned();
    let network = node.network(&[V4], json!({}));
    let refusal = node.attempt("ADD", &pod, &network, &Value::Null).refused();
    let msg = "failed to open netns \"/run/netns/nowhere\": failed to Statfs \
        \"/run/netns/nowhere\": no such file or directory";
    assert_eq!(refusal.msg, msg);
    assert_nothing_left(node);
}

fn no_namespace(node: &Node) {
    let mut pod = node.pod("pod");
    let file = node.home.join("file");
    fs::write(&file, "").unwrap();
    pod.netns = file.to_str().unwrap().to_owned();
    let network = node.network(&[V4], json!({}));
    let refusal = node.attempt("ADD", &pod, &network, &Value::Null).refused();
    let start = format!("failed to open netns {file:?}: unknown FS magic on {file:?}: ");
    assert!(refusal.msg.starts_with(&start), "{refusal:?}");
    assert!(node.reservations().is_empty());
}

fn del_takes_all(node: &Node) {
    let pods = ["a", "b"].map(|id| node.pod(id));
    let network = node.network(&[V4, V6], json!({}));
    let results = [0, 1].map(|place| node.add(&pods[place], &network));
    node.del(&pods[0], &network, &results[0]);
    assert_eq!(links(&pods[0].namespace), ["lo"]);
    assert!(link(&node.namespace, host_end(node, &results[0])).is_null());
    let left: Vec<_> = node.reservations().into_keys().collect();
    assert_eq!(left, ["10.1.2.3", "2001:db8:1::3"]);
    let gateways = ["10.1.2.1", "2001:db8:1::1"].map(bare);
    for (own, gateway) in ips(&results[1]).into_iter().zip(gateways) {
        assert_reach(&[(place(&pods[1].namespace, own), place(&node.namespace, gateway))]);
    }
    node.del(&pods[1], &network, &results[1]);
    assert_nothing_left(node);
}

fn del_twice(node: &Node) {
    let (pod, stranger) = (node.pod("pod"), node.pod("stranger"));
    let network = node.network(&[V4, V6], json!({ "ipMasq": true }));
    node.del(&stranger, &network, &Value::Null);
    let result = node.add(&pod, &network);
    for previous in [&result, &result, &Value::Null] {
        node.del(&pod, &network, previous);
    }
    node.del(&stranger, &network, &Value::Null);
    assert_nothing_left(node);
}

fn del_without_previous_result(node: &Node) {
    let pod = node.pod("pod");
    let network = node.network(&[V4, V6], json!({}));
    node.add(&pod, &network);
    node.del(&pod, &network, &Value::Null);
    assert_eq!(links(&pod.namespace), ["lo"]);
    assert_nothing_left(node);
}

fn del_without_namespace(node: &Node) {
    let mut pod = node.pod("pod");
    let network = node.network(&[V4, V6], json!({}));
    let result = node.add(&pod, &network);
    pod.netns.clear();
    node.del(&pod, &network, &result);
    assert!(node.reservations().is_empty());
}

/// Takes a pod's namespace away as a runtime does that has ended its sandbox, and waits until the
/// kernel has followed.
pub(super) fn end_sandbox(node: &Node, pod: &Pod, result: &Value) {
    Netns::remove(&pod.namespace.path()).unwrap();
    pod.namespace.sh("ip link delete eth0");
    assert!(link(&node.namespace, host_end(node, result)).is_null());
}

fn del_of_a_namespace_that_is_gone(node: &Node) {
    let pod = node.pod("pod");
    let network = node.network(&[V4, V6], json!({}));
    let result = node.add(&pod, &network);
    end_sandbox(node, &pod, &result);
    assert!(!Path::new(&pod.netns).exists());
    node.del(&pod, &network, &result);
    assert_nothing_left(node);
}

fn del_of_a_file_in_the_place_of_a_namespace(node: &Node) {
    let pod = node.pod("pod");
    let network = node.network(&[V4, V6], json!({}));
    let result = node.add(&pod, &network);
    end_sandbox(node, &pod, &result);
    fs::write(&pod.netns, "").unwrap();
    node.del(&pod, &network, &result);
    assert_nothing_left(node);
}

fn del_of_an_interface_that_is_gone(node: &Node) {
    let pod = node.pod("pod");
    let network = node.network(&[V4, V6], json!({}));
    let result = node.add(&pod, &network);
    pod.namespace.sh("ip link delete eth0");
    node.del(&pod, &network, &result);
    assert_nothing_left(node);
}

fn again_after_del(node: &Node) {
    let pod = node.pod("pod");
    let network = node.network(&[V4, V6], json!({}));
    for _ in 0..3 {
        let result = node.add(&pod, &network);
        for (own, gateway) in ips(&result).into_iter().zip(["10.1.2.1", "2001:db8:1::1"]) {
            assert_reach(&[(place(&pod.namespace, own), place(&node.namespace, bare(gateway)))]);
        }
        node.del(&pod, &network, &result);
    }
    assert_nothing_left(node);
}
