//! A plugin's process: its environment, its three pipes, and its end.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command as Process, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Failure, LONGEST, Patience};
use crate::Environment;

/// Starts a plugin, feeds it and hears it out. One that is not done when the patience is at its
/// end, or that prints without end, is killed.
pub(super) fn run(
    program: &Path,
    environment: &Environment,
    stdin: &[u8],
    patience: Option<Patience<'_>>,
) -> Result<Output, Failure> {
    let mut child = spawn(program, environment, patience.is_some())
        .map_err(|source| Failure::NotStarted { program: program.to_owned(), source })?;
    let wait = Wait::new(patience);
    talk(&mut child, stdin, &wait).map_err(|why| {
        stop(&mut child, patience.is_some());
        let program = program.to_owned();
        match why {
            Why::Slow => {
                Failure::TooSlow { program, limit: patience.map_or(Duration::MAX, |it| it.limit) }
            }
            Why::Interrupted => Failure::Interrupted { program },
            Why::Much => Failure::TooMuch { program },
            Why::Io(source) => Failure::Talk { program, source },
        }
    })
}

/// How often a file that is still being written is tried again, and the first pause, which doubles.
const BUSY_RETRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

fn spawn(program: &Path, environment: &Environment, leads_a_group: bool) -> io::Result<Child> {
    let mut retries = 0;
    loop {
        match process(program, environment, leads_a_group).spawn() {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && retries < BUSY_RETRIES =>
            {
                thread::sleep(BUSY_PAUSE * 2_u32.pow(retries));
                retries += 1;
            }
            outcome => return outcome,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this room starts plugins")]
fn process(program: &Path, environment: &Environment, leads_a_group: bool) -> Process {
    let mut process = Process::new(program);
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if leads_a_group {
        process.process_group(0);
    }
    for (name, value) in environment.variables() {
        match value {
            Some(value) => process.env(name, value),
            None => process.env_remove(name),
        };
    }
    process
}

/// Why a plugin is not heard out.
enum Why {
    Slow,
    Interrupted,
    Much,
    Io(io::Error),
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        Why::Io(error)
    }
}

/// Each pipe has a thread of its own, since a plugin may write before it reads. The threads are not
/// joined: a process that the plugin leaves behind could hold a pipe open for ever.
fn talk(child: &mut Child, stdin: &[u8], wait: &Wait<'_>) -> Result<Output, Why> {
    let stdout = collect(child.stdout.take(), Excess::Ends)?;
    let stderr = collect(child.stderr.take(), Excess::Drops)?;
    if let Some(mut pipe) = child.stdin.take() {
        let stdin = stdin.to_owned();
        // A plugin need not read its configuration, so a broken pipe is no failure.
        thread::Builder::new().spawn(move || drop(pipe.write_all(&stdin)))?;
    }
    let stdout = wait.receive(&stdout)?;
    if stdout.len() > LONGEST {
        return Err(Why::Much);
    }
    let stderr = wait.receive(&stderr)?;
    let status = wait.end(child)?;
    Ok(Output { status, stdout, stderr })
}

/// What becomes of output beyond the longest that is kept.
#[derive(Clone, Copy)]
enum Excess {
    /// Nothing more is read, and one byte too many tells of it.
    Ends,
    /// It is read and forgotten, so that the plugin can go on.
    Drops,
}

fn collect<R: Read + Send + 'static>(
    pipe: Option<R>,
    excess: Excess,
) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let read = |mut pipe: R| {
            let mut bytes = Vec::new();
            pipe.by_ref().take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
            if let Excess::Drops = excess {
                bytes.truncate(LONGEST);
                io::copy(&mut pipe, &mut io::sink())?;
            }
            Ok(bytes)
        };
        // Nobody listens any more after the deadline.
        let _ = sender.send(pipe.map_or(Ok(Vec::new()), read));
    })?;
    Ok(receiver)
}

/// Waiting for a plugin with patience, or without end.
struct Wait<'a> {
    until: Option<(Instant, &'a dyn Fn() -> bool)>,
}

impl<'a> Wait<'a> {
    /// How long an interruption may go unnoticed.
    const ATTENTION: Duration = Duration::from_millis(50);

    fn new(patience: Option<Patience<'a>>) -> Self {
        let until =
            |it: Patience<'a>| Some((Instant::now().checked_add(it.limit)?, it.interrupted));
        Self { until: patience.and_then(until) }
    }

    fn receive<T>(&self, pipe: &Receiver<io::Result<T>>) -> Result<T, Why> {
        let received = loop {
            let Some(left) = self.left()? else {
                break pipe.recv().map_err(|_| RecvTimeoutError::Disconnected);
            };
            match pipe.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) => {}
                received => break received,
            }
        };
        let died = || io::Error::from(io::ErrorKind::BrokenPipe);
        Ok(received.map_err(|_| died())??)
    }

    /// Waits for a plugin that has closed its pipes, which is about to end.
    fn end(&self, child: &mut Child) -> Result<ExitStatus, Why> {
        loop {
            let Some(left) = self.left()? else { return Ok(child.wait()?) };
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(left.min(Duration::from_millis(1)));
        }
    }

    /// How long to wait before asking again; `None` if there is no reason ever to ask.
    fn left(&self) -> Result<Option<Duration>, Why> {
        let Some((deadline, interrupted)) = self.until else { return Ok(None) };
        if interrupted() {
            return Err(Why::Interrupted);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Why::Slow) } else { Ok(Some(left.min(Self::ATTENTION))) }
    }
}

/// Kills and reaps; neither can fail for a child that has not been waited for. With a plugin that
/// leads a group go the processes that it has started, which may hold its pipes.
fn stop(child: &mut Child, leads_a_group: bool) {
    if leads_a_group {
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}
