//! Namespaces, and the cables between them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use kernel::dump::{Address, Dump, Link, Route, RouteKind};
use kernel::{Kernel, Netns, NetnsId, Result};
use net::Space;

use crate::Masquerade;

/// Namespaces that belong to one picture.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// In the order in which they were asked for.
    pub namespaces: Vec<Namespace>,
}

/// A namespace that is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What people call it.
    pub name: String,
    /// Where it is bound.
    pub path: PathBuf,
}

/// A namespace as it was seen.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// What people call it.
    pub name: String,
    /// Where it was found.
    pub path: PathBuf,
    /// Who it is.
    pub id: NetnsId,
    /// Others of the picture, by the numbers that this one knows them by: those that its devices
    /// lead to.
    pub known: BTreeMap<i32, NetnsId>,
    /// All that is in it.
    pub dump: Dump,
}

/// A device of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// The place of its namespace in [`Machine::namespaces`].
    pub namespace: usize,
    /// Its index there.
    pub link: u32,
}

impl Machine {
    /// Looks at these namespaces, one after the other.
    pub fn collect(kernel: &mut Kernel, places: &[Place]) -> Result<Self> {
        let open = |place: &Place| Netns::open(&place.path);
        let opened: Vec<Netns> = places.iter().map(open).collect::<Result<_>>()?;
        let ids: Vec<NetnsId> = opened.iter().map(Netns::id).collect::<Result<_>>()?;
        let mut look = |place: &Place, id: &NetnsId| {
            let Place { name, path } = place.clone();
            let space = Space::At(path.clone());
            let dump = kernel.dump(&space)?;
            let numbers = dump.links.values().filter_map(|link| link.parent_netns);
            let mut wanted: BTreeSet<i32> = numbers.collect();
            let mut known = BTreeMap::new();
            for (other, id) in opened.iter().zip(&ids) {
                if wanted.is_empty() {
                    break;
                }
                if let Some(number) = kernel.number_of(&space, other)?
                    && wanted.remove(&number)
                {
                    known.insert(number, *id);
                }
            }
            Ok(Namespace { name, path, id: *id, known, dump })
        };
        let namespaces = places.iter().zip(&ids).map(|(place, id)| look(place, id));
        Ok(Self { namespaces: namespaces.collect::<Result<_>>()? })
    }

    /// The device at an end.
    pub fn link(&self, end: End) -> Option<&Link> {
        self.namespaces.get(end.namespace)?.dump.links.get(&end.link)
    }

    /// The far end of a veth, if it is in one of the namespaces.
    ///
    /// A veth tells the index of its far end, and the number by which its own namespace knows the
    /// other one. Where it is not known whose number that is, the far end is the device with that
    /// index that tells the same about this one; where several do, which one it is cannot be told.
    pub fn peer(&self, end: End) -> Option<End> {
        let near = self.link(end).filter(|link| link.kind == "veth")?;
        let index = near.parent?;
        let known = &self.namespaces[end.namespace].known;
        let id = near.parent_netns.and_then(|number| known.get(&number));
        if near.parent_netns.is_some() && id.is_none() && !known.is_empty() {
            return None;
        }
        let is_peer = |namespace: usize| {
            if id.is_some_and(|id| self.namespaces[namespace].id != *id) {
                return None;
            }
            let candidate = End { namespace, link: index };
            let far = self.link(candidate).filter(|link| link.kind == "veth")?;
            let same_space = namespace == end.namespace;
            let fits = far.parent == Some(end.link)
                && same_space == near.parent_netns.is_none()
                && same_space == far.parent_netns.is_none();
            fits.then_some(candidate)
        };
        let mut candidates = (0..self.namespaces.len()).filter_map(is_peer);
        candidates.next().filter(|_| candidates.next().is_none())
    }
}

impl Namespace {
    /// Its devices by index.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.dump.links.values()
    }

    /// Its bridges.
    pub fn bridges(&self) -> impl Iterator<Item = &Link> {
        self.links().filter(|link| link.kind == "bridge")
    }

    /// The ports of a bridge.
    pub fn ports(&self, bridge: &Link) -> impl Iterator<Item = &Link> {
        self.links().filter(|link| link.master == Some(bridge.index))
    }

    /// The addresses of a device that somebody gave it; link-local ones come by themselves.
    pub fn addresses(&self, link: &Link) -> impl Iterator<Item = &Address> {
        let is_given = |address: &&Address| address.scope != net::Scope::Link;
        self.dump.addresses.iter().filter(move |it| it.index == link.index).filter(is_given)
    }

    /// The routes by which it sends packets on: those of the main table, without the link-local
    /// and multicast ones that every IPv6 device has by itself.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        let is_given = |route: &&Route| {
            let by_itself = match route.destination.addr() {
                IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
                IpAddr::V4(_) => false,
            };
            route.table == net::MAIN_TABLE && route.kind == RouteKind::Unicast && !by_itself
        };
        self.dump.routes.iter().filter(is_given)
    }

    /// The ways to everywhere else.
    pub fn default_routes(&self) -> impl Iterator<Item = &Route> {
        self.routes().filter(|route| route.destination.prefix_len() == 0)
    }

    /// What podwire's plugins have it do to packets that leave the pods' networks.
    pub fn masquerade(&self) -> Masquerade {
        Masquerade::read(&self.dump.nft)
    }
}

#[cfg(test)]
mod tests {
    use kernel::dump::OperState;

    use super::*;

    fn veth(index: u32, name: &str, parent: u32, parent_netns: Option<i32>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: "veth".to_owned(),
            mac: None,
            mtu: 1500,
            up: true,
            promiscuous: false,
            oper_state: OperState::Up,
            master: None,
            parent: Some(parent),
            parent_netns,
            port: None,
            vxlan: None,
            alias: None,
        }
    }

    fn machine(namespaces: &[&[Link]]) -> Machine {
        let namespace = |(number, links): (usize, &&[Link])| Namespace {
            name: format!("n{number}"),
            path: PathBuf::new(),
            id: NetnsId { device: 4, inode: number as u64 },
            known: BTreeMap::new(),
            dump: Dump {
                links: links.iter().map(|link| (link.index, link.clone())).collect(),
                ..Dump::default()
            },
        };
        Machine { namespaces: namespaces.iter().enumerate().map(namespace).collect() }
    }

    #[test]
    fn cables_are_found_from_both_ends() {
        let machine = machine(&[
            &[veth(5, "veth1", 2, Some(0)), veth(6, "veth2", 2, Some(1))],
            &[veth(2, "eth0", 5, Some(0))],
            &[veth(2, "eth0", 6, Some(0)), veth(3, "a", 4, None), veth(4, "b", 3, None)],
        ]);
        let cables = [((0, 5), (1, 2)), ((0, 6), (2, 2)), ((2, 3), (2, 4))];
        for (a, b) in cables {
            let (a, b) = (End { namespace: a.0, link: a.1 }, End { namespace: b.0, link: b.1 });
            assert_eq!(machine.peer(a), Some(b));
            assert_eq!(machine.peer(b), Some(a));
        }
    }

    #[test]
    fn whose_number_is_known_settles_it() {
        // Two nodes with a pod each, all with the same indices.
        let pair = [veth(5, "veth1", 2, Some(0))];
        let pod = [veth(2, "eth0", 5, Some(0))];
        let mut machine = machine(&[&pair, &pod, &pair, &pod]);
        for (one, other) in [(0, 3), (1, 2), (2, 1), (3, 0)] {
            machine.namespaces[one].known = [(0, machine.namespaces[other].id)].into();
        }
        for (one, other) in [((0, 5), (3, 2)), ((1, 2), (2, 5))] {
            let end = |(namespace, link)| End { namespace, link };
            assert_eq!(machine.peer(end(one)), Some(end(other)));
            assert_eq!(machine.peer(end(other)), Some(end(one)));
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed() {
        let pair = [veth(5, "veth1", 2, Some(0))];
        let pod = [veth(2, "eth0", 5, Some(0))];
        let one = End { namespace: 0, link: 5 };
        assert_eq!(machine(&[&pair]).peer(one), None);
        assert_eq!(machine(&[&pair, &pod, &pair, &pod]).peer(one), None);
    }
}
