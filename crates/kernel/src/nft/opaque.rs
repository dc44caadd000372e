//! What is in the ruleset that podwire has no object for: it is counted by name, so that nobody takes
//! what is not understood for what is not there.

use super::message::{parse_chain, parse_rule, parse_set, parse_table};
use super::uapi::msg;
use super::{begin_any, consistent, number, put_together, unsupported};
use crate::attribute::iterate;
use crate::dump::Opaque;
use crate::error::{Error, ErrorKind, Result};
use crate::netlink::{Message, Socket};
use crate::rtnetlink::{text, u32_of};

/// The whole ruleset, and the names of all that could not be put into it.
pub(crate) fn survey(socket: &mut Socket) -> Result<(Vec<net::nft::Object>, Vec<Opaque>)> {
    let during = |error: Error| error.during("read the nftables ruleset");
    // The answer of most namespaces, in one question: all else is in a table.
    let mut is_empty = true;
    let tables = socket.dump(number(msg::GETTABLE), begin_any().bytes(), |_| is_empty = false);
    tables.map_err(unsupported).map_err(during)?;
    if is_empty {
        return Ok(Default::default());
    }
    let read = consistent(socket, |socket| {
        let mut opaque = Vec::new();
        let tables = read(socket, msg::GETTABLE, "table", parse_table, &mut opaque)?;
        let sets = read(socket, msg::GETSET, "set", parse_set, &mut opaque)?;
        let chains = read(socket, msg::GETCHAIN, "chain", parse_chain, &mut opaque)?;
        let rules = read(socket, msg::GETRULE, "rule", parse_rule, &mut opaque)?;
        for kind in [msg::GETOBJ, msg::GETFLOWTABLE] {
            let none = |_: &[u8]| None::<()>;
            match read(socket, kind, "flowtable", none, &mut opaque) {
                // A kernel without flow tables.
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                answer => drop(answer?),
            }
        }
        opaque.sort();
        Ok((put_together(socket, tables, sets, chains, rules)?, opaque))
    });
    read.map_err(during)
}

/// Everything of one kind; what `parse` does not understand goes to `opaque`.
fn read<T>(
    socket: &mut Socket,
    kind: u16,
    what: &str,
    parse: impl Fn(&[u8]) -> Option<T>,
    opaque: &mut Vec<Opaque>,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    socket.dump(number(kind), begin_any().bytes(), |message: Message<'_>| {
        match parse(message.payload) {
            Some(one) => all.push(one),
            None => opaque.push(named(kind, what, message.payload)),
        }
    })?;
    Ok(all)
}

/// What a message is about. Every kind has its table's name in the first attribute; its own is in the
/// second, for chains in the third.
fn named(kind: u16, what: &str, payload: &[u8]) -> Opaque {
    /// `NFTA_OBJ_TYPE`, and the types by number (`NFT_OBJECT_*`).
    const OBJECT_TYPE: u16 = 3;
    const TYPES: [&str; 10] = [
        "object",
        "counter",
        "quota",
        "ct helper",
        "limit",
        "connlimit",
        "tunnel",
        "ct timeout",
        "secmark",
        "ct expectation",
    ];
    let attributes = payload.get(4..).unwrap_or_default();
    let value = |wanted| iterate(attributes).find(|(kind, _)| *kind == wanted).map(|it| it.1);
    let name = match kind {
        msg::GETTABLE => 1,
        msg::GETCHAIN => 3,
        _ => 2,
    };
    let object = (kind == msg::GETOBJ).then(|| {
        let number = value(OBJECT_TYPE).and_then(u32_of).map(u32::from_be).unwrap_or_default();
        TYPES.get(number as usize).copied().unwrap_or("object")
    });
    Opaque {
        kind: object.unwrap_or(what).to_owned(),
        family: family(payload.first().copied().unwrap_or_default()),
        table: value(1).map(text).unwrap_or_default(),
        name: value(name).map(text).unwrap_or_default(),
    }
}

/// `NFPROTO_*`, as nft writes it.
fn family(number: u8) -> String {
    let name = match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        number => return number.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Kernel;

    #[test]
    fn what_has_no_object_is_not_lost() {
        testbed::isolated!();
        testbed::need("nft", "nftables");
        testbed::sh(
            "nft 'table inet t { counter seen { packets 1 bytes 2 ; } ; quota q { 5 mbytes ; } ; }'
            nft 'add chain inet t c { type filter hook input priority 0 ; }'
            nft 'add rule inet t c counter name seen'
            nft 'add table inet f'
            nft 'add flowtable inet f fast { hook ingress priority 0 ; devices = { lo } ; }' \
                2>/dev/null || nft 'add quota inet f other { 1 mbytes ; }'",
        );
        let survey = Kernel::new().unwrap().survey(&net::Space::Here).unwrap();
        assert!(survey.failures.is_empty(), "{:?}", survey.failures);
        let names: Vec<String> = survey
            .dump
            .opaque
            .iter()
            .map(|it| format!("{} {} {} {}", it.kind, it.family, it.table, it.name))
            .collect();
        assert!(names.contains(&"counter inet t seen".to_owned()), "{names:?}");
        assert!(names.contains(&"quota inet t q".to_owned()), "{names:?}");
        assert!(names.iter().any(|it| it.contains("inet f")), "{names:?}");
    }

    #[test]
    fn odd_messages_have_a_name_too() {
        for payload in [&[][..], &[99], &[1, 0, 0, 0, 4, 0, 1, 0], &[255; 20]] {
            for kind in [msg::GETTABLE, msg::GETCHAIN, msg::GETOBJ] {
                named(kind, "x", payload);
            }
        }
        assert_eq!(named(msg::GETTABLE, "table", &[99, 0, 0, 0]).family, "99");
    }
}
