//! Leases in etcd as the source of nodes, in flannel's layout: the cluster's configuration at
//! `<prefix>/config`, and at `<prefix>/subnets/<subnet>` what each node has and where it is reached.
//!
//! A node keeps its lease by renewing it and is told of all others by a watch. It speaks the JSON of
//! etcd's own gateway over plain HTTP/1.1, so that no async library is needed.
//!
//! It never touches a key that is another node's, and never gives up its own: whoever ends takes
//! nothing with it.

mod client;
mod conf;
mod error;
mod holding;
mod keeper;
mod leases;
mod subnets;
mod tls;
mod transport;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use fabric::{Cluster, Etcd, PerFamily, Publication};
use ipnet::IpNet;

pub use conf::mismatch;
pub use error::Error;

use crate::{Running, Tell};
use client::{Client, Stopper};
use holding::Holding;
use keeper::{Event, Keeper};
use leases::Keys;

/// How long an end is waited for. What takes longer, such as a name server that is silent, ends
/// alone and without a word.
const END: Duration = Duration::from_secs(1);

/// What a node knows of itself, beside what it publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// What it had before: taken again if it is free and has no lease any more.
    pub subnets: PerFamily<IpNet>,
    /// The UDP port of its tunnel, to be compared with the cluster's.
    pub port: Option<u16>,
}

/// Leases a subnet for this node and tells all nodes, from now until what it returns is dropped.
/// Only what is wrong with the configuration itself is an error; all else is told.
///
/// After [`Report::Withdrawn`](fabric::Report::Withdrawn) it takes the same subnet again if that is
/// free again, and no other: what becomes of pods with the old addresses is for the agent to say,
/// which drops this and starts anew.
pub fn start(
    config: &Etcd,
    publication: Publication,
    tell: Tell,
) -> Result<Box<dyn Running>, Error> {
    start_here(config, publication, Here::default(), tell)
}

/// The cluster as it is now, for one who only looks: nothing is written, and a node without a lease
/// is not of it.
pub fn look(config: &Etcd, publication: Publication) -> Result<Cluster, Error> {
    let (client, keys) = (Client::new(config)?, Keys::below(&config.prefix));
    let here = Here::default();
    let mut holding = Holding::new(client, keys, publication, here, config.lease_seconds);
    let picture = holding.list()?;
    let (keys, me) = (&holding.keys, &holding.publication);
    let own = picture.own(me, |_| true).map(|(key, _)| key).unwrap_or_default();
    Ok(picture.cluster(keys, me, own))
}

/// As [`start`], by a node that knows more.
pub fn start_here(
    config: &Etcd,
    publication: Publication,
    here: Here,
    tell: Tell,
) -> Result<Box<dyn Running>, Error> {
    let client = Client::new(config)?;
    let stopper = Some(client.stopper());
    let keys = Keys::below(&config.prefix);
    let holding = Holding::new(client, keys, publication, here, config.lease_seconds);
    let (events, received) = channel();
    let (ended, end) = channel::<()>();
    let is_stopped = Arc::new(AtomicBool::new(false));
    let keeper = Keeper {
        holding,
        tell,
        events: received,
        ears: events.clone(),
        is_stopped: is_stopped.clone(),
        picture: None,
        state: keeper::State::default(),
    };
    let work = move || {
        // Goes with the thread, however that ends.
        let _ended = ended;
        keeper.run();
    };
    let builder = thread::Builder::new().name("etcd".to_owned());
    builder.spawn(work).map_err(|error| Error::Thread(error.to_string()))?;
    Ok(Box::new(Handle { events, end, stopper, is_stopped }))
}

/// The thread, from outside.
struct Handle {
    events: Sender<Event>,
    end: Receiver<()>,
    stopper: Option<Stopper>,
    is_stopped: Arc<AtomicBool>,
}

impl Running for Handle {
    fn publish(&self, publication: Publication) {
        // A thread that has ended of itself has nobody left to tell.
        let _ = self.events.send(Event::Publish(publication));
    }

    fn resync(&self) {
        let _ = self.events.send(Event::Resync);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let _ = self.events.send(Event::Stop);
        if let Some(stopper) = self.stopper.take() {
            stopper.stop();
        }
        // Nothing is ever sent: it hears that the other end has gone.
        let _ = self.end.recv_timeout(END);
    }
}
