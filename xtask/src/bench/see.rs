//! `cargo xtask bench see`: how long it takes to look at a machine with many pods, how much memory,
//! and how both grow. The whole command is measured, as a person waits for it.
//!
//! The machine is this one with namespaces of its own for network, mounts and processes, which end
//! with the benchmark whatever becomes of it; its pods are attached by podwire's plugins.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kernel::Netns;
use kernel::process::Usage;
use serde_json::{Value, json};

use super::cluster::{Options, sh};
use crate::command::{self, cargo, output};
use crate::test::install;

/// How this program is told that it is where it may do what it likes.
pub(crate) const INSIDE: &str = "bench-see-inside";

/// What the benchmark calls beside what it builds.
const NEEDS: &[(&str, &str)] =
    &[("ip", "iproute2"), ("unshare", "util-linux"), ("mount", "mount"), ("timeout", "coreutils")];

/// After so many seconds it is ended, with all that it has started and made.
const LIMIT: &str = "900";

/// How many pods there are, one after the other. A bridge has room for 1,023 ports.
const SIZES: [usize; 3] = [100, 250, 1000];

/// What is measured: a name, the arguments of podwire, where `NODE` stands for the node, and in how
/// long it is to be done on two processors.
const QUESTIONS: [Question; 4] = [
    Question {
        name: "snapshot",
        arguments: &["snapshot", "-"],
        goal: Some((1000, Duration::from_secs(1))),
    },
    Question { name: "explain pod", arguments: &["explain", "pod/pod0"], goal: None },
    Question {
        name: "explain node",
        arguments: &["explain", "NODE"],
        goal: Some((250, Duration::from_millis(150))),
    },
    Question { name: "node as html", arguments: &["explain", "NODE", "-o", "html"], goal: None },
];

/// What is asked of a machine.
struct Question {
    name: &'static str,
    arguments: &'static [&'static str],
    /// With so many pods, in so long.
    goal: Option<(usize, Duration)>,
}

/// The network, as the tour and the tests have it.
const NETWORK: &str = r#"{
  "cniVersion": "1.0.0", "name": "pods",
  "plugins": [{
    "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
    "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}],
             "ranges": [[{"subnet": "10.1.0.0/16"}]]}
  }]
}"#;

/// Builds, and starts this program again where it may do what it likes.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    Options::parse(false, arguments)?;
    ensure!(rustix::process::geteuid().is_root(), "this benchmark needs root");
    install(NEEDS)?;
    let target = command::target()?;
    command::run(&mut cargo(["build", "--package", "podwire", "--release", "--locked"]))?;
    let own = std::env::current_exe().context("find this program")?;
    let mut again = Command::new("timeout");
    // The first process of a namespace hears of nothing but a kill.
    again.args(["--foreground", "--signal=KILL", LIMIT, "unshare", "--net", "--mount", "--pid"]);
    again.args(["--fork", "--kill-child", "--mount-proc", "--"]).arg(own).arg(INSIDE);
    again.arg(target.join("release/podwire")).args(arguments);
    let status = again.status().context("start unshare")?;
    ensure!(status.success(), "the benchmark failed ({status})");
    Ok(())
}

/// The rest of it, in namespaces of its own.
pub(crate) fn run_inside(arguments: &[String]) -> Result<()> {
    let [podwire, options @ ..] = arguments else { bail!("see `cargo xtask help`") };
    let options = Options::parse(false, options)?;
    let node = Node::new(Path::new(podwire))?;
    let rounds = if options.quick { 3 } else { 11 };
    let (mut rows, mut pods) = (Vec::new(), 0);
    for size in SIZES {
        for number in pods..size {
            node.add_pod(number)?;
        }
        pods = size;
        rows.extend(node.measure(pods, rounds)?);
        eprintln!("{pods} pods are done");
    }
    print!("{}", text(&rows));
    if let Some(path) = &options.json {
        let items: Vec<Value> = rows.iter().map(Row::json).collect();
        fs::write(path, format!("{:#}\n", json!({ "see": items })))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// A node whose pods are on one bridge.
struct Node {
    podwire: PathBuf,
    name: String,
}

impl Node {
    fn new(podwire: &Path) -> Result<Self> {
        // Nobody's pods but ours: what is in these directories is hidden.
        sh("for directory in /run /etc /var/lib; do mount -t tmpfs bench $directory; done
            ip link set lo up")?;
        kernel::prepare_directory(Path::new(net::NAMED))?;
        let (plugins, configuration) = (Path::new(PLUGINS), Path::new("/etc/cni/net.d"));
        for directory in [plugins, configuration] {
            fs::create_dir_all(directory).context("make a directory")?;
        }
        for plugin in ["bridge", "host-local"] {
            symlink(podwire, plugins.join(plugin)).context("lay a plugin down")?;
        }
        fs::write(configuration.join("pods.conflist"), NETWORK)
            .context("write the network's configuration")?;
        let name = fs::read_to_string("/proc/sys/kernel/hostname").context("read our name")?;
        Ok(Self { podwire: podwire.into(), name: name.trim_end().to_owned() })
    }

    fn add_pod(&self, number: usize) -> Result<()> {
        let name = format!("pod{number}");
        Netns::create(&Path::new(net::NAMED).join(&name))?;
        let mut add = Command::new(&self.podwire);
        output(add.args(["cni", "add", "pods", &name, "--plugin-dir", PLUGINS])).map(drop)
    }

    /// All questions by turns, because whatever disturbs shall disturb all alike.
    fn measure(&self, pods: usize, rounds: usize) -> Result<Vec<Row>> {
        let mut rows: Vec<Row> = Vec::new();
        for question in &QUESTIONS {
            // The first answer's times are not counted.
            let (_, Usage { peak_memory: memory, .. }) = self.ask(question)?;
            rows.push(Row { question, pods, times: Vec::new(), used: Vec::new(), memory });
        }
        for _ in 0..rounds {
            for row in &mut rows {
                let (time, usage) = self.ask(row.question)?;
                row.times.push(time);
                row.used.push(usage.processor_time);
                row.memory = row.memory.max(usage.peak_memory);
            }
        }
        for row in &mut rows {
            row.times.sort();
            row.used.sort();
        }
        Ok(rows)
    }

    fn arguments(&self, question: &Question) -> Vec<String> {
        let node = format!("node/{}", self.name);
        let argument = |it: &&str| if *it == "NODE" { node.clone() } else { (*it).to_owned() };
        question.arguments.iter().map(argument).collect()
    }

    /// How long an answer took, and what was used up for it. That something is wrong is an answer;
    /// that something could not be read is none.
    fn ask(&self, question: &Question) -> Result<(Duration, Usage)> {
        let mut command = Command::new(&self.podwire);
        command.args(self.arguments(question)).stdout(Stdio::null());
        let begin = Instant::now();
        let mut child = command.spawn().context("start podwire")?;
        let (status, usage) = kernel::process::wait(&mut child)?;
        let took = begin.elapsed();
        let is_answer = matches!(status.code(), Some(0 | 1));
        ensure!(is_answer, "podwire {} failed ({status})", question.arguments.join(" "));
        Ok((took, usage))
    }
}

/// Where the plugins are, in a `/run` of our own.
const PLUGINS: &str = "/run/bench/plugins";

/// One question to a machine of one size.
struct Row {
    question: &'static Question,
    pods: usize,
    /// In rising order, as those of `used`.
    times: Vec<Duration>,
    used: Vec<Duration>,
    memory: u64,
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "question": self.question.name,
            "pods": self.pods,
            "milliseconds": millis(median(&self.times)),
            "bestMilliseconds": millis(self.times[0]),
            "processorMilliseconds": millis(median(&self.used)),
            "memory": self.memory,
        })
    }

    fn verdict(&self) -> String {
        match self.question.goal.filter(|(pods, _)| *pods == self.pods) {
            Some((_, goal)) => {
                let word = if median(&self.times) <= goal { "kept" } else { "missed" };
                format!("{} ms: {word}", goal.as_millis())
            }
            None => String::new(),
        }
    }
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn text(rows: &[Row]) -> String {
    let mut text =
        String::from("question        pods     median       best  processor     memory  goal\n");
    for row in rows {
        let (middle, best) = (millis(median(&row.times)), millis(row.times[0]));
        let (used, memory) = (millis(median(&row.used)), row.memory as f64 / 1e6);
        let line = format!(
            "{:<13} {:>6} {middle:>7.0} ms {best:>7.0} ms {used:>7.0} ms {memory:>7.1} MB  {}",
            row.question.name,
            row.pods,
            row.verdict()
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
