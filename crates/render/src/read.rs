//! A machine in words: which namespace stands above which, what each box says, what joins them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diagnosis::Thing;
use topology::dump::{Link, OperState};
use topology::origin::is_everywhere;
use topology::{End, Machine, Namespace, Role};

use crate::diagram::{self, Cable, Device, Diagram, Group, Hub, Item, Leaf, Section, Trunk};
use crate::peers;
use crate::scene::{Class, Kind, State, shown};
use crate::words::{self, USUAL_MTU};

/// How many devices of a hub have a box.
const MOST_DEVICES: usize = 8;

/// How many far ends of a tunnel are named.
const MOST_REMOTES: usize = 4;

/// Orders a machine's namespaces around its hubs.
pub(crate) fn read(machine: &Machine, dots: &str) -> Diagram {
    let mut reader = Reader::new(machine, dots);
    let mut groups: Vec<Group> = reader.hubs.iter().map(|hub| reader.group(*hub)).collect();
    groups.extend(reader.remotes());
    // What joins the others stands below them.
    groups.sort_by_key(Group::has_trunk);
    let is_loose = |at: &usize| !reader.is_hub(*at) && reader.hub_of[*at].is_none();
    let loose: Vec<usize> = (0..machine.namespaces.len()).filter(is_loose).collect();
    if !loose.is_empty() {
        let leaves = loose.into_iter().map(|at| reader.leaf(at, None)).collect();
        let section = Section { leaves, ..Section::default() };
        match &mut groups[..] {
            // With one hub only, what has lost its cable keeps its place beside the others.
            [group] => group.sections.push(section),
            _ => groups.push(Group { sections: vec![section], ..Group::default() }),
        }
    }
    if groups.len() > 1 {
        for group in &mut groups {
            group.node = reader.node(group);
            if let (Some(_), Some(hub)) = (&group.node, &mut group.hub) {
                "host network".clone_into(&mut hub.item.title);
            }
        }
    }
    let gap = |gap: &topology::Gap| {
        format!("could not be read: {}: {}", shown(&gap.what), words::sentence(&gap.why))
    };
    let most = 5;
    let mut notes: Vec<String> = machine.gaps.iter().take(most).map(gap).collect();
    if machine.gaps.len() > most {
        notes.push(format!("could not be read: {} more", machine.gaps.len() - most));
    }
    let title = title(machine);
    let links = std::mem::take(&mut reader.links);
    Diagram { title, groups, trunks: reader.trunks, links, notes }
}

fn title(machine: &Machine) -> String {
    let mut labs = machine.namespaces.iter().map(|namespace| namespace.lab.as_ref());
    let first = labs.next().flatten();
    match (first.filter(|lab| labs.all(|other| other == Some(lab))), &machine.host.name) {
        (Some(lab), _) => format!("lab {}", shown(lab)),
        (None, host) if host.is_empty() => "the network".to_owned(),
        (None, host) => format!("the network of {}", shown(host)),
    }
}

struct Reader<'a> {
    machine: &'a Machine,
    dots: &'a str,
    hubs: Vec<usize>,
    /// The far ends of cables, and the devices that others stand on in another namespace.
    far: HashMap<End, End>,
    /// The hub that each namespace stands above: the first that it has a cable to. Hubs stand
    /// alone.
    hub_of: Vec<Option<usize>>,
    /// The namespaces that stand above each hub.
    members: BTreeMap<usize, Vec<usize>>,
    trunks: Vec<Trunk>,
    /// The bridges that other hubs are plugged into, by devices that are not in a bridge
    /// themselves; their lines are the first trunks.
    switches: Vec<End>,
    /// The lines that devices are plugged into.
    plugs: BTreeMap<End, BTreeSet<usize>>,
    remotes: peers::Remotes,
    links: Vec<diagram::Link>,
}

impl<'a> Reader<'a> {
    fn new(machine: &'a Machine, dots: &'a str) -> Self {
        let far = far_ends(machine);
        let mut neighbours: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); machine.namespaces.len()];
        for (near, far) in &far {
            neighbours[near.namespace].insert(far.namespace);
            neighbours[far.namespace].insert(near.namespace);
        }
        let hubs = hubs(machine, &neighbours);
        let mut reader = Self {
            machine,
            dots,
            far,
            hub_of: vec![None; machine.namespaces.len()],
            members: BTreeMap::new(),
            trunks: Vec::new(),
            switches: Vec::new(),
            plugs: BTreeMap::new(),
            remotes: peers::Remotes::default(),
            links: Vec::new(),
            hubs,
        };
        for at in 0..machine.namespaces.len() {
            if reader.is_hub(at) {
                continue;
            }
            let hub = reader.cables(at).map(|(_, far)| far.namespace).find(|it| reader.is_hub(*it));
            reader.hub_of[at] = hub;
            if let Some(hub) = hub {
                reader.members.entry(hub).or_default().push(at);
            }
        }
        reader.join();
        reader
    }

    fn is_hub(&self, at: usize) -> bool {
        self.hubs.binary_search(&at).is_ok()
    }

    /// The cables of a namespace to others: near end, far end.
    fn cables(&self, at: usize) -> impl Iterator<Item = (End, End)> {
        let ends = self.machine.namespaces[at].dump.links.keys();
        ends.filter_map(move |link| {
            let near = End { namespace: at, link: *link };
            let far = self.far.get(&near)?;
            (far.namespace != at).then_some((near, *far))
        })
    }

    /// Finds what joins hubs.
    fn join(&mut self) {
        let mut cables = Vec::new();
        for hub in &self.hubs {
            for (near, far) in self.cables(*hub).filter(|(_, far)| self.is_hub(far.namespace)) {
                let (Some(link), Some(other)) = (self.machine.link(near), self.machine.link(far))
                else {
                    continue;
                };
                match (link.master, other.master) {
                    (None, Some(master)) => {
                        let switch = End { namespace: far.namespace, link: master };
                        cables.push((near, far, Some(switch)));
                    }
                    // Seen from the other end.
                    (Some(_), None) => {}
                    _ if near < far => cables.push((near, far, None)),
                    _ => {}
                }
            }
        }
        // The switches' own order, not that of what is plugged into them.
        let switches: BTreeSet<End> = cables.iter().filter_map(|(.., switch)| *switch).collect();
        self.switches = switches.into_iter().collect();
        self.trunks = vec![Trunk { kind: Kind::Cable }; self.switches.len()];
        for (near, far, switch) in cables {
            let state = self.cable_state(near, far);
            let trunk = switch.and_then(|it| self.switches.iter().position(|end| *end == it));
            let to = switch.unwrap_or(far);
            for end in [near, to] {
                self.plugs.entry(end).or_default().extend(trunk);
            }
            self.link([near, to], Kind::Cable, state, &[near, far], trunk);
        }
        let (pairs, remotes) = peers::find(self.machine, &self.hubs);
        let mut lines: BTreeMap<(End, Kind), usize> = BTreeMap::new();
        for pair in &pairs {
            let known = pair.ends.iter().filter_map(|end| lines.get(&(*end, pair.kind)).copied());
            let known: Vec<usize> = known.collect();
            let line = known.first().copied().unwrap_or_else(|| {
                self.trunks.push(Trunk { kind: pair.kind });
                self.trunks.len() - 1
            });
            // Two lines that meet are one.
            for other in known.into_iter().filter(|other| *other != line) {
                lines.values_mut().filter(|it| **it == other).for_each(|it| *it = line);
            }
            for end in pair.ends {
                lines.insert((end, pair.kind), line);
            }
        }
        for ((end, _), line) in &lines {
            self.plugs.entry(*end).or_default().insert(*line);
        }
        for pair in &pairs {
            let line = lines.get(&(pair.ends[0], pair.kind)).copied();
            self.link(pair.ends, pair.kind, pair.state, &pair.ends, line);
        }
        for end in remotes.of.keys() {
            let line = lines.get(&(*end, Kind::Tunnel)).copied().unwrap_or_else(|| {
                self.trunks.push(Trunk { kind: Kind::Tunnel });
                self.trunks.len() - 1
            });
            self.plugs.entry(*end).or_default().insert(line);
            self.links.push(diagram::Link {
                ends: [self.id(*end), remote_id(&self.id(*end))],
                kind: Kind::Tunnel,
                state: State::Usual,
                things: vec![self.thing(*end)],
                trunk: Some(line),
            });
        }
        self.remotes = remotes;
    }

    fn link(
        &mut self,
        ends: [End; 2],
        kind: Kind,
        state: State,
        devices: &[End],
        trunk: Option<usize>,
    ) {
        let things = devices.iter().map(|end| self.thing(*end)).collect();
        let ends = ends.map(|end| self.id(end));
        self.links.push(diagram::Link { ends, kind, state, things, trunk });
    }

    fn thing(&self, end: End) -> Thing {
        Thing::Link(self.machine.namespaces[end.namespace].id, end.link)
    }

    fn id(&self, end: End) -> String {
        self.thing(end).to_string()
    }

    fn cable_state(&self, near: End, far: End) -> State {
        let carries = |end| self.machine.link(end).is_some_and(words::carries);
        if carries(near) && carries(far) { State::Usual } else { State::Down }
    }

    /// The node around a group.
    fn node(&self, group: &Group) -> Option<Item> {
        let Some(Thing::Namespace(id)) = group.hub.as_ref()?.item.thing else { return None };
        let known = self.machine.nodes.iter().find(|node| node.namespace == Some(id));
        let namespace = self.machine.namespaces.iter().find(|namespace| namespace.id == id)?;
        // Where no files of a node were read, its namespace says which one it is.
        let is_node = matches!(namespace.role, Role::Host | Role::Node);
        let name = known.map(|node| &node.name).or(namespace.node.as_ref().filter(|_| is_node))?;
        let thing = Thing::Node(name.clone());
        Some(Item {
            id: words::token(&thing.to_string()),
            thing: Some(thing),
            class: Class::Node,
            title: shown(name),
            ..Item::default()
        })
    }

    fn group(&self, hub: usize) -> Group {
        let namespace = &self.machine.namespaces[hub];
        let mut places: BTreeMap<Option<u32>, Vec<Leaf>> = BTreeMap::new();
        for at in self.members.get(&hub).into_iter().flatten() {
            let place = self.place(*at, hub);
            places.entry(place).or_default().push(self.leaf(*at, Some((hub, place))));
        }
        let mut sections = Vec::new();
        let mut devices = Vec::new();
        let routed = words::routed_devices(namespace);
        for link in namespace.bridges() {
            let mut bridge = self.device(hub, link);
            bridge.routed = routed.contains(&link.index);
            match places.remove(&Some(link.index)) {
                // A switch between hubs stands where the lines that join them are.
                None if self.switches.contains(&End { namespace: hub, link: link.index }) => {
                    devices.push(bridge);
                }
                leaves => {
                    let leaves = leaves.unwrap_or_default();
                    sections.push(Section { bridge: Some(bridge), leaves, ..Section::default() });
                }
            }
        }
        // Those with a bridge that is none, and those that end in the hub itself.
        let rest: Vec<Leaf> = places.into_values().flatten().collect();
        if !rest.is_empty() {
            sections.push(Section { leaves: rest, ..Section::default() });
        }
        devices.extend(self.hub_devices(hub, &routed));
        let item = self.namespace_item(hub);
        let routes = words::routing(namespace);
        let routes = (!routes.is_empty()).then(|| Item {
            id: format!("routes-{}", namespace.id.inode),
            class: Class::Routes,
            title: "routes".to_owned(),
            lines: routes,
            ..Item::default()
        });
        let has_trunk = self.switches.iter().any(|switch| switch.namespace == hub);
        let hub = Hub { item, routes, devices, plugs: Vec::new(), has_trunk };
        Group { node: None, hub: Some(hub), sections }
    }

    /// The devices of a hub that are neither bridges nor ends of cables that are drawn.
    fn hub_devices(&self, hub: usize, routed: &BTreeSet<u32>) -> Vec<Device> {
        let namespace = &self.machine.namespaces[hub];
        let is_wanted = |link: &&Link| {
            let near = End { namespace: hub, link: link.index };
            let is_drawn = self.far.get(&near).is_some_and(|far| {
                let plugged = self.is_hub(far.namespace) && link.master.is_some();
                let is_leaf = self.hub_of[far.namespace] == Some(hub)
                    && self.place(far.namespace, hub) == link.master;
                is_leaf || (plugged && self.plugs.contains_key(far))
            });
            !is_everywhere(link) && link.kind != "bridge" && !is_drawn
        };
        let mut wanted: Vec<&Link> = namespace.links().filter(is_wanted).collect();
        let rank = |link: &&Link| {
            let near = End { namespace: hub, link: link.index };
            let plugged = self.plugs.get(&near).is_some_and(|plugs| !plugs.is_empty());
            (!plugged, !routed.contains(&link.index), link.index)
        };
        wanted.sort_by_key(rank);
        let count = if wanted.len() > MOST_DEVICES { MOST_DEVICES - 1 } else { wanted.len() };
        let (told, rest) = wanted.split_at(count);
        let mut told = told.to_vec();
        told.sort_by_key(|link| link.index);
        let device = |link: &Link| {
            let mut device = self.device(hub, link);
            device.routed = routed.contains(&link.index);
            device
        };
        let mut devices: Vec<Device> = told.into_iter().map(device).collect();
        if let [first, .., last] = rest {
            let down = rest.iter().filter(|link| !words::carries(link)).count();
            let mut lines = vec![format!("{} to {}", shown(&first.name), shown(&last.name))];
            if down > 0 {
                lines.push(format!("{down} carry nothing"));
            }
            devices.push(Device {
                item: Item {
                    id: format!("more-devices-{}", namespace.id.inode),
                    class: Class::Folded,
                    title: format!("{} and {} more devices", self.dots, rest.len()),
                    lines,
                    ..Item::default()
                },
                ..Device::default()
            });
        }
        devices
    }

    fn namespace_item(&self, at: usize) -> Item {
        let namespace = &self.machine.namespaces[at];
        let class = match namespace.role {
            Role::Host | Role::Node => Class::Host,
            Role::Pod => Class::Pod,
            Role::Underlay => Class::Underlay,
            Role::Outside => Class::Outside,
            Role::Other => Class::Namespace,
        };
        let thing = Thing::Namespace(namespace.id);
        let id = thing.to_string();
        let title = shown(&namespace.name);
        Item { id, thing: Some(thing), class, title, ..Item::default() }
    }

    /// A namespace with its devices; cables to `towards` (a hub and one of its bridges) are drawn,
    /// others are told.
    fn leaf(&self, at: usize, towards: Option<(usize, Option<u32>)>) -> Leaf {
        let namespace = &self.machine.namespaces[at];
        let device = |link: &&Link| {
            let near = End { namespace: at, link: link.index };
            let mut device = self.plain_device(at, link);
            let far = self.far.get(&near).copied().filter(|far| far.namespace != at);
            let Some((far, other)) = far.and_then(|far| Some((far, self.machine.link(far)?)))
            else {
                self.tell_lost(link, &near, &mut device);
                return device;
            };
            if towards != Some((far.namespace, other.master)) {
                device.item.lines.push(self.leads_to(far));
                return device;
            }
            let stands_on = link.kind != "veth";
            let label = match stands_on {
                true => format!("on {}", shown(&other.name)),
                false => words::title(other),
            };
            device.cable = Some(Cable {
                label,
                kind: Kind::Cable,
                state: self.cable_state(near, far),
                things: vec![self.thing(near), self.thing(far)],
                routed: other.master.is_none() && !stands_on,
            });
            device
        };
        let wanted: Vec<&Link> = namespace.links().filter(|link| !is_everywhere(link)).collect();
        let mut devices: Vec<Device> = wanted.iter().take(MOST_DEVICES).map(device).collect();
        if wanted.len() > MOST_DEVICES {
            let title = format!("{} and {} more", self.dots, wanted.len() - MOST_DEVICES);
            let id = format!("more-devices-{}", namespace.id.inode);
            let item = Item { id, class: Class::Folded, title, ..Item::default() };
            devices.push(Device { item, ..Device::default() });
        }
        let item = Item { lines: words::default_routes(namespace), ..self.namespace_item(at) };
        Leaf { item, devices, folded: 0 }
    }

    /// The bridge of a hub that a leaf stands above: that of its first cable.
    fn place(&self, leaf: usize, hub: usize) -> Option<u32> {
        let (_, far) = self.cables(leaf).find(|(_, far)| far.namespace == hub)?;
        self.machine.link(far)?.master
    }

    /// A device with what it is and what it says.
    fn plain_device(&self, at: usize, link: &Link) -> Device {
        let namespace = &self.machine.namespaces[at];
        let end = End { namespace: at, link: link.index };
        let mut lines = words::kind(link);
        let addresses = namespace.addresses(link).take(4);
        lines.extend(addresses.map(|address| address.address.to_string()));
        lines.extend(link.mac.map(|mac| mac.to_string()));
        if link.mtu != USUAL_MTU {
            lines.push(format!("mtu {}", link.mtu));
        }
        let class = match link.kind.as_str() {
            "bridge" => Class::Bridge,
            _ if words::is_tunnel(link) => Class::Tunnel,
            _ => Class::Device,
        };
        let is_down =
            !link.up || matches!(link.oper_state, OperState::Down | OperState::LowerLayerDown);
        let state = if is_down { State::Down } else { State::Usual };
        let thing = self.thing(end);
        let item = Item {
            id: thing.to_string(),
            thing: Some(thing),
            class,
            state,
            title: words::title(link),
            lines,
        };
        Device { item, ..Device::default() }
    }

    /// A device of a hub, with all that it is joined to.
    fn device(&self, at: usize, link: &Link) -> Device {
        let near = End { namespace: at, link: link.index };
        let mut device = self.plain_device(at, link);
        device.plugs = self.plugs.get(&near).into_iter().flatten().copied().collect();
        let name =
            |index: u32| self.machine.link(End { link: index, ..near }).map(|it| shown(&it.name));
        if let Some(master) = link.master {
            let master = name(master).unwrap_or_else(|| format!("device {master}"));
            device.item.lines.push(format!("port of {master}"));
        }
        let below = link.vxlan.map_or(link.parent, |vxlan| vxlan.underlay);
        if let Some(below) = below.and_then(name).filter(|_| link.kind != "veth") {
            device.item.lines.push(format!("on {below}"));
        }
        match self.far.get(&near) {
            Some(_) if !device.plugs.is_empty() => {}
            Some(far) => device.item.lines.push(self.leads_to(*far)),
            None => self.tell_lost(link, &near, &mut device),
        }
        device
    }

    /// Says so where the far end of a veth is not known.
    fn tell_lost(&self, link: &Link, near: &End, device: &mut Device) {
        if link.kind == "veth" && !self.far.contains_key(near) {
            device.item.lines.push("far end not in sight".to_owned());
            device.item.state = device.item.state.max(State::Unusual);
        }
    }

    fn leads_to(&self, far: End) -> String {
        let name = self.machine.link(far).map(|link| shown(&link.name)).unwrap_or_default();
        format!("cable to {} {name}", shown(&self.machine.namespaces[far.namespace].name))
    }

    /// What stands for nodes that are not on this machine.
    fn remotes(&self) -> Vec<Group> {
        let group = |(end, far): (&End, &BTreeMap<_, Option<ipnet::IpNet>>)| {
            let line = |(address, subnet): (&std::net::IpAddr, &Option<ipnet::IpNet>)| match subnet
            {
                Some(subnet) => format!("{address}  {subnet}"),
                None => address.to_string(),
            };
            let count = if far.len() > MOST_REMOTES { MOST_REMOTES - 1 } else { far.len() };
            let mut lines: Vec<String> = far.iter().take(count).map(line).collect();
            if count < far.len() {
                lines.push(format!("{} and {} more", self.dots, far.len() - count));
            }
            let word = if far.len() == 1 { "1 other node" } else { "other nodes" };
            let title = match far.len() {
                1 => word.to_owned(),
                count => format!("{count} {word}"),
            };
            let id = remote_id(&self.id(*end));
            let item = Item { id, class: Class::Remote, title, lines, ..Item::default() };
            let plugs = self.links.iter().filter(|link| link.ends[1] == item.id);
            let plugs = plugs.filter_map(|link| link.trunk).collect();
            Group { hub: Some(Hub { item, plugs, ..Hub::default() }), ..Group::default() }
        };
        self.remotes.of.iter().map(group).collect()
    }
}

fn remote_id(device: &str) -> String {
    format!("beyond-{device}")
}

/// The far ends of veths, and for what stands on another namespace's device, that device.
fn far_ends(machine: &Machine) -> HashMap<End, End> {
    let by_id: HashMap<_, usize> =
        machine.namespaces.iter().enumerate().map(|(at, it)| (it.id, at)).collect();
    let mut far = machine.peers();
    for (at, namespace) in machine.namespaces.iter().enumerate() {
        for link in namespace.links() {
            let near = End { namespace: at, link: link.index };
            let below = || {
                let number = link.parent_netns.filter(|_| link.kind != "veth")?;
                let other = *by_id.get(namespace.known.get(&number)?)?;
                let end = End { namespace: other, link: link.parent? };
                machine.link(end).map(|_| end)
            };
            if !far.contains_key(&near)
                && let Some(end) = below()
            {
                far.insert(near, end);
            }
        }
    }
    far
}

/// The namespaces with a bridge, those that nodes and what joins them are by their role, and those
/// with cables to several others that have no bridge and no cable to anybody else.
fn hubs(machine: &Machine, neighbours: &[BTreeSet<usize>]) -> Vec<usize> {
    let is_one = |namespace: &Namespace| {
        matches!(namespace.role, Role::Host | Role::Node | Role::Underlay)
            || namespace.bridges().next().is_some()
    };
    let others = |at: usize| neighbours[at].iter().filter(move |other| **other != at);
    let is_leaf = |at: &usize| !is_one(&machine.namespaces[*at]) && others(*at).count() == 1;
    let is_hub = |at: &usize| {
        is_one(&machine.namespaces[*at]) || others(*at).filter(|it| is_leaf(it)).count() > 1
    };
    (0..machine.namespaces.len()).filter(is_hub).collect()
}
