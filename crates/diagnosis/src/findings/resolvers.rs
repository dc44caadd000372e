//! Resolvers that pods are told, and nobody is there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use topology::End;

use crate::finding::{Code, Finding};
use crate::view::View;
use crate::words;

/// How many routers are followed.
const MOST_HOPS: usize = 8;

pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    // Who was not looked at may have the address.
    if !view.machine.gaps.is_empty() {
        return Vec::new();
    }
    let mut missing: BTreeMap<(End, IpAddr), Vec<usize>> = BTreeMap::new();
    for (at, _) in view.all().filter(|(at, _)| view.is_pod(*at)) {
        for address in view.resolvers(at) {
            if let Some(last) = dead_end(view, at, address) {
                missing.entry((last, address)).or_default().push(at);
            }
        }
    }
    let finding = |((last, address), pods): ((End, IpAddr), Vec<usize>)| {
        let names = words::some(pods.iter().map(|at| view.called(*at)), 4);
        let text = format!(
            "Nobody has {address}, where {names} {} told to ask for names: the way to it ends at {}.",
            if pods.len() == 1 { "was" } else { "were" },
            view.device(last),
        );
        let consequence = "Whatever asks for a name waits and fails; what goes by address works.";
        let about = pods.iter().map(|at| view.space(*at)).chain([view.thing(last)]).collect();
        let finding = Finding::new(Code::ResolverMissing, text, consequence, about);
        let family = if address.is_ipv6() { "-6 " } else { "" };
        finding
            .remedy(
                "give the address back to whoever answers for names, or have pods told another one",
            )
            .shown_by(view.command(pods[0], &format!("ip {family}route get {address}")))
    };
    missing.into_iter().map(finding).collect()
}

/// The device by which packets to an address would leave the last router, where all that is behind it
/// is seen and nobody has the address; `None` if somebody has it, or that cannot be told.
fn dead_end(view: &View<'_>, from: usize, address: IpAddr) -> Option<End> {
    let own = view.own(from).map(|it| it.address.addr());
    let own = own.into_iter().find(|own| own.is_ipv4() == address.is_ipv4())?;
    let mut at = from;
    for _ in 0..MOST_HOPS {
        if view.owns(at, address) {
            return None;
        }
        let hop = view.way(at, Some(own), address)?.hops.first()?;
        let end = End { namespace: at, link: hop.index? };
        match (neighbour(view, end, hop.gateway.unwrap_or(address))?, hop.gateway) {
            (Some(next), _) => at = next,
            (None, None) => return Some(end),
            // That there is no router is another finding.
            (None, Some(_)) => return None,
        }
    }
    None
}

/// Who has an address at the other side of a cable: somebody, or nobody of those that are seen; `None`
/// if there may be others.
fn neighbour(view: &View<'_>, end: End, address: IpAddr) -> Option<Option<usize>> {
    let is_bridge = view.link(end).is_some_and(|link| link.kind == "bridge");
    let bridge = match is_bridge {
        true => Some(end),
        false => view.master(view.peer(end)?).map(|(bridge, _)| bridge),
    };
    let segment = match bridge {
        Some(bridge) => view.segment(bridge),
        None => vec![view.peer(end)],
    };
    let all: Option<Vec<End>> = segment.iter().copied().collect();
    let mut seen = segment.into_iter().flatten().map(|host| host.namespace);
    match seen.find(|host| view.owns(*host, address)) {
        Some(host) => Some(Some(host)),
        None => all.map(|_| None),
    }
}
