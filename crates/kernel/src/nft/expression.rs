//! The kernel's expressions: the small instructions that a rule is made of.
//!
//! Each expression that podwire writes has a variant, can always be emitted, and is parsed back as
//! the same variant. What has an attribute that the variant has no place for is [`Expr::Other`],
//! byte for byte, so that reading never loses and never fails.

use std::borrow::Cow;

use net::nft::{Expression, Verdict};

use super::uapi::{data, expr};
use crate::attribute::{Writer, iterate};

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    /// Loads bytes of the packet.
    Payload { base: u32, offset: u32, length: u32, to: Register },
    /// Loads what the kernel knows about the packet.
    Meta { key: u32, to: Register },
    /// Sets what the kernel knows about the packet.
    SetMeta { key: u32, from: Register },
    /// Loads what connection tracking knows about the packet.
    Ct { key: u32, to: Register },
    /// Loads what the routing tables know about the packet.
    Fib { result: u32, flags: u32, to: Register },
    /// Goes on if the comparison holds.
    Cmp { register: Register, op: u32, value: Vec<u8> },
    /// Goes on if the register is (or is not) in a range.
    Range { register: Register, op: u32, first: Vec<u8>, last: Vec<u8> },
    /// `register = (register & mask) ^ xor`
    Bitwise { register: Register, mask: Vec<u8>, xor: Vec<u8> },
    /// Goes on if the register is in a set, or is not if `inverted`.
    Lookup { register: Register, set: String, inverted: bool },
    /// Loads what a map says about the register; goes on if it says anything.
    Map { register: Register, map: String, to: Register },
    /// Does what a map says about the register.
    VerdictMap { register: Register, map: String },
    /// Loads a constant.
    Immediate { to: Register, value: Vec<u8> },
    /// Decides.
    Verdict(Verdict),
    /// Rewrites an end of the connection.
    Nat { kind: u32, family: u32, address: Register, port: Option<Register> },
    /// Rewrites the source to the address of the device.
    Masquerade { flags: u32 },
    /// Rewrites the destination to this machine.
    Redirect { port: Option<Register> },
    /// Counts.
    Counter,
    /// Exempts from connection tracking.
    NoTrack,
    /// What none of the above can hold.
    Other(Expression),
}

/// A place in the registers, counted in 32-bit words. The kernel has two numbers for every fourth
/// one: `NFT_REG_1` is `NFT_REG32_00`. It prefers the former.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(u8);

/// How many bytes fit into all registers together.
pub(super) const REGISTER_BYTES: usize = 64;
/// `NFT_REG_VERDICT`, which holds no data.
const VERDICT: u32 = 0;

impl Register {
    /// Where a single value goes.
    pub(super) const FIRST: Self = Self(0);
    /// Where nft puts a second value, whatever the length of the first.
    pub(super) const SECOND: Self = Self(4);

    /// The register behind `length` bytes that start in this one; `None` if none is left.
    pub(super) fn after(self, length: usize) -> Option<Self> {
        let word = usize::from(self.0) + length.div_ceil(4);
        (word < REGISTER_BYTES / 4).then_some(Self(word as u8))
    }

    fn number(self) -> u32 {
        let word = u32::from(self.0);
        if word.is_multiple_of(4) { 1 + word / 4 } else { 8 + word }
    }

    fn from_number(number: u32) -> Option<Self> {
        match number {
            1..=4 => Some(Self((number as u8 - 1) * 4)),
            8..=23 => Some(Self(number as u8 - 8)),
            _ => None,
        }
    }
}

impl Expr {
    /// Writes the name and the attributes of this expression.
    pub(super) fn emit(&self, w: &mut Writer) {
        w.put_str(expr::NAME, self.name());
        match self {
            Self::NoTrack => {}
            Self::Other(Expression { data, .. }) if data.is_empty() => {}
            Self::Other(Expression { data, .. }) => {
                w.nest(expr::DATA, |w| w.append(data));
            }
            known => {
                w.nest(expr::DATA, |w| known.emit_data(w));
            }
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Meta { .. } | Self::SetMeta { .. } => "meta",
            Self::Ct { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Cmp { .. } => "cmp",
            Self::Range { .. } => "range",
            Self::Bitwise { .. } => "bitwise",
            Self::Lookup { .. } | Self::Map { .. } | Self::VerdictMap { .. } => "lookup",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Nat { .. } => "nat",
            Self::Masquerade { .. } => "masq",
            Self::Redirect { .. } => "redir",
            Self::Counter => "counter",
            Self::NoTrack => "notrack",
            Self::Other(Expression { name, .. }) => name,
        }
    }

    fn emit_data(&self, w: &mut Writer) {
        match self {
            Self::Payload { base, offset, length, to } => {
                w.put_be32(expr::PAYLOAD_DREG, to.number())
                    .put_be32(expr::PAYLOAD_BASE, *base)
                    .put_be32(expr::PAYLOAD_OFFSET, *offset)
                    .put_be32(expr::PAYLOAD_LENGTH, *length);
            }
            Self::Meta { key, to } => {
                w.put_be32(expr::META_KEY, *key).put_be32(expr::META_DREG, to.number());
            }
            Self::SetMeta { key, from } => {
                w.put_be32(expr::META_KEY, *key).put_be32(expr::META_SREG, from.number());
            }
            Self::Ct { key, to } => {
                w.put_be32(expr::CT_KEY, *key).put_be32(expr::CT_DREG, to.number());
            }
            Self::Fib { result, flags, to } => {
                w.put_be32(expr::FIB_FLAGS, *flags)
                    .put_be32(expr::FIB_RESULT, *result)
                    .put_be32(expr::FIB_DREG, to.number());
            }
            Self::Cmp { register, op, value } => {
                w.put_be32(expr::CMP_SREG, register.number()).put_be32(expr::CMP_OP, *op);
                put_value(w, expr::CMP_DATA, value);
            }
            Self::Range { register, op, first, last } => {
                w.put_be32(expr::RANGE_SREG, register.number()).put_be32(expr::RANGE_OP, *op);
                put_value(w, expr::RANGE_FROM, first);
                put_value(w, expr::RANGE_TO, last);
            }
            Self::Bitwise { register, mask, xor } => {
                w.put_be32(expr::BITWISE_SREG, register.number())
                    .put_be32(expr::BITWISE_DREG, register.number())
                    .put_be32(expr::BITWISE_LENGTH, mask.len() as u32);
                put_value(w, expr::BITWISE_MASK, mask);
                put_value(w, expr::BITWISE_XOR, xor);
            }
            Self::Lookup { register, set, inverted } => {
                w.put_str(expr::LOOKUP_SET, set).put_be32(expr::LOOKUP_SREG, register.number());
                if *inverted {
                    w.put_be32(expr::LOOKUP_FLAGS, expr::LOOKUP_INVERTED);
                }
            }
            Self::Map { register, map, to } => {
                w.put_str(expr::LOOKUP_SET, map)
                    .put_be32(expr::LOOKUP_SREG, register.number())
                    .put_be32(expr::LOOKUP_DREG, to.number());
            }
            Self::VerdictMap { register, map } => {
                w.put_str(expr::LOOKUP_SET, map)
                    .put_be32(expr::LOOKUP_SREG, register.number())
                    .put_be32(expr::LOOKUP_DREG, VERDICT);
            }
            Self::Immediate { to, value } => {
                w.put_be32(expr::IMMEDIATE_DREG, to.number());
                put_value(w, expr::IMMEDIATE_DATA, value);
            }
            Self::Verdict(verdict) => {
                w.put_be32(expr::IMMEDIATE_DREG, VERDICT);
                put_verdict(w, expr::IMMEDIATE_DATA, verdict);
            }
            Self::Nat { kind, family, address, port } => {
                w.put_be32(expr::NAT_TYPE, *kind)
                    .put_be32(expr::NAT_FAMILY, *family)
                    .put_be32(expr::NAT_ADDRESS_MIN, address.number());
                if let Some(port) = port {
                    w.put_be32(expr::NAT_PORT_MIN, port.number());
                }
            }
            Self::Masquerade { flags: 0 } => {}
            Self::Masquerade { flags } => {
                w.put_be32(expr::MASQ_FLAGS, *flags);
            }
            Self::Redirect { port } => {
                if let Some(port) = port {
                    w.put_be32(expr::REDIR_PORT_MIN, port.number());
                }
            }
            Self::Counter | Self::NoTrack | Self::Other(_) => {}
        }
    }

    /// The expression that these attributes (name and data) are.
    pub(super) fn parse(attributes: &[u8]) -> Self {
        let raw = raw(attributes);
        Self::parse_data(&raw.name, &raw.data).unwrap_or(Self::Other(raw))
    }

    fn parse_data(name: &str, data: &[u8]) -> Option<Self> {
        Some(match name {
            "payload" => {
                let [_, Some(to), Some(base), Some(offset), Some(length)] = fields(data)? else {
                    return None;
                };
                let (base, offset, length) = (be32(base)?, be32(offset)?, be32(length)?);
                Self::Payload { base, offset, length, to: register(to)? }
            }
            "meta" => match fields(data)? {
                [_, Some(to), Some(key), None] => Self::Meta { key: be32(key)?, to: register(to)? },
                [_, None, Some(key), Some(from)] => {
                    Self::SetMeta { key: be32(key)?, from: register(from)? }
                }
                _ => return None,
            },
            "ct" => {
                let [_, Some(to), Some(key)] = fields(data)? else { return None };
                Self::Ct { key: be32(key)?, to: register(to)? }
            }
            "fib" => {
                let [_, Some(to), Some(result), Some(flags)] = fields(data)? else { return None };
                Self::Fib { result: be32(result)?, flags: be32(flags)?, to: register(to)? }
            }
            "cmp" => {
                let [_, Some(from), Some(op), Some(data)] = fields(data)? else { return None };
                Self::Cmp { register: register(from)?, op: be32(op)?, value: value(data)? }
            }
            "range" => {
                let [_, Some(from), Some(op), Some(first), Some(last)] = fields(data)? else {
                    return None;
                };
                let (first, last) = (value(first)?, value(last)?);
                Self::Range { register: register(from)?, op: be32(op)?, first, last }
            }
            "bitwise" => {
                let [_, Some(from), Some(to), Some(length), Some(mask), Some(xor), op] =
                    fields(data)?
                else {
                    return None;
                };
                // Operations other than 0 are shifts and such.
                if op.map_or(Some(0), be32)? != 0 || register(from)? != register(to)? {
                    return None;
                }
                let (mask, xor) = (value(mask)?, value(xor)?);
                let length = be32(length)? as usize;
                if mask.len() != length || xor.len() != length {
                    return None;
                }
                Self::Bitwise { register: register(from)?, mask, xor }
            }
            "lookup" => {
                let [_, Some(set), Some(from), to, _, flags] = fields(data)? else { return None };
                let (set, register) = (text(set), register(from)?);
                let inverted = match flags.map_or(Some(0), be32)? {
                    0 => false,
                    expr::LOOKUP_INVERTED => true,
                    _ => return None,
                };
                match to {
                    None => Self::Lookup { register, set, inverted },
                    Some(_) if inverted => return None,
                    Some(to) if be32(to)? == VERDICT => Self::VerdictMap { register, map: set },
                    Some(to) => Self::Map { register, map: set, to: self::register(to)? },
                }
            }
            "immediate" => {
                let [_, Some(to), Some(data)] = fields(data)? else { return None };
                match be32(to)? {
                    VERDICT => Self::Verdict(verdict(data)?),
                    _ => Self::Immediate { to: register(to)?, value: value(data)? },
                }
            }
            "nat" => {
                let [_, Some(kind), Some(family), Some(address), last, port, last_port, flags] =
                    fields(data)?
                else {
                    return None;
                };
                // The kernel itself adds what follows from the registers.
                let own_flags = expr::RANGE_MAP_IPS | expr::RANGE_PROTO_SPECIFIED;
                let is_range = last.is_some_and(|last| last != address)
                    || last_port.is_some() && last_port != port;
                if is_range || flags.map_or(Some(0), be32)? & !own_flags != 0 {
                    return None;
                }
                Self::Nat {
                    kind: be32(kind)?,
                    family: be32(family)?,
                    address: register(address)?,
                    port: optional_register(port)?,
                }
            }
            "masq" => {
                let [_, flags] = fields(data)?;
                Self::Masquerade { flags: flags.map_or(Some(0), be32)? }
            }
            "redir" => {
                let [_, port, last, flags] = fields(data)?;
                let flags = flags.map_or(Some(0), be32)?;
                if last.is_some() && last != port || flags & !expr::RANGE_PROTO_SPECIFIED != 0 {
                    return None;
                }
                Self::Redirect { port: optional_register(port)? }
            }
            "counter" => Self::Counter,
            "notrack" => Self::NoTrack,
            _ => return None,
        })
    }
}

/// The expression that these attributes (name and data) are, as it is.
pub(super) fn raw(attributes: &[u8]) -> Expression {
    let mut raw = Expression { name: String::new(), data: Vec::new() };
    for (kind, value) in iterate(attributes) {
        match kind {
            expr::NAME => raw.name = text(value),
            expr::DATA => raw.data = value.to_vec(),
            _ => {}
        }
    }
    raw
}

/// The attributes by their numbers; `None` if there is one of number `N` or above, for which the
/// caller has no place.
fn fields<const N: usize>(data: &[u8]) -> Option<[Option<&[u8]>; N]> {
    let mut fields = [None; N];
    for (kind, value) in iterate(data) {
        *fields.get_mut(usize::from(kind))? = Some(value);
    }
    Some(fields)
}

/// A number in network byte order.
pub(super) fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// A text up to its closing zero.
pub(super) fn text(bytes: &[u8]) -> String {
    text_in(bytes).into_owned()
}

/// The same, where it is.
pub(super) fn text_in(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

fn register(bytes: &[u8]) -> Option<Register> {
    Register::from_number(be32(bytes)?)
}

/// `None` if there is a register that is none.
fn optional_register(bytes: Option<&[u8]>) -> Option<Option<Register>> {
    bytes.map_or(Some(None), |bytes| register(bytes).map(Some))
}

/// Writes `value` as `NFTA_DATA_VALUE`.
pub(super) fn put_value(w: &mut Writer, kind: u16, value: &[u8]) {
    w.nest(kind, |w| {
        w.put(data::VALUE, value);
    });
}

/// Reads what [`put_value`] writes.
pub(super) fn value(attributes: &[u8]) -> Option<Vec<u8>> {
    iterate(attributes).find(|(kind, _)| *kind == data::VALUE).map(|(_, value)| value.to_vec())
}

/// Writes `verdict` as `NFTA_DATA_VERDICT`.
pub(super) fn put_verdict(w: &mut Writer, kind: u16, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (data::ACCEPT, None),
        Verdict::Drop => (data::DROP, None),
        Verdict::Continue => (data::CONTINUE, None),
        Verdict::Return => (data::RETURN, None),
        Verdict::Jump(chain) => (data::JUMP, Some(chain)),
        Verdict::Goto(chain) => (data::GOTO, Some(chain)),
    };
    w.nest(kind, |w| {
        w.nest(data::VERDICT, |w| {
            w.put_be32(data::VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                w.put_str(data::VERDICT_CHAIN, chain);
            }
        });
    });
}

/// Reads what [`put_verdict`] writes.
pub(super) fn verdict(attributes: &[u8]) -> Option<Verdict> {
    let (_, attributes) = iterate(attributes).find(|(kind, _)| *kind == data::VERDICT)?;
    let [_, Some(code), chain] = fields(attributes)? else { return None };
    Some(match (be32(code)? as i32, chain) {
        (data::ACCEPT, None) => Verdict::Accept,
        (data::DROP, None) => Verdict::Drop,
        (data::CONTINUE, None) => Verdict::Continue,
        (data::RETURN, None) => Verdict::Return,
        (data::JUMP, Some(chain)) => Verdict::Jump(text(chain)),
        (data::GOTO, Some(chain)) => Verdict::Goto(text(chain)),
        _ => return None,
    })
}
