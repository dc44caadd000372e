//! Our own packets: who answered, from which address, how large.
//!
//! [`exchange`] sends a UDP datagram from one place to another for each of many pairs at once, lets
//! the other place answer what it saw, and checks the third promise on the way: the source address
//! that is seen is the sender's own. Both ends are ours, so a packet that comes back has proved the
//! way there, the way back, and that nothing in between changed an address.
//!
//! Where the other end is another machine, [`ask`] sends and a [`Responder`] answers over there.

mod batch;
mod exchange;
mod responder;
mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kernel::Netns;

pub use batch::at_once;
pub use exchange::{ask, exchange};
pub use responder::Responder;

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

/// What the questions look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The size of the IP packet, headers included. What is too small to hold a question is sent as
    /// the smallest packet that can.
    pub bytes: usize,
    /// Whether the packet has to arrive in one piece (DF, and no fragments by the sender itself).
    pub dont_fragment: bool,
}

/// How much may be on the way, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many pairs are asked at the same time; see [`at_once`].
    pub at_once: usize,
    /// How long a question may take. The first IPv6 packet out of a fresh bridge waits up to two
    /// seconds, until the bridge knows its own address to be unique (RFC 4862 section 5.4).
    pub patience: Duration,
    /// After this time without an answer a question is sent again.
    pub again: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { at_once: 64, patience: Duration::from_secs(3), again: Duration::from_millis(250) }
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Why a question has no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing came back.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The kernel or an ICMP message said that it cannot be delivered: `ECONNREFUSED` (nobody
    /// listens), `EHOSTUNREACH`, `ENETUNREACH`, `EMSGSIZE` (too large for a link on the way),
    /// `EPERM` (a rule of the sender's own forbids it), `EACCES`.
    #[error("{}", reason(*.errno))]
    Unreachable {
        /// The number of the error.
        errno: i32,
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
    /// One end could not be set up: its namespace is gone, or does not hold the address.
    #[error("cannot use {address}: {reason}")]
    Unusable {
        /// The address.
        address: IpAddr,
        /// The kernel's words.
        reason: String,
    },
}

/// What an error number means, without its number.
fn reason(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
