//! Starting plugin files: delegates of a plugin, and everything that a runtime calls.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command as Process, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::{CniResult, Code, Command, Environment, Error, Version, config, json};

/// Asks a plugin for `ADD`. A result that names no version is read in the configuration's.
pub fn add(
    program: &Path,
    environment: &Environment,
    stdin: &[u8],
    limit: Option<Duration>,
) -> Result<CniResult, Error> {
    let document = json::parse(stdin).map_err(Error::internal)?;
    let assumed = config::version(&document).map_err(|error| Error::internal(error.msg))?;
    let output = run(program, &environment.with_command(Command::Add), stdin, limit)?;
    let result = json::parse(&output).map_err(|error| {
        let output = String::from_utf8_lossy(&output);
        Error::internal(format_args!("failed to unmarshal raw result: {error} result {output}"))
    })?;
    CniResult::parse(&result, &assumed).map_err(Error::internal)
}

/// Asks a plugin for a command that answers nothing: `CHECK`, `DEL`, `GC` or `STATUS`.
pub fn call(
    program: &Path,
    command: Command,
    environment: &Environment,
    stdin: &[u8],
    limit: Option<Duration>,
) -> Result<(), Error> {
    run(program, &environment.with_command(command), stdin, limit).map(drop)
}

/// Asks a plugin which versions it supports, as it writes them.
///
/// Plugins from before there was a `VERSION` command are understood to speak 0.1.0.
pub fn version(program: &Path, limit: Option<Duration>) -> Result<Vec<String>, Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Reply {
        #[serde(rename = "cniVersion")]
        cni_version: String,
        #[serde(rename = "supportedVersions")]
        supported_versions: Vec<String>,
    }
    // The old ones refuse any call without these.
    let dummy = Some("dummy".to_owned());
    let environment = Environment {
        netns: dummy.clone(),
        ifname: dummy.clone(),
        path: dummy,
        ..Environment::default()
    };
    let stdin = format!("{{\"cniVersion\":\"{}\"}}", Version::LATEST);
    let environment = environment.with_command(Command::Version);
    let output = match run(program, &environment, stdin.as_bytes(), limit) {
        Err(error) if error.msg == "unknown CNI_COMMAND: VERSION" => {
            return Ok(vec![Version::V0_1_0.to_string()]);
        }
        output => output?,
    };
    let undecodable = |error| Error::internal(format_args!("decoding version info: {error}"));
    let value = json::parse(&output).map_err(undecodable)?;
    let reply: Reply = json::from_value(&value).map_err(undecodable)?;
    let missing =
        |field| Err(Error::internal(format_args!("decoding version info: missing field {field}")));
    match (reply.cni_version.as_str(), reply.supported_versions.is_empty()) {
        ("", _) => missing("cniVersion"),
        (_, false) => Ok(reply.supported_versions),
        ("0.2.0", true) => Ok(vec![Version::V0_1_0.to_string(), Version::V0_2_0.to_string()]),
        (_, true) => missing("supportedVersions"),
    }
}

/// Runs a plugin with these `CNI_*` variables and this standard input, and gives its output.
///
/// The rest of the environment is inherited. What the plugin writes to standard error is passed on
/// if it succeeds, and is in the error if it fails without an error of its own. After the limit it
/// is killed.
pub fn run(
    program: &Path,
    environment: &Environment,
    stdin: &[u8],
    limit: Option<Duration>,
) -> Result<Vec<u8>, Error> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let failed =
        |error: io::Error| no_message(&format!("fork/exec {}: {error}", program.display()));
    let mut child = spawn(program, environment).map_err(failed)?;
    match talk(&mut child, stdin, deadline) {
        Ok(Some(output)) if output.status.success() => {
            // What a plugin says beside its answer is only informational.
            let _ = io::stderr().write_all(&output.stderr);
            Ok(output.stdout)
        }
        Ok(Some(output)) => Err(plugin_error(&output)),
        Ok(None) => {
            stop(&mut child);
            let limit = limit.unwrap_or_default();
            Err(no_message(&format!("{} was killed after {limit:?}", program.display())))
        }
        Err(error) => {
            stop(&mut child);
            Err(failed(error))
        }
    }
}

/// How often a file that is still being written is tried again, and the first pause, which doubles.
const BUSY_RETRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

fn spawn(program: &Path, environment: &Environment) -> io::Result<Child> {
    let mut retries = 0;
    loop {
        match process(program, environment).spawn() {
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
fn process(program: &Path, environment: &Environment) -> Process {
    let mut process = Process::new(program);
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in environment.variables() {
        match value {
            Some(value) => process.env(name, value),
            None => process.env_remove(name),
        };
    }
    process
}

/// Feeds a plugin and hears it out; `None` if it does not end before the deadline.
///
/// Each pipe has a thread of its own, since a plugin may write before it reads. The threads are not
/// joined: a process that the plugin leaves behind could hold a pipe open for ever.
fn talk(child: &mut Child, stdin: &[u8], deadline: Option<Instant>) -> io::Result<Option<Output>> {
    let stdout = collect(child.stdout.take())?;
    let stderr = collect(child.stderr.take())?;
    if let Some(mut pipe) = child.stdin.take() {
        let stdin = stdin.to_owned();
        // A plugin need not read its configuration, so a broken pipe is no failure.
        thread::Builder::new().spawn(move || drop(pipe.write_all(&stdin)))?;
    }
    let (Some(stdout), Some(stderr)) = (receive(&stdout, deadline)?, receive(&stderr, deadline)?)
    else {
        return Ok(None);
    };
    let status = wait(child, deadline)?;
    Ok(status.map(|status| Output { status, stdout, stderr }))
}

fn collect<R: Read + Send + 'static>(pipe: Option<R>) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        let outcome = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes));
        // Nobody listens any more after the deadline.
        let _ = sender.send(outcome.map(|_| bytes));
    })?;
    Ok(receiver)
}

fn receive(
    pipe: &Receiver<io::Result<Vec<u8>>>,
    deadline: Option<Instant>,
) -> io::Result<Option<Vec<u8>>> {
    let received = match deadline {
        None => pipe.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(deadline) => pipe.recv_timeout(deadline.saturating_duration_since(Instant::now())),
    };
    match received {
        Ok(bytes) => bytes.map(Some),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Waits for a plugin that has closed its pipes, which is about to end.
fn wait(child: &mut Child, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
    let Some(deadline) = deadline else { return child.wait().map(Some) };
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Kills and reaps; neither can fail for a child that has not been waited for.
fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// The error of a plugin that failed: its own, or what can be said in its place.
fn plugin_error(output: &Output) -> Error {
    let ending = match output.status.code() {
        Some(code) => format!("exit status {code}"),
        None => output.status.to_string(),
    };
    if output.stdout.is_empty() {
        return if output.stderr.is_empty() {
            no_message(&ending)
        } else {
            let stderr = String::from_utf8_lossy(&output.stderr);
            Error::new(Code::Unknown, format!("netplugin failed: {stderr:?}: {ending}"))
        };
    }
    let own = json::parse(&output.stdout).and_then(|value| json::from_value(&value));
    own.unwrap_or_else(|error| {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let failed = "netplugin failed but error parsing its diagnostic message";
        Error::new(Code::Unknown, format!("{failed} {stdout:?}: {error}")).with_details(ending)
    })
}

fn no_message(why: &str) -> Error {
    Error::new(Code::Unknown, format!("netplugin failed with no error message: {why}"))
}

#[cfg(test)]
mod tests;
