//! What is there, as the kernel shows it: with indices, states and all that nobody asked for.
//!
//! `net`'s types say what should be; these say what is seen. [`Dump::objects`] leads from one to
//! the other.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use net::{Encap, Mac, QdiscKind, Rule, Scope};
use serde::{Deserialize, Serialize};

/// All of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// Devices by index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses, in the order in which the kernel lists them.
    pub addresses: Vec<Address>,
    /// Routes of all tables.
    pub routes: Vec<Route>,
    /// Virtual networks that tunnel ends take packets of: device and network.
    pub vnis: Vec<(u32, u32)>,
    /// Policy rules.
    pub rules: Vec<Rule>,
    /// Neighbours and forwarding entries.
    pub neighbours: Vec<Neighbour>,
    /// Root queueing disciplines.
    pub qdiscs: Vec<Qdisc>,
    /// The nftables ruleset.
    pub nft: Vec<net::nft::Object>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name there.
    pub name: String,
    /// What `ip -d link` calls its kind; empty for hardware and the loopback device.
    pub kind: String,
    /// Its hardware address, if it is an Ethernet one.
    pub mac: Option<Mac>,
    /// The largest packet that it takes, in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Asked to take every frame.
    pub promiscuous: bool,
    /// Whether it can carry packets.
    pub oper_state: OperState,
    /// The index of what it is a port of.
    pub master: Option<u32>,
    /// The index of the device that it stands on, or of its veth peer.
    pub parent: Option<u32>,
    /// The number that this namespace gave the namespace in which `parent` counts; without it,
    /// `parent` is an index of this namespace.
    pub parent_netns: Option<i32>,
    /// Its state as a bridge port.
    pub port: Option<Port>,
    /// What makes it the tunnel end that it is.
    pub vxlan: Option<Vxlan>,
    /// The text that somebody left on it.
    pub alias: Option<String>,
}

/// A VXLAN device's own attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vxlan {
    /// The virtual network; 0 where routes say which.
    pub vni: u32,
    /// The index of the device below it.
    pub underlay: Option<u32>,
    /// Its own end.
    pub local: Option<IpAddr>,
    /// The UDP port.
    pub port: u16,
    /// Routes say where packets go.
    pub external: bool,
    /// Takes packets of named networks only.
    pub filtered: bool,
    /// Carries IP packets without Ethernet headers.
    pub gpe: bool,
}

/// A bridge port's flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The spanning tree state: 0 disabled, 3 forwarding.
    pub state: u8,
    /// Frames may leave by the port they came in by.
    pub hairpin: bool,
    /// Cut off from other isolated ports.
    pub isolated: bool,
}

/// RFC 2863's operational states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperState {
    /// The driver does not say, as for the loopback device.
    Unknown,
    /// Cannot carry packets.
    Down,
    /// What it stands on cannot, e.g. the far end of a veth is down.
    LowerLayerDown,
    /// Waits for an event.
    Dormant,
    /// Carries packets.
    Up,
}

/// An address on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The device's index.
    pub index: u32,
    /// The address with its on-link prefix.
    pub address: IpNet,
    /// The IPv4 broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// How far it is valid; `Scope::Link` for IPv6 link-local addresses.
    pub scope: Scope,
    /// Taken without duplicate address detection.
    pub nodad: bool,
    /// Detection has not ended yet.
    pub tentative: bool,
    /// Somebody else has it.
    pub dad_failed: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// What it matches.
    pub destination: IpNet,
    /// What it does.
    pub kind: RouteKind,
    /// Where it sends; several for a multipath route.
    pub hops: Vec<Hop>,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// Lower wins.
    pub metric: Option<u32>,
    /// Its table.
    pub table: u32,
    /// Who wrote it.
    pub protocol: u8,
    /// How far the destination is.
    pub scope: Scope,
    /// The largest packet along it.
    pub mtu: Option<u32>,
    /// The largest TCP segment to advertise.
    pub advmss: Option<u32>,
    /// The next hop counts as on the link.
    pub onlink: bool,
    /// The tunnel that its packets are sent through.
    pub encap: Option<Encap>,
}

/// One way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The next router; `None` for what is on the link.
    pub gateway: Option<IpAddr>,
    /// The device.
    pub index: Option<u32>,
}

/// What a route does (`RTN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteKind {
    /// Sends on.
    Unicast,
    /// Delivers here.
    Local,
    /// Drops silently.
    Blackhole,
    /// Answers that there is no way.
    Unreachable,
    /// Another number.
    Other(u8),
}

/// A neighbour or a forwarding entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// A forwarding entry of a bridge or tunnel rather than a neighbour.
    pub bridge: bool,
    /// The device.
    pub index: u32,
    /// The IP address of the neighbour, or of the far tunnel end.
    pub address: Option<IpAddr>,
    /// The hardware address.
    pub mac: Option<Mac>,
    /// The bridge that holds the entry.
    pub master: Option<u32>,
    /// Written by somebody, never to expire.
    pub permanent: bool,
    /// Written by somebody, static.
    pub noarp: bool,
    /// Held by the bridge rather than by the device itself.
    pub of_master: bool,
    /// Who wrote it.
    pub protocol: u8,
}

/// A root queueing discipline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qdisc {
    /// The device.
    pub index: u32,
    /// What `tc` calls it.
    pub kind: String,
    /// Its parameters, for a token bucket.
    pub tbf: Option<QdiscKind>,
}
