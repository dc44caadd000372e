//! A pod with a host port: `bridge` and `portmap` one after the other, on a node without ports and
//! on one that has many.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kernel::Netns;
use serde_json::{Value, json};

use super::contender::{Contender, Verb, called};
use super::machine::Machine;
use super::report::{percentile, verdict};

/// How many ports there are before the one that is measured.
const CROWDS: [usize; 2] = [0, 199];
/// How many pods are measured in a round on each node.
const PODS: usize = 2;
/// Those that take part: nobody knows a floor of what two plugins do.
const CONTENDERS: [Contender; 2] = [Contender::Podwire, Contender::Go];

/// How many times as fast as the reference both plugins together shall be.
const GOAL: f64 = 10.0;
/// How much more than the first port the 200th may cost.
const GROWTH: f64 = 1.3;

/// The samples, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    nodes: Vec<Node>,
    samples: BTreeMap<(Verb, Plugin, usize, Contender), Vec<f64>>,
    next: usize,
}

/// Which of the two is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Plugin {
    Bridge,
    Portmap,
}

/// A namespace with a bridge, and as many ports as are there before.
#[derive(Debug)]
struct Node {
    contender: Contender,
    crowd: usize,
    netns: Netns,
}

impl Ports {
    /// One round: on each node some pods come and go.
    pub(crate) fn round(&mut self, machine: &Machine) -> Result<()> {
        if self.nodes.is_empty() {
            self.prepare(machine)?;
        }
        let mut pods = Vec::new();
        for place in 0..self.nodes.len() {
            for turn in 0..=PODS {
                let pod = self.pod()?;
                let node = &self.nodes[place];
                let visit = node.visit(machine, &pod)?;
                pods.push(pod.netns);
                // What one deletes of nftables the kernel reclaims in its own time, and the next
                // change waits for that, in whatever namespace: the first pod pays for another's.
                for (verb, plugin, took) in visit.into_iter().filter(|_| turn > 0) {
                    let key = (verb, plugin, node.crowd, node.contender);
                    self.samples.entry(key).or_default().push(took.as_secs_f64() * 1e6);
                }
            }
        }
        // The kernel takes namespaces apart by itself, and would hold up whoever comes next.
        machine.remove(&pods)
    }

    /// Makes the nodes; on each a pod stays, which has the ports that are there before.
    fn prepare(&mut self, machine: &Machine) -> Result<()> {
        for contender in CONTENDERS {
            for crowd in CROWDS {
                let path = Path::new(net::NAMED).join(format!("{}{crowd}", contender.name()));
                let node = Node { contender, crowd, netns: Netns::create(&path)? };
                let pod = self.pod()?;
                let (result, _) = node.call(machine, &pod, Verb::Add, &bridge(&node, None))?;
                let ports = portmap(&result, 10_000..10_000 + crowd);
                node.call(machine, &pod, Verb::Add, &ports)?;
                self.nodes.push(node);
            }
        }
        Ok(())
    }

    fn pod(&mut self) -> Result<Pod> {
        self.next += 1;
        let netns = Path::new(net::NAMED).join(format!("ports{}", self.next));
        Netns::create(&netns)?;
        Ok(Pod { id: format!("{:064x}", self.next), netns })
    }

    fn of(&self, verb: Verb, crowd: usize, contender: Contender) -> Vec<f64> {
        let of = |plugin| self.samples.get(&(verb, plugin, crowd, contender));
        let both = of(Plugin::Bridge).zip(of(Plugin::Portmap));
        let sums = both.map(|(one, two)| one.iter().zip(two).map(|(one, two)| one + two));
        sums.map(Iterator::collect).unwrap_or_default()
    }

    fn median(
        &self,
        verb: Verb,
        plugin: Plugin,
        crowd: usize,
        contender: Contender,
    ) -> Option<f64> {
        percentile(self.samples.get(&(verb, plugin, crowd, contender))?, 50)
    }

    /// The table; nothing where nothing was measured.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, ratio, goal, medians) in self.rows() {
            let medians = medians.map(|median| format!("{:.2}", median / 1e3)).join("   ");
            text += &format!("{name:<50} {medians:>18}  {ratio:>6.2}  {goal}\n");
        }
        if text.is_empty() {
            return text;
        }
        format!(
            "{:<50} {:>18}  {:>6}  goals\n{text}",
            "a pod with a host port [ms], medians", "the two", "ratio"
        )
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        let row = |(name, ratio, goal, medians): (String, f64, String, [f64; 2])| json!({ "name": name, "ratio": ratio, "goal": goal, "p50": medians });
        self.rows().into_iter().map(row).collect()
    }

    /// What is compared with what: name, ratio, goal, and the medians of the two.
    fn rows(&self) -> Vec<(String, f64, String, [f64; 2])> {
        let mut rows = Vec::new();
        for (verb, name) in [(Verb::Add, "ADD"), (Verb::Del, "DEL")] {
            for crowd in CROWDS {
                let [podwire, go] = CONTENDERS.map(|it| percentile(&self.of(verb, crowd, it), 50));
                if let (Some(podwire), Some(go)) = (podwire, go) {
                    let name =
                        format!("{name} bridge + portmap, {crowd} ports before: podwire, go");
                    let goal = verdict(go / podwire >= GOAL, &format!("{GOAL}x go"));
                    rows.push((name, go / podwire, goal, [podwire, go]));
                }
            }
            for contender in CONTENDERS {
                let [few, many] =
                    CROWDS.map(|crowd| self.median(verb, Plugin::Portmap, crowd, contender));
                if let (Some(few), Some(many)) = (few, many) {
                    let who = contender.name();
                    let name = format!("{name} portmap, {who}: first port, 200th port");
                    let goal = if contender == Contender::Podwire {
                        verdict(many / few <= GROWTH, &format!("<= {GROWTH}"))
                    } else {
                        String::new()
                    };
                    rows.push((name, many / few, goal, [few, many]));
                }
            }
        }
        rows
    }
}

#[derive(Debug)]
struct Pod {
    id: String,
    netns: PathBuf,
}

impl Node {
    /// A pod comes, gets a port, loses it and goes.
    fn visit(&self, machine: &Machine, pod: &Pod) -> Result<Vec<(Verb, Plugin, Duration)>> {
        let (result, bridge_add) = self.call(machine, pod, Verb::Add, &bridge(self, None))?;
        let ports = portmap(&result, 20_000..20_001);
        let (_, portmap_add) = self.call(machine, pod, Verb::Add, &ports)?;
        machine.settle()?;
        let (_, portmap_del) = self.call(machine, pod, Verb::Del, &ports)?;
        let (_, bridge_del) = self.call(machine, pod, Verb::Del, &bridge(self, Some(&result)))?;
        machine.settle()?;
        Ok(vec![
            (Verb::Add, Plugin::Bridge, bridge_add),
            (Verb::Add, Plugin::Portmap, portmap_add),
            (Verb::Del, Plugin::Portmap, portmap_del),
            (Verb::Del, Plugin::Bridge, bridge_del),
        ])
    }

    /// Calls a plugin on this node.
    fn call(
        &self,
        machine: &Machine,
        pod: &Pod,
        verb: Verb,
        config: &Value,
    ) -> Result<(Value, Duration)> {
        let file = machine.place().join("ports.json");
        fs::write(&file, config.to_string()).context("write a configuration")?;
        let plugin = config["type"].as_str().unwrap_or_default();
        let mut command: Command = called(machine.programs(), self.contender, plugin);
        command
            .env("CNI_COMMAND", if verb == Verb::Add { "ADD" } else { "DEL" })
            .env("CNI_CONTAINERID", &pod.id)
            .env("CNI_NETNS", &pod.netns)
            .env("CNI_IFNAME", "eth0")
            .stdin(File::open(&file).context("read a configuration")?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let begin = Instant::now();
        let output =
            self.netns.spawn(&mut command)?.wait_with_output().context("wait for a plugin")?;
        let took = begin.elapsed();
        let told = String::from_utf8_lossy(&output.stdout);
        let who = self.contender.name();
        ensure!(output.status.success(), "{plugin} of {who}: {told}");
        Ok((serde_json::from_str(&told).unwrap_or_default(), took))
    }
}

fn bridge(node: &Node, result: Option<&Value>) -> Value {
    let data = format!("/run/bench/ports/{}{}", node.contender.name(), node.crowd);
    let config = json!({
        "cniVersion": "1.0.0", "name": "ports", "type": "bridge", "bridge": "ports",
        "isGateway": true, "ipMasq": true,
        "ipam": {
            "type": "host-local", "dataDir": data, "routes": [{ "dst": "0.0.0.0/0" }],
            "ranges": [[{ "subnet": "10.91.0.0/16" }]],
        },
    });
    with(result, config)
}

fn portmap(result: &Value, host_ports: Range<usize>) -> Value {
    let mapping = |port| json!({ "hostPort": port, "containerPort": 80, "protocol": "tcp" });
    let mappings: Vec<Value> = host_ports.map(mapping).collect();
    let config = json!({
        "cniVersion": "1.0.0", "name": "ports", "type": "portmap",
        "runtimeConfig": { "portMappings": mappings },
    });
    with(Some(result), config)
}

fn with(result: Option<&Value>, mut config: Value) -> Value {
    if let Some(result) = result {
        config["prevResult"] = result.clone();
    }
    config
}
