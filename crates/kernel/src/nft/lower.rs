//! From statements to expressions.

use std::net::IpAddr;

use ipnet::IpNet;
use net::nft::{
    AddressFamily, Family, Field, KeyType, Nat, NatKind, NatTarget, Statement, Test, Value,
};

use super::expression::{Expr, REGISTER_BYTES, Register};
use super::field::{self, Known};
use super::uapi::expr;
use super::value;

/// What the kernel runs for a rule of `family`, with the checks that its fields need; or why it
/// makes no sense.
pub(super) fn lower(family: Family, statements: &[Statement]) -> Result<Vec<Expr>, String> {
    let mut known = Known::new(family);
    let mut out = Vec::with_capacity(4 * statements.len());
    for statement in statements {
        for (field, value) in known.missing(field::fields(statement)) {
            let check = Statement::is(field, value);
            lower_one(&check, &mut out)?;
            known.learn(&check);
        }
        lower_one(statement, &mut out)?;
        known.learn(statement);
    }
    Ok(out)
}

fn lower_one(statement: &Statement, out: &mut Vec<Expr>) -> Result<(), String> {
    match statement {
        Statement::Match { field, negated, test } => lower_match(*field, *negated, test, out)?,
        Statement::Lookup { key, negated, set } => {
            load_all(key, out)?;
            let (register, set) = (Register::FIRST, set.clone());
            out.push(Expr::Lookup { register, set, inverted: *negated });
        }
        Statement::VerdictMap { key, map } => {
            load_all(key, out)?;
            out.push(Expr::VerdictMap { register: Register::FIRST, map: map.clone() });
        }
        Statement::Verdict(verdict) => out.push(Expr::Verdict(verdict.clone())),
        Statement::Masquerade { fully_random } => {
            let flags = if *fully_random { expr::RANGE_PROTO_RANDOM_FULLY } else { 0 };
            out.push(Expr::Masquerade { flags });
        }
        Statement::Nat(nat) => lower_nat(nat, out)?,
        Statement::Redirect { port: None } => out.push(Expr::Redirect { port: None }),
        Statement::Redirect { port: Some(port) } => {
            let to = Register::FIRST;
            out.push(Expr::Immediate { to, value: port.to_be_bytes().to_vec() });
            out.push(Expr::Redirect { port: Some(to) });
        }
        Statement::Counter => out.push(Expr::Counter),
        Statement::SetMark { mask, value } => {
            if value & !mask != 0 {
                return Err(format!("{value:#010x} has bits beside those of {mask:#010x}"));
            }
            let register = Register::FIRST;
            let value = value.to_ne_bytes().to_vec();
            if *mask == u32::MAX {
                out.push(Expr::Immediate { to: register, value });
            } else {
                let mask = (!mask).to_ne_bytes().to_vec();
                let load = field::load(Field::Mark, register);
                out.extend([load, Expr::Bitwise { register, mask, xor: value }]);
            }
            out.push(Expr::SetMeta { key: expr::META_MARK, from: register });
        }
        Statement::NoTrack => out.push(Expr::NoTrack),
        Statement::Raw(expression) => out.push(Expr::Other(expression.clone())),
    }
    Ok(())
}

/// Loads the fields one behind the other, each padded to whole registers.
fn load_all(key: &[Field], out: &mut Vec<Expr>) -> Result<(), String> {
    if key.is_empty() {
        return Err("a look-up needs a field".to_owned());
    }
    let mut next = Some(Register::FIRST);
    for field in key {
        let to = next.ok_or_else(|| format!("a key has at most {REGISTER_BYTES} bytes"))?;
        out.push(field::load(*field, to));
        next = to.after(field::length(*field));
    }
    Ok(())
}

fn lower_match(
    field: Field,
    negated: bool,
    test: &Test,
    out: &mut Vec<Expr>,
) -> Result<(), String> {
    let register = Register::FIRST;
    let load = field::load(field, register);
    let equals = if negated { expr::CMP_NEQ } else { expr::CMP_EQ };
    let cmp = |op, value| Expr::Cmp { register, op, value };
    match test {
        Test::Is(value) => out.extend([load, cmp(equals, operand(field, value)?)]),
        Test::Within(net) => {
            let address = operand(field, &net.network().into())?;
            out.extend(lower_prefix(load, net, equals, address));
        }
        Test::StartsWith(start) => {
            if field::key_type(field) != KeyType::Ifname {
                return Err(format!("{field} has no beginning to compare with {start:?}"));
            }
            if start.is_empty() || start.len() >= value::NAME_LENGTH {
                return Err(format!("no device name begins with {start:?}"));
            }
            out.extend([load, cmp(equals, start.clone().into_bytes())]);
        }
        Test::Range(first, last) => {
            let (first, last) = (sortable(field, first)?, sortable(field, last)?);
            out.push(load);
            match negated {
                true => out.push(Expr::Range { register, op: expr::CMP_NEQ, first, last }),
                false => out.extend([cmp(expr::CMP_GTE, first), cmp(expr::CMP_LTE, last)]),
            }
        }
        Test::Any(flags) => {
            if !matches!(field, Field::CtState | Field::CtStatus) {
                return Err(format!("{field} has no flags"));
            }
            let mask = operand(field, flags)?;
            let zero = vec![0; mask.len()];
            let op = if negated { expr::CMP_EQ } else { expr::CMP_NEQ };
            out.extend([load, Expr::Bitwise { register, mask, xor: zero.clone() }, cmp(op, zero)]);
        }
        Test::Masked { mask, value } => {
            if field != Field::Mark {
                return Err(format!("{field} is no mark"));
            }
            let mask = mask.to_ne_bytes().to_vec();
            let value = value.to_ne_bytes().to_vec();
            let xor = vec![0; mask.len()];
            out.extend([load, Expr::Bitwise { register, mask, xor }, cmp(equals, value)]);
        }
    }
    Ok(())
}

/// A prefix of whole bytes is compared by loading only these, any other one under a mask.
fn lower_prefix(load: Expr, net: &IpNet, op: u32, address: Vec<u8>) -> Vec<Expr> {
    let register = Register::FIRST;
    let bits = usize::from(net.prefix_len());
    match load {
        Expr::Payload { base, offset, to, .. } if bits > 0 && bits.is_multiple_of(8) => {
            let load = Expr::Payload { base, offset, length: bits as u32 / 8, to };
            let value = address[..bits / 8].to_vec();
            vec![load, Expr::Cmp { register, op, value }]
        }
        load => {
            let mask = value::encode(&net.netmask().into());
            let xor = vec![0; mask.len()];
            let cmp = Expr::Cmp { register, op, value: address };
            vec![load, Expr::Bitwise { register, mask, xor }, cmp]
        }
    }
}

fn lower_nat(nat: &Nat, out: &mut Vec<Expr>) -> Result<(), String> {
    let kind = match nat.kind {
        NatKind::Snat => expr::NAT_SNAT,
        NatKind::Dnat => expr::NAT_DNAT,
    };
    let address = Register::FIRST;
    let (family, port) = match &nat.to {
        NatTarget::Address(ip, port) => {
            out.push(Expr::Immediate { to: address, value: value::encode(&(*ip).into()) });
            if let Some(port) = port {
                let value = port.to_be_bytes().to_vec();
                out.push(Expr::Immediate { to: Register::SECOND, value });
            }
            let family = match ip {
                IpAddr::V4(_) => AddressFamily::Ip,
                IpAddr::V6(_) => AddressFamily::Ip6,
            };
            (family, port.map(|_| Register::SECOND))
        }
        NatTarget::Map { family, key, map, port } => {
            load_all(key, out)?;
            let register = Register::FIRST;
            out.push(Expr::Map { register, map: map.clone(), to: address });
            (*family, if *port { address.after(address_length(*family)) } else { None })
        }
    };
    out.push(Expr::Nat { kind, family: family_number(family), address, port });
    Ok(())
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(super) fn family_number(family: AddressFamily) -> u32 {
    match family {
        AddressFamily::Ip => 2,
        AddressFamily::Ip6 => 10,
    }
}

/// How many bytes an address has.
pub(super) fn address_length(family: AddressFamily) -> usize {
    match family {
        AddressFamily::Ip => 4,
        AddressFamily::Ip6 => 16,
    }
}

/// The bytes that `field` is compared with.
fn operand(field: Field, value: &Value) -> Result<Vec<u8>, String> {
    let bytes = value::encode(value);
    match value::type_of(value) {
        Some(kind) if kind != field::key_type(field) => {
            Err(format!("{field} is never {value}: it has another type"))
        }
        None if bytes.len() != field::length(field) => {
            Err(format!("{field} is never {value}: it has another length"))
        }
        _ => Ok(bytes),
    }
}

/// The bytes of one end of a range. The kernel compares bytes from left to right, so numbers in
/// host byte order have no ranges.
fn sortable(field: Field, value: &Value) -> Result<Vec<u8>, String> {
    match value::byte_order(&[field::key_type(field)]) {
        value::ByteOrder::Host => Err(format!("podwire writes no ranges of {field}")),
        _ => operand(field, value),
    }
}
