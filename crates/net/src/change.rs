//! A change is a value: it can be applied, undone, compared, printed and logged.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::nft;
use crate::{Address, Fdb, Link, LinkName, Mac, Neighbour, Qdisc, Route, Rule, Space, Vni};

/// One change to one namespace of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Makes what is ours alone; that it is there already is an error. Undone by `Delete`.
    Create(Object),
    /// Sees to what is shared; that it is there already, as asked, is done. Never undone.
    Ensure(Object),
    /// Turns one object into another with the same key, in one atomic message.
    Replace {
        /// As it is seen now. Replacements are rare, and steps are many.
        from: Box<Object>,
        /// As it should be.
        to: Object,
    },
    /// Removes the whole object as it was seen; that it is gone already is done.
    Delete(Object),
    /// Does something that leaves no object behind. Never undone.
    Act(Action),
}

/// Anything of the network that podwire makes or removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    /// A network namespace bound to a path.
    Netns(Netns),
    /// A network device.
    Link(Link),
    /// An address on a device.
    Address(Address),
    /// A route.
    Route(Route),
    /// A policy rule.
    Rule(Rule),
    /// A permanent neighbour.
    Neighbour(Neighbour),
    /// A static forwarding entry.
    Fdb(Fdb),
    /// A virtual network that a tunnel device takes packets of.
    Vni(Vni),
    /// How a device queues what it sends.
    Qdisc(Qdisc),
    /// A kernel setting of the namespace.
    Sysctl(Sysctl),
    /// A part of the nftables ruleset.
    Nft(nft::Object),
    /// A flow that goes on to where it went first.
    Tracked(Tracked),
    /// A small file.
    File(File),
}

/// A network namespace that outlives its processes by a mount at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netns {
    /// Where it is bound.
    pub path: PathBuf,
}

/// A setting below `/proc/sys`, of the namespace it is written in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// The path below `/proc/sys`, e.g. `net/ipv4/ip_forward`. Slashes, because device names
    /// may hold dots.
    pub key: String,
    /// What it should read.
    pub value: String,
    /// Whether it is a nicety: that the kernel has no such setting, or that it cannot be
    /// written, is then no failure.
    pub best_effort: bool,
}

impl Sysctl {
    /// A setting that has to hold.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into(), best_effort: false }
    }

    /// A setting that is good to have.
    pub fn nicety(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { best_effort: true, ..Self::new(key, value) }
    }
}

/// A small text file, written as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// All of it.
    pub content: String,
}

/// What a step does that leaves no object behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Waits until the device can carry packets (operational state up), at most `millis`.
    WaitUp {
        /// The device.
        link: LinkName,
        /// How long to wait, in milliseconds.
        millis: u32,
    },
    /// Waits until duplicate address detection has ended for addresses of the device (RFC 4862
    /// section 5.4) and packets to them are delivered, at most `millis`.
    WaitAddresses {
        /// The device.
        link: LinkName,
        /// Those addresses; all that it has if none is named.
        addresses: Vec<IpAddr>,
        /// How long to wait, in milliseconds.
        millis: u32,
    },
    /// Has the kernel tell the segment where the device's addresses live now: gratuitous ARP (RFC
    /// 5227 section 3) and unsolicited neighbour advertisements (RFC 4861 section 7.2.6). It does so
    /// when a hardware address is set, be it the same one, on a device with the settings
    /// `arp_notify` and `ndisc_notify`.
    Announce {
        /// The device.
        link: LinkName,
        /// The hardware address that it has.
        mac: Mac,
    },
    /// Forgets the connections from and to addresses that are no longer whose they were.
    FlushConntrack {
        /// Those addresses.
        addresses: Vec<IpAddr>,
    },
    /// Forgets the flows to ports that lead somewhere else now. Datagrams have no end, so a tracked
    /// flow goes on to where it went first for as long as its sender does.
    FlushFlows {
        /// What was sent to.
        flows: Vec<Flow>,
    },
}

/// What was sent to one port of some addresses, by one protocol: what connections are tracked by,
/// before any rewriting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The addresses; all of a family are a network too.
    pub destination: IpNet,
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

/// A flow of datagrams that was sent to one address and is led to another one (DNAT), which the kernel
/// keeps to whatever rules say by now: an entry of its table of connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// Who sends.
    pub from: SocketAddr,
    /// What is sent to.
    pub to: SocketAddr,
    /// Where that is led.
    pub led_to: SocketAddr,
}

impl Tracked {
    /// How long one that is made lasts, in seconds, if nothing is sent: a day. What is sent has the
    /// kernel count anew, and less.
    pub const SECONDS: u32 = 86_400;
}

/// A change, where it happens, and why, in a sentence without subject: "gives the pod its way out".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where.
    pub space: Space,
    /// What.
    pub change: Change,
    /// Why.
    pub why: Cow<'static, str>,
}

/// Steps in order.
pub type Plan = Vec<Step>;

impl Change {
    /// Turns `from` into `to`.
    pub fn replace(from: impl Into<Object>, to: impl Into<Object>) -> Self {
        Self::Replace { from: Box::new(from.into()), to: to.into() }
    }

    /// What it is about, as it should be afterwards or was before it goes; `None` for an action.
    pub fn object(&self) -> Option<&Object> {
        match self {
            Self::Create(object)
            | Self::Ensure(object)
            | Self::Delete(object)
            | Self::Replace { to: object, .. } => Some(object),
            Self::Act(_) => None,
        }
    }

    /// The change that takes this one back, if it has one.
    pub fn inverse(&self) -> Option<Self> {
        match self {
            Self::Create(object) => Some(Self::Delete(object.clone())),
            Self::Delete(object) => Some(Self::Create(object.clone())),
            Self::Replace { from, to } => Some(Self::replace(to.clone(), Object::clone(from))),
            Self::Ensure(_) | Self::Act(_) => None,
        }
    }
}

impl Step {
    /// A step in `space` that makes `change`.
    pub fn new(space: &Space, change: Change, why: impl Into<Cow<'static, str>>) -> Self {
        Self { space: space.clone(), change, why: why.into() }
    }
}

/// The plan that takes `done` back: inverses in reverse order.
pub fn undo<'a>(done: impl IntoIterator<Item = &'a Step, IntoIter: DoubleEndedIterator>) -> Plan {
    let inverse = |step: &Step| {
        Some(Step {
            space: step.space.clone(),
            change: step.change.inverse()?,
            why: "takes it back".into(),
        })
    };
    done.into_iter().rev().filter_map(inverse).collect()
}

macro_rules! object_from {
    ($($variant:ident($kind:ty)),* $(,)?) => {
        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Self::$variant(object)
            }
        })*
    };
}

object_from!(
    Netns(Netns),
    Link(Link),
    Address(Address),
    Route(Route),
    Rule(Rule),
    Neighbour(Neighbour),
    Fdb(Fdb),
    Vni(Vni),
    Qdisc(Qdisc),
    Sysctl(Sysctl),
    Nft(nft::Object),
    Tracked(Tracked),
    File(File),
);
