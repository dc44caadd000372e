//! Routes of others to peers' pods: those that take packets are named, and none is touched.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::look::{eventually, is_lost, source_seen};

use super::cluster::{Cluster, DUAL, Node, V4};
use super::faults::{TUNNELS, assert_repaired, during};

#[test]
fn routes_of_others_to_pods_stay_behind() {
    testbed::isolated!();
    for settings in TUNNELS {
        let mut cluster = Cluster::new(2, settings, V4);
        cluster.start();
        let outcome = during(&mut cluster, |cluster| {
            cluster.node(1).space.sh("ip route replace 10.244.2.0/24 via 192.0.2.77");
        });
        assert_repaired(&format!("{settings}: a foreign route in place of ours"), &outcome);
        let routes = cluster.node(1).space.sh("ip route show 10.244.2.0/24");
        assert!(routes.contains("via 192.0.2.77"), "it was not ours to remove: {routes}");
    }
}

fn metrics(node: &Node) -> String {
    let ask = || {
        let mut stream = TcpStream::connect("127.0.0.1:9112").unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    node.space.netns().enter(ask).unwrap()
}

/// What stands in front of ours is not ours to remove: it is named until it has gone.
#[test]
fn routes_of_others_in_front_are_named() {
    testbed::isolated!();
    let mut cluster = Cluster::new(3, "backend: gpe", DUAL);
    cluster.start();
    let node = &cluster.nodes[0];
    for (what, add, to) in [
        (
            "the same metric",
            "ip route prepend 10.244.2.0/24 via 192.0.2.77 proto 99",
            "10.244.2.0/24",
        ),
        (
            "a lower metric",
            "ip -6 route add fd00:10:244:2::/64 via 2001:db8::77 metric 7 proto 99",
            "fd00:10:244:2::/64",
        ),
    ] {
        let began = Instant::now();
        node.space.sh(add);
        let said = eventually("it is said", || {
            let status = node.status();
            let problem = status["problems"].as_array()?.first()?.clone();
            (problem["code"] == "foreignRoute").then_some((problem, status))
        });
        println!("{what}: said after {} ms", began.elapsed().as_millis());
        let (problem, status) = said;
        let text = problem["text"].as_str().unwrap();
        assert_eq!(problem["subject"]["peer"], "n2", "{problem}");
        assert!(text.contains(to) && text.contains("proto 99"), "{text}");
        assert_eq!((&status["peers"], &status["programmed"]), (&2.into(), &1.into()));
        node.podwire("status").expect(1);
        assert!(metrics(node).contains(r#"podwire_agent_problems{code="foreignRoute"} 1"#));
        // What it says is to be done is the right thing.
        let (_, remedy) = text.split_once("or delete it: ").unwrap();
        node.space.sh(remedy);
        eventually("it is over", || node.problems().is_empty().then_some(()));
    }
    // Behind ours it does no harm, and is no news.
    node.space.sh("ip route append 10.244.2.0/24 via 192.0.2.77");
    std::thread::sleep(Duration::from_millis(300));
    assert!(node.problems().is_empty(), "{:?}", node.problems());
}

/// What `node` says of routes of others, once it says `text`.
fn said(node: &Node, text: &str) -> (String, Value) {
    eventually(text, || {
        let status = node.status();
        let mut problems = status["problems"].as_array()?.iter();
        let problem = problems.find(|it| it["code"] == "foreignRoute")?;
        let told = problem["text"].as_str()?.to_owned();
        told.contains(text).then(|| (told, status.clone()))
    })
}

/// A route to a part of a peer's subnet takes packets whatever stands beside it.
#[test]
fn routes_of_others_to_a_part_of_a_subnet_are_named() {
    testbed::isolated!();
    for settings in [TUNNELS[0], TUNNELS[2]] {
        let mut cluster = Cluster::new(3, settings, V4);
        cluster.start();
        // Two addresses of n2's pods, of which only one is taken.
        let [first, second, _] = &cluster.nodes[..] else { panic!("three nodes") };
        second.pod.sh("ip address add 10.244.2.130/24 dev eth0");
        let (from, to) = (first.pod.netns(), second.pod.netns());
        let arrives = |address: &str| source_seen(from, to, address.parse().unwrap()).is_some();
        assert!(arrives("10.244.2.2") && arrives("10.244.2.130"));
        let began = Instant::now();
        first.space.sh("ip route add 10.244.2.128/25 via 192.0.2.77 dev eth0 proto 99");
        let (text, status) = said(first, "10.244.2.128/25");
        println!("{settings}: said after {} ms", began.elapsed().as_millis());
        assert!(arrives("10.244.2.2"), "the rest of the subnet is reached");
        assert!(is_lost(from, to, "10.244.2.130".parse().unwrap()), "it is true");
        for words in ["10.244.2.128/25 via 192.0.2.77 dev eth0", "128 of the 256", "(proto 99)"] {
            assert!(text.contains(words), "{text}");
        }
        assert_eq!((&status["peers"], &status["programmed"]), (&2.into(), &1.into()));
        first.podwire("status").expect(1);
        assert!(metrics(first).contains(r#"podwire_agent_problems{code="foreignRoute"} 1"#));
        // It is told in the log though nothing else happens, and so is its end.
        let is_logged = |what: &str| {
            let log = first.log();
            log.lines().any(|line| line.contains("10.244.2.128/25") && line.contains(what))
        };
        eventually("it is logged", || is_logged("something is wrong").then_some(()));
        let (_, remedy) = text.split_once("or delete it: ").unwrap();
        first.space.sh(remedy);
        eventually("it is over", || first.problems().is_empty().then_some(()));
        eventually("it is logged", || is_logged("this is over").then_some(()));
        assert!(arrives("10.244.2.130"));
    }
}

#[test]
fn routes_that_are_there_before_the_agent_are_named() {
    testbed::isolated!();
    let mut cluster = Cluster::new(3, "backend: gpe", V4);
    // As a network of Docker's that was given the same addresses, and as a routing daemon does it.
    cluster.nodes[0].space.sh("ip link add docker0 type bridge; ip link set docker0 up
        ip address add 10.244.2.1/26 dev docker0
        ip route add blackhole 10.244.3.9/32 proto 99
        ip route add 10.244.3.16/28 proto 99 nexthop via 192.0.2.77 nexthop via 192.0.2.78");
    let told = cluster.nodes[0].podwire("--once").expect(1).stdout;
    assert!(told.contains("10.244.2.0/26 dev docker0"), "{told}");
    cluster.start();
    let node = &cluster.nodes[0];
    let (text, status) = said(node, "10.244.2.0/26");
    assert!(text.contains("64 of the 256") && text.contains("an address of docker0"), "{text}");
    assert_eq!(status["programmed"], 0);
    let all = status["problems"].to_string();
    assert!(
        all.contains("2 routes that are not ours, the first 10.244.3.9/32 (blackhole)"),
        "{all}"
    );
    assert!(all.contains("17 of the 256"), "{all}");
    // The kernel removes its own route without a word.
    node.space.sh("ip address delete 10.244.2.1/26 dev docker0
        ip route delete 10.244.3.16/28; ip route delete blackhole 10.244.3.9/32");
    eventually("it is over", || node.problems().is_empty().then_some(()));
    node.space.sh("ip address add 10.244.3.1/26 dev docker0");
    said(node, "10.244.3.0/26");
}

/// What is no peer's is nobody's business: this node's own pods, other networks, other tables.
#[test]
fn routes_of_others_to_elsewhere_are_no_news() {
    testbed::isolated!();
    let mut cluster = Cluster::new(2, "backend: vxlan", V4);
    cluster.start();
    let node = &cluster.nodes[0];
    node.space.sh("ip route add 10.244.1.7/32 dev cni0; ip route add 10.99.0.0/16 via 192.0.2.254
        ip route add 10.244.0.0/16 via 192.0.2.254; ip route add 10.244.2.7/32 dev cni0 table 99
        ip address add 10.99.0.1/32 dev cni0");
    // What comes after them has been heard after them.
    node.space.sh("ip route add 10.244.2.7/32 via 192.0.2.77");
    said(node, "10.244.2.7/32");
    assert_eq!(node.problems(), ["foreignRoute"]);
}
