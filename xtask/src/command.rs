//! Running programs, and where the workspace is.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The directory of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The cargo that runs us, in the workspace.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command and shows it first; its failure is ours.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", line(command));
    let status = command.status().with_context(|| format!("start {}", line(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Runs a command and returns what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {}", line(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", line(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("read {}", line(command)))
}

/// Whether a command can be started and succeeds; it is not seen.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// What cargo knows of the workspace and, with `dependencies`, of all that it stands on.
pub(crate) fn metadata(dependencies: bool) -> Result<Value> {
    let mut command = cargo(["metadata", "--format-version", "1", "--locked"]);
    if dependencies {
        let host = host()?;
        command.args(["--filter-platform", &host]);
    } else {
        command.arg("--no-deps");
    }
    serde_json::from_str(&output(&mut command)?).context("read cargo metadata")
}

/// The directory that cargo builds into.
pub(crate) fn target() -> Result<PathBuf> {
    let metadata = metadata(false)?;
    let directory = metadata["target_directory"].as_str().context("cargo names no target")?;
    Ok(directory.into())
}

/// The name of this machine's platform.
fn host() -> Result<String> {
    let told = output(Command::new("rustc").arg("-vV"))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// Looks a program up as a shell does, and where Debian keeps the tools of an administrator.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|directory| directory.join(program)).find(|path| {
        path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

/// `PATH`, and where Debian keeps the tools of an administrator.
pub(crate) fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    path.push(":/usr/sbin:/sbin");
    path
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    // The full path of cargo says nothing to anybody.
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    [&[program.to_string_lossy()], &words[1..]].concat().join(" ")
}
