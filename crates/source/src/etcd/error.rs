//! What can be wrong with etcd, what is in it, or how it is to be reached.

use std::net::IpAddr;
use std::path::PathBuf;

use fabric::NodeName;

/// Why there is no complete set of nodes, or why there never can be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file of the configuration cannot be used.
    #[error("{}: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Not the address of a member.
    #[error("{0:?} is not where a member of etcd answers, such as https://192.0.2.10:2379")]
    Endpoint(String),
    /// Two keys of the configuration are only good together.
    #[error("{0} is given without {1}")]
    Half(&'static str, &'static str),
    /// The machine gives no thread.
    #[error("no thread for etcd: {0}")]
    Thread(String),
    /// No member answers.
    #[error("etcd cannot be reached: {0}")]
    Unreachable(String),
    /// A member says no.
    #[error("etcd refuses: {0}")]
    Refused(String),
    /// An answer that etcd does not give.
    #[error("what answers is not understood, is it etcd? {0}")]
    Answer(String),
    /// The cluster's configuration is not there.
    #[error(
        "{0} is not in etcd: flannel's network configuration belongs there, such as \
         {{\"Network\":\"10.244.0.0/16\",\"Backend\":{{\"Type\":\"vxlan\"}}}}"
    )]
    NoConfig(String),
    /// The cluster's configuration cannot be.
    #[error("{key} in etcd: {what}")]
    BadConfig {
        /// Where it is.
        key: String,
        /// What is wrong and what would be right.
        what: String,
    },
    /// The cluster is joined otherwise than this node would join it.
    #[error("{key} in etcd does not go with this node's configuration: {what}")]
    Mismatch {
        /// Where it is.
        key: String,
        /// What differs.
        what: String,
    },
    /// Other nodes could not send anything to this one.
    #[error(
        "no address is known by which other nodes reach this one: set underlay.interface or \
         underlay.addresses to what it has, or give it a default route"
    )]
    NoAddress,
    /// All subnets are leased.
    #[error(
        "no subnet is free: all of {network} from {first} to {last} are leased below {prefix}; \
         widen the network in the configuration, or remove leases of nodes that are no more"
    )]
    Full {
        /// The cluster's range.
        network: String,
        /// The first subnet that is given out.
        first: IpAddr,
        /// The last one.
        last: IpAddr,
        /// Where the leases are.
        prefix: String,
    },
    /// Others were faster, again and again.
    #[error("no subnet could be leased: another node was faster {0} times")]
    Race(usize),
    /// Our subnet is not the cluster's any more.
    #[error("our lease {lease} is not of the network that {key} tells now: restart this agent")]
    Outside {
        /// Its key.
        lease: String,
        /// Where the configuration is.
        key: String,
    },
    /// Nobody knows whether our subnet is ours still.
    #[error("our lease {lease} has run out, and another node may be given it: {why}")]
    Expired {
        /// Its key.
        lease: String,
        /// Why it was not renewed.
        why: String,
    },
    /// Another node has our subnet.
    #[error("{lease}, which was ours, is now leased to {who}")]
    Taken {
        /// The key of the lease.
        lease: String,
        /// By whom.
        who: String,
    },
}

impl Error {
    /// A word to branch on, which stays the same.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Endpoint(_) => "endpoint",
            Self::Half(..) => "half",
            Self::Thread(_) => "thread",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::Answer(_) => "answer",
            Self::NoConfig(_) => "noConfig",
            Self::BadConfig { .. } => "badConfig",
            Self::Mismatch { .. } => "mismatch",
            Self::NoAddress => "noAddress",
            Self::Full { .. } => "full",
            Self::Race(_) => "race",
            Self::Outside { .. } => "outside",
            Self::Expired { .. } => "expired",
            Self::Taken { .. } => "taken",
        }
    }

    /// Whether it may have passed before anybody has to know.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Answer(_) | Self::Race(_))
    }

    /// What makes it worth another word: what differs from one try to the next does not.
    pub(super) fn gist(&self) -> String {
        match self {
            Self::Expired { .. } => self.code().to_owned(),
            _ if self.may_pass() => self.code().to_owned(),
            _ => self.to_string(),
        }
    }

    /// How another node is called in [`Error::Taken`].
    pub(super) fn who(name: Option<&NodeName>, address: Option<IpAddr>) -> String {
        match (name, address) {
            (Some(name), Some(address)) => format!("node {name} at {address}"),
            (Some(name), None) => format!("node {name}"),
            (None, Some(address)) => format!("the node at {address}"),
            (None, None) => "an unknown node".to_owned(),
        }
    }
}
