//! How the kernel gets at what a packet is asked for, and what has to be known first.
//!
//! A header can only be read as IPv4, or as TCP, once it is known to be one. nft puts the check
//! in front by itself, and leaves it out again when it lists a rule; so does podwire.

use net::nft::{Family, Field, KeyType, Statement, Test, Transport, Value};

use super::expression::{Expr, Register};
use super::uapi::expr;
use super::value;

/// nft's number for a number of any length (`TYPE_INTEGER`).
const INTEGER: u32 = 4;

/// What a field is made of: its type decides how many bytes are loaded.
pub(super) fn key_type(field: Field) -> KeyType {
    match field {
        Field::IpSource | Field::IpDestination => KeyType::Ipv4Addr,
        Field::Ip6Source | Field::Ip6Destination => KeyType::Ipv6Addr,
        Field::EtherSource | Field::EtherDestination => KeyType::EtherAddr,
        Field::InputName | Field::OutputName => KeyType::Ifname,
        Field::InputType => KeyType::IfaceType,
        Field::EtherType => KeyType::EtherType,
        Field::NetworkFamily => KeyType::NfProto,
        Field::Protocol => KeyType::InetProto,
        Field::SourcePort(_) | Field::DestinationPort(_) => KeyType::InetService,
        Field::Vni => KeyType::Other { number: INTEGER, bytes: 3 },
        Field::Mark => KeyType::Mark,
        Field::CtState => KeyType::CtState,
        Field::CtStatus => KeyType::CtStatus,
        Field::CtDirection => KeyType::CtDirection,
        Field::DestinationType => KeyType::FibAddrtype,
    }
}

/// How many bytes a field has.
pub(super) fn length(field: Field) -> usize {
    value::length(&key_type(field))
}

/// All fields; where several are loaded alike, the more special ones come first.
pub(super) const FIELDS: [Field; 26] = [
    Field::IpSource,
    Field::IpDestination,
    Field::Ip6Source,
    Field::Ip6Destination,
    Field::EtherSource,
    Field::EtherDestination,
    Field::InputName,
    Field::OutputName,
    Field::InputType,
    Field::EtherType,
    Field::NetworkFamily,
    Field::Protocol,
    Field::SourcePort(Transport::Tcp),
    Field::SourcePort(Transport::Udp),
    Field::SourcePort(Transport::Sctp),
    Field::SourcePort(Transport::Any),
    Field::DestinationPort(Transport::Tcp),
    Field::DestinationPort(Transport::Udp),
    Field::DestinationPort(Transport::Sctp),
    Field::DestinationPort(Transport::Any),
    Field::Vni,
    Field::Mark,
    Field::CtState,
    Field::CtStatus,
    Field::CtDirection,
    Field::DestinationType,
];

/// The expression that loads `field`.
pub(super) fn load(field: Field, to: Register) -> Expr {
    let payload = |base, offset| Expr::Payload { base, offset, length: length(field) as u32, to };
    let meta = |key| Expr::Meta { key, to };
    match field {
        Field::IpSource => payload(expr::NETWORK_HEADER, 12),
        Field::IpDestination => payload(expr::NETWORK_HEADER, 16),
        Field::Ip6Source => payload(expr::NETWORK_HEADER, 8),
        Field::Ip6Destination => payload(expr::NETWORK_HEADER, 24),
        Field::EtherSource => payload(expr::LINK_HEADER, 6),
        Field::EtherDestination => payload(expr::LINK_HEADER, 0),
        Field::SourcePort(_) => payload(expr::TRANSPORT_HEADER, 0),
        Field::DestinationPort(_) => payload(expr::TRANSPORT_HEADER, 2),
        // Behind the UDP header: flags, three bytes of nothing (or of GPE), the network.
        Field::Vni => payload(expr::TRANSPORT_HEADER, 12),
        Field::InputName => meta(expr::META_IIFNAME),
        Field::OutputName => meta(expr::META_OIFNAME),
        Field::InputType => meta(expr::META_IIFTYPE),
        Field::EtherType => meta(expr::META_PROTOCOL),
        Field::NetworkFamily => meta(expr::META_NFPROTO),
        Field::Protocol => meta(expr::META_L4PROTO),
        Field::Mark => meta(expr::META_MARK),
        Field::CtState => Expr::Ct { key: expr::CT_STATE, to },
        Field::CtStatus => Expr::Ct { key: expr::CT_STATUS, to },
        Field::CtDirection => Expr::Ct { key: expr::CT_DIRECTION, to },
        Field::DestinationType => {
            Expr::Fib { result: expr::FIB_ADDRTYPE, flags: expr::FIB_DADDR, to }
        }
    }
}

/// A field and the value that it has to have.
pub(super) type Fact = (Field, Value);

/// What has to be known before `field` can be read in a table of `family`.
fn need(field: Field, family: Family) -> Option<Fact> {
    const ETHER: u16 = 1;
    let network = |number: u8, ether_type: u16| match family {
        Family::Inet => Some((Field::NetworkFamily, Value::NetworkFamily(number))),
        Family::Bridge | Family::Netdev | Family::Arp => {
            Some((Field::EtherType, Value::EtherType(ether_type)))
        }
        Family::Ip | Family::Ip6 => None,
    };
    match field {
        Field::IpSource | Field::IpDestination => network(2, 0x0800),
        Field::Ip6Source | Field::Ip6Destination => network(10, 0x86dd),
        Field::EtherSource | Field::EtherDestination => match family {
            Family::Inet | Family::Ip | Family::Ip6 => {
                Some((Field::InputType, Value::DeviceType(ETHER)))
            }
            Family::Bridge | Family::Netdev | Family::Arp => None,
        },
        Field::SourcePort(transport) | Field::DestinationPort(transport) => {
            let number = match transport {
                Transport::Tcp => 6,
                Transport::Udp => 17,
                Transport::Sctp => 132,
                Transport::Any => return None,
            };
            Some((Field::Protocol, Value::Protocol(number)))
        }
        _ => None,
    }
}

/// What the statements of a rule so far have made certain.
#[derive(Clone, Debug)]
pub(super) struct Known {
    family: Family,
    facts: Vec<Fact>,
}

impl Known {
    /// What is certain at the start of a rule.
    pub(super) fn new(family: Family) -> Self {
        Self { family, facts: Vec::new() }
    }

    /// What has to be checked before all of `fields` can be read.
    pub(super) fn missing(&self, fields: &[Field]) -> Vec<Fact> {
        let mut missing = Vec::new();
        for fact in fields.iter().filter_map(|field| need(*field, self.family)) {
            if !self.facts.contains(&fact) && !missing.contains(&fact) {
                missing.push(fact);
            }
        }
        missing
    }

    /// Whether `field` can be read without further checks. In a table of the other family, an
    /// address cannot be read at all.
    pub(super) fn allows(&self, field: Field) -> bool {
        let other = match self.family {
            Family::Ip => matches!(field, Field::Ip6Source | Field::Ip6Destination),
            Family::Ip6 => matches!(field, Field::IpSource | Field::IpDestination),
            _ => false,
        };
        !other && self.missing(&[field]).is_empty()
    }

    /// What is certain if the rule goes on behind `statement`.
    pub(super) fn learn(&mut self, statement: &Statement) {
        let Some(fact) = fact(statement) else { return };
        self.facts.retain(|(field, _)| *field != fact.0);
        self.facts.push(fact);
    }
}

/// What a statement makes certain about the fields that others need.
pub(super) fn fact(statement: &Statement) -> Option<Fact> {
    let Statement::Match { field, negated: false, test: Test::Is(value) } = statement else {
        return None;
    };
    let is_needed = matches!(
        field,
        Field::InputType | Field::EtherType | Field::NetworkFamily | Field::Protocol
    );
    is_needed.then(|| (*field, value.clone()))
}

/// The fields that a statement reads.
pub(super) fn fields(statement: &Statement) -> &[Field] {
    match statement {
        Statement::Match { field, .. } => std::slice::from_ref(field),
        Statement::Lookup { key, .. } | Statement::VerdictMap { key, .. } => key,
        Statement::Nat(net::nft::Nat { to: net::nft::NatTarget::Map { key, .. }, .. }) => key,
        _ => &[],
    }
}
