//! Nodes that know of each other by a real etcd.

use std::process::Child;

use ipnet::IpNet;
use testbed::look::{eventually, source_seen};

use super::cluster::{Cluster, V4};

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

#[test]
fn nodes_lease_subnets_and_outlive_etcd() {
    testbed::isolated!();
    let settings = "source: {etcd: {endpoints: ['http://192.0.2.200:2379']}}";
    let mut cluster = Cluster::new(2, settings, V4);
    cluster.switch.sh("ip link set lo up; ip address add 192.0.2.200/24 dev br0");
    let mut nodes = std::mem::take(&mut cluster.nodes);
    let etcd = Etcd::start(&cluster);
    etcd.put("/coreos.com/network/config", CONFIG);
    for node in &mut nodes {
        node.start();
    }
    let inner = |place: usize| nodes[place].inner();
    let both_know = |place: usize| {
        let status = nodes[place].status();
        (status["peers"] == 1 && status["programmed"] == 1).then_some(())
    };
    eventually("n1 knows n2", || both_know(0));
    eventually("n2 knows n1", || both_know(1));
    let (one, two) = (inner(0).unwrap(), inner(1).unwrap());
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
    assert_eq!((inner(0), seen()), (Some(one), Some(one)));
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
    let subnet = node.inner().unwrap();
    let gateway = IpNet::new(subnet, 24).unwrap().hosts().next().unwrap();
    let pod = format!("{}9", gateway.to_string().trim_end_matches('1'));
    node.space.sh(&format!("ip address add {gateway}/24 dev cni0"));
    node.pod.sh(&format!(
        "ip address flush dev eth0; ip address add {pod}/24 dev eth0
        ip route add default via {gateway}"
    ));
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
