//! The answer of `podwire verify` in its forms: for a terminal, for programs, for the test runners
//! that read JUnit, as Markdown, and as a page in one file.
//!
//! Words carry the meaning (`PASS`, `FAIL`, `UNKNOWN` …), colours only repeat it.

mod grid;
mod html;
mod junit;
mod markdown;
mod text;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use diagnosis::verify::{Report, RuleReport, Verdict};
use serde_json::{Map, Value};

pub use text::{Paint, text};

use crate::scene::is_hidden;

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people at a terminal.
    Text,
    /// For programs: `podwire schema verify` has its schema.
    Json,
    /// For test runners.
    Junit,
    /// For issues and wikis.
    Markdown,
    /// A page in one file.
    Html,
}

/// A text that names no form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormError(String);

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Form::ALL.map(Form::name).join(", ");
        write!(f, "{:?} is no form of a report; there are {names}", self.0)
    }
}

impl std::error::Error for FormError {}

impl Form {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Text, Self::Json, Self::Junit, Self::Markdown, Self::Html];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Junit => "junit",
            Self::Markdown => "markdown",
            Self::Html => "html",
        }
    }

    /// The form that a file's suffix names.
    pub fn of(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()? {
            "txt" => Self::Text,
            "json" => Self::Json,
            "xml" => Self::Junit,
            "md" => Self::Markdown,
            "html" => Self::Html,
            _ => return None,
        })
    }
}

impl FromStr for Form {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|form| form.name() == text);
        found.ok_or_else(|| FormError(text.to_owned()))
    }
}

/// A report in a form that needs no terminal; as text it has no colours.
pub fn write(form: Form, report: &Report) -> String {
    match form {
        Form::Text => text(report, &Paint::plain()),
        Form::Json => json(report),
        Form::Junit => junit::junit(report),
        Form::Markdown => markdown::markdown(report),
        Form::Html => html::page(report),
    }
}

fn json(report: &Report) -> String {
    let mut document = Map::new();
    document.insert("apiVersion".to_owned(), topology::API_VERSION.into());
    document.insert("kind".to_owned(), "VerifyReport".into());
    if let Ok(Value::Object(fields)) = serde_json::to_value(report) {
        document.extend(fields);
    }
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text + "\n"
}

/// The word for a verdict.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "PASS",
        Verdict::Allowed => "ALLOWED",
        Verdict::Blocked => "BLOCKED",
        Verdict::Unknown => "UNKNOWN",
        Verdict::Fail => "FAIL",
    }
}

/// The word for what came of a rule.
fn rule_word(rule: &RuleReport) -> &'static str {
    rule.verdict().map_or("SKIP", word)
}

/// The answer in a sentence.
fn conclusion(report: &Report) -> String {
    let failing = report.rules.iter().filter(|rule| rule.fail > 0).count();
    let unknown: usize = report.rules.iter().map(|rule| rule.unknown).sum();
    match report.verdict {
        Verdict::Fail => {
            let also = match unknown {
                0 => String::new(),
                count => format!("; of {} nobody can tell", counted(count, "pair")),
            };
            let (rules, causes) = (counted(failing, "rule"), counted(report.causes.len(), "cause"));
            let verb = if failing == 1 { "is" } else { "are" };
            format!("{rules} {verb} broken, for {causes}{also}.")
        }
        Verdict::Unknown if report.rules.iter().all(|rule| rule.pairs == 0) => {
            "There was nothing to ask, so nobody can tell.".to_owned()
        }
        Verdict::Unknown => format!("Of {} nobody can tell.", counted(unknown, "pair")),
        _ => {
            let held = report.rules.iter().filter(|rule| rule.verdict() == Some(Verdict::Pass));
            format!("{} of profile {} hold.", counted(held.count(), "rule"), report.profile)
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What was asked, in short.
fn subject(report: &Report) -> String {
    use diagnosis::verify::HostKind;
    let of = |kind: HostKind| report.hosts.iter().filter(|host| host.kind == kind).count();
    let (pods, nodes) = (of(HostKind::Pod), of(HostKind::Node));
    format!(
        "{}: profile {}, {} on {}",
        plain(&report.subject),
        report.profile,
        counted(pods, "pod"),
        counted(nodes, "node")
    )
}

/// What strangers have written, with what acts on a reader's program spelled out.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match is_hidden(character) {
            true => out.extend(character.escape_unicode()),
            false => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests;
