//! The nodes of a cluster without contradictions: of two nodes that claim the same, one has it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Cluster, Code, Config, Family, Node, NodeName, Problem};

/// Nodes whose subnets do not overlap and whose addresses are their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    by_name: BTreeMap<NodeName, Node>,
    pod_networks: Vec<IpNet>,
}

impl Nodes {
    /// Of what a source tells, what can be true at once. Of two nodes that claim the same, the one
    /// that had it `before` keeps it, so that what works goes on; else the first by name. The other
    /// is left without it and named.
    pub fn consistent(told: Cluster, before: &Self) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut nodes = Self { by_name: BTreeMap::new(), pod_networks: told.pod_networks };
        for node in told.nodes {
            match nodes.by_name.entry(node.name.clone()) {
                Entry::Vacant(place) => {
                    place.insert(node);
                }
                Entry::Occupied(_) => {}
            }
        }
        nodes.settle_addresses(before, &mut problems);
        nodes.settle_subnets(before, &mut problems);
        (nodes, problems)
    }

    /// All of it, to be kept.
    pub fn cluster(&self) -> Cluster {
        Cluster { nodes: self.iter().cloned().collect(), pod_networks: self.pod_networks.clone() }
    }

    /// All pods' addresses, where they are known beforehand: what is configured, else what the
    /// source says.
    pub fn pod_networks<'a>(&'a self, config: &'a Config) -> &'a [IpNet] {
        if config.pod_networks.is_empty() { &self.pod_networks } else { &config.pod_networks }
    }

    /// By name.
    pub fn get(&self, name: &NodeName) -> Option<&Node> {
        self.by_name.get(name)
    }

    /// All of them by name.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.by_name.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    fn settle_addresses(&mut self, before: &Self, problems: &mut Vec<Problem>) {
        let mut owners: HashMap<IpAddr, NodeName> = HashMap::new();
        let mut losses: Vec<(NodeName, Family)> = Vec::new();
        for node in self.by_name.values() {
            for (family, address) in node.addresses.iter() {
                let had = |name: &NodeName| {
                    before.get(name).and_then(|node| node.addresses.get(family)) == Some(address)
                };
                let Some(owner) = owners.get(address) else {
                    owners.insert(*address, node.name.clone());
                    continue;
                };
                let (keeper, loser) = match had(&node.name) && !had(owner) {
                    true => (node.name.clone(), owner.clone()),
                    false => (owner.clone(), node.name.clone()),
                };
                let text = format!("has the address {address} of node {keeper}; give it its own");
                problems.push(Problem::peer(&loser, Code::AddressTwice, text));
                owners.insert(*address, keeper);
                losses.push((loser, family));
            }
        }
        for (name, family) in losses {
            if let Some(node) = self.by_name.get_mut(&name) {
                *node.addresses.place(family) = None;
            }
        }
    }

    fn settle_subnets(&mut self, before: &Self, problems: &mut Vec<Problem>) {
        for family in Family::ALL {
            let mut claims: Vec<(IpNet, bool, NodeName)> = Vec::new();
            for node in self.by_name.values() {
                let Some(subnet) = node.subnets.get(family) else { continue };
                let had = before.get(&node.name).and_then(|node| node.subnets.get(family));
                claims.push((*subnet, had == Some(subnet), node.name.clone()));
            }
            // Sorted by network, a subnet overlaps with another only if it does with a neighbour.
            claims.sort_by_key(|(subnet, _, _)| (subnet.network(), subnet.prefix_len()));
            let mut kept: Vec<&(IpNet, bool, NodeName)> = Vec::new();
            let mut lost: Vec<(NodeName, String)> = Vec::new();
            for claim in &claims {
                let (subnet, had, name) = claim;
                let mut wins = true;
                // A claim that contains many small ones is weighed against each of them.
                while let Some(last) = kept.last().filter(|last| last.0.contains(subnet)) {
                    let text = |winner: &(IpNet, bool, NodeName), loser: &IpNet| {
                        format!(
                            "its pod subnet {loser} overlaps with {} of node {}; give it its own",
                            winner.0, winner.2
                        )
                    };
                    if (!had, name) < (!last.1, &last.2) {
                        lost.push((last.2.clone(), text(claim, &last.0)));
                        kept.pop();
                    } else {
                        lost.push((name.clone(), text(last, subnet)));
                        wins = false;
                        break;
                    }
                }
                if wins {
                    kept.push(claim);
                }
            }
            for (name, text) in lost {
                problems.push(Problem::peer(&name, Code::SubnetOverlap, text));
                if let Some(node) = self.by_name.get_mut(&name) {
                    *node.subnets.place(family) = None;
                }
            }
        }
    }
}

impl FromIterator<Node> for Nodes {
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Self {
        Self::consistent(nodes.into_iter().collect::<Vec<_>>().into(), &Self::default()).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, address: &str, subnet: &str) -> Node {
        let mut node = Node::new(name.parse().unwrap());
        let (address, subnet): (IpAddr, IpNet) =
            (address.parse().unwrap(), subnet.parse().unwrap());
        *node.addresses.place(Family::of(address)) = Some(address);
        *node.subnets.place(Family::of_net(subnet)) = Some(subnet);
        node
    }

    fn owners(nodes: &Nodes) -> Vec<String> {
        nodes
            .iter()
            .map(|it| {
                format!("{} {:?} {:?}", it.name, it.addresses.v4.is_some(), it.subnets.v4.is_some())
            })
            .collect()
    }

    #[test]
    fn what_was_there_before_keeps_its_subnet() {
        let before: Nodes = [node("b", "192.0.2.2", "10.1.0.0/24")].into_iter().collect();
        let told =
            vec![node("a", "192.0.2.1", "10.1.0.0/16"), node("b", "192.0.2.2", "10.1.0.0/24")];
        let (nodes, problems) = Nodes::consistent(told.clone().into(), &before);
        assert_eq!(owners(&nodes), ["a true false", "b true true"]);
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!(
            problem.to_string(),
            "node a: its pod subnet 10.1.0.0/16 overlaps with 10.1.0.0/24 of node b; give it its own"
        );
        let (nodes, _) = Nodes::consistent(told.into(), &Nodes::default());
        assert_eq!(owners(&nodes), ["a true true", "b true false"]);
    }

    #[test]
    fn one_address_belongs_to_one_node() {
        let told =
            vec![node("a", "192.0.2.1", "10.1.0.0/24"), node("b", "192.0.2.1", "10.2.0.0/24")];
        let (nodes, problems) = Nodes::consistent(told.clone().into(), &Nodes::default());
        assert_eq!(owners(&nodes), ["a true true", "b false true"]);
        assert_eq!(problems[0].code, Code::AddressTwice);
        let before: Nodes = [told[1].clone()].into_iter().collect();
        let (nodes, _) = Nodes::consistent(told.into(), &before);
        assert_eq!(owners(&nodes), ["a false true", "b true true"]);
    }

    #[test]
    fn many_small_ones_within_a_large_one() {
        let mut told = vec![node("z", "192.0.2.1", "10.0.0.0/8")];
        told.extend((0..5).map(|n| {
            node(&format!("n{n}"), &format!("192.0.2.{}", n + 10), &format!("10.{n}.0.0/16"))
        }));
        let (nodes, problems) = Nodes::consistent(told.into(), &Nodes::default());
        assert_eq!(nodes.iter().filter(|it| it.subnets.v4.is_some()).count(), 5);
        assert_eq!(problems.len(), 1);
    }
}
