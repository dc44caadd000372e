//! `cargo xtask conformance`: the conformance suite against a directory of plugins, ours if none is
//! named.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::command::{self, cargo};
use crate::test::{NEEDS, install};

/// Runs the suite; arguments behind the directory are the suite's own.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    install(NEEDS)?;
    let target = command::target()?;
    command::run(&mut cargo(["build", "--package", "conformance", "--locked"]))?;
    let (directory, rest) = match arguments.split_first() {
        Some((directory, rest)) if !directory.starts_with('-') => (PathBuf::from(directory), rest),
        _ => {
            let directory = target.join("conformance");
            let packages = ["--package", "podwire", "--package", "plugins"];
            command::run(cargo(["build", "--locked"]).args(packages))?;
            let mut install = Command::new(target.join("debug/podwire"));
            command::run(install.arg("install").arg("--dir").arg(&directory))?;
            (directory, arguments)
        }
    };
    let mut suite = Command::new(target.join("debug/conformance"));
    command::run(suite.arg("--plugins").arg(directory).args(rest))
}
