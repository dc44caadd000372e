//! The nftables ruleset as it should be: tables, chains with their rules, sets and their elements.
//!
//! Chains hold their rules, so that a chain is right or wrong as a whole. What changes with every
//! pod belongs into set and map elements instead: they have a key, so one can be added and removed
//! without touching its neighbours.

mod name;
mod statement;
pub mod text;
mod value;

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use name::Name;
pub use statement::{
    AddressFamily, Expression, Field, Nat, NatKind, NatTarget, Statement, Test, Transport, Verdict,
};
pub use value::{AddressType, CtDirection, CtState, CtStatus, KeyType, Value};

use crate::LinkName;

/// A part of the ruleset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    /// A table.
    Table(Table),
    /// A chain with exactly these rules.
    Chain(Chain),
    /// A set or a map, without its elements.
    Set(Set),
    /// One element of a set or a map.
    Element(Element),
}

/// Which packets a table sees: `NFPROTO_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames that a bridge switches.
    Bridge,
    /// Frames of one device, before or after everything else.
    Netdev,
    /// ARP.
    Arp,
}

/// The key of a table, and part of the key of all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableId {
    /// Which packets it sees.
    pub family: Family,
    /// Its name.
    pub name: Name,
}

/// A table. Deleting it deletes all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its key.
    pub id: TableId,
    /// A note for people; the kernel takes it at creation only.
    pub comment: Option<String>,
    /// None of its chains sees a packet, whatever is in them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dormant: bool,
}

/// A chain. The key is table and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Where it lives.
    pub table: TableId,
    /// Its name.
    pub name: String,
    /// Where packets enter it; `None` for a chain that only rules and maps jump to.
    pub base: Option<Base>,
    /// All of its rules, in order.
    pub rules: Vec<Rule>,
}

/// How a chain is hooked into the path of packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// What it may do.
    pub kind: ChainKind,
    /// Where on the path.
    pub hook: Hook,
    /// Lower runs earlier; see [`priority`].
    pub priority: i32,
    /// What happens to a packet that no rule decides about.
    pub policy: Policy,
    /// The devices of an ingress or egress hook; empty for all other hooks.
    pub devices: Vec<LinkName>,
}

/// The usual priorities (include/uapi/linux/netfilter_ipv4.h: `NF_IP_PRI_*`).
pub mod priority {
    /// Before connection tracking: the place for `notrack`.
    pub const RAW: i32 = -300;
    /// Rewriting of destinations.
    pub const DSTNAT: i32 = -100;
    /// Filters.
    pub const FILTER: i32 = 0;
    /// Rewriting of sources.
    pub const SRCNAT: i32 = 100;
}

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainKind {
    /// Decides about packets.
    Filter,
    /// Sees the first packet of each connection and rewrites its addresses.
    Nat,
    /// Looks the route up again when the packet was changed.
    Route,
}

/// A place on the path of packets: `NF_INET_*`, `NF_BR_*`, `NF_NETDEV_*`, `NF_ARP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hook {
    /// As it leaves the driver.
    Ingress,
    /// Before the routing decision.
    Prerouting,
    /// To this machine.
    Input,
    /// Through this machine.
    Forward,
    /// From this machine.
    Output,
    /// After the routing decision.
    Postrouting,
    /// Before it goes to the driver.
    Egress,
}

/// What a base chain does at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// Lets the packet on.
    Accept,
    /// Drops it.
    Drop,
}

/// One rule: statements from left to right, until one does not match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What it matches and does.
    pub statements: Vec<Statement>,
    /// A note for people.
    pub comment: Option<String>,
}

/// A set, or a map if it has a value. The key is table and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// Where it lives.
    pub table: TableId,
    /// Its name.
    pub name: String,
    /// What its elements are made of; more than one type is a concatenation.
    pub key: Vec<KeyType>,
    /// What the elements of a map lead to.
    pub value: Option<MapValue>,
    /// How it may be used.
    pub flags: SetFlags,
    /// A note for people.
    pub comment: Option<String>,
}

/// What the elements of a map lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapValue {
    /// A verdict.
    Verdict,
    /// Data; more than one type is a concatenation.
    Data(Vec<KeyType>),
    /// A named stateful object of this kind (`NFT_OBJECT_*`).
    Object(u32),
}

/// How a set may be used: `NFT_SET_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetFlags {
    /// Its keys are intervals: all of them, those of one value too.
    pub interval: bool,
    /// Rules may add elements.
    pub dynamic: bool,
    /// Elements may go away by themselves.
    pub timeout: bool,
    /// Its elements never change.
    pub constant: bool,
    /// It belongs to one rule and has no name of its own.
    pub anonymous: bool,
}

/// One element of a set or a map. The key is table, set and key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// Where the set lives.
    pub table: TableId,
    /// The set.
    pub set: Name,
    /// What it matches.
    pub key: Key,
    /// What it leads to, in a map.
    pub value: Option<Mapped>,
    /// A note for people.
    pub comment: Option<String>,
}

/// What an element matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Key {
    /// One value, with as many parts as the set's key has.
    Point(Vec<Value>),
    /// All values from the first to the last one, part by part, both included. An interval set
    /// takes no other keys: a single value is an interval from itself to itself.
    Interval(Vec<Value>, Vec<Value>),
    /// Everything that no other element matches: `*`.
    Rest,
}

/// What an element of a map leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mapped {
    /// A verdict.
    Verdict(Verdict),
    /// Data, with as many parts as the map's value has.
    Data(Vec<Value>),
    /// The name of a stateful object.
    Object(String),
}

impl TableId {
    /// The table `name` of `family`.
    pub fn new(family: Family, name: impl Into<Name>) -> Self {
        Self { family, name: name.into() }
    }
}

impl Object {
    /// The table that it is, or is in.
    pub fn table(&self) -> &TableId {
        match self {
            Self::Table(table) => &table.id,
            Self::Chain(chain) => &chain.table,
            Self::Set(set) => &set.table,
            Self::Element(element) => &element.table,
        }
    }
}

/// What of a ruleset acts: all but dormant tables and what is in them.
pub fn acting(ruleset: &[Object]) -> impl Iterator<Item = &Object> {
    let dormant: HashSet<&TableId> = ruleset
        .iter()
        .filter_map(|object| match object {
            Object::Table(table) if table.dormant => Some(&table.id),
            _ => None,
        })
        .collect();
    ruleset.iter().filter(move |object| !dormant.contains(object.table()))
}

impl Table {
    /// A table that acts, without a comment.
    pub fn new(id: TableId) -> Self {
        Self { id, comment: None, dormant: false }
    }
}

impl Rule {
    /// A rule without a comment.
    pub fn new(statements: impl Into<Vec<Statement>>) -> Self {
        Self { statements: statements.into(), comment: None }
    }
}

/// The network that goes from the first to the last address, if one does.
pub fn network(first: IpAddr, last: IpAddr) -> Option<IpNet> {
    (0..=128)
        .map_while(|length| IpNet::new(first, length).ok())
        .find(|net| net.network() == first && net.broadcast() == last)
}

impl From<IpNet> for Key {
    fn from(net: IpNet) -> Self {
        Self::Interval(vec![Value::Address(net.network())], vec![Value::Address(net.broadcast())])
    }
}

impl From<TableId> for Object {
    fn from(id: TableId) -> Self {
        Self::Table(Table::new(id))
    }
}

macro_rules! object_from {
    ($($kind:ident),*) => {
        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Self::$kind(object)
            }
        }

        impl From<$kind> for crate::Object {
            fn from(object: $kind) -> Self {
                Self::Nft(Object::$kind(object))
            }
        })*
    };
}

object_from!(Table, Chain, Set, Element);
