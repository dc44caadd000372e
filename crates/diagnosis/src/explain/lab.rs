//! A lab: its nodes, what joins them, and who else is there.

use topology::Role;

use super::{bridge, chapter, tunnel, ways};
use crate::explanation::{Chapter, Sentence};
use crate::view::View;
use crate::words;

pub(super) fn chapters(view: &View<'_>, lab: &str) -> Vec<Chapter> {
    let inside: Vec<usize> =
        view.all().filter(|(_, it)| it.lab.as_deref() == Some(lab)).map(|(at, _)| at).collect();
    let of = |role: Role| {
        inside.iter().copied().filter(|at| view.namespace(*at).role == role).collect::<Vec<_>>()
    };
    let (nodes, pods, underlays) = (of(Role::Node), of(Role::Pod), of(Role::Underlay));
    let kinds = match nodes.is_empty() && pods.is_empty() {
        true => String::new(),
        false => format!(
            ", {} and {} among them",
            words::count(nodes.len(), "node"),
            words::count(pods.len(), "pod")
        ),
    };
    let text = format!(
        "The lab {lab} is {}{kinds}. Nothing of it is outside of them: with them, all of it goes.",
        words::count(inside.len(), "network namespace"),
    );
    let about: Vec<_> = inside.iter().map(|at| view.space(*at)).collect();
    let show = format!("podwire lab status {lab}");
    let mut sentences = vec![Sentence::new(text, about).shown_by(show)];
    for node in &nodes {
        let guests = view.guests(*node).into_iter().filter(|at| view.is_pod(*at));
        let guests: Vec<String> = guests.map(|at| view.called(at)).collect();
        let text = match guests.is_empty() {
            true => format!("On {} there is no pod.", view.called(*node)),
            false => format!("On {} there is {}.", view.called(*node), words::some(guests, 6)),
        };
        sentences.push(Sentence::new(text, vec![view.space(*node)]));
    }
    for at in &underlays {
        let text = format!("{} is the network between the nodes.", view.called(*at));
        sentences.push(Sentence::new(text, vec![view.space(*at)]));
    }
    for at in of(Role::Outside) {
        let text = format!("{} is a host beyond the cluster: it knows no pods.", view.called(at));
        sentences.push(Sentence::new(text, vec![view.space(at)]));
    }
    let others = inside.iter().filter(|at| view.namespace(**at).role == Role::Other);
    for at in others {
        let cables: Vec<String> = view
            .ends(*at)
            .filter_map(|(end, link)| {
                let far = view.peer(end).filter(|far| far.namespace != *at)?;
                Some(format!("by {} with {}", link.name, view.device(far)))
            })
            .collect();
        let text = match cables.is_empty() {
            true => format!("{} is joined to nobody.", view.called(*at)),
            false => format!("{} is joined {}.", view.called(*at), words::some(cables, 4)),
        };
        sentences.push(Sentence::new(text, vec![view.space(*at)]));
    }
    let mut chapters = vec![chapter("The lab", sentences)];
    let bridges = [&underlays[..], &inside[..]].concat();
    let mut told = Vec::new();
    for at in bridges {
        let is_joint = matches!(view.namespace(at).role, Role::Underlay | Role::Other);
        for (end, link) in view.ends(at).filter(|(_, link)| is_joint && link.kind == "bridge") {
            if !told.contains(&end) {
                told.push(end);
                let title = format!("The bridge {}", link.name);
                chapters.push(chapter(title, bridge::sentences(view, end)));
            }
        }
    }
    if let [first, others @ ..] = &nodes[..] {
        let mut on = ways::on_from(view, *first);
        on.extend(tunnel::sentences(view, *first));
        if !others.is_empty() {
            let text = "Of the other nodes, `podwire explain node/NAME` tells the same.";
            on.push(Sentence::new(text, []));
        }
        let title = format!("How {} is joined to the others", view.called(*first));
        chapters.push(chapter(title, on));
    }
    chapters
}
