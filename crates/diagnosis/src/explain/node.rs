//! A node, and the machine that podwire runs on.

use topology::dump::Link;
use topology::{End, Node, Role};

use super::{bridge, chapter, files, filter, node_name, tunnel, ways};
use crate::Thing;
use crate::explanation::{Chapter, Sentence};
use crate::view::{self, View};
use crate::words;

/// How many of a kind are named.
const MOST_NAMED: usize = 8;

pub(super) fn machine(view: &View<'_>) -> Vec<Chapter> {
    let host = &view.machine.host;
    let name = if host.name.is_empty() { "This machine" } else { &host.name };
    let spaces = view.machine.namespaces.len();
    let mut text = format!("{name} has {}", words::count(spaces, "network namespace"));
    if !host.kernel.is_empty() {
        text += &format!(", and runs Linux {}", host.kernel);
    }
    let mut sentences = vec![Sentence::new(text + ".", []).shown_by("lsns -t net")];
    let nodes: Vec<&Node> = view.machine.nodes.iter().filter(|node| node.lab.is_some()).collect();
    for lab in view::labs(view.machine) {
        let inside = view.all().filter(|(_, it)| it.lab.as_deref() == Some(lab)).count();
        let nodes = nodes.iter().filter(|node| node.lab.as_deref() == Some(lab)).count();
        let text = format!(
            "{inside} of them are the lab {lab}, which has {}.",
            words::count(nodes, "node")
        );
        sentences.push(Sentence::new(text, []).shown_by(format!("podwire explain lab/{lab}")));
    }
    let strangers = strangers(view, None);
    sentences.extend(strangers);
    let mut chapters = vec![chapter("The machine", sentences)];
    let home = view.all().find(|(_, namespace)| namespace.role == Role::Host);
    if let Some((home, _)) = home {
        chapters.extend(self::chapters(view, home));
    }
    chapters
}

/// Namespaces that nobody's notes speak of.
fn strangers(view: &View<'_>, home: Option<usize>) -> Option<Sentence> {
    let is_stranger = |(at, namespace): &(usize, &topology::Namespace)| {
        namespace.role == Role::Other
            && namespace.lab.is_none()
            && !view.is_pod(*at)
            && home.is_none_or(|home| view.home(*at) == Some(home))
    };
    let strangers: Vec<String> = view
        .all()
        .filter(is_stranger)
        .map(|(at, it)| match it.processes.first() {
            Some(process) => format!("{} ({} {})", it.name, process.name, process.pid),
            None if view.home(at).is_some() => format!("{} (no process)", it.name),
            None => format!("{} (no process, no cable to any other)", it.name),
        })
        .collect();
    let text = format!(
        "{} {} known to no lab and to no CNI runtime: {}.",
        words::count(strangers.len(), "network namespace"),
        if strangers.len() == 1 { "is" } else { "are" },
        words::some(&strangers, MOST_NAMED)
    );
    (!strangers.is_empty()).then(|| Sentence::new(text, []).shown_by("lsns -t net"))
}

pub(super) fn chapters(view: &View<'_>, home: usize) -> Vec<Chapter> {
    let mut chapters = vec![chapter("The node", who(view, home))];
    for (end, link) in view.ends(home).filter(|(_, link)| link.kind == "bridge").take(MOST_NAMED) {
        chapters.push(chapter(format!("The bridge {}", link.name), bridge::sentences(view, end)));
    }
    let mut on = ways::on_from(view, home);
    on.extend(tunnel::sentences(view, home));
    chapters.push(chapter("The way on", on));
    chapters.push(chapter("What its rules do", filter::of_node(view, home)));
    if let Some(node) = view.node(home) {
        chapters.extend(of_files(node));
    }
    chapters
}

fn of_files(node: &Node) -> [Chapter; 2] {
    let reservations = node.reservations.iter().flat_map(|it| files::network(node, it));
    let configurations = node.configurations.iter().flat_map(|it| files::said(node, it));
    [
        chapter("Which addresses are given", reservations.collect()),
        chapter("What asked for it", configurations.collect()),
    ]
}

/// A node of which only files are there.
pub(super) fn without_namespace(node: &Node) -> Vec<Chapter> {
    let text = format!("The namespace of {} is not there, or could not be read.", node_name(node));
    let sentence = Sentence::new(text, vec![Thing::Node(node.name.clone())]);
    let mut chapters = vec![chapter("The node", vec![sentence])];
    chapters.extend(of_files(node));
    chapters
}

fn who(view: &View<'_>, home: usize) -> Vec<Sentence> {
    let about = vec![view.space(home)];
    let called = super::space::capital(&view.called(home));
    let guests = view.guests(home);
    let (pods, others): (Vec<usize>, Vec<usize>) =
        guests.into_iter().partition(|at| view.is_pod(*at));
    let names =
        |spaces: &[usize]| words::some(spaces.iter().map(|at| view.called(*at)), MOST_NAMED);
    let text = match pods.len() {
        0 => format!("{called} has no pods."),
        number => format!("{called} has {}: {}.", words::count(number, "pod"), names(&pods)),
    };
    let mut sentences = vec![Sentence::new(text, about.clone()).shown_by("lsns -t net")];
    let joined: Vec<usize> =
        others.into_iter().filter(|at| matches!(view.namespace(*at).role, Role::Other)).collect();
    if !joined.is_empty() {
        let text = format!("By cables it is joined to {}.", names(&joined));
        let show = view.command(home, "ip -d link show type veth");
        sentences.push(Sentence::new(text, about).shown_by(show));
    }
    let is_own = |(end, link): &(End, &Link)| {
        link.name != "lo" && link.kind != "bridge" && view.addresses(*end).next().is_some()
    };
    for (end, link) in view.ends(home).filter(is_own).take(MOST_NAMED) {
        let addresses = words::addresses(view.addresses(end).map(|it| it.address));
        let leads = match view.peer(end) {
            Some(far) => match view.master(far) {
                Some((bridge, _)) => format!(
                    ": a cable to {}, a port of {}",
                    view.device(far),
                    view.name(bridge.namespace, bridge.link)
                ),
                None => format!(": a cable to {}", view.device(far)),
            },
            None => String::new(),
        };
        let text = format!(
            "Its device {} has {addresses} and takes packets of up to {} bytes{leads}.",
            link.name, link.mtu
        );
        let show = view.command(home, &format!("ip addr show dev {}", net::quote(&link.name)));
        sentences.push(Sentence::new(text, vec![view.thing(end)]).shown_by(show));
    }
    sentences
}
