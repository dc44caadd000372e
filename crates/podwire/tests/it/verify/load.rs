//! `podwire verify` where tables are nearly full, and where it or what it asks about ends in the middle.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::names;

/// How many neighbours packets may make known on their way, where nobody looks beforehand: the nodes
/// to each other, and to the router between them.
const UNDERLAY: usize = 12;

/// A lab with so many pods that all their neighbours together are more than half of what is free.
const LAB: &str = "lab up --nodes 3 --pods 8";

/// The tables of neighbours of all namespaces of this machine.
struct Tables(Vec<kernel::Neighbours>);

/// A namespace that no question has to do with.
const ELSEWHERE: &str = "elsewhere";

impl Tables {
    fn open() -> Self {
        let open = |name: String| {
            let netns = kernel::Netns::open(format!("/run/netns/{name}").as_ref()).unwrap();
            netns.enter(|| kernel::Neighbours::open().unwrap()).unwrap()
        };
        let all = names("/run/netns").into_iter().filter(|name| name != ELSEWHERE);
        Self(all.map(open).collect())
    }

    /// How many IPv4 entries there are; none if it took so long to count that those of the first one
    /// are not those of the last one's time.
    fn count(&mut self) -> Option<usize> {
        let started = Instant::now();
        let count = |table: &mut kernel::Neighbours| {
            table.all().unwrap().keys().filter(|(_, address)| address.is_ipv4()).count()
        };
        let all = self.0.iter_mut().map(count).sum();
        (started.elapsed() < Duration::from_millis(5)).then_some(all)
    }
}

/// Runs podwire, and counts the neighbours meanwhile: the most that there were.
fn watched(arguments: &str) -> (Run, usize) {
    let is_over = AtomicBool::new(false);
    let mut tables = Tables::open();
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(tables.count().unwrap_or_default());
            }
            most
        });
        let run = podwire(arguments);
        is_over.store(true, Ordering::Relaxed);
        (run, watch.join().unwrap())
    })
}

/// How many neighbours there are.
fn neighbours() -> usize {
    testbed::look::eventually("a quick count", || Tables::open().count())
}

/// Has `ip` write so many neighbours on the device `full`; whether it could write all.
fn write_neighbours(ip: &mut Command, count: usize, mac: u8, state: &str) -> bool {
    let line = |it: usize| {
        let address = format!("198.18.{}.{}", 1 + it / 256, it % 256);
        format!("neigh replace {address} lladdr 02:00:00:00:00:0{mac} dev full nud {state}\n")
    };
    let lines: String = (0..count).map(line).collect();
    let mut ip = ip.args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    ip.wait().unwrap().success()
}

/// The table of neighbours is one for all namespaces. Entries that somebody has written count for
/// whoever looks how full it is, and the kernel takes them for none when it makes room: so this table
/// looks full, where nobody can see of what, and no other test has less of it.
#[test]
fn of_a_nearly_full_table_of_neighbours_half_of_the_rest_is_taken() {
    isolated!();
    podwire(LAB).expect(0);
    podwire("verify lab/default").expect(0);
    sh(&format!(
        "ip netns add {ELSEWHERE}; ip -n {ELSEWHERE} link add full type veth peer name empty
         ip -n {ELSEWHERE} link set full up; ip -n {ELSEWHERE} link set empty up
         ip -n {ELSEWHERE} addr add 198.18.0.1/16 dev full"
    ));
    let write = |count: usize| {
        let mut ip = Command::new("ip");
        assert!(write_neighbours(ip.args(["-n", ELSEWHERE]), count, 1, "permanent"));
    };
    let before = neighbours();
    let limit: usize = fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
        .map_or(1024, |text| text.trim().parse().unwrap());
    let free = 160;
    write(limit - before - free);
    let (run, most) = watched("verify lab/default -o json");
    let report = document(&run.expect(0));
    assert_eq!(rule(&report, "pod-to-pod")["pass"], 24 * 23);
    println!("{before} before, {most} at most");
    assert!(most > before, "nothing was seen");
    assert!(most - before <= free / 2 + UNDERLAY, "{} of {free}", most - before);
    assert!(neighbours() <= before, "what was made is removed");
    // Where nothing is free, one pair after the other gets through.
    write(limit);
    let (run, most) = watched("verify pod/pod1 -o json");
    let report = document(&run.expect(0));
    assert_eq!(rule(&report, "pod-to-pod")["pass"], 2 * 23);
    // Those of the nodes for the pods on them stay until the end.
    assert!(most - before <= 24 + 8, "{} of none", most - before);
    podwire("lab down").expect(0);
}

/// A table that is really full loses packets of everybody on the machine, so that nothing else may go on
/// at the same time. The kernel makes room where an entry has not changed for five seconds: these change
/// all the time.
#[test]
#[ignore = "needs root"]
fn where_the_table_of_neighbours_is_full_nobody_can_tell() {
    isolated!();
    podwire("lab up --nodes 2 --pods 2 --backend vxlan").expect(0);
    podwire("verify lab/default --only pod-to-pod").expect(0);
    sh("ip link add full type veth peer name empty; ip link set full up; ip link set empty up
        ip addr add 198.18.0.1/16 dev full");
    let refused = || kernel::neighbour_fill(false).unwrap().refused;
    let limit = kernel::neighbour_fill(false).unwrap().limit;
    let is_over = AtomicBool::new(false);
    let (before, run) = thread::scope(|scope| {
        scope.spawn(|| {
            for mac in (1..=2).cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let mut ip = Command::new("ip");
                // For some there is no room.
                ip.arg("-force").stderr(Stdio::null());
                write_neighbours(&mut ip, limit + 100, mac, "stale");
            }
        });
        let before = refused();
        testbed::look::eventually("it is full", || (refused() > before).then_some(()));
        let before = refused();
        let run = podwire("verify lab/default --only pod-to-pod --timeout 1s -o json");
        is_over.store(true, Ordering::Relaxed);
        (before, run)
    });
    assert!(refused() > before, "it was full all the while");
    let report = document(&run.expect(3));
    let rule = rule(&report, "pod-to-pod");
    assert_eq!(rule["fail"], 0, "{report:#}");
    assert!(rule["unknown"].as_u64().unwrap() > 0, "{report:#}");
    assert!(report["notes"].to_string().contains("gc_thresh3"), "{report:#}");
    podwire("lab down").expect(0);
}

/// The limit of tracked connections is one for the machine, and a table that is really full makes the
/// end of every namespace slow: so in this test's own mounts a file says in one namespace that the
/// limit is a small one.
#[test]
fn where_no_connection_more_can_be_tracked_nobody_can_tell() {
    const SETTINGS: &str = "/proc/sys/net/netfilter/nf_conntrack";
    isolated!();
    podwire("lab up --nodes 2 --pods 2").expect(0);
    verify("lab/default").expect(0);
    let file = Path::new("/run/limit");
    let count = || -> usize {
        let read = format!("nsenter --net=/run/netns/node1 cat {SETTINGS}_count");
        sh(&read).trim().parse().unwrap()
    };
    let (free, before) = (400, count());
    assert!(before > 0, "node1 tracks what passes");
    fs::write(file, (before + free).to_string()).unwrap();
    sh(&format!("nsenter --net=/run/netns/node1 mount --bind {} {SETTINGS}_max", file.display()));
    // What fits into half of it is asked as ever.
    verify("lab/default").expect(0);
    assert!(count() <= before + free / 2, "{} of {free}", count() - before);
    fs::write(file, count().to_string()).unwrap();
    let started = Instant::now();
    let run = verify("lab/default").expect(3);
    assert!(run.stdout.contains("nf_conntrack_max"), "{}", run.stdout);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    podwire("lab down").expect(0);
}

/// What node1 loses on its way from pod1: so many packets of those that match, or all.
fn lose(matching: &str, packets: &str) {
    sh(&format!(
        "ip netns exec node1 nft add table ip lossy
         ip netns exec node1 nft add chain ip lossy f '{{ type filter hook forward priority 0; }}'
         ip netns exec node1 nft add rule ip lossy f ip saddr 10.244.1.2 {matching} {packets} drop"
    ));
}

/// Of all notes of a report, that some were answered only the second time.
fn late(report: &Value) -> Option<&str> {
    let notes = report["notes"].as_array().unwrap();
    let mut notes = notes.iter().filter_map(Value::as_str);
    notes.find_map(|it| it.strip_prefix("answered only when asked again: "))
}

/// Where all that is sent the first time is lost, and what is sent after it arrives, nothing is broken,
/// and the report says what has happened.
#[test]
fn what_is_lost_at_first_is_asked_again_and_told() {
    isolated!();
    podwire("lab up --nodes 2 --pods 2 --backend vxlan --dns").expect(0);
    assert_eq!(late(&document(&podwire("verify lab/default -o json").expect(0))), None);
    // Within a second a question is sent four or five times, at each of both times; a query three times.
    let burst = |packets| format!("limit rate 1/day burst {packets} packets");
    lose("ip daddr 10.244.2.2 icmp type echo-request", &burst(5));
    lose("ip daddr 10.244.2.2 udp length 1000-2000", &burst(5));
    lose("udp dport 53", &burst(3));
    let run = podwire("verify lab/default --timeout 1s -o json").expect(0);
    let report = document(&run);
    let told = late(&report).unwrap();
    assert!(told.starts_with("3 of "), "{told}");
    assert!(told.ends_with(" questions; packets get lost somewhere, or the machine is too busy"));
    for name in ["pod-to-pod", "mtu", "dns"] {
        assert_eq!(rule(&report, name)["pass"], rule(&report, name)["pairs"], "{name}");
    }
    assert_eq!(late(&document(&podwire("verify lab/default -o json").expect(0))), None);
    podwire("lab down").expect(0);
}

/// Asking again takes no longer than waiting once more, and finds the same.
#[test]
fn what_is_always_lost_stays_broken() {
    const PATIENCE: Duration = Duration::from_secs(1);
    isolated!();
    podwire("lab up --nodes 2 --pods 2 --backend vxlan").expect(0);
    let timed = |code| {
        let started = Instant::now();
        let run = podwire("verify lab/default --timeout 1s --skip mtu -o json").expect(code);
        (document(&run), started.elapsed())
    };
    let (_, healthy) = timed(0);
    lose("ip daddr 10.244.2.0/24", "");
    let (report, broken) = timed(1);
    assert_eq!(rule(&report, "pod-to-pod")["fail"], 4);
    assert_eq!(late(&report), None);
    // Beside what the machine may take at any time.
    assert!(broken < healthy + PATIENCE * 3, "{broken:?}, {healthy:?} of a healthy one");
    podwire("lab down").expect(0);
}

/// What is in all namespaces of this machine, but for link-local addresses, which come when they
/// like; and who has a socket there.
fn state() -> String {
    let one = |name: String| {
        sh(&format!(
            "echo {name}; ip -n {name} -o link | sed 's/ state .*//'; \
             ip -n {name} -o addr | grep -v fe80; ip -n {name} rule; \
             ip -n {name} route show table all | grep -v fe80; \
             ip netns exec {name} nft --stateless list ruleset; \
             ip netns exec {name} ss -Hnatuwx0 | sed 's/^/socket /'"
        ))
    };
    names("/run/netns").into_iter().map(one).collect()
}

/// Of a run that is killed nothing stays but neighbours, which the kernel drops when it needs room; and
/// the next one says the same as ever.
#[test]
fn a_kill_at_any_time_leaves_nothing() {
    isolated!();
    podwire("lab up --nodes 2 --pods 2 --backend host-gw --host-port 8080").expect(0);
    verify("lab/default").expect(0);
    let before = state();
    assert!(!before.contains("socket"), "{before}");
    for step in 0..15 {
        let millis = step * 20;
        let mut child = command("verify lab/default --timeout 400ms").spawn().unwrap();
        sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(state(), before, "after {millis} ms");
    }
    let written = names("/run/netns").into_iter();
    let written = written.map(|name| sh(&format!("ip -n {name} neigh show nud permanent")));
    assert_eq!(written.collect::<String>(), "");
    verify("lab/default").expect(0);
    assert_eq!(state(), before);
    podwire("lab down").expect(0);
    assert_nothing_left();
}

/// An interrupt takes back also what the kernel has learned of neighbours.
#[test]
fn an_interrupt_at_any_time_leaves_nothing() {
    isolated!();
    podwire("lab up --nodes 2 --pods 2 --backend host-gw --host-port 8080").expect(0);
    sh("ip -n pod2 link set eth0 down");
    verify("lab/default").expect(1);
    // What an earlier packet has made known stays, so it is forgotten before. Beyond the nodes and their
    // pods nothing is looked at, and they remember their way there.
    let own = || names("/run/netns").into_iter().filter(|it| it != "net" && it != "outside");
    let learned = || -> usize {
        let of = |name| {
            sh(&format!(
                "ip -n {name} -4 neigh show nud all | grep -vwE 'NOARP|192.0.2.1|FAILED' || true"
            ))
        };
        own().map(|name| of(name).lines().count()).sum()
    };
    let forget = || own().for_each(|name| drop(sh(&format!("ip -n {name} neigh flush all"))));
    let before = state();
    for signal in [Signal::INT, Signal::TERM] {
        for step in 1..6 {
            let millis = step * 150;
            forget();
            let child = command("verify lab/default --timeout 20s").spawn().unwrap();
            sleep(Duration::from_millis(millis));
            kill_process(Pid::from_child(&child), signal).unwrap();
            let run = finish(child);
            let code = if signal == Signal::INT { 130 } else { 143 };
            // A signal that comes before it is listened to ends the process at once.
            assert!(run.code.is_none() || run.code == Some(code), "after {millis} ms: {run:?}");
            assert_eq!(run.stdout, "", "nothing is claimed");
            assert_eq!(state(), before, "after {millis} ms");
            // On a busy machine a packet arrives late, and makes one known again.
            assert!(learned() <= 2, "{} after {millis} ms", learned());
        }
    }
    podwire("lab down").expect(0);
    assert_nothing_left();
}

/// Pods that go away at any time are no fault of the network: they are named, and everything else is
/// told.
#[test]
fn pods_that_vanish_at_any_time_break_nothing() {
    const RUNS: u64 = 8;
    isolated!();
    let mut gone = 0;
    for step in 0..RUNS {
        podwire("lab up --nodes 2 --pods 3").expect(0);
        // What a policy keeps from pod6 is waited for, so that there is a middle.
        sh("ip netns exec node2 nft add table inet kube-router
            ip netns exec node2 nft add chain inet kube-router f '{ type filter hook forward priority 0; }'
            ip netns exec node2 nft add rule inet kube-router f ct state established accept
            ip netns exec node2 nft add rule inet kube-router f ip daddr 10.244.2.4 drop");
        let millis = step * 100;
        let child = command("verify lab/default --timeout 1s -o json").spawn().unwrap();
        sleep(Duration::from_millis(millis));
        // One as a runtime does it, the other as a crash.
        podwire("lab pod rm pod2").expect(0);
        sh("ip netns del pod4");
        let run = finish(child);
        assert!([Some(0), Some(3)].contains(&run.code), "after {millis} ms: {}", run.stdout);
        gone += u64::from(run.stdout.contains(" is gone"));
        podwire("lab down").expect(0);
    }
    assert!(gone >= RUNS / 2, "only {gone} of {RUNS} runs have met a pod that was gone");
}
