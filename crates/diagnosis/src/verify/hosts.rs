//! Who is asked: the pods and nodes of a cluster, the host beyond it, and the addresses that they
//! are known by.
//!
//! A pod has the addresses of its first interface: those that its runtime was told, whether it still
//! has them or not. Interfaces beside that, link-local addresses and pods of the host's network,
//! which have no address of their own, are left out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use topology::dump::Link;
use topology::{End, Role};

use crate::view::View;

/// What somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Pod,
    Node,
    Outside,
}

/// Somebody with addresses.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) kind: Kind,
    /// What people call it.
    pub(super) name: String,
    /// How `podwire explain` is asked about it.
    pub(super) object: String,
    /// Its namespace in the machine.
    pub(super) at: usize,
    /// The cluster that it is of: that of a lab, or the machine itself.
    pub(super) lab: Option<String>,
    /// The namespace of its node.
    pub(super) home: Option<usize>,
    /// One a family at most.
    pub(super) addresses: Vec<IpAddr>,
    /// The largest packet that its device takes.
    pub(super) mtu: usize,
    /// How many interfaces are left out.
    pub(super) beside: usize,
}

impl Host {
    pub(super) fn address(&self, v6: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv6() == v6)
    }
}

/// All of a machine that can be asked: of each cluster its pods by node, its nodes, and whoever is
/// beyond.
pub(super) fn hosts(view: &View<'_>) -> Vec<Host> {
    let pods = view.all().filter(|(at, _)| view.is_pod(*at));
    let homes: BTreeSet<usize> = pods.filter_map(|(at, _)| view.home(at)).collect();
    let mut hosts: Vec<Host> = view.all().filter_map(|(at, _)| host(view, at, &homes)).collect();
    let order = |host: &Host| {
        let home = host.home.map(|home| natural(&view.namespace(home).name));
        (host.lab.clone(), host.kind, home, natural(&host.name), host.at)
    };
    hosts.sort_by_cached_key(order);
    hosts
}

/// A name whose numbers count as numbers.
fn natural(name: &str) -> Vec<(String, Option<u64>)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let end = rest.find(|it: char| it.is_ascii_digit()).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        let end = tail.find(|it: char| !it.is_ascii_digit()).unwrap_or(tail.len());
        let (digits, tail) = tail.split_at(end);
        let number = (!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX));
        parts.push((word.to_owned(), number));
        rest = tail;
    }
    parts
}

fn host(view: &View<'_>, at: usize, homes: &BTreeSet<usize>) -> Option<Host> {
    let namespace = view.namespace(at);
    let home = view.home(at);
    // What was attached to a lab's node by hand is of that lab.
    let lab = namespace.lab.clone().or_else(|| view.namespace(home?).lab.clone());
    // The two ends of a lab without plugins stand for pods.
    let is_plain = namespace.role == Role::Other && namespace.lab.is_some();
    let kind = match namespace.role {
        _ if view.is_pod(at) || is_plain => Kind::Pod,
        Role::Node => Kind::Node,
        // A machine is a node where it has pods of its own, and so is whatever else has: a node may
        // be a container.
        _ if homes.contains(&at) => Kind::Node,
        Role::Outside => Kind::Outside,
        _ => return None,
    };
    let (name, object) = match kind {
        Kind::Pod if is_plain => (namespace.name.clone(), format!("netns/{}", namespace.name)),
        Kind::Pod => {
            let told = view.pod_names(at).into_iter().next();
            let precise = told.map_or_else(|| namespace.name.clone(), ToString::to_string);
            (precise.clone(), format!("pod/{precise}"))
        }
        Kind::Node => match view.node(at) {
            Some(node) => (node.name.clone(), format!("node/{}", node.name)),
            None => (namespace.name.clone(), format!("netns/{}", namespace.name)),
        },
        Kind::Outside => (namespace.name.clone(), format!("netns/{}", namespace.name)),
    };
    let (device, mut addresses, beside) = match kind {
        Kind::Pod => pod(view, at),
        _ => (first_device(view, at), node_addresses(view, at), 0),
    };
    // One a family: the first.
    let mut seen = [false; 2];
    addresses.retain(|it| !std::mem::replace(&mut seen[usize::from(it.is_ipv6())], true));
    if addresses.is_empty() {
        return None;
    }
    let mtu = device.map_or(1500, |link| link.mtu as usize);
    let home = match kind {
        Kind::Pod => home,
        Kind::Node => Some(at),
        Kind::Outside => None,
    };
    Some(Host { kind, name, object, at, lab, home, addresses, mtu, beside })
}

/// A pod's first interface, its addresses, and how many interfaces it has beside.
fn pod<'a>(view: &View<'a>, at: usize) -> (Option<&'a Link>, Vec<IpAddr>, usize) {
    let namespace = view.namespace(at);
    let mut attached: Vec<_> = view.attachments(at).map(|(_, it)| it).collect();
    attached.sort_by_key(|it| it.ifname != "eth0");
    let given: Vec<IpAddr> = attached
        .first()
        .map(|it| it.addresses.iter().map(ipnet::IpNet::addr).collect())
        .unwrap_or_default();
    let named = attached.first().and_then(|it| view.named(at, &it.ifname));
    let device = named.map(|(_, link)| link).or_else(|| first_device(view, at));
    let own: Vec<IpAddr> = device.map(|link| of_device(view, at, link)).unwrap_or_default();
    // What it has now counts where nobody says what it was given.
    let addresses = if given.is_empty() { own } else { given };
    let is_other = |link: &&Link| {
        link.name != "lo"
            && device.is_some_and(|device| device.index != link.index)
            && !of_device(view, at, link).is_empty()
    };
    let beside = namespace.links().filter(is_other).count();
    (device, addresses.into_iter().filter(|it| is_global(*it)).collect(), beside)
}

/// The device of the default route, or else the first with an address.
fn first_device<'a>(view: &View<'a>, at: usize) -> Option<&'a Link> {
    let namespace = view.namespace(at);
    let by_route = namespace
        .default_routes()
        .flat_map(|route| &route.hops)
        .find_map(|hop| view.link(End { namespace: at, link: hop.index? }));
    by_route.or_else(|| {
        let mut links = namespace.links().filter(|link| link.name != "lo");
        links.find(|link| !of_device(view, at, link).is_empty())
    })
}

fn of_device(view: &View<'_>, at: usize, link: &Link) -> Vec<IpAddr> {
    let end = End { namespace: at, link: link.index };
    view.addresses(end).map(|it| it.address.addr()).filter(|it| is_global(*it)).collect()
}

fn is_global(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !is_link_local
}

/// A node's addresses, those that others know it by first: not those of its bridges and tunnels,
/// unless it has no other.
fn node_addresses(view: &View<'_>, at: usize) -> Vec<IpAddr> {
    let first = first_device(view, at).map(|link| link.index);
    let rank = |link: &Link| {
        let end = End { namespace: at, link: link.index };
        let is_of_pods = link.kind == "bridge"
            || link.vxlan.is_some()
            || view.peer(end).is_some_and(|far| view.is_pod(far.namespace));
        (is_of_pods, Some(link.index) != first, link.index)
    };
    let mut links: Vec<&Link> = view.namespace(at).links().collect();
    links.sort_by_key(|link| rank(link));
    links.into_iter().flat_map(|link| of_device(view, at, link)).collect()
}

/// The address that a node sends from by itself: what its route says, or the device's own.
pub(super) fn source(view: &View<'_>, node: usize, to: IpAddr) -> Option<IpAddr> {
    let route = view.way(node, None, to)?;
    route.source.or_else(|| {
        let end = End { namespace: node, link: route.hops.first()?.index? };
        let mut own = view.addresses(end).map(|it| it.address.addr());
        own.find(|address| address.is_ipv6() == to.is_ipv6())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["pod10", "pod2", "a", "pod", "pod2b"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["a", "pod", "pod2", "pod2b", "pod10"]);
    }
}
