//! `cargo xtask test`: everything that the tests need, then all tests.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{self, cargo, find, run as start, succeeds};

/// What the tests call, and the Debian package that brings it.
pub(crate) const NEEDS: &[(&str, &str)] = &[
    ("bridge", "iproute2"),
    ("chromedriver", "chromium-driver"),
    ("chromium", "chromium"),
    ("conntrack", "conntrack"),
    ("etcd", "etcd-server"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("ping", "iputils-ping"),
    ("sysctl", "procps"),
    ("tc", "iproute2"),
    ("unshare", "util-linux"),
    (REFERENCE, "containernetworking-plugins"),
];

/// What those with real clients call beside it.
const NEEDS_OF_CLIENTS: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("podman", "podman"),
    ("runc", "runc"),
    (BUSYBOX, "busybox-static"),
];

/// One of the reference plugins, which are not on the path.
const REFERENCE: &str = "/usr/lib/cni/bridge";

/// What only the static busybox has; another package's is also called so, and does not run in a root
/// file system without libraries.
pub(crate) const BUSYBOX: &str = "/usr/share/doc/busybox-static";

/// What every call of a test runner is told.
const COMMON: &[&str] = &["--locked", "--no-fail-fast"];

/// The tests that make do with the system's own tools.
pub(crate) const ROOMS: &[&str] = &["--workspace", "--exclude", "e2e"];

/// Those that drive real clients as root.
const CLIENTS: &[&str] = &["--package", "e2e"];

/// How a test says that user namespaces are not enough for it.
const MARK: &str = "#[ignore = \"needs root\"]";

/// Runs all tests, or those whose name contains one of `filters`.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    install(&[NEEDS, NEEDS_OF_CLIENTS].concat())?;
    check_namespaces()?;
    let nextest = succeeds(&mut cargo(["nextest", "--version"]));
    let test = |which: &[&str], for_nextest: &[&str], for_cargo: &[&str], names: &[&str]| {
        let arguments = if nextest {
            [&["nextest", "run", "--no-tests=pass"], which, COMMON, for_nextest, names]
        } else {
            [&["test", "--all-targets"], which, COMMON, &[&["--"], for_cargo].concat(), names]
        };
        start(&mut cargo(arguments.concat()))
    };
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    test(ROOMS, &[], &[], &filters)?;
    start(&mut cargo([&["test", "--doc"], ROOMS, COMMON, &["--"], &filters].concat()))?;

    let of_root = marked(command::root(), MARK)?;
    let mut of_root: Vec<&str> = of_root.iter().map(String::as_str).collect();
    of_root.retain(|name| filters.is_empty() || filters.iter().any(|part| name.contains(part)));
    if !of_root.is_empty() {
        if !is_root() {
            let names = of_root.join(", ");
            bail!("all else passed, but these tests need root, as those of e2e do: {names}");
        }
        test(ROOMS, &["--run-ignored", "only"], &["--ignored"], &of_root)?;
    }
    test(CLIENTS, &[], &[], &filters)
}

/// Installs the packages of what is missing.
pub(crate) fn install(needs: &[(&str, &str)]) -> Result<()> {
    let is_missing = |tool: &str| {
        if tool.starts_with('/') { !Path::new(tool).exists() } else { find(tool).is_none() }
    };
    let missing = needs.iter().filter(|(tool, _)| is_missing(tool));
    let mut packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!("as root: apt-get install {}", packages.join(" "));
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        // It would tell of each package in several lines; errors go elsewhere.
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        start(&mut command)
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-qq", "--yes", "--no-install-recommends"], packages.as_slice()].concat())
}

/// Says once, rather than in each test, that the machine does not let us have namespaces.
fn check_namespaces() -> Result<()> {
    let namespaces = ["--user", "--map-root-user", "--net", "--mount", "true"];
    if !succeeds(Command::new("unshare").args(namespaces)) {
        bail!(
            "the tests make user, network and mount namespaces of their own, and may not\n  \
             fix: leave the chroot, run the container --privileged, or allow user namespaces \
             (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)"
        );
    }
    Ok(())
}

/// The names of the tests below `directory` that carry a mark. Neither test runner can select tests by
/// why they are ignored, and other reasons are not for us to overrule.
pub(crate) fn marked(directory: &Path, mark: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let what = || format!("read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(what)? {
        let path = entry.with_context(what)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            names.extend(marked(&path, mark)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            names.extend(after_marks(&text, mark));
        }
    }
    names.sort();
    Ok(names)
}

/// The functions that follow the mark.
fn after_marks<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = String> + 'a {
    let places = text.lines().enumerate().filter(move |(_, line)| line.trim() == mark);
    places.filter_map(|(place, _)| {
        let mut after = text.lines().skip(place + 1);
        let name = after.find_map(|line| line.trim().strip_prefix("fn "))?;
        name.split('(').next().map(str::to_owned)
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_by_their_mark() {
        let text = format!(
            "#[test]\n{MARK}\n#[cfg(x)]\nfn one() {{}}\n#[ignore = \"slow\"]\nfn two() {{}}"
        );
        assert_eq!(after_marks(&text, MARK).collect::<Vec<_>>(), ["one"]);
    }
}
