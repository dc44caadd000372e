//! `podwire agent`, as it is typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Format, Output};

pub(crate) const EXAMPLES: &str = "Examples:\n  podwire agent\n  podwire agent --once\n  \
    podwire agent --dry-run -o sh\n  podwire agent status\n  podwire agent --cleanup";

/// `podwire agent`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true)]
pub(crate) struct Agent {
    /// The configuration, in YAML or JSON.
    #[arg(long, short, global = true, default_value = fabric::Config::PATH, env = "PODWIRE_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Reconcile once and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// Only show what would be changed; `-o sh` prints a script that does it.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove exactly what is the agent's: devices, routes, rules, tables, files.
    #[arg(long, conflicts_with = "once")]
    pub(crate) cleanup: bool,
    /// With --once: a cluster that has shrunk suspiciously is meant to be so.
    #[arg(long, requires = "once")]
    pub(crate) accept: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Option<AgentCommand>,
}

/// What to ask of a running agent.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Show peers, backend, MTU, what is wrong and what to do.
    Status {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Confirm that a cluster which has shrunk suspiciously is meant to be so.
    Accept,
}
