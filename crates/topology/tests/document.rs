//! That a document says all of a machine, and that others are refused with a reason.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use topology::dump::{
    Address, Bridge, Hop, Link, LinkFlags, LinkInfo, Neighbour, NeighbourState, Opaque, OperState,
    Port, Route, RouteKind, Rule, Stats, Vxlan,
};
use topology::{
    Attachment, Configuration, Conntrack, Container, Document, DocumentError, Gap, Host, Listener,
    Machine, Namespace, NetnsId, Node, PodName, PortMapping, Process, Reservation, Reservations,
    Role, Tracked,
};

fn text() -> impl Strategy<Value = String> {
    // Whatever a file or a device can be called.
    prop_oneof![any::<String>(), "[a-z0-9.-]{1,15}", Just("\u{1b}[31m<b>\"'\\\n".to_owned())]
}

fn link() -> impl Strategy<Value = Link> {
    let numbers =
        (any::<u32>(), any::<u32>(), prop::option::of(any::<u32>()), any::<Option<i32>>());
    (text(), text(), numbers, prop::option::of(text()), 0..1u32 << 19, any::<bool>()).prop_map(
        |(name, kind, (index, mtu, parent, parent_netns), alias, flags, is_some)| Link {
            index,
            name,
            kind,
            mac: is_some.then_some(net::Mac([2, 0, 0, 0, 0, 1])),
            mtu,
            up: flags & 1 != 0,
            promiscuous: flags & 0x100 != 0,
            flags: LinkFlags(flags),
            oper_state: if is_some { OperState::LowerLayerDown } else { OperState::Unknown },
            master: parent,
            parent,
            parent_netns,
            port: is_some.then(|| Port { state: 3, cost: 2, learning: true, ..Port::default() }),
            vxlan: is_some.then(|| Vxlan { vni: 3, gpe: true, ..Vxlan::default() }),
            info: is_some.then(|| LinkInfo::Bridge(Bridge { stp_state: 1, ..Bridge::default() })),
            alias,
            stats: is_some.then(Stats::default),
        },
    )
}

fn route() -> impl Strategy<Value = Route> {
    (any::<IpAddr>(), 0..=32u8, any::<u8>(), any::<u32>(), any::<bool>()).prop_map(
        |(address, length, number, table, is_some)| Route {
            destination: ipnet::IpNet::new(address, length).unwrap(),
            kind: if is_some { RouteKind::Other(number) } else { RouteKind::Prohibit },
            hops: vec![Hop {
                gateway: Some(address),
                index: Some(table),
                weight: 1,
                ..Hop::default()
            }],
            hop_id: is_some.then_some(table),
            source: is_some.then_some(address),
            metric: is_some.then_some(table),
            table,
            protocol: number,
            scope: net::Scope::from_number(number),
            mtu: None,
            advmss: is_some.then_some(1),
            onlink: is_some,
            features: None,
            encap: is_some.then_some(net::Encap { vni: 3, to: address, checksum: true }),
        },
    )
}

fn namespace() -> impl Strategy<Value = Namespace> {
    let lists = (prop::collection::vec(link(), 0..4), prop::collection::vec(route(), 0..4));
    (text(), lists, text(), any::<u64>(), any::<u8>()).prop_map(
        |(name, (links, routes), other, inode, number)| {
            let id = NetnsId { device: 4, inode };
            let mut it = Namespace::new(id);
            it.role = if number % 2 == 0 { Role::Pod } else { Role::Outside };
            it.node = (number % 3 == 0).then(|| other.clone());
            it.lab = (number % 5 == 0).then(|| other.clone());
            it.paths = vec![name.clone().into()];
            it.processes = vec![Process { pid: 1, name: other.clone(), cgroup: name.clone() }];
            let pod = PodName { namespace: other.clone(), name: name.clone() };
            it.containers = vec![Container { pod: Some(pod), ..Container::new(&other) }];
            it.known = BTreeMap::from([(i32::from(number), id)]);
            it.settings = BTreeMap::from([(name.clone(), other.clone())]);
            it.conntrack = Some(Conntrack { count: inode, max: u64::MAX });
            let address = IpAddr::from([number; 4]);
            let end = SocketAddr::new(address, u16::from(number));
            it.tracked = vec![Tracked { from: end, to: end, led_to: end }];
            it.listeners = vec![Listener { protocol: "tcp".into(), address, port: 80 }];
            it.legacy_tables = vec![other.clone()];
            it.dump.links = links.into_iter().map(|link| (link.index, link)).collect();
            it.dump.routes = routes;
            it.dump.addresses = vec![Address {
                index: 3,
                address: ipnet::IpNet::new(address, 8).unwrap(),
                broadcast: None,
                scope: net::Scope::Link,
                nodad: true,
                tentative: false,
                dad_failed: true,
                dynamic: true,
                deprecated: false,
                peer: Some(address),
                protocol: number,
            }];
            it.dump.rules =
                vec![Rule { fwmark: Some((1, 2)), iif: Some(name.clone()), ..Rule::default() }];
            let state = NeighbourState::Stale;
            it.dump.neighbours =
                vec![Neighbour { address: Some(address), state, ..Neighbour::default() }];
            let (kind, family) = ("counter".to_owned(), "inet".to_owned());
            it.dump.opaque = vec![Opaque { kind, family, table: other, name: name.clone() }];
            it.name = name;
            it
        },
    )
}

fn machine() -> impl Strategy<Value = Machine> {
    (prop::collection::vec(namespace(), 0..3), text(), text(), any::<u64>()).prop_map(
        |(namespaces, name, other, number)| Machine {
            host: Host {
                name: name.clone(),
                kernel: other.clone(),
                taken: number,
                settings: BTreeMap::from([(name.clone(), other.clone())]),
                neighbours: 3,
            },
            nodes: vec![Node {
                name: name.clone(),
                lab: Some(other.clone()),
                namespace: namespaces.first().map(|it| it.id),
                attachments: vec![Attachment {
                    file: name.clone().into(),
                    network: other.clone(),
                    container_id: name.clone(),
                    ifname: other.clone(),
                    pod: None,
                    netns: Some(other.clone().into()),
                    namespace: None,
                    addresses: vec!["10.1.0.2/24".parse().unwrap()],
                    ports: vec![PortMapping {
                        protocol: "tcp".to_owned(),
                        host_ip: None,
                        host_port: 8080,
                        container_port: 80,
                    }],
                    nameservers: vec!["10.96.0.10".parse().unwrap()],
                }],
                reservations: vec![Reservations {
                    directory: name.clone().into(),
                    network: other.clone(),
                    entries: vec![Reservation {
                        address: "10.1.0.2".parse().unwrap(),
                        container_id: name.clone(),
                        ifname: String::new(),
                    }],
                    last: BTreeMap::from([(0, "10.1.0.2".parse().unwrap())]),
                    subnets: vec!["10.1.0.0/24".parse().unwrap()],
                }],
                configurations: vec![Configuration {
                    file: other.clone().into(),
                    name: name.clone(),
                    content: serde_json::json!({ "plugins": [{ "type": other }] }),
                }],
            }],
            namespaces,
            gaps: vec![Gap { what: name, why: other }],
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_document_says_all_of_a_machine(machine in machine()) {
        let text = machine.to_document().unwrap();
        let read = Machine::from_document(&text).unwrap();
        prop_assert_eq!(&read, &machine);
        prop_assert_eq!(read.to_document().unwrap(), text);
    }

    #[test]
    fn what_is_cut_short_is_told_with_the_place(machine in machine(), at in 0.0..1.0f64) {
        let text = machine.to_document().unwrap();
        let end = text.trim_end().len();
        let mut cut = (end as f64 * at) as usize;
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        let error = Machine::from_document(&text[..cut]).unwrap_err();
        let is_cut = matches!(error, DocumentError::CutShort { line, .. } if line > 0 || cut == 0);
        prop_assert!(is_cut, "{}", error);
    }

    #[test]
    fn rubbish_is_refused(text in any::<String>()) {
        prop_assert!(Machine::from_document(&text).is_err());
    }
}

#[test]
fn others_are_refused_with_a_reason() {
    let refused = |text: &str| Machine::from_document(text).unwrap_err().to_string();
    let version = refused(r#"{ "apiVersion": "podwire/v9", "kind": "Topology", "namespaces": 3 }"#);
    assert!(version.contains("\"podwire/v9\"") && version.contains("podwire/v1"), "{version}");
    assert!(refused("{}").contains("apiVersion is \"\""));
    let wrong = "{ \"apiVersion\": \"podwire/v1\", \"kind\": \"Topology\",\n \"namespaces\": [3] }";
    assert!(refused(wrong).contains("line 2 column"), "{}", refused(wrong));
    // What is ignored is passed over without a stack; what is read has a limit.
    let (open, close) = ("[".repeat(1 << 20), "]".repeat(1 << 20));
    let head = r#""apiVersion":"podwire/v1","kind":"Topology""#;
    assert!(Machine::from_document(&format!("{{{head},\"x\":{open}{close}}}")).is_ok());
    let node = format!(
        r#"{{{head},"nodes":[{{"name":"n","namespace":null,"configurations":[{{"file":"f","name":"n","content":{open}{close}}}]}}]}}"#
    );
    assert!(refused(&node).contains("recursion limit"), "{}", refused(&node));
    assert!(matches!(Machine::read_document(&b"\xff\xfe"[..]), Err(DocumentError::Io(_))));
    // What is new in the same version is ignored.
    let newer = r#"{ "apiVersion": "podwire/v1", "kind": "Topology", "news": { "a": [1] } }"#;
    assert_eq!(Machine::from_document(newer).unwrap(), Machine::default());
}

#[test]
fn the_schema_names_what_a_document_has() {
    let schema = Machine::schema();
    let link = &schema["$defs"]["Link"]["properties"];
    for field in ["ifindex", "ifname", "address", "operstate", "info_data", "stats64"] {
        assert!(link[field].is_object(), "{field} in {link:#}");
    }
    for field in ["apiVersion", "kind", "host", "nodes", "namespaces", "gaps"] {
        assert!(schema["properties"][field].is_object(), "{field}");
    }
}
