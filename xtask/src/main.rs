//! The chores of the workspace: `cargo xtask check | test | vm | conformance | dist | bench`.
#![expect(clippy::disallowed_methods, reason = "a chore runs cargo and the system's tools")]

mod bench;
mod check;
mod command;
mod conformance;
mod dist;
mod licences;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::{Result, bail};
use bench::cluster::{self, Bench};
use bench::{see, verify};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check                     format, clippy, documentation, licences: what CI asks first
  test [FILTER…]            installs what the tests need (as root), then runs all tests
  vm [FILTER…]              those tests that need another kernel than this one, on Debian's
                            in a small virtual machine
  conformance [DIR] [--only FILTER] [--list] [--output text|json]
                            whether the plugins of a directory keep what users rely on
                            (without DIR: podwire's own)
  dist [--profile NAME]     puts podwire and the static podwire-cni into target/dist
  bench [--quick] [--rounds N] [--only NAME]… [--json FILE]
                            podwire against the reference plugins and against the floor
                            (NAME: start, one, eight, sustained, memory, size, ports,
                            host-local)
  bench scale [--quick] [--source NAME]… [--json FILE]
                            the agent with up to 5,000 peers against the floor, as root
                            (NAME: file, kubernetes, flannel, etcd)
  bench throughput [--quick] [--json FILE]
                            what each backend leaves of the underlay, as root
  bench see [--quick] [--json FILE]
                            how long a look at 100, 250 and 1,000 pods takes, as root
  bench verify [--quick] [--json FILE]
                            how long all pairs of 10 to 200 pods take to ask each other,
                            as root";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else { bail!("{USAGE}") };
    match command.as_str() {
        "check" if rest.is_empty() => check::run(),
        "test" => test::run(rest),
        "vm" => vm::run(rest),
        "conformance" => conformance::run(rest),
        "dist" => match rest {
            [] => dist::run(None),
            [flag, profile] if flag == "--profile" => dist::run(Some(profile)),
            _ => bail!("{USAGE}"),
        },
        "bench" => match rest.split_first() {
            Some((name, rest)) if name == "see" => see::run(rest),
            Some((name, rest)) if name == "verify" => verify::run(rest),
            Some((name, rest)) if let Some(bench) = Bench::named(name) => cluster::run(bench, rest),
            _ => bench::run(&bench::Options::parse(rest)?),
        },
        cluster::INSIDE => cluster::run_inside(rest),
        see::INSIDE => see::run_inside(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}
