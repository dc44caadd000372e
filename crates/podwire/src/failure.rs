//! How a command ends, and what it says when it ends badly.

mod cni;

use std::fmt;
use std::process::ExitCode;

/// The exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or: yes.
    Yes = 0,
    /// Answered, and the answer is no.
    No = 1,
    /// Wrong use.
    Usage = 2,
    /// Could not tell: a right or a feature is missing.
    Unknown = 3,
    /// No such object, or several.
    NotFound = 4,
    /// Failed half-way and taken back.
    Undone = 5,
    /// The terminal is gone, after cleaning up.
    HungUp = 129,
    /// Interrupted, after cleaning up: 128 and the number of the signal.
    Interrupted = 130,
    /// Ended by `SIGTERM`, after cleaning up.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    what: String,
    also: Vec<String>,
    remedy: Option<String>,
}

/// What commands return.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure without a remedy; the text says what failed and why.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), also: Vec::new(), remedy: None }
    }

    /// The same failure with another exit code, if there is a better one.
    pub(crate) fn exit(self, better: Option<Exit>) -> Self {
        Self { exit: better.unwrap_or(self.exit), ..self }
    }

    /// The same failure with what to do about it.
    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for line in &self.also {
            write!(f, "\n       {line}")?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "\n  fix: {remedy}"),
            None => Ok(()),
        }
    }
}

impl From<lab::Error> for Failure {
    fn from(error: lab::Error) -> Self {
        use lab::Error;
        let remedy = error.remedy();
        let exit = match &error {
            error if error.is_denied() => Exit::Unknown,
            Error::Name(_) | Error::Pods { .. } | Error::Nodes { .. } => Exit::Usage,
            Error::NoLab { .. }
            | Error::NoObject { .. }
            | Error::Ambiguous { .. }
            | Error::NotBroken { .. } => Exit::NotFound,
            Error::Exists { .. }
            | Error::NoNodes { .. }
            | Error::Unfit { .. }
            | Error::Overlap { .. }
            | Error::Healed { .. }
            | Error::QuizRuns { .. }
            | Error::QuizOver { .. }
            | Error::NoQuiz { .. }
            | Error::LastNode { .. }
            | Error::Unfinished { .. }
            | Error::Taken { .. }
            | Error::Unrecorded { .. }
            | Error::Scripted { .. } => Exit::No,
            Error::Undone { cause, .. } | Error::NotAdded { cause, .. }
                if matches!(**cause, Error::Interrupted) =>
            {
                Exit::Interrupted
            }
            Error::Undone { .. } | Error::NotAdded { .. } => Exit::Undone,
            Error::Interrupted => Exit::Interrupted,
            Error::Plugin { .. }
            | Error::Agent { .. }
            | Error::Resolver { .. }
            | Error::Runtime(_)
            | Error::Kernel(_)
            | Error::Io { .. }
            | Error::Record { .. } => Exit::Unknown,
        };
        let also = match &error {
            Error::Undone { left, .. } | Error::NotAdded { left, .. } if left.is_empty() => {
                vec!["everything that was made is removed again".to_owned()]
            }
            Error::Undone { left, .. } | Error::NotAdded { left, .. } => {
                left.iter().map(|it| format!("could not be removed again: {it}")).collect()
            }
            _ => Vec::new(),
        };
        Self { exit, what: error.to_string(), also, remedy }
    }
}

impl From<ipam::Error> for Failure {
    fn from(error: ipam::Error) -> Self {
        let failure = Self::new(Exit::Unknown, error.to_string());
        error.remedy().into_iter().fold(failure, Self::remedy)
    }
}

impl From<kernel::Error> for Failure {
    fn from(error: kernel::Error) -> Self {
        lab::Error::from(error).into()
    }
}
