//! `podwire verify --responders`, on labs whose nodes each have a responder of their own.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]
#![expect(clippy::disallowed_methods, reason = "tests start processes")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testbed::{TempDir, isolated, need, sh};

use crate::{Run, finish, podwire};

/// A cluster of three nodes, with a responder on each.
struct Cluster {
    directory: TempDir,
    responders: Vec<Child>,
}

const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// Where the lab has them.
const ADDRESSES: [&str; 3] = ["192.0.2.11", "192.0.2.12", "192.0.2.13"];

impl Cluster {
    fn new() -> Self {
        need("openssl", "openssl");
        podwire("lab up --nodes 3 --pods 2 --backend vxlan --host-port 8080").expect(0);
        let directory = TempDir::new().unwrap();
        let mut cluster = Self { directory, responders: Vec::new() };
        cluster.authority("ca");
        for name in NODES.into_iter().chain(["asker"]) {
            cluster.certificate(name, "ca");
        }
        for (name, address) in NODES.into_iter().zip(ADDRESSES) {
            cluster.start(name, address);
        }
        cluster.name("asker", "ca", &ADDRESSES);
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn openssl(&self, script: &str) {
        sh(&format!("cd {}; ({script}) 2>/dev/null", self.directory.path().display()));
    }

    fn authority(&self, name: &str) {
        self.openssl(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -keyout {name}.key -out {name}.crt -subj /CN={name}"
        ));
    }

    fn certificate(&self, name: &str, authority: &str) {
        fs::write(self.path("names"), format!("subjectAltName=DNS:{name}\n")).unwrap();
        self.openssl(&format!(
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key \
             -out {name}.csr -subj /CN={name} && openssl x509 -req -in {name}.csr -days 2 \
             -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -extfile names -out {name}.crt"
        ));
    }

    fn tls(&self, name: &str, authority: &str) -> String {
        let at = self.directory.path().display();
        format!(
            "authority: {at}/{authority}.crt\ncertificate: {at}/{name}.crt\nkey: {at}/{name}.key\n"
        )
    }

    /// Starts the responder of a node, and waits until it listens.
    fn start(&mut self, node: &str, address: &str) {
        let settings = self.path(&format!("{node}.yaml"));
        let tls = self.tls(node, "ca");
        fs::write(
            &settings,
            format!("listen: {address}:7481\n{tls}networks: [10.244.0.0/16, 192.0.2.0/24]\n"),
        )
        .unwrap();
        let arguments = format!("responder --config {}", settings.display());
        self.responders.push(inside(node, &arguments));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !podwire(&format!("lab exec {node} -- ss -Hltn")).stdout.contains(":7481") {
            assert!(Instant::now() < deadline, "the responder of {node} does not listen");
            sleep(Duration::from_millis(20));
        }
    }

    /// Writes down whom to ask, as whom.
    fn name(&self, asker: &str, authority: &str, addresses: &[&str]) {
        let mut text = self.tls(asker, authority) + "responders:\n";
        for (name, address) in NODES.iter().zip(addresses) {
            text += &format!("- {{name: {name}, address: '{address}:7481'}}\n");
        }
        fs::write(self.path("responders.yaml"), text).unwrap();
    }

    fn start_verify(&self, flags: &str) -> Child {
        let file = self.path("responders.yaml");
        inside("node1", &format!("verify --responders {} {flags}", file.display()))
    }

    fn verify(&self, flags: &str) -> Run {
        finish(self.start_verify(flags))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.responders {
            let _ = child.kill();
            let _ = child.wait();
        }
        podwire("lab down");
    }
}

/// Starts podwire in the namespace of a node, as the very process that it is then.
fn inside(node: &str, arguments: &str) -> Child {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{node}")).arg(env!("CARGO_BIN_EXE_podwire"));
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Who has a socket of ours in a pod.
fn sockets() -> String {
    let all = (1..=6).map(|pod| podwire(&format!("lab exec pod{pod} -- ss -Htuwan")).stdout);
    all.collect()
}

#[test]
fn three_nodes_prove_their_network_over_tls() {
    isolated!();
    let cluster = Cluster::new();
    let run = cluster.verify("--profile strict -o json").expect(0);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let rules = report["rules"].as_array().unwrap();
    let outside = rules.iter().find(|it| it["rule"] == "outside").unwrap();
    assert!(outside["skipped"].is_string(), "{outside:#}");
    for (name, pairs) in [("pod-to-pod", 30), ("node-to-pod", 18), ("pod-to-node", 18)] {
        let rule = rules.iter().find(|it| it["rule"] == name).unwrap();
        assert_eq!(rule["pairs"], pairs, "{name}");
        assert_eq!(rule["pass"], pairs, "{name}");
    }
    assert_eq!(sockets(), "", "a session leaves nothing open");
    // What is wrong between two nodes is found, whichever machine sees it.
    let node3 = "ip route replace blackhole 10.244.3.0/24";
    podwire(&format!("lab exec node2 -- {node3}")).expect(0);
    let run = cluster.verify("--timeout 500ms").expect(1);
    assert!(run.stdout.contains("node2") && run.stdout.contains("node3"), "{}", run.stdout);
    assert_eq!(sockets(), "");
}

/// What a verification of the ports of nodes says.
fn ports(cluster: &Cluster, flags: &str, code: i32) -> Value {
    let only = "--only host-port,hairpin --timeout 500ms -o json";
    serde_json::from_str(&cluster.verify(&format!("{only} {flags}")).expect(code).stdout).unwrap()
}

/// Of host-port and of hairpin how many pairs have passed and have failed.
fn counts(report: &Value) -> [[u64; 2]; 2] {
    ["host-port", "hairpin"].map(|name| {
        let rules = report["rules"].as_array().unwrap();
        let rule = rules.iter().find(|it| it["rule"] == name).unwrap();
        ["pass", "fail"].map(|key| rule[key].as_u64().unwrap())
    })
}

/// What nodes and pods have learned of each other on the nodes' bridges.
fn learned() -> String {
    let pods = (1..=6).map(|pod| format!("lab exec pod{pod} -- ip neigh show"));
    let nodes = NODES.map(|node| format!("lab exec {node} -- ip neigh show dev cni0"));
    pods.chain(nodes).map(|command| podwire(&command).stdout).collect()
}

/// A port of a node is called by the responder of another one, and that of its own listens in the pod.
#[test]
fn ports_of_nodes_are_asked_from_other_machines() {
    isolated!();
    let cluster = Cluster::new();
    let exec = |node: &str, command: &str| {
        podwire(&format!("lab exec {node} -- {command}")).expect(0);
    };
    for pod in 1..=6 {
        exec(&format!("pod{pod}"), "ip neigh flush all");
    }
    NODES.iter().for_each(|node| exec(node, "ip neigh flush dev cni0"));
    let clean = || assert_eq!((sockets(), learned()), Default::default(), "nothing stays");
    clean();
    // Of each node's first pod a port leads to it by UDP and by TCP.
    assert_eq!(counts(&ports(&cluster, "", 0)), [[6, 0], [3, 0]]);
    clean();
    // The pod's own programs keep their ports, and are asked.
    {
        let pod1 = kernel::Netns::open("/run/netns/pod1".as_ref()).unwrap();
        let open = || {
            let udp = std::net::UdpSocket::bind("0.0.0.0:80").unwrap();
            (udp, std::net::TcpListener::bind("0.0.0.0:80").unwrap())
        };
        let (udp, tcp) = pod1.enter(open).unwrap();
        assert_eq!(counts(&ports(&cluster, "", 0)), [[6, 0], [3, 0]]);
        udp.set_nonblocking(true).unwrap();
        udp.recv_from(&mut [0; 64]).expect("the program heard it as well");
        tcp.accept().expect("and was connected to");
    }
    clean();

    // On the way from node 2 another source is written into it, to which the answers come …
    exec("node2", "ip addr add 192.0.2.99/24 dev eth0");
    exec("node2", "nft add table ip mine");
    exec("node2", "nft add chain ip mine post { type nat hook postrouting priority 90 ; }");
    let nat = |source: &str| {
        let way = format!("ip saddr {} ip daddr {}", ADDRESSES[1], ADDRESSES[0]);
        exec("node2", &format!("nft add rule ip mine post {way} snat to {source}"));
    };
    nat("192.0.2.99");
    let report = ports(&cluster, "", 1);
    assert_eq!(counts(&report), [[5, 1], [3, 0]], "{report:#}");
    let cause = report["causes"].to_string();
    for words in [
        "node2 → pod1: the source address is changed (NAT); others see 192.0.2.99",
        "sent from 192.0.2.12, but seen as from 192.0.2.99",
        "chain post of nft table ip mine",
        "nft list table ip mine",
    ] {
        assert!(cause.contains(words), "{words}: {report:#}");
    }
    // … which today's text allows.
    assert_eq!(counts(&ports(&cluster, "--profile current", 0)), [[6, 0], [3, 0]]);
    clean();
    // To a source that nobody has no answer comes, which is told from what does not arrive.
    exec("node2", "nft flush chain ip mine post");
    nat("192.0.2.98");
    let report = ports(&cluster, "--profile current", 1);
    assert_eq!(counts(&report), [[5, 1], [3, 0]], "{report:#}");
    let cause = report["causes"].to_string();
    let words = "seen as from 192.0.2.98, and no answer comes back";
    assert!(cause.contains(words) && cause.contains("nft list table ip mine"), "{report:#}");
    exec("node2", "nft delete table ip mine");
    // The pod's kernel tries to answer until it looks at it next.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !sockets().is_empty() {
        assert!(sockets().lines().all(|line| line.contains("SYN-RECV")), "{}", sockets());
        assert!(Instant::now() < deadline, "{}", sockets());
    }

    // The mapping is gone.
    exec("node1", "nft flush map inet podwire_cni hostports4");
    let report = ports(&cluster, "", 1);
    assert_eq!(counts(&report), [[4, 2], [2, 1]], "{report:#}");
    let cause = report["causes"].to_string();
    let words = "the node's port does not lead to the pod (192.0.2.11:8080: connection refused)";
    assert!(cause.contains(words), "{report:#}");
    assert_eq!(sockets(), "");
    // Another pod has the port, and says nothing of it.
    exec("node1", "nft add table ip mine");
    exec("node1", "nft add chain ip mine pre { type nat hook prerouting priority -110 ; }");
    exec(
        "node1",
        "nft add rule ip mine pre ip daddr 192.0.2.11 tcp dport 8080 dnat to 10.244.1.3:80",
    );
    let pod2 = kernel::Netns::open("/run/netns/pod2".as_ref()).unwrap();
    let _other = pod2.enter(|| std::net::TcpListener::bind("10.244.1.3:80").unwrap()).unwrap();
    let report = ports(&cluster, "", 1);
    assert_eq!(counts(&report), [[4, 2], [2, 1]], "{report:#}");
    assert!(report.to_string().contains("somebody else than the pod answered"), "{report:#}");
}

/// A port of a pod at which a responder listens is closed when its asker or itself is killed.
#[test]
fn whoever_is_killed_leaves_no_port_of_a_pod_open() {
    isolated!();
    let mut cluster = Cluster::new();
    let listening = || podwire("lab exec pod1 -- ss -Htuln").stdout;
    let until = |is_open: bool| {
        let deadline = Instant::now() + Duration::from_secs(8);
        while listening().contains("10.244.1.2:80") != is_open {
            assert!(Instant::now() < deadline, "{}", listening());
        }
    };
    // Nothing arrives at node 1's port, so that it is waited for.
    podwire("lab exec node1 -- nft add table ip t").expect(0);
    podwire("lab exec node1 -- nft add chain ip t f { type filter hook forward priority 0 ; }")
        .expect(0);
    podwire("lab exec node1 -- nft add rule ip t f ip daddr 10.244.1.2 drop").expect(0);
    let start = |cluster: &Cluster| {
        let verify = cluster.start_verify("--timeout 3s --only host-port -o json");
        until(true);
        verify
    };
    let mut verify = start(&cluster);
    verify.kill().unwrap();
    verify.wait().unwrap();
    until(false);
    let verify = start(&cluster);
    let mut first = cluster.responders.remove(0);
    first.kill().unwrap();
    first.wait().unwrap();
    until(false);
    // That nobody can tell is no fault of the network.
    let run = finish(verify);
    assert_eq!(run.code, Some(3), "{}", run.stdout);
    assert!(run.stdout.contains("the responder of node1: the connection broke"), "{}", run.stdout);
    assert_eq!(sockets(), "");
}

/// What a node knows of its own pods it asks for them.
#[test]
fn a_responder_asks_what_its_own_pods_ask() {
    isolated!();
    let cluster = Cluster::new();
    let rules = |flags: &str, code: i32| -> Vec<Value> {
        let run = cluster.verify(&format!("--timeout 500ms -o json {flags}")).expect(code);
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        report["rules"].as_array().unwrap().clone()
    };
    // A resolver of a pod on another node answers that there is no such name.
    let file = "/run/podwire/lab/default/nodes/node1/cni/results/podwire-default-pod1-eth0";
    let mut record: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut tell = |resolver: &str| {
        record["result"]["dns"] = serde_json::json!({ "nameservers": [resolver] });
        fs::write(file, record.to_string()).unwrap();
    };
    tell("10.244.2.2");
    let dns = rules("--only dns", 1);
    assert_eq!((&dns[0]["pairs"], &dns[0]["fail"]), (&1.into(), &1.into()));
    let pod3 = kernel::Netns::open("/run/netns/pod3".as_ref()).unwrap();
    let udp = pod3.enter(|| std::net::UdpSocket::bind("10.244.2.2:53").unwrap()).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut query) {
            (query[2], query[3]) = (query[2] | 0x80, 3);
            udp.send_to(&query[..length], from).unwrap();
        }
    });
    let run = cluster.verify("--timeout 500ms --only dns").expect(1);
    assert!(run.stdout.contains("TCP") && !run.stdout.contains("UDP"), "{}", run.stdout);
    // One that is in none of the networks of the responder is not asked.
    tell("10.96.0.10");
    let run = cluster.verify("--timeout 500ms --only dns -o json").expect(3);
    assert!(run.stdout.contains("10.96.0.10 is in none of the networks"), "{}", run.stdout);
}

#[test]
fn without_trust_or_an_answer_nobody_can_tell() {
    isolated!();
    let cluster = Cluster::new();
    let fails = |words: &str| {
        let run = cluster.verify("").expect(3);
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
        assert_eq!(run.stdout, "", "nothing is claimed");
        assert_eq!(run.stderr.matches("the responder of").count(), 1, "{}", run.stderr);
    };
    // An asker of another authority is let go by the responder …
    cluster.authority("other");
    cluster.certificate("stranger", "other");
    cluster.name("stranger", "ca", &ADDRESSES);
    fails("it is not trusted, or does not trust us");
    // … and a responder of another one by the asker.
    cluster.name("asker", "other", &ADDRESSES);
    fails("it is not trusted, or does not trust us");
    // The certificate of another node is not this one's.
    cluster.name("asker", "ca", &[ADDRESSES[1], ADDRESSES[0], ADDRESSES[2]]);
    fails("it is not trusted, or does not trust us");
    // Nobody is there.
    cluster.name("asker", "ca", &["192.0.2.1", ADDRESSES[1], ADDRESSES[2]]);
    fails("it cannot be reached");
    // Somebody is there who says nothing.
    cluster.name("asker", "ca", &ADDRESSES);
    let silent = Pid::from_child(&cluster.responders[1]);
    kill_process(silent, Signal::STOP).unwrap();
    fails("it does not answer for 10 s");
}

#[test]
fn a_responder_that_dies_in_the_middle_is_no_fault_of_the_network() {
    isolated!();
    let mut cluster = Cluster::new();
    // Nothing arrives on node 1's pods, so that its questions take their time.
    podwire("lab exec node1 -- nft add table ip t").expect(0);
    podwire("lab exec node1 -- nft add chain ip t f { type filter hook forward priority 0 ; }")
        .expect(0);
    podwire("lab exec node1 -- nft add rule ip t f ip daddr 10.244.1.0/24 drop").expect(0);
    let at_work = || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while sockets().is_empty() {
            assert!(Instant::now() < deadline, "nobody is at work");
        }
    };
    let verify = cluster.start_verify("--timeout 4s --only pod-to-pod -o json");
    at_work();
    let mut last = cluster.responders.pop().unwrap();
    last.kill().unwrap();
    last.wait().unwrap();
    let run = finish(verify);
    assert_ne!(run.code, Some(0), "{}", run.stdout);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let text = report.to_string();
    assert!(text.contains("the responder of node3: the connection broke"), "{text}");
    // Of an asker that is killed nothing stays, soon.
    let mut verify = {
        cluster.start("node3", ADDRESSES[2]);
        cluster.start_verify("--timeout 4s --only pod-to-pod")
    };
    at_work();
    verify.kill().unwrap();
    verify.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(8);
    while !sockets().is_empty() {
        assert!(Instant::now() < deadline, "{}", sockets());
        sleep(Duration::from_millis(100));
    }
    assert!(Path::new("/run/netns/pod1").exists());
}
