//! Whose plugins are in `/opt/cni/bin`, and how they get there: as a user puts them there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::{need, sh};

/// Where runtimes look for plugins if they are not told otherwise.
pub(crate) const DIRECTORY: &str = "/opt/cni/bin";
/// Where Debian keeps the reference's plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// Who made the plugins of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// All are the reference's.
    Reference,
    /// All that podwire has are podwire's, the rest the reference's.
    Podwire,
    /// As before, but for `portmap`, which is the reference's.
    Mixed,
}

impl By {
    /// Fills the directory.
    pub(crate) fn install(self) {
        need("/usr/lib/cni/bridge", "containernetworking-plugins");
        sh(&format!("mkdir -p {DIRECTORY}; cp {REFERENCE}/* {DIRECTORY}"));
        if self != Self::Reference {
            sh(&podwire("install"));
        }
        if self == Self::Mixed {
            sh(&format!("cp --remove-destination {REFERENCE}/portmap {DIRECTORY}"));
        }
    }
}

/// Whether podwire stands behind a plugin's name.
pub(crate) fn is_podwire(name: &str) -> bool {
    Path::new(DIRECTORY).join(name).read_link().is_ok()
}

/// Builds `podwire` and its plugins as the source is now, for cargo makes a test's own package only.
/// Inside the test's namespaces, where there is no network to fetch from, it has been done.
pub fn build() {
    if testbed::is_inside() {
        return;
    }
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let profile = match built().file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev".to_owned(),
        Some(other) => other.to_owned(),
    };
    command
        .args(["build", "--quiet", "--locked", "--package", "podwire", "--package", "plugins"])
        .args(["--profile", &profile])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(command.status().unwrap().success(), "podwire does not build");
}

/// The line that runs `podwire`, which finds the plugins beside itself.
pub(crate) fn podwire(arguments: &str) -> String {
    format!("{}/podwire {arguments}", built().display())
}

/// Where cargo puts programs of the profile that this one was built with.
fn built() -> PathBuf {
    // This program is in `deps` below it.
    env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}
