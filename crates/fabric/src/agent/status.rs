//! What the agent knows, for people and for programs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Chosen, NodeName, PerFamily, Problem, Uplink};

/// How things are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Who we are.
    pub node: NodeName,
    /// Whether pods here reach pods elsewhere, and may be made.
    pub ready: bool,
    /// How peers are joined, and why so.
    pub backend: Option<Chosen>,
    /// How this node is reached, and why so.
    pub uplinks: PerFamily<Uplink>,
    /// The largest packet of a pod, in bytes.
    pub mtu: Option<u32>,
    /// How many peers there are.
    pub peers: usize,
    /// How many of them are reached as far as this node is concerned.
    pub programmed: usize,
    /// Whether the source is in sync, and if not, why.
    pub source: SourceStatus,
    /// What is wrong and what to do.
    pub problems: Vec<Problem>,
    /// How many objects were changed since the start, by kind.
    pub changes: BTreeMap<String, u64>,
    /// How long each kind of work took last, in microseconds: what whoever does it says.
    #[serde(default)]
    pub timing: BTreeMap<String, u64>,
    /// When something was changed last, in milliseconds since the start.
    pub last_change: Option<u64>,
    /// Milliseconds since the start.
    pub uptime: u64,
}

/// What is known of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SourceStatus {
    /// It has not said anything yet; what was known before the start is in force, if anything was.
    Awaited,
    /// It has told the complete set.
    InSync,
    /// It does not know; its last complete set is in force.
    Astray(String),
}
