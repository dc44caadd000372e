//! Routes of others that packets for peers' pods take in place of ours. They are told, and never
//! touched: whoever wrote one would write it again.

use std::collections::BTreeMap;

use ipnet::IpNet;
use net::{Change, MAIN_TABLE, Networks, Object, PROTOCOL_KERNEL, Route, RouteKind, Space, Step};

use super::Agent;
use super::belief::Belief;
use super::ours::Ours;
use crate::{Code, Family, NodeName, Nodes, Problem};

/// Those that are known: what the last look has found, and what events have said since.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    /// The subnets of peers' pods.
    pods: Networks,
    routes: Belief,
}

/// What an event means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It has nothing to do with peers' pods.
    Nothing,
    /// It says all there is to know.
    News,
    /// Only a look tells what packets take now.
    Unclear,
}

impl Rivals {
    /// From now on these are the nodes, of which `me` is no peer.
    pub(super) fn set_nodes(&mut self, nodes: &Nodes, me: &NodeName) {
        let peers = nodes.iter().filter(|node| node.name != *me);
        self.pods = peers.flat_map(|node| node.subnets.iter().map(|(_, net)| *net)).collect();
    }

    /// The subnets of peers' pods.
    pub(super) fn pods(&self) -> &Networks {
        &self.pods
    }

    /// Those of these subnets from which something goes by a route of somebody else's.
    pub(super) fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.routes().filter_map(|route| self.pods.around(&route.destination))
    }

    fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter_map(as_route)
    }

    /// Takes in a look. One to a part of a subnet takes packets whatever else there is; one to the
    /// whole of it if it comes before ours.
    pub(super) fn look(&mut self, seen: &[Object], ours: &Ours) {
        self.routes = Belief::default();
        let mut before: Vec<&Object> = Vec::new();
        for object in seen {
            let Some(route) = as_route(object) else { continue };
            let Some(subnet) = self.pods.around(&route.destination) else { continue };
            if ours.is(object) {
                let is_same = |it: &Object| as_route(it).is_some_and(|it| it.destination == subnet);
                before.drain(..).filter(|it| is_same(it)).for_each(|it| self.add(it));
            } else if route.destination == subnet {
                before.push(object);
            } else {
                self.add(object);
            }
        }
    }

    /// Of those that differ in nothing that tells routes apart, packets take the first.
    fn add(&mut self, object: &Object) {
        if self.routes.get(object).is_none() {
            self.routes.insert(object.clone());
        }
    }

    /// Takes in that an object that is not ours is there, or has gone. The machine is not looked at for
    /// each: somebody may write thousands.
    pub(super) fn hear(&mut self, object: &Object, is_gone: bool) -> Heard {
        if let Object::Address(address) = object {
            // The kernel adds a route for it without a word.
            let is_amid = self.pods.around(&address.address.trunc()).is_some();
            return if is_amid { Heard::Unclear } else { Heard::Nothing };
        }
        let Some(route) = as_route(object) else { return Heard::Nothing };
        let Some(subnet) = self.pods.around(&route.destination) else { return Heard::Nothing };
        let known = self.routes.get(object);
        if is_gone {
            match known {
                None => return Heard::Nothing,
                Some(known) if known == object && route.destination != subnet => {
                    self.routes.remove(object);
                }
                // Behind it there may be another one.
                Some(_) => return Heard::Unclear,
            }
        } else if route.destination == subnet {
            return Heard::Unclear;
        } else {
            self.routes.insert(object.clone());
        }
        Heard::News
    }
}

impl Agent {
    /// Whose pods' packets go astray by routes of somebody else's, and what to do. A peer that is not
    /// joined has other troubles.
    pub(super) fn foreign_routes(&self) -> Vec<Problem> {
        let mut by_subnet: BTreeMap<IpNet, Vec<&Route>> = BTreeMap::new();
        for route in self.rivals.routes() {
            if let Some(subnet) = self.rivals.pods.around(&route.destination) {
                by_subnet.entry(subnet).or_default().push(route);
            }
        }
        if by_subnet.is_empty() {
            return Vec::new();
        }
        let joined = self
            .nodes
            .iter()
            .filter(|node| node.name != self.name && !self.peers.contains_key(&node.name));
        let subnets =
            joined.flat_map(|node| node.subnets.iter().map(|(_, net)| (&node.name, *net)));
        let problem = |(name, subnet)| {
            let text = in_words(subnet, by_subnet.remove(&subnet)?)?;
            Some(Problem::peer(name, Code::ForeignRoute, text))
        };
        subnets.filter_map(problem).collect()
    }
}

/// What `routes` take of what is for a subnet, and what to do.
fn in_words(subnet: IpNet, mut routes: Vec<&Route>) -> Option<String> {
    routes.sort_by_key(|route| route.destination);
    let (first, all) = (*routes.first()?, addresses(&subnet));
    let mut taken = 0_u128;
    let mut last: Option<IpNet> = None;
    for net in routes.iter().map(|route| route.destination) {
        if !last.is_some_and(|last| last.contains(&net)) {
            taken = taken.saturating_add(addresses(&net));
            last = Some(net);
        }
    }
    let way = way(first);
    let (who, take) = match routes.len() {
        1 => (format!("a route that is not ours, {way},"), "takes"),
        n => (format!("{n} routes that are not ours, the first {way},"), "take"),
    };
    let what = match taken >= all {
        true => format!("its pods, {subnet}"),
        false => format!("{} of the {} addresses of its pods, {subnet}", count(taken), count(all)),
    };
    let protocol = first.protocol;
    let remedy = match (&first.link, routes.len()) {
        (Some(link), _) if protocol == PROTOCOL_KERNEL => {
            format!("it comes with an address of {link}, which has to be another one")
        }
        (_, number) => {
            let delete = Change::Delete(Object::Route(first.clone()));
            let delete = net::shell(&Step::new(&Space::Here, delete, "takes the way of ours"));
            format!(
                "have whoever wrote {} (proto {protocol}) leave pods alone, or delete it: {}",
                if number == 1 { "it" } else { "that" },
                delete.join("; ")
            )
        }
    };
    Some(format!("{who} {take} what is for {what}, in place of ours: {remedy}"))
}

/// A route for people, as `ip` has it.
fn way(route: &Route) -> String {
    let mut text = route.destination.to_string();
    match route.kind {
        RouteKind::Unicast => {}
        RouteKind::Blackhole => text += " (blackhole)",
        RouteKind::Unreachable => text += " (unreachable)",
    }
    if let Some(gateway) = route.gateway {
        text += &format!(" via {gateway}");
    }
    if let Some(link) = &route.link {
        text += &format!(" dev {link}");
    }
    text
}

fn addresses(net: &IpNet) -> u128 {
    let bits = Family::of_net(*net).bits() - net.prefix_len();
    1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX)
}

/// A number of addresses, of which IPv6 has more than anybody reads.
fn count(addresses: u128) -> String {
    match addresses {
        0..0x10_0000 => addresses.to_string(),
        _ if addresses.is_power_of_two() => format!("2^{}", addresses.ilog2()),
        _ => format!("some 2^{}", addresses.ilog2()),
    }
}

fn as_route(object: &Object) -> Option<&Route> {
    match object {
        Object::Route(route) if route.table == MAIN_TABLE => Some(route),
        _ => None,
    }
}
