//! The catalogue of faults: mistakes of real life, each made on purpose and taken back exactly.
//!
//! A [`Fault`] says what it is, what a person notices, what podwire has to say about it and how it is
//! repaired; making it is a pure function from a lab and what is seen of it to steps. Nothing here
//! guesses: a fault that a lab cannot have is refused with the reason.

mod bridges;
mod files;
mod firewall;
mod joint;
mod pods;
mod record;
mod repair;
mod site;
mod store;

use diagnosis::Code;
use diagnosis::verify::Rule;
use net::Plan;

use crate::{Lab, Network, Role};

pub use record::Broken;
pub use store::{Repair, Verdict};

use site::{Made, Site};

/// A mistake that can be made in a lab.
pub struct Fault {
    /// What it is called.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub what: &'static str,
    /// What a person notices.
    pub symptom: &'static str,
    /// How a person repairs it: commands, with words in capitals for what differs.
    pub repair: &'static str,
    /// What it is made on.
    pub on: Role,
    /// The labs in which it exists.
    pub scenes: &'static [Scene],
    /// The addresses with which it exists.
    pub families: Families,
    /// What `podwire verify` must flag, at least one of it; empty where pods do not feel it.
    pub rules: &'static [Rule],
    /// The labs in which pods do not feel it.
    pub unfelt: &'static [Scene],
    /// What `podwire explain` or `podwire doctor` must say, at least one of it.
    pub codes: &'static [Code],
    /// Whether an agent that is at work heals it within a second.
    pub healed: bool,
    make: fn(&Site<'_>) -> Made,
}

/// How a lab is wired, as far as that decides which faults it can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// One node.
    Pods,
    /// Nodes joined by tunnels that routes lead into.
    Vxlan,
    /// Nodes joined by tunnels with forwarding entries, as flannel's.
    Classic,
    /// Nodes joined by tunnels for IP packets.
    Gpe,
    /// Nodes joined by routes.
    HostGw,
}

/// The addresses that a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Those of the lab; IPv4 where it has both.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// Everywhere.
const ALL: &[Scene] = &[Scene::Pods, Scene::Vxlan, Scene::Classic, Scene::Gpe, Scene::HostGw];
/// Where there are several nodes.
const CLUSTERS: &[Scene] = &[Scene::Vxlan, Scene::Classic, Scene::Gpe, Scene::HostGw];
/// Where tunnels join them.
const TUNNELS: &[Scene] = &[Scene::Vxlan, Scene::Classic, Scene::Gpe];
/// Where there is one node, so that what is between nodes is not felt.
const ALONE: &[Scene] = &[Scene::Pods];
const NOWHERE: &[Scene] = &[];

/// All faults, by what they are about.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    [pods::FAULTS, bridges::FAULTS, joint::FAULTS, firewall::FAULTS, files::FAULTS]
        .into_iter()
        .flatten()
}

/// The fault of that name.
pub fn named(name: &str) -> Option<&'static Fault> {
    all().find(|fault| fault.name == name)
}

impl Scene {
    /// How a lab is wired; `None` for one without pods. `is_gpe` says what came of a backend that was
    /// left to the nodes.
    pub fn of(lab: &Lab, is_gpe: bool) -> Option<Self> {
        use fabric::Backend;
        match &lab.network {
            Network::Plain => None,
            Network::Pods(_) => Some(Self::Pods),
            Network::Cluster(network) => Some(match network.backend {
                Backend::HostGw => Self::HostGw,
                Backend::Gpe => Self::Gpe,
                Backend::Auto if is_gpe => Self::Gpe,
                _ if network.classic => Self::Classic,
                _ => Self::Vxlan,
            }),
        }
    }

    /// What it is called in lists.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pods => "one node",
            Self::Vxlan => "vxlan",
            Self::Classic => "vxlan --classic",
            Self::Gpe => "gpe",
            Self::HostGw => "host-gw",
        }
    }
}

impl Fault {
    /// Whether labs that are wired so can have it.
    pub fn exists_in(&self, scene: Scene) -> bool {
        self.scenes.contains(&scene)
    }

    /// What `podwire verify` must flag in labs that are wired so.
    pub fn felt_in(&self, scene: Scene) -> &'static [Rule] {
        if self.unfelt.contains(&scene) { &[] } else { self.rules }
    }

    /// The steps that make it.
    fn plan(&self, site: &Site<'_>) -> Result<Plan, String> {
        (self.make)(site)
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Fault {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn faults_are_told_apart_by_their_names() {
        let names: Vec<&str> = all().map(|fault| fault.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(names.len() >= 25);
        for name in names {
            assert!(name.chars().all(|it| it.is_ascii_lowercase() || it == '-'), "{name}");
        }
    }

    #[test]
    fn a_fault_says_what_it_is_and_is_found_somewhere() {
        for fault in all() {
            for text in [fault.what, fault.symptom] {
                assert!(text.ends_with('.') && text.starts_with(char::is_uppercase), "{text}");
            }
            assert!(
                !fault.repair.is_empty() && !fault.codes.is_empty() && !fault.scenes.is_empty()
            );
        }
    }
}
