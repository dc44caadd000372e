//! `podwire lab node`, `pod` and `agent`: labs that change.

use std::process::ExitCode;

use lab::{AgentRun, Made, Namespace, Plan, Report, Started};
use serde_json::Value;

use super::{remarks, store, tell};
use crate::cli::lab::{
    AgentCommand, Agents, Next, NodeCommand, Object, OnNode, PodCommand, Show, Which,
};
use crate::cli::{Format, Output, print};
use crate::dry_run;
use crate::failure::{Exit, Failure, Result};
use crate::interrupt::Interrupt;
use crate::terminal::Terminal;

/// `podwire lab node`
pub(crate) fn node(command: &NodeCommand, terminal: Terminal) -> Result<ExitCode> {
    match command {
        NodeCommand::Add(Next { which: Which { lab }, show }) => {
            if show.dry_run {
                return shown(&store().plan_node(lab)?, show, terminal);
            }
            let node = interruptible(|interrupted| {
                store().add_node(lab, interrupted, &mut |_: Made<'_>| {})
            })?;
            print(&format!("{} is there.\n", terminal.bold(&node.object())))?;
            Ok(Exit::Yes.into())
        }
        NodeCommand::Rm(Object { object, which }) => {
            let _interrupt = Interrupt::listen();
            removed(object, &store().remove_node(&which.lab, object)?)
        }
    }
}

/// `podwire lab pod`
pub(crate) fn pod(command: &PodCommand, terminal: Terminal) -> Result<ExitCode> {
    match command {
        PodCommand::Add(OnNode { node, which, show }) => {
            if show.dry_run {
                return shown(&store().plan_pod(&which.lab, node.as_deref())?, show, terminal);
            }
            let mut given = String::new();
            let mut watch = |made: Made<'_>| {
                if let Made::Step(_, Some(result)) = made {
                    given = addresses(result);
                }
            };
            let pod = interruptible(|interrupted| {
                store().add_pod(&which.lab, node.as_deref(), interrupted, &mut watch)
            })?;
            let home = pod.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
            let name = terminal.bold(&pod.object());
            print(&format!("{name} is there{home}: {given}.\n"))?;
            Ok(Exit::Yes.into())
        }
        PodCommand::Rm(Object { object, which }) => {
            let _interrupt = Interrupt::listen();
            removed(object, &store().remove_pod(&which.lab, object)?)
        }
    }
}

/// `podwire lab agent`
pub(crate) fn agent(command: &AgentCommand) -> Result<ExitCode> {
    match command {
        AgentCommand::Start(agents) => start(agents),
        AgentCommand::Stop(Agents { nodes, which }) => {
            let stopped = store().stop_agents(&which.lab, nodes)?;
            print(&match &stopped[..] {
                [] => "No agent ran.\n".to_owned(),
                nodes => format!("The agents of {} have ended.\n", nodes.join(", ")),
            })?;
            Ok(Exit::Yes.into())
        }
        AgentCommand::Restart(agents) => {
            store().stop_agents(&agents.which.lab, &agents.nodes)?;
            start(agents)
        }
    }
}

fn start(Agents { nodes, which }: &Agents) -> Result<ExitCode> {
    let mut exit = Exit::Yes;
    for (AgentRun { node, .. }, started) in store().start_agents(&which.lab, nodes)? {
        let how = match started {
            Started::Ready => "runs",
            Started::Already => "ran already",
            Started::NotReady => {
                exit = Exit::No;
                "runs, but the node's network does not stand yet"
            }
        };
        print(&format!("The agent of {node} {how}.\n"))?;
    }
    Ok(exit.into())
}

fn shown(plan: &Plan, show: &Show, terminal: Terminal) -> Result<ExitCode> {
    let output = match show.output {
        Format::Text => Output::Text,
        Format::Json => Output::Json,
    };
    print(&dry_run::up(plan, output, terminal))?;
    Ok(Exit::Yes.into())
}

/// Does something that is taken back when a person interrupts it.
fn interruptible(
    work: impl FnOnce(&dyn Fn() -> bool) -> lab::Result<Namespace>,
) -> Result<Namespace> {
    let interrupt = Interrupt::listen();
    let done = work(&|| interrupt.exit().is_some());
    done.map_err(|error| interrupt.failure(Failure::from(error)))
}

fn removed(object: &str, report: &Report) -> Result<ExitCode> {
    for line in remarks(report) {
        tell(&line);
    }
    let is_gone = report.failures.is_empty();
    print(&match is_gone {
        true => format!("{object} is gone.\n"),
        false => format!("{object} could not be removed as a whole.\n"),
    })?;
    Ok(if is_gone { Exit::Yes } else { Exit::No }.into())
}

/// The addresses that a plugin gave.
fn addresses(result: &Value) -> String {
    let ips = result["ips"].as_array().into_iter().flatten();
    let addresses: Vec<&str> = ips.filter_map(|ip| ip["address"].as_str()).collect();
    addresses.join(", ")
}
