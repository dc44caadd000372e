//! Nodes that know of each other by a real etcd.

use std::net::IpAddr;
use std::process::Child;
use std::time::{Duration, Instant};

use testbed::look::{eventually, source_seen};

use super::cluster::{Cluster, Node, V4};

const CONFIG: &str = r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#;

/// A member at an address of the underlay.
struct Etcd<'a> {
    cluster: &'a Cluster,
    member: Child,
}

impl<'a> Etcd<'a> {
    fn start(cluster: &'a Cluster) -> Self {
        let directory = cluster.directory.path().join("etcd");
        let url = "http://192.0.2.200:2379";
        #[expect(clippy::disallowed_methods, reason = "tests start processes")]
        let mut command = std::process::Command::new(testbed::need("etcd", "etcd-server"));
        command.args(["--listen-client-urls", url, "--advertise-client-urls", url]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "error"]);
        command.arg("--data-dir").arg(directory);
        let member = cluster.switch.netns().spawn(&mut command).unwrap();
        Self { cluster, member }
    }

    fn put(&self, key: &str, value: &str) {
        use base64::Engine;
        let code = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let body = format!(r#"{{"key":"{}","value":"{}"}}"#, code(key), code(value));
        eventually("etcd takes a key", || self.post("/v3/kv/put", &body));
    }

    fn post(&self, path: &str, body: &str) -> Option<()> {
        use std::io::{Read, Write};
        let connect = || std::net::TcpStream::connect("192.0.2.200:2379");
        let mut stream = self.cluster.switch.netns().enter(connect).unwrap().ok()?;
        let length = body.len();
        write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains(" 200 ").then_some(())
    }
}

impl Drop for Etcd<'_> {
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
fn start(etcd: &Etcd<'_>, nodes: &mut [Node]) {
    etcd.put("/coreos.com/network/config", CONFIG);
    nodes.iter_mut().for_each(Node::start);
    for node in nodes {
        eventually("a node knows the other", || {
            let status = node.status();
            (status["peers"] == 1 && status["programmed"] == 1).then_some(())
        });
    }
}

/// A node's own address in the tunnel.
fn inner(node: &Node) -> Option<IpAddr> {
    let text = node.space.sh("ip -o -4 address show dev podwire0 | awk '{print $4}'");
    text.trim().trim_end_matches("/32").parse().ok()
}

#[test]
fn another_address_of_a_node_is_published() {
    testbed::isolated!();
    let (cluster, mut nodes) = two_nodes();
    let etcd = Etcd::start(&cluster);
    start(&etcd, &mut nodes);
    let (one, two) = (inner(&nodes[0]), inner(&nodes[1]).unwrap());
    let began = Instant::now();
    nodes[0].space.sh("ip address delete 192.0.2.1/24 dev eth0
        ip address add 192.0.2.11/24 dev eth0; ip route add default via 192.0.2.254");
    let is_known = || nodes[1].space.sh("ip route show proto 112").contains("192.0.2.11");
    while !is_known() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let seen = source_seen(nodes[0].space.netns(), nodes[1].space.netns(), two);
    println!("etcd: another address: repaired in {} ms", began.elapsed().as_millis());
    assert_eq!((inner(&nodes[0]), seen), (one, one), "the node keeps its subnet");
}

#[test]
fn nodes_lease_subnets_and_outlive_etcd() {
    testbed::isolated!();
    let (cluster, mut nodes) = two_nodes();
    let etcd = Etcd::start(&cluster);
    start(&etcd, &mut nodes);
    let (one, two) = (inner(&nodes[0]).unwrap(), inner(&nodes[1]).unwrap());
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
    assert_eq!((inner(&nodes[0]), seen()), (Some(one), Some(one)));
}
