//! `RTM_*NETCONF`: settings of all devices of a namespace together, a few of those below
//! `/proc/sys/net/ipv{4,6}/conf/all` (include/uapi/linux/netconf.h).

use super::{AF_INET, u32_of};
use crate::attribute::{Writer, iterate};

const IFINDEX: u16 = 1;
const FORWARDING: u16 = 2;
const RP_FILTER: u16 = 3;
const PROXY_NEIGH: u16 = 5;
/// `NETCONFA_IFINDEX_ALL`.
const ALL: i32 = -1;

/// `struct netconfmsg`, aligned.
const HEADER: usize = 4;

/// The payload of a request for those of a family.
pub(crate) fn all(family: u8) -> Vec<u8> {
    let mut writer = Writer::after(&[family, 0, 0, 0]);
    writer.put(IFINDEX, &ALL.to_ne_bytes());
    writer.bytes().to_vec()
}

/// Reads an answer: settings as sysctl(8) writes their names.
pub(crate) fn parse(payload: &[u8]) -> Vec<(&'static str, i32)> {
    let Some(header) = payload.get(..HEADER) else { return Vec::new() };
    let names = |kind| -> &[&str] {
        match (header[0] == AF_INET, kind) {
            (true, FORWARDING) => &["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"],
            (true, RP_FILTER) => &["net.ipv4.conf.all.rp_filter"],
            (true, PROXY_NEIGH) => &["net.ipv4.conf.all.proxy_arp"],
            (false, FORWARDING) => &["net.ipv6.conf.all.forwarding"],
            _ => &[],
        }
    };
    let told = iterate(&payload[HEADER..]).filter_map(|(kind, value)| {
        let value = u32_of(value)? as i32;
        Some(names(kind).iter().map(move |name| (*name, value)))
    });
    told.flatten().collect()
}
