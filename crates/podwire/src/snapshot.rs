//! `podwire snapshot`, `diff` and `schema`: this machine in a file, of which every question can be
//! asked elsewhere, and what became different between two of them.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use diagnosis::Explanation;
use diagnosis::doctor::Report;
use render::Scene;
use topology::{Differences, Document, Machine};

use crate::cli::{self, Format, Snapshot, document, print};
use crate::failure::{Exit, Failure, Result};
use crate::lab::{self, pretty, tell};
use crate::replace::replace;
use crate::terminal::{Terminal, harmless};
use crate::{agent, cni, ipam, look};

/// `podwire snapshot FILE`
pub(crate) fn run(arguments: &Snapshot) -> Result<ExitCode> {
    let machine = look::machine()?;
    let failed = |what: String| Failure::new(Exit::Unknown, what);
    let text = document(&machine)?;
    let path = &arguments.file;
    match path {
        path if path == Path::new("-") => print(&text)?,
        path => replace(path, &text)
            .map_err(|error| failed(format!("write {}: {error}", path.display())))?,
    }
    for gap in &machine.gaps {
        tell(&format!("warning: {}: {}", harmless(&gap.what), harmless(&gap.why)));
    }
    Ok(Exit::Yes.into())
}

/// `podwire diff BEFORE AFTER`
pub(crate) fn diff(arguments: &cli::Diff, terminal: Terminal) -> Result<ExitCode> {
    let cli::Diff { before, after, output } = arguments;
    if before == after && before == Path::new("-") {
        let what = "standard input can be one of the two only";
        return Err(Failure::new(Exit::Usage, what).remedy("name a file for the other"));
    }
    let found = topology::diff(&look::snapshot(before)?, &look::snapshot(after)?);
    print(&match output {
        Format::Json => document(&found)?,
        Format::Text => text(&found, terminal),
    })?;
    Ok(match found {
        Differences { differences, .. } if !differences.is_empty() => Exit::No,
        Differences { unknown, .. } if !unknown.is_empty() => Exit::Unknown,
        _ => Exit::Yes,
    }
    .into())
}

/// One paragraph a subject.
fn text(found: &Differences, terminal: Terminal) -> String {
    let mut text = String::new();
    let mut last = None;
    for it in &found.differences {
        if last != Some(&it.subject) {
            let blank = if last.is_some() { "\n" } else { "" };
            let _ = writeln!(text, "{blank}{}", terminal.bold(&harmless(&it.subject)));
            last = Some(&it.subject);
        }
        let sign = match it.change {
            topology::Kind::New => "+",
            topology::Kind::Gone => "-",
            topology::Kind::Changed => "~",
        };
        let _ = writeln!(text, "  {sign} {}", harmless(&it.text));
    }
    if found.differences.is_empty() {
        text += match found.unknown.is_empty() {
            true => "Nothing is different.\n",
            false => "Nothing is different in what both snapshots could see.\n",
        };
    }
    if !found.unknown.is_empty() {
        let _ = writeln!(text, "\nNothing can be said about:");
    }
    for gap in &found.unknown {
        let _ = writeln!(text, "  ? {}", harmless(gap));
    }
    text
}

/// `podwire schema KIND`
pub(crate) fn schema(kind: cli::Kind) -> Result<ExitCode> {
    print(&pretty(&match kind {
        cli::Kind::Topology => Machine::schema(),
        cli::Kind::Diff => Differences::schema(),
        cli::Kind::Verify => diagnosis::verify::Report::schema(),
        cli::Kind::Explanation => Explanation::schema(),
        cli::Kind::Scene => Scene::schema(),
        cli::Kind::DoctorReport => Report::schema(),
        cli::Kind::Lab => lab::Answer::schema(),
        cli::Kind::AgentStatus => agent::Answer::schema(),
        cli::Kind::CniNetworkList => cni::Networks::schema(),
        cli::Kind::CniStatus => cni::Status::schema(),
        cli::Kind::IpamReservationList => ipam::ReservationList::schema(),
        cli::Kind::IpamCheck => ipam::Report::schema(),
    }))?;
    Ok(Exit::Yes.into())
}
