//! What boxes say.

use std::collections::BTreeSet;

use topology::Namespace;
use topology::dump::{Link, OperState, Route};

use crate::scene::shown;

/// How many routes of a hub are told.
const MOST_ROUTES: usize = 6;

/// What nobody needs to be told.
pub(crate) const USUAL_MTU: u32 = 1500;

/// A device's name, and why it carries nothing if it is down.
pub(crate) fn title(link: &Link) -> String {
    let name = shown(&link.name);
    match (link.up, link.oper_state) {
        (false, _) => format!("{name} (down)"),
        (true, OperState::Down | OperState::LowerLayerDown) => format!("{name} (no carrier)"),
        _ => name,
    }
}

pub(crate) fn carries(link: &Link) -> bool {
    link.up && link.oper_state == OperState::Up
}

pub(crate) fn is_tunnel(link: &Link) -> bool {
    let kinds =
        ["vxlan", "geneve", "gre", "gretap", "ip6gre", "ipip", "ip6tnl", "sit", "wireguard"];
    kinds.contains(&link.kind.as_str())
}

/// What a device is, where that is worth a word.
pub(crate) fn kind(link: &Link) -> Vec<String> {
    match (link.kind.as_str(), link.vxlan) {
        ("" | "veth", _) => Vec::new(),
        (_, Some(vxlan)) => {
            let kind = if vxlan.gpe { "vxlan-gpe" } else { "vxlan" };
            let network = match vxlan.external {
                true => "networks by route".to_owned(),
                false => format!("network {}", vxlan.vni),
            };
            vec![format!("{kind} {network}"), format!("port {}", vxlan.port)]
        }
        (kind, None) => vec![shown(kind)],
    }
}

/// A stranger's sentence: harmless, and of a length that can be read.
pub(crate) fn sentence(text: &str) -> String {
    let words = text.split_whitespace().take(40).map(shown);
    words.collect::<Vec<_>>().join(" ")
}

/// A stranger's name inside an identifier.
pub(crate) fn token(name: &str) -> String {
    let mut token = String::new();
    for byte in name.bytes().take(300) {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.') {
            token.push(byte.into());
        } else {
            token += &format!("_{byte:02x}");
        }
    }
    token
}

/// Seconds since 1970 as RFC 3339 writes them.
pub(crate) fn time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their leap day at the end.
    let days = days.min(2_000_000) + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The ways to everywhere else.
pub(crate) fn default_routes(namespace: &Namespace) -> Vec<String> {
    let gateway = |route: &Route| {
        let hop = route.hops.first()?;
        Some(match hop.gateway {
            Some(gateway) => format!("default via {gateway}"),
            None => {
                format!("default dev {}", shown(&namespace.dump.links.get(&hop.index?)?.name))
            }
        })
    };
    namespace.default_routes().filter_map(gateway).take(4).collect()
}

/// How a namespace sends packets on: routes as `ip route` words them, and what is done to addresses.
pub(crate) fn routing(namespace: &Namespace) -> Vec<String> {
    let count = namespace.routes().count();
    let told = if count > MOST_ROUTES { MOST_ROUTES - 1 } else { count };
    let mut lines: Vec<String> =
        namespace.routes().take(told).map(|route| self::route(namespace, route)).collect();
    if told < count {
        lines.push(format!("and {} more", count - told));
    }
    lines.extend(diagnosis::leaving(&namespace.dump.nft).into_iter().take(MOST_ROUTES));
    lines
}

/// The devices that the routes lead to.
pub(crate) fn routed_devices(namespace: &Namespace) -> BTreeSet<u32> {
    namespace.routes().flat_map(|route| &route.hops).filter_map(|hop| hop.index).collect()
}

fn route(namespace: &Namespace, route: &Route) -> String {
    let mut text = match route.destination.prefix_len() {
        0 => "default".to_owned(),
        _ => route.destination.to_string(),
    };
    for hop in route.hops.iter().take(4) {
        if let Some(gateway) = hop.gateway {
            text += &format!(" via {gateway}");
        }
        let link = hop.index.and_then(|index| namespace.dump.links.get(&index));
        if let Some(link) = link {
            text += &format!(" dev {}", shown(&link.name));
        }
    }
    if let Some(encap) = &route.encap {
        text += &format!(" to {}", encap.to);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_in_the_calendar() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(time(1_798_761_599), "2026-12-31T23:59:59Z");
        time(u64::MAX);
    }
}
