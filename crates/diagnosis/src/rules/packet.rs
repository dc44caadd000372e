//! What is known of a packet, and where on its way it is looked at.

use std::net::IpAddr;

use net::nft::{Base, Chain, Family, Hook};

/// Whose rules see a packet. On its way through one namespace it passes several of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Level<'a> {
    /// Those for what is routed, sent and taken.
    #[default]
    Routed,
    /// Those for frames that a bridge switches, takes or sends. Devices are its ports there.
    Bridged,
    /// Those of this device, as a frame comes in and goes out by it; of any where none is named.
    Device(Option<&'a str>),
}

/// What is known of a packet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Packet<'a> {
    pub(crate) level: Level<'a>,
    /// It asks who has an IPv4 address, or answers that.
    pub(crate) arp: bool,
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) input: Option<&'a str>,
    pub(crate) output: Option<&'a str>,
    pub(crate) protocol: Option<u8>,
    /// The destination's.
    pub(crate) port: Option<u16>,
    /// Whether it is for the node itself.
    pub(crate) local: Option<bool>,
}

impl Packet<'_> {
    /// Whether it is of IPv4 rather than IPv6, if that is known.
    pub(super) fn is_v4(&self) -> Option<bool> {
        self.source.or(self.destination).map(|address| address.is_ipv4())
    }

    /// Whether it comes to a chain, as far as is known.
    pub(super) fn is_seen_by(&self, chain: &Chain, base: &Base) -> bool {
        match (self.level, chain.table.family) {
            (Level::Routed, Family::Inet) => !self.arp,
            (Level::Routed, Family::Ip) => !self.arp && self.is_v4() != Some(false),
            (Level::Routed, Family::Ip6) => !self.arp && self.is_v4() != Some(true),
            (Level::Routed, Family::Arp) => self.arp,
            (Level::Bridged, Family::Bridge) => true,
            (Level::Device(name), Family::Netdev | Family::Inet) => name.is_none_or(|name| {
                base.devices.is_empty() || base.devices.iter().any(|it| it.as_str() == name)
            }),
            _ => false,
        }
    }

    /// Whether a chain that may see it may also be of other devices than its own: which they are, is
    /// not always told.
    pub(super) fn may_be_unseen_by(&self, base: &Base) -> bool {
        matches!(self.level, Level::Device(_)) && base.devices.is_empty()
    }
}

/// Where a pod's cable ends on its node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port<'a> {
    pub(crate) name: &'a str,
    /// Whether it is a port of a bridge.
    pub(crate) is_bridged: bool,
}

impl<'a> Port<'a> {
    /// Where frames that the pod sends are looked at before they are routed.
    pub(crate) fn sent(self, packet: Packet<'a>) -> [(&'static [Hook], Packet<'a>); 2] {
        let packet = Packet { input: Some(self.name), output: None, ..packet };
        self.seen(packet, &[Hook::Ingress], &[Hook::Prerouting, Hook::Input])
    }

    /// Where frames that are for the pod are looked at after they were routed.
    pub(crate) fn received(self, packet: Packet<'a>) -> [(&'static [Hook], Packet<'a>); 2] {
        let packet = Packet { input: None, output: Some(self.name), ..packet };
        self.seen(packet, &[Hook::Egress], &[Hook::Output, Hook::Postrouting])
    }

    fn seen(
        self,
        packet: Packet<'a>,
        of_device: &'static [Hook],
        of_bridge: &'static [Hook],
    ) -> [(&'static [Hook], Packet<'a>); 2] {
        let of_bridge = if self.is_bridged { of_bridge } else { &[] };
        [
            (of_device, Packet { level: Level::Device(Some(self.name)), ..packet }),
            (of_bridge, Packet { level: Level::Bridged, ..packet }),
        ]
    }
}
