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

/// The last part of a plan, which goes in lanes: its groups in order, of which transactions only add to
/// nftables.
pub(super) struct Lanes(Vec<(Way, Range<usize>)>);

impl Lanes {
    /// The part of a plan that goes in lanes; `None` where one thread does as well.
    pub(super) fn of(plan: &[Step]) -> Option<Self> {
        let mut groups: Vec<(Way, Range<usize>)> = Vec::new();
        let mut at = 0;
        while at < plan.len() {
            let range = at..at + group(&plan[at..], OnError::Continue);
            at = range.end;
            let steps = &plan[range.clone()];
            let adds = |step: &Step| matches!(step.change, Change::Create(Object::Nft(_)));
            let way = Way::of(&steps[0], OnError::Continue);
            let fits = match way {
                Way::Transaction => steps.iter().all(adds),
                Way::Together => true,
                Way::Alone | Way::Visit => false,
            };
            let is_elsewhere =
                groups.first().is_some_and(|(_, it)| plan[it.start].space != steps[0].space);
            if !fits || is_elsewhere {
                groups.clear();
            }
            if fits {
                groups.push((way, range));
            }
        }
        let lanes = Self(groups);
        (lanes.tables().count() > 1).then_some(lanes)
    }

    /// The place of the first step that goes in lanes.
    pub(super) fn begin(&self) -> Option<usize> {
        self.0.first().map(|(_, range)| range.start)
    }

    fn tables(&self) -> impl Iterator<Item = &Range<usize>> {
        self.0.iter().filter(|(way, _)| *way == Way::Transaction).map(|(_, range)| range)
    }
}

impl Kernel {
    /// Applies the part of a plan that goes in lanes; `false` if there is no way to nftables, in which
    /// case nothing was done.
    pub(super) fn apply_in_lanes(
        &mut self,
        plan: &[Step],
        lanes: &Lanes,
        applied: &mut Applied,
    ) -> bool {
        let Some(space) = lanes.begin().map(|begin| &plan[begin].space) else { return false };
        let Ok(mut tables) = self.handle(space).and_then(|(home, handle)| handle.take_tables(home))
        else {
            return false;
        };
        let (tell, told) = channel();
        thread::scope(|scope| {
            let lane = scope.spawn(move || {
                for range in lanes.tables() {
                    let changes: Vec<&Change> =
                        plan[range.clone()].iter().map(|step| &step.change).collect();
                    // Nobody stops listening before all of it was told.
                    let _ = tell.send(tables.transact(&changes));
                }
                tables
            });
            for (way, range) in &lanes.0 {
                if *way == Way::Together {
                    self.apply_together(range.start, &plan[range.clone()], applied);
                } else if let Ok((outcome, unheard)) = told.recv() {
                    let (done, failed) = super::parts(outcome);
                    applied.unheard |= unheard;
                    applied.take(range.start, done, failed);
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
