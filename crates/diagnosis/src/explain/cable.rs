//! What a device of a pod is, and how it leaves its namespace.

use topology::dump::Link;
use topology::{End, origin};

use super::tunnel;
use crate::explanation::{Chapter, Sentence};
use crate::view::View;
use crate::words;

pub(super) fn chapter(view: &View<'_>, end: End) -> Option<Chapter> {
    let link = view.link(end)?;
    let title = match link.kind.as_str() {
        "veth" => "The cable",
        _ => "What it stands on",
    };
    Some(super::chapter(title, sentences(view, end, link)))
}

/// What kind of device it is, in words.
pub(super) fn sentences(view: &View<'_>, end: End, link: &Link) -> Vec<Sentence> {
    let about = vec![view.thing(end)];
    let name = &link.name;
    let detail = format!("ip -d link show dev {}", net::quote(name));
    let show = view.command(end.namespace, &detail);
    let other = |text: String| vec![Sentence::new(text, about.clone()).shown_by(show.clone())];
    match link.kind.as_str() {
        "veth" => veth(view, end, link),
        tunnel::WIREGUARD => vec![tunnel::wireguard(view, end, link)],
        "macvlan" | "macvtap" => other(format!(
            "{name} is a {} on {}: a second hardware address on the same wire. Nothing bridges it, \
             the wire's other hosts see it as one of their own, and only the machine itself cannot \
             talk to it by that wire.",
            link.kind,
            below(view, end, link)
        )),
        "ipvlan" | "ipvtap" => other(format!(
            "{name} is an {} on {}: addresses of its own behind the same hardware address. The \
             wire's other hosts reach it, and only the machine itself cannot by that wire.",
            link.kind,
            below(view, end, link)
        )),
        "vlan" => other(format!(
            "{name} is a VLAN on {}: what it sends carries a tag there.",
            below(view, end, link)
        )),
        "bridge" => other(format!("{name} is a bridge: a switch inside the kernel.")),
        "tun" => other(format!(
            "{name} is made by a program (tun or tap), which reads what is sent there and writes \
             what is received."
        )),
        "dummy" => other(format!("{name} is a dummy: what is sent there is gone.")),
        "" => other(format!(
            "{name} is no virtual device, as far as the kernel says: hardware, of which there is one, \
             and which no other namespace has while it is here."
        )),
        kind => other(match link.parent {
            Some(_) => format!("{name} is a device of kind {kind} on {}.", below(view, end, link)),
            None => format!("{name} is a device of kind {kind}."),
        }),
    }
}

/// The device that another one stands on, wherever it is.
fn below(view: &View<'_>, end: End, link: &Link) -> String {
    let Some(index) = link.parent else { return "a device that is not named".to_owned() };
    let at = match link.parent_netns {
        None => Some(end.namespace),
        Some(number) => {
            let known = &view.namespace(end.namespace).known;
            known.get(&number).and_then(|id| view.at(*id))
        }
    };
    match at {
        Some(at) => view.device(End { namespace: at, link: index }),
        None => format!("device {index} of a namespace that is not in sight"),
    }
}

fn veth(view: &View<'_>, end: End, link: &Link) -> Vec<Sentence> {
    let name = &link.name;
    let about = vec![view.thing(end)];
    let show = view.command(end.namespace, &format!("ip -d link show dev {}", net::quote(name)));
    let mut text = format!(
        "{name} is one end of a veth pair: a cable with two ends, and what goes in at one comes out \
         at the other."
    );
    let mut sentences = Vec::new();
    let Some(far) = view.peer(end) else {
        text += " Its far end is not in sight";
        text += match link.parent_netns {
            Some(_) => ": it is in a namespace that could not be looked at, or is not looked for.",
            None => ".",
        };
        return vec![Sentence::new(text, about).shown_by(show)];
    };
    let Some(far_link) = view.link(far) else { return sentences };
    text += &format!(" The other end is {}.", view.device(far));
    let maker = origin::of_link(view.namespace(far.namespace), far_link);
    text += &words::made_by(maker, "Its name tells who made it:");
    let both = vec![view.thing(end), view.thing(far)];
    sentences.push(Sentence::new(text, both.clone()).shown_by(show.clone()));
    if far.namespace == end.namespace {
        return sentences;
    }
    let text = format!(
        "`ip link` calls it {name}@if{index}. That misleads: {index} is not an index of this \
         namespace, but that of the far end in *its* namespace, which this one knows by the number \
         {number} (link-netnsid).",
        index = far.link,
        number = link.parent_netns.map_or("?".to_owned(), |number| number.to_string()),
    );
    sentences.push(Sentence::new(text, both).shown_by(show));
    let alike = view.ends(far.namespace).filter(|(other, it)| {
        *other != far
            && it.kind == "veth"
            && it.parent == Some(end.link)
            && it.parent_netns.is_some()
    });
    let alike: Vec<&str> = alike.map(|(_, it)| it.name.as_str()).collect();
    let other_way = match alike.len() {
        0 => format!(
            "Seen from there it is {}@if{}, since {name} has the index {} here.",
            far_link.name, end.link, end.link
        ),
        number => format!(
            "Seen from there it is {}@if{index}, but so {} {} ({}): the device at the other end has \
             the index {index} in each of their namespaces, so that the suffix tells nothing, and \
             only the number of the namespace does.",
            far_link.name,
            if number == 1 { "is" } else { "are" },
            words::count(number, "other cable"),
            words::some(alike, 3),
            index = end.link,
        ),
    };
    let show = format!("ip -d link show dev {}", net::quote(&far_link.name));
    let show = view.command(far.namespace, &show);
    sentences.push(Sentence::new(other_way, vec![view.thing(far), view.thing(end)]).shown_by(show));
    if view.master(far).is_none() {
        sentences.extend(unbridged(view, end, far));
    }
    sentences
}

/// A cable that ends in no bridge: addresses and routes there make it a way.
fn unbridged(view: &View<'_>, end: End, far: End) -> Vec<Sentence> {
    let (name, about) = (view.name(far.namespace, far.link), vec![view.thing(far)]);
    let place = view.called(far.namespace);
    let own: Vec<String> = view.addresses(far).map(|it| it.address.addr().to_string()).collect();
    let mut sentences = Vec::new();
    let addresses = match own.is_empty() {
        true => String::new(),
        false => format!(" It has {} there.", words::addresses(&own)),
    };
    let routes: Vec<String> = view
        .namespace(far.namespace)
        .routes()
        .filter(|route| route.hops.iter().any(|hop| hop.index == Some(far.link)))
        .map(|route| route.destination.to_string())
        .collect();
    let text = match routes.is_empty() {
        true => format!("{name} is in no bridge, and no route of {place} leads there.{addresses}"),
        false => format!(
            "{name} is in no bridge: {place} sends {} there by a route, and answers on the cable as \
             a router.{addresses}",
            words::some(&routes, 4)
        ),
    };
    let show = format!("ip route show dev {}", net::quote(&name));
    sentences.push(Sentence::new(text, about).shown_by(view.command(far.namespace, &show)));
    let mtu = |end: End| view.link(end).map(|link| link.mtu);
    if mtu(end) != mtu(far) {
        let text = format!(
            "The ends take packets of different size: {} and {} bytes.",
            mtu(end).unwrap_or_default(),
            mtu(far).unwrap_or_default()
        );
        sentences.push(Sentence::new(text, vec![view.thing(end)]));
    }
    sentences
}
