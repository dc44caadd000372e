//! What the kernel said no to, in its own words.

use std::fmt;
use std::io;

/// A request that the kernel refused, or that could not be made.
///
/// [`Error::kind`] is for branching; the text is for people: what was tried, why it failed
/// (errno), and the kernel's own explanation (extack) where it gave one.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct Error {
    what: String,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Errno { errno: i32, extack: Option<String> },
    Text { kind: ErrorKind, text: String },
}

/// The answers that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It is there already (`EEXIST`).
    Exists,
    /// No such device, address, route or file (`ENODEV`, `ENOENT`, `ESRCH`, `EADDRNOTAVAIL`).
    NotFound,
    /// Not allowed (`EPERM`, `EACCES`).
    Denied,
    /// The kernel has no such feature (`EOPNOTSUPP`, `EPROTONOSUPPORT`, `EAFNOSUPPORT`).
    Unsupported,
    /// What is there is of another kind than what was asked for.
    WrongKind,
    /// It did not happen in time.
    TimedOut,
    /// A fault point asked for this failure.
    Injected,
    /// Anything else.
    Other,
}

impl Error {
    /// A refusal with the kernel's number and, where there is one, its own text.
    pub(crate) fn errno(what: impl Into<String>, errno: i32, extack: Option<String>) -> Self {
        Self { what: what.into(), cause: Cause::Errno { errno, extack } }
    }

    /// A failed system call.
    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::errno(what, errno, None),
            None => Self::text(what, ErrorKind::Other, error.to_string()),
        }
    }

    /// A refusal of our own.
    pub(crate) fn text(what: impl Into<String>, kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { what: what.into(), cause: Cause::Text { kind, text: text.into() } }
    }

    /// The same error, saying what was tried instead of the bare request.
    pub(crate) fn during(self, what: impl Into<String>) -> Self {
        Self { what: what.into(), ..self }
    }

    /// What to branch on.
    pub fn kind(&self) -> ErrorKind {
        match &self.cause {
            Cause::Text { kind, .. } => *kind,
            Cause::Errno { errno, .. } => match *errno {
                libc::EEXIST => ErrorKind::Exists,
                libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENXIO => {
                    ErrorKind::NotFound
                }
                libc::EPERM | libc::EACCES => ErrorKind::Denied,
                libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT => {
                    ErrorKind::Unsupported
                }
                libc::ETIMEDOUT => ErrorKind::TimedOut,
                _ => ErrorKind::Other,
            },
        }
    }

    /// The kernel's number, if a system call or a netlink request failed.
    pub fn raw_errno(&self) -> Option<i32> {
        match self.cause {
            Cause::Errno { errno, .. } => Some(errno),
            Cause::Text { .. } => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { text, .. } => f.write_str(text),
            Self::Errno { errno, extack } => {
                let text = io::Error::from_raw_os_error(*errno).to_string();
                let text = text.split(" (os error").next().unwrap_or(&text);
                f.write_str(&text.to_lowercase())?;
                match extack {
                    Some(words) => write!(f, " ({words})"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What this room's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
