//! The end that answers.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::ears::Sight;
use crate::{sockets, wire};

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
        self.answer_telling(&mut vec![0; LARGEST], |_, _| {});
    }

    /// The same, and tells of each question's token and how it arrived. The buffer has room for the
    /// largest datagram.
    pub(crate) fn answer_telling(&self, buffer: &mut [u8], mut tell: impl FnMut(u64, Sight)) {
        sockets::receive_all(self.as_fd(), buffer, |datagram, source| {
            let heard = (wire::answer(datagram, source.ip()), wire::asked(datagram));
            if let (Some(answer), Some(token)) = heard {
                let bytes = datagram.len() + wire::headers(source.ip());
                tell(token.token, Sight { source: source.ip(), bytes });
                let _ = self.socket.send_to(&answer, source);
            }
        });
    }
}

impl AsFd for Responder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
