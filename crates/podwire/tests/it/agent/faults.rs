//! Faults while packets flow: what was broken is repaired, what was healthy notices nothing.

use std::time::{Duration, Instant};

use testbed::Namespace;
use testbed::look::{eventually, source_seen};

use super::cluster::{Cluster, DUAL, Node, V4};
use super::traffic::{Outcome, Pair, Traffic};

/// How long a repair may take.
pub(super) const GOAL: Duration = Duration::from_secs(1);

/// Within which time a source is heard again that had vanished.
pub(super) const BACK: Duration = Duration::from_secs(8);

/// What becomes of the packets between the pods of n1 and n2 while `harm` is done. Connections
/// survive it, and where there are more nodes, the pods of the last two notice nothing.
#[track_caller]
pub(super) fn during(cluster: &mut Cluster, harm: impl FnOnce(&mut Cluster)) -> Outcome {
    let last = cluster.nodes.len();
    let bystanders = (last > 2).then(|| between(cluster, last - 1, last, 7778));
    let traffic = flow(cluster);
    harm(cluster);
    let outcome = stem(traffic);
    if let Some(bystanders) = bystanders {
        assert_unnoticed("between other nodes", &bystanders.stop());
    }
    outcome
}

fn between(cluster: &Cluster, near: usize, far: usize, port: u16) -> Traffic {
    let end = |n: usize| (&cluster.nodes[n - 1].pod, cluster.pod_address(n));
    Traffic::start(&Pair { near: end(near), far: end(far), port })
}

/// From now on, packets go between the pods of n1 and n2.
pub(super) fn flow(cluster: &Cluster) -> Traffic {
    let traffic = between(cluster, 1, 2, 7777);
    std::thread::sleep(Duration::from_millis(100));
    traffic
}

/// What became of them, also a while after all that was done.
#[track_caller]
pub(super) fn stem(traffic: Traffic) -> Outcome {
    std::thread::sleep(Duration::from_millis(400));
    // What is never repaired is an outage as long as this.
    traffic.wait_for_one(GOAL);
    let outcome = traffic.stop();
    // Bytes come through in the end, so that what is lost is lost no longer.
    assert!(outcome.flow.is_whole(), "{outcome:?}");
    outcome
}

#[track_caller]
pub(super) fn assert_repaired(what: &str, outcome: &Outcome) {
    let Outcome { sent, lost, outage, flow } = outcome;
    println!(
        "{what}: repaired in {} ms, {lost} of {sent} packets lost; TCP paused for {} ms",
        outage.as_millis(),
        flow.pause.as_millis()
    );
    assert!(*outage < GOAL, "{what}: {outcome:?}");
}

#[track_caller]
pub(super) fn assert_unnoticed(what: &str, outcome: &Outcome) {
    let Outcome { sent, lost, flow, .. } = outcome;
    println!("{what}: {lost} of {sent} packets lost, {} segments sent again", flow.again);
    assert!(flow.is_whole(), "{what}: {outcome:?}");
    assert_eq!((*lost, flow.again), (0, 0), "{what}: {outcome:?}");
    assert!(*sent > 100, "{what}: {outcome:?}");
}

pub(super) const TUNNELS: [&str; 3] = ["backend: vxlan", "tunnel: {form: classic}", "backend: gpe"];

/// Shell commands in the namespace of n1.
const HARM: [(&str, &str); 8] = [
    ("the tunnel device deleted", "ip link delete podwire0"),
    ("the tunnel device set down", "ip link set podwire0 down"),
    ("all routes flushed", "ip route flush proto 112; ip route flush table 112"),
    ("the tunnel device's MTU changed", "ip link set podwire0 mtu 600"),
    ("its address removed", "ip address flush dev podwire0"),
    ("the rule deleted", "ip rule delete priority 3112"),
    ("the nft table deleted", "nft delete table inet podwire"),
    (
        "the uplink flapped",
        "ip link set eth0 down; ip link set eth0 up; ip route replace default via 192.0.2.254",
    ),
];

fn heal(settings: &str) {
    let mut cluster = Cluster::new(3, settings, V4);
    cluster.start();
    let before = testbed::state(&cluster.nodes[0].space);
    for (what, script) in HARM {
        let outcome = during(&mut cluster, |cluster| {
            cluster.node(1).space.sh(script);
        });
        assert_repaired(&format!("{settings}: {what}"), &outcome);
        let deadline = Instant::now() + GOAL;
        while Instant::now() < deadline && testbed::state(&cluster.nodes[0].space) != before {
            std::thread::sleep(Duration::from_millis(50));
        }
        testbed::assert_same_state(&before, &testbed::state(&cluster.nodes[0].space));
        cluster.nodes[0].wait_until_ready();
    }
}

#[test]
fn vxlan_heals() {
    testbed::isolated!();
    heal(TUNNELS[0]);
}

#[test]
fn classic_vxlan_heals() {
    testbed::isolated!();
    heal(TUNNELS[1]);
}

#[test]
fn gpe_heals() {
    testbed::isolated!();
    heal(TUNNELS[2]);
}

#[test]
fn entries_of_peers_come_back() {
    testbed::isolated!();
    let mut cluster = Cluster::new(3, TUNNELS[1], V4);
    cluster.start();
    for (what, script) in [
        ("the neighbour deleted", "ip neighbour flush dev podwire0 nud permanent"),
        (
            "the neighbour changed",
            "ip neighbour replace 10.244.2.0 lladdr 02:00:00:00:00:01 dev podwire0 nud permanent",
        ),
        (
            "the forwarding entry deleted",
            "for m in $(bridge fdb show dev podwire0 | awk '/dst/ {print $1}'); do \
             bridge fdb delete $m dev podwire0; done",
        ),
    ] {
        let outcome = during(&mut cluster, |cluster| {
            cluster.node(1).space.sh(script);
        });
        assert_repaired(what, &outcome);
    }
}

#[test]
fn plain_routes_come_back() {
    testbed::isolated!();
    let mut cluster = Cluster::new(3, "backend: host-gw", V4).let_through();
    cluster.start();
    for (what, script) in [
        ("all routes flushed", "ip route flush proto 112"),
        ("a route replaced by another's", "ip route replace 10.244.2.0/24 via 192.0.2.77"),
        ("the uplink flapped", "ip link set eth0 down; ip link set eth0 up"),
    ] {
        let outcome = during(&mut cluster, |cluster| {
            cluster.node(1).space.sh(script);
        });
        assert_repaired(&format!("host-gw: {what}"), &outcome);
    }
}

#[test]
fn ipv6_comes_back_too() {
    testbed::isolated!();
    let mut cluster = Cluster::new(3, "backend: gpe", super::cluster::V6);
    cluster.start();
    for (what, script) in [
        ("the tunnel device deleted", "ip link delete podwire0"),
        ("the tunnel too small for IPv6", "ip link set podwire0 mtu 1000"),
        ("all routes flushed", "ip -6 route flush proto 112; ip -6 route flush table 112"),
        (
            "a route replaced by another's",
            "ip -6 route replace fd00:10:244:2::/64 via 2001:db8::77",
        ),
    ] {
        let outcome = during(&mut cluster, |cluster| {
            cluster.node(1).space.sh(script);
        });
        assert_repaired(&format!("IPv6: {what}"), &outcome);
    }
}

#[test]
fn an_uplink_that_changes_is_followed() {
    testbed::isolated!();
    let mut cluster = Cluster::new(2, "backend: vxlan", DUAL);
    cluster.start();
    let outcome = during(&mut cluster, |cluster| {
        for node in &cluster.nodes {
            node.space.sh("ip link set eth0 mtu 1400");
        }
        cluster.switch.sh("ip link set br0 mtu 1400");
    });
    assert_unnoticed("the underlay's MTU changed", &outcome);
    for node in &cluster.nodes {
        eventually("the tunnel follows", || (node.status()["mtu"] == 1330).then_some(()));
        let list =
            cluster.directory.path().join(format!("n{}/net.d/10-podwire.conflist", node.number));
        assert!(std::fs::read_to_string(list).unwrap().contains("\"mtu\": 1330"));
    }
    // The node's own address goes, and comes back.
    let outcome = during(&mut cluster, |cluster| {
        cluster.node(1).space.sh("ip address delete 192.0.2.1/24 dev eth0");
        eventually("it is said", || {
            cluster.nodes[0].problems().contains(&"families".to_owned()).then_some(())
        });
        cluster
            .node(1)
            .space
            .sh("ip address add 192.0.2.1/24 dev eth0; ip route add default via 192.0.2.254");
        cluster.nodes[0].wait_until_ready();
    });
    println!("the uplink's address gone and back: {outcome:?}");
    assert_eq!(cluster.nodes[0].problems(), [""; 0]);
}

/// Makes the underlay of n1 again as it was.
const PLUG_IN: &str = "
    ip link add eth0 address 02:00:00:00:01:01 type veth peer name port1 netns switch
    ip -n switch link set port1 master br0 up
    sysctl -qw net.ipv6.conf.eth0.accept_dad=0
    ip link set eth0 up
    ip address add 192.0.2.1/24 dev eth0; ip address add 2001:db8::1/64 dev eth0 nodad
    ip route add default via 192.0.2.254";

/// All that is there of n1 but for the port of its pod: `bridge` names the other end by an index
/// that is the uplink's by chance.
fn state_of_first(cluster: &Cluster) -> String {
    let state = testbed::state(&cluster.nodes[0].space);
    let lines: Vec<&str> = state.lines().filter(|line| !line.starts_with("veth0@")).collect();
    lines.join("\n")
}

#[test]
fn an_uplink_that_is_removed_and_made_again_is_followed() {
    testbed::isolated!();
    for settings in TUNNELS.into_iter().chain(["backend: host-gw"]) {
        let cluster = Cluster::new(3, settings, DUAL);
        let is_plain = settings.contains("host-gw");
        let mut cluster = if is_plain { cluster.let_through() } else { cluster };
        cluster.start();
        let before = state_of_first(&cluster);
        let mut repair = Duration::ZERO;
        let outcome = during(&mut cluster, |cluster| {
            let [first, second, third] = &cluster.nodes[..] else { panic!("three nodes") };
            first.space.sh("ip link delete eth0");
            let problems =
                eventually("it is said", || Some(first.problems()).filter(|it| !it.is_empty()));
            assert_eq!(problems, ["noUplink"]);
            // What is healthy goes on: other nodes, and the node itself.
            let is_joined = |from: &Namespace, to: &Namespace, address: &str| {
                source_seen(from.netns(), to.netns(), address.parse().unwrap()).is_some()
            };
            assert!(is_joined(&second.pod, &third.pod, "10.244.3.2"));
            assert!(is_joined(&first.space, &first.pod, "10.244.1.2"));
            first.space.sh(PLUG_IN);
            // The kernel has a new device carry packets up to a second late.
            assert!(is_joined(&first.space, &second.space, "192.0.2.2"));
            let back = Instant::now();
            assert!(is_joined(&first.pod, &second.pod, "10.244.2.2"));
            repair = back.elapsed();
            first.wait_until_ready();
        });
        let Outcome { lost, outage, .. } = outcome;
        let (repair, outage) = (repair.as_millis(), outage.as_millis());
        println!(
            "{settings}: the uplink removed and made again: repaired {repair} ms after it was back, \
             {lost} packets lost in {outage} ms"
        );
        assert!(repair < GOAL.as_millis(), "{settings}: {outcome:?}");
        eventually("all is as before", || (state_of_first(&cluster) == before).then_some(()));
        // It was said once, and that it is over.
        let log = cluster.nodes[0].log();
        let said = |what: &str| {
            let lines = log.lines().filter(|line| line.contains("\"noUplink\""));
            lines.filter(|line| line.contains(what)).count()
        };
        assert_eq!((said("no device carries 192.0.2.1"), said("this is over")), (2, 1), "{log}");
    }
}

/// Gives n1 another address, as an administrator or DHCP does.
fn readdress(cluster: &Cluster, from: &str, to: &str) {
    cluster.nodes[0].space.sh(&format!(
        "ip address delete {from}/24 dev eth0; ip address add {to}/24 dev eth0
        ip route add default via 192.0.2.254"
    ));
}

#[test]
fn a_node_that_gets_another_address_is_followed() {
    testbed::isolated!();
    for settings in TUNNELS.into_iter().chain(["backend: host-gw"]) {
        let cluster = Cluster::new(3, settings, V4);
        let is_plain = settings.contains("host-gw");
        let mut cluster = if is_plain { cluster.let_through() } else { cluster };
        cluster.start();
        let before = testbed::state(&cluster.nodes[0].space);
        let (old, new) = ("192.0.2.1", "192.0.2.11");
        let list = |cluster: &Cluster, address: &str| {
            cluster.spoil(1, &format!("{old:?}"), &format!("{address:?}"));
        };
        for (order, is_node_first) in [("the node", true), ("the source", false)] {
            let (from, to) = if is_node_first { (old, new) } else { (new, old) };
            let mut repair = Duration::ZERO;
            let outcome = during(&mut cluster, |cluster| {
                let mut steps: [&dyn Fn(); 2] =
                    [&|| readdress(cluster, from, to), &|| list(cluster, to)];
                if !is_node_first {
                    steps.reverse();
                }
                steps[0]();
                let first = &cluster.nodes[0];
                eventually("it is said", || (first.problems() == ["noUplink"]).then_some(()));
                let begin = Instant::now();
                steps[1]();
                let (near, far) = (first.pod.netns(), cluster.nodes[1].pod.netns());
                assert!(source_seen(near, far, cluster.pod_address(2)).is_some());
                repair = begin.elapsed();
            });
            let Outcome { sent, lost, flow, .. } = &outcome;
            println!(
                "{settings}: another address, first at {order}: repaired in {} ms after the other \
                 knew, {lost} of {sent} packets lost; TCP paused for {} ms",
                repair.as_millis(),
                flow.pause.as_millis()
            );
            assert!(repair < GOAL, "{outcome:?}");
            eventually("all is well", || {
                let is_well = |it: &Node| it.problems().is_empty();
                cluster.nodes.iter().all(is_well).then_some(())
            });
            for node in &cluster.nodes {
                let all = node.space.sh("ip route show table all; bridge fdb; nft list ruleset");
                let is_left = all.split_whitespace().any(|word| word.trim_matches(',') == from);
                assert!(!is_left, "n{} still has {from}:\n{all}", node.number);
            }
        }
        testbed::assert_same_state(&before, &testbed::state(&cluster.nodes[0].space));
    }
}

#[test]
fn agents_that_end_and_begin_lose_nothing() {
    testbed::isolated!();
    for settings in TUNNELS {
        let mut cluster = Cluster::new(3, settings, V4);
        cluster.start();
        let outcome = during(&mut cluster, |cluster| {
            let node = cluster.node(1);
            node.stop();
            node.start();
            node.wait_until_ready();
            node.kill();
            node.start();
            node.wait_until_ready();
        });
        assert_unnoticed(&format!("{settings}: restarts"), &outcome);
    }
}

#[test]
fn what_others_keep_on_the_node_is_left_alone() {
    testbed::isolated!();
    let mut cluster = Cluster::new(2, "backend: vxlan", V4);
    cluster.node(1).space.sh("ip route add 10.99.0.0/16 via 192.0.2.254 proto static
        ip rule add priority 5 to 10.98.0.0/16 lookup 77
        nft add table inet mine; nft add chain inet mine c
        ip link add mine type vxlan id 7 dstport 4789 dev eth0");
    cluster.start();
    let before = testbed::state(&cluster.nodes[0].space);
    for word in ["10.99.0.0/16", "10.98.0.0/16", "mine"] {
        assert!(before.contains(word), "{before}");
    }
    cluster.nodes[0].stop();
    cluster.nodes[0].podwire("--cleanup").expect(0);
    let after = testbed::state(&cluster.nodes[0].space);
    for word in ["10.99.0.0/16", "10.98.0.0/16", "mine"] {
        assert!(after.contains(word), "{after}");
    }
}

#[test]
fn a_source_that_errs_harms_nobody() {
    testbed::isolated!();
    let mut cluster = Cluster::new(6, "backend: vxlan", V4);
    cluster.start();
    let problem = |cluster: &Cluster, code: &str| {
        eventually(code, || cluster.nodes[0].problems().contains(&code.to_owned()).then_some(()));
    };
    let well = |cluster: &Cluster| {
        cluster.list(1..=6);
        eventually("all is well", || cluster.nodes[0].problems().is_empty().then_some(()));
    };
    type Harm = (&'static str, fn(&Cluster), &'static str);
    let harms: [Harm; 8] = [
        ("the file gone", |it| std::fs::remove_file(it.node_file()).unwrap(), "source"),
        ("the file empty", |it| it.write(""), "source"),
        ("the file bad", |it| it.write("nodes: [{name: n1"), "source"),
        ("no nodes", |it| it.write("nodes: []"), "notListed"),
        ("half of the nodes", |it| it.list([1, 2]), "held"),
        (
            "overlapping subnets",
            |it| it.spoil(3, "10.244.3.0/24", "10.244.2.0/25"),
            "subnetOverlap",
        ),
        ("two nodes with one address", |it| it.spoil(3, "192.0.2.3", "192.0.2.2"), "addressTwice"),
        (
            "a subnet of the underlay",
            |it| it.spoil(3, "10.244.3.0/24", "192.0.2.0/24"),
            "subnetOnUnderlay",
        ),
    ];
    for (what, harm, code) in harms {
        let outcome = during(&mut cluster, |cluster| {
            harm(cluster);
            problem(cluster, code);
            well(cluster);
        });
        assert_unnoticed(what, &outcome);
    }
}

#[test]
fn a_device_of_our_name_that_is_none_of_ours_is_named() {
    testbed::isolated!();
    let cluster = Cluster::new(2, "backend: vxlan", V4);
    cluster.nodes[0].space.sh("ip link add podwire0 type bridge");
    let told = cluster.nodes[0].podwire("--once").expect(1).stdout;
    assert!(told.contains("podwire0 is there and is not a VXLAN device"), "{told}");
    cluster.nodes[0].space.sh("ip -d link show podwire0 | grep -q bridge; ip link delete podwire0");
    cluster.nodes[0].podwire("--once").expect(0);
}

#[test]
fn a_tunnel_too_small_for_ipv6_is_refused_and_ipv4_goes_on() {
    testbed::isolated!();
    let cluster = Cluster::new(2, "backend: vxlan", DUAL);
    cluster.nodes[0].space.sh("ip link set eth0 mtu 1300");
    let told = cluster.nodes[0].podwire("--once").expect(1).stdout;
    assert!(told.contains("IPv6 pods cannot be joined: packets of at most 1230 bytes"), "{told}");
    let route = cluster.nodes[0].space.sh("ip route show 10.244.2.0/24");
    assert!(route.contains("podwire0"), "{route}");
}

#[test]
fn a_table_that_drops_what_is_forwarded_is_named() {
    testbed::isolated!();
    let cluster = Cluster::new(2, "backend: vxlan", V4);
    cluster.nodes[0].space.sh("nft add table ip firewall
        nft 'add chain ip firewall forwarded { type filter hook forward priority 0; policy drop; }'");
    let told = cluster.nodes[0].podwire("--once").stdout;
    assert!(told.contains("chain forwarded of table"), "{told}");
}

#[test]
fn what_runtimes_read_comes_back() {
    testbed::isolated!();
    let mut cluster = Cluster::new(1, "backend: vxlan", V4);
    cluster.start();
    let list = cluster.directory.path().join("n1/net.d/10-podwire.conflist");
    let before = std::fs::read_to_string(&list).unwrap();
    for harm in ["rm", "truncate -s 0"] {
        testbed::sh(&format!("{harm} {}", list.display()));
        eventually(harm, || (std::fs::read_to_string(&list).ok()? == before).then_some(()));
    }
}
