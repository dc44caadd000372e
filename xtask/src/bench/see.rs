//! `cargo xtask bench see`: how long it takes to look at a machine with many pods, how much memory,
//! and how both grow. The whole command is measured, as a person waits for it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kernel::{Kernel, Netns, OnError};
use net::{Address, Change, Link, LinkName, Peer, Route, Space, Step};
use serde_json::{Value, json};

use super::cluster::Options;
use crate::command::{self, cargo};
use crate::dist::{PLUGIN, build_static};
use crate::test::install;

/// How many pods there are, one after the other. A bridge has room for 1,024 ports.
const SIZES: [u16; 3] = [100, 250, 1000];
/// In how long the most are to be collected, on two processors.
const GOAL: Duration = Duration::from_secs(1);

/// What is measured: a name, and the arguments of podwire.
const COMMANDS: [(&str, &[&str]); 1] = [("snapshot", &["snapshot", "-"])];

/// Builds, makes a machine and measures.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    install(&[("ip", "iproute2")])?;
    let target = command::target()?;
    command::run(&mut cargo(["build", "--package", "podwire", "--release", "--locked"]))?;
    let peak = build_static(&target, "xtask", "peak", PLUGIN)?;
    let podwire = target.join("release/podwire");
    kernel::isolate_process()?;
    kernel::prepare_directory(Path::new(net::NAMED))?;
    let node = Node::new()?;
    let rounds = if options.quick { 3 } else { 11 };
    let (mut rows, mut pods) = (Vec::new(), 0);
    for size in SIZES {
        for number in pods..size {
            node.add_pod(number)?;
        }
        pods = size;
        for (name, arguments) in COMMANDS {
            rows.push(Row::measure(name, &podwire, arguments, &peak, size, rounds)?);
        }
    }
    print!("{}", text(&rows));
    if let Some(path) = &options.json {
        let items: Vec<Value> = rows.iter().map(Row::json).collect();
        std::fs::write(path, format!("{:#}\n", json!({ "see": items })))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// A node whose pods are on one bridge.
struct Node {
    space: Space,
    bridge: LinkName,
}

impl Node {
    fn new() -> Result<Self> {
        let node = Self { space: Space::Here, bridge: "cni0".parse()? };
        let address = Address::new(node.bridge.clone(), "10.1.0.1/16".parse()?);
        node.apply(&[
            Step::new(
                &node.space,
                Change::Create(Link::bridge(node.bridge.clone()).up().into()),
                "",
            ),
            Step::new(&node.space, Change::Create(address.into()), ""),
        ])?;
        Ok(node)
    }

    fn add_pod(&self, number: u16) -> Result<()> {
        let path: PathBuf = Path::new(net::NAMED).join(format!("pod{number}"));
        Netns::create(&path)?;
        let pod = Space::At(path);
        let eth0: LinkName = "eth0".parse()?;
        let peer = Peer { space: pod.clone(), name: eth0.clone(), mac: None, mtu: None };
        let host = Link {
            master: Some(self.bridge.clone()),
            ..Link::veth(format!("veth{number:011x}").parse()?, peer).up()
        };
        let address = format!("10.1.{}.{}/16", 1 + number / 250, 1 + number % 250).parse()?;
        let mut route = Route::new("0.0.0.0/0".parse()?);
        (route.gateway, route.link) = (Some("10.1.0.1".parse()?), Some(eth0.clone()));
        self.apply(&[
            Step::new(&self.space, Change::Create(host.into()), ""),
            Step::new(&pod, Change::Ensure(Link::existing(eth0.clone()).up().into()), ""),
            Step::new(&pod, Change::Create(Address::new(eth0, address).into()), ""),
            Step::new(&pod, Change::Create(route.into()), ""),
        ])
    }

    fn apply(&self, plan: &[Step]) -> Result<()> {
        Kernel::new()?.apply(plan, OnError::Stop).into_result().context("make a pod")?;
        Ok(())
    }
}

/// One command on a machine of one size.
struct Row {
    name: &'static str,
    pods: u16,
    times: Vec<Duration>,
    memory: u64,
}

impl Row {
    fn measure(
        name: &'static str,
        podwire: &Path,
        arguments: &[&str],
        peak: &Path,
        pods: u16,
        rounds: usize,
    ) -> Result<Self> {
        let mut times = Vec::new();
        // The first one is not counted.
        for _ in 0..=rounds {
            let mut command = Command::new(podwire);
            command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
            let begin = Instant::now();
            let status = command.status().context("start podwire")?;
            times.push(begin.elapsed());
            ensure!(status.success(), "podwire {name} failed ({status})");
        }
        times.remove(0);
        times.sort();
        let mut command = Command::new(peak);
        command.arg(podwire).args(arguments).stderr(Stdio::null());
        let memory = command.output().context("start peak")?.stdout;
        let memory = String::from_utf8(memory)?.trim().parse().context("peak prints a number")?;
        Ok(Self { name, pods, times, memory })
    }

    fn median(&self) -> Duration {
        self.times[self.times.len() / 2]
    }

    fn json(&self) -> Value {
        json!({
            "command": self.name,
            "pods": self.pods,
            "milliseconds": self.median().as_secs_f64() * 1e3,
            "worstMilliseconds": self.times[self.times.len() - 1].as_secs_f64() * 1e3,
            "memory": self.memory,
        })
    }
}

fn text(rows: &[Row]) -> String {
    let mut text = String::from("command      pods     median      worst     memory  goal\n");
    for row in rows {
        let goal = match row.pods {
            1000 if row.median() <= GOAL => "1 s: kept",
            1000 => "1 s: missed",
            _ => "",
        };
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, worst) = (millis(row.median()), millis(row.times[row.times.len() - 1]));
        let memory = row.memory as f64 / 1e6;
        let line = format!(
            "{:<10} {:>6} {median:>7.0} ms {worst:>7.0} ms {memory:>7.1} MB  {goal}",
            row.name, row.pods
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
