//! The one place where plans become true: applies steps in order, and takes them back.
//!
//! rtnetlink goes on with the next message of a datagram after one has failed. Where a failure ends
//! the plan, requests are therefore sent one by one: a later step would meet somebody else's object.
//! Where the plan goes on ([`OnError::Continue`]), adjacent steps are sent together, see [`batch`].
//! Only nftables has transactions, and uses one for each run of adjacent steps.

mod batch;
mod lanes;
mod link;
mod request;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use net::undo;
use net::{Action, Change, File, Link, Netns as NetnsObject, Object, Plan, Space, Step, Sysctl};

use self::lanes::Lanes;
use self::request::Wish;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::netlink::Socket;
use crate::netns::{Netns, NetnsId};
use crate::survey::Directory;
use crate::{conntrack, nft, wait};

/// What to do when a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Stop, and take back what was done: ADD, `lab up`.
    Undo,
    /// Go on with the next step: DEL, GC, the fabric.
    Continue,
    /// Stop and leave everything as it is: what a kill leaves, for tests of repair.
    Stop,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// The steps that really changed something, by their place in the plan and in the order in which
    /// they were made: the undo log. Empty after a successful undo.
    pub done: Vec<usize>,
    /// The steps that failed, by their place in the plan.
    pub failed: Vec<(usize, Error)>,
    /// Whether somebody else may have changed nftables meanwhile without a word to a monitor that
    /// ignores this kernel ([`Monitor::ignore`](crate::Monitor::ignore)).
    pub unheard: bool,
}

impl Applied {
    /// The first failure, if there was one.
    pub fn into_result(self) -> Result<()> {
        self.failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The steps of `plan`, which this came of, that really changed something.
    pub fn steps<'a>(&'a self, plan: &'a [Step]) -> impl DoubleEndedIterator<Item = &'a Step> {
        self.done.iter().map(|place| &plan[*place])
    }

    /// What takes back all that was done of `plan`, which this came of.
    pub fn undo(&self, plan: &[Step]) -> Plan {
        undo(self.steps(plan))
    }

    /// Takes what came of steps that go together, of which the first has the place `first`.
    fn take(&mut self, first: usize, done: Vec<bool>, failed: Option<(usize, Error)>) {
        self.done
            .extend((first..).zip(done).filter(|(_, changed)| *changed).map(|(place, _)| place));
        self.failed.extend(failed.map(|(place, error)| (first + place, error)));
    }
}

/// The kernel of this machine, with the namespaces that were used so far held open.
#[derive(Debug)]
pub struct Kernel {
    home: Netns,
    handles: HashMap<Space, Handle>,
    fault: Option<usize>,
    /// Where [`Kernel::survey`] reads settings.
    pub(crate) settings: Option<Directory>,
}

impl Kernel {
    /// Opens the way to the kernel from the namespace of the calling thread.
    pub fn new() -> Result<Self> {
        Ok(Self { home: Netns::current()?, handles: HashMap::new(), fault: None, settings: None })
    }

    /// Makes the step after the next `steps` ones fail, in the plan applied next. Tests use it to
    /// stand before every step of every plan.
    pub fn fail_after(&mut self, steps: usize) {
        self.fault = Some(steps);
    }

    /// Applies a plan.
    pub fn apply(&mut self, plan: &[Step], on_error: OnError) -> Applied {
        self.handles.values_mut().for_each(Handle::forget_all);
        let fault = self.fault.take();
        let mut lanes = match fault {
            None if on_error == OnError::Continue => Lanes::of(plan),
            _ => None,
        };
        let mut applied = Applied::default();
        let mut at = 0;
        while at < plan.len() {
            if let Some(lanes) = lanes.take_if(|lanes| lanes.begin() == Some(at))
                && self.apply_in_lanes(plan, &lanes, &mut applied)
            {
                break;
            }
            let end = at + group(&plan[at..], on_error);
            let end = fault.map_or(end, |fault| end.min(fault.max(at + 1)));
            let before = applied.failed.len();
            if fault == Some(at) {
                let what = format!("step {} of the plan", at + 1);
                let error = Error::text(what, ErrorKind::Injected, "fault point");
                applied.failed.push((at, error));
            } else {
                self.apply_group(plan, at..end, on_error, &mut applied);
            }
            if applied.failed.len() > before && on_error != OnError::Continue {
                break;
            }
            at = end;
        }
        if on_error == OnError::Undo && !applied.failed.is_empty() {
            let mut done = std::mem::take(&mut applied.done);
            done.retain(|place| plan[*place].change.inverse().is_some());
            let back = undo(done.iter().map(|place| &plan[*place]));
            let undone = self.apply(&back, OnError::Continue);
            // What could not be taken back is still done.
            for (place, error) in undone.failed {
                applied.done.push(done[done.len() - 1 - place]);
                applied.failed.push((plan.len() + place, error));
            }
        }
        applied
    }

    /// Opens `space` if it is not open yet. Plans do this themselves; a caller does it to hold on
    /// to a namespace, or to find out early that it cannot be opened.
    pub fn open(&mut self, space: &Space) -> Result<()> {
        self.handle(space).map(|_| ())
    }

    /// Who `space` is.
    pub fn id(&mut self, space: &Space) -> Result<NetnsId> {
        let (home, handle) = self.handle(space)?;
        handle.netns().unwrap_or(home).id()
    }

    /// Closes `space`, so that nothing of ours keeps it alive.
    pub fn close(&mut self, space: &Space) {
        self.handles.remove(space);
    }

    /// Runs `work` inside `space` on the calling thread.
    pub fn inside<T>(&mut self, space: &Space, work: impl FnOnce() -> T) -> Result<T> {
        let (home, handle) = self.handle(space)?;
        handle.inside(home, work)
    }

    pub(crate) fn handle(&mut self, space: &Space) -> Result<(&Netns, &mut Handle)> {
        if !self.handles.contains_key(space) {
            let handle = Handle::open(space, &self.home)?;
            self.handles.insert(space.clone(), handle);
        }
        match self.handles.get_mut(space) {
            Some(handle) => Ok((&self.home, handle)),
            None => Err(Error::text("open a namespace", ErrorKind::Other, "it is not open")),
        }
    }

    /// Applies a run of steps that go together.
    fn apply_group(
        &mut self,
        plan: &[Step],
        range: std::ops::Range<usize>,
        on_error: OnError,
        applied: &mut Applied,
    ) {
        let first = range.start;
        let steps = &plan[range];
        let (done, failed) = match Way::of(&steps[0], on_error) {
            Way::Visit => self.ensure_sysctls(steps),
            Way::Transaction => {
                let (done, failed, unheard) = self.apply_nft(steps);
                applied.unheard |= unheard;
                (done, failed)
            }
            Way::Together => return self.apply_together(first, steps, applied),
            Way::Alone => match self.apply_one(&steps[0]) {
                Ok(changed) => (vec![changed], None),
                Err(error) => (Vec::new(), Some((0, error))),
            },
        };
        applied.take(first, done, failed);
    }

    /// Applies steps, of which the first has the place `first`, as a batch.
    fn apply_together(&mut self, first: usize, steps: &[Step], applied: &mut Applied) {
        let outcomes = match self.handle(&steps[0].space) {
            Ok((_, handle)) => batch::apply(handle, steps),
            // Each step fails by itself.
            Err(_) => steps.iter().map(|step| self.apply_one(step)).collect(),
        };
        for (place, outcome) in (first..).zip(outcomes) {
            match outcome {
                Ok(true) => applied.done.push(place),
                Ok(false) => {}
                Err(error) => applied.failed.push((place, error)),
            }
        }
    }

    fn ensure_sysctls(&mut self, steps: &[Step]) -> (Vec<bool>, Option<(usize, Error)>) {
        let sysctls: Vec<&Sysctl> = steps
            .iter()
            .filter_map(|step| match &step.change {
                Change::Ensure(Object::Sysctl(sysctl)) => Some(sysctl),
                _ => None,
            })
            .collect();
        let result = self
            .handle(&steps[0].space)
            .and_then(|(home, handle)| handle.ensure_sysctls(home, &sysctls));
        match result {
            Ok((written, error)) => {
                let place = written.len();
                (written, error.map(|error| (place, error)))
            }
            Err(error) => (Vec::new(), Some((0, error))),
        }
    }

    fn apply_nft(&mut self, steps: &[Step]) -> (Vec<bool>, Option<(usize, Error)>, bool) {
        let changes: Vec<&Change> = steps.iter().map(|step| &step.change).collect();
        match self.handle(&steps[0].space).map(|(home, handle)| handle.transact(home, &changes)) {
            Ok((outcome, unheard)) => {
                let (done, failed) = parts(outcome);
                (done, failed, unheard)
            }
            Err(error) => (Vec::new(), Some((0, error)), false),
        }
    }

    /// Applies a step that stands alone; `false` if there was nothing to do.
    fn apply_one(&mut self, step: &Step) -> Result<bool> {
        let space = &step.space;
        if let Some(wish) = Wish::of(&step.change) {
            let (_, handle) = self.handle(space)?;
            return wish.fulfil(handle);
        }
        match &step.change {
            Change::Act(action) => self.act(space, action).map(|()| true),
            Change::Create(object) => self.create(space, object).map(|()| true),
            Change::Ensure(object) => self.ensure(space, object),
            Change::Delete(object) => match self.delete(space, object) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            },
            Change::Replace { to, .. } => self.replace(space, to).map(|()| true),
        }
    }

    fn create(&mut self, space: &Space, object: &Object) -> Result<()> {
        match object {
            Object::Link(link) => self.create_link(space, link),
            Object::Netns(NetnsObject { path }) => Netns::create(path).map(|_| ()),
            Object::Tracked(flow) => {
                let (home, handle) = self.handle(space)?;
                conntrack::tracked::create(handle.netfilter(home)?, flow)
            }
            Object::File(file) => create_file(file),
            other => Err(misplaced(other)),
        }
    }

    /// `false` if it was there already, as asked.
    fn ensure(&mut self, space: &Space, object: &Object) -> Result<bool> {
        match object {
            Object::Link(link) => self.ensure_link(space, link),
            Object::Netns(NetnsObject { path }) if Netns::open(path).is_ok() => Ok(false),
            Object::File(file) => match fs::read_to_string(&file.path) {
                Ok(content) if content == file.content => Ok(false),
                _ => write_file(file).map(|()| true),
            },
            _ => match self.create(space, object) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::Exists => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    fn delete(&mut self, space: &Space, object: &Object) -> Result<()> {
        match object {
            Object::Link(link) => self.delete_link(space, link),
            Object::Netns(NetnsObject { path }) => {
                self.close(&Space::At(path.clone()));
                Netns::remove(path)
            }
            Object::Tracked(flow) => {
                let (home, handle) = self.handle(space)?;
                conntrack::tracked::delete(handle.netfilter(home)?, flow)
            }
            Object::File(file) => fs::remove_file(&file.path)
                .map_err(|e| Error::io(format!("remove {}", file.path.display()), &e)),
            other => Err(misplaced(other)),
        }
    }

    fn replace(&mut self, space: &Space, to: &Object) -> Result<()> {
        match to {
            Object::Link(link) => {
                let (_, handle) = self.handle(space)?;
                let index = handle.index(&link.name)?;
                self.set_link(space, link, index)
            }
            Object::File(file) => write_file(file),
            Object::Sysctl(sysctl) => {
                let (home, handle) = self.handle(space)?;
                match handle.ensure_sysctls(home, &[sysctl])? {
                    (_, Some(error)) => Err(error),
                    _ => Ok(()),
                }
            }
            other => Err(misplaced(other)),
        }
    }

    fn act(&mut self, space: &Space, action: &Action) -> Result<()> {
        match action {
            Action::WaitUp { link, millis } => {
                let (home, handle) = self.handle(space)?;
                wait::up(handle, home, link, Duration::from_millis(u64::from(*millis)))
            }
            Action::WaitAddresses { link, addresses, millis } => {
                let (home, handle) = self.handle(space)?;
                let patience = Duration::from_millis(u64::from(*millis));
                wait::addresses(handle, home, link, addresses, patience)
            }
            Action::Announce { link, mac } => {
                let link = Link { mac: Some(*mac), ..Link::existing(link.clone()) };
                let (_, handle) = self.handle(space)?;
                let index = handle.index(&link.name)?;
                self.set_link(space, &link, index)
            }
            Action::FlushConntrack { addresses } => {
                self.forget(space, |socket| conntrack::flush(socket, addresses))
            }
            Action::FlushFlows { flows } => {
                self.forget(space, |socket| conntrack::flush_flows(socket, flows))
            }
        }
    }

    /// Has connection tracking forget something. A kernel without netfilter tracks nothing.
    fn forget(
        &mut self,
        space: &Space,
        work: impl FnOnce(&mut Socket) -> Result<()>,
    ) -> Result<()> {
        let (home, handle) = self.handle(space)?;
        match handle.netfilter(home) {
            Ok(socket) => work(socket),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What was done of a transaction, and what refused it.
fn parts(outcome: nft::Outcome) -> (Vec<bool>, Option<(usize, Error)>) {
    match outcome {
        Ok(done) => (done, None),
        Err(failed) => (Vec::new(), Some(failed)),
    }
}

/// How a step is applied.
#[derive(PartialEq)]
enum Way {
    /// By itself.
    Alone,
    /// With its neighbours, each of which may fail by itself.
    Together,
    /// With its neighbours, in one nftables transaction.
    Transaction,
    /// With its neighbours, in one visit of their namespace.
    Visit,
}

impl Way {
    fn of(step: &Step, on_error: OnError) -> Self {
        match &step.change {
            Change::Ensure(Object::Sysctl(_)) => Self::Visit,
            Change::Create(Object::Nft(_))
            | Change::Ensure(Object::Nft(_))
            | Change::Delete(Object::Nft(_))
            | Change::Replace { to: Object::Nft(_), .. } => Self::Transaction,
            _ if on_error == OnError::Continue && batch::takes(step) => Self::Together,
            _ => Self::Alone,
        }
    }
}

/// How many of the first steps of `plan` go together.
fn group(plan: &[Step], on_error: OnError) -> usize {
    let (way, space) = (Way::of(&plan[0], on_error), &plan[0].space);
    if way == Way::Alone {
        return 1;
    }
    let belongs = |step: &&Step| step.space == *space && Way::of(step, on_error) == way;
    plan.iter().take_while(belongs).count()
}

fn create_file(file: &File) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut open = fs::OpenOptions::new();
        open.write(true).create_new(true).mode(0o644);
        let mut to = open.open(&file.path)?;
        to.write_all(file.content.as_bytes()).inspect_err(|_| {
            let _ = fs::remove_file(&file.path);
        })
    };
    write().map_err(|e| Error::io(format!("create {}", file.path.display()), &e))
}

/// Writes a file as a whole: readers see the old content or the new one.
fn write_file(file: &File) -> Result<()> {
    let temporary = file.path.with_extension("new");
    fs::write(&temporary, &file.content)
        .and_then(|()| fs::rename(&temporary, &file.path))
        .map_err(|e| Error::io(format!("write {}", file.path.display()), &e))
}

/// A change that makes no sense for its object, such as creating a kernel setting.
fn misplaced(object: &Object) -> Error {
    Error::text(
        format!("apply a change to {object:?}"),
        ErrorKind::WrongKind,
        "there is no such change for this kind of object",
    )
}
