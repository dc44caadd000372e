//! What is unusual or wrong on a machine: one small detector a kind of mistake.
//!
//! A detector speaks only of what it sees. Where something that it needs was not read, it says
//! nothing, and [`Code::Unreadable`] says why.

mod addresses;
mod bridges;
mod devices;
mod firewall;
mod flows;
mod peers;
mod resolvers;
mod sizes;

use std::collections::HashMap;

use topology::Machine;

use crate::audit;
use crate::finding::{Code, Finding};
use crate::view::View;
use crate::words;

/// All that is unusual or wrong on a machine, the worst first.
pub fn findings(machine: &Machine) -> Vec<Finding> {
    of(&View::new(machine))
}

/// As [`findings`].
pub(crate) fn of(view: &View<'_>) -> Vec<Finding> {
    let detectors = [
        devices::findings,
        bridges::findings,
        sizes::findings,
        addresses::findings,
        peers::findings,
        firewall::findings,
        flows::findings,
        resolvers::findings,
        audit::findings,
        unreadable,
    ];
    let mut findings: Vec<Finding> = detectors.iter().flat_map(|detect| detect(view)).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut counts: HashMap<Code, usize> = HashMap::new();
    let mut folded = Vec::new();
    for finding in &findings {
        let count = counts.entry(finding.code).or_default();
        *count += 1;
        if *count == MOST_ALIKE + 1 {
            folded.push(finding.code);
        }
    }
    let mut kept: HashMap<Code, usize> = HashMap::new();
    findings.retain(|finding| {
        let count = kept.entry(finding.code).or_default();
        *count += 1;
        *count <= MOST_ALIKE
    });
    for code in folded {
        let more = counts[&code] - MOST_ALIKE;
        let text = format!(
            "There are {} of the same kind ({code:?}).",
            words::count(more, "more finding")
        );
        findings.push(Finding::new(code, text, "Each of them means the same.", Vec::new()));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// How many findings of one kind are told one by one.
const MOST_ALIKE: usize = 50;

fn unreadable(view: &View<'_>) -> Vec<Finding> {
    let finding = |gap: &topology::Gap| {
        let text = format!("{} could not be read: {}.", gap.what, gap.why);
        Finding::new(Code::Unreadable, text, "Nothing can be said about it.", Vec::new())
    };
    view.machine.gaps.iter().map(finding).collect()
}
