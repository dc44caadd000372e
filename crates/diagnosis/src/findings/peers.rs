//! Ways between the nodes of a lab: all of them are seen, so that each entry can be held against
//! where it should lead.

use std::collections::BTreeMap;
use std::net::IpAddr;

use topology::dump::{Link, Neighbour, Route, RouteKind, Vxlan};
use topology::{End, Role};

use crate::finding::{Code, Finding};
use crate::view::View;

/// Every pair of nodes is looked at; beyond this many nodes, only pairs with one of the first.
const MOST_NODES: usize = 64;

pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = tunnel_addresses(view);
    let mut labs: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, namespace) in view.all() {
        if let Some(lab) = namespace.lab.as_deref().filter(|_| namespace.role == Role::Node) {
            labs.entry(lab).or_default().push(at);
        }
    }
    for (lab, nodes) in labs {
        let cluster = Cluster { view, lab, nodes: &nodes };
        for from in nodes.iter().take(MOST_NODES) {
            for to in nodes.iter().filter(|to| *to != from) {
                findings.extend(cluster.pair(*from, *to));
            }
        }
    }
    findings
}

/// A tunnel that sends from an address that is not its node's.
fn tunnel_addresses(view: &View<'_>) -> Vec<Finding> {
    let tunnels = view.all().flat_map(|(at, _)| view.ends(at));
    let tunnels = tunnels.filter_map(|(end, link)| Some((end, link, link.vxlan?.local?)));
    let lost = tunnels.filter(|(end, _, local)| !view.owns(end.namespace, *local));
    lost.map(|(end, link, local)| {
        let text = format!(
            "The tunnel {} sends from {local}, which is no address of its node.",
            view.device(end)
        );
        let consequence = "Other nodes do not take its packets, or answer somebody else.";
        let show =
            view.command(end.namespace, &format!("ip -d link show dev {}", net::quote(&link.name)));
        Finding::new(Code::TunnelAddress, text, consequence, vec![view.thing(end)])
            .remedy("recreate the tunnel with an address of the node")
            .shown_by(show)
    })
    .collect()
}

struct Cluster<'v, 'a> {
    view: &'v View<'a>,
    lab: &'a str,
    nodes: &'v [usize],
}

/// Where a way arrives: the node's device, if it is known.
type Arrival = Option<End>;

impl Cluster<'_, '_> {
    /// One address a family of a node's pods.
    fn pods(&self, node: usize) -> Vec<IpAddr> {
        let mut found: [Option<IpAddr>; 2] = [None; 2];
        for guest in self.view.guests(node).into_iter().filter(|at| self.view.is_pod(*at)) {
            for address in self.view.own(guest).map(|it| it.address.addr()) {
                if !address.is_loopback() {
                    found[usize::from(address.is_ipv6())].get_or_insert(address);
                }
            }
        }
        found.into_iter().flatten().collect()
    }

    /// The node that has an address.
    fn node_of(&self, address: IpAddr) -> Option<usize> {
        self.nodes.iter().copied().find(|at| self.view.owns(*at, address))
    }

    fn is_of_lab(&self, address: IpAddr) -> bool {
        let inside = self.view.all().filter(|(_, it)| it.lab.as_deref() == Some(self.lab));
        inside.into_iter().any(|(at, _)| self.view.owns(at, address))
    }

    fn pair(&self, from: usize, to: usize) -> Vec<Finding> {
        let near = self.pods(from);
        let mut findings = Vec::new();
        for pod in self.pods(to) {
            let source = near.iter().copied().find(|it| it.is_ipv4() == pod.is_ipv4());
            match self.way(from, to, pod) {
                Err(finding) => findings.push(*finding),
                Ok(arrival) => {
                    let filtered = arrival
                        .zip(source)
                        .and_then(|(arrival, source)| self.filtered(from, arrival, pod, source));
                    findings.extend(filtered);
                }
            }
        }
        findings.dedup_by_key(|finding| finding.code);
        findings
    }

    /// Follows the way from a node to another one's pod.
    fn way(&self, from: usize, to: usize, pod: IpAddr) -> Result<Arrival, Box<Finding>> {
        let view = self.view;
        let (sender, receiver) = (view.called(from), view.called(to));
        let family = if pod.is_ipv6() { "-6 " } else { "" };
        let show = view.command(from, &format!("ip {family}route get {pod}"));
        let about = |end: Option<End>| {
            let end = end.map(|end| view.thing(end));
            [view.space(from)].into_iter().chain(end).chain([view.space(to)]).collect::<Vec<_>>()
        };
        let wrong = |code: Code, text: String, consequence: &str, end: Option<End>| {
            Box::new(
                Finding::new(code, text, consequence, about(end))
                    .shown_by(show.clone())
                    .remedy(REMEDY),
            )
        };
        let route = view.way(from, None, pod);
        let route =
            route.filter(|it| it.destination.prefix_len() > 0 && it.kind == RouteKind::Unicast);
        let Some(route) = route else {
            let text = format!("{sender} has no route to {pod}, a pod on {receiver}.");
            let consequence = "What is sent there leaves the cluster, or is refused.";
            return Err(wrong(Code::PeerRouteMissing, text, consequence, None));
        };
        let device = route.hops.iter().find_map(|hop| hop.index);
        let end = device.map(|link| End { namespace: from, link });
        let link = end.and_then(|end| view.link(end));
        let owner = |address: IpAddr, what: &str| match self.node_of(address) {
            Some(node) if node == to => Ok(()),
            Some(other) => {
                let text = format!(
                    "{sender} sends what is for {pod}, a pod on {receiver}, {what} {address}, which is {}.",
                    view.called(other)
                );
                Err((Code::PeerRouteWrong, text))
            }
            None => {
                let text = format!(
                    "{sender} sends what is for {pod}, a pod on {receiver}, {what} {address}, which no node has."
                );
                Err((Code::RouteStale, text))
            }
        };
        let lost = "Packets to these pods are lost.";
        let gateway = route.hops.iter().find_map(|hop| hop.gateway);
        if let Some(encap) = route.encap {
            owner(encap.to, "through the tunnel to")
                .map_err(|(code, text)| wrong(code, text, lost, end))?;
            let (Some(end), Some(vxlan)) = (end, link.and_then(|link| link.vxlan)) else {
                return Ok(None);
            };
            let router = gateway.filter(|_| !vxlan.gpe).map(|it| self.router(from, to, end, it));
            let mac =
                router.transpose().map_err(|(code, text)| wrong(code, text, lost, Some(end)))?;
            return self
                .received(end, vxlan, encap.vni, to, mac)
                .map(Some)
                .map_err(|text| wrong(Code::TunnelMismatch, text, lost, Some(end)));
        }
        match (end, link.and_then(|link| link.vxlan), gateway) {
            (Some(end), Some(vxlan), Some(gateway)) => {
                let mac = self
                    .classic(from, to, end, gateway)
                    .map_err(|(code, text)| wrong(code, text, lost, Some(end)))?;
                self.received(end, vxlan, vxlan.vni, to, Some(mac))
                    .map(Some)
                    .map_err(|text| wrong(Code::TunnelMismatch, text, lost, Some(end)))
            }
            (_, None, Some(gateway)) => match owner(gateway, "to") {
                Ok(()) => Ok(self.device_of(to, gateway)),
                // A router between the nodes is no node.
                Err((Code::RouteStale, _)) if self.is_of_lab(gateway) => Ok(None),
                Err((code, text)) => Err(wrong(code, text, lost, end)),
            },
            _ => Ok(None),
        }
    }

    fn device_of(&self, node: usize, address: IpAddr) -> Arrival {
        let addresses = self.view.namespace(node).dump.addresses.iter();
        let link = addresses.into_iter().find(|it| it.address.addr() == address)?.index;
        Some(End { namespace: node, link })
    }

    /// The hardware address of the neighbour that the route names: that of a tunnel of the far node.
    fn router(
        &self,
        from: usize,
        to: usize,
        end: End,
        gateway: IpAddr,
    ) -> Result<net::Mac, (Code, String)> {
        let view = self.view;
        let device = view.device(end);
        let mut neighbours =
            view.namespace(from).dump.neighbours.iter().filter(|it| it.index == end.link);
        let is_router = |it: &&Neighbour| !it.bridge && it.address == Some(gateway);
        let Some(mac) = neighbours.find(is_router).and_then(|it| it.mac) else {
            let text = format!(
                "The tunnel {device} does not know the hardware address of {gateway}, its router on {}.",
                view.called(to)
            );
            return Err((Code::NeighbourWrong, text));
        };
        let mut theirs = view.ends(to).filter(|(_, link)| link.vxlan.is_some());
        if !theirs.any(|(_, link)| link.mac == Some(mac)) {
            let text = format!(
                "The tunnel {device} takes {mac} for the hardware address of {gateway}, but no tunnel of {} has it.",
                view.called(to)
            );
            return Err((Code::NeighbourWrong, text));
        }
        Ok(mac)
    }

    /// The entries by which a tunnel that learns nothing finds the far end: the neighbour that the
    /// route names, and behind which far end its hardware address is.
    fn classic(
        &self,
        from: usize,
        to: usize,
        end: End,
        gateway: IpAddr,
    ) -> Result<net::Mac, (Code, String)> {
        let view = self.view;
        let mac = self.router(from, to, end, gateway)?;
        let device = view.device(end);
        let mut neighbours =
            view.namespace(from).dump.neighbours.iter().filter(|it| it.index == end.link);
        let entry =
            neighbours.find(|it| it.bridge && it.mac == Some(mac)).and_then(|it| it.address);
        match entry {
            Some(address) if view.owns(to, address) => Ok(mac),
            Some(address) => {
                let whose = match self.node_of(address) {
                    Some(other) => view.called(other),
                    None => "nobody".to_owned(),
                };
                let text = format!(
                    "The tunnel {device} sends what is for {mac}, the tunnel of {}, to {address}, which is {whose}.",
                    view.called(to)
                );
                Err((Code::ForwardingEntryWrong, text))
            }
            None => {
                let text = format!(
                    "The tunnel {device} does not know at which node {mac} is, the tunnel of {}.",
                    view.called(to)
                );
                Err((Code::ForwardingEntryWrong, text))
            }
        }
    }

    /// Whether a node has the tunnel that another one sends to.
    fn received(
        &self,
        end: End,
        vxlan: Vxlan,
        vni: u32,
        to: usize,
        mac: Option<net::Mac>,
    ) -> Result<End, String> {
        let view = self.view;
        let alike = |(_, link): &(End, &Link)| match (link.vxlan, mac) {
            (None, _) => false,
            (Some(_), Some(mac)) => link.mac == Some(mac),
            (Some(other), None) => other.external == vxlan.external,
        };
        let Some((far, link)) = view.ends(to).find(alike) else {
            return Err(format!(
                "{} sends through {}, but there is no such tunnel on {}.",
                view.called(end.namespace),
                view.name(end.namespace, end.link),
                view.called(to)
            ));
        };
        let other = link.vxlan.unwrap_or_default();
        let vnis = &view.namespace(to).dump.vnis;
        let takes = match (other.external, other.filtered) {
            (false, _) => other.vni == vni,
            (true, false) => true,
            (true, true) => vnis.contains(&(far.link, vni)),
        };
        let (here, there) = (view.device(end), view.device(far));
        if !takes {
            return Err(format!(
                "The tunnel {here} sends in the virtual network {vni}, of which {there} takes nothing."
            ));
        }
        if other.port != vxlan.port {
            return Err(format!(
                "The tunnel {here} sends to UDP port {}, but {there} listens at {}.",
                vxlan.port, other.port
            ));
        }
        if other.gpe != vxlan.gpe {
            return Err(format!(
                "The tunnels {here} and {there} do not speak the same: one VXLAN, the other VXLAN-GPE."
            ));
        }
        Ok(far)
    }

    /// Strict reverse path filtering where the answer takes another device.
    fn filtered(&self, from: usize, arrival: End, pod: IpAddr, source: IpAddr) -> Option<Finding> {
        let (view, at) = (self.view, arrival.namespace);
        let name = view.name(at, arrival.link);
        let value = |name: &str| {
            let text = view.of_device(at, "ipv4", name, "rp_filter")?;
            text.trim().parse::<u32>().ok()
        };
        let strict = value("all").max(value(&name)) == Some(1) && source.is_ipv4();
        let back: Option<&Route> = view.way(at, Some(pod), source);
        let device = back.and_then(|route| route.hops.first()?.index);
        if !strict || device == Some(arrival.link) {
            return None;
        }
        let other = device.map_or("nothing".to_owned(), |index| view.name(at, index));
        let text = format!(
            "What {} sends arrives at {} by {name}, but answers leave by {other}, and rp_filter is strict there.",
            view.called(from),
            view.called(at)
        );
        let consequence = "The node drops what arrives.";
        let about = vec![view.thing(arrival), view.space(at), view.space(from)];
        let finding = Finding::new(Code::ReturnPathFiltered, text, consequence, about);
        let show = view.command(
            at,
            &format!("sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.{name}.rp_filter"),
        );
        let remedy = format!(
            "{}, and the same for all",
            view.command(at, &format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2"))
        );
        Some(finding.remedy(remedy).shown_by(show))
    }
}

const REMEDY: &str =
    "let the agent of the node look again: `podwire agent --once` there, or restart it";
