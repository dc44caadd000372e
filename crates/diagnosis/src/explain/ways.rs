//! Routes in words.

use std::net::IpAddr;

use topology::dump::{Route, RouteKind};
use topology::{End, Origin, origin};

use crate::explanation::Sentence;
use crate::view::View;
use crate::words;

/// How many routes are told one by one.
const MOST_ROUTES: usize = 8;

/// The ways out of a pod.
pub(super) fn of_pod(view: &View<'_>, at: usize) -> Vec<Sentence> {
    let mut routes: Vec<&Route> = view.namespace(at).routes().collect();
    routes.sort_by_key(|route| route.destination.prefix_len() == 0);
    let mut sentences: Vec<Sentence> =
        routes.iter().take(MOST_ROUTES).map(|route| sentence(view, at, route)).collect();
    if routes.len() > MOST_ROUTES {
        let text = format!("There are {} more.", words::count(routes.len() - MOST_ROUTES, "route"));
        let show = view.command(at, "ip route");
        sentences.push(Sentence::new(text, vec![view.space(at)]).shown_by(show));
    }
    if routes.is_empty() && view.own(at).any(|it| !it.address.addr().is_loopback()) {
        let text = "It has no route: it reaches nobody.";
        let show = view.command(at, "ip route");
        sentences.push(Sentence::new(text, vec![view.space(at)]).shown_by(show));
    }
    sentences
}

/// One route.
pub(super) fn sentence(view: &View<'_>, at: usize, route: &Route) -> Sentence {
    let is_default = route.destination.prefix_len() == 0;
    let v6 = route.destination.addr().is_ipv6();
    let what = match (is_default, v6) {
        (true, false) => "All other packets".to_owned(),
        (true, true) => "All other IPv6 packets".to_owned(),
        (false, _) => format!("What goes to {}", route.destination),
    };
    let verb = if is_default { ("are", "go") } else { ("is", "goes") };
    let mut text = match route.kind {
        RouteKind::Blackhole => format!("{what} {} dropped without a word", verb.0),
        RouteKind::Unreachable => format!("{what} {} answered with \"unreachable\"", verb.0),
        _ => format!("{what} {}", way(view, at, route, verb)),
    };
    if let Some(source) = route.source.filter(|_| route.protocol != net::PROTOCOL_KERNEL) {
        text += &format!("; what {} itself sends there has the source {source}", view.called(at));
    }
    text += if is_default { ": the default route." } else { "." };
    text += &match origin::of_route(view.namespace(at), route) {
        Origin::Kernel => " Written by the kernel, together with the address.".to_owned(),
        maker => words::made_by(maker, "Written by"),
    };
    let show = view.command(at, if v6 { "ip -6 route" } else { "ip route" });
    let hop = route.hops.iter().find_map(|hop| hop.index);
    let about =
        hop.map_or_else(|| view.space(at), |index| view.thing(End { namespace: at, link: index }));
    Sentence::new(text, vec![about]).shown_by(show)
}

fn way(view: &View<'_>, at: usize, route: &Route, (be, go): (&str, &str)) -> String {
    if let Some(encap) = route.encap {
        let device = route.hops.iter().find_map(|hop| hop.index);
        let device = device.map(|index| view.name(at, index)).unwrap_or_default();
        return format!(
            "{go} through the tunnel {device} to {}{} (virtual network {})",
            encap.to,
            whose(view, at, encap.to),
            encap.vni
        );
    }
    let hops = route.hops.iter().map(|hop| {
        let device = hop.index.map(|index| format!(" by {}", view.name(at, index)));
        let device = device.unwrap_or_default();
        match hop.gateway {
            Some(gateway) => format!("{gateway}{}{device}", whose(view, at, gateway)),
            None => device,
        }
    });
    let hops: Vec<String> = hops.collect();
    match &route.hops[..] {
        [] => format!("{go} nowhere that is named"),
        [hop] if hop.gateway.is_none() => format!("{go} straight to its receiver,{}", hops[0]),
        [_] => format!("{be} handed to {}", hops[0]),
        _ => format!("{be} shared out to {}", words::some(hops, 4)),
    }
}

/// Who has an address, looking from a namespace: in brackets with a space before, or nothing.
pub(super) fn whose(view: &View<'_>, at: usize, address: IpAddr) -> String {
    match owner(view, at, address) {
        Some(end) => format!(" ({})", view.device(end)),
        None => String::new(),
    }
}

/// The device that has an address: of the namespaces around, of the same lab, or of the machine.
pub(crate) fn owner(view: &View<'_>, at: usize, address: IpAddr) -> Option<End> {
    let lab = &view.namespace(at).lab;
    let find = |place: usize| {
        let dump = &view.namespace(place).dump;
        let found = dump.addresses.iter().find(|it| it.address.addr() == address)?;
        Some(End { namespace: place, link: found.index })
    };
    let home = view.home(at).filter(|home| *home != at);
    let near = home.and_then(find);
    let cables =
        || view.ends(at).filter_map(|(end, _)| view.peer(end)).find_map(|far| find(far.namespace));
    let of_lab = || {
        let lab = lab.as_ref()?;
        let mut others =
            view.all().filter(|(place, it)| *place != at && it.lab.as_ref() == Some(lab));
        others.find_map(|(place, _)| find(place))
    };
    near.or_else(cables).or_else(of_lab)
}

/// How a node sends on what its pods send.
pub(super) fn on_from(view: &View<'_>, home: usize) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let v6 = view.own(home).any(|it| it.address.addr().is_ipv6());
    let v4 =
        view.own(home).any(|it| it.address.addr().is_ipv4() && !it.address.addr().is_loopback());
    let settings = [(v4, "net.ipv4.ip_forward", ""), (v6, "net.ipv6.conf.all.forwarding", "IPv6 ")];
    for (matters, name, family) in settings {
        let Some(value) = view.setting(home, name).filter(|_| matters) else { continue };
        let text = match value.trim() {
            "0" => format!("It does not pass {family}packets on between its devices: {name} is 0."),
            value => format!(
                "It passes {family}packets on from one device to another, as a router: {name} is {value}."
            ),
        };
        let show = view.command(home, &format!("sysctl {name}"));
        sentences.push(Sentence::new(text, vec![view.space(home)]).shown_by(show));
    }
    // Those to pods' own devices are told where the cables are.
    let mut routes: Vec<&Route> = view
        .namespace(home)
        .routes()
        .filter(|route| {
            let is_connected =
                route.hops.iter().all(|hop| hop.gateway.is_none()) && route.encap.is_none();
            !is_connected || route.destination.prefix_len() == 0
        })
        .collect();
    routes.sort_by_key(|route| route.destination.prefix_len() == 0);
    sentences.extend(routes.iter().take(MOST_ROUTES).map(|route| sentence(view, home, route)));
    if routes.is_empty() {
        let text = "It has no route beyond its own segments: what is for anybody else ends there.";
        let show = view.command(home, "ip route");
        sentences.push(Sentence::new(text, vec![view.space(home)]).shown_by(show));
    }
    if routes.len() > MOST_ROUTES {
        let text = format!("There are {} more.", words::count(routes.len() - MOST_ROUTES, "route"));
        let show = view.command(home, "ip route");
        sentences.push(Sentence::new(text, vec![view.space(home)]).shown_by(show));
    }
    sentences.extend(tables(view, home));
    sentences
}

/// What rules say of other tables than the usual ones, and of packets with a mark.
fn tables(view: &View<'_>, at: usize) -> Vec<Sentence> {
    let dump = &view.namespace(at).dump;
    let rules = dump
        .rules
        .iter()
        .filter(|rule| !(253..=255).contains(&rule.table) || rule.fwmark.is_some());
    let sentence = |rule: &topology::dump::Rule| {
        let marked = rule.fwmark.map(|(mark, mask)| match mask {
            u32::MAX => format!("carries mark {mark:#x}"),
            mask => format!("carries mark {mark:#x}/{mask:#x}"),
        });
        let asked: Vec<String> = [
            rule.from.map(|from| format!("comes from {from}")),
            rule.iif.as_ref().map(|by| format!("arrives by {by}")),
            rule.oif.as_ref().map(|by| format!("a socket on {by} sends")),
            rule.to.map(|to| format!("goes to {to}")),
            marked,
            rule.more.then(|| "also fits what podwire does not read".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect();
        let who = match (asked.len(), rule.not) {
            (0, false) => "Every packet".to_owned(),
            (0, true) => "No packet".to_owned(),
            (_, false) => format!("What {}", asked.join(" and ")),
            (_, true) => format!("All but what {}", asked.join(" and ")),
        };
        let routes: Vec<String> = dump
            .routes
            .iter()
            .filter(|route| {
                route.table == rule.table && route.destination.addr().is_ipv6() == rule.v6
            })
            .map(|route| route.destination.to_string())
            .collect();
        let there = match routes.len() {
            0 => "which is empty".to_owned(),
            _ => format!("which has ways to {}", words::some(&routes, 4)),
        };
        let number = rule.priority;
        let text = match (&rule.action, rule.table) {
            (Some(action), _) => format!("{who} is in no table: rule {number} is `{action}`."),
            (None, net::MAIN_TABLE) => {
                format!("{who} is looked up in the main table at once (rule {number}).")
            }
            (None, table) => {
                format!("{who} is looked up in table {table} first, {there} (rule {number}).")
            }
        };
        let family = if rule.v6 { "ip -6 rule" } else { "ip rule" };
        Sentence::new(text, vec![view.space(at)]).shown_by(view.command(at, family))
    };
    rules.take(MOST_ROUTES).map(sentence).collect()
}
