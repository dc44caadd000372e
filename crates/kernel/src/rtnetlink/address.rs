//! `RTM_*ADDR`: `struct ifaddrmsg` and `IFA_*` (include/uapi/linux/if_addr.h).

use ipnet::IpNet;
use net::Address;

use super::{family, ip, octets, u32_of};
use crate::attribute::{Writer, iterate};
use crate::dump;

const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const BROADCAST: u16 = 4;
const FLAGS: u16 = 8;
const PROTO: u16 = 11;

const F_NODAD: u32 = 0x02;
const F_DADFAILED: u32 = 0x08;
const F_DEPRECATED: u32 = 0x20;
const F_TENTATIVE: u32 = 0x40;
const F_PERMANENT: u32 = 0x80;

const HEADER: usize = 8;

/// The payload of a request that adds or removes `address` on the device `index`.
pub(crate) fn request(address: &Address, index: u32) -> Vec<u8> {
    let ip = address.address.addr();
    let flags = if address.nodad { F_NODAD } else { 0 };
    let mut writer =
        Writer::after(&header(family(ip), address.address.prefix_len(), flags as u8, index));
    writer.put(LOCAL, &octets(ip)).put(ADDRESS, &octets(ip));
    if let Some(broadcast) = address.broadcast {
        writer.put(BROADCAST, &broadcast.octets());
    }
    writer.bytes().to_vec()
}

/// The payload of a request for the addresses of one device (strict checking filters), or of all
/// (`index` 0).
pub(crate) fn all(index: u32) -> Vec<u8> {
    header(0, 0, 0, index).to_vec()
}

/// Reads an address message.
pub(crate) fn parse(payload: &[u8]) -> Option<dump::Address> {
    let header = payload.get(..HEADER)?;
    let (mut local, mut peer, mut broadcast) = (None, None, None);
    let mut flags = u32::from(header[2]);
    let mut protocol = 0;
    for (kind, value) in iterate(&payload[HEADER..]) {
        match kind {
            LOCAL => local = ip(value),
            ADDRESS => peer = ip(value),
            BROADCAST => broadcast = <[u8; 4]>::try_from(value).ok().map(Into::into),
            FLAGS => flags = u32_of(value).unwrap_or(flags),
            PROTO => protocol = value.first().copied().unwrap_or_default(),
            _ => {}
        }
    }
    Some(dump::Address {
        index: u32_of(&header[4..])?,
        address: IpNet::new(local.or(peer)?, header[1]).ok()?,
        peer: peer.filter(|peer| local.is_some_and(|local| local != *peer)),
        dynamic: flags & F_PERMANENT == 0,
        deprecated: flags & F_DEPRECATED != 0,
        protocol,
        broadcast,
        scope: net::Scope::from_number(header[3]),
        nodad: flags & F_NODAD != 0,
        tentative: flags & F_TENTATIVE != 0,
        dad_failed: flags & F_DADFAILED != 0,
    })
}

fn header(family: u8, prefix: u8, flags: u8, index: u32) -> [u8; HEADER] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family, prefix, flags, 0, a, b, c, d]
}
