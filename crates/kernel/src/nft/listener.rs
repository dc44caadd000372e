//! A listener that need not hear of what is done here.
//!
//! The kernel makes a message of four kilobytes for every element of a transaction as soon as anybody
//! listens, whether or not a filter drops it afterwards: a quarter of all that the agent's first word
//! of thousands of peers costs. So it does not listen meanwhile, and the ruleset's generation tells
//! whether somebody else has changed anything.

use super::{GROUP, Outcome, generation};
use crate::error::Result;
use crate::netlink::Socket;

/// The socket of somebody who listens, as a second descriptor.
#[derive(Debug)]
pub(crate) struct Listener(Socket);

impl Listener {
    /// Who listens by `socket`.
    pub(crate) fn of(socket: &Socket) -> Result<Self> {
        socket.twin().map(Self)
    }

    /// Has the listener hear nothing while `transact` makes one transaction by `socket`. Returns as
    /// well whether others may have changed something meanwhile.
    pub(crate) fn spared(
        &mut self,
        socket: &mut Socket,
        transact: impl FnOnce(&mut Socket) -> Outcome,
    ) -> (Outcome, bool) {
        let before = generation(socket);
        let left = before.is_ok() && self.0.leave(GROUP).is_ok();
        let result = transact(socket);
        if !left {
            return (result, false);
        }
        let is_back = self.0.subscribe(&[GROUP]).is_ok();
        let is_changed = result.as_ref().is_ok_and(|done| done.contains(&true));
        let is_alone = match (before, generation(socket)) {
            (Ok(Some(before)), Ok(Some(after))) => {
                after.wrapping_sub(before) == u32::from(is_changed)
            }
            _ => false,
        };
        (result, !is_back || !is_alone)
    }
}
