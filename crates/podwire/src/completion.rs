//! `podwire completion`.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints the completion script of a shell.
pub(crate) fn print(shell: Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "podwire", &mut io::stdout());
}
