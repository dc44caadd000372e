//! How one node is joined to one peer: pure functions to the objects that do it.
//!
//! | backend | shared by all peers | for a peer and family |
//! |---|---|---|
//! | vxlan, external | device, its network, our inner address, rule for pods → nodes | neighbour, route; route to the node |
//! | vxlan, classic | the same, one device a family | neighbour, FDB entry, route; route to the node |
//! | gpe | the same | route; route to the node |
//! | host-gw | – | route |

use std::net::IpAddr;

use ipnet::IpNet;
use net::{
    Address, Encap, Fdb, Link, LinkName, Neighbour, Object, Route, Rule, Scope, Vni, Vxlan,
    VxlanForm, owner,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::family::single;
use crate::{
    Backend, Code, Config, Family, Machine, Node, NodeName, PerFamily, Problem, Publication,
    Source, TunnelForm, Underlay, Uplink, choose_uplink,
};

/// The backend that was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chosen {
    /// How peers are joined first of all; never [`Backend::Auto`].
    pub backend: Backend,
    /// How peers are joined that host-gw cannot reach.
    pub fallback: Option<Backend>,
    /// Why, for people.
    pub why: String,
}

/// Everything about this node that joining a peer depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joint<'a> {
    /// What was asked for.
    pub config: &'a Config,
    /// This node, as far as it can be joined.
    pub me: Node,
    /// All pods' addresses, where they are known beforehand.
    pub pod_networks: Vec<IpNet>,
    /// How it is reached.
    pub uplinks: PerFamily<Uplink>,
    /// How peers are joined.
    pub chosen: Chosen,
    /// Whether the tunnel device names the networks that it takes.
    pub vni_filter: bool,
    /// Whether checksums of what is sent by the tunnel are left to it; `None` lets the kernel's
    /// default be.
    pub tx_checksum: Option<bool>,
}

/// How a peer is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hop<'a> {
    /// By the peer itself (host-gw), or through which tunnel.
    pub(crate) by: Backend,
    /// The family of what goes to it.
    pub(crate) outer: Family,
    /// From where.
    pub(crate) uplink: &'a Uplink,
    /// To where.
    pub(crate) address: IpAddr,
}

impl Hop<'_> {
    /// A route by the peer itself, which is on a link of this node.
    fn route(&self, subnet: IpNet) -> Object {
        Object::Route(Route {
            gateway: Some(self.address),
            link: Some(self.uplink.link.clone()),
            scope: list(subnet),
            protocol: owner::PROTOCOL,
            ..Route::new(subnet)
        })
    }
}

/// What `auto` comes down to on this machine.
pub(crate) fn choose(config: &Config, machine: &Machine, uplinks: &PerFamily<Uplink>) -> Chosen {
    let chosen = |backend, why: String| Chosen { backend, fallback: config.fallback, why };
    if config.backend != Backend::Auto {
        return chosen(config.backend, "it is configured".to_owned());
    }
    let offload = uplinks.iter().find(|(_, uplink)| machine.tunnel_offload.contains(&uplink.link));
    if let Some((_, uplink)) = offload {
        let why =
            format!("{} cuts and sums up what vxlan sends, but not what gpe does", uplink.link);
        return chosen(Backend::Vxlan, why);
    }
    if !machine.gpe_sound {
        let why = "gpe has errors in this kernel, which is older than 6.5".to_owned();
        return chosen(Backend::Vxlan, why);
    }
    let why =
        "no device here does anything for tunnels, and gpe needs one object a peer".to_owned();
    chosen(Backend::Gpe, why)
}

/// What this node has the others know by a source, apart from its subnets: how it is reached, as far
/// as that is not the source's own to know.
pub fn publication(config: &Config, name: &NodeName, machine: &Machine) -> Publication {
    let mut uplinks = PerFamily::default();
    let mut addresses = PerFamily::default();
    let is_configured = config.underlay != Underlay::default();
    let knows_addresses = matches!(config.source, Source::Kubernetes(_)) && !is_configured;
    for family in Family::ALL {
        if let Ok(uplink) = choose_uplink(config, None, machine, family) {
            *addresses.place(family) = Some(uplink.address).filter(|_| !knows_addresses);
            *uplinks.place(family) = Some(uplink);
        }
    }
    let backend = match choose(config, machine, &uplinks).backend {
        Backend::HostGw => "host-gw",
        Backend::Gpe => "gpe",
        Backend::Vxlan | Backend::Auto => "vxlan",
    };
    let (name, backend) = (name.clone(), backend.to_owned());
    Publication { name, addresses, backend, vni: config.tunnel.vni }
}

/// The preference of the rule by which pods reach other nodes through the tunnel: before the main
/// table (32766).
const RULE_PRIORITY: u32 = 3112;
/// That of the rule before it, for what came by the underlay and has to go back there.
const DIRECT_PRIORITY: u32 = RULE_PRIORITY - 1;

impl Joint<'_> {
    /// Whether packets to some peer may go through the tunnel.
    pub fn has_tunnel(&self) -> bool {
        self.tunnel().is_some()
    }

    /// The backend whose tunnel there is.
    pub(crate) fn tunnel(&self) -> Option<Backend> {
        match self.chosen.backend {
            Backend::HostGw => self.chosen.fallback,
            backend => Some(backend),
        }
    }

    /// What a tunnel takes from each packet, in bytes: Ethernet and VXLAN headers, UDP, IP.
    pub(crate) fn overhead(&self, outer: Family) -> u32 {
        let inner = if self.tunnel() == Some(Backend::Gpe) { 0 } else { 14 };
        inner + 8 + 8 + outer.header()
    }

    /// The family that packets of `inner` travel over through the tunnel, to whoever has both.
    pub(crate) fn outer(&self, inner: Family) -> Option<Family> {
        let mut outers = self.outers(self.tunnel()?, inner).into_iter();
        outers.find(|outer| self.uplinks.get(*outer).is_some())
    }

    /// The largest packet that reaches every peer, in bytes.
    pub fn mtu(&self) -> Option<u32> {
        let limit = |family: Family| {
            let outer = if self.has_tunnel() { self.outer(family)? } else { family };
            let mtu = self.uplinks.get(outer)?.mtu;
            Some(if self.has_tunnel() { mtu.saturating_sub(self.overhead(outer)) } else { mtu })
        };
        let most = self.me.subnets.iter().filter_map(|(family, _)| limit(family)).min();
        match (self.config.mtu, most) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        }
    }

    /// The tunnel device that packets of `family` go by.
    pub(crate) fn device(&self, family: Family) -> LinkName {
        self.config.tunnel.device_of(if self.is_classic() { family } else { Family::V4 })
    }

    pub(crate) fn is_classic(&self) -> bool {
        self.config.tunnel.form == TunnelForm::Classic && self.tunnel() == Some(Backend::Vxlan)
    }

    /// What all peers share: tunnel devices and what is on them.
    pub fn shared(&self) -> Vec<Object> {
        let Some(backend) = self.tunnel() else { return Vec::new() };
        let mut objects: Vec<Object> = Vec::new();
        let (tunnel, mtu) = (&self.config.tunnel, self.mtu());
        for (family, _) in self.me.subnets.iter() {
            let device = self.device(family);
            let is_there =
                |object: &Object| matches!(object, Object::Link(it) if it.name == device);
            if objects.iter().any(is_there) {
                continue;
            }
            let form = if self.is_classic() {
                let uplink = self.uplinks.get(family);
                VxlanForm::Classic {
                    vni: tunnel.vni,
                    underlay: uplink.map(|uplink| uplink.link.clone()),
                    local: uplink.map(|uplink| uplink.address),
                }
            } else {
                VxlanForm::External { gpe: backend == Backend::Gpe, filtered: self.vni_filter }
            };
            let filtered = matches!(form, VxlanForm::External { filtered: true, .. });
            let vxlan = Vxlan { port: tunnel.port, form };
            objects.push(Object::Link(Link {
                mac: (backend != Backend::Gpe).then(|| self.me.mac(family)),
                mtu,
                tx_checksum: self.tx_checksum,
                ..Link::vxlan(device.clone(), vxlan).up()
            }));
            if filtered {
                objects.push(Vni { link: device, vni: tunnel.vni }.into());
            }
        }
        for (family, subnet) in self.me.subnets.iter() {
            // The node's own address in the tunnel: the source of what it sends to pods, so that
            // answers come back the same way.
            let address = single(subnet.network());
            objects.push(
                Address {
                    nodad: !address.addr().is_ipv4(),
                    ..Address::new(self.device(family), address)
                }
                .into(),
            );
            let by_tunnel = Rule {
                priority: RULE_PRIORITY,
                v6: family == Family::V6,
                fwmark: None,
                from: Some(*subnet),
                to: None,
                table: owner::TABLE,
                protocol: owner::PROTOCOL,
            };
            let direct = Rule {
                priority: DIRECT_PRIORITY,
                fwmark: Some((owner::DIRECT_MARK, owner::DIRECT_MARK)),
                from: None,
                table: net::MAIN_TABLE,
                ..by_tunnel
            };
            objects.extend([direct, by_tunnel].map(Object::Rule));
        }
        objects
    }

    /// What joins this node to `peer` in the family of pods `family`, or why nothing does.
    pub fn peer(&self, peer: &Node, family: Family) -> Result<Vec<Object>, Problem> {
        let Some(subnet) = peer.subnets.get(family) else { return Ok(Vec::new()) };
        if self.me.subnets.get(family).is_none() {
            return Ok(Vec::new());
        }
        if let Some(on_link) = self.on_underlay(subnet) {
            let text = format!(
                "its pod subnet {subnet} overlaps with {on_link}, which the underlay has; give its \
                 pods another one"
            );
            return Err(Problem::peer(&peer.name, Code::SubnetOnUnderlay, text));
        }
        let hop = self.hop(peer, family)?;
        match hop.by {
            Backend::HostGw => Ok(vec![hop.route(*subnet)]),
            _ => self.tunnelled(peer, family, *subnet, hop.address),
        }
    }

    /// How pods of `family` on `peer` are reached, or why they are not.
    pub(crate) fn hop(&self, peer: &Node, family: Family) -> Result<Hop<'_>, Problem> {
        let first = self.hop_by(self.chosen.backend, peer, family);
        match self.chosen.fallback {
            Some(tunnel) if first.is_err() => self.hop_by(tunnel, peer, family),
            _ => first,
        }
    }

    /// The families that packets for pods of `inner` can travel over, the better one first. vxlan
    /// carries each over itself, as flannel does; gpe carries both over either.
    fn outers(&self, by: Backend, inner: Family) -> Vec<Family> {
        let mut outers = match (by, inner) {
            // IPv4 can also go by an IPv6 next hop, but not the other way round.
            (Backend::Gpe, _) | (Backend::HostGw, Family::V4) => vec![inner, inner.other()],
            _ => vec![inner],
        };
        if by == Backend::Gpe && !self.me.addresses.is_empty() {
            // From an address that is not in this node's entry others take nothing.
            outers.sort_by_key(|outer| self.me.addresses.get(*outer).is_none());
        }
        outers
    }

    fn hop_by(&self, by: Backend, peer: &Node, family: Family) -> Result<Hop<'_>, Problem> {
        let outers = self.outers(by, family);
        let ours = || outers.iter().filter_map(|outer| Some((*outer, self.uplinks.get(*outer)?)));
        let to = |(outer, uplink)| {
            let address = *peer.addresses.get(outer)?;
            Some(Hop { by, outer, uplink, address })
        };
        let Some(hop) = ours().find_map(to) else {
            return Err(no_address(peer, family, ours().next().is_some()));
        };
        let Hop { uplink, address, .. } = &hop;
        if by == Backend::HostGw && !uplink.on_link.iter().any(|net| net.contains(address)) {
            let text = format!(
                "{address} is not on the link of {}, so that host-gw cannot reach its pods; set \
                 fallback: vxlan, or join it by a tunnel backend",
                uplink.link
            );
            return Err(Problem::peer(&peer.name, Code::NotOnLink, text));
        }
        Ok(hop)
    }

    /// The network of the underlay that `subnet` has addresses of, if it does.
    pub(crate) fn on_underlay(&self, subnet: &IpNet) -> Option<IpNet> {
        let nets = self.uplinks.iter().flat_map(|(_, uplink)| &uplink.on_link);
        let mut nets = nets.filter(|net| net.contains(subnet) || subnet.contains(*net));
        nets.next().copied()
    }

    /// Through the tunnel: to the peer's pods, and from our pods to the peer itself.
    fn tunnelled(
        &self,
        peer: &Node,
        family: Family,
        subnet: IpNet,
        address: IpAddr,
    ) -> Result<Vec<Object>, Problem> {
        let device = self.device(family);
        let inner = subnet.network();
        let mac = peer.mac(family);
        let has_frames = self.tunnel() != Some(Backend::Gpe);
        if has_frames && mac == self.me.mac(family) {
            let text = format!("its tunnel end has our hardware address {mac}; names must differ");
            return Err(Problem::peer(&peer.name, Code::MacTwice, text));
        }
        let encap = (!self.is_classic()).then(|| Encap {
            vni: self.config.tunnel.vni,
            to: address,
            checksum: address.is_ipv6(),
        });
        let by_tunnel = |destination: IpNet, table: u32, source: Option<IpAddr>| {
            Object::Route(Route {
                gateway: has_frames.then_some(inner),
                link: Some(device.clone()),
                onlink: has_frames,
                encap,
                table,
                scope: list(destination),
                source,
                protocol: owner::PROTOCOL,
                ..Route::new(destination)
            })
        };
        let mut objects = Vec::with_capacity(4);
        if has_frames {
            // What resolves the next hop comes first: the kernel never asks for it.
            let link = device.clone();
            let protocol = owner::PROTOCOL;
            objects.push(Neighbour { link, address: inner, mac, protocol }.into());
            if self.is_classic() {
                objects.push(Fdb { link: device.clone(), mac, to: Some(address) }.into());
            }
        }
        objects.push(by_tunnel(subnet, net::MAIN_TABLE, self.me.inner(family)));
        // A pod reaches the peer by its own address, which an underlay may not carry. A node that
        // has no address of the family is not reached in it by anybody.
        if let Some(node) = peer.addresses.get(family) {
            objects.push(by_tunnel(single(*node), owner::TABLE, None));
        }
        Ok(objects)
    }
}

/// The scope of a route to a peer, which means nothing to packets: those of every scope below
/// that of a link are routes by a next hop. The kernel finds the next hops of IPv4 routes by
/// device, writer, source, metric and scope, and those that differ in none of these are one list,
/// which it walks to its end for each new route, comparing tunnels. A metric would do as well, but
/// two routes that differ in it stand beside each other: one of somebody else's, which has none,
/// would stand before ours unseen. One of another scope takes the place of ours, which is told.
fn list(destination: IpNet) -> Option<Scope> {
    // All numbers between that of the universe (0) and that of a link (253).
    const LISTS: u32 = 252;
    let IpNet::V4(of) = destination else { return None };
    // Networks are mostly given out one after the other.
    let host_bits = u32::from(of.max_prefix_len() - of.prefix_len());
    let number = u32::from(of.network()).checked_shr(host_bits).unwrap_or_default() % LISTS;
    u8::try_from(1 + number).ok().map(Scope::Other)
}

fn no_address(peer: &Node, family: Family, ours: bool) -> Problem {
    let who = if ours { "it has" } else { "this node has" };
    let text = format!(
        "{who} no address that {family} pods can be reached by; give it one, or leave its {family} \
         subnet out"
    );
    Problem::peer(&peer.name, Code::NoAddress, text)
}
