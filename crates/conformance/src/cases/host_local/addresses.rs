//! Which address is given.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use super::{HOST_LOCAL, README, called, given, network, ranged, refused, somebody, texts};
use crate::case::{Case, case};
use crate::node::{Network, Node, Pod};

pub(in crate::cases) const CASES: &[Case] = &[
    case!(
        in_turn,
        HOST_LOCAL,
        README,
        "addresses are given in turn, without the network, the gateway and the broadcast \
         address, and again from the start"
    ),
    case!(
        a_freed_address_rests,
        HOST_LOCAL,
        README,
        "an address that was just freed is given again only after all others"
    ),
    case!(
        bounds_of_a_range,
        HOST_LOCAL,
        README,
        "rangeStart and rangeEnd are the first and the last address that is given"
    ),
    case!(
        several_ranges_of_a_set,
        HOST_LOCAL,
        README,
        "the ranges of a set are used one after the other, and again from the first"
    ),
    case!(
        several_sets,
        HOST_LOCAL,
        README,
        "each set gives one address, in its order, with its range's gateway and prefix"
    ),
    case!(
        one_range_written_directly,
        HOST_LOCAL,
        README,
        "a range written directly in ipam stands before the others"
    ),
    case!(
        ranges_of_the_runtime,
        HOST_LOCAL,
        README,
        "runtimeConfig.ipRanges stands before all other sets"
    ),
    case!(
        requested_addresses,
        HOST_LOCAL,
        README,
        "an address may be asked for by CNI_ARGS, by args and by runtimeConfig, with or without \
         a prefix"
    ),
    case!(
        requested_in_several_sets,
        HOST_LOCAL,
        README,
        "addresses that are asked for are given in the sets that they are of, and the other sets \
         choose"
    ),
    case!(
        requested_in_vain,
        HOST_LOCAL,
        README,
        "what is asked for and is taken, the gateway, or of no set, is refused by name, and \
         nothing is given"
    ),
    case!(
        exhaustion,
        HOST_LOCAL,
        README,
        "when all is given the ranges are named, and what the failed ADD had is freed"
    ),
    case!(
        second_address_is_refused,
        HOST_LOCAL,
        README,
        "a second address for the same attachment is refused, and another interface has one"
    ),
    case!(
        at_the_same_time,
        HOST_LOCAL,
        "CNI spec, section 2, ADD",
        "ADDs at the same time get different addresses, down to the last one"
    ),
    case!(
        networks_are_apart,
        HOST_LOCAL,
        README,
        "networks of other names have addresses of their own"
    ),
    case!(
        routes_and_gateways,
        HOST_LOCAL,
        README,
        "routes are told as they were given, and a gateway may be outside of the range"
    ),
    case!(
        resolv_conf,
        HOST_LOCAL,
        README,
        "resolvConf becomes the result's dns, and a file that is not there is an error"
    ),
];

/// The addresses that so many pods are given one after the other; they stay.
fn each_of(node: &Node, pods: usize, network: &Network) -> Vec<String> {
    let pod = |number: usize| called(node.pod(&format!("n{number}")), &format!("pod{number}"));
    (0..pods).map(|number| given(node, &pod(number), network).remove(0)).collect()
}

/// The address that one pod is given, and gives back.
#[track_caller]
fn in_passing(node: &Node, pod: &Pod, network: &Network) -> String {
    let address = given(node, pod, network).remove(0);
    node.del(pod, network, &Value::Null);
    address
}

fn in_turn(node: &Node) {
    let (pod, network) = (somebody(node), ranged(node, &json!({ "subnet": "10.1.2.0/29" })));
    let passed: Vec<_> = (0..7).map(|_| in_passing(node, &pod, &network)).collect();
    let expected = [2, 3, 4, 5, 6, 2, 3].map(|last| format!("10.1.2.{last}/29"));
    assert_eq!(passed, expected);
    // IPv6 has no broadcast address.
    let network = ranged(node, &json!({ "subnet": "2001:db8:1::/126" })).named("others");
    let passed: Vec<_> = (0..3).map(|_| in_passing(node, &pod, &network)).collect();
    assert_eq!(passed, [2, 3, 2].map(|last| format!("2001:db8:1::{last}/126")));
}

fn a_freed_address_rests(node: &Node) {
    let network = ranged(node, &json!({ "subnet": "10.1.2.0/29" }));
    assert_eq!(each_of(node, 3, &network), [2, 3, 4].map(|last| format!("10.1.2.{last}/29")));
    node.del(&called(somebody(node), "pod0"), &network, &Value::Null);
    let next = ["a", "b", "c"].map(|id| given(node, &called(node.pod(id), id), &network).remove(0));
    assert_eq!(next, [5, 6, 2].map(|last| format!("10.1.2.{last}/29")));
}

fn bounds_of_a_range(node: &Node) {
    let (pod, first) = (somebody(node), "10.1.2.10");
    let range = json!({ "subnet": "10.1.2.0/24", "rangeStart": first, "rangeEnd": "10.1.2.12" });
    let network = ranged(node, &range);
    let passed: Vec<_> = (0..4).map(|_| in_passing(node, &pod, &network)).collect();
    assert_eq!(passed, [10, 11, 12, 10].map(|last| format!("10.1.2.{last}/24")));
}

fn several_ranges_of_a_set(node: &Node) {
    let pod = somebody(node);
    let set = json!([
        { "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.10", "rangeEnd": "10.1.2.11" },
        { "subnet": "10.9.0.0/30" },
    ]);
    let network = network(node, &json!({ "ranges": [set] }));
    let passed: Vec<_> = (0..4).map(|_| in_passing(node, &pod, &network)).collect();
    assert_eq!(passed, ["10.1.2.10/24", "10.1.2.11/24", "10.9.0.2/30", "10.1.2.10/24"]);
}

fn several_sets(node: &Node) {
    let sets = json!({ "ranges": [
        [{ "subnet": "2001:db8:1::/64" }],
        [{ "subnet": "10.1.2.0/24", "gateway": "10.1.2.254" }],
        [{ "subnet": "10.3.0.0/16" }],
    ] });
    let result = node.add(&somebody(node), &network(node, &sets));
    let expected = json!([
        { "address": "2001:db8:1::2/64", "gateway": "2001:db8:1::1" },
        { "address": "10.1.2.1/24", "gateway": "10.1.2.254" },
        { "address": "10.3.0.2/16", "gateway": "10.3.0.1" },
    ]);
    assert_eq!(result["ips"], expected);
}

fn one_range_written_directly(node: &Node) {
    let ipam = json!({
        "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.50", "rangeEnd": "10.1.2.60",
        "gateway": "10.1.2.9", "ranges": [[{ "subnet": "2001:db8:1::/64" }]],
    });
    let result = node.add(&somebody(node), &network(node, &ipam));
    assert_eq!(texts(&result), ["10.1.2.50/24", "2001:db8:1::2/64"]);
    assert_eq!(result["ips"][0]["gateway"], "10.1.2.9");
}

fn ranges_of_the_runtime(node: &Node) {
    let runtime = json!({ "runtimeConfig": { "ipRanges": [
        [{ "subnet": "10.7.0.0/24" }], [{ "subnet": "2001:db8:7::/64" }],
    ] } });
    let pod = somebody(node);
    let own = ranged(node, &json!({ "subnet": "10.1.2.0/24" })).with(runtime.clone());
    let expected = ["10.7.0.2/24", "2001:db8:7::2/64", "10.1.2.2/24"];
    assert_eq!(given(node, &pod, &own), expected);
    node.del(&pod, &own, &Value::Null);
    let none = network(node, &json!({})).with(runtime).named("others");
    assert_eq!(given(node, &pod, &none), expected[..2]);
}

fn requested_addresses(node: &Node) {
    let base = ranged(node, &json!({ "subnet": "10.1.2.0/24" }));
    for (number, text) in ["10.1.2.20", "10.1.2.21/24", "10.1.2.22/32"].into_iter().enumerate() {
        let expected = [format!("{}/24", text.split('/').next().unwrap())];
        let mut pod = node.pod(&format!("pod{number}"));
        let asked = [
            base.clone().with(json!({ "args": { "cni": { "ips": [text] } } })),
            base.clone().with(json!({ "runtimeConfig": { "ips": [text] } })),
        ];
        for network in &asked {
            assert_eq!(given(node, &pod, network), expected);
            node.del(&pod, network, &Value::Null);
        }
        pod.args = format!("IgnoreUnknown=1;IP={text}");
        assert_eq!(given(node, &pod, &base), expected);
        node.del(&pod, &base, &Value::Null);
    }
}

fn requested_in_several_sets(node: &Node) {
    let sets = json!({ "ranges": [
        [{ "subnet": "10.1.2.0/24" }],
        [{ "subnet": "2001:db8:1::/64" }],
        [{ "subnet": "10.3.0.0/24" }],
    ] });
    let asked = json!({ "runtimeConfig": { "ips": ["2001:db8:1::77", "10.3.0.77"] } });
    let network = network(node, &sets).with(asked);
    let expected = ["10.1.2.2/24", "2001:db8:1::77/64", "10.3.0.77/24"];
    assert_eq!(given(node, &somebody(node), &network), expected);
}

fn requested_in_vain(node: &Node) {
    let (pod, other) = (somebody(node), node.pod("other"));
    let base = ranged(node, &json!({ "subnet": "10.1.2.0/24" }));
    node.add(&other, &base);
    let asking =
        |addresses: &[&str]| base.clone().with(json!({ "runtimeConfig": { "ips": addresses } }));
    let taken = "failed to allocate for range 0: requested IP address 10.1.2.2 is not available \
        in range set 10.1.2.1-10.1.2.254";
    assert_eq!(refused(node, "ADD", &pod, &asking(&["10.1.2.2"])), taken);
    let gateway = "failed to allocate for range 0: requested ip 10.1.2.1 is subnet's gateway";
    assert_eq!(refused(node, "ADD", &pod, &asking(&["10.1.2.1"])), gateway);
    let elsewhere = "failed to allocate all requested IPs: 10.9.9.9";
    assert_eq!(refused(node, "ADD", &pod, &asking(&["10.1.2.7", "10.9.9.9"])), elsewhere);
    assert!(refused(node, "ADD", &pod, &asking(&["kaput"])).contains("kaput"));
    assert_eq!(node.reservations().into_keys().collect::<Vec<_>>(), ["10.1.2.2"]);
}

fn exhaustion(node: &Node) {
    let sets = json!({ "ranges": [
        [{ "subnet": "10.1.2.0/24" }],
        [{ "subnet": "10.3.0.0/30" }, { "subnet": "10.4.0.0/30" }],
    ] });
    let network = network(node, &sets);
    each_of(node, 2, &network);
    let pod = somebody(node);
    let said = refused(node, "ADD", &pod, &network);
    let expected = "failed to allocate for range 1: no IP addresses available in range set: \
        10.3.0.1-10.3.0.2,10.4.0.1-10.4.0.2";
    assert_eq!(said, expected);
    let mut left: Vec<_> = node.reservations().into_keys().collect();
    left.sort();
    assert_eq!(left, ["10.1.2.2", "10.1.2.3", "10.3.0.2", "10.4.0.2"]);
    node.del(&called(node.pod("freed"), "pod0"), &network, &Value::Null);
    assert_eq!(given(node, &pod, &network)[1], "10.3.0.2/30");
}

fn second_address_is_refused(node: &Node) {
    let (mut pod, network) = (somebody(node), ranged(node, &json!({ "subnet": "10.1.2.0/24" })));
    node.add(&pod, &network);
    let said = refused(node, "ADD", &pod, &network);
    let expected = "failed to allocate for range 0: 10.1.2.2 has been allocated to pod, \
        duplicate allocation is not allowed";
    assert_eq!(said, expected);
    pod.ifname = "eth1".to_owned();
    assert_eq!(given(node, &pod, &network), ["10.1.2.3/24"]);
    assert_eq!(node.reservations().len(), 2);
}

fn at_the_same_time(node: &Node) {
    // As many as there are addresses.
    let network = ranged(node, &json!({ "subnet": "10.1.2.0/28" }));
    let pods: Vec<_> = (0..13).map(|number| node.pod(&format!("pod{number}"))).collect();
    let given: Vec<_> = thread::scope(|scope| {
        let started: Vec<_> =
            pods.iter().map(|pod| scope.spawn(|| texts(&node.add(pod, &network)))).collect();
        started.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let different: BTreeSet<_> = given.iter().collect();
    assert_eq!(different.len(), pods.len(), "{given:?}");
    assert_eq!(node.reservations().len(), pods.len());
}

fn networks_are_apart(node: &Node) {
    let pod = somebody(node);
    let network = ranged(node, &json!({ "subnet": "10.1.2.0/24" }));
    assert_eq!(given(node, &pod, &network), ["10.1.2.2/24"]);
    let others = network.clone().named("others");
    assert_eq!(given(node, &pod, &others), ["10.1.2.2/24"]);
    node.del(&pod, &network, &Value::Null);
    node.check(&pod, &others, &Value::Null);
}

fn routes_and_gateways(node: &Node) {
    let routes = json!([
        { "dst": "0.0.0.0/0" },
        { "dst": "192.0.2.0/24", "gw": "10.1.2.9" },
        { "dst": "2001:db8::/32" },
    ]);
    let ipam = json!({
        "ranges": [
            [{ "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.128", "gateway": "10.1.2.1" }],
        ],
        "routes": routes,
    });
    let result = node.add(&somebody(node), &network(node, &ipam));
    assert_eq!(result["routes"], routes);
    let expected = json!([{ "address": "10.1.2.128/24", "gateway": "10.1.2.1" }]);
    assert_eq!(result["ips"], expected);
}

fn resolv_conf(node: &Node) {
    let file = node.home.join("resolv.conf");
    let text = "# nobody\n; nobody\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n\
                domain old.example\ndomain a.example\nsearch a.example b.example\n\
                search c.example\noptions ndots:5 rotate\nnameserver\nkaput x\n";
    std::fs::write(&file, text).unwrap();
    let with = |file: &std::path::Path| {
        network(node, &json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }]], "resolvConf": file }))
    };
    let pod = somebody(node);
    let expected = json!({
        "nameservers": ["192.0.2.53", "2001:db8::53"], "domain": "a.example",
        "search": ["a.example", "b.example", "c.example"], "options": ["ndots:5", "rotate"],
    });
    assert_eq!(node.add(&pod, &with(&file))["dns"], expected);
    let nowhere = node.home.join("nowhere");
    let other = node.pod("other");
    let said = refused(node, "ADD", &other, &with(&nowhere));
    assert!(said.contains(nowhere.to_str().unwrap()), "{said}");
    assert_eq!(node.reservations().len(), 1);
}
