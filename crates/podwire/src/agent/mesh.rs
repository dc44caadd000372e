//! The probes of the mesh, sent and answered, on a thread of its own.
//!
//! It sends a bounded number of packets a round to agents that answer at an agreed port, and tells
//! what it learned; it changes nothing.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use fabric::mesh::{Round, Target, Way};
use fabric::{Config, Family, NodeName};
use kernel::Netns;
use probe::{Limits, Place, Question, Responder, Shape};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::run::Input;

const LIMITS: Limits = Limits {
    at_once: 16,
    patience: Duration::from_millis(800),
    again: Duration::from_millis(300),
    audience: 1,
};
/// A packet that fits everywhere.
const SMALL: u32 = 200;

/// Probes for ever.
pub(super) fn run(config: &Config, inbox: Sender<Input>) {
    let Some(probes) = config.probes.clone().filter(|it| it.seconds > 0) else { return };
    let tunnel = (config.tunnel.port, config.tunnel.vni);
    let every = Duration::from_secs(probes.seconds);
    std::thread::spawn(move || {
        let mut ways: HashMap<(NodeName, Family), Way> = HashMap::new();
        let mut responders: HashMap<IpAddr, Responder> = HashMap::new();
        let mut seed = u64::from_ne_bytes(kernel::random());
        loop {
            let (tell, hear) = channel();
            if inbox.send(Input::Targets(tell)).is_err() {
                return;
            }
            let Ok((own, targets)) = hear.recv() else { return };
            responders.retain(|address, _| own.contains(address));
            for address in own {
                // An address may not be there yet; it is tried again.
                if let (false, Ok(responder)) = (
                    responders.contains_key(&address),
                    Responder::open(SocketAddr::new(address, probes.port)),
                ) {
                    responders.insert(address, responder);
                }
            }
            // Others ask at any time, so that answering goes on while we ask.
            let asker = {
                let targets = targets.clone();
                std::thread::spawn(move || match Netns::current() {
                    Ok(here) => ask(&here, &targets, probes.port, seed),
                    Err(_) => Vec::new(),
                })
            };
            seed = seed.wrapping_add(1);
            let until = Instant::now() + every;
            while !asker.is_finished() {
                answer(&responders, Instant::now() + Duration::from_millis(100));
            }
            let rounds = asker.join().unwrap_or_default();
            ways.retain(|(name, family), _| {
                targets.iter().any(|it| it.peer == *name && it.family == *family)
            });
            for (target, round) in targets.iter().zip(rounds) {
                let key = (target.peer.clone(), target.family);
                ways.entry(key).or_insert_with(|| Way::new(target)).learn(target, round, tunnel);
            }
            let mut learned: Vec<Way> = ways.values().cloned().collect();
            learned.sort_by(|a, b| (&a.peer, a.family).cmp(&(&b.peer, b.family)));
            if inbox.send(Input::Ways(learned)).is_err() {
                return;
            }
            answer(&responders, until);
        }
    });
}

/// Answers what comes in until `deadline`.
fn answer(responders: &HashMap<IpAddr, Responder>, deadline: Instant) {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if responders.is_empty() {
            std::thread::sleep(left);
            return;
        }
        let all: Vec<&Responder> = responders.values().collect();
        let mut fds: Vec<PollFd<'_>> = all
            .iter()
            .map(|responder| PollFd::from_borrowed_fd(responder.as_fd(), PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(left).ok();
        if poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0) {
            all.iter().for_each(|responder| responder.answer());
        }
    }
}

/// One round: large packets to all, then small ones where a large one was lost.
fn ask(here: &Netns, targets: &[Target], port: u16, seed: u64) -> Vec<Round> {
    let mut rounds = vec![Round::default(); targets.len()];
    type Ends = Vec<Option<(IpAddr, IpAddr, u32)>>;
    let inner: Ends = targets.iter().map(|target| target.inner).collect();
    let outer: Ends = targets.iter().map(|target| Some(target.outer)).collect();
    // What is lost is waited for, both at a time.
    let both = |inner: &Ends, outer: &Ends, seed: u64| {
        std::thread::scope(|scope| {
            let outer_answers = scope.spawn(|| send(here, outer, port, seed));
            let inner = send(here, inner, port, seed);
            [inner, outer_answers.join().unwrap_or_else(|_| vec![None; outer.len()])]
        })
    };
    let large = both(&inner, &outer, seed);
    let small = |ends: &Ends, answers: &[Option<Result<u64, ()>>]| -> Ends {
        let lost = ends.iter().zip(answers).map(|(end, answer)| match answer {
            Some(Err(())) => end.map(|(from, to, _)| (from, to, SMALL)),
            _ => None,
        });
        lost.collect()
    };
    let again = [small(&inner, &large[0]), small(&outer, &large[1])];
    let again = both(&again[0], &again[1], seed ^ u64::MAX);
    for (place, round) in rounds.iter_mut().enumerate() {
        *round = Round {
            inner: large[0][place],
            inner_small: again[0][place],
            outer: large[1][place],
            outer_small: again[1][place],
        };
    }
    rounds
}

/// Asks all ends that are given, by size.
fn send(
    here: &Netns,
    ends: &[Option<(IpAddr, IpAddr, u32)>],
    port: u16,
    seed: u64,
) -> Vec<Option<Result<u64, ()>>> {
    let mut answers = vec![None; ends.len()];
    let mut sizes: Vec<u32> = ends.iter().flatten().map(|(_, _, size)| *size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let wanted = |end: &Option<(IpAddr, IpAddr, u32)>| end.filter(|it| it.2 == size);
        let (places, questions): (Vec<usize>, Vec<Question<'_>>) = ends
            .iter()
            .enumerate()
            .filter_map(|(place, end)| Some((place, wanted(end)?)))
            .map(|(place, (from, to, _))| {
                let from = Place { netns: here, address: from };
                (place, Question { from, to: SocketAddr::new(to, port) })
            })
            .unzip();
        let shape = Shape { bytes: size as usize, dont_fragment: true };
        for (place, answer) in places.into_iter().zip(probe::ask(&questions, shape, LIMITS, seed)) {
            let micros = |it: probe::Answer| u64::try_from(it.rtt.as_micros()).unwrap_or(u64::MAX);
            answers[place] = Some(answer.map(micros).map_err(|_| ()));
        }
    }
    answers
}
