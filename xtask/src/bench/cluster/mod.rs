//! `cargo xtask bench scale` and `bench throughput`: the agent with thousands of peers, and what its
//! backends make of the underlay.
//!
//! Both run as root in network and mount namespaces of their own, which end with them: a user
//! namespace would not be given the room that thousands of events and elements take.

mod agent;
mod scale;
mod throughput;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command::{self, cargo, output, search_path};
use crate::dist::{PLUGIN, build_static};
use crate::test::install;

/// What these benchmarks call beside what they build.
const NEEDS: &[(&str, &str)] =
    &[("ip", "iproute2"), ("iperf3", "iperf3"), ("unshare", "util-linux"), ("mount", "mount")];

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bench {
    Scale,
    Throughput,
}

impl Bench {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "scale" => Some(Self::Scale),
            "throughput" => Some(Self::Throughput),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Throughput => "throughput",
        }
    }
}

/// What is measured, from where it was built.
#[derive(Debug)]
struct Programs {
    podwire: PathBuf,
    floor: PathBuf,
}

/// What the command line asks for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(flag) = arguments.next() {
            match (flag.as_str(), flag == "--json") {
                ("--quick", _) => options.quick = true,
                (_, true) => {
                    let path = arguments.next().context("--json needs a value")?;
                    options.json = Some(std::path::absolute(path)?);
                }
                _ => bail!("unknown option {flag}"),
            }
        }
        Ok(options)
    }
}

/// Builds, and starts this program again where it may do what it likes.
pub(crate) fn run(bench: Bench, arguments: &[String]) -> Result<()> {
    Options::parse(arguments)?;
    ensure!(rustix::process::geteuid().is_root(), "the cluster benchmarks need root");
    install(NEEDS)?;
    let target = command::target()?;
    command::run(&mut cargo(["build", "--package", "podwire", "--release", "--locked"]))?;
    let floor = build_static(&target, "xtask", "floor", PLUGIN)?;
    let own = std::env::current_exe().context("find this program")?;
    let mut again = Command::new("unshare");
    again.args(["--net", "--mount", "--"]).arg(own).args([INSIDE, bench.name()]);
    again.arg(target.join("release/podwire")).arg(floor).args(arguments);
    let status = again.status().context("start unshare")?;
    ensure!(status.success(), "the benchmark failed ({status})");
    Ok(())
}

/// How this program is told that it is where it may do what it likes.
pub(crate) const INSIDE: &str = "bench-inside";

/// The rest of it, in namespaces of its own.
pub(crate) fn run_inside(arguments: &[String]) -> Result<()> {
    let [bench, podwire, floor, options @ ..] = arguments else { bail!("see `cargo xtask help`") };
    let bench = Bench::named(bench).context("there is no such benchmark")?;
    let programs = Programs { podwire: podwire.into(), floor: floor.into() };
    let options = Options::parse(options)?;
    sh("mount -t tmpfs bench /run; ip link set lo up")?;
    kernel::prepare_directory(Path::new(net::NAMED))?;
    let (text, json): (String, Value) = match bench {
        Bench::Scale => scale::run(&programs, options.quick)?,
        Bench::Throughput => throughput::run(&programs, options.quick)?,
    };
    print!("{text}");
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{json:#}\n"))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn sh(script: &str) -> Result<String> {
    output(Command::new("sh").args(["-euc", script]).env("PATH", search_path()))
}
