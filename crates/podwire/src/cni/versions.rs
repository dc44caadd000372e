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
    let width = network.plugins.iter().map(|plugin| plugin.plugin_type.len()).max();
    let width = width.unwrap_or_default();
    for plugin in &network.plugins {
        let name = &plugin.plugin_type;
        match runtime.versions(&network, plugin) {
            Ok(versions) => {
                let speaks = versions.iter().any(|it| it == version);
                let verdict = match speaks {
                    true => terminal.good("ok"),
                    false => terminal.bad("NO"),
                };
                if !speaks && exit == Exit::Yes {
                    exit = Exit::No;
                }
                let _ = writeln!(text, "  {verdict}  {name:width$}  {}", versions.join(" "));
                items.push(json!({ "plugin": name, "versions": versions, "supported": speaks }));
            }
            Err(error) => {
                let failure = Failure::from(error);
                if exit == Exit::Yes {
                    exit = failure.exit;
                }
                let _ = writeln!(text, "  {}  {name:width$}  see the error", terminal.bad("??"));
                items.push(json!({ "plugin": name, "error": failure.to_string() }));
                tell(&failure.to_string());
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
