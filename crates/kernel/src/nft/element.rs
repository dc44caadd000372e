//! Elements of sets and maps as messages, in both directions.
//!
//! Where keys are intervals, the kernel keeps one of two forms. An interval of a single value is two
//! elements: one where it begins, and one, flagged, where it has ended. An interval of a
//! concatenation is one element with two keys.

use std::borrow::Cow;

use net::nft::{Element, Key, KeyType, MapValue, Mapped, Set, TableId, Value};

use super::expression::{put_value, put_verdict, text, value as parse_value, verdict};
use super::message::{begin, comment_bytes, comment_of, entry};
use super::uapi::{LIST_ELEM, element, userdata};
use super::value::{self, ByteOrder};
use crate::attribute::{Writer, iterate};

/// The message that adds an element.
pub(super) fn put_element(it: &Element) -> Result<Writer, String> {
    let comment = it.comment.as_deref().map(comment_bytes).transpose()?;
    message(&it.table, &it.set, &it.key, |w| {
        match &it.value {
            None => {}
            Some(Mapped::Verdict(verdict)) => put_verdict(w, element::DATA, verdict),
            Some(Mapped::Data(values)) => put_value(w, element::DATA, &value::encode_all(values)),
            Some(Mapped::Object(name)) => {
                w.put_str(element::OBJECT, name);
            }
        }
        if let Some(comment) = &comment {
            w.put(element::USERDATA, &entry(userdata::ELEMENT_COMMENT, comment));
        }
    })
}

/// The message that names an element, to get or to delete it.
pub(super) fn put_element_key(table: &TableId, set: &str, key: &Key) -> Result<Writer, String> {
    message(table, set, key, |_| ())
}

/// The message that names all elements of a set.
pub(super) fn put_elements_name(table: &TableId, set: &str) -> Writer {
    let mut w = begin(table.family);
    w.put_str(element::LIST_TABLE, &table.name).put_str(element::LIST_SET, set);
    w
}

/// A message about one element; `rest` writes what it has besides its key.
fn message(
    table: &TableId,
    set: &str,
    key: &Key,
    rest: impl FnOnce(&mut Writer),
) -> Result<Writer, String> {
    let mut w = put_elements_name(table, set);
    let first = match key {
        Key::Point(values) => value::encode_all(values),
        Key::Interval(first, last) => {
            check_interval(key, first, last)?;
            value::encode_all(first)
        }
        Key::Rest => Vec::new(),
    };
    w.nest(element::LIST_ELEMENTS, |w| {
        w.nest(LIST_ELEM, |w| {
            match key {
                Key::Rest => {
                    w.put_be32(element::FLAGS, element::FLAG_CATCHALL);
                }
                _ => put_value(w, element::KEY, &first),
            }
            if let Key::Interval(_, last) = key
                && last.len() > 1
            {
                put_value(w, element::KEY_END, &value::encode_all(last));
            }
            rest(w);
        });
        if let Key::Interval(_, last) = key
            && let [last] = last.as_slice()
            && let Some(end) = next(&value::encode(last))
        {
            w.nest(LIST_ELEM, |w| {
                put_value(w, element::KEY, &end);
                w.put_be32(element::FLAGS, element::FLAG_INTERVAL_END);
            });
        }
    });
    Ok(w)
}

/// Intervals are compared byte by byte from left to right. Numbers in host byte order would have to
/// be turned around, here and in every rule that looks them up.
fn check_interval(key: &Key, first: &[Value], last: &[Value]) -> Result<(), String> {
    let is_host = |value: &Value| {
        value::type_of(value).is_some_and(|kind| {
            kind != KeyType::Ifname && value::byte_order(&[kind]) == ByteOrder::Host
        })
    };
    if first.iter().chain(last).any(is_host) {
        return Err(format!("podwire writes no intervals of this type: {key}"));
    }
    if first.is_empty() || !first.iter().map(value::type_of).eq(last.iter().map(value::type_of)) {
        return Err(format!("the ends of the interval {key} are not of the same type"));
    }
    Ok(())
}

/// One element as the kernel keeps it.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    flags: u32,
    value: Option<Mapped>,
    comment: Option<String>,
}

/// The elements of `set` in a message whose comment is wanted. Of what keeps an interval as two
/// elements all are, because the second one has no comment.
pub(super) fn parse_elements(
    set: &Set,
    payload: &[u8],
    is_wanted: impl Fn(Option<&str>) -> bool,
) -> Vec<Stored> {
    let attributes = payload.get(4..).unwrap_or_default();
    let is_halves = is_halves(set);
    iterate(attributes)
        .filter(|(kind, _)| *kind == element::LIST_ELEMENTS)
        .flat_map(|(_, list)| iterate(list))
        .filter(|(_, one)| is_halves || is_wanted(comment_in(one).as_deref()))
        .map(|(_, one)| parse_element(set, one))
        .collect()
}

/// The comment of an element.
fn comment_in(attributes: &[u8]) -> Option<Cow<'_, str>> {
    let (_, bytes) = iterate(attributes).find(|(kind, _)| *kind == element::USERDATA)?;
    comment_of(bytes, userdata::ELEMENT_COMMENT)
}

fn parse_element(set: &Set, attributes: &[u8]) -> Stored {
    let mut stored = Stored::default();
    for (kind, value) in iterate(attributes) {
        match kind {
            element::KEY => stored.key = parse_value(value).unwrap_or_default(),
            element::KEY_END => stored.key_end = parse_value(value),
            element::FLAGS => stored.flags = super::expression::be32(value).unwrap_or(0),
            element::DATA => stored.value = parse_data(set, value),
            element::OBJECT => stored.value = Some(Mapped::Object(text(value))),
            _ => {}
        }
    }
    stored.comment = comment_in(attributes).map(Cow::into_owned);
    stored
}

fn parse_data(set: &Set, attributes: &[u8]) -> Option<Mapped> {
    if let Some(verdict) = verdict(attributes) {
        return Some(Mapped::Verdict(verdict));
    }
    let bytes = parse_value(attributes)?;
    Some(Mapped::Data(match &set.value {
        Some(MapValue::Data(kinds)) => value::decode_all(kinds, &bytes),
        _ => vec![Value::Raw(bytes)],
    }))
}

/// Whether each interval of `set` is two elements.
pub(super) fn is_halves(set: &Set) -> bool {
    // A concatenation has a type of more than six bits, also where its parts are unknown.
    let is_concatenation = value::number(&set.key) >= 64;
    set.flags.interval && !is_concatenation
}

/// The elements of `set` out of all that the kernel keeps of it, sorted by their keys where they
/// are intervals.
pub(super) fn assemble(set: &Set, mut stored: Vec<Stored>) -> Vec<Element> {
    let is_halves = is_halves(set);
    if is_halves {
        // Where one interval ends and the next one begins, the end comes first.
        let is_begin = |one: &Stored| one.flags & element::FLAG_INTERVAL_END == 0;
        stored.sort_by(|a, b| (&a.key, is_begin(a)).cmp(&(&b.key, is_begin(b))));
    }
    let name = net::nft::Name::from(set.name.as_str());
    let mut elements = Vec::with_capacity(stored.len());
    let mut rest = stored.into_iter().peekable();
    while let Some(one) = rest.next() {
        if one.flags & element::FLAG_INTERVAL_END != 0 {
            continue;
        }
        let key = if one.flags & element::FLAG_CATCHALL != 0 {
            Key::Rest
        } else if is_halves {
            let end = rest.peek().filter(|next| next.flags & element::FLAG_INTERVAL_END != 0);
            let last = end.map_or_else(|| vec![0xff; one.key.len()], |end| previous(&end.key));
            let decode = |bytes: &[u8]| value::decode_sorted(&set.key, bytes);
            Key::Interval(decode(&one.key), decode(&last))
        } else if set.flags.interval {
            let last = one.key_end.as_ref().unwrap_or(&one.key);
            let decode = |bytes: &[u8]| value::decode_all(&set.key, bytes);
            Key::Interval(decode(&one.key), decode(last))
        } else {
            Key::Point(value::decode_all(&set.key, &one.key))
        };
        elements.push(Element {
            table: set.table.clone(),
            set: name.clone(),
            key,
            value: one.value,
            comment: one.comment,
        });
    }
    elements
}

/// The number behind `bytes`, most significant byte first; `None` behind the last one.
fn next(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    for byte in bytes.iter_mut().rev() {
        let (sum, carries) = byte.overflowing_add(1);
        *byte = sum;
        if !carries {
            return Some(bytes);
        }
    }
    None
}

/// The number before `bytes`.
fn previous(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for byte in bytes.iter_mut().rev() {
        let (difference, borrows) = byte.overflowing_sub(1);
        *byte = difference;
        if !borrows {
            break;
        }
    }
    bytes
}
