//! The program as people run it.
#![expect(clippy::disallowed_methods, reason = "tests start processes")]

mod agent;
mod cluster;
mod cni;
mod demo;
mod doctor;
mod explain;
mod faults;
mod ipam;
mod kill;
mod lab;
mod responders;
mod schema;
mod script;
mod snapshot;
mod usage;
mod verify;
mod vm;
mod web;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What a run of podwire left.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Fails unless the exit code is this one.
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }
}

/// podwire with these arguments and an environment of its own.
fn command(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwire"));
    command.args(arguments.split_whitespace());
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs podwire to its end.
fn podwire(arguments: &str) -> Run {
    finish(command(arguments).spawn().expect("start podwire"))
}

/// Waits for a run.
fn finish(child: Child) -> Run {
    let output = child.wait_with_output().expect("wait for podwire");
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("the answer is text"),
        stderr: String::from_utf8(output.stderr).expect("the errors are text"),
    }
}

/// The names in a directory; none if it is not there.
fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Fails if anything of a lab is left.
#[track_caller]
fn assert_nothing_left() {
    assert_eq!(names("/run/netns"), [""; 0]);
    assert!(!Path::new("/run/podwire").exists(), "{:?}", names("/run/podwire/lab"));
    let links = testbed::sh("ip -o link | cut -d: -f2");
    assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["lo"]);
}

/// Takes all labs down at the end of a test, also of one that fails: agents are no part of the
/// namespaces that go with it.
struct Agents;

impl Drop for Agents {
    fn drop(&mut self) {
        let _ = command("lab down --all").status();
    }
}

/// Writes a plugin that is a shell script.
fn write_plugin(path: &Path, script: &str) {
    fs::write(path, script).expect("write a plugin");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("make it executable");
}

/// The plugins that distributions ship.
fn go_plugins() -> &'static str {
    let directory = "/usr/lib/cni";
    assert!(
        Path::new(directory).join("bridge").exists(),
        "this test needs {directory}: apt-get install containernetworking-plugins"
    );
    directory
}
