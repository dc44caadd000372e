//! Tables, chains, rules, sets and elements as messages, in both directions.
//!
//! What is kept for people (comments, byte orders) is user data: bytes that the kernel stores with
//! an object without looking at them, in the form in which nft writes and reads them.

use std::borrow::Cow;

use net::LinkName;
use net::nft::{
    Base, Chain, ChainKind, Family, Hook, MapValue, Policy, Rule, Set, SetFlags, Table, TableId,
};

use super::expression::{Expr, be32, text, text_in};
use super::lower::lower;
use super::raise::raise;
use super::uapi::{self, LIST_ELEM, chain, rule, set, set_flag, table, userdata};
use super::value;
use crate::attribute::{Writer, iterate};

/// The length of `struct nfgenmsg`, which every message begins with.
const HEADER: usize = 4;
/// As long as nft allows: `NFTNL_UDATA_COMMENT_MAXLEN`.
const COMMENT_LENGTH: usize = 128;

/// An empty message about something in a table of `family`.
pub(super) fn begin(family: Family) -> Writer {
    Writer::after(&[family_number(family), 0, 0, 0])
}

/// An empty message about all families.
pub(super) fn begin_any() -> Writer {
    Writer::after(&[0; HEADER])
}

/// The `struct nfgenmsg` of the two messages around a transaction: they name the subsystem.
pub(super) fn batch_header() -> [u8; HEADER] {
    let [high, low] = uapi::SUBSYSTEM.to_be_bytes();
    [0, 0, high, low]
}

/// Splits a message into its family and its attributes; `None` for a family that podwire does
/// not know.
pub(super) fn split(payload: &[u8]) -> Option<(Family, &[u8])> {
    let families =
        [Family::Inet, Family::Ip, Family::Ip6, Family::Bridge, Family::Netdev, Family::Arp];
    let number = *payload.first()?;
    let family = families.into_iter().find(|family| family_number(*family) == number)?;
    Some((family, payload.get(HEADER..)?))
}

/// `NFPROTO_*` (include/uapi/linux/netfilter.h).
fn family_number(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Arp => 3,
        Family::Netdev => 5,
        Family::Bridge => 7,
        Family::Ip6 => 10,
    }
}

/// The message about a table.
pub(super) fn put_table(table: &Table) -> Result<Writer, String> {
    let mut w = put_table_name(&table.id);
    // Also where it is 0, as nft has it: that wakes a table that is there.
    w.put_be32(table::FLAGS, if table.dormant { table::DORMANT } else { 0 });
    if let Some(comment) = &table.comment {
        w.put(table::USERDATA, &entry(userdata::TABLE_COMMENT, &comment_bytes(comment)?));
    }
    Ok(w)
}

/// The message that names a table.
pub(super) fn put_table_name(id: &TableId) -> Writer {
    let mut w = begin(id.family);
    w.put_str(table::NAME, &id.name);
    w
}

/// The table of a message.
pub(super) fn parse_table(payload: &[u8]) -> Option<Table> {
    let (family, attributes) = split(payload)?;
    let mut name = None;
    let mut comment = None;
    let mut dormant = false;
    for (kind, value) in iterate(attributes) {
        match kind {
            table::NAME => name = Some(text(value)),
            table::FLAGS => dormant = be32(value)? & table::DORMANT != 0,
            table::USERDATA => {
                comment = comment_of(value, userdata::TABLE_COMMENT).map(Cow::into_owned);
            }
            _ => {}
        }
    }
    Some(Table { id: TableId { family, name: name?.into() }, comment, dormant })
}

/// The table that a message is about, or that what it is about is in: every kind of message says so
/// in the same place.
pub(super) fn parse_table_id(payload: &[u8]) -> Option<TableId> {
    let (family, attributes) = split(payload)?;
    let (_, name) = iterate(attributes).find(|(kind, _)| *kind == table::NAME)?;
    Some(TableId { family, name: text(name).into() })
}

/// The message about a chain, without its rules.
pub(super) fn put_chain(chain: &Chain) -> Result<Writer, String> {
    let mut w = put_chain_name(chain);
    let Some(base) = &chain.base else { return Ok(w) };
    let hook = hook_number(chain.table.family, base.hook)
        .ok_or_else(|| format!("tables of family {} have no such hook", chain.table.family))?;
    w.nest(chain::HOOK, |w| {
        w.put_be32(chain::HOOK_NUMBER, hook);
        w.put_be32(chain::HOOK_PRIORITY, base.priority as u32);
        match base.devices.as_slice() {
            [] => {}
            [device] => {
                w.put_str(chain::HOOK_DEVICE, device.as_str());
            }
            devices => {
                w.nest(chain::HOOK_DEVICES, |w| {
                    for device in devices {
                        w.put_str(chain::DEVICE_NAME, device.as_str());
                    }
                });
            }
        }
    });
    w.put_str(chain::TYPE, kind_name(base.kind));
    w.put_be32(chain::POLICY, policy_number(base.policy));
    Ok(w)
}

/// The message that names a chain.
pub(super) fn put_chain_name(chain: &Chain) -> Writer {
    let mut w = begin(chain.table.family);
    w.put_str(chain::TABLE, &chain.table.name).put_str(chain::NAME, &chain.name);
    w
}

/// The chain of a message, without its rules.
pub(super) fn parse_chain(payload: &[u8]) -> Option<Chain> {
    let (family, attributes) = split(payload)?;
    let (mut table, mut name, mut hook, mut kind, mut policy) = (None, None, None, None, 1);
    for (attribute, value) in iterate(attributes) {
        match attribute {
            chain::TABLE => table = Some(text(value)),
            chain::NAME => name = Some(text(value)),
            chain::HOOK => hook = parse_hook(family, value),
            chain::TYPE => kind = parse_kind(&text(value)),
            chain::POLICY => policy = be32(value)?,
            _ => {}
        }
    }
    let base = hook.zip(kind).map(|((hook, priority, devices), kind)| Base {
        kind,
        hook,
        priority,
        policy: if policy == policy_number(Policy::Drop) { Policy::Drop } else { Policy::Accept },
        devices,
    });
    Some(Chain {
        table: TableId { family, name: table?.into() },
        name: name?,
        base,
        rules: Vec::new(),
    })
}

fn parse_hook(family: Family, attributes: &[u8]) -> Option<(Hook, i32, Vec<LinkName>)> {
    let (mut hook, mut priority, mut devices) = (None, None, Vec::new());
    for (kind, value) in iterate(attributes) {
        match kind {
            chain::HOOK_NUMBER => hook = parse_hook_number(family, be32(value)?),
            chain::HOOK_PRIORITY => priority = Some(be32(value)? as i32),
            // The kernel tells the only device twice.
            chain::HOOK_DEVICE => devices = text(value).parse().into_iter().collect(),
            chain::HOOK_DEVICES => {
                devices = iterate(value).filter_map(|(_, name)| text(name).parse().ok()).collect();
            }
            _ => {}
        }
    }
    Some((hook?, priority?, devices))
}

/// Hooks by their names, with their numbers in `family` (include/uapi/linux/netfilter.h:
/// `nf_inet_hooks` and `nf_dev_hooks`; netfilter_arp.h).
fn hook_number(family: Family, hook: Hook) -> Option<u32> {
    Some(match (family, hook) {
        (Family::Netdev, Hook::Ingress) => 0,
        (Family::Netdev, Hook::Egress) => 1,
        (Family::Netdev, _) => return None,
        (Family::Arp, Hook::Input) => 0,
        (Family::Arp, Hook::Output) => 1,
        (Family::Arp, _) => return None,
        (Family::Inet, Hook::Ingress) => 5,
        (_, Hook::Prerouting) => 0,
        (_, Hook::Input) => 1,
        (_, Hook::Forward) => 2,
        (_, Hook::Output) => 3,
        (_, Hook::Postrouting) => 4,
        (_, Hook::Ingress | Hook::Egress) => return None,
    })
}

fn parse_hook_number(family: Family, number: u32) -> Option<Hook> {
    let hooks = [
        Hook::Ingress,
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
        Hook::Egress,
    ];
    hooks.into_iter().find(|hook| hook_number(family, *hook) == Some(number))
}

fn kind_name(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Route => "route",
    }
}

fn parse_kind(name: &str) -> Option<ChainKind> {
    [ChainKind::Filter, ChainKind::Nat, ChainKind::Route]
        .into_iter()
        .find(|kind| kind_name(*kind) == name)
}

/// `NF_DROP` and `NF_ACCEPT`.
fn policy_number(policy: Policy) -> u32 {
    match policy {
        Policy::Drop => 0,
        Policy::Accept => 1,
    }
}

/// The message that names the rules of a chain, or of all chains of a table if the chain has no
/// name.
pub(super) fn put_rules_name(chain: &Chain) -> Writer {
    let mut w = begin(chain.table.family);
    w.put_str(rule::TABLE, &chain.table.name);
    if !chain.name.is_empty() {
        w.put_str(rule::CHAIN, &chain.name);
    }
    w
}

/// The message that names one rule of a chain by its handle.
pub(super) fn put_rule_handle(chain: &Chain, handle: &[u8]) -> Writer {
    let mut w = put_rules_name(chain);
    w.put(rule::HANDLE, handle);
    w
}

/// The handle in the message about a rule, as the kernel wrote it.
pub(super) fn rule_handle(payload: &[u8]) -> Option<Vec<u8>> {
    let (_, attributes) = split(payload)?;
    let (_, handle) = iterate(attributes).find(|(kind, _)| *kind == rule::HANDLE)?;
    Some(handle.to_vec())
}

/// The message about one rule of a chain.
pub(super) fn put_rule(chain: &Chain, rule: &Rule) -> Result<Writer, String> {
    let expressions = lower(chain.table.family, &rule.statements)?;
    let mut w = put_rules_name(chain);
    w.nest(rule::EXPRESSIONS, |w| {
        for expression in &expressions {
            w.nest(LIST_ELEM, |w| expression.emit(w));
        }
    });
    if let Some(comment) = &rule.comment {
        w.put(rule::USERDATA, &entry(userdata::RULE_COMMENT, &comment_bytes(comment)?));
    }
    Ok(w)
}

/// The rule of a message, with the table and the name of its chain.
pub(super) fn parse_rule(payload: &[u8]) -> Option<(TableId, String, Rule)> {
    let (family, attributes) = split(payload)?;
    let (mut table, mut chain, mut rule) = (None, None, Rule::default());
    for (kind, value) in iterate(attributes) {
        match kind {
            rule::TABLE => table = Some(text(value)),
            rule::CHAIN => chain = Some(text(value)),
            rule::EXPRESSIONS => {
                let expressions: Vec<_> = iterate(value).map(|(_, one)| Expr::parse(one)).collect();
                rule.statements = raise(family, &expressions);
            }
            rule::USERDATA => {
                rule.comment = comment_of(value, userdata::RULE_COMMENT).map(Cow::into_owned);
            }
            _ => {}
        }
    }
    Some((TableId { family, name: table?.into() }, chain?, rule))
}

/// The message about a set. `id` tells the sets of a transaction apart.
pub(super) fn put_set(set: &Set, id: u32) -> Result<Writer, String> {
    let flags = &set.flags;
    let is_ranges = flags.interval && set.key.len() > 1;
    let bits = [
        (flags.anonymous, set_flag::ANONYMOUS),
        (flags.constant, set_flag::CONSTANT),
        (flags.interval, set_flag::INTERVAL),
        (matches!(set.value, Some(MapValue::Verdict | MapValue::Data(_))), set_flag::MAP),
        (flags.timeout, set_flag::TIMEOUT),
        (flags.dynamic, set_flag::EVAL),
        (matches!(set.value, Some(MapValue::Object(_))), set_flag::OBJECT),
        (is_ranges, set_flag::CONCAT),
    ];
    let mut w = put_set_name(&set.table, &set.name);
    w.put_be32(set::FLAGS, bits.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum())
        .put_be32(set::KEY_TYPE, value::number(&set.key))
        .put_be32(set::KEY_LENGTH, value::total_length(&set.key) as u32);
    let mut note = number(userdata::SET_KEY_BYTE_ORDER, value::byte_order(&set.key) as u32);
    if let Some(to) = &set.value {
        let order = match to {
            MapValue::Verdict => {
                w.put_be32(set::DATA_TYPE, set::VERDICT).put_be32(set::DATA_LENGTH, 0);
                value::ByteOrder::None
            }
            MapValue::Data(kinds) => {
                w.put_be32(set::DATA_TYPE, value::number(kinds))
                    .put_be32(set::DATA_LENGTH, value::total_length(kinds) as u32);
                value::byte_order(kinds)
            }
            MapValue::Object(kind) => {
                w.put_be32(set::OBJECT_TYPE, *kind);
                value::ByteOrder::None
            }
        };
        note.extend(number(userdata::SET_DATA_BYTE_ORDER, order as u32));
        note.extend(number(userdata::SET_DATA_INTERVAL, 0));
    }
    if let Some(comment) = &set.comment {
        note.extend(entry(userdata::SET_COMMENT, &comment_bytes(comment)?));
    }
    w.put_be32(set::ID, id);
    if is_ranges {
        // The kernel takes the parts of a key apart only where they are ranges of their own.
        w.nest(set::DESCRIPTION, |w| {
            w.nest(set::DESCRIPTION_CONCAT, |w| {
                for kind in &set.key {
                    w.nest(LIST_ELEM, |w| {
                        w.put_be32(set::FIELD_LENGTH, value::length(kind) as u32);
                    });
                }
            });
        });
    }
    w.put(set::USERDATA, &note);
    Ok(w)
}

/// The message that names a set.
pub(super) fn put_set_name(table: &TableId, name: &str) -> Writer {
    let mut w = begin(table.family);
    w.put_str(set::TABLE, &table.name).put_str(set::NAME, name);
    w
}

/// The message that names all sets of a table.
pub(super) fn put_sets_name(table: &TableId) -> Writer {
    let mut w = begin(table.family);
    w.put_str(set::TABLE, &table.name);
    w
}

/// The set of a message.
pub(super) fn parse_set(payload: &[u8]) -> Option<Set> {
    let (family, attributes) = split(payload)?;
    let (mut table, mut name, mut comment) = (None, None, None);
    let (mut key, mut data, mut object, mut bits) = ((0, 0), (0, 0), 0, 0);
    for (kind, value) in iterate(attributes) {
        match kind {
            set::TABLE => table = Some(text(value)),
            set::NAME => name = Some(text(value)),
            set::FLAGS => bits = be32(value)?,
            set::KEY_TYPE => key.0 = be32(value)?,
            set::KEY_LENGTH => key.1 = be32(value)?,
            set::DATA_TYPE => data.0 = be32(value)?,
            set::DATA_LENGTH => data.1 = be32(value)?,
            set::OBJECT_TYPE => object = be32(value)?,
            set::USERDATA => {
                comment = comment_of(value, userdata::SET_COMMENT).map(Cow::into_owned);
            }
            _ => {}
        }
    }
    let has = |flag| bits & flag != 0;
    Some(Set {
        table: TableId { family, name: table?.into() },
        name: name?,
        key: value::types(key.0, key.1),
        value: if has(set_flag::OBJECT) {
            Some(MapValue::Object(object))
        } else if !has(set_flag::MAP) {
            None
        } else if data.0 == set::VERDICT {
            Some(MapValue::Verdict)
        } else {
            Some(MapValue::Data(value::types(data.0, data.1)))
        },
        flags: SetFlags {
            interval: has(set_flag::INTERVAL),
            dynamic: has(set_flag::EVAL),
            timeout: has(set_flag::TIMEOUT),
            constant: has(set_flag::CONSTANT),
            anonymous: has(set_flag::ANONYMOUS),
        },
        comment,
    })
}

/// One entry of user data: type, length, value.
pub(super) fn entry(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, value.len() as u8], value].concat()
}

fn number(kind: u8, number: u32) -> Vec<u8> {
    entry(kind, &number.to_ne_bytes())
}

/// A comment with its closing zero, if nft could have written it.
pub(super) fn comment_bytes(comment: &str) -> Result<Vec<u8>, String> {
    if comment.len() > COMMENT_LENGTH {
        return Err(format!("a comment has at most {COMMENT_LENGTH} bytes: {comment:?}"));
    }
    if comment.contains(|c: char| c == '"' || c.is_control()) {
        return Err(format!("a comment holds no quotes and no line breaks: {comment:?}"));
    }
    Ok([comment.as_bytes(), b"\0"].concat())
}

/// The comment among user data.
pub(super) fn comment_of(mut bytes: &[u8], wanted: u8) -> Option<Cow<'_, str>> {
    while let [kind, length, rest @ ..] = bytes {
        let (value, next) = rest.split_at_checked(usize::from(*length))?;
        if *kind == wanted {
            return Some(text_in(value));
        }
        bytes = next;
    }
    None
}
