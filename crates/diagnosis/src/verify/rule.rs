//! What is asked of a cluster's network, in whose words, and who asks for it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::words;

/// What a network is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Every pod reaches every other.
    PodToPod,
    /// Every node reaches every pod.
    NodeToPod,
    /// Every pod reaches every node.
    PodToNode,
    /// A pod's own address is the one that others see.
    SelfView,
    /// No two have one address.
    UniqueAddress,
    /// A packet as large as a pod may send arrives in one piece.
    Mtu,
    /// The resolver that pods are told answers.
    Dns,
    /// A port of the node leads to its pod.
    HostPort,
    /// A pod reaches itself by its node's port.
    Hairpin,
    /// A host beyond the cluster sees the node's address.
    Outside,
}

/// Whose text is the measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// The three promises that Kubernetes' networking began with.
    Strict,
    /// What the page of Kubernetes says today.
    Current,
}

/// How much a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// It has to hold.
    Required,
    /// It is told, and may be otherwise.
    Told,
}

/// A text that names no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no rule; there are {}", words::list(Rule::ALL))]
pub struct RuleError {
    text: String,
}

const DESIGN: &str = "Kubernetes' networking design, 2014 to 2018";
const PAGE: &str = "kubernetes.io, Services, Load Balancing, and Networking";

impl Rule {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 10] = [
        Self::PodToPod,
        Self::NodeToPod,
        Self::PodToNode,
        Self::SelfView,
        Self::UniqueAddress,
        Self::Mtu,
        Self::Dns,
        Self::HostPort,
        Self::Hairpin,
        Self::Outside,
    ];

    /// Its name on the command line and in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::PodToPod => "pod-to-pod",
            Self::NodeToPod => "node-to-pod",
            Self::PodToNode => "pod-to-node",
            Self::SelfView => "self-view",
            Self::UniqueAddress => "unique-address",
            Self::Mtu => "mtu",
            Self::Dns => "dns",
            Self::HostPort => "host-port",
            Self::Hairpin => "hairpin",
            Self::Outside => "outside",
        }
    }

    /// What is promised.
    pub fn text(self, profile: Profile) -> &'static str {
        match (self, profile) {
            (Self::PodToPod, Profile::Strict) => {
                "all containers can communicate with all other containers without NAT"
            }
            (Self::PodToPod, Profile::Current) => {
                "all pods can communicate with all other pods, on the same node or on different \
                 nodes, directly, without proxies or address translation (NAT)"
            }
            (Self::NodeToPod, Profile::Strict) => {
                "all nodes can communicate with all containers without NAT"
            }
            (Self::NodeToPod, Profile::Current) => {
                "agents on a node can communicate with all pods on that node"
            }
            (Self::PodToNode, _) => {
                "all nodes can communicate with all containers, and vice versa, without NAT"
            }
            (Self::SelfView, _) => {
                "the IP that a container sees itself as is the same IP that others see it as"
            }
            (Self::UniqueAddress, _) => "each pod gets its own unique cluster-wide IP address",
            (Self::Mtu, _) => {
                "a packet as large as a pod's own device takes arrives at every pod in one piece"
            }
            (Self::Dns, _) => "the resolver that a pod is told answers the pod",
            (Self::HostPort, _) => {
                "a port of a node that is mapped to a pod leads to that pod, for other nodes and \
                 for pods"
            }
            (Self::Hairpin, _) => "a pod reaches itself through the port of its node",
            (Self::Outside, _) => {
                "what a pod sends beyond the cluster leaves with the address of its node"
            }
        }
    }

    /// Who promises it.
    pub fn source(self, profile: Profile) -> &'static str {
        match (self, profile) {
            (Self::PodToPod | Self::NodeToPod, Profile::Strict)
            | (Self::PodToNode | Self::SelfView, _) => DESIGN,
            (Self::PodToPod | Self::NodeToPod, Profile::Current) | (Self::UniqueAddress, _) => PAGE,
            (Self::Mtu, _) => "the pod's own MTU, RFC 791 and RFC 8200",
            (Self::Dns, _) => "kubernetes.io, DNS for Services and Pods; the CNI result's dns",
            (Self::HostPort | Self::Hairpin, _) => {
                "the CNI capability portMappings; kubernetes.io, hostPort"
            }
            (Self::Outside, _) => "the plugins' ipMasq; kubernetes.io, IP Masquerade Agent",
        }
    }

    /// How much it counts between two of which it is known whether they are on one node.
    pub(super) fn demand(self, profile: Profile, same_node: bool) -> Demand {
        match (profile, self) {
            (Profile::Strict, _) => Demand::Required,
            (Profile::Current, Self::NodeToPod) if !same_node => Demand::Told,
            (Profile::Current, Self::PodToNode | Self::SelfView) => Demand::Told,
            (Profile::Current, _) => Demand::Required,
        }
    }

    /// Whether another source address breaks it. Today's text says nothing about what agents of a
    /// node are seen as, nor who asks for a port of a node.
    pub(super) fn forbids_nat(self, profile: Profile) -> bool {
        !(profile == Profile::Current && matches!(self, Self::NodeToPod | Self::HostPort))
    }

    /// Whether a cluster may lack what it is about.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::Dns | Self::HostPort | Self::Hairpin | Self::Outside)
    }

    /// Whether it is about packets between two that are both asked whether they arrive.
    pub(super) fn is_reach(self) -> bool {
        matches!(self, Self::PodToPod | Self::NodeToPod | Self::PodToNode)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|rule| rule.name() == text);
        found.ok_or_else(|| RuleError { text: text.to_owned() })
    }
}

impl Profile {
    /// Its name on the command line and in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Current => "current",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
