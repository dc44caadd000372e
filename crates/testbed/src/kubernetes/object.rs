//! Node objects as others write them, and what leads to their API.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

/// A Node that its kubelet has registered and nobody else has touched, with a subnet for its pods.
pub fn registered(name: &str, address: IpAddr, subnet: &str) -> Value {
    json!({
        "metadata": { "name": name, "annotations": {} },
        "spec": { "podCIDRs": [subnet] },
        "status": { "addresses": [
            { "type": "Hostname", "address": name },
            { "type": "InternalIP", "address": address },
        ] },
    })
}

/// The same when podwire runs there, by IPv4.
pub fn published(name: &str, address: IpAddr, subnet: &str) -> Value {
    let mut node = registered(name, address, subnet);
    let annotation = json!({ "addresses": { "v4": address }, "subnets": { "v4": subnet },
        "backend": "vxlan", "vni": 1 });
    node["metadata"]["annotations"]["podwire.dev/node"] = json!(annotation.to_string());
    node
}

/// The same as large as they are: what the kubelet and controllers write about their fields, images.
pub fn large(mut node: Value) -> Value {
    let fields: Vec<Value> = (0..4)
        .map(|index| json!({ "manager": format!("m{index}"), "fieldsV1": "x".repeat(800) }))
        .collect();
    node["metadata"]["managedFields"] = json!(fields);
    let images: Vec<Value> = (0..50)
        .map(|index| json!({ "names": [format!("registry.example/{index}@{}", "f".repeat(150))] }))
        .collect();
    node["status"]["images"] = json!(images);
    node
}

/// A kubeconfig that leads to the API at `address`.
pub fn kubeconfig(address: SocketAddr) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
        "users": [{ "name": "u", "user": { "token": "secret" } }],
        "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u" } }],
        "current-context": "x",
    });
    config.to_string()
}
