//! `podwire lab` with several nodes.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use kernel::Netns;
use serde_json::Value;
use testbed::look::{eventually, is_lost, source_seen};
use testbed::{isolated, sh};

use crate::{Agents, assert_nothing_left, command, finish, go_plugins, names, podwire};

const LAB: &str = "/run/podwire/lab/default";

/// A namespace of a lab.
struct Host {
    netns: Netns,
    /// Its addresses on eth0, IPv4 first.
    addresses: Vec<IpAddr>,
}

impl Host {
    fn of(name: &str) -> Self {
        let netns = Netns::open(&Path::new("/run/netns").join(name)).expect("a namespace");
        let show = format!(
            "ip -n {name} -o address show dev eth0 scope global | awk '{{print $4}}' | cut -d/ -f1"
        );
        let mut addresses: Vec<IpAddr> =
            sh(&show).lines().map(|line| line.parse().expect("an address")).collect();
        addresses.sort();
        Self { netns, addresses }
    }

    fn seen_by(&self, other: &Self, address: IpAddr) -> Option<IpAddr> {
        source_seen(&self.netns, &other.netns, address)
    }
}

/// All hosts but the underlay, by name.
fn hosts() -> BTreeMap<String, Host> {
    let names = names("/run/netns").into_iter().filter(|name| name != "net");
    names.map(|name| (name.clone(), Host::of(&name))).collect()
}

/// The node of a pod, where each node has one.
fn node_of(pod: &str) -> String {
    pod.replace("pod", "node")
}

/// Makes a lab of three nodes with a pod each, and holds it against the promises of Kubernetes.
fn promises(flags: &str, families: usize) {
    let up = podwire(&format!("lab up --nodes 3 --pods 1 {flags}")).expect(0);
    assert_eq!(up.stderr, "", "{flags}");
    assert_eq!(sh("ip netns exec node1 sysctl -n net.ipv4.conf.all.rp_filter").trim(), "1");
    let hosts = hosts();
    let of = |word: &str| -> Vec<(&String, &Host)> {
        hosts.iter().filter(|(name, _)| name.starts_with(word)).collect()
    };
    for (name, pod) in of("pod") {
        assert_eq!(pod.addresses.len(), families, "{flags}: {name}");
        for family in 0..families {
            let own = Some(pod.addresses[family]);
            for (other, host) in of("pod").into_iter().chain(of("node")) {
                let seen = pod.seen_by(host, host.addresses[family]);
                // On the same node, the node's own address is not behind the pod's.
                assert!(seen == own || other == name, "{flags}: {name} to {other}: {seen:?}");
            }
            let outside = &hosts["outside"];
            let seen = pod.seen_by(outside, outside.addresses[family]);
            let node = hosts[&node_of(name)].addresses[family];
            assert_eq!(seen, Some(node), "{flags}: {name} to the outside");
            // The way back is for answers only.
            assert!(is_lost(&outside.netns, &pod.netns, pod.addresses[family]), "{flags}: {name}");
        }
    }
    for (name, node) in of("node") {
        let own = sh(&format!("ip -n {name} -o address show scope global"));
        for (other, pod) in of("pod") {
            for address in &pod.addresses {
                let seen = node.seen_by(pod, *address);
                let is_own = seen.is_some_and(|seen| own.contains(&format!(" {seen}/")));
                assert!(is_own, "{flags}: {name} to {other}: {seen:?} is none of\n{own}");
            }
        }
    }
    let status = podwire("lab status").expect(0);
    assert!(status.stdout.contains("and as it was made"), "{}", status.stdout);
    drop(hosts);
    podwire("lab down").expect(0);
    assert_nothing_left();
}

#[test]
fn vxlan_keeps_the_promises() {
    isolated!();
    for underlay in ["", "--routed"] {
        promises(&format!("--backend vxlan {underlay}"), 1);
        promises(&format!("--backend vxlan --ipv6 {underlay}"), 1);
        promises(&format!("--backend vxlan --dual-stack {underlay}"), 2);
    }
}

#[test]
fn gpe_keeps_the_promises() {
    isolated!();
    for underlay in ["", "--routed"] {
        promises(&format!("--backend gpe {underlay}"), 1);
        promises(&format!("--backend gpe --ipv6 {underlay}"), 1);
        promises(&format!("--backend gpe --dual-stack {underlay}"), 2);
    }
}

#[test]
fn host_gw_keeps_the_promises_on_one_link() {
    isolated!();
    promises("--backend host-gw", 1);
    promises("--backend host-gw --ipv6", 1);
    promises("--backend host-gw --dual-stack", 2);
}

/// Beyond the router by a tunnel, on one link by plain routes.
#[test]
fn host_gw_falls_back_to_a_tunnel() {
    isolated!();
    for fallback in ["vxlan", "gpe"] {
        let flags = format!("--backend host-gw --routed --fallback {fallback}");
        promises(&flags, 1);
        promises(&format!("{flags} --dual-stack"), 2);
        podwire(&format!("lab up --nodes 3 --pods 1 {flags}")).expect(0);
        let routes = sh("ip -n node1 route show proto 112");
        assert!(routes.contains("10.244.3.0/24 via 192.0.2.13 dev eth0"), "{routes}");
        let far = routes.lines().find(|route| route.starts_with("10.244.2.0/24")).unwrap();
        assert!(far.contains("dst 198.51.100.12") && far.contains("dev podwire0"), "{routes}");
        podwire("lab down").expect(0);
    }
    let refused = podwire("lab up --nodes 2 --backend gpe --fallback vxlan").expect(2);
    assert!(refused.stderr.contains("goes with host-gw only"), "{}", refused.stderr);
}

#[test]
fn what_suits_the_machine_keeps_the_promises() {
    isolated!();
    for underlay in ["", "--routed"] {
        promises(&format!("--backend auto --dual-stack {underlay}"), 2);
    }
    podwire("lab up --nodes 2 --pods 1 --backend auto").expect(0);
    // Cables of a lab do nothing for tunnels.
    let is_gpe = sh("ip -d -n node1 link show podwire0").contains(" gpe ");
    assert_eq!(is_gpe, kernel::release() >= (6, 5));
    podwire("lab down").expect(0);
}

#[test]
fn the_plugins_of_others_keep_the_promises() {
    isolated!();
    promises(&format!("--plugin-dir {}", go_plugins()), 1);
}

#[test]
fn host_gw_names_those_beyond_a_router() {
    isolated!();
    let up = podwire("lab up --nodes 3 --pods 1 --backend host-gw --routed").expect(0);
    let beyond = "note: node/node1: node node2: 198.51.100.12 is not on the link of eth0";
    assert!(up.stderr.contains(beyond), "{}", up.stderr);
    assert!(!up.stderr.contains("node1: node node3"), "{}", up.stderr);
    let hosts = hosts();
    let (one, two, three) = (&hosts["pod1"], &hosts["pod2"], &hosts["pod3"]);
    assert_eq!(one.seen_by(three, three.addresses[0]), Some(one.addresses[0]));
    assert!(is_lost(&one.netns, &two.netns, two.addresses[0]));
    let status = podwire("lab status").expect(0);
    assert!(status.stdout.contains("note node/node1: node node2"), "{}", status.stdout);
    podwire("lab down").expect(0);
    assert_nothing_left();
}

/// What only a tunnel or a route on one link carries is not carried by the underlay.
#[test]
fn the_underlay_knows_nodes_only() {
    isolated!();
    podwire("lab up --nodes 2 --pods 1").expect(0);
    let hosts = hosts();
    let (one, two) = (&hosts["pod1"], &hosts["pod2"]);
    sh("ip -n node1 route replace 10.244.2.0/24 via 192.0.2.12
        ip netns exec node2 sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0");
    assert!(is_lost(&one.netns, &two.netns, two.addresses[0]));
    sh("ip netns exec net nft flush chain bridge underlay forward");
    assert_eq!(one.seen_by(two, two.addresses[0]), Some(one.addresses[0]));
    // Nor does its router.
    sh("ip -n node1 route replace 10.244.2.0/24 via 192.0.2.1
        ip -n net route add 10.244.2.0/24 via 192.0.2.12");
    assert!(is_lost(&one.netns, &two.netns, two.addresses[0]));
    sh("ip netns exec net nft flush chain inet underlay forward");
    assert_eq!(one.seen_by(two, two.addresses[0]), Some(one.addresses[0]));
    podwire("lab down").expect(0);
}

#[test]
fn nodes_and_pods_come_and_go() {
    isolated!();
    let _agents = Agents;
    for flags in ["", "--agents"] {
        podwire(&format!("lab up --nodes 2 --pods 1 {flags}")).expect(0);
        let shown = podwire("lab node add --dry-run").expect(0).stdout;
        assert!(shown.contains("ip -n net link add node3 type veth"), "{shown}");
        podwire("lab node add").expect(0);
        let shown = podwire("lab pod add --dry-run").expect(0).stdout;
        assert!(shown.contains("bridge ADD, CNI_NETNS=/run/netns/pod3"), "{shown}");
        let added = podwire("lab pod add").expect(0);
        assert_eq!(added.stdout, "pod/pod3 is there on node3: 10.244.3.2/24.\n");
        podwire("lab pod add node/node3").expect(0);
        podwire("lab pod add node9").expect(4);
        assert_eq!(names("/run/netns").len(), 9);
        let reached = |from: &str, to: &str| {
            let (from, to) = (Host::of(from), Host::of(to));
            (from.seen_by(&to, to.addresses[0]) == Some(from.addresses[0])).then_some(())
        };
        for (from, to) in [("pod1", "pod3"), ("pod4", "pod2"), ("pod3", "pod4")] {
            eventually("the new node is reached", || reached(from, to));
        }
        podwire("lab status").expect(0);

        podwire("lab pod rm pod/pod4").expect(0);
        podwire("lab pod rm pod/pod4").expect(4);
        let left = names(&format!("{LAB}/nodes/node3/cni/networks/podwire"));
        assert!(!left.contains(&"10.244.3.3".to_owned()), "{left:?}");
        podwire("lab pod add node3").expect(0);
        podwire("lab pod rm pod4").expect(0);
        podwire("lab node rm node2").expect(0);
        assert_eq!(names("/run/netns"), ["net", "node1", "node3", "outside", "pod1", "pod3"]);
        eventually("the others forget it", || {
            let routes = sh("ip -n node1 route show proto 112");
            (!routes.contains("10.244.2.0") && routes.contains("10.244.3.0")).then_some(())
        });
        podwire("lab status").expect(0);
        // What is free is taken again.
        podwire("lab node add").expect(0);
        podwire("lab pod add node2").expect(0);
        eventually("the node is reached again", || reached("pod2", "pod3"));
        podwire("lab status").expect(0);
        podwire("lab down").expect(0);
        assert_nothing_left();
    }
}

/// What the scripts of a change do is what the change does, but for the record.
#[test]
fn changes_are_shown_as_scripts_and_told_to_programs() {
    isolated!();
    let _agents = Agents;
    let json = |arguments: &str| -> Value {
        serde_json::from_str(&podwire(&format!("{arguments} -o json")).expect(0).stdout).unwrap()
    };
    let run = |arguments: &str| {
        let script = podwire(&format!("{arguments} --dry-run -o sh")).expect(0).stdout;
        let path = "/run/script.sh";
        fs::write(path, &script).unwrap();
        sh(&format!("sh {path}"));
        script
    };
    let reached = |from: &str, to: &str| {
        let (from, to) = (Host::of(from), Host::of(to));
        from.seen_by(&to, to.addresses[0]) == Some(from.addresses[0])
    };
    podwire("lab up --nodes 2 --pods 1").expect(0);
    podwire("lab node add -o sh").expect(2);
    // A node by a script is reached, and is not of the lab.
    let script = run("lab node add");
    assert!(sh("ip -n node1 route show proto 112").contains("10.244.3.0/24"));
    podwire("lab exec node/node3 -- true").expect(4);
    let undo = script.lines().skip_while(|line| !line.starts_with("# To take it down"));
    let undo: Vec<&str> = undo.skip(1).map(|line| line.trim_start_matches('#')).collect();
    assert_eq!(undo.len(), 2, "{undo:?}");
    sh(&undo.join("\n"));
    eventually("the cable has gone", || (!sh("ip -n net -o link").contains("node3")).then_some(()));
    assert_eq!(json("lab node add")["object"], "node/node3");
    let added = json("lab pod add node3");
    assert_eq!(
        (&added["kind"], &added["object"], &added["node"], &added["addresses"][0]),
        (&"LabAddition".into(), &"pod/pod3".into(), &"node3".into(), &"10.244.3.2/24".into())
    );
    assert!(reached("pod1", "pod3"));
    let agents = json("lab agent start");
    assert_eq!(agents["items"][2], serde_json::json!({ "node": "node3", "state": "ready" }));
    assert_eq!(json("lab agent stop node1")["items"][0]["state"], "stopped");

    // A dry run changes nothing.
    for change in ["node rm node3", "pod rm pod3"] {
        let shown = podwire(&format!("lab {change} --dry-run")).expect(0).stdout;
        assert!(shown.contains("pod/pod3"), "{shown}");
        let plan = json(&format!("lab {change} --dry-run"));
        assert_eq!(plan["kind"], "LabRemovalPlan", "{plan}");
    }
    podwire("lab node rm node9 --dry-run").expect(4);
    podwire("lab status").expect(0);
    run("lab pod rm pod2");
    assert!(!names("/run/netns").contains(&"pod2".to_owned()));
    let kept = names(&format!("{LAB}/nodes/node2/cni/networks/podwire"));
    assert!(!kept.contains(&"10.244.2.2".to_owned()), "{kept:?}");
    assert_eq!(json("lab pod rm pod2")["failures"], serde_json::json!([]));
    run("lab node rm node3");
    assert_eq!(names("/run/netns"), ["net", "node1", "node2", "outside", "pod1"]);
    eventually("the others forget it", || {
        (!sh("ip -n node1 route show proto 112").contains("10.244.3.0")).then_some(())
    });
    assert_eq!(json("lab node rm node3")["kind"], "LabRemoval");
    podwire("lab status").expect(0);
    podwire("lab down").expect(0);
    assert_nothing_left();
}

#[test]
fn the_last_node_and_labs_without_nodes_stay() {
    isolated!();
    podwire("lab up --nodes 1 --pods 1").expect(0);
    let last = podwire("lab node rm node1").expect(1);
    assert!(last.stderr.contains("node/node1 is the last node"), "{}", last.stderr);
    podwire("lab down").expect(0);
    podwire("lab up --pods 1").expect(0);
    podwire("lab node add").expect(1);
    // Pods come and go in labs of one node, too.
    podwire("lab pod add").expect(0);
    sh("ip netns exec pod1 ping -c 1 -W 2 10.1.0.3");
    podwire("lab pod rm pod1").expect(0);
    podwire("lab status").expect(0);
    podwire("lab down").expect(0);
    podwire("lab up --plain").expect(0);
    podwire("lab pod add").expect(1);
    podwire("lab down").expect(0);
    assert_nothing_left();
}

#[test]
fn agents_keep_nodes_joined_and_end_with_the_lab() {
    isolated!();
    let _agents = Agents;
    podwire("lab up --nodes 2 --pods 1").expect(0);
    assert_eq!(podwire("lab agent stop").expect(0).stdout, "No agent ran.\n");
    let started = podwire("lab agent start node/node1").expect(0);
    assert_eq!(started.stdout, "The agent of node1 runs.\n");
    podwire("lab agent start").expect(0);
    let again = podwire("lab agent start").expect(0);
    assert!(again.stdout.contains("node2 ran already"), "{}", again.stdout);
    sh("ip -n node1 route delete 10.244.2.0/24");
    eventually("the agent puts it back", || {
        sh("ip -n node1 route").contains("10.244.2.0/24").then_some(())
    });
    let pid = || fs::read_to_string(format!("{LAB}/nodes/node1/agent.pid")).unwrap();
    let before = pid();
    podwire("lab agent restart node1").expect(0);
    assert_ne!(pid(), before);
    let stopped = podwire("lab agent stop node2").expect(0);
    assert_eq!(stopped.stdout, "The agents of node2 have ended.\n");
    podwire("lab status").expect(0);
    // A number that belongs to somebody else by now: who started later is not ended.
    let (_, since) = before.trim().split_once(' ').unwrap();
    fs::write(format!("{LAB}/nodes/node2/agent.pid"), format!("{} {since}\n", std::process::id()))
        .unwrap();
    assert_eq!(podwire("lab agent stop node2").expect(0).stdout, "No agent ran.\n");
    let number = pid();
    let (number, _) = number.split_once(' ').unwrap();
    podwire("lab down").expect(0);
    assert!(!Path::new(&format!("/proc/{number}/cmdline")).exists() || is_zombie(number));
    assert_nothing_left();
}

fn is_zombie(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.contains(") Z ")
}

#[test]
fn what_is_broken_on_a_node_is_named() {
    isolated!();
    podwire("lab up --nodes 2 --pods 1").expect(0);
    sh("ip -n node1 link delete podwire0; ip -n net link set node2 nomaster
        ip -n node2 route delete default; ip netns exec net nft flush chain inet underlay forward");
    let status = podwire("lab status").expect(1);
    for fault in [
        "node/node1: no agent is running, and",
        "netns/net: device node2 is not in its bridge",
        "node/node2: the route to 0.0.0.0/0 is missing",
        "netns/net: a part of the firewall is not as it was made",
        "fix: podwire lab down default && podwire lab up default --nodes 2 --pods 1\n",
    ] {
        assert!(status.stdout.contains(fault), "{fault}:\n{}", status.stdout);
    }
    podwire("lab down").expect(0);
    assert_nothing_left();
}

#[test]
fn labs_of_several_nodes_live_side_by_side() {
    isolated!();
    let _agents = Agents;
    podwire("lab up --nodes 2 --pods 1").expect(0);
    podwire("lab up blue --nodes 2 --pods 1 --agents").expect(0);
    podwire("lab node add --lab blue").expect(0);
    for name in ["pod1", "blue-pod1"] {
        sh(&format!("ip netns exec {name} ping -c 1 -W 2 10.244.2.2"));
    }
    podwire("lab down --all").expect(0);
    assert_nothing_left();
}

#[test]
fn what_cannot_be_added_leaves_the_lab_as_it_was() {
    isolated!();
    let _agents = Agents;
    podwire("lab up --nodes 2 --pods 1").expect(0);
    // A name that somebody has, and a device that is in the way.
    for (obstacle, code) in [("ip netns add node3", 1), ("ip -n net link add node3 type bridge", 5)]
    {
        sh(obstacle);
        let refused = podwire("lab node add").expect(code);
        assert!(refused.stderr.contains("node3"), "{}", refused.stderr);
        sh("ip netns delete node3 2>/dev/null || true");
        assert_eq!(names(&format!("{LAB}/nodes")), ["node1", "node2"]);
        assert!(!sh(&format!("cat {LAB}/nodes.yaml")).contains("node3"));
        podwire("lab status").expect(0);
    }
    sh(&format!("rm {LAB}/nodes/node2/net.d/*"));
    let refused = podwire("lab pod add node2").expect(5);
    assert!(refused.stderr.contains("pod/pod3 could not be added"), "{}", refused.stderr);
    podwire("lab exec pod/pod3 -- true").expect(4);
    podwire("lab agent start node2").expect(0);
    podwire("lab pod add node2").expect(0);
    podwire("lab status").expect(0);
    podwire("lab down").expect(0);
    assert_nothing_left();
}

/// The largest lab, and how long three nodes take.
#[test]
fn many_nodes_stand_soon() {
    isolated!();
    for nodes in [0, 51] {
        let refused = podwire(&format!("lab up --nodes {nodes}")).expect(2);
        assert!(refused.stderr.contains("it has 1 to 50 nodes"), "{}", refused.stderr);
    }
    let started = Instant::now();
    podwire("lab up --nodes 3 --pods 2").expect(0);
    println!("3 nodes and 6 pods stand after {} ms", started.elapsed().as_millis());
    podwire("lab down").expect(0);
    let started = Instant::now();
    let up = podwire("lab up --nodes 50 --pods 1 --backend gpe").expect(0);
    println!("50 nodes and 50 pods stand after {} ms", started.elapsed().as_millis());
    assert!(up.stdout.contains("and 47 more nodes"), "{}", up.stdout);
    sh("ip netns exec pod1 ping -c 1 -W 2 10.244.50.2");
    podwire("lab node add").expect(2);
    podwire("lab down").expect(0);
    assert_nothing_left();
}

/// Whatever a kill leaves of a change can be removed, and nothing is forgotten.
#[test]
fn a_kill_of_a_change_is_repaired() {
    isolated!();
    for change in ["node add", "pod add", "node rm node2", "pod rm pod2"] {
        for millis in [1.0, 3.0, 6.0, 10.0, 15.0, 22.0, 30.0, 45.0] {
            podwire("lab up --nodes 2 --pods 1").expect(0);
            let mut child = command(&format!("lab {change}")).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_secs_f64(millis / 1000.0));
            let _ = child.kill();
            finish(child);
            let known = podwire("lab ls -o json").expect(0).stdout;
            for name in names("/run/netns") {
                assert!(known.contains(&format!("\"{name}\"")), "{change}, {millis}: {name}");
            }
            if millis > 10.0 {
                // Half a node goes as a whole one does.
                let _ = podwire("lab node rm node3");
                let _ = podwire("lab pod rm pod3");
                if change.ends_with("add") {
                    podwire("lab status").expect(0);
                }
            }
            podwire("lab down").expect(0);
            assert_nothing_left();
        }
    }
}

/// What the resolver answers a pod that asks for an IPv4 address.
fn asked(pod: &str, resolver: &str, name: &str) -> Vec<u8> {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
    query.extend(name.as_bytes());
    query.extend([0, 0, 1, 0, 1]);
    let netns = Netns::open(&Path::new("/run/netns").join(pod)).expect("a namespace");
    let resolver: IpAddr = resolver.parse().expect("an address");
    let any = if resolver.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let ask = || {
        let socket = std::net::UdpSocket::bind(any).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
        socket.send_to(&query, (resolver, 53)).expect("a way to the resolver");
        let mut answer = vec![0; 512];
        let length = socket.recv(&mut answer).expect("an answer");
        answer.truncate(length);
        answer
    };
    netns.enter(ask).expect("a visit")
}

#[test]
fn pods_are_told_a_resolver_that_knows_the_hosts() {
    const NO_SUCH_NAME: u8 = 3;
    isolated!();
    podwire("lab up --nodes 2 --pods 1 --dual-stack --dns").expect(0);
    podwire("verify lab/default --only dns --strict").expect(0);
    podwire("lab status").expect(0);
    for resolver in ["203.0.113.53", "2001:db8:ff::53"] {
        assert!(asked("pod1", resolver, "node2").ends_with(&[192, 0, 2, 12]));
        assert!(asked("pod2", resolver, "outside").ends_with(&[203, 0, 113, 10]));
        assert_eq!(asked("pod2", resolver, "node3")[3], NO_SUCH_NAME);
    }
    podwire("lab node add").expect(0);
    podwire("lab pod add node3").expect(0);
    assert!(asked("pod3", "203.0.113.53", "node3").ends_with(&[192, 0, 2, 13]));
    podwire("lab node rm node3").expect(0);
    assert_eq!(asked("pod1", "203.0.113.53", "node3")[3], NO_SUCH_NAME);
    sh("kill $(ip netns pids outside)");
    let status = || podwire("lab status");
    eventually("a resolver that is missed", || {
        status().stdout.contains("the resolver does not answer").then_some(())
    });
    status().expect(1);
    podwire("verify lab/default --only dns").expect(1);
    podwire("lab down").expect(0);
    assert_nothing_left();
}

/// Of a lab that is taken down, nobody goes on to answer.
#[test]
fn the_resolver_ends_with_its_lab() {
    isolated!();
    podwire("lab up --nodes 2 --pods 1 --ipv6 --dns").expect(0);
    let pid = sh("ip netns pids outside").trim().to_owned();
    // One that has ended and that nobody has asked about has no program any more.
    let program = || fs::read_link(Path::new("/proc").join(&pid).join("exe"));
    assert_eq!(program().expect("the program"), Path::new(env!("CARGO_BIN_EXE_podwire")));
    podwire("lab down").expect(0);
    assert!(program().is_err());
    assert_nothing_left();
}
