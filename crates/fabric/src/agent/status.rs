//! What the agent knows, for people and for programs.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use ipnet::IpNet;
use net::{Change, Object};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shape::{is_of_peer, kind, subnet_of};
use super::{Agent, HOLD};
use crate::desired::desired;
use crate::mesh::Way;
use crate::{Chosen, Code, Node, NodeName, PerFamily, Problem, Uplink};

/// How things are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// When the source told the complete set last, in milliseconds since the start.
    #[serde(default)]
    pub source_told: Option<u64>,
    /// What is wrong and what to do.
    pub problems: Vec<Problem>,
    /// How many objects were changed since the start, by kind.
    pub changes: BTreeMap<String, u64>,
    /// How long each kind of work took last, in microseconds: what whoever does it says.
    #[serde(default)]
    pub timing: BTreeMap<String, u64>,
    /// What probes have found out about the ways to some peers.
    #[serde(default)]
    pub ways: Vec<Way>,
    /// When something was changed last, in milliseconds since the start.
    pub last_change: Option<u64>,
    /// Milliseconds since the start.
    pub uptime: u64,
}

/// What is known of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceStatus {
    /// It has not said anything yet; what was known before the start is in force, if anything was.
    Awaited,
    /// It has told the complete set.
    InSync,
    /// It does not know; its last complete set is in force.
    Astray(String),
}

impl Agent {
    /// How things are.
    pub fn status(&self) -> Status {
        let desired = self
            .machine
            .as_ref()
            .map(|machine| desired(&self.config, &self.name, &self.nodes, machine));
        let joint = desired.and_then(|desired| desired.joint);
        let is_me = usize::from(self.nodes.get(&self.name).is_some());
        let peers = self.nodes.len() - is_me;
        let refused = self.failed.iter().filter_map(|(change, _)| subnet_of(change));
        let refused: HashSet<IpNet> = refused.chain(self.rivals.subnets()).collect();
        let is_failing = |node: &&Node| {
            self.peers.contains_key(&node.name)
                || node.subnets.iter().any(|(_, subnet)| refused.contains(subnet))
        };
        let failing =
            self.nodes.iter().filter(|node| node.name != self.name).filter(is_failing).count();
        let programmed = if joint.is_some() && self.has_looked { peers - failing } else { 0 };
        Status {
            node: self.name.clone(),
            ready: self.is_ready(),
            mtu: joint.as_ref().and_then(crate::Joint::mtu),
            uplinks: joint.as_ref().map(|joint| joint.uplinks.clone()).unwrap_or_default(),
            backend: joint.map(|joint| joint.chosen),
            peers,
            programmed,
            source: self.source.clone(),
            source_told: self.source_told.map(millis),
            problems: self.problems(),
            changes: self.changes.clone(),
            timing: BTreeMap::new(),
            ways: Vec::new(),
            last_change: self.last_change.map(millis),
            uptime: millis(self.now),
        }
    }

    /// What is wrong, once the source has said anything: before, nobody can know. What the kernel
    /// refused is not among it, which whoever asked the kernel knows.
    pub fn news(&self) -> Option<Vec<Problem>> {
        let mut problems = (self.source != SourceStatus::Awaited).then(|| self.problems())?;
        problems.retain(|problem| problem.code != Code::Kernel);
        Some(problems)
    }

    /// What is wrong, this node first.
    fn problems(&self) -> Vec<Problem> {
        let untold = self.untold();
        let mut problems = self.here.clone();
        problems.retain(|problem| untold.is_none() || problem.code != Code::NotListed);
        problems.extend(self.withdrawn.iter().map(|why| Problem::here(Code::Withdrawn, why)));
        if let Some(problem) = untold {
            problems.push(problem);
        } else if let SourceStatus::Astray(why) = &self.source {
            let text = format!("the source is not in sync, its last word stays in force: {why}");
            problems.push(Problem::note(Code::Source, text));
        }
        if let Some(held) = self.held {
            let text = format!(
                "the source has lost {} of {} peers at once, which is held until it says so again \
                 after {} s; `podwire agent accept` takes it as meant",
                held.removals,
                held.of,
                HOLD.as_secs()
            );
            problems.push(Problem::note(Code::Held, text));
        }
        problems.extend(self.contradictions.iter().cloned());
        problems.extend(self.peers.values().flatten().cloned());
        problems.extend(self.foreign_routes());
        for (change, why) in &self.failed {
            let text = format!("{}: {why}", kind(change));
            if matches!(change, Change::Ensure(Object::Sysctl(_))) {
                let text = format!(
                    "{why}; where /proc/sys cannot be written, as in a container, set it beforehand"
                );
                problems.push(Problem::here(Code::Setting, text));
                continue;
            }
            problems.push(match is_of_peer(change) {
                true => Problem::note(Code::Kernel, text),
                false => Problem::here(Code::Kernel, text),
            });
        }
        problems
    }

    /// That this node is not known says nothing before the source has told all nodes: why it has not.
    fn untold(&self) -> Option<Problem> {
        if self.is_complete || self.nodes.get(&self.name).is_some() {
            return None;
        }
        let why = match &self.source {
            SourceStatus::Astray(why) => format!(": {why}"),
            SourceStatus::Awaited | SourceStatus::InSync => " yet".to_owned(),
        };
        let text = format!("the source has not told which nodes there are{why}");
        Some(Problem::here(Code::Source, text))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
