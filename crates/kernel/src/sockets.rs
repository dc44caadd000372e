//! Sockets that wait for others, by `sock_diag` (include/uapi/linux/inet_diag.h): the kernel walks
//! only those that listen, where the tables below `/proc/net` have every connection in them.

use std::net::IpAddr;

use crate::error::{ErrorKind, Result};
use crate::netlink::Socket;
use crate::rtnetlink::{AF_INET, AF_INET6, ip};

/// A socket that waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listening {
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub protocol: u8,
    /// Where.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `TCP_LISTEN`, and `TCP_CLOSE`, in which are the sockets of UDP that have no peer.
const LISTEN: u32 = 1 << 10;
const CLOSE: u32 = 1 << 7;

/// `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// `struct inet_diag_msg`: family and state, timer, retransmissions, then the socket's identity.
const MESSAGE: usize = 72;

/// All of a namespace, in order.
pub(crate) fn listening(socket: &mut Socket) -> Result<Vec<Listening>> {
    let mut all = Vec::new();
    for (protocol, states) in [(libc::IPPROTO_TCP as u8, LISTEN), (libc::IPPROTO_UDP as u8, CLOSE)]
    {
        for family in [AF_INET, AF_INET6] {
            let mut request = [0; REQUEST];
            request[0] = family;
            request[1] = protocol;
            request[4..8].copy_from_slice(&states.to_ne_bytes());
            let answer = socket.dump(BY_FAMILY, &request, |message| {
                all.extend(parse(message.payload, protocol));
            });
            match answer {
                // A kernel without inet_diag, or without one of the protocols.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                answer => answer?,
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn parse(payload: &[u8], protocol: u8) -> Option<Listening> {
    let message = payload.get(..MESSAGE)?;
    let length = if message[0] == AF_INET { 4 } else { 16 };
    let port = u16::from_be_bytes([message[4], message[5]]);
    let address = ip(&message[8..8 + length])?;
    // One without a port waits for nothing.
    (port != 0).then_some(Listening { protocol, address, port })
}
