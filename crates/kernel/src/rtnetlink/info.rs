//! `IFLA_INFO_DATA` of the kinds of devices that are told about more closely than by their name
//! (include/uapi/linux/if_link.h, if_tunnel.h).

use std::net::IpAddr;

use super::{ip, u32_of};
use crate::attribute::iterate;
use crate::dump::{Bridge, LinkInfo, Tunnel, Vlan};

/// Reads it; `None` for kinds that have none, or that nothing is known of.
pub(super) fn parse(kind: &str, data: &[u8]) -> Option<LinkInfo> {
    Some(match kind {
        "bridge" => LinkInfo::Bridge(bridge(data)),
        "vlan" => LinkInfo::Vlan(vlan(data)),
        "macvlan" | "macvtap" => macvlan(data),
        "ipvlan" | "ipvtap" => ipvlan(data),
        "bond" => bond(data),
        "tun" => tun(data),
        "geneve" => geneve(data),
        "ipip" | "sit" | "ip6tnl" => LinkInfo::Tunnel(iptunnel(data)),
        "gre" | "gretap" | "ip6gre" | "ip6gretap" => LinkInfo::Tunnel(gre(data)),
        "vrf" => LinkInfo::Vrf { table: first(data, 1).and_then(u32_of)? },
        "netkit" => netkit(data),
        _ => return None,
    })
}

/// The value of one attribute.
fn first(data: &[u8], wanted: u16) -> Option<&[u8]> {
    iterate(data).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn byte(value: &[u8]) -> u8 {
    value.first().copied().unwrap_or_default()
}

fn number(value: &[u8]) -> u32 {
    match value {
        [one] => u32::from(*one),
        [a, b] => u32::from(u16::from_ne_bytes([*a, *b])),
        value => u32_of(value).unwrap_or_default(),
    }
}

fn short(value: &[u8]) -> u16 {
    u16::try_from(number(value)).unwrap_or_default()
}

/// A number in network byte order.
fn short_be(value: &[u8]) -> u16 {
    value.try_into().map(u16::from_be_bytes).unwrap_or_default()
}

/// An address that is one.
fn address(value: &[u8]) -> Option<IpAddr> {
    ip(value).filter(|it| !it.is_unspecified())
}

/// The name of a number; a number that has none stands for itself.
fn name(names: &[(u32, &str)], number: u32) -> String {
    let known = names.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

/// `IFLA_BR_*`.
fn bridge(data: &[u8]) -> Bridge {
    let mut read = Bridge::default();
    for (kind, value) in iterate(data) {
        match kind {
            1 => read.forward_delay = number(value),
            4 => read.ageing_time = number(value),
            5 => read.stp_state = number(value),
            6 => read.priority = short(value),
            7 => read.vlan_filtering = byte(value) != 0,
            9 => read.group_fwd_mask = short(value),
            23 => read.mcast_snooping = byte(value) != 0,
            36 => read.nf_call_iptables = byte(value) != 0,
            37 => read.nf_call_ip6tables = byte(value) != 0,
            38 => read.nf_call_arptables = byte(value) != 0,
            39 => read.vlan_default_pvid = short(value),
            _ => {}
        }
    }
    read
}

/// `IFLA_VLAN_*`.
fn vlan(data: &[u8]) -> Vlan {
    const PROTOCOLS: [(u32, &str); 2] = [(0x8100, "802.1Q"), (0x88a8, "802.1ad")];
    let mut read = Vlan { id: 0, protocol: "802.1Q".to_owned() };
    for (kind, value) in iterate(data) {
        match kind {
            1 => read.id = short(value),
            5 => read.protocol = name(&PROTOCOLS, short_be(value).into()),
            _ => {}
        }
    }
    read
}

/// `IFLA_MACVLAN_MODE`.
fn macvlan(data: &[u8]) -> LinkInfo {
    const MODES: [(u32, &str); 5] =
        [(1, "private"), (2, "vepa"), (4, "bridge"), (8, "passthru"), (16, "source")];
    LinkInfo::Macvlan { mode: name(&MODES, first(data, 1).map(number).unwrap_or_default()) }
}

/// `IFLA_IPVLAN_*`.
fn ipvlan(data: &[u8]) -> LinkInfo {
    const MODES: [(u32, &str); 3] = [(0, "l2"), (1, "l3"), (2, "l3s")];
    const FLAGS: [(u32, &str); 3] = [(0, "bridge"), (1, "private"), (2, "vepa")];
    let of = |kind| first(data, kind).map(number).unwrap_or_default();
    LinkInfo::Ipvlan { mode: name(&MODES, of(1)), flags: name(&FLAGS, of(2)) }
}

/// `IFLA_BOND_*`.
fn bond(data: &[u8]) -> LinkInfo {
    const MODES: [(u32, &str); 7] = [
        (0, "balance-rr"),
        (1, "active-backup"),
        (2, "balance-xor"),
        (3, "broadcast"),
        (4, "802.3ad"),
        (5, "balance-tlb"),
        (6, "balance-alb"),
    ];
    let of = |kind| first(data, kind).map(number);
    LinkInfo::Bond {
        mode: name(&MODES, of(1).unwrap_or_default()),
        active_slave: of(2).filter(|index| *index != 0),
        miimon: of(3).unwrap_or_default(),
    }
}

/// `IFLA_TUN_*`.
fn tun(data: &[u8]) -> LinkInfo {
    const KINDS: [(u32, &str); 2] = [(1, "tun"), (2, "tap")];
    let of = |kind| first(data, kind).map(number).unwrap_or_default();
    LinkInfo::Tun { kind: name(&KINDS, of(3)), persist: of(6) != 0, multi_queue: of(7) != 0 }
}

/// `IFLA_GENEVE_*`.
fn geneve(data: &[u8]) -> LinkInfo {
    let remote = first(data, 2).or_else(|| first(data, 7)).and_then(address);
    LinkInfo::Geneve {
        id: first(data, 1).map(number).unwrap_or_default(),
        remote,
        port: first(data, 5).map(short_be).unwrap_or_default(),
        external: first(data, 6).is_some(),
    }
}

/// `IFLA_IPTUN_*`.
fn iptunnel(data: &[u8]) -> Tunnel {
    let mut read = Tunnel::default();
    for (kind, value) in iterate(data) {
        match kind {
            1 => read.link = u32_of(value).filter(|index| *index != 0),
            2 => read.local = address(value),
            3 => read.remote = address(value),
            4 => read.ttl = byte(value),
            19 => read.external = true,
            _ => {}
        }
    }
    read
}

/// `IFLA_GRE_*`.
fn gre(data: &[u8]) -> Tunnel {
    /// `GRE_KEY`.
    const WITH_KEY: u16 = 0x2000;
    let mut read = Tunnel::default();
    let (mut in_flags, mut out_flags) = (0, 0);
    for (kind, value) in iterate(data) {
        let key = || value.try_into().ok().map(u32::from_be_bytes);
        match kind {
            1 => read.link = u32_of(value).filter(|index| *index != 0),
            2 => in_flags = short_be(value),
            3 => out_flags = short_be(value),
            4 => read.ikey = key(),
            5 => read.okey = key(),
            6 => read.local = address(value),
            7 => read.remote = address(value),
            8 => read.ttl = byte(value),
            18 => read.external = true,
            _ => {}
        }
    }
    // The attributes are always there.
    read.ikey = read.ikey.filter(|_| in_flags & WITH_KEY != 0);
    read.okey = read.okey.filter(|_| out_flags & WITH_KEY != 0);
    read
}

/// `IFLA_NETKIT_*`.
fn netkit(data: &[u8]) -> LinkInfo {
    const MODES: [(u32, &str); 2] = [(0, "l2"), (1, "l3")];
    const POLICIES: [(u32, &str); 2] = [(0, "forward"), (2, "blackhole")];
    let of = |kind| first(data, kind).map(number).unwrap_or_default();
    LinkInfo::Netkit {
        mode: name(&MODES, of(5)),
        primary: of(2) != 0,
        policy: name(&POLICIES, of(3)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::Writer;

    /// The attributes of kinds that not every kernel has, as the kernel's `fill_info` writes them.
    fn data(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::default();
        for (kind, value) in attributes {
            writer.put(*kind, value);
        }
        writer.bytes().to_vec()
    }

    #[test]
    fn kinds_that_this_kernel_may_lack_are_understood() {
        let vlan = data(&[(1, &100u16.to_ne_bytes()), (5, &0x88a8u16.to_be_bytes())]);
        let expected = Vlan { id: 100, protocol: "802.1ad".to_owned() };
        assert_eq!(parse("vlan", &vlan), Some(LinkInfo::Vlan(expected)));
        let ipvlan = data(&[(1, &2u16.to_ne_bytes()), (2, &1u16.to_ne_bytes())]);
        let expected = LinkInfo::Ipvlan { mode: "l3s".into(), flags: "private".into() };
        assert_eq!(parse("ipvlan", &ipvlan), Some(expected));
        let vrf = data(&[(1, &1001u32.to_ne_bytes())]);
        assert_eq!(parse("vrf", &vrf), Some(LinkInfo::Vrf { table: 1001 }));
        let bond = data(&[(1, &[1]), (2, &7u32.to_ne_bytes()), (3, &100u32.to_ne_bytes())]);
        let expected =
            LinkInfo::Bond { mode: "active-backup".into(), active_slave: Some(7), miimon: 100 };
        assert_eq!(parse("bond", &bond), Some(expected));
        let tun = data(&[(3, &[2]), (6, &[1]), (7, &[0])]);
        let expected = LinkInfo::Tun { kind: "tap".into(), persist: true, multi_queue: false };
        assert_eq!(parse("tun", &tun), Some(expected));
        let geneve = data(&[(1, &9u32.to_ne_bytes()), (2, &[192, 0, 2, 1]), (5, &[0x17, 0xc1])]);
        let remote = Some([192, 0, 2, 1].into());
        let expected = LinkInfo::Geneve { id: 9, remote, port: 6081, external: false };
        assert_eq!(parse("geneve", &geneve), Some(expected));
        let ipip =
            data(&[(1, &3u32.to_ne_bytes()), (2, &[192, 0, 2, 1]), (3, &[0; 4]), (4, &[64])]);
        let expected = Tunnel { local: remote, link: Some(3), ttl: 64, ..Tunnel::default() };
        assert_eq!(parse("ipip", &ipip), Some(LinkInfo::Tunnel(expected)));
        let keys = [(2, &[0x20, 0][..]), (3, &[0, 0]), (4, &[0, 0, 0, 5]), (5, &[0; 4])];
        let expected = Tunnel { ikey: Some(5), ..Tunnel::default() };
        assert_eq!(parse("gre", &data(&keys)), Some(LinkInfo::Tunnel(expected)));
        let netkit = data(&[(2, &[1]), (3, &0u32.to_ne_bytes()), (5, &1u32.to_ne_bytes())]);
        let expected =
            LinkInfo::Netkit { mode: "l3".into(), primary: true, policy: "forward".into() };
        assert_eq!(parse("netkit", &netkit), Some(expected));
        let macvlan = data(&[(1, &3u32.to_ne_bytes())]);
        assert_eq!(parse("macvlan", &macvlan), Some(LinkInfo::Macvlan { mode: "3".into() }));
    }

    #[test]
    fn odd_attributes_and_unknown_kinds_are_passed_over() {
        for kind in ["bridge", "vlan", "bond", "gre", "ipip", "geneve", "tun", "netkit", "ipvlan"] {
            for kinds in 0..45 {
                parse(kind, &data(&[(kinds, &[]), (kinds, &[1, 2, 3]), (kinds, &[255; 40])]));
            }
        }
        assert_eq!(parse("vrf", &[]), None);
        assert_eq!(parse("wireguard", &[1, 2, 3]), None);
    }
}
