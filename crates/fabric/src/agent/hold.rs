//! A cluster that shrinks suspiciously is an error of the source more often than the truth.

use std::time::Duration;

/// How long a suspicious shrinking is held at least.
pub(super) const HOLD: Duration = Duration::from_secs(60);

/// Whether it is suspicious that this many of so many peers are gone at once.
pub(super) fn is_suspicious(removals: usize, of: usize) -> bool {
    of >= 4 && removals * 3 > of
}

/// A shrinking that is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) since: Duration,
    /// How many whole sets the source has told since.
    pub(super) told: u32,
    pub(super) removals: usize,
    pub(super) of: usize,
    /// Whether the source was asked for one.
    pub(super) asked: bool,
    pub(super) accepted: bool,
}

impl Held {
    /// Whether it is confirmed: by a person, or by the source that says so again later.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.accepted || (self.told > 0 && now >= self.since + HOLD)
    }
}
