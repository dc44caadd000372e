//! A synchronous netlink socket: requests with acknowledgement, dumps, events.
//!
//! It knows the envelope (`struct nlmsghdr`, include/uapi/linux/netlink.h) and nothing of what is
//! inside. Strict checking is on, so that the kernel refuses what it does not understand, and
//! extended acknowledgements are on, so that it says why.

mod batch;
mod filter;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink,
    sockopt,
};

pub(crate) use self::batch::unanswered;
use crate::error::{Error, Result};

/// The netlink families that podwire speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Links, addresses, routes, rules, neighbours, queues.
    Route = 0,
    /// Sockets.
    Diagnosis = 4,
    /// nftables and conntrack.
    Netfilter = 12,
}

/// Bits of `nlmsg_flags`.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const MULTI: u16 = 0x2;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCLUSIVE: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
    /// In an acknowledgement: attributes follow (`NLM_F_ACK_TLVS`).
    const ACK_TLVS: u16 = 0x200;
    /// In an acknowledgement: the request is not repeated (`NLM_F_CAPPED`).
    const CAPPED: u16 = 0x100;

    pub(super) fn has_attributes(flags: u16) -> bool {
        flags & ACK_TLVS != 0
    }

    pub(super) fn is_capped(flags: u16) -> bool {
        flags & CAPPED != 0
    }
}

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// How long the kernel may take to answer. It answers inside the send call, so anything near this
/// is a kernel in trouble.
const PATIENCE: Duration = Duration::from_secs(10);
/// A dump that keeps being interrupted is tried this often before it is given up.
const DUMP_TRIES: usize = 10;
/// The kernel fills at most 32 KiB a datagram of a dump, given a reader that offers that much.
const BUFFER: usize = 32 * 1024;
/// What is tried, in errors.
const RECEIVE: &str = "receive from netlink";

/// One netlink socket, bound to the namespace that it was opened in.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message as it came: its type and what follows the header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

impl Socket {
    /// Opens a socket in the namespace of the calling thread.
    pub(crate) fn open(protocol: Protocol) -> Result<Self> {
        let what = || format!("open a netlink socket ({protocol:?})");
        let number =
            std::num::NonZeroU32::new(protocol as u32).map(rustix::net::Protocol::from_raw);
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            number,
        )
        .map_err(|e| Error::errno(what(), e.raw_os_error(), None))?;
        let socket = Self { fd, sequence: 0, buffer: vec![0; BUFFER] };
        socket.set_option(libc::NETLINK_EXT_ACK).map_err(|e| Error::io(what(), &e))?;
        socket.set_option(libc::NETLINK_CAP_ACK).map_err(|e| Error::io(what(), &e))?;
        if protocol == Protocol::Route {
            socket.set_option(libc::NETLINK_GET_STRICT_CHK).map_err(|e| Error::io(what(), &e))?;
        }
        rustix::net::bind(&socket.fd, &SocketAddrNetlink::new(0, 0))
            .map_err(|e| Error::errno(what(), e.raw_os_error(), None))?;
        Ok(socket)
    }

    /// Joins multicast `groups` (`RTNLGRP_*`, `NFNLGRP_*`), so that [`Socket::event`] and
    /// [`Socket::take`] have something to say.
    pub(crate) fn subscribe(&mut self, groups: &[u32]) -> Result<()> {
        for group in groups {
            self.set_option_value(libc::NETLINK_ADD_MEMBERSHIP, *group as libc::c_int)
                .map_err(|e| Error::io("subscribe to netlink events", &e))?;
        }
        Ok(())
    }

    /// Leaves a multicast group: what happens from here on is not told.
    pub(crate) fn leave(&self, group: u32) -> Result<()> {
        self.set_option_value(libc::NETLINK_DROP_MEMBERSHIP, group as libc::c_int)
            .map_err(|e| Error::io("leave netlink events", &e))
    }

    /// The same socket by a second descriptor.
    pub(crate) fn twin(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(|e| Error::io("share a netlink socket", &e))?;
        Ok(Self { fd, sequence: 0, buffer: Vec::new() })
    }

    /// Lets `length` bytes of messages wait to be read, or as many as this process is allowed.
    pub(crate) fn let_wait(&self, length: usize) {
        let _ = sockopt::set_socket_recv_buffer_size_force(&self.fd, length)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&self.fd, length));
    }

    /// Sends one request and waits for its acknowledgement. `answer` sees every message that the
    /// kernel sends before it.
    pub(crate) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        answer: impl FnMut(Message<'_>),
    ) -> Result<()> {
        self.converse(kind, flags | flag::REQUEST | flag::ACK, payload, answer)
    }

    /// Asks for one object, which is the answer itself: no acknowledgement follows it.
    pub(crate) fn get(
        &mut self,
        kind: u16,
        payload: &[u8],
        answer: impl FnMut(Message<'_>),
    ) -> Result<()> {
        self.converse(kind, flag::REQUEST, payload, answer)
    }

    /// Sends one message and waits for the end of the answer: an acknowledgement where one was
    /// asked for, else the first message.
    fn converse(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        mut answer: impl FnMut(Message<'_>),
    ) -> Result<()> {
        let sequence = self.next_sequences(1);
        self.send(&frame(kind, flags, sequence, payload))?;
        loop {
            let done = self.receive(PATIENCE, |header, message| {
                if header.sequence != sequence {
                    return None;
                }
                match message.kind {
                    NLMSG_ERROR => Some(acknowledgement(header.flags, message.payload)),
                    _ => {
                        answer(message);
                        (flags & flag::ACK == 0).then_some(Ok(()))
                    }
                }
            })?;
            if let Some(result) = done {
                return result;
            }
        }
    }

    /// Sets `count` sequence numbers aside for [`Socket::transact`] and returns the first.
    pub(crate) fn next_sequences(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// Reads all of a table. A dump that a change interrupted, or that overran the socket's
    /// buffer, is asked for again, so that what is returned is one consistent picture.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> Result<()> {
        // One piece of memory for all of it: a large table has thousands of small messages.
        let mut bytes = Vec::new();
        for _ in 0..DUMP_TRIES {
            bytes.clear();
            let keep = |message: Message<'_>| {
                push_frame(&mut bytes, message.kind, 0, 0, message.payload);
            };
            match self.dump_once(kind, payload, keep) {
                Ok(true) => {
                    let mut rest = &bytes[..];
                    while let Some((header, payload, next)) = split(rest) {
                        each(Message { kind: header.kind, payload });
                        rest = next;
                    }
                    return Ok(());
                }
                Ok(false) => {}
                Err(error) if error.raw_errno() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::errno("read a table that changes faster than it can be read", libc::EINTR, None))
    }

    /// One try at a dump; `false` if the kernel says that it was interrupted.
    fn dump_once(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&frame(kind, flag::REQUEST | flag::DUMP, sequence, payload))?;
        let mut whole = true;
        loop {
            let done = self.receive(PATIENCE, |header, message| {
                if header.sequence != sequence {
                    return None;
                }
                whole &= header.flags & flag::DUMP_INTERRUPTED == 0;
                match message.kind {
                    NLMSG_DONE => Some(done_code(message.payload)),
                    NLMSG_ERROR => Some(acknowledgement(header.flags, message.payload)),
                    _ => {
                        each(message);
                        // A request that turns out not to be a dump has a single answer.
                        (header.flags & flag::MULTI == 0).then_some(Ok(()))
                    }
                }
            })?;
            match done {
                None => {}
                Some(Ok(())) => return Ok(whole),
                Some(Err(error)) if error.raw_errno() == Some(libc::EINTR) => return Ok(false),
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// Waits until `deadline` for events and hands each to `each` until it returns something.
    /// `ENOBUFS` (events were lost) is reported to the caller, who has to look again.
    pub(crate) fn event<T>(
        &mut self,
        deadline: Instant,
        mut each: impl FnMut(Message<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            match self.receive(left, |_, message| each(message)) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) if error.raw_errno() == Some(libc::ETIMEDOUT) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands the messages of one datagram to `each`; `false` if none has come in. `ENOBUFS` is
    /// reported as by [`Socket::event`].
    pub(crate) fn take(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<bool> {
        let length = match self.receive_bytes(RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN) => return Ok(false),
            other => other.map_err(|e| Error::errno(RECEIVE, e.raw_os_error(), None))?,
        };
        self.walk(length, |_, message| {
            each(message);
            None::<()>
        })?;
        Ok(true)
    }

    /// Its number, by which the kernel names who has asked for something.
    pub(crate) fn port(&self) -> Result<u32> {
        let what = "look up a netlink socket";
        let failed = |e: rustix::io::Errno| Error::errno(what, e.raw_os_error(), None);
        let address = rustix::net::getsockname(&self.fd).map_err(failed)?;
        let address = SocketAddrNetlink::try_from(address).map_err(failed)?;
        Ok(address.pid())
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let to = SocketAddrNetlink::new(0, 0);
        rustix::io::retry_on_intr(|| rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &to))
            .map_err(|e| Error::errno("send to netlink", e.raw_os_error(), None))?;
        Ok(())
    }

    /// Receives one datagram and walks its messages until `each` returns something.
    fn receive<T>(
        &mut self,
        patience: Duration,
        each: impl FnMut(&Header, Message<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        let length = match self.receive_bytes(RecvFlags::DONTWAIT) {
            Err(e) if e == rustix::io::Errno::AGAIN => {
                if !readable(self.fd.as_fd(), patience).map_err(|e| Error::io(RECEIVE, &e))? {
                    return Err(Error::errno(RECEIVE, libc::ETIMEDOUT, None));
                }
                self.receive_bytes(RecvFlags::empty())
            }
            other => other,
        }
        .map_err(|e| Error::errno(RECEIVE, e.raw_os_error(), None))?;
        self.walk(length, each)
    }

    /// Walks the messages of a datagram of `length` bytes until `each` returns something.
    fn walk<T>(
        &self,
        length: usize,
        mut each: impl FnMut(&Header, Message<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        if length > self.buffer.len() {
            return Err(Error::errno(RECEIVE, libc::EMSGSIZE, None));
        }
        let mut rest = &self.buffer[..length];
        while let Some((header, payload, next)) = split(rest) {
            if let Some(found) = each(&header, Message { kind: header.kind, payload }) {
                return Ok(Some(found));
            }
            rest = next;
        }
        Ok(None)
    }

    fn receive_bytes(&mut self, flags: RecvFlags) -> rustix::io::Result<usize> {
        let (_, length) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.fd, &mut self.buffer[..], flags | RecvFlags::TRUNC)
        })?;
        Ok(length)
    }

    fn set_option(&self, option: libc::c_int) -> io::Result<()> {
        self.set_option_value(option, 1)
    }

    fn set_option_value(&self, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the pointer and the length describe one live c_int, and the descriptor is ours.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                std::ptr::from_ref(&value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until `fd` has something to read; `false` if it did not within `patience`.
pub(crate) fn readable(fd: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let timeout = Timespec::try_from(patience).ok();
    let ready = rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
    Ok(ready > 0)
}

/// The parts of `struct nlmsghdr` that matter here.
struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// One message with its header, as bytes.
pub(crate) fn frame(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((HEADER + payload.len()).next_multiple_of(4));
    push_frame(&mut bytes, kind, flags, sequence, payload);
    bytes
}

/// Adds one message with its header to others.
fn push_frame(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: &[u8]) {
    bytes.extend_from_slice(&((HEADER + payload.len()) as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Splits the first message off `bytes`.
fn split(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let header = bytes.get(..HEADER)?;
    let length = u32_at(header, 0) as usize;
    let payload = bytes.get(HEADER..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    let header = Header {
        kind: u16::from_ne_bytes([header[4], header[5]]),
        flags: u16::from_ne_bytes([header[6], header[7]]),
        sequence: u32_at(header, 8),
    };
    Some((header, payload, rest))
}

/// What an `NLMSG_ERROR` says: success, or a number and perhaps a sentence.
fn acknowledgement(flags: u16, payload: &[u8]) -> Result<()> {
    let code = payload.get(..4).map_or(-libc::EPROTO, |b| u32_at(b, 0) as i32);
    if code == 0 {
        return Ok(());
    }
    let extack = flag::has_attributes(flags).then(|| extack(flags, payload)).flatten();
    // The kernel has no words of its own for this one.
    let missing = || (code == -libc::EPERM).then(|| "it takes CAP_NET_ADMIN".to_owned());
    Err(Error::errno("netlink request", -code, extack.or_else(missing)))
}

/// The sentence in the attributes of an acknowledgement: `NLMSGERR_ATTR_MSG`.
fn extack(flags: u16, payload: &[u8]) -> Option<String> {
    const MSG: u16 = 1;
    // An int, then the header of the request, then (unless capped) the request itself.
    let repeated = payload.get(4..4 + HEADER)?;
    let skip = if flag::is_capped(flags) { HEADER } else { u32_at(repeated, 0) as usize };
    let attributes = payload.get((4 + skip).next_multiple_of(4)..)?;
    let (_, text) = crate::attribute::iterate(attributes).find(|(kind, _)| *kind == MSG)?;
    let text = text.split(|b| *b == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(text).into_owned())
}

/// `NLMSG_DONE` carries an error number of its own.
fn done_code(payload: &[u8]) -> Result<()> {
    match payload.get(..4).map(|b| u32_at(b, 0) as i32) {
        Some(code) if code < 0 => Err(Error::errno("netlink dump", -code, None)),
        _ => Ok(()),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(four)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_splits_into_what_it_was_made_of() {
        let bytes = [frame(7, 5, 9, b"abcde"), frame(8, 0, 10, b"")].concat();
        let (header, payload, rest) = split(&bytes).unwrap();
        assert_eq!((header.kind, header.flags, header.sequence, payload), (7, 5, 9, &b"abcde"[..]));
        let (header, payload, rest) = split(rest).unwrap();
        assert_eq!((header.kind, payload, rest), (8, &b""[..], &b""[..]));
        assert!(split(rest).is_none());
    }

    #[test]
    fn rubbish_is_not_a_message() {
        for bytes in [&[0u8; 15][..], &[0; 16], &[255; 64], &[8, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(split(bytes).is_none_or(|(_, payload, _)| payload.len() <= bytes.len()));
        }
    }
}
