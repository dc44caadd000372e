//! Nodes that know of each other by a real etcd.

use std::net::IpAddr;
use std::process::Child;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel::Netns;
use testbed::look::{eventually, source_seen};

use super::cluster::{Cluster, Node, V4};
use super::faults::{BACK, GOAL, assert_unnoticed};
use super::traffic::{Pair, Traffic};

const CONFIG: &str = r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#;

/// A member at an address of the underlay, by its number.
pub(super) struct Etcd {
    switch: Netns,
    number: u16,
    member: Child,
}

impl Etcd {
    pub(super) fn start(cluster: &Cluster) -> Self {
        Self::start_one(cluster, 0, 1)
    }

    /// One of `count` that know one another.
    fn start_one(cluster: &Cluster, number: u16, count: u16) -> Self {
        let directory = cluster.directory.path().join(format!("etcd{number}"));
        let url = &format!("http://192.0.2.200:{}", Self::port(number));
        let peer_url = |n: u16| format!("http://127.0.0.1:{}", Self::port(n) + 1);
        let all = (0..count).map(|n| format!("m{n}={}", peer_url(n))).collect::<Vec<_>>().join(",");
        #[expect(clippy::disallowed_methods, reason = "tests start processes")]
        let mut command = std::process::Command::new(testbed::need("etcd", "etcd-server"));
        command.args(["--listen-client-urls", url, "--advertise-client-urls", url]);
        command.args(["--listen-peer-urls", &peer_url(number), "--log-level", "error"]);
        command.args(["--initial-advertise-peer-urls", &peer_url(number)]);
        command.args(["--name", &format!("m{number}"), "--initial-cluster", &all]);
        command.arg("--data-dir").arg(directory);
        let switch = Netns::open(&cluster.switch.path()).unwrap();
        let member = switch.spawn(&mut command).unwrap();
        Self { switch, number, member }
    }

    fn port(number: u16) -> u16 {
        2379 + 10 * number
    }

    pub(super) fn put(&self, key: &str, value: &str) {
        use base64::Engine;
        let code = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let body = format!(r#"{{"key":"{}","value":"{}"}}"#, code(key), code(value));
        eventually("etcd takes a key", || self.post("/v3/kv/put", &body));
    }

    fn post(&self, path: &str, body: &str) -> Option<()> {
        use std::io::{Read, Write};
        let connect = || std::net::TcpStream::connect(("192.0.2.200", Self::port(self.number)));
        let mut stream = self.switch.enter(connect).unwrap().ok()?;
        let length = body.len();
        write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains(" 200 ").then_some(())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.member.kill();
        let _ = self.member.wait();
    }
}

/// Two nodes beside a cluster that has none any more, and can have an etcd.
fn two_nodes() -> (Cluster, Vec<Node>) {
    let settings = "source: {etcd: {endpoints: ['http://192.0.2.200:2379']}}";
    let mut cluster = Cluster::new(2, settings, V4);
    cluster.switch.sh("ip link set lo up; ip address add 192.0.2.200/24 dev br0");
    let nodes = std::mem::take(&mut cluster.nodes);
    (cluster, nodes)
}

/// Has agents run that know each other by etcd.
fn start(etcd: &Etcd, nodes: &mut [Node]) {
    etcd.put("/coreos.com/network/config", CONFIG);
    nodes.iter_mut().for_each(Node::start);
    for node in nodes {
        eventually("a node knows the other", || {
            let status = node.status();
            (status["peers"] == 1 && status["programmed"] == 1).then_some(())
        });
    }
}

#[test]
fn another_address_of_a_node_is_published() {
    testbed::isolated!();
    let (cluster, mut nodes) = two_nodes();
    let etcd = Etcd::start(&cluster);
    start(&etcd, &mut nodes);
    let (one, two) = (nodes[0].inner(), nodes[1].inner().unwrap());
    let began = Instant::now();
    nodes[0].space.sh("ip address delete 192.0.2.1/24 dev eth0
        ip address add 192.0.2.11/24 dev eth0; ip route add default via 192.0.2.254");
    let is_known = || nodes[1].space.sh("ip route show proto 112").contains("192.0.2.11");
    while !is_known() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let seen = source_seen(nodes[0].space.netns(), nodes[1].space.netns(), two);
    let time = began.elapsed();
    println!("etcd: another address: repaired in {} ms", time.as_millis());
    assert_eq!((nodes[0].inner(), seen), (one, one), "the node keeps its subnet");
    assert!(time < GOAL, "{time:?}");
}

#[test]
fn a_node_without_an_address_says_so_and_takes_the_first_one() {
    testbed::isolated!();
    let (cluster, mut nodes) = two_nodes();
    let etcd = Etcd::start(&cluster);
    etcd.put("/coreos.com/network/config", CONFIG);
    nodes[0].space.sh("ip route delete default");
    nodes.iter_mut().for_each(Node::start);
    let text = |node: &Node| node.status()["problems"].to_string();
    eventually("what to set", || text(&nodes[0]).contains("set underlay.interface").then_some(()));
    assert_eq!(nodes[0].problems(), ["source"], "and nothing else");
    nodes[1].wait_until_ready();
    assert_eq!(nodes[1].status()["peers"], 0, "nobody is told of it");
    nodes[0].space.sh("ip route add default via 192.0.2.254");
    eventually("each knows the other", || {
        nodes.iter().all(|node| node.status()["programmed"] == 1).then_some(())
    });
}

#[test]
fn nodes_lease_subnets_and_outlive_etcd() {
    testbed::isolated!();
    let (cluster, mut nodes) = two_nodes();
    let etcd = Etcd::start(&cluster);
    start(&etcd, &mut nodes);
    let (one, two) = (nodes[0].inner().unwrap(), nodes[1].inner().unwrap());
    assert!(one != two);
    let seen = || source_seen(nodes[0].space.netns(), nodes[1].space.netns(), two);
    assert_eq!(seen(), Some(one));
    // A look takes no lease and changes nothing.
    assert_eq!(nodes[0].podwire("--dry-run").expect(0).stdout, "Everything is as it should be.\n");
    drop(etcd);
    eventually("it is said", || nodes[0].problems().contains(&"source".to_owned()).then_some(()));
    assert_eq!(seen(), Some(one), "what was known stays in force");
    let _etcd = Etcd::start(&cluster);
    eventually("all is well", || nodes[0].problems().is_empty().then_some(()));
    assert_eq!((nodes[0].inner(), seen()), (Some(one), Some(one)));
}

#[test]
fn an_etcd_that_vanishes_without_a_word_is_noticed_and_harms_nobody() {
    testbed::isolated!();
    let (cluster, mut nodes) = two_nodes();
    let etcd = Etcd::start(&cluster);
    start(&etcd, &mut nodes);
    let pods = [&nodes[0], &nodes[1]].map(|node| (&node.pod, give_pod_an_address(node)));
    let traffic = Traffic::start(&Pair { near: pods[0], far: pods[1], port: 7000 });
    let began = Instant::now();
    cluster.losing(2379, || {
        // `eventually` waits for half a minute.
        eventually("it is said", || (nodes[0].problems() == ["source"]).then_some(()));
        println!("said after {} s", began.elapsed().as_secs());
    });
    let back = Instant::now();
    etcd.put(
        "/coreos.com/network/subnets/10.244.250.0-24",
        r#"{"NodeName":"n9","PublicIP":"192.0.2.9","BackendType":"vxlan",
            "BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}}"#,
    );
    let is_joined = |node: &Node| node.status()["programmed"] == 2 && node.problems().is_empty();
    eventually("all is well", || nodes.iter().all(is_joined).then_some(()));
    let time = back.elapsed();
    println!("heard again after {} ms", time.as_millis());
    assert!(time < BACK, "{time:?}");
    assert_unnoticed("an etcd that vanished", &traffic.stop());
}

/// The node's pod has one of the subnet that the node has leased.
fn give_pod_an_address(node: &Node) -> IpAddr {
    let subnet = IpNet::new(node.inner().unwrap(), 24).unwrap();
    let mut hosts = subnet.hosts();
    let (gateway, pod) = (hosts.next().unwrap(), hosts.next().unwrap());
    node.space.sh(&format!("ip address add {gateway}/24 dev cni0"));
    node.pod.sh(&format!(
        "ip address flush dev eth0; ip address add {pod}/24 dev eth0
        ip route add default via {gateway}"
    ));
    pod
}

#[test]
fn members_of_etcd_may_die_and_no_packet_is_lost() {
    testbed::isolated!();
    let urls = [0, 1, 2].map(|n| format!("http://192.0.2.200:{}", Etcd::port(n)));
    let settings = format!("source: {{etcd: {{endpoints: {urls:?}, leaseSeconds: 4}}}}");
    let mut cluster = Cluster::new(2, &settings, V4);
    cluster.switch.sh("ip link set lo up; ip address add 192.0.2.200/24 dev br0");
    let mut nodes = std::mem::take(&mut cluster.nodes);
    let start = |number: u16| Some(Etcd::start_one(&cluster, number, 3));
    let mut members = [0, 1, 2].map(start);
    members[0].as_ref().unwrap().put("/coreos.com/network/config", CONFIG);
    nodes.iter_mut().for_each(Node::start);
    for node in &nodes {
        eventually("the other node is known", || (node.status()["programmed"] == 1).then_some(()));
    }
    let before = [nodes[0].inner(), nodes[1].inner()];
    let pods = [&nodes[0], &nodes[1]].map(|node| (&node.pod, give_pod_an_address(node)));
    assert_eq!(source_seen(pods[0].0.netns(), pods[1].0.netns(), pods[1].1), Some(pods[0].1));
    let traffic = Traffic::start(&Pair { near: pods[0], far: pods[1], port: 7000 });
    // One of the first two is the one that is asked, and each of the three may be the leader.
    for number in 0..3 {
        members[usize::from(number)] = None;
        // Longer than a lease lives without being renewed.
        std::thread::sleep(Duration::from_secs(6));
        let problems = [nodes[0].problems(), nodes[1].problems()];
        assert_eq!(problems, [const { Vec::<String>::new() }; 2]);
        members[usize::from(number)] = start(number);
        // The next one dies only when this one is of the cluster again.
        let member = members[usize::from(number)].as_ref().unwrap();
        member.put("/elsewhere", "x");
    }
    let outcome = traffic.stop();
    assert_eq!(outcome.lost, 0, "{outcome:?}");
    assert_eq!([nodes[0].inner(), nodes[1].inner()], before);
}

/// Who forwards a packet that leaves the cluster does it with the node's address; within the
/// cluster's network it keeps its own, also where no node has that part of it yet.
#[test]
fn the_network_of_the_cluster_is_not_masqueraded() {
    testbed::isolated!();
    let settings = "source: {etcd: {endpoints: ['http://192.0.2.200:2379']}}";
    let mut cluster = Cluster::new(1, settings, V4);
    // A router of the underlay that has an address of the cluster, too.
    cluster.switch.sh("ip link set lo up
        for a in 192.0.2.200 192.0.2.254 10.244.255.1 10.245.255.1; do
            ip address add $a/24 dev br0
        done");
    let mut nodes = std::mem::take(&mut cluster.nodes);
    let etcd = Etcd::start(&cluster);
    etcd.put("/coreos.com/network/config", CONFIG);
    let [node] = &mut nodes[..] else { panic!("one node") };
    node.start();
    node.wait_until_ready();
    let pods = || node.space.sh("nft list set inet podwire pods4");
    assert!(pods().contains("elements = { 10.244.0.0/16 }"), "{}", pods());
    let (subnet, pod) = (node.inner().unwrap(), give_pod_an_address(node).to_string());
    cluster.switch.sh(&format!("ip route add {subnet}/24 via 192.0.2.1"));
    let seen = |address: &str| {
        let switch = cluster.switch.netns();
        source_seen(node.pod.netns(), switch, address.parse().unwrap()).map(|it| it.to_string())
    };
    assert_eq!(seen("10.244.255.1"), Some(pod.clone()), "{}", pods());
    assert_eq!(seen("10.245.255.1").as_deref(), Some("192.0.2.1"));
    let environment = || std::fs::read_to_string(node.own("subnet.env")).unwrap();
    assert!(environment().contains("FLANNEL_NETWORK=10.244.0.0/16\n"), "{}", environment());
    // It may grow under a cluster at work, and is known while etcd is away.
    etcd.put("/coreos.com/network/config", &CONFIG.replace("10.244.0.0/16", "10.244.0.0/15"));
    eventually("a network that grew", || pods().contains("{ 10.244.0.0/15 }").then_some(()));
    assert_eq!(seen("10.245.255.1"), Some(pod));
    let is_told = || environment().contains("FLANNEL_NETWORK=10.244.0.0/15\n");
    eventually("flannel's plugin is told", || is_told().then_some(()));
    drop(etcd);
    node.kill();
    node.space.sh("nft delete table inet podwire");
    node.start();
    eventually("it is known", || {
        let told = node.space.sh("nft list set inet podwire pods4 2>/dev/null || true");
        told.contains("{ 10.244.0.0/15 }").then_some(())
    });
}
