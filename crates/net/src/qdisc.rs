//! How a device queues what it sends.

use serde::{Deserialize, Serialize};

use crate::LinkName;

/// The root queueing discipline of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qdisc {
    /// The device.
    pub link: LinkName,
    /// How it queues.
    pub kind: QdiscKind,
}

/// The disciplines that podwire uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum QdiscKind {
    /// A token bucket: at most `rate` bytes a second on average, `burst` bytes at once, and
    /// `limit` bytes waiting.
    Tbf {
        /// Bytes a second.
        rate: u64,
        /// Bytes at once.
        burst: u32,
        /// Bytes that may wait before packets are dropped.
        limit: u32,
    },
}
