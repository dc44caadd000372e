//! Does what the state machine asks for, and tells it what came of that.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fabric::agent::{Agent, Effect, Event, Ready, Status};
use fabric::mesh::{Target, Way};
use fabric::{Config, NodeName, Problem, Publication};
use kernel::{Kernel, OnError};
use net::{Change, Object, Plan, Space, Step};

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
    /// What runtimes were told last.
    told: Option<Ready>,
    /// What is known to be wrong and was said, to say it once.
    known: Vec<Problem>,
    /// What could not be written last time, to say it once.
    unwritten: Option<String>,
    /// How long each kind of work took last, in microseconds.
    timing: BTreeMap<String, u64>,
    /// What probes have found out.
    ways: Vec<Way>,
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
            told: None,
            known: Vec::new(),
            unwritten: None,
            timing: BTreeMap::new(),
            ways: Vec::new(),
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
        let is_hint = event.is_hint();
        let effects = self.agent.on(event, self.started.elapsed());
        let done = self.perform(effects.into());
        if !is_hint {
            self.tell_news();
        }
        done
    }

    /// Says in the log what has gone wrong and what has come right.
    fn tell_news(&mut self) {
        let Some(problems) = self.agent.news() else { return };
        for problem in problems.iter().filter(|it| !self.known.contains(it)) {
            tracing::warn!(%problem, code = problem.code.word(), "something is wrong");
        }
        for problem in self.known.iter().filter(|it| !problems.contains(it)) {
            tracing::info!(%problem, code = problem.code.word(), "this is over");
        }
        self.known = problems;
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
        status.problems.extend(self.ways.iter().filter_map(|way| way.problem.clone()));
        status.ways = self.ways.clone();
        if let Some(what) = &self.unwritten {
            status.problems.push(Problem::note(fabric::Code::File, what));
        }
        status
    }

    /// Whether pods may be made.
    pub(super) fn is_ready(&self) -> bool {
        self.agent.is_ready()
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// How many changes were not made.
    pub(super) fn pending(&self) -> usize {
        self.shown.len()
    }

    /// The changes that were not made, each with why it should be.
    pub(super) fn shown(&self) -> Plan {
        let explained = |step: &Step| Step { why: self.agent.why(step).into(), ..step.clone() };
        self.shown.iter().map(explained).collect()
    }

    /// Whether the source is to tell everything anew; asked once.
    pub(super) fn take_resync(&mut self) -> bool {
        std::mem::take(&mut self.resync)
    }

    /// Writes what runtimes read, if that is not as it was written.
    pub(super) fn tell_again(&mut self) {
        if let Some(ready) = self.told.clone() {
            self.write(|config| files::ready(config, &ready));
        }
    }

    /// What the mesh needs: our own addresses, and whom to ask.
    pub(super) fn mesh(&mut self) -> (Vec<IpAddr>, Vec<Target>) {
        self.agent.mesh()
    }

    /// Takes what probes have found out, and says what is new.
    pub(super) fn learn(&mut self, ways: Vec<Way>) {
        let known: Vec<&Problem> =
            self.ways.iter().filter_map(|way| way.problem.as_ref()).collect();
        for problem in ways.iter().filter_map(|way| way.problem.as_ref()) {
            if !known.contains(&problem) {
                tracing::warn!(%problem, "found by probes");
            }
        }
        self.ways = ways;
    }

    /// What the others are to know of this node.
    pub(super) fn publication(&self) -> Option<&Publication> {
        self.publication.as_ref()
    }

    /// By which changes are made.
    pub(super) fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }

    /// Does all of it in this order; what follows from one comes before the next.
    fn perform(&mut self, mut effects: VecDeque<Effect>) -> Result<()> {
        while let Some(effect) = effects.pop_front() {
            let (began, what) = (Instant::now(), word(&effect));
            let mut after = Vec::new();
            let event = match effect {
                Effect::Survey => {
                    let machine = look::survey(&mut self.kernel, &Space::Here, &mut self.droppers)?;
                    let (config, name) = (self.agent.config(), self.agent.name());
                    self.publication = Some(fabric::publication(config, name, &machine));
                    Event::Surveyed(machine)
                }
                Effect::Look => {
                    let devices = self.agent.devices().cloned().collect();
                    let pods = self.agent.pods();
                    Event::Looked(look::look(&mut self.kernel, &Space::Here, devices, pods)?)
                }
                Effect::Apply(plan) => {
                    let (failed, unheard) = self.apply(&plan);
                    if unheard {
                        after = self.agent.on(Event::Rules, self.started.elapsed());
                    }
                    Event::Applied { plan, failed }
                }
                Effect::Resync => {
                    self.resync = true;
                    continue;
                }
                Effect::Keep => {
                    let cluster = self.agent.cluster();
                    self.write(|config| files::keep(config, &cluster));
                    continue;
                }
                Effect::Ready(ready) => {
                    self.told = Some(ready);
                    self.tell_again();
                    continue;
                }
                Effect::Unready => {
                    self.told = None;
                    self.write(files::unready);
                    continue;
                }
            };
            self.timing.insert(what.to_owned(), micros(began.elapsed()));
            after.extend(self.agent.on(event, self.started.elapsed()));
            after.into_iter().rev().for_each(|effect| effects.push_front(effect));
        }
        Ok(())
    }

    /// Makes the changes of a plan that can be made, and returns the places of the others, each with the
    /// reason, and whether somebody else may have changed our table unheard.
    fn apply(&mut self, plan: &[Step]) -> (Vec<(usize, String)>, bool) {
        if self.mode == Mode::Show {
            let pending = plan.iter().filter(|step| !is_set(&mut self.kernel, &step.change));
            self.shown.extend(pending.cloned());
            return (Vec::new(), false);
        }
        let began = Instant::now();
        let applied = self.kernel.apply(plan, OnError::Continue);
        if tracing::enabled!(tracing::Level::DEBUG) {
            for step in applied.steps(plan) {
                let change = net::shell(step).join("; ");
                tracing::debug!(change, why = self.agent.why(step), "changed");
            }
        }
        tracing::info!(
            steps = plan.len(),
            changed = applied.done.len(),
            first = applied.steps(plan).next().map(|step| self.agent.why(step)),
            failed = applied.failed.len(),
            micros = micros(began.elapsed()),
            "reconciled"
        );
        let mut refused = Vec::with_capacity(applied.failed.len());
        for (place, error) in applied.failed {
            let change = net::shell(&plan[place]).join("; ");
            tracing::warn!(change, why = self.agent.why(&plan[place]), %error, "refused");
            refused.push((place, error.to_string()));
        }
        refused.sort_unstable_by_key(|(place, _)| *place);
        (refused, applied.unheard)
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
        Effect::Keep => "keep",
        Effect::Ready(_) | Effect::Unready => "tell",
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
