//! How long to wait before asking again: quick at first, then longer and longer, and never in step with
//! the other nodes, which have lost the API at the same moment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(15);

/// Waits of one who fails again and again.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after one more failure; `chance` is drawn anew each time.
    pub(super) fn next(&mut self, chance: u64) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait / 2 + share(wait / 2, chance)
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A part of `whole`, from none to all of it.
pub(super) fn share(whole: Duration, chance: u64) -> Duration {
    whole.mul_f64((chance >> 11) as f64 / (1_u64 << 53) as f64)
}

/// What differs from node to node and from time to time; nobody is kept from guessing it.
pub(super) fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next(u64::MAX)).collect();
        assert!(waits[0] <= FIRST && waits.is_sorted());
        assert!(waits[39] <= LONGEST && waits[39] > LONGEST * 9 / 10);
        backoff.reset();
        assert!(backoff.next(0) == FIRST / 2);
    }

    #[test]
    fn chance_is_not_always_the_same() {
        let draws: std::collections::BTreeSet<u64> = (0..16).map(|_| chance()).collect();
        assert!(draws.len() > 8);
    }
}
