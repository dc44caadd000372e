//! Documents: what podwire writes for programs. The one of a machine, which `podwire snapshot`
//! writes, is read as well: every question can be asked of it on another machine.
//!
//! A document comes from anywhere. It is refused with a reason and a place, never half understood;
//! what it calls things is data, whatever is in it.

use std::io::Read;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};

use crate::{Differences, Machine};

/// The version that all documents say they are of.
pub const API_VERSION: &str = "podwire/v1";

/// What the document of a machine says it is.
const KIND: &str = "Topology";

/// The largest document that is read, in bytes: a machine with 1,000 pods, 100,000 routes and as many
/// rules has a quarter of it.
pub const MOST_BYTES: u64 = 512 << 20;

/// Why a text is no machine.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It could not be read at all.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It ends in the middle.
    #[error(
        "it ends in the middle, at line {line}, column {column}: only a part of it was written or copied"
    )]
    CutShort {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// It is no JSON, or lacks something, or has something that cannot be.
    #[error("it is no snapshot: {0}")]
    Unreadable(serde_json::Error),
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
    /// It is larger than any machine.
    #[error("it has more than {MOST_BYTES} bytes")]
    TooLarge,
}

impl From<serde_json::Error> for DocumentError {
    fn from(error: serde_json::Error) -> Self {
        if error.is_eof() {
            return Self::CutShort { line: error.line(), column: error.column() };
        }
        Self::Unreadable(error)
    }
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
struct Whole<'a, T> {
    api_version: &'a str,
    kind: &'a str,
    #[serde(flatten)]
    content: &'a T,
}

impl<'a, T: Document> Whole<'a, T> {
    fn of(content: &'a T) -> Self {
        Self { api_version: API_VERSION, kind: T::KIND, content }
    }
}

/// What can be written as a document of its own, which says what it is.
pub trait Document: Serialize + JsonSchema + Sized {
    /// What the document says it is.
    const KIND: &'static str;

    /// As a part of another document.
    fn to_value(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::to_value(Whole::of(self))
    }

    /// Writes it: the same content gives the same text.
    fn to_document(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string_pretty(&Whole::of(self))?;
        text.push('\n');
        Ok(text)
    }

    /// The JSON Schema of such a document.
    fn schema() -> serde_json::Value {
        let settings = SchemaSettings::default().for_serialize();
        let mut schema = settings.into_generator().into_root_schema_for::<Self>().to_value();
        let is = |value: &str, what: &str| serde_json::json!({ "type": "string", "const": value, "description": what });
        schema["title"] = Self::KIND.into();
        schema["properties"]["apiVersion"] = is(API_VERSION, "The version of the document.");
        schema["properties"]["kind"] = is(Self::KIND, "The kind of the document.");
        schema["required"] = serde_json::json!(["apiVersion", "kind"]);
        schema
    }
}

impl Document for Machine {
    const KIND: &'static str = KIND;
}

impl Document for Differences {
    const KIND: &'static str = "Diff";
}

impl Machine {
    /// Reads a document. Fields that are not known are ignored, so that newer snapshots of the same
    /// version can be read.
    pub fn from_document(text: &str) -> Result<Self, DocumentError> {
        if text.len() as u64 > MOST_BYTES {
            return Err(DocumentError::TooLarge);
        }
        // Read apart, because errors in what is flattened have no place; and first, because another
        // version has other fields. Nesting is bounded by the parser.
        let Head { api_version, kind } = serde_json::from_str(text)?;
        if api_version != API_VERSION || kind != KIND {
            return Err(DocumentError::Foreign { api_version, kind });
        }
        Ok(serde_json::from_str(text)?)
    }

    /// Reads a document from a file, and no more of it than a document can have.
    pub fn read_document(file: impl Read) -> Result<Self, DocumentError> {
        let mut text = String::new();
        file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
        Self::from_document(&text)
    }
}
