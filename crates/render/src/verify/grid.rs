//! From whom to whom: a table of hosts, or of nodes where there are many.

use std::collections::BTreeMap;

use diagnosis::verify::{HostKind, Report, Rule, Verdict};

use crate::scene::shown;

/// A table of who reaches whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    /// What rows and columns stand for.
    pub(super) names: Vec<String>,
    /// By row and column; `None` where nothing was asked.
    pub(super) cells: Vec<Vec<Option<Cell>>>,
    /// Each name stands for a node with its pods.
    pub(super) is_folded: bool,
}

/// What came of all between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// The worst of it.
    pub(super) verdict: Verdict,
    /// How many pairs came out as good as they should, and how many there are.
    pub(super) good: usize,
    pub(super) all: usize,
}

/// The table with no more than `most` names.
pub(super) fn grid(report: &Report, most: usize) -> Grid {
    let wanted = |kind: HostKind| matches!(kind, HostKind::Pod | HostKind::Node);
    let all: Vec<usize> =
        (0..report.hosts.len()).filter(|place| wanted(report.hosts[*place].kind)).collect();
    let is_folded = all.len() > most;
    // The row of each host.
    let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    let mut of_node: BTreeMap<Option<usize>, usize> = BTreeMap::new();
    for place in all {
        let host = &report.hosts[place];
        let row = if is_folded {
            *of_node.entry(host.node).or_insert_with(|| {
                let name = host.node.map_or("(no node)", |node| &report.hosts[node].name);
                names.push(shown(name));
                names.len() - 1
            })
        } else {
            names.push(shown(&host.name));
            names.len() - 1
        };
        rows.insert(place, row);
    }
    let mut cells = vec![vec![None; names.len()]; names.len()];
    let is_between =
        |rule: Rule| matches!(rule, Rule::PodToPod | Rule::NodeToPod | Rule::PodToNode | Rule::Mtu);
    for pair in report.results.iter().filter(|pair| is_between(pair.rule)) {
        let (Some(row), Some(column)) = (rows.get(&pair.from), rows.get(&pair.to)) else {
            continue;
        };
        let cell: &mut Option<Cell> = &mut cells[*row][*column];
        let cell = cell.get_or_insert(Cell { verdict: Verdict::Pass, good: 0, all: 0 });
        cell.verdict = cell.verdict.max(pair.verdict);
        cell.good += usize::from(pair.verdict == Verdict::Pass);
        cell.all += 1;
    }
    // Who was not asked about has no row.
    let is_empty = |row: usize| {
        cells[row].iter().all(Option::is_none) && cells.iter().all(|it| it[row].is_none())
    };
    let kept: Vec<usize> = (0..names.len()).filter(|row| !is_empty(*row)).collect();
    Grid {
        names: kept.iter().map(|row| names[*row].clone()).collect(),
        cells: kept
            .iter()
            .map(|row| kept.iter().map(|column| cells[*row][*column]).collect())
            .collect(),
        is_folded,
    }
}

impl Grid {
    /// What a cell says.
    pub(super) fn text(&self, cell: Option<Cell>) -> String {
        match cell {
            None => "-".to_owned(),
            Some(Cell { verdict, good, all }) if self.is_folded || verdict != Verdict::Pass => {
                format!("{} {good}/{all}", super::word(verdict))
            }
            Some(Cell { verdict, .. }) => super::word(verdict).to_owned(),
        }
    }
}
