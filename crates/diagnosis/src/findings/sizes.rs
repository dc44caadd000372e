//! Packets that fit here and not there.

use std::collections::BTreeMap;

use topology::End;

use crate::explain;
use crate::finding::{Code, Finding};
use crate::view::View;
use crate::words;

pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, _) in view.all() {
        for (end, link) in view.ends(at) {
            if link.kind == "bridge" {
                findings.extend(ports(view, end).or_else(|| bridge(view, end)));
            }
            findings.extend(cable(view, end));
        }
        findings.extend(tunnels(view, at));
    }
    findings.extend(peers(view));
    findings
}

fn mtu(view: &View<'_>, end: End) -> u32 {
    view.link(end).map_or(0, |link| link.mtu)
}

/// The two ends of a cable, told once.
fn cable(view: &View<'_>, end: End) -> Option<Finding> {
    let far = view.peer(end).filter(|far| *far > end)?;
    let sizes = (mtu(view, end), mtu(view, far));
    if sizes.0 == sizes.1 {
        return None;
    }
    let (small, large) = if sizes.0 < sizes.1 { (end, far) } else { (far, end) };
    let text = format!(
        "{} takes packets of {} bytes, but its other end {} only {}.",
        view.device(large),
        mtu(view, large),
        view.device(small),
        mtu(view, small)
    );
    let consequence = "Larger packets are dropped on the way, and the sender is not told.";
    let about = vec![view.thing(large), view.thing(small)];
    let finding = Finding::new(Code::MtuMixed, text, consequence, about);
    Some(with_remedy(view, finding, large, mtu(view, small)))
}

fn with_remedy(view: &View<'_>, finding: Finding, end: End, size: u32) -> Finding {
    let name = view.name(end.namespace, end.link);
    let name = net::quote(&name);
    let remedy = view.command(end.namespace, &format!("ip link set {name} mtu {size}"));
    finding
        .remedy(remedy)
        .shown_by(view.command(end.namespace, &format!("ip link show dev {name}")))
}

/// The hosts on a bridge's ports: who takes less than the others drops what they send.
fn ports(view: &View<'_>, bridge: End) -> Option<Finding> {
    let mut by_size: BTreeMap<u32, Vec<End>> = BTreeMap::new();
    for port in view.ports(bridge) {
        by_size.entry(mtu(view, *port)).or_default().push(*port);
    }
    let (least, few) = by_size.first_key_value().filter(|_| by_size.len() > 1)?;
    let (most, _) = by_size.last_key_value()?;
    let names = few.iter().map(|port| view.name(port.namespace, port.link));
    let text = format!(
        "The ports of the bridge {} take packets of different size: {} {least} bytes, others up to \
         {most}.",
        view.device(bridge),
        words::some(names, 4)
    );
    let consequence =
        "Larger packets to the former are dropped by the bridge, and the sender is not told.";
    let far = few.iter().filter_map(|port| view.peer(*port));
    let about = few.iter().copied().chain(far).chain([bridge]).map(|end| view.thing(end)).collect();
    let finding = Finding::new(Code::MtuMixed, text, consequence, about);
    let name = view.name(bridge.namespace, bridge.link);
    let show = format!("ip link show master {}", net::quote(&name));
    Some(
        finding
            .remedy("give all ports and their far ends the same MTU")
            .shown_by(view.command(bridge.namespace, &show)),
    )
}

/// A bridge that takes less than its ports: what the node sends or passes on through it has to be
/// smaller than what the ports' hosts send.
fn bridge(view: &View<'_>, bridge: End) -> Option<Finding> {
    let least = view.ports(bridge).iter().map(|port| mtu(view, *port)).min()?;
    let own = mtu(view, bridge);
    if own >= least {
        return None;
    }
    let text = format!(
        "The bridge {} takes packets of {own} bytes, and its ports {least}.",
        view.device(bridge)
    );
    let consequence = "Larger packets to its ports from elsewhere are refused on the way, and lost where a firewall drops ICMP.";
    let finding = Finding::new(Code::MtuMixed, text, consequence, vec![view.thing(bridge)]);
    Some(with_remedy(view, finding, bridge, least))
}

/// Tunnels against what is below and above them.
fn tunnels(view: &View<'_>, at: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (end, link) in view.ends(at) {
        let Some(vxlan) = link.vxlan else { continue };
        let far = explain::far_ends(view, end);
        let v6 = vxlan.local.iter().chain(&far).any(std::net::IpAddr::is_ipv6);
        if let Some(below) = explain::underlay(view, end, vxlan) {
            let (overhead, room) = (explain::overhead(vxlan, v6), mtu(view, below));
            if room > 0 && link.mtu + overhead > room {
                let text = format!(
                    "The tunnel {} takes packets of {} bytes and adds {overhead}, but {} below takes \
                     only {room}.",
                    view.device(end),
                    link.mtu,
                    view.name(at, below.link)
                );
                let consequence =
                    "Large packets are sent in fragments, or are lost where fragments are.";
                let about = vec![view.thing(end), view.thing(below)];
                let finding = Finding::new(Code::MtuTunnel, text, consequence, about);
                findings.push(with_remedy(view, finding, end, room.saturating_sub(overhead)));
            }
        }
        let large: Vec<End> = view
            .guests(at)
            .into_iter()
            .filter(|guest| view.is_pod(*guest))
            .flat_map(|guest| view.ends(guest))
            .filter(|(near, it)| {
                it.mtu > link.mtu && view.peer(*near).is_some_and(|far| far.namespace == at)
            })
            .map(|(near, _)| near)
            .collect();
        if let Some(first) = large.first() {
            let names = large.iter().map(|end| view.called(end.namespace));
            let text = format!(
                "{} {} packets of up to {} bytes, but the tunnel {} takes only {}.",
                words::some(names, 4),
                if large.len() == 1 { "sends" } else { "send" },
                mtu(view, *first),
                link.name,
                link.mtu
            );
            let consequence = "Large packets to other nodes arrive only if the pod learns of the limit, which firewalls can prevent.";
            let mut about: Vec<_> = large.iter().map(|end| view.thing(*end)).collect();
            about.push(view.thing(end));
            let finding = Finding::new(Code::MtuPod, text, consequence, about);
            findings.push(with_remedy(view, finding, *first, link.mtu));
        }
    }
    findings
}

/// The tunnels of one network, on different nodes of one lab.
fn peers(view: &View<'_>) -> Vec<Finding> {
    let mut tunnels: BTreeMap<(&str, &str), BTreeMap<u32, Vec<End>>> = BTreeMap::new();
    for (at, namespace) in view.all() {
        let Some(lab) = namespace.lab.as_deref() else { continue };
        for (end, link) in view.ends(at).filter(|(_, link)| link.vxlan.is_some()) {
            let known = tunnels.entry((lab, &link.name)).or_default();
            known.entry(link.mtu).or_default().push(end);
        }
    }
    let finding = |((_, name), sizes): ((&str, &str), BTreeMap<u32, Vec<End>>)| {
        let (least, few) = sizes.first_key_value().filter(|_| sizes.len() > 1)?;
        let (most, many) = sizes.last_key_value()?;
        let text = format!(
            "The tunnel {name} takes packets of {least} bytes in {}, and of up to {most} in {}.",
            words::some(few.iter().map(|end| view.called(end.namespace)), 4),
            words::some(many.iter().map(|end| view.called(end.namespace)), 4)
        );
        let consequence = "Large packets pass in one direction only.";
        let about = few.iter().chain(many).map(|end| view.thing(*end)).collect();
        Some(
            Finding::new(Code::MtuPeer, text, consequence, about)
                .remedy("give the tunnel the same MTU on all nodes"),
        )
    };
    tunnels.into_iter().filter_map(finding).collect()
}
