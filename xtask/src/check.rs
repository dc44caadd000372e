//! `cargo xtask check`: everything that can be said about the source without running it.

use anyhow::Result;

use crate::command::{self, cargo, succeeds};
use crate::licences;

/// Runs the checks, the quick ones first.
pub(crate) fn run() -> Result<()> {
    command::run(&mut cargo(["fmt", "--all", "--check"]))?;
    licences()?;
    let lints = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    command::run(&mut cargo(lints))?;
    let mut documentation = cargo(["doc", "--workspace", "--no-deps", "--locked"]);
    command::run(documentation.env("RUSTDOCFLAGS", "-D warnings"))
}

/// `cargo-deny` where it is installed. It takes longer to build than everything else together, so
/// the questions that matter most have answers of our own, from the same `deny.toml`.
fn licences() -> Result<()> {
    if succeeds(&mut cargo(["deny", "--version"])) {
        return command::run(&mut cargo([
            "deny",
            "--offline",
            "check",
            "licenses",
            "bans",
            "sources",
        ]));
    }
    licences::check()
}
