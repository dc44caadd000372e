//! Calls to what is no end of ours: resolvers, and the ports of nodes that lead to pods.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use diagnosis::verify::{Outcome, Protocol};
use kernel::{Netns, NetnsId};
use probe::{Limits, Place, Shape, Space};
use serde::{Deserialize, Serialize};

use super::ask;

/// How many are made at once, each by a thread.
pub(crate) const AT_ONCE: usize = 32;

/// A call of a pod or of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HostCall {
    /// The address of who calls.
    pub(crate) from: IpAddr,
    /// Whom it calls.
    pub(crate) to: SocketAddr,
    /// How.
    pub(crate) protocol: Protocol,
    /// What is there.
    pub(crate) callee: Callee,
}

/// What a call leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Callee {
    /// A resolver.
    Resolver,
    /// A port of a pod.
    Port {
        /// Whether somebody of ours hears who comes there.
        heard: bool,
    },
}

/// What came of calls, each from a place of this machine, in their order. Between two that cannot be
/// made at once, `go_on` is asked whether to go on.
pub(crate) fn make(
    calls: &[(Place<'_>, HostCall)],
    patience: Duration,
    go_on: &mut dyn FnMut() -> bool,
) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(calls.len());
    for batch in calls.chunks(AT_ONCE) {
        if !go_on() {
            break;
        }
        outcomes.extend(thread::scope(|scope| {
            let call = |(place, call): &(Place<'_>, HostCall)| one(*place, call, patience);
            let threads: Vec<_> = batch.iter().map(|it| scope.spawn(move || call(it))).collect();
            let unknown = |_| Outcome::Unknown("the thread that asks has ended early".to_owned());
            let joined = threads.into_iter().map(|it| it.join().unwrap_or_else(unknown));
            joined.collect::<Vec<_>>()
        }));
    }
    outcomes.resize_with(calls.len(), unasked);
    outcomes
}

pub(crate) fn unasked() -> Outcome {
    Outcome::Unknown("it was not asked".to_owned())
}

/// Does something with those that there are, and puts what comes of them into the places of all.
pub(crate) fn among<T, R>(
    all: Vec<Result<T, Outcome>>,
    otherwise: impl Fn(Outcome) -> R,
    work: impl FnOnce(&[T]) -> Vec<R>,
) -> Vec<R> {
    let mut given = Vec::new();
    let mut told = Vec::new();
    for one in all {
        told.push(one.map(|it| given.push(it)));
    }
    let mut done = work(&given).into_iter();
    let result = |told: Result<(), Outcome>| match told {
        Ok(()) => done.next().unwrap_or_else(|| otherwise(unasked())),
        Err(outcome) => otherwise(outcome),
    };
    told.into_iter().map(result).collect()
}

/// What the kernel learns of neighbours by calls, which it is made to forget when this is dropped.
pub(crate) struct Traces {
    spaces: Vec<Space>,
    ours: HashSet<IpAddr>,
}

impl Traces {
    /// What is known before packets go these ways, in their namespaces and in others that they pass.
    pub(crate) fn before<'a>(
        ways: &[(Place<'a>, IpAddr)],
        passed: impl IntoIterator<Item = &'a Netns>,
    ) -> Self {
        let mut spaces: BTreeMap<NetnsId, Space> = BTreeMap::new();
        for netns in ways.iter().map(|(from, _)| from.netns).chain(passed) {
            if let Ok(id) = netns.id()
                && !spaces.contains_key(&id)
                && let Ok(space) = Space::open(netns)
            {
                spaces.insert(id, space);
            }
        }
        let mut ours = HashSet::new();
        for (from, to) in ways {
            ours.extend([from.address, *to]);
            let space = from.netns.id().ok().and_then(|id| spaces.get_mut(&id));
            let hop = space.and_then(|it| it.new_hop(from.address, *to));
            ours.extend(hop.map(|hop| hop.address));
        }
        Self { spaces: spaces.into_values().collect(), ours }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        for space in &mut self.spaces {
            space.forget(&self.ours);
        }
    }
}

fn one(from: Place<'_>, call: &HostCall, patience: Duration) -> Outcome {
    let HostCall { to, protocol, callee, .. } = *call;
    let own = from.address;
    let made = match (callee, protocol) {
        (Callee::Resolver, _) => {
            from.netns.enter(|| resolve(own, to, protocol, patience).map(answered))
        }
        (Callee::Port { .. }, Protocol::Udp) => return datagram(from, to, patience),
        (Callee::Port { heard }, _) => from.netns.enter(|| connection(own, to, heard, patience)),
    };
    match made {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => failed(&error, patience),
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

/// A connection, and nothing but that; whoever hears it for us ends it once it was seen.
fn connection(own: IpAddr, to: SocketAddr, heard: bool, patience: Duration) -> io::Result<Outcome> {
    let mut stream = probe::connect(own, to, patience)?;
    if heard {
        stream.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        // If it is not ended, somebody else has it, which who listens knows.
        let _ = stream.read(&mut [0]);
    }
    Ok(Outcome::Answered { seen: None, from: Some(to.ip()) })
}

/// A datagram that asks.
fn datagram(from: Place<'_>, to: SocketAddr, patience: Duration) -> Outcome {
    let limits = Limits { at_once: 1, patience, ..Limits::default() };
    let question = probe::Question { from, to };
    let seed = u64::from_ne_bytes(kernel::random());
    let answer = probe::ask(&[question], Shape::default(), limits, seed).pop();
    answer.map_or_else(unasked, ask::outcome)
}

/// What a resolver's answer means, by its code (RFC 1035 section 4.1.1): that there is no such name
/// is an answer.
fn answered(code: u8) -> Outcome {
    const NAMES: [&str; 6] = [
        "no error",
        "the question is not understood",
        "the server has failed (SERVFAIL)",
        "there is no such name",
        "the kind of question is not known",
        "the server refuses (REFUSED)",
    ];
    match code {
        0 | 3 => Outcome::Answered { seen: None, from: None },
        code => {
            let name = NAMES.get(usize::from(code)).copied().unwrap_or("an unknown code");
            Outcome::Refused(format!("it answers: {name}"))
        }
    }
}

/// Asks a resolver for the cluster's own service, which every resolver of a cluster knows by itself;
/// gives the code of the answer.
fn resolve(own: IpAddr, to: SocketAddr, protocol: Protocol, patience: Duration) -> io::Result<u8> {
    let id = u16::from_ne_bytes(kernel::random());
    let query = query(id);
    let answer = match protocol {
        Protocol::Tcp => {
            let mut stream = probe::connect(own, to, patience)?;
            stream.set_read_timeout(Some(patience))?;
            stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat())?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer)?;
            answer
        }
        _ => {
            let socket = UdpSocket::bind((own, 0))?;
            socket.connect(to)?;
            // One may be lost; a resolver's client asks again as well.
            const TRIES: u32 = 3;
            socket.set_read_timeout(Some((patience / TRIES).max(Duration::from_millis(1))))?;
            let mut answer = vec![0; 4096];
            let mut last: io::Result<usize> = Err(ErrorKind::TimedOut.into());
            for _ in 0..TRIES {
                socket.send(&query)?;
                match socket.recv(&mut answer) {
                    Ok(length) => {
                        last = Ok(length);
                        break;
                    }
                    Err(error) if is_silence(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            answer.truncate(last?);
            answer
        }
    };
    code(&answer, id).ok_or_else(|| io::Error::other("what came back is no answer"))
}

/// A question for an A record, with recursion (RFC 1035 section 4).
fn query(id: u16) -> Vec<u8> {
    const NAME: [&str; 5] = ["kubernetes", "default", "svc", "cluster", "local"];
    let mut query = Vec::new();
    for number in [id, 0x0100, 1, 0, 0, 0] {
        query.extend(number.to_be_bytes());
    }
    for label in NAME {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// The code of an answer, if it is the one to this question.
fn code(answer: &[u8], id: u16) -> Option<u8> {
    const ANSWER: u8 = 0x80;
    let header = answer.get(..12)?;
    let is_ours = header[..2] == id.to_be_bytes() && header[2] & ANSWER != 0;
    is_ours.then_some(header[3] & 0x0f)
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn failed(error: &io::Error, patience: Duration) -> Outcome {
    match is_silence(error) {
        true => Outcome::Silent(patience.as_millis() as u64),
        false => Outcome::Refused(reason(error)),
    }
}

/// An error without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_question_counts() {
        let asked = query(0x1234);
        assert_eq!(asked.len(), 12 + 11 + 8 + 4 + 8 + 6 + 5);
        assert_eq!(code(&asked, 0x1234), None);
        let mut answer = asked;
        answer[2] |= 0x80;
        answer[3] |= 3;
        assert_eq!(code(&answer, 0x1234), Some(3));
        assert_eq!(code(&answer, 0x1235), None);
        assert_eq!(code(&answer[..11], 0x1234), None);
    }

    #[test]
    fn no_such_name_is_an_answer_and_failure_is_none() {
        assert_eq!(answered(3), Outcome::Answered { seen: None, from: None });
        assert!(matches!(answered(2), Outcome::Refused(why) if why.contains("SERVFAIL")));
    }
}
