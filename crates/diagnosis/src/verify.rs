//! Whether a cluster's network keeps its promises: what to ask, what an outcome means, and many
//! failures as a few causes.
//!
//! ```text
//! Machine ─ Plan: places and questions ─ (packets, elsewhere) ─ Outcomes ─ Report: rules, pairs, causes
//! ```
//!
//! Pure: nothing is sent here. Whoever sends takes the questions of a [`Plan`], in any order, and
//! gives back what came of each; then the sizes that its [searches](Plan::searches) ask for. What
//! cannot be told is never taken for passed, and what a policy drops is no violation.

mod cause;
mod fold;
mod hosts;
mod judge;
mod outcome;
mod plan;
mod policy;
mod report;
mod rule;

pub use cause::Cause;
pub use judge::{Outcomes, Verdict};
pub use outcome::{Outcome, Search};
pub use plan::{
    Call, MOST_PAIRS, Pairs, Place, Plan, PlanError, Protocol, Question, Sample, Service, Wanted,
};
pub use report::{HostKind, HostReport, Pair, Report, RuleReport, Told};
pub use rule::{Profile, Rule, RuleError};

#[cfg(test)]
mod tests;
