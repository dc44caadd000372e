//! etcd and Kubernetes as sources of nodes: the only room with an async library, behind features.
//!
//! A source runs on a thread of its own, tells the agent [`Report`]s and has the other nodes know this
//! one. It never touches the machine's network.

#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;

use fabric::{Publication, Report};

/// Where a source tells what it knows. Whoever listens may be gone; then nobody hears it.
pub type Tell = Box<dyn Fn(Report) + Send>;

/// A source at work; it ends when this is dropped.
pub trait Running: Send {
    /// Has the others know this from now on.
    fn publish(&self, publication: Publication);

    /// Has everything read anew and told, even if it is the same.
    fn resync(&self);

    /// Tells whether pods can be made on this node, to those who want to know.
    fn set_ready(&self, _ready: bool) {}
}
