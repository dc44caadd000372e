//! What passes between a source of nodes and the agent.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Node, NodeName, PerFamily};

/// What a source says. It never says part of the truth: it has the whole set, or says that it has
/// not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// The cluster as it is now.
    Complete(Cluster),
    /// It has looked, and what it said last, which was complete, is so still.
    Unchanged,
    /// The source does not know how things are, and why; what it said last may have changed since.
    Astray(String),
    /// Another node has what was ours: this one must not use it any more.
    Withdrawn(String),
}

/// All that a source knows of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// All nodes, this one among them.
    pub nodes: Vec<Node>,
    /// All pods' addresses, where the source knows them beforehand: the subnets of all nodes, also
    /// of those that are still to come, are taken from these.
    #[serde(default)]
    pub pod_networks: Vec<IpNet>,
}

impl From<Vec<Node>> for Cluster {
    /// One whose pods have the subnets of its nodes, and no others.
    fn from(nodes: Vec<Node>) -> Self {
        Self { nodes, pod_networks: Vec::new() }
    }
}

/// What this node has the others know by the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Who we are.
    pub name: NodeName,
    /// Where we are reached.
    pub addresses: PerFamily<IpAddr>,
    /// How we are joined, in the words of flannel: `vxlan` or `host-gw`; `gpe` is ours alone.
    pub backend: String,
    /// The virtual network of the tunnel.
    pub vni: u32,
}
