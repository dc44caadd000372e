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
//! [`verify`] gives the answer of `podwire verify` its forms.
//!
//! Pure. Nothing that a stranger has named gets anywhere as it is: see `scene::shown`.

mod arrange;
mod block;
mod canvas;
mod diagram;
mod format;
mod graph;
mod html;
mod lanes;
mod peers;
mod read;
mod scene;
mod svg;
pub mod verify;
mod words;

pub use diagram::Focus;
pub use format::{Format, View, write};
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

/// Draws a machine for a terminal.
pub fn text(machine: &Machine, picture: &Picture) -> String {
    let Picture { width, unicode } = *picture;
    write(Format::Text, &View { width: Some(width), unicode, ..View::of(machine) })
}

/// All pictures of one machine, which is read once.
pub(crate) struct Pictures<'a> {
    diagram: diagram::Diagram,
    dots: &'a str,
}

impl<'a> Pictures<'a> {
    pub(crate) fn new(machine: &Machine, dots: &'a str) -> Self {
        Self { diagram: read::read(machine, dots), dots }
    }

    /// Pictures beside sentences, which say what could not be read.
    pub(crate) fn beside_sentences(mut self) -> Self {
        self.diagram.notes.clear();
        self
    }

    /// A part of it on a grid of `width` columns.
    pub(crate) fn scene(&self, focus: &Focus, width: usize) -> Scene {
        let mut diagram = self.diagram.clone();
        diagram.focus(focus, self.dots);
        arrange::scene(&diagram, width, self.dots)
    }
}

#[cfg(test)]
mod tests;
