//! A machine as it was seen: its namespaces, the cables between them, and the nodes that its pods
//! are on. Pure: what is asked here is answered from what was collected.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use kernel::NetnsId;
use kernel::dump::{Address, Dump, Link, NeighbourState, Route, RouteKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Node, PodName};

/// All that was seen of one machine at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// What there is once.
    #[serde(default)]
    pub host: Host,
    /// The nodes that are on it: itself, and those of labs.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// Its own first, then those of labs in their order, then the others by node and name.
    #[serde(default)]
    pub namespaces: Vec<Namespace>,
    /// What could not be read. Where this is not empty, what is missing may be there.
    #[serde(default)]
    pub gaps: Vec<Gap>,
}

/// What a machine has once, whatever its namespaces are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The kernel's release, as `uname -r` has it.
    pub kernel: String,
    /// When it was looked at, in seconds since 1970, UTC.
    pub taken: u64,
    /// Settings below `/proc/sys` that hold for all namespaces, such as
    /// `net.ipv4.neigh.default.gc_thresh3`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// How many neighbours all namespaces have together, in the fuller one of the two tables, IPv4's
    /// and IPv6's: one limit is for all.
    #[serde(default)]
    pub neighbours: usize,
}

/// Something that was there and could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// What it is, such as `network namespace /run/netns/a`.
    pub what: String,
    /// Why it could not be read, and what to do if something can be done.
    pub why: String,
}

/// What a namespace is for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// The machine's own.
    Host,
    /// A node of a lab.
    Node,
    /// A pod, or a container that CNI plugins have wired.
    Pod,
    /// What joins the nodes of a lab.
    Underlay,
    /// A host beyond the cluster of a lab.
    Outside,
    /// Somebody else's.
    #[default]
    Other,
}

/// A namespace as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// What people call it; no two of a machine are called the same. That of a pod of Kubernetes is
    /// its [`PodName`] as text, the machine's own is `host`.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub role: Role,
    /// The node in [`Machine::nodes`] that it is, or is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The lab that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lab: Option<String>,
    /// Who it is.
    pub id: NetnsId,
    /// Where it is bound; the first is the one to name in a command.
    #[serde(default)]
    pub paths: Vec<PathBuf>,
    /// Who is in it.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// The containers that are in it, or that were attached to networks in it.
    #[serde(default)]
    pub containers: Vec<Container>,
    /// Others of the machine, by the numbers that this one knows them by: those that its devices
    /// lead to.
    #[serde(default)]
    pub known: BTreeMap<i32, NetnsId>,
    /// All that is in it.
    pub dump: Dump,
    /// Settings below `/proc/sys`, such as `net.ipv4.ip_forward`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The connections that it tracks, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Conntrack>,
    /// Flows of datagrams that are led elsewhere, where rules lead any: one of those that have the same
    /// way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracked: Vec<Tracked>,
    /// Sockets that wait for others.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// Whom its programs ask for names, where they have files of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<IpAddr>,
    /// Tables of iptables-legacy, which nftables does not show.
    #[serde(default)]
    pub legacy_tables: Vec<String>,
}

/// A process in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Its number in the machine's own process namespace.
    pub pid: u32,
    /// What the kernel calls it (`comm`).
    pub name: String,
    /// Its control group, which tells the container and the pod that it is of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cgroup: String,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// What its runtime knows it by.
    pub id: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The pod that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// The runtime that knows it, such as `containerd`; empty where only others speak of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runtime: String,
}

impl Container {
    /// A container of which no more is known.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), name: None, pod: None, runtime: String::new() }
    }
}

/// How full a namespace's table of connections is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conntrack {
    /// Entries.
    pub count: u64,
    /// The most that there can be; of the whole machine.
    pub max: u64,
}

/// A flow of datagrams that the kernel leads from the address that they were sent to, to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tracked {
    /// Who sends: one of all that send so.
    #[schemars(with = "String")]
    pub from: SocketAddr,
    /// What is sent to.
    #[schemars(with = "String")]
    pub to: SocketAddr,
    /// Where that is led.
    #[schemars(with = "String")]
    pub led_to: SocketAddr,
}

/// A socket that waits for others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
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
    /// How many entries of the kernel's table of IPv4's or of IPv6's neighbours, which is one for all
    /// namespaces, count towards its limit: not those that somebody has written, of which a node of a
    /// large cluster has thousands, nor those of groups and broadcasts.
    pub fn neighbours(&self, is_v4: bool) -> usize {
        let all = self.namespaces.iter().flat_map(|it| &it.dump.neighbours);
        let counted =
            all.filter(|it| !it.bridge && it.state != NeighbourState::Noarp && !it.is_written());
        counted.filter(|it| it.address.is_some_and(|it| it.is_ipv4() == is_v4)).count()
    }

    /// The device at an end.
    pub fn link(&self, end: End) -> Option<&Link> {
        self.namespaces.get(end.namespace)?.dump.links.get(&end.link)
    }

    /// The far end of a veth, or of a netkit, if it is in one of the namespaces.
    ///
    /// Either tells the index of its far end, and the number by which its own namespace knows the
    /// other one. Where it is not known whose number that is, the far end is the device with that
    /// index that tells the same about this one; where several do, which one it is cannot be told.
    pub fn peer(&self, end: End) -> Option<End> {
        self.peer_among(end, 0..self.namespaces.len())
    }

    /// The far ends of all devices that [`Machine::peer`] tells one of.
    pub fn peers(&self) -> HashMap<End, End> {
        let mut ends: HashMap<(u32, u32), Vec<usize>> = HashMap::new();
        for (End { namespace, link }, index) in self.cables() {
            ends.entry((link, index)).or_default().push(namespace);
        }
        let peer = |(end, index): (End, u32)| {
            let fitting = ends.get(&(index, end.link))?;
            Some((end, self.peer_among(end, fitting.iter().copied())?))
        };
        self.cables().filter_map(peer).collect()
    }

    /// The ends of cables, with the index of the far end.
    fn cables(&self) -> impl Iterator<Item = (End, u32)> {
        let all = self.namespaces.iter().enumerate();
        let all = all.flat_map(|(at, it)| it.links().map(move |link| (at, link)));
        all.filter(|(_, link)| link.is_cable()).filter_map(|(namespace, link)| {
            Some((End { namespace, link: link.index }, link.parent?))
        })
    }

    /// The far end of a cable, if one of these namespaces can have it.
    fn peer_among(&self, end: End, namespaces: impl Iterator<Item = usize>) -> Option<End> {
        let near = self.link(end).filter(|link| link.is_cable())?;
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
            let far = self.link(candidate).filter(|link| link.is_cable())?;
            let same_space = namespace == end.namespace;
            let fits = far.parent == Some(end.link)
                && same_space == near.parent_netns.is_none()
                && same_space == far.parent_netns.is_none();
            fits.then_some(candidate)
        };
        let mut candidates = namespaces.filter_map(is_peer);
        candidates.next().filter(|_| candidates.next().is_none())
    }
}

impl Namespace {
    /// A namespace of which nothing is known yet.
    pub fn new(id: NetnsId) -> Self {
        Self {
            name: String::new(),
            role: Role::Other,
            node: None,
            lab: None,
            id,
            paths: Vec::new(),
            processes: Vec::new(),
            containers: Vec::new(),
            known: BTreeMap::new(),
            dump: Dump::default(),
            settings: BTreeMap::new(),
            conntrack: None,
            tracked: Vec::new(),
            listeners: Vec::new(),
            resolvers: Vec::new(),
            legacy_tables: Vec::new(),
        }
    }

    /// Where it is entered.
    pub fn path(&self) -> Option<&Path> {
        self.paths.first().map(PathBuf::as_path)
    }

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
            mtu: 1500,
            up: true,
            oper_state: OperState::Up,
            parent: Some(parent),
            parent_netns,
            ..Link::default()
        }
    }

    fn machine(namespaces: &[&[Link]]) -> Machine {
        let namespace = |(number, links): (usize, &&[Link])| Namespace {
            name: format!("n{number}"),
            dump: Dump {
                links: links.iter().map(|link| (link.index, link.clone())).collect(),
                ..Dump::default()
            },
            ..Namespace::new(NetnsId { device: 4, inode: number as u64 })
        };
        let namespaces = namespaces.iter().enumerate().map(namespace).collect();
        Machine { namespaces, ..Machine::default() }
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
            assert_eq!(machine.peers().get(&a), Some(&b));
        }
        assert_eq!(machine.peers().len(), 6);
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
        let machine = machine(&[&pair, &pod, &pair, &pod]);
        assert_eq!(machine.peer(one), None);
        assert!(machine.peers().is_empty());
    }
}
