//! The agent with a hundred, a thousand and five thousand peers, beside the bare program that sends
//! the same objects.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kernel::{Kernel, Netns};
use net::Space;
use serde_json::{Value, json};

use super::agent::{Agent, DEVICE, Form, Node, until};
use super::{Programs, sh};
use crate::bench::report::{percentile, verdict};

pub(super) const COUNTS: [u16; 3] = [100, 1_000, 5_000];
const FORMS: [Form; 3] = [Form::External, Form::Classic, Form::Gpe];
/// How many nodes come one by one, each time.
pub(super) const ONES: u16 = 5;

/// At five thousand peers: how many times as long as the floor the agent may take, how long its start
/// with everything in place, how much memory it may have, and which part of a processor it may use
/// while nothing happens.
const GOALS: (f64, f64, f64, f64) = (1.5, 300.0, 40e6, 0.005);

/// What a sample is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// From the node file's rename until the last peer's route is there, in milliseconds.
    Join,
    /// The same by the floor, and the processor time for it.
    Floor,
    FloorCpu,
    /// The processor time for that, in milliseconds, until the agent has heard of all that it did.
    JoinCpu,
    /// From the rename with one node more until its route is there, and the processor time for it.
    One,
    OneCpu,
    /// The same where the file is not JSON, as programs write it, but YAML, as people do.
    OneByHand,
    /// From the start of a process that finds everything in place until pods may be made, until it has
    /// taken the source's word as well, and the processor time for both.
    Ready,
    InSync,
    StartCpu,
    /// The most memory, in bytes: of one that made everything, and of one that found it in place; and
    /// what the latter has when it has come to rest.
    PeakJoin,
    PeakStart,
    Rest,
    /// The part of a processor that is used while nothing happens.
    Idle,
}

const ROWS: [(What, &str, f64); 14] = [
    (What::Join, "event to last object, agent [ms]", 1.0),
    (What::JoinCpu, "  processor time [ms]", 1.0),
    (What::Floor, "the same objects, floor [ms]", 1.0),
    (What::FloorCpu, "  processor time [ms]", 1.0),
    (What::One, "one node more [ms]", 1.0),
    (What::OneCpu, "  processor time [ms]", 1.0),
    (What::OneByHand, "  told in YAML [ms]", 1.0),
    (What::Ready, "start, everything in place: ready [ms]", 1.0),
    (What::InSync, "  source heard [ms]", 1.0),
    (What::StartCpu, "  processor time [ms]", 1.0),
    (What::PeakJoin, "peak memory, peers joined [MB]", 1e6),
    (What::PeakStart, "peak memory, all in place [MB]", 1e6),
    (What::Rest, "memory at rest [MB]", 1e6),
    (What::Idle, "processor while nothing happens [%]", 0.01),
];

type Samples = BTreeMap<(Form, u16, What), Vec<f64>>;

pub(super) fn run(programs: &Programs, quick: bool) -> Result<(String, Value)> {
    let rounds = if quick { 1 } else { 5 };
    let mut samples = Samples::new();
    for round in 0..rounds {
        eprint!("\rround {} of {rounds} ", round + 1);
        for count in COUNTS {
            for form in FORMS {
                visit(programs, form, count, round == 0, &mut samples)
                    .with_context(|| format!("{} with {count} peers", form.name()))?;
            }
        }
    }
    idle(programs, if quick { 35 } else { 125 }, &mut samples)?;
    eprintln!();
    Ok((text(&samples, rounds), json(&samples)))
}

/// All that is measured of one form with one number of peers.
fn visit(
    programs: &Programs,
    form: Form,
    count: u16,
    is_first: bool,
    samples: &mut Samples,
) -> Result<()> {
    let mut note = |what, value: f64| samples.entry((form, count, what)).or_default().push(value);
    let peers = usize::from(count);

    let Floor { time, processor } = floor(programs, form, count, is_first)?;
    note(What::Floor, time);
    note(What::FloorCpu, processor);
    let node = node("agent", form)?;
    node.tell(&nodes(1))?;
    let agent = node.start(programs)?;
    agent.joined(0)?;
    let before = agent.cpu_at_rest()?;
    note(What::Join, millis(tell(&node, count + 1)?));
    agent.joined(peers)?;
    note(What::JoinCpu, millis(agent.cpu_at_rest()? - before));
    note(What::PeakJoin, agent.memory()?[0] as f64);
    for more in 1..=ONES {
        let before = agent.cpu_at_rest()?;
        note(What::One, millis(tell(&node, count + 1 + more)?));
        note(What::OneCpu, millis(agent.cpu_at_rest()? - before));
    }
    agent.joined(peers + usize::from(ONES))?;
    let last = count + 1 + ONES + 1;
    let by_hand = || node.tell(&by_hand(last));
    note(What::OneByHand, millis(joined_after(&node, last, by_hand)?.0));
    let all = peers + usize::from(ONES) + 1;
    agent.joined(all)?;
    agent.stop()?;

    let agent = node.start(programs)?;
    note(What::Ready, millis(agent.ready()?));
    let status = agent.joined(all)?;
    note(What::InSync, millis(agent.age()));
    ensure!(status["changes"] == json!({}), "it changed what was in place: {}", status["changes"]);
    note(What::StartCpu, millis(agent.cpu_at_rest()?));
    let [peak, now] = agent.memory()?;
    note(What::PeakStart, peak as f64);
    note(What::Rest, now as f64);
    agent.stop()?;
    leave("agent")
}

/// What the bare program took, in milliseconds.
pub(super) struct Floor {
    pub(super) time: f64,
    pub(super) processor: f64,
}

/// How long the floor takes, in milliseconds.
pub(super) fn floor(programs: &Programs, form: Form, count: u16, is_first: bool) -> Result<Floor> {
    // It begins where the agent does: at a node that is alone.
    let bare = node("floor", form)?;
    bare.tell(&nodes(1))?;
    bare.once(programs)?;
    let word = match form {
        Form::Classic => "classic",
        Form::Gpe => "gpe",
        Form::External | Form::HostGw => "external",
    };
    let mut floor = Command::new(&programs.floor);
    let told = bare.run(floor.args(["peers", word, &count.to_string()]))?;
    if is_first {
        bare.tell(&nodes(count + 1))?;
        let pending = bare.pending(programs)?;
        ensure!(pending == 0, "the floor left {pending} things to be done");
    }
    leave("floor")?;
    let mut micros = told.split_whitespace().map(str::parse::<f64>);
    let mut millis =
        || -> Result<f64> { Ok(micros.next().context("the floor tells its times")?? / 1e3) };
    Ok(Floor { time: millis()?, processor: millis()? })
}

/// What an agent of each form uses while nothing happens: all of them at the same time.
fn idle(programs: &Programs, seconds: u64, samples: &mut Samples) -> Result<()> {
    let count = COUNTS[COUNTS.len() - 1];
    let mut agents: Vec<(Form, Node, Agent)> = Vec::new();
    for (form, place) in FORMS.into_iter().zip(["idle1", "idle2", "idle3"]) {
        let node = node(place, form)?;
        node.tell(&nodes(count + 1))?;
        let agent = node.start(programs)?;
        agent.joined(usize::from(count))?;
        agents.push((form, node, agent));
    }
    let cpu = |agents: &[(Form, Node, Agent)]| -> Result<Vec<Duration>> {
        agents.iter().map(|(_, _, agent)| agent.cpu_at_rest()).collect()
    };
    let (begin, before) = (Instant::now(), cpu(&agents)?);
    eprint!("\rlooking on for {seconds} s ");
    std::thread::sleep(Duration::from_secs(seconds));
    let (took, after) = (begin.elapsed(), cpu(&agents)?);
    for (((form, _, agent), before), after) in agents.into_iter().zip(before).zip(after) {
        let part = (after - before).as_secs_f64() / took.as_secs_f64();
        samples.entry((form, count, What::Idle)).or_default().push(part);
        agent.stop()?;
    }
    Ok(())
}

/// The node 1 with a device to the underlay, whose other end answers nobody.
fn node(place: &str, form: Form) -> Result<Node> {
    let node = Node::new(place, &name(1), form)?;
    connect(place)?;
    Ok(node)
}

/// Gives a node a device to the underlay.
pub(super) fn connect(place: &str) -> Result<()> {
    sh(&format!(
        "ip -n {place} link add u0 type veth peer u1; ip -n {place} link set u1 up
         ip -n {place} addr add {}/16 dev u0; ip -n {place} link set u0 up",
        address(1)
    ))?;
    Ok(())
}

/// Removes a node, and gives the kernel time to take apart what was there.
pub(super) fn leave(place: &str) -> Result<()> {
    Netns::remove(&Path::new(net::NAMED).join(place))?;
    sh(&format!("rm -r /run/bench-{place}"))?;
    std::thread::sleep(Duration::from_millis(300));
    Ok(())
}

/// Has the node file say that there are `count` nodes, and waits for the last one's route.
fn tell(node: &Node, count: u16) -> Result<Duration> {
    let text = nodes(count);
    Ok(joined_after(node, count, || node.tell(&text))?.0)
}

/// How long it is from an event until the route of the last of `count` nodes is there, and what came
/// of the event.
pub(super) fn joined_after<T>(
    node: &Node,
    count: u16,
    event: impl FnOnce() -> Result<T>,
) -> Result<(Duration, T)> {
    let mut kernel = Kernel::new()?;
    let space = Space::At(node.netns.path().to_owned());
    let last = IpAddr::V4(subnet(count));
    kernel.open(&space)?;
    let begin = Instant::now();
    let came = event()?;
    until("the last peer is joined", Duration::from_micros(250), || {
        let way = kernel.way_to(&space, last)?;
        Ok(way.is_some_and(|device| device.as_str() == DEVICE))
    })?;
    Ok((begin.elapsed(), came))
}

/// The node file of a cluster of `count` nodes, of which this one is the first, as programs write it.
fn nodes(count: u16) -> String {
    let node = |number| {
        json!({
            "name": name(number),
            "addresses": [address(number)],
            "podSubnets": [format!("{}/24", subnet(number))],
        })
    };
    json!({ "nodes": (1..=count).map(node).collect::<Vec<_>>() }).to_string()
}

/// The same as people write it.
fn by_hand(count: u16) -> String {
    let mut text = "nodes:\n".to_owned();
    for number in 1..=count {
        let (name, address, subnet) = (name(number), address(number), subnet(number));
        let _ =
            writeln!(text, "- name: {name}\n  addresses: [{address}]\n  podSubnets: [{subnet}/24]");
    }
    text
}

// As the floor has them, too.

pub(super) fn name(number: u16) -> String {
    format!("n{number:05}")
}

pub(super) fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(172, 16, high, low)
}

pub(super) fn subnet(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, high, low, 0)
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(samples: &Samples, form: Form, count: u16, what: What) -> Option<f64> {
    percentile(samples.get(&(form, count, what))?, 50)
}

fn text(samples: &Samples, rounds: usize) -> String {
    let mut text = format!("the agent, medians of {rounds} rounds\n");
    for form in FORMS {
        let counts = COUNTS.map(|count| count.to_string());
        text += &format!("\n{}  goals\n", line(form.name(), &counts));
        for (what, name, unit) in ROWS {
            let values = COUNTS.map(|count| median(samples, form, count, what).map(|it| it / unit));
            let digits = if values.iter().flatten().all(|it| *it < 10.0) { 2 } else { 1 };
            let value = |it: Option<f64>| it.map_or("-".to_owned(), |it| format!("{it:.digits$}"));
            let goal = goal(samples, form, what).unwrap_or_default();
            text += &format!("{}  {goal}\n", line(name, &values.map(value)));
        }
        let ratios = |a, b| COUNTS.map(|count| ratio(samples, form, count, a, b));
        let cells = |ratios: [f64; 3]| ratios.map(|it| format!("{it:.2}"));
        let times = ratios(What::Join, What::Floor);
        let goal = verdict(times[COUNTS.len() - 1] <= GOALS.0, &format!("<= {}", GOALS.0));
        text += &format!("{}  {goal}\n", line("agent / floor", &cells(times)));
        // Where others use the machine as well, this says more.
        let times = ratios(What::JoinCpu, What::FloorCpu);
        text += &format!("{}\n", line("  processor time", &cells(times)));
    }
    text
}

pub(super) fn line(name: &str, cells: &[String]) -> String {
    let cells = cells.iter().map(|cell| format!(" {cell:>9}"));
    format!("{name:<40}{}", cells.collect::<String>())
}

fn ratio(samples: &Samples, form: Form, count: u16, a: What, b: What) -> f64 {
    let of = |what| median(samples, form, count, what).unwrap_or(f64::NAN);
    of(a) / of(b)
}

fn goal(samples: &Samples, form: Form, what: What) -> Option<String> {
    let value = median(samples, form, COUNTS[COUNTS.len() - 1], what)?;
    let (_, start, memory, idle) = GOALS;
    match what {
        What::InSync => Some(verdict(value <= start, &format!("<= {start} ms"))),
        What::PeakJoin | What::PeakStart => {
            Some(verdict(value <= memory, &format!("<= {} MB", memory / 1e6)))
        }
        What::Idle => Some(verdict(value <= idle, &format!("<= {} %", idle * 100.0))),
        _ => None,
    }
}

/// The same for programs.
fn json(samples: &Samples) -> Value {
    let row = |((form, count, what), values): (&(Form, u16, What), &Vec<f64>)| {
        json!({
            "form": form.name(), "peers": count, "what": format!("{what:?}"),
            "p50": percentile(values, 50), "samples": values,
        })
    };
    samples.iter().map(row).collect()
}
