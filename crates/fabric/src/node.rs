//! One node of the cluster, as every source tells it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use net::Mac;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Family, PerFamily};

/// A node: where its pods are, and by which address it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// What it is called.
    pub name: NodeName,
    /// Where other nodes send what is for it: on the underlay, one address a family.
    pub addresses: PerFamily<IpAddr>,
    /// The networks that its pods' addresses are of, one a family.
    pub subnets: PerFamily<IpNet>,
    /// The hardware addresses of its tunnel ends, where they are not those of [`Node::mac`]: other
    /// implementations draw them by chance and publish them.
    #[serde(default, skip_serializing_if = "PerFamily::is_empty")]
    pub macs: PerFamily<Mac>,
}

impl Node {
    /// A node of which only the name is known.
    pub fn new(name: NodeName) -> Self {
        let (addresses, subnets, macs) = Default::default();
        Self { name, addresses, subnets, macs }
    }

    /// The hardware address of its tunnel end for packets of `family`. That of a node of ours
    /// follows from its name, so that nobody need publish it, and stays the same for ever.
    pub fn mac(&self, family: Family) -> Mac {
        self.macs.get(family).copied().unwrap_or_else(|| self.name.mac())
    }

    /// The address that a node has in the tunnel: the network address of its pods' subnet, which is
    /// never given to a pod.
    pub fn inner(&self, family: Family) -> Option<IpAddr> {
        self.subnets.get(family).map(IpNet::network)
    }
}

/// The name of a node: an RFC 1123 subdomain, as Kubernetes has it (1 to 253 lower-case letters,
/// digits, `-` and `.`, beginning and ending with a letter or digit). Copies share the text: of
/// thousands of nodes each is in several sets.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

/// A text that is not a [`NodeName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a node name: 1 to 253 lower-case letters, digits, '-' and '.', with a letter or \
     digit at both ends"
)]
pub struct NodeNameError(String);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hardware address of the tunnel end of the node with this name.
    pub fn mac(&self) -> Mac {
        let digest = Sha256::digest(self.0.as_bytes());
        let mut bytes = [0; 6];
        bytes.copy_from_slice(&digest[..6]);
        Mac::local(bytes)
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_end = |byte: Option<&u8>| {
            byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        let bytes = text.as_bytes();
        let is_valid = bytes.len() <= 253
            && is_end(bytes.first())
            && is_end(bytes.last())
            && bytes.iter().all(|byte| is_end(Some(byte)) || matches!(byte, b'-' | b'.'));
        if is_valid { Ok(Self(text.into())) } else { Err(NodeNameError(text)) }
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubernetes() {
        for name in ["n1", "a.b-c", "10.0.0.1", &"x".repeat(253)] {
            assert!(name.parse::<NodeName>().is_ok(), "{name}");
        }
        for name in ["", "-a", "a.", "A", "a_b", "a/b", &"x".repeat(254)] {
            assert!(name.parse::<NodeName>().is_err(), "{name}");
        }
    }

    #[test]
    fn hardware_addresses_follow_from_names() {
        let (a, b): (NodeName, NodeName) = ("n1".parse().unwrap(), "n2".parse().unwrap());
        assert_eq!(a.mac(), a.mac());
        assert!(a.mac() != b.mac());
        assert_eq!(a.mac().0[0] & 3, 2, "local and for one receiver");
    }
}
