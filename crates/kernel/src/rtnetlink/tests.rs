//! An independent decoder reads every message that is written here.

use net::{Address, Encap, Link, LinkName, Mac, Neighbour, Peer, Route, Rule, Scope, Space};
use net::{Vni, Vxlan, VxlanForm};
use netlink_packet_core::ParseableParametrized;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkInfo,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourState};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteLwEnCapType, RouteMetric};
use netlink_packet_route::rule::RuleAttribute;

use super::{address, link, neighbour, route, rtm, rule, vni};

fn decode(kind: u16, payload: &[u8]) -> Message {
    Message::parse_with_param(payload, kind).expect("the oracle reads what was written")
}

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

#[test]
fn a_veth_carries_both_ends() {
    let peer = Peer {
        space: Space::Here,
        name: name("eth0"),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        mtu: Some(1400),
    };
    let veth = Link { mtu: Some(1400), ..Link::veth(name("veth0"), peer).up() };
    let resolved = link::Resolved { master: Some(7), ..Default::default() };
    let Message::NewLink(message) = decode(rtm::NEWLINK, &link::request(&veth, resolved)) else {
        panic!("not a link");
    };
    assert_eq!(message.header.flags.bits() & 1, 1);
    assert!(message.attributes.contains(&LinkAttribute::IfName("veth0".into())));
    assert!(message.attributes.contains(&LinkAttribute::Mtu(1400)));
    assert!(message.attributes.contains(&LinkAttribute::Controller(7)));
    let info = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => Some(info),
        _ => None,
    });
    let [LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(data))] = &info.unwrap()[..]
    else {
        panic!("not a veth: {info:?}");
    };
    let InfoVeth::Peer(peer) = data else { panic!("no peer: {data:?}") };
    assert!(peer.attributes.contains(&LinkAttribute::IfName("eth0".into())));
    assert!(peer.attributes.contains(&LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1])));
}

#[test]
fn addresses_have_their_broadcast() {
    let wanted = Address::new(name("eth0"), "10.1.2.3/24".parse().unwrap());
    let Message::NewAddress(message) = decode(rtm::NEWADDR, &address::request(&wanted, 9)) else {
        panic!("not an address");
    };
    assert_eq!((message.header.index, message.header.prefix_len), (9, 24));
    for attribute in [
        AddressAttribute::Local("10.1.2.3".parse().unwrap()),
        AddressAttribute::Address("10.1.2.3".parse().unwrap()),
        AddressAttribute::Broadcast("10.1.2.255".parse().unwrap()),
    ] {
        assert!(message.attributes.contains(&attribute), "{attribute:?}");
    }
}

#[test]
fn routes_have_all_they_ask_for() {
    let mut wanted = Route::new("10.2.0.0/16".parse().unwrap());
    wanted.gateway = Some("fd00::1".parse().unwrap());
    wanted.metric = Some(5);
    wanted.table = 1000;
    wanted.mtu = Some(1400);
    wanted.scope = Some(Scope::Link);
    let Message::NewRoute(message) = decode(rtm::NEWROUTE, &route::request(&wanted, 3)) else {
        panic!("not a route");
    };
    assert_eq!(message.header.destination_prefix_length, 16);
    for attribute in [
        RouteAttribute::Oif(3),
        RouteAttribute::Priority(5),
        RouteAttribute::Table(1000),
        RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]),
    ] {
        assert!(message.attributes.contains(&attribute), "{attribute:?}");
    }
    assert!(message.attributes.iter().any(|a| matches!(a, RouteAttribute::Via(_))));
    let read = route::parse(&route::request(&wanted, 3)).unwrap();
    assert_eq!((read.destination, read.table, read.mtu), (wanted.destination, 1000, Some(1400)));
    assert_eq!(read.hops[0].gateway, wanted.gateway);
}

#[test]
fn a_route_says_where_it_tunnels_to() {
    for (to, kind) in [("192.0.2.2", RouteLwEnCapType::Ip), ("fd00::2", RouteLwEnCapType::Ip6)] {
        let mut wanted = Route::new("10.2.0.0/24".parse().unwrap());
        let encap = Encap { vni: 7, to: to.parse().unwrap(), checksum: to.contains(':') };
        wanted.encap = Some(encap);
        wanted.gateway = Some("10.2.0.0".parse().unwrap());
        wanted.onlink = true;
        let bytes = route::request(&wanted, 3);
        let Message::NewRoute(message) = decode(rtm::NEWROUTE, &bytes) else {
            panic!("not a route");
        };
        assert!(message.header.flags.contains(RouteFlags::Onlink));
        assert!(message.attributes.contains(&RouteAttribute::EncapType(kind)));
        let read = route::parse(&bytes).unwrap();
        assert_eq!((read.encap, read.onlink), (Some(encap), true));
    }
}

#[test]
fn a_tunnel_end_says_how_it_finds_the_others() {
    let data = |form| {
        let end = Link::vxlan(name("vx0"), Vxlan { port: 8472, form });
        let bytes = link::request(&end, link::Resolved { underlay: Some(5), ..Default::default() });
        let Message::NewLink(message) = decode(rtm::NEWLINK, &bytes) else { panic!("not a link") };
        let info = message.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(info) => Some(info),
            _ => None,
        });
        match info.unwrap().remove(1) {
            LinkInfo::Data(InfoData::Vxlan(data)) => data,
            other => panic!("not a tunnel end: {other:?}"),
        }
    };
    let local = Some("192.0.2.1".parse().unwrap());
    let classic = data(VxlanForm::Classic { vni: 7, underlay: Some(name("eth0")), local });
    for attribute in [InfoVxlan::Id(7), InfoVxlan::Link(5), InfoVxlan::Port(8472)] {
        assert!(classic.contains(&attribute), "{attribute:?}");
    }
    let external = data(VxlanForm::External { gpe: true, filtered: true });
    for attribute in [InfoVxlan::CollectMetadata(true), InfoVxlan::Vnifilter(true), InfoVxlan::Gpe]
    {
        assert!(external.contains(&attribute), "{attribute:?} in {external:?}");
    }
}

#[test]
fn networks_of_a_tunnel_end_are_read_back() {
    let bytes = vni::request(&Vni { link: name("vx0"), vni: 7 }, 3);
    assert_eq!(vni::parse(&bytes), Some(vec![(3, 7)]));
}

#[test]
fn rules_and_neighbours_are_read_back() {
    let wanted = Rule {
        priority: 1000,
        v6: true,
        fwmark: Some((0, 0x0070_0000)),
        from: Some("fd00::/64".parse().unwrap()),
        to: None,
        table: 112,
        protocol: 112,
    };
    let Message::NewRule(message) = decode(rtm::NEWRULE, &rule::request(&wanted)) else {
        panic!("not a rule");
    };
    assert!(message.attributes.contains(&RuleAttribute::Priority(1000)));
    assert!(message.attributes.contains(&RuleAttribute::Table(112)));
    assert_eq!(rule::parse(&rule::request(&wanted)).and_then(|it| it.object()), Some(wanted));

    let wanted = Neighbour {
        link: name("eth0"),
        address: "10.0.0.1".parse().unwrap(),
        mac: Mac([2; 6]),
        protocol: 112,
    };
    let bytes = neighbour::request(&wanted, 4);
    let Message::NewNeighbour(message) = decode(rtm::NEWNEIGH, &bytes) else {
        panic!("not a neighbour");
    };
    assert_eq!((message.header.ifindex, message.header.state), (4, NeighbourState::Permanent));
    assert!(message.attributes.contains(&NeighbourAttribute::LinkLayerAddress(vec![2; 6])));
    let read = neighbour::parse(&bytes).unwrap();
    assert_eq!(
        (read.address, read.mac, read.permanent),
        (Some(wanted.address), Some(Mac([2; 6])), true)
    );
}

#[test]
fn what_is_cut_off_or_unknown_does_no_harm() {
    let whole = route::request(&Route::new("10.0.0.0/8".parse().unwrap()), 1);
    for length in 0..whole.len() {
        let _ = route::parse(&whole[..length]);
        let _ = link::parse(&whole[..length]);
        let _ = address::parse(&whole[..length]);
        let _ = neighbour::parse(&whole[..length]);
        let _ = rule::parse(&whole[..length]);
        let _ = vni::parse(&whole[..length]);
    }
    let odd = [&whole[..], &[8, 0, 0xff, 0x3f, 1, 2, 3, 4], &[0xff; 7]].concat();
    assert_eq!(route::parse(&odd), route::parse(&whole));
}
