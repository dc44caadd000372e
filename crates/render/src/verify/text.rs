//! For a terminal.

use std::fmt::Write as _;

use diagnosis::Severity;
use diagnosis::verify::{Cause, Report, RuleReport, Verdict};

use super::grid::grid;
use super::{conclusion, counted, plain, rule_word, subject};

/// What a terminal can show.
pub struct Paint<'a> {
    /// How many columns there are.
    pub width: usize,
    /// A word with the colour of a verdict.
    pub verdict: &'a dyn Fn(Verdict, &str) -> String,
    /// A text with weight.
    pub bold: &'a dyn Fn(&str) -> String,
    /// A text in the background.
    pub dim: &'a dyn Fn(&str) -> String,
}

impl Paint<'_> {
    /// No colours.
    pub fn plain() -> Self {
        Self {
            width: 100,
            verdict: &|_, text| text.to_owned(),
            bold: &|text| text.to_owned(),
            dim: &|text| text.to_owned(),
        }
    }
}

/// Lines longer than this are hard to read, however wide the terminal is.
const WIDEST: usize = 110;
/// The widest cell of a grid: `UNKNOWN 100/100`.
const CELL: usize = 10;

/// The report for people.
pub fn text(report: &Report, paint: &Paint<'_>) -> String {
    let mut text = format!("{}\n\n", (paint.bold)(&subject(report)));
    rules(&mut text, report, paint);
    between(&mut text, report, paint);
    for (number, cause) in report.causes.iter().enumerate() {
        self::cause(&mut text, number + 1, cause, paint);
    }
    if !report.notes.is_empty() {
        text.push('\n');
    }
    for note in &report.notes {
        text += &wrapped(&format!("note: {}", plain(note)), 0, width(paint));
    }
    let word = (paint.verdict)(report.verdict, super::word(report.verdict));
    let _ = writeln!(text, "\n{word}  {}", conclusion(report));
    text
}

fn width(paint: &Paint<'_>) -> usize {
    paint.width.min(WIDEST)
}

fn rules(text: &mut String, report: &Report, paint: &Paint<'_>) {
    let has = |count: fn(&RuleReport) -> usize| report.rules.iter().any(|rule| count(rule) > 0);
    type Column = (&'static str, fn(&RuleReport) -> usize, bool);
    let columns: [Column; 6] = [
        ("PAIRS", |it| it.pairs, true),
        ("PASS", |it| it.pass, true),
        ("FAIL", |it| it.fail, true),
        ("ALLOWED", |it| it.allowed, has(|it| it.allowed)),
        ("BLOCKED", |it| it.blocked, has(|it| it.blocked)),
        ("UNKNOWN", |it| it.unknown, true),
    ];
    let shown: Vec<&Column> = columns.iter().filter(|(.., is_shown)| *is_shown).collect();
    let _ = write!(text, "{:<14}  {:<7}", "RULE", "RESULT");
    for (title, ..) in &shown {
        let _ = write!(text, "  {title:>7}");
    }
    text.push('\n');
    for rule in &report.rules {
        let word = format!("{:<7}", rule_word(rule));
        let word = match rule.verdict() {
            Some(verdict) => (paint.verdict)(verdict, &word),
            None => (paint.dim)(&word),
        };
        let _ = write!(text, "{:<14}  {word}", rule.rule.name());
        match &rule.skipped {
            Some(why) => {
                let _ = write!(text, "  {}", plain(why));
            }
            None => {
                for (_, count, _) in &shown {
                    let _ = write!(text, "  {:>7}", count(rule));
                }
            }
        }
        text.push('\n');
        let promise = format!("“{}” ({})", rule.text, rule.source);
        for line in wrapped(&promise, 2, width(paint)).lines() {
            let _ = writeln!(text, "{}", (paint.dim)(line));
        }
    }
}

fn between(text: &mut String, report: &Report, paint: &Paint<'_>) {
    let names = report.hosts.iter().map(|host| host.name.chars().count()).max().unwrap_or_default();
    let most = (width(paint).saturating_sub(names) / (CELL.max(names.min(40)) + 2)).max(2);
    let grid = grid(report, most);
    if grid.names.is_empty() || grid.names.len() > most.max(8) {
        return;
    }
    let cells: Vec<Vec<String>> =
        grid.cells.iter().map(|row| row.iter().map(|cell| grid.text(*cell)).collect()).collect();
    let wide = |text: &String| text.chars().count();
    let first = grid.names.iter().map(wide).max().unwrap_or_default().max(9);
    let widths: Vec<usize> = (0..grid.names.len())
        .map(|column| {
            let below = cells.iter().map(|row| wide(&row[column])).max().unwrap_or_default();
            below.max(wide(&grid.names[column]))
        })
        .collect();
    let _ = write!(text, "\n{:<first$}", "FROM \\ TO");
    for (name, width) in grid.names.iter().zip(&widths) {
        let _ = write!(text, "  {name:<width$}");
    }
    trim(text);
    for ((name, row), verdicts) in grid.names.iter().zip(&cells).zip(&grid.cells) {
        let _ = write!(text, "{name:<first$}");
        for ((cell, width), verdict) in row.iter().zip(&widths).zip(verdicts) {
            let padded = format!("{cell:<width$}");
            let _ = write!(
                text,
                "  {}",
                match verdict {
                    Some(known) => (paint.verdict)(known.verdict, &padded),
                    None => padded,
                }
            );
        }
        trim(text);
    }
}

/// Ends a line without the blanks that fill its last cell.
fn trim(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}

fn cause(text: &mut String, number: usize, cause: &Cause, paint: &Paint<'_>) {
    let rules: Vec<&str> = cause.rules.iter().map(|rule| rule.name()).collect();
    let title = format!("cause {number}");
    let about =
        format!("({}, {}): {}", counted(cause.pairs, "pair"), rules.join(", "), plain(&cause.text));
    let lines = wrapped(&format!("{title} {about}"), 0, width(paint));
    let rest = lines.strip_prefix(&title).unwrap_or(&lines);
    let _ = write!(text, "\n{}{rest}", (paint.verdict)(Verdict::Fail, &title));
    for line in &cause.evidence {
        *text += &wrapped(&format!("seen: {}", plain(line)), 2, width(paint));
    }
    for finding in &cause.findings {
        let word = severity(finding.severity);
        let what = format!("{word}: {} {}", finding.text, finding.consequence);
        *text += &wrapped(&plain(&what), 2, width(paint));
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "    fix: {}", plain(remedy));
        }
    }
    let _ = writeln!(text, "  next: {}", plain(&cause.next));
}

/// How bad a finding is.
pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Wrong => "wrong",
        Severity::Warning => "warning",
        Severity::Unusual => "unusual",
    }
}

/// A text in lines that begin at a column; what follows the first is set in by two more.
fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let width = width.max(indent + 30);
    let mut lines = String::new();
    let mut line = " ".repeat(indent);
    let mut is_begun = false;
    for word in text.split(' ') {
        if is_begun && line.chars().count() + 1 + word.chars().count() > width {
            lines += &line;
            lines.push('\n');
            line = " ".repeat(indent + 2);
            is_begun = false;
        }
        if is_begun {
            line.push(' ');
        }
        line += word;
        is_begun = true;
    }
    lines + &line + "\n"
}
