//! What would be done, in words, as data, or as a script.

use std::fmt::Write;
use std::path::Path;

use lab::{Entry, Lab, Network, Plan, Removal, Step};
use serde_json::{Value, json};

use crate::cli::Output;
use crate::lab::pretty;
use crate::terminal::Terminal;

/// What `lab up` would do.
pub(crate) fn up(plan: &Plan, output: Output, terminal: Terminal) -> String {
    match output {
        Output::Sh => lab::script_up(plan),
        Output::Json => pretty(&json!({
            "apiVersion": "podwire/v1",
            "kind": "LabPlan",
            "lab": plan.lab,
            "directory": plan.directory,
            "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
        })),
        Output::Text => words(plan, terminal),
    }
}

/// What `lab down` would do.
pub(crate) fn down(lab: &Lab, directory: &Path, output: Output) -> String {
    let names = lab.namespaces.iter().map(|namespace| namespace.public.as_str());
    match output {
        Output::Sh => lab::script_down(lab, directory),
        Output::Json => pretty(&down_value(lab, directory)),
        Output::Text => {
            let names: Vec<&str> = names.collect();
            let pods = lab.pods().count();
            let mut text = format!("Would take down lab {}:\n", lab.name);
            if pods > 0 {
                let _ = writeln!(text, "  ask the plugins to take {pods} pods out of the network");
            }
            if matches!(lab.network, Network::Cluster(_)) {
                let _ = writeln!(text, "  end the agents that run on its nodes");
            }
            let _ = writeln!(text, "  end the processes that `podwire lab exec` started in it");
            let _ = writeln!(text, "  remove the namespaces {}", names.join(", "));
            let _ = writeln!(text, "  remove {}", directory.display());
            text
        }
    }
}

/// What `lab down` would do, for programs.
pub(crate) fn down_value(lab: &Lab, directory: &Path) -> Value {
    json!({
        "apiVersion": "podwire/v1",
        "kind": "LabDownPlan",
        "lab": lab,
        "directory": directory,
    })
}

/// What `lab node rm` and `lab pod rm` would do.
pub(crate) fn removal(removal: &Removal, output: Output) -> String {
    let Removal { lab, directory, part, farewell } = removal;
    let names = |parts: Vec<String>| parts.join(", ");
    let objects: Vec<String> = part.iter().map(lab::Namespace::object).collect();
    match output {
        Output::Sh => lab::script_remove(removal),
        Output::Json => pretty(&json!({
            "apiVersion": "podwire/v1",
            "kind": "LabRemovalPlan",
            "lab": lab.name,
            "directory": directory,
            "objects": objects,
            "steps": farewell.iter().flat_map(|it| &it.plan.steps).map(step).collect::<Vec<_>>(),
        })),
        Output::Text => {
            let mut text = format!("Would remove {} from lab {}:\n", names(objects), lab.name);
            let pods: Vec<String> = removal.pods().map(lab::Namespace::object).collect();
            if !pods.is_empty() {
                let pods = names(pods);
                let _ = writeln!(text, "  ask the plugins to take {pods} out of the network");
            }
            let _ = writeln!(text, "  end the processes that `podwire lab exec` started there");
            let public = part.iter().map(|it| it.public.clone()).collect();
            let _ = writeln!(text, "  remove the namespaces {}", names(public));
            if let Some(farewell) = farewell {
                text.push_str("  take the node's cable away, and have the others forget it\n");
                let _ = writeln!(text, "  remove {}", farewell.home.display());
            }
            text
        }
    }
}

fn step(step: &Step) -> Value {
    json!({ "where": step.space().to_string(), "why": step.why(), "commands": step.shell() })
}

fn words(plan: &Plan, terminal: Terminal) -> String {
    let names: Vec<&str> = plan.namespaces.iter().map(|it| it.public.as_str()).collect();
    let what = if plan.is_whole() { "make" } else { "extend" };
    let mut text =
        format!("Would {what} lab {}.\n\nNamespaces\n  {}\n", plan.lab.name, names.join(" "));
    if !plan.files.is_empty() {
        let _ = writeln!(text, "\nFiles in {}", plan.directory.display());
    }
    let below =
        |path: &Path| path.strip_prefix(&plan.directory).unwrap_or(path).display().to_string();
    for entry in &plan.files {
        let _ = match entry {
            Entry::Directory(path) => writeln!(text, "  {}/", below(path)),
            Entry::File(file) => writeln!(text, "  {}", below(&file.path)),
            Entry::Symlink { path, target } => {
                writeln!(text, "  {} -> {}", below(path), target.display())
            }
        };
    }
    text.push_str("\nSteps\n");
    let width = names.iter().map(|name| name.len()).max().unwrap_or_default();
    for (number, step) in plan.steps.iter().enumerate() {
        let place = step.subject();
        let _ = writeln!(text, "{:3}  {place:width$}  {}", number + 1, step.why());
        for command in step.commands() {
            let _ = writeln!(text, "     {:width$}  {}", "", terminal.dim(command.trim_end()));
        }
    }
    text
}
