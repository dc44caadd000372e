//! `podwire responder`: lets those who have a certificate prove, with packets from this node and its
//! pods, that the network between nodes keeps its promises.
//!
//! It is a unit of its own, off unless it is configured: entering the namespaces of pods takes more
//! rights than joining nodes does. It listens at one address, speaks to nobody who has no certificate
//! of its authority, and sends packets nowhere but into the networks of its configuration.

mod client;
mod gathering;
mod protocol;
mod session;
mod tls;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde::Deserialize;

pub(crate) use self::gathering::Gathering;
use self::protocol::SILENCE;
use self::session::Session;
use self::tls::Files;
use crate::agent::log;
use crate::failure::{Exit, Failure, Result};
use crate::interrupt::Interrupt;
use crate::terminal::harmless;

/// How many askers are served at once.
const MOST: usize = 4;
/// How often somebody who wants to stop is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    /// Where it listens.
    listen: SocketAddr,
    authority: std::path::PathBuf,
    certificate: std::path::PathBuf,
    key: std::path::PathBuf,
    /// Those of the cluster's pods and nodes: packets go nowhere else.
    networks: Vec<IpNet>,
}

/// Runs until a signal.
pub(crate) fn run(config: &Path) -> Result<ExitCode> {
    log();
    let settings = read(config)?;
    let files = Files {
        authority: settings.authority,
        certificate: settings.certificate,
        key: settings.key,
    };
    let tls = files.server().map_err(|why| Failure::new(Exit::Usage, harmless(&why)))?;
    let interrupt = Interrupt::listen();
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Unknown, format!("listen at {}: {error}", settings.listen))
    };
    let listener = TcpListener::bind(settings.listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let networks: Arc<[IpNet]> = settings.networks.into();
    let served = Arc::new(AtomicUsize::new(0));
    tracing::info!(listen = %settings.listen, "answers");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    while interrupt.exit().is_none() {
        let Ok((stream, peer)) = listener.accept() else {
            thread::sleep(LOOK);
            continue;
        };
        if served.fetch_add(1, Ordering::Relaxed) >= MOST {
            served.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(%peer, "is turned away: there are {MOST} askers already");
            continue;
        }
        let (tls, networks, served) = (tls.clone(), networks.clone(), served.clone());
        thread::spawn(move || {
            match serve(stream, tls, &networks) {
                Ok(()) => tracing::info!(%peer, "has asked"),
                Err(why) => tracing::warn!(%peer, why, "is let go"),
            }
            served.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(Exit::Yes.into())
}

fn serve(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    networks: &[IpNet],
) -> std::result::Result<(), String> {
    let prepare = || {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))
    };
    prepare().map_err(|error| error.to_string())?;
    let connection = ServerConnection::new(tls).map_err(|error| error.to_string())?;
    let mut talk = StreamOwned::new(connection, stream);
    Session::new(networks).serve(&mut talk).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Settings> {
    let shown = harmless(&path.display().to_string());
    let text = std::fs::read_to_string(path).map_err(|error| {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Unknown,
        };
        Failure::new(exit, format!("read {shown}: {error}"))
            .remedy("write it as docs/responder.md says; without it the responder is off")
    })?;
    let settings: Settings = serde_saphyr::from_str(&text)
        .map_err(|error| Failure::new(Exit::Usage, format!("{shown}: {error}")))?;
    match settings.networks.is_empty() {
        true => Err(Failure::new(Exit::Usage, format!("{shown}: no networks are named"))),
        false => Ok(settings),
    }
}
