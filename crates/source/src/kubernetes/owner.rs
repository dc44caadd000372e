//! The one task that owns what is known: events of the watches in, reports out, and the own Node
//! written until it is as it should be.

use std::future::Future;
use std::mem::{Discriminant, discriminant};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fabric::{NodeName, Publication, Report};
use futures_util::future::OptionFuture;
use kube::Client;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, channel};
use tokio::time::sleep_until;

use super::api::{Change, Failure, write};
use super::backoff::{Backoff, chance};
use super::index::{Index, Trouble, Verdict};
use super::watch::Watch;
use super::watch::Which::{All, Own};
use crate::Tell;

/// How long changes are gathered before they are told: an agent computes everything anew each time.
const GATHER: Duration = Duration::from_millis(20);

/// How many events wait to be taken in.
const ROOM: usize = 64;

/// For how long nobody else may have touched what we write before it is written at once again: two that
/// write over each other must not do so as fast as they can.
const QUIET: Duration = Duration::from_secs(60);

/// What the agent asks of the source.
pub(super) enum Command {
    /// Has others know this.
    Publish(Publication),
    /// Reads all nodes anew.
    Resync,
    /// Whether pods may come.
    Ready(bool),
}

type Writing = Pin<Box<dyn Future<Output = (Change, Result<(), Failure>)> + Send>>;

/// Works until nobody can command any more.
pub(super) async fn run(
    client: Client,
    mut index: Index,
    mut commands: UnboundedReceiver<Command>,
    tell: &Tell,
) {
    let name = index.name().clone();
    // Small, so that a long list waits on the wire and not here.
    let (events, mut seen) = channel(ROOM);
    let mut heard = Vec::with_capacity(ROOM);
    let anew = Arc::new(Notify::new());
    for (which, fields) in [(Own, Some(format!("metadata.name={name}"))), (All, None)] {
        let is_metadata = which == All && !index.needs_specs();
        let (client, events) = (client.clone(), events.clone());
        let anew = Arc::clone(&anew);
        tokio::spawn(Watch { client, which, fields, is_metadata, events, anew }.run());
    }
    let mut teller = Teller::default();
    let mut writer = Writer {
        client,
        name,
        backoff: Backoff::default(),
        at: Instant::now(),
        wrote: None,
        failure: None,
    };
    let mut writing: Option<Writing> = None;
    loop {
        let now = Instant::now();
        let mut wake = teller.tell(&mut index, now, tell);
        wake = earlier(wake, index.next(now));
        if writing.is_none()
            && let Some(change) = index.change(now)
        {
            if writer.at <= now {
                writing = Some(writer.write(change));
            } else {
                wake = earlier(wake, Some(writer.at));
            }
        }
        let sleep = OptionFuture::from(wake.map(|at| sleep_until(at.into())));
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Publish(publication)) => index.publish(publication),
                Some(Command::Resync) => {
                    index.resync();
                    anew.notify_one();
                }
                Some(Command::Ready(is_ready)) => index.set_ready(is_ready),
                None => return,
            },
            // All there is: what follows from it is found out once.
            1.. = seen.recv_many(&mut heard, ROOM) => {
                let now = Instant::now();
                heard.drain(..).for_each(|(which, event)| index.apply(which, event, now));
            }
            Some((change, result)) = OptionFuture::from(writing.as_mut()) => {
                writing = None;
                writer.pause(&result, Instant::now());
                let result = result.map_err(|failure| failure.to_string());
                writer.log(&change, &result);
                index.wrote(&change, result, Instant::now());
            }
            Some(()) = sleep => {}
        }
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

/// What has been told, so that nothing is told twice.
#[derive(Default)]
struct Teller {
    told: Option<Told>,
    due: Option<Instant>,
}

#[derive(PartialEq, Eq)]
enum Told {
    Complete,
    Astray(Discriminant<Trouble>),
}

impl Teller {
    /// Tells what there is to tell; when it has to be asked again, if something waits.
    fn tell(&mut self, index: &mut Index, now: Instant, tell: &Tell) -> Option<Instant> {
        match index.verdict(now) {
            Verdict::Wait => {}
            Verdict::Astray(trouble, text) => {
                self.due = None;
                let kind = Told::Astray(discriminant(&trouble));
                if self.told.as_ref() != Some(&kind) {
                    self.told = Some(kind);
                    tell(Report::Astray(text));
                }
            }
            Verdict::Complete if self.told == Some(Told::Complete) && !index.is_changed() => {}
            Verdict::Complete => {
                // What is told first is whole, and waited for.
                let gather = self.told.as_ref().map_or(Duration::ZERO, |_| GATHER);
                let due = *self.due.get_or_insert(now + gather);
                if now < due {
                    return Some(due);
                }
                self.due = None;
                self.told = Some(Told::Complete);
                index.take_change();
                tell(Report::Complete(index.nodes().into()));
            }
        }
        None
    }
}

/// Who writes to the own Node, and when next.
struct Writer {
    client: Client,
    name: NodeName,
    backoff: Backoff,
    at: Instant,
    wrote: Option<Instant>,
    failure: Option<String>,
}

impl Writer {
    fn write(&self, change: Change) -> Writing {
        let (client, name) = (self.client.clone(), self.name.clone());
        Box::pin(async move {
            let result = write(&client, &name, change.clone()).await;
            (change, result)
        })
    }

    /// Says for people what it did; what goes wrong again in the same way only once.
    fn log(&mut self, change: &Change, result: &Result<(), String>) {
        match (result, change) {
            (Ok(()), Change::Annotations(_)) => {
                tracing::info!(node = %self.name, "published this node in its annotations");
            }
            (Ok(()), Change::NetworkAvailable) => {
                tracing::info!(node = %self.name, "told Kubernetes that the network is there");
            }
            (Err(why), _) if self.failure.as_ref() != Some(why) => {
                tracing::warn!(node = %self.name, why, "could not write to this node's object");
            }
            (Err(_), _) => {}
        }
        self.failure = result.as_ref().err().cloned();
    }

    /// Waits before it writes again: after a success too, and longer if that was not long ago.
    fn pause(&mut self, result: &Result<(), Failure>, now: Instant) {
        let last = self.wrote.replace(now);
        let is_quiet = last.is_none_or(|last| now.duration_since(last) > QUIET);
        if result.is_ok() && (is_quiet || self.failure.is_some()) {
            self.backoff.reset();
        }
        let asked = match result {
            Err(Failure::Refused { wait, .. }) => wait.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        self.at = now + self.backoff.next(chance()).max(asked);
    }
}
