//! Ports of places at which we wait for a while, for what others lead there.
//!
//! A port is chosen by somebody else, and may be a program's: a program that listens there keeps it.
//! Connections are its own then, and nobody tells us who has come; datagrams it hears together with us.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::sockopt;

use crate::bystander::Bystander;
use crate::responder::{LARGEST, Responder};
use crate::{Failure, Place, Protocol, words};

/// How many are remembered of those who come to a port, and how many connections stay.
const MOST: usize = 64;

/// A port at which to listen.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    /// Where.
    pub place: Place<'a>,
    /// For what: connections or datagrams.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// Ports at which a thread of its own listens until this is dropped, or until the time is over.
///
/// To a datagram that asks, it answers as a [`Responder`] does. A connection it ends at once in good
/// order, by which whoever connects knows that it was seen here.
#[derive(Debug)]
pub struct Listening {
    opened: Vec<Result<bool, Failure>>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<Option<Vec<Vec<IpAddr>>>>>,
}

impl Listening {
    /// Listens at `ports`, for so long at most. A port that cannot be opened fails alone.
    ///
    /// # Errors
    ///
    /// If nobody can listen at all.
    pub fn open(ports: &[Port<'_>], time: Duration) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (mut opened, mut ears) = (Vec::new(), Vec::new());
        for port in ports {
            let ear = Ear::open(*port);
            opened.push(ear.as_ref().map(Option::is_some).map_err(Clone::clone));
            ears.push(ear.ok().flatten());
        }
        let stopped = Arc::clone(&stop);
        let listen = move || listen(ears, &stopped, time);
        let thread = Some(thread::Builder::new().name("listening".to_owned()).spawn(listen)?);
        Ok(Self { opened, stop, thread })
    }

    /// Of each port whether we hear who comes there; not, where connections are a program's.
    pub fn opened(&self) -> &[Result<bool, Failure>] {
        &self.opened
    }

    /// Closes the ports, and tells which addresses have come to each; `None` if the time was over
    /// before, so that others may have come.
    pub fn heard(mut self) -> Option<Vec<Vec<IpAddr>>> {
        self.end()
    }

    fn end(&mut self) -> Option<Vec<Vec<IpAddr>>> {
        let thread = self.thread.take()?;
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        thread.join().ok().flatten()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.end();
    }
}

/// What hears at a port.
enum Ear {
    /// Connections, with those that have come: who is closed before its other end has gone leaves
    /// something behind.
    Tcp(TcpListener, Vec<TcpStream>),
    /// Datagrams.
    Udp(Responder),
    /// Datagrams that are a program's.
    Beside(Bystander),
}

impl Ear {
    /// Opens an ear; none where connections are a program's.
    fn open(port: Port<'_>) -> Result<Option<Self>, Failure> {
        let address = port.place.address;
        let at = SocketAddr::new(address, port.port);
        let is_taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
        let open = || match port.protocol {
            Protocol::Udp => match Responder::open(at) {
                Err(error) if is_taken(&error) => Ok(Some(Self::Beside(Bystander::open(at)?))),
                opened => Ok(Some(Self::Udp(opened?))),
            },
            _ => match TcpListener::bind(at) {
                Err(error) if is_taken(&error) => Ok(None),
                opened => {
                    let listener = opened?;
                    listener.set_nonblocking(true)?;
                    Ok(Some(Self::Tcp(listener, Vec::new())))
                }
            },
        };
        let unusable = |reason: String| Failure::Unusable { address, reason };
        let opened = port.place.netns.enter(open).map_err(|error| unusable(error.to_string()))?;
        opened.map_err(|error| unusable(words(&error)))
    }

    /// Takes in what has come, and returns at once.
    fn hear(&mut self, buffer: &mut [u8], heard: &mut Vec<IpAddr>) {
        let mut note = |source: IpAddr| {
            if heard.len() < MOST && !heard.contains(&source) {
                heard.push(source);
            }
        };
        match self {
            Self::Udp(responder) => {
                responder.answer_telling(buffer, |_, sight| note(sight.source));
            }
            Self::Beside(bystander) => bystander.answer_telling(buffer, note),
            Self::Tcp(listener, streams) => {
                while let Ok((stream, peer)) = listener.accept() {
                    note(peer.ip());
                    // Once the other end has reset it there is nothing left to be closed.
                    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
                    if streams.len() < MOST && stream.shutdown(std::net::Shutdown::Write).is_ok() {
                        streams.push(stream);
                    }
                }
            }
        }
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener, _) => listener.as_fd(),
            Self::Udp(responder) => responder.as_fd(),
            Self::Beside(bystander) => bystander.as_fd(),
        }
    }
}

/// Serves the ears until it is told to stop; `None` if the time was over before.
fn listen(mut ears: Vec<Option<Ear>>, stop: &OwnedFd, time: Duration) -> Option<Vec<Vec<IpAddr>>> {
    let start = Instant::now();
    let mut heard = vec![Vec::new(); ears.len()];
    let mut buffer = vec![0; LARGEST];
    loop {
        let left = Timespec::try_from(time.checked_sub(start.elapsed())?).ok();
        let mut events = vec![PollFd::new(stop, PollFlags::IN)];
        events.extend(ears.iter().flatten().map(|ear| PollFd::new(ear, PollFlags::IN)));
        // A signal only makes us look again.
        let _ = poll(&mut events, left.as_ref());
        let is_over = events[0].revents().contains(PollFlags::IN);
        for (ear, heard) in ears.iter_mut().zip(&mut heard) {
            if let Some(ear) = ear {
                ear.hear(&mut buffer, heard);
            }
        }
        if is_over {
            return Some(heard);
        }
    }
}
