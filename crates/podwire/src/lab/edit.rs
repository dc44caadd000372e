//! `podwire lab node`, `pod` and `agent`: labs that change.

use std::process::ExitCode;

use lab::{AgentRun, Made, Namespace, Report, Started};
use serde_json::{Value, json};

use super::{pretty, remarks, require_no_script, store, tell};
use crate::cli::lab::{AgentCommand, Agents, Next, NodeCommand, Object, OnNode, PodCommand, Which};
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
                return shown(&dry_run::up(&store().plan_node(lab)?, show.output, terminal));
            }
            require_no_script(show.output)?;
            let node = interruptible(|interrupted| {
                store().add_node(lab, interrupted, &mut |_: Made<'_>| {})
            })?;
            shown(&match show.output {
                Output::Json => answer("LabAddition", json!({ "object": node.object() })),
                _ => format!("{} is there.\n", terminal.bold(&node.object())),
            })
        }
        NodeCommand::Rm(Object { object, which: Which { lab }, show }) => {
            if show.dry_run {
                let removal = store().plan_node_removal(lab, object)?;
                return shown(&dry_run::removal(&removal, show.output));
            }
            require_no_script(show.output)?;
            let _interrupt = Interrupt::listen();
            removed(object, &store().remove_node(lab, object)?, show.output)
        }
    }
}

/// `podwire lab pod`
pub(crate) fn pod(command: &PodCommand, terminal: Terminal) -> Result<ExitCode> {
    match command {
        PodCommand::Add(OnNode { node, which, show }) => {
            if show.dry_run {
                let plan = store().plan_pod(&which.lab, node.as_deref())?;
                return shown(&dry_run::up(&plan, show.output, terminal));
            }
            require_no_script(show.output)?;
            let mut given = Vec::new();
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
            shown(&match show.output {
                Output::Json => answer(
                    "LabAddition",
                    json!({ "object": pod.object(), "node": pod.node, "addresses": given }),
                ),
                _ => format!("{name} is there{home}: {}.\n", given.join(", ")),
            })
        }
        PodCommand::Rm(Object { object, which: Which { lab }, show }) => {
            if show.dry_run {
                let removal = store().plan_pod_removal(lab, object)?;
                return shown(&dry_run::removal(&removal, show.output));
            }
            require_no_script(show.output)?;
            let _interrupt = Interrupt::listen();
            removed(object, &store().remove_pod(lab, object)?, show.output)
        }
    }
}

/// `podwire lab agent`
pub(crate) fn agent(command: &AgentCommand) -> Result<ExitCode> {
    match command {
        AgentCommand::Start(agents) => start(agents),
        AgentCommand::Stop(Agents { nodes, which, output }) => {
            let stopped = store().stop_agents(&which.lab, nodes)?;
            let item = |node: &String| json!({ "node": node, "state": "stopped" });
            shown(&match (output, &stopped[..]) {
                (Format::Json, nodes) => agent_list(&nodes.iter().map(item).collect::<Vec<_>>()),
                (Format::Text, []) => "No agent ran.\n".to_owned(),
                (Format::Text, nodes) => {
                    format!("The agents of {} have ended.\n", nodes.join(", "))
                }
            })
        }
        AgentCommand::Restart(agents) => {
            store().stop_agents(&agents.which.lab, &agents.nodes)?;
            start(agents)
        }
    }
}

fn start(Agents { nodes, which, output }: &Agents) -> Result<ExitCode> {
    let (mut exit, mut text, mut items) = (Exit::Yes, String::new(), Vec::new());
    for (AgentRun { node, .. }, started) in store().start_agents(&which.lab, nodes)? {
        let (state, how) = match started {
            Started::Ready => ("ready", "runs"),
            Started::Already => ("already", "ran already"),
            Started::NotReady => {
                exit = Exit::No;
                ("notReady", "runs, but the node's network does not stand yet")
            }
        };
        items.push(json!({ "node": node, "state": state }));
        text += &format!("The agent of {node} {how}.\n");
    }
    print(&match output {
        Format::Json => agent_list(&items),
        Format::Text => text,
    })?;
    Ok(exit.into())
}

fn agent_list(items: &[Value]) -> String {
    answer("LabAgentList", json!({ "items": items }))
}

/// An answer for programs.
fn answer(kind: &str, content: Value) -> String {
    let mut value = json!({ "apiVersion": "podwire/v1", "kind": kind });
    if let (Some(value), Value::Object(content)) = (value.as_object_mut(), content) {
        value.extend(content);
    }
    pretty(&value)
}

fn shown(text: &str) -> Result<ExitCode> {
    print(text)?;
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

fn removed(object: &str, report: &Report, output: Output) -> Result<ExitCode> {
    for line in remarks(report) {
        tell(&line);
    }
    let is_gone = report.failures.is_empty();
    let Report { notes, failures, .. } = report;
    print(&match (output, is_gone) {
        (Output::Json, _) => {
            answer("LabRemoval", json!({ "object": object, "notes": notes, "failures": failures }))
        }
        (_, true) => format!("{object} is gone.\n"),
        (_, false) => format!("{object} could not be removed as a whole.\n"),
    })?;
    Ok(if is_gone { Exit::Yes } else { Exit::No }.into())
}

/// The addresses that a plugin gave.
fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str()).map(str::to_owned).collect()
}
