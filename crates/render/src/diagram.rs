//! What a picture shows, in words and without positions.

use std::collections::BTreeSet;

use topology::dump::{Link, OperState, Route};
use topology::{End, Machine, Namespace};

/// A namespace with bridges and all that is connected to it; or, without a hub, namespaces that
/// are connected to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// What the cables lead to.
    pub(crate) hub: Option<Hub>,
    /// Side by side.
    pub(crate) sections: Vec<Section>,
}

/// A namespace that others are connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hub {
    pub(crate) title: String,
    /// What is to be said about it.
    pub(crate) facts: Vec<Fact>,
    /// Other hubs are plugged into a switch of it.
    pub(crate) has_trunk: bool,
}

/// Something to be said about a hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fact {
    /// What it is about.
    pub(crate) about: &'static str,
    pub(crate) text: String,
    /// The line on the left that it is joined to.
    pub(crate) plug: Option<Plug>,
}

impl Fact {
    fn new(about: &'static str, text: impl Into<String>) -> Self {
        Self { about, text: text.into(), plug: None }
    }
}

/// An end at a line that joins hubs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plug {
    /// The number of the line.
    pub(crate) trunk: usize,
    /// Carries packets.
    pub(crate) up: bool,
}

/// A bridge and the namespaces with a cable to it; or, without a bridge, namespaces whose cables
/// end in the hub itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) bridge: Option<Device>,
    pub(crate) leaves: Vec<Leaf>,
}

/// A namespace that is connected to a hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) title: String,
    pub(crate) lines: Vec<String>,
    pub(crate) devices: Vec<Device>,
    /// It stands for several that did not fit.
    pub(crate) folded: bool,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) title: String,
    pub(crate) lines: Vec<String>,
    pub(crate) cable: Option<Cable>,
}

/// A veth pair that leads down to the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cable {
    /// What the hub's end is called.
    pub(crate) label: String,
    /// Carries packets.
    pub(crate) up: bool,
}

/// Orders a machine's namespaces around its hubs.
pub(crate) fn read(machine: &Machine) -> Vec<Group> {
    let hubs = hubs(machine);
    let reader = Reader { machine, trunks: trunks(machine, &hubs), hubs };
    let mut groups: Vec<Group> = reader.hubs.iter().map(|hub| reader.group(*hub)).collect();
    // What joins the others stands below them.
    groups.sort_by_key(|group| group.hub.as_ref().is_some_and(|hub| hub.has_trunk));
    let is_loose = |at: &usize| !reader.hubs.contains(at) && reader.hub_of(*at).is_none();
    let loose: Vec<usize> = (0..machine.namespaces.len()).filter(is_loose).collect();
    if !loose.is_empty() {
        let leaves = loose.into_iter().map(|at| reader.leaf(at, None)).collect();
        let section = Section { bridge: None, leaves };
        match &mut groups[..] {
            // With one hub only, what has lost its cable keeps its place beside the others.
            [group] => group.sections.push(section),
            _ => groups.push(Group { hub: None, sections: vec![section] }),
        }
    }
    groups
}

/// The namespaces with a bridge, and those with cables to several others that have no bridge and no
/// cable to anybody else.
fn hubs(machine: &Machine) -> Vec<usize> {
    let has_bridge = |at: &usize| machine.namespaces[*at].bridges().next().is_some();
    let neighbours = |at: usize| -> BTreeSet<usize> {
        let links = machine.namespaces[at].links();
        let far = links.filter_map(|link| machine.peer(End { namespace: at, link: link.index }));
        far.map(|end| end.namespace).filter(|other| *other != at).collect()
    };
    let is_leaf = |at: &usize| !has_bridge(at) && neighbours(*at).len() == 1;
    let is_hub =
        |at: &usize| has_bridge(at) || neighbours(*at).iter().filter(|it| is_leaf(it)).count() > 1;
    (0..machine.namespaces.len()).filter(is_hub).collect()
}

/// The bridges that other hubs are plugged into, by devices that are not in a bridge themselves.
fn trunks(machine: &Machine, hubs: &[usize]) -> Vec<End> {
    let mut trunks = Vec::new();
    for namespace in hubs {
        for link in machine.namespaces[*namespace].links() {
            let near = End { namespace: *namespace, link: link.index };
            let is_plugged = machine.peer(near).is_some_and(|far| {
                far.namespace != *namespace
                    && hubs.contains(&far.namespace)
                    && machine.link(far).is_some_and(|far| far.master.is_none())
            });
            let bridge = link.master.map(|master| End { namespace: *namespace, link: master });
            if let Some(bridge) = bridge.filter(|it| is_plugged && !trunks.contains(it)) {
                trunks.push(bridge);
            }
        }
    }
    trunks
}

struct Reader<'a> {
    machine: &'a Machine,
    hubs: Vec<usize>,
    trunks: Vec<End>,
}

impl Reader<'_> {
    /// The hub that a namespace stands above: the first that it has a cable to. Hubs stand alone.
    fn hub_of(&self, at: usize) -> Option<usize> {
        if self.hubs.contains(&at) {
            return None;
        }
        self.cables(at).map(|(_, far)| far.namespace).find(|far| self.hubs.contains(far))
    }

    /// The cables of a namespace to others: near end, far end.
    fn cables(&self, at: usize) -> impl Iterator<Item = (End, End)> {
        let ends = self.machine.namespaces[at].dump.links.keys();
        ends.filter_map(move |link| {
            let near = End { namespace: at, link: *link };
            let far = self.machine.peer(near)?;
            (far.namespace != at).then_some((near, far))
        })
    }

    fn group(&self, hub: usize) -> Group {
        let namespace = &self.machine.namespaces[hub];
        let members = |bridge: Option<u32>| {
            let is_member =
                |at: &usize| self.hub_of(*at) == Some(hub) && self.place(*at, hub) == bridge;
            let members = (0..self.machine.namespaces.len()).filter(is_member);
            members.map(|at| self.leaf(at, Some((hub, bridge)))).collect::<Vec<_>>()
        };
        let section = |link: &Link| {
            let leaves = members(Some(link.index));
            // A switch between hubs is told beside the line that joins them.
            if leaves.is_empty() && self.trunk(End { namespace: hub, link: link.index }).is_some() {
                return None;
            }
            let mut bridge = self.device(hub, link);
            bridge.lines.insert(0, "bridge".to_owned());
            Some(Section { bridge: Some(bridge), leaves })
        };
        let mut sections: Vec<Section> = namespace.bridges().filter_map(section).collect();
        let unbridged = members(None);
        if !unbridged.is_empty() {
            sections.push(Section { bridge: None, leaves: unbridged });
        }
        let has_trunk = self.trunks.iter().any(|trunk| trunk.namespace == hub);
        let facts = self.facts(hub);
        Group { hub: Some(Hub { title: namespace.name.clone(), facts, has_trunk }), sections }
    }

    /// The number of the line that a bridge is.
    fn trunk(&self, bridge: End) -> Option<usize> {
        self.trunks.iter().position(|trunk| *trunk == bridge)
    }

    /// The line that a device of a hub is plugged into: its far end is a port of that bridge.
    fn plug(&self, near: End) -> Option<Plug> {
        let link = self.machine.link(near).filter(|link| link.master.is_none())?;
        let far = self.machine.peer(near).filter(|far| far.namespace != near.namespace)?;
        let far_link = self.machine.link(far)?;
        let trunk = self.trunk(End { namespace: far.namespace, link: far_link.master? })?;
        Some(Plug { trunk, up: carries(link) && carries(far_link) })
    }

    /// A namespace with its devices; cables to `towards` (a hub and one of its bridges) are drawn,
    /// others are told.
    fn leaf(&self, at: usize, towards: Option<(usize, Option<u32>)>) -> Leaf {
        let namespace = &self.machine.namespaces[at];
        let is_shown = |link: &&Link| link.name != "lo";
        let device = |link: &Link| {
            let mut device = self.device(at, link);
            let near = End { namespace: at, link: link.index };
            let far = self.machine.peer(near).filter(|far| far.namespace != at);
            let far_link = far.and_then(|far| self.machine.link(far));
            if let (Some(far), Some(far_link)) = (far, far_link) {
                if towards == Some((far.namespace, far_link.master)) {
                    let up = carries(link) && carries(far_link);
                    device.cable = Some(Cable { label: title(far_link), up });
                } else {
                    device.lines.push(self.leads_to(far));
                }
            } else if link.kind == "veth" && far.is_none() {
                device.lines.push("far end not in sight".to_owned());
            }
            device
        };
        let devices = namespace.links().filter(is_shown).map(device).collect();
        Leaf {
            title: namespace.name.clone(),
            lines: default_routes(namespace),
            devices,
            folded: false,
        }
    }

    /// Whether a cable from a hub is a line of the picture: its far end is a leaf's, and it ends
    /// where that leaf stands.
    fn is_drawn(&self, hub: usize, link: &Link, far: End) -> bool {
        self.hub_of(far.namespace) == Some(hub) && self.place(far.namespace, hub) == link.master
    }

    /// The bridge of a hub that a leaf stands above: that of its first cable.
    fn place(&self, leaf: usize, hub: usize) -> Option<u32> {
        let (_, far) = self.cables(leaf).find(|(_, far)| far.namespace == hub)?;
        self.machine.link(far)?.master
    }

    fn device(&self, at: usize, link: &Link) -> Device {
        let namespace = &self.machine.namespaces[at];
        let addresses = namespace.addresses(link).map(|address| address.address.to_string());
        let mut lines: Vec<String> = addresses.collect();
        lines.extend(link.mac.map(|mac| mac.to_string()));
        if link.mtu != USUAL_MTU {
            lines.push(format!("mtu {}", link.mtu));
        }
        Device { title: title(link), lines, cable: None }
    }

    fn leads_to(&self, far: End) -> String {
        let name = self.machine.link(far).map(|link| link.name.as_str()).unwrap_or_default();
        format!("cable to {} {name}", self.machine.namespaces[far.namespace].name)
    }

    /// What a hub says below its bridges.
    fn facts(&self, hub: usize) -> Vec<Fact> {
        let namespace = &self.machine.namespaces[hub];
        let mut facts = Vec::new();
        for bridge in namespace.bridges() {
            if let Some(trunk) = self.trunk(End { namespace: hub, link: bridge.index }) {
                let Device { title, lines, .. } = self.device(hub, bridge);
                let plug = Some(Plug { trunk, up: bridge.up });
                let text = format!("{title}  {}", lines.join("  "));
                facts.push(Fact { plug, ..Fact::new("switch", text) });
            }
        }
        for link in namespace.links().filter(|link| link.name != "lo" && link.kind != "bridge") {
            let near = End { namespace: hub, link: link.index };
            let far = self.machine.peer(near);
            let is_drawn = far.is_some_and(|far| {
                self.is_drawn(hub, link, far)
                    || (self.hubs.contains(&far.namespace) && self.plug(far).is_some())
            });
            if is_drawn {
                continue;
            }
            let Device { title, lines, .. } = self.device(hub, link);
            let mut text = format!("{title}  {}", lines.join("  "));
            let plug = self.plug(near);
            if let Some(far) = far.filter(|_| plug.is_none()) {
                text = format!("{text}  {}", self.leads_to(far));
            } else if link.kind == "veth" && far.is_none() {
                text += "  far end not in sight";
            }
            let about = if link.kind == "vxlan" { "tunnel" } else { "device" };
            facts.push(Fact { plug, ..Fact::new(about, text) });
        }
        let routes = routes(namespace);
        let told = if routes.len() > MOST_ROUTES { MOST_ROUTES - 1 } else { routes.len() };
        facts.extend(routes[..told].iter().map(|route| Fact::new("route", route)));
        if told < routes.len() {
            facts.push(Fact::new("route", format!("and {} more", routes.len() - told)));
        }
        let masquerade = namespace.masquerade();
        let nat = masquerade.networks.iter().map(ToString::to_string);
        let leaves = |net| format!("{net} leaves the cluster with this node's address");
        let nat = nat.chain(masquerade.clusters.iter().map(leaves));
        facts.extend(nat.map(|text| Fact::new("nat", text)));
        facts
    }
}

/// How many routes of a hub are told.
const MOST_ROUTES: usize = 12;

/// How many groups are drawn that are plugged into lines.
const MOST_PLUGGED: usize = 6;

/// The groups, of which those that are plugged into lines and do not fit are one that stands for
/// all of them.
pub(crate) fn fold(groups: Vec<Group>, dots: &str) -> Vec<Group> {
    let plugs = |group: &Group| -> Vec<Plug> {
        let facts = group.hub.iter().filter(|hub| !hub.has_trunk).flat_map(|hub| &hub.facts);
        facts.filter_map(|fact| fact.plug).collect()
    };
    let (plugged, others): (Vec<Group>, Vec<Group>) =
        groups.into_iter().partition(|group| !plugs(group).is_empty());
    let title = |group: &Group| group.hub.as_ref().map(|hub| hub.title.clone()).unwrap_or_default();
    let (shown, folded) = match plugged.len() > MOST_PLUGGED {
        true => plugged.split_at(MOST_PLUGGED - 1),
        false => (&plugged[..], &[][..]),
    };
    let mut groups = shown.to_vec();
    if let [first, .., last] = folded {
        let mut facts = vec![Fact::new("", format!("{} to {}", title(first), title(last)))];
        let all: Vec<Plug> = folded.iter().flat_map(plugs).collect();
        let mut trunks: Vec<usize> = all.iter().map(|plug| plug.trunk).collect();
        trunks.sort_unstable();
        trunks.dedup();
        for trunk in trunks {
            let count = all.iter().filter(|plug| plug.trunk == trunk).count();
            let plug = Some(Plug { trunk, up: true });
            facts.push(Fact { plug, ..Fact::new("", format!("{count} cables")) });
        }
        let hub = Hub { title: format!("{dots} {} more", folded.len()), facts, has_trunk: false };
        groups.push(Group { hub: Some(hub), sections: Vec::new() });
    }
    groups.extend(others);
    groups
}

/// What nobody needs to be told.
const USUAL_MTU: u32 = 1500;

fn title(link: &Link) -> String {
    match link.up {
        true => link.name.clone(),
        false => format!("{} (down)", link.name),
    }
}

fn carries(link: &Link) -> bool {
    link.up && link.oper_state == OperState::Up
}

fn default_routes(namespace: &Namespace) -> Vec<String> {
    let gateway = |route: &Route| {
        let hop = route.hops.first()?;
        Some(match hop.gateway {
            Some(gateway) => format!("default via {gateway}"),
            None => format!("default dev {}", namespace.dump.links.get(&hop.index?)?.name),
        })
    };
    namespace.default_routes().filter_map(gateway).collect()
}

/// The routes by which packets are sent on, as `ip route` words them.
fn routes(namespace: &Namespace) -> Vec<String> {
    let word = |route: &Route| {
        let mut text = match route.destination.prefix_len() {
            0 => "default".to_owned(),
            _ => route.destination.to_string(),
        };
        for hop in &route.hops {
            if let Some(gateway) = hop.gateway {
                text += &format!(" via {gateway}");
            }
            let link = hop.index.and_then(|index| namespace.dump.links.get(&index));
            if let Some(link) = link {
                text += &format!(" dev {}", link.name);
            }
        }
        if let Some(encap) = &route.encap {
            text += &format!(" to {}", encap.to);
        }
        text
    };
    namespace.routes().map(word).collect()
}
