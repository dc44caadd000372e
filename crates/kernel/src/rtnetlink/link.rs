//! `RTM_*LINK`: `struct ifinfomsg` and `IFLA_*` (include/uapi/linux/if_link.h).

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use net::{Link, LinkKind, LinkName, Mac, Vxlan, VxlanForm};

use super::{AF_BRIDGE, AF_INET, AF_INET6, info, ip, octets, text, u32_of};
use crate::attribute::{Writer, iterate};
use crate::dump;

const ADDRESS: u16 = 1;
const IFNAME: u16 = 3;
const MTU: u16 = 4;
const LINK: u16 = 5;
const MASTER: u16 = 10;
const OPERSTATE: u16 = 16;
const LINKINFO: u16 = 18;
const STATS64: u16 = 23;
const AF_SPEC: u16 = 26;
const IFALIAS: u16 = 20;
const NET_NS_FD: u16 = 28;
const EXT_MASK: u16 = 29;
const LINK_NETNSID: u16 = 37;

const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;

/// `IFLA_VXLAN_*`.
mod vxlan {
    pub(super) const ID: u16 = 1;
    pub(super) const GROUP: u16 = 2;
    pub(super) const LINK: u16 = 3;
    pub(super) const LOCAL: u16 = 4;
    pub(super) const LEARNING: u16 = 7;
    pub(super) const PORT: u16 = 15;
    pub(super) const GROUP6: u16 = 16;
    pub(super) const LOCAL6: u16 = 17;
    pub(super) const COLLECT_METADATA: u16 = 25;
    pub(super) const GPE: u16 = 27;
    pub(super) const VNIFILTER: u16 = 30;
}

/// `IFLA_BRPORT_*`, those that are only read.
mod brport {
    pub(super) const PRIORITY: u16 = 2;
    pub(super) const COST: u16 = 3;
    pub(super) const GUARD: u16 = 5;
    pub(super) const LEARNING: u16 = 8;
    pub(super) const UNICAST_FLOOD: u16 = 9;
    pub(super) const MCAST_FLOOD: u16 = 27;
    pub(super) const BCAST_FLOOD: u16 = 30;
    pub(super) const NEIGH_SUPPRESS: u16 = 32;
    pub(super) const LOCKED: u16 = 39;
}

const BRPORT_STATE: u16 = 1;
const BRPORT_MODE: u16 = 4;
const BRPORT_ISOLATED: u16 = 33;
const IFLA_PROTINFO: u16 = 12;

const IFF_UP: u32 = 0x1;
const IFF_PROMISC: u32 = 0x100;
/// Counters are long, and only those who look at a whole machine read them.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

const HEADER: usize = 16;

/// What the executor knows that a plan does not: indices and open namespaces.
#[derive(Clone, Copy, Default)]
pub(crate) struct Resolved<'a> {
    /// The index of the device, once it exists.
    pub(crate) index: u32,
    /// The index of `Link::master`.
    pub(crate) master: Option<u32>,
    /// The index of the device below a tunnel end.
    pub(crate) underlay: Option<u32>,
    /// The namespace of the veth's far end, unless it is the same one.
    pub(crate) peer_netns: Option<BorrowedFd<'a>>,
}

/// The payload of a request that creates `link`, or (with `resolved.index`) changes it.
pub(crate) fn request(link: &Link, resolved: Resolved<'_>) -> Vec<u8> {
    let creates = resolved.index == 0;
    let mut writer = Writer::after(&header(0, resolved.index, link.up, link.promiscuous));
    if creates {
        writer.put_str(IFNAME, link.name.as_str());
    }
    put_common(&mut writer, link.mac, link.mtu);
    if let Some(master) = resolved.master {
        writer.put(MASTER, &master.to_ne_bytes());
    }
    if let (true, Some(kind)) = (creates, &link.kind) {
        writer.nest(LINKINFO, |info| put_kind(info, kind, resolved));
    }
    writer.bytes().to_vec()
}

/// The payload of a request that sets the bridge port flags of `link`.
pub(crate) fn port_request(link: &Link, index: u32) -> Vec<u8> {
    let mut writer = Writer::after(&header(AF_BRIDGE, index, None, None));
    writer.nest(IFLA_PROTINFO, |port| {
        if let Some(on) = link.port.hairpin {
            port.put(BRPORT_MODE, &[u8::from(on)]);
        }
        if let Some(on) = link.port.isolated {
            port.put(BRPORT_ISOLATED, &[u8::from(on)]);
        }
    });
    writer.bytes().to_vec()
}

/// The payload of a request about one device (get, delete), by name.
pub(crate) fn by_name(name: &LinkName) -> Vec<u8> {
    let mut writer = Writer::after(&header(0, 0, None, None));
    writer.put_str(IFNAME, name.as_str()).put(EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    writer.bytes().to_vec()
}

/// The payload of a request about a device of which nothing is said but name and kind.
pub(crate) fn bare(name: &str, kind: &str) -> Vec<u8> {
    let mut writer = Writer::after(&header(0, 0, None, None));
    writer.put_str(IFNAME, name).nest(LINKINFO, |info| {
        info.put(INFO_KIND, kind.as_bytes());
    });
    writer.bytes().to_vec()
}

/// The payload of a request that deletes a device by its index.
pub(crate) fn by_index(index: u32) -> Vec<u8> {
    header(0, index, None, None).to_vec()
}

/// The payload of a request for all devices.
pub(crate) fn all() -> Vec<u8> {
    let mut writer = Writer::after(&header(0, 0, None, None));
    writer.put(EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    writer.bytes().to_vec()
}

/// The payload of a request for all devices with their counters.
pub(crate) fn all_with_counters() -> Vec<u8> {
    header(0, 0, None, None).to_vec()
}

/// The settings below `/proc/sys/net/ipv{4,6}/conf/<device>` that a link message tells, by their
/// names there. To read the files would cost a thousand times as much.
pub(crate) fn settings(payload: &[u8]) -> Vec<(&'static str, &'static str, i32)> {
    /// `IFLA_INET_CONF` and `IFLA_INET6_CONF`: arrays of numbers.
    const CONF: [(u16, u16); 2] = [(AF_INET as u16, 1), (AF_INET6 as u16, 2)];
    let attributes = payload.get(HEADER..).unwrap_or_default();
    let families = iterate(attributes).filter(|(kind, _)| *kind == AF_SPEC);
    let families = families.flat_map(|(_, value)| iterate(value));
    let arrays = families.flat_map(|(family, value)| {
        iterate(value)
            .filter(move |(kind, _)| CONF.contains(&(family, *kind)))
            .map(move |it| (family, it.1))
    });
    let read = |(family, array): (u16, &[u8])| {
        let (family, names) = if family == u16::from(AF_INET) {
            ("ipv4", &SETTINGS_V4[..])
        } else {
            ("ipv6", &SETTINGS_V6[..])
        };
        let value = |at: usize| array.get(4 * at..).and_then(u32_of).map(|it| it as i32);
        let named = names.iter().filter_map(|(at, name)| Some((family, *name, value(*at)?)));
        named.collect::<Vec<_>>()
    };
    arrays.flat_map(read).collect()
}

/// Places in the array of `IPV4_DEVCONF_*` (include/uapi/linux/ip.h), which counts from 1.
const SETTINGS_V4: [(usize, &str); 9] = [
    (0, "forwarding"),
    (2, "proxy_arp"),
    (5, "send_redirects"),
    (7, "rp_filter"),
    (17, "arp_announce"),
    (18, "arp_ignore"),
    (22, "accept_local"),
    (23, "src_valid_mark"),
    (25, "route_localnet"),
];

/// Places in the array of `DEVCONF_*` (include/uapi/linux/ipv6.h).
const SETTINGS_V6: [(usize, &str); 5] = [
    (0, "forwarding"),
    (3, "accept_ra"),
    (22, "proxy_ndp"),
    (26, "disable_ipv6"),
    (27, "accept_dad"),
];

/// Which device of the machine a message is about; `None` for the messages of bridges about their
/// ports, which say nothing of the device itself.
pub(crate) fn index(payload: &[u8]) -> Option<u32> {
    let header = payload.get(..HEADER)?;
    (header[0] == 0).then(|| u32_of(&header[4..])).flatten()
}

/// Reads a message of a bridge about one of its ports: the port's index and its flags.
pub(crate) fn parse_port_message(payload: &[u8]) -> Option<(u32, dump::Port)> {
    let header = payload.get(..HEADER)?;
    if header[0] != AF_BRIDGE {
        return None;
    }
    let (_, flags) = iterate(&payload[HEADER..]).find(|(kind, _)| *kind == IFLA_PROTINFO)?;
    Some((u32_of(&header[4..])?, parse_port(flags)))
}

/// Reads a link message.
pub(crate) fn parse(payload: &[u8]) -> Option<dump::Link> {
    let header = payload.get(..HEADER)?;
    let flags = u32_of(&header[8..])?;
    let mut link = dump::Link {
        index: u32_of(&header[4..])?,
        up: flags & IFF_UP != 0,
        promiscuous: flags & IFF_PROMISC != 0,
        flags: dump::LinkFlags(flags),
        ..dump::Link::default()
    };
    for (kind, value) in iterate(&payload[HEADER..]) {
        match kind {
            IFNAME => link.name = text(value),
            ADDRESS => link.mac = value.try_into().ok().map(Mac),
            MTU => link.mtu = u32_of(value).unwrap_or_default(),
            LINK => link.parent = u32_of(value).filter(|index| *index != 0),
            MASTER => link.master = u32_of(value).filter(|index| *index != 0),
            OPERSTATE => link.oper_state = oper_state(value),
            IFALIAS => link.alias = Some(text(value)),
            LINK_NETNSID => link.parent_netns = u32_of(value).map(|id| id as i32),
            LINKINFO => parse_info(value, &mut link),
            STATS64 => link.stats = parse_stats(value),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn header(family: u8, index: u32, up: Option<bool>, promiscuous: Option<bool>) -> [u8; HEADER] {
    let mut flags = 0;
    let mut change = 0;
    for (bit, wanted) in [(IFF_UP, up), (IFF_PROMISC, promiscuous)] {
        if let Some(on) = wanted {
            change |= bit;
            flags |= if on { bit } else { 0 };
        }
    }
    let mut bytes = [0; HEADER];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&u32::to_ne_bytes(flags));
    bytes[12..16].copy_from_slice(&u32::to_ne_bytes(change));
    bytes
}

fn put_common(writer: &mut Writer, mac: Option<Mac>, mtu: Option<u32>) {
    if let Some(Mac(bytes)) = mac {
        writer.put(ADDRESS, &bytes);
    }
    if let Some(mtu) = mtu {
        writer.put(MTU, &mtu.to_ne_bytes());
    }
}

fn put_kind(info: &mut Writer, kind: &LinkKind, resolved: Resolved<'_>) {
    match kind {
        LinkKind::Bridge => {
            info.put(INFO_KIND, b"bridge");
        }
        LinkKind::Veth { peer } => {
            info.put(INFO_KIND, b"veth").nest(INFO_DATA, |data| {
                let mut inner = Writer::after(&header(0, 0, None, None));
                inner.put_str(IFNAME, peer.name.as_str());
                put_common(&mut inner, peer.mac, peer.mtu);
                if let Some(netns) = resolved.peer_netns {
                    inner.put(NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
                }
                data.put(VETH_INFO_PEER, inner.bytes());
            });
        }
        LinkKind::Vxlan(it) => {
            info.put(INFO_KIND, b"vxlan").nest(INFO_DATA, |data| put_vxlan(data, it, resolved));
        }
        LinkKind::Other(kind) => {
            info.put(INFO_KIND, kind.as_bytes());
        }
    }
}

fn put_vxlan(data: &mut Writer, it: &Vxlan, resolved: Resolved<'_>) {
    match &it.form {
        VxlanForm::Classic { vni, local, .. } => {
            data.put(vxlan::ID, &vni.to_ne_bytes());
            if let Some(index) = resolved.underlay {
                data.put(vxlan::LINK, &index.to_ne_bytes());
            }
            if let Some(local) = local {
                let kind = if local.is_ipv4() { vxlan::LOCAL } else { vxlan::LOCAL6 };
                data.put(kind, &octets(*local));
            }
        }
        VxlanForm::External { gpe, filtered } => {
            data.put(vxlan::COLLECT_METADATA, &[1]);
            if *filtered {
                data.put(vxlan::VNIFILTER, &[1]);
            }
            // A flag: that it is there is what counts.
            if *gpe {
                data.put(vxlan::GPE, &[]);
            }
        }
    }
    data.put(vxlan::LEARNING, &[0]).put(vxlan::PORT, &it.port.to_be_bytes());
}

fn parse_info(info: &[u8], link: &mut dump::Link) {
    let mut is_port = false;
    for (kind, value) in iterate(info) {
        match kind {
            INFO_KIND => link.kind = text(value),
            INFO_DATA if link.kind == "vxlan" => link.vxlan = Some(parse_vxlan(value)),
            INFO_DATA => link.info = info::parse(&link.kind, value),
            INFO_SLAVE_KIND => is_port = text(value) == "bridge",
            INFO_SLAVE_DATA if is_port => link.port = Some(parse_port(value)),
            _ => {}
        }
    }
}

/// `struct rtnl_link_stats64`.
fn parse_stats(value: &[u8]) -> Option<dump::Stats> {
    let number = |at: usize| {
        let bytes = value.get(8 * at..8 * at + 8)?;
        bytes.try_into().ok().map(u64::from_ne_bytes)
    };
    let counters = |at: usize| {
        Some(dump::Counters {
            packets: number(at)?,
            bytes: number(at + 2)?,
            errors: number(at + 4)?,
            dropped: number(at + 6)?,
        })
    };
    Some(dump::Stats { rx: counters(0)?, tx: counters(1)? })
}

fn parse_port(flags: &[u8]) -> dump::Port {
    let mut port = dump::Port::default();
    for (kind, value) in iterate(flags) {
        let byte = value.first().copied().unwrap_or_default();
        match kind {
            BRPORT_STATE => port.state = byte,
            brport::PRIORITY => {
                port.priority = value.try_into().map(u16::from_ne_bytes).unwrap_or_default();
            }
            brport::COST => port.cost = u32_of(value).unwrap_or_default(),
            BRPORT_MODE => port.hairpin = byte != 0,
            BRPORT_ISOLATED => port.isolated = byte != 0,
            brport::LEARNING => port.learning = byte != 0,
            brport::UNICAST_FLOOD => port.flood = byte != 0,
            brport::MCAST_FLOOD => port.mcast_flood = byte != 0,
            brport::BCAST_FLOOD => port.bcast_flood = byte != 0,
            brport::GUARD => port.guard = byte != 0,
            brport::NEIGH_SUPPRESS => port.neigh_suppress = byte != 0,
            brport::LOCKED => port.locked = byte != 0,
            _ => {}
        }
    }
    port
}

fn parse_vxlan(data: &[u8]) -> dump::Vxlan {
    let mut read = dump::Vxlan::default();
    let is_set = |value: &[u8]| value.first().is_some_and(|byte| *byte != 0);
    for (kind, value) in iterate(data) {
        match kind {
            vxlan::ID => read.vni = u32_of(value).unwrap_or_default(),
            vxlan::LINK => read.underlay = u32_of(value).filter(|index| *index != 0),
            vxlan::LOCAL | vxlan::LOCAL6 => {
                read.local = ip(value).filter(|local: &IpAddr| !local.is_unspecified());
            }
            vxlan::GROUP | vxlan::GROUP6 => {
                read.remote = ip(value).filter(|remote: &IpAddr| !remote.is_unspecified());
            }
            vxlan::LEARNING => read.learning = is_set(value),
            vxlan::PORT => {
                read.port = value.try_into().map(u16::from_be_bytes).unwrap_or_default();
            }
            vxlan::COLLECT_METADATA => read.external = is_set(value),
            vxlan::VNIFILTER => read.filtered = is_set(value),
            vxlan::GPE => read.gpe = true,
            _ => {}
        }
    }
    read
}

/// RFC 2863's states, as `IF_OPER_*` numbers them.
fn oper_state(value: &[u8]) -> dump::OperState {
    match value.first() {
        Some(2) => dump::OperState::Down,
        Some(3) => dump::OperState::LowerLayerDown,
        Some(5) => dump::OperState::Dormant,
        Some(6) => dump::OperState::Up,
        _ => dump::OperState::Unknown,
    }
}
