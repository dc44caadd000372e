//! Positions: where everything of a group goes, and the strokes that show it.
//!
//! From top to bottom: the namespaces with their devices at the lower end, the cables, the upper
//! edge of the hub, the names of the cables' ends, the bridges, and what the hub says.

use crate::Picture;
use crate::canvas::{ASCII, Area, Canvas, Strokes, UNICODE};
use crate::diagram::{Cable, Device, Fact, Group, Hub, Leaf, Plug, Section};

/// Columns between two boxes side by side.
const GAP: usize = 2;
/// How long the lines of a hub are that is narrower than the terminal.
const LINE: usize = 72;
/// Columns that a box takes for its edges and the space inside them.
const EDGES: usize = 4;

/// A group as it is drawn.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) text: String,
    /// The rows that are joined to lines on the left.
    pub(crate) plugs: Vec<(usize, Plug)>,
}

/// Draws one group.
pub(crate) fn group(group: &Group, picture: &Picture) -> Drawn {
    let strokes = if picture.unicode { UNICODE } else { ASCII };
    let sections = fold(group, picture.width, strokes.dots);
    let lanes = Lanes::new(group.hub.as_ref(), &sections);
    let mut canvas = Canvas::new(strokes);
    let mut ends = Vec::new();
    for (section, x) in sections.iter().zip(&lanes.sections) {
        for (place, leaf) in section.leaves.iter().enumerate() {
            let x = x + place * (lanes.width + GAP);
            ends.extend(draw_leaf(&mut canvas, &lanes, x, leaf));
        }
    }
    let plugs = match &group.hub {
        Some(hub) => draw_hub(&mut canvas, &lanes, hub, &sections, picture.width, &ends),
        None => Vec::new(),
    };
    Drawn { text: canvas.into_text(), plugs }
}

/// Draws groups below each other, with the lines that join them on the left.
pub(crate) fn stack(groups: &[Drawn], trunks: usize, strokes: Strokes) -> String {
    let margin = margin(trunks);
    let mut canvas = Canvas::new(strokes);
    let mut plugs = Vec::new();
    let mut y = 0;
    for Drawn { text, plugs: own } in groups {
        for (row, line) in text.lines().enumerate() {
            canvas.put(margin, y + row, line);
        }
        plugs.extend(own.iter().map(|(row, plug)| (y + row, *plug)));
        y += text.lines().count() + 1;
    }
    for trunk in 0..trunks {
        let rows: Vec<usize> =
            plugs.iter().filter(|(_, it)| it.trunk == trunk).map(|(row, _)| *row).collect();
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { continue };
        for row in *first..=*last {
            canvas.set(column(trunk), row, strokes.vertical);
        }
    }
    for (row, plug) in &plugs {
        let rows = || plugs.iter().filter(|(_, it)| it.trunk == plug.trunk).map(|(row, _)| *row);
        let stroke = if plug.up { strokes.horizontal } else { strokes.dead };
        for x in column(plug.trunk) + 1..margin {
            let crossed = plugs.iter().filter(|(_, it)| column(it.trunk) == x).map(|(row, _)| *row);
            let (above, below) = (crossed.clone().min(), crossed.max());
            let passes = above.is_some_and(|it| it < *row) && below.is_some_and(|it| it > *row);
            canvas.set(x, *row, if passes { strokes.passes } else { stroke });
        }
        let [top, _, bottom, _] = strokes.corners;
        let joint = match (rows().min() == Some(*row), rows().max() == Some(*row)) {
            (true, true) => strokes.horizontal,
            (true, false) => top,
            (false, true) => bottom,
            (false, false) => strokes.joins,
        };
        canvas.set(column(plug.trunk), *row, joint);
        canvas.set(margin, *row, strokes.enters);
    }
    canvas.into_text()
}

/// The column of a line that joins groups.
fn column(trunk: usize) -> usize {
    2 * trunk
}

/// How many columns those lines take.
pub(crate) fn margin(trunks: usize) -> usize {
    if trunks == 0 { 0 } else { 2 * trunks + 1 }
}

/// The measures that all lanes of a group share, so that the picture is regular.
struct Lanes {
    /// How wide a namespace is.
    width: usize,
    /// How many rows its own lines take.
    lines: usize,
    /// How many rows its devices take, edges included; none has one if this is 0.
    devices: usize,
    /// How wide a device is.
    device: usize,
    /// Where on a device its cable is.
    cable: usize,
    /// Where the sections begin.
    sections: Vec<usize>,
    /// Where all of them end.
    end: usize,
}

impl Lanes {
    fn new(hub: Option<&Hub>, sections: &[Section]) -> Self {
        let leaves = || sections.iter().flat_map(|section| &section.leaves);
        let devices = || leaves().flat_map(|leaf| &leaf.devices);
        let most = leaves().map(|leaf| leaf.devices.len()).max().unwrap_or_default();
        let own = leaves().map(|leaf| content(&leaf.title, &leaf.lines)).max().unwrap_or_default();
        let label = devices().filter_map(|it| Some(len(&it.cable.as_ref()?.label))).max();
        let label = label.unwrap_or_default();
        // The first cable passes on the right of the titles of the hub and of its bridge.
        let bridges = sections.iter().filter_map(|section| section.bridge.as_ref());
        let titles = bridges.map(|it| len(&it.title) + 4);
        let least = titles.chain(hub.map(|hub| len(&hub.title) + 3)).max().unwrap_or_default();
        let device = devices().map(|it| content(&it.title, &it.lines) + EDGES).max();
        let device = device.unwrap_or_default().max(if label > 0 { least + label + 2 } else { 0 });
        // A single device fills its namespace.
        let device = if most == 1 { device.max(own) } else { device };
        let cable = least.max((device / 2).min(device.saturating_sub(label + 2)));
        let width = own.max((most * (device + 1)).saturating_sub(1)) + EDGES;
        let width = if leaves().next().is_some() { width } else { 0 };
        let rows = devices().map(|it| it.lines.len() + 2).max();
        let lines = leaves().map(|leaf| leaf.lines.len()).max();
        let mut x = 0;
        let place = |section: &Section| {
            let at = x;
            x += section_width(section, width) + GAP;
            at
        };
        let places = sections.iter().map(place).collect();
        Self {
            width,
            lines: lines.unwrap_or_default(),
            devices: rows.unwrap_or_default(),
            device,
            cable,
            sections: places,
            end: x.saturating_sub(GAP),
        }
    }

    fn height(&self) -> usize {
        self.lines + self.devices + 2
    }
}

/// A section is as wide as its namespaces, and at least as the widest word of its bridge.
fn section_width(section: &Section, lane: usize) -> usize {
    let leaves = (section.leaves.len() * (lane + GAP)).saturating_sub(GAP);
    let bridge = section.bridge.as_ref().map_or(0, |it| content(&it.title, &it.lines) + 2 * EDGES);
    leaves.max(bridge)
}

/// Where a cable leaves the namespaces.
struct End<'a> {
    x: usize,
    cable: &'a Cable,
    bundle: bool,
}

fn draw_leaf<'a>(canvas: &mut Canvas, lanes: &Lanes, x: usize, leaf: &'a Leaf) -> Vec<End<'a>> {
    let strokes = canvas.strokes;
    let area = Area { x, y: 0, width: lanes.width, height: lanes.height() };
    canvas.frame(area, &leaf.title, &leaf.lines);
    let mut ends = Vec::new();
    for (place, device) in leaf.devices.iter().enumerate() {
        let area = Area {
            x: x + 2 + place * (lanes.device + 1),
            y: area.bottom() - lanes.devices,
            width: lanes.device,
            height: lanes.devices,
        };
        canvas.frame(area, &device.title, &device.lines);
        if let Some(cable) = &device.cable {
            let x = area.x + lanes.cable;
            canvas.set(x, area.bottom(), strokes.leaves);
            ends.push(End { x, cable, bundle: leaf.folded });
        }
    }
    for end in &ends {
        canvas.set(end.x, area.bottom(), strokes.passes);
        canvas.set(end.x, area.bottom() + 1, stroke(end, strokes));
    }
    ends
}

fn draw_hub(
    canvas: &mut Canvas,
    lanes: &Lanes,
    hub: &Hub,
    sections: &[Section],
    width: usize,
    ends: &[End<'_>],
) -> Vec<(usize, Plug)> {
    let strokes = canvas.strokes;
    let top = if lanes.width == 0 { 0 } else { lanes.height() + 1 };
    let labels = usize::from(!ends.is_empty());
    let outer = lanes.end.max(len(&hub.title) + EDGES);
    let facts = words(&hub.facts, outer.max(width.min(LINE)) - EDGES);
    let inner = facts.iter().map(|(line, _)| len(line)).max().unwrap_or_default();
    let outer = outer.max(inner + EDGES);
    let mut bridges = Vec::new();
    for (section, x) in sections.iter().zip(&lanes.sections) {
        let Some(bridge) = &section.bridge else { continue };
        let end = x + section_width(section, lanes.width);
        // The last one reaches as far as the namespace does.
        let end = if end == lanes.end { outer } else { end };
        let width = end - x - EDGES;
        bridges.push((x + 2, width, &bridge.title, flow(&bridge.lines, width - EDGES)));
    }
    let rows = bridges.iter().map(|(.., lines)| lines.len() + 2).max().unwrap_or_default();
    let height = 2 + labels + rows + facts.len();
    canvas.frame(Area { x: 0, y: top, width: outer, height }, &hub.title, &[]);
    let bridge_top = top + 1 + labels;
    for (x, width, title, lines) in bridges {
        canvas.frame(Area { x, y: bridge_top, width, height: rows }, title, &lines);
    }
    for end in ends {
        canvas.set(end.x, top, strokes.passes);
        canvas.set(end.x, top + 1, stroke(end, strokes));
        canvas.put(end.x + 2, top + 1, &end.cable.label);
        let meets_bridge = sections.iter().zip(&lanes.sections).any(|(section, x)| {
            let reach = *x..*x + section_width(section, lanes.width);
            section.bridge.is_some() && reach.contains(&end.x)
        });
        if meets_bridge {
            canvas.set(end.x, bridge_top, strokes.arrives);
        } else {
            canvas.set(end.x, top + 1, strokes.ends);
        }
    }
    let mut plugs = Vec::new();
    for (row, (line, plug)) in facts.iter().enumerate() {
        let row = bridge_top + rows + row;
        canvas.put(2, row, line);
        plugs.extend(plug.map(|plug| (row, plug)));
    }
    plugs
}

fn stroke(end: &End<'_>, strokes: Strokes) -> char {
    match (end.bundle, end.cable.up) {
        (true, _) => strokes.bundle,
        (false, true) => strokes.vertical,
        (false, false) => strokes.broken,
    }
}

/// The sections of a group, each with as many namespaces as fit `width` columns together.
fn fold(group: &Group, width: usize, dots: &str) -> Vec<Section> {
    let lane = Lanes::new(group.hub.as_ref(), &group.sections).width + GAP;
    let mut room = ((width + GAP) / lane).max(1);
    let mut later = group.sections.iter().filter(|section| !section.leaves.is_empty()).count();
    let fit = |section: &Section| {
        later = later.saturating_sub(usize::from(!section.leaves.is_empty()));
        let fits = room.saturating_sub(later).max(1);
        let section = fold_section(section, fits, dots);
        room = room.saturating_sub(section.leaves.len());
        section
    };
    group.sections.iter().map(fit).collect()
}

/// A section in which those namespaces that do not fit are one that stands for all of them.
fn fold_section(section: &Section, fits: usize, dots: &str) -> Section {
    if section.leaves.len() <= fits {
        return section.clone();
    }
    let shown = fits - 1;
    let mut leaves = section.leaves[..shown].to_vec();
    let folded = &section.leaves[shown..];
    let more = if shown == 0 { "" } else { " more" };
    let mut rest =
        Leaf { title: format!("{dots} {}{more}", folded.len()), folded: true, ..Leaf::default() };
    if let [first, .., last] = folded {
        rest.lines = vec![format!("{} to {}", first.title, last.title)];
        let line = |leaf: &Leaf| leaf.devices.first().and_then(|it| it.lines.first().cloned());
        let cables = folded.iter().flat_map(|leaf| &leaf.devices);
        let cables = cables.filter(|device| device.cable.is_some()).count();
        if let (Some(first), Some(last)) = (line(first), line(last)) {
            rest.devices.push(Device {
                title: format!("{cables} cables"),
                lines: vec![first, format!("to {last}")],
                cable: Some(Cable { label: format!("{cables} cables"), up: true }),
            });
        }
    }
    leaves.push(rest);
    Section { bridge: section.bridge.clone(), leaves }
}

/// Facts as lines: what each is about, then the fact, broken between words if need be. The first
/// line of a fact is the one that is joined to others.
fn words(facts: &[Fact], width: usize) -> Vec<(String, Option<Plug>)> {
    let told = facts.iter().filter(|fact| !fact.about.is_empty());
    let margin = told.map(|fact| len(fact.about) + 2).max().unwrap_or_default();
    let mut lines = Vec::new();
    let mut last = "";
    for Fact { about, text, plug } in facts {
        let mut line = format!("{:margin$}", if *about == last { "" } else { about });
        last = about;
        let mut plug = *plug;
        let mut is_empty = true;
        for word in text.split(' ') {
            if !is_empty && len(&line) + 1 + len(word) > width {
                let full = std::mem::replace(&mut line, " ".repeat(margin));
                lines.push((full, plug.take()));
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        lines.push((line, plug));
    }
    lines
}

/// Short texts, as many in a line as fit.
fn flow(texts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for text in texts {
        match lines.last_mut() {
            Some(line) if len(line) + GAP + len(text) <= width => {
                line.push_str("  ");
                line.push_str(text);
            }
            _ => lines.push(text.clone()),
        }
    }
    lines
}

/// The widest of a title, which has a space more on each side, and lines.
fn content(title: &str, lines: &[String]) -> usize {
    lines.iter().map(|line| len(line)).fold(len(title), usize::max)
}

fn len(text: &str) -> usize {
    text.chars().count()
}
