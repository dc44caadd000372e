//! JUnit's XML, as test runners read it: a suite a rule, a case two hosts; of many pods, two nodes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use diagnosis::verify::{Pair, Report, Verdict};

use crate::scene::shown;
use crate::svg::markup;

/// How many cases a rule has before those of two nodes are one.
const MOST: usize = 200;
/// How many pairs of a case are told.
const MOST_TOLD: usize = 20;

/// Between whom, in which family.
type Case = (Option<usize>, Option<usize>, u8);

/// Writes it.
pub(super) fn junit(report: &Report) -> String {
    let mut suites = String::new();
    let mut total = [0; 3];
    for rule in &report.rules {
        let pairs: Vec<&Pair> =
            report.results.iter().filter(|pair| pair.rule == rule.rule).collect();
        let mut cases: BTreeMap<Case, Vec<&Pair>> = BTreeMap::new();
        let is_folded = pairs.len() > MOST;
        for pair in pairs {
            let ends = [pair.from, pair.to].map(|place| match is_folded {
                true => report.hosts[place].node,
                false => Some(place),
            });
            cases.entry((ends[0], ends[1], pair.family)).or_default().push(pair);
        }
        let mut text = String::new();
        let mut counts = [0; 3];
        if let Some(why) = &rule.skipped {
            counts = [1, 0, 1];
            let _ = writeln!(
                text,
                "    <testcase classname=\"podwire.verify.{0}\" name=\"{0}\"><skipped message=\"{1}\"/></testcase>",
                rule.rule.name(),
                markup(why)
            );
        }
        for ((from, to, family), pairs) in cases {
            let word = case(&mut text, report, rule.rule.name(), (from, to, family), &pairs);
            counts[0] += 1;
            counts[1] += usize::from(word == Verdict::Fail);
            counts[2] += usize::from(!matches!(word, Verdict::Fail | Verdict::Pass));
        }
        let [tests, failures, skipped] = counts;
        let _ = write!(
            suites,
            "  <testsuite name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" \
             skipped=\"{skipped}\">\n    <properties>\n      \
             <property name=\"text\" value=\"{}\"/>\n      \
             <property name=\"source\" value=\"{}\"/>\n    </properties>\n{text}  </testsuite>\n",
            rule.rule.name(),
            markup(rule.text),
            markup(rule.source)
        );
        for (sum, count) in total.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    let [tests, failures, skipped] = total;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"podwire verify {} \
         ({})\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\">\n\
         {suites}</testsuites>\n",
        markup(&shown(&report.subject)),
        report.profile
    )
}

/// One case; what is allowed or kept apart by a policy, and what nobody can tell, is skipped, which
/// is not passed.
fn case(
    text: &mut String,
    report: &Report,
    rule: &str,
    (from, to, family): Case,
    pairs: &[&Pair],
) -> Verdict {
    let name = |place: Option<usize>| {
        let name = place.map_or("no node", |place| &report.hosts[place].name);
        markup(&shown(name))
    };
    let name = match from == to && pairs.iter().all(|pair| pair.from == pair.to) {
        true => name(from),
        false => format!("{} to {}", name(from), name(to)),
    };
    let worst = pairs.iter().map(|pair| pair.verdict).max().unwrap_or(Verdict::Unknown);
    let _ = write!(
        text,
        "    <testcase classname=\"podwire.verify.{rule}\" name=\"{name}, IPv{family}\""
    );
    let mut lines = Vec::new();
    for pair in pairs.iter().filter(|pair| pair.verdict == worst) {
        let ends = [pair.from, pair.to].map(|place| shown(&report.hosts[place].name));
        for told in &pair.questions {
            let protocol = told.protocol.map(|it| format!("{it:?} ").to_uppercase());
            let protocol = protocol.unwrap_or_default();
            let cause = told.cause.map(|it| format!(" (cause {})", it + 1)).unwrap_or_default();
            lines.push(format!("{protocol}{} to {}: {}{cause}", ends[0], ends[1], told.why));
        }
    }
    let more = lines.len().saturating_sub(MOST_TOLD);
    lines.truncate(MOST_TOLD);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    let first = markup(lines.first().map_or("", String::as_str));
    let all = markup(&lines.join("; "));
    let _ = match worst {
        Verdict::Pass => writeln!(text, "/>"),
        Verdict::Fail => {
            let causes = pairs.iter().flat_map(|pair| &pair.questions).filter_map(|it| it.cause);
            let mut causes: Vec<usize> = causes.collect();
            causes.sort_unstable();
            causes.dedup();
            let causes = causes.iter().filter_map(|it| report.causes.get(*it));
            let causes: Vec<String> = causes
                .map(|cause| markup(&format!("{}; next: {}", cause.text, cause.next)))
                .collect();
            writeln!(
                text,
                ">\n      <failure type=\"{rule}\" message=\"{first}\">{all}\n{}</failure>\n    \
                 </testcase>",
                causes.join("\n")
            )
        }
        other => {
            let word = super::word(other);
            writeln!(text, "><skipped message=\"{word}: {first}\"/></testcase>")
        }
    };
    worst
}
