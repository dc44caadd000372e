//! A cluster by the system's own tools: nodes on a switch, a pod on each, and an agent where one
//! runs.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Child;

use testbed::look::eventually;
use testbed::{Namespace, TempDir};

use crate::{Run, finish};

/// Which families pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

pub(super) const V4: Families = Families { v4: true, v6: false };
pub(super) const V6: Families = Families { v4: false, v6: true };
pub(super) const DUAL: Families = Families { v4: true, v6: true };

pub(super) struct Cluster {
    pub(super) switch: Namespace,
    pub(super) nodes: Vec<Node>,
    pub(super) directory: TempDir,
    pub(super) families: Families,
}

pub(super) struct Node {
    pub(super) number: usize,
    pub(super) space: Namespace,
    pub(super) pod: Namespace,
    config: PathBuf,
    agent: Option<Child>,
}

impl Cluster {
    /// `settings` are lines of every agent's configuration.
    pub(super) fn new(count: usize, settings: &str, families: Families) -> Self {
        let switch = Namespace::new("switch");
        switch.sh("ip link add br0 type bridge forward_delay 0; ip link set br0 up");
        // Who routes between links knows nothing of pods.
        switch.sh("nft '
            table bridge underlay {
                chain forward {
                    type filter hook forward priority 0;
                    ip saddr 10.244.0.0/16 drop
                    ip daddr 10.244.0.0/16 drop
                    ip6 saddr fd00:10:244::/48 drop
                    ip6 daddr fd00:10:244::/48 drop
                }
            }'");
        let directory = testbed::directory();
        let cluster = Self { switch, nodes: Vec::new(), directory, families };
        let nodes = (1..=count).map(|number| Node::new(&cluster, number, settings)).collect();
        let cluster = Self { nodes, ..cluster };
        cluster.list(1..=count);
        cluster
    }

    /// The underlay lets pods' addresses through, as plain routes need.
    pub(super) fn let_through(self) -> Self {
        self.switch.sh("nft delete table bridge underlay");
        self
    }

    /// Writes the node file, as an editor does.
    pub(super) fn list(&self, numbers: impl IntoIterator<Item = usize>) {
        self.write_entries(numbers.into_iter().map(|n| self.entry(n)));
    }

    /// Lists all nodes, with something else in the entry of one of them.
    pub(super) fn spoil(&self, number: usize, from: &str, to: &str) {
        let entry = |node: &Node| match node.number == number {
            true => self.entry(number).replace(from, to),
            false => self.entry(node.number),
        };
        self.write_entries(self.nodes.iter().map(entry));
    }

    fn write_entries(&self, entries: impl Iterator<Item = String>) {
        let entries: Vec<String> = entries.collect();
        self.write(&format!("nodes: [{}]\n", entries.join(", ")));
    }

    pub(super) fn entry(&self, n: usize) -> String {
        let Families { v4, v6 } = self.families;
        let v4 = v4.then(|| (format!("192.0.2.{n}"), format!("10.244.{n}.0/24")));
        let v6 = v6.then(|| (format!("2001:db8::{n}"), format!("fd00:10:244:{n}::/64")));
        let (addresses, subnets): (Vec<String>, Vec<String>) = v4.into_iter().chain(v6).unzip();
        format!("{{name: n{n}, addresses: {addresses:?}, podSubnets: {subnets:?}}}")
    }

    pub(super) fn write(&self, text: &str) {
        let (new, path) = (self.directory.path().join("new"), self.node_file());
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub(super) fn node_file(&self) -> PathBuf {
        self.directory.path().join("nodes.yaml")
    }

    /// Has every node joined, by an agent that ends.
    pub(super) fn join(&self) {
        for node in &self.nodes {
            node.podwire("--once").expect(0);
        }
    }

    /// Has an agent run on every node.
    pub(super) fn start(&mut self) {
        for node in &mut self.nodes {
            node.start();
        }
        self.nodes.iter().for_each(Node::wait_until_ready);
    }

    /// The address of a pod, by the number of its node.
    pub(super) fn pod_address(&self, n: usize) -> IpAddr {
        let text = match self.families.v4 {
            true => format!("10.244.{n}.2"),
            false => format!("fd00:10:244:{n}::2"),
        };
        text.parse().unwrap()
    }

    /// Has the switch lose all that comes to or from one of its own ports, without a word, while `meanwhile`.
    pub(super) fn losing(&self, port: u16, meanwhile: impl FnOnce()) {
        self.switch.sh(&format!(
            "nft 'table inet lost {{
                chain input {{ type filter hook input priority 0; tcp dport {port} drop; }}
                chain output {{ type filter hook output priority 0; tcp sport {port} drop; }}
            }}'"
        ));
        meanwhile();
        self.switch.sh("nft delete table inet lost");
    }

    pub(super) fn node(&mut self, n: usize) -> &mut Node {
        &mut self.nodes[n - 1]
    }
}

impl Node {
    fn new(cluster: &Cluster, number: usize, settings: &str) -> Self {
        let (n, name) = (number, format!("n{number}"));
        let (space, pod) = (Namespace::new(&name), Namespace::new(&format!("pod{n}")));
        let Families { v4, v6 } = cluster.families;
        let only = |wanted: bool, script: String| if wanted { script } else { String::new() };
        space.sh(&format!(
            "ip link add eth0 address 02:00:00:00:01:{n:02x} type veth peer name port{n} netns switch
            ip -n switch link set port{n} master br0 up
            for s in all default eth0; do
                sysctl -qw net.ipv4.conf.$s.rp_filter=1 net.ipv6.conf.$s.accept_dad=0
            done
            ip link set eth0 up
            ip link add cni0 type bridge forward_delay 0; ip link set cni0 up
            ip link add veth0 type veth peer name eth0 netns pod{n}
            ip link set veth0 master cni0 up
            sysctl -qw net.ipv4.conf.cni0.rp_filter=1",
        ));
        pod.sh("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0
            ip link set eth0 up");
        let v4 = only(
            v4,
            format!(
                "ip address add 192.0.2.{n}/24 dev eth0
            ip route add default via 192.0.2.254
            ip address add 10.244.{n}.1/24 dev cni0
            ip -n pod{n} address add 10.244.{n}.2/24 dev eth0
            ip -n pod{n} route add default via 10.244.{n}.1",
            ),
        );
        let v6 = only(
            v6,
            format!(
                "ip address add 2001:db8::{n}/64 dev eth0 nodad
            ip address add fd00:10:244:{n}::1/64 dev cni0 nodad
            ip -n pod{n} address add fd00:10:244:{n}::2/64 dev eth0 nodad
            ip -n pod{n} route add default via fd00:10:244:{n}::1",
            ),
        );
        space.sh(&format!("{v4}\n{v6}"));
        let directory = cluster.directory.path();
        let config = directory.join(format!("{name}.yaml"));
        let own = directory.join(&name);
        let text = format!(
            "node: {name}
{source}state: {own}/state
run: {own}/run
cni: {{directory: {own}/net.d, subnetEnv: {own}/subnet.env}}
listen: 127.0.0.1:9112
{settings}
",
            source = match settings.contains("source:") {
                true => String::new(),
                false => format!("source: {{file: {}}}\n", cluster.node_file().display()),
            },
            own = own.display(),
        );
        fs::write(&config, text).unwrap();
        Self { number, space, pod, config, agent: None }
    }

    fn command(&self, arguments: &str) -> std::process::Command {
        let config = self.config.display();
        crate::command(&format!("agent --config {config} {arguments}"))
    }

    /// Runs `podwire agent` with these arguments to its end.
    pub(super) fn podwire(&self, arguments: &str) -> Run {
        finish(self.space.netns().spawn(&mut self.command(arguments)).expect("start podwire"))
    }

    pub(super) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.podwire("status -o json").stdout).unwrap_or_default()
    }

    /// The codes of what is wrong.
    pub(super) fn problems(&self) -> Vec<String> {
        let status = self.status();
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        problems.iter().map(|it| it["code"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Its address in the tunnel, which is the first one of its subnet.
    pub(super) fn inner(&self) -> Option<IpAddr> {
        let text = self.space.sh("ip -o -4 address show dev podwire0 | awk '{print $4}'");
        text.trim().trim_end_matches("/32").parse().ok()
    }

    /// A file of its own.
    pub(super) fn own(&self, name: &str) -> PathBuf {
        self.config.with_extension("").join(name)
    }

    pub(super) fn start(&mut self) {
        let mut command = self.command("");
        let log = self.config.with_extension("log");
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        command.stderr(log).env("PODWIRE_LOG", "debug");
        self.agent = Some(self.space.netns().spawn(&mut command).expect("start an agent"));
    }

    pub(super) fn wait_until_ready(&self) {
        eventually("the agent is ready", || self.status()["ready"].as_bool()?.then_some(()));
    }

    pub(super) fn stop(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let pid = rustix::process::Pid::from_child(agent);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(agent.wait().unwrap().code(), Some(0), "{}", self.log());
        self.agent = None;
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.config.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the agent of n{}:\n{}", self.number, self.log());
        }
    }
}
