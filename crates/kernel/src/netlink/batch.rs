//! Many messages in one datagram, and the answer to each.

use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::net::sockopt;

use super::{NLMSG_ERROR, PATIENCE, Socket, acknowledgement, flag, push_frame};
use crate::error::{Error, Result};

impl Socket {
    /// Sends requests (type, flags, payload) in one datagram, each of which may fail by itself. Returns
    /// the kernel's answer to each: it makes them in order and goes on after one that it refuses.
    pub(crate) fn batch<'a>(
        &mut self,
        requests: impl Iterator<Item = (u16, u16, &'a [u8])>,
    ) -> Vec<Result<()>> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let mut answers: Vec<Option<Result<()>>> = Vec::new();
        for (kind, flags, payload) in requests {
            let sequence = self.next_sequences(1);
            push_frame(&mut bytes, kind, flags | flag::REQUEST | flag::ACK, sequence, payload);
            answers.push(None);
        }
        let failure = self.exchange(&bytes, first, &mut answers).err();
        // What was not answered may have happened or not: it has failed as far as anybody knows.
        let errno = failure.and_then(|error| error.raw_errno()).unwrap_or(libc::EIO);
        answers.into_iter().map(|it| it.unwrap_or_else(|| Err(unanswered(errno)))).collect()
    }

    /// Sends a datagram and puts the acknowledgements of its messages, whose numbers begin with
    /// `first`, in their places.
    fn exchange(
        &mut self,
        bytes: &[u8],
        first: u32,
        answers: &mut [Option<Result<()>>],
    ) -> Result<()> {
        let mut open = answers.len();
        if open > 0 {
            self.send(bytes)?;
        }
        let mut patience = PATIENCE;
        while open > 0 {
            let received = self.receive(patience, |header, message| {
                let place = header.sequence.wrapping_sub(first) as usize;
                if message.kind == NLMSG_ERROR
                    && let Some(answer @ None) = answers.get_mut(place)
                {
                    *answer = Some(acknowledgement(header.flags, message.payload));
                    open -= 1;
                }
                None::<()>
            });
            match received {
                Ok(_) => {}
                // An answer did not get in, but those that did are still to be read; nothing comes
                // after them, because the kernel answers before the send returns.
                Err(error) if error.raw_errno() == Some(libc::ENOBUFS) => {
                    patience = Duration::ZERO;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
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
