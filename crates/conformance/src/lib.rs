//! What users of CNI plugins rely on, as cases that take any directory of plugins.
//!
//! The plugins are black boxes: files that are started as a runtime starts them, and whose work is
//! looked at as an administrator looks at it and with real packets. Nothing here knows how a plugin
//! is made. The reference plugins pass first, so that the cases themselves are tested.
//!
//! Where an implementation is known not to keep a promise, that stands beside the case with its
//! reason, and has to show: a difference that is gone is as unexpected as a new one.
#![expect(clippy::unwrap_used, reason = "a case that cannot go on fails")]

mod case;
mod cases;
mod directory;
mod node;
mod report;
mod run;
mod traffic;

pub use case::{By, Case, Implementation, Instance, Known};
pub use cases::all;
pub use directory::{Directory, Error, PLUGINS, Plugin};
pub use node::Node;
pub use report::{Report, list};
pub use run::{Finished, LIMIT, Outcome, become_case, check_machine, run};
