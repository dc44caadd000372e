//! Changes as one transaction: all of them happen, or none.

use std::num::NonZeroUsize;

use net::Change;
use net::nft::{Chain, Object};

use super::element::{put_element, put_element_key};
use super::message::{
    batch_header, put_chain, put_chain_name, put_rule, put_rules_name, put_set, put_set_name,
    put_table, put_table_name,
};
use super::uapi::{BATCH_BEGIN, BATCH_END, SUBSYSTEM, msg};
use crate::attribute::Writer;
use crate::error::{Error, ErrorKind};
use crate::netlink::{Socket, flag, frame};

/// Makes `changes` in one transaction. Returns for each whether it changed anything, as far as that
/// can be known: an object that was to be deleted and was not there is no change. On failure
/// nothing has changed, and the change that failed is named by its place.
pub(crate) fn apply(
    socket: &mut Socket,
    changes: &[&Change],
) -> Result<Vec<bool>, (usize, Error)> {
    let mut requests = Vec::with_capacity(2 * changes.len());
    for (place, change) in changes.iter().enumerate() {
        put_change(&mut requests, place, change).map_err(|refusal| {
            (place, Error::text(describe(change), ErrorKind::Other, refusal))
        })?;
    }
    let mut changed = vec![true; changes.len()];
    while !requests.is_empty() {
        let mut failures = send(socket, &requests).map_err(|error| (0, error))?;
        // The kernel refuses all, because something that was to be deleted is not there. Without
        // that part the rest is tried again.
        let gone = |(request, error): &(usize, Error)| {
            requests[*request].is_delete && error.raw_errno() == Some(libc::ENOENT)
        };
        if failures.is_empty() || !failures.iter().all(gone) {
            return match NonZeroUsize::new(failures.len()) {
                None => Ok(changed),
                Some(_) => {
                    let cause = failures.iter().position(|failure| !gone(failure)).unwrap_or(0);
                    let (request, error) = failures.swap_remove(cause);
                    let place = requests[request].place;
                    Err((place, explain(changes[place], error)))
                }
            };
        }
        for (request, _) in failures.iter().rev() {
            changed[requests.remove(*request).place] = false;
        }
    }
    Ok(changed)
}
