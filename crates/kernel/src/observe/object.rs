//! From what the kernel shows to what a plan can speak of: what somebody wrote, by the names of
//! devices, and nothing of what the kernel adds by itself (local routes, connected routes, link-local
//! addresses, learned neighbours).

use std::collections::BTreeMap;

use net::{Address, Fdb, Link, LinkKind, LinkName, Neighbour, Object, Port, Qdisc, Route};
use net::{RouteKind, Scope, Vni, Vxlan, VxlanForm};

use crate::dump::{self, Dump};

impl Dump {
    /// What of this a plan can speak of.
    pub fn objects(&self) -> Vec<Object> {
        let name = |index: u32| self.links.get(&index)?.name.parse::<LinkName>().ok();
        let mut objects: Vec<Object> = Vec::new();
        for link in self.links.values() {
            let master = link.master.and_then(name);
            objects.extend(link_object(link, master, &name).map(Object::Link));
        }
        let addresses = self.addresses.iter().filter(|it| is_assigned(it));
        let addresses = addresses.filter_map(|it| Some(address_object(it, name(it.index)?)));
        objects.extend(addresses.map(Object::Address));
        objects.extend(self.routes.iter().filter_map(|r| route_object(r, name)).map(Object::Route));
        let rules = self.rules.iter().filter(|it| is_written(it));
        objects.extend(rules.filter_map(dump::Rule::object).map(Object::Rule));
        let entries = self.neighbours.iter().filter_map(|it| neighbour_object(it, name(it.index)?));
        objects.extend(entries);
        let vnis = self.vnis.iter().filter_map(|(index, vni)| Some((name(*index)?, *vni)));
        objects.extend(vnis.map(|(link, vni)| Object::Vni(Vni { link, vni })));
        for qdisc in &self.qdiscs {
            if let (Some(link), Some(kind)) = (name(qdisc.index), qdisc.tbf.clone()) {
                objects.push(Qdisc { link, kind }.into());
            }
        }
        objects.extend(self.nft.iter().cloned().map(Object::Nft));
        objects
    }

    /// Names by index, for those who print.
    pub fn names(&self) -> BTreeMap<u32, &str> {
        self.links.iter().map(|(index, link)| (*index, link.name.as_str())).collect()
    }
}

/// A veth comes without its kind: where its far end is cannot be seen from this side.
pub(crate) fn link_object(
    link: &dump::Link,
    master: Option<LinkName>,
    name: &impl Fn(u32) -> Option<LinkName>,
) -> Option<Link> {
    let kind = match (link.kind.as_str(), &link.vxlan) {
        // Hardware and the loopback device have none.
        ("" | "veth", _) => None,
        ("bridge", _) => Some(LinkKind::Bridge),
        (_, Some(vxlan)) => Some(LinkKind::Vxlan(vxlan_object(vxlan, name))),
        (kind, None) => Some(LinkKind::Other(kind.to_owned())),
    };
    Some(Link {
        name: link.name.parse().ok()?,
        kind,
        mac: link.mac,
        mtu: Some(link.mtu),
        up: Some(link.up),
        master,
        free: false,
        promiscuous: Some(link.promiscuous),
        tx_checksum: None,
        port: link.port.map_or_else(Port::default, port_object),
    })
}

pub(crate) fn port_object(port: dump::Port) -> Port {
    Port { hairpin: Some(port.hairpin), isolated: Some(port.isolated) }
}

fn vxlan_object(it: &dump::Vxlan, name: &impl Fn(u32) -> Option<LinkName>) -> Vxlan {
    let form = if it.external {
        VxlanForm::External { gpe: it.gpe, filtered: it.filtered }
    } else {
        let underlay = it.underlay.and_then(name);
        VxlanForm::Classic { vni: it.vni, underlay, local: it.local }
    };
    Vxlan { port: it.port, form }
}

/// Whether somebody gave an address to its device: link-local ones are mostly the kernel's own.
pub(crate) fn is_assigned(address: &dump::Address) -> bool {
    address.scope != Scope::Link
}

pub(crate) fn address_object(it: &dump::Address, link: LinkName) -> Address {
    let dump::Address { address, broadcast, nodad, .. } = *it;
    Address { link, address, broadcast, nodad }
}

/// A neighbour or a forwarding entry that somebody wrote.
pub(crate) fn neighbour_object(entry: &dump::Neighbour, link: LinkName) -> Option<Object> {
    let mac = entry.mac?;
    match (entry.bridge, entry.address) {
        (false, Some(address)) if entry.permanent => {
            Some(Neighbour { link, address, mac, protocol: entry.protocol }.into())
        }
        (true, to) if to.is_some() || entry.noarp => Some(Fdb { link, mac, to }.into()),
        _ => None,
    }
}

/// Whether somebody wrote a rule: priorities 0, 32766 and 32767 are the three of every namespace.
pub(crate) fn is_written(rule: &dump::Rule) -> bool {
    ![0, 32766, 32767].contains(&rule.priority)
}

/// A route that somebody wrote, if a plan can speak of it.
pub(crate) fn route_object(
    route: &dump::Route,
    name: impl Fn(u32) -> Option<LinkName>,
) -> Option<Route> {
    const LOCAL_TABLE: u32 = 255;
    let is_written = route.protocol != net::PROTOCOL_KERNEL && route.table != LOCAL_TABLE;
    to_object(route, name).filter(|_| is_written && route.hops.len() < 2)
}

/// Any route, with the first of its next hops.
pub(crate) fn to_object(
    route: &dump::Route,
    name: impl Fn(u32) -> Option<LinkName>,
) -> Option<Route> {
    // A route that sends nothing on is shown with the loopback device, which nobody asked for.
    let hop = route.hops.first().filter(|_| route.kind == dump::RouteKind::Unicast);
    Some(Route {
        destination: route.destination,
        kind: match route.kind {
            dump::RouteKind::Unicast => RouteKind::Unicast,
            dump::RouteKind::Blackhole => RouteKind::Blackhole,
            dump::RouteKind::Unreachable => RouteKind::Unreachable,
            _ => return None,
        },
        gateway: hop.and_then(|hop| hop.gateway),
        link: hop.and_then(|hop| hop.index).and_then(name),
        source: route.source,
        metric: route.metric,
        table: route.table,
        protocol: route.protocol,
        scope: (route.scope != Scope::Universe).then_some(route.scope),
        mtu: route.mtu,
        advmss: route.advmss,
        onlink: route.onlink,
        encap: route.encap,
    })
}
