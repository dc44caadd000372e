//! Markdown, for issues and wikis.

use std::fmt::Write as _;

use diagnosis::verify::Report;

use super::grid::grid;
use super::{conclusion, counted, plain, rule_word, subject};

/// The widest grid that can be read.
const MOST: usize = 20;

/// Writes it.
pub(super) fn markdown(report: &Report) -> String {
    let mut text = format!("# podwire verify: {}\n\n", escaped(&subject(report)));
    let _ = writeln!(
        text,
        "**{}** {}\n\n| rule | result | pairs | pass | fail | allowed | blocked | unknown | text | source |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---|---|",
        super::word(report.verdict),
        escaped(&conclusion(report))
    );
    for rule in &report.rules {
        let result = match &rule.skipped {
            Some(why) => format!("SKIP: {}", escaped(why)),
            None => rule_word(rule).to_owned(),
        };
        let _ = writeln!(
            text,
            "| {} | {result} | {} | {} | {} | {} | {} | {} | {} | {} |",
            rule.rule.name(),
            rule.pairs,
            rule.pass,
            rule.fail,
            rule.allowed,
            rule.blocked,
            rule.unknown,
            escaped(rule.text),
            escaped(rule.source)
        );
    }
    let grid = grid(report, MOST);
    if (1..=MOST).contains(&grid.names.len()) {
        let names: Vec<String> = grid.names.iter().map(|name| escaped(name)).collect();
        let _ = writeln!(text, "\n## From and to\n\n| | {} |", names.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(names.len()));
        for (name, row) in names.iter().zip(&grid.cells) {
            let cells: Vec<String> = row.iter().map(|cell| grid.text(*cell)).collect();
            let _ = writeln!(text, "| **{name}** | {} |", cells.join(" | "));
        }
    }
    for (number, cause) in report.causes.iter().enumerate() {
        let rules: Vec<&str> = cause.rules.iter().map(|rule| rule.name()).collect();
        let _ = writeln!(
            text,
            "\n## Cause {}: {}\n\n{}, {}.\n",
            number + 1,
            escaped(&cause.text),
            counted(cause.pairs, "pair"),
            rules.join(", ")
        );
        for line in &cause.evidence {
            let _ = writeln!(text, "- seen: {}", escaped(line));
        }
        for finding in &cause.findings {
            let word = super::text::severity(finding.severity);
            let remedy = finding.remedy.as_ref().map(|it| format!(" Fix: {}", escaped(it)));
            let _ = writeln!(
                text,
                "- {word}: {} {}{}",
                escaped(&finding.text),
                escaped(&finding.consequence),
                remedy.unwrap_or_default()
            );
        }
        let _ = writeln!(text, "- next: {}", code(&cause.next));
    }
    if !report.notes.is_empty() {
        text += "\n## Notes\n\n";
    }
    for note in &report.notes {
        let _ = writeln!(text, "- {}", escaped(note));
    }
    text
}

/// A stranger's words: no mark of theirs is one of ours.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in plain(text).chars() {
        // A backslash is enough for Markdown, but not for those who look for markup before it is read.
        if character == '<' {
            out.push_str("&lt;");
            continue;
        }
        if matches!(
            character,
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '>' | '#' | '|' | '!' | '~' | '&'
        ) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// A command; one with a backquote in it is fenced by more of them.
fn code(text: &str) -> String {
    let text = plain(text);
    let longest = text.split(|it| it != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    match longest {
        0 => format!("`{text}`"),
        _ => format!("{fence} {text} {fence}"),
    }
}
