//! From expressions back to statements.
//!
//! Statements are recognised by the runs of expressions that [`super::lower`] and nft make of
//! them. What is no such run stays [`Statement::Raw`], so that every rule can be raised, and
//! lowering what was raised gives the same expressions again.

use std::net::IpAddr;

use ipnet::IpNet;
use net::nft::{
    AddressFamily, Family, Field, KeyType, Nat, NatKind, NatTarget, Statement, Test, Value,
};

use super::expression::{self, Expr, Register};
use super::field::{self, Known};
use super::lower::{address_length, family_number};
use super::uapi::expr;
use super::value;
use crate::attribute::Writer;

/// What a person would have written for `expressions` in a rule of `family`.
pub(super) fn raise(family: Family, expressions: &[Expr]) -> Vec<Statement> {
    let mut out = Vec::new();
    // What was certain before the checks that `out` ends with, and with them.
    let mut before = Known::new(family);
    let mut known = before.clone();
    let mut checks = 0;
    let mut rest = expressions;
    while let Some(first) = rest.first() {
        let (statement, length) = raise_one(&known, rest).unwrap_or_else(|| (raw(first), 1));
        rest = &rest[length..];
        known.learn(&statement);
        if field::fact(&statement).is_some() {
            checks += 1;
            out.push(statement);
            continue;
        }
        drop_implied(&mut out, checks, &before, &statement);
        out.push(statement);
        before = known.clone();
        checks = 0;
    }
    out
}

/// Takes those of the last `checks` statements away that lowering puts in front of `statement` by
/// itself.
fn drop_implied(out: &mut Vec<Statement>, checks: usize, before: &Known, statement: &Statement) {
    let (kept, last) = out.split_at(out.len() - checks);
    for start in 0..last.len() {
        let mut known = before.clone();
        last[..start].iter().for_each(|check| known.learn(check));
        let implied = known.missing(field::fields(statement));
        if last[start..].iter().filter_map(field::fact).eq(implied) {
            let length = kept.len() + start;
            out.truncate(length);
            return;
        }
    }
}

fn raw(expression: &Expr) -> Statement {
    if let Expr::Other(expression) = expression {
        return Statement::Raw(expression.clone());
    }
    // A known expression in an unknown place: as bytes it is what any other one is.
    let mut w = Writer::default();
    expression.emit(&mut w);
    Statement::Raw(expression::raw(w.bytes()))
}

/// The statement that `expressions` begin with, and how many of them it takes.
fn raise_one(known: &Known, expressions: &[Expr]) -> Option<(Statement, usize)> {
    let one = |statement| Some((statement, 1));
    match expressions {
        [Expr::Verdict(verdict), ..] => one(Statement::Verdict(verdict.clone())),
        [Expr::Masquerade { flags: 0 }, ..] => one(Statement::Masquerade { fully_random: false }),
        [Expr::Masquerade { flags: expr::RANGE_PROTO_RANDOM_FULLY }, ..] => {
            one(Statement::Masquerade { fully_random: true })
        }
        [Expr::Redirect { port: None }, ..] => one(Statement::Redirect { port: None }),
        [Expr::Counter, ..] => one(Statement::Counter),
        [Expr::NoTrack, ..] => one(Statement::NoTrack),
        [Expr::Immediate { to: Register::FIRST, value }, rest @ ..] => {
            let (statement, length) = raise_constant(value, rest)?;
            Some((statement, 1 + length))
        }
        [first, rest @ ..] => raise_prefix(known, first, rest)
            .map(|(statement, length)| (statement, 1 + length))
            .or_else(|| raise_loaded(known, expressions)),
        [] => None,
    }
}

/// What is done with a constant in the first register.
fn raise_constant(value: &[u8], rest: &[Expr]) -> Option<(Statement, usize)> {
    const ADDRESS: Register = Register::FIRST;
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.try_into().ok()?));
    match rest {
        [Expr::SetMeta { key: expr::META_MARK, from: Register::FIRST }, ..] => {
            let value = u32::from_ne_bytes(value.try_into().ok()?);
            Some((Statement::SetMark { mask: u32::MAX, value }, 1))
        }
        [Expr::Redirect { port: Some(Register::FIRST) }, ..] => {
            Some((Statement::Redirect { port: Some(port(value)?) }, 1))
        }
        [Expr::Nat { kind, family, address: ADDRESS, port: None }, ..] => {
            let to = NatTarget::Address(address(*family, value)?, None);
            Some((Statement::Nat(Nat { kind: nat_kind(*kind)?, to }), 1))
        }
        [
            Expr::Immediate { to: Register::SECOND, value: second },
            Expr::Nat { kind, family, address: ADDRESS, port: Some(Register::SECOND) },
            ..,
        ] => {
            let to = NatTarget::Address(address(*family, value)?, Some(port(second)?));
            Some((Statement::Nat(Nat { kind: nat_kind(*kind)?, to }), 2))
        }
        _ => None,
    }
}

/// A prefix of whole bytes: only these are loaded and compared.
fn raise_prefix(known: &Known, load: &Expr, rest: &[Expr]) -> Option<(Statement, usize)> {
    let Expr::Payload { base, offset, length, to } = load else { return None };
    let [Expr::Cmp { register: Register::FIRST, op, value }, ..] = rest else { return None };
    let of_field = |field: &&Field| {
        let whole =
            Expr::Payload { base: *base, offset: *offset, length: address_bytes(**field), to: *to };
        *length < address_bytes(**field)
            && known.allows(**field)
            && field::load(**field, Register::FIRST) == whole
    };
    let field = *field::FIELDS.iter().find(of_field)?;
    if value.len() != *length as usize {
        return None;
    }
    let mut bytes = value.clone();
    bytes.resize(field::length(field), 0);
    let Value::Address(address) = value::decode(&field::key_type(field), &bytes) else {
        return None;
    };
    let net = IpNet::new(address, 8 * *length as u8).ok()?;
    Some((Statement::Match { field, negated: negated(*op)?, test: Test::Within(net) }, 1))
}

/// The length of the addresses that `field` holds; 0 if it holds none.
fn address_bytes(field: Field) -> u32 {
    match field::key_type(field) {
        KeyType::Ipv4Addr => 4,
        KeyType::Ipv6Addr => 16,
        _ => 0,
    }
}

/// What is done with one or more loaded fields.
fn raise_loaded(known: &Known, expressions: &[Expr]) -> Option<(Statement, usize)> {
    let key = loaded(known, expressions);
    let (&field, used) = (key.first()?, key.len());
    let rest = &expressions[used..];
    let (statement, length) = match rest {
        [Expr::Lookup { register: Register::FIRST, set, inverted }, ..] => {
            (Statement::Lookup { key, negated: *inverted, set: set.clone() }, 1)
        }
        [Expr::VerdictMap { register: Register::FIRST, map }, ..] => {
            (Statement::VerdictMap { key, map: map.clone() }, 1)
        }
        [
            Expr::Map { register: Register::FIRST, map, to: Register::FIRST },
            Expr::Nat { kind, family, address: Register::FIRST, port },
            ..,
        ] => {
            let family = address_family(*family)?;
            if port.is_some() && *port != Register::FIRST.after(address_length(family)) {
                return None;
            }
            let (map, port) = (map.clone(), port.is_some());
            let to = NatTarget::Map { family, key, map, port };
            (Statement::Nat(Nat { kind: nat_kind(*kind)?, to }), 2)
        }
        [
            Expr::Bitwise { register: Register::FIRST, mask, xor },
            Expr::SetMeta { key: expr::META_MARK, from: Register::FIRST },
            ..,
        ] if key == [Field::Mark] => (raise_mark(mask, xor)?, 2),
        rest if used == 1 => raise_test(field, rest)?,
        _ => return None,
    };
    Some((statement, used + length))
}

/// The setting of some bits of the mark. One of all bits is written without a look at the old mark.
fn raise_mark(kept: &[u8], xor: &[u8]) -> Option<Statement> {
    let bits = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
    let (kept, value) = (bits(kept)?, bits(xor)?);
    (kept != 0 && kept & value == 0).then_some(Statement::SetMark { mask: !kept, value })
}

/// The fields that `expressions` begin with loading, one behind the other.
fn loaded(known: &Known, expressions: &[Expr]) -> Vec<Field> {
    let mut key = Vec::new();
    let mut next = Some(Register::FIRST);
    for expression in expressions {
        let Some(to) = next else { break };
        let is_loaded =
            |field: &&Field| known.allows(**field) && field::load(**field, to) == *expression;
        let Some(&field) = field::FIELDS.iter().find(is_loaded) else { break };
        key.push(field);
        next = to.after(field::length(field));
    }
    key
}

/// What a loaded field is compared with.
fn raise_test(field: Field, rest: &[Expr]) -> Option<(Statement, usize)> {
    const FIRST: Register = Register::FIRST;
    let kind = field::key_type(field);
    let length = field::length(field);
    let is_sorted = value::byte_order(std::slice::from_ref(&kind)) != value::ByteOrder::Host;
    let (negated, test, used) = match rest {
        [Expr::Cmp { register: FIRST, op, value }, ..] if negated(*op).is_some() => {
            (negated(*op)?, raise_equal(&kind, value)?, 1)
        }
        [
            Expr::Cmp { register: FIRST, op: expr::CMP_GTE, value: first },
            Expr::Cmp { register: FIRST, op: expr::CMP_LTE, value: last },
            ..,
        ] if is_sorted && first.len() == length && last.len() == length => {
            (false, Test::Range(value::decode(&kind, first), value::decode(&kind, last)), 2)
        }
        [Expr::Range { register: FIRST, op: expr::CMP_NEQ, first, last }, ..]
            if is_sorted && first.len() == length && last.len() == length =>
        {
            (true, Test::Range(value::decode(&kind, first), value::decode(&kind, last)), 1)
        }
        [
            Expr::Bitwise { register: FIRST, mask, xor },
            Expr::Cmp { register: FIRST, op, value },
            ..,
        ] if xor.iter().all(|byte| *byte == 0) && mask.len() == length && value.len() == length => {
            let (negated, test) = raise_masked(field, mask, negated(*op)?, value)?;
            (negated, test, 2)
        }
        _ => return None,
    };
    Some((Statement::Match { field, negated, test }, used))
}

/// What some bits of a field are compared with.
fn raise_masked(field: Field, mask: &[u8], negated: bool, value: &[u8]) -> Option<(bool, Test)> {
    let kind = field::key_type(field);
    match (field, value::decode(&kind, mask), value::decode(&kind, value)) {
        (Field::CtState | Field::CtStatus, flags, _) if value.iter().all(|byte| *byte == 0) => {
            Some((!negated, Test::Any(flags)))
        }
        (Field::Mark, Value::Mark(mask), Value::Mark(value)) => {
            Some((negated, Test::Masked { mask, value }))
        }
        (_, Value::Address(mask), Value::Address(address)) => {
            let length = ipnet::ip_mask_to_prefix(mask).ok()?;
            let net = IpNet::new(address, length).ok()?;
            // Bits behind the prefix never match, and whole bytes are compared without a mask.
            let is_ours = net.network() == address && (length == 0 || !length.is_multiple_of(8));
            is_ours.then_some((negated, Test::Within(net)))
        }
        _ => None,
    }
}

/// What a field of this type is compared with byte by byte, as far as `bytes` reach.
fn raise_equal(kind: &KeyType, bytes: &[u8]) -> Option<Test> {
    if bytes.len() == value::length(kind) {
        return Some(Test::Is(value::decode(kind, bytes)));
    }
    if *kind != KeyType::Ifname || bytes.is_empty() || bytes.len() > value::NAME_LENGTH {
        return None;
    }
    if let Some(name) = bytes.strip_suffix(b"\0") {
        // iptables compares up to the closing zero, which says as much as all 16 bytes.
        let name = std::str::from_utf8(name).ok()?.parse().ok()?;
        return Some(Test::Is(Value::Interface(name)));
    }
    let beginning = std::str::from_utf8(bytes).ok()?;
    (!beginning.contains('\0')).then(|| Test::StartsWith(beginning.to_owned()))
}

fn negated(op: u32) -> Option<bool> {
    match op {
        expr::CMP_EQ => Some(false),
        expr::CMP_NEQ => Some(true),
        _ => None,
    }
}

fn nat_kind(kind: u32) -> Option<NatKind> {
    match kind {
        expr::NAT_SNAT => Some(NatKind::Snat),
        expr::NAT_DNAT => Some(NatKind::Dnat),
        _ => None,
    }
}

fn address_family(number: u32) -> Option<AddressFamily> {
    [AddressFamily::Ip, AddressFamily::Ip6].into_iter().find(|f| family_number(*f) == number)
}

fn address(family: u32, bytes: &[u8]) -> Option<IpAddr> {
    let kind = match address_family(family)? {
        AddressFamily::Ip => KeyType::Ipv4Addr,
        AddressFamily::Ip6 => KeyType::Ipv6Addr,
    };
    match value::decode(&kind, bytes) {
        Value::Address(address) => Some(address),
        _ => None,
    }
}
