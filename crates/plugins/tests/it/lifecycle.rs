//! ADD, CHECK, DEL and DEL again, for every version of the specification and every mix of address
//! families: what is printed, what is there, what packets see, and that nothing stays.
//!
//! The same test runs with the reference's plugins as far as they know the version.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use testbed::Namespace;

use crate::harness::*;

const V4: &str = "10.1.2.0/24";
const V6: &str = "2001:db8:1::/64";
const MORE_V6: &str = "2001:db8:2::/64";

/// IPv4, IPv6, both, and three subnets.
const FAMILIES: [&[&str]; 4] = [&[V4], &[V6], &[V4, V6], &[V4, V6, MORE_V6]];

fn first_host(subnet: &str) -> String {
    let (network, length) = subnet.split_once('/').unwrap();
    let host = if network.ends_with("::") { format!("{network}1") } else { "10.1.2.1".to_owned() };
    format!("{host}/{length}")
}

fn is_old(version: &str) -> bool {
    matches!(version, "0.1.0" | "0.2.0")
}

/// Before 0.3.0 a result has one address of a family.
fn is_expressible(version: &str, subnets: &[&str]) -> bool {
    !is_old(version) || subnets.len() < 3
}

macro_rules! lifecycle {
    ($($name:ident: $version:literal $by:ident;)*) => {$(
        #[test]
        fn $name() {
            testbed::isolated!();
            for subnets in FAMILIES.into_iter().filter(|all| is_expressible($version, all)) {
                lifecycle($version, By::$by, subnets);
            }
        }
    )*};
}

lifecycle! {
    a_pod_comes_and_goes_in_version_0_1_0: "0.1.0" Podwire;
    a_pod_comes_and_goes_in_version_0_2_0: "0.2.0" Podwire;
    a_pod_comes_and_goes_in_version_0_3_0: "0.3.0" Podwire;
    a_pod_comes_and_goes_in_version_0_3_1: "0.3.1" Podwire;
    a_pod_comes_and_goes_in_version_0_4_0: "0.4.0" Podwire;
    a_pod_comes_and_goes_in_version_1_0_0: "1.0.0" Podwire;
    a_pod_comes_and_goes_in_version_1_1_0: "1.1.0" Podwire;
    the_reference_does_so_in_version_0_1_0: "0.1.0" Reference;
    the_reference_does_so_in_version_0_3_1: "0.3.1" Reference;
    the_reference_does_so_in_version_0_4_0: "0.4.0" Reference;
    the_reference_does_so_in_version_1_0_0: "1.0.0" Reference;
}

fn lifecycle(version: &str, by: By, subnets: &[&str]) {
    let node = Node::new(by);
    let (one, two) = (node.pod("one"), node.pod("two"));
    let before = [&node.namespace, &one.namespace, &two.namespace].map(testbed::state);
    let untouched = node.remains("cni0");
    let keys = json!({
        "isDefaultGateway": true,
        "dns": { "nameservers": ["192.0.2.53"], "search": ["example.org"] },
        "ipam": { "routes": config_routes(subnets) },
    });
    let config = node.network(version, subnets, keys);

    let answer = node.run(&node.call("ADD", &one, &config));
    let text = answer.stdout.clone();
    let result = answer.ok();
    assert_result(&node, version, subnets, &one, &result);
    if by == By::Podwire {
        assert!(!text.ends_with('\n') && text.contains("\n    \""), "{text}");
    }
    assert_wired(&node, subnets, &one);

    let second = node.add(&two, &config);
    assert_reachable(&node, (&one, &result), (&two, &second));

    if is_old(version) || version.starts_with("0.3") {
        let refused = node.run(&node.call("CHECK", &one, &after(&config, &result))).refused();
        assert_eq!(refused.said(), (1, "config version does not allow CHECK"));
    } else {
        node.check(&one, &config, &result);
        node.check(&two, &config, &second);
    }

    for _ in 0..2 {
        // A runtime gives the result back if the version has prevResult, and may have lost it.
        let config = if is_old(version) { config.clone() } else { after(&config, &result) };
        node.del(&one, &config);
        assert_eq!(links(&one.namespace), ["lo"]);
    }
    assert_eq!(ports(&node.namespace, "cni0").len(), 1);
    assert!(node.reservations().values().all(|holder| holder == "two\r\neth0"));
    for _ in 0..2 {
        node.del(&two, &config);
    }
    assert_eq!(node.reservations(), Default::default());
    testbed::assert_same_state(&untouched, &node.remains("cni0"));
    // IPv6 forwarding and what is on for all stays on for all.
    for (space, before) in [&one.namespace, &two.namespace].into_iter().zip(&before[1..]) {
        testbed::assert_same_state(before, &testbed::state(space));
    }
}

/// The result is, key by key and in this order, what the specification's version says.
fn assert_result(node: &Node, version: &str, subnets: &[&str], pod: &Pod, result: &Value) {
    let ours = node.by == By::Podwire;
    let addresses = addresses_of(node, pod);
    let dns = json!({ "nameservers": ["192.0.2.53"], "search": ["example.org"] });
    let expected = if is_old(version) {
        let mut expected = Map::from_iter([("cniVersion".to_owned(), version.into())]);
        for (subnet, address) in subnets.iter().zip(&addresses) {
            let (family, v4) = if subnet.contains('.') { ("ip4", true) } else { ("ip6", false) };
            let gateway = bare(&first_host(subnet));
            let mut routes = config_routes(subnets);
            routes.push(json!({ "dst": everywhere(v4), "gw": gateway }));
            routes.retain(|route| route["dst"].as_str().unwrap().contains('.') == v4);
            let family_part = json!({ "ip": address, "gateway": gateway, "routes": routes });
            expected.insert(family.into(), family_part);
        }
        expected.insert("dns".into(), dns);
        Value::Object(expected)
    } else {
        let is_new = version.starts_with('1');
        let mac = |space: &Namespace, name: &str| link(space, name)["address"].clone();
        let host = ports(&node.namespace, "cni0").remove(0);
        let host_mac = mac(&node.namespace, &host);
        let (bridge_mac, pod_mac) = (mac(&node.namespace, "cni0"), mac(&pod.namespace, "eth0"));
        let interfaces = if is_new {
            json!([
                { "mac": bridge_mac, "name": "cni0" },
                { "mac": host_mac, "name": host },
                { "mac": pod_mac, "name": "eth0", "sandbox": pod.netns() },
            ])
        } else {
            json!([
                { "name": "cni0", "mac": bridge_mac },
                { "name": host, "mac": host_mac },
                { "name": "eth0", "mac": pod_mac, "sandbox": pod.netns() },
            ])
        };
        let ip = |(subnet, address): (&&str, &String)| {
            let gateway = bare(&first_host(subnet));
            let family = if subnet.contains('.') { "4" } else { "6" };
            if is_new {
                json!({ "address": address, "gateway": gateway, "interface": 2 })
            } else {
                json!({ "version": family, "interface": 2, "address": address, "gateway": gateway })
            }
        };
        let ips: Vec<_> = subnets.iter().zip(&addresses).map(ip).collect();
        let mut all = config_routes(subnets);
        for v4 in [true, false] {
            let Some(subnet) = subnets.iter().find(|it| it.contains('.') == v4) else { continue };
            all.push(json!({ "dst": everywhere(v4), "gw": bare(&first_host(subnet)) }));
        }
        if is_new {
            json!({ "cniVersion": version, "dns": dns, "interfaces": interfaces, "ips": ips, "routes": all })
        } else {
            json!({ "cniVersion": version, "interfaces": interfaces, "ips": ips, "routes": all, "dns": dns })
        }
    };
    if ours {
        assert_eq!(result.to_string(), expected.to_string());
    } else {
        // The order of keys is that of the reference's structures in 1.1.1.
        assert_eq!(*result, expected);
    }
}

/// The routes that the configuration asks for: one of each family.
fn config_routes(subnets: &[&str]) -> Vec<Value> {
    let families = [(V4, "192.0.2.0/24"), (V6, "2001:db8:f::/48")].into_iter();
    families
        .filter(|(subnet, _)| subnets.contains(subnet))
        .map(|(subnet, dst)| json!({ "dst": dst, "gw": bare(&first_host(subnet)) }))
        .collect()
}

fn everywhere(v4: bool) -> &'static str {
    if v4 { "0.0.0.0/0" } else { "::/0" }
}

/// The addresses that are reserved for the pod, IPv4 first, with the length of their subnets.
fn addresses_of(node: &Node, pod: &Pod) -> Vec<String> {
    let holder = format!("{}\r\neth0", pod.id);
    let own = node.reservations().into_iter().filter(|(_, text)| *text == holder);
    let mut own: Vec<IpAddr> = own.map(|(name, _)| name.parse().unwrap()).collect();
    own.sort();
    own.iter().map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 24 } else { 64 })).collect()
}

/// Interfaces, addresses, routes and settings are as they should be.
fn assert_wired(node: &Node, subnets: &[&str], pod: &Pod) {
    let bridge = link(&node.namespace, "cni0");
    assert_eq!(bridge["linkinfo"]["info_kind"], "bridge");
    assert!(bridge["flags"].as_array().unwrap().contains(&"UP".into()), "{bridge}");
    let mut gateways: Vec<_> = subnets.iter().map(|subnet| first_host(subnet)).collect();
    gateways.sort();
    assert_eq!(addresses(&node.namespace, "cni0"), gateways);

    let host = ports(&node.namespace, "cni0");
    assert_eq!(host.len(), 1);
    assert_eq!(links(&node.namespace).len(), 3, "lo, bridge and one cable");
    let host = &host[0];
    let eth0 = link(&pod.namespace, "eth0");
    assert_eq!(
        (&eth0["operstate"], &eth0["linkinfo"]["info_kind"]),
        (&"UP".into(), &"veth".into())
    );
    assert_eq!(eth0["link_index"], link(&node.namespace, host)["ifindex"]);

    let mut own = addresses_of(node, pod);
    own.sort();
    assert_eq!(addresses(&pod.namespace, "eth0"), own);
    let mut expected = Vec::new();
    for v4 in [true, false] {
        let Some(subnet) = subnets.iter().find(|subnet| subnet.contains('.') == v4) else {
            continue;
        };
        let gateway = bare(&first_host(subnet));
        for dst in ["default", if v4 { "192.0.2.0/24" } else { "2001:db8:f::/48" }] {
            let end = if v4 { "" } else { " metric 1024 pref medium" };
            expected.push(format!("{dst} via {gateway} dev eth0{end}"));
        }
    }
    expected.sort();
    assert_eq!(routes_without_protocol(&pod.namespace), expected);

    let has = |v4: bool| subnets.iter().any(|subnet| subnet.contains('.') == v4);
    let on = |key: &str| sysctl(&node.namespace, key) == "1";
    assert!(!has(true) || on("net/ipv4/ip_forward"));
    assert!(!has(false) || on("net/ipv6/conf/all/forwarding"));
    assert_eq!(sysctl(&node.namespace, &format!("net/ipv6/conf/{host}/accept_ra")), "0");
    if node.by == By::Podwire {
        // The reference does so after 1.1.1.
        assert_eq!(sysctl(&pod.namespace, "net/ipv4/conf/eth0/arp_notify"), "1");
        assert_eq!(sysctl(&pod.namespace, "net/ipv6/conf/eth0/accept_dad"), "0");
        let keeps = sysctl(&pod.namespace, "net/ipv6/conf/eth0/keep_addr_on_down");
        assert_eq!(keeps == "1", has(false));
    }
    if has(false) {
        assert_eq!(sysctl(&pod.namespace, "net/ipv6/conf/eth0/disable_ipv6"), "0");
    }
}

/// The protocol of a route is the one of `ip` itself, which it does not print.
fn routes_without_protocol(space: &Namespace) -> Vec<String> {
    let mut all = crate::harness::routes(space, "main");
    for line in &mut all {
        *line = line.replace(" proto boot", "");
    }
    all
}

/// Packets go both ways between both pods and the node, with the sender's own address.
fn assert_reachable(node: &Node, one: (&Pod, &Value), two: (&Pod, &Value)) {
    let (a, b, host) = (one.0.namespace.netns(), two.0.namespace.netns(), node.namespace.netns());
    for (ip_a, ip_b) in ips(one.1).iter().zip(&ips(two.1)) {
        let (ip_a, ip_b) = (bare(ip_a), bare(ip_b));
        let gateways = addresses(&node.namespace, "cni0");
        let mut gateways = gateways.iter().map(|it| bare(it));
        let near = |it: &IpAddr| is_near(*it, ip_a);
        let gateway = gateways.find(near).unwrap();
        for (from, to, address, source) in [
            (a, b, ip_b, ip_a),
            (b, a, ip_a, ip_b),
            (host, a, ip_a, gateway),
            (a, host, gateway, ip_a),
        ] {
            assert_eq!(source_seen(from, to, address), Some(source), "to {address}");
        }
    }
}

/// Whether two addresses are of one of the subnets here.
fn is_near(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(_), IpAddr::V4(_)) => true,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.segments()[..4] == other.segments()[..4],
        _ => false,
    }
}

#[test]
fn a_result_of_an_old_version_has_no_place_for_a_third_subnet() {
    testbed::isolated!();
    for by in [By::Podwire, By::Reference] {
        let node = Node::new(by);
        let pod = node.pod("one");
        let before = node.remains("cni0");
        for version in ["0.1.0", "0.2.0"] {
            let config = node.network(version, &[V4, V6, MORE_V6], json!({}));
            let text =
                format!("CNI version {version} does not support more than 1 address per family");
            let refused = node.run(&node.call("ADD", &pod, &config)).refused();
            assert_eq!(refused.said(), (999, text.as_str()));
            let del = node.run(&node.call("DEL", &pod, &config));
            match by {
                // Nothing keeps a pod from going.
                By::Podwire => assert!(del.is_ok()),
                By::Reference => assert_eq!(del.refused().said(), (999, text.as_str())),
            }
            // The reference leaves the cable.
            if by == By::Podwire {
                testbed::assert_same_state(&before, &node.remains("cni0"));
                assert_eq!(links(&pod.namespace), ["lo"]);
            }
        }
    }
}

#[test]
fn loopback_is_up_while_the_pod_lives() {
    testbed::isolated!();
    for (by, versions) in [
        (By::Podwire, &cni::Version::ALL[..]),
        (By::Reference, &cni::Version::ALL[..cni::Version::ALL.len() - 1]),
    ] {
        let node = Node::new(by);
        let pod = node.pod("one");
        for version in versions {
            let version = version.as_str();
            pod.namespace.sh("ip link set lo down");
            let config = json!({ "cniVersion": version, "name": "lo", "type": "loopback" });
            let result = node.add(&pod, &config);
            let is_up =
                || link(&pod.namespace, "lo")["flags"].as_array().unwrap().contains(&"UP".into());
            assert!(is_up());
            assert_eq!(result["cniVersion"], version);
            assert_eq!(ips(&result), ["127.0.0.1/8", "::1/128"], "{by:?} {version}");
            if !is_old(version) {
                let lo =
                    json!({ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": pod.netns() });
                assert_eq!(result["interfaces"], json!([lo]));
                assert_eq!(result["ips"][1]["interface"], 0);
                // In a chain the result before is passed on.
                let passed =
                    node.add(&pod, &after(&config, &json!({ "cniVersion": version, "ips": [] })));
                assert!(ips(&passed).is_empty() && passed["interfaces"].is_null(), "{passed}");
            }
            let can_check = !is_old(version) && !version.starts_with("0.3");
            if can_check {
                node.check(&pod, &config, &result);
            }
            for _ in 0..2 {
                node.del(&pod, &config);
                assert!(!is_up());
            }
            if can_check {
                let refused = node.run(&node.call("CHECK", &pod, &config)).refused();
                assert_eq!(refused.said(), (999, "loopback interface is down"));
            }
            let gone = node.call("DEL", &pod, &config).with("CNI_NETNS", "/run/netns/gone");
            assert!(node.run(&gone).is_ok() && node.run(&gone.without("CNI_NETNS")).is_ok());
        }
        pod.namespace.sh("ip address add 192.0.2.1/32 dev lo; ip link set lo down");
        let config = json!({ "cniVersion": "1.0.0", "name": "lo", "type": "loopback" });
        let refused = node.run(&node.call("ADD", &pod, &config)).refused();
        let text = "loopback interface found with non-loopback address \"192.0.2.1\"";
        assert_eq!(refused.said(), (999, text));
    }
}
