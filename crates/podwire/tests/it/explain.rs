//! `podwire explain`, on labs and on networks that others made.
//!
//! A machine is looked at, what differs from run to run is made equal in its snapshot, and the
//! answers to that are held against files. `PODWIRE_BLESS=1` writes these files anew.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::Value;
use testbed::{golden, isolated, sh};

use crate::{Run, command, finish, go_plugins, podwire};

/// A snapshot of the labs of this machine, with what differs from run to run made equal.
fn snapshot() -> Value {
    golden::snapshot(&podwire("snapshot -").expect(0).stdout, |it| !it["lab"].is_null())
}

/// Asks a snapshot.
fn ask(machine: &Value, arguments: &str) -> Run {
    let mut command = command(&format!("explain --from - {arguments}"));
    command.env("COLUMNS", "100").stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Who does not understand the question reads no answer.
    let _ = stdin.write_all(machine.to_string().as_bytes());
    drop(stdin);
    finish(child)
}

/// Holds an answer against its file.
#[track_caller]
pub(crate) fn golden(name: &str, answer: &str) {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    golden::hold(files.join(name), answer);
}

/// A lab, what is asked, and that nothing is wrong with it.
#[track_caller]
fn lab(flags: &str, questions: &[(&str, &str)]) -> Value {
    podwire(&format!("lab up {flags}")).expect(0);
    let machine = snapshot();
    podwire("lab down").expect(0);
    let everything = ask(&machine, "lab/default -o json").expect(0);
    let everything: Value = serde_json::from_str(&everything.stdout).unwrap();
    assert_eq!(everything["findings"], Value::Array(vec![]), "lab up {flags}");
    for (name, question) in questions {
        golden(name, &ask(&machine, question).expect(0).stdout);
    }
    machine
}

#[test]
fn a_pod_of_our_plugins() {
    isolated!();
    lab(
        "--pods 2",
        &[
            ("pod.txt", "pod/pod1 --teach"),
            ("pod.json", "pod/pod1 -o json"),
            ("node.txt", "node/node1"),
            ("link.txt", "link/node1:cni0"),
        ],
    );
}

#[test]
fn a_pod_of_the_go_plugins() {
    isolated!();
    go_plugins();
    lab("--pods 2 --plugin-dir /usr/lib/cni", &[("go.txt", "pod/pod1 --teach")]);
}

#[test]
fn dual_stack() {
    isolated!();
    lab("--pods 2 --dual-stack", &[("dual-stack.txt", "pod/pod2")]);
}

#[test]
fn nodes_joined_by_vxlan() {
    isolated!();
    lab(
        "--nodes 3 --pods 1 --backend vxlan",
        &[
            ("vxlan.txt", "pod/pod1 --teach"),
            ("lab.txt", "lab/default"),
            ("lab.json", "lab/default -o json"),
        ],
    );
}

#[test]
fn nodes_joined_by_gpe() {
    isolated!();
    lab("--nodes 3 --pods 1 --backend gpe --dual-stack", &[("gpe.txt", "node/node2")]);
}

#[test]
fn nodes_joined_by_routes() {
    isolated!();
    lab("--nodes 3 --pods 2 --backend host-gw", &[("host-gw.txt", "pod/pod3")]);
}

#[test]
fn the_textbook() {
    isolated!();
    lab("--plain", &[("plain.txt", "lab/default"), ("plain-netns.txt", "netns/node1 --teach")]);
}

#[test]
fn nothing_is_wrong_with_a_healthy_lab() {
    isolated!();
    for flags in [
        "--pods 1",
        "--pods 3 --dual-stack",
        "--nodes 4 --pods 1 --routed",
        "--nodes 2 --pods 1 --ipv6",
        "--nodes 2 --pods 1 --backend gpe --routed",
        "--nodes 2 --pods 1 --backend host-gw --dual-stack",
    ] {
        lab(flags, &[]);
    }
}

/// As Docker makes them, by hand: a bridge, masquerade, a port of the node.
#[test]
fn a_bridge_by_hand() {
    isolated!();
    sh("ip netns add web
        ip link add docker0 type bridge
        ip addr add 172.17.0.1/16 dev docker0
        ip link set docker0 up
        ip link add vethweb type veth peer name eth0 netns web
        ip link set vethweb master docker0 up
        ip -n web addr add 172.17.0.2/16 dev eth0
        ip -n web link set eth0 up
        ip -n web link set lo up
        ip -n web route add default via 172.17.0.1
        nft add table ip nat
        nft add chain ip nat POSTROUTING '{ type nat hook postrouting priority 100; }'
        nft add rule ip nat POSTROUTING ip saddr 172.17.0.0/16 oifname != docker0 masquerade
        nft add chain ip nat PREROUTING '{ type nat hook prerouting priority -100; }'
        nft add rule ip nat PREROUTING iifname != docker0 tcp dport 8080 dnat to 172.17.0.2:80");
    let text = podwire("snapshot -").expect(0).stdout;
    let machine = golden::snapshot(&text, |it| it["role"] == "host" || it["name"] == "web");
    golden("by-hand.txt", &ask(&machine, "netns/web --teach").expect(0).stdout);
}

/// A pod with a route instead of a bridge, one on the wire of the node, and one with nothing.
#[test]
fn other_ways_than_a_bridge() {
    isolated!();
    sh("ip netns add routed; ip netns add wired; ip netns add alone
        ip link add uplink type veth peer name wire
        ip addr add 192.0.2.1/24 dev uplink
        ip link set uplink up; ip link set wire up
        ip link add vethrouted type veth peer name eth0 netns routed
        ip addr add 10.2.0.1/32 dev vethrouted
        ip link set vethrouted up
        ip route add 10.2.0.2/32 dev vethrouted
        ip -n routed addr add 10.2.0.2/24 dev eth0
        ip -n routed link set eth0 up
        ip -n routed route del 10.2.0.0/24
        ip -n routed route add 10.2.0.1 dev eth0
        ip -n routed route add default via 10.2.0.1
        ip link add link uplink name mac0 type macvlan mode bridge
        ip link set mac0 netns wired name eth0
        ip -n wired addr add 192.0.2.9/24 dev eth0
        ip -n wired link set eth0 up
        sysctl -qw net.ipv4.ip_forward=1");
    let text = podwire("snapshot -").expect(0).stdout;
    let ours = ["routed", "wired", "alone"];
    let machine = golden::snapshot(&text, |it| {
        it["role"] == "host" || ours.iter().any(|name| it["name"] == *name)
    });
    for name in ours {
        let answer = ask(&machine, &format!("netns/{name} --teach")).expect(0);
        golden(&format!("by-hand-{name}.txt"), &answer.stdout);
    }
    golden("machine.txt", &ask(&machine, "").expect(0).stdout);
}

/// Something is broken, and found, by its code.
#[track_caller]
fn broken(flags: &str, how: &str, question: &str, code: &str) {
    podwire(&format!("lab up {flags}")).expect(0);
    sh(how);
    let machine = snapshot();
    podwire("lab down").expect(0);
    let answer = ask(&machine, &format!("{question} -o json"));
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    let findings = answer["findings"].as_array().unwrap();
    let codes: Vec<&str> = findings.iter().map(|it| it["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&code), "{how}: {codes:?}");
    for finding in findings {
        assert!(!finding["consequence"].as_str().unwrap().is_empty());
    }
}

#[test]
fn what_is_wrong_stands_at_the_end() {
    isolated!();
    podwire("lab up --pods 2").expect(0);
    sh("ip -n pod1 route replace default via 10.1.0.99");
    let machine = snapshot();
    podwire("lab down").expect(0);
    let answer = ask(&machine, "pod/pod1 --teach").expect(1);
    golden("broken.txt", &answer.stdout);
    // Another pod's fault is none of this one.
    ask(&machine, "pod/pod2").expect(0);
    let mut machine = machine;
    machine["gaps"] = serde_json::json!([{ "what": "pod3", "why": "it is locked" }]);
    let unread = ask(&machine, "pod/pod2").expect(3);
    assert!(unread.stdout.contains("pod3 could not be read: it is locked."), "{}", unread.stdout);
    assert!(!unread.stdout.contains("Nothing unusual"), "{}", unread.stdout);
}

/// Where what decides is not read, all is not called well.
#[test]
fn vlans_of_a_bridge_are_a_gap() {
    isolated!();
    let mut machine = lab("--pods 2", &[]);
    ask(&machine, "pod/pod1").expect(0);
    for namespace in machine["namespaces"].as_array_mut().unwrap() {
        for link in namespace["dump"]["links"].as_object_mut().unwrap().values_mut() {
            if link["ifname"] == "cni0" {
                link["info_data"]["bridge"]["vlan_filtering"] = true.into();
            }
        }
    }
    let answer = ask(&machine, "pod/pod1").expect(3);
    assert!(answer.stdout.contains("keeps VLANs apart"), "{}", answer.stdout);
    assert!(!answer.stdout.contains("Nothing unusual"), "{}", answer.stdout);
}

/// What the tour shows is what podwire says.
#[test]
fn the_tour_is_of_these_answers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(root.join("tests/golden")).unwrap();
    let answers: Vec<String> =
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let tour = fs::read_to_string(root.join("../../docs/tour.md")).unwrap();
    let blocks: Vec<&str> =
        tour.split("```text\n").skip(1).filter_map(|text| text.split("```").next()).collect();
    assert!(blocks.len() > 5);
    for block in blocks {
        assert!(answers.iter().any(|answer| answer.contains(block)), "{block}");
    }
}

#[test]
fn what_is_wrong_on_a_node_is_found() {
    isolated!();
    let veth =
        "$(ip -n node1 -o link show master cni0 | head -1 | sed 's/^[0-9]*: \\([^@]*\\)@.*/\\1/')";
    for (how, code) in [
        ("ip -n pod1 link set eth0 down".to_owned(), "linkDown"),
        ("ip -n node1 link set cni0 down".to_owned(), "linkDown"),
        (format!("ip -n node1 link set {veth} nomaster"), "cableLoose"),
        (format!("bridge -n node1 link set dev {veth} state 0"), "portBlocked"),
        (format!("ip -n node1 link set {veth} mtu 1300"), "mtuMixed"),
        ("ip -n pod1 route del default".to_owned(), "defaultRouteMissing"),
        ("ip -n pod1 route replace default via 10.1.0.99".to_owned(), "gatewayMissing"),
        ("ip -n node1 addr del 10.1.0.1/24 dev cni0".to_owned(), "gatewayMissing"),
        ("ip -n pod1 addr add 10.1.0.3/24 dev eth0".to_owned(), "addressTwice"),
        (
            "ip -n pod1 link set eth0 address $(ip -n pod2 -br link show eth0 | awk '{print $3}')".to_owned(),
            "macTwice",
        ),
        ("ip -n pod1 addr add 10.1.0.77/16 dev eth0".to_owned(), "addressMismatch"),
        ("ip netns exec node1 nft flush ruleset".to_owned(), "masqueradeMissing"),
        (
            "ip netns exec node1 nft 'add table inet podwire_cni { flags dormant; }'".to_owned(),
            "tableDormant",
        ),
        (
            "ip netns exec node1 nft add table inet mine; ip netns exec node1 nft add chain inet mine f '{ type filter hook forward priority 0; }'; ip netns exec node1 nft add rule inet mine f ip saddr 10.1.0.0/24 drop".to_owned(),
            "podsDropped",
        ),
        (
            "ip netns exec node1 nft add table inet mine; ip netns exec node1 nft add chain inet mine f '{ type filter hook forward priority 0; policy drop; }'".to_owned(),
            "podsDropped",
        ),
        (nft("bridge", "type filter hook forward priority 0", "ip saddr 10.1.0.2 drop"), "podsDropped"),
        (nft("bridge", "type filter hook prerouting priority 0", "ip saddr 10.1.0.2 drop"), "podsDropped"),
        (nft("bridge", "type filter hook forward priority 0; policy drop", ""), "podsDropped"),
        (nft("bridge", "type filter hook input priority 0", "meta protocol arp drop"), "podsDropped"),
        (nft("arp", "type filter hook input priority 0; policy drop", ""), "podsDropped"),
        (
            nft("netdev", &format!("type filter hook ingress device {veth} priority 0"), "ip saddr 10.1.0.0/24 drop"),
            "podsDropped",
        ),
        (
            nft("netdev", &format!("type filter hook egress device {veth} priority 0; policy drop"), ""),
            "podsDropped",
        ),
        ("ip netns exec node1 sysctl -qw net.ipv4.ip_forward=0".to_owned(), "forwardingOff"),
        ("rm /run/podwire/lab/default/cni/networks/podwire/10.1.0.2".to_owned(), "reservationMissing"),
        (
            "printf 'gone\\r\\neth0' > /run/podwire/lab/default/cni/networks/podwire/10.1.0.9".to_owned(),
            "reservationUnknown",
        ),
    ] {
        broken("--pods 2", &how, "node/node1", code);
    }
}

/// A table of somebody else's on a node, with one chain.
fn nft(family: &str, base: &str, rule: &str) -> String {
    format!(
        "ip netns exec node1 nft -f - <<RULES\ntable {family} mine {{ chain c {{ {base};\n{rule}\n}}\n}}\nRULES"
    )
}

/// What rules do to frames is followed like what they do to packets: what is surely dropped is wrong,
/// what may be is told, and what befalls others is not.
#[test]
fn rules_for_frames_are_followed() {
    isolated!();
    podwire("lab up --pods 2").expect(0);
    sh(&nft("bridge", "type filter hook forward priority 0", "ip saddr 10.1.0.3 drop"));
    let machine = snapshot();
    let answer = ask(&machine, "pod/pod2").expect(1);
    let says = "What comes from 10.1.0.3 is dropped (drop, chain c of nft table bridge mine)";
    assert!(unwrapped(&answer.stdout).contains(says), "{}", answer.stdout);
    ask(&machine, "pod/pod1").expect(0);
    for (rule, says) in [
        ("tcp dport 80 drop", "What is for tcp port 80 is dropped"),
        ("ether type arp drop", "(which podwire does not read) is dropped"),
    ] {
        sh("ip netns exec node1 nft flush ruleset bridge");
        sh(&nft("bridge", "type filter hook forward priority 0", rule));
        let answer = ask(&snapshot(), "pod/pod1").expect(0);
        let says = format!("{says} (drop, chain c of nft table bridge mine)");
        assert!(unwrapped(&answer.stdout).contains(&says), "{}", answer.stdout);
    }
    podwire("lab down").expect(0);
}

/// A text without the ends of its lines.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_table_that_sleeps_drops_nothing() {
    isolated!();
    podwire("lab up --pods 2").expect(0);
    sh(
        "ip netns exec node1 nft 'table inet mine { chain f { type filter hook forward priority 0; policy drop; }; }'",
    );
    ask(&snapshot(), "pod/pod1").expect(1);
    sh("ip netns exec node1 nft 'add table inet mine { flags dormant; }'");
    ask(&snapshot(), "pod/pod1").expect(0);
    // What would wake one of ours is said, and does.
    sh("ip netns exec node1 nft 'add table inet podwire_cni { flags dormant; }'");
    let machine = snapshot();
    let answer = ask(&machine, "pod/pod1 -o json").expect(1);
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    let findings = answer["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0]["code"], "tableDormant");
    sh(findings[0]["remedy"].as_str().unwrap());
    ask(&snapshot(), "pod/pod1").expect(0);
    podwire("lab down").expect(0);
}

#[test]
fn what_is_wrong_between_nodes_is_found() {
    isolated!();
    let vxlan = "--nodes 2 --pods 1 --backend vxlan";
    let routes = "--nodes 3 --pods 1 --backend host-gw";
    for (flags, how, code) in [
        (vxlan, "ip -n node1 link set podwire0 mtu 1500", "mtuTunnel"),
        (vxlan, "ip -n node1 link set eth0 mtu 1400", "mtuTunnel"),
        (vxlan, "ip -n node1 link set podwire0 down", "linkDown"),
        (vxlan, "ip -n node1 route del 10.244.2.0/24", "peerRouteMissing"),
        (
            vxlan,
            "ip netns exec node1 nft add table inet mine; ip netns exec node1 nft add chain inet mine f '{ type filter hook input priority 0; }'; ip netns exec node1 nft add rule inet mine f udp dport 8472 drop",
            "tunnelDropped",
        ),
        (
            vxlan,
            "ip netns exec node1 nft add table ip mine; ip netns exec node1 nft add chain ip mine p '{ type nat hook postrouting priority 50; }'; ip netns exec node1 nft add rule ip mine p ip saddr 10.244.1.0/24 masquerade",
            "masqueradeBetweenPods",
        ),
        (routes, "ip -n node1 route replace 10.244.2.0/24 via 192.0.2.13", "peerRouteWrong"),
        (routes, "ip -n node1 route replace 10.244.2.0/24 via 192.0.2.99", "routeStale"),
    ] {
        broken(flags, how, "lab/default", code);
    }
}

#[test]
fn what_is_not_there_is_not_guessed() {
    isolated!();
    let machine = lab("--pods 2", &[]);
    for (question, says) in [
        ("pod/pod3", "there is pod/pod1 and pod/pod2"),
        ("node/node2", "there is node/node1"),
        ("lab/other", "there is lab/default"),
        ("link/eth0", "link/pod1:eth0"),
        ("container/default-pod", "container/default-pod1 and container/default-pod2"),
        ("pid/4000000", "there is no pid/4000000"),
    ] {
        let answer = ask(&machine, question).expect(4);
        assert!(answer.stderr.contains(says), "{question}: {}", answer.stderr);
        assert!(answer.stdout.is_empty());
    }
    for question in ["container/default-pod1", "netns/pod1", "netns//run/netns/pod1"] {
        let answer = ask(&machine, question).expect(0);
        assert!(answer.stdout.contains("10.1.0.2"), "{question}");
    }
    ask(&machine, "pod").expect(2);
    ask(&machine, "pod/").expect(2);
    ask(&Value::Null, "pod/pod1").expect(2);
    podwire("explain --from /nowhere").expect(2);
}

#[test]
fn names_by_strangers_reach_no_terminal() {
    isolated!();
    let mut machine = lab("--pods 1", &[]);
    let namespaces = machine["namespaces"].as_array_mut().unwrap();
    for namespace in namespaces {
        for link in namespace["dump"]["links"].as_object_mut().unwrap().values_mut() {
            if link["ifname"] == "cni0" {
                link["ifname"] = "\u{1b}[2J\u{7}<b>".into();
                link["ifalias"] = "\u{9b}31m".into();
            }
        }
    }
    for question in ["pod/pod1 --teach", "node/node1 --teach", "lab/default --teach"] {
        let answer = ask(&machine, question);
        let is_harmful = |char: char| char.is_control() && char != '\n';
        assert!(!answer.stdout.contains(is_harmful), "{question}: {:?}", answer.stdout);
    }
}
