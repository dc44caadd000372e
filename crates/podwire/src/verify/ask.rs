//! Sending the questions of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::identity;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use diagnosis::verify::{Call, Outcome, Place, Plan, Protocol, Question, Search, Service};
use kernel::{Netns, NetnsId};
use probe::{Answer, Ask, Limits, Shape};

use super::call::{self, Callee, HostCall, Traces};
use super::ports::{self, Heard, Listen, Opened, PodPort};
use crate::failure::{Exit, Failure, Result};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::responder::Gathering;

/// Why nobody can tell what has become of a packet.
const FULL: &str = "the machine's table of neighbours was full (gc_thresh3), which loses packets";

/// A plan's namespaces, open, and how they are asked.
pub(super) struct Asker<'a> {
    plan: &'a Plan,
    reach: Reach,
    limits: Limits,
    interrupt: &'a Interrupt,
}

/// Where the places are.
enum Reach {
    /// On this machine.
    Here(Spaces),
    /// On machines with responders.
    Across(Gathering),
}

/// The namespace of each place, or why it cannot be entered.
struct Spaces {
    open: BTreeMap<NetnsId, Netns>,
    places: Vec<std::result::Result<NetnsId, Outcome>>,
    addresses: Vec<IpAddr>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        gathering: Option<Gathering>,
        patience: Duration,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let usual = Limits::default();
        let limits = Limits { patience, again: usual.again.min(patience / 2), ..usual };
        let reach = match gathering {
            None => Reach::Here(Spaces::open(plan)),
            Some(mut gathering) => {
                let part = |place: &Place| Some((topology::part(place.netns)?, place.address));
                let places: Vec<_> = plan.places.iter().filter_map(part).collect();
                let mapped = plan.calls.iter().filter(|call| call.service != Service::Resolver);
                let ports: BTreeSet<_> = mapped.map(|call| (call.to, call.protocol)).collect();
                gathering.open_places(&places, &ports)?;
                Reach::Across(gathering)
            }
        };
        Ok(Self { plan, reach, limits, interrupt })
    }

    /// What came of all questions, and the largest sizes where the wanted ones do not pass.
    pub(super) fn questions(&self) -> Result<(Vec<Outcome>, Vec<Search>)> {
        let refused = refused();
        let mut progress = Progress::new(self.plan.questions.len());
        let asked = self.ask(&self.plan.questions, &mut progress);
        progress.end();
        let mut outcomes = asked?;
        self.settle(&mut outcomes, refused)?;
        self.bury(&mut outcomes);
        let mut searches = self.plan.searches(&outcomes);
        loop {
            let rungs: Vec<Question> = searches
                .iter()
                .flat_map(|search| {
                    search.rungs().into_iter().map(|size| self.plan.rung(search, size))
                })
                .collect();
            if rungs.is_empty() {
                return Ok((outcomes, searches));
            }
            let mut progress = Progress::new(rungs.len());
            let asked = self.ask(&rungs, &mut progress);
            progress.end();
            let mut asked = asked?.into_iter();
            for search in &mut searches {
                let count = search.rungs().len();
                search.narrow(&asked.by_ref().take(count).collect::<Vec<_>>());
            }
        }
    }

    /// What came of all calls.
    pub(super) fn calls(&self) -> Result<Vec<Outcome>> {
        let Self { plan, reach, .. } = self;
        let _traces = reach.traces(plan);
        let (resolvers, mapped): (Vec<usize>, Vec<usize>) = (0..plan.calls.len())
            .partition(|number| plan.calls[*number].service == Service::Resolver);
        let mut outcomes = vec![call::unasked(); plan.calls.len()];
        let asked = self.make(resolvers.iter().map(|it| Ok((*it, Callee::Resolver))).collect());
        let mut told: Vec<(usize, Outcome)> = resolvers.into_iter().zip(asked).collect();
        for wave in ports::waves(plan, &mapped) {
            self.go_on()?;
            let asked = self.wave(&wave);
            told.extend(wave.into_iter().zip(asked));
        }
        self.go_on()?;
        for (number, outcome) in told {
            outcomes[number] = outcome;
        }
        Ok(outcomes)
    }

    /// What came of calls to ports that lead to pods, where somebody listens meanwhile.
    fn wave(&self, numbers: &[usize]) -> Vec<Outcome> {
        let Self { plan, reach, limits, .. } = self;
        let calls = || numbers.iter().map(|number| &plan.calls[*number]);
        let ports: Vec<_> = calls().filter_map(|call| ports::listens(plan, call)).collect();
        let (opened, made, heard) = reach.listen(&ports, limits.patience, |opened| {
            let callee = |(number, opened): (&usize, &Opened)| {
                opened.clone().map(|heard| (*number, Callee::Port { heard }))
            };
            self.make(numbers.iter().zip(opened).map(callee).collect())
        });
        let told = calls().zip(opened).zip(made.into_iter().zip(heard));
        let conclude = |((call, opened), (made, heard)): ((&Call, Opened), (_, Heard))| match (
            opened, heard,
        ) {
            (Ok(true), Ok(heard)) => ports::conclude(plan.places[call.from].address, made, &heard),
            (Ok(true), Err(outcome)) => outcome,
            _ => made,
        };
        told.map(conclude).collect()
    }

    /// What came of calls, each by its number, where it is not known already.
    fn make(&self, wanted: Vec<std::result::Result<(usize, Callee), Outcome>>) -> Vec<Outcome> {
        let Self { plan, reach, limits, interrupt } = self;
        let go_on = || interrupt.exit().is_none();
        let host_call = |(number, callee): (usize, Callee)| {
            let Call { from, to, protocol, .. } = plan.calls[number];
            (from, HostCall { from: plan.places[from].address, to, protocol, callee })
        };
        let wanted = wanted.into_iter().map(|it| it.map(host_call)).collect();
        call::among(wanted, identity, |calls| reach.make(calls, limits.patience, &go_on))
    }

    /// Ends what somebody wants to be ended.
    fn go_on(&self) -> Result<()> {
        match self.interrupt.exit() {
            Some(exit) => Err(stopped(exit)),
            None => Ok(()),
        }
    }

    /// Asks those again that were lost while the machine's table of neighbours was full, which loses
    /// packets without a word. If it is full again, nobody can tell why they were lost.
    fn settle(&self, outcomes: &mut [Outcome], before: u64) -> Result<()> {
        let meanwhile = refused();
        let is_lost = |outcome: &Outcome| matches!(outcome, Outcome::Silent(_));
        let lost: Vec<usize> = (0..outcomes.len()).filter(|it| is_lost(&outcomes[*it])).collect();
        if meanwhile == before || lost.is_empty() {
            return Ok(());
        }
        let again: Vec<Question> = lost.iter().map(|it| self.plan.questions[*it]).collect();
        let answers = self.ask(&again, &mut Progress::new(again.len()))?;
        let is_full = refused() != meanwhile;
        for (place, answer) in lost.into_iter().zip(answers) {
            outcomes[place] = match is_lost(&answer) && is_full {
                true => Outcome::Unknown(FULL.to_owned()),
                false => answer,
            };
        }
        Ok(())
    }

    /// Places whose namespace has gone meanwhile say nothing about the network.
    fn bury(&self, outcomes: &mut [Outcome]) {
        let mut gone: BTreeMap<usize, bool> = BTreeMap::new();
        for (question, outcome) in self.plan.questions.iter().zip(outcomes) {
            if matches!(outcome, Outcome::Answered { .. }) {
                continue;
            }
            for place in [question.from, question.to] {
                if *gone.entry(place).or_insert_with(|| self.is_gone(place)) {
                    *outcome = Outcome::Gone(place);
                }
            }
        }
    }

    fn is_gone(&self, place: usize) -> bool {
        let it = &self.plan.places[place];
        if matches!(self.reach, Reach::Across(_)) {
            return false;
        }
        let Some(path) = &it.path else { return false };
        match std::fs::metadata(path) {
            Ok(found) => NetnsId { device: found.dev(), inode: found.ino() } != it.netns,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// Asks, unless somebody wants to stop: then what is on its way is let go, and its traces are
    /// removed.
    fn ask(&self, questions: &[Question], progress: &mut Progress) -> Result<Vec<Outcome>> {
        let outcomes = match &self.reach {
            Reach::Here(spaces) => spaces.ask(questions, self.limits, &mut |more| {
                progress.tell_more(more);
                self.interrupt.exit().is_none()
            }),
            Reach::Across(gathering) => {
                let asks: Vec<_> = questions.iter().map(|it| ask(it, it.from, it.to)).collect();
                let seed = u64::from_ne_bytes(kernel::random());
                let go_on = || self.interrupt.exit().is_none();
                let told = gathering.ask(&asks, self.limits, seed, &go_on);
                told.into_iter().map(|it| it.map_or_else(Outcome::Unknown, outcome)).collect()
            }
        };
        self.go_on()?;
        Ok(outcomes)
    }
}

impl Reach {
    /// What the namespaces of this machine know of neighbours before all calls. Responders see to that
    /// themselves.
    fn traces(&self, plan: &Plan) -> Option<Traces> {
        let Self::Here(spaces) = self else { return None };
        let mut ways = Vec::new();
        for call in &plan.calls {
            ways.extend(spaces.place(call.from).map(|from| (from, call.to.ip())));
            let listens = ports::listens(plan, call);
            ways.extend(
                listens.and_then(|(place, port)| Some((spaces.place(place).ok()?, port.caller))),
            );
        }
        // Where nothing is called, nobody has to look.
        (!ways.is_empty()).then(|| Traces::before(&ways, spaces.open.values()))
    }

    /// What came of calls, each from a place by its number.
    fn make(
        &self,
        calls: &[(usize, HostCall)],
        patience: Duration,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Vec<Outcome> {
        match self {
            Self::Here(spaces) => {
                let place = |(place, call): &(usize, HostCall)| Ok((spaces.place(*place)?, *call));
                call::among(calls.iter().map(place).collect(), identity, |calls| {
                    call::make(calls, patience, &mut || go_on())
                })
            }
            Self::Across(gathering) => gathering.make_calls(calls, patience, go_on),
        }
    }

    /// Listens at ports, each of a place by its number, while `work` is done, which is told of each
    /// whether it is heard who comes; and tells that, what the work gave, and who has come.
    fn listen<T>(
        &self,
        ports: &[(usize, PodPort)],
        patience: Duration,
        work: impl FnOnce(&[Opened]) -> T,
    ) -> (Vec<Opened>, T, Vec<Heard>) {
        match self {
            Self::Here(spaces) => {
                let place = |(place, port): &(usize, PodPort)| Ok((spaces.place(*place)?, *port));
                let listen = Listen::open(ports.iter().map(place).collect(), patience);
                let opened = listen.opened().to_vec();
                let done = work(&opened);
                (opened, done, listen.heard())
            }
            Self::Across(gathering) => {
                let opened = gathering.listen(ports, patience);
                let done = work(&opened);
                (opened, done, gathering.heard(ports))
            }
        }
    }
}

/// How many neighbours the machine's tables have had no room for; 0 where that is not told.
fn refused() -> u64 {
    let fills = [false, true].into_iter().filter_map(kernel::neighbour_fill);
    fills.map(|fill| fill.refused).sum()
}

fn stopped(exit: Exit) -> Failure {
    Failure::new(exit, "asked to stop, so nothing was found out")
}

impl Spaces {
    fn open(plan: &Plan) -> Self {
        let mut open: BTreeMap<NetnsId, Netns> = BTreeMap::new();
        let mut places = Vec::with_capacity(plan.places.len());
        for (number, place) in plan.places.iter().enumerate() {
            if open.contains_key(&place.netns) {
                places.push(Ok(place.netns));
                continue;
            }
            let Some(path) = &place.path else {
                let why = "nothing leads into its namespace".to_owned();
                places.push(Err(Outcome::Unknown(why)));
                continue;
            };
            places.push(match Netns::open(path) {
                Ok(netns) if netns.id().is_ok_and(|id| id == place.netns) => {
                    open.insert(place.netns, netns);
                    Ok(place.netns)
                }
                Ok(_) => Err(Outcome::Gone(number)),
                Err(_) if !path.exists() => Err(Outcome::Gone(number)),
                Err(error) => Err(Outcome::Unknown(error.to_string())),
            });
        }
        let addresses = plan.places.iter().map(|place| place.address).collect();
        Self { open, places, addresses }
    }

    fn place(&self, number: usize) -> std::result::Result<probe::Place<'_>, Outcome> {
        let id = self.places[number].as_ref().map_err(Clone::clone)?;
        let netns = self.open.get(id).ok_or(Outcome::Gone(number))?;
        Ok(probe::Place { netns, address: self.addresses[number] })
    }

    fn ask(
        &self,
        questions: &[Question],
        limits: Limits,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; questions.len()];
        let mut places = Vec::new();
        let mut known: BTreeMap<usize, usize> = BTreeMap::new();
        let mut place = |number: usize| -> std::result::Result<usize, Outcome> {
            if let Some(place) = known.get(&number) {
                return Ok(*place);
            }
            places.push(self.place(number)?);
            known.insert(number, places.len() - 1);
            Ok(places.len() - 1)
        };
        let mut asks = Vec::with_capacity(questions.len());
        let mut asked = Vec::with_capacity(questions.len());
        for (number, question) in questions.iter().enumerate() {
            let ends = place(question.from).and_then(|from| Ok((from, place(question.to)?)));
            let (from, to) = match ends {
                Ok(ends) => ends,
                Err(outcome) => {
                    outcomes[number] = Some(outcome);
                    continue;
                }
            };
            asks.push(ask(question, from, to));
            asked.push(number);
        }
        let seed = u64::from_ne_bytes(kernel::random());
        let answers = probe::meet_watched(&places, &asks, limits, seed, go_on).answers;
        for (number, answer) in asked.into_iter().zip(answers) {
            outcomes[number] = Some(outcome(answer));
        }
        outcomes.into_iter().map(|it| it.unwrap_or_else(call::unasked)).collect()
    }
}

/// A question between two of some places.
fn ask(question: &Question, from: usize, to: usize) -> Ask {
    let protocol = protocol(question.protocol);
    let bytes = question.whole.unwrap_or_default();
    Ask { from, to, protocol, shape: Shape { bytes, dont_fragment: question.whole.is_some() } }
}

/// How a packet is sent, in the words of those who send it.
pub(super) fn protocol(protocol: Protocol) -> probe::Protocol {
    match protocol {
        Protocol::Icmp => probe::Protocol::Icmp,
        Protocol::Udp => probe::Protocol::Udp,
        Protocol::Tcp => probe::Protocol::Tcp,
    }
}

/// What an answer says, or its lack.
pub(super) fn outcome(answer: std::result::Result<Answer, probe::Failure>) -> Outcome {
    use probe::Failure;
    let answered = |answer: Answer| Outcome::Answered {
        seen: Some(answer.seen_source),
        from: Some(answer.answered_from),
    };
    let failure = match answer {
        Ok(answer) => return answered(answer),
        Err(failure) => failure,
    };
    let text = failure.to_string();
    match failure {
        Failure::SourceChanged { answer, .. } | Failure::OtherAnswered { answer, .. } => {
            answered(answer)
        }
        Failure::TimedOut(patience) => Outcome::Silent(patience.as_millis() as u64),
        Failure::Unanswered { seen_source, .. } => Outcome::Unanswered { seen: seen_source },
        Failure::TooLarge { by, .. } => {
            let by = by.map(|by| format!(" ({by} says so)")).unwrap_or_default();
            Outcome::TooLarge(text + &by)
        }
        Failure::NotHeard { .. } => Outcome::Refused(text),
        Failure::NoRoom => Outcome::Unknown(format!("{text}; `podwire doctor` says where")),
        Failure::Stopped => Outcome::Unknown(text),
        Failure::Unreachable { by, .. } => {
            let by = by.map(|by| format!(" ({} says so)", by.from)).unwrap_or_default();
            Outcome::Refused(text + &by)
        }
        Failure::Unusable { address, reason } => {
            // A right that is missing is no fault of the network.
            let words = reason.to_lowercase();
            match ["permission denied", "not permitted"].iter().any(|it| words.contains(it)) {
                true => Outcome::Unknown(reason),
                false => Outcome::NoAddress { address, why: reason },
            }
        }
    }
}
