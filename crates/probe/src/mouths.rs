//! The ends that ask: questions on their way, and what becomes of each.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use kernel::probing::{self, PathError};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};

use crate::ears::Sight;
use crate::responder::LARGEST;
use crate::sockets::{self, wait};
use crate::wire::{self, Echo, SMALLEST, Token};
use crate::{Failure, Icmp, Limits, Protocol, Shape};

/// A question of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Query {
    /// The place, by its number.
    pub from: usize,
    /// Where it is answered. Of the same family.
    pub to: SocketAddr,
    /// How it travels.
    pub protocol: Protocol,
    /// What it looks like.
    pub shape: Shape,
    /// What tells it from all others, and is hard to guess.
    pub token: u64,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The address that it came from.
    pub from: IpAddr,
    /// How the question arrived; none for an echo, which the kernel of the other end answers.
    pub seen: Option<Sight>,
    /// From the sending of the question to the arrival of its answer.
    pub rtt: Duration,
}

/// The sockets of a place that ask by datagrams and echoes.
#[derive(Debug)]
pub(crate) struct Mouth {
    address: IpAddr,
    udp: Option<Open<UdpSocket>>,
    raw: Option<Open<OwnedFd>>,
}

/// A socket, and whether its packets are kept whole, as far as that was said.
#[derive(Debug)]
struct Open<T> {
    socket: T,
    whole: Option<bool>,
}

/// A connection that is made.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    query: usize,
    is_asked: bool,
    heard: Vec<u8>,
}

/// A question on its way.
#[derive(Debug)]
struct Asked {
    /// When each attempt was sent.
    sent: Vec<Instant>,
    client: Option<u64>,
}

/// How an event tells a connection from a socket of a place.
const CLIENT: u64 = 1 << 63;

/// All ends that ask.
#[derive(Debug)]
pub(crate) struct Mouths {
    epoll: OwnedFd,
    mouths: Vec<Mouth>,
    buffer: Vec<u8>,
}

/// One round of questions.
pub(crate) struct Round<'a> {
    mouths: &'a mut Mouths,
    queries: &'a [Query],
    limits: Limits,
    by_token: HashMap<u64, usize>,
    asked: HashMap<usize, Asked>,
    /// By number, which only rises.
    clients: HashMap<u64, Client>,
    next: u64,
    /// In the order in which they are due.
    again: VecDeque<(Instant, usize)>,
    late: VecDeque<(Instant, usize)>,
    done: Vec<(usize, Result<Reply, Failure>)>,
}

impl Mouths {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, mouths: Vec::new(), buffer: vec![0; LARGEST] })
    }

    /// One more place, whose number is that of those before.
    pub(crate) fn add(&mut self, address: IpAddr) {
        self.mouths.push(Mouth { address, udp: None, raw: None });
    }

    /// Opens what a place needs to ask by `protocol`, in the namespace of the calling thread.
    pub(crate) fn open(&mut self, place: usize, protocol: Protocol) -> io::Result<()> {
        let Some(mouth) = self.mouths.get_mut(place) else { return Ok(()) };
        let address = mouth.address;
        let watch = |socket: BorrowedFd<'_>, number: usize| -> io::Result<()> {
            probing::tell_errors(socket, address.is_ipv6()).map_err(io::Error::other)?;
            sockets::let_much_wait(socket);
            let data = epoll::EventData::new_u64(number as u64);
            Ok(epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?)
        };
        match protocol {
            Protocol::Udp if mouth.udp.is_none() => {
                let socket = sockets::datagrams(address)?;
                watch(socket.as_fd(), place * 2)?;
                mouth.udp = Some(Open { socket, whole: None });
            }
            Protocol::Icmp if mouth.raw.is_none() => {
                let socket = sockets::raw(address, Echo::Reply)?;
                watch(socket.as_fd(), place * 2 + 1)?;
                mouth.raw = Some(Open { socket, whole: None });
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn round<'a>(&'a mut self, queries: &'a [Query], limits: Limits) -> Round<'a> {
        // Whatever is asked for, questions are not sent as fast as a loop can run.
        let again = limits.again.max(Duration::from_millis(1));
        Round {
            mouths: self,
            queries,
            limits: Limits { again, ..limits },
            by_token: queries.iter().enumerate().map(|(place, it)| (it.token, place)).collect(),
            asked: HashMap::new(),
            clients: HashMap::new(),
            next: 0,
            again: VecDeque::new(),
            late: VecDeque::new(),
            done: Vec::new(),
        }
    }
}

impl Round<'_> {
    /// How many questions wait for an answer.
    pub(crate) fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// Whether nothing waits for an answer, and all that has come was told.
    pub(crate) fn is_over(&self) -> bool {
        self.asked.is_empty() && self.done.is_empty()
    }

    /// Opens what a place needs to ask by `protocol`, in the namespace of the calling thread.
    pub(crate) fn open(&mut self, place: usize, protocol: Protocol) -> io::Result<()> {
        self.mouths.open(place, protocol)
    }

    /// Sends a question. One that connects brings a socket of its place.
    pub(crate) fn ask(&mut self, query: usize, client: Option<OwnedFd>) {
        let now = Instant::now();
        self.asked.insert(query, Asked { sent: Vec::new(), client: None });
        self.late.push_back((now + self.limits.patience, query));
        match client {
            Some(socket) => self.connect(query, socket, now),
            None => {
                self.again.push_back((now + self.limits.again, query));
                self.send(query, now);
            }
        }
    }

    fn connect(&mut self, query: usize, socket: OwnedFd, now: Instant) {
        if let Some(asked) = self.asked.get_mut(&query) {
            asked.sent.push(now);
        }
        match rustix::net::connect(&socket, &self.queries[query].to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return self.finish(query, Err(Failure::errno(error.raw_os_error()))),
        }
        self.next += 1;
        let number = CLIENT | self.next;
        // On this machine the handshake is over by now, or refused.
        let is_asked = match say(&socket, self.queries[query].token) {
            Ok(is_asked) => is_asked,
            Err(error) => return self.finish(query, Err(told(&socket, error))),
        };
        let client = Client { socket, query, is_asked, heard: Vec::new() };
        let wanted = wanted(client.is_asked);
        let data = epoll::EventData::new_u64(number);
        match epoll::add(&self.mouths.epoll, &client.socket, data, wanted) {
            Ok(()) => {
                self.clients.insert(number, client);
                if let Some(asked) = self.asked.get_mut(&query) {
                    asked.client = Some(number);
                }
            }
            Err(error) => self.finish(query, Err(Failure::errno(error.raw_os_error()))),
        }
    }

    fn send(&mut self, query: usize, now: Instant) {
        let Query { from, to, protocol, shape, token } = self.queries[query];
        let Some(asked) = self.asked.get_mut(&query) else { return };
        let token = Token { token, attempt: asked.sent.len() as u32 };
        asked.sent.push(now);
        let Some(mouth) = self.mouths.mouths.get_mut(from) else { return };
        let is_ipv6 = to.is_ipv6();
        let (socket, whole, bytes) = match protocol {
            Protocol::Udp => {
                let Some(open) = &mut mouth.udp else { return };
                let bytes = wire::question(token, shape.bytes, to.ip());
                (open.socket.as_fd(), &mut open.whole, bytes)
            }
            _ => {
                let Some(open) = &mut mouth.raw else { return };
                let bytes = wire::echo(token, shape.bytes, to.ip());
                (open.socket.as_fd(), &mut open.whole, bytes)
            }
        };
        if *whole != Some(shape.dont_fragment) {
            match probing::keep_whole(socket, is_ipv6, shape.dont_fragment) {
                Ok(()) => *whole = Some(shape.dont_fragment),
                Err(error) => {
                    let reason = error.to_string();
                    let address = mouth.address;
                    return self.finish(query, Err(Failure::Unusable { address, reason }));
                }
            }
        }
        let (sent, errors) = send(socket, &bytes, to);
        // The kernel's own word on this packet is the last.
        let own = errors.iter().rev().find(|it| it.by.is_none() && it.to == Some(to.ip())).cloned();
        for error in errors.into_iter().filter(|it| it.by.is_some()) {
            self.blame(from, protocol, &error);
        }
        match sent {
            Ok(()) => {}
            Err(Errno::MSGSIZE) => {
                let mtu = own.and_then(|it| it.mtu);
                self.finish(query, Err(Failure::TooLarge { mtu, by: None }));
            }
            // The place's address is gone.
            Err(Errno::INVAL | Errno::ADDRNOTAVAIL) => self.gone(query, from),
            Err(error) => self.finish(query, Err(Failure::errno(error.raw_os_error()))),
        }
    }

    fn gone(&mut self, query: usize, from: usize) {
        let address = self.mouths.mouths[from].address;
        let reason = "it is no longer there".to_owned();
        self.finish(query, Err(Failure::Unusable { address, reason }));
    }

    /// Waits until something happens, at most so long or until the next question is due, and returns
    /// what has become of questions.
    pub(crate) fn turn(&mut self, most: Duration) -> Vec<(usize, Result<Reply, Failure>)> {
        let now = Instant::now();
        // Those that are done need no more.
        for queue in [&mut self.again, &mut self.late] {
            while queue.front().is_some_and(|(_, query)| !self.asked.contains_key(query)) {
                queue.pop_front();
            }
        }
        let due = [&self.again, &self.late].into_iter().filter_map(|it| it.front()).map(|it| it.0);
        let patience = due.min().map(|due| due.saturating_duration_since(now));
        let patience = if self.done.is_empty() { patience } else { Some(Duration::ZERO) };
        let patience = patience.unwrap_or(most).min(most);
        if !self.asked.is_empty() {
            for event in wait(&self.mouths.epoll, Some(patience)) {
                self.hear(event.data.u64());
            }
        }
        let now = Instant::now();
        while let Some((_, query)) = self.again.pop_front_if(|(due, _)| *due <= now) {
            if self.asked.contains_key(&query) {
                self.again.push_back((now + self.limits.again, query));
                self.send(query, now);
            }
        }
        while let Some((_, query)) = self.late.pop_front_if(|(due, _)| *due <= now) {
            self.finish(query, Err(Failure::TimedOut(self.limits.patience)));
        }
        std::mem::take(&mut self.done)
    }

    fn finish(&mut self, query: usize, result: Result<Reply, Failure>) {
        if let Some(asked) = self.asked.remove(&query) {
            if let Some(client) = asked.client {
                self.clients.remove(&client);
            }
            self.done.push((query, result));
        }
    }

    fn hear(&mut self, number: u64) {
        if number & CLIENT != 0 {
            return self.hear_client(number);
        }
        let place = (number / 2) as usize;
        let is_raw = number % 2 == 1;
        let Some(mouth) = self.mouths.mouths.get(place) else { return };
        let socket = match (&mouth.udp, &mouth.raw) {
            (_, Some(open)) if is_raw => open.socket.as_fd(),
            (Some(open), _) if !is_raw => open.socket.as_fd(),
            _ => return,
        };
        let is_ipv6 = mouth.address.is_ipv6();
        let mut replies = Vec::new();
        sockets::receive_all(socket, &mut self.mouths.buffer, |packet, source| {
            if is_raw {
                let token = wire::echoed(packet, is_ipv6, Echo::Reply);
                replies.extend(token.map(|token| (token, source.ip(), None)));
            } else if let Some(seen) = wire::seen(packet) {
                let sight = Sight { source: seen.source, bytes: seen.bytes };
                replies.push((seen.token, source.ip(), Some(sight)));
            }
        });
        let mut errors = Vec::new();
        while let Some(error) = probing::path_error(socket) {
            errors.push(error);
        }
        let protocol = if is_raw { Protocol::Icmp } else { Protocol::Udp };
        let now = Instant::now();
        for (token, from, seen) in replies {
            let Some(query) = self.by_token.get(&token.token).copied() else { continue };
            let is_its = self.queries[query].from == place;
            let sent = self.asked.get(&query).and_then(|it| it.sent.get(token.attempt as usize));
            if let Some(sent) = sent.filter(|_| is_its && self.queries[query].protocol == protocol)
            {
                let rtt = now.saturating_duration_since(*sent);
                self.finish(query, Ok(Reply { from, seen, rtt }));
            }
        }
        for error in errors {
            self.blame(place, protocol, &error);
        }
    }

    /// Tells the question whose packet has caused it of an error: by what came back of the packet, or
    /// by where it was sent, if too little came back.
    fn blame(&mut self, from: usize, protocol: Protocol, error: &PathError) {
        let quoted = match protocol {
            Protocol::Icmp => error.quoted.get(wire::ECHO_HEADER..).unwrap_or_default(),
            _ => &error.quoted,
        };
        let is_meant = |query: &usize| {
            let it = &self.queries[*query];
            it.from == from && it.protocol == protocol && Some(it.to.ip()) == error.to
        };
        let known = wire::asked(quoted).and_then(|token| self.by_token.get(&token.token).copied());
        let meant: Vec<usize> = match known {
            Some(query) => Vec::from_iter(Some(query).filter(|it| self.asked.contains_key(it))),
            None => self.asked.keys().copied().filter(is_meant).collect(),
        };
        for query in meant {
            // IPv6 is fragmented by its sender only (RFC 8200 section 5), whom the first packet has
            // now taught to do so.
            let is_size = error.errno == Errno::MSGSIZE.raw_os_error();
            if !is_size || self.queries[query].shape.dont_fragment {
                self.finish(query, Err(failure(error)));
            }
        }
    }

    fn hear_client(&mut self, number: u64) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let query = client.query;
        let token = self.queries[query].token;
        match advance(client, token) {
            Ok(None) => {
                let data = epoll::EventData::new_u64(number);
                let _ = epoll::modify(
                    &self.mouths.epoll,
                    &client.socket,
                    data,
                    wanted(client.is_asked),
                );
            }
            Ok(Some(sight)) => {
                let sent = self.asked.get(&query).and_then(|asked| asked.sent.first());
                let rtt = sent.map(Instant::elapsed).unwrap_or_default();
                let from = self.queries[query].to.ip();
                self.finish(query, Ok(Reply { from, seen: Some(sight), rtt }));
            }
            Err(error) => {
                let failure = told(&client.socket, error);
                self.finish(query, Err(failure));
            }
        }
    }
}

/// What a connection waits for.
fn wanted(is_asked: bool) -> epoll::EventFlags {
    if is_asked { epoll::EventFlags::IN } else { epoll::EventFlags::OUT }
}

/// Sends the question, as soon as there is a connection.
fn say(socket: &OwnedFd, token: u64) -> Result<bool, Errno> {
    let question = wire::question(Token { token, attempt: 0 }, 0, IpAddr::from([0, 0, 0, 0]));
    match rustix::net::send(socket, &question, SendFlags::NOSIGNAL) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Goes on with a connection, up to the answer.
fn advance(client: &mut Client, token: u64) -> Result<Option<Sight>, Errno> {
    if !client.is_asked {
        sockopt::socket_error(&client.socket)??;
        client.is_asked = say(&client.socket, token)?;
        return Ok(None);
    }
    let mut some = [0; SMALLEST];
    match rustix::net::recv(&client.socket, &mut some[..], RecvFlags::empty()) {
        // It was closed without an answer: whoever listens there is not ours.
        Ok((_, 0)) => return Err(Errno::CONNRESET),
        Ok((_, length)) => client.heard.extend(&some[..length]),
        Err(Errno::AGAIN) => {}
        Err(error) => return Err(error),
    }
    if client.heard.len() < SMALLEST {
        return Ok(None);
    }
    let seen = wire::seen(&client.heard).filter(|it| it.token.token == token);
    let sight = seen.map(|it| Sight { source: it.source, bytes: it.bytes });
    sight.map_or(Err(Errno::CONNRESET), |sight| Ok(Some(sight)))
}

/// Sends a packet. What earlier packets have caused is reported by the next call of a socket; that is
/// taken off its queue and returned, and the packet is sent all the same.
fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    to: SocketAddr,
) -> (Result<(), Errno>, Vec<PathError>) {
    const TRIES: usize = 4;
    let mut errors = Vec::new();
    let mut last = Ok(());
    for _ in 0..TRIES {
        match rustix::net::sendto(socket, bytes, SendFlags::empty(), &to) {
            // No room in a queue: as good as lost on the way.
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => return (Ok(()), errors),
            Err(error) => last = Err(error),
        }
        let before = errors.len();
        while let Some(error) = probing::path_error(socket) {
            errors.push(error);
        }
        if errors[before..].iter().all(|error| error.by.is_none()) {
            break;
        }
    }
    (last, errors)
}

/// Why a connection failed: a reset, or an ICMP message that the kernel has kept.
fn told(socket: &OwnedFd, error: Errno) -> Failure {
    let errno = error.raw_os_error();
    let told = probing::path_error(socket.as_fd()).filter(|it| it.errno == errno);
    told.map_or_else(|| Failure::errno(errno), |it| failure(&it))
}

fn failure(error: &PathError) -> Failure {
    if error.errno == Errno::MSGSIZE.raw_os_error() {
        return Failure::TooLarge { mtu: error.mtu, by: error.by.map(|(from, ..)| from) };
    }
    let by = error.by.map(|(from, kind, code)| Icmp { from, kind, code });
    Failure::Unreachable { errno: error.errno, by }
}
