//! Machines that are larger or odder than any that people run.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use diagnosis::{Code, Reference, Severity, explain, findings};
use net::nft::{
    Base, Chain, ChainKind, Family, Field, Hook, Policy, Rule, Statement, TableId, Verdict,
};
use topology::dump::{Address, Bridge, Dump, Hop, Link, LinkInfo, OperState, Route, RouteKind};
use topology::{Machine, Namespace, NetnsId, Node, Role};

/// What nobody would wait longer for; builds for tests are several times slower than others.
const PATIENCE: Duration = Duration::from_secs(30);

fn link(index: u32, name: &str, kind: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: kind.to_owned(),
        mtu: 1500,
        up: true,
        oper_state: OperState::Up,
        ..Link::default()
    }
}

fn address(index: u32, number: u32, length: u8) -> Address {
    let address = Ipv4Addr::from(0x0a00_0000 + number);
    Address {
        index,
        address: ipnet::IpNet::new(address.into(), length).unwrap(),
        broadcast: None,
        scope: net::Scope::Universe,
        nodad: false,
        tentative: false,
        dad_failed: false,
        dynamic: false,
        deprecated: false,
        peer: None,
        protocol: 0,
    }
}

fn route(number: u32) -> Route {
    let hop =
        Hop { gateway: Some(Ipv4Addr::new(10, 0, 0, 9).into()), index: Some(1), ..Hop::default() };
    let destination = IpAddr::from(Ipv4Addr::from(0x1400_0000 + number * 256));
    Route {
        destination: ipnet::IpNet::new(destination, 24).unwrap(),
        kind: RouteKind::Unicast,
        hops: vec![hop],
        hop_id: None,
        source: None,
        metric: None,
        table: net::MAIN_TABLE,
        protocol: 3,
        scope: net::Scope::Universe,
        mtu: None,
        advmss: None,
        onlink: false,
        features: None,
        encap: None,
    }
}

/// A node with a bridge and so many pods on it.
fn node(pods: u32) -> Machine {
    let id = |inode: u64| NetnsId { device: 4, inode };
    let mut links = BTreeMap::from([(1, link(1, "cni0", "bridge"))]);
    let mut known = BTreeMap::new();
    let mut namespaces = Vec::new();
    for pod in 0..pods {
        let near = pod + 10;
        let port = Link {
            master: Some(1),
            parent: Some(2),
            parent_netns: Some(pod as i32),
            ..link(near, &format!("veth{pod}"), "veth")
        };
        links.insert(near, port);
        known.insert(pod as i32, id(u64::from(pod) + 100));
        let own = Link { parent: Some(near), parent_netns: Some(0), ..link(2, "eth0", "veth") };
        namespaces.push(Namespace {
            name: format!("pod{pod}"),
            role: Role::Pod,
            node: Some("n".to_owned()),
            known: [(0, id(1))].into(),
            dump: Dump {
                links: [(2, own)].into(),
                addresses: vec![address(2, pod + 10, 16)],
                ..Dump::default()
            },
            ..Namespace::new(id(u64::from(pod) + 100))
        });
    }
    namespaces.insert(
        0,
        Namespace {
            name: "host".to_owned(),
            role: Role::Host,
            node: Some("n".to_owned()),
            known,
            dump: Dump { links, addresses: vec![address(1, 1, 16)], ..Dump::default() },
            ..Namespace::new(id(1))
        },
    );
    let node = Node {
        name: "n".to_owned(),
        lab: None,
        namespace: Some(id(1)),
        attachments: vec![],
        reservations: vec![],
        configurations: vec![],
    };
    Machine { nodes: vec![node], namespaces, ..Machine::default() }
}

fn explained(machine: &Machine) {
    let began = Instant::now();
    for wanted in ["pod/pod0", "node/n", "link/host:cni0"] {
        let wanted: Reference = wanted.parse().unwrap();
        assert!(!explain(machine, &wanted).unwrap().chapters.is_empty());
    }
    explain(machine, &Reference::Machine).unwrap();
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    println!("{:?}", began.elapsed());
}

#[test]
fn two_thousand_cables() {
    let machine = node(2_000);
    assert_eq!(findings(&machine), []);
    explained(&machine);
}

#[test]
fn a_hundred_thousand_routes() {
    let mut machine = node(50);
    machine.namespaces[0].dump.routes = (0..100_000).map(route).collect();
    explained(&machine);
}

#[test]
fn a_hundred_thousand_rules() {
    let mut machine = node(250);
    let rule = |number: u32| {
        let address = IpAddr::from(Ipv4Addr::from(0x1e00_0000 + number));
        Rule::new([Statement::is(Field::IpSource, address), Verdict::Drop.into()])
    };
    let chain = Chain {
        table: TableId::new(Family::Inet, "many"),
        name: "forward".to_owned(),
        base: Some(Base {
            kind: ChainKind::Filter,
            hook: Hook::Forward,
            priority: 0,
            policy: Policy::Accept,
            devices: vec![],
        }),
        rules: (0..100_000).map(rule).collect(),
    };
    machine.namespaces[0].dump.nft = vec![chain.into()];
    explained(&machine);
    // What was not followed to its end is said, and no drop is made up.
    let all = findings(&machine);
    assert!(all.iter().any(|finding| finding.text.contains("more rules than")), "{all:?}");
    assert!(all.iter().all(|finding| finding.severity == Severity::Unusual));
}

/// What decides where packets go, and is not read, is told of, and taken for neither right nor wrong.
#[test]
fn what_is_not_read_is_told() {
    let mut machine = node(2);
    assert_eq!(findings(&machine), []);
    let links = &mut machine.namespaces[0].dump.links;
    links.insert(5, link(5, "flannel-wg", "wireguard"));
    let bridge = Bridge { vlan_filtering: true, ..Bridge::default() };
    links.get_mut(&1).unwrap().info = Some(LinkInfo::Bridge(bridge));
    machine.namespaces[0].legacy_tables = vec!["filter".to_owned(), "nat".to_owned()];
    let all = findings(&machine);
    assert!(all.iter().all(|finding| finding.code == Code::Unreadable), "{all:#?}");
    for (text, command) in [
        ("The bridge cni0 on this machine keeps VLANs apart", "bridge vlan show"),
        ("flannel-wg on this machine is a WireGuard device", "wg show flannel-wg"),
        ("has tables of iptables-legacy (filter, nat)", "iptables-legacy-save"),
    ] {
        let found = all.iter().find(|finding| finding.text.contains(text)).unwrap();
        assert_eq!(found.command.as_deref(), Some(command));
        // Pods are on the bridge, and send by the tunnel.
        for wanted in ["pod/pod0", "node/n"] {
            let answer = explain(&machine, &wanted.parse().unwrap()).unwrap();
            assert!(answer.findings.contains(found), "{wanted}: {:#?}", answer.findings);
            let mut said = answer.chapters.iter().flat_map(|chapter| &chapter.sentences);
            let is_said = said.any(|it| it.command.as_deref() == Some(command));
            assert!(is_said || wanted == "pod/pod0", "{wanted}: {command}");
        }
    }
}

#[test]
fn rules_that_jump_in_circles() {
    let mut machine = node(2);
    let table = TableId::new(Family::Inet, "circle");
    let jump = |to: &str| Rule::new([Statement::Verdict(Verdict::Jump(to.to_owned()))]);
    let chain = |name: &str, base: Option<Base>| Chain {
        table: table.clone(),
        name: name.to_owned(),
        base,
        rules: vec![jump("a"), jump("b"), jump("nowhere")],
    };
    let base = Base {
        kind: ChainKind::Filter,
        hook: Hook::Forward,
        priority: 0,
        policy: Policy::Drop,
        devices: vec![],
    };
    let chains = [chain("f", Some(base)), chain("a", None), chain("b", None)];
    machine.namespaces[0].dump.nft = chains.map(Into::into).into();
    explained(&machine);
}

#[test]
fn masters_in_circles_and_indices_of_nobody() {
    let mut machine = node(3);
    let links = &mut machine.namespaces[0].dump.links;
    links.get_mut(&1).unwrap().master = Some(10);
    links.get_mut(&11).unwrap().master = Some(11);
    links.get_mut(&12).unwrap().master = Some(999);
    links.get_mut(&12).unwrap().parent = Some(0);
    machine.namespaces[0].dump.addresses.push(address(77, 5, 0));
    machine.namespaces[1].node = Some("elsewhere".to_owned());
    explained(&machine);
}
