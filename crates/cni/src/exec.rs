//! Starting plugin files: delegates of a plugin, and everything that a runtime calls.

mod failure;
mod process;

use std::io::{self, Write};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

pub use self::failure::Failure;
use self::failure::shortened;
use crate::{CniResult, Command, Environment, Error, Version, config, json};

/// The longest output of a plugin that is kept, in bytes. No answer comes near it.
pub const LONGEST: usize = 16 << 20;

/// How long a plugin is waited for. One that is called with patience leads a process group of its
/// own, so that all of it can be killed and Ctrl-C is for the caller alone to act upon.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// After this time it is killed.
    pub limit: Duration,
    /// Whether somebody has asked to stop; then it is killed, too.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// Asks a delegate for `ADD`. A result that names no version is read in the configuration's.
pub fn add(program: &Path, environment: &Environment, stdin: &[u8]) -> Result<CniResult, Error> {
    let document = json::parse(stdin).map_err(Error::internal)?;
    let assumed = config::version(&document).map_err(|error| Error::internal(error.msg))?;
    let output = run(program, &environment.with_command(Command::Add), stdin, None)?;
    let result = result(&output)?;
    CniResult::parse(&result, &assumed).map_err(Error::internal)
}

/// Asks a delegate for a command that answers nothing: `CHECK`, `DEL`, `GC` or `STATUS`.
pub fn call(
    program: &Path,
    command: Command,
    environment: &Environment,
    stdin: &[u8],
) -> Result<(), Error> {
    run(program, &environment.with_command(command), stdin, None)?;
    Ok(())
}

/// The document that a plugin printed for `ADD`; `null` says nothing, as an empty one does.
pub(crate) fn result(output: &[u8]) -> Result<Value, Failure> {
    json::parse(output)
        .and_then(|value| json::from_value::<Map<String, Value>>(&value))
        .map(Value::Object)
        .map_err(|source| Failure::NotJson { stdout: shortened(output), source })
}

/// Asks a plugin which versions it supports, as it writes them.
///
/// Plugins from before there was a `VERSION` command are understood to speak 0.1.0.
pub fn version(program: &Path, patience: Option<Patience<'_>>) -> Result<Vec<String>, Failure> {
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
    let output = match run(program, &environment, stdin.as_bytes(), patience) {
        Err(Failure::Refused(error)) if error.msg == "unknown CNI_COMMAND: VERSION" => {
            return Ok(vec![Version::V0_1_0.to_string()]);
        }
        output => output?,
    };
    let undecodable = |error: json::Error| Failure::NotVersions(error.to_string());
    let value = json::parse(&output).map_err(undecodable)?;
    let reply: Reply = json::from_value(&value).map_err(undecodable)?;
    let missing = |field| Err(Failure::NotVersions(format!("missing field {field}")));
    match (reply.cni_version.as_str(), reply.supported_versions.is_empty()) {
        ("", _) => missing("cniVersion"),
        (_, false) => Ok(reply.supported_versions),
        ("0.2.0", true) => Ok(vec![Version::V0_1_0.to_string(), Version::V0_2_0.to_string()]),
        (_, true) => missing("supportedVersions"),
    }
}

/// Runs a plugin with these `CNI_*` variables and this standard input, and gives its output.
///
/// The rest of the environment is inherited, and so is the network namespace of the calling thread.
/// What the plugin writes to standard error is passed on if it succeeds, and is in the error if it
/// fails without an error of its own.
pub fn run(
    program: &Path,
    environment: &Environment,
    stdin: &[u8],
    patience: Option<Patience<'_>>,
) -> Result<Vec<u8>, Failure> {
    let output = process::run(program, environment, stdin, patience)?;
    if !output.status.success() {
        return Err(failed(&output));
    }
    // What a plugin says beside its answer is only informational.
    let _ = io::stderr().write_all(&output.stderr);
    Ok(output.stdout)
}

/// The error of a plugin that failed: its own, or what can be said in its place.
fn failed(output: &Output) -> Failure {
    let ending = match output.status.code() {
        Some(code) => format!("exit status {code}"),
        None => output.status.to_string(),
    };
    if output.stdout.is_empty() {
        return match shortened(&output.stderr) {
            stderr if stderr.is_empty() => Failure::Silent { ending },
            stderr => Failure::Grumbled { stderr, ending },
        };
    }
    match json::parse(&output.stdout).and_then(|value| json::from_value(&value)) {
        Ok(error) => Failure::Refused(error),
        Err(source) => Failure::Garbled { stdout: shortened(&output.stdout), source, ending },
    }
}

#[cfg(test)]
mod tests;
