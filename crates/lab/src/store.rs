//! The labs of a machine, one directory each: made as a whole, removed exactly.
//!
//! A lab's directory holds the private copy of what was planned (`lab.json`, written before
//! anything is made), the namespaces' own names (`netns/`), what the plugins read and write
//! (`cni/`), and `ready` once all steps were taken. A directory without `ready` is what a kill
//! left: the next `up` or `down` of that name clears it. One without `lab.json` that holds anything is
//! not the work of `lab up`, and is left alone.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use kernel::{Kernel, Netns, OnError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::processes::{self, Process};
use crate::publish::{Found, identity, look, publish, withdraw};
use crate::{
    AgentRun, Entry, Error, Lab, Name, Namespace, Network, Plan, Result, Role, Started, Step,
    agents, attachment, cluster, script,
};

/// Where labs are kept.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) root: PathBuf,
}

/// What `up` has just made.
#[derive(Clone, Copy, Debug)]
pub enum Made<'a> {
    /// A namespace.
    Namespace(&'a Namespace),
    /// A step, with the result of a plugin that was asked to add.
    Step(&'a Step, Option<&'a Value>),
}

/// What `down` met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// What could not be removed. The lab's directory stays, so that `down` can be tried again.
    pub failures: Vec<String>,
    /// Processes that live on in namespaces that have no name any more.
    pub processes: Vec<Process>,
}

/// How far a lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All steps were taken.
    Up,
    /// `up` or `down` was killed.
    Unfinished,
    /// Another command is at work on it.
    Busy,
}

/// A lab in a list.
#[derive(Debug)]
pub struct Summary {
    /// What it is called.
    pub name: Name,
    /// How far it is.
    pub state: State,
    /// What it consists of, if that was written already, or why that cannot be said.
    pub lab: Result<Option<Lab>>,
}

impl Summary {
    fn into_lab(self) -> Option<Lab> {
        self.lab.ok().flatten()
    }
}

impl Store {
    /// The labs below `root`, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory of a lab.
    pub fn directory(&self, name: &Name) -> PathBuf {
        self.root.join(name.as_str())
    }

    /// Makes a lab, or nothing: whatever fails, what was done before is taken back. `watch` hears
    /// of every part that is there; who has interrupted it gets everything taken back, too.
    pub fn up(
        &self,
        lab: &Lab,
        interrupted: &dyn Fn() -> bool,
        watch: &mut dyn FnMut(Made<'_>),
    ) -> Result<Plan> {
        let mut directory = Directory::create(&self.root, &lab.name)?;
        match (directory.state(), directory.record()?) {
            (State::Up, _) => return Err(Error::Exists { name: lab.name.to_string() }),
            (_, Some(remains)) => {
                let report = directory.clear(&remains);
                if !report.failures.is_empty() {
                    let cause = Box::new(Error::Exists { name: lab.name.to_string() });
                    let name = lab.name.to_string();
                    return Err(Error::Undone { name, cause, left: report.failures });
                }
                directory = Directory::create(&self.root, &lab.name)?;
            }
            (_, None) => {}
        }
        if let Err(error) = self.require_names(lab, &lab.namespaces) {
            directory.remove();
            return Err(error);
        }
        let plan = lab.plan(&directory.path);
        let made = directory
            .write_record(lab)
            .and_then(|()| directory.create_private())
            .and_then(|()| make(&plan, interrupted, watch));
        match made.and_then(|()| directory.set_ready()) {
            Ok(()) => Ok(plan),
            Err(cause) => {
                let report = directory.clear(lab);
                let left = report.failures;
                Err(Error::Undone { name: lab.name.to_string(), cause: Box::new(cause), left })
            }
        }
    }

    /// Takes a lab down, whatever is left of it.
    pub fn down(&self, name: &Name) -> Result<Report> {
        let Some(directory) = Directory::open(&self.root, name)? else {
            // A kill may have left the directories above.
            tidy(&self.root);
            return Err(self.no_lab(name));
        };
        match directory.record() {
            Ok(Some(lab)) => Ok(directory.clear(&lab)),
            // A kill before anything was made.
            Ok(None) => {
                directory.remove();
                Ok(Report::default())
            }
            Err(error @ Error::Record { .. }) => Ok(directory.clear_unreadable(name, &error)),
            Err(error) => Err(error),
        }
    }

    /// All labs by name.
    pub fn list(&self) -> Result<Vec<Summary>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("read", &self.root, error)),
        };
        let mut names: Vec<Name> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        names.sort();
        let summary = |name: Name| {
            let path = self.directory(&name);
            Summary { state: state_of(&path), lab: read_record(&path), name }
        };
        Ok(names.into_iter().map(summary).collect())
    }

    /// A lab that was planned.
    pub fn get(&self, name: &Name) -> Result<(Lab, State)> {
        let path = self.directory(name);
        match read_record(&path)? {
            Some(lab) => Ok((lab, state_of(&path))),
            None => Err(self.no_lab(name)),
        }
    }

    /// The one namespace that a person means by `object`, in `lab` or in any.
    pub fn find(&self, object: &str, lab: Option<&Name>) -> Result<(Lab, Namespace)> {
        let labs: Vec<Lab> = match lab {
            Some(name) => vec![self.get(name)?.0],
            None => self.list()?.into_iter().filter_map(Summary::into_lab).collect(),
        };
        let namespaces = labs.iter().flat_map(|lab| lab.namespaces.iter().map(move |it| (lab, it)));
        let matching: Vec<_> =
            namespaces.clone().filter(|(_, namespace)| namespace.answers_to(object)).collect();
        match matching[..] {
            [(lab, namespace)] => Ok((lab.clone(), namespace.clone())),
            [] => {
                let objects = namespaces.map(|(_, namespace)| namespace.object()).collect();
                Err(Error::NoObject { object: object.to_owned(), objects })
            }
            _ => {
                let labs = matching.iter().map(|(lab, _)| lab.name.to_string()).collect();
                Err(Error::Ambiguous { object: object.to_owned(), labs })
            }
        }
    }

    pub(crate) fn no_lab(&self, name: &Name) -> Error {
        let labs = self.list().unwrap_or_default();
        let others = labs.into_iter().map(|summary| summary.name).filter(|other| other != name);
        let labs = others.map(|other| other.to_string()).collect();
        Error::NoLab { name: name.to_string(), labs }
    }

    /// Refuses if anybody has one of the names that the lab needs.
    pub(crate) fn require_names(&self, lab: &Lab, namespaces: &[Namespace]) -> Result<()> {
        let taken = |namespace: &&Namespace| look(&namespace.public_path()) != Found::Nothing;
        let Some(namespace) = namespaces.iter().find(taken) else { return Ok(()) };
        let others = self.list().unwrap_or_default();
        let other = others.into_iter().filter_map(Summary::into_lab).find(|other| {
            other.name != lab.name
                && other.namespaces.iter().any(|it| it.public == namespace.public)
        });
        let owner = match &other {
            Some(other) => format!("lab {}", other.name),
            None => "no lab of podwire".to_owned(),
        };
        let path = namespace.public_path();
        let lab_name = other.map(|other| other.name.to_string());
        Err(Error::Taken { name: lab.name.to_string(), path, owner, lab: lab_name })
    }
}

/// Makes the namespaces, the files and then the steps of a plan.
pub(crate) fn make(
    plan: &Plan,
    interrupted: &dyn Fn() -> bool,
    watch: &mut dyn FnMut(Made<'_>),
) -> Result<()> {
    let mut tell = |made: Made<'_>| {
        watch(made);
        if interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    };
    kernel::prepare_directory(Path::new(net::NAMED))?;
    for namespace in &plan.namespaces {
        publish(namespace, &plan.directory)?;
        tell(Made::Namespace(namespace))?;
    }
    for entry in &plan.files {
        write(entry)?;
    }
    let mut kernel = Kernel::new()?;
    let mut rest = &plan.steps[..];
    while let Some(step) = rest.first() {
        let (done, later) = match step {
            Step::Machine(_) => {
                let machine = |step: &Step| match step {
                    Step::Machine(step) => Some(step.clone()),
                    _ => None,
                };
                // Those that follow each other are one plan: what can be one transaction is one.
                let run: net::Plan = rest.iter().map_while(machine).collect();
                kernel.apply(&run, OnError::Stop).into_result()?;
                rest.split_at(run.len())
            }
            Step::Agent(_) => {
                let runs: Vec<&AgentRun> = rest.iter().map_while(Step::agent).collect();
                for (run, started) in runs.iter().zip(agents::run(&runs, interrupted)) {
                    if started? == Started::NotReady {
                        let what = "the node's network does not stand yet".to_owned();
                        return Err(Error::Agent { node: run.node.clone(), what });
                    }
                }
                rest.split_at(runs.len())
            }
            Step::Resolver(run) => {
                run.start(interrupted)?;
                rest.split_at(1)
            }
            Step::Cni(invocation) => {
                let result = invocation.run(interrupted)?;
                tell(Made::Step(step, result.as_ref()))?;
                rest = &rest[1..];
                continue;
            }
        };
        for step in done {
            tell(Made::Step(step, None))?;
        }
        rest = later;
    }
    Ok(())
}

fn write(entry: &Entry) -> Result<()> {
    match entry {
        // Whatever the umask: a runtime trusts no directory that anybody can write to.
        Entry::Directory(path) => {
            let made = DirBuilder::new().mode(0o755).create(path);
            made.map_err(|e| Error::io("create", path, e))
        }
        // As a whole: whoever reads it meanwhile reads one or the other.
        Entry::File(file) => {
            let temporary = file.path.with_extension("new");
            fs::write(&temporary, &file.content)
                .and_then(|()| fs::rename(&temporary, &file.path))
                .map_err(|e| Error::io("write", &file.path, e))
        }
        Entry::Symlink { path, target } => {
            std::os::unix::fs::symlink(target, path).map_err(|e| Error::io("create", path, e))
        }
    }
}

/// A lab's directory, held against all other commands until it is dropped.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    /// The directory itself, whose lock ends with this process at the latest.
    _lock: File,
}

/// The directory of the namespaces' own names.
pub(crate) const PRIVATE: &str = "netns";
const RECORD: &str = "lab.json";
const TEMPORARY: &str = "lab.json.new";
const READY: &str = "ready";

/// `lab.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    api_version: String,
    kind: String,
    #[serde(flatten)]
    lab: Lab,
}

impl Directory {
    /// Opens and locks a lab's directory, and makes it if it is not there.
    fn create(root: &Path, name: &Name) -> Result<Self> {
        loop {
            let path = root.join(name.as_str());
            match fs::create_dir_all(&path) {
                // Whoever removed the last lab has just removed the directories above, too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                made => made.map_err(|e| Error::io("create", &path, e))?,
            }
            if let Some(directory) = Self::open(root, name)? {
                return Ok(directory);
            }
        }
    }

    /// Opens and locks a lab's directory; `None` if it is not there.
    pub(crate) fn open(root: &Path, name: &Name) -> Result<Option<Self>> {
        let path = root.join(name.as_str());
        let fail = |e| Error::io("lock", &path, e);
        loop {
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(fail(error)),
            };
            lock.lock().map_err(fail)?;
            // Whoever held the lock before may have removed what it locks.
            let locked = lock.metadata().map_err(fail)?;
            if path
                .metadata()
                .is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino()))
            {
                return Ok(Some(Self { path, _lock: lock }));
            }
        }
    }

    pub(crate) fn state(&self) -> State {
        if self.path.join(READY).exists() { State::Up } else { State::Unfinished }
    }

    pub(crate) fn record(&self) -> Result<Option<Lab>> {
        read_record(&self.path)
    }

    pub(crate) fn write_record(&self, lab: &Lab) -> Result<()> {
        let record = Record {
            api_version: "podwire/v1".to_owned(),
            kind: "Lab".to_owned(),
            lab: lab.clone(),
        };
        let (path, temporary) = (self.path.join(RECORD), self.path.join(TEMPORARY));
        fs::write(&temporary, cni::json::pretty(&record) + "\n")
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|e| Error::io("write", &path, e))
    }

    fn create_private(&self) -> Result<()> {
        let private = self.path.join(PRIVATE);
        fs::create_dir(&private).map_err(|e| Error::io("create", &private, e))
    }

    fn set_ready(&self) -> Result<()> {
        let path = self.path.join(READY);
        fs::write(&path, "").map_err(|e| Error::io("write", &path, e))
    }

    /// Removes all of a lab and then its directory, the record of it last.
    fn clear(self, lab: &Lab) -> Report {
        let _ = fs::remove_file(self.path.join(READY));
        let report = self.clear_part(lab, &lab.namespaces);
        self.finish(report)
    }

    /// Removes some of a lab's namespaces and all that is in them.
    pub(crate) fn clear_part(&self, lab: &Lab, part: &[Namespace]) -> Report {
        let mut report = Report::default();
        let own = |namespace: &Namespace| identity(&namespace.private_path(&self.path));
        if let Network::Cluster(network) = &lab.network {
            let nodes = part.iter().filter(|it| it.role == Role::Node);
            let run = |node| cluster::agent(lab, network, &self.path, node, true);
            agents::stop(&nodes.map(run).collect::<Vec<_>>());
        }
        for pod in part.iter().rev().filter(|it| it.role == Role::Pod) {
            let calls = attachment::release(lab, &self.path, pod);
            let calls = calls.filter(|_| lab.node_of(pod).and_then(own).is_some());
            // What only the runtime remembers goes with the files, if all goes.
            let is_all = part.len() == lab.namespaces.len();
            for call in calls.into_iter().flatten().take(if is_all { 1 } else { 2 }) {
                // A pod that is not remembered was never begun to be added: there is nothing that
                // does not go with its namespace and the directory.
                if call.is_remembered()
                    && let Err(error) = call.run(&|| false)
                {
                    report.notes.push(error.to_string());
                }
            }
        }
        let ids: BTreeSet<_> = part.iter().filter_map(own).collect();
        report.processes = processes::end(&lab.name, &ids);
        for namespace in part.iter().rev() {
            match withdraw(namespace, &self.path) {
                Ok(left) => report.notes.extend(left),
                Err(error) => report.failures.push(error.to_string()),
            }
        }
        report
    }

    /// Removes what is the lab's by definition where its record cannot tell: the namespaces below
    /// its own directory, by all of their names, and the directory.
    fn clear_unreadable(self, name: &Name, why: &Error) -> Report {
        let private = paths_in(&self.path.join(PRIVATE));
        let ids: BTreeSet<_> = private.iter().filter_map(|path| identity(path)).collect();
        let is_own = |path: &PathBuf| identity(path).is_some_and(|id| ids.contains(&id));
        let public = paths_in(Path::new(net::NAMED)).into_iter().filter(is_own);
        let mut report = Report {
            notes: vec![format!("{why}: only what is in the lab's own namespaces is removed")],
            processes: processes::end(name, &ids),
            ..Report::default()
        };
        // The private names tell which public ones are the lab's, so they go last.
        for path in public.chain(private.iter().cloned()) {
            if let Err(error) = Netns::remove(&path) {
                report.failures.push(error.to_string());
            }
        }
        self.finish(report)
    }

    /// Removes the files and the directory, unless something is left that they tell about.
    fn finish(self, mut report: Report) -> Report {
        if report.failures.is_empty()
            && let Err(error) = self.remove_content()
        {
            report.failures.push(error.to_string());
        }
        if report.failures.is_empty() {
            self.remove();
        }
        report
    }

    /// Removes everything in the directory but the record.
    fn remove_content(&self) -> Result<()> {
        let fail = |e| Error::io("remove", &self.path, e);
        for entry in fs::read_dir(&self.path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let path = entry.path();
            let removed = match entry.file_type() {
                _ if entry.file_name() == RECORD => Ok(()),
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
                _ => fs::remove_file(&path),
            };
            removed.map_err(|e| Error::io("remove", &path, e))?;
        }
        Ok(())
    }

    /// Removes the record and the directory.
    fn remove(self) {
        for file in [TEMPORARY, RECORD] {
            let _ = fs::remove_file(self.path.join(file));
        }
        if fs::remove_dir(&self.path).is_ok()
            && let Some(root) = self.path.parent()
        {
            tidy(root);
        }
    }
}

/// Removes the directory of all labs and podwire's own above it, unless there is something in them.
fn tidy(root: &Path) {
    for path in root.ancestors().take(2) {
        // What is not empty, or not there, need not be removed.
        let _ = fs::remove_dir(path);
    }
}

/// The paths in a directory; none if it is not there.
fn paths_in(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// What a directory records; nothing if a kill came before that, or if it is not there. `lab up`
/// writes the record first and `lab down` removes it last, so what holds anything else without it
/// is somebody else's.
fn read_record(directory: &Path) -> Result<Option<Lab>> {
    let path = directory.join(RECORD);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return require_empty(directory).map(|()| None);
        }
        Err(error) => return Err(Error::io("read", &path, error)),
    };
    let record: Record =
        serde_json::from_slice(&text).map_err(|source| Error::Record { path, source })?;
    Ok(Some(record.lab))
}

fn require_empty(directory: &Path) -> Result<()> {
    let paths = paths_in(directory);
    // A record that has come meanwhile is of a lab that is just being made.
    let is_recorded = paths.iter().any(|path| path.ends_with(RECORD));
    if is_recorded || paths.iter().all(|path| path.ends_with(TEMPORARY)) {
        return Ok(());
    }
    let script = directory.join(script::DOWN);
    Err(match fs::read_to_string(&script) {
        Ok(commands) => Error::Scripted { script, commands },
        Err(_) => Error::Unrecorded { path: directory.to_owned() },
    })
}

/// What can be said of a lab without waiting for whoever works on it.
fn state_of(directory: &Path) -> State {
    let busy = File::open(directory)
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)));
    match (busy, directory.join(READY).exists()) {
        (true, _) => State::Busy,
        (false, true) => State::Up,
        (false, false) => State::Unfinished,
    }
}
