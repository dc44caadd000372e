//! Devices as the kernel shows them.

use std::net::IpAddr;

use net::Mac;
use serde::{Deserialize, Serialize};

use super::LinkInfo;

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Link {
    /// Its number in its namespace.
    #[serde(rename = "ifindex")]
    pub index: u32,
    /// Its name there.
    #[serde(rename = "ifname")]
    pub name: String,
    /// What `ip -d link` calls its kind; empty for hardware and the loopback device.
    #[serde(rename = "info_kind", default)]
    pub kind: String,
    /// Its hardware address, if it is an Ethernet one.
    #[serde(rename = "address", default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub mac: Option<Mac>,
    /// The largest packet that it takes, in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Asked to take every frame.
    #[serde(default)]
    pub promiscuous: bool,
    /// All of its flags.
    #[serde(default)]
    pub flags: LinkFlags,
    /// Whether it can carry packets.
    #[serde(rename = "operstate")]
    pub oper_state: OperState,
    /// The index of what it is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<u32>,
    /// The index of the device that it stands on, or of its veth peer.
    #[serde(rename = "link_index", default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// The number that this namespace gave the namespace in which `parent` counts; without it,
    /// `parent` is an index of this namespace.
    #[serde(rename = "link_netnsid", default, skip_serializing_if = "Option::is_none")]
    pub parent_netns: Option<i32>,
    /// Its state as a bridge port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// What makes it the tunnel end that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<Vxlan>,
    /// What its kind has beside, for kinds that are understood.
    #[serde(rename = "info_data", default, skip_serializing_if = "Option::is_none")]
    pub info: Option<LinkInfo>,
    /// The text that somebody left on it.
    #[serde(rename = "ifalias", default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// What went through it, where that was asked for.
    #[serde(rename = "stats64", default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<Stats>,
}

impl Link {
    /// Whether what it stands on, such as a cable, lets it send: `LOWER_UP`. A device that is down
    /// has no carrier.
    pub fn carrier(&self) -> bool {
        self.flags.has(LinkFlags::LOWER_UP)
    }

    /// Whether it is an end of a cable, and its parent the other end.
    pub fn is_cable(&self) -> bool {
        matches!(self.kind.as_str(), "veth" | "netkit")
    }
}

/// The flags of a device (`IFF_*`). As JSON they are their names in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
pub struct LinkFlags(pub u32);

impl LinkFlags {
    /// It has a carrier.
    pub const LOWER_UP: u32 = 1 << 16;

    /// Names by bit, from 0 (include/uapi/linux/if.h).
    const NAMES: [&str; 19] = [
        "UP",
        "BROADCAST",
        "DEBUG",
        "LOOPBACK",
        "POINTOPOINT",
        "NOTRAILERS",
        "RUNNING",
        "NOARP",
        "PROMISC",
        "ALLMULTI",
        "MASTER",
        "SLAVE",
        "MULTICAST",
        "PORTSEL",
        "AUTOMEDIA",
        "DYNAMIC",
        "LOWER_UP",
        "DORMANT",
        "ECHO",
    ];

    /// Whether all of these bits are set.
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

impl From<LinkFlags> for Vec<String> {
    fn from(flags: LinkFlags) -> Self {
        let set = LinkFlags::NAMES.iter().enumerate().filter(|(bit, _)| flags.has(1 << bit));
        set.map(|(_, name)| (*name).to_owned()).collect()
    }
}

impl From<Vec<String>> for LinkFlags {
    fn from(names: Vec<String>) -> Self {
        let bit = |name: &String| LinkFlags::NAMES.iter().position(|known| known == name);
        Self(names.iter().filter_map(bit).fold(0, |flags, bit| flags | 1 << bit))
    }
}

/// What went through a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stats {
    /// What it received.
    pub rx: Counters,
    /// What it sent.
    pub tx: Counters,
}

/// One direction of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counters {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were broken.
    pub errors: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// A VXLAN device's own attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Vxlan {
    /// The virtual network; 0 where routes say which.
    #[serde(rename = "id")]
    pub vni: u32,
    /// The index of the device below it.
    #[serde(rename = "link", default, skip_serializing_if = "Option::is_none")]
    pub underlay: Option<u32>,
    /// Its own end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// Where it sends what it has no forwarding entry for: one far end, or a multicast group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
    /// The UDP port.
    pub port: u16,
    /// Learns from packets who is behind which far end.
    #[serde(default)]
    pub learning: bool,
    /// Routes say where packets go.
    #[serde(default)]
    pub external: bool,
    /// Takes packets of named networks only.
    #[serde(rename = "vnifilter", default)]
    pub filtered: bool,
    /// Carries IP packets without Ethernet headers.
    #[serde(default)]
    pub gpe: bool,
}

/// A bridge port's state and flags, by the names of `bridge -d link`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Port {
    /// The spanning tree state: 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking.
    pub state: u8,
    /// Which port the spanning tree prefers; lower wins.
    pub priority: u16,
    /// What a path by this port costs the spanning tree.
    pub cost: u32,
    /// Frames may leave by the port they came in by.
    pub hairpin: bool,
    /// Cut off from other isolated ports.
    pub isolated: bool,
    /// Learns from frames who is behind it.
    pub learning: bool,
    /// Sends frames for unknown addresses.
    pub flood: bool,
    /// Sends multicast frames that nobody has asked for.
    pub mcast_flood: bool,
    /// Sends broadcast frames.
    pub bcast_flood: bool,
    /// Drops frames of the spanning tree that come in.
    pub guard: bool,
    /// Answers neighbour questions instead of sending them.
    pub neigh_suppress: bool,
    /// Takes frames of known addresses only.
    pub locked: bool,
}

/// RFC 2863's operational states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum OperState {
    /// The driver does not say, as for the loopback device.
    #[default]
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
