//! What is printed: medians, their ratios, and how they stand to the goals.

use std::fmt::Write;

use serde_json::{Value, json};

use super::contender::{Contender, Verb};
use super::measure::{Measures, What};

/// One line of the table.
struct Row {
    name: String,
    what: What,
    unit: Unit,
    /// How many times as good as the reference it shall be.
    goal: Option<f64>,
    /// Whether it shall be near the floor.
    has_floor: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Millis,
    Rate,
    Megabytes,
}

/// How near the floor podwire shall be.
const NEAR: f64 = 1.4;
const LARGEST_PROGRAM: u64 = 3_000_000;
const MOST_MEMORY: f64 = 4_000_000.0;

/// The numbers of a run.
pub(crate) struct Report {
    rows: Vec<Row>,
    sizes: Option<[(Contender, u64); 2]>,
}

impl Report {
    /// Gathers what is there to say about the parts that were wanted.
    pub(crate) fn new(
        measures: &Measures,
        sizes: [(Contender, u64); 2],
        wants: impl Fn(&str) -> bool,
    ) -> Self {
        let mut rows = rows();
        rows.retain(|row| !measures.of(row.what, Contender::Podwire).is_empty());
        Self { rows, sizes: wants("size").then_some(sizes) }
    }

    /// The table.
    pub(crate) fn text(&self, rounds: usize, measures: &Measures) -> String {
        let mut text = String::new();
        let mut line = |words: std::fmt::Arguments<'_>| {
            let _ = writeln!(text, "{words}");
        };
        line(format_args!(
            "{:<34} {:>17} {:>17} {:>17}  {:>6} {:>7}  goals",
            "median (95th percentile)", "podwire", "go", "floor", "go/pw", "pw/floor"
        ));
        for row in &self.rows {
            let cell = |contender| match measures.of(row.what, contender) {
                [] => "-".to_owned(),
                samples => row.unit.show(samples),
            };
            let ratio = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
            line(format_args!(
                "{:<34} {:>17} {:>17} {:>17}  {:>6} {:>7}  {}",
                row.name,
                cell(Contender::Podwire),
                cell(Contender::Go),
                cell(Contender::Floor),
                ratio(row.against_go(measures)),
                ratio(row.against_floor(measures)),
                row.goals(measures).join(", ")
            ));
        }
        if let Some([(_, podwire), (_, go)]) = self.sizes {
            line(format_args!(
                "{:<34} {:>17} {:>17} {:>17}  {:>6.2} {:>7}  {}",
                "size, all plugins [MB]",
                megabytes(podwire as f64),
                megabytes(go as f64),
                "-",
                go as f64 / podwire as f64,
                "-",
                verdict(podwire <= LARGEST_PROGRAM, "<= 3 MB")
            ));
        }
        for contender in Contender::ALL {
            if let failures @ [first, ..] = measures.failures_of(contender) {
                let (count, name) = (failures.len(), contender.name());
                line(format_args!("{count} calls of {name} failed and are left out: {first}"));
            }
        }
        line(format_args!(
            "{rounds} rounds in which the contenders took turns. go/pw and pw/floor are ratios of\n\
             medians, above 1 if podwire is better than go, and if it is worse than the floor.\n\
             Machines are noisy: compare ratios of one run, not milliseconds of two."
        ));
        text
    }

    /// The same for programs.
    pub(crate) fn json(
        &self,
        rounds: usize,
        measures: &Measures,
        ports: &Value,
        host_local: &Value,
    ) -> String {
        let rows = self.rows.iter().map(|row| {
            let of = |contender| {
                let samples = measures.of(row.what, contender);
                json!({ "count": samples.len(), "p50": percentile(samples, 50), "p95": percentile(samples, 95) })
            };
            json!({
                "name": row.name,
                "podwire": of(Contender::Podwire),
                "go": of(Contender::Go),
                "floor": of(Contender::Floor),
                "go_per_podwire": row.against_go(measures),
                "podwire_per_floor": row.against_floor(measures),
                "goals": row.goals(measures),
            })
        });
        let failures = Contender::ALL.map(|c| (c.name(), measures.failures_of(c).len()));
        let whole = json!({
            "rounds": rounds,
            "units": "times in microseconds, rates a second, memory and sizes in bytes",
            "rows": rows.collect::<Vec<Value>>(),
            "ports": ports,
            "host_local": host_local,
            "sizes": self.sizes.map(|sizes| sizes.map(|(c, bytes)| json!({ "of": c.name(), "bytes": bytes }))),
            "failures": failures.map(|(name, count)| json!({ "of": name, "count": count })),
        });
        format!("{whole:#}\n")
    }
}

impl Row {
    /// How many times as good as the reference podwire is.
    fn against_go(&self, measures: &Measures) -> Option<f64> {
        let ratio = self.per(measures, Contender::Go, Contender::Podwire)?;
        Some(if self.unit == Unit::Rate { 1.0 / ratio } else { ratio })
    }

    /// How many times as much as the floor podwire takes.
    fn against_floor(&self, measures: &Measures) -> Option<f64> {
        let ratio = self.per(measures, Contender::Podwire, Contender::Floor)?;
        Some(if self.unit == Unit::Rate { 1.0 / ratio } else { ratio })
    }

    fn per(&self, measures: &Measures, above: Contender, below: Contender) -> Option<f64> {
        let median = |contender| percentile(measures.of(self.what, contender), 50);
        Some(median(above)? / median(below)?)
    }

    fn goals(&self, measures: &Measures) -> Vec<String> {
        let mut goals = Vec::new();
        if let (Some(goal), Some(ratio)) = (self.goal, self.against_go(measures)) {
            goals.push(verdict(ratio >= goal, &format!("{goal}x go")));
        }
        if let (true, Some(ratio)) = (self.has_floor, self.against_floor(measures)) {
            goals.push(verdict(ratio <= NEAR, "near floor"));
        }
        if let (What::Memory { .. }, Some(most)) =
            (self.what, percentile(measures.of(self.what, Contender::Podwire), 100))
        {
            goals.push(verdict(most <= MOST_MEMORY, "<= 4 MB"));
        }
        goals
    }
}

impl Unit {
    fn show(self, samples: &[f64]) -> String {
        let at = |percent| percentile(samples, percent).unwrap_or_default();
        match self {
            Self::Millis => format!("{:.2} ({:.2})", at(50) / 1e3, at(95) / 1e3),
            Self::Rate => format!("{:.0}", at(50)),
            Self::Megabytes => megabytes(at(50)),
        }
    }
}

/// All lines, in their order.
fn rows() -> Vec<Row> {
    let row = |name: &str, what, unit, goal, has_floor| Row {
        name: name.to_owned(),
        what,
        unit,
        goal,
        has_floor,
    };
    let mut rows = vec![row("start, VERSION [ms]", What::Start, Unit::Millis, None, false)];
    for masquerade in [false, true] {
        let with = if masquerade { " + masquerade" } else { "" };
        for (verb, name, goals) in [(Verb::Add, "ADD", [3.5, 7.0]), (Verb::Del, "DEL", [3.5, 10.0])]
        {
            let goal = Some(goals[usize::from(masquerade)]);
            let what = What::One { verb, masquerade };
            rows.push(row(&format!("{name}{with} [ms]"), what, Unit::Millis, goal, true));
            let what = What::Eight { verb, masquerade };
            rows.push(row(&format!("8 x {name}{with} [ms]"), what, Unit::Millis, None, false));
            let what = What::EightRate { verb, masquerade };
            rows.push(row(&format!("8 x {name}{with} [/s]"), what, Unit::Rate, Some(4.0), true));
        }
        let what = What::Pairs { masquerade };
        rows.push(row(&format!("ADD, DEL, ADD …{with} [pairs/s]"), what, Unit::Rate, None, false));
        let what = What::Quiet { masquerade };
        rows.push(row(&format!("  then quiet{with} [ms]"), what, Unit::Millis, None, false));
        for (verb, name) in [(Verb::Add, "ADD"), (Verb::Del, "DEL")] {
            let what = What::Memory { verb, masquerade };
            let name = format!("memory, {name}{with} [MB]");
            rows.push(row(&name, what, Unit::Megabytes, None, false));
        }
    }
    rows
}

/// The sample below which `percent` of them are; the middle of two for the median of an even count.
pub(super) fn percentile(samples: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let (low, high) = (last * percent / 100, (last * percent).div_ceil(100));
    Some(f64::midpoint(sorted[low], sorted[high]))
}

fn megabytes(bytes: f64) -> String {
    format!("{:.2}", bytes / 1e6)
}

pub(super) fn verdict(passed: bool, goal: &str) -> String {
    format!("{} {goal}", if passed { "PASS" } else { "MISS" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_or_lie_between_two() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 50), Some(2.0));
        assert_eq!(percentile(&[4.0, 1.0, 2.0, 3.0], 50), Some(2.5));
        assert_eq!(percentile(&[4.0, 1.0], 100), Some(4.0));
    }
}
