//! Asking many at once, where both ends are within reach of this process.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::ears::Sight;
use crate::mouths::{Query, Reply};
use crate::station::Station;
use crate::{Answer, Ask, Failure, Limits, Pair, Place, Protocol, Question, Shape};

/// Asks all at once, on this machine: opens both ends, sends, receives. Returns what came of the
/// questions, in their order.
///
/// `seed` is random: it tells these packets from strays and from forgeries.
///
/// # Panics
///
/// If a question names a place that is not there.
pub fn meet(
    places: &[Place<'_>],
    asks: &[Ask],
    limits: Limits,
    seed: u64,
) -> Vec<Result<Answer, Failure>> {
    meet_watched(places, asks, limits, seed, &mut |_| true).answers
}

/// What came of a meeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// What came of the questions, in their order.
    pub answers: Vec<Result<Answer, Failure>>,
    /// How many entries of the machine's tables of neighbours were taken at most.
    pub most_neighbours: usize,
}

/// The same, while `go_on` is told now and then how many questions more are answered, and ends it all
/// by `false`.
pub fn meet_watched(
    places: &[Place<'_>],
    asks: &[Ask],
    limits: Limits,
    seed: u64,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> Met {
    let mut protocols: Vec<Protocol> = asks.iter().map(|ask| ask.protocol).collect();
    protocols.sort_unstable();
    protocols.dedup();
    let parts = parts(asks.len());
    // All look before any asks: what one has the kernel learn is not what was there before.
    let stations = (0..parts).map(|_| Station::open(places, &protocols));
    let mut stations = match stations.collect::<io::Result<Vec<Station>>>() {
        Ok(stations) => stations,
        Err(error) => {
            let failed = |ask: &Ask| {
                let address = places[ask.from].address;
                Err(Failure::Unusable { address, reason: error.to_string() })
            };
            return Met { answers: asks.iter().map(failed).collect(), most_neighbours: 0 };
        }
    };
    stations.iter_mut().for_each(|station| station.share(parts));
    let mut queries: Vec<Vec<Query>> = vec![Vec::new(); parts];
    let mut pairs = HashMap::new();
    let planned: Vec<Result<(usize, Query), Failure>> = asks
        .iter()
        .enumerate()
        .map(|(number, ask)| {
            // What goes between two addresses is asked by one, because it shares what is learned.
            let pair = (ask.from.min(ask.to), ask.from.max(ask.to));
            let next = pairs.len();
            let part = *pairs.entry(pair).or_insert(next) % parts;
            let station = &stations[part];
            station.ends(ask.from)?;
            let ends = station.ends(ask.to)?;
            let query = Query {
                from: ask.from,
                to: ends.at(places[ask.to].address, ask.protocol),
                protocol: ask.protocol,
                shape: ask.shape,
                token: token(seed, number as u64),
            };
            queries[part].push(query);
            Ok((part, query))
        })
        .collect();
    let replies = ask_at_once(&mut stations, &queries, limits, go_on);
    let mut replies: Vec<_> = replies.into_iter().map(Vec::into_iter).collect();
    let seen: Vec<HashMap<u64, Sight>> = stations.iter().map(Station::seen).collect();
    let answers = planned.into_iter().map(|planned| {
        let (part, query) = planned?;
        let reply = replies[part].next().unwrap_or(Err(Failure::Stopped));
        let heard = seen[part].get(&query.token).copied();
        conclude(places[query.from].address, query.to.ip(), reply, heard)
    });
    let answers = answers.collect();
    Met { answers, most_neighbours: stations.iter().map(Station::most_neighbours).sum() }
}

/// How many ask so many questions at the same time. The kernel takes a packet to its end, copies of a
/// search for all neighbours included, on the processor that sends it, so that one alone leaves others
/// idle.
fn parts(questions: usize) -> usize {
    /// Each opens its own ends, which costs as much as some questions.
    const MANY: usize = 2000;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    processors.min(questions / MANY).clamp(1, 4)
}

/// What came of the questions of each station, of which each asks by a thread of its own.
fn ask_at_once(
    stations: &mut [Station],
    queries: &[Vec<Query>],
    limits: Limits,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> Vec<Vec<Result<Reply, Failure>>> {
    let (is_stopped, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut tell = |more: usize| {
        if !go_on(more + answered.swap(0, Ordering::Relaxed)) {
            is_stopped.store(true, Ordering::Relaxed);
        }
        !is_stopped.load(Ordering::Relaxed)
    };
    let hear = |more: usize| {
        answered.fetch_add(more, Ordering::Relaxed);
        !is_stopped.load(Ordering::Relaxed)
    };
    thread::scope(|scope| {
        let mut both = stations.iter_mut().zip(queries);
        let first = both.next();
        let others: Vec<_> = both
            .map(|(station, queries)| {
                scope.spawn(move || station.ask(queries, limits, &mut { hear }))
            })
            .collect();
        let first = first.map(|(station, queries)| station.ask(queries, limits, &mut tell));
        let mut all = Vec::from_iter(first);
        while others.iter().any(|it| !it.is_finished()) {
            thread::sleep(Duration::from_millis(2));
            tell(0);
        }
        tell(0);
        all.extend(others.into_iter().map(|it| it.join().unwrap_or_else(|it| resume_unwind(it))));
        all
    })
}

/// What it means that this came back to `own` from `asked`, where `heard` is how the question
/// arrived there, if it did.
pub fn conclude(
    own: IpAddr,
    asked: IpAddr,
    reply: Result<Reply, Failure>,
    heard: Option<Sight>,
) -> Result<Answer, Failure> {
    let reply = match (reply, heard) {
        (Err(Failure::TimedOut(waited)), Some(sight)) => {
            return Err(Failure::Unanswered { seen_source: sight.source, waited });
        }
        (reply, _) => reply?,
    };
    let Some(seen) = reply.seen.or(heard) else {
        return Err(Failure::NotHeard { asked, answered_from: reply.from });
    };
    let answer = Answer {
        seen_source: seen.source,
        answered_from: reply.from,
        bytes: seen.bytes,
        rtt: reply.rtt,
    };
    if answer.seen_source != own {
        Err(Failure::SourceChanged { own, answer })
    } else if answer.answered_from != asked {
        Err(Failure::OtherAnswered { asked, answer })
    } else {
        Ok(answer)
    }
}

/// Sends a datagram over each of `pairs` and back, and returns what came of them, in their order.
///
/// `seed` is as for [`meet`].
pub fn exchange<'a>(
    pairs: &[Pair<'a>],
    shape: Shape,
    limits: Limits,
    seed: u64,
) -> Vec<Result<Answer, Failure>> {
    let mut places = Places::default();
    let ask = |pair: &Pair<'a>| {
        let (from, to) = (places.number(pair.from), places.number(pair.to));
        Ask { from, to, protocol: Protocol::Udp, shape }
    };
    let asks: Vec<Ask> = pairs.iter().map(ask).collect();
    meet(&places.all, &asks, limits, seed)
}

/// Asks ends that answer by themselves, such as the [`Responder`](crate::Responder)s of other
/// machines, by datagrams.
///
/// `seed` is as for [`meet`].
pub fn ask<'a>(
    questions: &[Question<'a>],
    shape: Shape,
    limits: Limits,
    seed: u64,
) -> Vec<Result<Answer, Failure>> {
    let mut places = Places::default();
    let query = |(number, question): (usize, &Question<'a>)| Query {
        from: places.number(question.from),
        to: question.to,
        protocol: Protocol::Udp,
        shape,
        token: token(seed, number as u64),
    };
    let queries: Vec<Query> = questions.iter().enumerate().map(query).collect();
    let replies = match Station::open(&places.all, &[]) {
        Ok(mut station) => station.ask(&queries, limits, &mut |_| true),
        Err(error) => {
            let failed = |question: &Question<'_>| {
                let address = question.from.address;
                Err(Failure::Unusable { address, reason: error.to_string() })
            };
            questions.iter().map(failed).collect()
        }
    };
    let conclude = |(question, reply): (&Question<'_>, _)| {
        conclude(question.from.address, question.to.ip(), reply, None)
    };
    questions.iter().zip(replies).map(conclude).collect()
}

/// Places, each once.
#[derive(Default)]
struct Places<'a> {
    all: Vec<Place<'a>>,
    known: HashMap<(Option<kernel::NetnsId>, IpAddr), usize>,
}

impl<'a> Places<'a> {
    fn number(&mut self, place: Place<'a>) -> usize {
        let key = (place.netns.id().ok(), place.address);
        *self.known.entry(key).or_insert_with(|| {
            self.all.push(place);
            self.all.len() - 1
        })
    }
}

/// The token of question `number`: the mixing step of SplitMix64 (Steele, Lea and Flood, 2014), so
/// that one token does not give away the next.
pub fn token(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
