//! What changes a lab, as it is typed.

use clap::{Args, Subcommand};

use super::{Format, Output};

/// `podwire lab node`
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Add the next node, without pods.
    Add(Next),
    /// Remove a node with its pods.
    Rm(Object),
}

/// `podwire lab pod`
#[derive(Debug, Subcommand)]
pub(crate) enum PodCommand {
    /// Add a pod.
    Add(OnNode),
    /// Remove a pod.
    Rm(Object),
}

/// `podwire lab agent`
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Start the agents, so that they stay; what each says goes to nodes/NODE/agent.log.
    Start(Agents),
    /// End the agents; the network stays as it is.
    Stop(Agents),
    /// End the agents and start them again.
    Restart(Agents),
}

/// Which lab.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Which lab.
    #[arg(long, default_value = ::lab::Name::DEFAULT, env = "PODWIRE_LAB_NAME")]
    pub(crate) lab: ::lab::Name,
}

/// A node to come.
#[derive(Debug, Args)]
pub(crate) struct Next {
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) show: Show,
}

/// Whether something is only shown, and how.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Only show what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// What is removed.
#[derive(Debug, Args)]
pub(crate) struct Object {
    /// Which one: pod/pod1, node/node2, or just pod1, node2.
    pub(crate) object: String,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) show: Show,
}

/// Where a pod goes.
#[derive(Debug, Args)]
pub(crate) struct OnNode {
    /// On which node; on the one with the fewest pods if left out.
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) show: Show,
}

/// Whose agents.
#[derive(Debug, Args)]
pub(crate) struct Agents {
    /// Of which nodes; of all if none is named.
    pub(crate) nodes: Vec<String>,
    #[command(flatten)]
    pub(crate) which: Which,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}
