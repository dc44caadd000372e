//! What the agent knows, in words and as data.

use std::fmt::Write;
use std::time::Duration;

use fabric::agent::{SourceStatus, Status};
use fabric::{Backend, Subject};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use topology::Document;

use crate::lab::pretty;
use crate::terminal::Terminal;

/// How many problems with peers are told one by one.
const TOLD: usize = 10;

/// How things are, for people.
pub(super) fn status(status: &Status, terminal: Terminal) -> String {
    let mut text = String::new();
    let state = if status.ready { terminal.bold("ready") } else { terminal.bad("not ready") };
    let _ = writeln!(text, "Node {} is {state}.\n", terminal.bold(status.node.as_str()));
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:8}  {value}");
    };
    if let Some(chosen) = &status.backend {
        let fallback = chosen.fallback.map(|it| format!(", else {}", word(it))).unwrap_or_default();
        row("backend", format!("{}{fallback} ({})", word(chosen.backend), chosen.why));
    }
    for (family, uplink) in status.uplinks.iter() {
        row("uplink", format!("{} {} on {} ({})", family, uplink.address, uplink.link, uplink.why));
    }
    if let Some(mtu) = status.mtu {
        row("mtu", format!("{mtu} bytes for pods"));
    }
    row("peers", format!("{} of {} joined", status.programmed, status.peers));
    row(
        "source",
        match &status.source {
            SourceStatus::Awaited => "has not said anything yet".to_owned(),
            SourceStatus::InSync => "in sync".to_owned(),
            SourceStatus::Astray(_) => "not in sync".to_owned(),
        },
    );
    if let Some(last) = status.last_change {
        let ago = Duration::from_millis(status.uptime.saturating_sub(last));
        row("changed", format!("{} s ago", ago.as_secs()));
    }
    if !status.problems.is_empty() {
        text.push('\n');
    }
    let of_peers = |problem: &&fabric::Problem| matches!(problem.subject, Subject::Peer(_));
    let more = status.problems.iter().filter(of_peers).count().saturating_sub(TOLD);
    let mut told = 0;
    for problem in &status.problems {
        let mark = match problem.subject {
            Subject::Note => "note".to_owned(),
            Subject::Here => terminal.bad("FAIL"),
            Subject::Peer(_) => {
                told += 1;
                if told > TOLD {
                    continue;
                }
                terminal.bad("FAIL")
            }
        };
        let _ = writeln!(text, "  {mark} {problem}");
    }
    if more > 0 {
        let _ = writeln!(text, "  … and {more} more; -o json tells all");
    }
    text
}

/// How things are, for programs.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Answer<'a>(pub(super) &'a Status);

impl Document for Answer<'_> {
    const KIND: &'static str = "AgentStatus";
}

/// What would be changed, for people.
pub(super) fn plan(plan: &net::Plan) -> String {
    if plan.is_empty() {
        return "Everything is as it should be.\n".to_owned();
    }
    let mut text = String::new();
    for step in plan {
        for line in net::shell(step) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// What would be changed, for programs.
pub(super) fn plan_json(plan: &net::Plan) -> String {
    let steps: Vec<_> =
        plan.iter().map(|step| json!({ "why": step.why, "commands": net::shell(step) })).collect();
    pretty(&json!({ "apiVersion": "podwire/v1", "kind": "AgentPlan", "steps": steps }))
}

fn word(backend: Backend) -> &'static str {
    match backend {
        Backend::Vxlan => "vxlan",
        Backend::Gpe => "gpe",
        Backend::HostGw => "host-gw",
        Backend::Auto => "auto",
    }
}
