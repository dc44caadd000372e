//! A node and the world around it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use kernel::Netns;
use serde_json::{Value, json};
use testbed::look::eventually;
use testbed::{Namespace, need, sh, state};

use crate::plugins::{self, By};
use crate::{containerd, image};

/// The node's addresses on its uplink.
pub const NODE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
/// The addresses of the world outside, at the other end of that uplink.
pub const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
];

/// Where the files of clients are; `/run` is the test's own.
pub(crate) const HOME: &str = "/run/e2e";
/// Where of these are those that a node keeps in memory.
pub(crate) const VOLATILE: &str = "/run/e2e/volatile";
/// Where runtimes look for configurations if they are not told otherwise.
const CONFIGURATIONS: &str = "/etc/cni/net.d";

/// A node with plugins in `/opt/cni/bin`, and the test itself as the world outside.
///
/// `/etc`, `/opt` and `/var/lib` are the host's only to read: what clients and plugins write there is
/// gone with the test, as are their processes.
#[derive(Debug)]
pub struct Machine {
    node: Namespace,
    outside: Netns,
    cgroup: String,
}

impl Machine {
    /// The only machine of a test; see [`crate::machine!`].
    pub fn new(by: By) -> Self {
        need("runc", "runc");
        need("iptables", "iptables");
        sh(&format!(
            "mkdir -p {HOME}/etc {HOME}/work {VOLATILE}
            mount -t tmpfs tmpfs {VOLATILE}
            mount -t tmpfs tmpfs /opt
            mount -t tmpfs tmpfs /var/lib
            mount -t overlay overlay -o lowerdir=/etc,upperdir={HOME}/etc,workdir={HOME}/work /etc
            rm -rf {CONFIGURATIONS}
            mkdir -p {CONFIGURATIONS}"
        ));
        image::make(HOME);
        by.install();
        let node = Namespace::new("node");
        sh("ip link add outside type veth peer name uplink netns node; ip link set outside up");
        node.sh("ip link set uplink up");
        for (length, (ours, theirs)) in [24, 64].iter().zip(OUTSIDE.iter().zip(NODE)) {
            sh(&format!("ip address add {ours}/{length} dev outside nodad"));
            node.sh(&format!("ip address add {theirs}/{length} dev uplink nodad"));
        }
        let outside = Netns::current().unwrap();
        // No two namespaces have the same number at the same time.
        let cgroup = format!("podwire-e2e-{}", node.netns().id().unwrap().inode);
        Self { node, outside, cgroup }
    }

    /// Whether podwire stands behind a plugin's name.
    pub fn is_podwire(&self, plugin: &str) -> bool {
        plugins::is_podwire(plugin)
    }

    /// The node's network.
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// The network of the world outside.
    pub fn outside(&self) -> &Netns {
        &self.outside
    }

    /// The cgroup that all containers are in, as a path from the root of each hierarchy.
    pub(crate) fn cgroup(&self) -> String {
        format!("/{}", self.cgroup)
    }

    /// Runs `podwire` on the node; returns what it prints, in lines of 100 columns.
    pub fn podwire(&self, arguments: &str) -> String {
        self.node.sh(&format!("COLUMNS=100 {}", plugins::podwire(arguments)))
    }

    /// Runs `ctr` against containerd's socket, on the node; returns what it prints.
    pub fn ctr(&self, arguments: &str) -> String {
        self.node.sh(&format!("ctr --address {} {arguments}", containerd::socket().display()))
    }

    /// Has `ctr` run a command in a container with a network; returns what the command prints.
    pub fn run_with_ctr(&self, id: &str, command: &str) -> String {
        let cgroup = format!("/{}/{id}", self.cgroup);
        self.ctr(&format!(
            "run --rm --cni --cgroup {cgroup} {} {id} /bin/sh -c '{command}'",
            image::NAME
        ))
    }

    /// Gives the node a network with a bridge, and host ports.
    pub fn configure(&self) {
        self.configure_with("bridge", &[]);
    }

    /// Gives the node a network of both families, `10.20.0.0/24` and `fd20::/64`, whose pods get their
    /// interfaces from `plugin`, with host ports, and `more` plugins at the end of the chain.
    pub fn configure_with(&self, plugin: &str, more: &[Value]) {
        let interface = json!({
            "type": plugin,
            "ipMasq": true,
            "isGateway": true,
            // What br_netfilter has rewritten would else not go back to where it came from.
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.20.0.0/24" }], [{ "subnet": "fd20::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            },
        });
        let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        let plugins = [&[interface, ports], more].concat();
        let network = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": plugins });
        fs::write(Path::new(CONFIGURATIONS).join("10-pods.conflist"), network.to_string()).unwrap();
    }

    /// Ends all pods as nobody ends them: their processes and namespaces are gone, and what runtimes
    /// and plugins have in memory.
    pub(crate) fn end_pods(&self) {
        kill_all();
        sh(&format!(
            "for netns in /run/netns/cni-*; do umount $netns; rm $netns; done
            umount --recursive {VOLATILE}
            rm -rf /run/podwire
            mount -t tmpfs tmpfs {VOLATILE}"
        ));
    }

    /// Takes away what a power cut takes: the pods, and all that the node's own network has from them.
    pub(crate) fn lose_power(&self) {
        self.end_pods();
        self.node.sh("ip link delete cni0; nft flush ruleset");
    }

    /// All that pods could leave behind: the state of the node's network, and the names of the files
    /// that runtimes and plugins keep.
    pub fn traces(&self) -> String {
        let directories = "/run/netns /run/podwire /var/lib/cni /var/lib/podwire";
        let files = sh(&format!("find {directories} 2>/dev/null | sort"));
        format!("{}\n{files}", state(&self.node))
    }

    /// The addresses that host-local has reserved.
    pub fn reserved(&self) -> Vec<IpAddr> {
        let files = sh("find /var/lib/cni/networks -type f | sort");
        let names = files.lines().filter_map(|path| path.rsplit('/').next());
        names.filter_map(|name| name.parse().ok()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(containerd::LOG).unwrap_or_default());
        }
        // Only then can the cgroups go, which are the one thing here that the host shares.
        kill_all();
        eventually("the cgroups go", || {
            let own = &self.cgroup;
            let left = sh(&format!(
                "for own in /sys/fs/cgroup/{own} /sys/fs/cgroup/*/{own}; do
                    if [ -d $own ]; then find $own -depth -type d -delete 2>&1 || true; fi
                done"
            ));
            left.is_empty().then_some(())
        });
    }
}

/// Ends all processes but this one.
fn kill_all() {
    eventually("all processes end", || {
        let alive = alive().join(" ");
        if alive.is_empty() {
            return Some(());
        }
        sh(&format!("kill -9 {alive} 2>/dev/null || true"));
        None
    });
}

/// The processes of this machine but for the first one and this one; the dead do not count.
fn alive() -> Vec<String> {
    let own = std::process::id().to_string();
    let names = fs::read_dir("/proc").unwrap().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let is_alive = |id: &String| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        !matches!(state, None | Some('Z'))
    };
    names
        .filter(|name| name.parse::<u32>().is_ok() && name != "1" && *name != own)
        .filter(is_alive)
        .collect()
}
