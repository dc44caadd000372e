//! What agents are told, and what they will make of it.

use std::fmt::Write;
use std::path::Path;

use fabric::{Config, Desired, Family, Machine, Node, NodeName, Nodes, TunnelForm};
use net::{Address, File, Link, Object};
use serde_json::{Map, Value, json};

use super::underlay::{OUTSIDE, link};
use super::{Cluster, addresses, home};
use crate::{Entry, Lab, Namespace};

/// The list of all nodes.
const FILE: &str = "nodes.yaml";
/// The names that the resolver knows.
pub(super) const HOSTS: &str = "hosts";
/// Where a node's runtime remembers attachments …
pub(super) const CACHE: &str = "cni";
/// … and the directory that is made in it.
const RESULTS: &str = "cni/results";
/// Where the bridge plugin leaves what it did.
const EXPLANATIONS: &str = "cni/explanations";

/// The list of nodes, as a person would keep it.
pub(super) fn file(lab: &Lab, network: &Cluster, directory: &Path) -> Entry {
    let mut content = String::from("nodes:\n");
    for Node { name, addresses, subnets, .. } in nodes(lab, network) {
        let quoted = |text: &dyn std::fmt::Display| format!("\"{text}\"");
        let addresses: Vec<String> = addresses.iter().map(|(_, it)| quoted(it)).collect();
        let subnets: Vec<String> = subnets.iter().map(|(_, it)| quoted(it)).collect();
        let _ = write!(
            content,
            "- name: {name}\n  addresses: [{}]\n  podSubnets: [{}]\n",
            addresses.join(", "),
            subnets.join(", ")
        );
    }
    Entry::File(File { path: directory.join(FILE), content })
}

/// The names that the resolver of the lab knows, if it has one: all hosts but pods, whose addresses
/// nobody knows beforehand.
pub(super) fn hosts(lab: &Lab, network: &Cluster, directory: &Path) -> Option<Entry> {
    let families = network.families.all();
    let outside = families.iter().map(|it| (addresses::outside(*it).0.addr(), OUTSIDE.to_owned()));
    let nodes = nodes(lab, network).into_iter().flat_map(|node| {
        let name = node.name.to_string();
        let addresses: Vec<_> = node.addresses.iter().map(|(_, it)| *it).collect();
        addresses.into_iter().map(move |address| (address, name.clone()))
    });
    let line = |(address, name): (std::net::IpAddr, String)| format!("{address} {name}\n");
    let content = outside.chain(nodes).map(line).collect();
    network.dns.then(|| Entry::File(File { path: directory.join(HOSTS), content }))
}

fn nodes(lab: &Lab, network: &Cluster) -> Vec<Node> {
    let node = |namespace: &Namespace| {
        let mut node = Node::new(namespace.name.parse().ok()?);
        let wire = addresses::wire_of(network.underlay, namespace);
        for family in network.families.all() {
            *node.addresses.place(*family) = Some(wire.node(*family, namespace).addr());
            *node.subnets.place(*family) = Some(addresses::pods(*family, namespace));
        }
        Some(node)
    };
    lab.nodes().filter_map(node).collect()
}

/// The configuration of a node's agent.
pub(super) fn config(network: &Cluster, directory: &Path, node: &Namespace) -> Config {
    let home = home(directory, node);
    let mut config = Config::of_file(&directory.join(FILE));
    config.node = node.name.parse().ok();
    config.backend = network.backend;
    config.fallback = network.fallback;
    if network.classic {
        config.tunnel.form = TunnelForm::Classic;
    }
    config.state = home.join("state");
    config.run = home.join("run");
    config.listen = None;
    config.cni.directory = Some(super::configurations(&home));
    config.cni.bridge_options =
        Map::from_iter([("explainIn".to_owned(), path(&home, EXPLANATIONS))]);
    if network.dns {
        let families = network.families.all().iter();
        let told: Vec<_> = families.map(|it| addresses::resolver(*it).addr()).collect();
        config.cni.bridge_options.insert("dns".to_owned(), json!({ "nameservers": told }));
    }
    config.cni.ipam_options = Map::from_iter([
        ("dataDir".to_owned(), path(&home, "cni/networks")),
        ("indexDir".to_owned(), path(&home, "cni/index")),
    ]);
    config
}

fn path(home: &Path, below: &str) -> Value {
    json!(home.join(below))
}

/// The files of a node.
pub(super) fn files(network: &Cluster, directory: &Path, node: &Namespace) -> Vec<Entry> {
    let home = home(directory, node);
    let content = cni::json::pretty(&config(network, directory, node)) + "\n";
    let file = File { path: crate::agents::config(&home), content };
    let below = |path: &str| Entry::Directory(home.join(path));
    vec![
        Entry::Directory(home.clone()),
        below(CACHE),
        below(RESULTS),
        below(EXPLANATIONS),
        Entry::File(file),
    ]
}

/// What a node's agent will want, from what it will see: the same function that the agent calls.
fn with_desired<T>(
    lab: &Lab,
    network: &Cluster,
    config: &Config,
    node: &Namespace,
    then: impl FnOnce(&Desired<'_>, &Nodes) -> T,
) -> Option<T> {
    let name: NodeName = node.name.parse().ok()?;
    let uplink = link("eth0");
    let wire = addresses::wire_of(network.underlay, node);
    let address = |family: &Family| Address::new(uplink.clone(), wire.node(*family, node));
    let machine = Machine {
        links: vec![Link { mtu: Some(MTU), ..Link::existing(uplink.clone()).up() }],
        addresses: network.families.all().iter().map(address).collect(),
        vni_filter: true,
        gpe_sound: kernel::release() >= (6, 5),
        ..Machine::default()
    };
    let nodes: Nodes = nodes(lab, network).into_iter().collect();
    Some(then(&fabric::desired(config, &name, &nodes, &machine), &nodes))
}

/// The largest packet of a cable.
const MTU: u32 = 1500;

/// What the agent will tell runtimes.
pub(super) fn conflist(lab: &Lab, network: &Cluster, config: &Config, node: &Namespace) -> Value {
    let list = with_desired(lab, network, config, node, |desired, _| {
        let joint = desired.joint.as_ref()?;
        Some(config.conflist(&joint.me, joint.mtu()?))
    });
    list.flatten().unwrap_or_default()
}

/// Whom the agent will name as out of reach.
pub(super) fn problems(
    lab: &Lab,
    network: &Cluster,
    config: &Config,
    node: &Namespace,
) -> Vec<String> {
    let problems = with_desired(lab, network, config, node, |desired, nodes| {
        let peers = nodes.iter().filter(|peer| peer.name.as_str() != node.name);
        peers.flat_map(|peer| desired.peer(peer).1).map(|it| it.to_string()).collect()
    });
    problems.unwrap_or_default()
}

/// What the agent will make on a node that nobody has touched, but for the firewall.
pub(super) fn changes(
    lab: &Lab,
    network: &Cluster,
    config: &Config,
    node: &Namespace,
) -> net::Plan {
    let objects = with_desired(lab, network, config, node, |desired, nodes| {
        let peers = nodes.iter().filter(|peer| peer.name.as_str() != node.name);
        let peers = peers.flat_map(|peer| desired.peer(peer).0);
        desired.shared.iter().cloned().chain(peers).collect::<Vec<_>>()
    });
    let space = node.space();
    let step = |object: Object| {
        let why = match &object {
            Object::Link(_) => "is the tunnel to all other nodes",
            Object::Vni(_) => "has the tunnel take packets of this cluster only",
            Object::Address(_) => "is the node's own address in the tunnel",
            Object::Rule(_) => "has pods reach other nodes by the tunnel, too",
            Object::Neighbour(_) => "says who is at the far end",
            Object::Fdb(_) => "says where the far end is",
            Object::Route(route) if route.table != net::MAIN_TABLE => "leads from pods to a node",
            Object::Route(_) => "leads to the pods of another node",
            _ => return None,
        };
        Some(net::Step::new(&space, net::Change::Create(object), why))
    };
    objects.into_iter().flatten().filter_map(step).collect()
}
