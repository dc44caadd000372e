//! `RTM_*RULE`: `struct fib_rule_hdr` and `FRA_*` (include/uapi/linux/fib_rules.h).

use ipnet::IpNet;
use net::Rule;

use super::{AF_INET6, any, family, ip, octets, u32_of};
use crate::attribute::{Writer, iterate};

const DST: u16 = 1;
const SRC: u16 = 2;
const PRIORITY: u16 = 6;
const TABLE: u16 = 15;
const PROTOCOL: u16 = 21;
const TO_TABLE: u8 = 1;

const HEADER: usize = 12;

/// The payload of a request that adds or removes `rule`.
pub(crate) fn request(rule: &Rule) -> Vec<u8> {
    let either = rule.from.or(rule.to).map(|net| family(net.addr()));
    let mut header = [0; HEADER];
    header[0] = either.unwrap_or(if rule.v6 { AF_INET6 } else { super::AF_INET });
    header[1] = rule.to.map_or(0, |net| net.prefix_len());
    header[2] = rule.from.map_or(0, |net| net.prefix_len());
    header[4] = u8::try_from(rule.table).unwrap_or(252);
    header[7] = TO_TABLE;
    let mut writer = Writer::after(&header);
    if let Some(to) = rule.to.filter(|net| net.prefix_len() > 0) {
        writer.put(DST, &octets(to.addr()));
    }
    if let Some(from) = rule.from.filter(|net| net.prefix_len() > 0) {
        writer.put(SRC, &octets(from.addr()));
    }
    writer.put(PRIORITY, &rule.priority.to_ne_bytes());
    writer.put(TABLE, &rule.table.to_ne_bytes());
    writer.put(PROTOCOL, &[rule.protocol]);
    writer.bytes().to_vec()
}

/// The payload of a request for all rules of a family.
pub(crate) fn all(family: u8) -> Vec<u8> {
    let mut header = vec![0; HEADER];
    header[0] = family;
    header
}

/// Reads a rule message; rules that do something other than look in a table are passed over.
pub(crate) fn parse(payload: &[u8]) -> Option<Rule> {
    let header = payload.get(..HEADER)?;
    if header[7] != TO_TABLE {
        return None;
    }
    let (mut to, mut from) = (any(header[0])?, any(header[0])?);
    let mut rule = Rule {
        priority: 0,
        v6: header[0] == AF_INET6,
        from: None,
        to: None,
        table: u32::from(header[4]),
        protocol: 0,
    };
    for (kind, value) in iterate(&payload[HEADER..]) {
        match kind {
            DST => to = ip(value)?,
            SRC => from = ip(value)?,
            PRIORITY => rule.priority = u32_of(value)?,
            TABLE => rule.table = u32_of(value)?,
            PROTOCOL => rule.protocol = value.first().copied().unwrap_or_default(),
            _ => {}
        }
    }
    let net =
        |address, length: u8| (length > 0).then(|| IpNet::new(address, length).ok()).flatten();
    rule.to = net(to, header[1]);
    rule.from = net(from, header[2]);
    Some(rule)
}
