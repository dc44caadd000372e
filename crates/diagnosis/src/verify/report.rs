//! The answer: rules, pairs, causes. Data; `render` gives it a form.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;
use topology::Machine;

use super::cause::{self, Cause};
use super::fold;
use super::hosts::Kind;
use super::judge::{Cell, FOLLOWS, Judge, Outcomes, Verdict};
use super::plan::{Plan, Protocol, Sample};
use super::rule::{Profile, Rule};
use crate::view::View;
use crate::words;

/// What `podwire verify -o json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was asked about.
    pub subject: String,
    /// Whose text was the measure.
    pub profile: Profile,
    /// The machine's name.
    pub machine: String,
    /// When it was looked at, in seconds since 1970, UTC.
    pub taken: u64,
    /// The answer to all of it.
    pub verdict: Verdict,
    /// That not all pairs were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// What was asked, rule by rule.
    pub rules: Vec<RuleReport>,
    /// Why what failed has failed, what explains most first.
    pub causes: Vec<Cause>,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// Who was asked.
    pub hosts: Vec<HostReport>,
    /// What came of each pair.
    pub results: Vec<Pair>,
}

/// A rule, and how often it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleReport {
    /// Its name.
    pub rule: Rule,
    /// What is promised.
    pub text: &'static str,
    /// Who promises it.
    pub source: &'static str,
    /// How many pairs there are, each of two in one family.
    pub pairs: usize,
    /// Those that keep it.
    pub pass: usize,
    /// Those that do not.
    pub fail: usize,
    /// Those that a policy keeps apart.
    pub blocked: usize,
    /// Those that do not keep it, which the profile allows.
    pub allowed: usize,
    /// Those of which nobody can tell.
    pub unknown: usize,
    /// Why there is no pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

impl RuleReport {
    /// The worst that came of it; `None` where there was nothing to ask.
    pub fn verdict(&self) -> Option<Verdict> {
        let counts = [
            (self.fail, Verdict::Fail),
            (self.unknown, Verdict::Unknown),
            (self.blocked, Verdict::Blocked),
            (self.allowed, Verdict::Allowed),
            (self.pass, Verdict::Pass),
        ];
        counts.into_iter().find(|(count, _)| *count > 0).map(|(_, verdict)| verdict)
    }
}

/// Somebody who was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostReport {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: HostKind,
    /// How `podwire explain` is asked about it.
    pub object: String,
    /// The lab that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lab: Option<String>,
    /// The place of its node in the list of hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostKind {
    /// A pod.
    Pod,
    /// A node.
    Node,
    /// A host beyond the cluster.
    Outside,
}

/// What came of a rule between two, in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// The rule.
    pub rule: Rule,
    /// The place of the first in the list of hosts.
    pub from: usize,
    /// That of the second.
    pub to: usize,
    /// 4 or 6.
    pub family: u8,
    /// The worst of all its questions.
    pub verdict: Verdict,
    /// The questions that did not pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<Told>,
}

/// A question that did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// How it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// What came of it.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
    /// The place of its cause in the list of causes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<usize>,
}

impl Report {
    /// The schema of this document.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// What outcomes mean. Without any pod nobody can tell.
    pub fn new(machine: &Machine, plan: &Plan, profile: Profile, outcomes: Outcomes<'_>) -> Self {
        let view = View::new(machine);
        let mut judge = Judge::new(&view, plan, profile, outcomes);
        let cells = judge.cells(outcomes);
        let groups = fold::fold(&plan.hosts, &cells);
        let mut cause_of: BTreeMap<usize, usize> = BTreeMap::new();
        for (number, group) in groups.iter().enumerate() {
            cause_of.extend(group.cells.iter().map(|cell| (*cell, number)));
        }
        let causes = cause::causes(&view, plan, profile, &cells, &groups, outcomes.searches);
        let results = pairs(&cells, &cause_of);
        let rules: Vec<RuleReport> =
            plan.rules.iter().map(|rule| rule_report(plan, *rule, profile, &results)).collect();
        let worst = rules.iter().filter_map(RuleReport::verdict).max();
        let verdict = match worst {
            Some(Verdict::Fail) => Verdict::Fail,
            Some(Verdict::Unknown) | None => Verdict::Unknown,
            _ if !plan.has_pods() => Verdict::Unknown,
            Some(_) => Verdict::Pass,
        };
        Self {
            subject: plan.subject.clone(),
            profile,
            machine: machine.host.name.clone(),
            taken: machine.host.taken,
            verdict,
            sample: plan.sample,
            rules,
            causes,
            notes: notes(machine, plan, &cells, outcomes),
            hosts: plan.hosts_told(),
            results,
        }
    }

    /// The rules that are broken.
    pub fn broken(&self) -> impl Iterator<Item = Rule> {
        let broken = |it: &&RuleReport| it.verdict() == Some(Verdict::Fail);
        self.rules.iter().filter(broken).map(|it| it.rule)
    }

    /// Whether an optional rule had nothing to ask about.
    pub fn has_skipped(&self) -> bool {
        self.rules.iter().any(|it| it.rule.is_optional() && it.skipped.is_some())
    }
}

impl Plan {
    fn hosts_told(&self) -> Vec<HostReport> {
        let told = |host: &super::hosts::Host| HostReport {
            name: host.name.clone(),
            kind: match host.kind {
                Kind::Pod => HostKind::Pod,
                Kind::Node => HostKind::Node,
                Kind::Outside => HostKind::Outside,
            },
            object: host.object.clone(),
            lab: host.lab.clone(),
            node: self
                .hosts
                .iter()
                .position(|it| it.kind == Kind::Node && Some(it.at) == host.home),
            addresses: host.addresses.clone(),
        };
        self.hosts.iter().map(told).collect()
    }
}

fn pairs(cells: &[Cell], cause_of: &BTreeMap<usize, usize>) -> Vec<Pair> {
    let mut pairs: BTreeMap<(Rule, usize, usize, bool), Pair> = BTreeMap::new();
    for (place, cell) in cells.iter().enumerate() {
        let Cell { rule, from, to, v6, .. } = *cell;
        let pair = pairs.entry((rule, from, to, v6)).or_insert_with(|| Pair {
            rule,
            from,
            to,
            family: if v6 { 6 } else { 4 },
            verdict: Verdict::Pass,
            questions: Vec::new(),
        });
        pair.verdict = pair.verdict.max(cell.verdict);
        if cell.verdict != Verdict::Pass {
            pair.questions.push(Told {
                protocol: cell.protocol,
                verdict: cell.verdict,
                why: cell.why.clone(),
                cause: cause_of.get(&place).copied(),
            });
        }
    }
    pairs.into_values().collect()
}

fn rule_report(plan: &Plan, rule: Rule, profile: Profile, results: &[Pair]) -> RuleReport {
    let of_it = || results.iter().filter(move |pair| pair.rule == rule);
    let count = |verdict| of_it().filter(|pair| pair.verdict == verdict).count();
    let pairs = of_it().count();
    RuleReport {
        rule,
        text: rule.text(profile),
        source: rule.source(profile),
        pairs,
        pass: count(Verdict::Pass),
        fail: count(Verdict::Fail),
        blocked: count(Verdict::Blocked),
        allowed: count(Verdict::Allowed),
        unknown: count(Verdict::Unknown),
        skipped: (pairs == 0).then(|| nothing(plan, rule).to_owned()),
    }
}

/// Why there is nothing to ask.
fn nothing(plan: &Plan, rule: Rule) -> &'static str {
    match rule {
        _ if !plan.has_pods() => "no pods",
        Rule::PodToPod | Rule::Mtu => "one pod only",
        Rule::NodeToPod | Rule::PodToNode => "no node with an address of its own",
        Rule::SelfView => "nobody to see it",
        Rule::UniqueAddress => "no pod with an address",
        Rule::Dns => "no pod is told a resolver of its own network",
        Rule::HostPort | Rule::Hairpin => "no port of a node is mapped to a pod",
        Rule::Outside => "no host beyond the cluster is in sight",
    }
}

/// Why nobody can tell, and of how much: the most common reasons first.
fn unknown(cells: &[Cell]) -> Vec<String> {
    const MOST: usize = 5;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.verdict == Verdict::Unknown) {
        *counts.entry(&cell.why).or_default() += 1;
    }
    counts.retain(|why, _| !FOLLOWS.contains(why));
    let mut reasons: Vec<(&str, usize)> = counts.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let told = reasons.iter().take(MOST);
    let told = told.map(|(why, count)| {
        format!("nobody can tell of {}: {why}", words::count(*count, "question"))
    });
    told.collect()
}

fn notes(machine: &Machine, plan: &Plan, cells: &[Cell], outcomes: Outcomes<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if !plan.has_pods() {
        notes.push("there are no pods to ask about".to_owned());
    }
    if let Some(Sample { asked, all }) = plan.sample {
        notes.push(format!(
            "{} of {} pairs of pods were asked: each pod and each two nodes at least once \
             (--pairs all asks all)",
            words::grouped(asked),
            words::grouped(all)
        ));
    }
    if outcomes.late > 0 {
        notes.push(format!(
            "answered only when asked again: {} of {} questions; packets get lost somewhere, or the \
             machine is too busy",
            words::grouped(outcomes.late),
            words::grouped(outcomes.questions.len() + outcomes.calls.len())
        ));
    }
    let beside: usize = plan.pods.iter().map(|pod| plan.hosts[*pod].beside).sum();
    if beside > 0 {
        let what = words::count(beside, "interface");
        notes.push(format!("{what} beside pods' first were not asked about"));
    }
    if cells.iter().any(|cell| cell.verdict == Verdict::Blocked) {
        let by: BTreeSet<&str> =
            cells.iter().filter_map(|it| Some(it.by.as_ref()?.text.as_str())).collect();
        notes.extend(by.into_iter().take(5).map(|rule| format!("a policy: {rule}")));
    }
    notes.extend(unknown(cells));
    // Labs are read from places of their own, whatever else cannot be read.
    let concerns = |gap: &&topology::Gap| {
        !plan.has_pods() || !plan.is_of_labs() || gap.what.contains("/podwire/lab/")
    };
    let gaps = machine.gaps.iter().filter(concerns).take(10);
    notes.extend(gaps.map(|gap| format!("{} could not be read: {}", gap.what, gap.why)));
    notes
}
