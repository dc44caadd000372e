//! The ends that hear and answer.
//!
//! Each place has a socket a protocol for it, apart from those that ask: what comes back for the one
//! never wakes the other. A thread of its own serves them all.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::net::sockopt;

use crate::Protocol;
use crate::responder::{LARGEST, Responder};
use crate::sockets::{self, wait};
use crate::wire::{self, Echo, SMALLEST};

/// The ports at which a place is asked; 0 where it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ends {
    /// That of datagrams.
    pub udp: u16,
    /// That of connections.
    pub tcp: u16,
}

impl Ends {
    /// Where to send by `protocol`.
    pub fn at(&self, address: IpAddr, protocol: Protocol) -> SocketAddr {
        let port = match protocol {
            Protocol::Icmp => 0,
            Protocol::Udp => self.udp,
            Protocol::Tcp => self.tcp,
        };
        SocketAddr::new(address, port)
    }
}

/// How a question arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sight {
    /// The address that it came from.
    pub source: IpAddr,
    /// The size of its IP packet, headers included.
    pub bytes: usize,
}

/// One socket that hears.
#[derive(Debug)]
enum Ear {
    Udp(Responder),
    Tcp(TcpListener),
    /// Hears the echo requests that the kernel answers.
    Raw(OwnedFd, IpAddr),
}

/// A connection that somebody has made.
#[derive(Debug)]
struct Talk {
    stream: TcpStream,
    peer: IpAddr,
    heard: Vec<u8>,
}

/// The ears of all places, and what they have heard.
#[derive(Debug)]
struct Ears {
    epoll: Arc<OwnedFd>,
    ears: Vec<Ear>,
    /// By number, which only rises.
    talks: HashMap<u64, Talk>,
    next: u64,
    seen: HashMap<u64, Sight>,
    buffer: Vec<u8>,
}

/// How an event tells a connection from an ear.
const TALK: u64 = 1 << 63;
/// The event that ends the thread.
const STOP: u64 = u64::MAX;

impl Ears {
    fn watch(&self, fd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(number);
        Ok(epoll::add(&*self.epoll, fd, data, epoll::EventFlags::IN)?)
    }

    /// Opens the ears of a place in the namespace of the calling thread.
    fn open(&mut self, address: IpAddr, protocols: &[Protocol]) -> io::Result<Ends> {
        let mut ends = Ends::default();
        let mut opened = Vec::new();
        for protocol in protocols {
            let ear = match protocol {
                Protocol::Icmp => {
                    let raw = sockets::raw(address, Echo::Request)?;
                    sockets::let_much_wait(raw.as_fd());
                    Ear::Raw(raw, address)
                }
                Protocol::Udp => {
                    let responder = Responder::open(SocketAddr::new(address, 0))?;
                    sockets::let_much_wait(responder.as_fd());
                    ends.udp = responder.address().port();
                    Ear::Udp(responder)
                }
                Protocol::Tcp => {
                    let listener = sockets::listen(address)?;
                    ends.tcp = listener.local_addr()?.port();
                    Ear::Tcp(listener)
                }
            };
            opened.push(ear);
        }
        for ear in opened {
            let fd = match &ear {
                Ear::Udp(responder) => responder.as_fd(),
                Ear::Tcp(listener) => listener.as_fd(),
                Ear::Raw(raw, _) => raw.as_fd(),
            };
            self.watch(fd, self.ears.len() as u64)?;
            self.ears.push(ear);
        }
        Ok(ends)
    }

    fn hear(&mut self, number: u64) {
        if number & TALK != 0 {
            self.talk(number);
            return;
        }
        let Self { ears, seen, buffer, .. } = self;
        match usize::try_from(number).ok().and_then(|number| ears.get(number)) {
            Some(Ear::Udp(responder)) => {
                responder.answer_telling(buffer, |token, sight| note(seen, token, sight));
            }
            Some(Ear::Raw(raw, address)) => {
                sockets::receive_all(raw.as_fd(), buffer, |packet, source| {
                    let is_ipv6 = address.is_ipv6();
                    if let Some(token) = wire::echoed(packet, is_ipv6, Echo::Request) {
                        let bytes = packet.len() + if is_ipv6 { 40 } else { 0 };
                        note(seen, token.token, Sight { source: source.ip(), bytes });
                    }
                });
            }
            Some(Ear::Tcp(_)) => self.accept(number as usize),
            None => {}
        }
    }

    /// Takes in those who have connected and said something.
    fn accept(&mut self, ear: usize) {
        /// A bound on who may be here at once.
        const MOST: usize = 8192;
        while let Some(Ear::Tcp(listener)) = self.ears.get(ear) {
            let Ok((stream, peer)) = listener.accept() else { return };
            // Without this, who is closed first would leave a connection behind for a minute.
            let reset = sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO));
            if reset.is_err() || stream.set_nonblocking(true).is_err() || self.talks.len() >= MOST {
                continue;
            }
            self.next += 1;
            let number = TALK | self.next;
            if self.watch(stream.as_fd(), number).is_ok() {
                let talk = Talk { stream, peer: peer.ip().to_canonical(), heard: Vec::new() };
                self.talks.insert(number, talk);
                self.talk(number);
            }
        }
    }

    /// Reads a question and answers it. The other end closes, by a reset.
    fn talk(&mut self, number: u64) {
        let Some(talk) = self.talks.get_mut(&number) else { return };
        let mut some = [0; SMALLEST];
        let ended = match talk.stream.read(&mut some) {
            Ok(0) => true,
            Ok(length) => {
                let before = talk.heard.len();
                talk.heard.extend(&some[..length]);
                let is_whole = before < SMALLEST && talk.heard.len() >= SMALLEST;
                is_whole && {
                    let question = &talk.heard[..SMALLEST];
                    match (wire::answer(question, talk.peer), wire::asked(question)) {
                        (Some(answer), Some(token)) => {
                            let bytes = SMALLEST + wire::headers(talk.peer);
                            let sight = Sight { source: talk.peer, bytes };
                            note(&mut self.seen, token.token, sight);
                            (&talk.stream).write_all(&answer).is_err()
                        }
                        _ => true,
                    }
                } || talk.heard.len() > SMALLEST
            }
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        if ended {
            self.talks.remove(&number);
        }
    }

    /// Serves what has arrived.
    fn turn(&mut self, events: &[epoll::Event]) {
        for event in events {
            self.hear(event.data.u64());
        }
    }
}

/// Of questions that arrive twice the first counts; a bound keeps strays from filling the memory.
fn note(seen: &mut HashMap<u64, Sight>, token: u64, sight: Sight) {
    const MOST: usize = 1 << 20;
    if seen.len() < MOST {
        seen.entry(token).or_insert(sight);
    }
}

/// Ears with the thread that serves them, which ends with this.
#[derive(Debug)]
pub(crate) struct Hearing {
    ears: Arc<Mutex<Ears>>,
    epoll: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Hearing {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let data = epoll::EventData::new_u64(STOP);
        epoll::add(&*epoll, &*stop, data, epoll::EventFlags::IN)?;
        let ears = Ears {
            epoll: Arc::clone(&epoll),
            ears: Vec::new(),
            talks: HashMap::new(),
            next: 0,
            seen: HashMap::new(),
            buffer: vec![0; LARGEST],
        };
        Ok(Self { ears: Arc::new(Mutex::new(ears)), epoll, stop, thread: None })
    }

    /// Opens the ears of a place in the namespace of the calling thread.
    pub(crate) fn open(&mut self, address: IpAddr, protocols: &[Protocol]) -> io::Result<Ends> {
        lock(&self.ears).open(address, protocols)
    }

    /// Begins to answer.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let (ears, epoll) = (Arc::clone(&self.ears), Arc::clone(&self.epoll));
        let serve = move || {
            loop {
                let events = wait(&epoll, None);
                if events.iter().any(|event| event.data.u64() == STOP) {
                    return;
                }
                lock(&ears).turn(&events);
            }
        };
        self.thread = Some(thread::Builder::new().name("ears".to_owned()).spawn(serve)?);
        Ok(())
    }

    /// What has been heard until now.
    pub(crate) fn seen(&self) -> HashMap<u64, Sight> {
        let mut ears = lock(&self.ears);
        // What has arrived may not have been looked at yet.
        loop {
            let events = wait(&self.epoll, Some(std::time::Duration::ZERO));
            ears.turn(&events);
            let is_news = |event: &epoll::Event| event.data.u64() & TALK == 0;
            if !events.iter().any(is_news) {
                return ears.seen.clone();
            }
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(ears: &Mutex<Ears>) -> MutexGuard<'_, Ears> {
    ears.lock().unwrap_or_else(PoisonError::into_inner)
}
