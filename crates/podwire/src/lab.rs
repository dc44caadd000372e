//! `podwire lab`.

pub(crate) mod edit;
pub(crate) mod faults;
pub(crate) mod resolver;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use kernel::{ErrorKind, Netns};
use lab::{
    Cluster, Families, Lab, Made, Network, Plugins, Pods, Report, Role, State, Store, Underlay,
};
use render::View;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use topology::{Document, Machine};

use crate::cli::{self, Down, Exec, Format, Graph, List, Output, Status, Up, document, print};
use crate::drawing::draw;
use crate::dry_run;
use crate::failure::{Exit, Failure, Result};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::terminal::Terminal;

/// Where labs are kept.
const ROOT: &str = "/run/podwire/lab";

/// The labs of this machine.
pub(crate) fn store() -> Store {
    Store::new(ROOT)
}

/// `podwire lab up`
pub(crate) fn up(arguments: Up, terminal: Terminal) -> Result<ExitCode> {
    let Up { name, network, dry_run, output } = arguments;
    let prefix = name.prefix();
    let lab = Lab::new(name, &prefix, self::network(network, Defaults::default())?)?;
    let store = store();
    if dry_run {
        require_no_ports(&lab, output)?;
        let plan = lab.plan(&store.directory(&lab.name));
        print(&dry_run::up(&plan, output, terminal))?;
        return Ok(Exit::Yes.into());
    }
    require_no_script(output)?;
    let started = Instant::now();
    let interrupt = Interrupt::listen();
    let plan = lab.plan(&store.directory(&lab.name));
    let mut progress = Progress::new(plan.lab.namespaces.len() + plan.steps.len());
    let interrupted = || interrupt.exit().is_some();
    let made = store.up(&lab, &interrupted, &mut |_: Made<'_>| progress.tell());
    progress.end();
    made.map_err(|error| interrupt.failure(error))?;
    let took = started.elapsed().as_millis();
    for limit in lab.limits(&store.directory(&lab.name)) {
        tell(&format!("note: {}: {}", limit.object, limit.what));
    }
    match output {
        Output::Json => print(&document(&Answer::of(&lab, State::Up))?)?,
        Output::Text | Output::Sh => {
            let machine = machine(&lab, &store.directory(&lab.name))?;
            print(&format!(
                "Lab {} is up: {} namespaces in {took} ms.\n\n{}\n{}",
                terminal.bold(lab.name.as_str()),
                lab.namespaces.len(),
                render::text(&machine, &terminal.picture()),
                suggestions(&lab, &machine, terminal),
            ))?;
        }
    }
    Ok(Exit::Yes.into())
}

/// Refuses a script of what takes more than a network's first plugin.
fn require_no_ports(lab: &Lab, output: Output) -> Result<()> {
    match (&lab.network, output) {
        (Network::Cluster(Cluster { host_port: Some(_), .. }), Output::Sh) => {
            Err(Failure::new(Exit::Usage, "-o sh makes no ports of nodes that lead to pods")
                .remedy("leave --host-port out"))
        }
        _ => Ok(()),
    }
}

/// `podwire lab down`
pub(crate) fn down(arguments: &Down) -> Result<ExitCode> {
    if !arguments.dry_run {
        require_no_script(arguments.output)?;
    }
    // What has begun to be taken down is taken down: there is nothing better to do when asked to
    // stop.
    let _interrupt = Interrupt::listen();
    let store = store();
    if !arguments.all && arguments.dry_run {
        let (lab, _) = store.get(&arguments.name)?;
        print(&dry_run::down(&lab, &store.directory(&lab.name), arguments.output))?;
        return Ok(Exit::Yes.into());
    }
    let names = if arguments.all {
        store.list()?.into_iter().map(|summary| summary.name).collect()
    } else {
        vec![arguments.name.clone()]
    };
    let mut exit = Exit::Yes;
    let mut items = Vec::new();
    for name in names {
        let (item, end) = match down_one(&store, &name, arguments) {
            Ok(done) => done,
            Err(failure) if !arguments.all => return Err(failure),
            // Somebody else was faster.
            Err(failure) if failure.exit == Exit::NotFound => continue,
            Err(failure) => {
                tell(&failure.to_string());
                let failures = [failure.to_string()];
                (json!({ "name": name, "notes": [], "failures": failures }), failure.exit)
            }
        };
        items.push(item);
        if exit == Exit::Yes {
            exit = end;
        }
    }
    if arguments.output == Output::Json {
        let kind = if arguments.dry_run { "LabDownPlanList" } else { "LabDownReport" };
        let list = json!({ "apiVersion": "podwire/v1", "kind": kind, "items": items });
        print(&pretty(&list))?;
    }
    Ok(exit.into())
}

/// Takes one lab down, or shows what would be done. Returns what a program should know of it.
fn down_one(store: &Store, name: &lab::Name, arguments: &Down) -> Result<(Value, Exit)> {
    let output = arguments.output;
    if arguments.dry_run {
        let (lab, _) = store.get(name)?;
        let directory = store.directory(name);
        if output != Output::Json {
            print(&dry_run::down(&lab, &directory, output))?;
        }
        return Ok((dry_run::down_value(&lab, &directory), Exit::Yes));
    }
    let report = store.down(name)?;
    for line in remarks(&report) {
        tell(&line);
    }
    let is_gone = report.failures.is_empty();
    if output != Output::Json {
        print(&match is_gone {
            true => format!("Lab {name} is gone.\n"),
            false => format!("Lab {name} could not be removed as a whole.\n"),
        })?;
    }
    let item = json!({ "name": name, "notes": report.notes, "failures": report.failures });
    Ok((item, if is_gone { Exit::Yes } else { Exit::No }))
}

/// Says something beside the answer. Where nobody hears it any more, there is still work to do.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What a person should know about how a lab was taken down.
pub(crate) fn remarks(report: &Report) -> Vec<String> {
    /// So many processes are named one by one.
    const MOST: usize = 5;
    let process = |process: &lab::Process| {
        let lab::Process { pid, program } = process;
        format!("note: process {pid} ({program}) goes on in a namespace that has no name any more")
    };
    let more = report.processes.len().saturating_sub(MOST);
    let more = (more > 0).then(|| format!("note: and so do {more} more processes"));
    let notes = report.notes.iter().map(|note| format!("note: {note}"));
    let processes = report.processes.iter().take(MOST).map(process).chain(more);
    let failures = report.failures.iter().map(|failure| format!("error: {failure}"));
    notes.chain(processes).chain(failures).collect()
}

/// `podwire lab ls`
pub(crate) fn list(arguments: &List) -> Result<ExitCode> {
    let labs = store().list()?;
    let text = match arguments.output {
        Format::Json => {
            let item = |summary: &lab::Summary| match &summary.lab {
                Ok(Some(lab)) => Answer::of(lab, summary.state).to_value().unwrap_or_default(),
                _ => json!({ "name": summary.name, "state": condition(summary) }),
            };
            let items: Vec<Value> = labs.iter().map(item).collect();
            pretty(&json!({ "apiVersion": "podwire/v1", "kind": "LabList", "items": items }))
        }
        Format::Text => {
            let width = labs.iter().map(|lab| lab.name.as_str().len()).fold(4, usize::max);
            let mut text = String::new();
            if !arguments.no_headers {
                let _ = writeln!(text, "{:width$}  {:10}  NAMESPACES", "NAME", "STATE");
            }
            for summary in &labs {
                let lab = summary.lab.iter().flatten();
                let namespaces = lab.flat_map(|lab| &lab.namespaces);
                let names: Vec<&str> = namespaces.map(|it| it.public.as_str()).collect();
                let (name, state) = (summary.name.as_str(), condition(summary));
                let _ = writeln!(text, "{name:width$}  {state:10}  {}", names.join(" "));
            }
            text
        }
    };
    print(&text)?;
    Ok(Exit::Yes.into())
}

/// `podwire lab status`
pub(crate) fn status(arguments: &Status, terminal: Terminal) -> Result<ExitCode> {
    let store = store();
    let status = store.status(&arguments.name)?;
    let sound = status.faults.is_empty() && status.state == State::Up;
    match arguments.output {
        Format::Json => {
            let (faults, limits) = (Some(&status.faults[..]), Some(&status.limits[..]));
            let answer = Answer { faults, limits, ..Answer::of(&status.lab, status.state) };
            print(&document(&answer)?)?;
        }
        Format::Text => {
            let mut text = String::new();
            let name = terminal.bold(status.lab.name.as_str());
            let _ = match status.state {
                State::Up if sound => writeln!(text, "Lab {name} is up, and as it was made.\n"),
                State::Up => writeln!(text, "Lab {name} is up, but not as it was made:\n"),
                State::Unfinished => {
                    writeln!(text, "Lab {name} is unfinished: a command was killed.\n")
                }
                State::Busy => writeln!(text, "Another command is at work on lab {name}.\n"),
            };
            for fault in &status.faults {
                let _ =
                    writeln!(text, "  {} {}: {}", terminal.bad("FAIL"), fault.object, fault.what);
            }
            for limit in &status.limits {
                let _ = writeln!(text, "  note {}: {}", limit.object, limit.what);
            }
            if !status.faults.is_empty() || !status.limits.is_empty() {
                text.push('\n');
            }
            let machine = machine(&status.lab, &store.directory(&status.lab.name))?;
            text += &render::text(&machine, &terminal.picture());
            if !sound && status.state != State::Busy {
                let _ = writeln!(
                    text,
                    "\nfix: podwire lab down {0} && podwire lab up {0}{1}",
                    arguments.name,
                    flags(&status.lab.network)
                );
            }
            print(&text)?;
        }
    }
    let exit = match status.state {
        State::Busy => Exit::Unknown,
        _ if sound => Exit::Yes,
        _ => Exit::No,
    };
    Ok(exit.into())
}

/// `podwire lab graph`
pub(crate) fn graph(arguments: &Graph, terminal: Terminal) -> Result<ExitCode> {
    let store = store();
    let (lab, _) = store.get(&arguments.name)?;
    let machine = machine(&lab, &store.directory(&lab.name))?;
    let Graph { drawing, .. } = arguments;
    let terminal = drawing.terminal(terminal);
    drawing.put(&draw(drawing.format()?, View::of(&machine), terminal))?;
    Ok(Exit::Yes.into())
}

/// `podwire lab exec`
pub(crate) fn exec(arguments: &Exec) -> Result<ExitCode> {
    let store = store();
    let (lab, namespace) = store.find(&arguments.object, arguments.lab.as_ref())?;
    let netns = Netns::open(&namespace.private_path(&store.directory(&lab.name)))?;
    let [program, rest @ ..] = &arguments.command[..] else {
        return Err(Failure::new(Exit::Usage, "no command is given"));
    };
    // Ctrl-C is for the command; this process only waits for it.
    let _interrupt = Interrupt::listen();
    #[expect(clippy::disallowed_methods, reason = "only described here; Netns::spawn starts it")]
    let mut command = Command::new(program);
    command.args(rest).env(lab::LAB_VARIABLE, lab.name.as_str());
    let mut child = netns.spawn(&mut command).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(Exit::NotFound, error.to_string()),
        _ => error.into(),
    })?;
    let status = child.wait().map_err(|error| {
        Failure::new(Exit::Unknown, format!("wait for {}: {error}", program.display()))
    })?;
    let signalled = || status.signal().map_or(1, |signal| 128 + signal);
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or_else(signalled)).unwrap_or(1)))
}

/// What is meant where nothing is said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Defaults {
    /// How many nodes; a node alone, without what joins nodes, if there is no number.
    pub(crate) nodes: Option<u16>,
}

/// What the flags ask for.
pub(crate) fn network(flags: cli::Network, defaults: Defaults) -> Result<Network> {
    let Some(nodes) = flags.nodes.or(defaults.nodes.filter(|_| !flags.plain)) else {
        let of_several = [
            ("--backend", flags.backend.is_some()),
            ("--fallback", flags.fallback.is_some()),
            ("--classic", flags.classic),
            ("--host-port", flags.host_port.is_some()),
            ("--dns", flags.dns),
            ("--routed", flags.routed),
            ("--ipv6", flags.ipv6),
            ("--agents", flags.agents),
        ];
        if let Some((flag, _)) = of_several.into_iter().find(|(_, given)| *given) {
            let what = format!("{flag} is for a lab of several nodes");
            return Err(Failure::new(Exit::Usage, what).remedy("add --nodes 2"));
        }
        if flags.plain {
            return Ok(Network::Plain);
        }
        let count = flags.pods.unwrap_or(PODS);
        let plugins = plugins(flags.plugin_dir)?;
        return Ok(Network::Pods(Pods { count, dual_stack: flags.dual_stack, plugins }));
    };
    if flags.fallback.is_some() && flags.backend != Some(cli::Backend::HostGw) {
        return Err(Failure::new(Exit::Usage, "--fallback goes with host-gw only")
            .remedy("add --backend host-gw"));
    }
    if flags.classic && !matches!(flags.backend, None | Some(cli::Backend::Vxlan)) {
        return Err(Failure::new(Exit::Usage, "--classic goes with vxlan only")
            .remedy("leave --backend out"));
    }
    // What a demo has by default is small enough to be read.
    let pods = flags.pods.unwrap_or(if defaults.nodes.is_some() { 1 } else { PODS });
    Ok(Network::Cluster(Cluster {
        nodes,
        pods,
        backend: match flags.backend {
            None | Some(cli::Backend::Vxlan) => fabric::Backend::Vxlan,
            Some(cli::Backend::Gpe) => fabric::Backend::Gpe,
            Some(cli::Backend::HostGw) => fabric::Backend::HostGw,
            Some(cli::Backend::Auto) => fabric::Backend::Auto,
        },
        classic: flags.classic,
        host_port: flags.host_port.map(std::num::NonZeroU16::get),
        dns: flags.dns,
        fallback: flags.fallback.map(|fallback| match fallback {
            cli::Fallback::Vxlan => fabric::Backend::Vxlan,
            cli::Fallback::Gpe => fabric::Backend::Gpe,
        }),
        families: match (flags.ipv6, flags.dual_stack) {
            (true, _) => Families::Ipv6,
            (_, true) => Families::Dual,
            _ => Families::Ipv4,
        },
        underlay: if flags.routed { Underlay::Routed } else { Underlay::Switch },
        agents: flags.agents,
        program: own_file()?,
        plugins: plugins(flags.plugin_dir)?,
    }))
}

fn plugins(directory: Option<PathBuf>) -> Result<Plugins> {
    let Some(directory) = directory else { return own_plugins() };
    let absolute = std::path::absolute(&directory);
    let path = absolute.ok().filter(|path| path.is_dir()).ok_or_else(|| {
        let what = format!("{} is not a directory of plugins", directory.display());
        Failure::new(Exit::Usage, what).remedy("leave --plugin-dir out to use podwire's own")
    })?;
    Ok(Plugins::Directory(path))
}

/// The flags that ask for the same again.
pub(crate) fn flags(network: &Network) -> String {
    let mut flags = Vec::new();
    let plugins = match network {
        Network::Plain => {
            flags.push("--plain".to_owned());
            None
        }
        Network::Pods(Pods { count, dual_stack, plugins }) => {
            flags.extend((*count != PODS).then(|| format!("--pods {count}")));
            flags.extend(dual_stack.then(|| "--dual-stack".to_owned()));
            Some(plugins)
        }
        Network::Cluster(it) => {
            flags.push(format!("--nodes {}", it.nodes));
            flags.extend((it.pods != PODS).then(|| format!("--pods {}", it.pods)));
            flags.extend(match it.backend {
                fabric::Backend::Gpe => Some("--backend gpe".to_owned()),
                fabric::Backend::HostGw => Some("--backend host-gw".to_owned()),
                fabric::Backend::Auto => Some("--backend auto".to_owned()),
                fabric::Backend::Vxlan => None,
            });
            flags.extend(it.host_port.map(|port| format!("--host-port {port}")));
            flags.extend(it.dns.then(|| "--dns".to_owned()));
            flags.extend(it.classic.then(|| "--classic".to_owned()));
            flags.extend(it.fallback.map(|fallback| match fallback {
                fabric::Backend::Gpe => "--fallback gpe".to_owned(),
                _ => "--fallback vxlan".to_owned(),
            }));
            flags.extend((it.underlay == Underlay::Routed).then(|| "--routed".to_owned()));
            flags.extend(match it.families {
                Families::Ipv4 => None,
                Families::Ipv6 => Some("--ipv6".to_owned()),
                Families::Dual => Some("--dual-stack".to_owned()),
            });
            flags.extend(it.agents.then(|| "--agents".to_owned()));
            Some(&it.plugins)
        }
    };
    if let Some(Plugins::Directory(path)) = plugins {
        flags.push(format!("--plugin-dir {}", net::quote(&path.display().to_string())));
    }
    flags.into_iter().map(|flag| format!(" {flag}")).collect()
}

/// How many pods a node has where nothing is said.
const PODS: u16 = 2;

/// This very program, by the names of its plugins.
fn own_plugins() -> Result<Plugins> {
    let file = own_file()?;
    let names = plugins::NAMES.iter().map(|name| (*name).to_owned()).collect();
    Ok(Plugins::Program { file, names })
}

fn own_file() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| {
        Failure::new(Exit::Unknown, format!("find this program's own file: {error}"))
    })
}

/// The lab's namespaces as they are now; those that are gone are left out.
pub(crate) fn machine(lab: &Lab, directory: &Path) -> Result<Machine> {
    Ok(Machine::collect(&lab.sources(directory))?)
}

/// Commands to try.
fn suggestions(lab: &Lab, machine: &Machine, terminal: Terminal) -> String {
    let address = |namespace: &topology::Namespace| {
        let mut addresses = namespace.links().filter(|link| link.name != "lo");
        addresses.find_map(|link| Some(namespace.addresses(link).next()?.address.addr()))
    };
    let name = match lab.name.as_str() {
        lab::Name::DEFAULT => String::new(),
        name => format!(" {name}"),
    };
    let mut commands = vec![format!("podwire lab status{name}"), format!("podwire lab down{name}")];
    // From the first pod to the last one, or to its node; in a plain lab between its two ends.
    let ends: Vec<&topology::Namespace> = match lab.pods().count() {
        0 => machine.namespaces.iter().skip(1).collect(),
        1 => nodes_and_pods(lab, machine).rev().collect(),
        _ => nodes_and_pods(lab, machine).filter(|it| is_pod(lab, it)).collect(),
    };
    if let [first, .., last] = &ends[..]
        && let Some(target) = address(last)
    {
        commands.insert(0, format!("ip netns exec {} ping -c 1 {target}", first.name));
    }
    terminal.dim(&format!("Try  {}\n", commands.join("\n     ")))
}

fn is_pod(lab: &Lab, seen: &topology::Namespace) -> bool {
    lab.pods().any(|pod| pod.public == seen.name)
}

/// The namespaces of nodes and then of pods that are there.
fn nodes_and_pods<'a>(
    lab: &'a Lab,
    machine: &'a Machine,
) -> impl DoubleEndedIterator<Item = &'a topology::Namespace> {
    let is_of = |seen: &&topology::Namespace| {
        let planned = lab.namespaces.iter().find(|it| it.public == seen.name);
        planned.is_some_and(|it| matches!(it.role, Role::Node | Role::Pod))
    };
    machine.namespaces.iter().filter(is_of)
}

/// Refuses a script of what is done, which is one of what would be done.
pub(crate) fn require_no_script(output: Output) -> Result<()> {
    match output {
        Output::Sh => {
            Err(Failure::new(Exit::Usage, "-o sh prints what would be done")
                .remedy("add --dry-run"))
        }
        _ => Ok(()),
    }
}

/// A lab for programs.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Answer<'a> {
    #[serde(flatten)]
    lab: &'a Lab,
    /// How far it is: `up`, `unfinished` or `busy`.
    state: &'static str,
    /// What is not as it was made, where that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    faults: Option<&'a [lab::Deviation]>,
    /// What does not work because of what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<&'a [lab::Deviation]>,
}

impl Document for Answer<'_> {
    const KIND: &'static str = "Lab";
}

impl<'a> Answer<'a> {
    fn of(lab: &'a Lab, state: State) -> Self {
        Self { lab, state: word(state), faults: None, limits: None }
    }
}

/// How far a lab is, or what its directory is instead of a lab's.
fn condition(summary: &lab::Summary) -> &'static str {
    match &summary.lab {
        Ok(_) => word(summary.state),
        Err(lab::Error::Scripted { .. }) => "script",
        Err(lab::Error::Unrecorded { .. }) => "foreign",
        Err(_) => "unreadable",
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Up => "up",
        State::Unfinished => "unfinished",
        State::Busy => "busy",
    }
}

/// A JSON answer.
pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
