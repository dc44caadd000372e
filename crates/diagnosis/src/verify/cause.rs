//! A group of failures in words: what fails, how it is known, what is wrong on the way, what to do
//! next.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;
use topology::End;

use super::fold::{Group, Layer, Only, Scope};
use super::hosts::{Host, Kind};
use super::judge::{Cell, Class};
use super::outcome::Search;
use super::plan::{Plan, Protocol};
use super::rule::{Profile, Rule};
use crate::finding::{Code, Finding, Severity};
use crate::view::View;
use crate::{Thing, findings, words};

/// Why something has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// What fails, in one sentence.
    pub text: String,
    /// The rules that are broken by it.
    pub rules: Vec<Rule>,
    /// How many pairs it explains.
    pub pairs: usize,
    /// How that is known.
    pub evidence: Vec<String>,
    /// What is wrong on the way of these packets, as far as it is seen.
    pub findings: Vec<Finding>,
    /// What to do next.
    pub next: String,
}

/// How many findings a cause has.
const MOST_FINDINGS: usize = 5;
/// How many examples there are of what was seen.
const MOST_EXAMPLES: usize = 2;

/// The groups as causes, in their order.
pub(super) fn causes(
    view: &View<'_>,
    plan: &Plan,
    profile: Profile,
    cells: &[Cell],
    groups: &[Group],
    searches: &[Search],
) -> Vec<Cause> {
    if groups.is_empty() {
        return Vec::new();
    }
    let writer = Writer { view, plan, profile, cells, searches, found: findings::of(view) };
    groups.iter().map(|group| writer.cause(group)).collect()
}

struct Writer<'w, 'a> {
    view: &'w View<'a>,
    plan: &'w Plan,
    profile: Profile,
    cells: &'w [Cell],
    searches: &'w [Search],
    found: Vec<Finding>,
}

impl Writer<'_, '_> {
    fn cause(&self, group: &Group) -> Cause {
        let cells: Vec<&Cell> = group.cells.iter().map(|place| &self.cells[*place]).collect();
        let rules: BTreeSet<Rule> = cells.iter().map(|cell| cell.rule).collect();
        let pairs: BTreeSet<(Rule, usize, usize, bool)> =
            cells.iter().map(|it| (it.rule, it.from, it.to, it.v6)).collect();
        let size = self.largest(&cells);
        Cause {
            text: self.sentence(group, &cells, size),
            rules: rules.into_iter().collect(),
            pairs: pairs.len(),
            evidence: self.evidence(&cells, size),
            findings: self.on_the_way(group, &cells),
            next: self.next(group, &cells),
        }
    }

    fn host(&self, place: usize) -> &Host {
        &self.plan.hosts[place]
    }

    fn name(&self, place: usize) -> String {
        let host = self.host(place);
        match host.kind {
            Kind::Pod => words::kinded("pod", &host.name),
            Kind::Node => words::kinded("node", &host.name),
            Kind::Outside => host.name.clone(),
        }
    }

    fn node(&self, at: usize) -> String {
        let known = self.plan.hosts.iter().position(|it| it.kind == Kind::Node && it.at == at);
        known.map_or_else(|| self.view.called(at), |place| self.name(place))
    }

    fn sentence(&self, group: &Group, cells: &[&Cell], size: Option<usize>) -> String {
        let between = self.between(group.scope, group.layer);
        let only = self.only(group, size);
        format!("{between}{only}: {}", self.what(group, cells))
    }

    fn between(&self, scope: Scope, layer: Layer) -> String {
        if let (Layer::Rule(rule), Scope::Pod(pod) | Scope::Pair(_, pod)) = (layer, scope)
            && matches!(rule, Rule::Dns | Rule::Hairpin | Rule::UniqueAddress)
        {
            return self.name(pod);
        }
        match scope {
            Scope::Pair(from, to) => format!("{} → {}", self.name(from), self.name(to)),
            Scope::Sent(pod) => format!("all that {} sends", self.name(pod)),
            Scope::Received(pod) => format!("all that is sent to {}", self.name(pod)),
            Scope::Pod(pod) => format!("all from and to {}", self.name(pod)),
            Scope::PodAcross(pod) => {
                format!("all between {} and other nodes", self.name(pod))
            }
            Scope::PodsAndNode(node, other) => {
                format!("all between pods of {} and {}", self.node(node), self.node(other))
            }
            Scope::FromPods(node) => {
                format!("all that pods of {} send to others", self.node(node))
            }
            Scope::ToPods(node) => {
                format!("all that other nodes send to pods of {}", self.node(node))
            }
            Scope::Pods(node) => {
                format!("all between pods of {} and other nodes", self.node(node))
            }
            Scope::Within(node) => format!("every pair on {}", self.node(node)),
            Scope::NodeWay(one, other) => {
                format!("every pair {} → {}, this direction only", self.node(one), self.node(other))
            }
            Scope::NodePair(one, other) => {
                format!("every pair {} ↔ {}", self.node(one), self.node(other))
            }
            Scope::FromNode(node) => format!("all that leaves {} for other nodes", self.node(node)),
            Scope::ToNode(node) => {
                format!("all that comes to {} from other nodes", self.node(node))
            }
            Scope::Node(node) => format!("every pair between {} and other nodes", self.node(node)),
            Scope::Across(_) => "every pair on different nodes".to_owned(),
            Scope::All(_) => "every pair".to_owned(),
        }
    }

    fn only(&self, group: &Group, size: Option<usize>) -> String {
        let Only { rule, protocol, v6 } = group.only;
        let mut only = Vec::new();
        if let Some(rule) = rule {
            only.push(match rule {
                Rule::PodToPod => "only pod to pod".to_owned(),
                Rule::NodeToPod => "only from nodes to pods".to_owned(),
                Rule::PodToNode => "only from pods to nodes".to_owned(),
                rule => format!("only {rule}"),
            });
        }
        only.extend(protocol.map(|it| format!("only {}", word(it))));
        only.extend(v6.filter(|_| self.has_both()).map(|v6| format!("only {}", family(v6))));
        if matches!(group.layer, Layer::Large | Layer::Below) {
            only.push(match size {
                Some(size) => format!("only packets above {} bytes", words::grouped(size)),
                None => "only large packets".to_owned(),
            });
        }
        only.iter().map(|it| format!(", {it}")).collect()
    }

    /// Whether both families are asked about: else that one fails says nothing about the other.
    fn has_both(&self) -> bool {
        [false, true].iter().all(|v6| self.cells.iter().any(|cell| cell.v6 == *v6))
    }

    fn what(&self, group: &Group, cells: &[&Cell]) -> String {
        match group.layer {
            Layer::Changed => {
                let seen: BTreeSet<IpAddr> = cells
                    .iter()
                    .filter_map(|cell| match cell.class {
                        Some(Class::Changed(address)) => Some(address),
                        _ => None,
                    })
                    .collect();
                let seen = words::some(seen, 4);
                format!("the source address is changed (NAT); others see {seen}")
            }
            Layer::Large => "they do not arrive in one piece".to_owned(),
            Layer::Below => "what a full tunnel sends does not fit between the nodes, and is \
                             fragmented or lost"
                .to_owned(),
            Layer::Lost => match self.common(cells) {
                Some(why) => why,
                None => "nothing arrives".to_owned(),
            },
            Layer::Rule(rule) => {
                let why = self.common(cells);
                let why = why.or_else(|| cells.first().map(|cell| cell.why.clone()));
                match (rule, why) {
                    (Rule::UniqueAddress, Some(why)) => why,
                    (Rule::Dns, Some(why)) => format!("the resolver does not answer it ({why})"),
                    (Rule::HostPort, Some(why)) => {
                        format!("the node's port does not lead to the pod ({why})")
                    }
                    (Rule::Hairpin, Some(why)) => {
                        format!("it does not reach itself by its node's port ({why})")
                    }
                    (Rule::Outside, Some(why)) => {
                        format!("the host beyond the cluster is not reached as promised ({why})")
                    }
                    (_, Some(why)) => why,
                    (rule, None) => rule.text(self.profile).to_owned(),
                }
            }
        }
    }

    /// Why all of them failed, if that is the same.
    fn common(&self, cells: &[&Cell]) -> Option<String> {
        let first = &cells.first()?.why;
        cells.iter().all(|cell| cell.why == *first).then(|| first.clone())
    }

    /// The largest packet that passes everywhere in it.
    fn largest(&self, cells: &[&Cell]) -> Option<usize> {
        let routes: HashSet<_> =
            cells.iter().filter_map(|cell| cell.whole).map(|(_, route)| route).collect();
        let of_it = self.searches.iter().filter(|search| {
            let question = self.plan.rung(search, search.largest());
            routes.contains(&self.plan.route(&question))
        });
        of_it.map(Search::largest).min()
    }

    fn evidence(&self, cells: &[&Cell], size: Option<usize>) -> Vec<String> {
        let mut evidence = Vec::new();
        let mut told: HashSet<&str> = HashSet::new();
        for cell in cells {
            if evidence.len() == MOST_EXAMPLES {
                break;
            }
            if told.insert(&cell.why) {
                evidence.push(self.example(cell));
            }
        }
        if let Some(size) = size {
            let wanted: BTreeSet<usize> =
                cells.iter().filter_map(|cell| cell.whole).map(|(wanted, _)| wanted).collect();
            let wanted = words::some(wanted.into_iter().map(words::grouped), 3);
            let size = words::grouped(size);
            evidence.push(format!("{wanted} bytes were sent in one piece; {size} pass"));
        }
        let rules: BTreeSet<&str> =
            cells.iter().filter_map(|cell| Some(cell.by.as_ref()?.text.as_str())).collect();
        let rules = rules.into_iter().filter(|it| !cells.iter().any(|cell| cell.why.contains(it)));
        evidence.extend(rules.take(3).map(ToOwned::to_owned));
        evidence
    }

    fn example(&self, cell: &Cell) -> String {
        let ends = match cell.from == cell.to {
            true => self.name(cell.from),
            false => format!("{} → {}", self.name(cell.from), self.name(cell.to)),
        };
        let by = cell.protocol.map(|it| format!(" by {}", word(it))).unwrap_or_default();
        let family =
            if self.has_both() { format!(" over {}", family(cell.v6)) } else { String::new() };
        format!("{ends}{by}{family}: {}", cell.why)
    }

    /// What is wrong with what carries these packets.
    fn on_the_way(&self, group: &Group, cells: &[&Cell]) -> Vec<Finding> {
        let way = self.way(cells);
        let concerns = |code: Code| match group.layer {
            Layer::Large | Layer::Below => is_size(code),
            Layer::Changed => is_translation(code),
            Layer::Lost => !is_size(code) && !is_translation(code) && !is_bookkeeping(code),
            Layer::Rule(Rule::UniqueAddress) => {
                matches!(
                    code,
                    Code::AddressTwice
                        | Code::MacTwice
                        | Code::ReservationTwice
                        | Code::ReservationMissing
                )
            }
            Layer::Rule(Rule::Outside) => !is_size(code) && !is_bookkeeping(code),
            Layer::Rule(Rule::Hairpin) => {
                matches!(code, Code::HairpinMissing | Code::PodsDropped | Code::BridgeRulesSkipped)
            }
            Layer::Rule(_) => !is_size(code) && !is_translation(code) && !is_bookkeeping(code),
        };
        let lies_on = |finding: &&Finding| match finding.about.first() {
            // Of two that are alike neither comes first.
            _ if matches!(finding.code, Code::MacTwice | Code::AddressTwice) => {
                finding.about.iter().any(|thing| way.contains(thing))
            }
            // What is wrong with a machine as a whole is wrong for all.
            None => finding.code != Code::Unreadable,
            Some(first) => way.contains(first),
        };
        // Some are meant by whoever did it, and lose packets all the same.
        let loses = |code: Code| matches!(code, Code::PortIsolated | Code::BridgeRulesApplied);
        let found = self.found.iter();
        let found = found.filter(|it| it.severity >= Severity::Warning || loses(it.code));
        let found = found.filter(|it| concerns(it.code)).filter(lies_on);
        found.take(MOST_FINDINGS).cloned().collect()
    }

    /// All that these packets pass.
    fn way(&self, cells: &[&Cell]) -> HashSet<Thing> {
        let view = self.view;
        let mut way = HashSet::new();
        let ends: BTreeSet<usize> = cells.iter().flat_map(|cell| [cell.from, cell.to]).collect();
        let mut homes: BTreeSet<usize> = BTreeSet::new();
        for place in ends {
            let host = self.host(place);
            homes.extend(host.home);
            if host.kind == Kind::Node {
                homes.insert(host.at);
                continue;
            }
            way.insert(view.space(host.at));
            for (end, _) in view.ends(host.at) {
                way.insert(view.thing(end));
                if let Some(far) = view.peer(end) {
                    way.insert(view.thing(far));
                }
            }
        }
        for home in homes {
            way.insert(view.space(home));
            way.extend(view.node(home).map(|node| Thing::Node(node.name.clone())));
            // All of the node but the cables of pods that are not asked about.
            let is_of_pod = |end: End| view.peer(end).is_some_and(|it| view.is_pod(it.namespace));
            let own = view.ends(home).filter(|(end, _)| !is_of_pod(*end));
            for (end, _) in own {
                way.insert(view.thing(end));
                if let Some(far) = view.peer(end) {
                    way.insert(view.thing(far));
                    way.insert(view.space(far.namespace));
                }
            }
        }
        way
    }

    /// The question to ask next.
    fn next(&self, group: &Group, cells: &[&Cell]) -> String {
        let of_node = |at: usize| {
            let known = self.plan.hosts.iter().find(|it| it.kind == Kind::Node && it.at == at);
            known.map(|host| host.object.clone())
        };
        let of_pod = |place: usize| Some(self.host(place).object.clone());
        let first = cells.first().map(|cell| cell.from);
        let object = match group.scope {
            Scope::Pair(from, to) => match self.host(from).kind {
                Kind::Pod => of_pod(from),
                _ => of_pod(to),
            },
            Scope::Sent(pod) | Scope::Received(pod) | Scope::Pod(pod) | Scope::PodAcross(pod) => {
                of_pod(pod)
            }
            Scope::Within(node)
            | Scope::FromPods(node)
            | Scope::ToPods(node)
            | Scope::Pods(node)
            | Scope::PodsAndNode(node, _)
            | Scope::FromNode(node)
            | Scope::ToNode(node)
            | Scope::Node(node)
            | Scope::NodeWay(node, _)
            | Scope::NodePair(node, _) => of_node(node),
            Scope::Across(_) | Scope::All(_) => {
                let lab = first.and_then(|place| self.host(place).lab.clone());
                lab.map(|lab| format!("lab/{lab}"))
            }
        };
        let by = cells.iter().find_map(|cell| cell.by.as_ref());
        if let Some(by) = by {
            return by.command.clone();
        }
        match object {
            Some(object) => format!("podwire explain {}", net::quote(&object)),
            None => "podwire explain".to_owned(),
        }
    }
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Icmp => "ICMP",
        Protocol::Udp => "UDP",
        Protocol::Tcp => "TCP",
    }
}

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

fn is_size(code: Code) -> bool {
    matches!(code, Code::MtuMixed | Code::MtuTunnel | Code::MtuPod | Code::MtuPeer)
}

fn is_translation(code: Code) -> bool {
    matches!(
        code,
        Code::MasqueradeBetweenPods
            | Code::FirewalldMasquerade
            | Code::MasqueradeMissing
            | Code::TableDormant
    )
}

/// What is wrong with files or may become a problem, and has lost no packet yet.
fn is_bookkeeping(code: Code) -> bool {
    matches!(
        code,
        Code::ReservationLeaked
            | Code::ReservationUnknown
            | Code::ReservationTwice
            | Code::RangeNearlyFull
            | Code::RangeFull
            | Code::HairpinMissing
            | Code::LegacyTables
            | Code::DeadName
            | Code::AttachmentLeft
            | Code::ElementLeft
            | Code::LabLeft
            | Code::Unreadable
    )
}
