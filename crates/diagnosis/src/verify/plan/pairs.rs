//! Between whom questions are asked: all, or a sample that leaves out no pod and no two nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Builder, Cluster};

/// Between whom questions are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// All, up to [`MOST_PAIRS`] of pods in a cluster; beyond, as many as [`Pairs::Sample`] takes by
    /// itself.
    Usual,
    /// All, however many.
    All,
    /// About so many of pods, and as many of nodes and pods; never fewer than it takes to leave out
    /// no pod and no two nodes.
    Sample(usize),
}

/// How many pairs of pods are all asked where nobody says how many.
pub const MOST_PAIRS: usize = 10_000;
/// How many there are in a sample where nobody says how many.
const USUAL_SAMPLE: usize = 2_000;

/// That not all pairs are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Sample {
    /// How many pairs of pods are asked.
    pub asked: usize,
    /// How many there are.
    pub all: usize,
}

impl Builder<'_, '_> {
    /// Ordered pairs of pods.
    pub(super) fn pod_pairs(&mut self, cluster: &Cluster, pairs: Pairs) -> Vec<(usize, usize)> {
        let pods = &cluster.pods;
        let all = pods.iter().flat_map(|from| pods.iter().map(move |to| (*from, *to)));
        let all = all.filter(|(from, to)| from != to && self.is_wanted(cluster, *from, *to));
        let Some(size) = sample_size(pairs, all.clone().count()) else { return all.collect() };
        let count = all.clone().count();
        let homes = self.by_home(pods);
        let mut chosen: BTreeSet<(usize, usize)> = BTreeSet::new();
        // Each pod sends and is sent to: one ring of all, dealt out by node, so that neighbours are
        // on different ones.
        let ring = dealt(&homes);
        chosen.extend(ring.iter().zip(ring.iter().cycle().skip(1)).map(|(a, b)| (*a, *b)));
        // Each two nodes, in both directions, by other pods each time; and each node with itself.
        for (row, from) in homes.iter().enumerate() {
            for (column, to) in homes.iter().enumerate() {
                let a = from[column % from.len()];
                let b = to[(row + usize::from(row == column)) % to.len()];
                let b = if a == b { to[(row + 1) % to.len()] } else { b };
                if a != b {
                    chosen.insert((a, b));
                }
            }
        }
        chosen.retain(|(from, to)| self.is_wanted(cluster, *from, *to));
        let all: Vec<(usize, usize)> = all.collect();
        fill(&mut chosen, &all, size);
        let sample = self.plan.sample.get_or_insert(Sample { asked: 0, all: 0 });
        sample.asked += chosen.len();
        sample.all += count;
        chosen.into_iter().collect()
    }

    /// Pairs of a node and a pod.
    pub(super) fn node_pairs(&self, cluster: &Cluster, pairs: Pairs) -> Vec<(usize, usize)> {
        let (nodes, pods) = (&cluster.nodes, &cluster.pods);
        let all = nodes.iter().flat_map(|node| pods.iter().map(move |pod| (*node, *pod)));
        let all: Vec<(usize, usize)> =
            all.filter(|(node, pod)| self.is_wanted(cluster, *node, *pod)).collect();
        let Some(size) = sample_size(pairs, all.len()) else { return all };
        let hosts = &self.plan.hosts;
        let mut chosen: BTreeSet<(usize, usize)> = BTreeSet::new();
        // Each pod with its own node and with another; each node with a pod of each other.
        for (turn, pod) in pods.iter().enumerate() {
            let own = nodes.iter().find(|node| Some(hosts[**node].at) == hosts[*pod].home);
            chosen.extend(own.map(|node| (*node, *pod)));
            chosen.insert((nodes[turn % nodes.len()], *pod));
        }
        for (turn, node) in nodes.iter().enumerate() {
            for home in self.by_home(pods) {
                chosen.insert((*node, home[turn % home.len()]));
            }
        }
        chosen.retain(|(node, pod)| self.is_wanted(cluster, *node, *pod));
        fill(&mut chosen, &all, size);
        chosen.into_iter().collect()
    }

    /// The pods of each node.
    fn by_home(&self, pods: &[usize]) -> Vec<Vec<usize>> {
        let mut homes: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for pod in pods {
            homes.entry(self.plan.hosts[*pod].home).or_default().push(*pod);
        }
        homes.into_values().collect()
    }
}

/// How many of so many pairs are asked; `None` for all.
fn sample_size(pairs: Pairs, all: usize) -> Option<usize> {
    match pairs {
        Pairs::All => None,
        Pairs::Usual if all <= MOST_PAIRS => None,
        Pairs::Usual => Some(USUAL_SAMPLE),
        Pairs::Sample(size) => Some(size).filter(|size| *size < all),
    }
}

/// One of each in turn, until none is left.
fn dealt(homes: &[Vec<usize>]) -> Vec<usize> {
    let longest = homes.iter().map(Vec::len).max().unwrap_or_default();
    let turn = |turn: usize| homes.iter().filter_map(move |home| home.get(turn).copied());
    (0..longest).flat_map(turn).collect()
}

/// Chooses more, always the same ones, until there are enough.
fn fill(chosen: &mut BTreeSet<(usize, usize)>, all: &[(usize, usize)], size: usize) {
    if all.is_empty() {
        return;
    }
    let size = size.min(all.len());
    // The golden ratio's steps meet every place before one comes twice, if the number of places has
    // no factor in common with the step.
    let mut step = (all.len() as f64 * 0.618_033_988_75) as usize | 1;
    while gcd(step, all.len()) != 1 {
        step += 2;
    }
    let mut at = 0;
    for _ in 0..all.len() {
        if chosen.len() >= size {
            return;
        }
        chosen.insert(all[at]);
        at = (at + step) % all.len();
    }
}

fn gcd(one: usize, other: usize) -> usize {
    if other == 0 { one } else { gcd(other, one % other) }
}
