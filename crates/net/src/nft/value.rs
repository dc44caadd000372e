//! What rules compare with and sets hold: values and their types.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::BitOr;

use serde::{Deserialize, Serialize};

use crate::{LinkName, Mac};

/// One value, or one part of a concatenated key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Value {
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// A hardware address.
    Ether(Mac),
    /// The name of a device.
    Interface(LinkName),
    /// The kind of a device: `ARPHRD_*`.
    DeviceType(u16),
    /// What a frame carries: `ETH_P_*`.
    EtherType(u16),
    /// A transport protocol: `IPPROTO_*`.
    Protocol(u8),
    /// A network protocol: `NFPROTO_*`.
    NetworkFamily(u8),
    /// A transport port.
    Port(u16),
    /// A packet mark.
    Mark(u32),
    /// States of a connection.
    CtState(CtState),
    /// What happened to a connection.
    CtStatus(CtStatus),
    /// Which way of a connection.
    CtDirection(CtDirection),
    /// Whose address it is.
    AddressType(AddressType),
    /// Bytes as the kernel holds them, of a type that podwire does not know.
    Raw(Vec<u8>),
}

/// What a value is: the data types of nft (include/datatype.h of nftables).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyType {
    /// `ipv4_addr`
    Ipv4Addr,
    /// `ipv6_addr`
    Ipv6Addr,
    /// `ether_addr`
    EtherAddr,
    /// `ifname`
    Ifname,
    /// `iface_type`
    IfaceType,
    /// `ether_type`
    EtherType,
    /// `inet_proto`
    InetProto,
    /// `nf_proto`
    NfProto,
    /// `inet_service`
    InetService,
    /// `mark`
    Mark,
    /// `ct_state`
    CtState,
    /// `ct_status`
    CtStatus,
    /// `ct_dir`
    CtDirection,
    /// `fib_addrtype`
    FibAddrtype,
    /// A type that podwire does not know.
    Other {
        /// The number that nft gave it in `NFTA_SET_KEY_TYPE` or `NFTA_SET_DATA_TYPE`.
        number: u32,
        /// How long its values are.
        bytes: u32,
    },
}

/// A set of connection states (`NF_CT_STATE_BIT`, include/uapi/linux/netfilter/nf_conntrack_common.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CtState(pub u32);

impl CtState {
    /// No valid part of any connection.
    pub const INVALID: Self = Self(1);
    /// Of a connection that was seen in both directions.
    pub const ESTABLISHED: Self = Self(2);
    /// Opened by another connection, or an ICMP error about one.
    pub const RELATED: Self = Self(4);
    /// The first of a connection.
    pub const NEW: Self = Self(8);
    /// Exempt from connection tracking: see [`super::Statement::NoTrack`].
    pub const UNTRACKED: Self = Self(64);
}

impl BitOr for CtState {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A set of things that happened to a connection (`enum ip_conntrack_status`, `IPS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CtStatus(pub u32);

impl CtStatus {
    /// Its source was rewritten.
    pub const SNAT: Self = Self(1 << 4);
    /// Its destination was rewritten.
    pub const DNAT: Self = Self(1 << 5);
}

/// Which way of a connection a packet goes (`enum ip_conntrack_dir`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CtDirection(pub u8);

impl CtDirection {
    /// From the one that opened it.
    pub const ORIGINAL: Self = Self(0);
    /// Back to the one that opened it.
    pub const REPLY: Self = Self(1);
}

/// Whose an address is, by the routing tables: `RTN_*` in include/uapi/linux/rtnetlink.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddressType(pub u32);

impl AddressType {
    /// Another machine's.
    pub const UNICAST: Self = Self(1);
    /// This machine's.
    pub const LOCAL: Self = Self(2);
    /// All machines' of a segment.
    pub const BROADCAST: Self = Self(3);
    /// A group's.
    pub const MULTICAST: Self = Self(5);
}

macro_rules! value_from {
    ($($kind:ty => $variant:ident),* $(,)?) => {
        $(impl From<$kind> for Value {
            fn from(value: $kind) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

value_from!(
    IpAddr => Address,
    Ipv4Addr => Address,
    Ipv6Addr => Address,
    Mac => Ether,
    LinkName => Interface,
    CtState => CtState,
    CtStatus => CtStatus,
    CtDirection => CtDirection,
    AddressType => AddressType,
);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Ether(mac) => mac.fmt(f),
            Self::Interface(name) => write!(f, "\"{name}\""),
            Self::DeviceType(1) => f.write_str("ether"),
            Self::DeviceType(number) => number.fmt(f),
            Self::EtherType(number) => match number {
                0x0800 => f.write_str("ip"),
                0x0806 => f.write_str("arp"),
                0x86dd => f.write_str("ip6"),
                number => write!(f, "{number:#06x}"),
            },
            Self::NetworkFamily(number) => match number {
                2 => f.write_str("ipv4"),
                10 => f.write_str("ipv6"),
                number => number.fmt(f),
            },
            Self::Protocol(number) => match number {
                1 => f.write_str("icmp"),
                6 => f.write_str("tcp"),
                17 => f.write_str("udp"),
                58 => f.write_str("ipv6-icmp"),
                132 => f.write_str("sctp"),
                number => number.fmt(f),
            },
            Self::Port(port) => port.fmt(f),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
            Self::CtState(CtState(bits)) => {
                const NAMES: [(u32, &str); 5] = [
                    (1, "invalid"),
                    (2, "established"),
                    (4, "related"),
                    (8, "new"),
                    (64, "untracked"),
                ];
                flags(f, *bits, &NAMES)
            }
            Self::CtDirection(CtDirection::ORIGINAL) => f.write_str("original"),
            Self::CtDirection(CtDirection::REPLY) => f.write_str("reply"),
            Self::CtDirection(CtDirection(number)) => number.fmt(f),
            Self::CtStatus(CtStatus(bits)) => {
                const NAMES: [(u32, &str); 7] = [
                    (1 << 0, "expected"),
                    (1 << 1, "seen-reply"),
                    (1 << 2, "assured"),
                    (1 << 3, "confirmed"),
                    (1 << 4, "snat"),
                    (1 << 5, "dnat"),
                    (1 << 9, "dying"),
                ];
                flags(f, *bits, &NAMES)
            }
            Self::AddressType(AddressType(number)) => match number {
                1 => f.write_str("unicast"),
                2 => f.write_str("local"),
                3 => f.write_str("broadcast"),
                4 => f.write_str("anycast"),
                5 => f.write_str("multicast"),
                number => number.fmt(f),
            },
            Self::Raw(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// The names of the bits that are set, or the number where one of them has no name.
fn flags(f: &mut fmt::Formatter<'_>, bits: u32, names: &[(u32, &str)]) -> fmt::Result {
    let named: u32 = names.iter().map(|(bit, _)| bit).sum();
    if bits == 0 || bits & !named != 0 {
        return write!(f, "{bits:#x}");
    }
    let set: Vec<_> =
        names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    f.write_str(&set.join(","))
}
