//! A network as it is, across namespaces: what was collected, and what follows from it.
//!
//! [`Machine::collect`] reads a machine, once, and changes nothing; everything else is pure. A
//! [document](Machine::from_document) stands in for a machine anywhere.

mod across;
mod collect;
mod diff;
mod document;
mod machine;
mod node;
pub mod origin;

pub use across::part;
pub use collect::{Files, NodeFiles, Place, Runtimes, Sources, Whole};
pub use diff::{Difference, Differences, Kind, diff};
pub use document::{API_VERSION, Document, DocumentError, MOST_BYTES};
/// Who a namespace is.
pub use kernel::NetnsId;
/// What a namespace holds, as the kernel shows it.
pub use kernel::dump;
pub use machine::{
    Conntrack, Container, End, Gap, Host, Listener, Machine, Namespace, Process, Role, Tracked,
};
pub use node::{Attachment, Configuration, Node, PodName, PortMapping, Reservation, Reservations};
pub use origin::Origin;
