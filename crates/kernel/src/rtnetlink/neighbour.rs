//! `RTM_*NEIGH`: `struct ndmsg` and `NDA_*` (include/uapi/linux/neighbour.h), for neighbours and
//! for forwarding entries.

use std::net::IpAddr;

use net::{Fdb, Mac, Neighbour};

use super::{AF_BRIDGE, family, ip, octets, u32_of};
use crate::attribute::{Writer, iterate};
use crate::dump;

const DST: u16 = 1;
const LLADDR: u16 = 2;
const VLAN: u16 = 5;
const IFINDEX: u16 = 8;
const MASTER: u16 = 9;
const PROTOCOL: u16 = 12;

const PERMANENT: u16 = 0x80;
const NOARP: u16 = 0x40;
const SELF: u8 = 0x02;
const TO_MASTER: u8 = 0x04;
const PROXY: u8 = 0x08;
const EXT_LEARNED: u8 = 0x10;

const HEADER: usize = 12;

/// The payload of a request that adds or removes `neighbour` on the device `index`.
pub(crate) fn request(neighbour: &Neighbour, index: u32) -> Vec<u8> {
    let mut writer = Writer::after(&header(family(neighbour.address), index, PERMANENT, 0));
    writer.put(DST, &octets(neighbour.address)).put(LLADDR, &neighbour.mac.0);
    if neighbour.protocol != 0 {
        writer.put(PROTOCOL, &[neighbour.protocol]);
    }
    writer.bytes().to_vec()
}

/// The payload of a request for whatever neighbour has this address, or that removes it.
pub(crate) fn one(index: u32, address: IpAddr) -> Vec<u8> {
    let mut writer = Writer::after(&header(family(address), index, 0, 0));
    writer.put(DST, &octets(address));
    writer.bytes().to_vec()
}

/// The payload of a request that adds or removes `entry` on the device `index`.
pub(crate) fn fdb_request(entry: &Fdb, index: u32) -> Vec<u8> {
    // A tunnel device keeps its entries itself; a port's are its bridge's.
    let (state, flags) = if entry.to.is_some() { (PERMANENT, SELF) } else { (NOARP, TO_MASTER) };
    let mut writer = Writer::after(&header(AF_BRIDGE, index, state, flags));
    writer.put(LLADDR, &entry.mac.0);
    if let Some(to) = entry.to {
        writer.put(DST, &octets(to));
    }
    writer.bytes().to_vec()
}

/// The payload of a request for all entries of a family (`AF_BRIDGE` for forwarding entries).
pub(crate) fn all(family: u8) -> Vec<u8> {
    header(family, 0, 0, 0).to_vec()
}

/// The payload of a request for those of a family that are on the device `index` (strict checking
/// filters).
pub(crate) fn on(family: u8, index: u32) -> Vec<u8> {
    let mut writer = Writer::after(&header(family, 0, 0, 0));
    writer.put(IFINDEX, &index.to_ne_bytes());
    writer.bytes().to_vec()
}

/// Reads a neighbour or forwarding entry. Those that the node answers for are none of its own.
pub(crate) fn parse(payload: &[u8]) -> Option<dump::Neighbour> {
    let header = payload.get(..HEADER)?;
    if header[10] & PROXY != 0 {
        return None;
    }
    let state = u16::from_ne_bytes([header[8], header[9]]);
    let mut entry = dump::Neighbour {
        bridge: header[0] == AF_BRIDGE,
        index: u32_of(&header[4..])?,
        state: state_of(state),
        permanent: state & PERMANENT != 0,
        noarp: state & NOARP != 0,
        of_master: header[10] & TO_MASTER != 0,
        learned_outside: header[10] & EXT_LEARNED != 0,
        ..dump::Neighbour::default()
    };
    for (kind, value) in iterate(&payload[HEADER..]) {
        match kind {
            DST => entry.address = ip(value),
            LLADDR => entry.mac = value.try_into().ok().map(Mac),
            MASTER => entry.master = u32_of(value),
            VLAN => entry.vlan = value.try_into().ok().map(u16::from_ne_bytes),
            PROTOCOL => entry.protocol = value.first().copied().unwrap_or_default(),
            _ => {}
        }
    }
    Some(entry)
}

/// `NUD_*`, of which a neighbour has one.
fn state_of(state: u16) -> dump::NeighbourState {
    use dump::NeighbourState as State;
    match state {
        0x01 => State::Incomplete,
        0x02 => State::Reachable,
        0x04 => State::Stale,
        0x08 => State::Delay,
        0x10 => State::Probe,
        0x20 => State::Failed,
        state if state & PERMANENT != 0 => State::Permanent,
        state if state & NOARP != 0 => State::Noarp,
        _ => State::None,
    }
}

fn header(family: u8, index: u32, state: u16, flags: u8) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes[10] = flags;
    bytes
}
