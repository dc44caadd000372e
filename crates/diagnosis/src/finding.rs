//! What is unusual or wrong.

use serde::Serialize;

use crate::Thing;

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What kind of thing it is: what programs look at.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is seen.
    pub text: String,
    /// What follows from it, in one sentence.
    pub consequence: String,
    /// What to do, where something can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where.
    pub about: Vec<Thing>,
    /// The command that shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// How bad a finding is; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Out of the ordinary; it may be meant.
    Unusual,
    /// It will break something, or wastes something.
    Warning,
    /// It breaks something.
    Wrong,
}

/// All kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Code {
    /// A device that carries a pod's packets is down.
    LinkDown,
    /// Rules of iptables-legacy, which nothing else shows.
    LegacyTables,
    /// firewalld hides pods behind the node's address.
    FirewalldMasquerade,
    /// The table of connections is full, or nearly.
    ConntrackFull,
    /// The table of neighbours is full, or nearly.
    NeighboursFull,
    /// systemd-networkd removes what it does not know.
    NetworkdRemoves,
    /// NetworkManager takes every device for its own.
    NetworkManagerManages,
    /// udev chooses hardware addresses.
    AddressPolicy,
    /// SELinux may refuse plugins.
    Selinux,
    /// A name in `/run/netns` that leads nowhere.
    DeadName,
    /// A runtime remembers containers that are gone.
    AttachmentLeft,
    /// Rules for pods that are gone.
    ElementLeft,
    /// The network of an agent, and no agent.
    AgentGone,
    /// A lab that was not made or taken down whole.
    LabLeft,
    /// Something could not be read, so that nothing can be said about it.
    Unreadable,
}
