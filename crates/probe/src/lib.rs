//! Our own packets: who answered, from which address, how large.
//!
//! [`meet`] asks many questions between many places of this machine at once, by ICMP, UDP and TCP,
//! and checks the third promise on the way: the source address that is seen is the sender's own. Both
//! ends are ours, so a packet that comes back has proved the way there, the way back, and that nothing
//! in between changed an address.
//!
//! A [`Station`] is one machine's part of that: it opens ends, answers, asks and tells what it has
//! seen. Where the ends are on several machines, each has one, and [`conclude`] puts together what two
//! of them say of a question.
//!
//! [`Listening`] waits where somebody else leads packets to: at ports of places that are not chosen by
//! us, beside the programs that have them.
//!
//! Nothing is left behind. Sockets go with their process, whatever ends it, and no connection waits
//! for its end, because all are reset. What the kernel had to learn about neighbours it is made to
//! forget; where the process is killed in between, those entries are ordinary stale ones, which the
//! kernel drops by itself when it needs room. What was there before, or was written by somebody, stays.

mod bystander;
mod ears;
mod ledger;
mod listening;
mod meet;
mod mouths;
mod responder;
mod sockets;
mod space;
mod station;
mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kernel::Netns;

pub use ears::{Ends, Sight};
pub use listening::{Listening, Port};
pub use meet::{Met, ask, conclude, exchange, meet, meet_watched, token};
pub use mouths::{Query, Reply};
pub use responder::Responder;
pub use sockets::connect;
pub use space::Space;
pub use station::Station;

/// An address in a namespace: where packets start and where they arrive.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The namespace.
    pub netns: &'a Netns,
    /// The address, which the namespace has to hold.
    pub address: IpAddr,
}

/// Two places, both within reach of this process.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Where the question starts.
    pub from: Place<'a>,
    /// Where it is answered. Of the same family.
    pub to: Place<'a>,
}

/// What to ask of an end that answers by itself.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Where the question starts.
    pub from: Place<'a>,
    /// Where a [`Responder`] listens. Of the same family.
    pub to: SocketAddr,
}

/// How a question travels.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// An echo request. The kernel answers it; what the other end hears of it tells the source.
    Icmp,
    /// A datagram.
    Udp,
    /// A connection, which is ended by a reset. It has no shape.
    Tcp,
}

/// A question between two of some places, which are of the same family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Where the question starts.
    pub from: usize,
    /// Where it is answered.
    pub to: usize,
    /// How it travels.
    pub protocol: Protocol,
    /// What it looks like.
    pub shape: Shape,
}

/// What the questions look like.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub struct Shape {
    /// The size of the IP packet, headers included. What is too small to hold a question is sent as
    /// the smallest packet that can.
    pub bytes: usize,
    /// Whether the packet has to arrive in one piece (DF, and no fragments by the sender itself).
    pub dont_fragment: bool,
}

/// How much may be on the way, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// How many questions may wait for their answers at the same time.
    pub at_once: usize,
    /// How long a question may take. The first IPv6 packet out of a fresh bridge waits up to two
    /// seconds, until the bridge knows its own address to be unique (RFC 4862 section 5.4).
    pub patience: Duration,
    /// After this time without an answer a question is sent again.
    pub again: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { at_once: 2048, patience: Duration::from_secs(3), again: Duration::from_millis(250) }
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The source address that the other end saw.
    pub seen_source: IpAddr,
    /// The address that the answer came from.
    pub answered_from: IpAddr,
    /// The size of the IP packet that the other end received, headers included.
    pub bytes: usize,
    /// From the sending of the question to the arrival of its answer.
    pub rtt: Duration,
}

/// An ICMP message that tells of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Icmp {
    /// Who sent it.
    pub from: IpAddr,
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
}

/// Why a question has no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Failure {
    /// Nothing came back.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// It arrived, but its answer did not.
    #[error("it arrived, but no answer within {} ms", .waited.as_millis())]
    Unanswered {
        /// The source address that the other end saw.
        seen_source: IpAddr,
        /// How long was waited.
        waited: Duration,
    },
    /// The kernel, an ICMP message or a reset said that it cannot be delivered: `ECONNREFUSED`
    /// (nobody listens), `EHOSTUNREACH`, `ENETUNREACH` (without `by`: no route), `EPERM` (a
    /// rule of the sender's own forbids it), `EACCES`.
    #[error("{}", reason(*.errno))]
    Unreachable {
        /// The number of the error.
        errno: i32,
        /// The ICMP message that said so; none if it was the sender's own kernel or a reset.
        by: Option<Icmp>,
    },
    /// It is too large for a link on the way, and may not be fragmented.
    #[error("too large{}", largest(*.mtu))]
    TooLarge {
        /// The largest packet that passes there, if that was told.
        mtu: Option<u32>,
        /// Who said so; none if it was the sender's own kernel.
        by: Option<IpAddr>,
    },
    /// It arrived, but not from the sender's own address: something in between translates.
    #[error("sent from {own}, but seen as from {}", .answer.seen_source)]
    SourceChanged {
        /// The sender's address.
        own: IpAddr,
        /// The answer.
        answer: Answer,
    },
    /// An answer came, but not from the address that was asked.
    #[error("asked {asked}, but {} answered", .answer.answered_from)]
    OtherAnswered {
        /// The address that was asked.
        asked: IpAddr,
        /// The answer.
        answer: Answer,
    },
    /// An echo was answered, but the place that was asked has not heard it: somebody else has.
    #[error("asked {asked}, which heard nothing, but {answered_from} answered")]
    NotHeard {
        /// The address that was asked.
        asked: IpAddr,
        /// The address that the answer came from.
        answered_from: IpAddr,
    },
    /// It was not sent: somewhere among the places the kernel tracks as many connections as it may,
    /// and whatever is sent takes the room of others or is lost.
    #[error("so many connections are tracked that none fits (nf_conntrack_max)")]
    NoRoom,
    /// Whoever asks wanted no more.
    #[error("asked to stop")]
    Stopped,
    /// One end could not be set up: its namespace is gone, or does not hold the address.
    #[error("cannot use {address}: {reason}")]
    Unusable {
        /// The address.
        address: IpAddr,
        /// The kernel's words.
        reason: String,
    },
}

impl Failure {
    /// What the sender's own kernel says.
    pub(crate) fn errno(errno: i32) -> Self {
        if errno == rustix::io::Errno::MSGSIZE.raw_os_error() {
            Self::TooLarge { mtu: None, by: None }
        } else {
            Self::Unreachable { errno, by: None }
        }
    }
}

fn largest(mtu: Option<u32>) -> String {
    mtu.map_or_else(String::new, |mtu| format!(": at most {mtu} bytes pass"))
}

/// What an error number means, without its number.
fn reason(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The kernel's words, without its number.
fn words(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), reason)
}
