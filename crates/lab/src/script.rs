//! A lab in the words of a shell: a script that makes it, and one that takes it down.

use std::fmt::Write;
use std::path::Path;

use net::{File, Space};

use crate::{
    AgentRun, Entry, Farewell, Invocation, Lab, Namespace, Network, Plan, Removal, ResolverRun,
    Role, Step, attachment, cluster,
};

/// The file in which a network that a script made says how it is taken down.
pub(crate) const DOWN: &str = "down.sh";

/// A script for `sh` that makes the same network, and says at its end how to remove it; so does a
/// file in the lab's directory, if there is one. The namespaces have their public names only, so
/// that `lab down` does not know what it made.
pub fn up(plan: &Plan) -> String {
    let mut text = format!("#!/bin/sh\n# Lab {}.\nset -eu\n\n# The namespaces.\n", plan.lab.name);
    for namespace in &plan.namespaces {
        let _ = writeln!(text, "ip netns add {}", namespace.public);
    }
    let commands = removal(plan);
    if !plan.files.is_empty() && plan.is_whole() {
        text.push_str("\n# How all of it is taken down, for whoever finds it here.\n");
        text.push_str(&file(&Entry::Directory(plan.directory.clone())));
        let down = File { path: plan.directory.join(DOWN), content: commands.clone() };
        text.push_str(&file(&Entry::File(down)));
        text.push_str("\n# What plugins and agents read and write.\n");
    }
    text.push_str(&rest_of(plan));
    text.push_str("\n# To take it down again:\n");
    for line in commands.lines() {
        let _ = writeln!(text, "#   {line}");
    }
    text
}

/// The files of a plan, and its steps.
fn rest_of(plan: &Plan) -> String {
    let mut text: String = plan.files.iter().map(file).collect();
    let mut rest = &plan.steps[..];
    while let Some(step) = rest.first() {
        let machine = |step: &Step| match step {
            Step::Machine(step) => Some(step.clone()),
            Step::Cni(_) | Step::Agent(_) | Step::Resolver(_) => None,
        };
        let run: net::Plan = rest.iter().map_while(machine).collect();
        if run.is_empty() {
            let _ = write!(text, "\n# {}\n", step.why());
            step.shell().iter().for_each(|command| text.push_str(command));
            rest = &rest[1..];
        } else {
            text.push_str(&machine_steps(&run));
            rest = &rest[run.len()..];
        }
    }
    text
}

fn machine_steps(plan: &net::Plan) -> String {
    let script = net::script(plan);
    script.strip_prefix("#!/bin/sh\nset -eu\n").unwrap_or(&script).to_owned()
}

/// The commands that take down what the script of a plan made.
fn removal(plan: &Plan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        match step {
            Step::Agent(run) if run.stays => text.push_str(&end(run)),
            Step::Resolver(run) => text.push_str(&end_of_all(&run.space)),
            _ => {}
        }
    }
    for namespace in plan.namespaces.iter().rev() {
        let _ = writeln!(text, "ip netns delete {}", namespace.public);
    }
    if plan.is_whole() {
        if !plan.files.is_empty() {
            let _ = writeln!(text, "rm -r {}", word(&plan.directory));
        }
        return text;
    }
    for node in plan.namespaces.iter().filter(|it| it.role == Role::Node) {
        let _ = writeln!(text, "rm -r {}", word(&cluster::home(&plan.directory, node)));
    }
    text
}

/// A script for `sh` that takes down a lab that `lab up` made.
pub fn down(lab: &Lab, directory: &Path) -> String {
    let mut text = format!("#!/bin/sh\n# Takes down lab {}.\nset -eu\n", lab.name);
    if let Network::Cluster(network) = &lab.network {
        let runs = lab.nodes().map(|node| cluster::agent(lab, network, directory, node, true));
        let running: String = runs.filter(AgentRun::is_running).map(|run| end(&run)).collect();
        if !running.is_empty() {
            let _ = write!(text, "\n# ends the agents\n{running}");
        }
        if let Some(run) = cluster::resolver(lab, network, directory) {
            let _ = write!(text, "\n# ends the resolver\n{}", end_of_all(&run.space));
        }
    }
    for invocation in attachment::releases(lab, directory) {
        let _ = write!(text, "\n# {}\n{}", invocation.why, call(&invocation));
    }
    text.push_str("\n# removes the names of the namespaces, and with them all that is inside\n");
    text.push_str(&nameless(&lab.namespaces, directory));
    let _ = write!(text, "\n# removes the lab's own files\nrm -r {}\n", word(directory));
    text
}

/// A script for `sh` that removes a part of a lab that `lab up` made. The lab's record speaks of the
/// part until `lab node rm` or `lab pod rm` is called.
pub fn remove(removal: &Removal) -> String {
    let Removal { lab, directory, part, farewell } = removal;
    let objects: Vec<String> = part.iter().map(Namespace::object).collect();
    let mut text = format!(
        "#!/bin/sh\n# Removes {} from lab {}, whose record goes on to speak of it.\nset -eu\n",
        objects.join(", "),
        lab.name
    );
    let running = removal.agents().into_iter().filter(AgentRun::is_running);
    let running: String = running.map(|run| end(&run)).collect();
    if !running.is_empty() {
        let _ = write!(text, "\n# ends the agent\n{running}");
    }
    for pod in removal.pods() {
        for invocation in attachment::release(lab, directory, pod).into_iter().flatten() {
            let _ = write!(text, "\n# {}\n{}", invocation.why, call(&invocation));
        }
    }
    text.push_str("\n# removes the names of the namespaces, and with them all that is inside\n");
    text.push_str(&nameless(part, directory));
    if let Some(Farewell { cable, plan, home }) = farewell {
        text.push_str(&machine_steps(&cable.iter().cloned().collect()));
        text.push_str("\n# has the others know who is left\n");
        text.push_str(&rest_of(plan));
        let _ = write!(text, "\n# removes the node's own files\nrm -r {}\n", word(home));
    }
    text
}

/// Takes the names of namespaces away.
fn nameless(namespaces: &[Namespace], directory: &Path) -> String {
    let gone = |namespace: &Namespace| {
        let private = word(&namespace.private_path(directory));
        format!("ip netns delete {}\numount {private}\n", namespace.public)
    };
    namespaces.iter().rev().map(gone).collect()
}

fn file(entry: &Entry) -> String {
    match entry {
        Entry::Directory(path) => format!("mkdir -p {}\n", word(path)),
        Entry::File(file) => {
            let newline = if file.content.ends_with('\n') { "" } else { "\n" };
            let path = word(&file.path);
            format!("cat >{path} <<'CONTENT'\n{}{newline}CONTENT\n", file.content)
        }
        Entry::Symlink { path, target } => format!("ln -s {} {}\n", word(target), word(path)),
    }
}

/// What has a command run inside a namespace.
fn inside(space: &Space) -> String {
    match (space, space.name()) {
        (_, Some(name)) => format!("ip netns exec {name} "),
        (Space::At(path), None) => format!("nsenter --net={} ", word(path)),
        (Space::Here, None) => String::new(),
    }
}

/// The shell line of a run of the agent.
pub(crate) fn agent(run: &AgentRun) -> String {
    let arguments: Vec<String> = run.arguments().iter().map(|it| net::quote(it)).collect();
    let command = format!("{}{} {}", inside(&run.space), word(&run.program), arguments.join(" "));
    if run.stays {
        let (log, pid) = (word(&run.log()), word(&run.pid_file()));
        let ready = word(&run.ready_file());
        return format!(
            "{command} </dev/null >{log} 2>&1 & echo $! >{pid}; until [ -e {ready} ]; do sleep 0.1; done\n"
        );
    }
    // It also tells whom it cannot reach, which keeps pods from nobody else.
    format!("{command} || [ -e {} ]\n", word(&run.ready_file()))
}

/// The shell line that starts the resolver.
pub(crate) fn resolver(run: &ResolverRun) -> String {
    let arguments: Vec<String> = run.arguments().iter().map(|it| net::quote(it)).collect();
    let command = format!("{}{} {}", inside(&run.space), word(&run.program), arguments.join(" "));
    format!("{command} </dev/null >/dev/null 2>&1 &\n")
}

/// The shell line that ends all processes of a namespace.
fn end_of_all(space: &Space) -> String {
    let name = space.name().unwrap_or_default();
    format!("kill $(ip netns pids {})\n", net::quote(name))
}

/// The shell line that ends an agent.
fn end(run: &AgentRun) -> String {
    format!("kill $(cut -d' ' -f1 {})\n", word(&run.pid_file()))
}

/// The shell lines of one call.
pub(crate) fn call(invocation: &Invocation) -> String {
    let mut text = inside(&invocation.space);
    text.push_str("env");
    let environment = invocation.environment();
    let given = |(name, value): (&str, Option<&str>)| {
        let value = value.filter(|value| !value.is_empty())?;
        Some(format!(" {name}={}", word(Path::new(value))))
    };
    let variables: Vec<String> = environment.variables().into_iter().filter_map(given).collect();
    for line in variables.chunks(2) {
        let _ = write!(text, "{} \\\n ", line.concat());
    }
    let (plugin, config) = (invocation.plugin(), invocation.config());
    let _ = write!(text, " {}", word(&invocation.path.join(plugin)));
    if invocation.command == cni::Command::Add {
        let cni::Attachment { container_id, ifname } = &invocation.parameters.attachment;
        let result = format!("results/{container_id}-{ifname}.json");
        let _ = write!(text, " >{}", word(&invocation.cache.join(result)));
    }
    let _ = write!(text, " <<'CONFIG'\n{}\nCONFIG\n", cni::json::pretty(&config));
    text
}

/// A path, or any text, as one word of a shell.
fn word(path: &Path) -> String {
    net::quote(&path.display().to_string())
}
