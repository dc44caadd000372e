//! Rules that change or drop what they should not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use net::nft::{Hook, Key, Mapped, Object, Statement, TableId, Value};
use net::owner::{AGENT_NFT_TABLE, PLUGIN_NFT_TABLE};
use topology::End;

use super::bridges::asks;
use crate::explain;
use crate::finding::{Code, Finding};
use crate::rules::{Action, Effect, Level, Packet, Port, Rules};
use crate::view::View;
use crate::{Thing, words};

/// Hosts that are no pod's and no node's: of the networks for documentation.
const BEYOND: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// How many other nodes' pods stand for all.
const MOST_PEERS: usize = 4;
const UDP: u8 = 17;

pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (home, namespace) in view.all() {
        let pods: Vec<usize> =
            view.guests(home).into_iter().filter(|guest| view.is_pod(*guest)).collect();
        let has_tunnel = view.ends(home).any(|(_, link)| link.vxlan.is_some());
        if namespace.dump.nft.is_empty() && pods.is_empty() {
            continue;
        }
        let node = Firewall { view, home, rules: Rules::new(&namespace.dump.nft) };
        findings.extend(node.dormant());
        findings.extend(node.legacy());
        findings.extend(node.pods(&pods));
        findings.extend(node.ports());
        if has_tunnel {
            findings.extend(node.tunnels());
        }
        if node.rules.is_exhausted() {
            let text = format!(
                "{} has more rules than podwire follows for so many pods.",
                view.called(home)
            );
            let consequence = "Whether they change or drop what pods send cannot be told.";
            let about = vec![view.space(home)];
            findings.push(Finding::new(Code::Unreadable, text, consequence, about));
        }
    }
    findings
}

struct Firewall<'v, 'a> {
    view: &'v View<'a>,
    home: usize,
    rules: Rules<'a>,
}

/// What was seen, with all whom it befalls.
type Seen<'a> = BTreeMap<(Code, String), Befallen<'a>>;

/// An effect, where, and whom.
type Befallen<'a> = (Effect<'a>, Vec<Thing>, Vec<String>);

impl<'a> Firewall<'_, 'a> {
    /// Rules of iptables-legacy are read by nobody but iptables-legacy.
    fn legacy(&self) -> Option<Finding> {
        let (view, home) = (self.view, self.home);
        let tables = &view.namespace(home).legacy_tables;
        if tables.is_empty() {
            return None;
        }
        let text = format!(
            "{} has tables of iptables-legacy ({}), which podwire does not read.",
            view.called(home),
            tables.join(", ")
        );
        let consequence = "Whether their rules change or drop what pods send cannot be told.";
        let finding = Finding::new(Code::Unreadable, text, consequence, vec![view.space(home)]);
        Some(finding.shown_by(view.command(home, "iptables-legacy-save")))
    }

    fn pods(&self, pods: &[usize]) -> Vec<Finding> {
        let view = self.view;
        let mut seen: Seen<'a> = BTreeMap::new();
        let mut findings = Vec::new();
        let mut peers: [Option<Vec<IpAddr>>; 2] = [None, None];
        for pod in pods {
            for address in view.own(*pod).filter(|it| !it.address.addr().is_loopback()) {
                let own = address.address.addr();
                let end = End { namespace: *pod, link: address.index };
                let Some(far) = view.peer(end).filter(|far| far.namespace == self.home) else {
                    continue;
                };
                let input = view.master(far).map_or(far, |(bridge, _)| bridge);
                let input = view.name(self.home, input.link);
                let peers =
                    peers[usize::from(own.is_ipv6())].get_or_insert_with(|| self.peers(own));
                let beyond: Option<IpAddr> = BEYOND[usize::from(own.is_ipv6())].parse().ok();
                let mut note = |code: Code, effect: Effect<'a>| {
                    let text = effect.sentence(&self.rules);
                    let (_, things, names) =
                        seen.entry((code, text)).or_insert((effect, vec![], vec![]));
                    let name = view.called(*pod);
                    if !names.contains(&name) {
                        things.push(view.thing(end));
                        names.push(name);
                    }
                };
                for other in peers.iter() {
                    let output = self.output(own, *other);
                    let sent = Packet {
                        source: Some(own),
                        destination: Some(*other),
                        input: Some(&input),
                        output: output.as_deref(),
                        local: Some(false),
                        ..Packet::default()
                    };
                    if let Some(effect) = self.rules.masquerade(&sent) {
                        note(Code::MasqueradeBetweenPods, effect);
                    }
                    if let Some(effect) = self.dropped(&sent) {
                        note(Code::PodsDropped, effect);
                    }
                    let received = Packet {
                        source: Some(*other),
                        destination: Some(own),
                        input: output.as_deref(),
                        output: Some(&input),
                        ..sent
                    };
                    if let Some(effect) = self.dropped(&received) {
                        note(Code::PodsDropped, effect);
                    }
                }
                let others: Vec<IpAddr> = peers.iter().copied().chain(beyond).collect();
                for effect in self.frames(*pod, own, far, &others) {
                    note(Code::PodsDropped, effect);
                }
                let out = beyond.and_then(|beyond| self.output(own, beyond));
                let leaving = Packet {
                    source: Some(own),
                    destination: beyond,
                    input: Some(&input),
                    output: out.as_deref(),
                    local: Some(false),
                    ..Packet::default()
                };
                if let Some(effect) = self.dropped(&leaving) {
                    note(Code::PodsDropped, effect);
                }
                let by_plugin = asks(view, *pod, "ipMasq");
                if (by_plugin || self.is_agents()) && !self.is_masqueraded(&leaving) {
                    let text = format!(
                        "{} asks for masquerade, but no rule does it for {own} of {}.",
                        if by_plugin { "The configuration" } else { "The node's agent" },
                        view.called(*pod)
                    );
                    let remedy = match by_plugin {
                        true => "recreate the pod, so that its plugin writes the rule again",
                        false => "let the agent of the node look again: restart it",
                    };
                    let consequence = "What the pod sends beyond the cluster goes out with an address that nobody there can answer.";
                    let about = vec![view.thing(end), view.space(self.home)];
                    let show = view.command(self.home, "nft list ruleset");
                    let finding = Finding::new(Code::MasqueradeMissing, text, consequence, about);
                    findings.push(finding.remedy(remedy).shown_by(show));
                }
            }
        }
        findings.extend(seen.into_iter().map(|(key, seen)| self.told(key, seen)));
        findings
    }

    /// Tables of podwire's own that do nothing.
    fn dormant(&self) -> Vec<Finding> {
        let view = self.view;
        let finding = |id: &TableId| {
            let text = format!(
                "nft table {id} of {} is dormant: none of its rules acts.",
                view.called(self.home)
            );
            let consequence = "What pods send beyond the cluster keeps addresses that nobody there can answer, and ports of the node lead to no pod.";
            let about = vec![view.space(self.home)];
            let remedy = view.command(self.home, &format!("nft add table {id}"));
            let show = view.command(self.home, &format!("nft list table {id}"));
            Finding::new(Code::TableDormant, text, consequence, about).remedy(remedy).shown_by(show)
        };
        self.own_dormant().map(finding).collect()
    }

    fn own_dormant(&self) -> impl Iterator<Item = &'a TableId> {
        let ruleset = &self.view.namespace(self.home).dump.nft;
        ruleset.iter().filter_map(|object| match object {
            Object::Table(table) if table.dormant && is_ours(&table.id) => Some(&table.id),
            _ => None,
        })
    }

    /// Ports of the node that lead to nobody, among those that plugins of ours wrote.
    fn ports(&self) -> Vec<Finding> {
        let view = self.view;
        // Who was not looked at may have the address.
        if !view.machine.gaps.is_empty() {
            return Vec::new();
        }
        let guests = view.guests(self.home);
        let is_had = |address: IpAddr| guests.iter().any(|guest| view.owns(*guest, address));
        let stale = |object: &Object| {
            let Object::Element(element) = object else { return None };
            let is_ours =
                element.table.name == PLUGIN_NFT_TABLE && element.set.starts_with("hostports");
            let (Key::Point(key), Some(Mapped::Data(to))) = (&element.key, &element.value) else {
                return None;
            };
            let (Some(Value::Port(port)), [Value::Address(address), ..]) = (key.last(), &to[..])
            else {
                return None;
            };
            if !is_ours || is_had(*address) {
                return None;
            }
            let text = format!(
                "Port {port} of {} leads to {address}, which no pod of the node has.",
                view.called(self.home)
            );
            let consequence = "Who asks for the port gets no answer.";
            let about = vec![view.space(self.home)];
            let family = if address.is_ipv6() { 6 } else { 4 };
            let list = format!("nft list map inet {PLUGIN_NFT_TABLE} hostports{family}");
            let finding = Finding::new(Code::HostPortStale, text, consequence, about);
            let remedy = "recreate the pod that has the port, or remove what is left of one that is gone: podwire cni gc";
            Some(finding.remedy(remedy).shown_by(view.command(self.home, &list)))
        };
        view.namespace(self.home).dump.nft.iter().filter_map(stale).collect()
    }

    fn told(
        &self,
        (code, rule): (Code, String),
        (effect, mut about, names): Befallen<'_>,
    ) -> Finding {
        let names = words::some(names, 4);
        let (text, consequence) = match code {
            Code::MasqueradeBetweenPods => (
                format!(
                    "What {names} sends to pods of other nodes leaves with another address: {rule}"
                ),
                "Pods do not see by whom they are asked, and rules that go by addresses fail.",
            ),
            _ => (
                format!("Packets of {names} are dropped: {rule}"),
                "They do not arrive, and the sender mostly learns nothing of it.",
            ),
        };
        about.push(self.view.space(self.home));
        let show = self.view.command(self.home, &effect.command());
        let remedy = format!(
            "change chain {} of nft table {}, or whatever writes it",
            effect.chain.name, effect.chain.table
        );
        Finding::new(code, text, consequence, about).remedy(remedy).shown_by(show)
    }

    /// Whether an agent on the node sees to masquerade: it has a chain for that.
    fn is_agents(&self) -> bool {
        self.view.namespace(self.home).dump.nft.iter().any(|object| match object {
            Object::Chain(chain) => {
                let masquerade = |it: &Statement| matches!(it, Statement::Masquerade { .. });
                chain.table.name == AGENT_NFT_TABLE
                    && chain.rules.iter().flat_map(|rule| &rule.statements).any(masquerade)
            }
            _ => false,
        })
    }

    fn is_masqueraded(&self, packet: &Packet<'_>) -> bool {
        let mut effects = self.rules.effects(&[Hook::Postrouting], packet).into_iter();
        let own = |effect: &Effect<'_>| effect.is_nat() && effect.changes_source();
        // What is not seen may do it, and what is dormant is told of as such.
        let namespace = self.view.namespace(self.home);
        let is_all = namespace.legacy_tables.is_empty()
            && namespace.dump.opaque.is_empty()
            && self.own_dormant().next().is_none();
        effects.any(|effect| own(&effect)) || !is_all
    }

    /// A drop on the way through, by somebody else's rules.
    fn dropped(&self, packet: &Packet<'_>) -> Option<Effect<'a>> {
        let dropped =
            self.rules.drop(&[Hook::Prerouting, Hook::Forward, Hook::Postrouting], packet)?;
        (!is_ours(&dropped.chain.table)).then_some(dropped)
    }

    /// Drops of a pod's frames by somebody else's rules: beside what is routed, of what its bridge
    /// passes on to other pods, and of what asks for hardware addresses.
    fn frames(&self, pod: usize, own: IpAddr, far: End, others: &[IpAddr]) -> Vec<Effect<'a>> {
        if !self.rules.see_frames() {
            return Vec::new();
        }
        let view = self.view;
        let name = view.name(self.home, far.link);
        let bridge = view.master(far).map(|(bridge, _)| bridge);
        let port = Port { name: &name, is_bridged: bridge.is_some() };
        let input = bridge.map_or_else(|| name.clone(), |bridge| view.name(self.home, bridge.link));
        let (routed, arp) = (
            Packet { local: Some(false), ..Packet::default() },
            Packet { arp: true, ..Packet::default() },
        );
        let mut asked = Vec::new();
        for other in others {
            let (source, destination) = (Some(own), Some(*other));
            asked.extend(port.sent(Packet { source, destination, ..routed }));
            let (source, destination) = (Some(*other), Some(own));
            asked.extend(port.received(Packet { source, destination, ..routed }));
        }
        if own.is_ipv4() {
            asked.extend(port.sent(arp));
            asked.extend(port.received(arp));
            let (input, output) = (Some(&*input), Some(&*input));
            asked.push((&[Hook::Input], Packet { input, ..arp }));
            asked.push((&[Hook::Output], Packet { output, ..arp }));
        }
        let dropped = |(hooks, packet): (&[Hook], Packet<'_>)| self.rules.drop(hooks, &packet);
        let mut found: Vec<Effect<'a>> = asked.into_iter().filter_map(dropped).collect();
        found.extend(bridge.into_iter().flat_map(|bridge| self.switched(pod, own, port, bridge)));
        found.retain(|effect| !is_ours(&effect.chain.table));
        found
    }

    /// Drops of what a pod sends to others on its bridge.
    fn switched(&self, pod: usize, own: IpAddr, port: Port<'_>, bridge: End) -> Vec<Effect<'a>> {
        const SWITCHED: &[Hook] = &[Hook::Prerouting, Hook::Forward, Hook::Postrouting];
        let view = self.view;
        let packet = Packet { level: Level::Bridged, input: Some(port.name), ..Packet::default() };
        let is_drop = |it: &Effect<'_>| matches!(it.action, Action::Drop | Action::Reject);
        if !self.rules.effects(SWITCHED, &packet).iter().any(is_drop) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for other in view.ports(bridge) {
            let Some(far) = view.peer(*other).filter(|far| far.namespace != pod) else { continue };
            if self.rules.is_exhausted() {
                break;
            }
            let output = view.name(self.home, other.link);
            let mut addresses = view.own(far.namespace).map(|it| it.address.addr());
            let Some(to) = addresses.find(|it| it.is_ipv4() == own.is_ipv4() && !it.is_loopback())
            else {
                continue;
            };
            let packet = Packet { output: Some(&output), ..packet };
            let sent = Packet { source: Some(own), destination: Some(to), ..packet };
            let arp = Packet { arp: true, ..packet };
            let arp = own.is_ipv4().then_some(arp);
            let asked = [Some(sent), arp].into_iter().flatten();
            found.extend(asked.filter_map(|packet| self.rules.drop(SWITCHED, &packet)));
        }
        found
    }

    fn output(&self, from: IpAddr, to: IpAddr) -> Option<String> {
        let route = self.view.way(self.home, Some(from), to)?;
        Some(self.view.name(self.home, route.hops.first()?.index?))
    }

    /// Addresses of pods of other nodes: those that are seen, or the first ones of the networks that
    /// routes lead to.
    fn peers(&self, like: IpAddr) -> Vec<IpAddr> {
        let view = self.view;
        let is_alike = |address: &IpAddr| address.is_ipv4() == like.is_ipv4();
        let lab = &view.namespace(self.home).lab;
        let nodes = view.all().filter(|(at, it)| {
            *at != self.home && it.role == topology::Role::Node && it.lab == *lab && lab.is_some()
        });
        let of_node = |(at, _): (usize, &topology::Namespace)| {
            let pods = view.guests(at).into_iter().filter(|guest| view.is_pod(*guest));
            let mut addresses = pods.flat_map(|pod| view.own(pod)).map(|it| it.address.addr());
            addresses.find(|address| is_alike(address) && !address.is_loopback())
        };
        let seen: Vec<IpAddr> = nodes.filter_map(of_node).take(MOST_PEERS).collect();
        if !seen.is_empty() {
            return seen;
        }
        let routes = view.namespace(self.home).dump.routes.iter().filter(|route| {
            let is_tunnel = route.hops.iter().any(|hop| {
                let end = hop.index.map(|link| End { namespace: self.home, link });
                end.and_then(|end| view.link(end)).is_some_and(|link| link.vxlan.is_some())
            });
            let is_way = route.protocol == net::owner::PROTOCOL || is_tunnel;
            is_way
                && route.table == net::MAIN_TABLE
                && (8..32).contains(&route.destination.prefix_len())
        });
        routes
            .filter_map(|route| route.destination.hosts().nth(1))
            .filter(is_alike)
            .take(MOST_PEERS)
            .collect()
    }

    fn tunnels(&self) -> Vec<Finding> {
        let (view, home) = (self.view, self.home);
        let mut seen: Seen<'a> = BTreeMap::new();
        for (end, link) in view.ends(home) {
            let Some(vxlan) = link.vxlan else { continue };
            for to in explain::far_ends(view, end).into_iter().take(MOST_PEERS) {
                let route = view.way(home, None, to);
                let below = route.and_then(|route| route.hops.first()?.index);
                let below_name = below.map(|index| view.name(home, index));
                let is_family = |address: &IpAddr| address.is_ipv4() == to.is_ipv4();
                let local = vxlan.local.filter(is_family).or_else(|| {
                    let own = view.own(home).filter(|it| Some(it.index) == below);
                    own.map(|it| it.address.addr()).find(is_family)
                });
                let Some(local) = local else { continue };
                let sent = Packet {
                    source: Some(local),
                    destination: Some(to),
                    output: below_name.as_deref(),
                    protocol: Some(UDP),
                    port: Some(vxlan.port),
                    local: Some(false),
                    ..Packet::default()
                };
                let received = Packet {
                    source: Some(to),
                    destination: Some(local),
                    input: below_name.as_deref(),
                    output: None,
                    local: Some(true),
                    ..sent
                };
                let out = self.rules.drop(&[Hook::Output, Hook::Postrouting], &sent);
                let at_device = |hook: Hook, packet: Packet<'_>| {
                    let level = Level::Device(Some(below_name.as_deref()?));
                    self.rules.drop(&[hook], &Packet { level, ..packet })
                };
                let dropped = out
                    .or_else(|| self.rules.drop(&[Hook::Prerouting, Hook::Input], &received))
                    .or_else(|| at_device(Hook::Egress, sent))
                    .or_else(|| at_device(Hook::Ingress, received));
                if let Some(effect) = dropped {
                    let text = effect.sentence(&self.rules);
                    let (_, things, names) =
                        seen.entry((Code::TunnelDropped, text)).or_insert((effect, vec![], vec![]));
                    if !things.contains(&view.thing(end)) {
                        things.push(view.thing(end));
                    }
                    names.push(to.to_string());
                }
            }
        }
        let finding =
            |((code, rule), (effect, mut about, names)): ((Code, String), Befallen<'_>)| {
                let text = format!(
                    "The tunnel of {} with {} is blocked: {rule}",
                    view.called(home),
                    words::some(names, 4)
                );
                let consequence = "Pods of these nodes do not reach each other.";
                about.push(view.space(home));
                let show = view.command(home, &effect.command());
                let remedy = format!(
                    "let UDP between nodes pass, in chain {} of nft table {}",
                    effect.chain.name, effect.chain.table
                );
                Finding::new(code, text, consequence, about).remedy(remedy).shown_by(show)
            };
        seen.into_iter().map(finding).collect()
    }
}

fn is_ours(table: &TableId) -> bool {
    [AGENT_NFT_TABLE, PLUGIN_NFT_TABLE].contains(&table.name.as_str())
}
