//! What a picture shows, in words and without positions; and what is left out of it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use diagnosis::Thing;
use topology::NetnsId;

use crate::scene::{Class, Kind, State};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Focus {
    /// All that there is.
    #[default]
    Machine,
    /// One node with its pods; what it leads to stands for itself.
    Node(String),
    /// One namespace with its way to the wire.
    Namespace(NetnsId),
}

impl From<Thing> for Focus {
    /// A device is seen in its namespace.
    fn from(thing: Thing) -> Self {
        match thing {
            Thing::Node(name) => Self::Node(name),
            Thing::Namespace(id) | Thing::Link(id, _) => Self::Namespace(id),
        }
    }
}

/// All of a picture.
#[derive(Clone, Debug, Default)]
pub(crate) struct Diagram {
    pub(crate) title: String,
    pub(crate) groups: Vec<Group>,
    /// Lines that join groups.
    pub(crate) trunks: Vec<Trunk>,
    pub(crate) links: Vec<Link>,
    pub(crate) notes: Vec<String>,
}

/// A line that several devices are plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trunk {
    pub(crate) kind: Kind,
}

/// What joins two boxes, by their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) ends: [String; 2],
    pub(crate) kind: Kind,
    pub(crate) state: State,
    pub(crate) things: Vec<Thing>,
    /// The line that it is a part of; what has none is told rather than drawn.
    pub(crate) trunk: Option<usize>,
}

/// What a box says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) thing: Option<Thing>,
    pub(crate) class: Class,
    pub(crate) state: State,
    pub(crate) title: String,
    pub(crate) lines: Vec<String>,
}

/// A namespace with bridges and all that is connected to it; or, without a hub, namespaces that
/// are connected to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// The node that all of it is on.
    pub(crate) node: Option<Item>,
    /// What the cables lead to.
    pub(crate) hub: Option<Hub>,
    /// Side by side.
    pub(crate) sections: Vec<Section>,
}

/// A namespace that others are connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hub {
    pub(crate) item: Item,
    /// How it sends packets on.
    pub(crate) routes: Option<Item>,
    /// Those that are no bridges with leaves.
    pub(crate) devices: Vec<Device>,
    /// The lines that it is plugged into itself, for what stands for several hubs.
    pub(crate) plugs: Vec<usize>,
    /// Other hubs are plugged into a switch of it.
    pub(crate) has_trunk: bool,
}

/// A bridge and the namespaces with a cable to it; or, without a bridge, namespaces whose cables
/// end in the hub itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) bridge: Option<Device>,
    pub(crate) leaves: Vec<Leaf>,
    /// The first leaf is what the picture is about: it is never folded.
    pub(crate) pinned: bool,
}

/// A namespace that is connected to a hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) item: Item,
    pub(crate) devices: Vec<Device>,
    /// How many others are folded into it.
    pub(crate) folded: usize,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) item: Item,
    pub(crate) cable: Option<Cable>,
    /// The lines that it is plugged into.
    pub(crate) plugs: Vec<usize>,
    /// The namespace's routes lead to it.
    pub(crate) routed: bool,
}

/// What leads from a leaf down to the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cable {
    /// What the hub's end is called.
    pub(crate) label: String,
    pub(crate) kind: Kind,
    pub(crate) state: State,
    pub(crate) things: Vec<Thing>,
    /// The packets go on by the hub's routes.
    pub(crate) routed: bool,
}

impl Group {
    /// The lines that it is plugged into.
    pub(crate) fn plugs(&self) -> impl Iterator<Item = usize> {
        let hub = self.hub.iter();
        hub.flat_map(|hub| hub.plugs.iter().chain(hub.devices.iter().flat_map(|it| &it.plugs)))
            .copied()
    }

    pub(crate) fn has_trunk(&self) -> bool {
        self.hub.as_ref().is_some_and(|hub| hub.has_trunk)
    }

    fn title(&self) -> &str {
        let hub = || self.hub.as_ref().map(|hub| &hub.item);
        self.node.as_ref().or_else(hub).map(|item| item.title.as_str()).unwrap_or_default()
    }

    /// Everything in it that wires can end at.
    fn ids(&self) -> impl Iterator<Item = &str> {
        let hub = self.hub.iter().flat_map(|hub| {
            [&hub.item].into_iter().chain(&hub.routes).chain(hub.devices.iter().map(|it| &it.item))
        });
        let leaves = self.sections.iter().flat_map(|section| {
            let devices = section.leaves.iter().flat_map(|leaf| &leaf.devices);
            section.bridge.iter().chain(devices).map(|device| &device.item)
        });
        hub.chain(leaves).map(|item| item.id.as_str())
    }
}

/// How many groups are drawn that are plugged into lines.
const MOST_PLUGGED: usize = 4;

impl Diagram {
    /// Leaves out what is not in focus, and what is too much.
    pub(crate) fn focus(&mut self, focus: &Focus, dots: &str) {
        let wanted = |group: &Group| match focus {
            Focus::Machine => true,
            Focus::Node(name) => {
                let node = Thing::Node(name.clone());
                let hub = group.hub.as_ref();
                group.node.as_ref().is_some_and(|item| item.thing.as_ref() == Some(&node))
                    || hub.is_some_and(|hub| hub.item.title == *name)
            }
            Focus::Namespace(id) => {
                let thing = Some(Thing::Namespace(*id));
                let leaves = group.sections.iter().flat_map(|section| &section.leaves);
                group
                    .hub
                    .iter()
                    .map(|hub| &hub.item)
                    .chain(leaves.map(|it| &it.item))
                    .any(|it| it.thing == thing)
            }
        };
        let groups = std::mem::take(&mut self.groups);
        let (mut shown, rest): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(wanted);
        let lines: BTreeSet<usize> = shown.iter().flat_map(Group::plugs).collect();
        let (joined, others): (Vec<Group>, Vec<Group>) =
            rest.into_iter().partition(|group| group.plugs().any(|line| lines.contains(&line)));
        drop(others);
        self.title = title(focus, &shown).unwrap_or(std::mem::take(&mut self.title));
        let (owners, peers): (Vec<Group>, Vec<Group>) =
            joined.into_iter().partition(Group::has_trunk);
        if let Focus::Namespace(id) = focus {
            shown.iter_mut().for_each(|group| keep_one(group, *id, dots));
        }
        let plugged = |group: &Group| !group.has_trunk() && group.plugs().next().is_some();
        let many = shown.iter().filter(|group| plugged(group)).count() > MOST_PLUGGED;
        // What stands for others already does so beside the nodes.
        let (remotes, mut folded): (Vec<Group>, Vec<Group>) =
            peers.into_iter().partition(|group| {
                group.hub.as_ref().is_some_and(|hub| hub.item.class == Class::Remote)
            });
        if many {
            let mut count = 0;
            let is_too_much = |group: &Group| {
                count += usize::from(plugged(group));
                plugged(group) && count >= MOST_PLUGGED
            };
            let (too_much, rest): (Vec<Group>, Vec<Group>) =
                shown.into_iter().partition(is_too_much);
            shown = rest;
            folded.extend(too_much);
        }
        let at = shown.iter().position(Group::has_trunk).unwrap_or(shown.len());
        let owners = owners.into_iter().map(|mut owner| {
            owner.sections.retain(|section| {
                section
                    .bridge
                    .as_ref()
                    .is_some_and(|bridge| bridge.plugs.iter().any(|line| lines.contains(line)))
            });
            owner.sections.iter_mut().for_each(|section| fold_leaves(section, 0, dots));
            owner
        });
        let owners: Vec<Group> = owners.collect();
        shown.splice(at..at, remotes.into_iter().chain(owners));
        if folded.len() == 1 && many {
            shown.splice(at..at, folded);
        } else if !folded.is_empty() {
            let group = self.fold_groups(&folded, dots);
            shown.insert(at, group);
        }
        let ids: BTreeSet<&str> = shown.iter().flat_map(Group::ids).collect();
        self.links.retain(|link| {
            link.ends.iter().all(|end| ids.contains(end.as_str())) && link.ends[0] != link.ends[1]
        });
        self.merge_links();
        self.groups = shown;
    }

    /// Several wires between the same two boxes are one; it is as usual if all of them are.
    fn merge_links(&mut self) {
        let mut merged: Vec<Link> = Vec::new();
        let mut places = BTreeMap::new();
        for link in self.links.drain(..) {
            let key = (link.ends.clone(), link.trunk, link.kind);
            match places.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(merged.len());
                    merged.push(link);
                }
                Entry::Occupied(place) => {
                    let first = &mut merged[*place.get()];
                    if first.state != link.state {
                        first.state = State::Unusual;
                    }
                }
            }
        }
        self.links = merged;
    }

    /// One group that stands for several, with their wires.
    fn fold_groups(&mut self, folded: &[Group], dots: &str) -> Group {
        let gone: BTreeSet<&str> = folded.iter().flat_map(Group::ids).collect();
        let id = "more-nodes".to_owned();
        let mut lines = Vec::new();
        if let [first, .., last] = folded {
            lines.push(format!("{} to {}", first.title(), last.title()));
        } else if let [only] = folded {
            lines.push(only.title().to_owned());
        }
        for link in &mut self.links {
            for end in &mut link.ends {
                if gone.contains(end.as_str()) {
                    id.clone_into(end);
                }
            }
            if link.ends.contains(&id) {
                link.things.clear();
            }
            // The same two boxes have the same order, so that what is the same is known.
            if link.ends[0] == id {
                link.ends.swap(0, 1);
            }
        }
        let plugs: BTreeSet<usize> = folded.iter().flat_map(Group::plugs).collect();
        let word = if folded.len() == 1 { "node" } else { "nodes" };
        let title = format!("{dots} and {} more {word}", folded.len());
        let item = Item { id, class: Class::Folded, title, lines, ..Item::default() };
        let plugs = plugs.into_iter().collect();
        Group { hub: Some(Hub { item, plugs, ..Hub::default() }), ..Group::default() }
    }
}

/// What a part of a machine is called.
fn title(focus: &Focus, shown: &[Group]) -> Option<String> {
    let group = shown.first()?;
    match focus {
        Focus::Machine => None,
        Focus::Node(_) => Some(format!("the network of {}", group.title())),
        Focus::Namespace(id) => {
            let thing = Some(Thing::Namespace(*id));
            let leaves = group.sections.iter().flat_map(|section| &section.leaves);
            let leaf = leaves.map(|leaf| &leaf.item).find(|item| item.thing == thing);
            match (leaf.map(|leaf| &leaf.title), group.title()) {
                (Some(leaf), "") => Some(leaf.clone()),
                (Some(leaf), node) => Some(format!("{leaf} on {node}")),
                (None, node) => Some(format!("the network of {node}")),
            }
        }
    }
}

/// Leaves a group with one namespace and what leads to it.
fn keep_one(group: &mut Group, id: NetnsId, dots: &str) {
    let thing = Some(Thing::Namespace(id));
    let is_it = |leaf: &Leaf| leaf.item.thing == thing;
    // The hub itself is shown as a node is.
    if !group.sections.iter().any(|section| section.leaves.iter().any(is_it)) {
        return;
    }
    let holds = |section: &Section| {
        let plugged = section.bridge.as_ref().is_some_and(|bridge| !bridge.plugs.is_empty());
        section.leaves.iter().any(is_it) || plugged
    };
    group.sections.retain(holds);
    for section in &mut group.sections {
        section.leaves.sort_by_key(|leaf| !is_it(leaf));
        let kept = usize::from(section.leaves.first().is_some_and(is_it));
        section.pinned = kept > 0;
        fold_leaves(section, kept, dots);
    }
}

/// Leaves a section with its first leaves; one more stands for all others.
pub(crate) fn fold_leaves(section: &mut Section, kept: usize, dots: &str) {
    if section.leaves.len() <= kept + 1 && (kept > 0 || section.leaves.len() < 2) {
        return;
    }
    let folded = section.leaves.split_off(kept);
    let known: usize = folded.iter().map(|leaf| leaf.folded.max(1)).sum();
    let word = match folded.iter().all(|leaf| leaf.item.class == Class::Pod) {
        true => " pods",
        false => "",
    };
    let title = match kept {
        0 => format!("{dots} {known}{}", if word.is_empty() { " namespaces" } else { word }),
        _ => format!("{dots} and {known} more{word}"),
    };
    let bridge = section.bridge.as_ref().map_or("", |bridge| bridge.item.id.as_str());
    let id = format!("more-{bridge}-{}", folded[0].item.id);
    let mut item = Item { id, class: Class::Folded, title, ..Item::default() };
    let mut devices = Vec::new();
    if let [first, .., last] = &folded[..] {
        item.lines.push(format!("{} to {}", first.item.title, last.item.title));
        let line = |leaf: &Leaf| {
            let lines = &leaf.devices.first()?.item.lines;
            lines.iter().find(|line| line.contains('/')).or(lines.first()).cloned()
        };
        let cables =
            || folded.iter().flat_map(|leaf| &leaf.devices).filter_map(|it| it.cable.as_ref());
        let count = cables().count();
        let down = cables().filter(|cable| cable.state == State::Down).count();
        let (word, state) = match (count, down) {
            (1, 0) => ("1 cable".to_owned(), State::Usual),
            (_, 0) => (format!("{count} cables"), State::Usual),
            _ if down == count => (format!("{count} cables (down)"), State::Down),
            _ => (format!("{count} cables, {down} down"), State::Unusual),
        };
        if let (Some(first), Some(last), Some(cable)) = (line(first), line(last), cables().next()) {
            devices.push(Device {
                item: Item {
                    id: format!("{}-cables", item.id),
                    class: Class::Folded,
                    title: word.clone(),
                    lines: vec![first, format!("to {last}")],
                    ..Item::default()
                },
                cable: Some(Cable {
                    label: word,
                    kind: Kind::Bundle,
                    state,
                    things: Vec::new(),
                    routed: cable.routed,
                }),
                ..Device::default()
            });
        }
    }
    section.leaves.push(Leaf { item, devices, folded: known });
}
