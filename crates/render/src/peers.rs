//! How nodes are joined above the wire: tunnels, and routes to other nodes' pods.
//!
//! A tunnel's far ends are read from the near end's forwarding entries and routes. Where such an
//! address is that of a namespace of the same machine, that namespace's end is the other one; what
//! knows the other but is not known by it is unusual, and said.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use topology::dump::{Link, RouteKind};
use topology::{End, Machine, Role};

use crate::scene::{Kind, State};
use crate::words;

/// Two devices that send each other packets of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) ends: [End; 2],
    pub(crate) kind: Kind,
    pub(crate) state: State,
}

/// Far ends that are not on this machine: address, and the subnet behind it where a route says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remotes {
    pub(crate) of: BTreeMap<End, BTreeMap<IpAddr, Option<IpNet>>>,
}

/// Finds all pairs between `hubs`, and what leads elsewhere.
pub(crate) fn find(machine: &Machine, hubs: &[usize]) -> (Vec<Pair>, Remotes) {
    let mut places: HashMap<IpAddr, Vec<End>> = HashMap::new();
    for namespace in hubs {
        for address in &machine.namespaces[*namespace].dump.addresses {
            let end = End { namespace: *namespace, link: address.index };
            places.entry(address.address.addr()).or_default().push(end);
        }
    }
    let finder = Finder { machine, places };
    let mut known: BTreeSet<(End, End, Kind)> = BTreeSet::new();
    let mut remotes = Remotes::default();
    for namespace in hubs {
        for (device, far) in finder.tunnels(*namespace) {
            for (address, subnet) in far {
                match finder.far_tunnel(device, address) {
                    Some(other) => {
                        known.insert((device, other, Kind::Tunnel));
                    }
                    None => {
                        remotes.of.entry(device).or_default().insert(address, subnet);
                    }
                }
            }
        }
        known.extend(finder.routed(*namespace));
    }
    let mut pairs = Vec::new();
    for (from, to, kind) in &known {
        let is_mutual = known.contains(&(*to, *from, *kind));
        if is_mutual && to < from {
            continue;
        }
        let is_up = |end: &End| machine.link(*end).is_some_and(|link| link.up);
        let state = match is_mutual {
            _ if !(is_up(from) && is_up(to)) => State::Down,
            true => State::Usual,
            false => State::Unusual,
        };
        pairs.push(Pair { ends: [*from, *to], kind: *kind, state });
    }
    (pairs, remotes)
}

struct Finder<'a> {
    machine: &'a Machine,
    places: HashMap<IpAddr, Vec<End>>,
}

impl Finder<'_> {
    /// The tunnel ends of a namespace with the far ends that they know.
    fn tunnels(&self, at: usize) -> Vec<(End, BTreeMap<IpAddr, Option<IpNet>>)> {
        let namespace = &self.machine.namespaces[at];
        let ends = namespace.links().filter(|link| link.vxlan.is_some());
        let mut far: BTreeMap<u32, BTreeMap<IpAddr, Option<IpNet>>> =
            ends.map(|link| (link.index, BTreeMap::new())).collect();
        if far.is_empty() {
            return Vec::new();
        }
        for entry in namespace.dump.neighbours.iter().filter(|entry| entry.bridge) {
            let address = entry.address.filter(|it| !it.is_multicast() && !it.is_unspecified());
            if let (Some(address), Some(known)) = (address, far.get_mut(&entry.index)) {
                known.entry(address).or_insert(None);
            }
        }
        for route in &namespace.dump.routes {
            let Some(encap) = &route.encap else { continue };
            let device = route.hops.first().and_then(|hop| hop.index);
            let Some(known) = device.and_then(|index| far.get_mut(&index)) else { continue };
            let subnet = known.entry(encap.to).or_insert(None);
            let is_host = route.destination.prefix_len() == route.destination.max_prefix_len();
            if subnet.is_none() && !is_host {
                *subnet = Some(route.destination);
            }
        }
        far.into_iter().map(|(link, far)| (End { namespace: at, link }, far)).collect()
    }

    /// The namespaces of the same lab, other than `near`'s, that have an address.
    fn holders(&self, near: usize, address: IpAddr) -> impl Iterator<Item = End> {
        let lab = &self.machine.namespaces[near].lab;
        let holders = self.places.get(&address).into_iter().flatten().copied();
        holders.filter(move |end| {
            end.namespace != near && self.machine.namespaces[end.namespace].lab == *lab
        })
    }

    /// The tunnel end that packets of `near` to an address of the wire come out of.
    fn far_tunnel(&self, near: End, address: IpAddr) -> Option<End> {
        let vxlan = self.machine.link(near)?.vxlan?;
        let fits = |link: &&Link| {
            link.vxlan.is_some_and(|other| {
                let same_network = other.external || vxlan.external || other.vni == vxlan.vni;
                same_network && other.port == vxlan.port && other.gpe == vxlan.gpe
            })
        };
        self.holders(near.namespace, address).find_map(|holder| {
            let link = self.machine.namespaces[holder.namespace].links().find(fits)?;
            Some(End { namespace: holder.namespace, link: link.index })
        })
    }

    /// Routes to other nodes' pods that go straight to the other node.
    fn routed(&self, at: usize) -> Vec<(End, End, Kind)> {
        let mut found = BTreeSet::new();
        let routes = self.machine.namespaces[at].dump.routes.iter();
        let is_wanted = |it: &&topology::dump::Route| {
            it.table == net::MAIN_TABLE
                && it.kind == RouteKind::Unicast
                && it.destination.prefix_len() > 0
                && it.encap.is_none()
        };
        for route in routes.filter(is_wanted) {
            let [hop] = &route.hops[..] else { continue };
            let (Some(gateway), Some(index)) = (hop.gateway, hop.index) else { continue };
            let near = End { namespace: at, link: index };
            if self.machine.link(near).is_none_or(words::is_tunnel) {
                continue;
            }
            let is_node = |end: &End| {
                let other = &self.machine.namespaces[end.namespace];
                let holds = other.dump.addresses.iter().any(|address| {
                    address.index != end.link && route.destination.contains(&address.address.addr())
                });
                !matches!(other.role, Role::Underlay | Role::Outside) && holds
            };
            let far = self.holders(at, gateway).find(is_node);
            found.extend(far.map(|far| (near, far, Kind::Routed)));
        }
        found.into_iter().collect()
    }
}
