//! What an asker and a responder say to each other, over a connection that is their session: it ends
//! with it, and with it everything that was opened for it.
//!
//! Each message is its length, four bytes with the largest first, and so much JSON. The asker sends a
//! request and waits for its reply; while a long one is worked on, `working` is said every second, so
//! that both hear of it when the other is gone.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use diagnosis::verify::{Outcome, Protocol};
use probe::{Ends, Failure, Limits, Query, Sight};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use topology::Machine;

use crate::verify::{Heard, HostCall, Opened, PodPort};

/// The version of all this. Another one is refused, not guessed at.
pub(crate) const VERSION: &str = "podwire/v2";
/// How large a message may be.
const LARGEST: usize = 64 << 20;
/// How long either is silent at most.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);
/// How often it is told that something is worked on.
pub(crate) const WORKING: Duration = Duration::from_secs(1);

/// A message with its version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<T> {
    api_version: String,
    body: T,
}

/// What an asker wants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "camelCase")]
pub(crate) enum Request {
    /// The node, and the pods on it.
    Look,
    /// What the responders of this session have told of.
    Announce {
        /// The addresses of the others.
        addresses: Vec<IpAddr>,
        /// The ports of nodes that lead to pods.
        ports: BTreeSet<(SocketAddr, Protocol)>,
    },
    /// Open ends at these addresses of the node and its pods, which are the places from here on.
    Open(Vec<IpAddr>),
    /// Send packets to ends of other responders or of this one.
    Ask {
        /// The questions.
        queries: Vec<Query>,
        /// How much at once, and for how long.
        limits: Limits,
    },
    /// Listen at ports of pods that ports of the node lead to, until it is asked who was heard.
    Listen {
        /// The ports.
        ports: Vec<PodPort>,
        /// How long each that calls may wait for its answer.
        patience: Duration,
    },
    /// Who was heard at the ports, which are closed.
    Heard,
    /// Have pods and the node ask what is no end of a responder.
    Call {
        /// What is asked.
        calls: Vec<HostCall>,
        /// How long each may wait for its answer.
        patience: Duration,
    },
    /// How questions arrived here.
    Seen,
    /// Nothing, but the session is to go on.
    Keep,
}

/// What it gets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "camelCase")]
pub(crate) enum Reply {
    /// Not yet.
    Working,
    /// The node and the pods on it.
    Machine(Box<Machine>),
    /// It is remembered.
    Announced,
    /// The ports of each place.
    Opened(Vec<Result<Ends, Failure>>),
    /// What came of the questions, in their order.
    Asked(Vec<Result<probe::Reply, Failure>>),
    /// What came of the ports, in their order.
    Listening(Vec<Opened>),
    /// Who has come to each of them.
    Heard(Vec<Heard>),
    /// What came of the calls, in their order.
    Called(Vec<Outcome>),
    /// By token.
    Seen(Vec<(u64, Sight)>),
    /// It goes on.
    Kept,
    /// Why not.
    Refused(String),
}

/// All ways by which packets go.
pub(crate) const PROTOCOLS: [probe::Protocol; 3] =
    [probe::Protocol::Icmp, probe::Protocol::Udp, probe::Protocol::Tcp];

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The connection failed or ended.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other end speaks another version.
    #[error("it speaks {0}, and this is {VERSION}")]
    Version(String),
    /// It is no message.
    #[error("what it says is not understood: {0}")]
    Strange(String),
}

/// Sends a message.
pub(crate) fn send(to: &mut impl Write, body: &impl Serialize) -> io::Result<()> {
    let message = Message { api_version: VERSION.to_owned(), body };
    let text = serde_json::to_vec(&message)?;
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= LARGEST);
    let length = length.ok_or_else(|| io::Error::other("the message is too large"))?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&text)?;
    to.flush()
}

/// Takes a message in.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<T, FrameError> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LARGEST {
        return Err(FrameError::Strange(format!("a message of {length} bytes")));
    }
    // It is read as it comes, so that a length alone takes no memory.
    let mut text = Vec::new();
    from.take(length as u64).read_to_end(&mut text)?;
    if text.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        api_version: String,
    }
    let strange = |error: serde_json::Error| FrameError::Strange(error.to_string());
    // The version first: what another one means by the rest nobody knows.
    let Version { api_version } = serde_json::from_slice(&text).map_err(strange)?;
    if api_version != VERSION {
        return Err(FrameError::Version(api_version));
    }
    serde_json::from_slice::<Message<T>>(&text).map(|message| message.body).map_err(strange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_is_received() {
        let mut bytes = Vec::new();
        let address: IpAddr = "10.1.0.2".parse().unwrap();
        let ports = BTreeSet::from([("192.0.2.1:80".parse().unwrap(), Protocol::Tcp)]);
        let announce = Request::Announce { addresses: vec![address], ports: ports.clone() };
        send(&mut bytes, &announce).unwrap();
        send(&mut bytes, &Request::Keep).unwrap();
        let mut bytes = &bytes[..];
        let first: Request = receive(&mut bytes).unwrap();
        let Request::Announce { addresses, ports: told } = first else { panic!("{first:?}") };
        assert_eq!((addresses, told), (vec![address], ports));
        assert!(matches!(receive(&mut bytes), Ok(Request::Keep)));
        assert!(matches!(receive::<Request>(&mut bytes), Err(FrameError::Io(_))), "it has ended");
    }

    #[test]
    fn another_version_is_refused_by_name_whatever_it_says() {
        let text = br#"{"apiVersion":"podwire/v1","body":{"kind":"announced"}}"#;
        let mut bytes = Vec::from((text.len() as u32).to_be_bytes());
        bytes.extend(text);
        let error = receive::<Reply>(&mut &bytes[..]).unwrap_err();
        assert_eq!(error.to_string(), "it speaks podwire/v1, and this is podwire/v2");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 2, b'{', b'}'], &[0xff; 64]] {
            let error = receive::<Request>(&mut &bytes[..]).unwrap_err();
            assert!(matches!(error, FrameError::Strange(_)), "{error:?}");
        }
        // A length alone takes no memory.
        let error = receive::<Request>(&mut &[0, 0xff, 0xff, 0xff][..]).unwrap_err();
        assert!(matches!(error, FrameError::Io(_)), "{error:?}");
    }
}
