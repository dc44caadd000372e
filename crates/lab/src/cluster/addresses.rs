//! Who has which address: all of it follows from numbers that a person can see.
//!
//! Networks are those for documentation (RFC 5737, RFC 3849), and private ones for pods.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fabric::Family;
use ipnet::IpNet;

use crate::{Namespace, Underlay};

/// A network of the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wire {
    /// The bridge that is its switch.
    pub(super) bridge: &'static str,
    v4: [u8; 3],
    v6: u16,
}

const SWITCH: [Wire; 1] = [Wire { bridge: "br0", v4: [192, 0, 2], v6: 1 }];
const ROUTED: [Wire; 2] = [
    Wire { bridge: "br1", v4: [192, 0, 2], v6: 1 },
    Wire { bridge: "br2", v4: [198, 51, 100], v6: 2 },
];
const OUTSIDE: Wire = Wire { bridge: "", v4: [203, 0, 113], v6: 0xff };

/// The number of the host that is not a router.
const HOST: u8 = 10;

/// The networks that nodes are on.
pub(super) fn wires(underlay: Underlay) -> &'static [Wire] {
    match underlay {
        Underlay::Switch => &SWITCH,
        Underlay::Routed => &ROUTED,
    }
}

/// The network that a node is on.
pub(super) fn wire_of(underlay: Underlay, node: &Namespace) -> Wire {
    match wires(underlay) {
        [_, even] if number(node).is_multiple_of(2) => *even,
        wires => wires[0],
    }
}

/// The number in a node's name.
fn number(node: &Namespace) -> u8 {
    let digits = node.name.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or_default()
}

impl Wire {
    /// The address of the router, with the length of the network's prefix.
    pub(super) fn gateway(self, family: Family) -> IpNet {
        self.host(family, 1)
    }

    /// The address of a node.
    pub(super) fn node(self, family: Family, node: &Namespace) -> IpNet {
        self.host(family, HOST + number(node))
    }

    fn host(self, family: Family, host: u8) -> IpNet {
        match family {
            Family::V4 => {
                let [a, b, c] = self.v4;
                net(Ipv4Addr::new(a, b, c, host).into(), 24)
            }
            Family::V6 => {
                net(Ipv6Addr::new(0x2001, 0xdb8, self.v6, 0, 0, 0, 0, digits(host)).into(), 64)
            }
        }
    }
}

/// The addresses of the host beyond the cluster, and of the router on its way there.
pub(super) fn outside(family: Family) -> (IpNet, IpNet) {
    (OUTSIDE.host(family, HOST), OUTSIDE.gateway(family))
}

/// The address of the resolver, which is on the host beyond the cluster: its last part is the port that
/// it answers at.
pub(super) fn resolver(family: Family) -> IpNet {
    OUTSIDE.host(family, 53)
}

/// The addresses of a node's pods.
pub(super) fn pods(family: Family, node: &Namespace) -> IpNet {
    let number = number(node);
    match family {
        Family::V4 => net(Ipv4Addr::new(10, 244, number, 0).into(), 24),
        Family::V6 => {
            net(Ipv6Addr::new(0xfd00, 0x10, 0x244, digits(number), 0, 0, 0, 0).into(), 64)
        }
    }
}

/// The addresses of all pods.
pub(super) fn all_pods(family: Family) -> IpNet {
    match family {
        Family::V4 => net(Ipv4Addr::new(10, 244, 0, 0).into(), 16),
        Family::V6 => net(Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0).into(), 48),
    }
}

/// The way to everywhere.
pub(super) fn everywhere(family: Family) -> IpNet {
    match family {
        Family::V4 => net(Ipv4Addr::UNSPECIFIED.into(), 0),
        Family::V6 => net(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

/// The number whose hexadecimal digits read as the decimal ones of `number`.
fn digits(number: u8) -> u16 {
    let number = u16::from(number);
    number / 100 * 256 + number / 10 % 10 * 16 + number % 10
}

/// An address with its network; the lengths above are all right.
fn net(address: IpAddr, length: u8) -> IpNet {
    IpNet::new(address, length).unwrap_or_else(|_| IpNet::from(address))
}
