//! `cargo xtask bench`: podwire against the reference plugins, and against the floor.
//!
//! Everything happens in namespaces of its own and in one run, in which the contenders take turns:
//! machines are noisy, and a ratio between neighbours in time says more than two numbers of
//! different days. No number here is a test.

pub(crate) mod cluster;
mod contender;
mod machine;
mod measure;
mod ports;
mod report;
mod reservations;
pub(crate) mod see;
pub(crate) mod verify;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command;
use crate::dist::{PLUGIN, build_static};
use crate::test::install;
use contender::{Contender, Programs};
use machine::Machine;
use measure::Measures;
use ports::Ports;
use reservations::Reservations;

/// What the benchmark calls beside what it builds.
const NEEDS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
];

/// The parts of the benchmark, by the names that `--only` takes.
const PARTS: &[&str] =
    &["start", "one", "eight", "sustained", "memory", "size", "ports", "host-local"];

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    rounds: usize,
    limit: Duration,
    only: Vec<String>,
    json: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments behind `bench`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let mut options =
            Self { rounds: 24, limit: Duration::from_secs(150), only: Vec::new(), json: None };
        let mut rounds = None;
        let mut arguments = arguments.iter();
        while let Some(flag) = arguments.next() {
            if flag == "--quick" {
                (options.rounds, options.limit) = (3, Duration::from_secs(25));
                continue;
            }
            let value = arguments.next().with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--rounds" => rounds = Some(value.parse().context("--rounds needs a number")?),
                "--only" if PARTS.contains(&value.as_str()) => options.only.push(value.clone()),
                "--only" => bail!("there is no part {value}, only {}", PARTS.join(", ")),
                "--json" => options.json = Some(std::path::absolute(value)?),
                _ => bail!("unknown option {flag}"),
            }
        }
        options.rounds = rounds.unwrap_or(options.rounds).max(1);
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

/// Builds, measures and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    install(NEEDS)?;
    let target = command::target()?;
    let programs = Programs {
        podwire: build_static(&target, "plugins", "podwire-cni", PLUGIN)?,
        floor: build_static(&target, "xtask", "floor", PLUGIN)?,
        peak: build_static(&target, "xtask", "peak", PLUGIN)?,
    };
    let machine = Machine::new(&programs)?;
    let (mut measures, mut ports) = (Measures::default(), Ports::default());
    let mut reservations = Reservations::default();
    let begin = Instant::now();
    let mut rounds = 0;
    while rounds < options.rounds && begin.elapsed() < options.limit {
        eprint!("\rround {} of {} ", rounds + 1, options.rounds);
        measures.round(&machine, &turns(rounds), |part| options.wants(part))?;
        if options.wants("ports") {
            ports.round(&machine)?;
        }
        if options.wants("host-local") {
            reservations.round(&machine)?;
        }
        rounds += 1;
    }
    eprintln!("took {} s", begin.elapsed().as_secs());
    let report = report::Report::new(&measures, machine.sizes()?, |part| options.wants(part));
    print!("{}{}{}", report.text(rounds, &measures), ports.text(), reservations.text());
    if let Some(path) = &options.json {
        std::fs::write(path, report.json(rounds, &measures, &ports.json(), &reservations.json()))
            .with_context(|| format!("write {}", path.display()))?;
    }
    match measures.failures_of(Contender::Podwire) {
        [] => Ok(()),
        [first, ..] => bail!("podwire failed, for example so: {first}"),
    }
}

/// The order of a round: each contender comes first, second and last equally often.
fn turns(round: usize) -> [Contender; 3] {
    let mut turns = Contender::ALL;
    turns.rotate_left(round % Contender::ALL.len());
    turns
}
