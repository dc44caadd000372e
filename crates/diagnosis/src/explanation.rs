//! How something is put together, in sentences.

use schemars::JsonSchema;
use serde::Serialize;
use topology::Document;

use crate::{Finding, Thing};

/// The answer to `podwire explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What was asked about, such as `pod/nginx`.
    pub subject: String,
    /// From the pod's interface to the wire.
    pub chapters: Vec<Chapter>,
    /// What is unusual or wrong, the worst first.
    pub findings: Vec<Finding>,
}

impl Document for Explanation {
    const KIND: &'static str = "Explanation";
}

/// Sentences on one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Chapter {
    /// The topic, such as `The cable`.
    pub title: String,
    /// In the order in which they are read.
    pub sentences: Vec<Sentence>,
}

/// One fact, as a newcomer understands it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sentence {
    /// The fact. Names in it are as the kernel has them: whoever shows it has to escape them.
    pub text: String,
    /// What it is about, for pictures.
    pub about: Vec<Thing>,
    /// The command that shows the same fact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What is unusual or wrong about it: places in [`Explanation::findings`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<usize>,
}

impl Sentence {
    pub(crate) fn new(text: impl Into<String>, about: impl Into<Vec<Thing>>) -> Self {
        Self { text: text.into(), about: about.into(), command: None, findings: Vec::new() }
    }

    pub(crate) fn shown_by(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}
