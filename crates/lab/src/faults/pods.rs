//! Faults of a pod's own cable, addresses and routes.

use diagnosis::Code;
use diagnosis::verify::Rule;
use net::{Address, Route, Step};

use super::site::{Made, POD_LINK, Site, changed, create, delete, last, replace};
use super::{ALL, ALONE, Families, Fault, NOWHERE, TUNNELS};
use crate::Role;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "cable-down",
        what: "The end of the pod's cable on the node is switched off.",
        symptom: "The pod reaches nobody and nobody reaches it; its own interface is up, without carrier.",
        repair: "ip -n NODE link set VETH up",
        on: Role::Pod,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::PodToPod, Rule::NodeToPod, Rule::PodToNode],
        unfelt: NOWHERE,
        codes: &[Code::LinkDown],
        healed: false,
        make: cable_down,
    },
    Fault {
        name: "interface-down",
        what: "The interface inside the pod is switched off, and its routes are gone with it.",
        symptom: "The pod says that the network is unreachable.",
        repair: "ip -n POD link set eth0 up, and its routes again: ip -n POD route add default via GATEWAY",
        on: Role::Pod,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::PodToPod, Rule::NodeToPod, Rule::PodToNode],
        unfelt: NOWHERE,
        codes: &[Code::LinkDown],
        healed: false,
        make: interface_down,
    },
    Fault {
        name: "port-detached",
        what: "The pod's cable is not plugged into the bridge any more.",
        symptom: "The pod reaches nobody, though every device is up and has its addresses.",
        repair: "ip -n NODE link set VETH master cni0",
        on: Role::Pod,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::PodToPod, Rule::NodeToPod, Rule::PodToNode],
        unfelt: NOWHERE,
        codes: &[Code::CableLoose],
        healed: false,
        make: port_detached,
    },
    Fault {
        name: "default-route-missing",
        what: "The pod has no default route.",
        symptom: "The pod reaches pods of its own node, and nobody else.",
        repair: "ip -n POD route add default via GATEWAY",
        on: Role::Pod,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::PodToPod, Rule::PodToNode, Rule::NodeToPod, Rule::Outside],
        unfelt: ALONE,
        codes: &[Code::DefaultRouteMissing],
        healed: false,
        make: default_route_missing,
    },
    Fault {
        name: "default-route-wrong",
        what: "The pod's default route leads to an address that nobody has.",
        symptom: "The pod reaches pods of its own node; everything else ends with \"no route to host\".",
        repair: "ip -n POD route replace default via GATEWAY",
        on: Role::Pod,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::PodToPod, Rule::PodToNode, Rule::NodeToPod, Rule::Outside],
        unfelt: ALONE,
        codes: &[Code::GatewayMissing],
        healed: false,
        make: default_route_wrong,
    },
    Fault {
        name: "netmask-wrong",
        what: "The pod's address has too short a prefix, so that the pod takes other nodes' pods for neighbours.",
        symptom: "The pod reaches pods of its own node and the outside, but no pod of another node.",
        repair: "ip -n POD addr add ADDRESS/LENGTH dev eth0 && ip -n POD addr del ADDRESS/WRONG dev eth0",
        on: Role::Pod,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::PodToPod],
        unfelt: ALONE,
        codes: &[Code::AddressMismatch],
        healed: false,
        make: netmask_wrong,
    },
    Fault {
        name: "address-duplicate",
        what: "The pod has the address of another pod of its node beside its own.",
        symptom: "Who asks for that address reaches now the one, now the other.",
        repair: "ip -n POD addr del ADDRESS dev eth0",
        on: Role::Pod,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::UniqueAddress, Rule::PodToPod, Rule::SelfView],
        unfelt: NOWHERE,
        codes: &[Code::AddressTwice],
        healed: false,
        make: address_duplicate,
    },
    Fault {
        name: "mac-duplicate",
        what: "Two pods of one node have the same hardware address.",
        symptom: "Both lose packets, the more the other one talks.",
        repair: "ip -n POD link set eth0 address ANOTHER",
        on: Role::Pod,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::PodToPod, Rule::NodeToPod, Rule::PodToNode],
        unfelt: NOWHERE,
        codes: &[Code::MacTwice],
        healed: false,
        make: mac_duplicate,
    },
    Fault {
        name: "mtu-cable",
        what: "The pod's end of its cable takes larger packets than the node's end.",
        symptom: "Short answers arrive and long ones hang: a login works, a download does not.",
        repair: "ip -n NODE link set VETH mtu SIZE",
        on: Role::Pod,
        scenes: ALL,
        families: Families::Any,
        rules: &[Rule::Mtu],
        unfelt: NOWHERE,
        codes: &[Code::MtuMixed],
        healed: false,
        make: mtu_cable,
    },
    Fault {
        name: "mtu-pod",
        what: "The pod takes packets that do not fit into the tunnel.",
        symptom: "Large packets to other nodes are refused on the way, and lost where a firewall drops ICMP.",
        repair: "ip -n POD link set eth0 mtu SIZE && ip -n NODE link set VETH mtu SIZE",
        on: Role::Pod,
        scenes: TUNNELS,
        families: Families::Any,
        rules: &[Rule::Mtu],
        unfelt: NOWHERE,
        codes: &[Code::MtuPod],
        healed: false,
        make: mtu_pod,
    },
    Fault {
        name: "loopback-down",
        what: "The pod's loopback device is switched off.",
        symptom: "What runs in the pod does not reach itself by localhost; everything else works.",
        repair: "ip -n POD link set lo up",
        on: Role::Pod,
        scenes: ALL,
        families: Families::Any,
        rules: &[],
        unfelt: NOWHERE,
        codes: &[Code::LoopbackDown],
        healed: false,
        make: loopback_down,
    },
    Fault {
        name: "arp-silent",
        what: "The pod answers no question for its hardware address (arp_ignore).",
        symptom: "Who has talked with the pod a moment ago still reaches it; nobody else does.",
        repair: "ip netns exec POD sysctl -w net.ipv4.conf.eth0.arp_ignore=0",
        on: Role::Pod,
        scenes: ALL,
        families: Families::V4,
        rules: &[],
        unfelt: NOWHERE,
        codes: &[Code::ArpSilent],
        healed: false,
        make: arp_silent,
    },
    Fault {
        name: "address-refused",
        what: "The pod's IPv6 address was found to be another pod's when the pod took it (duplicate address detection).",
        symptom: "The pod has the address and does not use it: it is marked dadfailed.",
        repair: "ip -n OTHER addr del ADDRESS dev eth0, then ip -n POD addr del ADDRESS dev eth0 && ip -n POD addr add ADDRESS dev eth0",
        on: Role::Pod,
        scenes: ALL,
        families: Families::V6,
        rules: &[Rule::UniqueAddress, Rule::PodToPod, Rule::SelfView],
        unfelt: NOWHERE,
        codes: &[Code::AddressRefused],
        healed: false,
        make: address_refused,
    },
];

fn cable_down(site: &Site<'_>) -> Made {
    let end = site.host_end(site.on)?;
    let down = |link: &mut net::Link| link.up = Some(false);
    Ok(vec![changed(site.node()?, &end, down, "switches the node's end of the cable off")])
}

fn interface_down(site: &Site<'_>) -> Made {
    let own = site.link(site.on, POD_LINK)?;
    let down = |link: &mut net::Link| link.up = Some(false);
    Ok(vec![changed(site.on, &own, down, "switches the pod's interface off")])
}

fn port_detached(site: &Site<'_>) -> Made {
    site.bridge(site.on)?;
    let end = site.host_end(site.on)?;
    let unplug = |link: &mut net::Link| link.master = None;
    Ok(vec![changed(site.node()?, &end, unplug, "pulls the cable out of the bridge")])
}

fn default_route_missing(site: &Site<'_>) -> Made {
    let route = site.default_route(site.on)?;
    Ok(vec![delete(site.on, route, "takes the pod's way out away")])
}

fn default_route_wrong(site: &Site<'_>) -> Made {
    let route = site.default_route(site.on)?;
    let nobody = last(site.address(site.on, POD_LINK)?.address);
    let wrong = Route { gateway: Some(nobody), ..route.clone() };
    Ok(vec![replace(site.on, route, wrong, "leads the pod's way out to nobody")])
}

fn netmask_wrong(site: &Site<'_>) -> Made {
    let right = site.address(site.on, POD_LINK)?;
    let shorter = right.address.prefix_len().saturating_sub(if site.v6 { 16 } else { 8 });
    let address = ipnet::IpNet::new(right.address.addr(), shorter)
        .map_err(|_| format!("{} has no shorter prefix", right.address))?;
    let wrong = Address { nodad: site.v6, ..Address::new(right.link.clone(), address) };
    let add = create(site.on, wrong, "gives the pod's address a shorter prefix");
    let remove = delete(site.on, right, "takes the right one away");
    // IPv4 takes the routes away with the last address; IPv6 has an address but once.
    Ok(if site.v6 { vec![remove, add] } else { vec![add, remove] })
}

fn address_duplicate(site: &Site<'_>) -> Made {
    let theirs = site.address(site.sibling()?, POD_LINK)?;
    let twice = Address { nodad: site.v6, ..theirs };
    Ok(vec![create(site.on, twice, "gives the pod the address of another one as well")])
}

fn mac_duplicate(site: &Site<'_>) -> Made {
    let theirs = site.link(site.sibling()?, POD_LINK)?.mac;
    let own = site.link(site.on, POD_LINK)?;
    let why = "gives the pod the hardware address of another one";
    Ok(vec![changed(site.on, &own, |link| link.mac = theirs, why)])
}

fn mtu_cable(site: &Site<'_>) -> Made {
    let end = site.host_end(site.on)?;
    let smaller = end.mtu.map(|mtu| mtu.saturating_sub(150));
    let why = "has the node's end of the cable take smaller packets";
    Ok(vec![changed(site.node()?, &end, |link| link.mtu = smaller, why)])
}

fn mtu_pod(site: &Site<'_>) -> Made {
    let (node, end, own) = (site.node()?, site.host_end(site.on)?, site.link(site.on, POD_LINK)?);
    let grow = |link: &mut net::Link| link.mtu = link.mtu.map(|mtu| mtu + 50);
    Ok(vec![
        changed(node, &end, grow, "has the node's end of the cable take larger packets"),
        changed(site.on, &own, grow, "has the pod take larger packets than the tunnel"),
    ])
}

fn loopback_down(site: &Site<'_>) -> Made {
    let lo = site.link(site.on, "lo")?;
    let why = "switches the pod's loopback device off";
    Ok(vec![changed(site.on, &lo, |link| link.up = Some(false), why)])
}

fn arp_silent(site: &Site<'_>) -> Made {
    let why = "has the pod answer no question for its hardware address";
    Ok(vec![site.set(site.on, "net/ipv4/conf/eth0/arp_ignore", "8", why)?])
}

fn address_refused(site: &Site<'_>) -> Made {
    let own = site.address(site.on, POD_LINK)?;
    let theirs = Address { nodad: true, ..own.clone() };
    let asks = Address { nodad: false, ..own.clone() };
    let key = "net/ipv6/conf/eth0/accept_dad";
    let mut plan: Vec<Step> = Vec::new();
    if site.seen(site.on)?.settings.get(&key.replace('/', ".")).map(String::as_str) != Some("1") {
        plan.push(site.set(site.on, key, "1", "has the pod ask whether an address is free")?);
    }
    let sibling = site.sibling()?;
    plan.push(create(sibling, theirs, "gives another pod the pod's address"));
    plan.push(delete(site.on, own, "takes the pod its address away"));
    plan.push(create(site.on, asks, "gives it back, for the pod to find that somebody has it"));
    Ok(plan)
}
