//! `RTM_*ROUTE`: `struct rtmsg` and `RTA_*` (include/uapi/linux/rtnetlink.h).

use std::net::IpAddr;

use ipnet::IpNet;
use net::{Encap, Route, RouteKind, Scope};

use super::{any, family, ip, octets, u32_of};
use crate::attribute::{Writer, iterate};
use crate::dump;
use crate::error::Result;
use crate::netlink::Socket;

const DST: u16 = 1;
const SRC: u16 = 2;
const OIF: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const PREFSRC: u16 = 7;
const METRICS: u16 = 8;
const MULTIPATH: u16 = 9;
const TABLE: u16 = 15;
const VIA: u16 = 18;
const ENCAP_TYPE: u16 = 21;
const ENCAP: u16 = 22;
const NH_ID: u16 = 30;

/// `LWTUNNEL_ENCAP_*`.
const ENCAP_IP: u16 = 2;
const ENCAP_IP6: u16 = 4;
/// `LWTUNNEL_IP_*`, which are the same numbers as `LWTUNNEL_IP6_*`.
const ENCAP_ID: u16 = 1;
const ENCAP_DST: u16 = 2;
const ENCAP_FLAGS: u16 = 6;
/// `TUNNEL_CSUM` (include/uapi/linux/if_tunnel.h).
const WITH_CHECKSUM: u16 = 1;

const METRIC_MTU: u16 = 2;
const METRIC_ADVMSS: u16 = 8;
const METRIC_FEATURES: u16 = 12;

const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const BLACKHOLE: u8 = 6;
const UNREACHABLE: u8 = 7;
const CLONED: u32 = 0x200;
/// `RTNH_F_ONLINK`.
const ONLINK: u32 = 4;
/// `RTNH_F_DEAD` and `RTNH_F_LINKDOWN`.
const DEAD: u32 = 1;
const LINKDOWN: u32 = 16;

const HEADER: usize = 12;

/// The payload of a request that adds or removes `route`; `index` is the device's, 0 for none.
pub(crate) fn request(route: &Route, index: u32) -> Vec<u8> {
    let destination = route.destination;
    let kind = match route.kind {
        RouteKind::Unicast => UNICAST,
        RouteKind::Blackhole => BLACKHOLE,
        RouteKind::Unreachable => UNREACHABLE,
    };
    let mut header = [0; HEADER];
    header[0] = family(destination.addr());
    header[1] = destination.prefix_len();
    // Tables above 255 are only in the attribute; 252 is RT_TABLE_COMPAT.
    header[4] = u8::try_from(route.table).unwrap_or(252);
    header[5] = route.protocol;
    header[6] = route.scope.map_or(Scope::Universe, |scope| scope).number();
    header[7] = kind;
    if route.onlink {
        header[8..].copy_from_slice(&ONLINK.to_ne_bytes());
    }
    let mut writer = Writer::after(&header);
    writer.put(TABLE, &route.table.to_ne_bytes());
    if destination.prefix_len() > 0 {
        writer.put(DST, &octets(destination.addr()));
    }
    if index != 0 {
        writer.put(OIF, &index.to_ne_bytes());
    }
    match route.gateway {
        Some(gateway) if family(gateway) == header[0] => {
            writer.put(GATEWAY, &octets(gateway));
        }
        Some(gateway) => {
            let family = u16::from(family(gateway)).to_ne_bytes();
            writer.put(VIA, &[&family[..], &octets(gateway)].concat());
        }
        None => {}
    }
    if let Some(source) = route.source {
        writer.put(PREFSRC, &octets(source));
    }
    if let Some(metric) = route.metric {
        writer.put(PRIORITY, &metric.to_ne_bytes());
    }
    if route.mtu.is_some() || route.advmss.is_some() {
        writer.nest(METRICS, |metrics| {
            if let Some(mtu) = route.mtu {
                metrics.put(METRIC_MTU, &mtu.to_ne_bytes());
            }
            if let Some(advmss) = route.advmss {
                metrics.put(METRIC_ADVMSS, &advmss.to_ne_bytes());
            }
        });
    }
    if let Some(encap) = &route.encap {
        let kind = if encap.to.is_ipv4() { ENCAP_IP } else { ENCAP_IP6 };
        writer.put(ENCAP_TYPE, &kind.to_ne_bytes()).nest(ENCAP, |inner| {
            inner.put(ENCAP_ID, &u64::from(encap.vni).to_be_bytes());
            inner.put(ENCAP_DST, &octets(encap.to));
            if encap.checksum {
                inner.put(ENCAP_FLAGS, &WITH_CHECKSUM.to_be_bytes());
            }
        });
    }
    writer.bytes().to_vec()
}

/// The payload of a request for all routes of all families.
pub(crate) fn all() -> Vec<u8> {
    vec![0; HEADER]
}

/// The payload of a request for all routes of one family.
pub(crate) fn of_family(family: u8) -> Vec<u8> {
    let mut header = all();
    header[0] = family;
    header
}

/// The entry of the routing tables that a packet of this namespace itself to `address` meets, if it
/// sends it on.
pub(crate) fn look_up(socket: &mut Socket, address: IpAddr) -> Result<Option<dump::Route>> {
    // The last two are what entries of the kinds blackhole and prohibit answer.
    const NO_WAY: [i32; 4] = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EINVAL, libc::EACCES];
    let mut found = None;
    let answer = socket.get(super::rtm::GETROUTE, &to(address), |message| {
        found = parse(message.payload);
    });
    match answer {
        Err(error) if error.raw_errno().is_some_and(|errno| NO_WAY.contains(&errno)) => Ok(None),
        Err(error) => Err(error.during(format!("look up the route to {address}"))),
        Ok(_) => Ok(found),
    }
}

/// The payload of a request for the entry of the routing tables that a packet to `address` meets.
fn to(address: IpAddr) -> Vec<u8> {
    const FIB_MATCH: u32 = 0x2000;
    let mut header = [0; HEADER];
    header[0] = family(address);
    header[1] = IpNet::from(address).prefix_len();
    header[8..].copy_from_slice(&FIB_MATCH.to_ne_bytes());
    Writer::after(&header).put(DST, &octets(address)).bytes().to_vec()
}

/// The payload of a request for the way that a packet takes.
pub(crate) fn between(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let mut header = [0; HEADER];
    header[0] = family(to);
    header[1] = IpNet::from(to).prefix_len();
    header[2] = IpNet::from(from).prefix_len();
    let mut writer = Writer::after(&header);
    writer.put(DST, &octets(to)).put(SRC, &octets(from)).bytes().to_vec()
}

/// Reads the way of one packet: by which device, and over which gateway; none if it stays here.
pub(crate) fn hop(payload: &[u8]) -> Option<(u32, Option<IpAddr>)> {
    let header = payload.get(..HEADER)?;
    if header[7] != libc::RTN_UNICAST {
        return None;
    }
    let (mut device, mut gateway) = (None, None);
    for (kind, value) in iterate(&payload[HEADER..]) {
        match kind {
            OIF => device = u32_of(value),
            GATEWAY => gateway = ip(value),
            VIA => gateway = value.get(2..).and_then(ip),
            _ => {}
        }
    }
    Some((device?, gateway))
}

/// Reads a route message. Routes that packets left behind (the IPv6 cache) are not routes; those
/// of the local table are the kernel's own bookkeeping, and are told apart by their table.
pub(crate) fn parse(payload: &[u8]) -> Option<dump::Route> {
    let header = payload.get(..HEADER)?;
    let flags = u32_of(&header[8..])?;
    if flags & CLONED != 0 {
        return None;
    }
    let mut destination = any(header[0])?;
    let mut route = dump::Route {
        destination: IpNet::new(destination, 0).ok()?,
        kind: match header[7] {
            UNICAST => dump::RouteKind::Unicast,
            LOCAL => dump::RouteKind::Local,
            3 => dump::RouteKind::Broadcast,
            4 => dump::RouteKind::Anycast,
            5 => dump::RouteKind::Multicast,
            BLACKHOLE => dump::RouteKind::Blackhole,
            UNREACHABLE => dump::RouteKind::Unreachable,
            8 => dump::RouteKind::Prohibit,
            9 => dump::RouteKind::Throw,
            other => dump::RouteKind::Other(other),
        },
        hops: Vec::new(),
        hop_id: None,
        source: None,
        metric: None,
        table: u32::from(header[4]),
        protocol: header[5],
        scope: Scope::from_number(header[6]),
        mtu: None,
        advmss: None,
        onlink: flags & ONLINK != 0,
        features: None,
        encap: None,
    };
    let mut hop = dump::Hop {
        dead: flags & DEAD != 0,
        linkdown: flags & LINKDOWN != 0,
        ..dump::Hop::default()
    };
    let (mut tunnel, mut by_ip) = (None, false);
    for (kind, value) in iterate(&payload[HEADER..]) {
        match kind {
            DST => destination = ip(value)?,
            OIF => hop.index = u32_of(value),
            GATEWAY => hop.gateway = ip(value),
            VIA => hop.gateway = value.get(2..).and_then(ip),
            PREFSRC => route.source = ip(value),
            PRIORITY => route.metric = u32_of(value),
            TABLE => route.table = u32_of(value)?,
            METRICS => {
                for (kind, value) in iterate(value) {
                    match kind {
                        METRIC_MTU => route.mtu = u32_of(value),
                        METRIC_ADVMSS => route.advmss = u32_of(value),
                        METRIC_FEATURES => route.features = u32_of(value),
                        _ => {}
                    }
                }
            }
            MULTIPATH => route.hops = hops(value),
            NH_ID => route.hop_id = u32_of(value),
            ENCAP => tunnel = encap(value),
            ENCAP_TYPE => {
                by_ip = [ENCAP_IP, ENCAP_IP6].map(u16::to_ne_bytes).iter().any(|it| it == value);
            }
            _ => {}
        }
    }
    if hop.gateway.is_some() || hop.index.is_some() {
        route.hops.push(hop);
    }
    route.destination = IpNet::new(destination, header[1]).ok()?;
    // What other kinds of tunnel have in these places means something else.
    route.encap = tunnel.filter(|_| by_ip);
    Some(route)
}

/// The tunnel of a route.
fn encap(value: &[u8]) -> Option<Encap> {
    let (mut vni, mut to, mut checksum) = (0, None, false);
    for (kind, value) in iterate(value) {
        match kind {
            // Eight bytes of which a VXLAN network has the last three.
            ENCAP_ID => {
                let id = value.try_into().map(u64::from_be_bytes).unwrap_or_default();
                vni = u32::try_from(id).unwrap_or_default();
            }
            ENCAP_DST => to = ip(value),
            ENCAP_FLAGS => {
                let flags = value.try_into().map(u16::from_be_bytes).unwrap_or_default();
                checksum = flags & WITH_CHECKSUM != 0;
            }
            _ => {}
        }
    }
    Some(Encap { vni, to: to?, checksum })
}

/// `struct rtnexthop`, each followed by attributes of its own.
fn hops(mut bytes: &[u8]) -> Vec<dump::Hop> {
    const NEXTHOP: usize = 8;
    let mut hops = Vec::new();
    while let Some(header) = bytes.get(..NEXTHOP) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(attributes) = bytes.get(NEXTHOP..length) else { break };
        let gateway = iterate(attributes).find_map(|(kind, value)| match kind {
            GATEWAY => ip(value),
            VIA => value.get(2..).and_then(ip),
            _ => None,
        });
        let flags = u32::from(header[2]);
        hops.push(dump::Hop {
            gateway,
            index: u32_of(&header[4..]),
            // The kernel counts from 0.
            weight: u16::from(header[3]) + 1,
            dead: flags & DEAD != 0,
            linkdown: flags & LINKDOWN != 0,
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}
