//! A page that follows the machine: netlink events of the namespaces that it shows cause a look, and
//! a look that finds something different makes a new page.
//!
//! What netlink does not tell (a new namespace, a setting, a runtime's file) a slow timer finds. Looks
//! take no more than a share of the time, however long one takes. A namespace that is listened to
//! lives on for as long, so one that its path leads to no more is let go at the next tick.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use diagnosis::{Chapter, Explanation, Reference, Sentence};
use kernel::{Monitor, Netns, NetnsId};
use net::Space;
use render::{Focus, Format, View};
use tokio::sync::watch::Sender;
use topology::{Gap, Machine, Namespace, Role};

use super::Answer;
use super::web::Page;
use crate::look;

/// Events come in crowds, which are gathered for so long.
const GATHER: Duration = Duration::from_millis(100);
/// The least time between two looks, whatever happens; [`PAUSES`] looks' time where that is longer.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSES: u32 = 4;
/// The time after which there is a look even if nothing happens; [`TICKS`] looks' time where that is
/// longer.
const TICK: Duration = Duration::from_secs(2);
const TICKS: u32 = 20;
/// How many namespaces are listened to: each takes four of a process' open files, of which there may
/// be no more than 1,024.
const MOST: usize = 128;
/// How many events of one namespace are taken at a time.
const TURN: usize = 100_000;

/// What a page is about.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) wanted: Reference,
    /// Commands are shown from the beginning.
    pub(super) teach: bool,
    /// The page hears of newer ones.
    pub(super) is_live: bool,
}

/// A page, and what can change it.
pub(super) struct Written {
    pub(super) html: String,
    spaces: Vec<(NetnsId, PathBuf)>,
}

impl Subject {
    /// Writes the page with this number.
    pub(super) fn page(&self, machine: &Machine, number: u64) -> Written {
        let answer = Answer::of(machine, &self.wanted)
            .unwrap_or_else(|error| lost(machine, &self.wanted, error.to_string()));
        let live = self.is_live.then(|| format!("events/{number}"));
        let view = View { teach: self.teach, live, ..answer.view() };
        let html = render::write(Format::Html, &view);
        let own = machine.namespaces.iter().filter(|it| it.role == Role::Host);
        let mut shown: Vec<&Namespace> = own.chain(&answer.shown.namespaces).collect();
        shown.sort_by_key(|it| it.role);
        let place = |it: &&Namespace| Some((it.id, it.path()?.to_owned()));
        Written { html, spaces: shown.iter().filter_map(place).take(MOST).collect() }
    }
}

/// What is shown where the subject is not there any more: that, and what is there.
fn lost<'a>(machine: &'a Machine, wanted: &Reference, why: String) -> Answer<'a> {
    let sentence = Sentence { text: why, about: Vec::new(), command: None, findings: Vec::new() };
    let chapter = Chapter { title: wanted.to_string(), sentences: vec![sentence] };
    let explanation =
        Explanation { subject: wanted.to_string(), chapters: vec![chapter], findings: Vec::new() };
    Answer { explanation, shown: Cow::Borrowed(machine), focus: Focus::Machine }
}

/// Renews the page for as long as the process lives; `machine` is what the first page shows.
pub(super) fn follow(subject: Subject, machine: Machine, page: Sender<Page>) {
    let spaces = subject.page(&machine, 0).spaces;
    let mut live = Live {
        subject,
        machine,
        page,
        monitors: BTreeMap::new(),
        looked: Instant::now(),
        cost: Duration::ZERO,
        is_stale: true,
    };
    live.listen(&spaces);
    loop {
        live.go_on();
    }
}

/// A page and what it is renewed from.
struct Live {
    subject: Subject,
    machine: Machine,
    page: Sender<Page>,
    monitors: BTreeMap<NetnsId, (PathBuf, Monitor)>,
    looked: Instant,
    /// How long the look took, and the writing after it.
    cost: Duration,
    /// Something has happened since.
    is_stale: bool,
}

impl Live {
    /// Waits until something has happened, or may have, and looks.
    fn go_on(&mut self) {
        if !self.is_stale {
            let monitors = self.monitors.values().map(|(_, monitor)| monitor);
            self.is_stale = Monitor::wait_for_any(monitors, Instant::now() + TICK).unwrap_or(true);
        }
        self.is_stale |= self.let_go();
        if self.is_stale {
            let pause = PAUSE.max(self.cost * PAUSES).saturating_sub(self.looked.elapsed());
            sleep(pause.max(GATHER));
        }
        self.take();
        if self.is_stale || self.looked.elapsed() >= TICK.max(self.cost * TICKS) {
            self.look();
        }
    }

    /// Takes what was told: it is only told that there is something to see.
    fn take(&mut self) {
        let past = Instant::now();
        self.monitors.retain(|_, (_, monitor)| {
            let mut turn = 0..TURN;
            loop {
                match monitor.next(Some(past)) {
                    Ok(Some(_)) if turn.next().is_some() => {}
                    Ok(_) => return true,
                    // It is listened to again after the next look.
                    Err(_) => return false,
                }
            }
        });
    }

    /// Listens no more where the path leads elsewhere; whether there was such a namespace.
    fn let_go(&mut self) -> bool {
        let before = self.monitors.len();
        self.monitors.retain(|id, (path, _)| leads_to(path, *id));
        self.monitors.len() < before
    }

    /// Listens in these namespaces and no others; whether there is a new one among them.
    fn listen(&mut self, spaces: &[(NetnsId, PathBuf)]) -> bool {
        self.monitors.retain(|id, _| spaces.iter().any(|(wanted, _)| wanted == id));
        let before = self.monitors.len();
        for (id, path) in spaces {
            // One that is not for this user to enter, or gone already, the timer sees to.
            if !self.monitors.contains_key(id)
                && leads_to(path, *id)
                && let Ok(monitor) = Monitor::new(&Space::At(path.clone()))
            {
                self.monitors.insert(*id, (path.clone(), monitor));
            }
        }
        self.monitors.len() > before
    }

    /// Looks at the machine, and renews the page if it says something else now.
    fn look(&mut self) {
        let started = Instant::now();
        match look::machine() {
            Ok(machine) => self.machine = machine,
            Err(failure) => {
                let what = "this machine, when it was looked at last".to_owned();
                self.machine.gaps = vec![Gap { what, why: failure.to_string() }];
            }
        }
        let spaces = self.renew();
        // What happened in a new one before it was listened to is seen by one more look.
        self.is_stale = self.listen(&spaces);
        self.looked = Instant::now();
        self.cost = started.elapsed();
    }

    /// Writes the page anew where anything but the time differs; returns what can change it.
    fn renew(&mut self) -> Vec<(NetnsId, PathBuf)> {
        let Page { number, taken, html } = self.page.borrow().clone();
        let now = std::mem::replace(&mut self.machine.host.taken, taken);
        let Written { html: same, spaces } = self.subject.page(&self.machine, number);
        self.machine.host.taken = now;
        if same.as_bytes() != html {
            let number = number + 1;
            let html = self.subject.page(&self.machine, number).html.into();
            self.page.send_replace(Page { number, taken: now, html });
        }
        spaces
    }
}

/// Whether this namespace is there.
fn leads_to(path: &Path, id: NetnsId) -> bool {
    Netns::open(path).and_then(|netns| netns.id()).is_ok_and(|it| it == id)
}
