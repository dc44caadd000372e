//! `podwire cni version`.

use std::fmt::Write;
use std::process::ExitCode;

use cni::runtime::Runtime;
use serde_json::{Value, json};

use crate::cli::cni::Network;
use crate::cli::{Format, print};
use crate::failure::{Exit, Failure, Result};
use crate::lab::{pretty, tell};
use crate::terminal::Terminal;

/// Runs it: no if a plugin does not speak the network's version.
pub(super) fn run(
    arguments: &Network,
    runtime: &Runtime<'_>,
    terminal: Terminal,
) -> Result<ExitCode> {
    let network = super::network(&arguments.places, &arguments.network)?;
    let version = if network.version.is_empty() { "0.1.0" } else { &network.version };
    let mut exit = Exit::Yes;
    let mut items: Vec<Value> = Vec::new();
    let mut text = format!("{} wants {version}.\n", terminal.bold(&network.name));
    let widths = network.plugins.iter().map(|plugin| plugin.plugin_type.len());
    let width = widths.max().unwrap_or_default();
    for plugin in &network.plugins {
        let name = &plugin.plugin_type;
        let versions = runtime.versions(&network, plugin);
        let spoken = versions.as_deref().unwrap_or_default().to_owned();
        let verdict = versions.and_then(|spoken| network.require_version(plugin, &spoken));
        let failure = verdict.err().map(Failure::from);
        let word = match &failure {
            None => terminal.good("ok"),
            Some(failure) if failure.exit == Exit::No => terminal.bad("NO"),
            Some(_) => terminal.bad("??"),
        };
        let _ = writeln!(text, "  {word}  {name:width$}  {}", spoken.join(" "));
        items.push(json!({
            "plugin": name,
            "capabilities": plugin.capabilities,
            "versions": spoken,
            "error": failure.as_ref().map(Failure::to_string),
        }));
        if let Some(failure) = failure {
            tell(&failure.to_string());
            if exit == Exit::Yes {
                exit = failure.exit;
            }
        }
    }
    print(&match arguments.places.output {
        Format::Json => pretty(&json!({
            "apiVersion": "podwire/v1",
            "kind": "CniVersionList",
            "network": network.name,
            "cniVersion": version,
            "items": items,
        })),
        Format::Text => text,
    })?;
    Ok(exit.into())
}
