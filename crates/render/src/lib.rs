//! Pictures of networks: namespaces as boxes, devices as boxes inside, cables as lines.
//!
//! ```text
//! ┌ pod1 ────────────────┐
//! │ default via 10.1.0.1 │
//! │ ┌ eth0 ────────────┐ │
//! │ │ 10.1.0.2/24      │ │
//! │ └────────┬─────────┘ │
//! └──────────┼───────────┘
//!            │
//! ┌ node1 ───┼───────────┐
//! │          │ veth1     │
//! │ ┌ cni0 ──┴─────────┐ │
//! │ │ 10.1.0.1/24      │ │
//! │ └──────────────────┘ │
//! └──────────────────────┘
//! ```
//!
//! What is connected to a bridge stands above the namespace that the bridge is in; each cable
//! keeps to the lane of its namespace. Namespaces with bridges that are plugged into a switch of
//! another one stand below each other, joined by a line on the left. What does not fit is told in
//! words. The same network gives the same picture every time.

mod canvas;
mod diagram;
mod draw;

use topology::Machine;

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// How many columns there are. What does not fit is folded; one namespace always fits.
    pub width: usize,
    /// Box-drawing characters rather than ASCII.
    pub unicode: bool,
}

/// Draws a machine for a terminal.
pub fn text(machine: &Machine, picture: &Picture) -> String {
    let strokes = if picture.unicode { canvas::UNICODE } else { canvas::ASCII };
    let groups = diagram::fold(diagram::read(machine), strokes.dots);
    let facts = groups.iter().filter_map(|group| group.hub.as_ref()).flat_map(|hub| &hub.facts);
    let trunks = facts.filter_map(|fact| fact.plug).map(|plug| plug.trunk + 1).max();
    let trunks = trunks.unwrap_or_default();
    let width = picture.width.saturating_sub(draw::margin(trunks));
    let inner = Picture { width, ..*picture };
    let drawn: Vec<draw::Drawn> = groups.iter().map(|group| draw::group(group, &inner)).collect();
    draw::stack(&drawn, trunks, strokes)
}

#[cfg(test)]
mod tests;
