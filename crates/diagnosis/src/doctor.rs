//! What this machine can do, what is in the way, and what is left over.

mod ability;

pub use ability::{Ability, Group, State, abilities};
