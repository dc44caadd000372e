//! A machine as a document: what `podwire snapshot` writes, and what every question can be asked of
//! on another machine.

use serde::{Deserialize, Serialize};

use crate::Machine;

/// What the document says it is.
pub const API_VERSION: &str = "podwire/v1";
/// Its kind.
pub const KIND: &str = "Topology";

/// Why a text is no machine.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON, was cut short, or lacks something.
    #[error("it is no snapshot: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It is of another kind or version.
    #[error(
        "its apiVersion is {api_version:?} and its kind {kind:?}; this podwire reads {API_VERSION:?} \
         and {KIND:?}"
    )]
    Foreign {
        /// What it says.
        api_version: String,
        /// What it says.
        kind: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'a str,
    kind: &'a str,
    #[serde(flatten)]
    machine: &'a Machine,
}

impl Machine {
    /// Reads a document. Fields that are not known are ignored, so that newer snapshots of the same
    /// version can be read.
    pub fn from_document(text: &str) -> Result<Self, DocumentError> {
        let Head { api_version, kind } = serde_json::from_str(text)?;
        if api_version != API_VERSION || kind != KIND {
            return Err(DocumentError::Foreign { api_version, kind });
        }
        Ok(serde_json::from_str(text)?)
    }

    /// Writes a document: the same machine gives the same text.
    pub fn to_document(&self) -> Result<String, DocumentError> {
        let document = Document { api_version: API_VERSION, kind: KIND, machine: self };
        let mut text = serde_json::to_string_pretty(&document)?;
        text.push('\n');
        Ok(text)
    }
}
