//! What a machine's network means: how it is put together, and what is wrong with it.
//!
//! Pure: answers are computed from a [`topology::Machine`], live or from a snapshot, whoever made
//! what is in it. They are data here; `render` gives them a form. Only [`doctor`] looks further, at
//! what the kernel can do and at other programs' files.

pub mod audit;
pub mod doctor;
mod explain;
mod explanation;
mod finding;
mod findings;
mod reference;
mod rules;
mod thing;
pub mod verify;
mod view;
mod words;

pub use explain::{excerpt, explain, thing};
pub use explanation::{Chapter, Explanation, Sentence};
pub use finding::{Code, Finding, Severity};
pub use findings::findings;
pub use reference::{LookupError, Reference, ReferenceError, names};
pub use rules::leaving;
pub use thing::Thing;
