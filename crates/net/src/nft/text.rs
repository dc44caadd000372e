//! The ruleset in the words of `nft` (nftables 1.0.6 reads them all, except for what it never
//! wrote itself: raw expressions and types that podwire does not know).

use std::fmt::{self, Display};

use super::{
    AddressFamily, Base, Chain, ChainKind, Element, Family, Field, Hook, Key, KeyType, MapValue,
    Mapped, NatKind, NatTarget, Object, Policy, Rule, Set, Statement, Table, TableId, Test,
    Transport, Value, Verdict,
};
use crate::Change;

/// The lines that make `change` when `nft -f -` reads them; none if it is no change to nftables.
///
/// Unlike the change itself, a `delete` line fails if what it names is gone already.
pub fn command(change: &Change) -> Vec<String> {
    match change {
        Change::Create(crate::Object::Nft(object)) => create(object),
        Change::Ensure(crate::Object::Nft(object)) => ensure(object),
        Change::Delete(crate::Object::Nft(object)) => vec![delete(object)],
        Change::Replace { from, to: crate::Object::Nft(to) }
            if let crate::Object::Nft(from) = &**from =>
        {
            match (from, to) {
                (Object::Chain(from), Object::Chain(chain)) if from.base == chain.base => {
                    ensure(to)
                }
                (Object::Table(from), Object::Table(table)) if from.comment == table.comment => {
                    ensure(to)
                }
                _ => [vec![delete(from)], create(to)].concat(),
            }
        }
        _ => vec![],
    }
}

fn create(object: &Object) -> Vec<String> {
    let mut lines = vec![format!("create {}", definition(object))];
    if let Object::Chain(chain) = object {
        lines.extend(rules(chain));
    }
    lines
}

fn ensure(object: &Object) -> Vec<String> {
    let mut lines = vec![format!("add {}", definition(object))];
    if let Object::Chain(chain) = object {
        lines.push(format!("flush chain {} {}", chain.table, chain.name));
        lines.extend(rules(chain));
    }
    lines
}

fn rules(chain: &Chain) -> impl Iterator<Item = String> + '_ {
    chain.rules.iter().map(|rule| format!("add rule {} {} {rule}", chain.table, chain.name))
}

fn delete(object: &Object) -> String {
    match object {
        Object::Table(table) => format!("delete table {}", table.id),
        Object::Chain(chain) => format!("delete chain {} {}", chain.table, chain.name),
        Object::Set(set) => format!("delete {} {} {}", set_word(set), set.table, set.name),
        Object::Element(Element { table, set, key, .. }) => {
            format!("delete element {table} {set} {{ {key} }}")
        }
    }
}

/// What follows `add` or `create`.
fn definition(object: &Object) -> String {
    match object {
        Object::Table(Table { id, comment, dormant }) => {
            let comment = comment.iter().map(|it| format!(" comment \"{it}\";"));
            let flags = dormant.then(|| " flags dormant;".to_owned());
            let body: String = flags.into_iter().chain(comment).collect();
            if body.is_empty() { format!("table {id}") } else { format!("table {id} {{{body} }}") }
        }
        Object::Chain(Chain { table, name, base: None, .. }) => format!("chain {table} {name}"),
        Object::Chain(Chain { table, name, base: Some(base), .. }) => {
            format!("chain {table} {name} {{ {base} }}")
        }
        Object::Set(set) => format!("{} {} {} {{ {set} }}", set_word(set), set.table, set.name),
        Object::Element(element) => {
            format!("element {} {} {{ {element} }}", element.table, element.set)
        }
    }
}

fn set_word(set: &Set) -> &'static str {
    if set.value.is_some() { "map" } else { "set" }
}

/// The object and its key as an error message names them: `nft element 10.1.0.2 in inet
/// podwire_cni masquerade4`.
impl Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => write!(f, "nft table {}", table.id),
            Self::Chain(chain) => write!(f, "nft chain {} in {}", chain.name, chain.table),
            Self::Set(set) => write!(f, "nft {} {} in {}", set_word(set), set.name, set.table),
            Self::Element(Element { table, set, key, .. }) => {
                write!(f, "nft element {key} in {table} {set}")
            }
        }
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
            Self::Arp => "arp",
        })
    }
}

impl Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        };
        let hook = match self.hook {
            Hook::Ingress => "ingress",
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
            Hook::Egress => "egress",
        };
        let policy = match self.policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        write!(f, "type {kind} hook {hook}")?;
        match self.devices.as_slice() {
            [] => {}
            [device] => write!(f, " device \"{device}\"")?,
            devices => write!(f, " devices = {{ {} }}", join(", ", devices))?,
        }
        write!(f, " priority {}; policy {policy};", self.priority)
    }
}

/// What stands between the braces of a set.
impl Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type {}", join(" . ", &self.key))?;
        match &self.value {
            None => {}
            Some(MapValue::Verdict) => f.write_str(" : verdict")?,
            Some(MapValue::Data(types)) => write!(f, " : {}", join(" . ", types))?,
            Some(MapValue::Object(kind)) => f.write_str(match kind {
                1 => " : counter",
                2 => " : quota",
                4 => " : limit",
                _ => " : object",
            })?,
        }
        f.write_str(";")?;
        let flags = [
            (self.flags.constant, "constant"),
            (self.flags.dynamic, "dynamic"),
            (self.flags.interval, "interval"),
            (self.flags.timeout, "timeout"),
        ];
        let flags: Vec<_> = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        if !flags.is_empty() {
            write!(f, " flags {};", flags.join(","))?;
        }
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\";"),
            None => Ok(()),
        }
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(comment) = &self.comment {
            write!(f, " comment \"{comment}\"")?;
        }
        match &self.value {
            None => Ok(()),
            Some(Mapped::Verdict(verdict)) => write!(f, " : {verdict}"),
            Some(Mapped::Data(values)) => write!(f, " : {}", join(" . ", values)),
            Some(Mapped::Object(name)) => write!(f, " : \"{name}\""),
        }
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point(parts) => write!(f, "{}", join(" . ", parts)),
            Self::Interval(first, last) => {
                let parts = first.iter().zip(last).map(|(first, last)| interval(first, last));
                f.write_str(&parts.collect::<Vec<_>>().join(" . "))
            }
            Self::Rest => f.write_str("*"),
        }
    }
}

/// One part of an interval: a value, a network, or both ends.
fn interval(first: &Value, last: &Value) -> String {
    if first == last {
        return first.to_string();
    }
    let network = match (first, last) {
        (Value::Address(first), Value::Address(last)) => super::network(*first, *last),
        _ => None,
    };
    match network {
        Some(net) => net.to_string(),
        None => format!("{first}-{last}"),
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", join(" ", &self.statements))?;
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match { field, negated, test } => matched(f, *field, *negated, test),
            Self::Lookup { key, negated, set } => {
                write!(f, "{} {}@{set}", join(" . ", key), if *negated { "!= " } else { "" })
            }
            Self::VerdictMap { key, map } => write!(f, "{} vmap @{map}", join(" . ", key)),
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Masquerade { fully_random: false } => f.write_str("masquerade"),
            Self::Masquerade { fully_random: true } => f.write_str("masquerade fully-random"),
            Self::Nat(nat) => {
                let kind = match nat.kind {
                    NatKind::Snat => "snat",
                    NatKind::Dnat => "dnat",
                };
                match &nat.to {
                    NatTarget::Address(address, port) => {
                        let family = if address.is_ipv4() { "ip" } else { "ip6" };
                        match port {
                            Some(port) => {
                                let socket = std::net::SocketAddr::new(*address, *port);
                                write!(f, "{kind} {family} to {socket}")
                            }
                            None => write!(f, "{kind} {family} to {address}"),
                        }
                    }
                    NatTarget::Map { family, key, map, .. } => {
                        let family = match family {
                            AddressFamily::Ip => "ip",
                            AddressFamily::Ip6 => "ip6",
                        };
                        write!(f, "{kind} {family} to {} map @{map}", join(" . ", key))
                    }
                }
            }
            Self::Redirect { port: None } => f.write_str("redirect"),
            Self::Redirect { port: Some(port) } => write!(f, "redirect to :{port}"),
            Self::Counter => f.write_str("counter"),
            Self::SetMark { mask: u32::MAX, value } => write!(f, "meta mark set {value:#010x}"),
            Self::SetMark { mask, value } if mask == value => {
                write!(f, "meta mark set meta mark | {value:#010x}")
            }
            Self::SetMark { mask, value: 0 } => {
                write!(f, "meta mark set meta mark & {:#010x}", !mask)
            }
            Self::SetMark { mask, value } => {
                write!(f, "meta mark set meta mark & {:#010x} | {value:#010x}", !mask)
            }
            Self::NoTrack => f.write_str("notrack"),
            Self::Raw(expression) => write!(f, "<{}>", expression.name),
        }
    }
}

/// One comparison. Flags have an operator of their own, which nft leaves out where it can.
fn matched(f: &mut fmt::Formatter<'_>, field: Field, negated: bool, test: &Test) -> fmt::Result {
    let not = if negated { "!= " } else { "" };
    let equals = if negated { "!=" } else { "==" };
    match test {
        Test::Is(value) if matches!(field, Field::CtState | Field::CtStatus) => {
            write!(f, "{field} {equals} {value}")
        }
        Test::Is(value) => write!(f, "{field} {not}{value}"),
        Test::Within(net) => write!(f, "{field} {not}{net}"),
        Test::StartsWith(start) => write!(f, "{field} {not}\"{start}*\""),
        Test::Range(first, last) => write!(f, "{field} {not}{first}-{last}"),
        Test::Any(flags) if negated => {
            let flags = flags.to_string().replace(',', "|");
            write!(f, "{field} & ({flags}) == 0")
        }
        Test::Any(flags) => write!(f, "{field} {flags}"),
        Test::Masked { mask, value } => write!(f, "{field} & {mask:#010x} {equals} {value:#010x}"),
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Continue => f.write_str("continue"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IpSource => f.write_str("ip saddr"),
            Self::IpDestination => f.write_str("ip daddr"),
            Self::Ip6Source => f.write_str("ip6 saddr"),
            Self::Ip6Destination => f.write_str("ip6 daddr"),
            Self::EtherSource => f.write_str("ether saddr"),
            Self::EtherDestination => f.write_str("ether daddr"),
            Self::InputName => f.write_str("iifname"),
            Self::OutputName => f.write_str("oifname"),
            Self::InputType => f.write_str("iiftype"),
            Self::EtherType => f.write_str("meta protocol"),
            Self::NetworkFamily => f.write_str("meta nfproto"),
            Self::Protocol => f.write_str("meta l4proto"),
            Self::SourcePort(transport) => write!(f, "{transport} sport"),
            Self::DestinationPort(transport) => write!(f, "{transport} dport"),
            Self::Vni => f.write_str("@th,96,24"),
            Self::Mark => f.write_str("meta mark"),
            Self::CtState => f.write_str("ct state"),
            Self::CtStatus => f.write_str("ct status"),
            Self::CtDirection => f.write_str("ct direction"),
            Self::DestinationType => f.write_str("fib daddr type"),
        }
    }
}

impl Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Any => "th",
        })
    }
}

impl Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::EtherAddr => "ether_addr",
            Self::Ifname => "ifname",
            Self::IfaceType => "iface_type",
            Self::EtherType => "ether_type",
            Self::InetProto => "inet_proto",
            Self::NfProto => "nf_proto",
            Self::InetService => "inet_service",
            Self::Mark => "mark",
            Self::CtState => "ct_state",
            Self::CtStatus => "ct_status",
            Self::CtDirection => "ct_dir",
            Self::FibAddrtype => "fib_addrtype",
            Self::Other { number, bytes } => return write!(f, "<type {number}, {bytes} bytes>"),
        })
    }
}

/// The displayed `items` with `separator` between them.
fn join(separator: &str, items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::nft::{Nat, SetFlags};

    fn table() -> TableId {
        TableId::new(Family::Inet, "podwire_cni")
    }

    #[test]
    fn a_chain_is_emptied_before_it_is_filled() {
        let chain = Chain {
            table: table(),
            name: "postrouting".to_owned(),
            base: Some(Base {
                kind: ChainKind::Nat,
                hook: Hook::Postrouting,
                priority: 100,
                policy: Policy::Accept,
                devices: Vec::new(),
            }),
            rules: vec![
                Rule::new([Statement::vmap([Field::IpSource], "masquerade4")]),
                Rule {
                    statements: vec![Statement::Masquerade { fully_random: true }],
                    comment: Some("the rest".to_owned()),
                },
            ],
        };
        let rules = [
            "add rule inet podwire_cni postrouting ip saddr vmap @masquerade4",
            "add rule inet podwire_cni postrouting masquerade fully-random comment \"the rest\"",
        ];
        let definition = "chain inet podwire_cni postrouting \
                          { type nat hook postrouting priority 100; policy accept; }";
        let flush = "flush chain inet podwire_cni postrouting";
        let add = [&format!("add {definition}"), flush, rules[0], rules[1]];
        let object = || crate::Object::from(chain.clone());
        assert_eq!(command(&Change::Ensure(object())), add);
        assert_eq!(
            command(&Change::Create(object())),
            [&format!("create {definition}"), rules[0], rules[1]]
        );
        assert_eq!(command(&Change::replace(object(), object())), add);
        let delete = "delete chain inet podwire_cni postrouting";
        assert_eq!(command(&Change::Delete(object())), [delete]);
        let plain = Chain { base: None, rules: Vec::new(), ..chain.clone() };
        assert_eq!(
            command(&Change::replace(object(), plain)),
            [delete, "create chain inet podwire_cni postrouting"]
        );
    }

    #[test]
    fn sets_and_elements_read_as_nft_writes_them() {
        let address = |last| Value::from(Ipv4Addr::new(10, 1, 0, last));
        let set = Set {
            table: table(),
            name: "ranges".to_owned(),
            key: vec![KeyType::Ipv4Addr, KeyType::InetService],
            value: Some(MapValue::Data(vec![KeyType::Mark])),
            flags: SetFlags { interval: true, constant: true, ..SetFlags::default() },
            comment: Some("some".to_owned()),
        };
        assert_eq!(
            command(&Change::Ensure(set.into())),
            ["add map inet podwire_cni ranges { type ipv4_addr . inet_service : mark; \
              flags constant,interval; comment \"some\"; }"]
        );
        let element = Element {
            table: table(),
            set: "ranges".into(),
            key: Key::Interval(
                vec![address(0), Value::Port(80)],
                vec![address(255), Value::Port(90)],
            ),
            value: Some(Mapped::Data(vec![Value::Mark(1)])),
            comment: Some("a pod".to_owned()),
        };
        assert_eq!(
            command(&Change::Create(element.clone().into())),
            ["create element inet podwire_cni ranges \
              { 10.1.0.0/24 . 80-90 comment \"a pod\" : 0x00000001 }"]
        );
        assert_eq!(
            command(&Change::Delete(element.clone().into())),
            ["delete element inet podwire_cni ranges { 10.1.0.0/24 . 80-90 }"]
        );
        assert_eq!(
            Object::from(element).to_string(),
            "nft element 10.1.0.0/24 . 80-90 in inet podwire_cni ranges"
        );
    }

    #[test]
    fn intervals_of_addresses_are_networks_where_they_can_be() {
        let key = |first: &str, last: &str| {
            let value = |text: &str| vec![Value::Address(text.parse().unwrap())];
            Key::Interval(value(first), value(last)).to_string()
        };
        assert_eq!(key("10.0.0.0", "10.255.255.255"), "10.0.0.0/8");
        assert_eq!(key("0.0.0.0", "255.255.255.255"), "0.0.0.0/0");
        assert_eq!(key("10.0.0.1", "10.0.0.1"), "10.0.0.1");
        assert_eq!(key("10.0.0.1", "10.0.0.2"), "10.0.0.1-10.0.0.2");
        assert_eq!(key("fd00::", "fd00::ffff:ffff:ffff:ffff"), "fd00::/64");
    }

    #[test]
    fn addresses_of_version_6_stand_in_brackets_before_a_port() {
        let to = NatTarget::Address("fd00::2".parse().unwrap(), Some(80));
        let nat = Statement::Nat(Nat { kind: NatKind::Dnat, to });
        assert_eq!(nat.to_string(), "dnat ip6 to [fd00::2]:80");
    }
}
