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
                for plugin in CABLED {
                    lifecycle(plugin, $version, By::$by, subnets);
                }
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

fn lifecycle(plugin: &str, version: &str, by: By, subnets: &[&str]) {
    let node = Node::new(by);
    let (one, two) = (node.pod("one"), node.pod("two"));
    let before = [&node.namespace, &one.namespace, &two.namespace].map(testbed::state);
    let untouched = node.remains("cni0");
    let mut asked = config_routes(subnets);
    if plugin == "ptp" {
        // `bridge` adds them by itself.
        asked.extend(default_routes(subnets));
    }
    let keys = json!({
        "dns": { "nameservers": ["192.0.2.53"], "search": ["example.org"] },
        "ipam": { "routes": asked },
    });
    let config = node.routed(plugin, version, subnets, keys);

    let answer = node.run(&node.call("ADD", &one, &config));
    let text = answer.stdout.clone();
    let result = answer.ok();
    assert_result(&node, plugin, version, subnets, &one, &result);
    if by == By::Podwire {
        assert!(!text.ends_with('\n') && text.contains("\n    \""), "{text}");
    }
    assert_wired(&node, plugin, subnets, &one);

    let second = node.add(&two, &config);
    assert_reachable(&node, subnets, (&one, &result), (&two, &second));

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
    assert_eq!(host_ends(&node.namespace).len(), 1);
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
fn assert_result(
    node: &Node,
    plugin: &str,
    version: &str,
    subnets: &[&str],
    pod: &Pod,
    result: &Value,
) {
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
        let host = host_ends(&node.namespace).remove(0);
        let listed = |name: &str, mac: Value| {
            if is_new {
                json!({ "mac": mac, "name": name })
            } else {
                json!({ "name": name, "mac": mac })
            }
        };
        let mut interfaces = vec![
            listed("cni0", mac(&node.namespace, "cni0")),
            listed(&host, mac(&node.namespace, &host)),
            listed("eth0", mac(&pod.namespace, "eth0")),
        ];
        interfaces[2]["sandbox"] = pod.netns().into();
        if plugin == "ptp" {
            interfaces.remove(0);
        }
        let place = interfaces.len() - 1;
        let ip = |(subnet, address): (&&str, &String)| {
            let gateway = bare(&first_host(subnet));
            let family = if subnet.contains('.') { "4" } else { "6" };
            if is_new {
                json!({ "address": address, "gateway": gateway, "interface": place })
            } else {
                json!({ "version": family, "interface": place, "address": address, "gateway": gateway })
            }
        };
        let ips: Vec<_> = subnets.iter().zip(&addresses).map(ip).collect();
        let mut all = config_routes(subnets);
        all.extend(default_routes(subnets));
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

/// A default route of each family by the first gateway.
fn default_routes(subnets: &[&str]) -> Vec<Value> {
    let first = |v4: bool| Some((v4, *subnets.iter().find(|it| it.contains('.') == v4)?));
    let families = [true, false].into_iter().filter_map(first);
    let route = |(v4, subnet)| json!({ "dst": everywhere(v4), "gw": bare(&first_host(subnet)) });
    families.map(route).collect()
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
fn assert_wired(node: &Node, plugin: &str, subnets: &[&str], pod: &Pod) {
    let host = &host_ends(&node.namespace)[0];
    let bridge = link(&node.namespace, "cni0");
    let mut gateways: Vec<_> = subnets.iter().map(|subnet| first_host(subnet)).collect();
    gateways.sort();
    if plugin == "bridge" {
        assert_eq!(links(&node.namespace).len(), 3, "lo, bridge and one cable");
        assert_eq!(bridge["linkinfo"]["info_kind"], "bridge");
        assert!(bridge["flags"].as_array().unwrap().contains(&"UP".into()), "{bridge}");
        assert_eq!(addresses(&node.namespace, "cni0"), gateways);
        assert_eq!(ports(&node.namespace, "cni0"), std::slice::from_ref(host));
    } else {
        assert_eq!(links(&node.namespace).len(), 2, "lo and one cable");
        let single = |ip: IpAddr| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 });
        let gateways: Vec<_> = gateways.iter().map(|it| single(bare(it))).collect();
        assert_eq!(addresses(&node.namespace, host), gateways);
        let route = |own: &String| match bare(own) {
            IpAddr::V4(ip) => format!("{ip} dev {host} scope host"),
            IpAddr::V6(ip) => format!("{ip} dev {host} metric 1024 pref medium"),
        };
        let mut expected: Vec<_> = addresses_of(node, pod).iter().map(route).collect();
        expected.sort();
        assert_eq!(routes_without_protocol(&node.namespace), expected);
    }
    let is_up = || {
        let eth0 = link(&pod.namespace, "eth0");
        assert_eq!(eth0["linkinfo"]["info_kind"], "veth");
        assert_eq!(eth0["link_index"], link(&node.namespace, host)["ifindex"]);
        (eth0["operstate"] == "UP").then_some(())
    };
    match node.by {
        By::Podwire => is_up().unwrap(),
        // It does not wait, and the kernel may take a second to notice.
        By::Reference => eventually("the pod's end is up", is_up),
    }

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
    if plugin == "ptp" {
        for own in &own {
            let (ip, end) = match bare(own) {
                IpAddr::V4(ip) => (ip.to_string(), ""),
                IpAddr::V6(ip) => (ip.to_string(), " metric 1024 pref medium"),
            };
            let subnet = subnets.iter().find(|it| is_near(bare(it), bare(own))).unwrap();
            let gateway = bare(&first_host(subnet));
            let scope = if gateway.is_ipv4() { " scope link" } else { "" };
            expected.push(format!("{gateway} dev eth0{scope} src {ip}{end}"));
            expected.push(format!("{subnet} via {gateway} dev eth0 src {ip}{end}"));
        }
        // Its subnet is not on the link.
        let told = pod.namespace.sh("ip route; ip -6 route");
        let connected = told.lines().filter(|line| line.contains("proto kernel"));
        assert_eq!(connected.filter(|line| !line.starts_with("fe80::")).count(), 0, "{told}");
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
        let tells = sysctl(&pod.namespace, "net/ipv4/conf/eth0/arp_notify");
        assert_eq!(tells == "1", plugin == "bridge");
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
fn assert_reachable(node: &Node, subnets: &[&str], one: (&Pod, &Value), two: (&Pod, &Value)) {
    let (a, b, host) = (one.0.namespace.netns(), two.0.namespace.netns(), node.namespace.netns());
    for (ip_a, ip_b) in ips(one.1).iter().zip(&ips(two.1)) {
        let (ip_a, ip_b) = (bare(ip_a), bare(ip_b));
        let mut gateways = subnets.iter().map(|subnet| bare(&first_host(subnet)));
        let gateway = gateways.find(|it| is_near(*it, ip_a)).unwrap();
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
