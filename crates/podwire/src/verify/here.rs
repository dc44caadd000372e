//! The calls of one node, for an asker that is somewhere else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use diagnosis::verify::{Call, Outcome, Pairs, Plan, Protocol, Rule, Wanted};
use serde::{Deserialize, Serialize};
use topology::Machine;

use super::ask::Spaces;
use super::call;

/// A call of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodCall {
    /// The pod's address.
    pub(crate) from: IpAddr,
    /// Whom it asks.
    pub(crate) to: SocketAddr,
    /// How.
    pub(crate) protocol: Protocol,
}

/// What the pods of a node would call by themselves: the resolvers that they are told, and the ports
/// of the node that lead to themselves. Nothing else is called, whatever an asker wants.
pub(crate) struct Here(Plan);

impl Here {
    /// What follows from the node.
    pub(crate) fn of(machine: &Machine) -> Self {
        let wanted = Wanted {
            subjects: Vec::new(),
            rules: BTreeSet::from([Rule::Dns, Rule::Hairpin]),
            protocols: BTreeSet::new(),
            pairs: Pairs::Usual,
        };
        // Only who is named can be unknown.
        Self(Plan::new(machine, &wanted).unwrap_or_default())
    }

    /// What came of these calls, in their order. Between two that cannot be made at
    /// once, `go_on` is asked whether to go on.
    pub(crate) fn call(
        &self,
        wanted: &[PodCall],
        patience: Duration,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Vec<Outcome> {
        let Self(plan) = self;
        let known = |wanted: &PodCall| {
            let is_it = |it: &&Call| {
                let Call { to, protocol, .. } = **it;
                PodCall { from: plan.places[it.from].address, to, protocol } == *wanted
            };
            plan.calls.iter().find(is_it).cloned()
        };
        let found: Vec<Option<Call>> = wanted.iter().map(known).collect();
        let calls: Vec<Call> = found.iter().flatten().cloned().collect();
        let spaces = Spaces::open(plan);
        let mut outcomes = call::all(plan, &spaces, &calls, patience, go_on).into_iter();
        let unknown = |why: &str| Outcome::Unknown(why.to_owned());
        let told = found.into_iter().map(|it| match it.and_then(|_| outcomes.next()) {
            Some(Outcome::Gone(_)) => unknown("it is gone"),
            Some(outcome) => outcome,
            None => unknown("its node knows of nothing there for it"),
        });
        told.collect()
    }
}
