//! Faults of a node's bridge and of what it passes on.

use diagnosis::Code;
use diagnosis::verify::Rule;

use super::site::{Made, Site, changed, delete};
use super::{ALL, ALONE, CLUSTERS, Families, Fault, NOWHERE};
use crate::{Namespace, Role};

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "forwarding-off",
        what: "The node passes nothing on between its devices.",
        symptom: "Pods reach pods of their own node, and nobody else.",
        repair: "ip netns exec NODE sysctl -w net.ipv4.ip_forward=1",
        on: Role::Node,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::PodToPod, Rule::PodToNode, Rule::NodeToPod, Rule::Outside],
        unfelt: ALONE,
        codes: &[Code::ForwardingOff],
        healed: true,
        make: forwarding_off,
    },
    Fault {
        name: "bridge-down",
        what: "The bridge of the node's pods is switched off.",
        symptom: "No pod of the node reaches anybody.",
        repair: "ip -n NODE link set cni0 up, and where its IPv6 addresses are gone: ip -n NODE addr add GATEWAY/64 dev cni0",
        on: Role::Node,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::PodToPod, Rule::NodeToPod, Rule::PodToNode],
        unfelt: NOWHERE,
        codes: &[Code::LinkDown],
        healed: false,
        make: bridge_down,
    },
    Fault {
        name: "gateway-missing",
        what: "The bridge has lost the address that pods use as their router.",
        symptom: "Pods reach pods of their own node, and nobody else.",
        repair: "ip -n NODE addr add GATEWAY/LENGTH dev cni0",
        on: Role::Node,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::PodToPod, Rule::NodeToPod, Rule::PodToNode],
        unfelt: ALONE,
        codes: &[Code::GatewayMissing],
        healed: false,
        make: gateway_missing,
    },
    Fault {
        name: "mtu-bridge",
        what: "The bridge takes smaller packets than the pods on it.",
        symptom: "Large answers from elsewhere are refused on the way, and lost where a firewall drops ICMP.",
        repair: "ip -n NODE link set cni0 mtu SIZE",
        on: Role::Node,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::Mtu],
        unfelt: ALONE,
        codes: &[Code::MtuMixed],
        healed: false,
        make: mtu_bridge,
    },
    Fault {
        name: "ports-isolated",
        what: "The ports of the node's pods are kept from each other.",
        symptom: "Pods reach everybody but pods of their own node.",
        repair: "bridge -n NODE link set dev VETH isolated off, for each of them",
        on: Role::Node,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::PodToPod],
        unfelt: NOWHERE,
        codes: &[Code::PortIsolated],
        healed: false,
        make: ports_isolated,
    },
    Fault {
        name: "hairpin-off",
        what: "The bridge sends nothing back by the port that it came in by.",
        symptom: "Pods do not reach themselves by a port of the node or the address of a service.",
        repair: "bridge -n NODE link set dev VETH hairpin on",
        on: Role::Pod,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: &[Rule::Hairpin],
        unfelt: NOWHERE,
        codes: &[Code::HairpinMissing],
        healed: false,
        make: hairpin_off,
    },
];

fn forwarding_off(site: &Site<'_>) -> Made {
    let key = if site.v6 { "net/ipv6/conf/all/forwarding" } else { "net/ipv4/ip_forward" };
    Ok(vec![site.set(site.on, key, "0", "has the node pass nothing on")?])
}

/// The bridge of a node's pods, by the first of them.
pub(super) fn bridge_of(site: &Site<'_>, node: &Namespace) -> Result<net::Link, String> {
    let pods = site.pods_of(node);
    let first = pods.first().ok_or_else(|| format!("{} has no pods", node.name))?;
    site.link(node, site.bridge(first)?.as_str())
}

fn bridge_down(site: &Site<'_>) -> Made {
    let bridge = bridge_of(site, site.on)?;
    let down = |link: &mut net::Link| link.up = Some(false);
    Ok(vec![changed(site.on, &bridge, down, "switches the bridge off")])
}

fn gateway_missing(site: &Site<'_>) -> Made {
    let bridge = bridge_of(site, site.on)?;
    let address = site.address(site.on, bridge.name.as_str())?;
    Ok(vec![delete(site.on, address, "takes the pods' router its address away")])
}

fn mtu_bridge(site: &Site<'_>) -> Made {
    let bridge = bridge_of(site, site.on)?;
    let shrink = |link: &mut net::Link| link.mtu = link.mtu.map(|mtu| mtu.saturating_sub(120));
    Ok(vec![changed(site.on, &bridge, shrink, "has the bridge take smaller packets")])
}

fn ports_isolated(site: &Site<'_>) -> Made {
    let pods = site.pods_of(site.on);
    if pods.len() < 2 {
        return Err(format!("{} has fewer than two pods", site.on.name));
    }
    let isolate = |link: &mut net::Link| link.port.isolated = Some(true);
    let step = |pod: &&Namespace| {
        let why = "keeps the port from all others that are kept so";
        Ok(changed(site.on, &site.host_end(pod)?, isolate, why))
    };
    pods.iter().map(step).collect()
}

fn hairpin_off(site: &Site<'_>) -> Made {
    let end = site.host_end(site.on)?;
    if end.port.hairpin != Some(true) {
        return Err(format!("the port of {} sends nothing back as it is", site.on.name));
    }
    let off = |link: &mut net::Link| link.port.hairpin = Some(false);
    let why = "has the bridge send nothing back by that port";
    Ok(vec![changed(site.node()?, &end, off, why)])
}
