//! Many changes in few datagrams, where the failure of one is no reason to stop.
//!
//! rtnetlink makes the messages of a datagram in order and goes on after one that it refuses, which
//! is just what is wanted then, and it tells each refusal by its number. So the outcome of every step is
//! the one that it would have had by itself.

use net::Step;

use super::request::{Request, Wish};
use crate::error::Result;
use crate::handle::Handle;
use crate::netlink;

/// How many messages go into one datagram. Where all of them are refused, the answers wait in the
/// socket's buffer until the datagram has been sent, where each takes somewhat less than a kilobyte;
/// what even an old kernel gives a socket holds some two hundred.
const MESSAGES: usize = 64;
/// How large they may be together, unless one alone is larger.
const BYTES: usize = 16 * 1024;

/// Whether a step can be sent with others.
pub(super) fn takes(step: &Step) -> bool {
    Wish::of(&step.change).is_some_and(|wish| wish.goes_with_others())
}

/// Applies steps of one namespace that all can be sent with others. Returns for each whether there
/// was anything to do.
pub(super) fn apply(handle: &mut Handle, steps: &[Step]) -> Vec<Result<bool>> {
    let wishes: Vec<Wish<'_>> = steps.iter().filter_map(|step| Wish::of(&step.change)).collect();
    let mut outcomes = Vec::with_capacity(wishes.len());
    let mut rest = &wishes[..];
    while !rest.is_empty() {
        let requests = fill(handle, rest);
        let (now, later) = rest.split_at(requests.len());
        rest = later;
        let sent = requests.iter().flatten().map(|it| (it.kind, it.flags, &it.payload[..]));
        let sent: Vec<(u16, u16, &[u8])> = sent.collect();
        let mut answers = handle.route().batch(&sent).into_iter();
        for (wish, request) in now.iter().zip(requests) {
            // A request that could not be made says itself why.
            let answer = request.and_then(|_| {
                let answer = answers.next().unwrap_or_else(|| Err(netlink::unanswered(libc::EIO)));
                answer.map_err(|error| error.during(wish.describe()))
            });
            outcomes.push(wish.meaning(answer));
        }
    }
    outcomes
}

/// The messages for as many of the first wishes as go into one datagram. A message that cannot be
/// made, because there is no such device, has its failure in its place.
fn fill(handle: &mut Handle, wishes: &[Wish<'_>]) -> Vec<Result<Request>> {
    let mut requests = Vec::with_capacity(wishes.len().min(MESSAGES));
    let mut size = 0;
    for wish in wishes.iter().take(MESSAGES) {
        let request = wish.request(handle);
        size += request.as_ref().map_or(0, |request| request.payload.len());
        requests.push(request);
        if size >= BYTES {
            break;
        }
    }
    requests
}
