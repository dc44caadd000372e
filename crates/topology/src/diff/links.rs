//! Devices, by name.

use std::collections::BTreeMap;

use kernel::dump::Link;

use super::{Kind, Say, Side, subject};

pub(super) fn compare(before: Side<'_>, after: Side<'_>, say: &mut Say<'_>) {
    let (old, new) = (by_name(before), by_name(after));
    for (name, link) in &old {
        if !new.contains_key(name) {
            say.push(Kind::Gone, "link", format!("{} is gone", described(before, link)));
        }
    }
    for (name, link) in new {
        match old.get(name) {
            None => say.push(Kind::New, "link", format!("{} is new", described(after, link))),
            Some(was) => one((before, was), (after, link), say),
        }
    }
}

fn by_name<'a>(side: Side<'a>) -> BTreeMap<&'a str, &'a Link> {
    side.namespace().links().map(|it| (it.name.as_str(), it)).collect()
}

fn one((before, was): (Side<'_>, &Link), (after, is): (Side<'_>, &Link), say: &mut Say<'_>) {
    let name = &is.name;
    if was.kind != is.kind {
        let kind =
            |link: &Link| if link.kind.is_empty() { "hardware" } else { &link.kind }.to_owned();
        say.changed("link", format!("{name} was a {} and is a {}", kind(was), kind(is)));
        return;
    }
    let what = described(after, is);
    let master = |side: Side<'_>, link: &Link| {
        let index = link.master?;
        let master = side.namespace().dump.links.get(&index);
        Some(master.map_or_else(|| index.to_string(), |it| it.name.clone()))
    };
    match (master(before, was), master(after, is)) {
        (Some(old), None) => say.changed("link", format!("{what} lost its bridge {old}")),
        (None, Some(new)) => say.changed("link", format!("{what} became a port of {new}")),
        (Some(old), Some(new)) if old != new => {
            say.changed("link", format!("{what} was a port of {old} and is one of {new}"));
        }
        _ => {}
    }
    match (was.up, is.up) {
        (true, false) => say.changed("link", format!("{what} was set down")),
        (false, true) => say.changed("link", format!("{what} was set up")),
        (true, true) if was.carrier() && !is.carrier() => {
            say.changed("link", format!("{what} lost its carrier"));
        }
        (true, true) if !was.carrier() && is.carrier() => {
            say.changed("link", format!("{what} has a carrier again"));
        }
        _ => {}
    }
    let far = |side: Side<'_>, link: &Link| {
        let (far, link) = side.far(link)?;
        Some(format!("{} of {}", link.name, far.namespace().name))
    };
    match (far(before, was), far(after, is)) {
        (Some(old), Some(new)) if old != new => {
            say.changed("link", format!("{name} led to {old} and leads to {new}"));
        }
        (Some(old), None) => {
            say.changed("link", format!("{name} led to {old} and leads nowhere that was seen"));
        }
        _ => {}
    }
    let text = |value: &Option<net::Mac>| value.map_or("none".to_owned(), |mac| mac.to_string());
    if was.mac != is.mac {
        let (old, new) = (text(&was.mac), text(&is.mac));
        say.changed("link", format!("{what} has hardware address {new}, it was {old}"));
    }
    if was.mtu != is.mtu {
        say.changed("link", format!("{what} has MTU {}, it was {}", is.mtu, was.mtu));
    }
    if was.promiscuous != is.promiscuous {
        let verb =
            if is.promiscuous { "takes every frame now" } else { "takes every frame no more" };
        say.changed("link", format!("{what} {verb}"));
    }
    if was.alias != is.alias {
        say.changed("link", format!("{what} has another alias"));
    }
    details(was, is, &what, say);
}

/// Attributes by the names that `ip -d` gives them.
fn details(was: &Link, is: &Link, what: &str, say: &mut Say<'_>) {
    let value = |link: &Link| {
        let mut members = serde_json::Map::new();
        let of = |value: serde_json::Result<serde_json::Value>| match value {
            Ok(serde_json::Value::Object(members)) => members,
            _ => serde_json::Map::new(),
        };
        // A port that left its bridge has no attributes of one.
        if was.master.is_some() && is.master.is_some() {
            members.extend(of(serde_json::to_value(link.port)));
        }
        members.extend(of(serde_json::to_value(link.vxlan)));
        let info = of(serde_json::to_value(&link.info)).into_iter();
        members.extend(info.flat_map(|(_, it)| of(Ok(it))));
        // The device below is known by name, where it is compared.
        members.remove("link");
        members
    };
    let (old, new) = (value(was), value(is));
    for (key, value) in &new {
        // It follows from carrier and flags.
        if key != "state" && old.get(key).is_some_and(|was| was != value) {
            let was = &old[key];
            say.changed("link", format!("{what} has {key} {value}, it was {was}"));
        }
    }
}

/// What people know a device by: the pod that is at its other end.
fn described(side: Side<'_>, link: &Link) -> String {
    match side.far(link).filter(|(far, _)| far.at != side.at) {
        Some((far, _)) => format!("the veth {} of {}", link.name, subject(far.namespace())),
        None if link.kind.is_empty() => link.name.clone(),
        None => format!("the {} {}", link.kind, link.name),
    }
}
