//! `podwire completion`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{self, Cli};
use crate::failure::Result;

/// Prints the completion script of a shell.
pub(crate) fn print(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "podwire", &mut script);
    cli::print(&String::from_utf8_lossy(&script))
}
