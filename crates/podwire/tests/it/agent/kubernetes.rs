//! Nodes that know of each other by Kubernetes' API: real agents, and a server that speaks it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::TempDir;
use testbed::kubernetes::{Server, kubeconfig, published, registered};
use testbed::look::{eventually, source_seen};

use super::cluster::{Cluster, V4};
use super::faults::{BACK, assert_unnoticed, flow, stem};

const OURS: &str = "podwire.dev/node";
const NETWORK: &str = "NetworkUnavailable";

/// A cluster whose nodes ask the API at an address of the underlay.
struct Kubernetes {
    server: Server,
    cluster: Cluster,
    _kubeconfig: TempDir,
}

impl Kubernetes {
    /// `agents` nodes of which each will have an agent, and Nodes up to `all` that only say so.
    fn new(agents: usize, all: usize, flannel: bool) -> Self {
        let api = SocketAddr::from(([192, 0, 2, 200], 6443));
        let directory = testbed::directory();
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig(api)).unwrap();
        let path = path.display();
        let settings = format!(
            "source: {{kubernetes: {{kubeconfig: {path}, flannel: {flannel}}}}}\nprobes: null"
        );
        let cluster = Cluster::new(agents, &settings, V4);
        cluster.switch.sh("ip link set lo up; ip address add 192.0.2.200/24 dev br0");
        let server = cluster.switch.netns().enter(|| Server::start_at(api)).unwrap();
        (1..=agents).for_each(|n| server.put(kubelets(n)));
        (agents + 1..=all).for_each(|n| server.put(others(n)));
        Self { server, cluster, _kubeconfig: directory }
    }

    /// The same with agents at work, of which each has joined all others.
    fn started(agents: usize, all: usize) -> Self {
        let mut made = Self::new(agents, all, false);
        made.cluster.start();
        made.wait_until_joined(all - 1);
        made
    }

    #[track_caller]
    fn wait_until_joined(&self, peers: usize) {
        for node in &self.cluster.nodes {
            eventually("all is well with so many peers", || {
                let status = node.status();
                (status["programmed"] == peers && status["problems"] == json!([])).then_some(())
            });
        }
    }

    /// Waits until n1 says this of something that is wrong.
    #[track_caller]
    fn wait_until_said(&self, text: &str) {
        eventually(text, || {
            let status = self.cluster.nodes[0].status();
            let problems = status["problems"].as_array()?;
            problems.iter().any(|it| it["text"].as_str().unwrap().contains(text)).then_some(())
        });
    }

    /// Waits until n1 sends what is for this subnet into the tunnel, or does not.
    #[track_caller]
    fn wait_for_route(&self, subnet: &str, is_there: bool) {
        let space = &self.cluster.nodes[0].space;
        eventually("n1 follows", || {
            let route = space.sh(&format!("ip route show {subnet}"));
            (route.contains("podwire0") == is_there).then_some(())
        });
    }

    /// From whom the pod of `to` sees what the pod of `from` sends to `address`.
    fn seen(&self, from: usize, to: usize, address: &str) -> Option<IpAddr> {
        let pod = |n: usize| self.cluster.nodes[n - 1].pod.netns();
        source_seen(pod(from), pod(to), address.parse().unwrap())
    }

    #[track_caller]
    fn assert_joined(&self, from: usize, to: usize) {
        let pod = |n| self.cluster.pod_address(n);
        assert_eq!(self.seen(from, to, &pod(to).to_string()), Some(pod(from)), "{from} to {to}");
        assert_eq!(self.seen(to, from, &pod(from).to_string()), Some(pod(to)), "{to} to {from}");
    }

    /// Does something to the API while packets flow between the pods of n1 and n2, none of which may
    /// be lost.
    #[track_caller]
    fn unnoticed(&self, what: &str, harm: impl FnOnce(&Self)) {
        let traffic = flow(&self.cluster);
        harm(self);
        assert_unnoticed(what, &stem(traffic));
    }

    /// Has the API be away until that is noticed, and come back with something else to say.
    fn away(&self, meanwhile: impl FnOnce(&Server)) {
        self.server.set_away(true);
        self.wait_until_said("Kubernetes' API cannot be asked");
        meanwhile(&self.server);
        self.server.forget();
        self.server.set_away(false);
    }

    /// Has the API lose `lost` of `all` nodes while it is away, until n1 says so: they are joined all
    /// the same. Then they are as they were.
    fn lose(&self, lost: &[usize], all: usize, said: &str) {
        let before: Vec<Value> = lost.iter().map(|n| self.server.node(&format!("n{n}"))).collect();
        self.away(|server| lost.iter().for_each(|n| server.remove(&format!("n{n}"))));
        self.wait_until_said(said);
        (2..=all).for_each(|n| self.wait_for_route(&format!("10.244.{n}.0/24"), true));
        self.assert_joined(1, 2);
        before.into_iter().for_each(|node| self.server.put(node));
        self.wait_until_joined(all - 1);
    }
}

/// A Node as its kubelet and a cloud's controller have left it.
fn kubelets(n: usize) -> Value {
    let mut node = registered(&format!("n{n}"), address(n), &format!("10.244.{n}.0/24"));
    node["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" },
        { "type": NETWORK, "status": "True", "reason": "NoRouteCreated" }]);
    node
}

/// A Node that says that podwire runs there.
fn others(n: usize) -> Value {
    published(&format!("n{n}"), address(n), &format!("10.244.{n}.0/24"))
}

fn address(n: usize) -> IpAddr {
    format!("192.0.2.{n}").parse().unwrap()
}

#[test]
fn nodes_join_by_what_they_publish() {
    testbed::isolated!();
    let it = Kubernetes::started(3, 3);
    it.assert_joined(1, 3);
    it.assert_joined(2, 3);
    for n in 1..=3 {
        let name = format!("n{n}");
        let text = it.server.annotation(&name, OURS).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({ "addresses": { "v4": address(n) }, "subnets": { "v4": format!("10.244.{n}.0/24") },
                "backend": "vxlan", "vni": 1 })
        );
        eventually("pods may come", || {
            (it.server.condition(&name, NETWORK)? == "False").then_some(())
        });
        assert_eq!(it.server.condition(&name, "Ready").as_deref(), Some("True"));
    }
    // Who looks changes nothing, here and there.
    let asked = it.server.count(|request| request.method != "GET");
    let told = it.cluster.nodes[0].podwire("--dry-run").expect(0).stdout;
    assert_eq!(told, "Everything is as it should be.\n");
    assert_eq!(it.server.count(|request| request.method != "GET"), asked);
}

#[test]
fn nodes_are_followed_and_others_notice_nothing() {
    testbed::isolated!();
    let it = Kubernetes::started(3, 3);
    it.unnoticed("lost annotations", |it| {
        for name in ["n1", "n2", "n3"] {
            let before = it.server.annotation(name, OURS);
            for lost in [Value::Null, json!({ "other": "x" }), json!({ OURS: "{}" })] {
                it.server.edit(name, |node| node["metadata"]["annotations"] = lost);
                eventually("it is published again", || {
                    (it.server.annotation(name, OURS) == before).then_some(())
                });
            }
        }
        it.wait_until_joined(2);
    });
    it.unnoticed("a node taken out", |it| {
        it.server.remove("n3");
        it.wait_for_route("10.244.3.0/24", false);
    });
    it.unnoticed("a node registered anew", |it| {
        it.server.put(kubelets(3));
        it.wait_for_route("10.244.3.0/24", true);
        it.wait_until_joined(2);
        it.assert_joined(1, 3);
    });
    it.unnoticed("other addresses for a node's pods", |it| {
        it.server.edit("n3", |node| node["spec"]["podCIDRs"] = json!(["10.244.33.0/24"]));
        it.wait_for_route("10.244.33.0/24", true);
        it.wait_for_route("10.244.3.0/24", false);
    });
    it.cluster.nodes[2].space.sh("ip address add 10.244.33.1/24 dev cni0");
    it.cluster.nodes[2].pod.sh("ip address flush dev eth0
        ip address add 10.244.33.2/24 dev eth0; ip route add default via 10.244.33.1");
    let moved = "10.244.33.2".parse().ok();
    assert_eq!(it.seen(1, 3, "10.244.33.2"), Some(it.cluster.pod_address(1)));
    assert_eq!(it.seen(3, 2, "10.244.2.2"), moved);
    it.wait_until_joined(2);
}

#[test]
fn an_api_that_errs_harms_nobody() {
    testbed::isolated!();
    let it = Kubernetes::started(2, 6);
    it.unnoticed("away for a while", |it| {
        it.away(|_| ());
        it.wait_until_joined(5);
    });
    it.unnoticed("away, and back with one node less", |it| {
        let before = it.server.node("n6");
        it.away(|server| server.remove("n6"));
        it.wait_until_joined(4);
        it.wait_for_route("10.244.6.0/24", false);
        it.server.put(before);
        it.wait_until_joined(5);
    });
    it.unnoticed("away, and back with half of the nodes", |it| {
        it.lose(&[2, 4, 6], 6, "lost 3 of 5 peers");
    });
}

#[test]
fn an_api_that_vanishes_without_a_word_is_noticed_and_harms_nobody() {
    testbed::isolated!();
    let it = Kubernetes::started(2, 3);
    it.unnoticed("an API that vanished", |it| {
        // `eventually` waits for half a minute.
        it.cluster.losing(6443, || it.wait_until_said("Kubernetes' API cannot be asked"));
        let began = Instant::now();
        it.server.put(others(4));
        it.wait_for_route("10.244.4.0/24", true);
        it.wait_until_joined(3);
        let time = began.elapsed();
        println!("heard again after {} ms", time.as_millis());
        assert!(time < BACK, "{time:?}");
    });
}

#[test]
fn an_api_that_has_lost_all_nodes_harms_nobody() {
    testbed::isolated!();
    // So few that losing them would not be suspicious by itself.
    let it = Kubernetes::started(2, 3);
    it.unnoticed("away, and back without any node", |it| {
        it.lose(&[1, 2, 3], 3, "there is no Node n1");
    });
}

#[test]
fn a_watch_that_breaks_is_taken_up_again() {
    testbed::isolated!();
    let it = Kubernetes::started(2, 3);
    let mut next = 4;
    let mut news = |it: &Kubernetes, harm: &dyn Fn(&Server), over: &dyn Fn(&Server)| {
        harm(&it.server);
        it.server.put(others(next));
        it.server.remove(&format!("n{}", next - 1));
        over(&it.server);
        it.wait_for_route(&format!("10.244.{next}.0/24"), true);
        it.wait_for_route(&format!("10.244.{}.0/24", next - 1), false);
        it.wait_until_joined(2);
        next += 1;
    };
    it.unnoticed("connections cut", |it| news(it, &Server::cut, &Server::cut));
    it.unnoticed("events that break off", |it| {
        news(it, &|server| server.set_breaks_events(true), &|server| {
            std::thread::sleep(Duration::from_millis(300));
            server.set_breaks_events(false);
        });
    });
    it.unnoticed("410 Gone", |it| {
        news(it, &|server| server.set_away(true), &|server| {
            server.forget();
            server.set_away(false);
        });
    });
    it.unnoticed("410 Gone, and a list that breaks off", |it| {
        let set_breaks = |server: &Server| {
            server.set_breaks_at_page(Some(0));
            server.forget();
            server.cut();
        };
        news(it, &set_breaks, &|server| {
            std::thread::sleep(Duration::from_millis(300));
            server.set_breaks_at_page(None);
        });
    });
}

/// flannel's words for a Node.
fn of_flannel(it: &Kubernetes, n: usize, key: &str) -> Option<String> {
    it.server.annotation(&format!("n{n}"), &format!("flannel.alpha.coreos.com/{key}"))
}

/// Does on n3 what flanneld does, from nothing but what it reads in the API.
fn be_flannel(it: &Kubernetes, mac: &str) {
    let node = &it.cluster.nodes[2].space;
    node.sh(&format!(
        "ip link show flannel.1 >/dev/null 2>&1 && ip link delete flannel.1
         ip link add flannel.1 address {mac} type vxlan id 1 dstport 8472 nolearning \
            local 192.0.2.3 dev eth0
         ip address add 10.244.3.0/32 dev flannel.1; ip link set flannel.1 mtu 1450 up
         sysctl -qw net.ipv4.ip_forward=1"
    ));
    for n in 1..=2 {
        let data: Value =
            serde_json::from_str(&of_flannel(it, n, "backend-data").unwrap()).unwrap();
        let (mac, ip) =
            (data["VtepMAC"].as_str().unwrap(), of_flannel(it, n, "public-ip").unwrap());
        assert_eq!(data["VNI"], 1);
        node.sh(&format!(
            "ip neighbour replace 10.244.{n}.0 lladdr {mac} dev flannel.1 nud permanent
             bridge fdb replace {mac} dst {ip} dev flannel.1
             ip route replace 10.244.{n}.0/24 via 10.244.{n}.0 dev flannel.1 onlink"
        ));
    }
    it.server.edit("n3", |node| {
        node["metadata"]["annotations"] = json!({
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/backend-data":
                json!({ "VNI": 1, "VtepMAC": mac }).to_string(),
            "flannel.alpha.coreos.com/public-ip": "192.0.2.3",
        });
    });
}

#[test]
fn nodes_of_flannel_are_joined_and_join() {
    testbed::isolated!();
    let mut it = Kubernetes::new(3, 3, true);
    // One as flannel has it, one as podwire has it.
    let config = it.cluster.directory.path().join("n1.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + "tunnel: {form: classic, device: flannel.1}\n").unwrap();
    for n in [1, 2] {
        it.cluster.node(n).start();
    }
    for n in [1, 2] {
        eventually("flannel is told", || of_flannel(&it, n, "backend-data"));
        assert_eq!(of_flannel(&it, n, "kube-subnet-manager").as_deref(), Some("true"));
        assert_eq!(of_flannel(&it, n, "backend-type").as_deref(), Some("vxlan"));
        it.cluster.nodes[n - 1].wait_until_ready();
    }
    it.assert_joined(1, 2);
    be_flannel(&it, "aa:bb:cc:dd:ee:01");
    it.assert_joined(1, 3);
    it.assert_joined(2, 3);
    // It starts anew, with another hardware address.
    it.unnoticed("flannel begins anew", |it| {
        be_flannel(it, "aa:bb:cc:dd:ee:02");
        it.assert_joined(1, 3);
        it.assert_joined(2, 3);
    });
}
