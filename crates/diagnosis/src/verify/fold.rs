//! Many failures as a few causes.
//!
//! A cause is a scope (all pairs, a node, two nodes, a pod, what it sends …), narrowed to one rule,
//! protocol or family where only that fails. It explains a failure only if nothing in its scope has
//! passed. The cause that explains most comes first, of two that explain as much the narrower one;
//! what it explains is taken away, until nothing is left. So the same failures give the same causes,
//! and each failure has one.

use std::collections::{BTreeMap, HashMap};

use super::hosts::Host;
use super::judge::{Cell, Class, Verdict};
use super::plan::Protocol;
use super::rule::Rule;

/// Between whom. The order is that of preference between scopes that explain as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Scope {
    /// One to another.
    Pair(usize, usize),
    /// All that one pod sends.
    Sent(usize),
    /// All that is sent to one pod.
    Received(usize),
    /// Both.
    Pod(usize),
    /// Both, as far as another node is at the other end.
    PodAcross(usize),
    /// Within a node.
    Within(usize),
    /// From one node to another.
    NodeWay(usize, usize),
    /// Between the pods of the first node and all of the second.
    PodsAndNode(usize, usize),
    /// Between two nodes.
    NodePair(usize, usize),
    /// All that the pods of a node send to others.
    FromPods(usize),
    /// All that others send to the pods of a node.
    ToPods(usize),
    /// Both.
    Pods(usize),
    /// All that leaves a node for others.
    FromNode(usize),
    /// All that comes to a node from others.
    ToNode(usize),
    /// Both.
    Node(usize),
    /// Between all nodes.
    Across(Cluster),
    /// Everything.
    All(Cluster),
}

/// A cluster, by the place of its first host.
pub(super) type Cluster = usize;

/// What alone fails in a scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Only {
    pub(super) rule: Option<Rule>,
    pub(super) protocol: Option<Protocol>,
    pub(super) v6: Option<bool>,
}

/// Failures with one explanation.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) layer: Layer,
    pub(super) scope: Scope,
    pub(super) only: Only,
    /// The places of the cells.
    pub(super) cells: Vec<usize>,
}

/// What is compared with each other: a large packet that is lost says nothing about small ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Layer {
    /// Small packets that are lost.
    Lost,
    /// Source addresses.
    Changed,
    /// Large packets of pods.
    Large,
    /// Large packets between nodes.
    Below,
    /// One rule about something else.
    Rule(Rule),
}

type Key = (Layer, Scope, Only);

/// How many causes are told one by one.
const MOST: usize = 200;

/// Puts failures into groups.
pub(super) fn fold(hosts: &[Host], cells: &[Cell]) -> Vec<Group> {
    let failing: Vec<usize> =
        (0..cells.len()).filter(|it| cells[*it].verdict == Verdict::Fail).collect();
    let (rest, mut direct): (Vec<usize>, Vec<usize>) =
        failing.into_iter().partition(|it| cells[*it].rule == Rule::SelfView);
    // What every packet of a pod suffers, those to services do, too.
    let is_service = |it: &mut usize| is_service(cells[*it].rule) && !is_changed(&cells[*it]);
    let services: Vec<usize> = direct.extract_if(.., is_service).collect();
    let mut groups = cover(hosts, cells, direct);
    let left = follow(hosts, cells, services, &mut groups);
    groups.extend(cover(hosts, cells, left));
    views(cells, rest, &mut groups);
    groups
}

fn is_service(rule: Rule) -> bool {
    matches!(rule, Rule::Dns | Rule::HostPort | Rule::Hairpin | Rule::Outside)
}

/// Whether it has arrived with another source, as everything else from there may have.
fn is_changed(cell: &Cell) -> bool {
    matches!(cell.class, Some(Class::Changed(_)))
}

/// Puts failures to the causes that explain them anyway; gives those that none does.
fn follow(hosts: &[Host], cells: &[Cell], places: Vec<usize>, groups: &mut [Group]) -> Vec<usize> {
    let mut left = Vec::new();
    for place in places {
        let Cell { from, to, v6, protocol, .. } = cells[place];
        let home = hosts[from].home;
        let explains = |group: &&mut Group| {
            let Only { rule, protocol: only, v6: family } = group.only;
            let narrows = rule.is_some()
                || only.is_some_and(|only| Some(only) != protocol)
                || family.is_some_and(|family| family != v6);
            let has = match group.scope {
                Scope::Pod(pod) => pod == from || pod == to,
                Scope::Sent(pod) => pod == from,
                Scope::Received(pod) => pod == to,
                Scope::All(_) => true,
                // What leaves the node leaves the cluster by the same way.
                Scope::FromPods(node)
                | Scope::Pods(node)
                | Scope::FromNode(node)
                | Scope::Node(node) => cells[place].rule == Rule::Outside && home == Some(node),
                Scope::PodAcross(pod) => cells[place].rule == Rule::Outside && pod == from,
                _ => false,
            };
            group.layer == Layer::Lost && has && !narrows
        };
        match groups.iter_mut().find(explains) {
            Some(group) => group.cells.push(place),
            None => left.push(place),
        }
    }
    left
}

/// The fewest causes, greedily.
fn cover(hosts: &[Host], cells: &[Cell], direct: Vec<usize>) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut candidates: HashMap<Key, Candidate> = HashMap::new();
    for place in &direct {
        for key in keys(hosts, &cells[*place]) {
            candidates.entry(key).or_default().failing.push(*place);
        }
    }
    if candidates.is_empty() {
        return groups;
    }
    for cell in cells.iter().filter(|it| it.verdict == Verdict::Pass) {
        for layer in passing_layers(hosts, cell) {
            for key in of_layer(hosts, cell, layer) {
                if let Some(candidate) = candidates.get_mut(&key) {
                    candidate.has_passed = true;
                }
            }
        }
    }
    candidates.retain(|_, candidate| !candidate.has_passed);
    let mut sizes: HashMap<Key, usize> =
        candidates.iter().map(|(key, it)| (*key, it.failing.len())).collect();
    let mut left: std::collections::BTreeSet<usize> = direct.into_iter().collect();
    while !left.is_empty() {
        let order =
            |key: &Key| (std::cmp::Reverse(sizes[key]), key.0, key.1, breadth(key.2), key.2);
        let Some(best) = sizes.keys().copied().min_by_key(order).filter(|it| sizes[it] > 0) else {
            break;
        };
        let found: Vec<usize> =
            candidates[&best].failing.iter().copied().filter(|it| left.contains(it)).collect();
        for place in &found {
            left.remove(place);
            for key in keys(hosts, &cells[*place]) {
                if let Some(size) = sizes.get_mut(&key) {
                    *size -= 1;
                }
            }
        }
        let (layer, scope, only) = best;
        groups.push(Group { layer, scope, only, cells: found });
        if groups.len() == MOST {
            gather(hosts, cells, &mut left, &mut groups);
        }
    }
    groups
}

/// What is left when there are too many causes: one a layer.
fn gather(
    hosts: &[Host],
    cells: &[Cell],
    left: &mut std::collections::BTreeSet<usize>,
    groups: &mut Vec<Group>,
) {
    let mut others: BTreeMap<(Layer, Cluster), Vec<usize>> = BTreeMap::new();
    for place in std::mem::take(left) {
        let key = (layer(hosts, &cells[place]), cluster(hosts, cells[place].from));
        others.entry(key).or_default().push(place);
    }
    groups.extend(others.into_iter().map(|((layer, cluster), cells)| Group {
        layer,
        scope: Scope::All(cluster),
        only: Only::default(),
        cells,
    }));
}

/// A pod that others see by another address has that from what changes its packets.
fn views(cells: &[Cell], places: Vec<usize>, groups: &mut Vec<Group>) {
    for place in places {
        let cell = &cells[place];
        let is_its = |group: &&mut Group| {
            group.layer == Layer::Changed
                && group
                    .cells
                    .iter()
                    .any(|it| cells[*it].from == cell.from && cells[*it].v6 == cell.v6)
        };
        match groups.iter_mut().find(is_its) {
            Some(group) => group.cells.push(place),
            None => groups.push(Group {
                layer: Layer::Changed,
                scope: Scope::Sent(cell.from),
                only: Only { rule: Some(Rule::SelfView), ..Only::default() },
                cells: vec![place],
            }),
        }
    }
}

#[derive(Debug, Default)]
struct Candidate {
    failing: Vec<usize>,
    has_passed: bool,
}

/// How many things a cause is narrowed to: a wide one is simpler.
fn breadth(only: Only) -> usize {
    usize::from(only.rule.is_some())
        + usize::from(only.protocol.is_some())
        + usize::from(only.v6.is_some())
}

fn keys(hosts: &[Host], cell: &Cell) -> Vec<Key> {
    of_layer(hosts, cell, layer(hosts, cell))
}

fn layer(hosts: &[Host], cell: &Cell) -> Layer {
    match cell.rule {
        Rule::Mtu => below(hosts, cell),
        _ if is_changed(cell) => Layer::Changed,
        rule if rule.is_reach() => Layer::Lost,
        rule => Layer::Rule(rule),
    }
}

fn below(hosts: &[Host], cell: &Cell) -> Layer {
    match hosts[cell.from].kind {
        super::hosts::Kind::Node => Layer::Below,
        _ => Layer::Large,
    }
}

/// What a cell that passed speaks against.
fn passing_layers(hosts: &[Host], cell: &Cell) -> Vec<Layer> {
    match cell.rule {
        Rule::Mtu => vec![below(hosts, cell)],
        rule if rule.is_reach() => vec![Layer::Lost, Layer::Changed],
        Rule::SelfView => vec![],
        Rule::HostPort => vec![Layer::Rule(Rule::HostPort), Layer::Changed],
        rule => vec![Layer::Rule(rule)],
    }
}

/// All candidates that a cell is in.
fn of_layer(hosts: &[Host], cell: &Cell, layer: Layer) -> Vec<Key> {
    let rules = [None, Some(cell.rule)];
    // Where a layer has but one, it is no restriction.
    let rules =
        if matches!(layer, Layer::Lost | Layer::Changed) { &rules[..] } else { &rules[..1] };
    let protocols = [None, cell.protocol];
    let has_several = matches!(layer, Layer::Lost | Layer::Changed | Layer::Rule(_));
    let protocols =
        if has_several && cell.protocol.is_some() { &protocols[..] } else { &protocols[..1] };
    let mut keys = Vec::with_capacity(96);
    for scope in scopes(hosts, cell) {
        for rule in rules {
            for protocol in protocols {
                for v6 in [None, Some(cell.v6)] {
                    let only = Only { rule: *rule, protocol: *protocol, v6 };
                    keys.push((layer, scope, only));
                }
            }
        }
    }
    keys
}

fn scopes(hosts: &[Host], cell: &Cell) -> Vec<Scope> {
    let (from, to) = match cell.backward {
        true => (cell.to, cell.from),
        false => (cell.from, cell.to),
    };
    let cluster = cluster(hosts, from);
    let mut scopes = vec![Scope::Pair(from, to), Scope::All(cluster)];
    let pod = |place: usize| hosts[place].kind == super::hosts::Kind::Pod;
    if pod(from) {
        scopes.extend([Scope::Sent(from), Scope::Pod(from)]);
    }
    if pod(to) {
        scopes.push(Scope::Received(to));
        if to != from {
            scopes.push(Scope::Pod(to));
        }
    }
    let homes = [from, to].map(|place| hosts[place].home);
    if cell.rule == Rule::Outside {
        scopes.extend(homes[0].map(Scope::FromPods));
    }
    if let [Some(one), Some(other)] = homes {
        if one == other {
            scopes.push(Scope::Within(one));
        } else {
            if pod(from) {
                scopes.extend([
                    Scope::PodAcross(from),
                    Scope::PodsAndNode(one, other),
                    Scope::FromPods(one),
                    Scope::Pods(one),
                ]);
            }
            if pod(to) {
                scopes.extend([
                    Scope::PodAcross(to),
                    Scope::PodsAndNode(other, one),
                    Scope::ToPods(other),
                    Scope::Pods(other),
                ]);
            }
            scopes.extend([
                Scope::NodeWay(one, other),
                Scope::NodePair(one.min(other), one.max(other)),
                Scope::FromNode(one),
                Scope::ToNode(other),
                Scope::Node(one),
                Scope::Node(other),
                Scope::Across(cluster),
            ]);
        }
    }
    scopes
}

fn cluster(hosts: &[Host], place: usize) -> Cluster {
    let lab = &hosts[place].lab;
    hosts.iter().position(|host| host.lab == *lab).unwrap_or(place)
}

#[cfg(test)]
mod tests {
    use super::super::hosts::Kind;
    use super::*;

    /// Two pods a node: pods 0 to 5 on homes 100 to 102, then the nodes.
    fn hosts() -> Vec<Host> {
        let host = |kind: Kind, number: usize, home: usize| Host {
            kind,
            name: format!("{number}"),
            object: String::new(),
            at: number,
            lab: None,
            home: Some(home),
            addresses: vec![],
            mtu: 1450,
            beside: 0,
        };
        let pods = (0..6).map(|pod| host(Kind::Pod, pod, 100 + pod / 2));
        pods.chain((0..3).map(|node| host(Kind::Node, 100 + node, 100 + node))).collect()
    }

    fn all(fails: impl Fn(&Cell) -> Option<Class>) -> Vec<Cell> {
        let hosts = hosts();
        let mut cells = Vec::new();
        for from in 0..hosts.len() {
            for to in 0..hosts.len() {
                let rule = match (hosts[from].kind, hosts[to].kind) {
                    (Kind::Pod, Kind::Pod) if from != to => Rule::PodToPod,
                    (Kind::Node, Kind::Pod) => Rule::NodeToPod,
                    (Kind::Pod, Kind::Node) => Rule::PodToNode,
                    _ => continue,
                };
                for v6 in [false, true] {
                    for protocol in [Protocol::Icmp, Protocol::Udp, Protocol::Tcp] {
                        let mut cell = Cell::passed(rule, from, to, v6, Some(protocol));
                        if let Some(class) = fails(&cell) {
                            (cell.verdict, cell.class) = (Verdict::Fail, Some(class));
                        }
                        cells.push(cell);
                    }
                }
            }
        }
        cells
    }

    #[track_caller]
    fn folds(fails: impl Fn(&Cell) -> Option<Class>, expected: &[(Scope, Only)]) {
        let cells = all(fails);
        let groups = fold(&hosts(), &cells);
        let found: Vec<(Scope, Only)> = groups.iter().map(|it| (it.scope, it.only)).collect();
        assert_eq!(found, expected);
        // Each failure has one cause.
        let mut told: Vec<usize> = groups.into_iter().flat_map(|it| it.cells).collect();
        told.sort_unstable();
        let failing =
            (0..cells.len()).filter(|it| cells[*it].verdict == Verdict::Fail).collect::<Vec<_>>();
        assert_eq!(told, failing);
    }

    fn lost(is: bool) -> Option<Class> {
        is.then_some(Class::Lost)
    }

    const ANY: Only = Only { rule: None, protocol: None, v6: None };

    #[test]
    fn nothing_has_no_cause() {
        folds(|_| None, &[]);
    }

    #[test]
    fn a_pod_two_nodes_or_all_are_one_cause() {
        let home = |place: usize| hosts()[place].home.unwrap_or_default();
        folds(|it| lost(it.from == 3 || it.to == 3), &[(Scope::Pod(3), ANY)]);
        folds(|it| lost(it.from == 3), &[(Scope::Sent(3), ANY)]);
        folds(|it| lost(it.to == 3), &[(Scope::Received(3), ANY)]);
        folds(|it| lost(it.from == 3 && it.to == 1), &[(Scope::Pair(3, 1), ANY)]);
        let between = |it: &Cell| {
            let mut both = [home(it.from), home(it.to)];
            both.sort_unstable();
            both == [101, 102]
        };
        folds(|it| lost(between(it)), &[(Scope::NodePair(101, 102), ANY)]);
        let way = |it: &Cell| home(it.from) == 101 && home(it.to) == 102;
        folds(|it| lost(way(it)), &[(Scope::NodeWay(101, 102), ANY)]);
        let crosses = |it: &Cell| home(it.from) != home(it.to);
        folds(|it| lost(crosses(it)), &[(Scope::Across(0), ANY)]);
        let of_node = |it: &Cell| crosses(it) && (home(it.from) == 100 || home(it.to) == 100);
        folds(|it| lost(of_node(it)), &[(Scope::Node(100), ANY)]);
        folds(|_| lost(true), &[(Scope::All(0), ANY)]);
        // The node itself goes on.
        let of_pods = |it: &Cell| crosses(it) && [it.from, it.to].iter().any(|end| *end < 2);
        folds(|it| lost(of_pods(it)), &[(Scope::Pods(100), ANY)]);
        let of_one = |it: &Cell| crosses(it) && [it.from, it.to].contains(&1);
        folds(|it| lost(of_one(it)), &[(Scope::PodAcross(1), ANY)]);
        let pods_and_node = |it: &Cell| {
            let is_pod = |end: usize| end < 2;
            (is_pod(it.from) && home(it.to) == 102) || (home(it.from) == 102 && is_pod(it.to))
        };
        folds(|it| lost(pods_and_node(it)), &[(Scope::PodsAndNode(100, 102), ANY)]);
    }

    #[test]
    fn what_alone_fails_is_said() {
        let udp = Only { protocol: Some(Protocol::Udp), ..ANY };
        folds(|it| lost(it.protocol == Some(Protocol::Udp)), &[(Scope::All(0), udp)]);
        let v6 = Only { v6: Some(true), ..ANY };
        folds(|it| lost(it.v6 && it.to == 2), &[(Scope::Received(2), v6)]);
        let to_nodes = Only { rule: Some(Rule::PodToNode), ..ANY };
        let nat = Class::Changed("192.0.2.1".parse().unwrap());
        folds(|it| (it.rule == Rule::PodToNode).then_some(nat), &[(Scope::All(0), to_nodes)]);
    }

    /// The way there is fine, and the way back is not.
    #[test]
    fn answers_that_are_lost_are_of_the_other_direction() {
        let home = |place: usize| hosts()[place].home.unwrap_or_default();
        let mut cells = all(|it| {
            let ends = [home(it.from), home(it.to)];
            lost(ends == [100, 101] || ends == [101, 100])
        });
        for cell in &mut cells {
            cell.backward = cell.class.is_some() && home(cell.from) == 101;
        }
        let groups = fold(&hosts(), &cells);
        assert_eq!(groups.len(), 1);
        assert_eq!((groups[0].scope, groups[0].only), (Scope::NodeWay(100, 101), ANY));
    }

    #[test]
    fn two_things_are_two_causes() {
        folds(
            |it| lost(it.from == 0 || it.to == 0 || (it.from == 4 && it.to == 2)),
            &[(Scope::Pod(0), ANY), (Scope::Pair(4, 2), ANY)],
        );
    }
}
