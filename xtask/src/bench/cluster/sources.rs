//! The agent with nodes from Kubernetes' API and from etcd, from the start of its process to the last
//! object in the kernel, beside the bare program that sends the same objects.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::agent::{Form, Node, directory};
use super::scale::{COUNTS, ONES, connect, floor, joined_after, leave, line, millis, name};
use super::seed::{API, ETCD, Seed};
use super::{Programs, sh};
use crate::bench::report::{percentile, verdict};

/// Where the node that is measured lives.
const PLACE: &str = "source";

/// At five thousand peers: how long it may take from the start to the last object, in milliseconds, and
/// how much memory the agent may have.
const GOALS: (f64, f64) = (1_000.0, 40e6);

/// Where nodes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// Metadata of all nodes, from Kubernetes.
    Kubernetes,
    /// All nodes as a whole, from Kubernetes, as flannel needs them.
    Flannel,
    /// Leases of flannel's.
    Etcd,
}

impl Source {
    pub(super) const ALL: [Self; 3] = [Self::Kubernetes, Self::Flannel, Self::Etcd];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Flannel => "flannel",
            Self::Etcd => "etcd",
        }
    }

    fn config(self) -> Value {
        let kubeconfig = directory(PLACE).join("kubeconfig");
        match self {
            Self::Kubernetes => json!({ "kubernetes": { "kubeconfig": kubeconfig } }),
            Self::Flannel => {
                json!({ "kubernetes": { "kubeconfig": kubeconfig, "flannel": true } })
            }
            Self::Etcd => json!({ "etcd": { "endpoints": [format!("http://{ETCD}")] } }),
        }
    }

    /// A cluster of `count` nodes, of which this one is the first.
    fn seed(self, programs: &Programs, node: &Node, count: u16) -> Result<Seed> {
        if self == Self::Etcd {
            return Seed::etcd(PLACE, &node.netns, count);
        }
        let kubeconfig = testbed::kubernetes::kubeconfig(API.parse()?);
        std::fs::write(directory(PLACE).join("kubeconfig"), kubeconfig)
            .context("write a kubeconfig")?;
        Seed::kubernetes(programs, &node.netns, count)
    }
}

/// What a sample is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// From the start of a process that finds nothing until the last peer's route is there, in
    /// milliseconds; the same objects by the floor; and the processor time until it rests.
    Start,
    Floor,
    StartCpu,
    /// From one node more at the source until its route is there, and the processor time for it.
    One,
    OneCpu,
    /// From the start of a process that finds everything in place until it has heard the source, and
    /// the processor time until it rests.
    Again,
    AgainCpu,
    /// The most memory, in bytes, of both, and what the latter has when it rests.
    PeakStart,
    PeakAgain,
    Rest,
}

const ROWS: [(What, &str, f64); 10] = [
    (What::Start, "start to last object, agent [ms]", 1.0),
    (What::Floor, "the same objects, floor [ms]", 1.0),
    (What::StartCpu, "  processor time of the agent [ms]", 1.0),
    (What::One, "one node more [ms]", 1.0),
    (What::OneCpu, "  processor time [ms]", 1.0),
    (What::Again, "start, all in place: source heard [ms]", 1.0),
    (What::AgainCpu, "  processor time [ms]", 1.0),
    (What::PeakStart, "peak memory, peers joined [MB]", 1e6),
    (What::PeakAgain, "peak memory, all in place [MB]", 1e6),
    (What::Rest, "memory at rest [MB]", 1e6),
];

type Samples = BTreeMap<(Source, u16, What), Vec<f64>>;

pub(super) fn run(
    programs: &Programs,
    sources: &[Source],
    quick: bool,
) -> Result<(String, Vec<Value>)> {
    let rounds = if quick { 1 } else { 5 };
    let mut samples = Samples::new();
    for round in 0..rounds {
        eprint!("\rsources, round {} of {rounds} ", round + 1);
        for count in COUNTS {
            for source in sources {
                visit(programs, *source, count, &mut samples)
                    .with_context(|| format!("{} with {count} peers", source.name()))?;
            }
        }
    }
    eprintln!();
    Ok((text(&samples, sources, rounds), json(&samples)))
}

/// All that is measured of one source with one number of peers.
fn visit(programs: &Programs, source: Source, count: u16, samples: &mut Samples) -> Result<()> {
    let mut note = |what, value: f64| samples.entry((source, count, what)).or_default().push(value);
    note(What::Floor, floor(programs, Form::External, count, false)?.time);

    let node = Node::asking(PLACE, &name(1), Form::External, &source.config())?;
    connect(PLACE)?;
    // etcd does not say by which device this node is reached; a default route does.
    sh(&format!("ip -n {PLACE} route add default via 172.16.255.254 dev u0"))?;
    let mut seed = source.seed(programs, &node, count + 1)?;
    let (took, agent) = joined_after(&node, count + 1, || node.start(programs))?;
    note(What::Start, millis(took));
    agent.joined(usize::from(count))?;
    note(What::StartCpu, millis(agent.cpu_at_rest()?));
    note(What::PeakStart, agent.memory()?[0] as f64);
    for more in 1..=ONES {
        let (number, before) = (count + 1 + more, agent.cpu_at_rest()?);
        note(What::One, millis(joined_after(&node, number, || seed.add(number))?.0));
        note(What::OneCpu, millis(agent.cpu_at_rest()? - before));
    }
    agent.joined(usize::from(count + ONES))?;
    agent.stop()?;

    let agent = node.start(programs)?;
    agent.joined(usize::from(count + ONES))?;
    note(What::Again, millis(agent.age()));
    note(What::AgainCpu, millis(agent.cpu_at_rest()?));
    let [peak, now] = agent.memory()?;
    note(What::PeakAgain, peak as f64);
    note(What::Rest, now as f64);
    agent.stop()?;
    drop(seed);
    leave(PLACE)
}

fn median(samples: &Samples, source: Source, count: u16, what: What) -> Option<f64> {
    percentile(samples.get(&(source, count, what))?, 50)
}

fn text(samples: &Samples, sources: &[Source], rounds: usize) -> String {
    let mut text = format!("\nthe agent's sources, vxlan external, medians of {rounds} rounds\n");
    let most = COUNTS[COUNTS.len() - 1];
    for source in sources {
        let counts = COUNTS.map(|count| count.to_string());
        text += &format!("\n{}  goals\n", line(source.name(), &counts));
        for (what, name, unit) in ROWS {
            let values = COUNTS.map(|count| median(samples, *source, count, what));
            let value =
                |it: Option<f64>| it.map_or("-".to_owned(), |it| format!("{:.1}", it / unit));
            let goal = median(samples, *source, most, what).and_then(|value| goal(what, value));
            text += &format!("{}  {}\n", line(name, &values.map(value)), goal.unwrap_or_default());
        }
    }
    text
}

fn goal(what: What, value: f64) -> Option<String> {
    let (start, memory) = GOALS;
    match what {
        What::Start => Some(verdict(value <= start, &format!("<= {start} ms"))),
        What::PeakStart | What::PeakAgain => {
            Some(verdict(value <= memory, &format!("<= {} MB", memory / 1e6)))
        }
        _ => None,
    }
}

/// The same for programs.
fn json(samples: &Samples) -> Vec<Value> {
    let row = |((source, count, what), values): (&(Source, u16, What), &Vec<f64>)| {
        json!({
            "source": source.name(), "peers": count, "what": format!("{what:?}"),
            "p50": percentile(values, 50), "samples": values,
        })
    };
    samples.iter().map(row).collect()
}
