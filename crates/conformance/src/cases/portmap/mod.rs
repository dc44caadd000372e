//! portmap: ports of the node that lead to a pod.

pub(super) mod configuration;
pub(super) mod lifecycle;
pub(super) mod packets;

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::node::{Network, Node, Pod, V4, V6, bare};
use crate::traffic::{Protocol, Server};

/// After each of the plugins that give pods an interface.
const CHAINS: &[&str] = &["bridge+portmap", "ptp+portmap"];
/// Where it makes no difference after which.
const CHAIN: &[&str] = &["bridge+portmap"];

const README: &str = "reference, portmap's page";

/// The port that pods listen at, and those of the node that lead to it.
const INSIDE: u16 = 80;
const OUTSIDE: u16 = 8080;

/// A network whose pods have these ports of the node.
pub(super) fn network(node: &Node, mappings: Value, keys: Value) -> Network {
    of(&[V4, V6], node, mappings, keys)
}

/// The same with addresses of these subnets only.
#[expect(clippy::needless_pass_by_value, reason = "callers make both in place")]
fn of(subnets: &[&str], node: &Node, mappings: Value, keys: Value) -> Network {
    let portmap = json!({
        "type": "portmap", "capabilities": { "portMappings": true },
        "runtimeConfig": { "portMappings": mappings },
    });
    let portmap = crate::node::merged(portmap, &keys);
    node.network(subnets, json!({ "ipMasq": true })).chained(portmap)
}

/// The mapping of one port by both protocols.
pub(super) fn both(outside: u16) -> Value {
    json!([mapping("tcp", outside, INSIDE), mapping("udp", outside, INSIDE)])
}

fn mapping(protocol: &str, outside: u16, inside: u16) -> Value {
    json!({ "hostPort": outside, "containerPort": inside, "protocol": protocol })
}

/// The same mapping of one address of the node.
fn at(host_ip: &str, protocol: &str, outside: u16) -> Value {
    crate::node::merged(mapping(protocol, outside, INSIDE), &json!({ "hostIP": host_ip }))
}

/// A pod with somebody in it who answers, under the pod's id.
pub(super) fn listening(node: &Node, id: &str) -> (Pod, Server) {
    let pod = node.pod(id);
    let server = Server::start(id, &pod.namespace, INSIDE);
    (pod, server)
}

pub(super) fn to(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(bare(address), port)
}

/// Who has to answer, whomever they see.
#[track_caller]
pub(super) fn assert_answers(
    from: &testbed::Namespace,
    protocol: Protocol,
    to: SocketAddr,
    who: &str,
) {
    let told = crate::traffic::answer(from, protocol, to);
    let by = told.as_deref().and_then(|told| told.split(' ').next());
    assert_eq!(by, Some(who), "{protocol:?} to {to}");
}

/// Asserts that nobody answers.
#[track_caller]
fn assert_silent(from: &testbed::Namespace, protocol: Protocol, to: SocketAddr) {
    assert!(crate::traffic::is_silent(from, protocol, to), "{protocol:?} to {to} is answered");
}
