//! A machine with what is asked of it all the time: cables, homes and owners, found once.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use topology::dump::{Address, Link, OperState, Route, RouteKind};
use topology::{Attachment, End, Machine, Namespace, NetnsId, Node, PodName, Role};

use crate::{Thing, words};

/// A machine, and what was looked up in it.
pub(crate) struct View<'a> {
    pub(crate) machine: &'a Machine,
    peers: HashMap<End, End>,
    places: HashMap<NetnsId, usize>,
    /// The ports of each bridge, or of whatever else has ports.
    ports: HashMap<End, Vec<End>>,
    /// The attachments of each namespace: node and attachment.
    attachments: HashMap<NetnsId, Vec<(usize, usize)>>,
    /// The home of each namespace, and whose home each is.
    homes: Vec<Option<usize>>,
    guests: HashMap<usize, Vec<usize>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(machine: &'a Machine) -> Self {
        let mut view = Self {
            machine,
            peers: machine.peers(),
            places: HashMap::new(),
            ports: HashMap::new(),
            attachments: HashMap::new(),
            homes: Vec::new(),
            guests: HashMap::new(),
        };
        for (at, namespace) in machine.namespaces.iter().enumerate() {
            view.places.entry(namespace.id).or_insert(at);
            for link in namespace.links() {
                if let Some(master) = link.master {
                    let end = End { namespace: at, link: link.index };
                    let bridge = End { namespace: at, link: master };
                    view.ports.entry(bridge).or_default().push(end);
                }
            }
        }
        for (node, it) in machine.nodes.iter().enumerate() {
            for (at, attachment) in it.attachments.iter().enumerate() {
                if let Some(id) = attachment.namespace {
                    view.attachments.entry(id).or_default().push((node, at));
                }
            }
        }
        view.homes = (0..machine.namespaces.len()).map(|at| view.find_home(at)).collect();
        for (at, home) in view.homes.iter().enumerate() {
            if let Some(home) = home.filter(|home| *home != at) {
                view.guests.entry(home).or_default().push(at);
            }
        }
        view
    }

    pub(crate) fn namespace(&self, at: usize) -> &'a Namespace {
        &self.machine.namespaces[at]
    }

    pub(crate) fn at(&self, id: NetnsId) -> Option<usize> {
        self.places.get(&id).copied()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &'a Namespace)> + use<'a> {
        self.machine.namespaces.iter().enumerate()
    }

    pub(crate) fn link(&self, end: End) -> Option<&'a Link> {
        self.machine.link(end)
    }

    /// The far end of a veth.
    pub(crate) fn peer(&self, end: End) -> Option<End> {
        self.peers.get(&end).copied()
    }

    pub(crate) fn ends(&self, at: usize) -> impl Iterator<Item = (End, &'a Link)> + use<'a> {
        let end = move |link: &'a Link| (End { namespace: at, link: link.index }, link);
        self.namespace(at).links().map(end)
    }

    pub(crate) fn ports(&self, bridge: End) -> &[End] {
        self.ports.get(&bridge).map_or(&[], Vec::as_slice)
    }

    /// What a device is a port of.
    pub(crate) fn master(&self, end: End) -> Option<(End, &'a Link)> {
        let master = End { link: self.link(end)?.master?, ..end };
        Some((master, self.link(master)?))
    }

    /// Where the cable ends by which a namespace has an address.
    pub(crate) fn far_of(&self, at: usize, own: IpAddr) -> Option<End> {
        let mut addresses = self.namespace(at).dump.addresses.iter();
        let address = addresses.find(|it| it.address.addr() == own)?;
        self.peer(End { namespace: at, link: address.index })
    }

    /// The device of a namespace that is called so.
    pub(crate) fn named(&self, at: usize, name: &str) -> Option<(End, &'a Link)> {
        self.ends(at).find(|(_, link)| link.name == name)
    }

    /// The name of the device with an index, or the number where there is none.
    pub(crate) fn name(&self, at: usize, index: u32) -> String {
        match self.link(End { namespace: at, link: index }) {
            Some(link) => link.name.clone(),
            None => format!("device {index}"),
        }
    }

    /// The addresses that somebody gave a device.
    pub(crate) fn addresses(&self, end: End) -> impl Iterator<Item = &'a Address> + use<'a> {
        let is_given =
            move |it: &&Address| it.index == end.link && it.scope == net::Scope::Universe;
        self.namespace(end.namespace).dump.addresses.iter().filter(is_given)
    }

    /// The addresses that somebody gave a namespace's devices.
    pub(crate) fn own(&self, at: usize) -> impl Iterator<Item = &'a Address> + use<'a> {
        let is_given = |it: &&Address| it.scope == net::Scope::Universe;
        self.namespace(at).dump.addresses.iter().filter(is_given)
    }

    /// Whether a device's neighbours are reached without a router, as its address' length has it.
    pub(crate) fn is_on_link(&self, end: End, net: IpNet) -> bool {
        self.namespace(end.namespace).routes().any(|route| {
            route.destination == net
                && route.hops.iter().any(|hop| hop.index == Some(end.link) && hop.gateway.is_none())
        })
    }

    pub(crate) fn owns(&self, at: usize, address: IpAddr) -> bool {
        self.namespace(at).dump.addresses.iter().any(|it| it.address.addr() == address)
    }

    /// What CNI runtimes remember of a namespace, except that it has a loopback device.
    pub(crate) fn attachments(
        &self,
        at: usize,
    ) -> impl Iterator<Item = (&'a Node, &'a Attachment)> + '_ {
        let found = self.attachments.get(&self.namespace(at).id).into_iter().flatten();
        let found = found.map(|(node, at)| {
            let node = &self.machine.nodes[*node];
            (node, &node.attachments[*at])
        });
        found.filter(|(_, attachment)| attachment.ifname != "lo")
    }

    /// Whom a namespace's programs ask for names. What they have counts; what plugins told may have
    /// come to nothing.
    pub(crate) fn resolvers(&self, at: usize) -> Vec<IpAddr> {
        let own = &self.namespace(at).resolvers;
        let told = self.attachments(at).flat_map(|(_, it)| &it.nameservers);
        let mut all: Vec<IpAddr> = match own.is_empty() {
            true => told.copied().collect(),
            false => own.clone(),
        };
        all.dedup();
        all
    }

    /// Whether a namespace is one that plugins wire.
    pub(crate) fn is_pod(&self, at: usize) -> bool {
        self.namespace(at).role == Role::Pod
            || self.attachments.contains_key(&self.namespace(at).id)
    }

    /// The node that a namespace is on, or is.
    pub(crate) fn node(&self, at: usize) -> Option<&'a Node> {
        let wanted = self.namespace(at).node.as_deref();
        let by_name = wanted.and_then(|name| self.machine.nodes.iter().find(|it| it.name == name));
        by_name.or_else(|| self.attachments(at).next().map(|(node, _)| node))
    }

    /// The namespace of the node that a namespace is on: by name, by what runtimes remember, or
    /// where its first cable leads.
    pub(crate) fn home(&self, at: usize) -> Option<usize> {
        self.homes[at]
    }

    fn find_home(&self, at: usize) -> Option<usize> {
        let own = self.namespace(at);
        if matches!(own.role, Role::Host | Role::Node) {
            return Some(at);
        }
        let of_node = self.node(at).and_then(|node| self.at(node.namespace?));
        let of_name = || {
            let name = own.node.as_ref()?;
            let is_home = |(other, it): &(usize, &Namespace)| {
                *other != at
                    && matches!(it.role, Role::Host | Role::Node)
                    && it.node.as_ref() == Some(name)
            };
            self.all().find(is_home).map(|(other, _)| other)
        };
        let of_cable = || {
            let far = self.ends(at).filter_map(|(end, link)| match self.peer(end) {
                Some(far) => Some(far.namespace),
                // What stands on a device of another namespace, as a macvlan does.
                None => self.at(*own.known.get(&link.parent_netns?)?),
            });
            far.into_iter().find(|other| *other != at)
        };
        // Where a pod's cable ends is where its packets go, whatever files say: a runtime may run in a
        // namespace of its own, as in a node that is a container.
        let leads_on = |home: &usize| !self.is_pod(*home);
        let by_cable = of_cable();
        let home = by_cable.filter(|it| self.is_pod(at) && leads_on(it)).or(of_node);
        home.or_else(of_name).or(by_cable).filter(|home| *home != at)
    }

    /// The namespaces whose home is `home`.
    pub(crate) fn guests(&self, home: usize) -> Vec<usize> {
        self.guests.get(&home).cloned().unwrap_or_default()
    }

    /// All that share a segment with a device that is a port of a bridge: the bridge itself, and the
    /// far ends of its ports. `None` in place of what is beyond a port that is no cable in sight.
    pub(crate) fn segment(&self, bridge: End) -> Vec<Option<End>> {
        let far = self.ports(bridge).iter().map(|port| self.peer(*port));
        far.chain([Some(bridge)]).collect()
    }

    /// What people call a namespace, with what it is.
    pub(crate) fn called(&self, at: usize) -> String {
        let namespace = self.namespace(at);
        match namespace.role {
            Role::Host => "this machine".to_owned(),
            Role::Node => words::kinded("node", &namespace.name),
            _ if self.is_pod(at) => words::kinded("pod", &self.pod_name(at)),
            Role::Underlay | Role::Outside => namespace.name.clone(),
            _ => format!("namespace {}", namespace.name),
        }
    }

    /// A pod's name: the runtime's, or else the namespace's.
    pub(crate) fn pod_name(&self, at: usize) -> String {
        let told = self.pod_names(at).into_iter().next();
        told.map_or_else(|| self.namespace(at).name.clone(), |pod| pod.name.clone())
    }

    /// What runtimes say that the pod in a namespace is called.
    pub(crate) fn pod_names(&self, at: usize) -> Vec<&'a PodName> {
        let attached = self.attachments(at).filter_map(|(_, it)| it.pod.as_ref());
        let inside = self.namespace(at).containers.iter().filter_map(|it| it.pod.as_ref());
        let mut names: Vec<&PodName> = attached.chain(inside).collect();
        names.sort();
        names.dedup();
        names
    }

    /// What people call a device, with where it is.
    pub(crate) fn device(&self, end: End) -> String {
        let name = self.name(end.namespace, end.link);
        match self.namespace(end.namespace).role {
            Role::Host => format!("{name} on this machine"),
            _ => format!("{name} in {}", self.called(end.namespace)),
        }
    }

    pub(crate) fn space(&self, at: usize) -> Thing {
        Thing::Namespace(self.namespace(at).id)
    }

    pub(crate) fn thing(&self, end: End) -> Thing {
        Thing::Link(self.namespace(end.namespace).id, end.link)
    }

    /// A command that shows something in a namespace.
    pub(crate) fn command(&self, at: usize, command: &str) -> String {
        let namespace = self.namespace(at);
        let path = match namespace.role {
            Role::Host => None,
            _ => namespace.path(),
        };
        words::command(path, command)
    }

    /// A setting below `/proc/sys`; `None` if it was not read.
    pub(crate) fn setting(&self, at: usize, name: &str) -> Option<&'a str> {
        self.namespace(at).settings.get(name).map(String::as_str)
    }

    /// A setting of a device, such as `rp_filter` of `ipv4`; `all` stands for all of them.
    pub(crate) fn of_device(
        &self,
        at: usize,
        family: &str,
        name: &str,
        key: &str,
    ) -> Option<&'a str> {
        // As sysctl(8) writes them: a dot in a name would be taken for a level.
        let name = name.replace('.', "/");
        self.setting(at, &format!("net.{family}.conf.{name}.{key}"))
    }

    /// The route of the tables that rules lead packets to which a packet takes; `from` decides
    /// between rules that look at the source. `None` if there is none.
    pub(crate) fn way(&self, at: usize, from: Option<IpAddr>, to: IpAddr) -> Option<&'a Route> {
        let dump = &self.namespace(at).dump;
        let covers = |net: Option<IpNet>, address: Option<IpAddr>| match (net, address) {
            (None, _) => true,
            (Some(net), Some(address)) => net.contains(&address),
            (Some(_), None) => false,
        };
        // A packet that nobody marked passes none of the other rules, as far as can be told.
        let plain = dump.rules.iter().filter(|rule| rule.v6 == to.is_ipv6());
        let mut rules: Vec<_> = plain.filter_map(topology::dump::Rule::object).collect();
        rules.retain(|rule| rule.fwmark.is_none_or(|(mark, mask)| mark & mask == 0));
        rules.sort_by_key(|rule| rule.priority);
        let known =
            rules.iter().filter(|rule| covers(rule.from, from) && covers(rule.to, Some(to)));
        let mut tables: Vec<u32> = known.map(|rule| rule.table).collect();
        if rules.is_empty() {
            tables = vec![LOCAL_TABLE, net::MAIN_TABLE];
        }
        let best = |table: u32| {
            let fits = dump
                .routes
                .iter()
                .filter(|it| it.table == table && it.destination.contains(&to) && is_way(it));
            fits.max_by_key(|it| {
                let metric = u32::MAX - it.metric.unwrap_or_default();
                (it.destination.prefix_len(), metric)
            })
        };
        tables.into_iter().find_map(best)
    }
}

/// `RT_TABLE_LOCAL`.
const LOCAL_TABLE: u32 = 255;

fn is_way(route: &Route) -> bool {
    !matches!(route.kind, RouteKind::Other(_))
}

/// Whether a device carries packets, as far as it says.
pub(crate) fn carries(link: &Link) -> bool {
    link.up && matches!(link.oper_state, OperState::Up | OperState::Unknown)
}

/// The different nodes that a machine's things are on, by name.
pub(crate) fn labs(machine: &Machine) -> BTreeSet<&str> {
    machine.namespaces.iter().filter_map(|namespace| namespace.lab.as_deref()).collect()
}
