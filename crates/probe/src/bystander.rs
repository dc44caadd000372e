//! The end that answers where a program listens already.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::{sockets, wire};

/// Hears the questions that arrive at a port which is somebody else's, and answers them as that
/// program's answers would leave. The program gets each question as well, as a datagram that says
/// nothing to it, and nothing is kept from it.
///
/// As with a [`Responder`](crate::Responder), its owner has to call [`Bystander::answer_telling`].
#[derive(Debug)]
pub(crate) struct Bystander {
    raw: OwnedFd,
    address: SocketAddr,
}

impl Bystander {
    /// Listens beside whoever listens at `address`, in the namespace of the calling thread.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { raw: sockets::raw_datagrams(address.ip())?, address })
    }

    /// Answers the questions that have arrived, tells from where each came, and returns at once. The
    /// buffer has room for the largest datagram.
    pub(crate) fn answer_telling(&self, buffer: &mut [u8], mut tell: impl FnMut(IpAddr)) {
        sockets::receive_all(self.as_fd(), buffer, |packet, source| {
            let heard = wire::datagram(packet, source.is_ipv6());
            let Some((from, to, datagram)) = heard else { return };
            let asker = SocketAddr::new(source.ip(), from);
            if to != self.address.port() {
                return;
            }
            if let Some(answer) = wire::answer(datagram, source.ip()) {
                tell(source.ip());
                let packet = wire::with_header(self.address, asker, &answer);
                let target = SocketAddr::new(source.ip(), 0);
                let flags = rustix::net::SendFlags::empty();
                let _ = rustix::net::sendto(&self.raw, &packet, flags, &target);
            }
        });
    }
}

impl AsFd for Bystander {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}
