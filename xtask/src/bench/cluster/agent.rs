//! One node: a namespace, the agent's files, and the agent in it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kernel::Netns;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Programs, sh};

/// The tunnel device.
pub(super) const DEVICE: &str = "podwire0";
/// The node file's name.
const NODES: &str = "nodes";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How nodes are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    External,
    Classic,
    Gpe,
    HostGw,
}

impl Form {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::External => "vxlan external",
            Self::Classic => "vxlan classic",
            Self::Gpe => "gpe",
            Self::HostGw => "host-gw",
        }
    }

    fn backend(self) -> &'static str {
        match self {
            Self::External | Self::Classic => "vxlan",
            Self::Gpe => "gpe",
            Self::HostGw => "host-gw",
        }
    }
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) netns: Netns,
    directory: PathBuf,
}

impl Node {
    /// A node called `name` in the node file, in a namespace `place` with an underlay: one end of a
    /// cable whose other end is the next node's, if there is one.
    pub(super) fn new(place: &str, name: &str, form: Form) -> Result<Self> {
        Self::asking(place, name, form, &json!({ "file": directory(place).join(NODES) }))
    }

    /// The same with another source of nodes.
    pub(super) fn asking(place: &str, name: &str, form: Form, source: &Value) -> Result<Self> {
        let netns = Netns::create(&Path::new(net::NAMED).join(place))?;
        sh(&format!("ip -n {place} link set lo up"))?;
        let directory = directory(place);
        fs::create_dir(&directory).context("make a place for a node")?;
        let node = Self { netns, directory };
        let tunnel_form = if form == Form::Classic { "classic" } else { "external" };
        let config = json!({
            "node": name, "source": source, "backend": form.backend(),
            "tunnel": { "device": DEVICE, "form": tunnel_form },
            "cni": { "directory": node.directory }, "state": node.directory,
            "run": node.directory, "listen": null,
        });
        fs::write(node.config(), config.to_string()).context("write a configuration")?;
        Ok(node)
    }

    /// Writes the node file, as a whole.
    pub(super) fn tell(&self, nodes: &str) -> Result<()> {
        let new = self.directory.join("nodes.new");
        fs::write(&new, nodes).context("write a node file")?;
        fs::rename(&new, self.directory.join(NODES)).context("put a node file in its place")
    }

    /// Reconciles once, and says how things are then.
    pub(super) fn once(&self, programs: &Programs) -> Result<Value> {
        let told = self.run(self.agent(programs).args(["--once", "-o", "json"]))?;
        serde_json::from_str(&told).context("read a status")
    }

    /// How many things are not as the agent would have them.
    pub(super) fn pending(&self, programs: &Programs) -> Result<usize> {
        let told = self.run(self.agent(programs).args(["--dry-run", "-o", "json"]))?;
        let plan: Value = serde_json::from_str(&told).context("read a plan")?;
        Ok(plan["steps"].as_array().map_or(0, Vec::len))
    }

    /// Runs a program in the node and returns what it prints.
    pub(super) fn run(&self, command: &mut Command) -> Result<String> {
        command.stdout(Stdio::piped());
        let output = self.netns.spawn(command)?.wait_with_output().context("wait for a program")?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{command:?}: {}: {told}", output.status);
        Ok(told)
    }

    /// Starts the agent; what it logs is kept.
    pub(super) fn start(&self, programs: &Programs) -> Result<Agent> {
        // It says by this file that pods may be made, and does not write what is there already.
        let ready = self.directory.join("ready");
        let _ = fs::remove_file(&ready);
        let log = File::create(self.directory.join("log")).context("make a log")?;
        let begin = Instant::now();
        let child = self.netns.spawn(self.agent(programs).stderr(log))?;
        Ok(Agent { child, begin, ready, socket: self.directory.join("agent.sock") })
    }

    fn agent(&self, programs: &Programs) -> Command {
        let mut command = Command::new(&programs.podwire);
        command.arg("agent").arg("--config").arg(self.config());
        command
    }

    fn config(&self) -> PathBuf {
        self.directory.join("agent.yaml")
    }
}

/// Where the files of the node in the namespace `place` are.
pub(super) fn directory(place: &str) -> PathBuf {
    Path::new("/run").join(format!("bench-{place}"))
}

/// An agent that runs, until this is dropped.
#[derive(Debug)]
pub(super) struct Agent {
    child: Child,
    begin: Instant,
    ready: PathBuf,
    socket: PathBuf,
}

impl Agent {
    /// Waits until pods may be made; how long that took from the start of the process.
    pub(super) fn ready(&self) -> Result<Duration> {
        until("the agent is ready", Duration::from_micros(200), || Ok(self.ready.exists()))?;
        Ok(self.begin.elapsed())
    }

    /// The time since the start of the process.
    pub(super) fn age(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Waits until it has taken the source's word and joined `peers` peers; how things are then.
    pub(super) fn joined(&self, peers: usize) -> Result<Value> {
        let mut status = Value::Null;
        until("all peers are joined", Duration::from_millis(2), || {
            status = self.status().unwrap_or_default();
            Ok(status["programmed"] == peers && status["source"] == "inSync")
        })?;
        ensure!(status["problems"] == json!([]), "the agent complains: {status:#}");
        Ok(status)
    }

    fn status(&self) -> Result<Value> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(b"GET /status HTTP/1.0\r\nHost: agent\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an answer has a body")?;
        Ok(serde_json::from_str(body)?)
    }

    /// The processor time that it has used, when it has come to rest.
    pub(super) fn cpu_at_rest(&self) -> Result<Duration> {
        let mut last = self.cpu()?;
        until("the agent rests", Duration::from_millis(60), || {
            let before = std::mem::replace(&mut last, self.cpu()?);
            Ok(before == last)
        })?;
        Ok(last)
    }

    /// The processor time of all its threads so far.
    fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for thread in fs::read_dir(self.proc("task")).context("find an agent's threads")? {
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            nanos += text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// The most memory that it has had, and what it has now, in bytes.
    pub(super) fn memory(&self) -> Result<[u64; 2]> {
        let text = fs::read_to_string(self.proc("status")).context("ask for an agent's memory")?;
        let of = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(
                line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok()?
                    * 1024,
            )
        };
        Ok([of("VmHWM"), of("VmRSS")].map(Option::unwrap_or_default))
    }

    /// Ends it as a service manager does.
    pub(super) fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process has a number")?, Signal::TERM)?;
        self.child.wait().context("wait for the agent")?;
        Ok(())
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so, looking every `pause`.
pub(super) fn until(
    what: &str,
    pause: Duration,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        if Instant::now() > deadline {
            bail!("waited too long until {what}");
        }
        std::thread::sleep(pause);
    }
    Ok(())
}
