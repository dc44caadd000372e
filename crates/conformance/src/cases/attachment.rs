//! What a pod has of its attachment to a network: an interface, addresses, and ways to everybody.

use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use cni::Version;
use serde_json::{Value, json};
use testbed::Namespace;
use testbed::look::{addresses, link, links, routes, sysctl};

use super::MAIN;
use crate::case::{By, Case, Known, case};
use crate::node::{Node, Pod, V4, V6, VERSION, bare, interface, ips, merged};
use crate::traffic::{Place, assert_reach, assert_reach_within, place, whole};

const RESULT: &str = "CNI spec, section 5, Success";
const PROMISES: &str = "Kubernetes, the network model";
const KEYS: &str = "reference, the plugin's page";

const TOO_SOON: &str = "bridge tells of a pod's address before anybody can hear it";

pub(super) const CASES: &[Case] = &[
    case!(
        result_tells_what_is_there,
        MAIN,
        RESULT,
        "the result names the links with their hardware addresses, the pod's with its sandbox"
    ),
    case!(
        addresses_are_the_pods,
        MAIN,
        RESULT,
        "the pod's interface is up and has the addresses of the result, and no others"
    ),
    case!(
        everybody_is_reached,
        MAIN,
        PROMISES,
        "pods and node reach each other in both families, without translation"
    ),
    case!(
        mtu,
        MAIN,
        KEYS,
        "mtu is the size of packets that pass whole, and of none that is larger"
    ),
    case!(forwarding, MAIN, KEYS, "packets of the families in use are forwarded by the node"),
    case!(
        no_advertised_routes_from_a_pod,
        MAIN,
        KEYS,
        "the node takes no routers' advertisements from the pod's cable"
    ),
    case!(
        routes_of_ipam,
        MAIN,
        KEYS,
        "the pod has the routes that IPAM gave, by their own gateway or by the subnet's"
    ),
    case!(
        attributes_of_routes,
        MAIN,
        "CNI spec 1.1.0, section 5, Success",
        "table, priority and scope of a route are the route's"
    )
    .since(Version::V1_1_0),
    case!(
        sizes_of_routes,
        MAIN,
        "CNI spec 1.1.0, section 5, Success",
        "mtu and advmss of a route are the route's"
    )
    .known(&[Known::new(By::Reference, "mtu 1300", "it does not apply mtu and advmss of routes")])
    .since(Version::V1_1_0),
    case!(
        address_moves,
        MAIN,
        KEYS,
        "an address that another pod has now is found by those who knew the first"
    )
    .known(&[Known::new(By::OldReference, "no answer within", TOO_SOON).of("bridge")]),
    case!(
        ipv6_is_switched_on,
        MAIN,
        KEYS,
        "addresses of IPv6 are there though the sandbox was made without it"
    ),
    case!(dns_of_ipam, MAIN, KEYS, "name servers that IPAM gave are in the result").known(&[
        Known::new(By::OldReference, "left: Object {}", "bridge takes no name servers from IPAM")
            .of("bridge"),
    ]),
    case!(
        dns_of_configuration,
        MAIN,
        KEYS,
        "dns of the configuration replaces all of IPAM's, even by an empty list"
    ),
    case!(
        several_networks,
        MAIN,
        KEYS,
        "a pod may have interfaces in several networks, and losing one it keeps the other"
    ),
    case!(
        several_interfaces,
        &["bridge"],
        KEYS,
        "a pod may have several interfaces in one network, and losing one it keeps the other"
    ),
    case!(
        at_once,
        MAIN,
        KEYS,
        "pods that come and go at the same time get different addresses, and reach the node"
    ),
    case!(addresses_by_static, MAIN, KEYS, "addresses may come from static").also(&["static"]),
];

fn result_tells_what_is_there(node: &Node) {
    let pod = node.pod("pod");
    let result = node.add(&pod, &node.network(&[V4, V6], json!({})));
    let interfaces = result["interfaces"].as_array().unwrap();
    let pods = usize::from(node.main() == "bridge") + 1;
    assert_eq!(interfaces.len(), pods + 1, "{result}");
    for (place, told) in interfaces.iter().enumerate() {
        let is_pods = place == pods;
        let space = if is_pods { &pod.namespace } else { &node.namespace };
        let there = link(space, interface(&result, place));
        assert_eq!(told["mac"], there["address"], "{result}");
        let sandbox = told["sandbox"].as_str().unwrap_or_default();
        assert_eq!(sandbox, if is_pods { &pod.netns } else { "" });
    }
    if node.main() == "bridge" {
        assert_eq!(interface(&result, 0), "cni0");
    }
    assert_eq!(interface(&result, pods), "eth0");
    let host = link(&node.namespace, interface(&result, pods - 1));
    assert_eq!(host["ifname"].as_str().unwrap().get(..4), Some("veth"));
    assert_eq!(link(&pod.namespace, "eth0")["link_index"], host["ifindex"]);
    for ip in result["ips"].as_array().unwrap() {
        assert_eq!(ip["interface"], pods, "{result}");
        assert!(ip["gateway"].is_string(), "{result}");
    }
}

fn addresses_are_the_pods(node: &Node) {
    let pod = node.pod("pod");
    let result = node.add(&pod, &node.network(&[V4, V6], json!({})));
    let mut told: Vec<_> =
        (0..2).map(|place| result["ips"][place]["address"].as_str().unwrap()).collect();
    assert_eq!(told, ["10.1.2.2/24", "2001:db8:1::2/64"]);
    told.sort_unstable();
    assert_eq!(addresses(&pod.namespace, "eth0"), told);
    assert_eq!(link(&pod.namespace, "eth0")["operstate"], "UP");
}

/// The places that packets may go between: each pod and the node, in both families.
fn places<'a>(node: &'a Node, pods: &[(&'a Pod, Vec<IpAddr>)]) -> Vec<Place<'a>> {
    let gateways = ["10.1.2.1", "2001:db8:1::1"].map(bare);
    let of_node = gateways.map(|address| place(&node.namespace, address));
    let of_pods = pods.iter().flat_map(|(pod, addresses)| {
        addresses.iter().map(|address| place(&pod.namespace, *address))
    });
    of_node.into_iter().chain(of_pods).collect()
}

fn everybody_is_reached(node: &Node) {
    let pods = ["a", "b", "c"].map(|id| node.pod(id));
    let network = node.network(&[V4, V6], json!({}));
    let attached: Vec<_> = pods.iter().map(|pod| (pod, ips(&node.add(pod, &network)))).collect();
    let places = places(node, &attached);
    let is_pair = |from: &Place<'_>, to: &Place<'_>| {
        from.address != to.address && from.address.is_ipv4() == to.address.is_ipv4()
    };
    let pairs: Vec<_> = places
        .iter()
        .flat_map(|from| places.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| is_pair(from, to))
        .collect();
    assert_reach(&pairs);
}

fn mtu(node: &Node) {
    let pods = ["a", "b"].map(|id| node.pod(id));
    let network = node.network(&[V4, V6], json!({ "mtu": 1400 }));
    let [a, b] = [0, 1].map(|place| ips(&node.add(&pods[place], &network)));
    for (own, other) in a.into_iter().zip(b) {
        let (from, to) = (place(&pods[0].namespace, own), place(&pods[1].namespace, other));
        let answer = whole(from, to, 1400).unwrap_or_else(|failure| panic!("{own}: {failure}"));
        assert_eq!(answer.bytes, 1400);
        whole(from, to, 1401).expect_err("a larger packet passes");
    }
}

fn forwarding(node: &Node) {
    let pod = node.pod("pod");
    let off =
        "echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding";
    node.namespace.sh(off);
    node.add(&pod, &node.network(&[V4, V6], json!({})));
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        assert_eq!(sysctl(&node.namespace, key), "1", "{key}");
    }
}

fn no_advertised_routes_from_a_pod(node: &Node) {
    let pod = node.pod("pod");
    let result = node.add(&pod, &node.network(&[V4], json!({})));
    let place = usize::from(node.main() == "bridge");
    let key = format!("net/ipv6/conf/{}/accept_ra", interface(&result, place));
    assert_eq!(sysctl(&node.namespace, &key), "0");
}

fn routes_of_ipam(node: &Node) {
    let pod = node.pod("pod");
    let keys = json!({
        "isDefaultGateway": false, "isGateway": true,
        "ipam": { "routes": [
            { "dst": "0.0.0.0/0" },
            { "dst": "192.0.2.0/24", "gw": "10.1.2.1" },
            { "dst": "2001:db8:5::/48" },
        ] },
    });
    let keys = if node.main() == "bridge" { keys } else { json!({ "ipam": keys["ipam"] }) };
    let result = node.add(&pod, &node.network(&[V4, V6], keys.clone()));
    assert_eq!(result["routes"], keys["ipam"]["routes"]);
    let there = routes(&pod.namespace, "main");
    for route in [
        "default via 10.1.2.1 dev eth0",
        "192.0.2.0/24 via 10.1.2.1 dev eth0",
        "2001:db8:5::/48 via 2001:db8:1::1 dev eth0",
    ] {
        assert!(there.iter().any(|line| line.starts_with(route)), "{route}: {there:?}");
    }
}

/// What `ip` says of the only route to 192.0.2.0/24 in a table, which a pod has with these members.
fn route_with(node: &Node, id: &str, attributes: &Value, table: &str) -> String {
    let pod = node.pod(id);
    let route = merged(json!({ "dst": "192.0.2.0/24" }), attributes);
    let network = node.network(&[V4], json!({})).version("1.1.0");
    let result = node.add(&pod, &network.with(json!({ "ipam": { "routes": [route] } })));
    let told = result["routes"].as_array().unwrap();
    assert!(told.contains(&route), "{result}");
    let there = routes(&pod.namespace, table);
    let found = there.into_iter().find(|line| line.starts_with("192.0.2.0/24 "));
    found.unwrap_or_else(|| panic!("no route in table {table}: {result}"))
}

fn attributes_of_routes(node: &Node) {
    let far = json!({ "gw": "10.1.2.1", "table": 100, "priority": 50 });
    let route = route_with(node, "far", &far, "100");
    assert!(route.contains("via 10.1.2.1 dev eth0") && route.contains("metric 50"), "{route}");
    // 253 is the scope of what is on the link itself.
    let near = route_with(node, "near", &json!({ "scope": 253 }), "main");
    assert!(near.contains("dev eth0") && near.contains("scope link"), "{near}");
}

fn sizes_of_routes(node: &Node) {
    let sizes = json!({ "gw": "10.1.2.1", "mtu": 1300, "advmss": 1200 });
    let route = route_with(node, "pod", &sizes, "main");
    for size in ["mtu 1300", "advmss 1200"] {
        assert!(route.contains(size), "{size}: {route}");
    }
}

fn address_moves(node: &Node) {
    let (first, second) = (node.pod("first"), node.pod("second"));
    let witness = node.pod("witness");
    let network = node.network(&[V4], json!({}));
    let from = ips(&node.add(&witness, &network))[0];
    let asked = network.with(json!({ "runtimeConfig": { "ips": ["10.1.2.77"] } }));
    let result = node.add(&first, &asked);
    let address = bare("10.1.2.77");
    let knows = |pod: &Pod| {
        let to = place(&pod.namespace, address);
        let gateway = bare("10.1.2.1");
        // Who was not told asks again only after many seconds.
        assert_reach_within(
            Duration::from_secs(1),
            &[(place(&witness.namespace, from), to), (place(&node.namespace, gateway), to)],
        );
    };
    // Probes have those who ask forget whom they did not know before.
    for asker in [&witness.namespace, &node.namespace] {
        greet(asker, address);
    }
    knows(&first);
    node.del(&first, &asked, &result);
    node.add(&second, &asked);
    knows(&second);
}

/// Has a neighbour learned by a packet that nobody waits for.
fn greet(from: &Namespace, to: IpAddr) {
    let send = || UdpSocket::bind("0.0.0.0:0")?.send_to(b"hello", (to, 9));
    from.netns().enter(send).unwrap().unwrap();
}

fn ipv6_is_switched_on(node: &Node) {
    let pod = node.pod("pod");
    pod.namespace
        .sh("for c in all default lo; do echo 1 >/proc/sys/net/ipv6/conf/$c/disable_ipv6; done");
    let result = node.add(&pod, &node.network(&[V4, V6], json!({})));
    let (own, gateway) = (ips(&result)[1], bare("2001:db8:1::1"));
    assert_reach(&[(place(&pod.namespace, own), place(&node.namespace, gateway))]);
}

fn dns_of_ipam(node: &Node) {
    let pod = node.pod("pod");
    let file = node.home.join("resolv.conf");
    std::fs::write(&file, "nameserver 192.0.2.53\nsearch a.example b.example\n").unwrap();
    let keys = json!({ "ipam": { "resolvConf": file } });
    let result = node.add(&pod, &node.network(&[V4], keys));
    let expected = json!({ "nameservers": ["192.0.2.53"], "search": ["a.example", "b.example"] });
    assert_eq!(result["dns"], expected);
}

fn dns_of_configuration(node: &Node) {
    let pod = node.pod("pod");
    let file = node.home.join("resolv.conf");
    std::fs::write(&file, "nameserver 192.0.2.53\nsearch a.example\n").unwrap();
    for (dns, expected) in [
        (json!({ "nameservers": ["192.0.2.54"] }), json!({ "nameservers": ["192.0.2.54"] })),
        (json!({ "search": ["b.example"] }), json!({ "search": ["b.example"] })),
        (json!({ "nameservers": [] }), json!({})),
    ] {
        let keys = json!({ "dns": dns, "ipam": { "resolvConf": file } });
        let network = node.network(&[V4], keys);
        let result = node.add(&pod, &network);
        // Nothing, or an object of nothing: older plugins print the latter.
        let told = if result["dns"].is_null() { json!({}) } else { result["dns"].clone() };
        assert_eq!(told, expected);
        node.del(&pod, &network, &result);
    }
}

fn several_networks(node: &Node) {
    let mut pod = node.pod("pod");
    let first = node.network(&[V4], json!({}));
    // A bridge of its own, and no second default route.
    let keys = json!({ "bridge": "cni1", "isDefaultGateway": false, "isGateway": true });
    let second = node.network(&["10.1.3.0/24"], keys).with(json!({ "ipam": { "routes": [] } }));
    let second = second.named("others");
    let one = node.add(&pod, &first);
    pod.ifname = "net1".to_owned();
    let two = node.add(&pod, &second);
    assert_eq!(links(&pod.namespace), ["lo", "eth0", "net1"]);
    let reach = |own: &Value, gateway: &str| {
        let from = place(&pod.namespace, ips(own)[0]);
        let to = place(&node.namespace, bare(gateway));
        assert_reach(&[(from, to), (to, from)]);
    };
    reach(&one, "10.1.2.1");
    reach(&two, "10.1.3.1");
    node.del(&pod, &second, &two);
    reach(&one, "10.1.2.1");
    assert_eq!(links(&pod.namespace), ["lo", "eth0"]);
}

fn several_interfaces(node: &Node) {
    let mut pod = node.pod("pod");
    let network = node.network(&[V4], json!({}));
    let keys = json!({ "isDefaultGateway": false, "ipam": { "routes": [] } });
    let more = network.clone().with(keys);
    let one = node.add(&pod, &network);
    pod.ifname = "eth1".to_owned();
    let two = node.add(&pod, &more);
    assert_ne!(ips(&one), ips(&two));
    assert_eq!(node.reservations().len(), 2);
    node.del(&pod, &more, &two);
    assert_eq!(node.reservations().len(), 1);
    let from = place(&pod.namespace, ips(&one)[0]);
    let to = place(&node.namespace, bare("10.1.2.1"));
    assert_reach(&[(from, to), (to, from)]);
}

fn at_once(node: &Node) {
    let pods: Vec<_> = (0..6).map(|number| node.pod(&format!("pod{number}"))).collect();
    let network = node.network(&[V4], json!({}));
    let add = |pod: &Pod| ips(&node.add(pod, &network))[0];
    let each = |work: &(dyn Fn(&Pod) -> IpAddr + Sync)| -> Vec<IpAddr> {
        thread::scope(|scope| {
            let started: Vec<_> = pods.iter().map(|pod| scope.spawn(|| work(pod))).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    let mut given = each(&add);
    let gateway = place(&node.namespace, bare("10.1.2.1"));
    let pairs: Vec<_> = pods
        .iter()
        .zip(&given)
        .map(|(pod, address)| (place(&pod.namespace, *address), gateway))
        .collect();
    assert_reach(&pairs);
    given.sort();
    given.dedup();
    assert_eq!(given.len(), pods.len());
    each(&|pod| {
        node.del(pod, &network, &Value::Null);
        bare("10.1.2.1")
    });
    assert!(node.reservations().is_empty());
}

fn addresses_by_static(node: &Node) {
    let pods = ["a", "b"].map(|id| node.pod(id));
    let attached: Vec<_> = ["10.1.2.77", "10.1.2.78"]
        .iter()
        .zip(&pods)
        .map(|(address, pod)| {
            let ipam = json!({
                "type": "static",
                "addresses": [{ "address": format!("{address}/24"), "gateway": "10.1.2.1" }],
                "routes": [{ "dst": "0.0.0.0/0" }],
            });
            let main = json!({ "type": node.main(), "isGateway": true, "ipam": ipam });
            let network = crate::node::Network::of(vec![main]);
            let result = node.add(pod, &network);
            assert_eq!(result["cniVersion"], VERSION);
            node.check(pod, &network, &result);
            place(&pod.namespace, ips(&result)[0])
        })
        .collect();
    let gateway = place(&node.namespace, bare("10.1.2.1"));
    assert_eq!(attached[1].address, bare("10.1.2.78"));
    assert_reach(&[(attached[0], attached[1]), (attached[1], gateway), (gateway, attached[0])]);
}
