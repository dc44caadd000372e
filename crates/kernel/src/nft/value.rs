//! Values and their types as the kernel holds them.
//!
//! A single value has its natural length. The parts of a concatenation are each padded to whole
//! 32-bit registers, because that is how they lie when a rule looks them up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::Mac;
use net::nft::{AddressType, CtDirection, CtState, CtStatus, KeyType, Value};

/// The length of a device name in a register: `IFNAMSIZ`.
pub(super) const NAME_LENGTH: usize = 16;
/// Types of a concatenation share one number, six bits each (`TYPE_BITS` of nft).
const TYPE_BITS: u32 = 6;

/// How a type's bytes are ordered, in the numbers that nft keeps in the user data of sets
/// (`enum byteorder` of nft).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// A single byte, a concatenation, a verdict.
    None = 0,
    Host = 1,
    Network = 2,
}

/// Every known type with nft's number for it (`enum datatypes` in include/datatype.h of nft), its
/// length and its byte order.
const TYPES: [(KeyType, u32, usize, ByteOrder); 14] = [
    (KeyType::Ipv4Addr, 7, 4, ByteOrder::Network),
    (KeyType::Ipv6Addr, 8, 16, ByteOrder::Network),
    (KeyType::EtherAddr, 9, 6, ByteOrder::Network),
    (KeyType::Ifname, 41, NAME_LENGTH, ByteOrder::Host),
    (KeyType::IfaceType, 21, 2, ByteOrder::Host),
    (KeyType::EtherType, 10, 2, ByteOrder::Network),
    (KeyType::InetProto, 12, 1, ByteOrder::None),
    (KeyType::NfProto, 2, 1, ByteOrder::None),
    (KeyType::InetService, 13, 2, ByteOrder::Network),
    (KeyType::Mark, 19, 4, ByteOrder::Host),
    (KeyType::CtState, 26, 4, ByteOrder::Host),
    (KeyType::CtDirection, 27, 1, ByteOrder::None),
    (KeyType::CtStatus, 28, 4, ByteOrder::Host),
    (KeyType::FibAddrtype, 38, 4, ByteOrder::Host),
];

/// How many bytes a value of this type has.
pub(super) fn length(kind: &KeyType) -> usize {
    match kind {
        KeyType::Other { bytes, .. } => *bytes as usize,
        kind => TYPES.iter().find(|row| row.0 == *kind).map_or(0, |row| row.2),
    }
}

/// How many bytes a value of these types has.
pub(super) fn total_length(kinds: &[KeyType]) -> usize {
    match kinds {
        [kind] => length(kind),
        kinds => kinds.iter().map(|kind| length(kind).next_multiple_of(4)).sum(),
    }
}

/// nft's number for these types.
pub(super) fn number(kinds: &[KeyType]) -> u32 {
    kinds.iter().fold(0, |number, kind| {
        let own = match kind {
            KeyType::Other { number, .. } => *number,
            kind => TYPES.iter().find(|row| row.0 == *kind).map_or(0, |row| row.1),
        };
        number << TYPE_BITS | own
    })
}

/// The types behind nft's `number` for values of `bytes` bytes. Where one of them is unknown, or
/// the length does not fit, all are one unknown type.
pub(super) fn types(number: u32, bytes: u32) -> Vec<KeyType> {
    let mut kinds = Vec::new();
    let mut rest = number;
    while rest != 0 {
        let own = rest & ((1 << TYPE_BITS) - 1);
        kinds.extend(TYPES.iter().find(|row| row.1 == own).map(|row| row.0.clone()));
        rest >>= TYPE_BITS;
    }
    kinds.reverse();
    if self::number(&kinds) == number && total_length(&kinds) == bytes as usize {
        kinds
    } else {
        vec![KeyType::Other { number, bytes }]
    }
}

/// What nft wants to know about the order of bytes of these types.
pub(super) fn byte_order(kinds: &[KeyType]) -> ByteOrder {
    match kinds {
        [kind] => TYPES.iter().find(|row| row.0 == *kind).map_or(ByteOrder::None, |row| row.3),
        _ => ByteOrder::None,
    }
}

/// The type of a value; `None` for bytes of an unknown type.
pub(super) fn type_of(value: &Value) -> Option<KeyType> {
    Some(match value {
        Value::Address(IpAddr::V4(_)) => KeyType::Ipv4Addr,
        Value::Address(IpAddr::V6(_)) => KeyType::Ipv6Addr,
        Value::Ether(_) => KeyType::EtherAddr,
        Value::Interface(_) => KeyType::Ifname,
        Value::DeviceType(_) => KeyType::IfaceType,
        Value::EtherType(_) => KeyType::EtherType,
        Value::NetworkFamily(_) => KeyType::NfProto,
        Value::Protocol(_) => KeyType::InetProto,
        Value::Port(_) => KeyType::InetService,
        Value::Mark(_) => KeyType::Mark,
        Value::CtState(_) => KeyType::CtState,
        Value::CtStatus(_) => KeyType::CtStatus,
        Value::CtDirection(_) => KeyType::CtDirection,
        Value::AddressType(_) => KeyType::FibAddrtype,
        Value::Raw(_) => return None,
    })
}

/// One value, without padding.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    match value {
        Value::Address(IpAddr::V4(address)) => address.octets().to_vec(),
        Value::Address(IpAddr::V6(address)) => address.octets().to_vec(),
        Value::Ether(mac) => mac.0.to_vec(),
        Value::Interface(name) => {
            let mut bytes = name.as_str().as_bytes().to_vec();
            bytes.resize(NAME_LENGTH, 0);
            bytes
        }
        Value::Protocol(number)
        | Value::NetworkFamily(number)
        | Value::CtDirection(CtDirection(number)) => vec![*number],
        Value::EtherType(number) | Value::Port(number) => number.to_be_bytes().to_vec(),
        Value::DeviceType(number) => number.to_ne_bytes().to_vec(),
        Value::Mark(number)
        | Value::CtState(CtState(number))
        | Value::CtStatus(CtStatus(number))
        | Value::AddressType(AddressType(number)) => number.to_ne_bytes().to_vec(),
        Value::Raw(bytes) => bytes.clone(),
    }
}

/// A value of one or more parts.
pub(super) fn encode_all(values: &[Value]) -> Vec<u8> {
    match values {
        [value] => encode(value),
        values => values.iter().fold(Vec::new(), |mut bytes, value| {
            bytes.extend(encode(value));
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        }),
    }
}

/// The value that `bytes` are; [`Value::Raw`] if they are not of that type after all.
pub(super) fn decode(kind: &KeyType, bytes: &[u8]) -> Value {
    try_decode(kind, bytes).unwrap_or_else(|| Value::Raw(bytes.to_vec()))
}

fn try_decode(kind: &KeyType, bytes: &[u8]) -> Option<Value> {
    let half = || <[u8; 2]>::try_from(bytes).ok();
    let word = || <[u8; 4]>::try_from(bytes).map(u32::from_ne_bytes).ok();
    let byte = || <[u8; 1]>::try_from(bytes).map(|[byte]| byte).ok();
    Some(match kind {
        KeyType::Ipv4Addr => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        KeyType::Ipv6Addr => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        KeyType::EtherAddr => Mac(bytes.try_into().ok()?).into(),
        KeyType::Ifname => {
            let bytes = <[u8; NAME_LENGTH]>::try_from(bytes).ok()?;
            let end = bytes.iter().position(|byte| *byte == 0)?;
            // Rubbish behind the closing zero would be lost.
            if bytes[end..].iter().any(|byte| *byte != 0) {
                return None;
            }
            Value::Interface(std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?)
        }
        KeyType::IfaceType => Value::DeviceType(u16::from_ne_bytes(half()?)),
        KeyType::EtherType => Value::EtherType(u16::from_be_bytes(half()?)),
        KeyType::InetProto => Value::Protocol(byte()?),
        KeyType::NfProto => Value::NetworkFamily(byte()?),
        KeyType::InetService => Value::Port(u16::from_be_bytes(half()?)),
        KeyType::Mark => Value::Mark(word()?),
        KeyType::CtState => Value::CtState(CtState(word()?)),
        KeyType::CtStatus => Value::CtStatus(CtStatus(word()?)),
        KeyType::CtDirection => Value::CtDirection(CtDirection(byte()?)),
        KeyType::FibAddrtype => Value::AddressType(AddressType(word()?)),
        KeyType::Other { .. } => return None,
    })
}

/// The parts that `bytes` are made of; one raw value if they do not fit the types.
pub(super) fn decode_all(kinds: &[KeyType], bytes: &[u8]) -> Vec<Value> {
    if let [kind] = kinds {
        return vec![decode(kind, bytes)];
    }
    let mut rest = bytes;
    let mut values = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let length = length(kind);
        let Some(part) = rest.get(..length) else { return vec![Value::Raw(bytes.to_vec())] };
        values.push(decode(kind, part));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    values
}

/// A value of an interval set. There, values that are in host byte order elsewhere are in network
/// byte order, so that they sort.
pub(super) fn decode_sorted(kinds: &[KeyType], bytes: &[u8]) -> Vec<Value> {
    match (kinds, byte_order(kinds)) {
        ([KeyType::Ifname], _) | (_, ByteOrder::None | ByteOrder::Network) => {
            decode_all(kinds, bytes)
        }
        (_, ByteOrder::Host) => {
            let reversed: Vec<u8> = match cfg!(target_endian = "little") {
                true => bytes.iter().rev().copied().collect(),
                false => bytes.to_vec(),
            };
            decode_all(kinds, &reversed)
        }
    }
}
