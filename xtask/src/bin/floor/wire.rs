//! Netlink with nothing around it: bytes out, bytes in.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

pub(crate) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// A socket of a netlink `protocol` that hears of `groups`.
    pub(crate) fn open(protocol: u32, groups: u32) -> io::Result<Self> {
        let protocol = std::num::NonZeroU32::new(protocol).map(Protocol::from_raw);
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { fd, buffer: vec![0; 32 * 1024] })
    }

    /// Sends messages of which the last asks for an acknowledgement or is a dump. Returns the
    /// payload of the first answer, if there is one.
    pub(crate) fn request(&mut self, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let to = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &to)?;
        let mut answer = None;
        loop {
            let length = self.receive()?;
            let mut rest = &self.buffer[..length];
            while rest.len() >= HEADER {
                let length = u32_at(rest, 0) as usize;
                let payload = &rest[HEADER..length];
                match u16::from_ne_bytes([rest[4], rest[5]]) {
                    NLMSG_ERROR => match u32_at(payload, 0) as i32 {
                        0 => return Ok(answer),
                        code => return Err(io::Error::from_raw_os_error(-code)),
                    },
                    NLMSG_DONE => return Ok(answer),
                    _ => {
                        answer.get_or_insert_with(|| payload.to_vec());
                    }
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    /// Sends a transaction, however large, that asks for one acknowledgement.
    pub(crate) fn transact(&mut self, bytes: &[u8]) -> io::Result<()> {
        rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, bytes.len() + 0x10000)?;
        self.request(bytes).map(drop)
    }

    /// Waits for whatever comes next.
    pub(crate) fn receive(&mut self) -> io::Result<usize> {
        Ok(rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::empty())?.1)
    }
}

/// One message. The sequence number is nobody's business where one request is under way at a time.
pub(crate) fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = HEADER + payload.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | REQUEST).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    bytes
}

/// Has a message be acknowledged: in a datagram the last one, because the kernel tells of what it
/// refuses in any case.
pub(crate) fn acknowledged(message: &mut [u8]) {
    let flags = u16::from_ne_bytes([message[6], message[7]]) | ACK;
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
}

/// One attribute.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// An attribute that holds attributes.
pub(crate) fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | 0x8000, &parts.concat())
}

/// An attribute that holds a text.
pub(crate) fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), b"\0"].concat())
}

/// The value of an attribute behind a header of `skip` bytes.
pub(crate) fn find(payload: &[u8], skip: usize, wanted: u16) -> Option<&[u8]> {
    let mut rest = payload.get(skip..)?;
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        if u16::from_ne_bytes([rest[2], rest[3]]) == wanted {
            return rest.get(4..length);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
