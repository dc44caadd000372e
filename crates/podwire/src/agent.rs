//! `podwire agent`: the fabric's state machine, wired to the kernel, to a source and to the people
//! who watch it.

mod driver;
mod files;
mod look;
mod mesh;
mod report;
mod run;
mod serve;
mod settings;
mod watch;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use fabric::agent::{Event, Status};
use fabric::{Config, Report};
use kernel::{Kernel, OnError};
use net::{Networks, Space};

use self::driver::{Driver, Mode};
pub(crate) use self::report::Answer;
pub(crate) use self::run::log;
use crate::cli::agent::{Agent, AgentCommand};
use crate::cli::{Format, Output, document, print};
use crate::failure::{Exit, Failure, Result};
use crate::lab::{pretty, require_no_script};
use crate::terminal::Terminal;

/// `podwire agent`
pub(crate) fn run(arguments: &Agent, terminal: Terminal) -> Result<ExitCode> {
    let config = settings::read(&arguments.config)?;
    match &arguments.command {
        Some(AgentCommand::Status { output }) => status(&config, *output, terminal),
        Some(AgentCommand::Accept) => accept(&config),
        None if arguments.cleanup => cleanup(&config, arguments.dry_run, arguments.output),
        None if arguments.once || arguments.dry_run => once(&config, arguments, terminal),
        None => run::serve(&config),
    }
}

/// Reconciles once, or shows what that would change.
fn once(config: &Config, arguments: &Agent, terminal: Terminal) -> Result<ExitCode> {
    if !arguments.dry_run {
        require_no_script(arguments.output)?;
    }
    let mode = if arguments.dry_run { Mode::Show } else { Mode::Change };
    let mut driver = drive_once(config, mode)?;
    if arguments.accept {
        driver.on(Event::Accept)?;
        driver.tick_now()?;
    }
    let status = driver.status();
    let text = match (arguments.output, mode) {
        (Output::Sh, _) => net::script(&driver.shown()),
        (Output::Text, Mode::Show) => report::plan(&driver.shown()),
        (Output::Json, Mode::Show) => report::plan_json(&driver.shown()),
        (Output::Json, Mode::Change) => document(&Answer(&status))?,
        (Output::Text, Mode::Change) => report::status(&status, terminal),
    };
    print(&text)?;
    Ok(if mode == Mode::Show || is_well(&status) { Exit::Yes } else { Exit::No }.into())
}

/// Everything that an agent does at its start.
fn drive_once(config: &Config, mode: Mode) -> Result<Driver> {
    let mut driver = Driver::new(config.clone(), settings::name(config)?, mode)?;
    let report = first_report(config, &mut driver)?;
    // What the source says is known before the first look, so that one plan does all.
    driver.on(Event::Source(report))?;
    driver.start()?;
    Ok(driver)
}

/// What the source says, waiting for one that is elsewhere.
fn first_report(config: &Config, driver: &mut Driver) -> Result<Report> {
    if let fabric::Source::File(path) = &config.source {
        let nodes = watch::read(path).map_err(|why| Failure::new(Exit::No, why))?;
        return Ok(Report::Complete(nodes.into()));
    }
    let (tell, hear) = std::sync::mpsc::channel();
    driver.survey()?;
    let _source = run::start_source(config, driver.publication(), driver.mode(), move |report| {
        let _ = tell.send(report);
    })?;
    let until = Instant::now() + Duration::from_secs(30);
    let mut last = "it does not answer".to_owned();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match hear.recv_timeout(left) {
            Ok(Report::Astray(why)) => last = why,
            Ok(report) => return Ok(report),
            Err(_) => {
                return Err(Failure::new(Exit::Unknown, format!("ask the source: {last}")));
            }
        }
    }
}

/// Whether everybody is reached, and pods may be made.
fn is_well(status: &Status) -> bool {
    status.ready && status.programmed == status.peers
}

fn status(config: &Config, output: Format, terminal: Terminal) -> Result<ExitCode> {
    let status = match serve::ask(config, "GET", "/status") {
        Ok(text) => serde_json::from_str(&text).map_err(|error| {
            Failure::new(Exit::Unknown, format!("the agent answers in another language: {error}"))
                .remedy("restart it, so that it is of the same version as this program")
        })?,
        // No agent runs: what it would find is told all the same.
        Err(_) => {
            let driver = drive_once(config, Mode::Show)?;
            let mut status = driver.status();
            let pending = driver.pending();
            status.ready &= pending == 0;
            let text = match pending {
                0 => "no agent is running; what it would keep is in place".to_owned(),
                n => format!(
                    "no agent is running, and {n} things are not as they should be; start it, or \
                     run `podwire agent --once`"
                ),
            };
            status.problems.insert(0, fabric::Problem::note(fabric::Code::Source, text));
            status
        }
    };
    print(&match output {
        Format::Json => document(&Answer(&status))?,
        Format::Text => report::status(&status, terminal),
    })?;
    Ok(if is_well(&status) { Exit::Yes } else { Exit::No }.into())
}

fn accept(config: &Config) -> Result<ExitCode> {
    serve::ask(config, "POST", "/accept").map_err(|why| {
        Failure::new(Exit::NotFound, format!("no agent answers: {why}"))
            .remedy("without one, `podwire agent --once --accept` does the same")
    })?;
    Ok(Exit::Yes.into())
}

/// Removes what is ours, and nothing else.
fn cleanup(config: &Config, dry_run: bool, output: Output) -> Result<ExitCode> {
    let mut kernel = Kernel::new()?;
    let (devices, nobody) = (config.tunnel.devices().to_vec(), Networks::default());
    let seen = look::look(&mut kernel, &Space::Here, devices, &nobody)?;
    let plan = fabric::agent::cleanup(config, &seen);
    if dry_run {
        print(&match output {
            Output::Sh => net::script(&plan),
            Output::Json => report::plan_json(&plan),
            Output::Text => report::plan(&plan),
        })?;
        return Ok(Exit::Yes.into());
    }
    let applied = kernel.apply(&plan, OnError::Continue);
    files::remove_all(config)?;
    if let Some((_, error)) = applied.failed.first() {
        return Err(Failure::new(Exit::No, format!("remove what is the agent's: {error}")));
    }
    match output {
        Output::Json => print(&pretty(&serde_json::json!({
            "apiVersion": "podwire/v1", "kind": "AgentCleanup", "removed": applied.done.len(),
        })))?,
        _ => print(&format!("Removed {} things of the agent's.\n", applied.done.len()))?,
    }
    Ok(Exit::Yes.into())
}
