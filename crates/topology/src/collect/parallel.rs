//! The same work on many things, by as many threads as there are processors.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kernel::{Kernel, Result};

/// So few things are done before a thread has started.
const FEW: usize = 4;
/// More threads than these would only wait for the kernel's locks.
const MOST: usize = 8;

/// Does `work` on each item and returns what came of it, in the order of the items. Each thread has
/// the kernel to itself, because a thread is in one namespace at a time.
pub(super) fn each<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&mut Kernel, &T) -> R + Sync,
) -> Result<Vec<R>> {
    let processors = thread::available_parallelism().map_or(2, usize::from);
    let count = processors.clamp(2, MOST).min(items.len() / FEW).max(1);
    let next = AtomicUsize::new(0);
    let share = || -> Result<Vec<(usize, R)>> {
        let mut kernel = Kernel::new()?;
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            match items.get(at) {
                Some(item) => done.push((at, work(&mut kernel, item))),
                None => return Ok(done),
            }
        }
    };
    if count == 1 {
        return Ok(share()?.into_iter().map(|(_, done)| done).collect());
    }
    let shares = thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(share)).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|share| share.unwrap_or_else(|panic| resume_unwind(panic))).collect::<Vec<_>>()
    });
    let mut done = Vec::with_capacity(items.len());
    for share in shares {
        done.extend(share?);
    }
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, done)| done).collect())
}
