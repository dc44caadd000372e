//! GC and STATUS, which the specification has since 1.1.0.

use cni::Version;
use serde_json::{Value, json};

use super::lifecycle::end_sandbox;
use super::masquerade::assert_no_rule_of;
use super::{MAIN, portmap};
use crate::case::{By, Case, Known, case};
use crate::node::{Network, Node, Pod, V4, V6, bare, ips, merged};
use crate::traffic::{Protocol, World, assert_reach, place};

const GC: &str = "CNI spec 1.1.0, section 2, GC";
const STATUS: &str = "CNI spec 1.1.0, section 2, STATUS";
const NO_GC: &str = "it has no GC, and succeeds";
const NO_STATUS: &str = "its IPAM plugins have no STATUS, and are well";

pub(super) const CASES: &[Case] = &[
    case!(
        gc_takes_what_is_not_valid,
        MAIN,
        GC,
        "GC frees addresses and masquerade of what is not valid, and leaves what is"
    )
    .known(&[Known::new(By::Reference, "left in the store", NO_GC)])
    .since(Version::V1_1_0),
    case!(gc_without_a_list, MAIN, GC, "GC without a list of what is valid changes nothing")
        .since(Version::V1_1_0),
    case!(gc_of_one_network, MAIN, GC, "GC of one network leaves the others alone")
        .since(Version::V1_1_0),
    case!(gc_of_nothing, MAIN, GC, "GC where nothing was ever attached succeeds, twice")
        .since(Version::V1_1_0),
    case!(
        gc_of_addresses,
        &["host-local"],
        GC,
        "GC frees the addresses of what is not valid, interface by interface"
    )
    .known(&[Known::new(By::Reference, "left in the store", NO_GC)])
    .since(Version::V1_1_0),
    case!(
        gc_of_mappings,
        &["bridge+portmap", "ptp+portmap"],
        GC,
        "GC takes the mappings of what is not valid, and leaves those of what is"
    )
    .known(&[Known::new(By::Reference, "is left", NO_GC)])
    .since(Version::V1_1_0),
    case!(
        status_of_an_exhausted_range,
        &["host-local", "bridge", "ptp"],
        STATUS,
        "STATUS says with code 50 that no address is left"
    )
    .known(&[Known::new(By::Reference, "is well", NO_STATUS)])
    .since(Version::V1_1_0),
];

fn attachment(pod: &Pod) -> Value {
    json!({ "containerID": pod.id, "ifname": pod.ifname })
}

/// GC of each plugin of a list.
#[track_caller]
fn collect(node: &Node, network: &Network, keys: &Value) {
    for config in network.plugins() {
        let answer = node.run(&node.call_about_all("GC", &merged(config.clone(), keys)));
        assert!(answer.is_ok() && answer.stdout.is_empty(), "{answer:?}");
    }
}

fn valid(attachments: &[Value]) -> Value {
    json!({ "cni.dev/valid-attachments": attachments })
}

fn masqueraded(node: &Node) -> Network {
    node.network(&[V4, V6], json!({ "ipMasq": true })).version("1.1.0")
}

fn gc_takes_what_is_not_valid(node: &Node) {
    let (gone, stays) = (node.pod("podx"), node.pod("stays"));
    let network = masqueraded(node);
    let [first, second] = [&gone, &stays].map(|pod| node.add(pod, &network));
    end_sandbox(node, &gone, &first);
    collect(node, &network, &valid(&[attachment(&stays)]));
    let left: Vec<_> = node.reservations().into_keys().collect();
    assert_eq!(left, ["10.1.2.3", "2001:db8:1::3"], "left in the store");
    assert_no_rule_of(node, &first);
    for (own, gateway) in ips(&second).into_iter().zip(["10.1.2.1", "2001:db8:1::1"]) {
        assert_reach(&[(place(&stays.namespace, own), place(&node.namespace, bare(gateway)))]);
    }
    node.check(&stays, &network, &second);
}

fn gc_without_a_list(node: &Node) {
    let (gone, stays) = (node.pod("gone"), node.pod("stays"));
    let network = masqueraded(node);
    let [first, _] = [&gone, &stays].map(|pod| node.add(pod, &network));
    end_sandbox(node, &gone, &first);
    let before = (node.reservations(), testbed::state(&node.namespace));
    collect(node, &network, &json!({}));
    assert_eq!((node.reservations(), testbed::state(&node.namespace)), before);
}

fn gc_of_one_network(node: &Node) {
    let pod = node.pod("pod");
    let network = masqueraded(node);
    let result = node.add(&pod, &network);
    end_sandbox(node, &pod, &result);
    let before = (node.reservations(), testbed::state(&node.namespace));
    collect(node, &network.named("others"), &valid(&[]));
    assert_eq!((node.reservations(), testbed::state(&node.namespace)), before);
}

fn gc_of_nothing(node: &Node) {
    let pod = node.pod("pod");
    for _ in 0..2 {
        collect(node, &masqueraded(node), &valid(&[attachment(&pod)]));
    }
}

fn gc_of_addresses(node: &Node) {
    let mut pods = ["a", "b"].map(|id| node.pod(id));
    let network =
        Network::of(vec![json!({ "type": "host-local", "ipam": node.host_local(&[V4]) })])
            .version("1.1.0");
    node.add(&pods[0], &network);
    node.add(&pods[1], &network);
    pods[1].ifname = "eth1".to_owned();
    node.add(&pods[1], &network);
    collect(node, &network, &valid(&[attachment(&pods[1])]));
    let left: Vec<_> = node.reservations().into_keys().collect();
    assert_eq!(left, ["10.1.2.4"], "left in the store");
    collect(node, &network, &valid(&[]));
    assert!(node.reservations().is_empty(), "left in the store");
}

fn gc_of_mappings(node: &Node) {
    let world = World::new(node);
    let (gone, server) = portmap::listening(node, "gone");
    let (stays, _server) = portmap::listening(node, "stays");
    let [first, second] = [8080, 8081]
        .map(|port| portmap::network(node, portmap::both(port), json!({})).version("1.1.0"));
    let result = node.add(&gone, &first);
    node.add(&stays, &second);
    drop(server);
    end_sandbox(node, &gone, &result);
    // The runtime knows no mappings of anybody when it collects.
    let all = portmap::network(node, json!([]), json!({ "runtimeConfig": {} })).version("1.1.0");
    collect(node, &all, &valid(&[attachment(&stays)]));
    let rules = node.rules();
    assert!(!rules.contains("8080"), "it is left: {rules}");
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let to = portmap::to(World::NODE[0], 8081);
        portmap::assert_answers(&world.namespace, protocol, to, "stays");
    }
}

fn status_of_an_exhausted_range(node: &Node) {
    let subnet = ["10.1.2.0/30"];
    let network = if node.main() == "host-local" {
        Network::of(vec![json!({ "type": "host-local", "ipam": node.host_local(&subnet) })])
    } else {
        node.network(&subnet, json!({}))
    };
    let network = network.version("1.1.0");
    let status = || node.run(&node.call_about_all("STATUS", network.only()));
    assert!(status().is_ok());
    let pod = node.pod("pod");
    node.add(&pod, &network);
    let answer = status();
    assert!(!answer.is_ok(), "it is well");
    assert_eq!(answer.refused().code, 50);
    node.del(&pod, &network, &Value::Null);
    assert!(status().is_ok());
}
