//! A page in one file: pictures, the sentences beside them, and a search.
//!
//! Everything is written here, by the server or into the file; the page's script shows and hides
//! it. So that a served page can be renewed while somebody looks at it, all that changes is in four
//! elements (`pictures`, `said`, `data`, `seen`), and what is the same has the same identifier. The
//! page loads nothing and runs nothing but its own script: its policy names that script's hash.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diagnosis::{Explanation, Finding, Severity, Thing};
use serde::Serialize;
use sha2::{Digest, Sha256};
use topology::Machine;
use topology::origin::is_everywhere;

use crate::format::{Format, View};
use crate::scene::{Class, Scene, shown};
use crate::svg::{self, markup};
use crate::words::token;
use crate::{DOTS, Focus, Pictures};

const STYLE: &str = include_str!("../assets/page.css");
const SCRIPT: &str = include_str!("../assets/page.js");

/// How many columns pictures of a page have.
const WIDTH: usize = 170;

/// How many pictures a page has; a pod beyond is told, and found, but not drawn.
const MOST_VIEWS: usize = 256;

/// How many things can be found.
const MOST_ENTRIES: usize = 20_000;

/// What the page's script reads.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    api_version: &'static str,
    kind: &'static str,
    views: Vec<Drawn>,
    index: Vec<Entry>,
}

/// A picture.
#[derive(Serialize)]
struct Drawn {
    id: String,
    /// What it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    #[serde(skip)]
    title: String,
    #[serde(skip)]
    scene: Scene,
    boxes: Vec<Node>,
    wires: Vec<Edge>,
}

#[derive(Serialize)]
struct Node {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inside: Option<usize>,
}

#[derive(Serialize)]
struct Edge {
    id: String,
    ends: [usize; 2],
    things: Vec<String>,
}

/// Something that can be found.
#[derive(Serialize)]
struct Entry {
    name: String,
    text: String,
    id: String,
    /// The picture that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<String>,
}

/// Writes a page.
pub(crate) fn page(view: &View<'_>) -> String {
    let pictures = view.pictures(Format::Html, DOTS);
    let views = views(&pictures, view);
    let title = markup(&views[0].scene.title);
    let style = format!("{}{STYLE}", svg::STYLE);
    let live = view.live.as_deref();
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
        policy(&style, SCRIPT, live.is_some()),
    );
    if let Some(events) = live {
        let _ = writeln!(html, "<meta name=\"podwire-live\" content=\"{}\">", markup(events));
    }
    let _ = write!(
        html,
        "<title>{title} – podwire</title>\n<style>{style}</style>\n</head>\n<body>\n<header>\n\
         <h1>{title}</h1>\n{}\
         <div class=\"search\" role=\"search\"><label for=\"search\">Search</label> \
         <input id=\"search\" type=\"search\" role=\"combobox\" aria-expanded=\"false\" \
         aria-controls=\"hits\" aria-autocomplete=\"list\" autocomplete=\"off\" \
         placeholder=\"name or address\">\n\
         <span id=\"found\" role=\"status\"></span>\n\
         <ul id=\"hits\" role=\"listbox\" aria-label=\"What was found\" hidden></ul></div>\n\
         </header>\n<main>\n",
        seen(view.machine),
    );
    write_pictures(&mut html, &views);
    write_words(&mut html, view);
    let index = index(view.machine, &views);
    let data = Data { api_version: topology::API_VERSION, kind: "Page", views, index };
    let data = serde_json::to_string(&data).unwrap_or_default();
    let _ = write!(
        html,
        "</main>\n<footer><p>Click a box or a wire. Keys: → onward, ← back, ↑ ↓ another way, Enter \
         its own picture, / search, Escape all sentences.</p></footer>\n\
         <script type=\"application/json\" id=\"data\">{}</script>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        // Nothing in a script element may look like its end.
        data.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
    );
    html
}

/// What a page may do: run its own script and use its own style, each known by its hash; a served one
/// may also ask its server.
fn policy(style: &str, script: &str, served: bool) -> String {
    let connect = if served { " connect-src 'self';" } else { "" };
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}';{connect} \
         base-uri 'none'; form-action 'none'",
        STANDARD.encode(Sha256::digest(style)),
        STANDARD.encode(Sha256::digest(script)),
    )
}

/// Where and when the machine was looked at.
fn seen(machine: &Machine) -> String {
    let host = &machine.host;
    let mut words: Vec<String> = Vec::new();
    if !host.name.is_empty() {
        words.push(shown(&host.name));
    }
    if !host.kernel.is_empty() {
        words.push(format!("Linux {}", shown(&host.kernel)));
    }
    if host.taken > 0 {
        words.push(format!("seen {}", crate::words::time(host.taken)));
    }
    format!("<p class=\"seen\" id=\"seen\">{}</p>\n", markup(&words.join(", ")))
}

/// The picture that was asked for, all of the machine, its nodes, and the pods that are in none of
/// these.
fn views(pictures: &Pictures<'_>, view: &View<'_>) -> Vec<Drawn> {
    let machine = view.machine;
    let draw = |focus: &Focus| {
        let mut scene = pictures.scene(focus, view.width.unwrap_or(WIDTH));
        view.explanations.iter().for_each(|it| scene.mark(&it.findings));
        drawn(focus, scene)
    };
    let mut wanted = vec![view.focus.clone()];
    let mut add = |focus: Focus| {
        if !wanted.contains(&focus) {
            wanted.push(focus);
        }
    };
    add(Focus::Machine);
    if machine.nodes.len() > 1 {
        machine.nodes.iter().take(MOST_VIEWS / 2).for_each(|it| add(Focus::Node(it.name.clone())));
    }
    let mut views: Vec<Drawn> = wanted.iter().map(draw).collect();
    // What is asked for has a place even where there is nothing to see.
    let mut place = 0..;
    views.retain(|view| place.next() == Some(0) || !view.boxes.is_empty());
    let mut known: BTreeSet<String> =
        views.iter().flat_map(|view| view.boxes.iter().map(|it| it.id.clone())).collect();
    for namespace in &machine.namespaces {
        let id = Thing::Namespace(namespace.id).to_string();
        if views.len() < MOST_VIEWS && known.insert(id) {
            views.push(draw(&Focus::Namespace(namespace.id)));
        }
    }
    views
}

fn drawn(focus: &Focus, scene: Scene) -> Drawn {
    let (id, of, title) = match focus {
        Focus::Machine => ("machine".to_owned(), None, scene.title.clone()),
        Focus::Node(name) => {
            let thing = token(&Thing::Node(name.clone()).to_string());
            (thing.clone(), Some(thing), shown(name))
        }
        Focus::Namespace(id) => {
            let thing = Thing::Namespace(*id).to_string();
            let shape = scene.boxes.iter().find(|shape| shape.id == thing);
            let title = shape.map_or_else(|| thing.clone(), |shape| shape.title.clone());
            (thing.clone(), Some(thing), title)
        }
    };
    let name = |thing: &Thing| token(&thing.to_string());
    let boxes = scene.boxes.iter().map(|shape| Node {
        id: shape.id.clone(),
        thing: shape.thing.as_ref().map(name),
        inside: shape.inside,
    });
    let wires = scene.wires.iter().map(|wire| Edge {
        id: wire.id.clone(),
        ends: wire.ends,
        things: wire.things.iter().map(name).collect(),
    });
    Drawn { id, of, title, boxes: boxes.collect(), wires: wires.collect(), scene }
}

fn write_pictures(html: &mut String, views: &[Drawn]) {
    html.push_str("<section id=\"pictures\" aria-label=\"Pictures\">\n<nav id=\"tabs\" aria-label=\"Pictures\">");
    // Pods are found by search; there may be hundreds.
    let is_tab = |view: &&Drawn| {
        view.id == views[0].id || view.of.as_ref().is_none_or(|of| of.starts_with("node-"))
    };
    for view in views.iter().filter(is_tab).take(40) {
        let _ = write!(
            html,
            "<button type=\"button\" data-view=\"{}\" aria-current=\"{}\">{}</button>",
            markup(&view.id),
            view.id == views[0].id,
            markup(&view.title),
        );
    }
    html.push_str("</nav>\n");
    for (place, view) in views.iter().enumerate() {
        let hidden = if place == 0 { "" } else { " hidden" };
        let id = markup(&view.id);
        let picture = svg::element(&view.scene, &format!("{}-", view.id), svg::Use::Page);
        let _ = write!(html, "<div class=\"view\" id=\"view-{id}\"{hidden}>\n{picture}</div>\n");
    }
    html.push_str("</section>\n");
}

fn write_words(html: &mut String, view: &View<'_>) {
    let (class, pressed) = if view.teach { ("", true) } else { ("no-commands", false) };
    let _ = write!(
        html,
        "<section id=\"words\" class=\"{class}\" aria-label=\"Sentences\">\n\
         <div class=\"tools\"><button type=\"button\" id=\"commands\" aria-pressed=\"{pressed}\">\
         Commands</button> <button type=\"button\" id=\"all\" hidden>All sentences</button></div>\n\
         <div id=\"chosen\" role=\"status\"></div>\n\
         <p id=\"nothing\" hidden>There is no sentence about it.</p>\n<div id=\"said\">\n"
    );
    for Explanation { subject, chapters, findings } in view.explanations {
        write_findings(html, subject, findings);
        for chapter in chapters {
            let _ = writeln!(
                html,
                "<article class=\"chapter\"><h2>{}</h2><ul>",
                markup(&chapter.title)
            );
            for sentence in &chapter.sentences {
                let _ = writeln!(
                    html,
                    "<li data-about=\"{}\">{}{}</li>",
                    about(&sentence.about),
                    markup(&sentence.text),
                    command(sentence.command.as_deref()),
                );
            }
            html.push_str("</ul></article>\n");
        }
    }
    html.push_str("</div>\n</section>\n");
}

fn write_findings(html: &mut String, subject: &str, findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    let title = format!("What is unusual about {subject}");
    let _ = writeln!(html, "<article class=\"chapter\"><h2>{}</h2><ul>", markup(&title));
    for finding in findings {
        let (class, word) = match finding.severity {
            Severity::Unusual => ("unusual", "Unusual"),
            Severity::Warning => ("warning", "Warning"),
            Severity::Wrong => ("wrong", "Wrong"),
        };
        let remedy = finding.remedy.as_ref().map(|it| format!(" {}", markup(it)));
        let _ = writeln!(
            html,
            "<li class=\"finding {class}\" data-about=\"{}\"><strong>{word}:</strong> {} {}{}{}</li>",
            about(&finding.about),
            markup(&finding.text),
            markup(&finding.consequence),
            remedy.unwrap_or_default(),
            command(finding.command.as_deref()),
        );
    }
    html.push_str("</ul></article>\n");
}

fn about(things: &[Thing]) -> String {
    let things: Vec<String> = things.iter().map(|thing| token(&thing.to_string())).collect();
    markup(&things.join(" "))
}

fn command(command: Option<&str>) -> String {
    command.map(|it| format!("<code>{}</code>", markup(it))).unwrap_or_default()
}

/// Everything that has a name, with what it says, and the picture that shows it.
fn index(machine: &Machine, views: &[Drawn]) -> Vec<Entry> {
    let mut places: BTreeMap<&str, &str> = BTreeMap::new();
    for view in views.iter().rev() {
        places.extend(view.boxes.iter().map(|it| (it.id.as_str(), view.id.as_str())));
    }
    // What is a part of a wire is found on the wire.
    let mut wires: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for view in views.iter().rev() {
        for wire in view.scene.wires.iter().filter(|wire| !wire.points.is_empty()) {
            for thing in &wire.things {
                wires.insert(thing.to_string(), (wire.id.as_str(), view.id.as_str()));
            }
        }
    }
    let mut entries = Vec::new();
    let folded = [Class::Folded, Class::Remote, Class::Routes];
    let others = views[0].scene.boxes.iter().filter(|shape| folded.contains(&shape.class));
    for shape in others {
        entries.push(Entry {
            name: shape.title.clone(),
            text: shape.lines.join(" "),
            id: shape.id.clone(),
            view: Some(views[0].id.clone()),
        });
    }
    for namespace in &machine.namespaces {
        let id = Thing::Namespace(namespace.id).to_string();
        let space = shown(&namespace.name);
        let addresses = |index: Option<u32>| {
            let all = namespace.dump.addresses.iter();
            let wanted = all.filter(move |it| index.is_none_or(|index| it.index == index)).take(8);
            wanted.map(|it| it.address.addr().to_string()).collect::<Vec<_>>().join(" ")
        };
        let view = places.get(id.as_str()).map(|view| (*view).to_owned());
        entries.push(Entry { name: space.clone(), text: addresses(None), id, view });
        for link in namespace.links().filter(|link| !is_everywhere(link)) {
            let thing = Thing::Link(namespace.id, link.index).to_string();
            let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
            let text =
                format!("{space} {} {} {mac}", shown(&link.kind), addresses(Some(link.index)));
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let here = places.get(thing.as_str()).map(|view| (thing.as_str(), *view));
            let here = here.or_else(|| wires.get(&thing).copied());
            let id = here.map_or(thing.clone(), |(id, _)| id.to_owned());
            let view = here.map(|(_, view)| view.to_owned());
            entries.push(Entry { name: shown(&link.name), text, id, view });
        }
        if entries.len() > MOST_ENTRIES {
            break;
        }
    }
    entries
}
