//! Network devices as they should be.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{LinkName, Mac, Space};

/// A network device. `None` in a field means: leave it as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What it is called in its namespace: the key.
    pub name: LinkName,
    /// What it is; `None` stands for a device that is there already, whatever its kind.
    pub kind: Option<LinkKind>,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// The largest packet that it takes, in bytes.
    pub mtu: Option<u32>,
    /// Administratively up or down.
    pub up: Option<bool>,
    /// The bridge that it is a port of.
    pub master: Option<LinkName>,
    /// It is to be a port of nothing. What is seen says so by having no master.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub free: bool,
    /// Whether it takes every frame it sees.
    pub promiscuous: Option<bool>,
    /// Whether checksums of what it sends are left to it (`ethtool -K … tx`). Seen only where one
    /// device is asked about.
    pub tx_checksum: Option<bool>,
    /// Its flags as a bridge port: [`Port::hairpin`] and [`Port::isolated`].
    pub port: Port,
}

/// What makes a device the device it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkKind {
    /// A learning switch in the kernel.
    Bridge,
    /// One end of a virtual cable; the other end is part of the same object, because neither
    /// can exist alone.
    Veth {
        /// The other end.
        peer: Box<Peer>,
    },
    /// A tunnel end for Ethernet frames, or for IP packets, over UDP.
    Vxlan(Vxlan),
    /// What `ip -d link` calls it: a kind that podwire sees and never makes.
    Other(String),
}

/// A VXLAN device (RFC 7348; `IFLA_VXLAN_*` in `include/uapi/linux/if_link.h`). All of it is given
/// at creation only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vxlan {
    /// The UDP port that it listens on and sends to.
    pub port: u16,
    /// Who says where a packet goes.
    pub form: VxlanForm,
}

/// Who says to which far end a packet goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VxlanForm {
    /// The device's own forwarding entries, see [`crate::Fdb::to`]; it learns none by itself.
    Classic {
        /// The virtual network.
        vni: u32,
        /// The device below it.
        underlay: Option<LinkName>,
        /// Its own end.
        local: Option<IpAddr>,
    },
    /// Each route, see [`crate::Encap`].
    External {
        /// Carries IP packets without Ethernet headers (VXLAN-GPE, draft-ietf-nvo3-vxlan-gpe).
        gpe: bool,
        /// Takes only packets of the networks that are named, see [`crate::Vni`]; without it,
        /// those of all networks (Linux 5.18).
        filtered: bool,
    },
}

/// The far end of a veth, given at creation and gone with the near end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The namespace that it appears in.
    pub space: Space,
    /// What it is called there.
    pub name: LinkName,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// The largest packet that it takes, in bytes.
    pub mtu: Option<u32>,
}

/// Flags of a bridge port (`IFLA_BRPORT_*` in `include/uapi/linux/if_link.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Frames may leave by the port they came in by.
    pub hairpin: Option<bool>,
    /// Frames never pass between two isolated ports.
    pub isolated: Option<bool>,
}

impl Link {
    /// A device that is there already, nothing of it to be changed yet.
    pub fn existing(name: LinkName) -> Self {
        Self {
            name,
            kind: None,
            mac: None,
            mtu: None,
            up: None,
            master: None,
            free: false,
            promiscuous: None,
            tx_checksum: None,
            port: Port::default(),
        }
    }

    /// A bridge with every attribute left to the kernel.
    pub fn bridge(name: LinkName) -> Self {
        Self { kind: Some(LinkKind::Bridge), ..Self::existing(name) }
    }

    /// A veth whose near end is `name` and whose far end is `peer`.
    pub fn veth(name: LinkName, peer: Peer) -> Self {
        Self { kind: Some(LinkKind::Veth { peer: Box::new(peer) }), ..Self::existing(name) }
    }

    /// A tunnel end with every other attribute left to the kernel.
    pub fn vxlan(name: LinkName, vxlan: Vxlan) -> Self {
        Self { kind: Some(LinkKind::Vxlan(vxlan)), ..Self::existing(name) }
    }

    /// The same device, up.
    pub fn up(self) -> Self {
        Self { up: Some(true), ..self }
    }

    /// The same device without hardware address and size. With a kind, these are for creation: who
    /// ensures a shared device that is there does not take its address from those who use it.
    pub fn without_hardware(&self) -> Self {
        Self { mac: None, mtu: None, ..self.clone() }
    }

    /// Whether a device seen as `seen` already is what this one asks for. The peer of a veth is
    /// not compared: it is given at creation only.
    pub fn is_satisfied_by(&self, seen: &Self) -> bool {
        fn holds<T: PartialEq>(want: Option<&T>, seen: Option<&T>) -> bool {
            want.is_none() || want == seen
        }
        let kind_holds = match (&self.kind, &seen.kind) {
            (None, _) | (Some(LinkKind::Veth { .. }), Some(LinkKind::Veth { .. })) => true,
            (want, seen) => want == seen,
        };
        self.name == seen.name
            && kind_holds
            && holds(self.mac.as_ref(), seen.mac.as_ref())
            && holds(self.mtu.as_ref(), seen.mtu.as_ref())
            && holds(self.up.as_ref(), seen.up.as_ref())
            && holds(self.master.as_ref(), seen.master.as_ref())
            && !(self.free && seen.master.is_some())
            && holds(self.promiscuous.as_ref(), seen.promiscuous.as_ref())
            && holds(self.tx_checksum.as_ref(), seen.tx_checksum.as_ref())
            && holds(self.port.hairpin.as_ref(), seen.port.hairpin.as_ref())
            && holds(self.port.isolated.as_ref(), seen.port.isolated.as_ref())
    }
}
