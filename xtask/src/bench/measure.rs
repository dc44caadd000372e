//! What is measured in a round.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::contender::{Contender, Network, Pod, Verb, version};
use super::machine::{Machine, timed};

/// What a sample is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// The start of a process, in microseconds.
    Start,
    /// A call while nothing else happens, in microseconds.
    One { verb: Verb, masquerade: bool },
    /// A call while seven others are under way, in microseconds.
    Eight { verb: Verb, masquerade: bool },
    /// Calls a second while eight are under way.
    EightRate { verb: Verb, masquerade: bool },
    /// ADDs with their DELs a second, one after the other without a pause.
    Pairs { masquerade: bool },
    /// From the answer of the last of them until everything of them is gone, in microseconds.
    Quiet { masquerade: bool },
    /// The most memory in use at once, in bytes.
    Memory { verb: Verb, masquerade: bool },
}

/// How many of each in a round. Few, so that the turns are short.
const STARTS: usize = 6;
const ONES: usize = 3;
const AT_ONCE: usize = 8;
const EACH: usize = 2;
const PAIRS: usize = 5;
/// Between two turns, so that what the kernel puts off is not put on the next one's account.
const REST: Duration = Duration::from_millis(5);

/// All samples of a run.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    samples: BTreeMap<(What, Contender), Vec<f64>>,
    failures: BTreeMap<Contender, Vec<String>>,
}

impl Measures {
    /// One round: every contender has its turn at everything that is wanted.
    pub(crate) fn round(
        &mut self,
        machine: &Machine,
        turns: &[Contender],
        wants: impl Fn(&str) -> bool,
    ) -> Result<()> {
        if wants("start") {
            for contender in turns.iter().copied().cycle().take(STARTS * turns.len()) {
                let (_, took) = timed(&mut version(machine.programs(), contender))?;
                self.note(What::Start, contender, micros(took));
            }
        }
        type Part = fn(&mut Measures, &Machine, Network) -> Result<Vec<Pod>>;
        let parts: [(&str, Part); 4] = [
            ("one", Self::one),
            ("eight", Self::eight),
            ("sustained", Self::sustained),
            ("memory", Self::memory),
        ];
        let mut pods = Vec::new();
        for (_, part) in parts.iter().filter(|(name, _)| wants(name)) {
            for masquerade in [false, true] {
                for contender in turns.iter().copied() {
                    std::thread::sleep(REST);
                    let network = Network { contender, masquerade };
                    let links = machine.links()?;
                    pods.extend(part(self, machine, network)?);
                    ensure!(machine.links()? == links, "{} left devices", contender.name());
                }
            }
        }
        let namespaces: Vec<_> = pods.into_iter().map(|pod| pod.netns).collect();
        machine.remove(&namespaces)
    }

    /// The samples of one kind.
    pub(crate) fn of(&self, what: What, contender: Contender) -> &[f64] {
        self.samples.get(&(what, contender)).map_or(&[], Vec::as_slice)
    }

    /// Calls that failed.
    pub(crate) fn failures_of(&self, contender: Contender) -> &[String] {
        self.failures.get(&contender).map_or(&[], Vec::as_slice)
    }

    /// One call at a time; what the last one left to the kernel has ended before the next begins.
    fn one(&mut self, machine: &Machine, network: Network) -> Result<Vec<Pod>> {
        let Network { contender, masquerade } = network;
        let pods = pods(machine, network, ONES)?;
        for verb in [Verb::Add, Verb::Del] {
            for pod in &pods {
                let took = self.call(machine, pod, verb);
                machine.settle()?;
                if let Some(took) = took {
                    self.note(What::One { verb, masquerade }, contender, micros(took));
                }
            }
        }
        Ok(pods)
    }

    /// Eight calls at a time, each followed by another without a pause.
    fn eight(&mut self, machine: &Machine, network: Network) -> Result<Vec<Pod>> {
        let Network { contender, masquerade } = network;
        let pods = pods(machine, network, AT_ONCE * EACH)?;
        for verb in [Verb::Add, Verb::Del] {
            let begin = Instant::now();
            let programs = machine.programs();
            let answers: Vec<_> = std::thread::scope(|scope| {
                let work = |some: &'_ [Pod]| -> Vec<_> {
                    let call = |pod: &Pod| timed(&mut pod.command(programs, verb)?);
                    some.iter().map(call).collect()
                };
                let threads: Vec<_> =
                    pods.chunks(EACH).map(|some| scope.spawn(move || work(some))).collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
            });
            let rate = pods.len() as f64 / begin.elapsed().as_secs_f64();
            self.note(What::EightRate { verb, masquerade }, contender, rate);
            machine.settle()?;
            for (pod, answer) in pods.iter().zip(answers) {
                if let Some(took) = self.judge(pod, verb, answer) {
                    self.note(What::Eight { verb, masquerade }, contender, micros(took));
                }
            }
        }
        Ok(pods)
    }

    /// Pods come and go without a pause; then the time until all is quiet.
    fn sustained(&mut self, machine: &Machine, network: Network) -> Result<Vec<Pod>> {
        let Network { contender, masquerade } = network;
        let links = machine.links()?;
        let pods = pods(machine, network, PAIRS)?;
        let begin = Instant::now();
        for pod in &pods {
            for verb in [Verb::Add, Verb::Del] {
                self.call(machine, pod, verb);
            }
        }
        let end = Instant::now();
        machine.settle()?;
        while machine.links()? != links && end.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_micros(100));
        }
        self.note(What::Quiet { masquerade }, contender, micros(end.elapsed()));
        let rate = pods.len() as f64 / end.duration_since(begin).as_secs_f64();
        self.note(What::Pairs { masquerade }, contender, rate);
        Ok(pods)
    }

    /// The peaks of memory of an ADD and of a DEL of the same pod.
    fn memory(&mut self, machine: &Machine, network: Network) -> Result<Vec<Pod>> {
        let pod = machine.pod(network)?;
        self.peak(machine, &pod, Verb::Add)?;
        machine.call(&pod, Verb::Del)?;
        let (result, _) = machine.call(&pod, Verb::Add)?;
        pod.remember(&result)?;
        self.peak(machine, &pod, Verb::Del)?;
        Ok(vec![pod])
    }

    /// Calls a plugin through the small program that tells its peak of memory.
    fn peak(&mut self, machine: &Machine, pod: &Pod, verb: Verb) -> Result<()> {
        let Network { contender, masquerade } = pod.network;
        let plain = pod.command(machine.programs(), verb)?;
        let mut peak = Command::new(&machine.programs().peak);
        peak.arg(plain.get_program()).args(plain.get_args()).stdin(pod.input()?);
        peak.env_clear().envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let (told, _) = timed(&mut peak)?;
        let bytes: u64 = std::str::from_utf8(&told)?.trim().parse().context("read a peak")?;
        self.note(What::Memory { verb, masquerade }, contender, bytes as f64);
        machine.settle()
    }

    fn call(&mut self, machine: &Machine, pod: &Pod, verb: Verb) -> Option<Duration> {
        self.judge(pod, verb, machine.call(pod, verb))
    }

    /// Notes what a call answered.
    fn judge(
        &mut self,
        pod: &Pod,
        verb: Verb,
        answer: Result<(Vec<u8>, Duration)>,
    ) -> Option<Duration> {
        let judged = answer.and_then(|(told, took)| {
            if verb == Verb::Add {
                pod.remember(&told)?;
            }
            Ok(took)
        });
        let fail = |error| {
            let text = format!("{verb:?}: {error:#}");
            self.failures.entry(pod.network.contender).or_default().push(text);
        };
        judged.map_err(fail).ok()
    }

    fn note(&mut self, what: What, contender: Contender, sample: f64) {
        self.samples.entry((what, contender)).or_default().push(sample);
    }
}

fn pods(machine: &Machine, network: Network, count: usize) -> Result<Vec<Pod>> {
    (0..count).map(|_| machine.pod(network)).collect()
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
