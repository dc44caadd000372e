//! What a machine's network means: how it is put together, and what is wrong with it.
//!
//! Pure: answers are computed from a [`topology::Machine`], live or from a snapshot, whoever made
//! what is in it. They are data here; `render` gives them a form.

pub mod doctor;
mod explanation;
mod finding;
mod thing;

pub use explanation::{Chapter, Explanation, Sentence};
pub use finding::{Code, Finding, Severity};
pub use thing::Thing;
