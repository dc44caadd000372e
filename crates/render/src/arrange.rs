//! Positions of groups, and of the lines that join them.
//!
//! Where they fit, nodes stand side by side, with what joins them below; else all groups stand below
//! each other, with the lines on their left.

use std::collections::HashMap;

use crate::block::{Block, Exits, Plug, Room};
use crate::diagram::{Diagram, Group, Link, Section};
use crate::lanes::GAP;
use crate::scene::{Class, Kind, Point, Scene, State, Wire};

/// How many wires that are not as usual are told.
const MOST_NOTES: usize = 5;

/// Gives everything its position.
pub(crate) fn scene(diagram: &Diagram, width: usize, dots: &str) -> Scene {
    let lines = lines(diagram);
    let (block, ways) =
        beside(diagram, &lines, width, dots).unwrap_or_else(|| below(diagram, &lines, width, dots));
    let mut scene = Scene {
        title: diagram.title.clone(),
        width: block.width,
        height: block.height,
        boxes: block.boxes,
        wires: block.wires,
        notes: diagram.notes.clone(),
    };
    let places: HashMap<String, usize> =
        scene.boxes.iter().enumerate().map(|(place, shape)| (shape.id.clone(), place)).collect();
    let plugs: HashMap<(&str, usize), Point> =
        block.plugs.iter().map(|plug| ((plug.id.as_str(), plug.trunk), plug.at)).collect();
    let mut notes = Vec::new();
    for link in &diagram.links {
        let [Some(from), Some(to)] =
            [&link.ends[0], &link.ends[1]].map(|id| places.get(id).copied())
        else {
            continue;
        };
        let points = link.trunk.and_then(|trunk| {
            let [from, to] = [&link.ends[0], &link.ends[1]].map(|id| plugs.get(&(id, trunk)));
            Some(ways.points(*from?, *to?, lines.iter().position(|line| *line == trunk)?))
        });
        let wire = Wire {
            id: format!("{}-{}-{}", link.kind.name(), link.ends[0], link.ends[1]),
            kind: link.kind,
            state: link.state,
            ends: [from, to],
            things: link.things.clone(),
            label: None,
            points: points.unwrap_or_default(),
            trunk: block.trunks + link.trunk.unwrap_or(diagram.trunks.len()),
        };
        notes.extend(note(&scene, link, &wire));
        scene.wires.push(wire);
    }
    if notes.len() > MOST_NOTES {
        let more = notes.len() - MOST_NOTES + 1;
        notes.truncate(MOST_NOTES - 1);
        notes.push(format!("{more} more tunnels are not as usual"));
    }
    scene.notes.extend(notes);
    scene
}

/// What has to be said where one wire of many in a line is not as usual.
fn note(scene: &Scene, link: &Link, wire: &Wire) -> Option<String> {
    let is_shared = matches!(link.kind, Kind::Tunnel | Kind::Routed);
    let [from, to] = wire.ends.map(|end| scene.path(end).join(" "));
    match link.state {
        State::Unusual if is_shared => Some(format!(
            "{}: {from} leads to {to}, but not all of the way back is there",
            link.kind.word()
        )),
        State::Down if is_shared => {
            Some(format!("{}: between {from} and {to} one end is down", link.kind.word()))
        }
        _ => None,
    }
}

/// The lines that are used, the nearest to the nodes first.
fn lines(diagram: &Diagram) -> Vec<usize> {
    let used: Vec<usize> = diagram.links.iter().filter_map(|link| link.trunk).collect();
    let mut lines: Vec<usize> =
        (0..diagram.trunks.len()).filter(|line| used.contains(line)).collect();
    lines.sort_by_key(|line| match diagram.trunks[*line].kind {
        Kind::Tunnel => 0,
        Kind::Routed => 1,
        _ => 2,
    });
    lines
}

/// How lines run.
enum Ways {
    /// Along these columns.
    Columns(Vec<usize>),
    /// Along these rows.
    Rows(Vec<usize>),
}

impl Ways {
    fn points(&self, from: Point, to: Point, line: usize) -> Vec<Point> {
        let mut points = match self {
            Self::Columns(columns) => {
                let x = columns[line];
                vec![from, Point { x, y: from.y }, Point { x, y: to.y }, to]
            }
            Self::Rows(rows) => {
                let y = rows[line];
                vec![from, Point { x: from.x, y }, Point { x: to.x, y }, to]
            }
        };
        points.dedup();
        points
    }
}

/// Groups below each other.
fn below(diagram: &Diagram, lines: &[usize], width: usize, dots: &str) -> (Block, Ways) {
    let count = lines.len();
    let margin = if count == 0 { 0 } else { 2 * count + 1 };
    let room = Room { width: width.saturating_sub(margin), exits: Exits::Left, dots };
    let mut all = Block::default();
    for group in &diagram.groups {
        let y = if all.height == 0 { 0 } else { all.height + 1 };
        all.add(Block::new(group, room), margin, y);
    }
    (all, Ways::Columns((0..count).map(|place| 2 * (count - 1 - place)).collect()))
}

/// Nodes side by side, if they fit.
fn beside(diagram: &Diagram, lines: &[usize], width: usize, dots: &str) -> Option<(Block, Ways)> {
    let is_node = |group: &&Group| !group.has_trunk() && group.plugs().next().is_some();
    let nodes: Vec<&Group> = diagram.groups.iter().filter(is_node).collect();
    let others: Vec<&Group> = diagram.groups.iter().filter(|it| !is_node(it)).collect();
    let owners = others.iter().filter(|group| group.has_trunk());
    let is_plain = |group: &&&Group| {
        let devices = group.hub.iter().flat_map(|hub| &hub.devices);
        devices.filter(|it| it.item.class != Class::Bridge).all(|it| it.plugs.is_empty())
    };
    if nodes.len() < 2 || owners.clone().count() > 1 || !owners.clone().all(|it| is_plain(&it)) {
        return None;
    }
    // What stands for others is as narrow as it can be; the rest is shared.
    let is_small = |group: &&&Group| group.sections.is_empty();
    let room = Room { width: 0, exits: Exits::Below, dots };
    let small = nodes.iter().filter(is_small).map(|group| Block::new(group, room).width + GAP);
    let left = (width + GAP).saturating_sub(small.sum());
    let share = left / nodes.iter().filter(|group| !is_small(group)).count().max(1);
    let room = Room { width: share.saturating_sub(GAP), ..room };
    let blocks: Vec<Block> = nodes.into_iter().map(|node| Block::new(node, room)).collect();
    let height = blocks.iter().map(|block| block.height).max().unwrap_or_default();
    let mut all = Block::default();
    let mut x = 0;
    for block in blocks {
        let next = x + block.width + GAP;
        let y = height - block.height;
        all.add(block, x, y);
        x = next;
    }
    if all.width > width {
        return None;
    }
    let top = all.height + 1;
    let rows: Vec<usize> = (0..lines.len()).map(|place| top + 2 * place).collect();
    let mut y = top + 2 * lines.len();
    for group in others {
        let block = match group.has_trunk() {
            true => Block::new(&switches_first(group), Room { width, exits: Exits::Above, dots }),
            false => Block::new(group, Room { width, exits: Exits::Left, dots }),
        };
        let next = y + block.height + 1;
        all.add(block, 0, y);
        y = next;
    }
    // The last line needs its row also where nothing stands below it.
    all.height = all.height.max(rows.last().map_or(0, |row| row + 1));
    Some((all, Ways::Rows(rows)))
}

/// A group whose switches stand beside each other, so that lines reach them from above.
fn switches_first(group: &Group) -> Group {
    let mut group = group.clone();
    if let Some(hub) = &mut group.hub {
        let (switches, rest) =
            std::mem::take(&mut hub.devices).into_iter().partition(|it| !it.plugs.is_empty());
        hub.devices = rest;
        let switches: Vec<_> = switches;
        let section = |bridge| Section { bridge: Some(bridge), ..Section::default() };
        group.sections.splice(0..0, switches.into_iter().map(section));
    }
    group
}

impl Block {
    /// Puts another one into this one.
    fn add(&mut self, mut other: Self, x: usize, y: usize) {
        other.move_by(x, y);
        let (boxes, trunks) = (self.boxes.len(), self.trunks);
        for shape in &mut other.boxes {
            shape.inside = shape.inside.map(|inside| inside + boxes);
        }
        for wire in &mut other.wires {
            wire.ends = wire.ends.map(|end| end + boxes);
            wire.trunk += trunks;
        }
        self.boxes.extend(other.boxes);
        self.wires.extend(other.wires);
        self.plugs.extend::<Vec<Plug>>(other.plugs);
        self.trunks += other.trunks;
        self.width = self.width.max(x + other.width);
        self.height = self.height.max(y + other.height);
    }
}
