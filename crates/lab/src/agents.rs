//! The agents of a lab's nodes: the program as it runs on real nodes, in the nodes' namespaces.

use std::fmt;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fabric::Subject;
use fabric::agent::Status;
use net::Space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{Error, Name, Result, cluster, pods, processes};

/// A run of the agent on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRun {
    /// The lab, whose name marks what is started.
    pub lab: Name,
    /// The node.
    pub node: String,
    /// Its namespace.
    pub space: Space,
    /// The program.
    pub program: PathBuf,
    /// The directory of the node's files.
    pub home: PathBuf,
    /// Whether it stays; else it reconciles once and ends.
    pub stays: bool,
    /// Why, in a sentence without subject.
    pub why: &'static str,
}

/// What came of starting an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It stands, and so does the node's network.
    Ready,
    /// It is at work, and the node's network does not stand yet.
    NotReady,
    /// It was at work before.
    Already,
}

/// How long an agent may take until the node's network stands.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an agent that is told to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

/// The agent's configuration among a node's files.
pub(crate) fn config(home: &Path) -> PathBuf {
    home.join("agent.json")
}

impl AgentRun {
    /// The arguments of the program.
    pub fn arguments(&self) -> Vec<String> {
        let config = config(&self.home).display().to_string();
        let once = (!self.stays).then(|| "--once".to_owned());
        let config = ["--config".to_owned(), config];
        ["agent".to_owned()].into_iter().chain(once).chain(config).collect()
    }

    /// Where what it says goes, if it stays.
    pub fn log(&self) -> PathBuf {
        self.home.join("agent.log")
    }

    /// Which process it is, if it stays: its number, and when it was started, in the kernel's ticks
    /// since the boot.
    pub fn pid_file(&self) -> PathBuf {
        self.home.join("agent.pid")
    }

    /// Whose existence says that the node's network stands: what lets runtimes make pods, which an
    /// agent writes last.
    pub fn ready_file(&self) -> PathBuf {
        cluster::configurations(&self.home).join(pods::CONFLIST)
    }

    fn command(&self) -> Command {
        processes::command(&self.program, &self.lab)
    }

    fn spawn(&self, command: &mut Command) -> Result<Child> {
        processes::spawn(command, &self.space)
    }

    fn failed(&self, what: impl Into<String>) -> Error {
        Error::Agent { node: self.node.clone(), what: what.into() }
    }

    /// Starts it, to be waited for.
    fn begin(&self) -> Result<Begun> {
        if self.stays {
            return Ok(match self.alive() {
                Some(_) => Begun::Already,
                None => Begun::Stays(self.detach()?),
            });
        }
        let mut command = self.command();
        command.args(self.arguments()).args(["-o", "json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Begun::Once(self.spawn(&mut command)?))
    }

    /// Starts it so that it outlives us.
    fn detach(&self) -> Result<Child> {
        let mut command = self.command();
        command.args(self.arguments());
        let mut child = processes::detach(&mut command, &self.space, &self.log())?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        let record = format!("{pid} {}\n", started(pid).unwrap_or_default());
        let path = self.pid_file();
        fs::write(&path, record).map_err(|e| {
            let _ = child.kill();
            Error::io("write", &path, e)
        })?;
        Ok(child)
    }

    /// Waits until it has done its work, or stands.
    fn end(&self, begun: Begun, interrupted: &dyn Fn() -> bool) -> Result<Started> {
        match begun {
            Begun::Already => Ok(Started::Already),
            Begun::Once(child) => {
                let output = child.wait_with_output().map_err(|e| self.failed(e.to_string()))?;
                let Ok(status) = serde_json::from_slice::<Status>(&output.stdout) else {
                    let said = String::from_utf8_lossy(&output.stderr);
                    return Err(self.failed(said.trim().trim_start_matches("error: ")));
                };
                if status.ready { Ok(Started::Ready) } else { Err(self.failed(reasons(&status))) }
            }
            Begun::Stays(mut child) => self.await_ready(&mut child, interrupted),
        }
    }

    fn await_ready(&self, child: &mut Child, interrupted: &dyn Fn() -> bool) -> Result<Started> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Ok(Some(_)) = child.try_wait() {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it says nothing").to_owned();
                return Err(self.failed(format!("it ended: {last}")));
            }
            // A file may be of an agent that ran before; who answers is this one.
            let answers = UnixStream::connect(self.home.join("run/agent.sock")).is_ok();
            if answers && self.ready_file().exists() {
                return Ok(Started::Ready);
            }
            if interrupted() {
                return Err(Error::Interrupted);
            }
            thread::sleep(PAUSE);
        }
        Ok(Started::NotReady)
    }

    /// The process that is at work, if one is.
    fn alive(&self) -> Option<Pid> {
        let record = fs::read_to_string(self.pid_file()).ok()?;
        let (pid, since) = record.trim().split_once(' ')?;
        let (pid, since): (i32, u64) = (pid.parse().ok()?, since.parse().ok()?);
        (started(pid)? == since).then(|| Pid::from_raw(pid)).flatten()
    }

    /// Whether it is at work.
    pub fn is_running(&self) -> bool {
        self.alive().is_some()
    }

    /// Asks it, or what it would find if it does not run, how things are.
    pub(crate) fn status(&self) -> Result<Child> {
        let mut command = self.command();
        command.args(["agent", "--config"]).arg(config(&self.home)).args(["status", "-o", "json"]);
        self.spawn(command.stdout(Stdio::piped()))
    }
}

impl fmt::Display for AgentRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "podwire {}", self.arguments().join(" "))
    }
}

/// An agent that was started.
enum Begun {
    Once(Child),
    Stays(Child),
    Already,
}

/// Runs agents, all at the same time, and returns what came of each.
pub(crate) fn run(runs: &[&AgentRun], interrupted: &dyn Fn() -> bool) -> Vec<Result<Started>> {
    let begun: Vec<_> = runs.iter().map(|run| run.begin()).collect();
    // All are waited for, whatever became of the first.
    let end = |(run, begun): (&&AgentRun, Result<Begun>)| run.end(begun?, interrupted);
    runs.iter().zip(begun).map(end).collect()
}

/// Tells agents to end, all at the same time, and returns the nodes whose agent ran.
pub(crate) fn stop(runs: &[AgentRun]) -> Vec<String> {
    let mut stopped = Vec::new();
    let mut waiting = Vec::new();
    for run in runs {
        // The descriptor is of this process for ever, whoever gets its number later.
        if let Some(pid) = run.alive()
            && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
            && run.alive() == Some(pid)
        {
            let _ = pidfd_send_signal(&pidfd, Signal::TERM);
            stopped.push(run.node.clone());
            waiting.push(pidfd);
        }
    }
    let until = Instant::now() + GRACE;
    for pidfd in &waiting {
        let left = until.saturating_duration_since(Instant::now());
        let has_ended = |patience: Duration| {
            let timeout = Timespec::try_from(patience).ok();
            let ready = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], timeout.as_ref());
            ready.is_ok_and(|ready| ready > 0)
        };
        if !has_ended(left) {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
            has_ended(GRACE);
        }
    }
    for run in runs {
        let _ = fs::remove_file(run.pid_file());
    }
    stopped
}

/// What agents say that is wrong on their nodes; asked all at the same time.
pub(crate) fn problems(runs: &[AgentRun]) -> Vec<(String, Vec<String>)> {
    let asked: Vec<_> = runs.iter().map(|run| (run, run.status())).collect();
    let answer = |(run, child): (&AgentRun, Result<Child>)| {
        let output = child.ok().and_then(|child| child.wait_with_output().ok());
        let status = output.and_then(|it| serde_json::from_slice::<Status>(&it.stdout).ok());
        let problems = match status {
            None => vec!["its agent does not say how things are".to_owned()],
            Some(status) => {
                let of_peers = |it: &&fabric::Problem| matches!(it.subject, Subject::Peer(_));
                let peers = status.problems.iter().filter(of_peers).map(ToString::to_string);
                let own = (!status.ready).then(|| reasons(&status));
                own.into_iter().chain(peers).collect()
            }
        };
        (run.node.clone(), problems)
    };
    asked.into_iter().map(answer).collect()
}

/// Why a node's network does not stand.
fn reasons(status: &Status) -> String {
    let of_peers = |it: &&fabric::Problem| matches!(it.subject, Subject::Peer(_));
    let own = status.problems.iter().filter(|it| !of_peers(it));
    let own: Vec<String> = own.map(|it| it.text.clone()).collect();
    if own.is_empty() { "its network does not stand".to_owned() } else { own.join("; ") }
}

/// When a process was started (field 22 of `/proc/PID/stat`, proc_pid_stat(5)); `None` of one that
/// has ended.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program is in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(started(own).is_some());
        assert_eq!(started(own), started(own));
        assert_eq!(started(0), None);
    }
}
