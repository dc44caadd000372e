//! How many neighbours are looked for at the same time.
//!
//! Whoever looks for one asks everybody on a bridge, and each copy of that packet takes a place in the
//! queue of a processor, which is one for all namespaces of a machine. When that is full, packets of
//! others are dropped without a word, and the kernel looks again a second later, for all at the same
//! time. So at most half of a queue is taken by searches that are not over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// After this time a search that has not ended has left the queue all the same. What looks for
/// somebody who is not there would otherwise hold up everything else.
const PASSED: Duration = Duration::from_millis(25);

/// The searches of groups of questions.
#[derive(Debug)]
pub(crate) struct Pace {
    most: usize,
    /// When each was begun, by which group, and how many neighbours it looks for.
    begun: VecDeque<(Instant, usize, usize)>,
}

impl Pace {
    /// For queues of this length, where so many hear each search.
    pub(crate) fn new(queue: usize, audience: usize) -> Self {
        Self { most: queue / 2 / audience.max(1), begun: VecDeque::new() }
    }

    /// How long at most to wait until so many more may be looked for; none if they may now. One group
    /// always may, where no other does.
    pub(crate) fn wait(&mut self, searches: usize, now: Instant) -> Option<Duration> {
        while self.begun.pop_front_if(|(begun, ..)| *begun + PASSED <= now).is_some() {}
        let (first, ..) = self.begun.front()?;
        let all: usize = self.begun.iter().map(|(.., searches)| searches).sum();
        let fits = searches == 0 || all + searches <= self.most;
        (!fits).then(|| *first + PASSED - now)
    }

    /// A group begins to look for so many.
    pub(crate) fn begin(&mut self, group: usize, searches: usize, now: Instant) {
        if searches > 0 {
            self.begun.push_back((now, group, searches));
        }
    }

    /// Something has come of a question of a group, so that it has found its neighbours.
    pub(crate) fn end(&mut self, group: usize) {
        self.begun.retain(|(_, it, _)| *it != group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_half_of_a_queue_is_taken_by_searches() {
        let now = Instant::now();
        let mut pace = Pace::new(1000, 250);
        for group in [1, 2] {
            assert_eq!(pace.wait(1, now), None);
            pace.begin(group, 1, now);
        }
        assert_eq!(pace.wait(1, now), Some(PASSED));
        assert_eq!(pace.wait(0, now), None, "what looks for nobody is not held up");
        pace.end(1);
        assert_eq!(pace.wait(1, now), None);
        pace.begin(3, 1, now);
        let moment = Duration::from_millis(1);
        assert_eq!(pace.wait(1, now + moment), Some(PASSED - moment));
        assert_eq!(pace.wait(1, now + PASSED), None, "who is not found does not hold up others");
    }

    #[test]
    fn however_many_hear_it_one_after_the_other_is_looked_for() {
        let now = Instant::now();
        let mut pace = Pace::new(1000, 5000);
        assert_eq!(pace.wait(4, now), None);
        pace.begin(0, 4, now);
        assert!(pace.wait(1, now).is_some());
        pace.end(0);
        assert_eq!(pace.wait(1, now), None);
    }
}
