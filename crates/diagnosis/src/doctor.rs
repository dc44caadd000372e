//! What this machine can do, what is in the way, and what is left over.

mod ability;
mod conflict;
mod leftover;
mod report;
mod surroundings;

pub use ability::{Ability, Group, State, abilities};
pub use conflict::conflicts;
pub use leftover::{Leftover, leftovers};
pub use report::{Host, Report};
pub use surroundings::Surroundings;
