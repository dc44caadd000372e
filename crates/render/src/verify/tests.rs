use diagnosis::verify::{
    Cause, HostKind, HostReport, Pair, Profile, Protocol, Report, Rule, RuleReport, Told, Verdict,
};
use diagnosis::{Code, Finding};

use super::{Form, Paint, text, write};

/// What a stranger may call a pod: it ends elements, sections, attributes, lines and tables, and
/// moves a cursor.
const HOSTILE: &str =
    "</q>]]>\"'<script>alert(1)</script>|`**x**`\n| a \u{1b}[31m\u{202e}&amp;\u{0}\u{fffe}";

fn host(name: &str, kind: HostKind, node: Option<usize>) -> HostReport {
    HostReport {
        name: name.to_owned(),
        kind,
        object: format!("pod/{name}"),
        lab: None,
        node,
        addresses: vec!["10.1.0.2".parse().unwrap()],
    }
}

fn pair(from: usize, to: usize, verdict: Verdict, why: &str) -> Pair {
    let told = Told {
        protocol: Some(Protocol::Udp),
        verdict,
        why: why.to_owned(),
        cause: (verdict == Verdict::Fail).then_some(0),
    };
    let questions = if verdict == Verdict::Pass { vec![] } else { vec![told] };
    Pair { rule: Rule::PodToPod, from, to, family: 4, verdict, questions }
}

fn rule(results: &[Pair]) -> RuleReport {
    let count = |verdict| results.iter().filter(|pair| pair.verdict == verdict).count();
    RuleReport {
        rule: Rule::PodToPod,
        text: Rule::PodToPod.text(Profile::Strict),
        source: Rule::PodToPod.source(Profile::Strict),
        pairs: results.len(),
        pass: count(Verdict::Pass),
        fail: count(Verdict::Fail),
        blocked: count(Verdict::Blocked),
        allowed: count(Verdict::Allowed),
        unknown: count(Verdict::Unknown),
        skipped: None,
    }
}

fn report(hosts: Vec<HostReport>, results: Vec<Pair>, name: &str) -> Report {
    let finding = Finding {
        code: Code::LinkDown,
        severity: Code::LinkDown.severity(),
        text: format!("{name} is down."),
        consequence: "Nothing passes.".to_owned(),
        remedy: Some(format!("ip link set {name} up")),
        about: vec![],
        command: None,
    };
    let cause = Cause {
        text: format!("all from {name}: nothing arrives"),
        rules: vec![Rule::PodToPod],
        pairs: 1,
        evidence: vec![format!("{name} → b: no answer")],
        findings: vec![finding],
        next: format!("podwire explain pod/{name}"),
    };
    let rules = vec![rule(&results)];
    let is_broken = rules[0].fail > 0;
    Report {
        subject: format!("pod/{name}"),
        profile: Profile::Strict,
        machine: name.to_owned(),
        taken: 0,
        verdict: if is_broken { Verdict::Fail } else { Verdict::Pass },
        sample: None,
        rules,
        causes: if is_broken { vec![cause] } else { vec![] },
        notes: vec![format!("{name} could not be read")],
        hosts,
        results,
    }
}

fn hostile() -> Report {
    let hosts = vec![
        host(HOSTILE, HostKind::Pod, Some(2)),
        host("b", HostKind::Pod, Some(2)),
        host("n", HostKind::Node, Some(2)),
    ];
    let results = vec![
        pair(0, 1, Verdict::Fail, HOSTILE),
        pair(1, 0, Verdict::Blocked, HOSTILE),
        pair(2, 0, Verdict::Unknown, HOSTILE),
        pair(2, 1, Verdict::Pass, ""),
    ];
    report(hosts, results, HOSTILE)
}

/// Pods on nodes, ten each.
fn large(pods: usize) -> Report {
    let nodes = pods.div_ceil(10);
    let mut hosts: Vec<HostReport> = (0..pods)
        .map(|pod| host(&format!("pod{pod}"), HostKind::Pod, Some(pods + pod / 10)))
        .collect();
    let node = |node: usize| host(&format!("node{node}"), HostKind::Node, Some(pods + node));
    hosts.extend((0..nodes).map(node));
    let all = (0..pods).flat_map(|from| (0..pods).map(move |to| (from, to)));
    let verdict = |to: usize| if to == 3 { Verdict::Fail } else { Verdict::Pass };
    let results = all
        .filter(|(from, to)| from != to)
        .map(|(from, to)| pair(from, to, verdict(to), "no answer"));
    let results = results.collect();
    report(hosts, results, "pod3")
}

#[test]
fn junit_is_well_formed_whatever_strangers_are_called() {
    for report in [hostile(), large(4), large(40)] {
        let xml = write(Form::Junit, &report);
        let document = roxmltree::Document::parse(&xml).unwrap();
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "testsuites");
        let count = |name: &str| root.descendants().filter(|it| it.has_tag_name(name)).count();
        let told = |name: &str| root.attribute(name).unwrap().parse::<usize>().unwrap();
        assert_eq!(count("testcase"), told("tests"));
        assert_eq!(count("failure"), told("failures"));
        assert_eq!(count("skipped"), told("skipped"));
        assert_eq!(count("script"), 0);
    }
    // What nobody can tell and what a policy blocks is not passed.
    let xml = write(Form::Junit, &hostile());
    assert!(xml.contains("message=\"UNKNOWN:") && xml.contains("message=\"BLOCKED:"), "{xml}");
}

/// Of many pods, a case is two nodes, and still tells which pods.
#[test]
fn junit_of_many_pods_is_by_node() {
    let xml = write(Form::Junit, &large(40));
    let document = roxmltree::Document::parse(&xml).unwrap();
    let cases = document.descendants().filter(|it| it.has_tag_name("testcase"));
    let names: Vec<&str> = cases.filter_map(|it| it.attribute("name")).collect();
    assert_eq!(names.len(), 16);
    assert!(names.contains(&"node1 to node0, IPv4"), "{names:?}");
    assert!(xml.contains("UDP pod10 to pod3: no answer"));
}

#[test]
fn no_form_lets_a_name_act() {
    let report = hostile();
    for form in Form::ALL {
        let answer = write(form, &report);
        if form != Form::Json {
            for character in ['\u{1b}', '\u{202e}', '\u{0}', '\u{fffe}'] {
                assert!(!answer.contains(character), "{form:?}: {answer}");
            }
        }
    }
    let html = write(Form::Html, &report);
    assert!(!html.contains("<script"), "{html}");
    assert_eq!(html.matches("</q>").count(), report.rules.len());
    assert!(html.contains("default-src 'none'"));
    // In the span of a command nothing acts.
    let markdown = write(Form::Markdown, &report);
    let is_text = |line: &&str| !line.starts_with("- next:");
    let markdown: String =
        markdown.lines().filter(is_text).map(|line| format!("{line}\n")).collect();
    assert!(!markdown.contains("<script") && !markdown.contains("**x**"), "{markdown}");
    // Every row of the grid has as many cells as its head.
    let rows = markdown.lines().filter(|line| line.starts_with("| **") || line.starts_with("| |"));
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    let counts: Vec<usize> = rows.map(bars).collect();
    assert!(counts.windows(2).all(|two| two[0] == two[1]), "{counts:?}: {markdown}");
}

#[test]
fn a_page_is_as_its_policy_says() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let html = write(Form::Html, &large(4));
    let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let hash = sha2::Sha256::digest(style);
    let hash = base64::engine::general_purpose::STANDARD.encode(hash);
    assert!(html.contains(&format!("style-src 'sha256-{hash}'")));
    assert!(!html.contains("style=") && !html.contains("http:") && !html.contains("https:"));
}

#[test]
fn many_pods_are_shown_by_node() {
    for (pods, is_folded) in [(4, false), (40, true)] {
        let answer = text(&large(pods), &Paint::plain());
        let has_pod = answer.lines().any(|line| line.starts_with("pod0 "));
        let has_node = answer.lines().any(|line| line.starts_with("node1 "));
        assert_eq!((has_pod, has_node), (!is_folded, is_folded), "{answer}");
        for line in answer.lines() {
            assert!(line.chars().count() <= 110, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }
}

#[test]
fn forms_have_names_and_suffixes() {
    for form in Form::ALL {
        assert_eq!(form.name().parse(), Ok(form));
    }
    assert_eq!(Form::of("a/b.xml".as_ref()), Some(Form::Junit));
    assert_eq!(Form::of("a/b".as_ref()), None);
    "svg".parse::<Form>().unwrap_err();
}
