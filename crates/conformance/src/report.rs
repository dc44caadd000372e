//! What came of a run, for people and for programs.

use std::fmt;

use serde_json::{Value, json};

use crate::case::Known;
use crate::cases;
use crate::directory::Directory;
use crate::run::{Finished, Outcome};

/// All that came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plugins.
    pub directory: Directory,
    /// The cases, in the order of [`cases::all`].
    pub finished: Vec<Finished>,
}

impl Report {
    /// Whether nothing came that nobody expected, and some case was tried at all.
    pub fn is_good(&self) -> bool {
        let is_tried = |it: &Finished| !matches!(it.outcome, Outcome::NotApplicable(_));
        self.finished.iter().any(is_tried)
            && self.finished.iter().all(|it| it.outcome.is_expected())
    }

    /// How many passed, failed, are known differences and are not applicable, as one line.
    pub fn sum(&self) -> String {
        let count =
            |of: fn(&Outcome) -> bool| self.finished.iter().filter(|it| of(&it.outcome)).count();
        format!(
            "{} passed, {} failed, {} known differences, {} not applicable",
            count(|it| matches!(it, Outcome::Passed)),
            count(|it| !it.is_expected()),
            count(|it| matches!(it, Outcome::Known(..))),
            count(|it| matches!(it, Outcome::NotApplicable(_))),
        )
    }

    /// The report as JSON.
    pub fn json(&self) -> Value {
        let plugins: serde_json::Map<_, _> = self
            .directory
            .plugins
            .iter()
            .map(|(name, plugin)| {
                let said = json!({
                    "implementation": plugin.implementation.to_string(),
                    "about": plugin.about,
                    "supportedVersions": plugin.versions,
                });
                ((*name).to_owned(), said)
            })
            .collect();
        json!({
            "directory": self.directory.path,
            "plugins": plugins,
            "cases": self.finished.iter().map(case).collect::<Vec<_>>(),
            "sum": self.sum(),
            "good": self.is_good(),
        })
    }
}

fn case(finished: &Finished) -> Value {
    let Finished { instance, outcome, took } = finished;
    let mut told = json!({
        "name": instance.name(),
        "checks": instance.case.checks,
        "source": instance.case.source,
        "outcome": word(outcome),
        "milliseconds": took.as_millis() as u64,
    });
    let mut add = |key: &str, text: &str| told[key] = text.into();
    match outcome {
        Outcome::Passed => {}
        Outcome::Failed(failure) => add("failure", failure),
        Outcome::Known(known, failure) => {
            add("failure", failure);
            add("because", known.because);
        }
        Outcome::Vanished(known) => add("failure", &vanished(known)),
        Outcome::NotApplicable(why) => add("because", why),
    }
    told
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) | Outcome::Vanished(_) => "failed",
        Outcome::Known(..) => "known difference",
        Outcome::NotApplicable(_) => "not applicable",
    }
}

fn vanished(known: &Known) -> String {
    format!("it passes, though {} is known to differ: {}", known.by, known.because)
}

/// What is not as it should be with all that is known of it, then what is known and what is not
/// applicable, each reason once, and the sums.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.directory.path.display())?;
        for (name, plugin) in &self.directory.plugins {
            let newest = plugin.versions.last().map_or("", String::as_str);
            writeln!(f, "  {name:11} {}, spec up to {newest}", plugin.implementation)?;
        }
        let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
        for Finished { instance, outcome, .. } in &self.finished {
            let name = instance.name();
            let failure = match outcome {
                Outcome::Passed => continue,
                Outcome::Failed(why) => why.clone(),
                Outcome::Vanished(known) => vanished(known),
                Outcome::Known(Known { by, because, .. }, _) => {
                    add(&mut reasons, format!("known difference of {by}: {because}"), name);
                    continue;
                }
                Outcome::NotApplicable(why) => {
                    add(&mut reasons, format!("not applicable: {why}"), name);
                    continue;
                }
            };
            let (checks, source) = (instance.case.checks, instance.case.source);
            writeln!(f, "\nFAILED {name}\n  {checks} ({source})\n  {failure}")?;
        }
        reasons.sort();
        for (reason, names) in reasons {
            writeln!(f, "\n{reason}\n  {}", names.join("\n  "))?;
        }
        write!(f, "\n{}", self.sum())
    }
}

fn add(reasons: &mut Vec<(String, Vec<String>)>, reason: String, name: String) {
    match reasons.iter_mut().find(|(other, _)| *other == reason) {
        Some((_, names)) => names.push(name),
        None => reasons.push((reason, vec![name])),
    }
}

/// All cases whose name contains `only`, with what each checks and where that is written down.
pub fn list(only: &str) -> String {
    let chosen = cases::all().filter(|instance| instance.name().contains(only));
    let line = |instance: crate::Instance| {
        format!("{}\n    {} ({})\n", instance.name(), instance.case.checks, instance.case.source)
    };
    chosen.map(line).collect()
}
