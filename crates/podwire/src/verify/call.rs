//! Asking what is not an end of ours: resolvers, and the ports of nodes that lead to pods.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use diagnosis::verify::{Call, Outcome, Plan, Protocol, Service};
use kernel::{Netns, NetnsId};
use probe::{Bystander, Limits, Responder, Shape, Space};

use super::ask::{self, Spaces};

/// How many are asked at once, each by a thread.
pub(super) const AT_ONCE: usize = 32;

/// What came of calls between namespaces of this machine, in their order. Between two that cannot be
/// made at once, `go_on` is asked whether to go on.
pub(super) fn all(
    plan: &Plan,
    spaces: &Spaces,
    calls: &[Call],
    patience: Duration,
    go_on: &mut dyn FnMut() -> bool,
) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(calls.len());
    let mut traces = Traces::before(plan, spaces, calls);
    for batch in batches(calls) {
        if !go_on() {
            break;
        }
        let ask = |call| ask(plan, spaces, call, patience);
        outcomes.extend(thread::scope(|scope| {
            let threads: Vec<_> = batch.iter().map(|call| scope.spawn(move || ask(call))).collect();
            let unknown = |_| Outcome::Unknown("the thread that asks has ended early".to_owned());
            let joined = threads.into_iter().map(|it| it.join().unwrap_or_else(unknown));
            joined.collect::<Vec<_>>()
        }));
    }
    traces.forget();
    let unasked = || Outcome::Unknown("it was not asked".to_owned());
    outcomes.resize_with(calls.len(), unasked);
    outcomes
}

/// What the kernel learns of neighbours by calls.
struct Traces {
    spaces: Vec<Space>,
    ours: HashSet<IpAddr>,
}

impl Traces {
    fn before(plan: &Plan, spaces: &Spaces, calls: &[Call]) -> Self {
        let mut ours: HashSet<IpAddr> = calls.iter().map(|call| call.to.ip()).collect();
        // Where nothing is called, nobody has to look.
        let all = spaces.all().filter(|_| !calls.is_empty());
        let mut spaces: BTreeMap<NetnsId, Space> =
            all.filter_map(|(id, netns)| Some((id, Space::open(netns).ok()?))).collect();
        for call in calls {
            let from = &plan.places[call.from];
            let mut ways = vec![(from, call.to.ip())];
            if let Service::Port { place, .. } = call.service {
                ways.push((&plan.places[place], from.address));
            }
            for (place, to) in ways {
                ours.insert(place.address);
                let hop = spaces.get_mut(&place.netns).and_then(|it| it.new_hop(place.address, to));
                ours.extend(hop.map(|hop| hop.address));
            }
        }
        Self { spaces: spaces.into_values().collect(), ours }
    }

    fn forget(&mut self) {
        for space in &mut self.spaces {
            space.forget(&self.ours);
        }
    }
}

/// Calls that can be made at once: of those to one port of one pod, where we may have to listen,
/// each is in a batch of its own.
fn batches(calls: &[Call]) -> Vec<&[Call]> {
    let mut batches = Vec::new();
    let mut rest = calls;
    while !rest.is_empty() {
        let listens = |call: &Call| matches!(call.service, Service::Port { .. });
        let end = match listens(&rest[0]) {
            true => 1,
            false => rest.iter().position(listens).unwrap_or(rest.len()).min(AT_ONCE),
        };
        let (batch, after) = rest.split_at(end);
        batches.push(batch);
        rest = after;
    }
    batches
}

fn ask(plan: &Plan, spaces: &Spaces, call: &Call, patience: Duration) -> Outcome {
    let netns = match spaces.netns(call.from) {
        Ok(netns) => netns,
        Err(outcome) => return outcome,
    };
    let own = plan.places[call.from].address;
    match &call.service {
        Service::Resolver => match netns.enter(|| resolve(own, call.to, call.protocol, patience)) {
            Ok(Ok(code)) => answered(code),
            Ok(Err(error)) => failed(&error, patience),
            Err(error) => Outcome::Unknown(error.to_string()),
        },
        Service::Port { place, port } => {
            let listener = match spaces.netns(*place) {
                Ok(listener) => listener,
                Err(outcome) => return outcome,
            };
            let from = probe::Place { netns, address: own };
            let at = SocketAddr::new(plan.places[*place].address, *port);
            match call.protocol {
                Protocol::Udp => datagram(from, call.to, listener, at, patience),
                _ => connection(from, call.to, listener, at, patience),
            }
        }
    }
}

/// A connection to a port that leads to a listener of ours, or to whoever listens there already.
fn connection(
    from: probe::Place<'_>,
    to: SocketAddr,
    there: &Netns,
    own: SocketAddr,
    patience: Duration,
) -> Outcome {
    let listener = match there.enter(|| TcpListener::bind(own)) {
        Ok(Ok(listener)) => Some(listener),
        // The pod's own program listens, and it is asked.
        Ok(Err(error)) if error.kind() == ErrorKind::AddrInUse => None,
        Ok(Err(error)) => return no_address(own.ip(), &error),
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    match from.netns.enter(|| probe::connect(from.address, to, patience)) {
        Ok(Ok(_stream)) => {
            let Some(listener) = listener else {
                return Outcome::Answered { seen: None, from: Some(to.ip()) };
            };
            // The connection stands, so that it waits here, if it is ours.
            match listener.set_nonblocking(true).and_then(|()| listener.accept()) {
                Ok((_, peer)) => Outcome::Answered { seen: Some(peer.ip()), from: Some(to.ip()) },
                Err(_) => Outcome::Refused("somebody else than the pod answered".to_owned()),
            }
        }
        Ok(Err(error)) => failed(&error, patience),
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

/// A datagram to a port that leads to a responder of ours, beside whoever listens there already.
fn datagram(
    from: probe::Place<'_>,
    to: SocketAddr,
    there: &Netns,
    own: SocketAddr,
    patience: Duration,
) -> Outcome {
    let opened = there.enter(|| match Responder::open(own) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Bystander::open(own).map(Listener::Beside)
        }
        opened => opened.map(Listener::Own),
    });
    let listener = match opened {
        Ok(Ok(listener)) => listener,
        Ok(Err(error)) => return no_address(own.ip(), &error),
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let limits = Limits { at_once: 1, patience, ..Limits::default() };
    let question = probe::Question { from, to };
    let seed = u64::from_ne_bytes(kernel::random());
    thread::scope(|scope| {
        let asked = scope.spawn(|| probe::ask(&[question], Shape::default(), limits, seed).pop());
        while !asked.is_finished() {
            listener.answer();
            thread::sleep(Duration::from_millis(1));
        }
        let answer = asked.join().ok().flatten();
        answer.map_or_else(|| Outcome::Unknown("it was not asked".to_owned()), ask::outcome)
    })
}

/// Who answers a datagram at a port of a pod.
enum Listener {
    /// We alone.
    Own(Responder),
    /// We, and the pod's own program hears it as well.
    Beside(Bystander),
}

impl Listener {
    fn answer(&self) {
        match self {
            Self::Own(responder) => responder.answer(),
            Self::Beside(bystander) => bystander.answer(),
        }
    }
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

fn no_address(address: IpAddr, error: &io::Error) -> Outcome {
    Outcome::NoAddress { address, why: reason(error) }
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
