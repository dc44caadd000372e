//! nftables over nfnetlink: transactions that change the ruleset, and dumps that read it.
//!
//! The layers, from the top: statements ([`net::nft`]) are lowered to and raised from expressions
//! ([`expression`]); chains, rules, sets and elements are [`message`]s; changes are one
//! [`transaction`].

mod droppers;
mod element;
mod expression;
mod field;
mod foreign;
mod listener;
mod lower;
mod message;
mod opaque;
mod raise;
mod transaction;
mod uapi;
mod value;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use net::nft::{Chain, Element, Key, Object, Rule, Set, Table, TableId};

use self::element::{assemble, is_halves, parse_elements, put_element_key, put_elements_name};
use self::expression::be32;
use self::message::{
    begin, begin_any, parse_chain, parse_rule, parse_set, parse_table, parse_table_id,
    put_chain_name, put_rule, put_rules_name, put_set_name, put_sets_name, put_table_name,
};
use self::uapi::{GEN_ID, SUBSYSTEM, msg};
use crate::attribute::{Writer, iterate};
use crate::error::{Error, ErrorKind, Result};
use crate::netlink::Socket;

pub use self::droppers::ForeignDrop;
pub(crate) use self::listener::Listener;
pub(crate) use self::opaque::survey;
pub(crate) use self::transaction::{Outcome, apply};
pub(crate) use self::uapi::GROUP;

/// A ruleset that keeps changing is read this often before it is given up.
const DUMP_TRIES: usize = 10;

/// The whole ruleset: tables, sets, chains with their rules, elements. What podwire does not
/// understand is in it as it is; what it has no object for (stateful objects, flow tables, unknown
/// families) is left out.
pub(crate) fn dump(socket: &mut Socket) -> Result<Vec<Object>> {
    consistent(socket, |socket| {
        let any = begin_any();
        let tables = collect(socket, msg::GETTABLE, &any, parse_table)?;
        let sets = collect(socket, msg::GETSET, &any, parse_set)?;
        let chains = collect(socket, msg::GETCHAIN, &any, parse_chain)?;
        let rules = collect(socket, msg::GETRULE, &any, parse_rule)?;
        put_together(socket, tables, sets, chains, rules)
    })
    .map_err(|error| error.during("read the nftables ruleset"))
}

/// One table, and of all the others nothing but the names of their chains: those are all that the
/// kernel cannot be asked for by table. Nothing if there is no such table.
pub(crate) fn table(socket: &mut Socket, id: &TableId) -> Result<Vec<Object>> {
    let read = consistent(socket, |socket| {
        let mut tables = Vec::new();
        socket.request(number(msg::GETTABLE), 0, put_table_name(id).bytes(), |message| {
            tables.extend(parse_table(message.payload));
        })?;
        let sets = collect(socket, msg::GETSET, &put_sets_name(id), parse_set)?;
        let mut chains = collect(socket, msg::GETCHAIN, &begin(id.family), parse_chain)?;
        chains.retain(|chain| chain.table == *id);
        let all = Chain { table: id.clone(), name: String::new(), base: None, rules: Vec::new() };
        let rules = collect(socket, msg::GETRULE, &put_rules_name(&all), parse_rule)?;
        put_together(socket, tables, sets, chains, rules)
    });
    match found(read) {
        Ok(objects) => Ok(objects.unwrap_or_default()),
        Err(error) => Err(error.during(format!("read nft table {id}"))),
    }
}

/// What was read, in an order in which it can be made: chains with their rules, and the elements of
/// the sets, which are read now.
fn put_together(
    socket: &mut Socket,
    tables: Vec<Table>,
    sets: Vec<Set>,
    mut chains: Vec<Chain>,
    rules: Vec<(TableId, String, Rule)>,
) -> Result<Vec<Object>> {
    let mut by_chain: HashMap<(TableId, String), Vec<Rule>> = HashMap::new();
    for (table, chain, rule) in rules {
        by_chain.entry((table, chain)).or_default().push(rule);
    }
    for chain in &mut chains {
        let key = (chain.table.clone(), chain.name.clone());
        chain.rules = by_chain.remove(&key).unwrap_or_default();
    }
    let mut elements = Vec::new();
    for set in &sets {
        elements.extend(elements_of(socket, set, |_| true)?);
    }
    let mut objects: Vec<Object> = tables.into_iter().map(Object::from).collect();
    objects.extend(sets.into_iter().map(Object::from));
    objects.extend(chains.into_iter().map(Object::from));
    objects.extend(elements.into_iter().map(Object::from));
    Ok(objects)
}

/// The table that an event tells a change of: of itself or of anything that is in it.
pub(crate) fn changed_table(kind: u16, payload: &[u8]) -> Option<TableId> {
    if kind >> 8 != SUBSYSTEM || kind == number(msg::NEWGEN) {
        return None;
    }
    parse_table_id(payload)
}

/// Whether the kernel has nftables and lets us use it.
pub(crate) fn check(socket: &mut Socket) -> Result<()> {
    generation(socket).map(drop)
}

/// The elements of a set or a map whose comment is wanted; `None` if there is no such set.
///
/// Most of what is read belongs to others, and to understand an element takes ten times as long as
/// to look at its comment.
pub(crate) fn elements(
    socket: &mut Socket,
    table: &TableId,
    name: &str,
    is_wanted: impl Fn(Option<&str>) -> bool,
) -> Result<Option<Vec<Element>>> {
    let during = |error: Error| error.during(format!("read nft set {name} in {table}"));
    // The common answer, in one question.
    if set(socket, table, name).map_err(during)?.is_none() {
        return Ok(None);
    }
    let read = |socket: &mut Socket| match set(socket, table, name)? {
        Some(set) => elements_of(socket, &set, &is_wanted).map(Some),
        None => Ok(None),
    };
    found(consistent(socket, read)).map(Option::flatten).map_err(during)
}

/// The element with this key; `None` if there is none, or no such set.
pub(crate) fn element(
    socket: &mut Socket,
    table: &TableId,
    name: &str,
    key: &Key,
) -> Result<Option<Element>> {
    let look_up = |socket: &mut Socket| {
        let Some(set) = set(socket, table, name)? else { return Ok(None) };
        if is_halves(&set) {
            // Where intervals adjoin, Linux 6.18 answers with the end of a neighbour.
            return Ok(elements_of(socket, &set, |_| true)?.into_iter().find(|it| it.key == *key));
        }
        let request = put_element_key(table, name, key)
            .map_err(|refusal| Error::text("look up", ErrorKind::Other, refusal))?;
        let mut stored = Vec::new();
        socket.request(number(msg::GETSETELEM), 0, request.bytes(), |message| {
            stored.extend(parse_elements(&set, message.payload, |_| true));
        })?;
        // Asked for an interval of a concatenation, the kernel answers with one that holds it.
        Ok(assemble(&set, stored).into_iter().find(|element| element.key == *key))
    };
    found(look_up(socket))
        .map(Option::flatten)
        .map_err(|error| error.during(format!("look up nft element {key} in {table} {name}")))
}

/// The set `name`; `None` if there is none.
fn set(socket: &mut Socket, table: &TableId, name: &str) -> Result<Option<Set>> {
    let mut set = None;
    let request = put_set_name(table, name);
    let answer = socket.request(number(msg::GETSET), 0, request.bytes(), |message| {
        set = parse_set(message.payload);
    });
    found(answer.map_err(unsupported))?;
    Ok(set)
}

/// Whether a chain is there with exactly these rules.
pub(crate) fn holds(socket: &mut Socket, wanted: &Chain) -> Result<bool> {
    let mut seen = None;
    let request = put_chain_name(wanted);
    let answer = socket.get(number(msg::GETCHAIN), request.bytes(), |message| {
        seen = parse_chain(message.payload);
    });
    found(answer.map_err(unsupported))?;
    let Some(mut seen) = seen else { return Ok(false) };
    let request = put_rules_name(wanted);
    let rules = socket.dump(number(msg::GETRULE), request.bytes(), |message| {
        seen.rules.extend(parse_rule(message.payload).map(|(_, _, rule)| rule));
    });
    // There is more than one way to write a rule, but only one in which it is read.
    let read = |rule| put_rule(wanted, rule).ok().and_then(|w| parse_rule(w.bytes()));
    let wanted_rules = wanted.rules.iter().map(|rule| read(rule).map(|(_, _, rule)| rule));
    Ok(found(rules)?.is_some()
        && (&seen.name, &seen.base) == (&wanted.name, &wanted.base)
        && seen.rules.into_iter().map(Some).eq(wanted_rules))
}

fn elements_of(
    socket: &mut Socket,
    set: &Set,
    is_wanted: impl Fn(Option<&str>) -> bool,
) -> Result<Vec<Element>> {
    let mut stored = Vec::new();
    let request = put_elements_name(&set.table, &set.name);
    socket.dump(number(msg::GETSETELEM), request.bytes(), |message| {
        stored.extend(parse_elements(set, message.payload, &is_wanted));
    })?;
    let mut elements = assemble(set, stored);
    elements.retain(|element| is_wanted(element.comment.as_deref()));
    Ok(elements)
}

/// Everything of one kind that `request` names.
fn collect<T>(
    socket: &mut Socket,
    kind: u16,
    request: &Writer,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    socket.dump(number(kind), request.bytes(), |message| all.extend(parse(message.payload)))?;
    Ok(all)
}

/// Reads with several requests what belongs together: again, if the ruleset changed meanwhile.
fn consistent<T>(socket: &mut Socket, mut read: impl FnMut(&mut Socket) -> Result<T>) -> Result<T> {
    for _ in 0..DUMP_TRIES {
        let before = generation(socket)?;
        let result = read(socket);
        if before == generation(socket)? {
            return result;
        }
    }
    Err(Error::text("read", ErrorKind::Other, "it changes faster than it can be read"))
}

/// The number of the last transaction.
fn generation(socket: &mut Socket) -> Result<Option<u32>> {
    let mut generation = None;
    socket
        .request(number(msg::GETGEN), 0, begin_any().bytes(), |message| {
            let attributes = message.payload.get(4..).unwrap_or_default();
            let found = iterate(attributes).find(|(kind, _)| *kind == GEN_ID);
            generation = found.and_then(|(_, value)| be32(value));
        })
        .map_err(unsupported)?;
    Ok(generation)
}

fn number(kind: u16) -> u16 {
    SUBSYSTEM << 8 | kind
}

/// `None` for what is not there.
fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_errno() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A kernel without nftables does not know the subsystem: it answers `EINVAL` to any request and
/// `EOPNOTSUPP` to a transaction.
fn unsupported(error: Error) -> Error {
    match error.raw_errno() {
        Some(libc::EINVAL | libc::EOPNOTSUPP) => Error::text(
            "use nftables",
            ErrorKind::Unsupported,
            "this kernel has no nf_tables; it needs one with CONFIG_NF_TABLES",
        ),
        _ => error,
    }
}
