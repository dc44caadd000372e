//! Several nodes with pods: an underlay that joins the nodes, an agent on each that joins their
//! pods, and a host beyond the cluster.
//!
//! ```text
//! pod1 pod2      pod3 pod4
//!   node1          node2        192.0.2.11, 192.0.2.12; pods 10.244.1.0/24, 10.244.2.0/24
//!     └─────┬────────┘
//!          net ── outside       192.0.2.1; 203.0.113.10
//! ```
//!
//! The underlay forwards for nodes and drops what is from or for a pod, as the networks of clouds
//! and careful administrators do: only a tunnel, or a route on one link, carries pods.

mod addresses;
mod nodes;
mod underlay;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fabric::Backend;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attachment::{self, Wiring};
use crate::{
    AgentRun, Entry, Error, Lab, Namespace, Plan, Plugins, ResolverRun, Result, Role, Step, pods,
};

/// Several nodes with pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// How many nodes there are at first.
    pub nodes: u16,
    /// How many pods each of them has at first.
    pub pods: u16,
    /// How nodes are joined.
    pub backend: Backend,
    /// With vxlan: forwarding entries say where a packet goes, as flannel has it, instead of routes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub classic: bool,
    /// With host-gw: how nodes are joined that share no link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Backend>,
    /// The port of each node that leads to port 80 of its first pod, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// Whether pods are told a resolver, which answers beyond the cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dns: bool,
    /// The addresses that nodes and pods have.
    pub families: Families,
    /// What the nodes are cabled to.
    pub underlay: Underlay,
    /// Whether agents stay, so that the cluster heals itself; else each runs once.
    pub agents: bool,
    /// The program that is the agent.
    pub program: PathBuf,
    /// Where the plugins come from.
    pub plugins: Plugins,
}

/// The addresses that nodes and pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Families {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Both.
    Dual,
}

impl Families {
    fn all(self) -> &'static [fabric::Family] {
        match self {
            Self::Ipv4 => &[fabric::Family::V4],
            Self::Ipv6 => &[fabric::Family::V6],
            Self::Dual => &fabric::Family::ALL,
        }
    }

    /// Whether IPv4 is among them, and whether IPv6 is.
    pub(crate) fn both(self) -> (bool, bool) {
        let has = |family| self.all().contains(&family);
        (has(fabric::Family::V4), has(fabric::Family::V6))
    }
}

/// What the nodes are cabled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Underlay {
    /// One switch.
    Switch,
    /// Two switches with a router between them: odd nodes on one, even nodes on the other.
    Routed,
}

impl Cluster {
    /// The largest number of nodes.
    pub const MAX_NODES: u16 = 50;
}

/// The namespaces that a cluster begins with.
pub(crate) fn namespaces(network: &Cluster) -> Result<Vec<Namespace>> {
    require_nodes(network.nodes)?;
    let mut namespaces = vec![
        Namespace::new(Role::Underlay, underlay::NAMESPACE),
        Namespace::new(Role::Outside, underlay::OUTSIDE),
    ];
    namespaces
        .extend((1..=network.nodes).map(|number| Namespace::new(Role::Node, &node_name(number))));
    let pods = (1..=network.nodes).flat_map(|node| (0..network.pods).map(move |_| node));
    namespaces.extend(
        (1..).zip(pods).map(|(number, node)| Namespace::pod(number, Some(node_name(node)))),
    );
    Ok(namespaces)
}

pub(crate) fn require_nodes(count: u16) -> Result<()> {
    match (1..=Cluster::MAX_NODES).contains(&count) {
        true => Ok(()),
        false => Err(Error::Nodes { count }),
    }
}

/// What the node of this number is called.
pub(crate) fn node_name(number: u16) -> String {
    format!("node{number}")
}

/// The steps that make all of it.
pub(crate) fn plan(lab: &Lab, network: &Cluster, directory: &Path) -> Plan {
    let mut steps = underlay::steps(lab, network);
    let mut files = vec![
        nodes::file(lab, network, directory),
        Entry::Directory(directory.join(NODES)),
        Entry::Directory(directory.join("cni")),
    ];
    files.extend(pods::plugin_links(&network.plugins, directory));
    files.extend(nodes::hosts(lab, network, directory));
    for node in lab.nodes() {
        steps.extend(underlay::node(lab, network, node));
        files.extend(nodes::files(network, directory, node));
    }
    steps.extend(lab.nodes().flat_map(|node| underlay::waits(lab, node)));
    steps.extend(resolver(lab, network, directory).map(Step::Resolver));
    let agent = |node| Step::Agent(agent(lab, network, directory, node, network.agents));
    steps.extend(lab.nodes().map(agent));
    steps.extend(lab.pods().flat_map(|pod| attachment::adds(lab, directory, pod)));
    let namespaces = lab.namespaces.clone();
    Plan { lab: lab.clone(), directory: directory.to_owned(), namespaces, files, steps }
}

/// The steps that make one more node of a lab that has it in its record. Agents that are `running`
/// see the new list by themselves.
pub(crate) fn plan_node(
    lab: &Lab,
    network: &Cluster,
    directory: &Path,
    node: &Namespace,
    running: &BTreeSet<String>,
) -> Plan {
    let mut steps = underlay::node(lab, network, node);
    steps.extend(underlay::waits(lab, node));
    let others = lab.nodes().filter(|it| *it != node && !running.contains(&it.name));
    let others = others.map(|it| Step::Agent(agent(lab, network, directory, it, false)));
    let own = agent(lab, network, directory, node, !running.is_empty());
    steps.extend(others.chain([Step::Agent(own)]));
    let mut files = nodes::files(network, directory, node);
    files.push(nodes::file(lab, network, directory));
    files.extend(nodes::hosts(lab, network, directory));
    let namespaces = vec![node.clone()];
    Plan { lab: lab.clone(), directory: directory.to_owned(), namespaces, files, steps }
}

/// The steps by which the others forget nodes that the lab has no more.
pub(crate) fn plan_farewell(
    lab: &Lab,
    network: &Cluster,
    directory: &Path,
    running: &BTreeSet<String>,
) -> Plan {
    let others = lab.nodes().filter(|it| !running.contains(&it.name));
    let steps = others.map(|it| Step::Agent(agent(lab, network, directory, it, false))).collect();
    let hosts = nodes::hosts(lab, network, directory);
    let files = [nodes::file(lab, network, directory)].into_iter().chain(hosts).collect();
    Plan { lab: lab.clone(), directory: directory.to_owned(), namespaces: Vec::new(), files, steps }
}

/// The cable of a node, as it is seen from the underlay.
pub(crate) fn cable(node: &Namespace) -> net::Link {
    net::Link::existing(underlay::link(&node.name))
}

/// The addresses of a node's pods.
pub(crate) fn pod_net(family: fabric::Family, node: &Namespace) -> ipnet::IpNet {
    addresses::pods(family, node)
}

/// The address of the host beyond the cluster.
pub(crate) fn outside(family: fabric::Family) -> ipnet::IpNet {
    addresses::outside(family).0
}

/// A node's address on the underlay, and its router's.
pub(crate) fn on_underlay(
    network: &Cluster,
    family: fabric::Family,
    node: &Namespace,
) -> (ipnet::IpNet, ipnet::IpNet) {
    let wire = addresses::wire_of(network.underlay, node);
    (wire.node(family, node), wire.gateway(family))
}

/// The address of the resolver that pods are told, if they are told one.
pub(crate) fn resolver_address(network: &Cluster, family: fabric::Family) -> Option<ipnet::IpNet> {
    network.dns.then(|| addresses::resolver(family))
}

/// The resolver that pods are told, if they are told one.
pub(crate) fn resolver(lab: &Lab, network: &Cluster, directory: &Path) -> Option<ResolverRun> {
    let host = lab.namespaces.iter().find(|it| it.role == Role::Outside).filter(|_| network.dns)?;
    let address = |family: &fabric::Family| addresses::resolver(*family).addr();
    Some(ResolverRun {
        lab: lab.name.clone(),
        space: host.space(),
        program: network.program.clone(),
        hosts: directory.join(nodes::HOSTS),
        addresses: network.families.all().iter().map(address).collect(),
        why: "answers for the names of the lab's hosts",
    })
}

/// The agent of a node.
pub(crate) fn agent(
    lab: &Lab,
    network: &Cluster,
    directory: &Path,
    node: &Namespace,
    stays: bool,
) -> AgentRun {
    AgentRun {
        lab: lab.name.clone(),
        node: node.name.clone(),
        space: node.space(),
        program: network.program.clone(),
        home: home(directory, node),
        stays,
        why: match stays {
            true => "joins the node to the others, and keeps it joined",
            false => "joins the node to the others",
        },
    }
}

/// The directory of all nodes' files …
const NODES: &str = "nodes";

/// … and that of one node's.
pub(crate) fn home(directory: &Path, node: &Namespace) -> PathBuf {
    directory.join(NODES).join(&node.name)
}

/// Where a node's runtime reads how pods are attached, with the node's files in `home`.
pub(crate) fn configurations(home: &Path) -> PathBuf {
    home.join("net.d")
}

/// How the pods of a node are attached: as its agent tells container runtimes.
pub(crate) fn wiring(lab: &Lab, network: &Cluster, directory: &Path, node: &Namespace) -> Wiring {
    let config = nodes::config(network, directory, node);
    Wiring {
        list: nodes::conflist(lab, network, &config, node),
        file: config.conflist_path(),
        plugins: pods::plugin_directory(&network.plugins, directory),
        cache: home(directory, node).join(nodes::CACHE),
    }
}

/// What of a cluster does not work because of what was asked for, each with the node that it is
/// about.
pub(crate) fn limits(lab: &Lab, network: &Cluster, directory: &Path) -> Vec<(String, String)> {
    let of_node = |node: &Namespace| {
        let config = nodes::config(network, directory, node);
        let problems = nodes::problems(lab, network, &config, node).into_iter();
        let object = node.object();
        problems.map(move |problem| (object.clone(), problem)).collect::<Vec<_>>()
    };
    lab.nodes().flat_map(of_node).collect()
}

impl Lab {
    /// What the agent of a node makes of it, each change with its reason, but for the firewall.
    pub fn agent_changes(&self, directory: &Path, node: &str) -> net::Plan {
        let node = self.nodes().find(|it| it.name == node);
        let (Some(node), crate::Network::Cluster(network)) = (node, &self.network) else {
            return net::Plan::new();
        };
        nodes::changes(self, network, &nodes::config(network, directory, node), node)
    }
}

#[cfg(test)]
mod tests;
