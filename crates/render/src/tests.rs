//! Pictures as they should be. `PODWIRE_BLESS=1` writes what is drawn now into `tests/`, for a
//! person to look at.

use std::collections::BTreeMap;
use std::path::Path;

use topology::dump::{Address, Dump, Hop, Link, OperState, Route, RouteKind};
use topology::{Machine, Namespace, NetnsId};

use crate::{Picture, text};

const WIDE: Picture = Picture { width: 100, unicode: true };

fn machine(namespaces: Vec<Namespace>) -> Machine {
    Machine { namespaces, ..Machine::default() }
}

#[test]
fn the_textbook() {
    let machine = machine(vec![
        Space::new("host").bridge(2, "br0").port(3, "vethB", 2, 2).port(4, "vethY", 2, 2).done(),
        Space::new("node1").veth(2, "vethA", 3).address(2, "10.10.0.2/24").done(),
        Space::new("node2").veth(2, "vethX", 4).address(2, "10.10.0.3/24").done(),
    ]);
    check("textbook", &machine, WIDE);
    check("textbook-ascii", &machine, Picture { unicode: false, ..WIDE });
}

#[test]
fn a_node_with_two_pods() {
    check("pods", &node(2, true), WIDE);
}

#[test]
fn what_does_not_fit_is_folded() {
    check("folded", &node(18, false), WIDE);
    check("folded-ascii", &node(18, false), Picture { unicode: false, ..WIDE });
    check("folded-narrow", &node(3, false), Picture { width: 20, ..WIDE });
}

#[test]
fn what_is_broken_looks_broken() {
    let mut machine = node(3, false);
    let down = machine.namespaces[1].dump.links.get_mut(&2).unwrap();
    (down.up, down.oper_state) = (false, OperState::Down);
    machine.namespaces[0].dump.links.remove(&4);
    machine.namespaces[2].dump = Dump::default();
    check("broken", &machine, WIDE);
}

#[test]
fn cables_that_fit_no_lane_are_told() {
    let machine = machine(vec![
        Space::new("left").bridge(2, "br0").port(3, "a", 2, 2).veth(4, "uplink", 5).done(),
        Space::new("pod").veth(2, "eth0", 3).address(2, "10.1.0.2/24").veth(3, "eth1", 4).done(),
        Space::new("right").bridge(2, "br0").port(4, "b", 3, 2).veth(5, "uplink", 4).done(),
        Space::new("alone").done(),
    ]);
    check("told", &machine, WIDE);
}

#[test]
fn two_bridges_stand_side_by_side() {
    let machine = machine(vec![
        Space::new("node")
            .bridge(2, "red")
            .bridge(3, "blue")
            .port(4, "r1", 2, 2)
            .port(5, "b1", 2, 3)
            .veth(6, "direct", 2)
            .done(),
        Space::new("b").veth(2, "eth0", 5).address(2, "10.2.0.2/24").done(),
        Space::new("r").veth(2, "eth0", 4).address(2, "10.1.0.2/24").done(),
        Space::new("d").veth(2, "eth0", 6).address(2, "10.3.0.2/32").done(),
    ]);
    check("bridges", &machine, WIDE);
}

#[test]
fn nodes_are_joined_by_their_switch() {
    check("cluster", &cluster(2, &["br0"]), WIDE);
    check("cluster-ascii", &cluster(2, &["br0"]), Picture { unicode: false, ..WIDE });
    check("cluster-routed", &cluster(3, &["br1", "br2"]), WIDE);
    check("cluster-folded", &cluster(20, &["br0"]), WIDE);
}

#[test]
fn a_node_that_is_unplugged_looks_so() {
    let mut machine = cluster(3, &["br0"]);
    let uplink = machine.namespaces[3].dump.links.get_mut(&2).unwrap();
    (uplink.up, uplink.oper_state) = (false, OperState::Down);
    machine.namespaces[4].dump.links.remove(&2);
    check("cluster-broken", &machine, WIDE);
}

#[test]
fn nothing_is_drawn_as_nothing() {
    assert_eq!(text(&Machine::default(), &WIDE), "");
}

#[track_caller]
fn check(name: &str, machine: &Machine, picture: Picture) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/tests/{name}.txt"));
    let drawn = text(machine, &picture);
    assert_eq!(drawn, text(machine, &picture), "the same network gives the same picture");
    if std::env::var_os("PODWIRE_BLESS").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(drawn == expected, "{name} is drawn as\n{drawn}\ninstead of\n{expected}");
}

/// A node with pods on one bridge.
fn node(pods: u32, dual_stack: bool) -> Machine {
    let mut node = Space::new("node1").bridge(2, "cni0").address(2, "10.1.0.1/24").route(
        "10.1.0.0/24",
        None,
        2,
    );
    if dual_stack {
        node = node.address(2, "fd00:10:1::1/64").route("fd00:10:1::/64", None, 2);
    }
    let mut namespaces = Vec::new();
    for number in 0..pods {
        node = node.port(3 + number, &format!("veth0a1b2c3d{number:03}"), 2, 2);
        let mut pod = Space::new(&format!("pod{}", number + 1))
            .veth(2, "eth0", 3 + number)
            .address(2, &format!("10.1.0.{}/24", number + 2))
            .route("0.0.0.0/0", Some("10.1.0.1"), 2);
        if dual_stack {
            pod = pod.address(2, &format!("fd00:10:1::{}/64", number + 2)).route(
                "::/0",
                Some("fd00:10:1::1"),
                2,
            );
        }
        namespaces.push(pod.done());
    }
    namespaces.insert(0, node.done());
    machine(namespaces)
}

/// Nodes with a pod each, plugged into switches in turn, and a host outside.
fn cluster(nodes: u32, switches: &[&str]) -> Machine {
    let mut net = Space::new("net").veth(9, "outside", 2).address(9, "203.0.113.1/24");
    let mut index = 1;
    for (number, switch) in (2..).zip(switches) {
        net = net.bridge(number, switch).address(number, &format!("192.0.{number}.1/24"));
        index = number;
    }
    let outside = Space::new("outside").veth(2, "eth0", 9).address(2, "203.0.113.10/24");
    let mut namespaces = vec![outside.route("0.0.0.0/0", Some("203.0.113.1"), 2).done()];
    let mut pods = Vec::new();
    for number in 1..=nodes {
        let switch = 2 + (number - 1) % (index - 1);
        net = net.port(100 + number, &format!("node{number}"), 2, switch);
        let mut node = Space::new(&format!("node{number}"))
            .veth(2, "eth0", 100 + number)
            .address(2, &format!("192.0.{switch}.{}/24", 10 + number))
            .link(3, "podwire0", "vxlan")
            .address(3, &format!("10.244.{number}.0/32"))
            .bridge(4, "cni0")
            .address(4, &format!("10.244.{number}.1/24"))
            .port(5, &format!("veth0a1b2c3d{number:03}"), 2, 4)
            .route("0.0.0.0/0", Some(&format!("192.0.{switch}.1")), 2);
        for other in (1..=nodes).filter(|other| *other != number) {
            let inner = format!("10.244.{other}.0");
            node = node.route(&format!("{inner}/24"), Some(&inner), 3);
        }
        let pod = Space::new(&format!("pod{number}"))
            .veth(2, "eth0", 5)
            .address(2, &format!("10.244.{number}.2/24"))
            .route("0.0.0.0/0", Some(&format!("10.244.{number}.1")), 2);
        namespaces.push(node.done());
        pods.push(pod.done());
    }
    namespaces.insert(0, net.done());
    namespaces.extend(pods);
    for (inode, namespace) in (1..).zip(&mut namespaces) {
        namespace.id.inode = inode;
    }
    let id = |inode: u32| NetnsId { device: 4, inode: inode.into() };
    // As the kernel numbers them: each for itself.
    for number in 1..=nodes {
        let (node, pod) = (2 + number, 2 + nodes + number);
        let place = |inode: u32| inode as usize - 1;
        namespaces[place(pod)].known = [(0, id(node))].into();
        namespaces[place(node)].known = [(0, id(1)), (1, id(pod))].into();
        let cable = namespaces[place(node)].dump.links.get_mut(&5).unwrap();
        cable.parent_netns = Some(1);
        let port = namespaces[0].dump.links.get_mut(&(100 + number)).unwrap();
        port.parent_netns = Some(number as i32);
        namespaces[0].known.insert(number as i32, id(node));
    }
    namespaces[0].known.insert(0, id(2));
    namespaces[1].known = [(0, id(1))].into();
    machine(namespaces)
}

/// A namespace in the making.
struct Space {
    name: String,
    dump: Dump,
}

impl Space {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), dump: Dump::default() }.link(1, "lo", "")
    }

    fn link(mut self, index: u32, name: &str, kind: &str) -> Self {
        let link = Link {
            index,
            name: name.to_owned(),
            kind: kind.to_owned(),
            mac: format!("02:00:00:00:00:{index:02x}").parse().ok().filter(|_| name != "lo"),
            mtu: 1500,
            up: true,
            oper_state: OperState::Up,
            ..Link::default()
        };
        self.dump.links.insert(index, link);
        self
    }

    fn bridge(self, index: u32, name: &str) -> Self {
        self.link(index, name, "bridge")
    }

    fn veth(mut self, index: u32, name: &str, peer: u32) -> Self {
        self = self.link(index, name, "veth");
        let link = self.dump.links.get_mut(&index).unwrap();
        (link.parent, link.parent_netns) = (Some(peer), Some(0));
        self
    }

    fn port(mut self, index: u32, name: &str, peer: u32, bridge: u32) -> Self {
        self = self.veth(index, name, peer);
        self.dump.links.get_mut(&index).unwrap().master = Some(bridge);
        self
    }

    fn address(mut self, index: u32, address: &str) -> Self {
        self.dump.addresses.push(Address {
            index,
            address: address.parse().unwrap(),
            broadcast: None,
            scope: net::Scope::Universe,
            nodad: false,
            tentative: false,
            dad_failed: false,
        });
        self
    }

    fn route(mut self, destination: &str, gateway: Option<&str>, index: u32) -> Self {
        let gateway = gateway.map(|gateway| gateway.parse().unwrap());
        self.dump.routes.push(Route {
            destination: destination.parse().unwrap(),
            kind: RouteKind::Unicast,
            hops: vec![Hop { gateway, index: Some(index) }],
            source: None,
            metric: None,
            table: net::MAIN_TABLE,
            protocol: net::PROTOCOL_BOOT,
            scope: net::Scope::Universe,
            mtu: None,
            advmss: None,
            onlink: false,
            encap: None,
        });
        self
    }

    fn done(self) -> Namespace {
        let id = NetnsId { device: 4, inode: 1 };
        let links: BTreeMap<_, _> = self.dump.links;
        let dump = Dump { links, ..self.dump };
        Namespace { name: self.name, dump, ..Namespace::new(id) }
    }
}
