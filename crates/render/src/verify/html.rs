//! A page in one file: the rules, the grid, the causes. It loads nothing and runs nothing: what
//! opens and closes is the browser's own.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use diagnosis::verify::{Cause, Report, Verdict};
use sha2::{Digest, Sha256};

use super::grid::{Grid, grid};
use super::{conclusion, counted, rule_word, subject};
use crate::scene::shown;
use crate::svg::markup;

const STYLE: &str = include_str!("../../assets/verify.css");
/// The largest grid of hosts; beyond, it is one of nodes.
const MOST: usize = 60;
/// How many pairs that did not pass are told one by one.
const MOST_TOLD: usize = 2_000;

/// Writes it.
pub(super) fn page(report: &Report) -> String {
    let title = markup(&subject(report));
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>verify {title} – podwire</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>{title}</h1>\n<p class=\"answer {}\"><strong>{}</strong> {}</p>\n",
        class(report.verdict),
        super::word(report.verdict),
        markup(&conclusion(report)),
    );
    let _ = write!(
        html,
        "<p class=\"seen\">{}</p>\n</header>\n<main>\n",
        markup(&format!("{}, seen {}", shown(&report.machine), crate::words::time(report.taken)))
    );
    rules(&mut html, report);
    causes(&mut html, report);
    between(&mut html, &grid(report, MOST));
    told(&mut html, report);
    if !report.notes.is_empty() {
        html += "<section aria-labelledby=\"notes\"><h2 id=\"notes\">Notes</h2>\n<ul>\n";
        for note in &report.notes {
            let _ = writeln!(html, "<li>{}</li>", markup(note));
        }
        html += "</ul></section>\n";
    }
    html + "</main>\n</body>\n</html>\n"
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Allowed => "allowed",
        Verdict::Blocked => "blocked",
        Verdict::Unknown => "unknown",
        Verdict::Fail => "fail",
    }
}

fn rules(html: &mut String, report: &Report) {
    *html += "<section aria-labelledby=\"rules\"><h2 id=\"rules\">Rules</h2>\n\
        <div class=\"wide\" tabindex=\"0\" role=\"region\" aria-labelledby=\"rules\"><table>\n<thead><tr>";
    for title in [
        "rule",
        "result",
        "pairs",
        "pass",
        "fail",
        "allowed",
        "blocked",
        "unknown",
        "what is promised",
    ] {
        let _ = write!(html, "<th scope=\"col\">{title}</th>");
    }
    *html += "</tr></thead>\n<tbody>\n";
    for rule in &report.rules {
        let class = rule.verdict().map_or("skip", class);
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td class=\"{class}\">{}</td>",
            rule.rule.name(),
            rule_word(rule)
        );
        let counts = [rule.pairs, rule.pass, rule.fail, rule.allowed, rule.blocked, rule.unknown];
        for count in counts {
            let _ = write!(html, "<td class=\"number\">{count}</td>");
        }
        let skipped = rule.skipped.as_ref().map(|why| format!(" <em>{}</em>", markup(why)));
        let _ = writeln!(
            html,
            "<td><q>{}</q> <small>{}</small>{}</td></tr>",
            markup(rule.text),
            markup(rule.source),
            skipped.unwrap_or_default()
        );
    }
    *html += "</tbody></table></div></section>\n";
}

fn causes(html: &mut String, report: &Report) {
    if report.causes.is_empty() {
        return;
    }
    *html += "<section aria-labelledby=\"causes\"><h2 id=\"causes\">Causes</h2>\n";
    for (number, it) in report.causes.iter().enumerate() {
        cause(html, number + 1, it);
    }
    *html += "</section>\n";
}

fn cause(html: &mut String, number: usize, cause: &Cause) {
    let rules: Vec<&str> = cause.rules.iter().map(|rule| rule.name()).collect();
    let _ = write!(
        html,
        "<article id=\"cause-{number}\"><h3><span class=\"fail\">Cause {number}</span> {}</h3>\n\
         <p>{}: {}</p>\n<ul>\n",
        markup(&cause.text),
        counted(cause.pairs, "pair"),
        rules.join(", ")
    );
    for line in &cause.evidence {
        let _ = writeln!(html, "<li>seen: {}</li>", markup(line));
    }
    for finding in &cause.findings {
        let remedy = finding.remedy.as_ref();
        let remedy = remedy.map(|it| format!("<code>{}</code>", markup(it)));
        let _ = writeln!(
            html,
            "<li class=\"finding\"><strong>{}:</strong> {} {}{}</li>",
            super::text::severity(finding.severity),
            markup(&finding.text),
            markup(&finding.consequence),
            remedy.unwrap_or_default()
        );
    }
    let _ = writeln!(html, "</ul>\n<p>Next: <code>{}</code></p></article>", markup(&cause.next));
}

fn between(html: &mut String, grid: &Grid) {
    if grid.names.is_empty() {
        return;
    }
    let title = if grid.is_folded { "From and to, by node" } else { "From and to" };
    let _ = write!(
        html,
        "<section aria-labelledby=\"grid\"><h2 id=\"grid\">{title}</h2>\n<div class=\"wide\" \
         tabindex=\"0\" role=\"region\" aria-labelledby=\"grid\"><table class=\"grid\">\n<thead><tr><td>from \\ to</td>"
    );
    for name in &grid.names {
        let _ = write!(html, "<th scope=\"col\">{}</th>", markup(name));
    }
    *html += "</tr></thead>\n<tbody>\n";
    for (name, row) in grid.names.iter().zip(&grid.cells) {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", markup(name));
        for cell in row {
            let class = cell.map_or("none", |it| class(it.verdict));
            let _ = write!(html, "<td class=\"{class}\">{}</td>", markup(&grid.text(*cell)));
        }
        *html += "</tr>\n";
    }
    *html += "</tbody></table></div></section>\n";
}

/// The pairs that did not pass, closed at first.
fn told(html: &mut String, report: &Report) {
    let all: Vec<_> = report.results.iter().filter(|it| it.verdict != Verdict::Pass).collect();
    if all.is_empty() {
        return;
    }
    let _ = write!(
        html,
        "<details><summary>{} that did not pass</summary>\n<div class=\"wide\" tabindex=\"0\" \
         role=\"region\" aria-label=\"Pairs that did not pass\"><table>\n<thead><tr>\
         <th scope=\"col\">rule</th><th scope=\"col\">from</th><th scope=\"col\">to</th>\
         <th scope=\"col\">family</th><th scope=\"col\">result</th><th scope=\"col\">why</th>\
         </tr></thead>\n<tbody>\n",
        counted(all.len(), "pair")
    );
    for pair in all.iter().take(MOST_TOLD) {
        let name = |place: usize| markup(&shown(&report.hosts[place].name));
        let mut why: Vec<String> = Vec::new();
        for question in &pair.questions {
            let protocol = question.protocol.map(|it| format!("{it:?}: ").to_uppercase());
            let cause = question.cause.map(|it| it + 1);
            let cause = cause.map(|it| format!(" <a href=\"#cause-{it}\">cause {it}</a>"));
            why.push(format!(
                "{}{}{}",
                protocol.unwrap_or_default(),
                markup(&question.why),
                cause.unwrap_or_default()
            ));
        }
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>IPv{}</td>\
             <td class=\"{}\">{}</td><td>{}</td></tr>",
            pair.rule.name(),
            name(pair.from),
            name(pair.to),
            pair.family,
            class(pair.verdict),
            super::word(pair.verdict),
            why.join("<br>")
        );
    }
    *html += "</tbody></table></div></details>\n";
    if all.len() > MOST_TOLD {
        let _ = writeln!(html, "<p>And {} more; JSON has all.</p>", all.len() - MOST_TOLD);
    }
}
