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
    /// What is to be said about it, each with what it is about.
    pub(crate) facts: Vec<(&'static str, String)>,
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
    let reader = Reader { machine, hubs: hubs(machine) };
    let mut groups: Vec<Group> = reader.hubs.iter().map(|hub| reader.group(*hub)).collect();
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

struct Reader<'a> {
    machine: &'a Machine,
    hubs: Vec<usize>,
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
        let mut sections: Vec<Section> = namespace
            .bridges()
            .map(|link| {
                let mut bridge = self.device(hub, link);
                bridge.lines.insert(0, "bridge".to_owned());
                Section { bridge: Some(bridge), leaves: members(Some(link.index)) }
            })
            .collect();
        let unbridged = members(None);
        if !unbridged.is_empty() {
            sections.push(Section { bridge: None, leaves: unbridged });
        }
        Group { hub: Some(Hub { title: namespace.name.clone(), facts: self.facts(hub) }), sections }
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
    fn facts(&self, hub: usize) -> Vec<(&'static str, String)> {
        let namespace = &self.machine.namespaces[hub];
        let mut facts = Vec::new();
        for link in namespace.links().filter(|link| link.name != "lo" && link.kind != "bridge") {
            let far = self.machine.peer(End { namespace: hub, link: link.index });
            let is_drawn = far.is_some_and(|far| self.is_drawn(hub, link, far));
            if !is_drawn {
                let Device { title, lines, .. } = self.device(hub, link);
                let mut text = format!("{title}  {}", lines.join("  "));
                if let Some(far) = far {
                    text = format!("{text}  {}", self.leads_to(far));
                } else if link.kind == "veth" {
                    text += "  far end not in sight";
                }
                facts.push(("device", text));
            }
        }
        facts.extend(routes(namespace).into_iter().map(|route| ("route", route)));
        let masquerade = namespace.masquerade();
        facts.extend(masquerade.networks.iter().map(|network| ("nat", network.to_string())));
        facts
    }
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
        text
    };
    namespace.routes().map(word).collect()
}
