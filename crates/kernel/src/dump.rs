//! What is there, as the kernel shows it: with indices, states and all that nobody asked for.
//!
//! `net`'s types say what should be; these say what is seen. [`Dump::objects`] leads from one to
//! the other.

mod info;
mod link;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use net::{Encap, Mac, QdiscKind, Scope};
use serde::{Deserialize, Serialize};

pub use self::info::{Bridge, LinkInfo, Tunnel, Vlan};
pub use self::link::{Counters, Link, LinkFlags, OperState, Port, Stats, Vxlan};

/// All of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    #[cfg_attr(feature = "schema", schemars(schema_with = "any_objects"))]
    pub nft: Vec<net::nft::Object>,
    /// What is in nftables beside it, which podwire has no object for.
    #[serde(default)]
    pub opaque: Vec<Opaque>,
}

/// A part of the nftables ruleset of which only its name is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Opaque {
    /// What it is: `table`, `chain`, `rule`, `set`, `flowtable`, `counter`, `quota`, ….
    pub kind: String,
    /// The family of its table, or the kernel's number of one that has no name here.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name; of a rule, that of its chain.
    pub name: String,
}

/// An address on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Address {
    /// The device's index.
    #[serde(rename = "ifindex")]
    pub index: u32,
    /// The address with its on-link prefix.
    #[serde(rename = "local")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
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
    #[serde(rename = "dadfailed", default)]
    pub dad_failed: bool,
    /// Goes away by itself, as one from a router or by DHCP does.
    #[serde(default)]
    pub dynamic: bool,
    /// No new connection uses it.
    #[serde(default)]
    pub deprecated: bool,
    /// The address at the other end of a point-to-point device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// Who gave it (`IFA_PROTO`); 0 where nobody says.
    #[serde(default)]
    pub protocol: u8,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Route {
    /// What it matches.
    #[serde(rename = "dst")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub destination: IpNet,
    /// What it does.
    #[serde(rename = "type")]
    pub kind: RouteKind,
    /// Where it sends; several for a multipath route.
    #[serde(rename = "nexthops")]
    pub hops: Vec<Hop>,
    /// The next hop object that says where it sends; the kernel tells what that means in `hops`, too.
    #[serde(rename = "nhid", default, skip_serializing_if = "Option::is_none")]
    pub hop_id: Option<u32>,
    /// The preferred source address.
    #[serde(rename = "prefsrc", default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Lower wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Its table.
    pub table: u32,
    /// Who wrote it.
    pub protocol: u8,
    /// How far the destination is.
    pub scope: Scope,
    /// The largest packet along it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The largest TCP segment to advertise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The next hop counts as on the link.
    #[serde(default)]
    pub onlink: bool,
    /// What its connections are to use, by bit (`RTAX_FEATURE_*`: 1 is ECN).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<u32>,
    /// The tunnel that its packets are sent through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encap: Option<Encap>,
}

/// One way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hop {
    /// The next router; `None` for what is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The device.
    #[serde(rename = "ifindex", default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Its share of a multipath route's packets beside the others'; 0 where there is one way.
    #[serde(default)]
    pub weight: u16,
    /// It is not used, because its device is down.
    #[serde(default)]
    pub dead: bool,
    /// Its device has no carrier.
    #[serde(default)]
    pub linkdown: bool,
}

/// What a route does (`RTN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// Sends on.
    Unicast,
    /// Delivers here.
    Local,
    /// Delivers here, and is to all on the link.
    Broadcast,
    /// Delivers here, and is to one of several.
    Anycast,
    /// Is to a group.
    Multicast,
    /// Drops silently.
    Blackhole,
    /// Answers that there is no way.
    Unreachable,
    /// Answers that it is forbidden.
    Prohibit,
    /// Ends the look into this table.
    Throw,
    /// Another number.
    Other(u8),
}

/// A policy rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rule {
    /// Rules are tried in rising order.
    pub priority: u32,
    /// One of IPv6 instead of IPv4.
    #[serde(default)]
    pub v6: bool,
    /// Packets from here.
    #[serde(rename = "src", default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub from: Option<IpNet>,
    /// Packets to here.
    #[serde(rename = "dst", default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub to: Option<IpNet>,
    /// The table to look in; 0 for a rule that does something else.
    #[serde(default)]
    pub table: u32,
    /// Who wrote it.
    #[serde(default)]
    pub protocol: u8,
    /// What it does instead of looking in a table: `goto`, `nop`, `blackhole`, `unreachable`,
    /// `prohibit`, or the kernel's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The rule that `goto` goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goto: Option<u32>,
    /// Packets with this mark, and the bits of it that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<(u32, u32)>,
    /// Packets that come in by this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    /// Packets that a socket on this device sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oif: Option<String>,
    /// Every packet but these.
    #[serde(default)]
    pub not: bool,
    /// Routes whose prefix is this short or shorter do not count.
    #[serde(rename = "suppress_prefixlen", default, skip_serializing_if = "Option::is_none")]
    pub suppress: Option<u32>,
    /// It matches by something else, too, which is not understood here.
    #[serde(default)]
    pub more: bool,
}

impl Rule {
    /// The rule as a plan can speak of it; `None` for one that matches by more than a mark and addresses, or
    /// does more than look in a table.
    pub fn object(&self) -> Option<net::Rule> {
        let Self { priority, v6, fwmark, from, to, table, protocol, .. } = *self;
        let plain = Self { priority, v6, fwmark, from, to, table, protocol, ..Self::default() };
        let rule = net::Rule { priority, v6, fwmark, from, to, table, protocol };
        (table != 0 && *self == plain).then_some(rule)
    }
}

/// A neighbour or a forwarding entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Neighbour {
    /// A forwarding entry of a bridge or tunnel rather than a neighbour.
    pub bridge: bool,
    /// The device.
    #[serde(rename = "ifindex")]
    pub index: u32,
    /// The IP address of the neighbour, or of the far tunnel end.
    #[serde(rename = "dst", default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The hardware address.
    #[serde(rename = "lladdr", default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub mac: Option<Mac>,
    /// The bridge that holds the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<u32>,
    /// What is known of it.
    #[serde(default)]
    pub state: NeighbourState,
    /// Written by somebody, never to expire.
    #[serde(default)]
    pub permanent: bool,
    /// Written by somebody, static.
    #[serde(default)]
    pub noarp: bool,
    /// Held by the bridge rather than by the device itself.
    #[serde(default)]
    pub of_master: bool,
    /// Learned by a program that tells the kernel, such as a routing daemon.
    #[serde(rename = "extern_learn", default)]
    pub learned_outside: bool,
    /// The VLAN of a forwarding entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Who wrote it.
    #[serde(default)]
    pub protocol: u8,
}

impl Neighbour {
    /// Whether somebody has written it: the kernel would not forget it by itself, and does not count it
    /// towards the limit of its table (`neigh_alloc` in net/core/neighbour.c).
    pub fn is_written(&self) -> bool {
        self.permanent || self.learned_outside
    }
}

/// What the kernel knows of a neighbour (`NUD_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum NeighbourState {
    /// Nothing yet.
    #[default]
    None,
    /// It was asked and has not answered.
    Incomplete,
    /// It answered a short while ago.
    Reachable,
    /// It answered some time ago.
    Stale,
    /// It is given time to show itself.
    Delay,
    /// It is asked again.
    Probe,
    /// It did not answer.
    Failed,
    /// It need not be asked.
    Noarp,
    /// Somebody wrote it, for ever.
    Permanent,
}

/// A root queueing discipline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Qdisc {
    /// The device.
    #[serde(rename = "ifindex")]
    pub index: u32,
    /// What `tc` calls it.
    pub kind: String,
    /// Its parameters, for a token bucket.
    pub tbf: Option<QdiscKind>,
}

/// Rules of nftables are told apart by what they say, which no schema holds fast.
#[cfg(feature = "schema")]
fn any_objects(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "array", "items": { "type": "object" } })
}
