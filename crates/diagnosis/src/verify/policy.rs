//! Which rule of a firewall has taken a packet away, or given it another address.

use std::collections::HashMap;
use std::net::IpAddr;

use net::nft::{Chain, Hook, Object};
use topology::{End, Origin, Role, origin};

use super::plan::Protocol;
use crate::Thing;
use crate::rules::{Effect, Packet, Rules};
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
type Stage = (usize, &'static [Hook], Option<String>, Option<String>, bool);

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
        for (at, hooks, input, output, local) in self.stages(way) {
            let view = self.view;
            let dump = &view.namespace(at).dump;
            if dump.nft.is_empty() {
                continue;
            }
            let rules = self.rules.entry(at).or_insert_with(|| Rules::new(&dump.nft));
            let packet = Packet {
                source: Some(way.source),
                destination: Some(way.destination),
                input: input.as_deref(),
                output: output.as_deref(),
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

    /// The namespaces that a packet passes, with the hooks that see it there.
    fn stages(&self, way: Way) -> Vec<Stage> {
        const SENT: &[Hook] = &[Hook::Output, Hook::Postrouting];
        const PASSED: &[Hook] = &[Hook::Prerouting, Hook::Forward, Hook::Postrouting];
        const TAKEN: &[Hook] = &[Hook::Prerouting, Hook::Input];
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
        let mut stages = vec![(way.from, SENT, None, out(way.from), false)];
        // Beyond the cluster a packet has another source.
        let is_beyond = view.namespace(way.to).role == Role::Outside;
        let homes = [home(way.from), home(way.to).filter(|_| !is_beyond)];
        let bridged = self.is_bridged(way) && homes[0] == homes[1];
        let mut last = way.from;
        for at in homes.into_iter().flatten() {
            if at == last || at == way.to || bridged {
                continue;
            }
            last = at;
            stages.push((at, PASSED, back(at), out(at), false));
        }
        if !is_beyond {
            stages.push((way.to, TAKEN, back(way.to), None, true));
        }
        stages
    }

    /// Whether two share a bridge whose packets no rule of IP sees.
    fn is_bridged(&self, way: Way) -> bool {
        let bridge = |at: usize, own: IpAddr| {
            let view = self.view;
            let address =
                view.namespace(at).dump.addresses.iter().find(|it| it.address.addr() == own)?;
            let far = view.peer(End { namespace: at, link: address.index })?;
            let (bridge, _) = view.master(far)?;
            Some(bridge)
        };
        let Some(one) = bridge(way.from, way.source) else { return false };
        if bridge(way.to, way.destination) != Some(one) {
            return false;
        }
        let key = match way.source.is_ipv6() {
            false => "net.bridge.bridge-nf-call-iptables",
            true => "net.bridge.bridge-nf-call-ip6tables",
        };
        self.view.setting(one.namespace, key) != Some("1")
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
