//! Everything that can go wrong here, in the words of the reference plugin.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use rustix::io::Errno;

/// What every fallible function of this crate answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refused configuration, an allocation that cannot be had, or a failing file system. The texts
/// are those of the reference `host-local` plugin, which people search for and tools match.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration names no range at all.
    #[error("no IP ranges specified")]
    NoRanges,
    /// A range set of the configuration is refused.
    #[error("invalid range set {index}: {reason}")]
    InvalidSet {
        /// Which one, counted from 0.
        index: usize,
        /// Why.
        reason: Box<Error>,
    },
    /// Two range sets share addresses.
    #[error("range set {first} overlaps with {second}")]
    SetsOverlap {
        /// The earlier set, counted from 0.
        first: usize,
        /// The later set.
        second: usize,
    },
    /// A range set without a range.
    #[error("empty range set")]
    EmptySet,
    /// A range set with IPv4 and IPv6.
    #[error("mixed address families")]
    MixedFamilies,
    /// Two ranges of one set share addresses.
    #[error("subnets {first} and {second} overlap")]
    RangesOverlap {
        /// The earlier range, as `start-end`.
        first: String,
        /// The later range.
        second: String,
    },
    /// A range without a subnet.
    #[error("IP <nil> not v4 nor v6")]
    NoSubnet,
    /// A subnet of fewer than four addresses.
    #[error("Network {0} too small to allocate from")]
    TooSmall(IpNet),
    /// An IPv4 subnet written as IPv6 (`::ffff:10.0.0.0/120`).
    #[error("IPNet IP and Mask version mismatch")]
    MappedSubnet,
    /// A subnet that is written with the address of a host.
    #[error(
        "Network has host bits set. For a subnet mask of length {length} the network address is {network}"
    )]
    HostBits {
        /// The prefix length.
        length: u8,
        /// The address that was meant.
        network: IpAddr,
    },
    /// A first address outside the subnet, or behind the last one.
    #[error("RangeStart {start} not in network {subnet}")]
    StartOutside {
        /// The first address.
        start: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// A last address outside the subnet, or before the first one.
    #[error("RangeEnd {end} not in network {subnet}")]
    EndOutside {
        /// The last address.
        end: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// A range set cannot serve this attachment.
    #[error("failed to allocate for range {index}: {reason}")]
    Allocate {
        /// Which set, counted from 0.
        index: usize,
        /// Why.
        reason: Box<Error>,
    },
    /// The requested address is the gateway of its range.
    #[error("requested ip {0} is subnet's gateway")]
    IsGateway(IpAddr),
    /// The requested address is reserved already.
    #[error("requested IP address {address} is not available in range set {set}")]
    NotAvailable {
        /// The requested address.
        address: IpAddr,
        /// The set, as `start-end,start-end`.
        set: String,
    },
    /// The attachment already has an address of this set.
    #[error("{address} has been allocated to {id}, duplicate allocation is not allowed")]
    Duplicate {
        /// The address that it has.
        address: IpAddr,
        /// The container.
        id: String,
    },
    /// Every address of the set is reserved.
    #[error("no IP addresses available in range set: {0}")]
    Exhausted(
        /// The set, as `start-end,start-end`.
        String,
    ),
    /// Requested addresses that no set contains, or more than one for the same set.
    #[error("failed to allocate all requested IPs:{}", spaced(.0))]
    Unfulfilled(Vec<IpAddr>),
    /// A file or directory that others may have put there, or that nothing can be concluded from.
    #[error("{} {why}", path.display())]
    Untrusted {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file system refused.
    #[error("{call} {}: {}", path.display(), plain(error))]
    Io {
        /// The system call.
        call: &'static str,
        /// What it was called on.
        path: PathBuf,
        /// What it answered.
        error: io::Error,
    },
}

impl Error {
    /// What a person can do about it, when the file system is what fails. The message itself stays
    /// the reference's; this belongs in the details beside it.
    pub fn remedy(&self) -> Option<String> {
        let (path, error) = match self {
            Self::Allocate { reason, .. } => return reason.remedy(),
            Self::Io { path, error, .. } => (path.display(), error),
            Self::Untrusted { path, .. } => {
                return Some(format!(
                    "{}: look who put it there, and remove it or give it to root, writable by \
                     nobody else",
                    path.display()
                ));
            }
            _ => return None,
        };
        let advice = match Errno::from_io_error(error)? {
            Errno::NOSPC | Errno::DQUOT => {
                "the file system is full: free blocks or inodes on it, or set ipam.dataDir to a \
                 directory on another one"
            }
            Errno::ROFS => {
                "the file system is read-only: remount it read-write, or set ipam.dataDir to a \
                 directory that is writable"
            }
            Errno::NOTDIR | Errno::ISDIR | Errno::EXIST => {
                "something else is in this place: move it away, or set ipam.dataDir to another \
                 directory"
            }
            Errno::LOOP => "this is a symbolic link, which is never followed here: remove it",
            Errno::ACCESS | Errno::PERM => {
                "the plugin has to run as root, and no security module may deny it this path"
            }
            _ => return None,
        };
        Some(format!("{path}: {advice}"))
    }
}

impl Error {
    /// A failing system call.
    pub(crate) fn io(call: &'static str, path: &Path, error: impl Into<io::Error>) -> Self {
        Self::Io { call, path: path.to_owned(), error: error.into() }
    }

    /// Whether a file that was to be created is there already.
    pub(crate) fn is_existing(&self) -> bool {
        match self {
            Self::Allocate { reason, .. } => reason.is_existing(),
            Self::Io { error, .. } => error.kind() == io::ErrorKind::AlreadyExists,
            _ => false,
        }
    }

    /// The same failure, with the set in which it happened.
    pub(crate) fn in_set(self, index: usize) -> Self {
        Self::Allocate { index, reason: Box::new(self) }
    }
}

/// The addresses, each behind a space.
fn spaced(addresses: &[IpAddr]) -> String {
    addresses.iter().map(|address| format!(" {address}")).collect()
}

/// The text of an errno as Go prints it: in lower case and without Rust's ` (os error 2)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(errno: Errno) -> Error {
        Error::Io { call: "open", path: "/data/n/lock".into(), error: errno.into() }
    }

    #[test]
    fn errnos_read_as_the_reference_prints_them() {
        assert_eq!(io(Errno::NOSPC).to_string(), "open /data/n/lock: no space left on device");
        assert_eq!(io(Errno::ROFS).to_string(), "open /data/n/lock: read-only file system");
        assert_eq!(io(Errno::IO).to_string(), "open /data/n/lock: input/output error");
    }

    #[test]
    fn the_remedy_names_the_path_and_shows_through_the_range_set() {
        let error = Error::Allocate { index: 1, reason: Box::new(io(Errno::LOOP)) };
        assert_eq!(
            error.to_string(),
            "failed to allocate for range 1: open /data/n/lock: too many levels of symbolic links"
        );
        assert_eq!(
            error.remedy().as_deref(),
            Some("/data/n/lock: this is a symbolic link, which is never followed here: remove it")
        );
        assert_eq!(Error::NoRanges.remedy(), None);
    }

    #[test]
    fn unfulfilled_requests_are_listed() {
        let addresses = ["10.1.2.3", "::1"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(
            Error::Unfulfilled(addresses).to_string(),
            "failed to allocate all requested IPs: 10.1.2.3 ::1"
        );
    }
}
