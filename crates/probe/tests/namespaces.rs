//! Packets between real namespaces.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use kernel::Netns;
use probe::{
    Ask, Failure, Icmp, Limits, Listening, Met, Pair, Place, Port, Protocol, Query, Question,
    Responder, Shape, Station, ask, connect, exchange, meet, meet_watched,
};
use testbed::{Namespace, isolated, need, sh};

const SEED: u64 = 7;
const QUICK: Limits =
    Limits { at_once: 64, patience: Duration::from_millis(400), again: Duration::from_millis(100) };
const RED: &str = "10.1.0.2";
const BLUE: &str = "10.2.0.2";
const RED6: &str = "fd00:1::2";
const BLUE6: &str = "fd00:2::2";
const ALL: [Protocol; 3] = [Protocol::Icmp, Protocol::Udp, Protocol::Tcp];
const EPERM: i32 = 1;
const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;
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
    // At both ends: an echo is answered by one of the same size.
    sh("ip link set pod2 mtu 1300");
    pods.blue.sh("ip link set eth0 mtu 1300");
    let places = [pods.red(RED), pods.blue(BLUE), pods.red(RED6), pods.blue(BLUE6)];
    for (from, router) in [(0, "10.1.0.1"), (2, "fd00:1::1")] {
        for protocol in [Protocol::Udp, Protocol::Icmp] {
            let send = |bytes, dont_fragment| {
                let shape = Shape { bytes, dont_fragment };
                let ask = Ask { from, to: from + 1, protocol, shape };
                meet(&places, &[ask], QUICK, SEED).remove(0)
            };
            // A router fragments IPv4; the sender of an IPv6 packet learns to do so.
            assert_eq!(send(1400, false).map(|answer| answer.bytes), Ok(1400), "{protocol:?}");
            assert_eq!(send(4000, false).map(|answer| answer.bytes), Ok(4000), "{protocol:?}");
            assert_eq!(send(1300, true).map(|answer| answer.bytes), Ok(1300), "{protocol:?}");
            let by = Some(ip(router));
            assert_eq!(send(1301, true), Err(Failure::TooLarge { mtu: Some(1300), by }));
            assert_eq!(
                send(1501, true),
                Err(Failure::TooLarge { mtu: Some(1500), by: None }),
                "too large for the sender's own link"
            );
        }
    }
    sh("nft add table inet t
        nft add chain inet t forward { type filter hook forward priority 0 \\; policy drop \\; }");
    for protocol in ALL {
        let ask = Ask { from: 0, to: 1, protocol, shape: Shape::default() };
        let lost = meet(&places, &[ask], QUICK, SEED).remove(0);
        assert_eq!(lost, Err(Failure::TimedOut(QUICK.patience)));
    }
}

#[test]
fn each_way_to_fail_has_its_own_words() {
    isolated!();
    need("nft", "nftables");
    let pods = Pods::new();
    let places = [pods.red(RED), pods.blue(BLUE), pods.red(RED6), pods.blue(BLUE6)];
    let ask = |from, protocol| {
        let ask = Ask { from, to: from + 1, protocol, shape: Shape::default() };
        meet(&places, &[ask], QUICK, SEED).remove(0)
    };
    let unreachable = |errno, by| Err(Failure::Unreachable { errno, by });
    sh("nft add table inet t
        nft add chain inet t forward { type filter hook forward priority 0 \\; }
        nft add rule inet t forward oifname pod2 ip protocol != tcp reject with icmp admin-prohibited
        nft add rule inet t forward oifname pod2 meta l4proto tcp reject with tcp reset
        nft add rule inet t forward oifname pod2 reject with icmpv6 addr-unreachable");
    let by = |from, kind, code| Some(Icmp { from: ip(from), kind, code });
    for protocol in [Protocol::Udp, Protocol::Icmp] {
        assert_eq!(ask(0, protocol), unreachable(EHOSTUNREACH, by("10.1.0.1", 3, 13)));
        assert_eq!(ask(2, protocol), unreachable(EHOSTUNREACH, by("fd00:1::1", 1, 3)));
    }
    for from in [0, 2] {
        assert_eq!(ask(from, Protocol::Tcp), unreachable(ECONNREFUSED, None), "by a reset");
    }
    sh("nft flush ruleset");
    pods.red.sh("nft add table inet t
         nft add chain inet t output { type filter hook output priority 0 \\; policy drop \\; }");
    for protocol in [Protocol::Udp, Protocol::Icmp] {
        assert_eq!(ask(0, protocol), unreachable(EPERM, None));
        assert_eq!(ask(2, protocol), unreachable(EPERM, None));
    }
    pods.red.sh("nft flush ruleset; ip route del default");
    for protocol in ALL {
        assert_eq!(ask(0, protocol), unreachable(ENETUNREACH, None), "no route");
    }
    pods.red.sh("ip route add default via 10.1.0.1");
    // What arrives and is not answered is told from what does not arrive.
    pods.blue.sh("nft add table inet t
         nft add chain inet t output { type filter hook output priority 0 \\; policy drop \\; }");
    let unanswered = Err(Failure::Unanswered { seen_source: ip(RED), waited: QUICK.patience });
    for protocol in [Protocol::Udp, Protocol::Icmp] {
        assert_eq!(ask(0, protocol), unanswered, "{protocol:?}");
    }
    pods.blue.sh("nft flush ruleset");
    // Somebody on the way answers for the one that is asked.
    sh("ip addr add 10.2.0.2/32 dev lo");
    let others = Err(Failure::NotHeard { asked: ip(BLUE), answered_from: ip(BLUE) });
    assert_eq!(ask(0, Protocol::Icmp), others);
    assert_eq!(
        ask(0, Protocol::Udp),
        unreachable(ECONNREFUSED, by(BLUE, 3, 3)),
        "nobody listens there"
    );
}

#[test]
fn a_place_that_is_gone_fails_its_own_questions_only() {
    isolated!();
    let pods = Pods::new();
    let places = [pods.red(RED), pods.blue(BLUE), pods.red("10.1.0.77")];
    let shape = Shape::default();
    let mut asks = Vec::new();
    for protocol in ALL {
        for (from, to) in [(0, 1), (2, 1), (0, 2)] {
            asks.push(Ask { from, to, protocol, shape });
        }
    }
    let reason = "cannot assign requested address".to_owned();
    let unusable = Err(Failure::Unusable { address: ip("10.1.0.77"), reason });
    for (ask, result) in asks.iter().zip(meet(&places, &asks, QUICK, SEED)) {
        if ask.from == 2 || ask.to == 2 {
            assert_eq!(result, unusable, "{ask:?}");
        } else {
            assert_eq!(result.map(|answer| answer.seen_source), Ok(ip(RED)), "{ask:?}");
        }
    }
}

#[test]
fn what_was_learned_of_neighbours_is_forgotten() {
    isolated!();
    let pods = Pods::new();
    pods.red.sh("ip neigh add 10.1.0.200 lladdr 02:00:00:00:00:08 dev eth0 nud stale");
    let neighbours = || {
        let here = sh("ip neigh");
        let told = [here, pods.red.sh("ip neigh"), pods.blue.sh("ip neigh")].concat();
        let mut lines: Vec<String> = told
            .lines()
            .map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
            // Link-local addresses say who is there when they come up.
            .filter(|line| !line.starts_with("fe80"))
            .collect();
        lines.sort();
        lines
    };
    let before = neighbours();
    assert_eq!(before, ["10.1.0.200 dev eth0"]);
    let places = [pods.red(RED), pods.blue(BLUE), pods.red(RED6), pods.blue(BLUE6)];
    let mut asks = Vec::new();
    for protocol in ALL {
        for (from, to) in [(0, 1), (2, 3)] {
            asks.push(Ask { from, to, protocol, shape: Shape::default() });
        }
    }
    let Met { answers: results, most_neighbours: most } =
        meet_watched(&places, &asks, QUICK, SEED, &mut |_| true);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(most, 8, "two ends, each with its gateway and the gateway with it, in two families");
    assert_eq!(neighbours(), before);
    let left = [pods.red.sh("ss -Htan"), pods.blue.sh("ss -Htan")].concat();
    assert_eq!(left, "", "no connection waits for its end");
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
    let by = Some(Icmp { from: ip(BLUE), kind: 3, code: 3 });
    assert_eq!(results[1], Err(Failure::Unreachable { errno: ECONNREFUSED, by }));
    let by = Some(Icmp { from: ip("10.1.0.1"), kind: 3, code: 0 });
    assert_eq!(results[2], Err(Failure::Unreachable { errno: ENETUNREACH, by }));
    let reason = "cannot assign requested address".to_owned();
    assert_eq!(results[3], Err(Failure::Unusable { address: ip(BLUE), reason }));
}

#[test]
fn whoever_comes_to_a_port_is_heard_and_a_program_there_keeps_it() {
    isolated!();
    let pods = Pods::new();
    let long = Duration::from_secs(20);
    for (red, blue) in [(RED, BLUE), (RED6, BLUE6)] {
        let at = SocketAddr::new(ip(blue), 5353);
        let port = |protocol| Port { place: pods.blue(blue), protocol, port: at.port() };
        let ports = [port(Protocol::Udp), port(Protocol::Tcp)];
        let question = Question { from: pods.red(red), to: at };
        let call = || {
            let answer = ask(&[question], Shape::default(), QUICK, SEED)[0].clone().unwrap();
            assert_eq!((answer.seen_source, answer.answered_from), (ip(red), ip(blue)));
            pods.red.netns().enter(|| connect(ip(red), at, QUICK.patience)).unwrap().unwrap()
        };
        let listening = Listening::open(&ports, long).unwrap();
        assert_eq!(listening.opened(), [Ok(true), Ok(true)]);
        let mut stream = call();
        stream.set_read_timeout(Some(long)).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it is ended once it was seen");
        drop(stream);
        // To another port it does not answer.
        let other = Question { to: SocketAddr::new(ip(blue), 5354), ..question };
        ask(&[other], Shape::default(), QUICK, SEED)[0].as_ref().unwrap_err();
        assert_eq!(listening.heard(), Some(vec![vec![ip(red)], vec![ip(red)]]));
        assert_eq!(pods.blue.sh("ss -Htuwan"), "", "nothing stays");

        let open = || (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap());
        let (udp, tcp) = pods.blue.netns().enter(open).unwrap();
        let listening = Listening::open(&ports, long).unwrap();
        assert_eq!(listening.opened(), [Ok(true), Ok(false)]);
        call();
        assert_eq!(listening.heard(), Some(vec![vec![ip(red)], vec![]]));
        udp.set_nonblocking(true).unwrap();
        udp.recv_from(&mut [0; 64]).expect("nothing is kept from the program");
        tcp.accept().unwrap();
    }
    // Of what the place does not have the kernel says why.
    let port = Port { place: pods.blue(RED), protocol: Protocol::Tcp, port: 5353 };
    let reason = "cannot assign requested address".to_owned();
    let listening = Listening::open(&[port], long).unwrap();
    assert_eq!(listening.opened(), [Err(Failure::Unusable { address: ip(RED), reason })]);
}

#[test]
fn a_port_is_closed_when_its_time_is_over() {
    isolated!();
    let pods = Pods::new();
    let port = Port { place: pods.blue(BLUE), protocol: Protocol::Tcp, port: 5353 };
    let listening = Listening::open(&[port], Duration::from_millis(100)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !pods.blue.sh("ss -Hltn").is_empty() {
        assert!(Instant::now() < deadline, "it stays open");
    }
    assert_eq!(listening.heard(), None, "somebody may have come afterwards");
}

#[test]
fn all_protocols_tell_whom_the_other_end_saw() {
    isolated!();
    let pods = Pods::new();
    let places = [pods.red(RED), pods.blue(BLUE), pods.red(RED6), pods.blue(BLUE6)];
    let mut asks = Vec::new();
    for (from, to) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        for protocol in ALL {
            asks.push(Ask { from, to, protocol, shape: Shape::default() });
        }
    }
    for (ask, result) in asks.iter().zip(meet(&places, &asks, QUICK, SEED)) {
        let answer = result.unwrap_or_else(|failure| panic!("{ask:?}: {failure}"));
        assert_eq!(answer.seen_source, places[ask.from].address, "{ask:?}");
        assert_eq!(answer.answered_from, places[ask.to].address, "{ask:?}");
    }
}

/// As many pairs as the machine's table of neighbours has entries for are more than half of it.
#[test]
fn many_pods_on_a_bridge_do_not_fill_the_table_of_neighbours() {
    const PODS: usize = 40;
    isolated!();
    sh("ip link add cni0 type bridge; ip link set cni0 up");
    let pods: Vec<Namespace> = (0..PODS).map(|it| Namespace::new(&format!("p{it}"))).collect();
    let address = |number: usize| format!("10.1.0.{}", number + 1);
    for (number, pod) in pods.iter().enumerate() {
        sh(&format!(
            "ip link add v{number} type veth peer name eth0 netns p{number}
             ip link set v{number} master cni0 up"
        ));
        pod.sh(&format!("ip addr add {}/24 dev eth0; ip link set eth0 up", address(number)));
    }
    let places: Vec<Place<'_>> = pods
        .iter()
        .enumerate()
        .map(|(number, pod)| Place { netns: pod.netns(), address: ip(&address(number)) })
        .collect();
    let mut asks = Vec::new();
    for from in 0..PODS {
        for to in (0..PODS).filter(|to| *to != from) {
            for protocol in ALL {
                asks.push(Ask { from, to, protocol, shape: Shape::default() });
            }
        }
    }
    let before = kernel::neighbour_fill(false).unwrap();
    let start = Instant::now();
    let mut told = 0;
    let mut count = |more| {
        told += more;
        true
    };
    let Met { answers: results, most_neighbours: most } =
        meet_watched(&places, &asks, Limits::default(), SEED, &mut count);
    assert_eq!(told, asks.len());
    println!("{} questions of {PODS} pods: {:?}", asks.len(), start.elapsed());
    let failed: Vec<_> = results.iter().filter_map(|it| it.as_ref().err()).collect();
    assert!(failed.is_empty(), "{}: {:?}", failed.len(), failed.first());
    assert!(most > 100 && most <= before.limit / 2, "{most} of {before:?}");
    let after = kernel::neighbour_fill(false).unwrap();
    assert_eq!(after.refused, before.refused, "nobody was refused an entry");
    let left: Vec<_> = pods.iter().map(|pod| pod.sh("ip -4 neigh")).collect();
    assert_eq!(left.concat(), "");
}

#[test]
fn whoever_wants_to_stop_is_heard_and_nothing_stays() {
    isolated!();
    let pods = Pods::new();
    need("nft", "nftables");
    sh("nft add table inet t
        nft add chain inet t forward { type filter hook forward priority 0 \\; policy drop \\; }");
    let mut station = Station::open(&[pods.red(RED)], &ALL).unwrap();
    let query = |number| Query {
        from: 0,
        to: SocketAddr::new(ip(BLUE), 1),
        protocol: Protocol::Udp,
        shape: Shape::default(),
        token: number,
    };
    let queries: Vec<_> = (0..50).map(query).collect();
    let start = Instant::now();
    let limits = Limits { patience: Duration::from_secs(60), ..QUICK };
    let replies = station.ask(&queries, limits, &mut |_| start.elapsed().as_millis() < 200);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(replies.contains(&Err(Failure::Stopped)), "{:?}", replies.first());
    assert_eq!(pods.red.sh("ip -4 neigh"), "");
}
