//! `podwire cni`: the container runtime's part of CNI, by hand.

mod collect;
mod list;
mod place;
mod versions;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use cni::CniResult;
use cni::exec::Patience;
use cni::runtime::directory::{self, Found};
use cni::runtime::{self, Cache, Error, NetworkList, Parameters, Runtime};
use kernel::Kernel;
use net::Space;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use topology::Document;

pub(crate) use self::list::Networks;
use self::place::Place;
use crate::cli::cni::{Attachment, CniCommand, Network, Places};
use crate::cli::{Format, document, print};
use crate::failure::{Exit, Failure, Result};
use crate::interrupt::Interrupt;
use crate::lab::{pretty, tell};
use crate::terminal::Terminal;

/// Runs one of its commands. Plugins are not on the terminal, so that Ctrl-C leaves time to stop
/// them, and to take back what was begun.
pub(crate) fn run(command: &CniCommand, terminal: Terminal) -> Result<ExitCode> {
    let interrupt = Interrupt::listen();
    let interrupted = || interrupt.exit().is_some();
    let runtime = |places| runtime(places, &interrupted);
    let outcome = match command {
        CniCommand::Add(it) => add(it, &runtime(&it.places), terminal),
        CniCommand::Check(it) => check(it, &runtime(&it.places)),
        CniCommand::Del(it) => del(it, &runtime(&it.places)),
        CniCommand::Gc(it) => collect::run(it, &runtime(&it.places)),
        CniCommand::Status(it) => status(it, &runtime(&it.places)),
        CniCommand::Version(it) => versions::run(it, &runtime(&it.places), terminal),
        CniCommand::List(it) => list::run(it, terminal),
    };
    outcome.map_err(|failure| failure.exit(interrupt.exit()))
}

/// `podwire cni add`
fn add(arguments: &Attachment, runtime: &Runtime<'_>, terminal: Terminal) -> Result<ExitCode> {
    if arguments.netns.is_none() {
        return Err(
            Failure::new(Exit::Usage, "no namespace is given").remedy("name it behind the network")
        );
    }
    let network = network(&arguments.places, &arguments.network)?;
    let place = Place::new(arguments.netns.as_deref());
    let parameters = parameters(arguments, &place, &network.name, &runtime.cache, Asked::Exactly)?;
    if runtime.cache.get(&network.name, &parameters.attachment)?.is_none() {
        require_free(&place, &parameters)?;
    }
    let result = runtime.add(&network, &parameters)?;
    print(&match arguments.places.output {
        // As cnitool prints it.
        Format::Json => cni::json::pretty(&result),
        Format::Text => added(&network, &parameters, &result, terminal),
    })?;
    Ok(Exit::Yes.into())
}

/// `podwire cni check`
fn check(arguments: &Attachment, runtime: &Runtime<'_>) -> Result<ExitCode> {
    let network = network(&arguments.places, &arguments.network)?;
    let place = Place::new(arguments.netns.as_deref());
    let parameters = parameters(arguments, &place, &network.name, &runtime.cache, Asked::Found)?;
    runtime.check(&network, &parameters)?;
    let what = if network.disable_check { "CHECK is switched off" } else { "as it was made" };
    report(&arguments.places, "CniCheck", &network, &parameters, what)
}

/// `podwire cni del`
fn del(arguments: &Attachment, runtime: &Runtime<'_>) -> Result<ExitCode> {
    let place = Place::new(arguments.netns.as_deref());
    let name = &arguments.network;
    let parameters = parameters(arguments, &place, name, &runtime.cache, Asked::Found)?;
    let record = runtime.cache.get(name, &parameters.attachment)?;
    let network = match (directory::find(&arguments.places.directories.conf_dir(), name), &record) {
        (Err(error), Some(record)) if !record.config.is_empty() => {
            tell(&format!("warning: {error}; the configuration that was remembered is used"));
            NetworkList::parse(&record.config)?
        }
        (found, _) => known(found?),
    };
    runtime.del(&network, &parameters)?;
    let what = match record {
        Some(_) => "detached",
        None => "detached; it was not remembered, but its plugins were asked all the same",
    };
    report(&arguments.places, "CniDel", &network, &parameters, what)
}

/// `podwire cni status`
fn status(arguments: &Network, runtime: &Runtime<'_>) -> Result<ExitCode> {
    let network = network(&arguments.places, &arguments.network)?;
    runtime.status(&network)?;
    let asked = network.has_status();
    print(&match arguments.places.output {
        Format::Json => document(&Status { network: &network.name, asked })?,
        Format::Text if asked => format!("{}: its plugins can attach pods.\n", network.name),
        Format::Text => format!(
            "{}: its plugins are there; whether they could attach pods can be asked from CNI 1.1.0 \
             on.\n",
            network.name
        ),
    })?;
    Ok(Exit::Yes.into())
}

/// That the plugins of a network can attach pods, for programs.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Status<'a> {
    /// The network.
    network: &'a str,
    /// Whether they were asked, which is possible from CNI 1.1.0 on; else they are there.
    asked: bool,
}

impl Document for Status<'_> {
    const KIND: &'static str = "CniStatus";
}

/// The network of that name.
fn network(places: &Places, name: &str) -> Result<NetworkList> {
    Ok(known(directory::find(&places.directories.conf_dir(), name)?))
}

/// The network, after telling of the files that cannot be read.
fn known((found, unreadable): (Found, Vec<Error>)) -> NetworkList {
    warn(&unreadable);
    found.network
}

fn warn(unreadable: &[Error]) {
    for error in unreadable {
        tell(&format!("warning: {error}"));
    }
}

fn runtime<'a>(places: &Places, interrupted: &'a dyn Fn() -> bool) -> Runtime<'a> {
    Runtime {
        plugin_dirs: places.plugin_dirs(),
        cache: Cache::new(places.directories.cache_dir()),
        patience: Patience { limit: places.timeout, interrupted },
    }
}

/// Which attachment is meant where only a namespace is named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The one of the path as it is written.
    Exactly,
    /// The one that is remembered, by whichever path.
    Found,
}

/// What the command line says of an attachment.
fn parameters(
    arguments: &Attachment,
    place: &Place,
    network: &str,
    cache: &Cache,
    asked: Asked,
) -> Result<Parameters> {
    let ids = match &arguments.container_id {
        Some(id) => vec![id.clone()],
        None => place.paths().iter().map(|path| runtime::container_id(path)).collect(),
    };
    let of = |id: String| cni::Attachment { container_id: id, ifname: arguments.ifname() };
    let mut attachment = of(ids.first().cloned().unwrap_or_default());
    let mut netns = place.path();
    for candidate in ids.into_iter().map(of).filter(|_| asked == Asked::Found) {
        if let Some(record) = cache.get(network, &candidate)? {
            // CHECK compares the path with that of the result, letter by letter.
            let was = record.parameters.netns.filter(|was| place.is_also(was));
            (attachment, netns) = (candidate, was.or(netns));
            break;
        }
    }
    let args = arguments.args.clone().map(|it| it.0).unwrap_or_default();
    let capability_args = arguments.capability_args.clone().map(|it| it.0).unwrap_or_default();
    Ok(Parameters { attachment, netns, args, capability_args })
}

/// Refuses a namespace that is none, or is podwire's own, or has such an interface already: what
/// takes back an ADD that failed would take that away.
fn require_free(place: &Place, parameters: &Parameters) -> Result<()> {
    let Some(path) = &parameters.netns else { return Ok(()) };
    let ifname = &parameters.attachment.ifname;
    place.require_other()?;
    let exists = match ifname.parse() {
        // Every namespace has it, and the loopback plugin is asked for it.
        Ok(name) if ifname != "lo" => {
            Kernel::new()?.link(&Space::At(path.clone()), &name)?.is_some()
        }
        // The runtime says what is wrong with a name that is none.
        _ => false,
    };
    if !exists {
        return Ok(());
    }
    let what = format!("{} has an interface {ifname} already", path.display());
    Err(Failure::new(Exit::No, what).remedy(
        "choose another name with --ifname; `podwire cni list` shows whether it is of another \
         network",
    ))
}

/// What was made, for people.
fn added(
    network: &NetworkList,
    parameters: &Parameters,
    result: &Value,
    terminal: Terminal,
) -> String {
    let mut text =
        format!("{}: {} is attached.\n", terminal.bold(&network.name), subject(parameters));
    // The runtime has read it before.
    let result = CniResult::parse(result, "").unwrap_or_default();
    let mut line = |label: &str, what: String| {
        let _ = writeln!(text, "  {label:10} {what}");
    };
    for interface in &result.interfaces {
        let label = if interface.sandbox.is_empty() { "on node" } else { "in pod" };
        line(label, format!("{}  {}", interface.name, interface.mac).trim_end().to_owned());
    }
    for ip in &result.ips {
        let gateway = ip.gateway.map(|gateway| format!(", gateway {gateway}")).unwrap_or_default();
        line("address", format!("{}{gateway}", ip.address));
    }
    for route in &result.routes {
        let via = route.gw.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        line("route", format!("{}{via}", route.dst));
    }
    if !result.dns.nameservers.is_empty() {
        line("DNS", result.dns.nameservers.join(", "));
    }
    text
}

/// Which interface of which container.
fn subject(parameters: &Parameters) -> String {
    let cni::Attachment { container_id, ifname } = &parameters.attachment;
    match &parameters.netns {
        Some(path) => format!("{ifname} of {} (container {container_id})", path.display()),
        None => format!("{ifname} of container {container_id}"),
    }
}

/// Says that something was done.
fn report(
    places: &Places,
    kind: &str,
    network: &NetworkList,
    parameters: &Parameters,
    what: &str,
) -> Result<ExitCode> {
    print(&match places.output {
        Format::Json => {
            let mut value = json!({
                "apiVersion": "podwire/v1", "kind": kind, "network": network.name,
            });
            value["attachment"] = json!(Told::of(parameters));
            pretty(&value)
        }
        Format::Text => format!("{}: {} is {what}.\n", network.name, subject(parameters)),
    })?;
    Ok(Exit::Yes.into())
}

/// An attachment for programs.
#[derive(Serialize, JsonSchema)]
struct Told<'a> {
    /// The container.
    #[serde(rename = "containerID")]
    container_id: &'a str,
    /// The interface.
    ifname: &'a str,
    /// Where the network namespace was.
    netns: Option<&'a Path>,
}

impl<'a> Told<'a> {
    fn of(parameters: &'a Parameters) -> Self {
        let cni::Attachment { container_id, ifname } = &parameters.attachment;
        Self { container_id, ifname, netns: parameters.netns.as_deref() }
    }
}
