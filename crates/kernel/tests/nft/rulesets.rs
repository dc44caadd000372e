//! Rulesets that podwire writes, now and soon.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::nft::{
    AddressFamily, AddressType, Base, Chain, ChainKind, CtDirection, CtState, CtStatus, Element,
    Family, Field, Hook, Key, KeyType, MapValue, Mapped, Nat, NatKind, NatTarget, Object, Policy,
    Rule, Set, SetFlags, Statement, TableId, Test, Transport, Value, Verdict, priority,
};

/// All of them, with their names.
pub(crate) fn all() -> [(&'static str, Vec<Object>); 4] {
    [
        ("masquerade", masquerade()),
        ("spoof check", spoof_check()),
        ("host ports", host_ports()),
        ("every statement", every_statement()),
    ]
}

pub(crate) fn cni(family: Family) -> TableId {
    TableId::new(family, "podwire_cni")
}

fn chain(table: &TableId, name: &str, base: Option<Base>, rules: Vec<Rule>) -> Object {
    Chain { table: table.clone(), name: name.to_owned(), base, rules }.into()
}

pub(crate) fn hook(kind: ChainKind, hook: Hook, priority: i32) -> Option<Base> {
    Some(Base { kind, hook, priority, policy: Policy::Accept, devices: Vec::new() })
}

pub(crate) fn set(table: &TableId, name: &str, key: &[KeyType], value: Option<MapValue>) -> Set {
    Set {
        table: table.clone(),
        name: name.to_owned(),
        key: key.to_vec(),
        value,
        flags: SetFlags::default(),
        comment: None,
    }
}

pub(crate) fn element(table: &TableId, set: &str, key: Key, value: Option<Mapped>) -> Element {
    Element { table: table.clone(), set: set.into(), key, value, comment: None }
}

fn rule(statements: impl Into<Vec<Statement>>) -> Rule {
    Rule::new(statements)
}

fn commented(rule: Rule, comment: &str) -> Rule {
    Rule { comment: Some(comment.to_owned()), ..rule }
}

pub(crate) fn v4(text: &str) -> Value {
    text.parse::<Ipv4Addr>().unwrap().into()
}

fn v6(text: &str) -> Value {
    text.parse::<Ipv6Addr>().unwrap().into()
}

fn ifname(text: &str) -> Value {
    Value::Interface(text.parse().unwrap())
}

fn within(field: Field, net: &str) -> Statement {
    Statement::within(field, net.parse().unwrap())
}

fn test(field: Field, negated: bool, test: Test) -> Statement {
    Statement::Match { field, negated, test }
}

pub(crate) fn masquerade() -> Vec<Object> {
    let table = cni(Family::Inet);
    let verdict = Some(MapValue::Verdict);
    let jump = |chain: &str| Some(Mapped::Verdict(Verdict::Jump(chain.to_owned())));
    let (subnet4, subnet6) = ("subnet-10.1.0.0/16", "subnet-fd00__/64");
    let element4 = element(&table, "masquerade4", Key::Point(vec![v4("10.1.0.2")]), jump(subnet4));
    let element6 = element(&table, "masquerade6", Key::Point(vec![v6("fd00::2")]), jump(subnet6));
    vec![
        table.clone().into(),
        set(&table, "masquerade4", &[KeyType::Ipv4Addr], verdict.clone()).into(),
        Set {
            comment: Some("pods by their addresses".to_owned()),
            ..set(&table, "masquerade6", &[KeyType::Ipv6Addr], verdict)
        }
        .into(),
        chain(
            &table,
            subnet4,
            None,
            vec![
                rule([within(Field::IpDestination, "10.1.0.0/16"), Verdict::Return.into()]),
                rule([within(Field::IpDestination, "224.0.0.0/4"), Verdict::Return.into()]),
                rule([Statement::Masquerade { fully_random: false }]),
            ],
        ),
        chain(
            &table,
            subnet6,
            None,
            vec![
                rule([within(Field::Ip6Destination, "fd00::/64"), Verdict::Return.into()]),
                rule([within(Field::Ip6Destination, "ff00::/8"), Verdict::Return.into()]),
                rule([Statement::Masquerade { fully_random: true }]),
            ],
        ),
        chain(
            &table,
            "postrouting",
            hook(ChainKind::Nat, Hook::Postrouting, priority::SRCNAT),
            vec![
                rule([Statement::vmap([Field::IpSource], "masquerade4")]),
                commented(rule([Statement::vmap([Field::Ip6Source], "masquerade6")]), "of IPv6"),
            ],
        ),
        Element { comment: Some("cbr0 0123abcd eth0".to_owned()), ..element4 }.into(),
        element6.into(),
    ]
}

fn spoof_check() -> Vec<Object> {
    let table = cni(Family::Bridge);
    let veth = || ifname("veth0123456789a");
    let mac = Value::Ether("0a:58:0a:01:00:02".parse().unwrap());
    vec![
        table.clone().into(),
        set(&table, "guarded", &[KeyType::Ifname], None).into(),
        set(&table, "allowed", &[KeyType::Ifname, KeyType::EtherAddr], None).into(),
        chain(
            &table,
            "prerouting",
            hook(ChainKind::Filter, Hook::Prerouting, -300),
            vec![
                rule([
                    Statement::lookup([Field::InputName, Field::EtherSource], "allowed"),
                    Verdict::Accept.into(),
                ]),
                rule([Statement::lookup([Field::InputName], "guarded"), Verdict::Drop.into()]),
            ],
        ),
        element(&table, "allowed", Key::Point(vec![veth(), mac]), None).into(),
        element(&table, "guarded", Key::Point(vec![veth()]), None).into(),
    ]
}

/// Destinations rewritten by maps: by protocol and port, with and without an address in the key.
pub(crate) fn host_ports() -> Vec<Object> {
    use KeyType::{InetProto, InetService, Ipv4Addr, Ipv6Addr};
    let table = cni(Family::Inet);
    let ports = Field::DestinationPort(Transport::Any);
    let data = |types: &[KeyType]| Some(MapValue::Data(types.to_vec()));
    let (tcp, udp) = (Value::Protocol(6), Value::Protocol(17));
    let dnat = |family, key: &[Field], map: &str, port| {
        let to = NatTarget::Map { family, key: key.to_vec(), map: map.to_owned(), port };
        Statement::Nat(Nat { kind: NatKind::Dnat, to })
    };
    let is_v6 = Statement::is(Field::NetworkFamily, Value::NetworkFamily(10));
    vec![
        table.clone().into(),
        set(
            &table,
            "by_address",
            &[Ipv4Addr, InetProto, InetService],
            data(&[Ipv4Addr, InetService]),
        )
        .into(),
        set(&table, "v4", &[InetProto, InetService], data(&[Ipv4Addr, InetService])).into(),
        set(&table, "v6", &[InetProto, InetService], data(&[Ipv6Addr, InetService])).into(),
        set(&table, "hosts", &[InetService], data(&[Ipv4Addr])).into(),
        chain(
            &table,
            "hostports",
            hook(ChainKind::Nat, Hook::Prerouting, priority::DSTNAT),
            vec![
                rule([
                    Statement::is(Field::DestinationType, AddressType::LOCAL),
                    dnat(
                        AddressFamily::Ip,
                        &[Field::IpDestination, Field::Protocol, ports],
                        "by_address",
                        true,
                    ),
                ]),
                rule([dnat(AddressFamily::Ip, &[Field::Protocol, ports], "v4", true)]),
                rule([is_v6, dnat(AddressFamily::Ip6, &[Field::Protocol, ports], "v6", true)]),
                rule([dnat(
                    AddressFamily::Ip,
                    &[Field::DestinationPort(Transport::Tcp)],
                    "hosts",
                    false,
                )]),
            ],
        ),
        element(
            &table,
            "by_address",
            Key::Point(vec![v4("192.0.2.1"), tcp.clone(), Value::Port(8080)]),
            Some(Mapped::Data(vec![v4("10.1.0.2"), Value::Port(80)])),
        )
        .into(),
        element(
            &table,
            "v4",
            Key::Point(vec![udp, Value::Port(53)]),
            Some(Mapped::Data(vec![v4("10.1.0.3"), Value::Port(5353)])),
        )
        .into(),
        element(
            &table,
            "v6",
            Key::Point(vec![tcp, Value::Port(443)]),
            Some(Mapped::Data(vec![v6("fd00::3"), Value::Port(8443)])),
        )
        .into(),
        element(
            &table,
            "hosts",
            Key::Point(vec![Value::Port(22)]),
            Some(Mapped::Data(vec![v4("10.1.0.4")])),
        )
        .into(),
    ]
}

/// Every statement, test, type and flag that the other rulesets lack.
pub(crate) fn every_statement() -> Vec<Object> {
    let table = TableId::new(Family::Inet, "sample");
    let frames = TableId::new(Family::Bridge, "frames");
    let tcp = Field::DestinationPort(Transport::Tcp);
    let matches = [
        within(Field::IpSource, "0.0.0.0/0"),
        within(Field::IpSource, "10.0.0.0/12"),
        test(Field::IpSource, true, Test::Within("10.0.0.0/8".parse().unwrap())),
        test(Field::IpSource, true, Test::Range(v4("10.0.0.1"), v4("10.0.0.9"))),
        test(Field::IpSource, false, Test::Range(v4("10.0.0.1"), v4("10.0.0.9"))),
        within(Field::Ip6Destination, "fd00::/61"),
        Statement::is(Field::Ip6Source, "fd00::1".parse::<Ipv6Addr>().unwrap()),
        Statement::is(Field::InputName, ifname("eth0")),
        test(Field::OutputName, true, Test::Is(ifname("eth0"))),
        test(Field::InputName, false, Test::StartsWith("veth".to_owned())),
        Statement::is(Field::InputType, Value::DeviceType(1)),
        Statement::is(Field::EtherType, Value::EtherType(0x0806)),
        Statement::is(Field::NetworkFamily, Value::NetworkFamily(2)),
        Statement::is(Field::Protocol, Value::Protocol(132)),
        test(Field::Protocol, true, Test::Is(Value::Protocol(58))),
        Statement::is(tcp, Value::Port(80)),
        test(tcp, false, Test::Range(Value::Port(80), Value::Port(90))),
        Statement::is(Field::SourcePort(Transport::Udp), Value::Port(53)),
        Statement::is(Field::SourcePort(Transport::Sctp), Value::Port(53)),
        Statement::is(Field::EtherSource, Value::Ether("0a:58:0a:01:00:02".parse().unwrap())),
        test(Field::CtState, false, Test::Any((CtState::ESTABLISHED | CtState::RELATED).into())),
        test(
            Field::CtState,
            true,
            Test::Any((CtState::NEW | CtState::INVALID | CtState::UNTRACKED).into()),
        ),
        Statement::is(Field::CtState, CtState::NEW),
        test(Field::CtState, true, Test::Is(CtState::NEW.into())),
        test(Field::CtStatus, false, Test::Any(CtStatus::DNAT.into())),
        test(Field::CtStatus, true, Test::Any(CtStatus::SNAT.into())),
        Statement::is(Field::CtDirection, CtDirection::REPLY),
        test(Field::CtDirection, true, Test::Is(CtDirection::ORIGINAL.into())),
        Statement::is(Field::Vni, Value::Raw(vec![0x01, 0x11, 0x70])),
        test(Field::Vni, true, Test::Is(Value::Raw(vec![0, 0, 1]))),
        Statement::is(Field::Mark, Value::Mark(0x10)),
        test(Field::Mark, false, Test::Masked { mask: 0x4000, value: 0x4000 }),
        test(Field::Mark, true, Test::Masked { mask: 0xff, value: 0 }),
        Statement::is(Field::DestinationType, AddressType::LOCAL),
        test(Field::DestinationType, true, Test::Is(AddressType::MULTICAST.into())),
        Statement::lookup([Field::IpSource], "nets"),
        Statement::Lookup {
            key: vec![Field::IpSource, Field::InputName],
            negated: true,
            set: "pairs".to_owned(),
        },
        Statement::lookup([Field::IpSource, tcp], "ranges"),
        Statement::lookup([Field::Mark], "marks"),
    ];
    let mut rules: Vec<Rule> = matches
        .into_iter()
        .map(|it| rule([it, Statement::Counter, Verdict::Continue.into()]))
        .collect();
    rules.push(rule([Statement::vmap([Field::Protocol, Field::Mark], "verdicts")]));
    rules.push(rule([
        Statement::is(Field::IpSource, "192.0.2.1".parse::<Ipv4Addr>().unwrap()),
        Statement::is(tcp, Value::Port(80)),
        within(Field::IpDestination, "192.0.2.0/24"),
        Statement::SetMark { mask: u32::MAX, value: 0x2000 },
        Statement::SetMark { mask: 0x2000, value: 0x2000 },
        Statement::SetMark { mask: 0x2000, value: 0 },
        Statement::SetMark { mask: 0x6000, value: 0x2000 },
        Verdict::Goto("other".to_owned()).into(),
    ]));
    rules.push(commented(rule([Verdict::Jump("other".to_owned()).into()]), "see there"));
    let nat = |kind, address: &str, port| {
        let to = NatTarget::Address(address.parse::<IpAddr>().unwrap(), port);
        Statement::Nat(Nat { kind, to })
    };
    let is = |number| Statement::is(Field::Protocol, Value::Protocol(number));
    let v6_only = Statement::is(Field::NetworkFamily, Value::NetworkFamily(10));
    let interval = SetFlags { interval: true, ..SetFlags::default() };
    let between =
        |first: &Value, last: &Value| Key::Interval(vec![first.clone()], vec![last.clone()]);
    vec![
        net::nft::Table {
            comment: Some("all of it".to_owned()),
            ..net::nft::Table::new(table.clone())
        }
        .into(),
        frames.clone().into(),
        Set { flags: interval, ..set(&table, "nets", &[KeyType::Ipv4Addr], None) }.into(),
        Set { flags: interval, ..set(&table, "nets6", &[KeyType::Ipv6Addr], None) }.into(),
        set(&table, "pairs", &[KeyType::Ipv4Addr, KeyType::Ifname], None).into(),
        Set {
            flags: interval,
            ..set(&table, "ranges", &[KeyType::Ipv4Addr, KeyType::InetService], None)
        }
        .into(),
        set(&table, "marks", &[KeyType::Mark], None).into(),
        Set {
            flags: SetFlags { dynamic: true, timeout: true, ..SetFlags::default() },
            ..set(&table, "seen", &[KeyType::Ipv4Addr], None)
        }
        .into(),
        set(&table, "to_mark", &[KeyType::EtherAddr], Some(MapValue::Data(vec![KeyType::Mark])))
            .into(),
        set(&table, "verdicts", &[KeyType::InetProto, KeyType::Mark], Some(MapValue::Verdict))
            .into(),
        chain(&table, "other", None, vec![rule([Verdict::Return.into()])]),
        chain(&table, "input", hook(ChainKind::Filter, Hook::Input, 5), rules),
        chain(
            &table,
            "raw",
            hook(ChainKind::Filter, Hook::Prerouting, priority::RAW),
            vec![rule([Statement::is(Field::InputName, ifname("podwire0")), Statement::NoTrack])],
        ),
        chain(
            &table,
            "in",
            hook(ChainKind::Nat, Hook::Prerouting, priority::DSTNAT),
            vec![
                rule([
                    Statement::is(tcp, Value::Port(80)),
                    nat(NatKind::Dnat, "10.1.0.2", Some(8080)),
                ]),
                rule([v6_only.clone(), is(6), nat(NatKind::Dnat, "fd00::2", Some(8080))]),
                rule([v6_only, nat(NatKind::Dnat, "fd00::2", None)]),
                rule([is(17), Statement::Redirect { port: Some(5353) }]),
                rule([is(17), Statement::Redirect { port: None }]),
            ],
        ),
        chain(
            &table,
            "out",
            hook(ChainKind::Nat, Hook::Postrouting, priority::SRCNAT),
            vec![rule([nat(NatKind::Snat, "192.0.2.1", None)])],
        ),
        chain(
            &table,
            "late",
            Some(Base {
                kind: ChainKind::Route,
                hook: Hook::Output,
                priority: -150,
                policy: Policy::Drop,
                devices: Vec::new(),
            }),
            vec![],
        ),
        chain(
            &frames,
            "forward",
            hook(ChainKind::Filter, Hook::Forward, priority::FILTER),
            vec![
                rule([within(Field::IpSource, "10.1.0.0/16"), Verdict::Accept.into()]),
                rule([within(Field::Ip6Source, "fd00::/64"), Verdict::Accept.into()]),
                rule([
                    Statement::is(Field::EtherType, Value::EtherType(0x0806)),
                    Verdict::Drop.into(),
                ]),
            ],
        ),
        element(&table, "nets", Key::from("10.0.0.0/8".parse::<ipnet::IpNet>().unwrap()), None)
            .into(),
        element(&table, "nets", between(&v4("11.0.0.0"), &v4("11.0.0.0")), None).into(),
        Element {
            comment: Some("odd".to_owned()),
            ..element(&table, "nets", between(&v4("192.0.2.3"), &v4("192.0.2.10")), None)
        }
        .into(),
        element(&table, "nets", between(&v4("240.0.0.0"), &v4("255.255.255.255")), None).into(),
        element(&table, "nets6", between(&v6("fd00::"), &v6("fd00::ffff")), None).into(),
        element(&table, "pairs", Key::Point(vec![v4("10.1.0.2"), ifname("eth0")]), None).into(),
        element(
            &table,
            "ranges",
            Key::Interval(
                vec![v4("10.0.0.0"), Value::Port(80)],
                vec![v4("10.0.255.255"), Value::Port(90)],
            ),
            None,
        )
        .into(),
        element(&table, "marks", Key::Point(vec![Value::Mark(0x4000)]), None).into(),
        element(
            &table,
            "to_mark",
            Key::Point(vec![Value::Ether("0a:58:0a:01:00:02".parse().unwrap())]),
            Some(Mapped::Data(vec![Value::Mark(7)])),
        )
        .into(),
        element(
            &table,
            "verdicts",
            Key::Point(vec![Value::Protocol(6), Value::Mark(1)]),
            Some(Mapped::Verdict(Verdict::Goto("other".to_owned()))),
        )
        .into(),
        element(&table, "verdicts", Key::Rest, Some(Mapped::Verdict(Verdict::Accept))).into(),
    ]
}
