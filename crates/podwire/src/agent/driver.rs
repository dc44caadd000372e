//! Does what the state machine asks for, and tells it what came of that.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use fabric::agent::{Agent, Effect, Event, Status};
use fabric::{Config, NodeName, Publication};
use kernel::{Kernel, OnError};
use net::{Change, Object, Plan, Space};

use super::{files, look};
use crate::failure::Result;

/// Whether changes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// They are.
    Change,
    /// They are collected, and none is made.
    Show,
}

/// The state machine with the machine that it is about.
pub(super) struct Driver {
    agent: Agent,
    kernel: Kernel,
    mode: Mode,
    shown: Plan,
    started: Instant,
    droppers: look::Droppers,
    /// What could not be written last time, to say it once.
    unwritten: Option<String>,
    /// How long each kind of work took last, in microseconds.
    timing: BTreeMap<String, u64>,
    /// Whether the source was to tell everything anew.
    resync: bool,
    /// What the others are to know of this node, since the last look at the machine.
    publication: Option<Publication>,
}

impl Driver {
    pub(super) fn new(config: Config, name: NodeName, mode: Mode) -> Result<Self> {
        let kept = files::kept(&config);
        Ok(Self {
            agent: Agent::new(config, name, kept),
            kernel: Kernel::new()?,
            mode,
            shown: Plan::new(),
            started: Instant::now(),
            droppers: look::Droppers::default(),
            unwritten: None,
            timing: BTreeMap::new(),
            resync: false,
            publication: None,
        })
    }

    /// The first look.
    pub(super) fn start(&mut self) -> Result<()> {
        let effects = self.agent.start();
        self.perform(effects.into())
    }

    /// Looks at the machine alone.
    pub(super) fn survey(&mut self) -> Result<()> {
        self.perform([Effect::Survey].into())
    }

    /// Tells the state machine, and does what it asks for until it asks for nothing more.
    pub(super) fn on(&mut self, event: Event) -> Result<()> {
        let effects = self.agent.on(event, self.started.elapsed());
        self.perform(effects.into())
    }

    /// Has a tick come now, whenever it is due.
    pub(super) fn tick_now(&mut self) -> Result<()> {
        let now = self.agent.deadline().unwrap_or_default().max(self.started.elapsed());
        let effects = self.agent.on(Event::Tick, now);
        self.perform(effects.into())
    }

    /// When a tick is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.agent.deadline().map(|at| self.started + at)
    }

    pub(super) fn status(&self) -> Status {
        let mut status = self.agent.status();
        status.uptime = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        status.timing = self.timing.clone();
        if let Some(what) = &self.unwritten {
            status.problems.push(fabric::Problem::note(fabric::Code::File, what));
        }
        status
    }

    /// Whether pods may be made.
    pub(super) fn is_ready(&self) -> bool {
        self.agent.is_ready()
    }

    /// The changes that were not made.
    pub(super) fn shown(&self) -> &Plan {
        &self.shown
    }

    /// Whether the source is to tell everything anew; asked once.
    pub(super) fn take_resync(&mut self) -> bool {
        std::mem::take(&mut self.resync)
    }

    /// What the others are to know of this node.
    pub(super) fn publication(&self) -> Option<&Publication> {
        self.publication.as_ref()
    }

    /// By which changes are made.
    pub(super) fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }

    fn perform(&mut self, mut effects: VecDeque<Effect>) -> Result<()> {
        while let Some(effect) = effects.pop_front() {
            let (began, what) = (Instant::now(), word(&effect));
            let event = match effect {
                Effect::Survey => {
                    let machine = look::survey(&mut self.kernel, &Space::Here, &mut self.droppers)?;
                    let (config, name) = (self.agent.config(), self.agent.name());
                    self.publication = Some(fabric::publication(config, name, &machine));
                    Event::Surveyed(machine)
                }
                Effect::Look => {
                    let devices = self.agent.devices();
                    Event::Looked(look::look(&mut self.kernel, &Space::Here, devices)?)
                }
                Effect::Apply(plan) => Event::Applied(self.apply(plan)),
                Effect::Resync => {
                    self.resync = true;
                    continue;
                }
                Effect::Keep(nodes) => {
                    self.write(|config| files::keep(config, &nodes));
                    continue;
                }
                Effect::Ready(ready) => {
                    self.write(|config| files::ready(config, &ready));
                    continue;
                }
                Effect::Unready => {
                    self.write(files::unready);
                    continue;
                }
            };
            self.timing.insert(what.to_owned(), micros(began.elapsed()));
            effects.extend(self.agent.on(event, self.started.elapsed()));
        }
        Ok(())
    }

    /// Makes the changes of a plan that can be made, and returns the others.
    fn apply(&mut self, plan: Plan) -> Vec<(Change, String)> {
        if self.mode == Mode::Show {
            let kernel = &mut self.kernel;
            self.shown.extend(plan.into_iter().filter(|step| !is_set(kernel, &step.change)));
            return Vec::new();
        }
        let began = Instant::now();
        let applied = self.kernel.apply(&plan, OnError::Continue);
        for (place, error) in &applied.failed {
            tracing::warn!(change = net::shell(&plan[*place]).join("; "), %error, "refused");
        }
        tracing::info!(
            steps = plan.len(),
            changed = applied.done.len(),
            failed = applied.failed.len(),
            micros = micros(began.elapsed()),
            "reconciled"
        );
        let failed = applied.failed.into_iter();
        failed.map(|(place, error)| (plan[place].change.clone(), error.to_string())).collect()
    }

    fn write(&mut self, write: impl FnOnce(&Config) -> std::io::Result<()>) {
        if self.mode == Mode::Show {
            return;
        }
        self.unwritten = write(self.agent.config()).err().map(|error| error.to_string());
        if let Some(error) = &self.unwritten {
            tracing::warn!(error, "a file could not be written");
        }
    }
}

/// Whether a setting reads as it should already.
fn is_set(kernel: &mut Kernel, change: &Change) -> bool {
    let Change::Ensure(Object::Sysctl(wanted)) = change else { return false };
    let read = kernel.sysctl(&Space::Here, &wanted.key).ok().flatten();
    read.is_some_and(|value| value == wanted.value)
}

/// What an effect is called in metrics.
fn word(effect: &Effect) -> &'static str {
    match effect {
        Effect::Survey => "survey",
        Effect::Look => "look",
        Effect::Apply(_) => "apply",
        Effect::Resync => "resync",
        Effect::Keep(_) => "keep",
        Effect::Ready(_) | Effect::Unready => "tell",
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
