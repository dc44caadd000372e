//! static: the addresses that somebody has written down.

use serde_json::{Value, json};

use crate::case::{By, Case, Known, case};
use crate::node::{Network, Node, merged};

const STATIC: &[&str] = &["static"];
const README: &str = "reference, static's page";

pub(super) const CASES: &[Case] = &[
    case!(
        written_addresses,
        STATIC,
        README,
        "addresses, gateways, routes and dns are told as they were written"
    ),
    case!(
        addresses_of_arguments,
        STATIC,
        README,
        "CNI_ARGS adds addresses, each with the gateway that is in its subnet"
    ),
    case!(
        addresses_of_args,
        STATIC,
        README,
        "args.cni.ips replaces the addresses that were written"
    ),
    case!(addresses_of_runtime, STATIC, README, "runtimeConfig.ips replaces all others"),
    case!(no_address, STATIC, README, "no address at all is a result without addresses"),
    case!(
        invalid_addresses,
        STATIC,
        README,
        "an address without a prefix is refused, and the text says where it was written"
    ),
    case!(
        static_of_old_versions,
        STATIC,
        "CNI spec 0.2.0, Result",
        "before 0.3.0 there is one address a family"
    ),
    case!(static_del, STATIC, "CNI spec, section 2, DEL", "DEL succeeds, however often"),
    case!(
        static_check,
        STATIC,
        "CNI spec, section 2, CHECK",
        "CHECK passes after ADD, needs its result, and sees another gateway"
    ),
    case!(
        static_check_sees_lost_address,
        STATIC,
        "CNI spec, section 2, CHECK",
        "CHECK sees that an address is not in the result any more"
    )
    .known(&[Known::new(
        By::Reference,
        "is not noticed",
        "static looks only at addresses that are in the result",
    )]),
];

/// The network of static alone, with these members of `ipam`.
fn network(ipam: &Value) -> Network {
    let ipam = merged(json!({ "type": "static" }), ipam);
    Network::of(vec![json!({ "type": "static", "ipam": ipam })])
}

fn written() -> Value {
    json!({ "addresses": [{ "address": "10.1.2.7/24", "gateway": "10.1.2.1" }] })
}

#[track_caller]
fn refused(node: &Node, args: &str, network: &Network) -> String {
    let mut pod = node.pod("pod");
    pod.args = args.to_owned();
    node.attempt("ADD", &pod, network, &Value::Null).refused().msg
}

fn written_addresses(node: &Node) {
    let addresses = json!([
        { "address": "10.1.2.7/24", "gateway": "10.1.2.1" },
        { "address": "2001:db8:1::7/64", "gateway": "2001:db8:1::1" },
        { "address": "10.1.2.8/24" },
    ]);
    let routes = json!([
        { "dst": "0.0.0.0/0", "gw": "10.1.2.1" }, { "dst": "0.0.0.0/0", "gw": "10.1.2.2" },
        { "dst": "2001:db8:5::/48" },
    ]);
    let dns = json!({
        "nameservers": ["192.0.2.53"], "domain": "a.example", "search": ["b.example"],
        "options": ["ndots:5"],
    });
    let ipam = json!({ "addresses": addresses, "routes": routes, "dns": dns });
    let result = node.add(&node.pod("pod"), &network(&ipam));
    assert_eq!((&result["ips"], &result["routes"], &result["dns"]), (&addresses, &routes, &dns));
    assert!(result.get("interfaces").is_none());
}

fn addresses_of_arguments(node: &Node) {
    let mut pod = node.pod("pod");
    pod.args =
        "IgnoreUnknown=1;IP=10.1.3.7/24,2001:db8:3::7/64;GATEWAY=10.1.3.1,2001:db8:3::1".to_owned();
    let expected = [
        json!({ "address": "10.1.3.7/24", "gateway": "10.1.3.1" }),
        json!({ "address": "2001:db8:3::7/64", "gateway": "2001:db8:3::1" }),
    ];
    let result = node.add(&pod, &network(&json!({})));
    assert_eq!(result["ips"], json!(expected));
    let result = node.add(&pod, &network(&written()));
    let first = written()["addresses"][0].clone();
    assert_eq!(result["ips"], json!([first, expected[0], expected[1]]));
}

/// What replaces the addresses that were written, and those of CNI_ARGS.
#[track_caller]
fn assert_replaced(node: &Node, keys: Value) {
    let mut pod = node.pod("pod");
    pod.args = "IP=10.1.3.7/24;GATEWAY=10.1.3.1".to_owned();
    let result = node.add(&pod, &network(&written()).with(keys));
    let expected = json!([{ "address": "10.1.4.7/24" }, { "address": "2001:db8:4::7/64" }]);
    assert_eq!(result["ips"], expected);
}

fn addresses_of_args(node: &Node) {
    let ips = ["10.1.4.7/24", "2001:db8:4::7/64"];
    assert_replaced(node, json!({ "args": { "cni": { "ips": ips } } }));
}

fn addresses_of_runtime(node: &Node) {
    let ips = ["10.1.4.7/24", "2001:db8:4::7/64"];
    assert_replaced(
        node,
        json!({ "args": { "cni": { "ips": ["10.9.9.9/24"] } }, "runtimeConfig": { "ips": ips } }),
    );
}

fn no_address(node: &Node) {
    let result = node.add(&node.pod("pod"), &network(&json!({ "addresses": [] })));
    assert!(result.get("ips").is_none(), "{result}");
}

fn invalid_addresses(node: &Node) {
    let none = network(&json!({}));
    let written = |address: &str| network(&json!({ "addresses": [{ "address": address }] }));
    for (args, network, said) in [
        ("", Network::of(vec![json!({ "type": "static" })]), "IPAM config missing 'ipam' key"),
        (
            "IP=10.1.2.7",
            none.clone(),
            "the 'ip' field is expected to be in CIDR notation, got: '10.1.2.7'",
        ),
        ("IP=10.1.2.7/24;GATEWAY=kaput", none.clone(), "invalid gateway address: kaput"),
        (
            "",
            none.clone().with(json!({ "args": { "cni": { "ips": ["10.1.2.7"] } } })),
            "an entry in the 'ips' field is NOT in CIDR notation, got: '10.1.2.7'",
        ),
        (
            "",
            none.with(json!({ "runtimeConfig": { "ips": ["10.1.2.7"] } })),
            "an entry in the 'ips' field is NOT in CIDR notation, got: '10.1.2.7'",
        ),
        (
            "",
            written("10.1.2.7"),
            "the 'address' field is expected to be in CIDR notation, got: '10.1.2.7'",
        ),
    ] {
        assert_eq!(refused(node, args, &network), said);
    }
}

fn static_of_old_versions(node: &Node) {
    let addresses = |addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|it| json!({ "address": it })).collect();
        network(&json!({ "addresses": addresses })).version("0.2.0")
    };
    let result = node.add(&node.pod("pod"), &addresses(&["10.1.2.7/24", "2001:db8:1::7/64"]));
    assert_eq!(result["ip4"]["ip"], "10.1.2.7/24");
    assert_eq!(result["ip6"]["ip"], "2001:db8:1::7/64");
    let said = refused(node, "", &addresses(&["10.1.2.7/24", "10.1.2.8/24"]));
    assert_eq!(said, "CNI version 0.2.0 does not support more than 1 address per family");
}

fn static_del(node: &Node) {
    let pod = node.pod("pod");
    for _ in 0..2 {
        node.del(&pod, &network(&written()), &Value::Null);
    }
}

fn static_check(node: &Node) {
    let pod = node.pod("pod");
    let network = network(&written());
    let result = node.add(&pod, &network);
    node.check(&pod, &network, &result);
    node.attempt("CHECK", &pod, &network, &Value::Null).refused();
    let mut other = result;
    other["ips"][0]["gateway"] = "10.1.2.9".into();
    let refusal = node.attempt("CHECK", &pod, &network, &other).refused();
    assert!(refusal.msg.starts_with("static: Failed to match addr "), "{refusal:?}");
}

fn static_check_sees_lost_address(node: &Node) {
    let pod = node.pod("pod");
    let network = network(&written());
    let mut result = node.add(&pod, &network);
    result["ips"][0]["address"] = "10.1.2.99/24".into();
    let answer = node.attempt("CHECK", &pod, &network, &result);
    assert!(!answer.is_ok(), "the lost address is not noticed");
}
