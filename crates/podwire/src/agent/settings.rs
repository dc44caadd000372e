//! What the agent is told: its configuration, and who it is.

use std::fs;
use std::path::Path;

use fabric::{Config, NodeName};

use crate::failure::{Exit, Failure, Result};

/// The variable that says which node this is, where the configuration does not.
const NODE: &str = "PODWIRE_NODE";

/// Reads the configuration.
pub(super) fn read(path: &Path) -> Result<Config> {
    let text = fs::read_to_string(path).map_err(|error| {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Unknown,
        };
        Failure::new(exit, format!("read {}: {error}", path.display())).remedy(format!(
            "write it; the least is `source: {{file: /etc/podwire/nodes.yaml}}`, see docs/agent.md \
             (looked for in {})",
            path.display()
        ))
    })?;
    Config::parse(&text)
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))
}

/// Which node this is: as configured, by the environment, or by the host's name.
pub(super) fn name(config: &Config) -> Result<NodeName> {
    if let Some(name) = &config.node {
        return Ok(name.clone());
    }
    let variable = std::env::var(NODE).ok().filter(|name| !name.is_empty());
    let from = if variable.is_some() { NODE } else { "the host's name" };
    let text = variable.unwrap_or_else(|| {
        rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase()
    });
    text.parse().map_err(|error| {
        Failure::new(Exit::Usage, format!("{from}: {error}"))
            .remedy("set `node` in the configuration")
    })
}
