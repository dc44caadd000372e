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

/// A kind of sockets that the kernel is asked about at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transport {
    /// What `/proc/net/sockstat` and `sockstat6` call it.
    pub(crate) name: &'static str,
    family: u8,
    protocol: u8,
    states: u32,
}

impl Transport {
    /// Those that are told.
    pub(crate) const ALL: [Self; 4] = [
        Self::new("TCP", AF_INET, libc::IPPROTO_TCP, LISTEN),
        Self::new("TCP6", AF_INET6, libc::IPPROTO_TCP, LISTEN),
        Self::new("UDP", AF_INET, libc::IPPROTO_UDP, CLOSE),
        Self::new("UDP6", AF_INET6, libc::IPPROTO_UDP, CLOSE),
    ];

    const fn new(name: &'static str, family: u8, protocol: i32, states: u32) -> Self {
        Self { name, family, protocol: protocol as u8, states }
    }
}

/// Those of a namespace that are of one of the `wanted` kinds, in order. The kernel's tables are for
/// all namespaces, and it walks one of them for each kind.
pub(crate) fn listening(
    wanted: impl Iterator<Item = Transport>,
    mut open: impl FnMut() -> Result<Socket>,
) -> Result<Vec<Listening>> {
    let mut all = Vec::new();
    let mut socket = None;
    for Transport { family, protocol, states, .. } in wanted {
        let socket = match &mut socket {
            Some(socket) => socket,
            none => none.insert(open()?),
        };
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
