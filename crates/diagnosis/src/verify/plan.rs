//! Which questions are asked, of whom.

mod calls;
mod pairs;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use topology::{Machine, NetnsId};

pub use self::pairs::{MOST_PAIRS, Pairs, Sample};
use super::hosts::{self, Host, Kind};
use super::rule::Rule;
use crate::reference::{self, LookupError, Reference, Subject};
use crate::view::View;
use crate::{explain, words};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// About whom: everything, if nobody is named.
    pub subjects: Vec<Reference>,
    /// Which rules.
    pub rules: BTreeSet<Rule>,
    /// How small packets are sent.
    pub protocols: BTreeSet<Protocol>,
    /// Which pairs.
    pub pairs: Pairs,
}

/// Why nothing can be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It is not known who is meant.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// What is meant sends no packets.
    #[error("{0} is neither a pod, a node nor a lab")]
    Strange(String),
}

/// An address in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who the namespace is.
    pub netns: NetnsId,
    /// Where it is entered; `None` for one that nothing leads to.
    pub path: Option<PathBuf>,
    /// The address.
    pub address: IpAddr,
    /// Whose it is, in [`Plan::hosts`].
    pub(super) host: usize,
}

/// How a packet is sent.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// An echo request.
    Icmp,
    /// A datagram.
    Udp,
    /// A connection.
    Tcp,
}

/// A packet there and an answer back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Where it starts, in [`Plan::places`].
    pub from: usize,
    /// Where it is answered.
    pub to: usize,
    /// How it is sent.
    pub protocol: Protocol,
    /// The size of the IP packet that has to arrive in one piece; `None` for a small one.
    pub whole: Option<usize>,
    pub(super) rule: Rule,
}

/// A question to something that listens at an address which is not its own, or that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Where it starts, in [`Plan::places`].
    pub from: usize,
    /// Whom it asks.
    pub to: SocketAddr,
    /// How it is sent: never by ICMP.
    pub protocol: Protocol,
    /// What answers.
    pub service: Service,
    pub(super) rule: Rule,
}

/// What answers a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// A resolver.
    Resolver,
    /// Whoever listens at this port of this place; we do, where nobody does.
    Port {
        /// In [`Plan::places`].
        place: usize,
        /// The port.
        port: u16,
    },
}

/// All that is asked.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Where packets start and arrive.
    pub places: Vec<Place>,
    /// What is asked between them.
    pub questions: Vec<Question>,
    /// What is asked of others.
    pub calls: Vec<Call>,
    /// How many hear it at most when one of them looks for a neighbour: the ports of a bridge.
    pub audience: usize,
    pub(super) hosts: Vec<Host>,
    pub(super) subject: String,
    pub(super) rules: BTreeSet<Rule>,
    pub(super) sample: Option<Sample>,
    /// The pods that are asked about, as a rule that needs no packet has to know.
    pub(super) pods: BTreeSet<usize>,
}

impl Plan {
    /// What to ask on a machine.
    ///
    /// # Errors
    ///
    /// If it is not clear who is meant, or if that sends no packets.
    pub fn new(machine: &Machine, wanted: &Wanted) -> Result<Self, PlanError> {
        let view = View::new(machine);
        let hosts = hosts::hosts(&view);
        let scope = Scope::new(&view, &hosts, &wanted.subjects)?;
        let subject = match wanted.subjects.is_empty() {
            true => Reference::Machine.to_string(),
            false => words::list(&wanted.subjects),
        };
        let rules = wanted.rules.clone();
        let mut builder = Builder {
            view: &view,
            scope: &scope,
            protocols: &wanted.protocols,
            known: HashMap::new(),
            plan: Self { hosts, subject, rules, audience: audience(&view), ..Self::default() },
        };
        let labs: BTreeSet<Option<String>> =
            builder.plan.hosts.iter().map(|host| host.lab.clone()).collect();
        for lab in labs {
            builder.cluster(lab.as_deref(), wanted.pairs);
        }
        Ok(builder.plan)
    }

    /// Whether all that is asked about is of labs.
    pub fn is_of_labs(&self) -> bool {
        self.pods.iter().all(|pod| self.hosts[*pod].lab.is_some())
    }

    /// Whether there is anybody to ask about.
    pub fn has_pods(&self) -> bool {
        !self.pods.is_empty()
    }
}

/// The ports of the bridge that has the most.
fn audience(view: &View<'_>) -> usize {
    let ends = view.all().flat_map(|(at, _)| view.ends(at));
    ends.map(|(end, _)| view.ports(end).len()).max().unwrap_or_default()
}

/// Whom a person asks about.
struct Scope {
    everything: bool,
    labs: BTreeSet<String>,
    hosts: BTreeSet<usize>,
}

impl Scope {
    fn new(view: &View<'_>, hosts: &[Host], subjects: &[Reference]) -> Result<Self, PlanError> {
        let mut scope =
            Self { everything: subjects.is_empty(), labs: BTreeSet::new(), hosts: BTreeSet::new() };
        for wanted in subjects {
            let strange = || PlanError::Strange(wanted.to_string());
            let at = match reference::find(view, wanted)? {
                Subject::Machine => {
                    scope.everything = true;
                    continue;
                }
                Subject::Lab(name) => {
                    scope.labs.insert(name);
                    continue;
                }
                Subject::Namespace(at) => at,
                Subject::Node(node) => {
                    let id = view.machine.nodes[node].namespace.ok_or_else(strange)?;
                    view.at(id).ok_or_else(strange)?
                }
                Subject::Container(..) => {
                    let wanted = wanted.clone();
                    return Err(LookupError::None { wanted, near: Vec::new() }.into());
                }
                Subject::Link(_) => return Err(strange()),
            };
            let all = hosts.iter().enumerate();
            let own = all.filter(|(_, host)| {
                host.at == at || (host.kind == Kind::Pod && host.home == Some(at))
            });
            let before = scope.hosts.len();
            scope.hosts.extend(own.map(|(place, _)| place));
            if scope.hosts.len() == before && !hosts.iter().any(|host| host.at == at) {
                // A pod without any address is there, and nothing can be asked of it.
                if !view.is_pod(at) {
                    return Err(strange());
                }
            }
        }
        Ok(scope)
    }

    fn has_lab(&self, lab: Option<&str>) -> bool {
        self.everything || lab.is_some_and(|lab| self.labs.contains(lab))
    }
}

struct Builder<'b, 'a> {
    view: &'b View<'a>,
    scope: &'b Scope,
    protocols: &'b BTreeSet<Protocol>,
    known: HashMap<(usize, IpAddr), usize>,
    plan: Plan,
}

/// The hosts of a cluster.
struct Cluster {
    pods: Vec<usize>,
    nodes: Vec<usize>,
    outside: Vec<usize>,
    /// All of it is asked about.
    whole: bool,
}

impl Builder<'_, '_> {
    fn cluster(&mut self, lab: Option<&str>, pairs: Pairs) {
        let of = |kind: Kind| -> Vec<usize> {
            let all = self.plan.hosts.iter().enumerate();
            let own = all.filter(|(_, it)| it.kind == kind && it.lab.as_deref() == lab);
            own.map(|(place, _)| place).collect()
        };
        let cluster = Cluster {
            pods: of(Kind::Pod),
            nodes: of(Kind::Node),
            outside: of(Kind::Outside),
            whole: self.scope.has_lab(lab),
        };
        let is_wanted = |place: &usize| cluster.whole || self.scope.hosts.contains(place);
        let asked: Vec<usize> = cluster.pods.iter().copied().filter(is_wanted).collect();
        let has_node = cluster.nodes.iter().any(is_wanted);
        if cluster.pods.is_empty() || (asked.is_empty() && !has_node) {
            return;
        }
        self.plan.pods.extend(&asked);
        let among = self.pod_pairs(&cluster, pairs);
        let mixed = self.node_pairs(&cluster, pairs);
        for (from, to) in among {
            self.reach(Rule::PodToPod, from, to);
            self.size(from, to);
        }
        for (node, pod) in mixed {
            self.reach(Rule::NodeToPod, node, pod);
            self.reach(Rule::PodToNode, pod, node);
        }
        self.below(&cluster);
        for pod in asked {
            self.outside(pod, &cluster);
            self.resolver(pod);
            self.ports(pod, &cluster);
        }
    }

    fn is_wanted(&self, cluster: &Cluster, one: usize, other: usize) -> bool {
        cluster.whole || self.scope.hosts.contains(&one) || self.scope.hosts.contains(&other)
    }

    fn place(&mut self, host: usize, address: IpAddr) -> usize {
        let Self { view, known, plan, .. } = self;
        *known.entry((host, address)).or_insert_with(|| {
            let namespace = view.namespace(plan.hosts[host].at);
            let path = namespace.path().map(ToOwned::to_owned);
            plan.places.push(Place { netns: namespace.id, path, address, host });
            plan.places.len() - 1
        })
    }

    fn asks(&self, rule: Rule) -> bool {
        self.plan.rules.contains(&rule)
    }

    /// The two ends of a pair in each family that both have; a node sends from the address that it
    /// would choose.
    fn ends(&mut self, from: usize, to: usize) -> Vec<(usize, usize)> {
        let mut ends = Vec::new();
        for v6 in [false, true] {
            let [one, other] = [from, to].map(|it| self.plan.hosts[it].address(v6));
            let (Some(mut one), Some(other)) = (one, other) else { continue };
            if self.plan.hosts[from].kind == Kind::Node {
                one = hosts::source(self.view, self.plan.hosts[from].at, other).unwrap_or(one);
            }
            ends.push((self.place(from, one), self.place(to, other)));
        }
        ends
    }

    fn reach(&mut self, rule: Rule, from: usize, to: usize) {
        // Whether a pod sees itself as others do is told by whoever it reaches.
        let is_seen = self.asks(Rule::SelfView) && rule != Rule::NodeToPod;
        if !self.asks(rule) && !is_seen {
            return;
        }
        for (from, to) in self.ends(from, to) {
            for protocol in self.protocols {
                let protocol = *protocol;
                self.plan.questions.push(Question { from, to, protocol, whole: None, rule });
            }
        }
    }

    /// The largest packet of a pod.
    fn size(&mut self, from: usize, to: usize) {
        if !self.asks(Rule::Mtu) {
            return;
        }
        let whole = Some(self.plan.hosts[from].mtu);
        let is_asked = self.asks(Rule::PodToPod) || self.asks(Rule::SelfView);
        let has_small = is_asked && self.protocols.contains(&Protocol::Udp);
        for (from, to) in self.ends(from, to) {
            let rule = Rule::Mtu;
            if !has_small {
                self.small(from, to);
            }
            self.plan.questions.push(Question { from, to, protocol: Protocol::Udp, whole, rule });
        }
    }

    /// Whether anything passes, without which its size says nothing.
    fn small(&mut self, from: usize, to: usize) {
        let (protocol, rule) = (Protocol::Udp, Rule::Mtu);
        self.plan.questions.push(Question { from, to, protocol, whole: None, rule });
    }

    /// What a full tunnel sends has to fit between nodes: in one piece, which the tunnel itself does
    /// not ask for, so that it is fragmented and slow rather than lost.
    fn below(&mut self, cluster: &Cluster) {
        if !self.asks(Rule::Mtu) {
            return;
        }
        // A node may have several tunnels of one kind.
        let mut known = BTreeSet::new();
        for from in &cluster.nodes {
            let at = self.plan.hosts[*from].at;
            let tunnels: Vec<_> = self
                .view
                .ends(at)
                .filter_map(|(end, link)| Some((end, link.mtu, link.vxlan?)))
                .collect();
            for (end, mtu, vxlan) in tunnels {
                let far = explain::far_ends(self.view, end);
                for to in &cluster.nodes {
                    let of_peer = &self.plan.hosts[*to];
                    let is_its = |it: &&IpAddr| self.view.owns(of_peer.at, **it);
                    let Some(address) = far.iter().find(is_its).copied() else { continue };
                    if from == to || !self.is_wanted(cluster, *from, *to) {
                        continue;
                    }
                    let own = vxlan.local.filter(|it| it.is_ipv6() == address.is_ipv6());
                    let own = own.or_else(|| hosts::source(self.view, at, address));
                    let Some(own) = own else { continue };
                    let whole = Some((mtu + explain::overhead(vxlan, address.is_ipv6())) as usize);
                    let (from, to) = (self.place(*from, own), self.place(*to, address));
                    let (protocol, rule) = (Protocol::Udp, Rule::Mtu);
                    if known.insert((from, to, whole)) {
                        self.small(from, to);
                        self.plan.questions.push(Question { from, to, protocol, whole, rule });
                    }
                }
            }
        }
    }

    fn outside(&mut self, pod: usize, cluster: &Cluster) {
        if !self.asks(Rule::Outside) {
            return;
        }
        for beyond in &cluster.outside {
            for (from, to) in self.ends(pod, *beyond) {
                let (protocol, rule) = (Protocol::Udp, Rule::Outside);
                self.plan.questions.push(Question { from, to, protocol, whole: None, rule });
            }
        }
    }
}
