//! What sentences, findings and boxes of pictures are about.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use topology::NetnsId;

/// Something on a machine that can be pointed at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(into = "String")]
#[schemars(with = "String")]
pub enum Thing {
    /// A node, by its name.
    Node(String),
    /// A namespace.
    Namespace(NetnsId),
    /// A device, by its namespace and its index there.
    Link(NetnsId, u32),
}

/// The same thing has the same text in every form of an answer: `netns-4026531840`,
/// `link-4026531840-3`, `node-n1`.
impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node-{name}"),
            Self::Namespace(id) => write!(f, "netns-{}", id.inode),
            Self::Link(id, index) => write!(f, "link-{}-{index}", id.inode),
        }
    }
}

impl From<Thing> for String {
    fn from(thing: Thing) -> Self {
        thing.to_string()
    }
}
