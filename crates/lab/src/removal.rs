//! What removing a part of a lab takes: a pod, or a node with its pods. It does nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use net::{Change, Object, Space};

use crate::{AgentRun, Cluster, Lab, Namespace, Network, Plan, Role, cluster};

/// What removing a part of a lab takes, in order: its pods leave the network, its agents and its
/// namespaces end, and the others forget it.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// The lab as it is.
    pub lab: Lab,
    /// The lab's own directory.
    pub directory: PathBuf,
    /// What is removed: a pod, or a node and then its pods.
    pub part: Vec<Namespace>,
    /// How the others forget a node.
    pub farewell: Option<Farewell>,
}

/// How a node is forgotten.
#[derive(Clone, Debug, PartialEq)]
pub struct Farewell {
    /// Takes its cable away, at the other end.
    pub cable: Option<net::Step>,
    /// Has the others know the nodes that are left.
    pub plan: Plan,
    /// The directory of its files, which goes last.
    pub home: PathBuf,
}

impl Removal {
    pub(crate) fn of_pod(lab: &Lab, directory: &Path, pod: &Namespace) -> Self {
        let (lab, directory) = (lab.clone(), directory.to_owned());
        Self { lab, directory, part: vec![pod.clone()], farewell: None }
    }

    pub(crate) fn of_node(
        lab: &Lab,
        network: &Cluster,
        directory: &Path,
        node: &Namespace,
        running: &BTreeSet<String>,
    ) -> Self {
        let of_node = |it: &&Namespace| *it == node || it.node.as_ref() == Some(&node.name);
        let part: Vec<Namespace> = lab.namespaces.iter().filter(of_node).cloned().collect();
        let net = lab.namespaces.iter().find(|it| it.role == Role::Underlay);
        let cable = net.map(|net| {
            let space = Space::At(net.private_path(directory));
            let gone = Change::Delete(Object::Link(cluster::cable(node)));
            net::Step::new(&space, gone, "takes the cable away")
        });
        let plan = cluster::plan_farewell(&lab.without(&part), network, directory, running);
        let home = cluster::home(directory, node);
        let farewell = Some(Farewell { cable, plan, home });
        Self { lab: lab.clone(), directory: directory.to_owned(), part, farewell }
    }

    /// The lab as it is afterwards.
    pub(crate) fn after(&self) -> Lab {
        self.lab.without(&self.part)
    }

    /// The agents that end with it, if they are at work.
    pub(crate) fn agents(&self) -> Vec<AgentRun> {
        let Network::Cluster(network) = &self.lab.network else { return Vec::new() };
        let nodes = self.part.iter().filter(|it| it.role == Role::Node);
        nodes.map(|it| cluster::agent(&self.lab, network, &self.directory, it, true)).collect()
    }

    /// The pods that go, last one first.
    pub fn pods(&self) -> impl Iterator<Item = &Namespace> {
        self.part.iter().rev().filter(|it| it.role == Role::Pod)
    }
}
