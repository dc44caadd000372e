//! Addresses, routes, rules, neighbours and forwarding entries as they should be.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{LinkName, Mac};

/// The routing table that packets look in last but one: `RT_TABLE_MAIN`.
pub const MAIN_TABLE: u32 = 254;
/// `RTPROT_BOOT`: what `ip route add` writes when it is told nothing else.
pub const PROTOCOL_BOOT: u8 = 3;

/// `RTPROT_KERNEL`: what the kernel writes by itself, such as the route to an address' own subnet.
pub const PROTOCOL_KERNEL: u8 = 2;

/// An IP address on a device. The key is device, address and prefix length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The device that carries it.
    pub link: LinkName,
    /// The address with its host bits, and the length of its on-link prefix.
    pub address: IpNet,
    /// The IPv4 broadcast address, if one is to be set.
    pub broadcast: Option<Ipv4Addr>,
    /// IPv6: usable at once, without duplicate address detection (`IFA_F_NODAD`).
    pub nodad: bool,
}

impl Address {
    /// `address` on `link` with the broadcast address that its prefix gives (none for /31 and
    /// /32, nor for IPv6).
    pub fn new(link: LinkName, address: IpNet) -> Self {
        let broadcast = match address {
            IpNet::V4(v4) if v4.prefix_len() < 31 => Some(v4.broadcast()),
            _ => None,
        };
        Self { link, address, broadcast, nodad: false }
    }
}

/// Where a destination is reached: `RT_SCOPE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Scope {
    /// Anywhere.
    Universe,
    /// On the device's own segment.
    Link,
    /// On this machine.
    Host,
    /// Another number, as the kernel knows it.
    Other(u8),
}

impl Scope {
    /// The kernel's number.
    pub fn number(self) -> u8 {
        match self {
            Self::Universe => 0,
            Self::Link => 253,
            Self::Host => 254,
            Self::Other(n) => n,
        }
    }

    /// The scope with the kernel's number `n`.
    pub fn from_number(n: u8) -> Self {
        match n {
            0 => Self::Universe,
            253 => Self::Link,
            254 => Self::Host,
            n => Self::Other(n),
        }
    }
}

/// What a route does with what matches it: `RTN_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteKind {
    /// Sends it on.
    Unicast,
    /// Drops it silently.
    Blackhole,
    /// Answers that the destination cannot be reached.
    Unreachable,
}

/// A route. The key is table, destination, metric and next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// What it matches.
    pub destination: IpNet,
    /// What it does with it.
    pub kind: RouteKind,
    /// The next hop; `None` for what is on the link.
    pub gateway: Option<IpAddr>,
    /// The device to send by.
    pub link: Option<LinkName>,
    /// The source address that the node itself prefers here.
    pub source: Option<IpAddr>,
    /// Lower wins; `None` is the kernel's default (0 for IPv4, 1024 for IPv6).
    pub metric: Option<u32>,
    /// The routing table.
    pub table: u32,
    /// Who wrote it: `RTPROT_*`, see [`crate::owner::PROTOCOL`].
    pub protocol: u8,
    /// How far away the destination is; `None` is universe.
    pub scope: Option<Scope>,
    /// The largest packet along this route, in bytes.
    pub mtu: Option<u32>,
    /// The largest TCP segment to advertise, in bytes.
    pub advmss: Option<u32>,
    /// The next hop is on the link, whatever the device's addresses say (`RTNH_F_ONLINK`).
    pub onlink: bool,
    /// The tunnel that packets are sent through, by a device that leaves that to routes.
    pub encap: Option<Encap>,
}

/// Where a route's packets are tunnelled to (`LWTUNNEL_ENCAP_IP` and `LWTUNNEL_ENCAP_IP6` in
/// `include/uapi/linux/lwtunnel.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Encap {
    /// The virtual network (VNI).
    pub vni: u32,
    /// The far end.
    pub to: IpAddr,
    /// Sends UDP checksums. Over IPv6, what has none is dropped by the far end.
    pub checksum: bool,
}

impl Route {
    /// The route to its subnet that the kernel adds beside `address`, where the prefix spans others.
    pub fn connected(address: IpNet, link: LinkName) -> Self {
        let v4 = address.addr().is_ipv4();
        Self {
            link: Some(link),
            source: v4.then_some(address.addr()),
            metric: (!v4).then_some(CONNECTED_METRIC_V6),
            protocol: PROTOCOL_KERNEL,
            scope: v4.then_some(Scope::Link),
            ..Self::new(address)
        }
    }

    /// A unicast route in the main table, written as `ip route add` writes it.
    pub fn new(destination: IpNet) -> Self {
        Self {
            destination: destination.trunc(),
            kind: RouteKind::Unicast,
            gateway: None,
            link: None,
            source: None,
            metric: None,
            table: MAIN_TABLE,
            protocol: PROTOCOL_BOOT,
            scope: None,
            mtu: None,
            advmss: None,
            onlink: false,
            encap: None,
        }
    }

    /// Its metric; where none is asked for, the one that the kernel gives.
    pub fn effective_metric(&self) -> u32 {
        self.metric.unwrap_or(if self.destination.addr().is_ipv4() { 0 } else { 1024 })
    }
}

/// `IP6_RT_PRIO_ADDRCONF` (include/net/ip6_route.h).
const CONNECTED_METRIC_V6: u32 = 256;

/// A policy rule: which table packets from (and to) where look in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Rules are tried in rising order.
    pub priority: u32,
    /// IPv6 instead of IPv4, for rules that match neither source nor destination.
    pub v6: bool,
    /// Packets with this mark, and the bits of it that count.
    pub fwmark: Option<(u32, u32)>,
    /// Packets from here.
    pub from: Option<IpNet>,
    /// Packets to here.
    pub to: Option<IpNet>,
    /// The table to look in.
    pub table: u32,
    /// Who wrote it.
    pub protocol: u8,
}

impl Rule {
    /// Whether it is one of IPv6: as its addresses are, if it matches any.
    pub fn is_v6(&self) -> bool {
        self.from.or(self.to).map_or(self.v6, |net| net.addr().is_ipv6())
    }
}

/// A permanent neighbour: which hardware address an IP address on a device has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The device behind which it lives.
    pub link: LinkName,
    /// Its IP address.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
    /// Who wrote it (`NDA_PROTOCOL`); 0 is unspecified.
    pub protocol: u8,
}

/// A static forwarding entry: behind which port, or at which tunnel end, a hardware address is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fdb {
    /// The bridge port or the tunnel device.
    pub link: LinkName,
    /// The hardware address.
    pub mac: Mac,
    /// The far tunnel end, for a VXLAN device; `None` for a bridge port.
    pub to: Option<IpAddr>,
}

/// A virtual network whose packets a tunnel device takes, see [`crate::VxlanForm::External`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vni {
    /// The tunnel device.
    pub link: LinkName,
    /// The network.
    pub vni: u32,
}
