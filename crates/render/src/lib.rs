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
//! keeps to the lane of its namespace. What does not fit these lanes is told in words. The same
//! network gives the same picture every time.

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
    let groups = diagram::read(machine);
    let drawn: Vec<String> = groups.iter().map(|group| draw::group(group, picture)).collect();
    drawn.join("\n")
}

#[cfg(test)]
mod tests;
