//! A scene as SVG: the grid of characters, scaled.
//!
//! Every box and wire is an element with the same identifier in each picture of it; a page can make
//! them react. By itself the picture has no scripts and loads nothing.

use std::fmt::Write as _;

use crate::scene::{Area, Kind, Point, Scene, Wire, is_hidden};

/// The size of a cell.
const WIDTH: f64 = 8.0;
const HEIGHT: f64 = 18.0;

/// Room around the picture.
const MARGIN: f64 = 8.0;

/// Colours and strokes, which the page shares.
pub(crate) const STYLE: &str = include_str!("../assets/scene.css");

/// Where a picture is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// By itself.
    File,
    /// In a page, which has its style, and where boxes and wires can be chosen.
    Page,
}

/// A picture by itself.
pub(crate) fn file(scene: &Scene) -> String {
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    format!("{head}{}", element(scene, "scene", Use::File))
}

/// The picture as an element. `prefix` tells it from other pictures of the same page.
pub(crate) fn element(scene: &Scene, prefix: &str, used: Use) -> String {
    let notes = scene.notes.len() as f64 * HEIGHT;
    let gap = if scene.notes.is_empty() { 0.0 } else { HEIGHT };
    let longest = scene.notes.iter().map(|note| note.chars().count()).max().unwrap_or_default();
    let width = (scene.width.max(longest) as f64) * WIDTH + 2.0 * MARGIN;
    let height = scene.height as f64 * HEIGHT + gap + notes + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"scene\" role=\"{}\" \
         aria-labelledby=\"{prefix}-title {prefix}-desc\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\">\n\
         <title id=\"{prefix}-title\">{}</title>\n<desc id=\"{prefix}-desc\">{}</desc>\n",
        if used == Use::File { "graphics-document" } else { "group" },
        markup(&scene.title),
        markup(&description(scene)),
    );
    if used == Use::File {
        let _ = writeln!(svg, "<style>\n{}</style>", STYLE.trim_start());
        let _ = writeln!(svg, "<rect class=\"sheet\" width=\"{width}\" height=\"{height}\"/>");
    }
    let _ = writeln!(svg, "<g transform=\"translate({MARGIN} {MARGIN})\">");
    let containers = scene.containers();
    for place in (0..scene.boxes.len()).filter(|place| containers[*place]) {
        write_box(&mut svg, scene, place, prefix, used);
    }
    // Wires of one trunk meet, others pass over each other; the worst is on top.
    let mut wires: Vec<&Wire> = scene.wires.iter().filter(|wire| !wire.points.is_empty()).collect();
    wires.sort_by_key(|wire| (wire.trunk, wire.state));
    for trunk in wires.chunk_by(|one, other| one.trunk == other.trunk) {
        for wire in trunk.iter().filter(|wire| wire.kind != Kind::Inner) {
            let _ = writeln!(svg, "<path class=\"under\" d=\"{}\"/>", path(wire));
        }
        for wire in trunk {
            let dotted = containers[wire.ends[1]];
            write_wire(&mut svg, scene, wire, prefix, (used, dotted));
        }
    }
    for place in (0..scene.boxes.len()).filter(|place| !containers[*place]) {
        write_box(&mut svg, scene, place, prefix, used);
    }
    let top = scene.height as f64 * HEIGHT + gap;
    for (row, note) in scene.notes.iter().enumerate() {
        let y = top + row as f64 * HEIGHT + 13.0;
        let _ = writeln!(svg, "<text class=\"note\" x=\"4\" y=\"{y}\">{}</text>", markup(note));
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

impl Use {
    /// What a box or a wire is to somebody who does not see it. In a page, which of them the tab key
    /// comes to is the script's business.
    fn role(self) -> &'static str {
        match self {
            Self::File => "role=\"graphics-object\"",
            Self::Page => "role=\"button\" tabindex=\"-1\"",
        }
    }
}

/// What somebody who does not see the picture is told first.
fn description(scene: &Scene) -> String {
    let (boxes, wires) = (scene.boxes.len(), scene.wires.len());
    let mut text = format!("{boxes} boxes, joined by {wires} wires.");
    for note in &scene.notes {
        let _ = write!(text, " {note}.");
    }
    text
}

fn write_box(svg: &mut String, scene: &Scene, place: usize, prefix: &str, used: Use) {
    let shape = &scene.boxes[place];
    let Area { x, y, width, height } = shape.area;
    let (left, top) = (x as f64 * WIDTH + 2.0, y as f64 * HEIGHT + 1.0);
    let (wide, high) = (width as f64 * WIDTH - 4.0, (height as f64 - 0.5) * HEIGHT - 1.0);
    let path = scene.path(place).join(", ");
    let state = shape.state.word();
    let words = format!("{} {path}{state}", shape.class.word());
    let lines = shape.lines.iter().filter(|line| !line.trim().is_empty());
    let lines: Vec<&str> = lines.map(String::as_str).collect();
    let _ = writeln!(
        svg,
        "<g id=\"{prefix}-{}\" class=\"box {} {}\" {} aria-label=\"{}\">",
        markup(&shape.id),
        shape.class.name(),
        shape.state.name(),
        used.role(),
        markup(&[&[words.trim()], lines.as_slice()].concat().join("; ")),
    );
    let _ = writeln!(
        svg,
        "<rect x=\"{left}\" y=\"{top}\" width=\"{wide}\" height=\"{high}\" rx=\"5\"/>"
    );
    let baseline = |row: usize| (y + row) as f64 * HEIGHT + 14.5;
    let _ = writeln!(
        svg,
        "<text class=\"name\" x=\"{}\" y=\"{}\">{}</text>",
        left + 8.0,
        baseline(0),
        markup(&shape.title)
    );
    if shape.state != crate::State::Usual {
        let (x, y) = (left + wide - 14.0, baseline(0));
        let _ = writeln!(svg, "<text class=\"mark\" x=\"{x}\" y=\"{y}\">!</text>");
    }
    for (row, line) in shape.lines.iter().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let indent = line.len() - line.trim_start().len();
        let x = left + 8.0 + indent as f64 * WIDTH;
        let y = baseline(row + 1);
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\">{}</text>", markup(line.trim()));
    }
    svg.push_str("</g>\n");
}

/// The middle of a cell.
fn middle(at: Point) -> (f64, f64) {
    (at.x as f64 * WIDTH + WIDTH / 2.0, at.y as f64 * HEIGHT + HEIGHT / 2.0)
}

fn path(wire: &Wire) -> String {
    let mut path = String::new();
    for (place, point) in wire.points.iter().enumerate() {
        let (x, y) = middle(*point);
        let _ = write!(path, "{}{x} {y}", if place == 0 { "M" } else { " L" });
    }
    path
}

/// Where the wire ends inside a box that contains others, a dot shows it.
fn write_wire(
    svg: &mut String,
    scene: &Scene,
    wire: &Wire,
    prefix: &str,
    (used, dotted): (Use, bool),
) {
    let path = path(wire);
    let _ = writeln!(
        svg,
        "<g id=\"{prefix}-{}\" class=\"wire {} {}\" {} aria-label=\"{}\">",
        markup(&wire.id),
        wire.kind.name(),
        wire.state.name(),
        used.role(),
        markup(&scene.tell(wire)),
    );
    if used == Use::Page {
        // A thin line is hard to hit.
        let _ = writeln!(svg, "<path class=\"hit\" d=\"{path}\"/>");
    }
    let _ = writeln!(svg, "<path class=\"line\" d=\"{path}\"/>");
    if let Some(end) = wire.points.last().filter(|_| dotted) {
        let (x, y) = middle(*end);
        let _ = writeln!(svg, "<circle class=\"end\" cx=\"{x}\" cy=\"{y}\" r=\"3.5\"/>");
    }
    if let Some(label) = &wire.label {
        let (x, y) = (label.at.x as f64 * WIDTH, label.at.y as f64 * HEIGHT + 14.0);
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\">{}</text>", markup(&label.text));
    }
    svg.push_str("</g>\n");
}

/// Text inside markup, quoted attributes included.
pub(crate) fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no form for some of them, and none is worth anything in HTML.
            hidden if is_hidden(hidden) => out.extend(hidden.escape_unicode()),
            other => out.push(other),
        }
    }
    out
}
