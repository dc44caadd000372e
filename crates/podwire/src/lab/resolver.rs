//! `podwire lab resolver`: answers for the names of a file, for the pods of a lab, and asks nobody
//! else. `podwire lab up --dns` starts it; it ends with the lab, or by a signal.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use lab::ResolverRun;

use crate::cli::Resolver;
use crate::failure::{Exit, Failure, Result};

/// How long somebody who is connected may think.
const PATIENCE: Duration = Duration::from_secs(2);

// Kinds of records and codes of answers (RFC 1035 sections 3.2 and 4.1.1, RFC 3596).
const A: u16 = 1;
const AAAA: u16 = 28;
const NO_ERROR: u8 = 0;
const NOT_UNDERSTOOD: u8 = 1;
const NO_SUCH_NAME: u8 = 3;
const NOT_KNOWN: u8 = 4;

/// Serves until it is ended, or until a socket fails.
pub(crate) fn run(arguments: &Resolver) -> Result<ExitCode> {
    let mut sockets = Vec::new();
    for address in &arguments.listen {
        let at = SocketAddr::new(*address, ResolverRun::PORT);
        let udp = UdpSocket::bind(at).map_err(|error| failed(at, &error))?;
        let tcp = TcpListener::bind(at).map_err(|error| failed(at, &error))?;
        sockets.push((at, udp, tcp));
    }
    let (tell, failures) = mpsc::channel();
    for (at, udp, tcp) in sockets {
        let (hosts, to) = (arguments.hosts.clone(), tell.clone());
        thread::spawn(move || to.send((at, datagrams(&udp, &hosts))));
        let (hosts, to) = (arguments.hosts.clone(), tell.clone());
        thread::spawn(move || to.send((at, connections(&tcp, &hosts))));
    }
    drop(tell);
    match failures.recv() {
        Ok((at, error)) => Err(failed(at, &error)),
        Err(_) => Ok(Exit::Yes.into()),
    }
}

fn failed(at: SocketAddr, error: &io::Error) -> Failure {
    Failure::new(Exit::No, format!("cannot answer at {at}: {error}"))
        .remedy("end whoever listens there, or give the host that address")
}

/// Answers datagrams, until that is not possible any more.
fn datagrams(socket: &UdpSocket, hosts: &Path) -> io::Error {
    let mut query = [0; 512];
    loop {
        let (length, from) = match socket.recv_from(&mut query) {
            Ok(received) => received,
            Err(error) => return error,
        };
        if let Some(answer) = answer(&query[..length], &read(hosts)) {
            // Who is gone by now needs no answer.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// Answers who connects, one after the other, until that is not possible any more.
fn connections(listener: &TcpListener, hosts: &Path) -> io::Error {
    loop {
        match listener.accept() {
            // Whatever becomes of one, there are others.
            Ok((stream, _)) => drop(connection(stream, hosts)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return error,
        }
    }
}

/// Answers one question after the other, each with its length in front (RFC 1035 section 4.2.2).
fn connection(mut stream: TcpStream, hosts: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        let Some(answer) = answer(&query, &read(hosts)) else { return Ok(()) };
        stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat())?;
    }
}

/// The file as it is now, so that a person can change it.
fn read(hosts: &Path) -> String {
    fs::read_to_string(hosts).unwrap_or_default()
}

/// The answer to a question by a file as hosts(5) has it; `None` to what is no question.
fn answer(query: &[u8], hosts: &str) -> Option<Vec<u8>> {
    const ANSWER: u8 = 0x80;
    const AUTHORITATIVE: u8 = 0x04;
    const WISHES_RECURSION: u8 = 0x01;
    const OPERATION: u8 = 0x78;
    let header = query.get(..12)?;
    if header[2] & ANSWER != 0 {
        return None;
    }
    let question = Question::parse(query).filter(|_| header[4..6] == [0, 1]);
    let (code, records) = match &question {
        _ if header[2] & OPERATION != 0 => (NOT_KNOWN, Vec::new()),
        None => (NOT_UNDERSTOOD, Vec::new()),
        Some(question) => match &addresses(hosts, &question.name)[..] {
            [] => (NO_SUCH_NAME, Vec::new()),
            found => (NO_ERROR, found.iter().filter(|it| question.asks(it)).copied().collect()),
        },
    };
    let asked = question.map_or(&[][..], |it| it.bytes);
    let mut answer = header[..2].to_vec();
    answer.push(ANSWER | AUTHORITATIVE | header[2] & (OPERATION | WISHES_RECURSION));
    answer.push(code);
    let counts = [u16::from(!asked.is_empty()), records.len() as u16, 0, 0];
    answer.extend(counts.into_iter().flat_map(u16::to_be_bytes));
    answer.extend(asked);
    records.into_iter().for_each(|address| push_record(&mut answer, address));
    Some(answer)
}

/// What is asked.
struct Question<'a> {
    name: String,
    kind: u16,
    bytes: &'a [u8],
}

impl<'a> Question<'a> {
    /// The first one behind the header.
    fn parse(query: &'a [u8]) -> Option<Self> {
        let all = query.get(12..)?;
        let (mut rest, mut labels) = (all, Vec::new());
        loop {
            let (length, after) = rest.split_first()?;
            // Two bits above mean something else than a label, which a question has no use for.
            let length = usize::from(*length);
            if length == 0 {
                rest = after;
                break;
            }
            let label = after.get(..length).filter(|_| length < 64)?;
            labels.push(String::from_utf8_lossy(label));
            rest = &after[length..];
        }
        let kind = u16::from_be_bytes(rest.get(..2)?.try_into().ok()?);
        let bytes = all.get(..all.len() - rest.len() + 4)?;
        Some(Self { name: labels.join("."), kind, bytes })
    }

    fn asks(&self, address: &IpAddr) -> bool {
        self.kind == if address.is_ipv4() { A } else { AAAA }
    }
}

/// The addresses of a name.
fn addresses(hosts: &str, name: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|it| it.eq_ignore_ascii_case(name)).then_some(address)
    };
    hosts.lines().filter_map(line).collect()
}

/// An address of the name that was asked for, for half a minute.
fn push_record(answer: &mut Vec<u8>, address: IpAddr) {
    /// A pointer to the question's name.
    const NAME: u16 = 0xc00c;
    const INTERNET: u16 = 1;
    const SECONDS: u32 = 30;
    let (kind, octets) = match address {
        IpAddr::V4(it) => (A, it.octets().to_vec()),
        IpAddr::V6(it) => (AAAA, it.octets().to_vec()),
    };
    answer.extend([NAME, kind, INTERNET].into_iter().flat_map(u16::to_be_bytes));
    answer.extend(SECONDS.to_be_bytes());
    answer.extend((octets.len() as u16).to_be_bytes());
    answer.extend(octets);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str =
        "# nodes\n192.0.2.11 node1 one # the first\n2001:db8:1::11 node1\nrubbish x\n";

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.as_bytes());
        }
        query.push(0);
        query.extend([kind, 1].into_iter().flat_map(u16::to_be_bytes));
        query
    }

    #[test]
    fn a_name_is_answered_by_its_addresses_of_that_family() {
        for (name, kind, end) in [
            ("node1", A, &[192, 0, 2, 11][..]),
            ("ONE", A, &[192, 0, 2, 11]),
            ("node1", AAAA, &[0, 0x11]),
        ] {
            let asked = query(name, kind);
            let answer = answer(&asked, HOSTS).unwrap();
            assert_eq!(answer[..4], [0x12, 0x34, 0x85, NO_ERROR]);
            assert_eq!(answer[4..12], [0, 1, 0, 1, 0, 0, 0, 0]);
            assert_eq!(answer[12..asked.len()], asked[12..]);
            assert!(answer.ends_with(end), "{answer:?}");
        }
        let other = answer(&query("one", AAAA), HOSTS).unwrap();
        assert_eq!((other[3], &other[6..8]), (NO_ERROR, &[0, 0][..]));
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_said() {
        for name in ["node2", "kubernetes.default.svc.cluster.local", "rubbish"] {
            assert_eq!(answer(&query(name, A), HOSTS).unwrap()[3], NO_SUCH_NAME);
        }
        let mut status = query("node1", A);
        status[2] |= 2 << 3;
        assert_eq!(answer(&status, HOSTS).unwrap()[3], NOT_KNOWN);
        let whole = query("node1", A);
        for length in 12..whole.len() {
            let answer = answer(&whole[..length], HOSTS).unwrap();
            assert_eq!((answer[3], answer.len()), (NOT_UNDERSTOOD, 12), "{length}");
        }
        assert_eq!(answer(&whole[..11], HOSTS), None);
        // Two resolvers that took each other's answers for questions would never end.
        let answered = answer(&whole, HOSTS).unwrap();
        assert_eq!(answer(&answered, HOSTS), None);
    }
}
