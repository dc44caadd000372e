//! `RTM_*TUNNEL`: `struct tunnel_msg` and `VXLAN_VNIFILTER_*` (include/uapi/linux/if_link.h), the
//! virtual networks that a tunnel end takes packets of (Linux 5.18).

use net::Vni;

use super::u32_of;
use crate::attribute::{Writer, iterate};

const ENTRY: u16 = 1;
const START: u16 = 1;
const END: u16 = 2;

const PF_BRIDGE: u8 = 7;
const HEADER: usize = 8;

/// The payload of a request that adds or removes `entry` on the device `index`.
pub(crate) fn request(entry: &Vni, index: u32) -> Vec<u8> {
    let mut writer = Writer::after(&header(index));
    writer.nest(ENTRY, |range| {
        range.put(START, &entry.vni.to_ne_bytes());
    });
    writer.bytes().to_vec()
}

/// The payload of a request for the networks of all devices, or of the device `index`.
pub(crate) fn all(index: u32) -> Vec<u8> {
    header(index).to_vec()
}

/// Reads a message: the networks of one device, each with its index.
pub(crate) fn parse(payload: &[u8]) -> Option<Vec<(u32, u32)>> {
    let index = u32_of(payload.get(..HEADER)?.get(4..)?)?;
    let mut read = Vec::new();
    for (_, value) in iterate(&payload[HEADER..]).filter(|(kind, _)| *kind == ENTRY) {
        let number = |wanted| {
            iterate(value).find(|(kind, _)| *kind == wanted).and_then(|(_, value)| u32_of(value))
        };
        let Some(start) = number(START) else { continue };
        // The kernel tells neighbouring numbers as one range, of at most 2^24.
        let end = number(END).unwrap_or(start).min(start.saturating_add(1 << 24));
        read.extend((start..=end).map(|vni| (index, vni)));
    }
    Some(read)
}

fn header(index: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = PF_BRIDGE;
    bytes[4..].copy_from_slice(&index.to_ne_bytes());
    bytes
}
