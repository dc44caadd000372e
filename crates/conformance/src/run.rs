//! Runs cases, each in a child of its own on a fresh machine, and judges what came of them.
//!
//! A child is this very program again. It learns from its environment which case it is, so it may
//! be the `conformance` program as well as a test binary.

use std::collections::VecDeque;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::panic::{self, UnwindSafe};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use testbed::Rights;

use crate::case::{Instance, Known};
use crate::cases;
use crate::directory::Directory;
use crate::node::Node;

/// How many cases run at the same time. More would fill what all namespaces of a machine share,
/// such as the neighbour table.
const AT_ONCE: usize = 2;

/// How long a case may take. The slowest takes a few seconds.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What cases call, and the Debian package that brings it.
const TOOLS: &[(&str, &str)] =
    &[("bridge", "iproute2"), ("ip", "iproute2"), ("nft", "nftables"), ("tc", "iproute2")];

/// Names the case that a child is.
const CASE: &str = "CONFORMANCE_CASE";
/// And the directory of its plugins.
const PLUGINS: &str = "CONFORMANCE_PLUGINS";

/// The name that is no case's: such a child only finds out whether it could be one.
const NO_CASE: &str = "";

/// What a child's last line starts with.
const VERDICT: &str = "conformance verdict: ";

/// What came of a case.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The promise is kept.
    Passed,
    /// It is not, which nobody expected; why.
    Failed(String),
    /// It is not, as is known; how that showed.
    Known(&'static Known, String),
    /// It is kept by somebody who is known not to.
    Vanished(&'static Known),
    /// These plugins do not make it; why.
    NotApplicable(String),
}

/// A case, what came of it, and how long it took.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The case.
    pub instance: Instance,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Whether it is as it should be, or is known to be otherwise.
    pub fn is_expected(&self) -> bool {
        !matches!(self, Self::Failed(_) | Self::Vanished(_))
    }
}

/// Where this process is the child of a run, runs its case and ends. Comes back in all others.
/// Whoever calls [`run`] calls it first.
pub fn become_case() {
    let (Some(name), Some(plugins)) = (std::env::var_os(CASE), std::env::var_os(PLUGINS)) else {
        return;
    };
    let name = name.to_string_lossy();
    let instance = cases::all().find(|instance| instance.name() == name);
    let failure = match instance {
        Some(Instance { case, subject }) => {
            failure(|| (case.run)(&Node::new(subject, Path::new(&plugins))))
        }
        None if name == NO_CASE => failure(|| {
            for (tool, package) in TOOLS {
                testbed::need(tool, package);
            }
        }),
        None => Some(format!("there is no case {name}")),
    };
    println!("\n{VERDICT}{}", json!({ "failure": failure }));
    std::process::exit(0)
}

/// Does something on a fresh machine, which this process is on already; its failure, if it fails.
fn failure(work: impl FnOnce() + UnwindSafe) -> Option<String> {
    static FIRST: Mutex<Option<String>> = Mutex::new(None);
    panic::set_hook(Box::new(|panic| {
        // What panics later does so because of the first one.
        let text = panic.payload_as_str().unwrap_or("it panicked");
        let place = panic.location().map(|at| format!("{}:{}: ", at.file(), at.line()));
        let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| place.unwrap_or_default() + text);
    }));
    let on_a_fresh_machine = || {
        testbed::prepare();
        work();
    };
    panic::catch_unwind(on_a_fresh_machine).err()?;
    FIRST.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Runs the cases whose name contains `only`, and gives them in the order of [`cases::all`].
///
/// `arguments` are what this program has to be called with to come to [`become_case`] again.
pub fn run(directory: &Directory, only: &str, arguments: &[&str]) -> Vec<Finished> {
    let selected: VecDeque<_> =
        cases::all().filter(|instance| instance.name().contains(only)).enumerate().collect();
    let finished = Mutex::new(vec![None; selected.len()]);
    let left = Mutex::new(selected);
    let work = || {
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some((place, instance)) = next() {
            let done = one(directory, instance, arguments);
            finished.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(done);
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let finished = finished.into_inner().unwrap_or_else(PoisonError::into_inner);
    finished.into_iter().flatten().collect()
}

/// Whether cases can run on this machine at all: it lets us have namespaces, and has the tools that
/// look at them. `arguments` are as for [`run`].
pub fn check_machine(arguments: &[&str]) -> Result<(), String> {
    result_of(&mut child(NO_CASE, Path::new(""), arguments), LIMIT)
}

fn child(case: &str, plugins: &Path, arguments: &[&str]) -> Command {
    let mut command = testbed::again(Rights::Anyone);
    command.args(arguments).env(CASE, case).env(PLUGINS, plugins);
    command
}

fn one(directory: &Directory, instance: Instance, arguments: &[&str]) -> Finished {
    let started = Instant::now();
    let outcome = match directory.lacks(&instance) {
        Some(why) => Outcome::NotApplicable(why),
        None => {
            let mut child = child(&instance.name(), &directory.path, arguments);
            judge(result_of(&mut child, LIMIT), directory.known(&instance))
        }
    };
    Finished { instance, outcome, took: started.elapsed() }
}

fn judge(result: Result<(), String>, known: Option<&'static Known>) -> Outcome {
    match (result, known) {
        (Ok(()), None) => Outcome::Passed,
        (Ok(()), Some(known)) => Outcome::Vanished(known),
        (Err(why), Some(known)) if why.contains(known.shows) => Outcome::Known(known, why),
        (Err(why), _) => Outcome::Failed(why),
    }
}

/// Lets a child run to its verdict, or to the limit.
fn result_of(command: &mut Command, limit: Duration) -> Result<(), String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let deadline = Instant::now() + limit;
    let Ok(stdout) = stdout.recv_timeout(limit) else {
        end(&mut child);
        return Err(format!("no end within {limit:?}"));
    };
    // What it may have left behind, such as the child of a DEL, ends by itself.
    let left = deadline.saturating_duration_since(Instant::now());
    let stderr = stderr.recv_timeout(left).unwrap_or_default();
    end(&mut child);
    let verdict = stdout.lines().find_map(|line| line.strip_prefix(VERDICT));
    let verdict = verdict.and_then(|text| serde_json::from_str::<Value>(text).ok());
    match verdict {
        Some(verdict) => match verdict["failure"].as_str() {
            None => Ok(()),
            Some(failure) => Err(failure.to_owned()),
        },
        None => Err(format!("it ended without a verdict: {stderr}{stdout}")),
    }
}

/// Ends a process and all that it started; neither can fail for one that is not waited for yet.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// Reads a pipe to its end, on a thread of its own.
fn collect<R: Read + Send + 'static>(pipe: Option<R>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        // Nobody listens any more after the limit.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::By;

    fn sh(script: &str) -> Command {
        #[expect(clippy::disallowed_methods, reason = "tests start processes")]
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_difference_has_to_show_as_it_is_known() {
        static KNOWN: Known = Known::new(By::Reference, "two", "it cannot count");
        let failed = |why: &str| Err(why.to_owned());
        assert!(matches!(judge(Ok(()), None), Outcome::Passed));
        assert!(matches!(judge(failed("one"), None), Outcome::Failed(_)));
        assert!(matches!(judge(failed("two of them"), Some(&KNOWN)), Outcome::Known(..)));
        assert!(matches!(judge(failed("one"), Some(&KNOWN)), Outcome::Failed(_)));
        assert!(matches!(judge(Ok(()), Some(&KNOWN)), Outcome::Vanished(_)));
    }

    #[test]
    fn what_a_child_says_is_its_verdict() {
        let said = |text: &str| result_of(&mut sh(&format!("echo '{VERDICT}{text}'")), LIMIT);
        assert_eq!(said(r#"{"failure":null}"#), Ok(()));
        assert_eq!(said(r#"{"failure":"kaput"}"#), Err("kaput".to_owned()));
        let silent = result_of(&mut sh("echo why >&2; exit 0"), LIMIT);
        assert_eq!(silent, Err("it ended without a verdict: why\n".to_owned()));
    }

    #[test]
    fn a_child_that_hangs_is_ended_and_so_is_what_it_started() {
        let marker = testbed::directory();
        let path = marker.path().join("pid");
        let script = format!("sleep 1000 & echo $! >{}; wait", path.display());
        let mut limit = Duration::from_millis(100);
        let pid = loop {
            assert_eq!(result_of(&mut sh(&script), limit), Err(format!("no end within {limit:?}")));
            match std::fs::read_to_string(&path) {
                Ok(pid) if pid.ends_with('\n') => break pid,
                // The machine is too busy to come so far.
                _ => limit *= 2,
            }
        };
        testbed::look::eventually("the end of what it started", || {
            // It may still be there as a process that nobody has asked how it ended.
            let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()));
            status.map_or(true, |status| status.contains("State:\tZ")).then_some(())
        });
    }
}
