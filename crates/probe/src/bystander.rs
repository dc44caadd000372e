//! The end that answers where a program listens already.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use crate::responder::LARGEST;
use crate::{sockets, wire};

/// Hears the questions that arrive at a port which is somebody else's, and answers them as that
/// program's answers would leave. The program gets each question as well, as a datagram that says
/// nothing to it, and nothing is kept from it.
///
/// As with a [`Responder`](crate::Responder), its owner has to call [`Bystander::answer`].
#[derive(Debug)]
pub struct Bystander {
    raw: OwnedFd,
    address: SocketAddr,
}

impl Bystander {
    /// Listens beside whoever listens at `address`, in the namespace of the calling thread.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { raw: sockets::raw_datagrams(address.ip())?, address })
    }

    /// Answers the questions that have arrived, and returns at once.
    pub fn answer(&self) {
        sockets::receive_all(self.raw.as_fd(), &mut vec![0; LARGEST], |packet, source| {
            let heard = wire::datagram(packet, source.is_ipv6());
            let Some((from, to, datagram)) = heard else { return };
            let asker = SocketAddr::new(source.ip(), from);
            if to != self.address.port() {
                return;
            }
            if let Some(answer) = wire::answer(datagram, source.ip()) {
                let packet = wire::with_header(self.address, asker, &answer);
                let target = SocketAddr::new(source.ip(), 0);
                let flags = rustix::net::SendFlags::empty();
                let _ = rustix::net::sendto(&self.raw, &packet, flags, &target);
            }
        });
    }
}
