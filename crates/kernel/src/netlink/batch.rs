//! Many messages in one datagram, and what became of each.

use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::net::sockopt;

use super::{NLMSG_ERROR, PATIENCE, Socket, acknowledgement, flag, push_frame};
use crate::error::{Error, Result};

impl Socket {
    /// Sends requests (type, flags, payload) in one datagram, each of which may fail by itself. Returns
    /// the kernel's answer to each: it makes them in order and goes on after one that it refuses. What
    /// it refuses it tells in any case, so that only the last one is to be acknowledged: an
    /// acknowledgement of each would be a message to make and a system call to read it.
    pub(crate) fn batch(&mut self, requests: &[(u16, u16, &[u8])]) -> Vec<Result<()>> {
        let first = self.next_sequences(requests.len() as u32);
        let mut bytes = Vec::new();
        for (place, (kind, flags, payload)) in requests.iter().enumerate() {
            let ack = if place + 1 == requests.len() { flag::ACK } else { 0 };
            let sequence = first.wrapping_add(place as u32);
            push_frame(&mut bytes, *kind, flags | flag::REQUEST | ack, sequence, payload);
        }
        let mut refused: Vec<Option<Error>> = requests.iter().map(|_| None).collect();
        let ended = self.exchange(&bytes, first, &mut refused);
        // What was not answered may have happened or not: it has failed as far as anybody knows.
        let lost = ended.err().map(|error| error.raw_errno().unwrap_or(libc::EIO));
        let answer = |it: Option<Error>| it.or_else(|| lost.map(unanswered)).map_or(Ok(()), Err);
        refused.into_iter().map(answer).collect()
    }

    /// Sends a datagram and puts what is refused of its messages, whose numbers begin with `first`, in
    /// their places. It fails if not all answers came in.
    fn exchange(&mut self, bytes: &[u8], first: u32, refused: &mut [Option<Error>]) -> Result<()> {
        let Some(last) = refused.len().checked_sub(1) else { return Ok(()) };
        self.send(bytes)?;
        let mut lost = None;
        loop {
            let patience = if lost.is_none() { PATIENCE } else { Duration::ZERO };
            let received = self.receive(patience, |header, message| {
                let place = header.sequence.wrapping_sub(first) as usize;
                if message.kind != NLMSG_ERROR || place > last {
                    return None;
                }
                refused[place] = acknowledgement(header.flags, message.payload).err();
                (place == last).then_some(())
            });
            match received {
                Ok(Some(())) => return lost.map_or(Ok(()), Err),
                Ok(None) => {}
                // An answer did not get in, but those that did are still to be read; nothing comes
                // after them, because the kernel answers before the send returns.
                Err(error) if error.raw_errno() == Some(libc::ENOBUFS) => lost = Some(error),
                Err(error) => return Err(lost.unwrap_or(error)),
            }
        }
    }

    /// Sends a transaction in one go: messages with the sequence numbers of `range` and the one
    /// that ends it. The kernel answers to the first number only if it refuses the transaction as
    /// such, and to the last one when it has gone through all of it. Returns the failures by
    /// sequence number, in order.
    pub(crate) fn transact(
        &mut self,
        bytes: &[u8],
        range: RangeInclusive<u32>,
    ) -> Result<Vec<(u32, Error)>> {
        let (first, last) = range.into_inner();
        self.make_room(bytes.len());
        self.send(bytes)?;
        let mut failures = Vec::new();
        let mut patience = PATIENCE;
        loop {
            let end = self.receive(patience, |header, message| {
                let sequence = header.sequence;
                let is_ours = sequence.wrapping_sub(first) <= last.wrapping_sub(first);
                if message.kind != NLMSG_ERROR || !is_ours {
                    return None;
                }
                if let Err(error) = acknowledgement(header.flags, message.payload) {
                    failures.push((sequence, error));
                }
                (sequence == first || sequence == last).then_some(())
            });
            match end.map_err(|error| (error.raw_errno(), error)) {
                Ok(Some(())) => return Ok(failures),
                Ok(None) => {}
                // More was refused than there is room for. What got in was told first, and
                // nothing comes after it, because the kernel answers before the send returns.
                Err((Some(libc::ENOBUFS), _)) => patience = Duration::ZERO,
                Err((Some(libc::ETIMEDOUT), _)) if !failures.is_empty() => return Ok(failures),
                Err((_, error)) => return Err(error),
            }
        }
    }

    /// Sees to it that a message of `length` bytes can be sent at once. Where it is not allowed
    /// to be that large, sending it fails.
    fn make_room(&self, length: usize) {
        const USUAL: usize = 128 * 1024;
        if length > USUAL {
            let length = length.next_multiple_of(USUAL);
            let _ = sockopt::set_socket_send_buffer_size_force(&self.fd, length)
                .or_else(|_| sockopt::set_socket_send_buffer_size(&self.fd, length));
        }
    }
}

/// A request of which nobody knows what came of it.
pub(crate) fn unanswered(errno: i32) -> Error {
    Error::errno("netlink request", errno, None)
}
