//! `RTM_*RULE`: `struct fib_rule_hdr` and `FRA_*` (include/uapi/linux/fib_rules.h).

use ipnet::IpNet;
use net::Rule;

use super::{AF_INET6, any, family, ip, octets, text, u32_of};
use crate::attribute::{Writer, iterate};
use crate::dump;

const DST: u16 = 1;
const SRC: u16 = 2;
const IIF: u16 = 3;
const GOTO: u16 = 4;
const PRIORITY: u16 = 6;
const MARK: u16 = 10;
const FLOW: u16 = 11;
const TUNNEL: u16 = 12;
const SUPPRESS: u16 = 14;
const TABLE: u16 = 15;
const MASK: u16 = 16;
const OIF: u16 = 17;
const L3MDEV: u16 = 19;
const USERS: u16 = 20;
const PROTOCOL: u16 = 21;
const PROTO: u16 = 22;
const SPORT: u16 = 23;
const DPORT: u16 = 24;
const TO_TABLE: u8 = 1;
/// `FIB_RULE_INVERT`.
const INVERT: u32 = 2;

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
    if let Some((mark, mask)) = rule.fwmark {
        writer.put(MARK, &mark.to_ne_bytes());
        writer.put(MASK, &mask.to_ne_bytes());
    }
    writer.put(TABLE, &rule.table.to_ne_bytes());
    writer.put(PROTOCOL, &[rule.protocol]);
    writer.bytes().to_vec()
}

/// The payload of a request for all rules of all families.
pub(crate) fn all() -> Vec<u8> {
    vec![0; HEADER]
}

/// Reads a rule message; `None` for one of a family that is neither IPv4 nor IPv6.
pub(crate) fn parse(payload: &[u8]) -> Option<dump::Rule> {
    let header = payload.get(..HEADER)?;
    let (mut to, mut from) = (any(header[0])?, any(header[0])?);
    let mut rule = dump::Rule {
        v6: header[0] == AF_INET6,
        table: u32::from(header[4]),
        action: action(header[7]),
        not: u32_of(&header[8..])? & INVERT != 0,
        more: header[3] != 0,
        ..dump::Rule::default()
    };
    let mut mark = (0, 0);
    for (kind, value) in iterate(&payload[HEADER..]) {
        match kind {
            DST => to = ip(value)?,
            SRC => from = ip(value)?,
            IIF => rule.iif = Some(text(value)),
            OIF => rule.oif = Some(text(value)),
            GOTO => rule.goto = u32_of(value),
            PRIORITY => rule.priority = u32_of(value)?,
            MARK => mark.0 = u32_of(value)?,
            MASK => mark.1 = u32_of(value)?,
            TABLE => rule.table = u32_of(value)?,
            // -1 stands for none.
            SUPPRESS => rule.suppress = u32_of(value).filter(|length| *length != u32::MAX),
            PROTOCOL => rule.protocol = value.first().copied().unwrap_or_default(),
            FLOW | TUNNEL | L3MDEV | USERS | PROTO | SPORT | DPORT => {
                rule.more |= value.iter().any(|byte| *byte != 0);
            }
            _ => {}
        }
    }
    // The kernel tells no mark that is zero, but which bits of it count.
    rule.fwmark = (mark != (0, 0)).then_some(mark);
    if rule.action.is_some() {
        rule.table = 0;
    }
    let net =
        |address, length: u8| (length > 0).then(|| IpNet::new(address, length).ok()).flatten();
    rule.to = net(to, header[1]);
    rule.from = net(from, header[2]);
    Some(rule)
}

/// What a rule does instead of looking in a table (`FR_ACT_*`).
fn action(number: u8) -> Option<String> {
    let name = match number {
        TO_TABLE => return None,
        2 => "goto",
        3 => "nop",
        6 => "blackhole",
        7 => "unreachable",
        8 => "prohibit",
        number => return Some(number.to_string()),
    };
    Some(name.to_owned())
}
