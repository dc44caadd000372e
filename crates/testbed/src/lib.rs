//! A machine of its own for every test that touches the network.
//!
//! ```no_run
//! #[test]
//! fn a_veth_has_two_ends() {
//!     testbed::isolated!();
//!     let blue = testbed::Namespace::new("blue");
//!     testbed::sh("ip link add left type veth peer name right netns blue");
//!     assert!(blue.sh("ip -o link").contains("right"));
//! }
//! ```
//!
//! [`isolated!`] runs the test binary again, for this one test, inside user, network and mount
//! namespaces of its own. That takes about 20 ms, works under any test runner, for an ordinary user
//! as for root, and cannot hurt the host. `unshare(2)` inside the test would not do: a process
//! with threads cannot enter a new user namespace (`EINVAL`).
//!
//! The machine is prepared with the system's own tools rather than with ours, so that a mistake in
//! ours shows where it is, not in every test.
#![expect(clippy::disallowed_methods, reason = "tests start processes")]
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kernel::Netns;
use net::Space;
use rustix::mount::{MountFlags, mount};
pub use tempfile::TempDir;

pub mod browser;
pub mod call;
pub mod golden;
pub mod kubernetes;
pub mod look;
mod state;
pub use state::{assert_same_state, state};

/// Makes the rest of the test function run on a machine of its own, on which it is root: only
/// `lo`, an empty `/run`, and `/run/netns` ready for named namespaces. The first line of a test.
///
/// What user namespaces cannot do (load BPF, set `nf_conntrack_max` and the thresholds of the
/// neighbour table, mount `/proc`) needs [`isolated_as_root!`].
#[macro_export]
macro_rules! isolated {
    () => {
        $crate::isolated_with!($crate::Rights::Anyone)
    };
}

/// As [`isolated!`], without the user namespace: the test is the host's root and fails for
/// anybody else, so it is marked `#[ignore = "needs root"]`.
#[macro_export]
macro_rules! isolated_as_root {
    () => {
        $crate::isolated_with!($crate::Rights::Root)
    };
}

/// As [`isolated_as_root!`], with a process namespace as well: whatever daemons the test starts, none
/// outlives it.
#[macro_export]
macro_rules! isolated_with_processes {
    () => {
        $crate::isolated_with!($crate::Rights::RootOfProcesses)
    };
}

/// What these macros are made of: only a macro can learn its caller's name and end it.
#[doc(hidden)]
#[macro_export]
macro_rules! isolated_with {
    ($rights:expr) => {
        if $crate::is_done_elsewhere(::std::any::type_name_of_val(&|| {}), $rights) {
            return;
        }
    };
}

/// Who the test has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Any user, who becomes root of a user namespace.
    Anyone,
    /// Root of the host.
    Root,
    /// Root of the host, among processes of its own.
    RootOfProcesses,
}

/// Set for the run of a test inside its namespaces.
const INSIDE: &str = "PODWIRE_TEST_NS";

/// Outside, runs the test inside and returns true; inside, prepares the machine and returns false.
/// `here` is the path of a closure in the test function.
#[doc(hidden)]
pub fn is_done_elsewhere(here: &str, rights: Rights) -> bool {
    if is_inside() {
        prepare();
        return false;
    }
    let test = test_name(here);
    if rights != Rights::Anyone && !rustix::process::geteuid().is_root() {
        panic!("{test} needs root: run it with sudo");
    }
    let output = again(rights)
        .args(["--exact", &test, "--include-ignored", "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .output()
        .expect("start unshare");
    let told = String::from_utf8_lossy(&output.stdout);
    print!("{told}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed in its namespaces ({})", output.status);
    // A name that matches nothing is a success, too, to a test binary.
    assert!(told.contains("1 passed"), "there is no test {test:?} to run in namespaces");
    true
}

/// Whether this is the run of a test inside its namespaces.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// This program again, in namespaces of its own; what it does there starts with [`prepare`].
/// Arguments are the caller's to add.
pub fn again(rights: Rights) -> Command {
    let namespaces: &[&str] = match rights {
        Rights::Anyone => &["-Urnm", "--kill-child"],
        Rights::Root => &["-nm", "--kill-child"],
        // The first process of a namespace has to reap the orphans, which a shell does.
        Rights::RootOfProcesses => {
            &["-nmpf", "--kill-child", "--mount-proc", "sh", "-c", r#""$0" "$@"; exit $?"#]
        }
    };
    let mut command = Command::new(need("unshare", "util-linux"));
    command
        .args(namespaces)
        .arg(env::current_exe().expect("find this program"))
        .env("PATH", search_path())
        .stdin(Stdio::null());
    command
}

/// The name that the test binary knows a test by: its path without the crate in front and without
/// the closure at the end.
fn test_name(here: &str) -> String {
    let inside_crate = here.split_once("::").map_or(here, |(_, rest)| rest);
    inside_crate.trim_end_matches("::{{closure}}").to_owned()
}

/// Turns fresh namespaces into a machine. `unshare` has made all mounts private.
pub fn prepare() {
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)
        .expect("mount an empty /run");
    kernel::prepare_directory(Path::new(net::NAMED)).expect("prepare /run/netns");
    need("ip", "iproute2");
    sh("ip link set lo up");
}

/// A network namespace that `ip netns` knows by its name, and that goes with this value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    netns: Netns,
}

impl Namespace {
    /// Makes a namespace, with `lo` up in it.
    pub fn new(name: &str) -> Self {
        let netns = Netns::create(&path_of(name)).expect("create a namespace");
        let made = Self { name: name.to_owned(), netns };
        made.sh("ip link set lo up");
        made
    }

    /// The namespace itself.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Where it is bound: `/run/netns/<name>`.
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }

    /// The namespace as a plan names it.
    pub fn space(&self) -> Space {
        Space::named(&self.name)
    }

    /// Runs shell lines inside and returns what they print; a line that fails fails the test.
    pub fn sh(&self, script: &str) -> String {
        let child = self.netns.spawn(&mut shell(script)).expect("start sh");
        printed(&self.name, script, &child.wait_with_output().expect("wait for sh"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What stays in spite of this ends with the test's mount namespace.
        let _ = Netns::remove(&self.path());
    }
}

fn path_of(name: &str) -> PathBuf {
    Path::new(net::NAMED).join(name)
}

/// Runs shell lines where the test runs and returns what they print; a line that fails fails the
/// test.
pub fn sh(script: &str) -> String {
    printed("here", script, &shell(script).output().expect("start sh"))
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn printed(space: &str, script: &str, output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    assert!(status.success(), "{space}: `{script}` failed ({status}):\n{complaint}{told}");
    told
}

/// The path of a tool, looked up as a shell does, or by its full path; without it the test fails
/// and names the Debian package to install.
pub fn need(tool: &str, package: &str) -> PathBuf {
    let is_executable = |path: &PathBuf| {
        path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(&search_path())
        .map(|directory| directory.join(tool))
        .find(is_executable)
        .unwrap_or_else(|| panic!("this test needs {tool}: apt-get install {package}"))
}

/// `PATH`, and where Debian keeps the tools of an administrator, which users do not search.
fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    path.push(":/usr/sbin:/sbin");
    path
}

/// A fresh directory that goes with the value returned.
pub fn directory() -> TempDir {
    tempfile::tempdir().expect("make a temporary directory")
}
