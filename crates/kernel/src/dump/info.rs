//! What some kinds of devices have beside, by the names of `ip -d link`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a kind of device has beside. The others are known by the name of their kind alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LinkInfo {
    /// A bridge.
    Bridge(Bridge),
    /// A device of one VLAN of another device.
    Vlan(Vlan),
    /// A device with a hardware address of its own on another device.
    Macvlan {
        /// Who reaches whom: `private`, `vepa`, `bridge`, `passthru`, `source`.
        mode: String,
    },
    /// A device with addresses of its own on another device.
    Ipvlan {
        /// On which layer: `l2`, `l3`, `l3s`.
        mode: String,
        /// Who reaches whom: `bridge`, `private`, `vepa`.
        flags: String,
    },
    /// Several devices as one.
    Bond {
        /// How: such as `active-backup`.
        mode: String,
        /// The index of the one that is in use, where only one is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        active_slave: Option<u32>,
        /// How often their carriers are looked at, in milliseconds.
        miimon: u32,
    },
    /// A device whose far end is a program.
    Tun {
        /// What it carries: `tun` packets, `tap` frames.
        #[serde(rename = "type")]
        kind: String,
        /// It stays when the program ends.
        persist: bool,
        /// Several programs, or threads, share it.
        multi_queue: bool,
    },
    /// A tunnel end of one or of many networks.
    Geneve {
        /// The virtual network.
        id: u32,
        /// The far end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remote: Option<IpAddr>,
        /// The UDP port.
        port: u16,
        /// Routes or programs say where packets go.
        external: bool,
    },
    /// A tunnel end: `ipip`, `sit`, `gre` and their like.
    Tunnel(Tunnel),
    /// A router of its own in this namespace.
    Vrf {
        /// The table that packets of its devices look in.
        table: u32,
    },
    /// A cable with programs at its ends.
    Netkit {
        /// What it carries: `l2` frames or `l3` packets.
        mode: String,
        /// Whether it is the end that the programs are attached to.
        primary: bool,
        /// What happens where no program decides: `forward` or `blackhole`.
        policy: String,
    },
}

/// A bridge's own attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Bridge {
    /// 0 without a spanning tree, 1 with the kernel's, 2 with a program's.
    pub stp_state: u32,
    /// Which bridge becomes the root; lower wins.
    pub priority: u16,
    /// How long a port waits before it forwards, in hundredths of a second.
    pub forward_delay: u32,
    /// How long it remembers where an address is, in hundredths of a second.
    pub ageing_time: u32,
    /// Keeps VLANs apart.
    pub vlan_filtering: bool,
    /// The VLAN of frames without a tag.
    pub vlan_default_pvid: u16,
    /// Which link-local groups it forwards, by bit.
    pub group_fwd_mask: u16,
    /// Sends multicast frames only to who has asked for them.
    pub mcast_snooping: bool,
    /// Has iptables see its frames, whatever the namespace's setting says.
    pub nf_call_iptables: bool,
    /// The same for ip6tables.
    pub nf_call_ip6tables: bool,
    /// The same for arptables.
    pub nf_call_arptables: bool,
}

/// A VLAN device's own attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Vlan {
    /// The VLAN.
    pub id: u16,
    /// The kind of tag: `802.1Q`, `802.1ad`.
    pub protocol: String,
}

/// A tunnel end's own attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tunnel {
    /// Its own end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The far end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
    /// The index of the device below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<u32>,
    /// The time to live of its packets; 0 for that of what is inside.
    pub ttl: u8,
    /// The key of packets that come in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ikey: Option<u32>,
    /// The key of packets that go out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub okey: Option<u32>,
    /// Routes or programs say where packets go.
    #[serde(default)]
    pub external: bool,
}
