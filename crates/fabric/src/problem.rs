//! What is wrong, with whom, and what to do about it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::NodeName;

/// Something that keeps this node from reaching a peer, or from being ready.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Whom it is about.
    pub subject: Subject,
    /// What kind of problem, to count and to branch on.
    pub code: Code,
    /// What is wrong and what to do, for people.
    pub text: String,
}

/// Whom a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// This very node: it is not ready.
    Here,
    /// Another node, which cannot be reached.
    Peer(NodeName),
    /// Something that does no harm by itself.
    Note,
}

/// The kinds of problems.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Code {
    /// This node is not in the list of nodes.
    NotListed,
    /// A node has no pod subnet.
    NoSubnet,
    /// A node has no address of a family that is needed.
    NoAddress,
    /// Two nodes own overlapping pod subnets.
    SubnetOverlap,
    /// A pod subnet overlaps a network of the underlay.
    SubnetOnUnderlay,
    /// Two nodes have one address.
    AddressTwice,
    /// Two tunnel ends have one hardware address.
    MacTwice,
    /// No device carries the underlay address.
    NoUplink,
    /// The underlay's device is down.
    UplinkDown,
    /// The tunnel would be too small.
    Mtu,
    /// A device of our name is somebody else's.
    ForeignDevice,
    /// Somebody else's route takes what is for a peer's pods.
    ForeignRoute,
    /// The peer is not on a link of this node, which host-gw needs.
    NotOnLink,
    /// The families cannot be carried over each other.
    Families,
    /// The kernel refused an object.
    Kernel,
    /// A kernel setting does not hold.
    Setting,
    /// Another table may drop what is forwarded.
    Dropper,
    /// The source has shrunk suspiciously, and removals wait.
    Held,
    /// The source cannot be read.
    Source,
    /// Our own subnet was lost to another node.
    Withdrawn,
    /// A file could not be written.
    File,
    /// Probes do not get through.
    Probe,
}

impl Code {
    /// The word for it in metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotListed => "notListed",
            Self::NoSubnet => "noSubnet",
            Self::NoAddress => "noAddress",
            Self::SubnetOverlap => "subnetOverlap",
            Self::SubnetOnUnderlay => "subnetOnUnderlay",
            Self::AddressTwice => "addressTwice",
            Self::MacTwice => "macTwice",
            Self::NoUplink => "noUplink",
            Self::UplinkDown => "uplinkDown",
            Self::Mtu => "mtu",
            Self::ForeignDevice => "foreignDevice",
            Self::ForeignRoute => "foreignRoute",
            Self::NotOnLink => "notOnLink",
            Self::Families => "families",
            Self::Kernel => "kernel",
            Self::Setting => "setting",
            Self::Dropper => "dropper",
            Self::Held => "held",
            Self::Source => "source",
            Self::Withdrawn => "withdrawn",
            Self::File => "file",
            Self::Probe => "probe",
        }
    }
}

impl Problem {
    pub(crate) fn here(code: Code, text: impl Into<String>) -> Self {
        Self { subject: Subject::Here, code, text: text.into() }
    }

    pub(crate) fn peer(name: &NodeName, code: Code, text: impl Into<String>) -> Self {
        Self { subject: Subject::Peer(name.clone()), code, text: text.into() }
    }

    /// Something worth knowing.
    pub fn note(code: Code, text: impl Into<String>) -> Self {
        Self { subject: Subject::Note, code, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Peer(name) => write!(f, "node {name}: {}", self.text),
            Subject::Here | Subject::Note => f.write_str(&self.text),
        }
    }
}
