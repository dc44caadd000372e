//! Which rule of a firewall has taken a packet away, or given it another address.

use std::collections::HashMap;
use std::net::IpAddr;

use net::nft::{Chain, Hook, Object};
use topology::{End, Origin, Role, origin};

use super::plan::Protocol;
use crate::Thing;
use crate::rules::{Effect, Level, Packet, Rules};
use crate::view::View;

/// What a rule did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The rule as a sentence, with the table that it is in.
    pub(super) text: String,
    /// The command that shows it.
    pub(super) command: String,
    /// Whether it is of a table that keeps pods apart on purpose.
    pub(super) is_policy: bool,
    /// Where.
    pub(super) about: Thing,
}

/// The rules of the namespaces that packets pass.
pub(super) struct Firewalls<'v, 'a> {
    view: &'v View<'a>,
    rules: HashMap<usize, Rules<'a>>,
}

/// A packet from one namespace to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) from: usize,
    pub(super) source: IpAddr,
    pub(super) to: usize,
    pub(super) destination: IpAddr,
    pub(super) protocol: Protocol,
}

impl Way {
    /// The way of an answer.
    pub(super) fn back(self) -> Self {
        let Self { from, source, to, destination, protocol } = self;
        Self { from: to, source: destination, to: from, destination: source, protocol }
    }
}

/// Our ports are chosen by the kernel, of those above (`net.ipv4.ip_local_port_range`).
const PORT: u16 = 40_000;

/// What a packet does in a namespace.
struct Stage {
    at: usize,
    place: Place,
    hooks: &'static [Hook],
    input: Option<String>,
    output: Option<String>,
    /// Whether it is for the namespace itself.
    local: bool,
}

/// Whose rules see a packet at a stage.
#[derive(Clone, Copy)]
enum Place {
    Routed,
    Bridged,
    /// Those of the device that it comes in or goes out by.
    Device,
}

impl<'v, 'a> Firewalls<'v, 'a> {
    pub(super) fn new(view: &'v View<'a>) -> Self {
        Self { view, rules: HashMap::new() }
    }

    /// The rule that surely drops a packet on its way.
    pub(super) fn drop(&mut self, way: Way) -> Option<Verdict> {
        self.find(way, Rules::drop)
    }

    /// The rule that surely gives it another source address.
    pub(super) fn translation(&mut self, way: Way) -> Option<Verdict> {
        self.find(way, |rules, _, packet| rules.masquerade(packet))
    }

    /// Whether somebody decides about packets of a namespace's pods in user space, where no rule
    /// tells what became of one.
    pub(super) fn has_judge(&self, at: usize) -> bool {
        let home = self.view.home(at).unwrap_or(at);
        let objects = &self.view.namespace(home).dump.nft;
        objects.iter().any(|object| match object {
            Object::Chain(chain) => USER_SPACE.contains(&chain.table.name.as_str()),
            _ => false,
        })
    }

    fn find(
        &mut self,
        way: Way,
        effect: impl Fn(&Rules<'a>, &[Hook], &Packet<'_>) -> Option<Effect<'a>>,
    ) -> Option<Verdict> {
        let number = match (way.protocol, way.source.is_ipv6()) {
            (Protocol::Icmp, false) => 1,
            (Protocol::Icmp, true) => 58,
            (Protocol::Tcp, _) => 6,
            (Protocol::Udp, _) => 17,
        };
        for Stage { at, place, hooks, input, output, local } in self.stages(way) {
            let view = self.view;
            let dump = &view.namespace(at).dump;
            if dump.nft.is_empty() {
                continue;
            }
            let rules = self.rules.entry(at).or_insert_with(|| Rules::new(&dump.nft));
            let (input, output) = (input.as_deref(), output.as_deref());
            let level = match (place, input.or(output)) {
                (Place::Routed, _) => Level::Routed,
                (Place::Bridged, _) => Level::Bridged,
                (Place::Device, None) => continue,
                (Place::Device, device) => Level::Device(device),
            };
            let packet = Packet {
                level,
                arp: false,
                source: Some(way.source),
                destination: Some(way.destination),
                input,
                output,
                protocol: Some(number),
                port: (way.protocol != Protocol::Icmp).then_some(PORT),
                local: Some(local),
            };
            if let Some(effect) = effect(rules, hooks, &packet) {
                return Some(Verdict {
                    text: effect.sentence(rules),
                    command: view.command(at, &effect.command()),
                    is_policy: is_policy(effect.chain),
                    about: view.space(at),
                });
            }
        }
        None
    }

    /// The namespaces that a packet passes, with what sees it there.
    fn stages(&self, way: Way) -> Vec<Stage> {
        const SENT: &[Hook] = &[Hook::Output, Hook::Postrouting];
        const PASSED: &[Hook] = &[Hook::Prerouting, Hook::Forward, Hook::Postrouting];
        const TAKEN: &[Hook] = &[Hook::Prerouting, Hook::Input];
        const COMES_IN: &[Hook] = &[Hook::Ingress];
        const GOES_OUT: &[Hook] = &[Hook::Egress];
        use Place::{Bridged, Device, Routed};
        let view = self.view;
        let out = |at: usize| {
            let route = view.way(at, Some(way.source), way.destination)?;
            Some(view.name(at, route.hops.first()?.index?))
        };
        let back = |at: usize| {
            let route = view.way(at, None, way.source)?;
            Some(view.name(at, route.hops.first()?.index?))
        };
        let home = |at: usize| view.home(at).filter(|home| *home != at);
        let name = |end: End| Some(view.name(end.namespace, end.link));
        let mut stages = Vec::new();
        let mut pass = |at, place, hooks, input, output, local| {
            stages.push(Stage { at, place, hooks, input, output, local });
        };
        // Beyond the cluster a packet has another source.
        let is_beyond = view.namespace(way.to).role == Role::Outside;
        let near = view.far_of(way.from, way.source);
        let far = view.far_of(way.to, way.destination).filter(|_| !is_beyond);
        let bridge = |port: Option<End>| view.master(port?).map(|(bridge, _)| bridge);
        let shared = bridge(near).filter(|one| bridge(far) == Some(*one));
        pass(way.from, Routed, SENT, None, out(way.from), false);
        pass(way.from, Device, GOES_OUT, None, out(way.from), false);
        if let Some(port) = near {
            pass(port.namespace, Device, COMES_IN, name(port), None, false);
            if shared.is_some() {
                let output = far.and_then(name);
                pass(port.namespace, Bridged, PASSED, name(port), output, false);
            } else if bridge(near).is_some() {
                pass(port.namespace, Bridged, TAKEN, name(port), None, false);
            }
        }
        let homes = [home(way.from), home(way.to).filter(|_| !is_beyond)];
        let unseen = shared.is_some_and(|bridge| !self.are_shown(bridge, way.source.is_ipv6()));
        let mut last = way.from;
        for at in homes.into_iter().flatten() {
            if at == last || at == way.to || (unseen && homes[0] == homes[1]) {
                continue;
            }
            last = at;
            pass(at, Routed, PASSED, back(at), out(at), false);
        }
        if let Some(port) = far {
            if shared.is_none() && bridge(far).is_some() {
                pass(port.namespace, Bridged, SENT, None, name(port), false);
            }
            pass(port.namespace, Device, GOES_OUT, None, name(port), false);
        }
        if !is_beyond {
            pass(way.to, Device, COMES_IN, back(way.to), None, false);
            pass(way.to, Routed, TAKEN, back(way.to), None, true);
        }
        stages
    }

    /// Whether rules for IP packets see those that a bridge passes on.
    fn are_shown(&self, bridge: End, v6: bool) -> bool {
        let key = match v6 {
            false => "net.bridge.bridge-nf-call-iptables",
            true => "net.bridge.bridge-nf-call-ip6tables",
        };
        self.view.setting(bridge.namespace, key) == Some("1")
    }
}

/// Tables whose rules ask a program.
const USER_SPACE: [&str; 1] = ["kube-network-policies"];
/// Tables that are for nothing else than to keep pods apart.
const TABLES: [&str; 4] = ["kube-network-policies", "kube-router", "calico", "podwire_policy"];
/// Beginnings of the names of chains for that: kube-router's.
const CHAINS: [&str; 3] = ["KUBE-POD-FW", "KUBE-NWPLCY", "KUBE-ROUTER"];

fn is_policy(chain: &Chain) -> bool {
    TABLES.contains(&chain.table.name.as_str())
        || CHAINS.iter().any(|begin| chain.name.starts_with(begin))
        || matches!(origin::of_chain(chain), Origin::Calico | Origin::Cilium)
}
