//! Addresses, routes, policy rules, entries that somebody wrote, settings and listening sockets: each
//! by what it says.

use std::collections::BTreeSet;

use kernel::dump::{Hop, Route, RouteKind, Rule};

use super::Say;
use crate::Namespace;

pub(super) fn compare(was: &Namespace, is: &Namespace, say: &mut Say<'_>) {
    let both = |about: &str, say: &mut Say<'_>, texts: fn(&Namespace) -> BTreeSet<String>| {
        say.sets(about, &texts(was), &texts(is));
    };
    both("address", say, addresses);
    both("route", say, routes);
    both("policy rule", say, |it| it.dump.rules.iter().map(rule).collect());
    both("neighbour", say, |it| neighbours(it, false));
    both("forwarding entry", say, |it| neighbours(it, true));
    both("listening socket", say, |it| {
        let text = |it: &crate::Listener| {
            format!("{} {}", it.protocol, std::net::SocketAddr::new(it.address, it.port))
        };
        it.listeners.iter().map(text).collect()
    });
    both("iptables-legacy table", say, |it| it.legacy_tables.iter().cloned().collect());
    for (key, value) in &is.settings {
        match was.settings.get(key) {
            Some(old) if old != value => {
                say.changed("setting", format!("setting {key} is {value}, it was {old}"));
            }
            _ => {}
        }
    }
}

fn name(namespace: &Namespace, index: Option<u32>) -> String {
    let Some(index) = index else { return String::new() };
    let link = namespace.dump.links.get(&index);
    format!(" dev {}", link.map_or_else(|| index.to_string(), |link| link.name.clone()))
}

fn addresses(namespace: &Namespace) -> BTreeSet<String> {
    let given = namespace.dump.addresses.iter().filter(|it| it.scope != net::Scope::Link);
    let text =
        |it: &kernel::dump::Address| format!("{}{}", it.address, name(namespace, Some(it.index)));
    given.map(text).collect()
}

/// The routes of all tables, but for those that the kernel makes of addresses.
fn routes(namespace: &Namespace) -> BTreeSet<String> {
    let written = namespace.dump.routes.iter().filter(|it| it.protocol != net::PROTOCOL_KERNEL);
    written.map(|it| route(namespace, it)).collect()
}

fn route(namespace: &Namespace, route: &Route) -> String {
    let mut text = match route.kind {
        RouteKind::Unicast => String::new(),
        RouteKind::Other(number) => format!("type {number} "),
        kind => format!("{kind:?} ").to_lowercase(),
    };
    text += &match route.destination.prefix_len() {
        0 if route.destination.addr().is_ipv6() => "default (IPv6)".to_owned(),
        0 => "default".to_owned(),
        _ => route.destination.to_string(),
    };
    let mut hops: Vec<String> = route.hops.iter().map(|hop| self::hop(namespace, hop)).collect();
    hops.sort();
    text += &hops.concat();
    if let Some(encap) = &route.encap {
        text += &format!(" encap to {}", encap.to);
    }
    if let Some(source) = route.source {
        text += &format!(" src {source}");
    }
    if route.table != net::MAIN_TABLE {
        text += &format!(" table {}", route.table);
    }
    if let Some(metric) = route.metric {
        text += &format!(" metric {metric}");
    }
    if let Some(mtu) = route.mtu {
        text += &format!(" mtu {mtu}");
    }
    text
}

fn hop(namespace: &Namespace, hop: &Hop) -> String {
    let via = hop.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    let weight = if hop.weight > 1 { format!(" weight {}", hop.weight) } else { String::new() };
    via + &name(namespace, hop.index) + &weight
}

fn rule(rule: &Rule) -> String {
    let mut text = format!("{} ({})", rule.priority, if rule.v6 { "IPv6" } else { "IPv4" });
    if rule.not {
        text += " not";
    }
    for (word, net) in [("from", rule.from), ("to", rule.to)] {
        if let Some(net) = net {
            text += &format!(" {word} {net}");
        }
    }
    if let Some((mark, mask)) = rule.fwmark {
        text += &format!(" fwmark {mark:#x}/{mask:#x}");
    }
    for (word, device) in [("iif", &rule.iif), ("oif", &rule.oif)] {
        if let Some(device) = device {
            text += &format!(" {word} {device}");
        }
    }
    if rule.more {
        text += " and more";
    }
    match (&rule.action, rule.goto) {
        (Some(action), Some(to)) => text += &format!(" {action} {to}"),
        (Some(action), None) => text += &format!(" {action}"),
        (None, _) => text += &format!(" lookup {}", rule.table),
    }
    text
}

/// Those that somebody wrote; the others come and go by themselves.
fn neighbours(namespace: &Namespace, bridge: bool) -> BTreeSet<String> {
    use kernel::dump::NeighbourState::{Noarp, Permanent};
    let written = namespace.dump.neighbours.iter().filter(|it| {
        // A bridge has one for itself of each port, without anybody's doing.
        let is_own = bridge && it.address.is_none() && it.state == Permanent;
        it.bridge == bridge
            && !is_own
            && matches!(it.state, Permanent | Noarp if bridge || it.permanent)
    });
    let text = |it: &kernel::dump::Neighbour| {
        let mac = it.mac.map(|mac| mac.to_string()).unwrap_or_default();
        let address = it.address.map(|address| address.to_string()).unwrap_or_default();
        let device = name(namespace, Some(it.index));
        match (bridge, address.is_empty()) {
            (true, true) => format!("{mac}{device}"),
            (true, false) => format!("{mac} dst {address}{device}"),
            (false, _) => format!("{address} lladdr {mac}{device}"),
        }
    };
    written.map(text).collect()
}
