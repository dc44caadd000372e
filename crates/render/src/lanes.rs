//! The measures that the namespaces of a group share, and how texts fill boxes.

use crate::diagram::{Hub, Section};

/// Columns between two boxes side by side.
pub(crate) const GAP: usize = 2;
/// Columns that a box takes for its edges and the space inside them.
pub(crate) const EDGES: usize = 4;

/// The measures that all lanes of a group share, so that the picture is regular.
pub(crate) struct Lanes {
    /// How wide a namespace is.
    pub(crate) width: usize,
    /// How many rows its own lines take.
    lines: usize,
    /// How many rows its devices take, edges included; none has one if this is 0.
    pub(crate) devices: usize,
    /// How wide a device is.
    pub(crate) device: usize,
    /// Where on a device its cable is.
    pub(crate) cable: usize,
    /// Where the sections begin.
    pub(crate) sections: Vec<usize>,
    /// Where all of them end.
    pub(crate) end: usize,
    /// Lines come from above, beside the namespaces.
    pub(crate) drops: bool,
}

impl Lanes {
    pub(crate) fn new(hub: Option<&Hub>, sections: &[Section], drops: bool) -> Self {
        let leaves = || sections.iter().flat_map(|section| &section.leaves);
        let devices = || leaves().flat_map(|leaf| &leaf.devices);
        let most = leaves().map(|leaf| leaf.devices.len()).max().unwrap_or_default();
        let own = leaves().map(|it| content(&it.item.title, &it.item.lines)).max();
        let own = own.unwrap_or_default();
        let label = devices().filter_map(|it| Some(len(&it.cable.as_ref()?.label))).max();
        let label = label.unwrap_or_default();
        // The first cable passes on the right of the titles of the hub and of its bridge.
        let bridges = sections.iter().filter_map(|section| section.bridge.as_ref());
        let titles = bridges.map(|it| len(&it.item.title) + 4);
        let hub = hub.map(|hub| len(&hub.item.title) + 3);
        let least = titles.chain(hub).max().unwrap_or_default();
        let device = devices().map(|it| content(&it.item.title, &it.item.lines) + EDGES).max();
        let device = device.unwrap_or_default().max(if label > 0 { least + label + 2 } else { 0 });
        // A single device fills its namespace.
        let device = if most == 1 { device.max(own) } else { device };
        let cable = least.max((device / 2).min(device.saturating_sub(label + 2)));
        let width = own.max((most * (device + 1)).saturating_sub(1)) + EDGES;
        let width = if leaves().next().is_some() { width } else { 0 };
        let rows = devices().map(|it| it.item.lines.len() + 2).max();
        let lines = leaves().map(|leaf| leaf.item.lines.len()).max();
        let mut x = 0;
        let place = |section: &Section| {
            let at = x;
            x += section_width(section, width, drops) + GAP;
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
            drops,
        }
    }

    pub(crate) fn height(&self) -> usize {
        self.lines + self.devices + 2
    }
}

/// A section is as wide as its namespaces, and at least as the widest word of its bridge. Where
/// lines come from above, they pass on the right of the namespaces.
pub(crate) fn section_width(section: &Section, lane: usize, drops: bool) -> usize {
    let plugs = section.bridge.as_ref().map_or(0, |bridge| bridge.plugs.len());
    let drops = if drops && !section.leaves.is_empty() { 2 * plugs + 2 } else { 0 };
    let leaves = (section.leaves.len() * (lane + GAP)).saturating_sub(GAP) + drops;
    let bridge = section.bridge.as_ref();
    leaves.max(bridge.map_or(0, |it| content(&it.item.title, &it.item.lines) + 2 * EDGES))
}

/// Short texts, as many in a line as fit.
pub(crate) fn flow(texts: &[String], width: usize) -> Vec<String> {
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

/// Texts of which each begins a line, broken between words if need be.
pub(crate) fn wrap(texts: &[String], width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for text in texts {
        let mut line = String::new();
        for word in text.split(' ') {
            if !line.trim().is_empty() && len(&line) + 1 + len(word) > width {
                lines.push(std::mem::replace(&mut line, " ".to_owned()));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// The widest of a title, which has a space more on each side, and lines.
pub(crate) fn content(title: &str, lines: &[String]) -> usize {
    lines.iter().map(|line| len(line)).fold(len(title), usize::max)
}

pub(crate) fn len(text: &str) -> usize {
    text.chars().count()
}
