//! The agent as a process: one thread with one inbox, and a thread for each that fills it.

use std::fs::{self, File};
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use fabric::agent::{Event, Status};
use fabric::mesh::{Target, Way};
use fabric::{Config, Publication, Report, Source};
use kernel::{Kernel, Monitor, Notice};
use net::{Space, owner};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::driver::{Driver, Mode};
use super::{files, mesh, serve, settings, watch};
use crate::failure::{Exit, Failure, Result};

/// What reaches the agent's thread.
pub(super) enum Input {
    /// Something has happened.
    Event(Event),
    /// Somebody asks how things are.
    Status(Sender<Status>),
    /// Something has changed where runtimes read.
    Files,
    /// The mesh asks for our own addresses and for whom to ask.
    Targets(Sender<(Vec<IpAddr>, Vec<Target>)>),
    /// The mesh has found out something.
    Ways(Vec<Way>),
    /// It is to end.
    Stop,
}

/// How long an agent that cannot look at the machine waits before it tries again.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is told to end; the network stays as it is.
pub(super) fn serve(config: &Config) -> Result<ExitCode> {
    log();
    // A look at thousands of peers takes several times what is kept of it.
    kernel::process::give_back_memory();
    let name = settings::name(config)?;
    let _lock = only_one(config)?;
    let (inbox, inputs) = channel();
    stop_on_signals(inbox.clone())?;
    let mut driver = Driver::new(config.clone(), name.clone(), Mode::Change)?;
    watch_kernel(driver.kernel(), inbox.clone())?;
    serve::serve(config, inbox.clone()).map_err(|error| {
        Failure::new(Exit::Unknown, format!("serve health and status: {error}"))
            .remedy("set `listen` to another address, or to null")
    })?;
    tracing::info!(node = %name, "started");
    // What was known before the start is made true before anybody is asked: a source may be away.
    retry(|| driver.start());
    let mut published = driver.publication().cloned();
    let source = start_source(config, published.as_ref(), Mode::Change, {
        let inbox = inbox.clone();
        move |report| {
            let _ = inbox.send(Input::Event(Event::Source(report)));
        }
    })?;
    watch_files(config, inbox.clone());
    mesh::run(config, inbox.clone());
    let mut was_ready = false;
    loop {
        let due = driver.deadline();
        let patience = due
            .map_or(Duration::from_secs(3600), |due| due.saturating_duration_since(Instant::now()));
        let done = match inputs.recv_timeout(patience) {
            Ok(Input::Event(event)) => driver.on(event),
            Ok(Input::Status(asker)) => {
                let _ = asker.send(driver.status());
                Ok(())
            }
            Ok(Input::Files) => {
                driver.tell_again();
                Ok(())
            }
            Ok(Input::Targets(asker)) => {
                let _ = asker.send(driver.mesh());
                Ok(())
            }
            Ok(Input::Ways(ways)) => {
                driver.learn(ways);
                Ok(())
            }
            Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => driver.on(Event::Tick),
        };
        if let Err(failure) = done {
            tracing::error!(%failure, "could not look at the machine");
            std::thread::sleep(PAUSE);
            let _ = inbox.send(Input::Event(Event::Lost));
        }
        if driver.take_resync() {
            source.resync();
        }
        if driver.publication() != published.as_ref() {
            published = driver.publication().cloned();
            source.publish(published.as_ref());
        }
        let is_ready = driver.is_ready();
        if is_ready != was_ready {
            was_ready = is_ready;
            source.set_ready(is_ready);
            if is_ready {
                // Nobody waits where there is no service manager.
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("ended; the network stays as it is");
    let _ = fs::remove_file(serve::socket(config));
    Ok(Exit::Yes.into())
}

fn retry(mut what: impl FnMut() -> Result<()>) {
    while let Err(failure) = what() {
        tracing::error!(%failure, "could not look at the machine");
        std::thread::sleep(PAUSE);
    }
}

/// A source at work.
pub(super) struct SourceHandle(Option<Box<dyn source::Running>>);

impl SourceHandle {
    fn resync(&self) {
        if let Some(source) = &self.0 {
            source.resync();
        }
    }

    fn publish(&self, publication: Option<&Publication>) {
        if let (Some(source), Some(publication)) = (&self.0, publication) {
            source.publish(publication.clone());
        }
    }

    fn set_ready(&self, ready: bool) {
        if let Some(source) = &self.0 {
            source.set_ready(ready);
        }
    }
}

/// Starts the source; what it says goes to `tell`. Who only looks has nothing written.
pub(super) fn start_source(
    config: &Config,
    publication: Option<&Publication>,
    mode: Mode,
    tell: impl Fn(Report) + Send + 'static,
) -> Result<SourceHandle> {
    let failed = |why: String| Failure::new(Exit::Usage, format!("source: {why}"));
    let publication =
        || publication.cloned().ok_or_else(|| failed("the machine was not looked at".to_owned()));
    let running = match &config.source {
        Source::File(path) => {
            watch::watch(path.clone(), tell);
            return Ok(SourceHandle(None));
        }
        #[cfg(feature = "etcd")]
        Source::Etcd(etcd) if mode == Mode::Show => {
            let cluster = source::etcd::look(etcd, publication()?);
            tell(Report::Complete(cluster.map_err(|error| failed(error.to_string()))?));
            return Ok(SourceHandle(None));
        }
        #[cfg(feature = "etcd")]
        Source::Etcd(etcd) => {
            let publication = publication()?;
            let mut kept = files::kept(config).nodes.into_iter();
            let kept = kept.find(|node| node.name == publication.name);
            let here = source::etcd::Here {
                subnets: kept.map(|node| node.subnets).unwrap_or_default(),
                port: Some(config.tunnel.port),
            };
            source::etcd::start_here(etcd, publication, here, Box::new(tell))
                .map_err(|error| failed(error.to_string()))?
        }
        #[cfg(feature = "kubernetes")]
        Source::Kubernetes(kubernetes) => {
            let start = match mode {
                Mode::Show => source::kubernetes::look,
                Mode::Change => source::kubernetes::start,
            };
            start(kubernetes, publication()?, Box::new(tell))
                .map_err(|error| failed(error.to_string()))?
        }
        #[cfg(not(all(feature = "etcd", feature = "kubernetes")))]
        _ => return Err(failed("this build of podwire was made without it".to_owned())),
    };
    Ok(SourceHandle(Some(running)))
}

/// Fills the inbox with what the kernel says. What we do ourselves to routes and rules is no news; what
/// we do otherwise is told, and found to be as it should be.
fn watch_kernel(kernel: &mut Kernel, inbox: Sender<Input>) -> Result<()> {
    let mut monitor = Monitor::new(&Space::Here)?;
    monitor.ignore(kernel, &Space::Here)?;
    std::thread::spawn(move || {
        loop {
            let event = match monitor.next(None) {
                Ok(Some(Notice::Seen(object))) => Event::Seen(object),
                Ok(Some(Notice::Gone(object))) => Event::Gone(object),
                Ok(Some(Notice::Nft(table))) if table.name == owner::AGENT_NFT_TABLE => {
                    Event::Rules
                }
                Ok(Some(Notice::Nft(_)) | None) => continue,
                Ok(Some(Notice::Lost)) => Event::Lost,
                Err(error) => {
                    tracing::error!(%error, "could not listen to the kernel");
                    std::thread::sleep(PAUSE);
                    Event::Lost
                }
            };
            if inbox.send(Input::Event(event)).is_err() {
                break;
            }
        }
    });
    Ok(())
}

/// Notices when somebody changes or removes what runtimes read: a node without it makes no pods.
fn watch_files(config: &Config, inbox: Sender<Input>) {
    let Some(path) = config.conflist_path() else { return };
    std::thread::spawn(move || {
        let watch = watch::Watch::new(&path);
        loop {
            watch.wait(Duration::from_secs(30));
            if inbox.send(Input::Files).is_err() {
                return;
            }
        }
    });
}

fn stop_on_signals(inbox: Sender<Input>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::new(Exit::Unknown, format!("listen to signals: {error}")))?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            let _ = inbox.send(Input::Stop);
        }
    });
    Ok(())
}

/// Two agents of one node would undo each other's work.
fn only_one(config: &Config) -> Result<File> {
    let path = config.run.join("agent.lock");
    let open = || {
        fs::create_dir_all(&config.run)?;
        File::options().create(true).truncate(false).write(true).open(&path)
    };
    let file = open().map_err(|error| {
        Failure::new(Exit::Unknown, format!("open {}: {error}", path.display()))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Failure::new(
            Exit::No,
            format!("another agent runs here: it holds {}", path.display()),
        )
        .remedy("`podwire agent status` asks it")),
    }
}

/// Logs to standard error: for people on a terminal, else one JSON object a line.
pub(crate) fn log() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_env("PODWIRE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match std::io::stderr().is_terminal() {
        true => log.try_init(),
        false => log.json().flatten_event(true).try_init(),
    };
}
