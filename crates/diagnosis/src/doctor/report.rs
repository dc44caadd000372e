//! The answer to `podwire doctor`, for people and programs alike.

use schemars::JsonSchema;
use serde::Serialize;
use topology::{Document, Gap};

use super::Ability;
use crate::Finding;

/// All that is known of the machine's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whose it is.
    pub host: Host,
    /// What can be done here.
    pub abilities: Vec<Ability>,
    /// What is in the way and what is left over, the worst first.
    pub findings: Vec<Finding>,
    /// What could not be read: about these nothing is said.
    pub gaps: Vec<Gap>,
}

/// Which machine it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The kernel's release, as `uname -r` has it.
    pub kernel: String,
}

impl Document for Report {
    const KIND: &'static str = "DoctorReport";
}
