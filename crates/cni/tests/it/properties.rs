use std::net::IpAddr;

use cni::{CniResult, Dns, Environment, Interface, IpConfig, Route, Version, fields, json};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Fake, start};

fn ip() -> impl Strategy<Value = IpAddr> {
    // An IPv4-mapped address is read as the IPv4 address, so it is not printed either.
    any::<IpAddr>().prop_map(|ip| ip.to_canonical())
}

fn net() -> impl Strategy<Value = IpNet> {
    (ip(), 0..=128_u8).prop_map(|(ip, prefix)| {
        IpNet::new(ip, if ip.is_ipv4() { prefix % 33 } else { prefix }).unwrap()
    })
}

fn interface() -> impl Strategy<Value = Interface> {
    let texts =
        (any::<String>(), any::<String>(), any::<String>(), any::<String>(), any::<String>());
    (texts, any::<u32>()).prop_map(|((name, mac, sandbox, socket_path, pci_id), mtu)| Interface {
        name,
        mac,
        mtu,
        sandbox,
        socket_path,
        pci_id,
    })
}

fn address() -> impl Strategy<Value = IpConfig> {
    (option::of(any::<usize>()), net(), option::of(ip()))
        .prop_map(|(interface, address, gateway)| IpConfig { interface, address, gateway })
}

fn route() -> impl Strategy<Value = Route> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u32>());
    (net(), option::of(ip()), numbers, option::of(any::<u32>()), option::of(any::<u8>())).prop_map(
        |(dst, gw, (mtu, advmss, priority), table, scope)| Route {
            dst,
            gw,
            mtu,
            advmss,
            priority,
            table,
            scope,
        },
    )
}

fn dns() -> impl Strategy<Value = Dns> {
    let texts = || vec(any::<String>(), 0..3);
    (texts(), any::<String>(), texts(), texts()).prop_map(
        |(nameservers, domain, search, options)| Dns { nameservers, domain, search, options },
    )
}

fn result() -> impl Strategy<Value = CniResult> {
    (vec(interface(), 0..3), vec(address(), 0..4), vec(route(), 0..4), dns())
        .prop_map(|(interfaces, ips, routes, dns)| CniResult { interfaces, ips, routes, dns })
}

fn printed(result: &CniResult, version: Version) -> Option<CniResult> {
    let text = result.to_json(version).ok()?;
    Some(CniResult::parse(&json::parse(text.as_bytes()).unwrap(), "").unwrap())
}

/// Anything, but often what a plugin is really given.
fn variable(likely: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    let likely = proptest::sample::select(likely).prop_map(str::to_owned);
    option::of(prop_oneof![4 => likely, 1 => any::<String>()])
}

fn environment() -> impl Strategy<Value = Environment> {
    (
        variable(&["ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION"]),
        variable(&["one"]),
        variable(&["/n"]),
        variable(&["eth0"]),
        variable(&["IgnoreUnknown=1"]),
        variable(&["/bin"]),
        variable(&["1"]),
    )
        .prop_map(|(command, container_id, netns, ifname, args, path, netns_override)| {
            Environment { command, container_id, netns, ifname, args, path, netns_override }
        })
}

fn stdin() -> impl Strategy<Value = Vec<u8>> {
    let members = vec(
        (
            proptest::sample::select(vec![
                "name",
                "Name",
                "cniVersion",
                "ipam",
                "dns",
                "prevResult",
                "args",
                "cni.dev/valid-attachments",
                "cni.dev/attachments",
            ]),
            proptest::sample::select(vec![
                "null",
                "1",
                "\"a\"",
                "\"1.1.0\"",
                "\"9.9\"",
                "{}",
                "[]",
                "[{}]",
                "{\"type\":\"x\"}",
                "[null]",
            ]),
        ),
        0..5,
    );
    let config = members.prop_map(|members| {
        let members: Vec<_> =
            members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{\"name\":\"a\",\"cniVersion\":\"1.1.0\",{}\"x\":1}}", members.join(",") + ",")
            .replace(",,", ",")
            .into_bytes()
    });
    prop_oneof![3 => config, 1 => vec(any::<u8>(), 0..64)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_newest_versions_keep_everything(result in result()) {
        for version in [Version::V1_0_0, Version::V1_1_0] {
            prop_assert_eq!(printed(&result, version), Some(result.clone()));
        }
    }

    #[test]
    fn what_a_version_keeps_it_keeps_for_ever(result in result()) {
        for version in Version::ALL {
            let kept = printed(&result, version);
            prop_assert_eq!(kept.is_some(), version.can_express(!result.ips.is_empty()));
            let Some(kept) = kept else { continue };
            for newer in Version::ALL.into_iter().filter(|newer| *newer >= version) {
                prop_assert_eq!(printed(&kept, newer), Some(kept.clone()));
            }
        }
    }

    #[test]
    fn any_start_is_answered(environment in environment(), stdin in stdin()) {
        let (stdout, _, code) = start(&Fake::default(), &environment, &stdin);
        prop_assert!(code <= 1);
        if code == 1 {
            let error: cni::Error = serde_json::from_str(&stdout).unwrap();
            prop_assert!(!error.msg.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..64), text in any::<String>()) {
        if let Ok(value) = json::parse(&bytes) {
            let _ = CniResult::parse(&value, &text);
        }
        let _ = cni::args::Args::parse(&text, &["MAC"]);
        let _ = text.parse::<Version>();
        let _ = text.parse::<fields::Mac>();
        let _ = text.parse::<fields::Cidr>();
    }

    #[test]
    fn addresses_read_what_they_print(ip in ip(), net in net(), mac in any::<[u8; 6]>()) {
        prop_assert_eq!(fields::Ip(ip).to_string().parse(), Ok(fields::Ip(ip)));
        prop_assert_eq!(fields::Cidr(net).to_string().parse(), Ok(fields::Cidr(net)));
        prop_assert_eq!(fields::Mac(mac).to_string().parse(), Ok(fields::Mac(mac)));
    }

    #[test]
    fn names_fit(network in any::<String>(), ifname in any::<String>(), id in any::<String>()) {
        prop_assert_eq!(cni::hash::chain_name(&network, &id).len(), 28);
        prop_assert!(cni::hash::comment(&network, &ifname, &id).len() <= 128);
    }
}
