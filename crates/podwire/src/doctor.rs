//! `podwire doctor`: what this machine can do, what is in the way, what is left over.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use diagnosis::doctor::{
    Ability, Group, Host, Leftover, Report, State, Surroundings, abilities, conflicts, leftovers,
};
use diagnosis::{Code, Finding, Severity};
use kernel::{Kernel, OnError};
use topology::Machine;

use crate::cli::{Doctor, Output, document, print};
use crate::failure::{Exit, Failure, Result};
use crate::lab::{remarks, require_no_script, store, tell};
use crate::look;
use crate::terminal::{Terminal, harmless};

/// What a look at the machine tells.
struct Look {
    machine: Machine,
    surroundings: Surroundings,
    leftovers: Vec<Leftover>,
    /// Labs that were not made whole, or not taken down whole.
    labs: Vec<lab::Name>,
}

/// Runs it.
pub(crate) fn run(arguments: &Doctor, terminal: Terminal) -> Result<ExitCode> {
    if !(arguments.fix && arguments.dry_run) {
        require_no_script(arguments.output)?;
    }
    let mut look = Look::now()?;
    if arguments.fix {
        if arguments.dry_run {
            print(&look.script())?;
            return Ok(Exit::Yes.into());
        }
        look.fix()?;
        look = Look::now()?;
    }
    let report = look.report();
    print(&match arguments.output {
        Output::Json => document(&report)?,
        Output::Text | Output::Sh => text(&report, terminal),
    })?;
    Ok(exit(&report).into())
}

impl Look {
    fn now() -> Result<Self> {
        let machine = look::machine()?;
        let surroundings = Surroundings::read(Path::new("/"));
        let leftovers = leftovers(&machine, &surroundings);
        let unfinished = store().list()?.into_iter();
        let unfinished = unfinished.filter(|lab| lab.state == lab::State::Unfinished);
        let labs = unfinished.map(|lab| lab.name).collect();
        Ok(Self { machine, surroundings, leftovers, labs })
    }

    /// What `--fix` would do, as a person would type it.
    fn script(&self) -> String {
        let mut script = String::new();
        for name in &self.labs {
            let _ = writeln!(script, "podwire lab down {name}");
        }
        for leftover in &self.leftovers {
            script += &net::script(&leftover.repair);
        }
        script
    }

    /// Takes away what is ours and left over.
    fn fix(&self) -> Result<()> {
        for name in &self.labs {
            let report = store().down(name)?;
            for line in remarks(&report) {
                tell(&line);
            }
        }
        let mut kernel = Kernel::new()?;
        for leftover in &self.leftovers {
            if leftover.repair.is_empty() {
                continue;
            }
            let applied = kernel.apply(&leftover.repair, OnError::Continue);
            tell(&format!(
                "removed {} of {} of what is left over",
                applied.done.len(),
                leftover.repair.len()
            ));
            if let Some((_, error)) = applied.failed.into_iter().next() {
                return Err(Failure::new(Exit::Unknown, error.to_string()));
            }
        }
        Ok(())
    }

    /// What is told of it, and what can be done here.
    fn report(self) -> Report {
        let Self { machine, surroundings, leftovers, labs } = self;
        let labs = labs.iter().map(|name| Finding {
            code: Code::LabLeft,
            severity: Code::LabLeft.severity(),
            text: format!(
                "Lab {name} is not whole: a command that made it or took it down ended early."
            ),
            consequence: "Its namespaces and names stay taken.".to_owned(),
            remedy: Some(format!("podwire lab down {name}; or: podwire doctor --fix")),
            about: Vec::new(),
            command: Some(format!("podwire lab status {name}")),
        });
        let mut findings = diagnosis::findings(&machine);
        findings.extend(conflicts(&machine, &surroundings));
        findings.extend(leftovers.into_iter().map(|it| it.finding));
        findings.extend(labs);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let topology::Host { name, kernel, .. } = machine.host;
        let host = Host { name, kernel };
        Report { host, abilities: abilities(), findings, gaps: machine.gaps }
    }
}

/// Whether all is well, as far as can be told.
fn exit(report: &Report) -> Exit {
    let lacks = |state: State| move |ability: &Ability| ability.essential && ability.state == state;
    let is_bad = report.findings.iter().any(|it| it.severity >= Severity::Warning);
    if is_bad || report.abilities.iter().any(lacks(State::No)) {
        Exit::No
    } else if !report.gaps.is_empty() || report.abilities.iter().any(lacks(State::Unknown)) {
        Exit::Unknown
    } else {
        Exit::Yes
    }
}

fn text(report: &Report, terminal: Terminal) -> String {
    let mut text = String::new();
    let host = &report.host;
    let _ = writeln!(
        text,
        "{}, Linux {}\n",
        terminal.bold(&harmless(&host.name)),
        harmless(&host.kernel)
    );
    for (group, title) in [
        (Group::Rights, "rights"),
        (Group::Kernel, "kernel"),
        (Group::Devices, "devices"),
        (Group::Firewall, "firewall"),
    ] {
        let of_group = report.abilities.iter().filter(|it| it.group == group);
        let there: Vec<&str> = of_group
            .clone()
            .filter(|it| it.state == State::Yes)
            .map(|it| it.name.as_str())
            .collect();
        if !there.is_empty() {
            let _ = writeln!(
                text,
                "{title:<9} {}: {}",
                terminal.good("has"),
                harmless(&there.join(", "))
            );
        }
        for ability in of_group.filter(|it| it.state != State::Yes) {
            let word = match (ability.state, ability.essential) {
                (State::Unknown, _) => terminal.bad("cannot tell"),
                (_, true) => terminal.bad("lacks"),
                (_, false) => terminal.dim("lacks"),
            };
            let _ = writeln!(
                text,
                "{title:<9} {word}: {}: {}",
                harmless(&ability.name),
                ability.consequence
            );
            if let (true, Some(remedy)) = (ability.essential, &ability.remedy) {
                let _ = writeln!(text, "{:<9}   fix: {remedy}", "");
            }
        }
    }
    if !report.findings.is_empty() {
        let _ = write!(text, "\n{}", crate::explain::findings(&report.findings, true, terminal));
    }
    let verdict = match exit(report) {
        Exit::Yes => "Nothing is in the way, and nothing is left over.",
        Exit::No => "Something is wrong; see above.",
        _ => "Nothing wrong was found, but not everything could be looked at.",
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}
