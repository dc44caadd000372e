//! What rtnetlink messages say, in both directions (include/uapi/linux/rtnetlink.h).
//!
//! One file a kind of object: `request` makes the payload of a message out of what should be,
//! `parse` reads what the kernel says. An attribute that is unknown or odd is passed over: it
//! never fails the message that it came in.

pub(crate) mod address;
mod info;
pub(crate) mod link;
pub(crate) mod neighbour;
pub(crate) mod netconf;
pub(crate) mod nsid;
pub(crate) mod qdisc;
pub(crate) mod route;
pub(crate) mod rule;
#[cfg(test)]
mod tests;
pub(crate) mod vni;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Message types (`RTM_*`).
pub(crate) mod rtm {
    pub(crate) const NEWLINK: u16 = 16;
    pub(crate) const DELLINK: u16 = 17;
    pub(crate) const GETLINK: u16 = 18;
    pub(crate) const SETLINK: u16 = 19;
    pub(crate) const NEWADDR: u16 = 20;
    pub(crate) const DELADDR: u16 = 21;
    pub(crate) const GETADDR: u16 = 22;
    pub(crate) const NEWROUTE: u16 = 24;
    pub(crate) const DELROUTE: u16 = 25;
    pub(crate) const GETROUTE: u16 = 26;
    pub(crate) const NEWNEIGH: u16 = 28;
    pub(crate) const DELNEIGH: u16 = 29;
    pub(crate) const GETNEIGH: u16 = 30;
    pub(crate) const NEWRULE: u16 = 32;
    pub(crate) const DELRULE: u16 = 33;
    pub(crate) const GETRULE: u16 = 34;
    pub(crate) const NEWQDISC: u16 = 36;
    pub(crate) const DELQDISC: u16 = 37;
    pub(crate) const GETQDISC: u16 = 38;
    pub(crate) const GETNETCONF: u16 = 82;
    pub(crate) const GETNSID: u16 = 90;
    pub(crate) const NEWTUNNEL: u16 = 120;
    pub(crate) const DELTUNNEL: u16 = 121;
    pub(crate) const GETTUNNEL: u16 = 122;
}

/// Multicast groups (`RTNLGRP_*`).
pub(crate) mod group {
    pub(crate) const LINK: u32 = 1;
    pub(crate) const NEIGHBOUR: u32 = 3;
    pub(crate) const ADDRESS_V4: u32 = 5;
    pub(crate) const ROUTE_V4: u32 = 7;
    pub(crate) const RULE_V4: u32 = 8;
    pub(crate) const ADDRESS_V6: u32 = 9;
    pub(crate) const ROUTE_V6: u32 = 11;
    pub(crate) const RULE_V6: u32 = 19;
    /// Linux 5.18.
    pub(crate) const TUNNEL: u32 = 35;
}

/// Address families.
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_BRIDGE: u8 = 7;
pub(crate) const AF_INET6: u8 = 10;

/// The family number of an address.
pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// An address as its 4 or 16 bytes.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// 4 or 16 bytes as an address.
pub(crate) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|b| Ipv4Addr::from(b).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|b| Ipv6Addr::from(b).into()),
        _ => None,
    }
}

/// The unspecified address of a family, for "any".
pub(crate) fn any(family: u8) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        AF_INET6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

pub(crate) fn u32_of(bytes: &[u8]) -> Option<u32> {
    bytes.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)
}

/// A text attribute without its closing zero.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
