//! `podwire lab break`, `fix`, `faults` and `quiz`.

use std::fmt::Write;
use std::process::ExitCode;

use diagnosis::verify;
use lab::Store;
use lab::faults::{self, Broken, Families, Fault, Repair, Verdict};
use net::Plan;
use serde_json::{Value, json};

use super::{pretty, require_no_script, store, tell};
use crate::cli::faults::{Break, Faults, Fix, Quiz};
use crate::cli::{Format, Output, print};
use crate::failure::{Exit, Result};
use crate::table::table;
use crate::terminal::Terminal;

/// `podwire lab break`
pub(crate) fn inject(arguments: &Break, terminal: Terminal) -> Result<ExitCode> {
    let Break { fault, on, anyway, which, show } = arguments;
    let (fault, on) = (fault.0, on.as_deref());
    if show.dry_run {
        let broken = store().plan_fault(&which.lab, fault, on)?;
        print(&match show.output {
            Output::Sh => net::script(&broken.steps),
            Output::Json => document("LabFaultPlan", told(&broken)),
            Output::Text => {
                let what = format!("Would make {} on {}.\n", fault.name, broken.on);
                what + &steps(&broken.steps, terminal)
            }
        })?;
        return Ok(Exit::Yes.into());
    }
    require_no_script(show.output)?;
    let broken = store().inject(&which.lab, fault, on, *anyway)?;
    print(&match show.output {
        Output::Json => document("LabFault", told(&broken)),
        _ => {
            let healed = match (fault.healed, anyway) {
                (true, true) => " An agent that runs there heals it within a second.",
                _ => "",
            };
            format!(
                "{} on {}: {}{healed}\n\n{}\n\n{}",
                terminal.bold(fault.name),
                terminal.bold(&broken.on),
                fault.what,
                fault.symptom,
                terminal.dim(&format!(
                    "Try  podwire explain {}\n     podwire lab fix {}{}\n",
                    question(&broken, &which.lab),
                    fault.name,
                    flag(&which.lab),
                ))
            )
        }
    })?;
    Ok(Exit::Yes.into())
}

/// What to ask about a fault.
fn question(broken: &Broken, lab: &lab::Name) -> String {
    match lab.as_str() {
        lab::Name::DEFAULT => broken.on.clone(),
        name => format!("lab/{name}"),
    }
}

/// The flag that says which lab is meant.
fn flag(lab: &lab::Name) -> String {
    match lab.as_str() {
        lab::Name::DEFAULT => String::new(),
        name => format!(" --lab {name}"),
    }
}

/// `podwire lab fix`
pub(crate) fn fix(arguments: &Fix, terminal: Terminal) -> Result<ExitCode> {
    let Fix { fault, which, show } = arguments;
    let fault = fault.map(|fault| fault.0);
    if show.dry_run {
        let repair = store().plan_fix(&which.lab, fault)?;
        print(&match show.output {
            Output::Sh => net::script(&repair.steps),
            Output::Json => document("LabRepairPlan", mended(&repair)),
            Output::Text if repair.steps.is_empty() => "Nothing is to be done.\n".to_owned(),
            Output::Text => format!("Would repair:\n{}", steps(&repair.steps, terminal)),
        })?;
        return Ok(Exit::Yes.into());
    }
    require_no_script(show.output)?;
    ended(&store().fix(&which.lab, fault)?, show.output == Output::Json, terminal)
}

/// Says what was taken back.
fn ended(repair: &Repair, as_json: bool, terminal: Terminal) -> Result<ExitCode> {
    for failure in &repair.failures {
        tell(&format!("error: {failure}"));
    }
    let whole = repair.failures.is_empty();
    if as_json {
        print(&document("LabRepair", mended(repair)))?;
    } else {
        let mut text = String::new();
        for broken in &repair.broken {
            let name = terminal.bold(broken.name());
            let how = if whole { "is repaired" } else { "could not be repaired as a whole" };
            let _ = writeln!(text, "{name} on {} {how}.", broken.on);
        }
        if repair.broken.is_empty() {
            text.push_str("Nothing is broken.\n");
        } else if repair.steps.is_empty() {
            text.push_str("Everything was as before already.\n");
        }
        print(&text)?;
    }
    Ok(if whole { Exit::Yes } else { Exit::No }.into())
}

/// `podwire lab faults`
pub(crate) fn list(arguments: &Faults, terminal: Terminal) -> Result<ExitCode> {
    let Faults { fault, output, no_headers } = arguments;
    let all: Vec<&Fault> = match fault {
        Some(fault) => vec![fault.0],
        None => faults::all().collect(),
    };
    print(&match (output, fault) {
        (Format::Json, Some(fault)) => document("LabFaultKind", about(fault.0)),
        (Format::Json, None) => {
            let items: Vec<Value> = all.into_iter().map(about).collect();
            document("LabFaultKindList", json!({ "items": items }))
        }
        (Format::Text, Some(fault)) => page(fault.0, terminal),
        (Format::Text, None) => {
            let row = |fault: &Fault| {
                let scenes: Vec<&str> = fault.scenes.iter().map(|scene| scene.word()).collect();
                let scenes = match scenes.len() {
                    5 => "all".to_owned(),
                    4 => "several nodes".to_owned(),
                    _ => scenes.join(", "),
                };
                [fault.name, fault.on.word(), &scenes, fault.what].map(str::to_owned)
            };
            let headers = ["FAULT", "ON", "LABS", "WHAT IT IS"].map(str::to_owned);
            let rows = std::iter::once(headers).chain(all.into_iter().map(row));
            table(rows.collect(), *no_headers)
        }
    })?;
    Ok(Exit::Yes.into())
}

/// All about one fault.
fn page(fault: &Fault, terminal: Terminal) -> String {
    let Fault { name, what, symptom, repair, on, healed, .. } = fault;
    let scenes: Vec<&str> = fault.scenes.iter().map(|scene| scene.word()).collect();
    let codes: Vec<String> = fault.codes.iter().map(|code| word(*code)).collect();
    let family = match fault.families {
        Families::Any => "",
        Families::V4 => ", with IPv4",
        Families::V6 => ", with IPv6",
    };
    let verify = match fault.rules {
        [] => "nothing: pods do not feel it".to_owned(),
        rules => {
            let names: Vec<&str> = rules.iter().map(|rule| rule.name()).collect();
            format!("one of {}", names.join(", "))
        }
    };
    let heals = if *healed { "heals it within a second" } else { "does not heal it" };
    format!(
        "{}: {what}\n\n  symptom  {symptom}\n  on       a {}, in labs of {}{family}\n  explain  \
         says one of {}\n  verify   flags {verify}\n  agent    {heals}\n  repair   {repair}\n",
        terminal.bold(name),
        on.word(),
        scenes.join(", "),
        codes.join(", "),
    )
}

/// A code as JSON has it.
fn word(code: diagnosis::Code) -> String {
    serde_json::to_value(code)
        .ok()
        .and_then(|it| it.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn about(fault: &Fault) -> Value {
    let scenes: Vec<&str> = fault.scenes.iter().map(|scene| scene.word()).collect();
    json!({
        "name": fault.name,
        "what": fault.what,
        "symptom": fault.symptom,
        "repair": fault.repair,
        "on": fault.on.word(),
        "labs": scenes,
        "families": match fault.families {
            Families::Any => vec!["ipv4", "ipv6"],
            Families::V4 => vec!["ipv4"],
            Families::V6 => vec!["ipv6"],
        },
        "rules": fault.rules,
        "codes": fault.codes,
        "healed": fault.healed,
    })
}

/// `podwire lab quiz`
pub(crate) fn quiz(arguments: &Quiz, terminal: Terminal) -> Result<ExitCode> {
    let Quiz { seed, check, hint, give_up, which, output } = arguments;
    let (store, lab) = (store(), &which.lab);
    let as_json = *output == Format::Json;
    if *check {
        return judge(&store, lab, as_json, terminal);
    }
    if *hint {
        let broken = store.hint(lab)?;
        let text = said(&broken);
        print(&match as_json {
            true => document("LabQuizHint", json!({ "hint": text, "number": broken.hints })),
            false => format!("{text}\n"),
        })?;
        return Ok(Exit::Yes.into());
    }
    if *give_up {
        let repair = store.end_quiz(lab)?;
        if let (false, Some(fault)) = (as_json, repair.broken.first().and_then(Broken::fault)) {
            print(&format!("{}\n", fault.what))?;
        }
        return ended(&repair, as_json, terminal);
    }
    let seed = seed.unwrap_or_else(|| u64::from(u32::from_ne_bytes(kernel::random())));
    store.hide(lab, seed)?;
    print(&match as_json {
        true => document("LabQuiz", json!({ "lab": lab, "seed": seed })),
        false => format!(
            "Something is wrong in lab {} now (seed {seed}). Find it, and repair it.\n\n{}",
            terminal.bold(lab.as_str()),
            terminal.dim(&format!(
                "Then  podwire lab quiz --check{0}\nElse  podwire lab quiz --hint{0}\n      podwire \
                 lab quiz --give-up{0}\n",
                flag(lab)
            ))
        ),
    })?;
    Ok(Exit::Yes.into())
}

/// What a hint says: more, the more there were.
fn said(broken: &Broken) -> String {
    let fault = broken.fault();
    match broken.hints {
        Some(0 | 1) => fault.map_or("", |fault| fault.symptom).to_owned(),
        Some(2) => format!("Look at {}.", broken.on),
        _ => fault.map_or("", |fault| fault.what).to_owned(),
    }
}

/// A fault is repaired if nothing is seen of it any more and packets pass.
fn judge(store: &Store, lab: &lab::Name, as_json: bool, terminal: Terminal) -> Result<ExitCode> {
    let Verdict { broken, findings } = store.judge(lab)?;
    let (exit, left) = match findings.is_empty() {
        false => (Exit::No, Some("it is still there.".to_owned())),
        true => packets(store, lab)?,
    };
    let Some(left) = left else {
        store.end_quiz(lab)?;
        print(&match as_json {
            true => document("LabQuizVerdict", json!({ "repaired": true, "fault": told(&broken) })),
            false => format!(
                "Right. It was {} on {}: {}\n",
                terminal.bold(broken.name()),
                broken.on,
                broken.fault().map_or("", |fault| fault.what)
            ),
        })?;
        return Ok(exit.into());
    };
    print(&match as_json {
        true => document("LabQuizVerdict", json!({ "repaired": false, "why": left })),
        false => format!("Not yet: {left}\n"),
    })?;
    Ok(exit.into())
}

/// What `podwire verify` says against a lab in which nothing is seen of the hidden fault any more.
fn packets(store: &Store, lab: &lab::Name) -> Result<(Exit, Option<String>)> {
    let report = crate::verify::of_lab(lab.as_str())?;
    let (exit, what) = match report.verdict {
        verify::Verdict::Fail => {
            let rules: Vec<&str> = report.broken().map(verify::Rule::name).collect();
            (Exit::No, format!("but packets break {}", rules.join(", ")))
        }
        verify::Verdict::Unknown => (Exit::Unknown, "but packets do not tell".to_owned()),
        _ => return Ok((Exit::Yes, None)),
    };
    let has_others = store.broken(lab)?.iter().any(|it| !it.is_hidden());
    let others = match has_others {
        true => " What you have broken yourself counts as well: `podwire lab fix` takes it back.",
        false => "",
    };
    let more = format!("`podwire verify lab/{lab}` says more.{others}");
    Ok((exit, Some(format!("nothing is seen of it any more, {what}. {more}"))))
}

/// A fault that was made, for programs.
fn told(broken: &Broken) -> Value {
    json!({ "fault": broken.name(), "on": broken.on, "steps": commands(&broken.steps) })
}

fn mended(repair: &Repair) -> Value {
    let faults: Vec<Value> = repair
        .broken
        .iter()
        .map(|broken| json!({ "fault": broken.name(), "on": broken.on }))
        .collect();
    json!({
        "faults": faults,
        "steps": commands(&repair.steps),
        "failures": repair.failures,
    })
}

fn commands(plan: &Plan) -> Vec<Value> {
    let step = |step: &net::Step| json!({ "where": step.space.to_string(), "why": step.why, "commands": net::shell(step) });
    plan.iter().map(step).collect()
}

/// Steps for people. Of many that are alike, the first ones stand for all.
fn steps(plan: &Plan, terminal: Terminal) -> String {
    const MOST: usize = 12;
    let mut text = String::new();
    for step in plan.iter().take(MOST) {
        for command in net::shell(step) {
            let command = terminal.dim(command.trim_end());
            let _ = writeln!(text, "  {}: {}\n    {command}", step.space, step.why);
        }
    }
    if plan.len() > MOST {
        let _ = writeln!(text, "  and {} more", plan.len() - MOST);
    }
    text
}

fn document(kind: &str, content: Value) -> String {
    let mut value = json!({ "apiVersion": "podwire/v1", "kind": kind });
    if let (Some(value), Value::Object(content)) = (value.as_object_mut(), content) {
        value.extend(content);
    }
    pretty(&value)
}
