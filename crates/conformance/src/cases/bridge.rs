//! What only bridge does.

use serde_json::{Value, json};
use testbed::look::{addresses, link, ports, routes, sysctl};

use crate::case::{Case, case};
use crate::node::{Network, Node, Pod, V4, V6, bare, interface, ips};
use crate::traffic::{Protocol, Server, answer, assert_reach, is_silent, place};

const BRIDGE: &[&str] = &["bridge"];
const README: &str = "reference, bridge's page";

pub(super) const CASES: &[Case] = &[
    case!(
        bridge_is_made,
        BRIDGE,
        README,
        "a bridge that is not there is made, is up, and has the pods' cables as ports"
    ),
    case!(
        bridge_is_used_as_it_is,
        BRIDGE,
        README,
        "a bridge that is there keeps its size of packets, hardware address and addresses"
    ),
    case!(
        bridge_keeps_its_hardware_address,
        BRIDGE,
        README,
        "the gateway's hardware address stays as pods come and go"
    ),
    case!(
        no_bridge,
        BRIDGE,
        README,
        "a link of another kind in the bridge's place is refused and stays"
    ),
    case!(
        gateway_addresses,
        BRIDGE,
        README,
        "with isGateway the bridge has the gateway's address of each subnet, and the pod no \
         default route"
    ),
    case!(no_gateway, BRIDGE, README, "without isGateway the bridge has no address"),
    case!(
        default_routes,
        BRIDGE,
        README,
        "isDefaultGateway makes a default route for each family that has none of IPAM's"
    ),
    case!(
        gateway_in_the_way,
        BRIDGE,
        README,
        "another address of the bridge is in the way, and forceAddress replaces it"
    ),
    case!(
        bare_port,
        BRIDGE,
        README,
        "without IPAM the pod has an interface that is up and no address, and can be given one"
    ),
    case!(
        bare_port_of_0_2_0,
        BRIDGE,
        "CNI spec 0.2.0, Result",
        "a result without addresses cannot be told in 0.2.0, and ADD fails"
    ),
    case!(
        hardware_address_inputs,
        BRIDGE,
        README,
        "the hardware address comes from runtimeConfig, else from args, else from CNI_ARGS"
    ),
    case!(
        hairpin_mode,
        BRIDGE,
        README,
        "hairpinMode is the port's, and is off where it is not asked for"
    ),
    case!(promiscuous_mode, BRIDGE, README, "promiscMode makes the bridge promiscuous"),
    case!(
        modes_exclude_each_other,
        BRIDGE,
        README,
        "hairpinMode and promiscMode together are refused"
    ),
    case!(vlan_out_of_range, BRIDGE, README, "a vlan that cannot be is refused"),
    case!(
        spoof_check,
        BRIDGE,
        README,
        "with macspoofchk a pod that lies about its hardware address is cut off, and no other one"
    ),
    case!(
        spoof_check_ends,
        BRIDGE,
        "CNI spec, section 2, DEL",
        "DEL takes the rules of macspoofchk"
    ),
    case!(
        quick_ipv6,
        BRIDGE,
        README,
        "the pod's addresses of IPv6 are not claimed for seconds, and its change of address is \
         announced"
    ),
    case!(
        port_isolation,
        BRIDGE,
        README,
        "pods with portIsolation reach the node and not each other"
    )
    .since(cni::Version::V1_1_0),
    case!(
        interface_left_down,
        BRIDGE,
        README,
        "disableContainerInterface leaves the pod's interface down, and excludes IPAM"
    )
    .since(cni::Version::V1_1_0),
];

/// The configuration of a bridge without IPAM.
fn bare_bridge(keys: Value) -> Network {
    Network::of(vec![json!({ "type": "bridge" })]).with(keys)
}

fn mac(space: &testbed::Namespace, name: &str) -> String {
    link(space, name)["address"].as_str().unwrap().to_owned()
}

fn refused(node: &Node, pod: &Pod, network: &Network) -> String {
    node.attempt("ADD", pod, network, &Value::Null).refused().msg
}

fn bridge_is_made(node: &Node) {
    let pods = ["a", "b"].map(|id| node.pod(id));
    let network = node.network(&[V4], json!({ "bridge": "br7", "mtu": 1400 }));
    let cables = [0, 1].map(|place| interface(&node.add(&pods[place], &network), 1).to_owned());
    assert_eq!(ports(&node.namespace, "br7"), cables);
    let bridge = link(&node.namespace, "br7");
    assert_eq!(bridge["linkinfo"]["info_kind"], "bridge");
    assert_eq!((&bridge["operstate"], &bridge["mtu"]), (&"UP".into(), &1400.into()));
    // It stays, empty, for the next pod.
    for pod in &pods {
        node.del(pod, &network, &Value::Null);
    }
    assert_eq!(ports(&node.namespace, "br7"), [""; 0]);
    assert!(link(&node.namespace, "br7").is_object());
}

fn bridge_is_used_as_it_is(node: &Node) {
    let pod = node.pod("pod");
    // A bridge follows its smallest port, unless somebody has said how large it is.
    node.namespace.sh("ip link add cni0 address 02:00:00:00:00:01 type bridge
        ip link set cni0 mtu 1450 up; ip address add 10.1.2.1/24 dev cni0");
    let result = node.add(&pod, &node.network(&[V4], json!({ "mtu": 1400 })));
    let bridge = link(&node.namespace, "cni0");
    assert_eq!(bridge["address"], "02:00:00:00:00:01");
    assert_eq!(addresses(&node.namespace, "cni0"), ["10.1.2.1/24"]);
    assert_eq!(bridge["mtu"], 1450);
    let (own, gateway) = (ips(&result)[0], bare("10.1.2.1"));
    assert_reach(&[(place(&pod.namespace, own), place(&node.namespace, gateway))]);
}

fn bridge_keeps_its_hardware_address(node: &Node) {
    let pods = ["a", "b", "c"].map(|id| node.pod(id));
    let network = node.network(&[V4, V6], json!({}));
    node.add(&pods[0], &network);
    let first = mac(&node.namespace, "cni0");
    for pod in &pods[1..] {
        node.add(pod, &network);
        assert_eq!(mac(&node.namespace, "cni0"), first);
    }
    for pod in &pods {
        node.del(pod, &network, &Value::Null);
        assert_eq!(mac(&node.namespace, "cni0"), first);
    }
}

fn no_bridge(node: &Node) {
    let pod = node.pod("pod");
    node.namespace.sh("ip link add cni0 type veth peer name other");
    let said = refused(node, &pod, &node.network(&[V4], json!({})));
    assert!(said.contains("\"cni0\" already exists but is not a bridge"), "{said}");
    assert_eq!(link(&node.namespace, "cni0")["linkinfo"]["info_kind"], "veth");
    assert!(node.reservations().is_empty());
}

fn gateway_addresses(node: &Node) {
    let pod = node.pod("pod");
    let keys = json!({ "isDefaultGateway": false, "isGateway": true });
    node.add(&pod, &node.network(&[V4, V6], keys));
    assert_eq!(addresses(&node.namespace, "cni0"), ["10.1.2.1/24", "2001:db8:1::1/64"]);
    let made = routes(&pod.namespace, "main");
    assert!(!made.iter().any(|route| route.starts_with("default")), "{made:?}");
}

fn no_gateway(node: &Node) {
    let pods = ["a", "b"].map(|id| node.pod(id));
    let network = node.network(&[V4], json!({ "isDefaultGateway": false }));
    let [a, b] = [0, 1].map(|place| ips(&node.add(&pods[place], &network))[0]);
    assert_eq!(addresses(&node.namespace, "cni0"), [""; 0]);
    assert_reach(&[(place(&pods[0].namespace, a), place(&pods[1].namespace, b))]);
}

fn default_routes(node: &Node) {
    let pods = ["a", "b"].map(|id| node.pod(id));
    let result = node.add(&pods[0], &node.network(&[V4, V6], json!({})));
    let expected =
        json!([{ "dst": "0.0.0.0/0", "gw": "10.1.2.1" }, { "dst": "::/0", "gw": "2001:db8:1::1" }]);
    assert_eq!(result["routes"], expected);
    let other = json!({ "ipam": { "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.2.9" }] } });
    let result = node.add(&pods[1], &node.network(&[V4, V6], other));
    let expected =
        json!([{ "dst": "0.0.0.0/0", "gw": "10.1.2.9" }, { "dst": "::/0", "gw": "2001:db8:1::1" }]);
    assert_eq!(result["routes"], expected);
    let made = routes(&pods[1].namespace, "main");
    let default: Vec<_> = made.iter().filter(|route| route.starts_with("default")).collect();
    assert_eq!(default.len(), 2, "{made:?}");
}

fn gateway_in_the_way(node: &Node) {
    let pod = node.pod("pod");
    node.namespace.sh("ip link add cni0 address 02:00:00:00:00:01 type bridge
        ip link set cni0 up; ip address add 10.9.9.9/24 dev cni0");
    let network = node.network(&[V4], json!({}));
    let said = refused(node, &pod, &network);
    let expected = "\"cni0\" already has an IP address different from 10.1.2.1/24";
    assert!(said.ends_with(expected), "{said}");
    assert_eq!(addresses(&node.namespace, "cni0"), ["10.9.9.9/24"]);
    assert!(node.reservations().is_empty());
    // What a failed ADD may leave in the pod is another case.
    node.del(&pod, &network, &Value::Null);
    let result = node.add(&pod, &network.with(json!({ "forceAddress": true })));
    assert_eq!(addresses(&node.namespace, "cni0"), ["10.1.2.1/24"]);
    let (own, gateway) = (ips(&result)[0], bare("10.1.2.1"));
    assert_reach(&[(place(&pod.namespace, own), place(&node.namespace, gateway))]);
}

fn bare_port(node: &Node) {
    let pods = ["a", "b"].map(|id| node.pod(id));
    let network = bare_bridge(json!({}));
    for (pod, address) in pods.iter().zip(["10.5.0.1", "10.5.0.2"]) {
        let result = node.add(pod, &network);
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(3));
        assert!(result.get("ips").is_none(), "{result}");
        assert_eq!(link(&pod.namespace, "eth0")["operstate"], "UP");
        assert_eq!(addresses(&pod.namespace, "eth0"), [""; 0]);
        pod.namespace.sh(&format!("ip address add {address}/24 dev eth0"));
    }
    let ends =
        (place(&pods[0].namespace, bare("10.5.0.1")), place(&pods[1].namespace, bare("10.5.0.2")));
    assert_reach(&[ends]);
    for pod in &pods {
        node.del(pod, &network, &Value::Null);
    }
    assert_eq!(ports(&node.namespace, "cni0"), [""; 0]);
}

fn bare_port_of_0_2_0(node: &Node) {
    let pod = node.pod("pod");
    let network = bare_bridge(json!({})).version("0.2.0");
    let answer = node.attempt("ADD", &pod, &network, &Value::Null);
    let refusal = answer.refused();
    assert_eq!(refusal.msg, "cannot convert: no valid IP addresses");
}

fn hardware_address_inputs(node: &Node) {
    let by_args = "02:00:00:00:00:01";
    let args = json!({ "args": { "cni": { "mac": "02:00:00:00:00:02" } } });
    let runtime = json!({ "runtimeConfig": { "mac": "02:00:00:00:00:03" } });
    for (number, (network, expected)) in [
        (node.network(&[V4], json!({})), by_args),
        (node.network(&[V4], args.clone()), "02:00:00:00:00:02"),
        (node.network(&[V4], args).with(runtime), "02:00:00:00:00:03"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut pod = node.pod(&format!("pod{number}"));
        pod.args = format!("IgnoreUnknown=1;K8S_POD_NAME=web;MAC={by_args}");
        let result = node.add(&pod, &network);
        assert_eq!(mac(&pod.namespace, "eth0"), expected);
        assert_eq!(result["interfaces"][2]["mac"], expected);
        node.check(&pod, &network, &result);
        node.del(&pod, &network, &result);
    }
}

fn hairpin_mode(node: &Node) {
    for (id, keys, expected) in [
        ("a", json!({}), false),
        ("b", json!({ "hairpinMode": true }), true),
        ("c", json!({ "hairpinMode": false }), false),
    ] {
        let pod = node.pod(id);
        let network = node.network(&[V4], keys);
        let result = node.add(&pod, &network);
        let port = link(&node.namespace, interface(&result, 1));
        assert_eq!(port["linkinfo"]["info_slave_data"]["hairpin"], expected, "{id}");
        node.check(&pod, &network, &result);
    }
}

fn promiscuous_mode(node: &Node) {
    let pod = node.pod("pod");
    let network = node.network(&[V4], json!({ "promiscMode": true }));
    let result = node.add(&pod, &network);
    assert_eq!(link(&node.namespace, "cni0")["promiscuity"], 1);
    node.check(&pod, &network, &result);
}

fn modes_exclude_each_other(node: &Node) {
    let pod = node.pod("pod");
    let network = node.network(&[V4], json!({ "promiscMode": true, "hairpinMode": true }));
    let said = refused(node, &pod, &network);
    let expected = "cannot set hairpin mode and promiscuous mode at the same time";
    assert!(said.starts_with(expected), "{said}");
    assert!(link(&node.namespace, "cni0").is_null());
}

fn vlan_out_of_range(node: &Node) {
    let pod = node.pod("pod");
    for vlan in [-100, 4095, 5000] {
        let said = refused(node, &pod, &node.network(&[V4], json!({ "vlan": vlan })));
        let expected = format!("invalid VLAN ID {vlan} (must be between 0 and 4094)");
        assert!(said.ends_with(&expected), "{said}");
    }
}

fn spoof_check(node: &Node) {
    let (liar, witness) = (node.pod("liar"), node.pod("witness"));
    let network = node.network(&[V4], json!({ "macspoofchk": true }));
    let [own, _] = [&liar, &witness].map(|pod| ips(&node.add(pod, &network))[0]);
    let _server = Server::start("node", &node.namespace, 8000);
    let gateway = (bare("10.1.2.1"), 8000).into();
    let is_heard = |pod: &Pod| answer(&pod.namespace, Protocol::Udp, gateway).is_some();
    assert!(is_heard(&liar) && is_heard(&witness));
    let honest = mac(&liar.namespace, "eth0");
    let set = |mac: &str| {
        liar.namespace.sh(&format!("ip link set eth0 address {mac}; ip neighbour flush all"));
        node.namespace.sh(&format!("ip neighbour flush to {own}"));
    };
    set("02:00:00:00:00:66");
    assert!(is_silent(&liar.namespace, Protocol::Udp, gateway), "the liar is heard");
    assert!(is_heard(&witness));
    set(&honest);
    assert!(is_heard(&liar));
}

fn spoof_check_ends(node: &Node) {
    let pod = node.pod("podx");
    let network = node.network(&[V4], json!({ "macspoofchk": true }));
    let result = node.add(&pod, &network);
    let of_pod = || node.rules().contains(interface(&result, 1)) || node.rules().contains("podx");
    assert!(of_pod());
    node.del(&pod, &network, &result);
    assert!(!of_pod(), "{}", node.rules());
}

fn quick_ipv6(node: &Node) {
    let pod = node.pod("pod");
    pod.namespace.sh("echo 1 >/proc/sys/net/ipv6/conf/default/accept_dad");
    node.add(&pod, &node.network(&[V4, V6], json!({})));
    for (key, expected) in [("ipv6/conf/eth0/accept_dad", "0"), ("ipv4/conf/eth0/arp_notify", "1")]
    {
        assert_eq!(sysctl(&pod.namespace, &format!("net/{key}")), expected, "{key}");
    }
}

fn port_isolation(node: &Node) {
    let pods = ["a", "b"].map(|id| node.pod(id));
    let network = node.network(&[V4], json!({ "portIsolation": true }));
    let [a, b] = [0, 1].map(|place| ips(&node.add(&pods[place], &network))[0]);
    let gateway = place(&node.namespace, bare("10.1.2.1"));
    assert_reach(&[
        (place(&pods[0].namespace, a), gateway),
        (gateway, place(&pods[1].namespace, b)),
    ]);
    let _server = Server::start("b", &pods[1].namespace, 8000);
    assert!(is_silent(&pods[0].namespace, Protocol::Udp, (b, 8000).into()));
}

fn interface_left_down(node: &Node) {
    let (pod, other) = (node.pod("pod"), node.pod("other"));
    let keys = json!({ "disableContainerInterface": true });
    node.add(&pod, &bare_bridge(keys.clone()));
    assert_eq!(link(&pod.namespace, "eth0")["operstate"], "DOWN");
    let said = refused(node, &other, &node.network(&[V4], keys));
    assert_eq!(said, "cannot use IPAM when DisableContainerInterface flag is set");
}
