//! Machines to draw.

#![allow(dead_code, reason = "not every test draws all of them")]

use std::collections::BTreeMap;

use diagnosis::{Chapter, Code, Explanation, Finding, Sentence, Severity, Thing};
use topology::dump::{Address, Dump, Hop, Link, Neighbour, OperState, Route, RouteKind, Vxlan};
use topology::{Machine, Namespace, NetnsId, Node, Role};

pub(crate) fn machine(namespaces: Vec<Namespace>) -> Machine {
    Machine { namespaces, ..Machine::default() }
}

/// A node with pods on one bridge.
pub(crate) fn node(pods: u32, dual_stack: bool) -> Machine {
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
    numbered_from(machine(namespaces), 3)
}

/// Nodes with a pod each, plugged into switches in turn, and a host outside.
pub(crate) fn cluster(nodes: u32, switches: &[&str]) -> Machine {
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
            .vxlan(3, "podwire0")
            .address(3, &format!("10.244.{number}.0/32"))
            .bridge(4, "cni0")
            .address(4, &format!("10.244.{number}.1/24"))
            .port(5, &format!("veth0a1b2c3d{number:03}"), 2, 4)
            .route("0.0.0.0/0", Some(&format!("192.0.{switch}.1")), 2)
            .route(&format!("10.244.{number}.0/24"), None, 4);
        for other in (1..=nodes).filter(|other| *other != number) {
            let inner = format!("10.244.{other}.0");
            let switch = 2 + (other - 1) % (index - 1);
            node = node
                .route(&format!("{inner}/24"), Some(&inner), 3)
                .forwarding(3, &format!("192.0.{switch}.{}", 10 + other));
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
pub(crate) struct Space {
    pub(crate) name: String,
    pub(crate) dump: Dump,
}

impl Space {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), dump: Dump::default() }.link(1, "lo", "")
    }

    pub(crate) fn link(mut self, index: u32, name: &str, kind: &str) -> Self {
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

    pub(crate) fn vxlan(mut self, index: u32, name: &str) -> Self {
        self = self.link(index, name, "vxlan");
        let vxlan = Vxlan { vni: 1, port: 8472, ..Vxlan::default() };
        let link = self.dump.links.get_mut(&index).unwrap();
        (link.vxlan, link.mtu) = (Some(vxlan), 1450);
        self
    }

    /// A forwarding entry of a tunnel's end.
    pub(crate) fn forwarding(mut self, index: u32, to: &str) -> Self {
        self.dump.neighbours.push(Neighbour {
            bridge: true,
            index,
            address: to.parse().ok(),
            permanent: true,
            protocol: 112,
            ..Neighbour::default()
        });
        self
    }

    pub(crate) fn bridge(self, index: u32, name: &str) -> Self {
        self.link(index, name, "bridge")
    }

    pub(crate) fn veth(mut self, index: u32, name: &str, peer: u32) -> Self {
        self = self.link(index, name, "veth");
        let link = self.dump.links.get_mut(&index).unwrap();
        (link.parent, link.parent_netns) = (Some(peer), Some(0));
        self
    }

    pub(crate) fn port(mut self, index: u32, name: &str, peer: u32, bridge: u32) -> Self {
        self = self.veth(index, name, peer);
        self.dump.links.get_mut(&index).unwrap().master = Some(bridge);
        self
    }

    pub(crate) fn address(mut self, index: u32, address: &str) -> Self {
        self.dump.addresses.push(Address {
            index,
            address: address.parse().unwrap(),
            broadcast: None,
            scope: net::Scope::Universe,
            nodad: false,
            tentative: false,
            dad_failed: false,
            dynamic: false,
            deprecated: false,
            peer: None,
            protocol: 0,
        });
        self
    }

    pub(crate) fn route(mut self, destination: &str, gateway: Option<&str>, index: u32) -> Self {
        let gateway = gateway.map(|gateway| gateway.parse().unwrap());
        self.dump.routes.push(Route {
            destination: destination.parse().unwrap(),
            kind: RouteKind::Unicast,
            hops: vec![Hop { gateway, index: Some(index), ..Hop::default() }],
            source: None,
            metric: None,
            table: net::MAIN_TABLE,
            protocol: net::PROTOCOL_BOOT,
            scope: net::Scope::Universe,
            mtu: None,
            advmss: None,
            onlink: false,
            encap: None,
            features: None,
            hop_id: None,
        });
        self
    }

    pub(crate) fn done(self) -> Namespace {
        let id = NetnsId { device: 4, inode: 1 };
        let links: BTreeMap<_, _> = self.dump.links;
        let dump = Dump { links, ..self.dump };
        Namespace { name: self.name, dump, ..Namespace::new(id) }
    }
}

/// The nodes of a machine are those of a cluster, its pods are pods, and names are as in a lab.
pub(crate) fn named(mut machine: Machine) -> Machine {
    for namespace in &mut machine.namespaces {
        let name = namespace.name.clone();
        (namespace.role, namespace.node) = match name.as_str() {
            "net" => (Role::Underlay, None),
            "outside" => (Role::Outside, None),
            _ if name.starts_with("node") => (Role::Node, Some(name.clone())),
            _ => (Role::Pod, None),
        };
        namespace.lab = Some("default".to_owned());
    }
    let nodes = machine.namespaces.iter().filter(|namespace| namespace.role == Role::Node);
    let node = |namespace: &Namespace| Node {
        name: namespace.name.clone(),
        lab: namespace.lab.clone(),
        namespace: Some(namespace.id),
        attachments: Vec::new(),
        reservations: Vec::new(),
        configurations: Vec::new(),
    };
    machine.nodes = nodes.map(node).collect();
    machine
}

/// A node as a cluster's: pods on cni0, containers on a bridge as Docker has it, a wire, a tunnel to
/// nodes elsewhere.
pub(crate) fn real_node(pods: u32, containers: u32) -> Machine {
    let mut host = Space::new("node1")
        .link(2, "eth0", "")
        .address(2, "192.0.2.11/24")
        .bridge(3, "cni0")
        .address(3, "10.244.1.1/24")
        .bridge(4, "docker0")
        .address(4, "172.17.0.1/16")
        .vxlan(5, "flannel.1")
        .address(5, "10.244.1.0/32")
        .route("0.0.0.0/0", Some("192.0.2.1"), 2)
        .route("10.244.1.0/24", None, 3)
        .route("172.17.0.0/16", None, 4);
    for other in 2..9 {
        let inner = format!("10.244.{other}.0");
        host = host
            .route(&format!("{inner}/24"), Some(&inner), 5)
            .forwarding(5, &format!("192.0.2.{}", 10 + other));
    }
    let mut namespaces = Vec::new();
    for number in 0..pods + containers {
        let is_pod = number < pods;
        let (bridge, name) = if is_pod { (3, "pod") } else { (4, "container") };
        let (net, gateway) =
            if is_pod { ("10.244.1", "10.244.1.1") } else { ("172.17.0", "172.17.0.1") };
        host = host.port(6 + number, &format!("veth{number:08x}"), 2, bridge);
        let space = Space::new(&format!("{name}{}", number + 1))
            .veth(2, "eth0", 6 + number)
            .address(2, &format!("{net}.{}/24", number + 2))
            .route("0.0.0.0/0", Some(gateway), 2);
        namespaces.push(space.done());
    }
    namespaces.insert(0, host.done());
    let mut machine = numbered_from(machine(namespaces), 6);
    let containers = machine.namespaces.len() - containers as usize;
    machine = named(machine);
    for namespace in &mut machine.namespaces {
        namespace.lab = None;
    }
    for namespace in &mut machine.namespaces[containers..] {
        namespace.role = Role::Other;
    }
    machine.namespaces[0].role = Role::Host;
    machine.host.name = "node1".to_owned();
    machine
}

/// Each namespace known by who it is, where the first one's cables begin at an index.
pub(crate) fn numbered_from(mut machine: Machine, first: u32) -> Machine {
    let ids: Vec<NetnsId> =
        (1..=machine.namespaces.len() as u64).map(|inode| NetnsId { device: 4, inode }).collect();
    for (namespace, id) in machine.namespaces.iter_mut().zip(&ids) {
        namespace.id = *id;
        namespace.known = [(0, ids[0])].into();
    }
    let hub = &mut machine.namespaces[0];
    hub.known = (0..).zip(ids).collect();
    for link in hub.dump.links.values_mut().filter(|link| link.kind == "veth") {
        link.parent_netns = Some((link.index + 1 - first) as i32);
    }
    machine
}

/// Sentences about everything, as somebody could say them.
pub(crate) fn explanations(machine: &Machine) -> Vec<Explanation> {
    let mut cables = Vec::new();
    for namespace in &machine.namespaces {
        for link in namespace.links().filter(|link| link.name != "lo") {
            cables.push(Sentence {
                text: format!("{} of {} has index {}.", link.name, namespace.name, link.index),
                about: vec![Thing::Link(namespace.id, link.index)],
                command: Some(format!(
                    "ip netns exec {} ip link show {}",
                    namespace.name, link.name
                )),
                findings: Vec::new(),
            });
        }
    }
    let spaces = machine.namespaces.iter().map(|namespace| Sentence {
        text: format!("{} has {} addresses.", namespace.name, namespace.dump.addresses.len()),
        about: vec![Thing::Namespace(namespace.id)],
        command: None,
        findings: Vec::new(),
    });
    let chapters = vec![
        Chapter { title: "The namespaces".to_owned(), sentences: spaces.collect() },
        Chapter { title: "The devices".to_owned(), sentences: cables },
    ];
    let last = machine.namespaces.last();
    let findings = last.map(|namespace| Finding {
        code: Code::LinkDown,
        severity: Severity::Unusual,
        text: format!("{} is the last.", namespace.name),
        consequence: "Nothing follows from it.".to_owned(),
        remedy: None,
        about: vec![Thing::Namespace(namespace.id)],
        command: None,
    });
    let subject = "machine".to_owned();
    vec![Explanation { subject, chapters, findings: findings.into_iter().collect() }]
}

/// Names of 15 bytes that would do something where they are not escaped.
pub(crate) const HOSTILE: [&str; 5] = [
    "<script>x()</s>",
    "\u{1b}[31mred\u{7}\n",
    "\"onload=\"x()\"",
    "</title>&amp;",
    "\u{202e}drow\u{200b}",
];

/// A node and pods whose devices and names are those.
pub(crate) fn hostile() -> Machine {
    let mut host = Space::new(HOSTILE[0]).bridge(2, HOSTILE[2]).address(2, "10.1.0.1/24");
    host = host.route("10.1.0.0/24", None, 2).link(100, HOSTILE[1], HOSTILE[0]);
    let mut namespaces = Vec::new();
    for (number, name) in (0..).zip(HOSTILE) {
        host = host.port(3 + number, &format!("{number}{name}"), 2, 2);
        let pod = Space::new(&format!("{name}{number}")).veth(2, name, 3 + number);
        namespaces.push(pod.address(2, &format!("10.1.0.{}/24", number + 2)).done());
    }
    namespaces.insert(0, host.done());
    let mut machine = numbered_from(machine(namespaces), 3);
    HOSTILE[3].clone_into(&mut machine.host.name);
    let why = HOSTILE.concat();
    machine.gaps.push(topology::Gap { what: HOSTILE[0].to_owned(), why });
    machine
}

/// Devices that are ports of each other and of themselves, and stand on each other.
pub(crate) fn cyclic() -> Machine {
    let mut space = Space::new("node").bridge(2, "a").bridge(3, "b").link(4, "c", "vlan");
    for (link, master, parent) in [(2, 3, 3), (3, 2, 4), (4, 4, 4)] {
        let link = space.dump.links.get_mut(&link).unwrap();
        (link.master, link.parent) = (Some(master), Some(parent));
    }
    machine(vec![space.veth(5, "d", 5).veth(6, "e", 7).veth(7, "f", 6).done()])
}

/// A node with as many devices as somebody wants.
pub(crate) fn crowded(links: u32, routes: u32) -> Machine {
    let mut space = Space::new("node").bridge(2, "cni0");
    for number in 3..links {
        space = space.link(number, &format!("dummy{number}"), "dummy");
    }
    let first = space.route("10.0.0.0/24", None, 2);
    let route = first.dump.routes[0].clone();
    let mut namespace = first.done();
    namespace.dump.routes.extend(std::iter::repeat_n(route, routes as usize));
    machine(vec![namespace])
}

/// A node whose pods have a cable of their own each, and one that stands on its wire.
pub(crate) fn routed_pods() -> Machine {
    let mut host = Space::new("node1").link(2, "eth0", "").address(2, "192.0.2.11/24");
    host = host.route("0.0.0.0/0", Some("192.0.2.1"), 2);
    let mut namespaces = Vec::new();
    for number in 0..3 {
        let address = format!("10.1.0.{}/32", number + 2);
        host = host.veth(3 + number, &format!("veth{number}"), 2).route(&address, None, 3 + number);
        let pod = Space::new(&format!("pod{}", number + 1)).veth(2, "eth0", 3 + number);
        let pod = pod.address(2, &address).route("0.0.0.0/0", Some("169.254.1.1"), 2);
        namespaces.push(pod.done());
    }
    let mut on_wire = Space::new("pod4").link(2, "net1", "macvlan").address(2, "192.0.2.77/24");
    let link = on_wire.dump.links.get_mut(&2).unwrap();
    (link.parent, link.parent_netns) = (Some(2), Some(0));
    namespaces.push(on_wire.done());
    namespaces.insert(0, host.done());
    named(numbered_from(machine(namespaces), 3))
}
