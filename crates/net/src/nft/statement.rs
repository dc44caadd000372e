//! What a rule says, at the level at which a person writes it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Value;

/// One match or action of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// Goes on if the field passes the test: `ip saddr != 10.1.0.0/16`.
    Match {
        /// What is looked at.
        field: Field,
        /// Goes on if the test fails instead.
        negated: bool,
        /// What it should be.
        test: Test,
    },
    /// Goes on if the fields together are in a set: `iifname . ether saddr @allowed`.
    Lookup {
        /// What is looked up.
        key: Vec<Field>,
        /// Goes on if it is not in the set instead.
        negated: bool,
        /// The set, of the same table.
        set: String,
    },
    /// Does what a map says about the fields: `ip saddr vmap @masquerade4`.
    VerdictMap {
        /// What is looked up.
        key: Vec<Field>,
        /// The map, of the same table.
        map: String,
    },
    /// Decides.
    Verdict(Verdict),
    /// Gives the connection the address of the device that it leaves by.
    Masquerade {
        /// Chooses source ports at random.
        fully_random: bool,
    },
    /// Rewrites the source or the destination of the connection.
    Nat(Nat),
    /// Rewrites the destination to this machine, and to a port if one is given.
    Redirect {
        /// The new port.
        port: Option<u16>,
    },
    /// Counts packets and bytes. What it counted is no part of what should be.
    Counter,
    /// Marks the packet: `meta mark set 0x1`, or only some bits of it: `meta mark set meta mark | 0x1`.
    SetMark {
        /// The bits that are set; all others stay as they are.
        mask: u32,
        /// What they are set to: no other bits than those of the mask.
        value: u32,
    },
    /// Exempts the packet from connection tracking.
    NoTrack,
    /// What podwire does not understand, as the kernel holds it.
    Raw(Expression),
}

/// What a packet is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Field {
    /// `ip saddr`
    IpSource,
    /// `ip daddr`
    IpDestination,
    /// `ip6 saddr`
    Ip6Source,
    /// `ip6 daddr`
    Ip6Destination,
    /// `ether saddr`
    EtherSource,
    /// `ether daddr`
    EtherDestination,
    /// `iifname`
    InputName,
    /// `oifname`
    OutputName,
    /// `iiftype`
    InputType,
    /// `meta protocol`
    EtherType,
    /// `meta nfproto`
    NetworkFamily,
    /// `meta l4proto`
    Protocol,
    /// `tcp sport` and the like
    SourcePort(Transport),
    /// `tcp dport` and the like
    DestinationPort(Transport),
    /// `@th,96,24`: the virtual network of a VXLAN packet, in three bytes behind the UDP header. That
    /// it is one is for the port to say.
    Vni,
    /// `meta mark`
    Mark,
    /// `ct state`
    CtState,
    /// `ct status`
    CtStatus,
    /// `ct direction`
    CtDirection,
    /// `fib daddr type`
    DestinationType,
}

/// Whose ports are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// Those of any protocol (`th`), for keys that hold [`Field::Protocol`] too.
    Any,
}

/// What a field should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// Exactly this.
    Is(Value),
    /// In this network.
    Within(IpNet),
    /// A device name that begins like this: `"veth*"`.
    StartsWith(String),
    /// From the first to the last one, both included.
    Range(Value, Value),
    /// One of these flags at least: `ct state established,related`.
    Any(Value),
    /// A mark of which only some bits count.
    Masked {
        /// The bits that count.
        mask: u32,
        /// What they should be.
        value: u32,
    },
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It passes this hook.
    Accept,
    /// It is gone.
    Drop,
    /// The next rule decides.
    Continue,
    /// The chain that jumped here goes on; at the end of a base chain, its policy.
    Return,
    /// Another chain decides, and this one goes on if it does not.
    Jump(String),
    /// Another chain decides, and this one does not go on.
    Goto(String),
}

/// A rewriting of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// Which end is rewritten.
    pub kind: NatKind,
    /// What it is rewritten to.
    pub to: NatTarget,
}

/// The end of a connection that is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NatKind {
    /// The source.
    Snat,
    /// The destination.
    Dnat,
}

/// The families that addresses can be rewritten in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressFamily {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

/// What an address is rewritten to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NatTarget {
    /// An address and, if given, a port.
    Address(IpAddr, Option<u16>),
    /// What a map says about the fields: `dnat ip to ip daddr . tcp dport map @m`.
    Map {
        /// The family of the addresses in the map.
        family: AddressFamily,
        /// What is looked up.
        key: Vec<Field>,
        /// The map, of the same table. Its values are addresses, or addresses and ports.
        map: String,
        /// Whether the map's values have a port.
        port: bool,
    },
}

/// One kernel expression that podwire has no statement for.
///
/// It is what was read, byte for byte: what comes before it may load the registers that it uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expression {
    /// Its name (`NFTA_EXPR_NAME`).
    pub name: String,
    /// Its attributes (`NFTA_EXPR_DATA`).
    pub data: Vec<u8>,
}

impl Statement {
    /// `field value`
    pub fn is(field: Field, value: impl Into<Value>) -> Self {
        Self::Match { field, negated: false, test: Test::Is(value.into()) }
    }

    /// `field net`
    pub fn within(field: Field, net: IpNet) -> Self {
        Self::Match { field, negated: false, test: Test::Within(net) }
    }

    /// `key @set`
    pub fn lookup(key: impl Into<Vec<Field>>, set: impl Into<String>) -> Self {
        Self::Lookup { key: key.into(), negated: false, set: set.into() }
    }

    /// `key vmap @map`
    pub fn vmap(key: impl Into<Vec<Field>>, map: impl Into<String>) -> Self {
        Self::VerdictMap { key: key.into(), map: map.into() }
    }
}

impl From<Verdict> for Statement {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}
