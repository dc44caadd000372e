//! Devices that carry nothing, and cables that lead nowhere.

use topology::dump::{Link, OperState};
use topology::{End, Role};

use crate::explain::WIREGUARD;
use crate::finding::{Code, Finding};
use crate::view::View;

pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    let all = view.all().flat_map(|(at, _)| view.ends(at));
    let of_device = |(end, link): (End, &Link)| {
        let of_cable = || down(view, end, link).or_else(|| loose(view, end, link));
        loopback(view, end, link)
            .or_else(|| silent(view, end, link))
            .or_else(of_cable)
            .or_else(|| encrypted(view, end, link))
    };
    all.filter_map(of_device).collect()
}

/// A tunnel of which only its own interface tells to whom it leads.
fn encrypted(view: &View<'_>, end: End, link: &Link) -> Option<Finding> {
    if link.kind != WIREGUARD || !link.up {
        return None;
    }
    let device = view.device(end);
    let text = format!("{device} is a WireGuard device, and podwire does not read its peers.");
    let consequence = "Whether what is sent there reaches anybody cannot be told.";
    let about = vec![view.thing(end), view.space(end.namespace)];
    let show = view.command(end.namespace, &format!("wg show {}", net::quote(&link.name)));
    Some(Finding::new(Code::Unreadable, text, consequence, about).shown_by(show))
}

/// A pod's loopback device, which every runtime switches on.
fn loopback(view: &View<'_>, end: End, link: &Link) -> Option<Finding> {
    let at = end.namespace;
    if link.name != "lo" || link.up || !view.is_pod(at) {
        return None;
    }
    let text = format!("{} is down.", view.device(end));
    let consequence = "What runs in the pod does not reach itself by localhost.";
    let finding = Finding::new(Code::LoopbackDown, text, consequence, vec![view.thing(end)]);
    let remedy = view.command(at, "ip link set lo up");
    Some(finding.remedy(remedy).shown_by(view.command(at, "ip link show dev lo")))
}

/// A pod that answers no question for its hardware address (`arp_ignore` is 8).
fn silent(view: &View<'_>, end: End, link: &Link) -> Option<Finding> {
    let at = end.namespace;
    if link.name == "lo" || !view.is_pod(at) || !link.up {
        return None;
    }
    let has_v4 = view.addresses(end).any(|it| it.address.addr().is_ipv4());
    let ignores = |name: &str| {
        let text = view.of_device(at, "ipv4", name, "arp_ignore")?;
        text.trim().parse::<u32>().ok()
    };
    // The kernel takes the larger of the two.
    let who = ["all", &link.name].into_iter().find(|name| ignores(name) == Some(SILENT))?;
    if !has_v4 {
        return None;
    }
    let text = format!("{} answers no ARP: arp_ignore is {SILENT} for {who}.", view.device(end));
    let consequence =
        "Nobody on its segment learns its hardware address, so that nobody reaches it.";
    let finding = Finding::new(Code::ArpSilent, text, consequence, vec![view.thing(end)]);
    let key = format!("net.ipv4.conf.{}.arp_ignore", who.replace('.', "/"));
    let remedy = view.command(at, &format!("sysctl -w {key}=0"));
    Some(finding.remedy(remedy).shown_by(view.command(at, &format!("sysctl {key}"))))
}

/// The value of `arp_ignore` by which no question is answered.
const SILENT: u32 = 8;

/// Whether a device is one that packets of others depend on.
fn matters(view: &View<'_>, end: End, link: &Link) -> bool {
    let has_ports = !view.ports(end).is_empty();
    let leads_away = view.peer(end).is_some_and(|far| far.namespace != end.namespace);
    has_ports || leads_away || link.vxlan.is_some() || view.addresses(end).next().is_some()
}

fn down(view: &View<'_>, end: End, link: &Link) -> Option<Finding> {
    if link.name == "lo" || !matters(view, end, link) {
        return None;
    }
    let show = |end: End, name: &str| {
        view.command(end.namespace, &format!("ip link show dev {}", net::quote(name)))
    };
    let mut about = vec![view.thing(end)];
    if !link.up {
        about.extend(view.peer(end).map(|far| view.thing(far)));
        let text = format!("{} is down.", view.device(end));
        let consequence = match (link.kind.as_str(), view.ports(end).len()) {
            ("veth", _) => "The cable carries nothing in either direction.",
            (_, 0) => "It neither sends nor receives, and the routes by it are gone.",
            _ => "It passes nothing on between its ports, and the node cannot be reached by it.",
        };
        let up = format!("ip link set {} up", net::quote(&link.name));
        let finding = Finding::new(Code::LinkDown, text, consequence, about);
        let remedy = view.command(end.namespace, &up);
        return Some(finding.remedy(remedy).shown_by(show(end, &link.name)));
    }
    let is_dead =
        matches!(link.oper_state, OperState::Down | OperState::LowerLayerDown | OperState::Dormant);
    // A far end that is down is told there; a bridge without ports has nobody to carry to.
    let is_told = view.peer(end).and_then(|far| view.link(far)).is_some_and(|far| !far.up);
    let is_idle = link.kind == "bridge";
    if !is_dead || is_told || is_idle {
        return None;
    }
    let text = format!("{} is up, but has no carrier.", view.device(end));
    let consequence = "Nothing goes out or comes in: what it is plugged into is off or gone.";
    let finding = Finding::new(Code::NoCarrier, text, consequence, about);
    Some(finding.shown_by(show(end, &link.name)))
}

fn loose(view: &View<'_>, end: End, link: &Link) -> Option<Finding> {
    if link.kind != "veth" {
        return None;
    }
    let at = end.namespace;
    let show = view.command(at, &format!("ip -d link show dev {}", net::quote(&link.name)));
    let Some(far) = view.peer(end) else {
        // What leads out of the machine's own namespace is often whoever runs the machine.
        let is_of_network = link.master.is_some() || view.is_pod(at);
        if !is_of_network || !view.machine.gaps.is_empty() || view.machine.namespaces.len() < 2 {
            return None;
        }
        let text = format!("The far end of the cable {} is not in sight.", view.device(end));
        let consequence = "Whether anybody is at the other end, and who, cannot be told.";
        let finding = Finding::new(Code::PeerUnseen, text, consequence, vec![view.thing(end)]);
        return Some(finding.shown_by(show));
    };
    // The near end is that without address, master and routes; the far one is somebody's interface.
    let is_bare = |end: End| {
        let routes = || {
            let routes = view.namespace(end.namespace).dump.routes.iter();
            routes
                .filter(|route| !is_by_itself(route))
                .any(|route| route.hops.iter().any(|hop| hop.index == Some(end.link)))
        };
        view.addresses(end).next().is_none() && view.master(end).is_none() && !routes()
    };
    let is_pods = view.is_pod(far.namespace) || view.namespace(far.namespace).role == Role::Other;
    if far.namespace == at
        || !is_pods
        || view.is_pod(at)
        || !is_bare(end)
        || view.addresses(far).next().is_none()
    {
        return None;
    }
    let text = format!(
        "{} is in no bridge and no route leads to it, though {} at its other end has an address.",
        view.device(end),
        view.device(far)
    );
    let consequence =
        "What comes out of the cable is received by nobody, and nothing is sent into it.";
    let about = vec![view.thing(end), view.thing(far)];
    let finding = Finding::new(Code::CableLoose, text, consequence, about);
    let bridge = view.ends(at).find(|(_, link)| link.kind == "bridge");
    let remedy = match bridge {
        Some((_, bridge)) => view.command(
            at,
            &format!("ip link set {} master {}", net::quote(&link.name), net::quote(&bridge.name)),
        ),
        None => "recreate the pod, so that its plugin wires it again".to_owned(),
    };
    Some(finding.remedy(remedy).shown_by(show))
}

/// A route that every IPv6 device has.
fn is_by_itself(route: &topology::dump::Route) -> bool {
    match route.destination.addr() {
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
        std::net::IpAddr::V4(_) => false,
    }
}
