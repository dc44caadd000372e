//! `podwire install`: puts the plugins where container runtimes look for them, and the agent where
//! systemd does; and back.

mod agent;
mod plugins;

use std::process::ExitCode;

use crate::cli::{Install, print};
use crate::failure::{Exit, Result};

/// `podwire install`
pub(crate) fn run(arguments: &Install) -> Result<ExitCode> {
    let mut text = plugins::run(arguments)?;
    if arguments.agent {
        text += &agent::run(arguments)?;
    }
    print(&text)?;
    Ok(Exit::Yes.into())
}
