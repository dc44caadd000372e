//! What outcomes mean for the rules.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::outcome::{Outcome, Route, Search};
use super::plan::{Call, Plan, Protocol, Question, Service};
use super::policy::{self, Firewalls, Way};
use super::rule::{Demand, Profile, Rule};
use crate::view::View;
use crate::words;

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is as promised.
    Pass,
    /// It is not, and the profile allows that.
    Allowed,
    /// A policy keeps the two apart: that is no violation.
    Blocked,
    /// Nobody can tell.
    Unknown,
    /// It is not as promised.
    Fail,
}

/// In what way something is not as promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Class {
    /// It did not arrive.
    Lost,
    /// It arrived with this source address.
    Changed(IpAddr),
    /// Only small packets arrive.
    Large,
    /// A service did not answer, or not as it should.
    Service,
    /// Two have one address.
    Twice(IpAddr),
}

/// Why nobody can tell of what only follows from other questions.
pub(super) const FOLLOWS: [&str; 2] =
    ["small packets do not pass either", "nobody has seen a packet of it"];

/// One question, judged.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) rule: Rule,
    /// In [`Plan::hosts`].
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) v6: bool,
    pub(super) protocol: Option<Protocol>,
    pub(super) verdict: Verdict,
    pub(super) class: Option<Class>,
    /// It arrived, and the answer did not: what fails is the way back.
    pub(super) backward: bool,
    pub(super) why: String,
    /// The rule of a firewall that did it.
    pub(super) by: Option<policy::Verdict>,
    /// The size that was asked for, and the route whose largest size is known.
    pub(super) whole: Option<(usize, Route)>,
}

impl Cell {
    /// One in which nothing is wrong; what is not about packets has no protocol.
    pub(super) fn passed(
        rule: Rule,
        from: usize,
        to: usize,
        v6: bool,
        protocol: Option<Protocol>,
    ) -> Self {
        Self {
            rule,
            from,
            to,
            v6,
            protocol,
            verdict: Verdict::Pass,
            class: None,
            backward: false,
            why: String::new(),
            by: None,
            whole: None,
        }
    }
}

/// All that is known of the outcomes.
#[derive(Clone, Copy, Debug)]
pub struct Outcomes<'a> {
    /// Of [`Plan::questions`].
    pub questions: &'a [Outcome],
    /// Of [`Plan::calls`].
    pub calls: &'a [Outcome],
    /// Of [`Plan::searches`].
    pub searches: &'a [Search],
    /// How many questions and calls were answered only when they were asked again.
    pub late: usize,
}

pub(super) struct Judge<'j, 'a> {
    pub(super) plan: &'j Plan,
    pub(super) profile: Profile,
    view: &'j View<'a>,
    firewalls: Firewalls<'j, 'a>,
    small: HashMap<(usize, usize), bool>,
}

impl<'j, 'a> Judge<'j, 'a> {
    pub(super) fn new(
        view: &'j View<'a>,
        plan: &'j Plan,
        profile: Profile,
        outcomes: Outcomes<'_>,
    ) -> Self {
        let firewalls = Firewalls::new(view);
        Self { plan, profile, view, firewalls, small: plan.small(outcomes.questions) }
    }

    pub(super) fn cells(&mut self, outcomes: Outcomes<'_>) -> Vec<Cell> {
        let plan = self.plan;
        let mut cells = Vec::new();
        for (question, outcome) in plan.questions.iter().zip(outcomes.questions) {
            match question.rule {
                Rule::Mtu if question.whole.is_none() => {}
                Rule::Mtu => cells.push(self.size(question, outcome)),
                Rule::Outside => cells.push(self.outside(question, outcome)),
                _ => cells.push(self.reach(question, outcome)),
            }
        }
        if plan.rules.contains(&Rule::SelfView) {
            let seen = self.self_view(&cells);
            cells.extend(seen);
        }
        cells.retain(|cell| plan.rules.contains(&cell.rule));
        for (call, outcome) in plan.calls.iter().zip(outcomes.calls) {
            cells.push(self.call(call, outcome));
        }
        if plan.rules.contains(&Rule::UniqueAddress) {
            cells.extend(self.unique());
        }
        cells
    }

    fn ends(&self, question: &Question) -> (usize, usize, bool) {
        let [from, to] = [question.from, question.to].map(|it| &self.plan.places[it]);
        (from.host, to.host, from.address.is_ipv6())
    }

    fn cell(&self, question: &Question) -> Cell {
        let (from, to, v6) = self.ends(question);
        Cell::passed(question.rule, from, to, v6, Some(question.protocol))
    }

    fn same_node(&self, from: usize, to: usize) -> bool {
        let [from, to] = [from, to].map(|it| self.plan.hosts[it].home);
        from.is_some() && from == to
    }

    /// What failed, with what the profile makes of it.
    fn failed(&self, cell: Cell, class: Class, why: String) -> Cell {
        let demand = cell.rule.demand(self.profile, self.same_node(cell.from, cell.to));
        let verdict = match demand {
            Demand::Required => Verdict::Fail,
            Demand::Told => Verdict::Allowed,
        };
        Cell { verdict, class: Some(class), why, ..cell }
    }

    fn unknown(cell: Cell, why: impl Into<String>) -> Cell {
        Cell { verdict: Verdict::Unknown, why: why.into(), ..cell }
    }

    fn way(&self, question: &Question) -> Way {
        let [from, to] = [question.from, question.to].map(|it| &self.plan.places[it]);
        Way {
            from: self.plan.hosts[from.host].at,
            source: from.address,
            to: self.plan.hosts[to.host].at,
            destination: to.address,
            protocol: question.protocol,
        }
    }

    fn reach(&mut self, question: &Question, outcome: &Outcome) -> Cell {
        let cell = self.cell(question);
        let (from, to) = (&self.plan.places[question.from], &self.plan.places[question.to]);
        match outcome {
            Outcome::Answered { seen, from: answered } => {
                if let Some(seen) = seen.filter(|seen| *seen != from.address) {
                    let why = format!("sent from {}, but seen as from {seen}", from.address);
                    if !cell.rule.forbids_nat(self.profile) {
                        return Cell { why, ..cell };
                    }
                    let by = self.firewalls.translation(self.way(question));
                    return Cell { by, ..self.failed(cell, Class::Changed(seen), why) };
                }
                if let Some(other) = answered.filter(|answered| *answered != to.address) {
                    let why = format!("{} was asked, but {other} answered", to.address);
                    return self.failed(cell, Class::Changed(other), why);
                }
                cell
            }
            outcome => self.lost(cell, question, outcome),
        }
    }

    /// What did not arrive: because of a policy, or for another reason.
    fn lost(&mut self, cell: Cell, question: &Question, outcome: &Outcome) -> Cell {
        let why = match self.words(outcome) {
            Ok(why) => why,
            Err(why) => return Self::unknown(cell, why),
        };
        if matches!(outcome, Outcome::NoAddress { .. }) {
            return self.failed(cell, Class::Lost, why);
        }
        let way = self.way(question);
        if let Outcome::Unanswered { .. } = outcome {
            // A policy lets answers of what it has let pass come back.
            let by = self.firewalls.drop(way.back()).filter(|by| !by.is_policy);
            let why = by.as_ref().map_or(why.clone(), |by| format!("{why}: {}", by.text));
            return Cell { by, backward: true, ..self.failed(cell, Class::Lost, why) };
        }
        match self.firewalls.drop(way) {
            Some(by) if by.is_policy => {
                let why = format!("{why}: {}", by.text);
                Cell { verdict: Verdict::Blocked, why, by: Some(by), ..cell }
            }
            Some(by) => {
                let failed = self.failed(cell, Class::Lost, format!("{why}: {}", by.text));
                Cell { by: Some(by), ..failed }
            }
            None if [way.from, way.to].iter().any(|at| self.firewalls.has_judge(*at)) => {
                let who = "kube-network-policies decides in user space what passes";
                Self::unknown(cell, format!("{why}; {who}, and may have blocked it"))
            }
            None => self.failed(cell, Class::Lost, why),
        }
    }

    /// What came of a question that was not answered; an error where that says nothing.
    fn words(&self, outcome: &Outcome) -> Result<String, String> {
        match outcome {
            Outcome::Answered { .. } => Ok(String::new()),
            Outcome::Unanswered { .. } => Ok("it arrives, but its answer does not".to_owned()),
            Outcome::Silent(milliseconds) => Ok(format!("no answer within {milliseconds} ms")),
            Outcome::TooLarge(why) | Outcome::Refused(why) => Ok(why.clone()),
            Outcome::NoAddress { address, why } => Ok(format!("cannot use {address}: {why}")),
            Outcome::Gone(place) => {
                let host = &self.plan.hosts[self.plan.places[*place].host];
                Err(format!("{} is gone", host.name))
            }
            Outcome::Unknown(why) => Err(why.clone()),
        }
    }

    fn size(&mut self, question: &Question, outcome: &Outcome) -> Cell {
        let cell = self.cell(question);
        let Some(size) = question.whole else { return cell };
        let whole = Some((size, self.plan.route(question)));
        let cell = Cell { whole, ..cell };
        if outcome.has_arrived() {
            return cell;
        }
        let why = match self.words(outcome) {
            Ok(why) => why,
            Err(why) => return Self::unknown(cell, why),
        };
        match self.small.get(&(question.from, question.to)) {
            Some(true) => {
                let why = format!("{} bytes in one piece: {why}", words::grouped(size));
                self.failed(cell, Class::Large, why)
            }
            _ => Self::unknown(cell, FOLLOWS[0]),
        }
    }

    /// Whether a packet that leaves the cluster is seen as from its node.
    fn outside(&mut self, question: &Question, outcome: &Outcome) -> Cell {
        let cell = self.cell(question);
        let home = self.plan.hosts[cell.from].home;
        let name = |home: usize| self.view.called(home);
        match outcome {
            Outcome::Answered { seen: Some(seen), .. } => {
                if home.is_some_and(|home| self.view.owns(home, *seen)) {
                    return cell;
                }
                let node = home.map_or_else(|| "its node".to_owned(), name);
                let why = format!("seen as from {seen}, which is no address of {node}");
                self.failed(cell, Class::Service, why)
            }
            Outcome::Answered { seen: None, .. } => {
                Self::unknown(cell, "nobody told from which address it came")
            }
            outcome => self.lost(cell, question, outcome),
        }
    }

    fn call(&mut self, call: &Call, outcome: &Outcome) -> Cell {
        let from = &self.plan.places[call.from];
        let to = match &call.service {
            Service::Resolver => from.host,
            Service::Port { place, .. } => self.plan.places[*place].host,
        };
        let cell =
            Cell::passed(call.rule, from.host, to, from.address.is_ipv6(), Some(call.protocol));
        let own = from.address;
        // Who is of the pod's own node may get no answer otherwise.
        let keeps_source = call.rule == Rule::HostPort
            && call.rule.forbids_nat(self.profile)
            && !self.same_node(from.host, to);
        let mut class = Class::Service;
        let mut by = None;
        let why = match outcome {
            Outcome::Answered { from: Some(other), .. } if *other != call.to.ip() => {
                format!("{other} answered")
            }
            Outcome::Answered { seen: Some(seen), .. } if *seen != own && keeps_source => {
                class = Class::Changed(*seen);
                by = self.translation(call);
                format!("sent from {own}, but seen as from {seen}")
            }
            Outcome::Answered { .. } => return cell,
            Outcome::Unanswered { seen } if *seen != own => {
                by = self.translation(call);
                format!("sent from {own}, but seen as from {seen}, and no answer comes back")
            }
            outcome => match self.words(outcome) {
                Ok(why) => why,
                Err(why) => return Self::unknown(cell, format!("{}: {why}", call.to)),
            },
        };
        Cell { by, ..self.failed(cell, class, format!("{}: {why}", call.to)) }
    }

    /// What gives a call to a port another source, on its way to the node or from there to the pod.
    fn translation(&mut self, call: &Call) -> Option<policy::Verdict> {
        let Service::Port { place, .. } = call.service else { return None };
        let [from, pod] = [call.from, place].map(|it| &self.plan.places[it]);
        let [from_host, pod_host] = [from, pod].map(|it| &self.plan.hosts[it.host]);
        let way = |to: usize, destination: IpAddr| Way {
            from: from_host.at,
            source: from.address,
            to,
            destination,
            protocol: call.protocol,
        };
        let to_node = way(pod_host.home?, call.to.ip());
        let to_pod = way(pod_host.at, pod.address);
        self.firewalls.translation(to_node).or_else(|| self.firewalls.translation(to_pod))
    }

    /// Of each pod and family: whether all who saw it saw its own address.
    fn self_view(&self, cells: &[Cell]) -> Vec<Cell> {
        let mut seen: BTreeMap<(usize, bool), Vec<&Cell>> = BTreeMap::new();
        let told = cells.iter().filter(|it| matches!(it.rule, Rule::PodToPod | Rule::PodToNode));
        for cell in told {
            seen.entry((cell.from, cell.v6)).or_default().push(cell);
        }
        let judge = |((pod, v6), of_it): ((usize, bool), Vec<&Cell>)| {
            let cell = Cell::passed(Rule::SelfView, pod, pod, v6, None);
            let changed = of_it.iter().find(|it| matches!(it.class, Some(Class::Changed(_))));
            if let Some(changed) = changed {
                let class = changed.class.unwrap_or(Class::Lost);
                let why = format!("{} by {}", changed.why, self.plan.hosts[changed.to].name);
                return self.failed(cell, class, why);
            }
            match of_it.iter().any(|it| it.verdict == Verdict::Pass) {
                true => cell,
                false => Self::unknown(cell, FOLLOWS[1]),
            }
        };
        seen.into_iter().map(judge).collect()
    }

    /// Who has an address that somebody else has, too, as far as was looked.
    fn unique(&self) -> Vec<Cell> {
        let hosts = &self.plan.hosts;
        let mut owners: HashMap<(Option<&str>, IpAddr), Vec<usize>> = HashMap::new();
        for (place, host) in hosts.iter().enumerate() {
            let own = self.view.own(host.at).map(|it| it.address.addr());
            let all: HashSet<IpAddr> = own.chain(host.addresses.iter().copied()).collect();
            for address in all {
                owners.entry((host.lab.as_deref(), address)).or_default().push(place);
            }
        }
        let mut cells = Vec::new();
        for pod in &self.plan.pods {
            let host = &hosts[*pod];
            for address in &host.addresses {
                let all = owners.get(&(host.lab.as_deref(), *address));
                let other = all.into_iter().flatten().find(|it| *it != pod);
                let cell = Cell::passed(
                    Rule::UniqueAddress,
                    *pod,
                    other.copied().unwrap_or(*pod),
                    address.is_ipv6(),
                    None,
                );
                cells.push(match other {
                    Some(other) => {
                        let why = format!("{} has {address}, too", hosts[*other].name);
                        self.failed(cell, Class::Twice(*address), why)
                    }
                    None => cell,
                });
            }
        }
        cells
    }
}
