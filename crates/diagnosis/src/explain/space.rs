//! A pod, or any other namespace that is no node.

use topology::dump::Link;
use topology::origin::is_everywhere;
use topology::{End, Node, Role};

use super::{bridge, cable, chapter, files, filter, node_name, tunnel, ways};
use crate::explanation::{Chapter, Sentence};
use crate::view::{View, carries};
use crate::{Thing, words};

pub(super) fn chapters(view: &View<'_>, at: usize) -> Vec<Chapter> {
    if view.home(at) == Some(at) {
        return super::node::chapters(view, at);
    }
    let title = if view.is_pod(at) { "The pod" } else { "The namespace" };
    let mut chapters = vec![chapter(title, who(view, at))];
    let devices: Vec<(End, &Link)> =
        view.ends(at).filter(|(_, link)| !is_everywhere(link)).collect();
    for (end, link) in devices.iter().take(MOST_DEVICES) {
        chapters.push(chapter(format!("Its interface {}", link.name), interface(view, *end)));
        chapters.extend(cable::chapter(view, *end));
    }
    let mut bridges: Vec<End> = devices
        .iter()
        .filter_map(|(end, _)| Some(view.master(view.peer(*end)?)?.0))
        .filter(|bridge| bridge.namespace != at)
        .collect();
    bridges.dedup();
    for bridge in &bridges {
        let name = view.name(bridge.namespace, bridge.link);
        chapters.push(chapter(format!("The bridge {name}"), bridge::sentences(view, *bridge)));
    }
    chapters.push(chapter("The way out of it", ways::of_pod(view, at)));
    if let Some(home) = view.home(at) {
        let title = format!("The way on from {}", view.called(home));
        let mut on = ways::on_from(view, home);
        on.extend(tunnel::sentences(view, home));
        chapters.push(chapter(title, on));
        chapters.push(chapter("What rules do to its packets", filter::of_pod(view, at, home)));
    }
    chapters.push(chapter("Who gave the address", files::addresses(view, at)));
    chapters.push(chapter("What asked for it", files::configuration(view, at)));
    chapters
}

/// How many devices of one pod are told at length.
const MOST_DEVICES: usize = 4;

fn who(view: &View<'_>, at: usize) -> Vec<Sentence> {
    let namespace = view.namespace(at);
    let about = vec![view.space(at)];
    let called = match view.is_pod(at) {
        true => view.called(at),
        false => namespace.name.clone(),
    };
    let is_node = |home: &usize| matches!(view.namespace(*home).role, Role::Host | Role::Node);
    let home = view.home(at).filter(is_node);
    let place = home.map(|home| format!(" on {}", view.called(home))).unwrap_or_default();
    let mut sentences = vec![
        Sentence::new(
            format!(
                "{}{place} is a network namespace: devices, addresses, routes and rules of its own, \
                 shared by all processes in it and seen by nobody else.",
                capital(&called)
            ),
            about.clone(),
        )
        .shown_by("lsns -t net"),
    ];
    let inode = namespace.id.inode;
    let mut text = match namespace.path() {
        Some(path) => format!("It is found at {} (inode {inode}).", path.display()),
        None => format!("It is bound to no path that podwire has seen (inode {inode})."),
    };
    match &namespace.processes[..] {
        [] if namespace.path().is_some() => {
            text += " No process was seen in it: being bound there keeps it.";
        }
        [] => text += " No process was seen in it either: a socket or a file descriptor keeps it.",
        processes => {
            let names = processes.iter().map(|it| format!("{} ({})", it.name, it.pid));
            text += &format!(" In it run {}.", words::some(names, 4));
        }
    }
    let pids = match namespace.path() {
        Some(path) => format!("stat -L {}", net::quote(&path.to_string_lossy())),
        None => "lsns -t net".to_owned(),
    };
    sentences.push(Sentence::new(text, about.clone()).shown_by(pids));
    let mut attachments = view.attachments(at);
    if let Some((_, attachment)) = attachments.next() {
        let file = attachment.file.display();
        let mut text =
            format!("A container runtime attached it, as container {}", attachment.container_id);
        if let Some(pod) = &attachment.pod {
            let space = match pod.namespace.is_empty() {
                true => String::new(),
                false => format!(" of the Kubernetes namespace {}", pod.namespace),
            };
            text += &format!(" of pod {}{space}", pod.name);
        }
        text += &format!(", to the network {}; its note of that is {file}.", attachment.network);
        let command = format!("cat {}", net::quote(&file.to_string()));
        sentences.push(Sentence::new(text, about.clone()).shown_by(command));
    } else if !view.is_pod(at) {
        let text = "No container runtime's notes speak of it: somebody made it by hand, or by other means than CNI.";
        sentences.push(Sentence::new(text, about.clone()));
    }
    if view.ends(at).all(|(_, link)| is_everywhere(link)) {
        let text = "It has no device but lo, the loopback: what is in it can talk to itself, and to nobody else.";
        let command = view.command(at, "ip link");
        sentences.push(Sentence::new(text, about).shown_by(command));
    }
    sentences
}

/// A device of a pod by itself: addresses, hardware address, size.
fn interface(view: &View<'_>, end: End) -> Vec<Sentence> {
    let Some(link) = view.link(end) else { return Vec::new() };
    let about = vec![view.thing(end)];
    let name = &link.name;
    let show = view.command(end.namespace, &format!("ip addr show dev {}", net::quote(name)));
    let mut sentences = Vec::new();
    let addresses: Vec<_> = view.addresses(end).collect();
    for address in &addresses {
        let (net, own) = (address.address.trunc(), address.address.addr());
        let whole = if own.is_ipv4() { 32 } else { 128 };
        let text = match address.address.prefix_len() {
            length if length == whole => format!(
                "It has the address {own} alone (/{length}): nobody is a direct neighbour, and every \
                 packet takes a route."
            ),
            length if !view.is_on_link(end, net) => format!(
                "It has the address {own}/{length}, but no route says that {net} is on this side: \
                 nobody is a direct neighbour, and every packet takes a router."
            ),
            length => format!(
                "It has the address {own}; /{length} says that everybody in {net} is a direct \
                 neighbour, reached without a router."
            ),
        };
        sentences.push(Sentence::new(text, about.clone()).shown_by(show.clone()));
    }
    if addresses.is_empty() {
        let text = format!("{name} has no address.");
        sentences.push(Sentence::new(text, about.clone()).shown_by(show.clone()));
    }
    let mac = link
        .mac
        .map_or_else(|| "The".to_owned(), |mac| format!("Its hardware address is {mac}, and the"));
    let state = match (link.up, carries(link)) {
        (true, true) => "It is up.",
        (true, false) => "It is up, but carries nothing: its other side is not up.",
        (false, _) => "It is down.",
    };
    let text = format!("{mac} largest packet that it takes has {} bytes (MTU). {state}", link.mtu);
    sentences.push(Sentence::new(text, about).shown_by(show));
    sentences
}

/// A container of which only files are left.
pub(super) fn without_namespace(node: &Node, id: &str) -> Vec<Chapter> {
    let about = vec![Thing::Node(node.name.clone())];
    let mut sentences = Vec::new();
    for attachment in node.attachments.iter().filter(|it| it.container_id == id) {
        let place = match &attachment.netns {
            Some(path) => format!("at {} there is no namespace by now", path.display()),
            None => "nothing says where its namespace was".to_owned(),
        };
        let file = attachment.file.display().to_string();
        let text = format!(
            "Of container {id} on {} only notes are left: {file} says that {} was attached to the \
             network {}, and {place}.",
            node_name(node),
            attachment.ifname,
            attachment.network
        );
        let command = format!("cat {}", net::quote(&file));
        sentences.push(Sentence::new(text, about.clone()).shown_by(command));
    }
    let addresses = files::held(node, id);
    vec![chapter("The container", sentences), chapter("Who gave the address", addresses)]
}

/// The text as the beginning of a sentence; names stay as they are.
pub(super) fn capital(text: &str) -> String {
    let is_word = ["pod ", "node ", "namespace ", "this ", "the "];
    if !is_word.iter().any(|word| text.starts_with(word)) {
        return text.to_owned();
    }
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
