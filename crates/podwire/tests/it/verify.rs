//! `podwire verify`, on labs as they are and on labs that were broken.
//!
//! `PODWIRE_BLESS=1` writes the files that reports are held against anew.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

mod load;
mod page;

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testbed::{isolated, sh};

use crate::{Run, assert_nothing_left, command, finish, go_plugins, podwire, write_plugin};

/// Asks, and waits for answers no longer than it takes on one machine.
fn verify(arguments: &str) -> Run {
    podwire(&format!("verify --timeout 400ms {arguments}"))
}

fn document(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap()
}

/// What a report says of a rule.
fn rule<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rules = report["rules"].as_array().unwrap();
    rules.iter().find(|it| it["rule"] == name).unwrap()
}

/// A lab in which everything holds, in both profiles.
#[track_caller]
fn holds(flags: &str) {
    podwire(&format!("lab up {flags}")).expect(0);
    // The first packets of a fresh bridge may take their time.
    for profile in ["strict", "current"] {
        let run = podwire(&format!("verify lab/default --profile {profile} -o json"));
        assert_eq!(run.code, Some(0), "{flags}: {}{}", run.stdout, run.stderr);
        let report = document(&run);
        assert_eq!(report["kind"], "VerifyReport");
        let mut asked = vec!["pod-to-pod", "node-to-pod", "pod-to-node", "self-view", "mtu"];
        if flags.contains("--host-port") {
            asked.extend(["host-port", "hairpin"]);
        }
        for name in asked {
            let rule = rule(&report, name);
            assert!(rule["pairs"].as_u64().unwrap() > 0, "{flags}: {name} asks nobody");
            assert_eq!(rule["pass"], rule["pairs"], "{flags}: {name}");
        }
    }
    podwire("lab down").expect(0);
    assert_nothing_left();
}

#[test]
fn vxlan_holds() {
    isolated!();
    for flags in ["", "--ipv6", "--dual-stack", "--routed --dual-stack"] {
        holds(&format!("--nodes 3 --pods 2 --host-port 8080 --backend vxlan {flags}"));
    }
}

#[test]
fn gpe_holds() {
    isolated!();
    for flags in ["", "--ipv6", "--dual-stack", "--routed --dual-stack"] {
        holds(&format!("--nodes 3 --pods 2 --host-port 8080 --backend gpe {flags}"));
    }
}

#[test]
fn host_gw_holds() {
    isolated!();
    for flags in ["", "--ipv6", "--dual-stack", "--routed --fallback vxlan --dual-stack"] {
        holds(&format!("--nodes 3 --pods 2 --host-port 8080 --backend host-gw {flags}"));
    }
}

#[test]
fn a_single_node_and_the_plugins_of_others_hold() {
    isolated!();
    holds("--pods 3 --dual-stack");
    holds(&format!("--pods 3 --plugin-dir {}", go_plugins()));
    holds(&format!("--nodes 2 --pods 2 --plugin-dir {}", go_plugins()));
}

/// The ends of a lab without plugins are pods of no node.
#[test]
fn the_textbook_holds() {
    isolated!();
    podwire("lab up --plain").expect(0);
    let report = document(&podwire("verify lab/default -o json").expect(0));
    assert_eq!(rule(&report, "pod-to-pod")["pass"], 2);
    podwire("lab down").expect(0);
}

/// A plugin that has its pods leave with the node's address, whomever they ask: today's text allows
/// that towards nodes, and the three promises do not.
#[test]
fn masquerade_towards_nodes_is_allowed_by_current_only() {
    isolated!();
    let plugins = testbed::directory();
    for name in crate::names(go_plugins()) {
        let real = format!("exec {}/{name}", go_plugins());
        write_plugin(&plugins.path().join(name), &format!("#!/bin/sh\n{real}\n"));
    }
    let bridge =
        format!("#!/bin/sh\nsed 's/\"ipMasq\":false/\"ipMasq\":true/' | {}/bridge\n", go_plugins());
    write_plugin(&plugins.path().join("bridge"), &bridge);
    let directory = plugins.path().display();
    podwire(&format!("lab up --nodes 2 --pods 1 --plugin-dir {directory}")).expect(0);
    // On one node, because between nodes the first promise would be broken as well.
    podwire("lab pod rm pod2").expect(0);
    podwire("lab pod add node1").expect(0);
    let strict = verify("lab/default -o json").expect(1);
    let report = document(&strict);
    assert_eq!(report["profile"], "strict");
    assert_eq!(rule(&report, "pod-to-pod")["fail"], 0);
    assert_eq!(rule(&report, "pod-to-node")["fail"], 2);
    assert_eq!(rule(&report, "self-view")["fail"], 2);
    let causes = report["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1, "{causes:#?}");
    let text = causes[0]["text"].as_str().unwrap();
    assert!(text.contains("NAT") && text.contains("10.244.1.0"), "{text}");
    assert!(causes[0]["next"].as_str().unwrap().contains("nft list"), "{causes:#?}");
    let current = document(&verify("lab/default --profile current -o json").expect(0));
    assert_eq!(rule(&current, "pod-to-node")["allowed"], 2);
    let text = verify("lab/default --profile current").expect(0).stdout;
    assert!(text.contains("pod-to-node     ALLOWED"), "{text}");
    podwire("lab down").expect(0);
}

#[test]
fn without_pods_nobody_can_tell() {
    isolated!();
    let nothing = verify("").expect(3);
    assert!(nothing.stdout.contains("there are no pods to ask about"), "{}", nothing.stdout);
    podwire("lab up --nodes 2 --pods 1").expect(0);
    podwire("lab pod rm pod1").expect(0);
    podwire("lab pod rm pod2").expect(0);
    let run = verify("lab/default -o json").expect(3);
    assert_eq!(document(&run)["verdict"], "unknown");
    podwire("lab down").expect(0);
}

#[test]
fn without_rights_nobody_can_tell() {
    isolated!();
    podwire("lab up --pods 2").expect(0);
    let mut plain = std::process::Command::new("setpriv");
    plain.args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_podwire")]);
    plain.args(["verify", "lab/default"]);
    let output = plain.output().expect("start setpriv: apt-get install util-linux");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    podwire("lab down").expect(0);
}

#[test]
fn what_is_not_there_is_not_found() {
    isolated!();
    podwire("lab up --pods 2").expect(0);
    verify("lab/blue").expect(4);
    let run = verify("pod/pod7").expect(4);
    assert!(run.stderr.contains("pod/pod1"), "{}", run.stderr);
    verify("link/node1:cni0").expect(2);
    verify("--only nonsense").expect(2);
    verify("--only mtu --skip mtu").expect(2);
    podwire("lab down").expect(0);
}

/// Who answers nothing is one cause, whatever asks; who goes away meanwhile is none.
#[test]
fn a_pod_that_answers_nothing_and_one_that_vanishes() {
    isolated!();
    podwire("lab up --nodes 2 --pods 2").expect(0);
    sh("ip -n pod2 link set eth0 down");
    let report = document(&verify("lab/default -o json").expect(1));
    let causes = report["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1, "{causes:#?}");
    assert!(causes[0]["text"].as_str().unwrap().starts_with("all from and to pod2"));
    assert_eq!(causes[0]["findings"][0]["code"], "linkDown");
    assert_eq!(causes[0]["next"], "podwire explain pod/pod2");
    // Of what is between the others, none is asked about pod2.
    verify("pod/pod3 --only node-to-pod,pod-to-node").expect(0);
    verify("pod/pod3 --only pod-to-pod").expect(1);
    let child = command("verify lab/default -o json --timeout 2s").spawn().unwrap();
    sleep(Duration::from_millis(800));
    podwire("lab pod rm pod2").expect(0);
    let run = finish(child).expect(3);
    let report = document(&run);
    assert_eq!(rule(&report, "pod-to-pod")["fail"], 0);
    assert!(run.stdout.contains("pod2 is gone"), "{}", run.stdout);
    podwire("lab down").expect(0);
    assert_nothing_left();
}

#[test]
fn an_interrupt_ends_it() {
    isolated!();
    podwire("lab up --nodes 2 --pods 2").expect(0);
    sh("ip -n pod2 link set eth0 down");
    let child = command("verify lab/default --timeout 60s").spawn().unwrap();
    sleep(Duration::from_millis(500));
    let started = Instant::now();
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let run = finish(child).expect(130);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(run.stdout, "");
    podwire("lab down").expect(0);
    assert_nothing_left();
}

/// A policy keeps apart on purpose; any other table that drops is named.
#[test]
fn a_policy_is_no_violation_and_another_table_is() {
    isolated!();
    podwire("lab up --nodes 2 --pods 1").expect(0);
    let drop = |table: &str| {
        format!(
            "ip netns exec node2 nft add table inet {table}
             ip netns exec node2 nft add chain inet {table} f '{{ type filter hook forward priority 0; }}'
             ip netns exec node2 nft add rule inet {table} f ct state established accept
             ip netns exec node2 nft add rule inet {table} f ip daddr 10.244.2.2 drop"
        )
    };
    sh(&drop("kube-router"));
    let report = document(&verify("lab/default --only pod-to-pod -o json").expect(0));
    let pods = rule(&report, "pod-to-pod");
    assert_eq!((&pods["blocked"], &pods["pass"]), (&1.into(), &1.into()), "{pods:#}");
    sh("ip netns exec node2 nft delete table inet kube-router");
    sh(&drop("mine"));
    let run = verify("lab/default --only pod-to-pod").expect(1);
    assert!(run.stdout.contains("chain f of nft table inet mine"), "{}", run.stdout);
    podwire("lab down").expect(0);
}

/// The underlay takes less than the tunnel's packets: the largest that passes is told.
#[test]
fn only_large_packets_are_lost() {
    isolated!();
    podwire("lab up --nodes 3 --pods 1").expect(0);
    sh("ip -n node2 link set eth0 mtu 1400; ip -n net link set node2 mtu 1400");
    let report = document(&verify("lab/default -o json").expect(1));
    assert_eq!(rule(&report, "pod-to-pod")["fail"], 0);
    let causes = report["causes"].as_array().unwrap();
    let told = |text: &str| causes.iter().any(|it| it["text"].as_str().unwrap().contains(text));
    assert!(told("between node2 and other nodes, only packets above 1,400 bytes"), "{causes:#?}");
    podwire("lab down").expect(0);
}

#[test]
fn a_sample_says_that_it_is_one() {
    isolated!();
    podwire("lab up --nodes 3 --pods 4").expect(0);
    let report = document(&verify("lab/default --pairs sample=20 -o json").expect(0));
    assert_eq!(report["sample"]["all"], 132);
    assert!(report["sample"]["asked"].as_u64().unwrap() < 40);
    let text = verify("lab/default --pairs sample=20").expect(0).stdout;
    assert!(text.contains("of 132 pairs of pods were asked"), "{text}");
    podwire("lab down").expect(0);
}

#[test]
fn rules_are_listed_with_their_texts() {
    let text = podwire("verify --list").expect(0).stdout;
    for word in ["profile strict", "profile current", "pod-to-pod", "without NAT", "outside"] {
        assert!(text.contains(word), "{text}");
    }
    let list = document(&podwire("verify --list --profile strict -o json").expect(0));
    assert_eq!(list["items"].as_array().unwrap().len(), 10);
    let schema = document(&podwire("schema verify").expect(0));
    assert!(schema["properties"]["causes"].is_object());
}

/// The forms of a report, as files.
const FORMS: [(&str, &str); 5] =
    [("text", "txt"), ("json", "json"), ("junit", "xml"), ("markdown", "md"), ("html", "html")];

/// Holds all forms of the report on a lab against files.
#[track_caller]
fn golden(name: &str, code: i32) {
    let directory = testbed::directory();
    let file = |suffix: &str| directory.path().join(format!("report.{suffix}"));
    let mut arguments = String::from("lab/default");
    for (form, suffix) in FORMS {
        arguments += &format!(" --report {form}={}", file(suffix).display());
    }
    verify(&arguments).expect(code);
    for (_, suffix) in FORMS {
        let answer = stable(&fs::read_to_string(file(suffix)).unwrap());
        let answer = if suffix == "html" { without_style(&answer) } else { answer };
        crate::explain::golden(&format!("verify-{name}.{suffix}"), &answer);
    }
}

/// A page without its style, which is a file of its own, and without that file's hash.
fn without_style(page: &str) -> String {
    let style = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../render/assets/verify.css");
    let style = fs::read_to_string(style).unwrap();
    let (before, rest) = page.split_once("<style>").unwrap();
    let (own, after) = rest.split_once("</style>").unwrap();
    assert_eq!(own.trim_end(), style.trim_end());
    let (head, hash) = before.split_once("'sha256-").unwrap();
    let (_, policy) = hash.split_once('\'').unwrap();
    format!("{head}'sha256-'{policy}<style></style>{after}")
}

/// Where and when it was asked is none of a golden file's business.
fn stable(text: &str) -> String {
    let line = |line: &str| {
        let begin = line.trim_start();
        for (start, fixed) in [
            ("\"machine\":", "\"machine\": \"machine\","),
            ("\"taken\":", "\"taken\": 0,"),
            ("<p class=\"seen\">", "<p class=\"seen\">machine, seen 1970-01-01T00:00:00Z</p>"),
        ] {
            if begin.starts_with(start) {
                return format!("{}{fixed}\n", &line[..line.len() - begin.len()]);
            }
        }
        format!("{line}\n")
    };
    testbed::golden::same(&text.lines().map(line).collect::<String>())
}

#[test]
fn the_report_on_a_healthy_lab() {
    isolated!();
    podwire("lab up --nodes 2 --pods 2 --dual-stack").expect(0);
    podwire("verify lab/default").expect(0);
    golden("healthy", 0);
    podwire("lab down").expect(0);
}

#[test]
fn the_report_on_a_broken_lab() {
    isolated!();
    podwire("lab up --nodes 3 --pods 2").expect(0);
    sh("ip -n pod3 link set eth0 down
        ip netns exec node1 nft add table ip mine
        ip netns exec node1 nft add chain ip mine post '{ type nat hook postrouting priority 100; }'
        ip netns exec node1 nft add rule ip mine post ip saddr 10.244.1.0/24 ip daddr 192.0.2.0/24 masquerade");
    golden("broken", 1);
    podwire("lab down").expect(0);
}

/// Ports of a node that lead to a pod, as a runtime has asked for them; and a resolver that does not
/// answer.
#[test]
fn ports_of_a_node_lead_to_its_pod() {
    isolated!();
    podwire("lab up --nodes 2 --pods 1").expect(0);
    let lab = "/run/podwire/lab/default";
    sh("ip netns add extra");
    let add = |ports: &str| {
        format!(
            "ip netns exec node1 {} cni add podwire extra --cache-dir {lab}/nodes/node1/cni \
             --conf-dir {lab}/nodes/node1/net.d --plugin-dir {lab}/cni/bin \
             --capability-args '{{\"portMappings\":[{ports}]}}'",
            env!("CARGO_BIN_EXE_podwire")
        )
    };
    let tcp = "{\"hostPort\":8080,\"containerPort\":80,\"protocol\":\"tcp\"}";
    let udp = "{\"hostPort\":5353,\"containerPort\":53,\"protocol\":\"udp\"}";
    sh(&add(&format!("{tcp},{udp}")));
    let report = document(&verify("lab/default -o json").expect(0));
    assert_eq!(rule(&report, "host-port")["pass"], 2);
    assert_eq!(rule(&report, "hairpin")["pass"], 1);
    assert_eq!(rule(&report, "dns")["skipped"], "no pod is told a resolver of its own network");
    // What is optional and not there is an answer that is missing, for who wants all of them.
    verify("lab/default --strict").expect(3);
    // The pod's own programs keep their ports, and are asked.
    let extra = kernel::Netns::open("/run/netns/extra".as_ref()).unwrap();
    let (udp, _tcp) = extra
        .enter(|| {
            let udp = std::net::UdpSocket::bind("0.0.0.0:53").unwrap();
            (udp, std::net::TcpListener::bind("0.0.0.0:80").unwrap())
        })
        .unwrap();
    let report = document(&verify("lab/default --only host-port,hairpin -o json").expect(0));
    assert_eq!(rule(&report, "host-port")["pass"], 2);
    assert_eq!(rule(&report, "hairpin")["pass"], 1);
    udp.set_nonblocking(true).unwrap();
    udp.recv_from(&mut [0; 64]).expect("the program heard it as well");
    sh("ip netns exec node1 nft flush map inet podwire_cni hostports4");
    let report = document(&verify("lab/default --only host-port,hairpin -o json").expect(1));
    assert_eq!(rule(&report, "host-port")["fail"], 2, "{report:#}");
    podwire("lab down").expect(0);
}

/// A resolver that answers, and one that is not there.
#[test]
fn the_resolver_that_pods_are_told_has_to_answer() {
    isolated!();
    podwire("lab up --nodes 2 --pods 1").expect(0);
    let file = "/run/podwire/lab/default/nodes/node1/cni/results/podwire-default-pod1-eth0";
    let mut record: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    record["result"]["dns"] = serde_json::json!({ "nameservers": ["10.244.2.2"] });
    fs::write(file, record.to_string()).unwrap();
    let gone = document(&verify("lab/default --only dns -o json").expect(1));
    assert_eq!(rule(&gone, "dns")["fail"], 1);
    assert!(gone["causes"][0]["text"].as_str().unwrap().contains("resolver"), "{gone:#}");
    let netns = kernel::Netns::open("/run/netns/pod2".as_ref()).unwrap();
    let (udp, tcp) = netns
        .enter(|| {
            let udp = std::net::UdpSocket::bind("10.244.2.2:53").unwrap();
            (udp, std::net::TcpListener::bind("10.244.2.2:53").unwrap())
        })
        .unwrap();
    // What was asked comes back as an answer: there is no such name.
    let answered = |mut query: Vec<u8>| {
        (query[2], query[3]) = (query[2] | 0x80, 3);
        query
    };
    std::thread::spawn(move || {
        let mut query = [0; 512];
        let (length, from) = udp.recv_from(&mut query).unwrap();
        udp.send_to(&answered(query[..length].to_vec()), from).unwrap();
    });
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = tcp.accept().unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query).unwrap();
        stream.write_all(&[&length[..], &answered(query)].concat()).unwrap();
    });
    verify("lab/default --only dns").expect(0);
    podwire("lab down").expect(0);
}

/// The page tells the rules in their own words, and shows what podwire says.
#[test]
fn the_page_is_of_these_rules() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("../../docs/verify.md")).unwrap();
    let list = document(&podwire("verify --list -o json").expect(0));
    for item in list["items"].as_array().unwrap() {
        for key in ["rule", "text", "source"] {
            let text = item[key].as_str().unwrap();
            assert!(page.contains(text), "{text}");
        }
    }
    let answer = fs::read_to_string(root.join("tests/golden/verify-broken.txt")).unwrap();
    let shown = page.split("```text\n").nth(1).and_then(|text| text.split("```").next()).unwrap();
    assert!(answer.contains(shown), "{shown}");
}
