//! A network as it is, across namespaces: what was collected, and what follows from it.
//!
//! [`Machine::collect`] reads the namespaces that it is given, once; everything else is pure.

mod machine;
mod masquerade;

/// Who a namespace is.
pub use kernel::NetnsId;
/// What a namespace holds, as the kernel shows it.
pub use kernel::dump;
pub use machine::{End, Machine, Namespace, Place};
pub use masquerade::{Masquerade, Network};
