//! A picture as data: boxes inside boxes, wires between them, all on a grid of characters. What
//! paints it decides nothing but strokes and colours.

use diagnosis::{Finding, Thing};
use schemars::JsonSchema;
use serde::Serialize;
use topology::Document;

/// A picture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Scene {
    /// What it shows, such as `pod1 on node1`.
    pub title: String,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// What contains others comes before them.
    pub boxes: Vec<Shape>,
    /// What joins boxes.
    pub wires: Vec<Wire>,
    /// What could not be read or drawn, as sentences.
    pub notes: Vec<String>,
}

impl Document for Scene {
    const KIND: &'static str = "Scene";
}

/// A box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Shape {
    /// Unique in the picture, and the same in the next one of the same thing.
    pub id: String,
    /// What it shows, if that can be pointed at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thing: Option<Thing>,
    /// The box around it, by its place in [`Scene::boxes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<usize>,
    /// What kind of thing it is.
    pub class: Class,
    /// Whether it is as usual.
    pub state: State,
    /// Stands in its upper edge.
    pub title: String,
    /// Stand below the title, one row each.
    pub lines: Vec<String>,
    /// Where it is, edges included.
    pub area: Area,
}

/// Something that joins two boxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Wire {
    /// Unique in the picture, and the same in the next one of the same thing.
    pub id: String,
    /// What kind of wire it is.
    pub kind: Kind,
    /// Whether it is as usual.
    pub state: State,
    /// The boxes, by their places in [`Scene::boxes`].
    pub ends: [usize; 2],
    /// The devices that it consists of.
    pub things: Vec<Thing>,
    /// What it says, such as the name of the node's end of a veth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// Its corners, from the first end to the second. Empty where it is told rather than drawn.
    pub points: Vec<Point>,
    /// Wires of one trunk share strokes; others pass over each other.
    pub trunk: usize,
}

/// Words beside a wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Label {
    /// Where the words begin.
    pub at: Point,
    /// The words.
    pub text: String,
}

/// A cell of the grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Point {
    /// The column, from 0.
    pub x: usize,
    /// The row, from 0.
    pub y: usize,
}

/// A rectangle of cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Area {
    /// The column of its left edge.
    pub x: usize,
    /// The row of its upper edge.
    pub y: usize,
    /// Columns, edges included.
    pub width: usize,
    /// Rows, edges included.
    pub height: usize,
}

impl Area {
    /// The row of its lower edge.
    pub fn bottom(&self) -> usize {
        self.y + self.height.saturating_sub(1)
    }

    /// The column of its right edge.
    pub fn right(&self) -> usize {
        self.x + self.width.saturating_sub(1)
    }
}

/// What a box shows.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// A machine that runs pods, with all that is on it.
    Node,
    /// The network namespace of a node itself.
    Host,
    /// A pod's namespace.
    Pod,
    /// What joins the nodes of a lab.
    Underlay,
    /// A host beyond the cluster.
    Outside,
    /// Somebody else's namespace.
    #[default]
    Namespace,
    /// A bridge.
    Bridge,
    /// An end of a tunnel.
    Tunnel,
    /// Any other device.
    Device,
    /// How a namespace sends packets on.
    Routes,
    /// Stands for several that did not fit.
    Folded,
    /// Nodes that are not on this machine.
    Remote,
}

/// What a wire is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A veth pair, or a device on another namespace's device.
    Cable,
    /// Several cables.
    Bundle,
    /// The node's own way between its devices and its routes.
    Inner,
    /// A device that is a port of another, or stands on it.
    Stacked,
    /// Packets inside packets.
    Tunnel,
    /// Routes to a peer's pods by the peer's own address.
    Routed,
}

/// Whether something is as usual; the worst is the greatest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// As usual.
    #[default]
    Usual,
    /// Out of the ordinary.
    Unusual,
    /// It carries nothing.
    Down,
}

impl Scene {
    /// Marks what findings are about: the first of their things; the others are only next to it.
    pub fn mark(&mut self, findings: &[Finding]) {
        let is_found =
            |thing: &Thing| findings.iter().any(|found| found.about.first() == Some(thing));
        for shape in &mut self.boxes {
            if shape.thing.as_ref().is_some_and(is_found) {
                shape.state = shape.state.max(State::Unusual);
            }
        }
    }

    /// The names of a box and of all that it is inside of, from the outermost.
    pub fn path(&self, place: usize) -> Vec<&str> {
        let mut path = Vec::new();
        let mut next = Some(place);
        while let Some(shape) = next.and_then(|at| self.boxes.get(at)) {
            path.push(shape.title.as_str());
            // What contains others comes before them, so that this ends.
            next = shape.inside.filter(|outer| Some(*outer) < next);
        }
        path.reverse();
        path
    }

    /// For each box, whether others are inside.
    pub(crate) fn containers(&self) -> Vec<bool> {
        let mut containers = vec![false; self.boxes.len()];
        for outer in self.boxes.iter().filter_map(|shape| shape.inside) {
            containers[outer] = true;
        }
        containers
    }

    /// What a wire is, in words.
    pub fn tell(&self, wire: &Wire) -> String {
        let [from, to] = wire.ends.map(|end| self.path(end).join(" "));
        let label = wire.label.as_ref().map(|label| format!(", {}", label.text));
        let label = label.unwrap_or_default();
        format!("{} between {from} and {to}{label}{}", wire.kind.word(), wire.state.word())
    }
}

impl Kind {
    /// What people call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Bundle => "cables",
            Self::Inner => "way inside the node",
            Self::Stacked => "port",
            Self::Tunnel => "tunnel",
            Self::Routed => "pods' routes",
        }
    }

    /// What programs call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Bundle => "bundle",
            Self::Inner => "inner",
            Self::Stacked => "stacked",
            Self::Tunnel => "tunnel",
            Self::Routed => "routed",
        }
    }
}

impl Class {
    /// What programs call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Host => "host",
            Self::Pod => "pod",
            Self::Underlay => "underlay",
            Self::Outside => "outside",
            Self::Namespace => "namespace",
            Self::Bridge => "bridge",
            Self::Tunnel => "tunnel",
            Self::Device => "device",
            Self::Routes => "routes",
            Self::Folded => "folded",
            Self::Remote => "remote",
        }
    }

    /// What people call it, where its title does not say so.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Host | Self::Routes | Self::Folded | Self::Remote => "",
            Self::Namespace => "namespace",
            Self::Tunnel => "tunnel end",
            other => other.name(),
        }
    }
}

impl State {
    /// How a sentence ends that names what is so.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Unusual => ", unusual",
            Self::Down => ", carries nothing",
        }
    }

    /// What programs call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Unusual => "unusual",
            Self::Down => "down",
        }
    }
}

/// The most characters of a stranger's word that are shown.
const LONGEST: usize = 40;

/// A stranger's word as it can be shown: control characters, and those that are invisible or change
/// the direction of writing, are spelled out; what is very long is cut in its middle.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    // A name that is longer than this is a trick; nobody reads all of it.
    for character in text.chars().take(1000) {
        let plain = character == ' ' || character.is_ascii_graphic() || character.is_alphanumeric();
        if plain { out.push(character) } else { out.extend(character.escape_unicode()) }
    }
    let count = out.chars().count();
    if count <= LONGEST {
        return out;
    }
    let head: String = out.chars().take(LONGEST / 2).collect();
    let tail: String = out.chars().skip(count - (LONGEST / 2 - 1)).collect();
    format!("{head}…{tail}")
}

/// Whether a character does something rather than being seen: it controls a terminal, has no form,
/// or changes the direction of writing.
pub(crate) fn is_hidden(character: char) -> bool {
    let formats = ['\u{ad}', '\u{61c}', '\u{180e}', '\u{feff}'];
    character.is_control()
        || formats.contains(&character)
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(character, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{fffe}'..='\u{ffff}')
}
