//! Why a plugin did not do what it was asked.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Code, Error, json, result};

/// Why a call of a plugin came to nothing: what a caller may branch on. The texts are the reference
/// library's where it has any.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its file is in none of the directories; the error of [`crate::path::find`].
    #[error(transparent)]
    Missing(Error),
    /// Its file could not be started, so it did nothing.
    #[error("netplugin failed with no error message: fork/exec {}: {source}", program.display())]
    NotStarted {
        /// The file.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It answered with an error of its own.
    #[error(transparent)]
    Refused(Error),
    /// It failed, or died, and said nothing.
    #[error("netplugin failed with no error message: {ending}")]
    Silent {
        /// Its exit status or the signal.
        ending: String,
    },
    /// It failed, and said something on standard error only.
    #[error("netplugin failed: {stderr:?}: {ending}")]
    Grumbled {
        /// What it said, shortened.
        stderr: String,
        /// Its exit status or the signal.
        ending: String,
    },
    /// It failed, and what it printed is no error object.
    #[error(
        "netplugin failed but error parsing its diagnostic message {stdout:?}: {source}; {ending}"
    )]
    Garbled {
        /// What it printed, shortened.
        stdout: String,
        /// What is wrong with that.
        source: json::Error,
        /// Its exit status or the signal.
        ending: String,
    },
    /// It succeeded, and what it printed is no JSON object.
    #[error("failed to unmarshal raw result: {source} result {stdout}")]
    NotJson {
        /// What it printed, shortened.
        stdout: String,
        /// What is wrong with that.
        source: json::Error,
    },
    /// It succeeded, and the object that it printed is no result.
    #[error(transparent)]
    NotResult(#[from] result::Error),
    /// It succeeded, and what it printed does not say which versions it speaks.
    #[error("decoding version info: {0}")]
    NotVersions(String),
    /// It printed more than [`super::LONGEST`] bytes and was killed.
    #[error("netplugin failed: {} was killed: it printed more than {} MiB", program.display(), super::LONGEST >> 20)]
    TooMuch {
        /// The file.
        program: PathBuf,
    },
    /// It took too long and was killed.
    #[error("netplugin failed with no error message: {} was killed after {limit:?}", program.display())]
    TooSlow {
        /// The file.
        program: PathBuf,
        /// How long it had.
        limit: Duration,
    },
    /// Somebody asked to stop, and it was killed.
    #[error("netplugin failed with no error message: {} was killed: interrupted", program.display())]
    Interrupted {
        /// The file.
        program: PathBuf,
    },
    /// The kernel would not let it be heard.
    #[error("netplugin failed with no error message: talk to {}: {source}", program.display())]
    Talk {
        /// The file.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Failure {
    /// Whether the plugin did not even begin.
    pub fn is_before_the_start(&self) -> bool {
        matches!(self, Failure::Missing(_) | Failure::NotStarted { .. })
    }
}

impl From<Failure> for Error {
    /// What a plugin answers whose delegate failed.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Missing(error) | Failure::Refused(error) => error,
            Failure::NotJson { .. } | Failure::NotResult(_) | Failure::NotVersions(_) => {
                Error::internal(failure)
            }
            failure => Error::new(Code::Unknown, failure.to_string()),
        }
    }
}

/// As much of an output as an error should show.
pub(super) fn shortened(output: &[u8]) -> String {
    const LONGEST: usize = 1024;
    let text = String::from_utf8_lossy(&output[..output.len().min(LONGEST)]);
    if output.len() > LONGEST { format!("{text}…") } else { text.into_owned() }
}
