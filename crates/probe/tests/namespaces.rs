//! Packets between real namespaces.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use kernel::Netns;
use probe::{
    Ask, Failure, Limits, Pair, Place, Protocol, Question, Responder, Shape, ask, exchange, meet,
};
use testbed::{Namespace, isolated, need, sh};

const SEED: u64 = 7;
const QUICK: Limits =
    Limits { at_once: 64, patience: Duration::from_millis(400), again: Duration::from_millis(100) };
const RED: &str = "10.1.0.2";
const BLUE: &str = "10.2.0.2";
const RED6: &str = "fd00:1::2";
const BLUE6: &str = "fd00:2::2";
const ECONNREFUSED: i32 = 111;
const ENETUNREACH: i32 = 101;

/// Two pods, and between them the namespace of the test, which routes.
struct Pods {
    red: Namespace,
    blue: Namespace,
}

impl Pods {
    fn new() -> Self {
        let (red, blue) = (Namespace::new("red"), Namespace::new("blue"));
        for (pod, number) in [(&red, 1), (&blue, 2)] {
            sh(&format!(
                "ip link add pod{number} type veth peer name eth0 netns {}
                 sysctl -qw net.ipv6.conf.pod{number}.accept_dad=0
                 ip addr add 10.{number}.0.1/24 dev pod{number}
                 ip addr add fd00:{number}::1/64 dev pod{number} nodad
                 ip link set pod{number} up",
                pod.path().file_name().unwrap_or_default().display()
            ));
            pod.sh(&format!(
                "ip addr add 10.{number}.0.2/24 dev eth0
                 ip addr add fd00:{number}::2/64 dev eth0 nodad
                 ip link set eth0 up
                 ip route add default via 10.{number}.0.1
                 ip route add default via fd00:{number}::1"
            ));
        }
        sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
            until [ $(ip -br link | grep -c 'pod.* UP ') = 2 ]; do sleep 0.01; done");
        Self { red, blue }
    }

    fn red<'a>(&'a self, address: &str) -> Place<'a> {
        Place { netns: self.red.netns(), address: ip(address) }
    }

    fn blue<'a>(&'a self, address: &str) -> Place<'a> {
        Place { netns: self.blue.netns(), address: ip(address) }
    }
}

fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

#[test]
fn pods_and_node_see_each_others_own_addresses() {
    isolated!();
    let pods = Pods::new();
    let here = Netns::current().unwrap();
    let node = |address| Place { netns: &here, address: ip(address) };
    let pairs = [
        Pair { from: pods.red(RED), to: pods.blue(BLUE) },
        Pair { from: pods.blue(BLUE), to: pods.red(RED) },
        Pair { from: pods.red(RED6), to: pods.blue(BLUE6) },
        Pair { from: node("10.2.0.1"), to: pods.blue(BLUE) },
        Pair { from: pods.blue(BLUE6), to: node("fd00:1::1") },
    ];
    for at_once in [1, 2, 64] {
        let results = exchange(&pairs, Shape::default(), Limits { at_once, ..QUICK }, SEED);
        assert_eq!(results.len(), pairs.len());
        for (pair, result) in pairs.iter().zip(results) {
            let answer = result.unwrap();
            assert_eq!(answer.seen_source, pair.from.address);
            assert_eq!(answer.answered_from, pair.to.address);
            assert_eq!(answer.bytes, if answer.seen_source.is_ipv4() { 68 } else { 88 });
            assert!(answer.rtt < QUICK.patience);
        }
    }
}

#[test]
fn many_pairs_take_no_longer_than_one() {
    isolated!();
    let pods = Pods::new();
    let pairs = vec![Pair { from: pods.red(RED), to: pods.blue(BLUE) }; 200];
    let start = Instant::now();
    let results = exchange(&pairs, Shape::default(), Limits { at_once: 200, ..QUICK }, SEED);
    println!("200 pairs: {:?}", start.elapsed());
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 200);
}

#[test]
fn translation_is_noticed() {
    isolated!();
    need("nft", "nftables");
    let pods = Pods::new();
    sh("nft add table ip t
        nft add chain ip t post { type nat hook postrouting priority srcnat \\; }
        nft add rule ip t post oifname pod2 masquerade");
    let there = [Pair { from: pods.red(RED), to: pods.blue(BLUE) }];
    match &exchange(&there, Shape::default(), QUICK, SEED)[0] {
        Err(error @ Failure::SourceChanged { own, answer }) => {
            assert_eq!((*own, answer.seen_source), (ip(RED), ip("10.2.0.1")));
            assert_eq!(error.to_string(), "sent from 10.1.0.2, but seen as from 10.2.0.1");
        }
        other => panic!("{other:?}"),
    }
    let back = [Pair { from: pods.blue(BLUE), to: pods.red(RED) }];
    assert!(exchange(&back, Shape::default(), QUICK, SEED)[0].is_ok());
}

#[test]
fn an_answer_from_somebody_else_is_noticed() {
    isolated!();
    need("nft", "nftables");
    let pods = Pods::new();
    sh("nft add table ip t
        nft add chain ip t forward { type filter hook forward priority 0 \\; }
        nft add rule ip t forward iifname pod2 ip saddr set 10.2.0.99");
    let pairs = [Pair { from: pods.red(RED), to: pods.blue(BLUE) }];
    match &exchange(&pairs, Shape::default(), QUICK, SEED)[0] {
        Err(Failure::OtherAnswered { asked, answer }) => {
            assert_eq!((*asked, answer.answered_from), (ip(BLUE), ip("10.2.0.99")));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_too_large_for_a_link_is_told_from_what_is_lost() {
    isolated!();
    need("nft", "nftables");
    let pods = Pods::new();
    sh("ip link set pod2 mtu 1300");
    for (from, to) in [(pods.red(RED), pods.blue(BLUE)), (pods.red(RED6), pods.blue(BLUE6))] {
        let send = |bytes, dont_fragment| {
            let shape = Shape { bytes, dont_fragment };
            exchange(&[Pair { from, to }], shape, QUICK, SEED).remove(0)
        };
        // A router fragments IPv4; the sender of an IPv6 packet learns to do so.
        assert_eq!(send(1400, false).map(|answer| answer.bytes), Ok(1400));
        assert_eq!(send(4000, false).map(|answer| answer.bytes), Ok(4000));
        assert_eq!(send(1300, true).map(|answer| answer.bytes), Ok(1300));
        for bytes in [1301, 1501] {
            let refused = send(bytes, true);
            assert!(matches!(refused, Err(Failure::TooLarge { .. })), "{bytes}: {refused:?}");
        }
    }
    sh("nft add table inet t
        nft add chain inet t forward { type filter hook forward priority 0 \\; policy drop \\; }");
    let pairs = [Pair { from: pods.red(RED), to: pods.blue(BLUE) }];
    let lost = exchange(&pairs, Shape::default(), QUICK, SEED).remove(0);
    assert_eq!(lost, Err(Failure::TimedOut(QUICK.patience)));
}

#[test]
fn a_responder_elsewhere_is_asked_and_silence_has_a_reason() {
    isolated!();
    let pods = Pods::new();
    let at = SocketAddr::new(ip(BLUE), 4789);
    let responder = pods.blue.netns().enter(|| Responder::open(at)).unwrap().unwrap();
    let questions = [
        Question { from: pods.red(RED), to: at },
        Question { from: pods.red(RED), to: SocketAddr::new(ip(BLUE), 4790) },
        Question { from: pods.red(RED), to: SocketAddr::new(ip("10.3.0.1"), 4789) },
        Question { from: pods.red(BLUE), to: at },
    ];
    let done = std::sync::atomic::AtomicBool::new(false);
    let results = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                responder.answer();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let results = ask(&questions, Shape::default(), QUICK, SEED);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        results
    });
    assert_eq!(results[0].as_ref().unwrap().answered_from, ip(BLUE));
    assert_eq!(results[1], Err(Failure::Unreachable { errno: ECONNREFUSED, by: None }));
    assert_eq!(results[2], Err(Failure::Unreachable { errno: ENETUNREACH, by: None }));
    let reason = "cannot assign requested address".to_owned();
    assert_eq!(results[3], Err(Failure::Unusable { address: ip(BLUE), reason }));
}

#[test]
fn all_protocols_tell_whom_the_other_end_saw() {
    isolated!();
    let pods = Pods::new();
    let places = [pods.red(RED), pods.blue(BLUE), pods.red(RED6), pods.blue(BLUE6)];
    let mut asks = Vec::new();
    for (from, to) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        for protocol in [Protocol::Icmp, Protocol::Udp, Protocol::Tcp] {
            asks.push(Ask { from, to, protocol, shape: Shape::default() });
        }
    }
    for (ask, result) in asks.iter().zip(meet(&places, &asks, QUICK, SEED)) {
        let answer = result.unwrap_or_else(|failure| panic!("{ask:?}: {failure}"));
        assert_eq!(answer.seen_source, places[ask.from].address, "{ask:?}");
        assert_eq!(answer.answered_from, places[ask.to].address, "{ask:?}");
    }
}
