//! The thread: it lists, keeps our lease, watches, and tells what it knows.
//!
//! It waits for one thing only, its own channel, so that it hears at once that it is to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use fabric::{Cluster, Publication, Report};

use super::client::Stopper;
use super::error::Error;
use super::holding::{Holding, Own, Settled};
use super::leases::Picture;
use super::wire::{self, WatchMessage};
use crate::Tell;

/// For how long what may pass is not told.
const GRACE: Duration = Duration::from_secs(5);

/// How long it is waited after the first failure, and after many.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// For how long a picture is trusted that changes were only added to. An etcd whose past was replaced
/// by another one says nothing about that.
const TRUST: Duration = Duration::from_secs(600);

/// How often all may begin anew without a pause.
const HASTE: u32 = 5;

/// How many etcd makes of what is one watch to us: of the configuration, and of leases.
const WATCHES: usize = 2;

/// How long it is slept where nothing is to be renewed.
const IDLE: Duration = Duration::from_secs(3600);

/// All that makes the thread do something.
pub(super) enum Event {
    /// It is to end.
    Stop,
    /// The others are to know this.
    Publish(Publication),
    /// Everything is to be read and told anew.
    Resync,
    /// The watch of this number says something.
    Heard(u64, WatchMessage),
    /// The watch of this number is over.
    Over(u64, Result<(), Error>),
}

/// What comes next.
enum Next {
    Stop,
    Again,
}

pub(super) struct Keeper {
    pub(super) holding: Holding,
    pub(super) tell: Tell,
    pub(super) events: Receiver<Event>,
    /// Where watches tell what they hear.
    pub(super) ears: Sender<Event>,
    pub(super) is_stopped: Arc<AtomicBool>,
    /// `None`: all has to be read.
    pub(super) picture: Option<Picture>,
    pub(super) state: State,
}

/// What the listener knows, and how well things went lately.
#[derive(Default)]
pub(super) struct State {
    /// What was told last, unless something else was said since.
    told: Option<Cluster>,
    /// The gist of what was said to be wrong, and is.
    said: Option<String>,
    /// Whether that was that our subnet is another's.
    is_withdrawn: bool,
    /// When everything was read last.
    listed: Option<Instant>,
    /// Since when nothing has been heard.
    since: Option<Instant>,
    failures: u32,
    /// How often in a row all was begun anew within a second.
    haste: u32,
    /// The number of the watch that counts.
    watch: u64,
}

/// How one watch goes.
struct Course {
    /// The latest revision that was heard of before.
    known: i64,
    /// How many of its [`WATCHES`] have begun.
    begun: usize,
    /// Whether there is something to be done about what was heard.
    is_news: bool,
    /// What is wrong, as long as nothing changes.
    amiss: Option<Error>,
}

/// Ends a watch with the value.
struct Watching(Option<Stopper>);

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(stopper) = self.0.take() {
            stopper.stop();
        }
    }
}

impl Keeper {
    pub(super) fn run(mut self) {
        loop {
            let start = Instant::now();
            let next = self.round();
            let is_hasty = start.elapsed() < Duration::from_secs(1);
            self.state.haste = if is_hasty { self.state.haste + 1 } else { 0 };
            let next = match next {
                // Two that write over each other must not keep etcd busy.
                Ok(Next::Again) if self.state.haste > HASTE => self.pause(),
                Ok(next) => next,
                Err(error) => {
                    self.suffer(&error);
                    self.pause()
                }
            };
            if matches!(next, Next::Stop) || self.is_stopped.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// From a look at everything, or from where the last watch ended, to the end of a watch.
    fn round(&mut self) -> Result<Next, Error> {
        self.renew_in_time()?;
        // After silence that was worth a word nothing is taken for granted.
        let is_old = self.state.listed.is_none_or(|listed| listed.elapsed() > TRUST);
        let mut amiss = None;
        if self.picture.is_none() || self.state.said.is_some() || is_old {
            self.picture = None;
            let picture = self.holding.list()?;
            self.state.listed = Some(Instant::now());
            match self.holding.settle(&picture)? {
                Settled::Written => return Ok(Next::Again),
                Settled::Well => {}
                Settled::Amiss(error) => amiss = Some(error),
            }
            self.picture = Some(picture);
        }
        self.follow(amiss)
    }

    fn renew_in_time(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let renewal = self.holding.own.as_ref().and_then(Own::renewal);
        if renewal.is_some_and(|due| due <= now) && !self.holding.renew()? {
            self.picture = None;
        }
        Ok(())
    }

    /// Begins a watch where the picture ends, and takes in what it says.
    fn follow(&mut self, amiss: Option<Error>) -> Result<Next, Error> {
        let Some(picture) = &self.picture else { return Ok(Next::Again) };
        let (config, leases) = picture.next;
        let keys = &self.holding.keys;
        let question = wire::watch((&keys.config, config), (&keys.leases, leases));
        let _watching = self.begin_watch(question)?;
        let known = config.max(leases) - 1;
        let mut course = Course { known, begun: 0, is_news: false, amiss };
        while self.picture.is_some() {
            let wait = if course.is_news { Duration::ZERO } else { self.rest() };
            match self.events.recv_timeout(wait) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(Next::Stop),
                Ok(Event::Publish(publication)) => self.publish(publication),
                Ok(Event::Resync) => (self.picture, self.state.told) = (None, None),
                Ok(Event::Heard(number, message)) if number == self.state.watch => {
                    self.hear(&mut course, message)?;
                }
                Ok(Event::Over(number, end)) if number == self.state.watch => {
                    end.inspect_err(|_| self.holding.client.distrust())?;
                    return Ok(Next::Again);
                }
                Ok(Event::Heard(..) | Event::Over(..)) => {}
                // Only when all has been taken in that was there.
                Err(RecvTimeoutError::Timeout) if course.is_news => self.digest(&mut course)?,
                Err(RecvTimeoutError::Timeout) => self.renew_in_time()?,
            }
        }
        Ok(Next::Again)
    }

    /// Takes in one message. The picture is gone if it cannot be added to.
    fn hear(&mut self, course: &mut Course, message: WatchMessage) -> Result<(), Error> {
        if message.compact_revision.0 != 0 {
            self.picture = None;
            return Ok(());
        }
        if message.canceled {
            self.picture = None;
            self.holding.client.distrust();
            let why = format!("the watch was ended: {}", message.cancel_reason);
            return Err(Error::Unreachable(why));
        }
        if message.created {
            course.begun += 1;
            // It has forgotten what it knew: another etcd, or an old copy of it.
            if message.header.revision.0 < course.known {
                self.picture = None;
                return Ok(());
            }
        }
        if course.begun == WATCHES {
            (self.state.since, self.state.failures) = (None, 0);
            course.is_news = true;
        }
        if !message.events.is_empty() {
            course.amiss = None;
        }
        if let Some(picture) = &mut self.picture {
            for event in message.events {
                picture.apply(&self.holding.keys, event);
            }
        }
        Ok(())
    }

    /// Does what the picture asks for, and tells how things are.
    fn digest(&mut self, course: &mut Course) -> Result<(), Error> {
        course.is_news = false;
        // Ours again only if all goes well.
        let Some(picture) = self.picture.take() else { return Ok(()) };
        if course.amiss.is_none() {
            match self.holding.settle(&picture)? {
                Settled::Well => {}
                Settled::Amiss(error) => course.amiss = Some(error),
                Settled::Written => return Ok(()),
            }
        }
        self.report(&picture, course.amiss.as_ref());
        self.picture = Some(picture);
        Ok(())
    }

    /// Has the others know this from the next round on.
    fn publish(&mut self, publication: Publication) {
        if publication.addresses != self.holding.publication.addresses {
            self.holding.client.reconnect();
        }
        self.holding.publication = publication;
        self.picture = None;
    }

    /// How long nothing is to be done.
    fn rest(&self) -> Duration {
        let renewal = self.holding.own.as_ref().and_then(Own::renewal);
        renewal.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()))
    }

    fn begin_watch(&mut self, question: String) -> Result<Watching, Error> {
        self.state.watch += 1;
        let number = self.state.watch;
        let (watch, stopper) = self.holding.client.watch(question)?;
        let ears = self.ears.clone();
        let listen = move || {
            let end = watch.read(|message| ears.send(Event::Heard(number, message)).is_ok());
            // Nobody may be there any more.
            let _ = ears.send(Event::Over(number, end));
        };
        let builder = thread::Builder::new().name("etcd-watch".to_owned());
        builder.spawn(listen).map_err(|error| Error::Thread(error.to_string()))?;
        Ok(Watching(Some(stopper)))
    }

    /// Tells how things are, if that is new.
    fn report(&mut self, picture: &Picture, amiss: Option<&Error>) {
        if let Some(error) = amiss {
            self.say(error);
            return;
        }
        let Some(own) = &self.holding.own else { return };
        let Holding { keys, publication, .. } = &self.holding;
        let cluster = picture.cluster(keys, publication, &own.key);
        (self.state.said, self.state.is_withdrawn) = (None, false);
        if self.state.told.as_ref() != Some(&cluster) {
            self.tell(Report::Complete(cluster.clone()));
            self.state.told = Some(cluster);
        }
    }

    /// Something went wrong on the way to etcd. It is told if it lasts, or cannot pass.
    fn suffer(&mut self, error: &Error) {
        let now = Instant::now();
        let since = *self.state.since.get_or_insert(now);
        self.state.failures += 1;
        // What was withdrawn stays so until etcd says otherwise.
        if self.state.is_withdrawn && error.may_pass() {
            return;
        }
        if let Some(own) = self.holding.own.as_ref().filter(|own| own.is_over(now)) {
            let error = Error::Expired { lease: own.key.clone(), why: error.to_string() };
            self.say(&error);
        } else if !(error.may_pass() && self.state.told.is_some() && now - since < GRACE) {
            self.say(error);
        }
    }

    /// Says once what is wrong.
    fn say(&mut self, error: &Error) {
        let gist = Some(error.gist());
        if self.state.said == gist {
            return;
        }
        self.state.said = gist;
        self.state.told = None;
        let text = error.to_string();
        self.state.is_withdrawn = matches!(error, Error::Taken { .. });
        self.tell(if self.state.is_withdrawn {
            Report::Withdrawn(text)
        } else {
            Report::Astray(text)
        });
    }

    fn tell(&self, report: Report) {
        if !self.is_stopped.load(Ordering::Relaxed) {
            (self.tell)(report);
        }
    }

    /// Waits longer and longer, each node somewhat differently, so that not all come back at once.
    fn pause(&mut self) -> Next {
        let (least, most) = PAUSE;
        let State { failures, haste, .. } = self.state;
        let doubled = least * (1 << failures.max(haste.saturating_sub(HASTE)).min(8));
        let byte = u32::from(self.holding.publication.name.mac().0[5]);
        let pause = doubled.min(most) * (128 + byte) / 256;
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Next::Stop,
                // Others wait for it.
                Ok(Event::Publish(publication)) => {
                    self.publish(publication);
                    return Next::Again;
                }
                Ok(Event::Resync) => (self.picture, self.state.told) = (None, None),
                Ok(Event::Heard(..) | Event::Over(..)) => {}
                Err(RecvTimeoutError::Timeout) => return Next::Again,
            }
        }
    }
}
