//! How something is put together, in sentences.

use serde::Serialize;

use crate::{Finding, Thing};

/// The answer to `podwire explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What was asked about, such as `pod/nginx`.
    pub subject: String,
    /// From the pod's interface to the wire.
    pub chapters: Vec<Chapter>,
    /// What is unusual or wrong, the worst first.
    pub findings: Vec<Finding>,
}

/// Sentences on one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chapter {
    /// The topic, such as `The cable`.
    pub title: String,
    /// In the order in which they are read.
    pub sentences: Vec<Sentence>,
}

/// One fact, as a newcomer understands it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sentence {
    /// The fact. Names in it are as the kernel has them: whoever shows it has to escape them.
    pub text: String,
    /// What it is about, for pictures.
    pub about: Vec<Thing>,
    /// The command that shows the same fact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}
