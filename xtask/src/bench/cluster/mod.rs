//! `cargo xtask bench scale` and `bench throughput`: the agent with thousands of peers, and what its
//! backends make of the underlay.
//!
//! Both run as root in network and mount namespaces of their own, which end with them: a user
//! namespace would not be given the room that thousands of events and elements take.

mod agent;
mod scale;
mod seed;
mod sources;
mod throughput;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command::{self, cargo, output, search_path};
use crate::dist::{PLUGIN, build_static};
use crate::test::install;
use sources::Source;

/// What these benchmarks call beside what they build.
const NEEDS: &[(&str, &str)] =
    &[("ip", "iproute2"), ("iperf3", "iperf3"), ("unshare", "util-linux"), ("mount", "mount")];

/// The source that every form of tunnel is measured with.
const FILE: &str = "file";

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
    /// Which speaks Kubernetes' API.
    nodes: PathBuf,
}

/// What the command line asks for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) json: Option<PathBuf>,
    /// The sources of nodes that the agent is measured with; all, if none is named.
    sources: Vec<String>,
}

impl Options {
    /// `has_sources` says whether sources can be named.
    pub(crate) fn parse(has_sources: bool, arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--quick" => options.quick = true,
                "--json" => options.json = Some(std::path::absolute(value()?)?),
                "--source" if has_sources => {
                    let name = value()?.clone();
                    let is_known = name == FILE || Source::named(&name).is_some();
                    ensure!(is_known, "there is no source {name}: file, kubernetes, flannel, etcd");
                    options.sources.push(name);
                }
                _ => bail!("unknown option {flag}"),
            }
        }
        Ok(options)
    }

    fn wants(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|name| name == source)
    }
}

/// Builds, and starts this program again where it may do what it likes.
pub(crate) fn run(bench: Bench, arguments: &[String]) -> Result<()> {
    Options::parse(bench == Bench::Scale, arguments)?;
    ensure!(rustix::process::geteuid().is_root(), "the cluster benchmarks need root");
    install(NEEDS)?;
    let target = command::target()?;
    command::run(&mut cargo(["build", "--package", "podwire", "--release", "--locked"]))?;
    let floor = build_static(&target, "xtask", "floor", PLUGIN)?;
    let nodes = build_static(&target, "xtask", "nodes", PLUGIN)?;
    let own = std::env::current_exe().context("find this program")?;
    let mut again = Command::new("unshare");
    again.args(["--net", "--mount", "--"]).arg(own).args([INSIDE, bench.name()]);
    again.arg(target.join("release/podwire")).args([floor, nodes]).args(arguments);
    let status = again.status().context("start unshare")?;
    ensure!(status.success(), "the benchmark failed ({status})");
    Ok(())
}

/// How this program is told that it is where it may do what it likes.
pub(crate) const INSIDE: &str = "bench-inside";

/// The rest of it, in namespaces of its own.
pub(crate) fn run_inside(arguments: &[String]) -> Result<()> {
    let [bench, podwire, floor, nodes, options @ ..] = arguments else {
        bail!("see `cargo xtask help`")
    };
    let bench = Bench::named(bench).context("there is no such benchmark")?;
    let programs = Programs { podwire: podwire.into(), floor: floor.into(), nodes: nodes.into() };
    let options = Options::parse(bench == Bench::Scale, options)?;
    sh("mount -t tmpfs bench /run; ip link set lo up")?;
    kernel::prepare_directory(Path::new(net::NAMED))?;
    let (text, json): (String, Value) = match bench {
        Bench::Scale => of_scale(&programs, &options)?,
        Bench::Throughput => throughput::run(&programs, options.quick)?,
    };
    print!("{text}");
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{json:#}\n"))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// With a node file in every form, and with the other sources in the default one.
fn of_scale(programs: &Programs, options: &Options) -> Result<(String, Value)> {
    let (mut text, mut rows) = (String::new(), Vec::new());
    if options.wants(FILE) {
        let (told, json) = scale::run(programs, options.quick)?;
        text += &told;
        rows.extend(json.as_array().cloned().unwrap_or_default());
    }
    let all = Source::ALL.into_iter().filter(|source| options.wants(source.name()));
    let sources: Vec<Source> = all.collect();
    if !sources.is_empty() {
        let (told, json) = sources::run(programs, &sources, options.quick)?;
        text += &told;
        rows.extend(json);
    }
    Ok((text, rows.into()))
}

pub(crate) fn sh(script: &str) -> Result<String> {
    output(Command::new("sh").args(["-euc", script]).env("PATH", search_path()))
}
