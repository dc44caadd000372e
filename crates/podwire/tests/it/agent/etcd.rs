//! Nodes that know of each other by a real etcd.

use std::process::Child;

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
    let inner = |place: usize| {
        let text = nodes[place].space.sh("ip -o -4 address show dev podwire0 | awk '{print $4}'");
        text.trim().trim_end_matches("/32").parse().ok()
    };
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
