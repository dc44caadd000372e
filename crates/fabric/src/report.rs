//! What passes between a source of nodes and the agent.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Node, NodeName, PerFamily};

/// What a source says. It never says part of the truth: it has the whole set, or says that it has
/// not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// All nodes as they are now, this one among them.
    Complete(Vec<Node>),
    /// The source does not know how things are, and why; what it said last may have changed since.
    Astray(String),
    /// Another node has what was ours: this one must not use it any more.
    Withdrawn(String),
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
