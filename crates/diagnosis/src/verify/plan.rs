//! Which questions are asked: all, or a sample that leaves out no pod and no two nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use topology::{Machine, NetnsId};

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

/// Between whom questions are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// All, up to [`MOST_PAIRS`] of pods in a cluster; beyond, as many as [`Pairs::Sample`] takes by
    /// itself.
    Usual,
    /// All, however many.
    All,
    /// About so many of pods, and as many of nodes and pods; never fewer than it takes to leave out
    /// no pod and no two nodes.
    Sample(usize),
}

/// How many pairs of pods are all asked where nobody says how many.
pub const MOST_PAIRS: usize = 10_000;
/// How many there are in a sample where nobody says how many.
const USUAL_SAMPLE: usize = 2_000;

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
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, schemars::JsonSchema,
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

/// That not all pairs are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Sample {
    /// How many pairs of pods are asked.
    pub asked: usize,
    /// How many there are.
    pub all: usize,
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
            plan: Self { hosts, subject, rules, ..Self::default() },
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

    /// Ordered pairs of pods.
    fn pod_pairs(&mut self, cluster: &Cluster, pairs: Pairs) -> Vec<(usize, usize)> {
        let pods = &cluster.pods;
        let all = pods.iter().flat_map(|from| pods.iter().map(move |to| (*from, *to)));
        let all = all.filter(|(from, to)| from != to && self.is_wanted(cluster, *from, *to));
        let Some(size) = sample_size(pairs, all.clone().count()) else { return all.collect() };
        let count = all.clone().count();
        let homes = self.by_home(pods);
        let mut chosen: BTreeSet<(usize, usize)> = BTreeSet::new();
        // Each pod sends and is sent to: one ring of all, dealt out by node, so that neighbours are
        // on different ones.
        let ring = dealt(&homes);
        chosen.extend(ring.iter().zip(ring.iter().cycle().skip(1)).map(|(a, b)| (*a, *b)));
        // Each two nodes, in both directions, by other pods each time; and each node with itself.
        for (row, from) in homes.iter().enumerate() {
            for (column, to) in homes.iter().enumerate() {
                let a = from[column % from.len()];
                let b = to[(row + usize::from(row == column)) % to.len()];
                let b = if a == b { to[(row + 1) % to.len()] } else { b };
                if a != b {
                    chosen.insert((a, b));
                }
            }
        }
        chosen.retain(|(from, to)| self.is_wanted(cluster, *from, *to));
        let all: Vec<(usize, usize)> = all.collect();
        fill(&mut chosen, &all, size);
        let sample = self.plan.sample.get_or_insert(Sample { asked: 0, all: 0 });
        sample.asked += chosen.len();
        sample.all += count;
        chosen.into_iter().collect()
    }

    /// Pairs of a node and a pod.
    fn node_pairs(&self, cluster: &Cluster, pairs: Pairs) -> Vec<(usize, usize)> {
        let (nodes, pods) = (&cluster.nodes, &cluster.pods);
        let all = nodes.iter().flat_map(|node| pods.iter().map(move |pod| (*node, *pod)));
        let all: Vec<(usize, usize)> =
            all.filter(|(node, pod)| self.is_wanted(cluster, *node, *pod)).collect();
        let Some(size) = sample_size(pairs, all.len()) else { return all };
        let hosts = &self.plan.hosts;
        let mut chosen: BTreeSet<(usize, usize)> = BTreeSet::new();
        // Each pod with its own node and with another; each node with a pod of each other.
        for (turn, pod) in pods.iter().enumerate() {
            let own = nodes.iter().find(|node| Some(hosts[**node].at) == hosts[*pod].home);
            chosen.extend(own.map(|node| (*node, *pod)));
            chosen.insert((nodes[turn % nodes.len()], *pod));
        }
        for (turn, node) in nodes.iter().enumerate() {
            for home in self.by_home(pods) {
                chosen.insert((*node, home[turn % home.len()]));
            }
        }
        chosen.retain(|(node, pod)| self.is_wanted(cluster, *node, *pod));
        fill(&mut chosen, &all, size);
        chosen.into_iter().collect()
    }

    /// The pods of each node.
    fn by_home(&self, pods: &[usize]) -> Vec<Vec<usize>> {
        let mut homes: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for pod in pods {
            homes.entry(self.plan.hosts[*pod].home).or_default().push(*pod);
        }
        homes.into_values().collect()
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

    fn resolver(&mut self, pod: usize) {
        if !self.asks(Rule::Dns) {
            return;
        }
        let at = self.plan.hosts[pod].at;
        let mut told = self.view.resolvers(at);
        told.retain(|address| is_ours(*address));
        for address in told {
            let Some(own) = self.plan.hosts[pod].address(address.is_ipv6()) else { continue };
            let from = self.place(pod, own);
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                self.plan.calls.push(Call {
                    from,
                    to: SocketAddr::new(address, 53),
                    protocol,
                    service: Service::Resolver,
                    rule: Rule::Dns,
                });
            }
        }
    }

    /// The ports of its node that lead to a pod: asked from another node, from another pod (of
    /// another node, if there is one) and from itself.
    fn ports(&mut self, pod: usize, cluster: &Cluster) {
        let host = self.plan.hosts[pod].clone();
        let Some(home) = host.home else { return };
        let mappings = self.view.attachments(host.at).flat_map(|(_, it)| &it.ports);
        let mappings: Vec<_> = mappings.cloned().collect();
        let Some(node) = cluster.nodes.iter().find(|it| self.plan.hosts[**it].at == home) else {
            return;
        };
        let other_node = cluster.nodes.iter().find(|it| *it != node);
        let is_other = |it: &&usize| **it != pod;
        let others = || cluster.pods.iter().filter(is_other);
        let far = others().find(|it| self.plan.hosts[**it].home != Some(home));
        let other_pod = far.or_else(|| others().next());
        let askers = [
            (Rule::HostPort, other_node.copied()),
            (Rule::HostPort, other_pod.copied()),
            (Rule::Hairpin, Some(pod)),
        ];
        for mapping in mappings {
            let protocol = match mapping.protocol.as_str() {
                "udp" => Protocol::Udp,
                "tcp" => Protocol::Tcp,
                _ => continue,
            };
            for (v6, address) in [(false, host.address(false)), (true, host.address(true))] {
                let Some(own) = address else { continue };
                let open = mapping.host_ip.or_else(|| self.plan.hosts[*node].address(v6));
                let open = open.filter(|it| it.is_ipv6() == v6 && !it.is_loopback());
                let Some(open) = open else { continue };
                for (rule, asker) in askers {
                    let Some(asker) = asker.filter(|_| self.asks(rule)) else { continue };
                    let Some(mut from) = self.plan.hosts[asker].address(v6) else { continue };
                    if self.plan.hosts[asker].kind == Kind::Node {
                        let at = self.plan.hosts[asker].at;
                        from = hosts::source(self.view, at, open).unwrap_or(from);
                    }
                    let from = self.place(asker, from);
                    let place = self.place(pod, own);
                    let to = SocketAddr::new(open, mapping.host_port);
                    let service = Service::Port { place, port: mapping.container_port };
                    self.plan.calls.push(Call { from, to, protocol, service, rule });
                }
            }
        }
    }
}

/// Whether an address is of somebody's own network, so that who asks it asks nobody else's.
fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let is_shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_link_local() || v4.is_documentation() || is_shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.segments()[..2] == [0x2001, 0xdb8],
    }
}

/// How many of so many pairs are asked; `None` for all.
fn sample_size(pairs: Pairs, all: usize) -> Option<usize> {
    match pairs {
        Pairs::All => None,
        Pairs::Usual if all <= MOST_PAIRS => None,
        Pairs::Usual => Some(USUAL_SAMPLE),
        Pairs::Sample(size) => Some(size).filter(|size| *size < all),
    }
}

/// One of each in turn, until none is left.
fn dealt(homes: &[Vec<usize>]) -> Vec<usize> {
    let longest = homes.iter().map(Vec::len).max().unwrap_or_default();
    let turn = |turn: usize| homes.iter().filter_map(move |home| home.get(turn).copied());
    (0..longest).flat_map(turn).collect()
}

/// Chooses more, always the same ones, until there are enough.
fn fill(chosen: &mut BTreeSet<(usize, usize)>, all: &[(usize, usize)], size: usize) {
    if all.is_empty() {
        return;
    }
    let size = size.min(all.len());
    // The golden ratio's steps meet every place before one comes twice, if the number of places has
    // no factor in common with the step.
    let mut step = (all.len() as f64 * 0.618_033_988_75) as usize | 1;
    while gcd(step, all.len()) != 1 {
        step += 2;
    }
    let mut at = 0;
    for _ in 0..all.len() {
        if chosen.len() >= size {
            return;
        }
        chosen.insert(all[at]);
        at = (at + step) % all.len();
    }
}

fn gcd(one: usize, other: usize) -> usize {
    if other == 0 { one } else { gcd(other, one % other) }
}
