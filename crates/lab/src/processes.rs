//! Processes that live in a lab.
//!
//! Those that a lab or `lab exec` started, and their children, carry a mark in their environment and end
//! with the lab. Others came by themselves: they are named and left alone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use kernel::{Netns, NetnsId};
use net::Space;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{Error, Name, Result};

/// The variable by which the processes of a lab are known; its value is the lab's name.
pub const LAB_VARIABLE: &str = "PODWIRE_LAB";

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// The name of its program.
    pub program: String,
}

/// How long a process may take to end before it is killed, in steps of [`PAUSE`].
const PATIENCE: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// A program that is going to live in a lab: it reads nothing and says nothing.
pub(crate) fn command(program: &Path, lab: &Name) -> Command {
    #[expect(clippy::disallowed_methods, reason = "only described here; Netns starts it")]
    let mut command = Command::new(program);
    command.env(LAB_VARIABLE, lab.as_str()).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Starts it in a namespace.
pub(crate) fn spawn(command: &mut Command, space: &Space) -> Result<Child> {
    Ok(match space {
        Space::Here => Netns::current()?.spawn(command)?,
        Space::At(path) => Netns::open(path)?.spawn(command)?,
    })
}

/// Does something in a namespace.
pub(crate) fn enter<T>(space: &Space, work: impl FnOnce() -> T) -> Result<T> {
    Ok(match space {
        Space::Here => work(),
        Space::At(path) => Netns::open(path)?.enter(work)?,
    })
}

/// Starts it so that it outlives us; its errors go to the end of `log`.
pub(crate) fn detach(command: &mut Command, space: &Space, log: &Path) -> Result<Child> {
    let errors = File::options().create(true).append(true).open(log);
    let errors = errors.map_err(|e| Error::io("open", log, e))?;
    // A process group of its own: Ctrl-C on our terminal is not for it.
    command.stdout(Stdio::null()).stderr(errors).process_group(0);
    // It keeps nobody from unmounting what we happen to stand in.
    command.current_dir("/");
    spawn(command, space)
}

/// Ends the processes that were started for the lab and returns those that live in its namespaces
/// without having been.
pub(crate) fn end(name: &Name, namespaces: &BTreeSet<NetnsId>) -> Vec<Process> {
    let (ours, others): (Vec<_>, Vec<_>) =
        inside(namespaces).into_iter().partition(|process| is_marked(process, name));
    for signal in [Signal::TERM, Signal::KILL] {
        for process in &ours {
            send(process, namespaces, signal);
        }
        wait(&ours, namespaces);
    }
    // What a plugin has left behind to finish its work goes by itself.
    wait(&others, namespaces);
    others.into_iter().filter(|process| lives_in(process.pid, namespaces)).collect()
}

fn wait(processes: &[Process], namespaces: &BTreeSet<NetnsId>) {
    for _ in 0..PATIENCE {
        if !processes.iter().any(|process| lives_in(process.pid, namespaces)) {
            break;
        }
        thread::sleep(PAUSE);
    }
}

/// All processes in these namespaces.
fn inside(namespaces: &BTreeSet<NetnsId>) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let inside = pids.filter(|pid| lives_in(*pid, namespaces));
    inside.map(|pid| Process { pid, program: program(pid) }).collect()
}

fn program(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

fn lives_in(pid: i32, namespaces: &BTreeSet<NetnsId>) -> bool {
    let found = Path::new("/proc").join(pid.to_string()).join("ns/net").metadata();
    found.is_ok_and(|file| namespaces.contains(&NetnsId { device: file.dev(), inode: file.ino() }))
}

fn is_marked(process: &Process, name: &Name) -> bool {
    let mark = format!("{LAB_VARIABLE}={name}");
    let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

/// Sends a signal to this process and no other that may have got its number meanwhile. One that
/// has ended by itself needs none.
fn send(process: &Process, namespaces: &BTreeSet<NetnsId>, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
        && lives_in(process.pid, namespaces)
    {
        let _ = pidfd_send_signal(pidfd, signal);
    }
}
