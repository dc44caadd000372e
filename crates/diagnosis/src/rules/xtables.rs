//! What iptables leaves in nftables where nftables has no words for it: matches and targets of
//! xtables, as the kernel holds them (`nft_compat`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::nft::Expression;

use super::Action;

/// `NFTA_TARGET_*` and `NFTA_MATCH_*` have the same numbers.
const NAME: u16 = 1;
const REVISION: u16 = 2;
const INFO: u16 = 3;

/// What an expression does that ends a rule, if it is one that does.
pub(super) fn action(expression: &Expression) -> Option<Action> {
    if expression.name == "reject" {
        return Some(Action::Reject);
    }
    let (name, revision, info) = target(expression, "target")?;
    let to = || nat_range(revision, info).unwrap_or_else(|| "another address".to_owned());
    Some(match name {
        "MASQUERADE" => Action::Masquerade,
        "SNAT" => Action::Snat(to()),
        "DNAT" => Action::Dnat(to()),
        "REDIRECT" => Action::Redirect(None),
        "REJECT" => Action::Reject,
        "CT" | "NOTRACK" => Action::NoTrack,
        _ => return None,
    })
}

/// The note that iptables wrote beside a rule.
pub(super) fn comment(expression: &Expression) -> Option<String> {
    let (name, _, info) = target(expression, "match")?;
    (name == "comment").then(|| text(info))
}

/// The name of a match that may hold or not; `None` for what is no match, or always holds.
pub(super) fn opaque(expression: &Expression) -> Option<String> {
    match expression.name.as_str() {
        "match" => {
            let (name, ..) = target(expression, "match")?;
            (name != "comment").then(|| format!("-m {name}"))
        }
        // These do something beside, or load what a later one compares.
        "target" | "reject" | "log" | "counter" | "queue" | "immediate" | "meta" | "payload"
        | "bitwise" | "byteorder" => None,
        name => Some(name.to_owned()),
    }
}

/// Name, revision and parameters.
fn target<'e>(expression: &'e Expression, kind: &str) -> Option<(&'e str, u32, &'e [u8])> {
    if expression.name != kind {
        return None;
    }
    let (mut name, mut revision, mut info) = (None, 0, &[][..]);
    let mut rest = &expression.data[..];
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        match u16::from_ne_bytes([c, d]) & 0x3fff {
            NAME => name = std::str::from_utf8(value.split(|it| *it == 0).next()?).ok(),
            REVISION => revision = u32::from_be_bytes(value.try_into().ok()?),
            INFO => info = value,
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((name?, revision, info))
}

/// `struct nf_nat_ipv4_multi_range_compat` and `struct nf_nat_range2`: the first address and port.
fn nat_range(revision: u32, info: &[u8]) -> Option<String> {
    const WITH_ADDRESS: u32 = 1;
    const WITH_PORT: u32 = 2;
    let word = |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
    let (flags, address, port) = match revision {
        0 => {
            let address: [u8; 4] = info.get(8..12)?.try_into().ok()?;
            (word(4)?, IpAddr::from(Ipv4Addr::from(address)), info.get(16..18)?)
        }
        // Which family it is, its table knows; an IPv4 address leaves the rest zero.
        _ => {
            let bytes: [u8; 16] = info.get(4..20)?.try_into().ok()?;
            let address = match bytes[4..].iter().all(|byte| *byte == 0) {
                true => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
                false => Ipv6Addr::from(bytes).into(),
            };
            (word(0)?, address, info.get(36..38)?)
        }
    };
    let port = u16::from_be_bytes(port.try_into().ok()?);
    let port = (flags & WITH_PORT != 0).then_some(port);
    (flags & WITH_ADDRESS != 0).then(|| super::socket(address, port))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(kind: &str, name: &str, revision: u32, info: &[u8]) -> Expression {
        let mut data = Vec::new();
        let name = [name.as_bytes(), &[0]].concat();
        for (number, value) in
            [(NAME, &name[..]), (REVISION, &revision.to_be_bytes()), (INFO, info)]
        {
            data.extend((value.len() as u16 + 4).to_ne_bytes());
            data.extend(number.to_ne_bytes());
            data.extend(value);
            data.resize(data.len().next_multiple_of(4), 0);
        }
        Expression { name: kind.to_owned(), data }
    }

    #[test]
    fn targets_and_comments_of_iptables_are_read() {
        let mut info = [0; 40];
        info[..4].copy_from_slice(&3_u32.to_ne_bytes());
        info[4..8].copy_from_slice(&[10, 1, 0, 2]);
        info[36..38].copy_from_slice(&80_u16.to_be_bytes());
        let dnat = expression("target", "DNAT", 2, &info);
        assert_eq!(action(&dnat), Some(Action::Dnat("10.1.0.2:80".to_owned())));
        let masquerade = expression("target", "MASQUERADE", 0, &[0; 24]);
        assert_eq!(action(&masquerade), Some(Action::Masquerade));
        let note = expression("match", "comment", 0, b"name: \"net\"\0\0");
        assert_eq!(comment(&note).as_deref(), Some("name: \"net\""));
        assert_eq!(opaque(&note), None);
        assert_eq!(
            opaque(&expression("match", "statistic", 1, &[])).as_deref(),
            Some("-m statistic")
        );
    }

    #[test]
    fn what_is_cut_off_is_no_target() {
        let whole = expression("target", "DNAT", 2, &[0; 40]);
        for length in 0..whole.data.len() {
            let data = whole.data[..length].to_vec();
            let _ = action(&Expression { data, ..whole.clone() });
        }
    }
}
