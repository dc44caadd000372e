//! Health, metrics and status over HTTP: on a Unix socket for `podwire agent status`, and on
//! loopback (or where one asks) for kubelet and Prometheus.
//!
//! Every answer comes from the agent's own thread, so that one that hangs is not healthy.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use fabric::Config;
use fabric::agent::{Event, Status};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use topology::Document;

use super::run::Input;

/// Where `podwire agent status` asks.
pub(super) fn socket(config: &Config) -> PathBuf {
    config.run.join("agent.sock")
}

/// How long an agent may take to answer. A look at thousands of peers takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves for ever, on a thread of its own.
pub(super) fn serve(config: &Config, inbox: Sender<Input>) -> io::Result<()> {
    let path = socket(config);
    fs::create_dir_all(&config.run)?;
    // Only one agent runs here, which has found that out before; this is what a killed one left.
    let _ = fs::remove_file(&path);
    let unix = std::os::unix::net::UnixListener::bind(&path)?;
    unix.set_nonblocking(true)?;
    let tcp = config.listen.map(listen).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        let router = router(inbox);
        runtime.block_on(async move {
            let Ok(unix) = tokio::net::UnixListener::from_std(unix) else { return };
            let local = axum::serve(unix, router.clone());
            match tcp.map(tokio::net::TcpListener::from_std) {
                Some(Ok(tcp)) => {
                    let both = tokio::spawn(axum::serve(tcp, router).into_future());
                    let _ = local.await;
                    both.abort();
                }
                _ => {
                    let _ = local.await;
                }
            }
        });
    })?;
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("listen on {address}: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn router(inbox: Sender<Input>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/accept", post(accept))
        .with_state(inbox)
}

/// Asks the agent's thread, without holding up other requests.
async fn ask_agent(inbox: Sender<Input>) -> Result<Status, (StatusCode, String)> {
    let answer = tokio::task::spawn_blocking(move || {
        let (tell, hear) = channel();
        inbox.send(Input::Status(tell)).ok()?;
        hear.recv_timeout(PATIENCE).ok()
    });
    let silent = || (StatusCode::INTERNAL_SERVER_ERROR, "the agent does not answer\n".to_owned());
    answer.await.ok().flatten().ok_or_else(silent)
}

type Answer = Result<String, (StatusCode, String)>;

async fn healthz(State(inbox): State<Sender<Input>>) -> Answer {
    ask_agent(inbox).await.map(|_| "ok\n".to_owned())
}

async fn readyz(State(inbox): State<Sender<Input>>) -> Answer {
    let status = ask_agent(inbox).await?;
    if status.ready {
        return Ok("ok\n".to_owned());
    }
    let lines: Vec<String> = status.problems.iter().map(ToString::to_string).collect();
    Err((StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", lines.join("\n"))))
}

async fn status(State(inbox): State<Sender<Input>>) -> Answer {
    let status = ask_agent(inbox).await?;
    let failed = |error: serde_json::Error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    super::report::Answer(&status).to_document().map_err(failed)
}

async fn accept(State(inbox): State<Sender<Input>>) -> Answer {
    let gone = |_| (StatusCode::INTERNAL_SERVER_ERROR, "the agent has ended\n".to_owned());
    inbox.send(Input::Event(Event::Accept)).map_err(gone)?;
    Ok("ok\n".to_owned())
}

async fn metrics(State(inbox): State<Sender<Input>>) -> Answer {
    let status = ask_agent(inbox).await?;
    let mut text = String::new();
    let _ = encode(&mut text, &registry(&status));
    Ok(text)
}

/// What is measured, from what the agent knows just now.
fn registry(status: &Status) -> Registry {
    type Labelled = Family<Vec<(&'static str, String)>, Gauge>;
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut registry = Registry::with_prefix("podwire_agent");
    let mut gauge = |name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(number(value));
        registry.register(name, help, gauge);
    };
    gauge("ready", "Whether the node's network stands", status.ready.into());
    gauge("peers_wanted", "Nodes that this one is to reach", status.peers as u64);
    gauge("peers_programmed", "Nodes that it is joined to", status.programmed as u64);
    let in_sync = status.source == fabric::agent::SourceStatus::InSync;
    gauge("source_in_sync", "Whether the source has told all nodes", in_sync.into());
    if let Some(told) = status.source_told {
        let age = status.uptime.saturating_sub(told) / 1000;
        gauge("source_told_seconds_ago", "Time since the source told all nodes last", age);
    }
    gauge("mtu_bytes", "The largest packet of a pod", status.mtu.unwrap_or_default().into());
    gauge("uptime_seconds", "Time since the start", status.uptime / 1000);
    let problems = Labelled::default();
    for problem in &status.problems {
        problems.get_or_create(&vec![("code", problem.code.word().to_owned())]).inc();
    }
    registry.register("problems", "What is wrong, by kind", problems);
    let changes = Labelled::default();
    for (kind, count) in &status.changes {
        changes.get_or_create(&vec![("kind", kind.clone())]).set(number(*count));
    }
    registry.register("changes", "Objects changed since the start, by kind", changes);
    let (rtt, rounds, lost) = (Labelled::default(), Labelled::default(), Labelled::default());
    for way in &status.ways {
        let labels = vec![("peer", way.peer.to_string()), ("family", way.family.to_string())];
        let set = |family: &Labelled, value: u64| {
            family.get_or_create(&labels).set(number(value));
        };
        set(&rounds, way.rounds);
        set(&lost, way.lost);
        if let Some(micros) = way.micros {
            set(&rtt, micros);
        }
    }
    registry.register("probe_rtt_micros", "There and back, when it succeeded last", rtt);
    registry.register("probe_rounds", "How often a peer was asked", rounds);
    registry.register("probe_lost", "How often it did not answer to a full-size packet", lost);
    let timing = Labelled::default();
    for (what, micros) in &status.timing {
        timing.get_or_create(&vec![("what", what.clone())]).set(number(*micros));
    }
    registry.register("last_micros", "How long each kind of work took last", timing);
    registry
}

/// Asks a running agent.
pub(super) fn ask(config: &Config, method: &str, path: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket(config))?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: agent\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("it answers {status}: {}", body.trim()))),
    }
}
