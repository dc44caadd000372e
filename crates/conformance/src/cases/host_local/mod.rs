//! host-local: addresses of ranges, remembered in files.

pub(super) mod addresses;
pub(super) mod configuration;
pub(super) mod files;

use serde_json::{Value, json};

use crate::node::{Network, Node, Pod, merged};

const HOST_LOCAL: &[&str] = &["host-local"];
const README: &str = "reference, host-local's page";

/// The network `pods` of host-local alone, with these members of `ipam`.
fn network(node: &Node, ipam: &Value) -> Network {
    let base = json!({ "type": "host-local", "dataDir": node.data() });
    Network::of(vec![json!({ "type": "host-local", "ipam": merged(base, ipam) })])
}

/// The same with one range.
fn ranged(node: &Node, range: &Value) -> Network {
    network(node, &json!({ "ranges": [[range]] }))
}

/// The addresses that a pod is given, with their prefixes.
#[track_caller]
fn given(node: &Node, pod: &Pod, network: &Network) -> Vec<String> {
    texts(&node.add(pod, network))
}

fn texts(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.map(|ip| ip["address"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn refused(node: &Node, command: &str, pod: &Pod, network: &Network) -> String {
    node.attempt(command, pod, network, &Value::Null).refused().msg
}

/// Somebody to be given addresses: no namespace is looked at.
fn somebody(node: &Node) -> Pod {
    node.pod("pod")
}

/// The same somebody under another id.
fn called(mut pod: Pod, id: &str) -> Pod {
    pod.id = id.to_owned();
    pod
}
