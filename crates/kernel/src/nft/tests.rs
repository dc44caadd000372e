//! Emitting and parsing, lowering and raising take each other back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use net::nft::{
    CtState, Expression, Family, Field, KeyType, NatTarget, Statement, Test, Transport, Value,
    Verdict,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::expression::{Expr, Register};
use super::field::FIELDS;
use super::lower::lower;
use super::raise::raise;
use super::uapi::expr;
use super::value;
use crate::attribute::Writer;
use crate::error::{Error, ErrorKind};

fn emitted(expressions: &[Expr]) -> Vec<Vec<u8>> {
    let bytes = |expression: &Expr| {
        let mut w = Writer::default();
        expression.emit(&mut w);
        w.bytes().to_vec()
    };
    expressions.iter().map(bytes).collect()
}

fn any_register() -> impl Strategy<Value = Register> {
    // Mostly where a single value lies, so that statements are recognised.
    let behind = |length| Register::FIRST.after(length).unwrap();
    prop_oneof![4 => Just(Register::FIRST), 1 => (0..60usize).prop_map(behind)]
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let length = select(vec![1usize, 2, 3, 4, 6, 8, 16]);
    length.prop_flat_map(|length| vec(select(vec![0u8, 1, 2, 6, 10, 0x61, 0xff]), length))
}

fn any_name() -> impl Strategy<Value = String> {
    "[a-z]{1,8}"
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Continue),
        Just(Verdict::Return),
        any_name().prop_map(Verdict::Jump),
        any_name().prop_map(Verdict::Goto),
    ]
}

/// Expressions as foreign rules may have them, often such that several make a statement.
fn any_expr() -> impl Strategy<Value = Expr> {
    let load = (select(FIELDS.to_vec()), any_register())
        .prop_map(|(field, to)| super::field::load(field, to));
    let payload = (0..3u32, 0..30u32, 1..17u32, any_register())
        .prop_map(|(base, offset, length, to)| Expr::Payload { base, offset, length, to });
    let cmp = (any_register(), 0..6u32, any_bytes()).prop_map(|(register, op, value)| Expr::Cmp {
        register,
        op,
        value,
    });
    let range = (any_register(), 0..2u32, any_bytes(), any_bytes())
        .prop_map(|(register, op, first, last)| Expr::Range { register, op, first, last });
    let bitwise =
        (any_register(), any_bytes(), any::<bool>()).prop_map(|(register, mask, zero)| {
            let xor = vec![u8::from(!zero); mask.len()];
            Expr::Bitwise { register, mask, xor }
        });
    let lookup = (any_register(), any_name(), any::<bool>())
        .prop_map(|(register, set, inverted)| Expr::Lookup { register, set, inverted });
    let map = (any_register(), any_name(), any_register())
        .prop_map(|(register, map, to)| Expr::Map { register, map, to });
    let verdict_map =
        (any_register(), any_name()).prop_map(|(register, map)| Expr::VerdictMap { register, map });
    let immediate =
        (any_register(), any_bytes()).prop_map(|(to, value)| Expr::Immediate { to, value });
    let nat = (0..3u32, select(vec![2u32, 10, 7]), any_register(), option::of(any_register()))
        .prop_map(|(kind, family, address, port)| Expr::Nat { kind, family, address, port });
    let other = (
        any_name(),
        any_bytes().prop_map(|value| {
            let mut w = Writer::default();
            w.put(1, &value);
            w.bytes().to_vec()
        }),
    );
    prop_oneof![
        8 => load,
        1 => payload,
        6 => cmp,
        1 => range,
        2 => bitwise,
        1 => lookup,
        1 => map,
        1 => verdict_map,
        3 => immediate,
        1 => any_verdict().prop_map(Expr::Verdict),
        2 => nat,
        1 => select(vec![0u32, 4, 0x10]).prop_map(|flags| Expr::Masquerade { flags }),
        1 => option::of(any_register()).prop_map(|port| Expr::Redirect { port }),
        1 => any_register().prop_map(|from| Expr::SetMeta { key: expr::META_MARK, from }),
        1 => Just(Expr::Counter),
        1 => Just(Expr::NoTrack),
        1 => other.prop_map(|(name, data)| Expr::Other(Expression { name: format!("x{name}"), data })),
    ]
}

fn any_family() -> impl Strategy<Value = Family> {
    select(vec![Family::Inet, Family::Ip, Family::Ip6, Family::Bridge, Family::Netdev, Family::Arp])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn what_is_emitted_is_parsed(expression in any_expr()) {
        let bytes = emitted(std::slice::from_ref(&expression)).concat();
        prop_assert_eq!(Expr::parse(&bytes), expression);
    }

    #[test]
    fn no_bytes_are_too_strange_to_parse(bytes in vec(any::<u8>(), 0..64), name in any_name()) {
        let mut w = Writer::default();
        w.put_str(expr::NAME, &name).put(expr::DATA, &bytes);
        let parsed = Expr::parse(w.bytes());
        raise(Family::Inet, &[parsed]);
        raise(Family::Inet, &[Expr::parse(&bytes)]);
    }

    #[test]
    fn what_is_raised_is_lowered_again(
        family in any_family(),
        expressions in vec(any_expr(), 0..12),
    ) {
        let raised = raise(family, &expressions);
        let lowered = lower(family, &raised).map_err(TestCaseError::fail)?;
        // iptables compares names up to their closing zero, podwire whole ones.
        prop_assume!(!expressions.iter().any(is_shortened_name));
        prop_assert_eq!(emitted(&lowered), emitted(&expressions), "{:?}", raised);
    }
}

fn is_shortened_name(expression: &Expr) -> bool {
    matches!(expression, Expr::Cmp { value, .. }
        if value.len() < value::NAME_LENGTH && value.ends_with(b"\0"))
}

fn text(statements: &[Statement]) -> String {
    statements.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn v4(last: u8) -> Value {
    Ipv4Addr::new(10, 0, 0, last).into()
}

#[test]
fn checks_are_added_and_left_out_as_nft_does() {
    const TCP: Field = Field::DestinationPort(Transport::Tcp);
    let is_v4 = Statement::is(Field::NetworkFamily, Value::NetworkFamily(2));
    let is_tcp = Statement::is(Field::Protocol, Value::Protocol(6));
    let source = Statement::is(Field::IpSource, v4(1));
    let port = Statement::is(TCP, Value::Port(80));
    let pair = Statement::lookup([Field::IpDestination, TCP], "pairs");
    let accept = Statement::from(Verdict::Accept);
    let counter = Statement::Counter;
    let same = |family, statements: &[&Statement], lowered: usize| {
        let statements: Vec<_> = statements.iter().copied().cloned().collect();
        let expressions = lower(family, &statements).unwrap();
        assert_eq!(expressions.len(), lowered, "{}", text(&statements));
        raise(family, &expressions)
    };
    for (family, check) in [(Family::Inet, 2), (Family::Ip, 0), (Family::Bridge, 2)] {
        let rule = [&source, &port, &pair, &accept];
        // A load and a comparison each, a check of the address and one of the port, once.
        assert_eq!(same(family, &rule, 4 + check + 2 + 3 + 1), rule.map(Clone::clone));
    }
    let checks = [&is_v4, &is_tcp, &counter];
    assert_eq!(same(Family::Inet, &checks, 5), checks.map(Clone::clone));
    let first = [&is_v4, &port, &accept];
    assert_eq!(same(Family::Inet, &first, 7), first.map(Clone::clone));
    // A check that would be added anyway is not seen again.
    assert_eq!(
        text(&same(Family::Inet, &[&is_v4, &is_tcp, &port], 6)),
        "meta nfproto ipv4 tcp dport 80"
    );
    assert_eq!(
        text(&same(Family::Inet, &[&is_tcp, &counter, &port], 5)),
        "meta l4proto tcp counter tcp dport 80"
    );
    let any_port = Statement::is(Field::DestinationPort(Transport::Any), Value::Port(80));
    assert_eq!(text(&same(Family::Inet, &[&is_tcp, &any_port], 4)), "tcp dport 80");
    assert_eq!(text(&same(Family::Inet, &[&any_port], 2)), "th dport 80");
}

#[test]
fn nonsense_is_refused_with_a_reason() {
    let refusal = |field, test| {
        let statement = Statement::Match { field, negated: false, test };
        lower(Family::Inet, &[statement]).unwrap_err()
    };
    let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
    assert_eq!(
        refusal(Field::IpSource, Test::Is(v6.into())),
        "ip saddr is never ::1: it has another type"
    );
    assert_eq!(
        refusal(Field::IpSource, Test::Is(Value::Raw(vec![1]))),
        "ip saddr is never 0x01: it has another length"
    );
    let net: IpNet = "fd00::/64".parse().unwrap();
    assert_eq!(
        refusal(Field::IpSource, Test::Within(net)),
        "ip saddr is never fd00::: it has another type"
    );
    assert_eq!(
        refusal(Field::Mark, Test::Range(Value::Mark(1), Value::Mark(2))),
        "podwire writes no ranges of meta mark"
    );
    assert_eq!(refusal(Field::Mark, Test::Any(CtState::NEW.into())), "meta mark has no flags");
    assert_eq!(
        refusal(Field::Protocol, Test::Masked { mask: 1, value: 1 }),
        "meta l4proto is no mark"
    );
    assert_eq!(
        refusal(Field::Mark, Test::StartsWith("a".to_owned())),
        "meta mark has no beginning to compare with \"a\""
    );
    for name in ["", "sixteen-bytes-xx"] {
        let refused = refusal(Field::InputName, Test::StartsWith(name.to_owned()));
        assert_eq!(refused, format!("no device name begins with {name:?}"));
    }
    let key = vec![Field::Ip6Source; 5];
    let lookup = Statement::lookup(key, "set");
    assert_eq!(lower(Family::Inet, &[lookup]).unwrap_err(), "a key has at most 64 bytes");
    let nothing = Statement::vmap([], "map");
    assert_eq!(lower(Family::Inet, &[nothing]).unwrap_err(), "a look-up needs a field");
}

#[test]
fn destinations_of_all_kinds_survive() {
    for (address, port) in
        [("10.0.0.1", None), ("10.0.0.1", Some(80)), ("fd00::1", None), ("fd00::1", Some(80))]
    {
        let to = NatTarget::Address(address.parse().unwrap(), port);
        let nat = net::nft::Nat { kind: net::nft::NatKind::Dnat, to };
        let statements = [Statement::Nat(nat)];
        assert_eq!(raise(Family::Inet, &lower(Family::Inet, &statements).unwrap()), statements);
    }
}

#[test]
fn types_are_found_by_their_numbers() {
    use KeyType::{EtherAddr, Ifname, InetProto, InetService, Ipv4Addr};
    for (kinds, number, bytes) in [
        (vec![Ipv4Addr], 7, 4),
        (vec![Ifname, EtherAddr], 0xa49, 24),
        (vec![Ipv4Addr, InetProto, InetService], 0x730d, 12),
    ] {
        assert_eq!(value::number(&kinds), number);
        assert_eq!(value::types(number, bytes), kinds);
        assert_eq!(value::total_length(&kinds), bytes as usize);
        let odd = value::types(number, bytes + 4);
        assert_eq!(odd, [KeyType::Other { number, bytes: bytes + 4 }]);
        assert_eq!(value::number(&odd), number);
    }
    assert_eq!(value::types(5, 8), [KeyType::Other { number: 5, bytes: 8 }]);
    assert_eq!(value::types(0, 8), [KeyType::Other { number: 0, bytes: 8 }]);
}

#[test]
fn a_kernel_without_nftables_is_told_from_a_refusal() {
    for errno in [libc::EINVAL, libc::EOPNOTSUPP] {
        let error = super::unsupported(Error::errno("netlink request", errno, None));
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("CONFIG_NF_TABLES"), "{error}");
    }
    let error = super::unsupported(Error::errno("netlink request", libc::EPERM, None));
    assert_eq!(error.kind(), ErrorKind::Denied);
}
