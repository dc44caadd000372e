//! Large plans in two lanes: what is added to nftables is added by another thread, ahead of what comes
//! after it.
//!
//! The kernel takes messages about routes and about rules independently of each other, each half of the
//! time that thousands of peers cost. Additions to nftables stand on nothing of rtnetlink's, so that
//! they need not wait for what comes before them; what comes after them waits, as the plan has it.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::mpsc::channel;
use std::thread;

use net::{Change, Object, Step};

use super::{Applied, Kernel, OnError, Way, group};

/// A part of a plan that goes in lanes: all of it from some place on.
pub(super) struct Lanes {
    /// What is added to nftables, a transaction each.
    tables: Vec<Range<usize>>,
    /// All else.
    rest: Vec<Range<usize>>,
}

impl Lanes {
    /// How the plan goes on from `at`; `None` where that is better done by one thread.
    pub(super) fn of(plan: &[Step], at: usize) -> Option<Self> {
        let (mut tables, mut rest) = (Vec::new(), Vec::new());
        let mut at = at;
        while at < plan.len() {
            let range = at..at + group(&plan[at..], OnError::Continue);
            at = range.end;
            let steps = &plan[range.clone()];
            let adds = |step: &Step| matches!(step.change, Change::Create(Object::Nft(_)));
            match Way::of(&steps[0], OnError::Continue) {
                _ if steps[0].space != plan[0].space => return None,
                Way::Transaction if steps.iter().all(adds) => tables.push(range),
                Way::Together => rest.push(range),
                Way::Transaction | Way::Alone | Way::Visit => return None,
            }
        }
        (tables.len() > 1).then_some(Self { tables, rest })
    }
}

impl Kernel {
    /// Applies a part of a plan; `false` if there is no way to nftables, in which case nothing was
    /// done.
    pub(super) fn apply_in_lanes(
        &mut self,
        plan: &[Step],
        lanes: Lanes,
        applied: &mut Applied,
    ) -> bool {
        let space = &plan[0].space;
        let Ok(mut tables) = self.handle(space).and_then(|(home, handle)| handle.take_tables(home))
        else {
            return false;
        };
        let (tell, told) = channel();
        let ahead = lanes.tables.clone();
        thread::scope(|scope| {
            let lane = scope.spawn(move || {
                for range in ahead {
                    let changes: Vec<&Change> =
                        plan[range].iter().map(|step| &step.change).collect();
                    // Nobody stops listening before all of it was told.
                    let _ = tell.send(tables.transact(&changes));
                }
                tables
            });
            let mut before = lanes.tables.into_iter().peekable();
            let mut rest = lanes.rest.into_iter().peekable();
            loop {
                let is_next = |range: &Range<usize>| {
                    rest.peek().is_none_or(|other| range.start < other.start)
                };
                if let Some(range) = before.next_if(is_next) {
                    if let Ok((outcome, unheard)) = told.recv() {
                        let (done, failed) = super::parts(outcome);
                        applied.unheard |= unheard;
                        applied.take(range.start, done, failed);
                    }
                } else if let Some(range) = rest.next() {
                    self.apply_together(range.start, &plan[range], applied);
                } else {
                    break;
                }
            }
            let tables = lane.join().unwrap_or_else(|panic| resume_unwind(panic));
            if let Ok((_, handle)) = self.handle(space) {
                handle.put_tables(tables);
            }
        });
        true
    }
}
