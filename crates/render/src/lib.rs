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
//! One layout, a [`Scene`], has many back ends; they paint it and place nothing. What is connected
//! to a bridge stands above the namespace that the bridge is in; each cable keeps to the lane of its
//! namespace. Nodes are joined by lines to the switches and tunnels between them. What does not fit
//! is folded, and says of how many it stands for. The same network gives the same picture every
//! time.
//!
//! Pure. Nothing that a stranger has named gets anywhere as it is: see `scene::shown`.

mod arrange;
mod block;
mod canvas;
mod diagram;
mod lanes;
mod peers;
mod read;
mod scene;
mod words;

pub use diagram::Focus;
pub use scene::{Area, Class, Kind, Label, Point, Scene, Shape, State, Wire};
use topology::Machine;

/// How to draw for a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// How many columns there are. What does not fit is folded; one namespace always fits.
    pub width: usize,
    /// Box-drawing characters rather than ASCII.
    pub unicode: bool,
}

/// What stands for what was left out.
const DOTS: &str = "…";

/// Places a machine on a grid of `width` columns.
pub fn scene(machine: &Machine, focus: &Focus, width: usize) -> Scene {
    placed(machine, focus, width, DOTS)
}

/// Draws a machine for a terminal.
pub fn text(machine: &Machine, picture: &Picture) -> String {
    text_of(machine, &Focus::Machine, picture)
}

/// Draws a part of a machine for a terminal.
pub fn text_of(machine: &Machine, focus: &Focus, picture: &Picture) -> String {
    let dots = if picture.unicode { DOTS } else { "..." };
    canvas::paint(&placed(machine, focus, picture.width, dots), picture.unicode)
}

fn placed(machine: &Machine, focus: &Focus, width: usize, dots: &str) -> Scene {
    let mut diagram = read::read(machine, dots);
    diagram.focus(focus, dots);
    arrange::scene(&diagram, width, dots)
}

#[cfg(test)]
mod tests;
