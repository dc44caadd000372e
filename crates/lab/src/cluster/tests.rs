//! What a cluster consists of, without a kernel.

use std::path::Path;

use fabric::Config;
use serde_json::Value;

use super::*;
use crate::{Name, Network};

fn cluster(backend: Backend, families: Families, underlay: Underlay) -> (Lab, Cluster) {
    let program: PathBuf = "/usr/bin/podwire".into();
    let network = Cluster {
        nodes: 3,
        pods: 2,
        backend,
        classic: false,
        host_port: None,
        dns: false,
        fallback: None,
        families,
        underlay,
        agents: false,
        program: program.clone(),
        plugins: Plugins::Program { file: program, names: vec!["bridge".to_owned()] },
    };
    let name: Name = "blue".parse().unwrap();
    let prefix = name.prefix();
    (Lab::new(name, &prefix, Network::Cluster(network.clone())).unwrap(), network)
}

fn file(plan: &Plan, name: &str) -> String {
    let found = plan.files.iter().find_map(|entry| match entry {
        Entry::File(file) if file.path.ends_with(name) => Some(file.content.clone()),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn it_survives_being_kept() {
    let (lab, _) = cluster(Backend::HostGw, Families::Dual, Underlay::Routed);
    let text = serde_json::to_string(&lab).unwrap();
    assert_eq!(serde_json::from_str::<Lab>(&text).unwrap(), lab);
}

#[test]
fn pods_are_counted_through_and_know_their_nodes() {
    let (lab, _) = cluster(Backend::Vxlan, Families::Ipv4, Underlay::Switch);
    let names: Vec<&str> = lab.namespaces.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names[..5], ["net", "outside", "node1", "node2", "node3"]);
    let pods: Vec<String> =
        lab.pods().map(|pod| format!("{} {}", pod.public, pod.node.as_ref().unwrap())).collect();
    assert_eq!(pods[1..4], ["blue-pod2 node1", "blue-pod3 node2", "blue-pod4 node2"]);
}

#[test]
fn what_is_added_takes_the_lowest_number_that_is_free() {
    let (lab, _) = cluster(Backend::Vxlan, Families::Ipv4, Underlay::Switch);
    let of_node2 = |it: &&Namespace| it.name == "node2" || it.node.as_deref() == Some("node2");
    let gone: Vec<Namespace> = lab.namespaces.iter().filter(of_node2).cloned().collect();
    let lab = lab.without(&gone);
    assert_eq!(lab.pods().count(), 4);
    let (lab, node) = lab.with_node().unwrap();
    assert_eq!((node.name.as_str(), node.public.as_str()), ("node2", "blue-node2"));
    let (lab, pod) = lab.with_pod(None).unwrap();
    assert_eq!((pod.name.as_str(), pod.node.as_deref()), ("pod3", Some("node2")));
    let (_, pod) = lab.with_pod(Some("node/node3")).unwrap();
    assert_eq!((pod.name.as_str(), pod.node.as_deref()), ("pod4", Some("node3")));
    assert!(lab.with_pod(Some("node9")).is_err());
}

#[test]
fn agents_read_what_a_person_would_write() {
    let directory = Path::new("/labs/blue");
    let (lab, network) = cluster(Backend::Gpe, Families::Dual, Underlay::Routed);
    let plan = plan(&lab, &network, directory);
    let nodes = fabric::parse_nodes(&file(&plan, "nodes.yaml")).unwrap();
    let told: Vec<String> = nodes
        .iter()
        .map(|node| {
            let addresses = node.addresses.iter().map(|(_, it)| it.to_string());
            let subnets = node.subnets.iter().map(|(_, it)| it.to_string());
            addresses.chain(subnets).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(
        told,
        [
            "192.0.2.11 2001:db8:1::11 10.244.1.0/24 fd00:10:244:1::/64",
            "198.51.100.12 2001:db8:2::12 10.244.2.0/24 fd00:10:244:2::/64",
            "192.0.2.13 2001:db8:1::13 10.244.3.0/24 fd00:10:244:3::/64",
        ]
    );
    let config = Config::parse(&file(&plan, "node2/agent.json")).unwrap();
    assert_eq!(config.node.unwrap().as_str(), "node2");
    assert_eq!((config.backend, config.listen), (Backend::Gpe, None));
    assert_eq!(config.run, Path::new("/labs/blue/nodes/node2/run"));
}

/// What the agent will write follows from what it will see.
#[test]
fn pods_are_attached_as_the_agent_will_say() {
    let mtu = |backend, families| {
        let (lab, network) = cluster(backend, families, Underlay::Switch);
        let node = lab.nodes().next().unwrap();
        let wiring = wiring(&lab, &network, Path::new("/labs/blue"), node);
        let file = wiring.file.unwrap();
        assert_eq!(file, Path::new("/labs/blue/nodes/node1/net.d/10-podwire.conflist"));
        wiring.list["plugins"][0]["mtu"].clone()
    };
    assert_eq!(mtu(Backend::Vxlan, Families::Ipv4), Value::from(1450));
    assert_eq!(mtu(Backend::Vxlan, Families::Dual), Value::from(1430));
    assert_eq!(mtu(Backend::Gpe, Families::Ipv6), Value::from(1444));
    assert_eq!(mtu(Backend::HostGw, Families::Dual), Value::from(1500));
}

#[test]
fn who_cannot_be_reached_is_known_beforehand() {
    let limits = |backend, underlay| {
        let (lab, network) = cluster(backend, Families::Ipv4, underlay);
        let limits = limits(&lab, &network, Path::new("/labs/blue")).into_iter();
        limits.map(|(object, _)| object).collect::<Vec<_>>()
    };
    assert_eq!(limits(Backend::HostGw, Underlay::Switch), [""; 0]);
    assert_eq!(limits(Backend::Vxlan, Underlay::Routed), [""; 0]);
    assert_eq!(
        limits(Backend::HostGw, Underlay::Routed),
        ["node/node1", "node/node2", "node/node2", "node/node3"]
    );
    let (lab, network) = cluster(Backend::HostGw, Families::Dual, Underlay::Routed);
    let network = Cluster { fallback: Some(Backend::Vxlan), ..network };
    assert!(super::limits(&lab, &network, Path::new("/labs/blue")).is_empty());
}

#[test]
fn agents_run_once_where_none_is_at_work() {
    let (lab, network) = cluster(Backend::Vxlan, Families::Ipv4, Underlay::Switch);
    let (lab, node) = lab.with_node().unwrap();
    let agents = |running: &[&str]| -> Vec<(String, bool)> {
        let running = running.iter().map(|it| (*it).to_owned()).collect();
        let plan = plan_node(&lab, &network, Path::new("/labs/blue"), &node, &running);
        let runs = plan.steps.iter().filter_map(Step::agent);
        runs.map(|run| (run.node.clone(), run.stays)).collect()
    };
    let once = |node: &str| (node.to_owned(), false);
    assert_eq!(agents(&[]), [once("node1"), once("node2"), once("node3"), once("node4")]);
    assert_eq!(agents(&["node1", "node3"]), [once("node2"), ("node4".to_owned(), true)]);
}

#[test]
fn a_cluster_has_one_to_fifty_nodes() {
    let (_, network) = cluster(Backend::Vxlan, Families::Ipv4, Underlay::Switch);
    for (nodes, fits) in [(0, false), (1, true), (50, true), (51, false)] {
        let network = Network::Cluster(Cluster { nodes, ..network.clone() });
        assert_eq!(Lab::new("blue".parse().unwrap(), "", network).is_ok(), fits, "{nodes}");
    }
}
