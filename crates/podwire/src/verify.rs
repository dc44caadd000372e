//! `podwire verify`: whether a cluster's network keeps its promises, by real packets from the real
//! namespaces.
//!
//! What to ask and what the outcomes mean is `diagnosis::verify`'s; here packets are sent. Nothing is
//! changed, and nobody but the pods and nodes of the machine, the host beyond a lab, and the
//! resolvers that pods are told is asked anything.

mod ask;
mod call;
mod here;
mod ports;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use diagnosis::verify::{
    Outcomes, Pairs, Plan, PlanError, Profile, Protocol, Report, Rule, Verdict, Wanted,
};
use diagnosis::{LookupError, Reference};
use probe::Limits;
use render::verify::{Form, Paint};
use serde_json::json;
use topology::Machine;

use self::ask::Asker;
pub(crate) use self::call::{AT_ONCE, Callee, HostCall, Traces, among, make};
pub(crate) use self::here::Here;
pub(crate) use self::ports::{Heard, Listen, Opened, PodPort};
use crate::cli::print;
use crate::cli::verify::Verify;
use crate::failure::{Exit, Failure, Result};
use crate::interrupt::Interrupt;
use crate::lab::pretty;
use crate::look;
use crate::responder::Gathering;
use crate::terminal::{Terminal, harmless};

/// Runs it.
pub(crate) fn run(arguments: &Verify, terminal: Terminal) -> Result<ExitCode> {
    let form = form(arguments)?;
    let rules = rules(arguments)?;
    if arguments.list {
        return list(arguments, &rules, form);
    }
    let interrupt = Interrupt::listen();
    let (gathering, machine) = match &arguments.responders {
        None => (None, look::machine()?),
        Some(file) => {
            let (gathering, machine) = Gathering::open(file)?;
            (Some(gathering), machine)
        }
    };
    let wanted = Wanted {
        subjects: arguments.subjects.clone(),
        rules,
        protocols: PROTOCOLS.into(),
        pairs: arguments.pairs.unwrap_or(Pairs::Usual),
    };
    let profile = arguments.profile.map(Profile::from);
    let report = ask(&machine, &wanted, profile, gathering, arguments.timeout, &interrupt)?;
    put(arguments, form, &report, terminal)?;
    Ok(exit(&report, arguments.strict).into())
}

/// What packets say of a lab, about all rules.
pub(crate) fn of_lab(name: &str) -> Result<Report> {
    let wanted = Wanted {
        subjects: vec![Reference::Lab(name.to_owned())],
        rules: Rule::ALL.into(),
        protocols: PROTOCOLS.into(),
        pairs: Pairs::Usual,
    };
    let machine = look::machine()?;
    ask(&machine, &wanted, None, None, Limits::default().patience, &Interrupt::listen())
}

/// Sends what there is to ask, by responders where there are some, and judges what came of it; by the
/// usual profile if none is named.
fn ask(
    machine: &Machine,
    wanted: &Wanted,
    profile: Option<Profile>,
    gathering: Option<Gathering>,
    patience: Duration,
    interrupt: &Interrupt,
) -> Result<Report> {
    let plan = Plan::new(machine, wanted).map_err(|error| refused(machine, &error))?;
    let usual = if plan.is_of_labs() { Profile::Strict } else { Profile::Current };
    let asker = Asker::new(&plan, gathering, patience, interrupt)?;
    let (questions, searches) = asker.questions()?;
    let calls = asker.calls()?;
    let outcomes = Outcomes { questions: &questions, calls: &calls, searches: &searches };
    Ok(Report::new(machine, &plan, profile.unwrap_or(usual), outcomes))
}

/// How packets are sent.
const PROTOCOLS: [Protocol; 3] = [Protocol::Icmp, Protocol::Udp, Protocol::Tcp];

fn refused(machine: &Machine, error: &PlanError) -> Failure {
    // What this user may not enter may be what is asked about.
    let is_closed = |gap: &topology::Gap| gap.what.starts_with("network namespace");
    if let (PlanError::Lookup(LookupError::None { .. }), Some(gap)) =
        (error, machine.gaps.iter().find(|gap| is_closed(gap)))
    {
        let what = format!("{error}, as far as can be seen: {}: {}", gap.what, gap.why);
        return Failure::new(Exit::Unknown, harmless(&what)).remedy("use sudo");
    }
    let exit = match error {
        PlanError::Lookup(_) => Exit::NotFound,
        PlanError::Strange(_) => Exit::Usage,
    };
    Failure::new(exit, harmless(&error.to_string())).remedy("`podwire explain` shows what there is")
}

fn rules(arguments: &Verify) -> Result<BTreeSet<Rule>> {
    let Verify { only, skip, .. } = arguments;
    let only = if only.is_empty() { &Rule::ALL[..] } else { only };
    let rules: BTreeSet<Rule> = only.iter().copied().filter(|rule| !skip.contains(rule)).collect();
    match rules.is_empty() {
        true => Err(Failure::new(Exit::Usage, "no rule is left to be asked about")),
        false => Ok(rules),
    }
}

fn form(arguments: &Verify) -> Result<Form> {
    match (arguments.output, &arguments.output_file) {
        (Some(form), _) => Ok(form),
        (None, None) => Ok(Form::Text),
        (None, Some(path)) => Form::of(path).ok_or_else(|| {
            let path = harmless(&path.display().to_string());
            let what = format!("the suffix of {path} is that of no form of a report");
            Failure::new(Exit::Usage, what)
                .remedy("end it with one of txt, json, xml, md, html, or name the form by -o")
        }),
    }
}

/// The rules, in whose words; of both profiles where none is named.
fn list(arguments: &Verify, rules: &BTreeSet<Rule>, form: Form) -> Result<ExitCode> {
    let profiles = match arguments.profile {
        Some(profile) => vec![Profile::from(profile)],
        None => vec![Profile::Strict, Profile::Current],
    };
    let text = match form {
        Form::Json => {
            let items = profiles.iter().flat_map(|profile| {
                rules.iter().map(move |rule| {
                    json!({
                        "rule": rule, "profile": profile, "text": rule.text(*profile),
                        "source": rule.source(*profile), "optional": rule.is_optional(),
                    })
                })
            });
            let items: Vec<_> = items.collect();
            pretty(&json!({ "apiVersion": "podwire/v1", "kind": "RuleList", "items": items }))
        }
        Form::Text => {
            let mut text = String::new();
            for profile in profiles {
                let _ = writeln!(text, "profile {profile}");
                for rule in rules {
                    let (words, source) = (rule.text(profile), rule.source(profile));
                    let _ = writeln!(text, "  {:<14}  {words}\n  {:<14}  ({source})", rule, "");
                }
            }
            text
        }
        _ => {
            let what = "rules are listed as text or json only";
            return Err(Failure::new(Exit::Usage, what));
        }
    };
    print(&text)?;
    Ok(Exit::Yes.into())
}

/// Puts the reports where they are wanted.
fn put(arguments: &Verify, form: Form, report: &Report, terminal: Terminal) -> Result<()> {
    for (form, file) in &arguments.report {
        write(file, &render::verify::write(*form, report))?;
    }
    match (&arguments.output_file, form) {
        (Some(file), form) => write(file, &render::verify::write(form, report)),
        (None, Form::Text) => print(&text(report, terminal)),
        (None, form) => print(&render::verify::write(form, report)),
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(|error| {
        let file = harmless(&file.display().to_string());
        Failure::new(Exit::Unknown, format!("write {file}: {error}"))
    })
}

/// Prints with the terminal's colours.
fn text(report: &Report, terminal: Terminal) -> String {
    let paint = Paint {
        width: terminal.width,
        verdict: &|verdict, text| match verdict {
            Verdict::Pass => terminal.good(text),
            Verdict::Fail => terminal.bad(text),
            _ => terminal.bold(text),
        },
        bold: &|text| terminal.bold(text),
        dim: &|text| terminal.dim(text),
    };
    render::verify::text(report, &paint)
}

/// A rule that is broken outranks what nobody can tell.
fn exit(report: &Report, strict: bool) -> Exit {
    match report.verdict {
        Verdict::Fail => Exit::No,
        Verdict::Unknown => Exit::Unknown,
        _ if strict && report.has_skipped() => Exit::Unknown,
        _ => Exit::Yes,
    }
}
