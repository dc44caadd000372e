//! What a rule asks of a packet, whether it holds, and how a person says it.

use std::net::IpAddr;

use net::nft::{
    AddressType, CtDirection, CtState, Field, Key, Statement, TableId, Test, Transport, Value,
};

use super::{Level, Packet, Rules, Truth, xtables};
use crate::words;

/// One test.
#[derive(Clone, Debug)]
pub(crate) enum Condition<'a> {
    /// A comparison, or a look-up in a set of that table.
    Statement(&'a Statement, &'a TableId),
    /// It has one of these keys.
    Keys { fields: &'a [Field], keys: Vec<&'a Key> },
    /// Something that podwire does not read.
    Opaque(String),
}

impl<'a> Condition<'a> {
    /// The test that a statement is, if it is one.
    pub(super) fn of(statement: &'a Statement, table: &'a TableId) -> Option<Self> {
        match statement {
            Statement::Match { .. } | Statement::Lookup { .. } => {
                Some(Self::Statement(statement, table))
            }
            Statement::Raw(expression) => xtables::opaque(expression).map(Self::Opaque),
            _ => None,
        }
    }

    /// Whether it looks at packets of one family only: of IPv4 rather than IPv6.
    pub(super) fn family(&self) -> Option<bool> {
        let fields = match self {
            Self::Statement(Statement::Match { field, .. }, _) => std::slice::from_ref(field),
            Self::Statement(Statement::Lookup { key, .. }, _) => key,
            Self::Keys { fields, .. } => fields,
            _ => return None,
        };
        fields.iter().find_map(|field| match field {
            Field::IpSource | Field::IpDestination => Some(true),
            Field::Ip6Source | Field::Ip6Destination => Some(false),
            _ => None,
        })
    }

    pub(super) fn holds(&self, packet: &Packet<'_>, rules: &Rules<'a>) -> Truth {
        // A packet of the other family does not have the field, and so passes no test of it, not
        // even one that it should be something else.
        let is_other = |wanted: bool| packet.arp || packet.is_v4().is_some_and(|v4| v4 != wanted);
        if self.family().is_some_and(is_other) {
            return Truth::No;
        }
        match self {
            Self::Statement(Statement::Match { field, negated, test }, _) => {
                turned(field_holds(*field, test, packet), *negated)
            }
            Self::Statement(Statement::Lookup { key, negated, set }, table) => {
                let elements = rules.candidates(table, set, key, packet);
                let truth = elements.iter().map(|element| key_holds(key, &element.key, packet));
                let mut best = Truth::No;
                for one in truth {
                    best = best.max(one);
                    if best == Truth::Yes {
                        break;
                    }
                }
                turned(best, *negated)
            }
            _ => Truth::Maybe,
        }
    }

    /// What it is, as the end of "what ..."; `None` where it says nothing to a person.
    pub(super) fn words(&self, rules: &Rules<'a>) -> Option<String> {
        match self {
            Self::Statement(Statement::Match { field, negated, test }, _) => {
                said(*field, &value(*field, test), *negated)
            }
            Self::Statement(Statement::Lookup { key, negated, set }, table) => {
                let elements = rules.elements(table, set);
                let names = words::some(sorted(elements.iter().map(|it| &it.key)), MOST_KEYS);
                let what = match elements.len() {
                    0 => format!("anything of set {set}, which is empty"),
                    1 => format!("{names} (set {set})"),
                    _ => format!("one of {names} (set {set})"),
                };
                match &key[..] {
                    [field] => said(*field, &what, *negated),
                    _ => {
                        let is = if *negated { "is not" } else { "is" };
                        Some(format!("{is} {what}"))
                    }
                }
            }
            Self::Statement(..) => None,
            Self::Keys { fields, keys } => match (fields, &keys[..]) {
                ([field], keys) => {
                    said(*field, &words::some(sorted(keys.iter().copied()), MOST_KEYS), false)
                }
                (fields, [Key::Point(parts)]) if parts.len() == fields.len() => {
                    let parts = fields.iter().zip(parts);
                    let said: Vec<String> = parts
                        .filter_map(|(field, part)| said(*field, &part.to_string(), false))
                        .collect();
                    Some(said.join(" and "))
                }
                (_, keys) => {
                    Some(format!("is {}", words::some(sorted(keys.iter().copied()), MOST_KEYS)))
                }
            },
            Self::Opaque(name) => Some(format!("also fits {name} (which podwire does not read)")),
        }
    }
}

/// `ETH_P_ARP`.
const ARP: u16 = 0x0806;

/// How many elements of a set are told.
const MOST_KEYS: usize = 4;

/// The kernel lists the elements of a set in any order.
fn sorted<'k>(keys: impl Iterator<Item = &'k Key>) -> Vec<String> {
    let mut names: Vec<String> = keys.map(ToString::to_string).collect();
    names.sort();
    names
}

fn turned(truth: Truth, negated: bool) -> Truth {
    match (truth, negated) {
        (Truth::Yes, true) => Truth::No,
        (Truth::No, true) => Truth::Yes,
        (truth, _) => truth,
    }
}

fn truth(holds: bool) -> Truth {
    if holds { Truth::Yes } else { Truth::No }
}

/// Whether a packet has a key.
pub(super) fn key_holds(fields: &[Field], key: &Key, packet: &Packet<'_>) -> Truth {
    let all = |truths: &mut dyn Iterator<Item = Truth>| truths.min().unwrap_or(Truth::Maybe);
    match key {
        Key::Rest => Truth::Maybe,
        Key::Point(parts) => all(&mut fields
            .iter()
            .zip(parts)
            .map(|(field, part)| field_holds(*field, &Test::Is(part.clone()), packet))),
        Key::Interval(first, last) => {
            all(&mut fields.iter().zip(first.iter().zip(last)).map(|(field, (first, last))| {
                field_holds(*field, &Test::Range(first.clone(), last.clone()), packet)
            }))
        }
    }
}

fn field_holds(field: Field, test: &Test, packet: &Packet<'_>) -> Truth {
    let Packet { level, arp, source, destination, input, output, protocol, port, local } = *packet;
    let is_routed = level == Level::Routed && !arp;
    match field {
        Field::EtherType if arp => match test {
            Test::Is(Value::EtherType(number)) => truth(*number == ARP),
            _ => Truth::Maybe,
        },
        // Frames have no connection where nobody tracks them, and a family of their own.
        Field::CtState | Field::DestinationType | Field::NetworkFamily if !is_routed => {
            Truth::Maybe
        }
        Field::Protocol | Field::DestinationPort(_) if arp => Truth::No,
        Field::IpSource => address_holds(source, true, test),
        Field::Ip6Source => address_holds(source, false, test),
        Field::IpDestination => address_holds(destination, true, test),
        Field::Ip6Destination => address_holds(destination, false, test),
        Field::InputName => name_holds(input, test),
        Field::OutputName => name_holds(output, test),
        Field::Protocol => match (protocol, test) {
            (Some(known), Test::Is(Value::Protocol(wanted))) => truth(known == *wanted),
            _ => Truth::Maybe,
        },
        Field::DestinationPort(transport) => {
            let number = match transport {
                Transport::Tcp => Some(6),
                Transport::Udp => Some(17),
                Transport::Sctp => Some(132),
                Transport::Any => None,
            };
            match (port, protocol, test) {
                (_, Some(known), _) if number.is_some_and(|number| number != known) => Truth::No,
                (Some(known), _, Test::Is(Value::Port(wanted))) => truth(known == *wanted),
                (Some(known), _, Test::Range(Value::Port(first), Value::Port(last))) => {
                    truth((*first..=*last).contains(&known))
                }
                _ => Truth::Maybe,
            }
        }
        Field::NetworkFamily | Field::EtherType => match (packet.is_v4(), test) {
            (Some(v4), Test::Is(Value::NetworkFamily(number))) => {
                truth(*number == if v4 { 2 } else { 10 })
            }
            (Some(v4), Test::Is(Value::EtherType(number))) => {
                truth(*number == if v4 { 0x0800 } else { 0x86dd })
            }
            _ => Truth::Maybe,
        },
        // It is the first packet of a connection.
        Field::CtState => match test {
            Test::Any(Value::CtState(CtState(bits))) | Test::Is(Value::CtState(CtState(bits))) => {
                truth(bits & CtState::NEW.0 != 0)
            }
            _ => Truth::Maybe,
        },
        Field::CtDirection => match test {
            Test::Is(Value::CtDirection(way)) => truth(*way == CtDirection::ORIGINAL),
            _ => Truth::Maybe,
        },
        Field::DestinationType => match (local, test) {
            (Some(local), Test::Is(Value::AddressType(AddressType::LOCAL))) => truth(local),
            _ => Truth::Maybe,
        },
        _ => Truth::Maybe,
    }
}

fn address_holds(address: Option<IpAddr>, v4: bool, test: &Test) -> Truth {
    let Some(address) = address else { return Truth::Maybe };
    if address.is_ipv4() != v4 {
        return Truth::No;
    }
    match test {
        Test::Is(Value::Address(wanted)) => truth(address == *wanted),
        Test::Within(net) => truth(net.contains(&address)),
        Test::Range(Value::Address(first), Value::Address(last)) => {
            truth(*first <= address && address <= *last)
        }
        _ => Truth::Maybe,
    }
}

fn name_holds(name: Option<&str>, test: &Test) -> Truth {
    let Some(name) = name else { return Truth::Maybe };
    match test {
        Test::Is(Value::Interface(wanted)) => truth(wanted.as_str() == name),
        Test::StartsWith(start) => truth(name.starts_with(start.as_str())),
        _ => Truth::Maybe,
    }
}

fn value(field: Field, test: &Test) -> String {
    let text = match test {
        Test::Is(value) | Test::Any(value) => value.to_string(),
        Test::Within(net) => net.to_string(),
        Test::StartsWith(start) => format!("{start}*"),
        Test::Range(first, last) => format!("{first}-{last}"),
        Test::Masked { mask, value } => format!("{value:#x}/{mask:#x}"),
    };
    match field {
        Field::InputName | Field::OutputName => text.replace('"', ""),
        Field::CtState | Field::CtStatus => text.replace(',', " or "),
        _ => text,
    }
}

/// A field and what it should be, as the end of "what ...".
fn said(field: Field, value: &str, negated: bool) -> Option<String> {
    let (is, is_not) = match field {
        Field::IpSource | Field::Ip6Source => ("comes from", "does not come from"),
        Field::IpDestination | Field::Ip6Destination => ("goes to", "does not go to"),
        Field::EtherSource => {
            ("comes from hardware address", "does not come from hardware address")
        }
        Field::EtherDestination => ("goes to hardware address", "does not go to hardware address"),
        Field::InputName => ("arrives by", "does not arrive by"),
        Field::OutputName => ("leaves by", "does not leave by"),
        Field::InputType => ("arrives by a device of type", "does not arrive by a device of type"),
        Field::EtherType if value == "arp" => {
            return Some(if negated { "is not ARP" } else { "is ARP" }.to_owned());
        }
        Field::EtherType | Field::NetworkFamily => return None,
        Field::Protocol => ("is", "is not"),
        Field::SourcePort(Transport::Any) => ("comes from port", "does not come from port"),
        Field::DestinationPort(Transport::Any) => ("is for port", "is not for port"),
        Field::SourcePort(transport) => {
            let not = if negated { "does not come" } else { "comes" };
            return Some(format!("{not} from {transport} port {value}"));
        }
        Field::DestinationPort(transport) => {
            let not = if negated { "is not" } else { "is" };
            return Some(format!("{not} for {transport} port {value}"));
        }
        Field::Mark => ("carries mark", "does not carry mark"),
        Field::Vni => ("is of virtual network", "is of another virtual network than"),
        Field::CtState => {
            let not = if negated { "not " } else { "" };
            return Some(format!("is of a connection that is {not}{value}"));
        }
        Field::CtDirection if value == "reply" => ("is an answer", "is no answer"),
        Field::CtDirection => {
            ("goes the way of the connection", "does not go the way of the connection")
        }
        Field::CtStatus => ("is of a connection with", "is of a connection without"),
        Field::DestinationType if value == "local" => {
            let text =
                if negated { "is not for this node itself" } else { "is for this node itself" };
            return Some(text.to_owned());
        }
        Field::DestinationType => ("is for an address that is", "is for an address that is not"),
    };
    Some(format!("{} {value}", if negated { is_not } else { is }))
}

impl Condition<'_> {
    /// Whether it asks for packets from an address, by itself or among others.
    pub(crate) fn is_about_source(&self, address: IpAddr) -> bool {
        let packet = Packet { source: Some(address), ..Packet::default() };
        let is_source = |field: &Field| matches!(field, Field::IpSource | Field::Ip6Source);
        match self {
            Self::Statement(Statement::Match { field, negated: false, test }, _) => {
                is_source(field) && field_holds(*field, test, &packet) == Truth::Yes
            }
            Self::Statement(Statement::Lookup { key, negated: false, .. }, _) => {
                key.iter().any(is_source)
            }
            Self::Keys { fields, keys } => {
                fields.iter().any(is_source)
                    && keys.iter().any(|key| key_holds(fields, key, &packet) != Truth::No)
            }
            _ => false,
        }
    }
}
