//! One device.

use topology::End;

use super::{bridge, cable, chapter, tunnel, ways};
use crate::explanation::{Chapter, Sentence};
use crate::view::{View, carries};
use crate::words;

/// How many routes are told.
const MOST_ROUTES: usize = 8;

pub(super) fn chapters(view: &View<'_>, end: End) -> Vec<Chapter> {
    let Some(link) = view.link(end) else { return Vec::new() };
    let (at, name) = (end.namespace, &link.name);
    let about = vec![view.thing(end)];
    let show = view.command(at, &format!("ip addr show dev {}", net::quote(name)));
    let state = match (link.up, carries(link)) {
        (true, true) => "up",
        (true, false) => "up, but without carrier",
        (false, _) => "down",
    };
    let mut text = format!(
        "{name} is device {} of {}. It is {state}, and takes packets of up to {} bytes (MTU).",
        link.index,
        view.called(at),
        link.mtu
    );
    if let Some(mac) = link.mac {
        text += &format!(" Its hardware address is {mac}.");
    }
    let addresses: Vec<String> = view.addresses(end).map(|it| it.address.to_string()).collect();
    text += &match addresses.is_empty() {
        true => " Nobody gave it an address.".to_owned(),
        false => format!(" It has {}.", words::addresses(addresses)),
    };
    let mut device = vec![Sentence::new(text, about.clone()).shown_by(show)];
    if let Some(alias) = &link.alias {
        let text = format!("Somebody noted on it: {alias}");
        let show = view.command(at, &format!("ip link show dev {}", net::quote(name)));
        device.push(Sentence::new(text, about).shown_by(show));
    }
    let mut chapters = vec![chapter("The device", device)];
    if name == "lo" {
        let text = "lo is the loopback: what is sent there comes back to the same namespace.";
        chapters.push(chapter("What it is", vec![Sentence::new(text, vec![view.thing(end)])]));
    } else if link.kind == "bridge" || !view.ports(end).is_empty() {
        chapters.push(chapter("What it is", bridge::sentences(view, end)));
    } else if link.vxlan.is_some() {
        chapters.push(chapter("What it is", tunnel::sentences(view, at)));
    } else {
        chapters.push(chapter("What it is", cable::sentences(view, end, link)));
    }
    if let Some((bridge, master)) = view.master(end) {
        let title = format!("The bridge {}", master.name);
        chapters.push(chapter(title, bridge::sentences(view, bridge)));
    }
    let routes: Vec<_> = view
        .namespace(at)
        .routes()
        .filter(|route| route.hops.iter().any(|hop| hop.index == Some(end.link)))
        .collect();
    let mut sentences: Vec<Sentence> =
        routes.iter().take(MOST_ROUTES).map(|route| ways::sentence(view, at, route)).collect();
    if routes.len() > MOST_ROUTES {
        let more = words::count(routes.len() - MOST_ROUTES, "route");
        let show = view.command(at, &format!("ip route show dev {}", net::quote(name)));
        let text = format!("There are {more} more by it.");
        sentences.push(Sentence::new(text, vec![view.thing(end)]).shown_by(show));
    }
    chapters.push(chapter("What is sent by it", sentences));
    chapters
}
