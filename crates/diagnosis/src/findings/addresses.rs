//! Addresses that are taken twice or do not fit, and gateways that are not there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use topology::End;

use super::bridges::asks;
use crate::explain;
use crate::finding::{Code, Finding};
use crate::view::View;
use crate::words;

pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, _) in view.all() {
        for (end, link) in view.ends(at) {
            if link.kind == "bridge" {
                findings.extend(segment(view, end));
            }
        }
        findings.extend(refused(view, at));
        if view.is_pod(at) {
            findings.extend(default_routes(view, at));
        }
        findings.extend(forwarding(view, at));
    }
    findings.extend(cluster(view));
    findings
}

/// All hosts on a bridge.
fn segment(view: &View<'_>, bridge: End) -> Vec<Finding> {
    let hosts: Vec<End> = view.segment(bridge).into_iter().flatten().collect();
    let mut findings = Vec::new();
    let mut macs: BTreeMap<_, Vec<End>> = BTreeMap::new();
    let mut addresses: BTreeMap<IpAddr, Vec<End>> = BTreeMap::new();
    for host in &hosts {
        if let Some(mac) = view.link(*host).and_then(|link| link.mac) {
            macs.entry(mac).or_default().push(*host);
        }
        for address in view.addresses(*host) {
            addresses.entry(address.address.addr()).or_default().push(*host);
        }
    }
    let name = view.device(bridge);
    let about = |ends: &[End]| ends.iter().map(|end| view.thing(*end)).collect::<Vec<_>>();
    let named = |ends: &[End]| words::some(ends.iter().map(|end| view.device(*end)), 4);
    for (mac, ends) in macs.into_iter().filter(|(_, ends)| ends.len() > 1) {
        let text = format!(
            "{} have the same hardware address {mac}, on one bridge ({name}).",
            named(&ends)
        );
        let consequence = "The bridge sends what is for one of them to whichever spoke last.";
        let finding = Finding::new(Code::MacTwice, text, consequence, about(&ends));
        let show = view.command(ends[0].namespace, "ip link");
        findings.push(finding.remedy("recreate one of them").shown_by(show));
    }
    for (address, ends) in addresses.into_iter().filter(|(_, ends)| ends.len() > 1) {
        let text =
            format!("{} have the same address {address}, on one bridge ({name}).", named(&ends));
        let consequence = "Who asks for it reaches whichever answers first.";
        let finding = Finding::new(Code::AddressTwice, text, consequence, about(&ends));
        let show = view.command(ends[0].namespace, "ip addr");
        findings.push(finding.remedy("recreate one of them").shown_by(show));
    }
    let gateways: Vec<_> = view.addresses(bridge).map(|it| it.address).collect();
    for host in hosts.iter().filter(|host| **host != bridge) {
        for address in view.addresses(*host) {
            let own = address.address;
            let same_family =
                gateways.iter().filter(|it| it.addr().is_ipv4() == own.addr().is_ipv4());
            let mut related =
                same_family.filter(|it| it.contains(&own.addr()) || own.contains(&it.addr()));
            let Some(gateway) = related.next() else { continue };
            let is_alone = own.prefix_len() == own.max_prefix_len();
            if is_alone
                || gateway.trunc() == own.trunc()
                || related.any(|it| it.trunc() == own.trunc())
            {
                continue;
            }
            let text =
                format!("{} has {own}, but the bridge {name} has {gateway}.", view.device(*host));
            let consequence = "They do not agree on who is a direct neighbour: some reach each other in one direction only, or not at all.";
            let finding =
                Finding::new(Code::AddressMismatch, text, consequence, about(&[*host, bridge]));
            let show = view.command(host.namespace, "ip addr");
            findings.push(
                finding.remedy("recreate the pod, or give both the same length").shown_by(show),
            );
        }
    }
    findings
}

/// Pods of one lab, or of one machine's own, on different segments.
fn cluster(view: &View<'_>) -> Vec<Finding> {
    let mut owners: BTreeMap<(Option<&str>, IpAddr), Vec<End>> = BTreeMap::new();
    for (at, namespace) in view.all().filter(|(at, _)| view.is_pod(*at)) {
        for address in view.own(at) {
            let end = End { namespace: at, link: address.index };
            let is_own = view.link(end).is_some_and(|link| link.name != "lo");
            if is_own {
                let key = (namespace.lab.as_deref(), address.address.addr());
                owners.entry(key).or_default().push(end);
            }
        }
    }
    let bridge = |end: &End| view.peer(*end).and_then(|far| Some(view.master(far)?.0));
    let finding = |((_, address), ends): ((Option<&str>, IpAddr), Vec<End>)| {
        let first = bridge(&ends[0]);
        // On one bridge it has been told already.
        if ends.len() < 2 || (first.is_some() && ends.iter().all(|end| bridge(end) == first)) {
            return None;
        }
        let names = words::some(ends.iter().map(|end| view.device(*end)), 4);
        let text = format!("{names} have the same address {address}.");
        let consequence = "Routes lead to one of them, and nobody else reaches the other.";
        let about = ends.iter().map(|end| view.thing(*end)).collect();
        let finding = Finding::new(Code::AddressTwice, text, consequence, about);
        let show = view.command(ends[0].namespace, "ip addr");
        Some(finding.remedy("recreate one of them").shown_by(show))
    };
    owners.into_iter().filter_map(finding).collect()
}

fn refused(view: &View<'_>, at: usize) -> Vec<Finding> {
    let addresses = view.namespace(at).dump.addresses.iter().filter(|it| it.dad_failed);
    let finding = |address: &topology::dump::Address| {
        let end = End { namespace: at, link: address.index };
        let text = format!(
            "{} does not use {}: duplicate address detection failed (dadfailed), because somebody else on the segment has it.",
            view.device(end),
            address.address
        );
        let consequence = "It does not answer by that address.";
        let finding = Finding::new(Code::AddressRefused, text, consequence, vec![view.thing(end)]);
        finding
            .remedy("find who else has the address, and recreate one of them")
            .shown_by(view.command(at, "ip -6 addr show dadfailed"))
    };
    addresses.map(finding).collect()
}

fn default_routes(view: &View<'_>, at: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    let space = view.namespace(at);
    for v4 in [true, false] {
        let is_family = |address: IpAddr| address.is_ipv4() == v4;
        let given = view
            .own(at)
            .filter(|it| is_family(it.address.addr()) && !it.address.addr().is_loopback());
        let given: Vec<_> = given.collect();
        let Some(first) = given.first() else { continue };
        let family = if v4 { "" } else { "-6 " };
        let show = view.command(at, &format!("ip {family}route"));
        let defaults: Vec<_> =
            space.default_routes().filter(|route| is_family(route.destination.addr())).collect();
        let device = End { namespace: at, link: first.index };
        if defaults.is_empty() && asks_default(view, at, v4) {
            let family = if v4 { "IPv4" } else { "IPv6" };
            let text = format!("{} has no default route for {family}.", view.called(at));
            let consequence = "It reaches only its direct neighbours, and can answer nobody else.";
            let finding = Finding::new(
                Code::DefaultRouteMissing,
                text,
                consequence,
                vec![view.thing(device), view.space(at)],
            );
            findings.push(finding.remedy("recreate the pod").shown_by(show.clone()));
        }
        for route in defaults {
            for hop in &route.hops {
                let (Some(gateway), Some(index)) = (hop.gateway, hop.index) else { continue };
                let end = End { namespace: at, link: index };
                if is_reached(view, end, gateway) != Some(false) {
                    continue;
                }
                let text = format!(
                    "The default route of {} leads to {gateway}, which nobody on its segment has.",
                    view.called(at)
                );
                let consequence = "It reaches only its direct neighbours.";
                let bridge = view.peer(end).and_then(|far| Some(view.master(far)?.0));
                let about = [Some(end), bridge].into_iter().flatten().map(|end| view.thing(end));
                let about = about.chain([view.space(at)]).collect();
                let finding = Finding::new(Code::GatewayMissing, text, consequence, about);
                let right = bridge.and_then(|bridge| {
                    let mut own = view.addresses(bridge).map(|it| it.address.addr());
                    own.find(|own| first.address.contains(own))
                });
                let remedy = match (right, bridge) {
                    (Some(right), _) => {
                        let name = view.name(at, index);
                        let name = net::quote(&name);
                        let route =
                            format!("ip {family}route replace default via {right} dev {name}");
                        view.command(at, &route)
                    }
                    (None, Some(bridge)) => {
                        let name = view.name(bridge.namespace, bridge.link);
                        let (name, length) = (net::quote(&name), first.address.prefix_len());
                        let address = format!("ip addr add {gateway}/{length} dev {name}");
                        view.command(bridge.namespace, &address)
                    }
                    (None, None) => "recreate the pod".to_owned(),
                };
                findings.push(finding.remedy(remedy).shown_by(show.clone()));
            }
        }
    }
    findings
}

/// Whether a pod's network was to give it a default route.
fn asks_default(view: &View<'_>, at: usize, v4: bool) -> bool {
    if asks(view, at, "isDefaultGateway") {
        return true;
    }
    let all = if v4 { "0.0.0.0/0" } else { "::/0" };
    view.attachments(at).any(|(node, attachment)| {
        let files = node.configurations.iter().filter(|it| it.name == attachment.network);
        files.flat_map(explain::plugins).any(|plugin| {
            let routes = plugin["ipam"]["routes"].as_array().into_iter().flatten();
            routes.into_iter().any(|route| route["dst"].as_str() == Some(all))
        })
    })
}

/// Whether somebody at the other side of a pod's device has an address; `None` if that is not seen.
fn is_reached(view: &View<'_>, end: End, gateway: IpAddr) -> Option<bool> {
    let far = view.peer(end)?;
    let has = |end: End| {
        let addresses = view.namespace(end.namespace).dump.addresses.iter();
        addresses.filter(|it| it.index == end.link).any(|it| it.address.addr() == gateway)
    };
    if let Some((bridge, _)) = view.master(far) {
        let segment = view.segment(bridge);
        if segment.iter().flatten().any(|host| has(*host)) {
            return Some(true);
        }
        // Beyond a port that is no cable in sight may be anybody.
        return segment.iter().all(Option::is_some).then_some(false);
    }
    // A router answers for every address that it has, on whatever device.
    if view.owns(far.namespace, gateway) {
        return Some(true);
    }
    let neighbours = view.namespace(end.namespace).dump.neighbours.iter();
    if neighbours
        .clone()
        .any(|it| it.index == end.link && it.address == Some(gateway) && it.mac.is_some())
    {
        return Some(true);
    }
    let name = view.name(far.namespace, far.link);
    let proxy = view.of_device(far.namespace, "ipv4", &name, "proxy_arp")?;
    (proxy.trim() == "0").then_some(false)
}

/// A namespace that pods send to as their router.
fn forwarding(view: &View<'_>, at: usize) -> Vec<Finding> {
    let settings = [(true, "net.ipv4.ip_forward"), (false, "net.ipv6.conf.all.forwarding")];
    let mut findings = Vec::new();
    for (v4, setting) in settings {
        if view.setting(at, setting).map(str::trim) != Some("0") {
            continue;
        }
        let is_router_of = |guest: &usize| {
            let routes = view.namespace(*guest).default_routes();
            let hops = routes.flat_map(|route| &route.hops).filter_map(|hop| hop.gateway);
            hops.into_iter().any(|gateway| gateway.is_ipv4() == v4 && view.owns(at, gateway))
        };
        let pods: Vec<usize> = view
            .guests(at)
            .into_iter()
            .filter(|guest| view.is_pod(*guest) && is_router_of(guest))
            .collect();
        if pods.is_empty() {
            continue;
        }
        let text = format!(
            "{} passes nothing on between its devices ({setting} is 0), though {} a router.",
            view.called(at),
            match pods.len() {
                1 => "1 pod uses it as".to_owned(),
                number => format!("{number} pods use it as"),
            }
        );
        let consequence =
            "Pods reach nobody beyond their own bridge, and nobody beyond reaches them.";
        let finding = Finding::new(Code::ForwardingOff, text, consequence, vec![view.space(at)]);
        let remedy = view.command(at, &format!("sysctl -w {setting}=1"));
        findings
            .push(finding.remedy(remedy).shown_by(view.command(at, &format!("sysctl {setting}"))));
    }
    findings
}
