//! A machine whose tunnel device cannot name the network that it takes (Linux below 5.18): a rule
//! stands in. The kernel here can, so that it is the fact that is another one.

use std::net::IpAddr;

use fabric::{Config, Machine, Node, Nodes, desired};
use kernel::{Kernel, OnError};
use net::{Address, Link, Object, Step};
use testbed::Namespace;
use testbed::look::{is_lost, source_seen};

/// A node and its address: `192.0.2.<n>`, pods in `10.244.<n>.0/24`.
fn node(n: u8) -> Node {
    let mut node = Node::new(format!("n{n}").parse().unwrap());
    node.addresses.v4 = Some(IpAddr::from([192, 0, 2, n]));
    node.subnets.v4 = Some(format!("10.244.{n}.0/24").parse().unwrap());
    node
}

/// What the agent would make on n1.
fn make(space: &Namespace, settings: &str) {
    let config = Config::parse(&format!("source: {{file: /n}}\n{settings}")).unwrap();
    let nodes: Nodes = [node(1), node(2)].into_iter().collect();
    let machine = Machine {
        links: vec![Link::existing("eth0".parse().unwrap()).up()],
        addresses: vec![Address::new("eth0".parse().unwrap(), "192.0.2.1/24".parse().unwrap())],
        vni_filter: false,
        ..Machine::default()
    };
    let desired = desired(&config, &"n1".parse().unwrap(), &nodes, &machine);
    let objects = desired.shared.iter().cloned().chain(desired.peer(&node(2)).0);
    let changes = objects.map(|object| match object {
        Object::Sysctl(_) => net::Change::Ensure(object),
        object => net::Change::Create(object),
    });
    let plan: Vec<Step> =
        changes.map(|change| Step::new(&space.space(), change, "is missing")).collect();
    let applied = Kernel::new().unwrap().apply(&plan, OnError::Undo);
    assert!(applied.failed.is_empty(), "{:?}", applied.failed);
}

fn only_one_network(settings: &str, far: &str) {
    let (here, there) = (Namespace::new("here"), Namespace::new("there"));
    here.sh("ip link add eth0 type veth peer name eth0 netns there
        ip address add 192.0.2.1/24 dev eth0; ip link set eth0 up; ip link set lo up");
    there.sh("ip address add 192.0.2.2/24 dev eth0; ip link set eth0 up");
    make(&here, settings);
    let device = here.sh("ip -d link show podwire0");
    assert!(device.contains("external") && !device.contains("vnifilter"), "{device}");
    let mac = here.sh("ip -o link show podwire0 | sed -n 's/.*link.ether \\([^ ]*\\).*/\\1/p'");
    let neighbour = match mac.trim() {
        "" => String::new(),
        mac => format!("ip neighbour add 10.244.1.0 lladdr {mac} dev far nud permanent"),
    };
    let send_by = |vni: u32| {
        there.sh(&format!(
            "ip link delete far 2>/dev/null || true
            ip link add far mtu 1400 type vxlan external dstport 8472 {far}
            ip link set far up; ip address add 10.244.2.0/32 dev far
            {neighbour}
            ip route add 10.244.1.0/32 encap ip id {vni} dst 192.0.2.1 dev far src 10.244.2.0",
        ));
    };
    let to = "10.244.1.0".parse().unwrap();
    let seen = || source_seen(there.netns(), here.netns(), to);
    send_by(70000);
    assert_eq!(seen(), Some("10.244.2.0".parse().unwrap()));
    send_by(7);
    assert!(is_lost(there.netns(), here.netns(), to));
    // It is the rule that keeps it out: the device would take it.
    here.sh("nft flush chain inet podwire tunnel_in");
    assert_eq!(seen(), Some("10.244.2.0".parse().unwrap()));
}

#[test]
fn a_rule_keeps_other_networks_out_of_vxlan() {
    testbed::isolated!();
    only_one_network("tunnel: {vni: 70000}", "");
}

#[test]
fn a_rule_keeps_other_networks_out_of_gpe() {
    testbed::isolated!();
    only_one_network("backend: gpe\ntunnel: {vni: 70000}", "gpe");
}
