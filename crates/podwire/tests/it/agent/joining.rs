//! Nodes that are joined: the three promises, with packets, by every backend and family.

use std::net::IpAddr;

use testbed::Namespace;
use testbed::look::{eventually, is_lost, source_seen};

use super::cluster::{Cluster, DUAL, Families, V4, V6};

/// From whom `to` sees what `from` sends to `address`.
fn seen(from: &Namespace, to: &Namespace, address: &str) -> Option<IpAddr> {
    source_seen(from.netns(), to.netns(), address.parse().unwrap())
}

#[track_caller]
fn assert_joined(cluster: &Cluster, v6: bool, through_tunnel: bool) {
    let pod = |n| if v6 { format!("fd00:10:244:{n}::2") } else { format!("10.244.{n}.2") };
    let node = |n| if v6 { format!("2001:db8::{n}") } else { format!("192.0.2.{n}") };
    let inner = |n| if v6 { format!("fd00:10:244:{n}::") } else { format!("10.244.{n}.0") };
    let gateway = if v6 { "fd00:10:244:1::1" } else { "10.244.1.1" };
    let [first, .., last] = &cluster.nodes[..] else { panic!("too few nodes") };
    let m = last.number;
    let is = |address: String| Some(address.parse::<IpAddr>().unwrap());
    assert_eq!(seen(&first.pod, &last.pod, &pod(m)), is(pod(1)), "pod to pod");
    assert_eq!(seen(&last.pod, &first.pod, &pod(1)), is(pod(m)), "pod to pod, back");
    assert_eq!(seen(&first.pod, &last.space, &node(m)), is(pod(1)), "pod to remote node");
    assert_eq!(seen(&first.pod, &first.space, gateway), is(pod(1)), "pod to its own node");
    let source = if through_tunnel { inner(1) } else { node(1) };
    assert_eq!(seen(&first.space, &last.pod, &pod(m)), is(source), "node to remote pod");
}

fn join(settings: &str, families: Families, plain: bool) {
    let cluster = Cluster::new(3, settings, families);
    let cluster = if plain { cluster.let_through() } else { cluster };
    cluster.join();
    if families.v4 {
        assert_joined(&cluster, false, !plain);
    }
    if families.v6 {
        assert_joined(&cluster, true, !plain);
    }
    // Once more changes nothing.
    for node in &cluster.nodes {
        let told = node.podwire("--dry-run").expect(0);
        assert_eq!(told.stdout, "Everything is as it should be.\n");
    }
    for node in &cluster.nodes {
        node.podwire("--cleanup").expect(0);
        let left = node
            .space
            .sh("ip -o link show type vxlan; nft list tables; ip route show table all proto 112
            ip -6 route show table all proto 112; (ip rule; ip -6 rule) | grep 112 || true");
        assert_eq!(left, "", "of n{}", node.number);
    }
}

macro_rules! joining {
    ($($name:ident: $settings:literal, $families:expr, $plain:literal;)*) => {
        $(#[test]
        fn $name() {
            testbed::isolated!();
            join($settings, $families, $plain);
        })*
    };
}

joining! {
    vxlan_v4: "backend: vxlan", V4, false;
    vxlan_v6: "backend: vxlan", V6, false;
    vxlan_dual: "backend: vxlan", DUAL, false;
    classic_v4: "tunnel: {form: classic}", V4, false;
    classic_v6: "tunnel: {form: classic}", V6, false;
    classic_dual: "tunnel: {form: classic}", DUAL, false;
    gpe_v4: "backend: gpe", V4, false;
    gpe_v6: "backend: gpe", V6, false;
    gpe_dual: "backend: gpe", DUAL, false;
    host_gw_v4: "backend: host-gw", V4, true;
    host_gw_v6: "backend: host-gw", V6, true;
    host_gw_dual: "backend: host-gw", DUAL, true;
    flannels_device: "tunnel: {form: classic, device: flannel.1}", DUAL, false;
}

#[test]
fn both_forms_of_vxlan_speak_with_each_other() {
    testbed::isolated!();
    let cluster = Cluster::new(2, "backend: vxlan", DUAL);
    cluster.nodes[0].podwire("--once").expect(0);
    let config = cluster.directory.path().join("n2.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + "tunnel: {form: classic, device: flannel.1}\n").unwrap();
    cluster.nodes[1].podwire("--once").expect(0);
    assert_joined(&cluster, false, true);
    assert_joined(&cluster, true, true);
}

#[test]
fn what_leaves_the_cluster_has_the_nodes_address() {
    testbed::isolated!();
    let cluster = Cluster::new(2, "masquerade: {except: [198.51.100.2/32]}", V4);
    let outside = Namespace::new("outside");
    outside.sh("ip link add eth0 type veth peer name port9 netns switch
        ip -n switch link set port9 master br0 up
        ip link set eth0 up; ip address add 192.0.2.254/24 dev eth0
        ip address add 198.51.100.1/32 dev lo; ip address add 198.51.100.2/32 dev lo
        ip route add 10.244.1.0/24 via 192.0.2.1");
    cluster.switch.sh("nft delete table bridge underlay");
    cluster.join();
    let pod = &cluster.nodes[0].pod;
    let source = |address: &str| seen(pod, &outside, address).map(|it| it.to_string());
    assert_eq!(source("198.51.100.1").as_deref(), Some("192.0.2.1"));
    assert_eq!(source("198.51.100.2").as_deref(), Some("10.244.1.2"));
}

#[test]
fn a_tunnel_takes_packets_of_peers_only() {
    testbed::isolated!();
    let cluster = Cluster::new(3, "backend: vxlan", V4);
    cluster.join();
    // A node that was taken out, and does not know it.
    cluster.list([1, 2]);
    for node in &cluster.nodes[..2] {
        node.podwire("--once").expect(0);
    }
    let [third, first] = [2, 0].map(|n: usize| cluster.nodes[n].pod.netns());
    assert!(is_lost(third, first, "10.244.1.2".parse().unwrap()));
    assert_joined(
        &Cluster { nodes: cluster.nodes.into_iter().take(2).collect(), ..cluster },
        false,
        true,
    );
}

#[test]
fn the_conflist_says_what_runtimes_need_when_the_network_stands() {
    testbed::isolated!();
    let cluster = Cluster::new(2, "backend: vxlan", DUAL);
    let directory = cluster.directory.path().join("n1");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    assert_eq!(read("net.d/10-podwire.conflist"), "");
    cluster.nodes[0].podwire("--once").expect(0);
    let list: serde_json::Value = serde_json::from_str(&read("net.d/10-podwire.conflist")).unwrap();
    let bridge = &list["plugins"][0];
    assert_eq!((&bridge["mtu"], &bridge["ipMasq"]), (&1430.into(), &false.into()));
    assert_eq!(bridge["ipam"]["ranges"][0][0]["subnet"], "10.244.1.0/24");
    assert_eq!(
        read("subnet.env"),
        "FLANNEL_NETWORK=10.244.1.0/24\nFLANNEL_SUBNET=10.244.1.1/24\n\
         FLANNEL_IPV6_NETWORK=fd00:10:244:1::/64\nFLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64\n\
         FLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n"
    );
    // Not listed: the network does not stand for new pods, and works for those that are there.
    cluster.list([2]);
    let told = cluster.nodes[0].podwire("--once").expect(1);
    assert!(told.stdout.contains("this node, n1, is not among"), "{}", told.stdout);
    assert_eq!(read("net.d/10-podwire.conflist"), "");
    assert_joined(
        &{
            cluster.nodes[1].podwire("--once");
            cluster.list([1, 2]);
            cluster.join();
            cluster
        },
        false,
        true,
    );
    eventually("it is back", || Some(()));
}

#[test]
fn every_change_says_why() {
    testbed::isolated!();
    let cluster = Cluster::new(2, "tunnel: {form: classic}", V4);
    let node = &cluster.nodes[0];
    // The sentences of what would be done, but for settings, which a machine may have already.
    let sentences = || {
        let script = node.podwire("--dry-run -o sh").expect(0).stdout;
        let lines = script.lines().filter_map(|line| line.strip_prefix("# "));
        lines.filter(|line| !line.starts_with("a node forwards")).map(str::to_owned).collect()
    };
    let first: Vec<String> = sentences();
    for expected in [
        "the tunnel device podwire0 is missing",
        "this node's own address in the tunnel is missing",
        "the rule by which pods reach other nodes through the tunnel is missing",
        "the chain tunnel_in of the agent's table is missing",
        "the entry of n2 in the set nodes4 is missing",
        "the hardware address of the tunnel end of n2 is missing",
        "the way to the tunnel end of n2 is missing",
        "the route to the pods of n2 is missing",
        "the route by which pods reach n2 itself is missing",
    ] {
        assert!(first.iter().any(|line| line == expected), "{expected}: {first:#?}");
    }
    cluster.join();
    let after = |script: &str| -> Vec<String> {
        node.space.sh(script);
        let told = sentences();
        node.podwire("--once").expect(0);
        told
    };
    let missing = after("ip route delete 10.244.2.0/24");
    assert_eq!(missing, ["the route to the pods of n2 is missing"]);
    let differs = after("ip link set podwire0 mtu 600");
    assert_eq!(differs, ["the tunnel device podwire0 is not as it should be"]);
    cluster.list([1]);
    let stale = "the route to the pods of the node at 10.244.2.0 is no longer wanted";
    assert!(sentences().iter().any(|line| line == stale), "{:?}", sentences());
}

#[test]
fn peers_that_host_gw_cannot_reach_are_named_or_tunnelled() {
    testbed::isolated!();
    for (settings, code) in [("backend: host-gw", 1), ("backend: host-gw\nfallback: vxlan", 0)] {
        let cluster = Cluster::new(2, settings, V4);
        let far = cluster.entry(1).replace("192.0.2.1", "203.0.113.7").replace("n1", "n3");
        let far = far.replace("10.244.1.", "10.244.3.");
        let text = format!("nodes: [{}, {}, {far}]", cluster.entry(1), cluster.entry(2));
        cluster.write(&text);
        let told = cluster.nodes[0].podwire("--once").expect(code).stdout;
        let named = told.contains("node n3: 203.0.113.7 is not on the link of eth0");
        assert_eq!(named, code == 1, "{told}");
        let route = cluster.nodes[0].space.sh("ip route get 10.244.3.2 from 192.0.2.1");
        assert_eq!(route.contains("podwire0"), code == 0, "{route}");
    }
}

/// IPv4 pods on a node that the others know by an IPv6 address only.
#[test]
fn gpe_takes_the_family_that_a_peer_has() {
    testbed::isolated!();
    let mut cluster = Cluster::new(2, "backend: gpe", DUAL);
    cluster.spoil(2, "\"192.0.2.2\", ", "");
    cluster.start();
    let seen_by = |n: usize| {
        let (here, there) = (&cluster.nodes[n - 1], &cluster.nodes[2 - n]);
        seen(&here.pod, &there.pod, &format!("10.244.{}.2", 3 - n))
    };
    assert_eq!(seen_by(1), Some("10.244.1.2".parse().unwrap()));
    assert_eq!(seen_by(2), Some("10.244.2.2".parse().unwrap()));
    let route = cluster.nodes[0].space.sh("ip route show 10.244.2.0/24");
    assert!(route.contains("dst 2001:db8::2"), "{route}");
}
