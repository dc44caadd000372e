//! The end that answers.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::wire;

/// The largest datagram there is.
pub(crate) const LARGEST: usize = 65_535;

/// Answers questions with the source address and the size that it saw, from the very address that
/// was asked.
///
/// It has no thread: its owner waits until the descriptor is readable and calls
/// [`Responder::answer`].
#[derive(Debug)]
pub struct Responder {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Responder {
    /// Listens at `address` in the namespace of the calling thread; port 0 takes a free one.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers the questions that have arrived, and returns at once. An answer that cannot be sent
    /// is lost, as it could be on the way.
    pub fn answer(&self) {
        // A bound, so that a flood of questions keeps nobody here.
        const AT_MOST: usize = 64;
        let mut datagram = vec![0; LARGEST];
        for _ in 0..AT_MOST {
            let (length, source) = match self.socket.recv_from(&mut datagram) {
                Ok(received) => received,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => continue,
            };
            if let Some(answer) = wire::answer(&datagram[..length], source.ip()) {
                let _ = self.socket.send_to(&answer, source);
            }
        }
    }

    pub(crate) fn open_any_port(address: IpAddr) -> io::Result<Self> {
        Self::open(SocketAddr::new(address, 0))
    }
}

impl AsFd for Responder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
