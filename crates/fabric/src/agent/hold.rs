//! A cluster that shrinks suspiciously is an error of the source more often than the truth.

use std::time::Duration;

use hashbrown::HashSet;
use net::{Change, Key, Plan, Step};

use super::Agent;
use super::shape::is_peer_route;
use crate::firewall;

/// How long a suspicious shrinking is held at least.
pub(super) const HOLD: Duration = Duration::from_secs(60);

/// Whether it is suspicious that this many of so many peers are gone at once.
fn is_suspicious(removals: usize, of: usize) -> bool {
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

impl Agent {
    /// Takes deletions out of a plan that may not be made (yet).
    pub(super) fn restrain(&mut self, plan: Plan, routes: usize) -> Plan {
        let is_removal = self.removals(&plan);
        let removals = plan.iter().zip(&is_removal).filter(|(step, is_removal)| {
            **is_removal && step.change.object().is_some_and(is_peer_route)
        });
        let removals = removals.count();
        let may_remove = if !self.here.is_empty() {
            // A family that cannot be joined just now is one that may come back.
            false
        } else if !is_suspicious(removals, routes) {
            self.held = None;
            self.is_complete
        } else {
            let held = self.held.get_or_insert(Held {
                since: self.now,
                told: 0,
                removals,
                of: routes,
                asked: false,
                accepted: false,
            });
            (held.removals, held.of) = (removals, routes);
            self.is_complete && held.is_over(self.now)
        };
        self.has_withheld = !may_remove && is_removal.contains(&true);
        if may_remove {
            self.held = None;
            return plan;
        }
        let steps = plan.into_iter().zip(is_removal);
        steps.filter(|(_, is_removal)| !is_removal).map(|(step, _)| step).collect()
    }

    /// Which steps of a plan take away what is not to be any more. What is deleted only to be made
    /// again, or to make room, is not among them.
    fn removals(&self, plan: &Plan) -> Vec<bool> {
        let is_deletion = |step: &Step| matches!(step.change, Change::Delete(_));
        if !plan.iter().any(is_deletion) {
            return vec![false; plan.len()];
        }
        let made = plan.iter().filter_map(|step| match &step.change {
            Change::Create(object) => Some(Key::of(object)),
            _ => None,
        });
        let made: HashSet<Key<'_>> = made.collect();
        let networks = self.nodes.pod_networks(&self.config);
        let is_removal = |step: &Step| match &step.change {
            Change::Delete(object) => {
                !made.contains(&Key::of(object)) && !firewall::makes_room(object, networks)
            }
            _ => false,
        };
        plan.iter().map(is_removal).collect()
    }
}
