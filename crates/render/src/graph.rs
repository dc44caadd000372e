//! A scene as words for other programs and for those who read: DOT, Mermaid, and an indented tree.

use std::fmt::Write as _;

use crate::scene::{Class, Kind, Scene, Shape, State};

/// For Graphviz. Boxes that contain others are clusters.
pub(crate) fn dot(scene: &Scene) -> String {
    let mut text = format!("graph podwire {{\n  label={};\n", quoted(&scene.title));
    text.push_str("  compound=true;\n  node [shape=box, fontname=monospace];\n");
    text.push_str("  graph [fontname=monospace];\n");
    let containers = scene.containers();
    for place in inside(scene, None) {
        write_dot(&mut text, scene, &containers, place, 1);
    }
    for wire in &scene.wires {
        let style = match (wire.state, wire.kind) {
            (State::Down, _) => "dotted",
            (State::Unusual, _) | (_, Kind::Routed) => "dashed",
            (_, Kind::Tunnel | Kind::Bundle) => "bold",
            _ => "solid",
        };
        let label = wire.label.as_ref().map_or_else(
            || if wire.kind == Kind::Inner { "" } else { wire.kind.word() },
            |label| label.text.as_str(),
        );
        // Edges end at nodes: a box that contains others is stood for by a point in it.
        let [from, to] = wire.ends.map(|end| match containers[end] {
            true => format!("b{end}p"),
            false => format!("b{end}"),
        });
        let _ = write!(text, "  {from} -- {to} [");
        let _ = writeln!(text, "style={style}, label={}];", quoted(label));
    }
    text.push_str("}\n");
    text
}

fn write_dot(text: &mut String, scene: &Scene, containers: &[bool], place: usize, depth: usize) {
    let shape = &scene.boxes[place];
    let indent = "  ".repeat(depth);
    let label = quoted(&words(shape));
    if !containers[place] {
        let style = match (shape.state, shape.class) {
            (State::Down, _) => "dotted",
            (State::Unusual, _) | (_, Class::Folded | Class::Remote) => "dashed",
            _ => "solid",
        };
        let _ = writeln!(text, "{indent}b{place} [label={label}, style={style}];");
        return;
    }
    let _ = writeln!(text, "{indent}subgraph cluster_b{place} {{\n{indent}  label={label};");
    let _ = writeln!(text, "{indent}  b{place}p [shape=point, style=invis];");
    for place in inside(scene, Some(place)) {
        write_dot(text, scene, containers, place, depth + 1);
    }
    let _ = writeln!(text, "{indent}}}");
}

/// For Mermaid, as forges and wikis show it.
pub(crate) fn mermaid(scene: &Scene) -> String {
    let mut text = "flowchart TB\n".to_owned();
    let _ = writeln!(text, "  accTitle: {}", label(&scene.title));
    let containers = scene.containers();
    for place in inside(scene, None) {
        write_mermaid(&mut text, scene, &containers, place, 1);
    }
    for wire in &scene.wires {
        let line = match (wire.state, wire.kind) {
            (State::Down | State::Unusual, _) | (_, Kind::Routed) => "-.-",
            (_, Kind::Tunnel | Kind::Bundle) => "===",
            _ => "---",
        };
        let [from, to] = wire.ends;
        let word = wire.label.as_ref().map(|it| it.text.as_str()).or(match wire.kind {
            Kind::Inner => None,
            kind => Some(kind.word()),
        });
        let word = word.map(|word| format!("|\"{}\"|", label(word))).unwrap_or_default();
        let _ = writeln!(text, "  b{from} {line}{word} b{to}");
    }
    text
}

fn write_mermaid(
    text: &mut String,
    scene: &Scene,
    containers: &[bool],
    place: usize,
    depth: usize,
) {
    let shape = &scene.boxes[place];
    let indent = "  ".repeat(depth);
    let name = label(&words(shape));
    if !containers[place] {
        let _ = writeln!(text, "{indent}b{place}[\"{name}\"]");
        return;
    }
    let _ = writeln!(text, "{indent}subgraph b{place}[\"{name}\"]");
    for place in inside(scene, Some(place)) {
        write_mermaid(text, scene, containers, place, depth + 1);
    }
    let _ = writeln!(text, "{indent}end");
}

/// Indented text: each box below the one that it is in, with what it is joined to.
pub(crate) fn tree(scene: &Scene) -> String {
    let mut text = String::new();
    for place in inside(scene, None) {
        write_tree(&mut text, scene, place, 0);
    }
    for note in &scene.notes {
        let _ = writeln!(text, "{note}");
    }
    text
}

fn write_tree(text: &mut String, scene: &Scene, place: usize, depth: usize) {
    let shape = &scene.boxes[place];
    let indent = "  ".repeat(depth);
    let mark = if shape.state == State::Unusual { "  (unusual)" } else { "" };
    let _ = writeln!(text, "{indent}{}{mark}", shape.title);
    for line in shape.lines.iter().filter(|line| !line.trim().is_empty()) {
        let _ = writeln!(text, "{indent}    {}", line.trim_end());
    }
    for wire in scene.wires.iter().filter(|wire| wire.kind != Kind::Inner) {
        let far = match wire.ends {
            [from, to] if from == place => to,
            [from, to] if to == place => from,
            _ => continue,
        };
        let state = match wire.state {
            State::Usual => "",
            State::Unusual => "  (unusual)",
            State::Down => "  (carries nothing)",
        };
        let label = wire.label.as_ref().map(|it| format!(" ({})", it.text)).unwrap_or_default();
        let far = scene.path(far).join(" / ");
        let _ = writeln!(text, "{indent}    {} to {far}{label}{state}", wire.kind.word());
    }
    for place in inside(scene, Some(place)) {
        write_tree(text, scene, place, depth + 1);
    }
}

/// The boxes directly in another one, or in none.
fn inside(scene: &Scene, outer: Option<usize>) -> impl Iterator<Item = usize> {
    let boxes = scene.boxes.iter().enumerate();
    // What contains others comes before them, so that walking down ends.
    boxes.filter(move |(at, it)| it.inside == outer && outer < Some(*at)).map(|(at, _)| at)
}

fn words(shape: &Shape) -> String {
    let lines = shape.lines.iter().filter(|line| !line.trim().is_empty());
    let mut words = vec![shape.title.clone()];
    words.extend(lines.map(|line| line.trim().to_owned()));
    words.join("\n")
}

/// A string of DOT.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

/// A string of Mermaid, which takes HTML in its labels: nothing of a stranger's may look so.
fn label(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\n' => out.push_str("<br/>"),
            ' ' | '.' | ':' | '/' | '-' | ',' | '…' | '(' | ')' => out.push(character),
            other if other.is_alphanumeric() => out.push(other),
            other => {
                let _ = write!(out, "#{};", u32::from(other));
            }
        }
    }
    out
}
