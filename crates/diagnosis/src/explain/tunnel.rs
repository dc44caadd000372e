//! Tunnels between nodes: where they lead, and what they cost.

use std::net::IpAddr;

use topology::dump::{Link, Vxlan};
use topology::{End, origin};

use super::ways;
use crate::explanation::Sentence;
use crate::view::View;
use crate::words;

const MOST_PEERS: usize = 6;

/// The tunnel ends of a node.
pub(super) fn sentences(view: &View<'_>, home: usize) -> Vec<Sentence> {
    let tunnels = view.ends(home).filter_map(|(end, link)| Some((end, link, link.vxlan?)));
    let mut sentences: Vec<Sentence> =
        tunnels.flat_map(|(end, link, vxlan)| tunnel(view, end, link, vxlan)).collect();
    let encrypting = view.ends(home).filter(|(_, link)| link.kind == WIREGUARD);
    sentences.extend(encrypting.map(|(end, link)| wireguard(view, end, link)));
    sentences
}

/// The kind of WireGuard's devices.
pub(crate) const WIREGUARD: &str = "wireguard";

/// A tunnel that encrypts: who is at its other ends, only its own interface tells.
pub(super) fn wireguard(view: &View<'_>, end: End, link: &Link) -> Sentence {
    let name = &link.name;
    let maker = origin::of_link(view.namespace(end.namespace), link);
    let text = format!(
        "{name} is a WireGuard device: what is sent there goes encrypted, in UDP packets, to the peer \
         that has the address.{} Which peers it has, and where, podwire does not read.",
        words::made_by(maker, "Its name tells who made it:")
    );
    let show = view.command(end.namespace, &format!("wg show {}", net::quote(name)));
    Sentence::new(text, vec![view.thing(end)]).shown_by(show)
}

fn tunnel(view: &View<'_>, end: End, link: &Link, vxlan: Vxlan) -> Vec<Sentence> {
    let (at, name) = (end.namespace, &link.name);
    let about = vec![view.thing(end)];
    let show = view.command(at, &format!("ip -d link show dev {}", net::quote(name)));
    let what = if vxlan.gpe { "an IP packet" } else { "a whole Ethernet frame" };
    let network = match vxlan.external {
        true => {
            let vnis = &view.namespace(at).dump.vnis;
            let vnis: Vec<u32> =
                vnis.iter().filter(|(index, _)| *index == end.link).map(|(_, vni)| *vni).collect();
            match vnis.is_empty() {
                true => "Each route says to whom and in which virtual network".to_owned(),
                false => format!(
                    "Each route says to whom; it takes packets of the virtual network {} only",
                    words::list(vnis)
                ),
            }
        }
        false => format!("All of it is virtual network {} (VNI)", vxlan.vni),
    };
    let text = format!(
        "{name} is a tunnel end ({}): it puts {what} into a UDP packet to port {} of another node, \
         and takes out what arrives there. {network}.",
        if vxlan.gpe { "VXLAN-GPE" } else { "VXLAN" },
        vxlan.port
    );
    let maker = origin::of_link(view.namespace(at), link);
    let text = text + &words::made_by(maker, "Its name tells who made it:");
    let mut sentences = vec![Sentence::new(text, about).shown_by(show)];
    sentences.extend(size(view, end, link, vxlan));
    sentences.extend(peers(view, end, link, vxlan));
    sentences
}

/// How many bytes a tunnel puts around a packet.
pub(crate) fn overhead(vxlan: Vxlan, v6: bool) -> u32 {
    const IPV4: u32 = 20;
    const IPV6: u32 = 40;
    const UDP_AND_VXLAN: u32 = 16;
    const ETHERNET: u32 = 14;
    (if v6 { IPV6 } else { IPV4 }) + UDP_AND_VXLAN + if vxlan.gpe { 0 } else { ETHERNET }
}

/// The far ends of a tunnel, as far as it knows any.
pub(crate) fn far_ends(view: &View<'_>, end: End) -> Vec<IpAddr> {
    let dump = &view.namespace(end.namespace).dump;
    let entries = dump.neighbours.iter().filter(|it| it.bridge && it.index == end.link);
    let entries = entries.filter_map(|it| it.address);
    let routes =
        dump.routes.iter().filter(|it| it.hops.iter().any(|hop| hop.index == Some(end.link)));
    let routes = routes.filter_map(|route| Some(route.encap?.to));
    let mut all: Vec<IpAddr> = entries.chain(routes).collect();
    all.sort();
    all.dedup();
    all
}

/// The device that a tunnel's packets leave by.
pub(crate) fn underlay(view: &View<'_>, end: End, vxlan: Vxlan) -> Option<End> {
    let at = end.namespace;
    let named = vxlan.underlay.map(|link| End { namespace: at, link });
    named.or_else(|| {
        let to = far_ends(view, end).first().copied()?;
        let route = view.way(at, None, to)?;
        let link = route.hops.first()?.index?;
        Some(End { namespace: at, link })
    })
}

fn size(view: &View<'_>, end: End, link: &Link, vxlan: Vxlan) -> Option<Sentence> {
    let below = underlay(view, end, vxlan)?;
    let below_link = view.link(below)?;
    let far = far_ends(view, end);
    let v6 = vxlan.local.iter().chain(&far).any(IpAddr::is_ipv6);
    let overhead = overhead(vxlan, v6);
    let what = if vxlan.gpe { "VXLAN-GPE" } else { "VXLAN" };
    let outer = if v6 { "IPv6" } else { "IPv4" };
    let text = format!(
        "Its packets leave by {}, which takes {} bytes. {what} over {outer} adds {overhead}, so that \
         {} are left for what is inside; {} takes {}.",
        below_link.name,
        below_link.mtu,
        below_link.mtu.saturating_sub(overhead),
        link.name,
        link.mtu
    );
    let show = view.command(end.namespace, "ip link");
    Some(Sentence::new(text, vec![view.thing(end), view.thing(below)]).shown_by(show))
}

/// By which entries packets find the far ends.
fn peers(view: &View<'_>, end: End, link: &Link, vxlan: Vxlan) -> Vec<Sentence> {
    let at = end.namespace;
    let name = &link.name;
    let about = vec![view.thing(end)];
    let far = far_ends(view, end);
    if far.is_empty() {
        let text = format!("{name} knows no other node yet.");
        let show = view.command(at, &format!("bridge fdb show dev {}", net::quote(name)));
        return vec![Sentence::new(text, about).shown_by(show)];
    }
    let named: Vec<String> =
        far.iter().map(|to| format!("{to}{}", ways::whose(view, at, *to))).collect();
    let mut sentences = Vec::new();
    if !vxlan.external {
        let neighbours = &view.namespace(at).dump.neighbours;
        let known =
            neighbours.iter().filter(|it| !it.bridge && it.index == end.link && it.mac.is_some());
        let routers: Vec<String> =
            known.filter_map(|it| Some(format!("{} is {}", it.address?, it.mac?))).collect();
        if !routers.is_empty() {
            let text = format!(
                "Which hardware address a router on the other side has, is written down, so that \
                 nobody has to ask: {}.",
                words::some(routers, MOST_PEERS)
            );
            let show = view.command(at, &format!("ip neigh show dev {}", net::quote(name)));
            sentences.push(Sentence::new(text, about.clone()).shown_by(show));
        }
        let entries = neighbours.iter().filter(|it| it.bridge && it.index == end.link);
        let entries: Vec<String> =
            entries.filter_map(|it| Some(format!("{} is at {}", it.mac?, it.address?))).collect();
        let text = format!(
            "At which node's tunnel end that hardware address is, the forwarding entries say: {}.",
            words::some(entries, MOST_PEERS)
        );
        let show = view.command(at, &format!("bridge fdb show dev {}", net::quote(name)));
        sentences.push(Sentence::new(text, about.clone()).shown_by(show));
    }
    let text = format!("So it leads to {}.", words::some(named, MOST_PEERS));
    let show = view.command(at, &format!("ip route show dev {}", net::quote(name)));
    sentences.push(Sentence::new(text, about).shown_by(show));
    sentences
}
