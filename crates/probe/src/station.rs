//! One machine's part: its places with their ends, which answer, ask, and tell what they have seen.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use kernel::{Fill, Netns, NetnsId, probing};

use crate::ears::{Ends, Hearing, Sight};
use crate::ledger::{Entry, Ledger};
use crate::mouths::{Mouths, Query, Reply, Round};
use crate::pace::Pace;
use crate::space::Space;
use crate::{Failure, Limits, Place, Protocol, sockets, words};

/// The places of this machine.
#[derive(Debug)]
pub struct Station {
    spaces: Vec<Space>,
    places: Vec<Open>,
    hearing: Hearing,
    mouths: Mouths,
    /// In which namespaces a gateway is, of those that we are in.
    gateways: HashMap<IpAddr, Vec<usize>>,
    /// How many files may be open for connections.
    room: usize,
    /// How many questions may be tracked by the kernel at a time: half of what is free.
    trackable: usize,
    /// When questions were asked that may still be tracked, and how many.
    tracked: VecDeque<(Instant, usize)>,
    peak: usize,
    /// How many stations ask at the same time, each its part of what the machine has room for.
    parts: usize,
}

#[derive(Debug)]
struct Open {
    space: Option<usize>,
    address: IpAddr,
    ends: Result<Ends, Failure>,
}

impl Station {
    /// Opens ends at `places`, and answers from here on by `protocols` until this is dropped. A place
    /// that cannot be opened is told by [`Station::ends`], and fails its own questions only.
    pub fn open(places: &[Place<'_>], protocols: &[Protocol]) -> io::Result<Self> {
        /// What else may be open.
        const OTHERS: usize = 256;
        let room = usize::try_from(probing::allow_many_files()).unwrap_or(usize::MAX);
        let mut station = Self {
            spaces: Vec::new(),
            places: Vec::new(),
            hearing: Hearing::new()?,
            mouths: Mouths::new()?,
            gateways: HashMap::new(),
            room: room.saturating_sub(OTHERS + places.len() * 7),
            trackable: usize::MAX,
            tracked: VecDeque::new(),
            peak: 0,
            parts: 1,
        };
        let mut known = HashMap::new();
        for place in places {
            station.mouths.add(place.address);
            let opened = station.open_place(*place, protocols, &mut known);
            station.places.push(opened);
        }
        // Packets between the places of a machine mostly pass here.
        if let Ok(home) = Netns::current() {
            let _ = station.space(&home, &mut known);
        }
        if station.spaces.len() > 1 {
            station.spaces.iter_mut().for_each(Space::look_at_all);
        }
        station.hearing.start()?;
        Ok(station)
    }

    /// Has it ask beside others, of which there are `parts` on this machine, and take no more than its
    /// part of what there is room for.
    pub(crate) fn share(&mut self, parts: usize) {
        self.parts = parts.max(1);
        self.room /= self.parts;
        self.trackable /= self.parts;
    }

    /// The ports of a place's ends.
    pub fn ends(&self, place: usize) -> Result<Ends, Failure> {
        self.places[place].ends.clone()
    }

    /// How the questions arrived that have arrived until now, by their tokens.
    pub fn seen(&self) -> HashMap<u64, Sight> {
        self.hearing.seen()
    }

    /// The most entries of the machine's tables of neighbours that questions took at a time.
    pub fn most_neighbours(&self) -> usize {
        self.peak
    }

    fn open_place(
        &mut self,
        place: Place<'_>,
        protocols: &[Protocol],
        known: &mut HashMap<NetnsId, usize>,
    ) -> Open {
        let address = place.address;
        let unusable = |reason: String| Failure::Unusable { address, reason };
        let space = match self.space(place.netns, known) {
            Ok(space) => space,
            Err(error) => {
                let ends = Err(unusable(error.to_string()));
                return Open { space: None, address, ends };
            }
        };
        let hearing = &mut self.hearing;
        let opened = self.spaces[space].netns().enter(|| hearing.open(address, protocols));
        let ends = match opened {
            Ok(opened) => opened.map_err(|error| unusable(words(&error))),
            Err(error) => Err(unusable(error.to_string())),
        };
        Open { space: Some(space), address, ends }
    }

    /// The number of a namespace.
    fn space(
        &mut self,
        netns: &Netns,
        known: &mut HashMap<NetnsId, usize>,
    ) -> kernel::Result<usize> {
        let id = netns.id()?;
        if let Some(space) = known.get(&id) {
            return Ok(*space);
        }
        let (space, room) = Space::look(netns)?;
        self.trackable = room.map_or(self.trackable, |room| self.trackable.min(room / 2));
        self.spaces.push(space);
        known.insert(id, self.spaces.len() - 1);
        Ok(self.spaces.len() - 1)
    }

    /// Asks, and returns what came of the questions, in their order: [`conclude`](crate::conclude) says what that
    /// means. Questions between two addresses are asked together, so that they share what the kernel
    /// has to learn for them, which it is made to forget afterwards: never more than half of its free
    /// table of neighbours is taken, and of its free table of tracked connections, whose entries of
    /// ours it drops by itself; and of its queues of packets, when neighbours are looked for.
    ///
    /// Where hardly any connection can be tracked, nothing is asked.
    ///
    /// `go_on` is told now and then how many questions more are answered, and ends it all by `false`.
    ///
    /// # Panics
    ///
    /// If a question names a place that is not there.
    pub fn ask(
        &mut self,
        queries: &[Query],
        limits: Limits,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Vec<Result<Reply, Failure>> {
        if self.trackable < queries.len().min(FEW) {
            return vec![Err(Failure::NoRoom); queries.len()];
        }
        let mut results: Vec<Option<Result<Reply, Failure>>> = vec![None; queries.len()];
        let mut groups = self.groups(queries);
        let mut to_come: VecDeque<usize> = (0..groups.len()).collect();
        let mut group_of = vec![0; queries.len()];
        for (number, group) in groups.iter().enumerate() {
            for query in &group.queries {
                group_of[*query] = number;
            }
        }
        let mut ledger = Ledger::new(self.fill(false), self.fill(true), self.parts);
        let queue = kernel::backlog().map_or(1000, |backlog| backlog.limit);
        let mut pace = Pace::new(queue / self.parts, limits.audience);
        let Self { spaces, places, mouths, room, trackable, tracked, parts, .. } = self;
        // A connection has two ends.
        let most = (limits.at_once / *parts).clamp(1, (*room / 2).max(1));
        let mut round = mouths.round(queries, limits);
        let mut lost = Vec::new();
        let (mut count, mut looked) = (0, Instant::now());
        loop {
            let mut start = Vec::new();
            let (mut planned, mut rest) = (round.waiting(), LOOK);
            while tracked.pop_front_if(|(asked, _)| asked.elapsed() > TRACKED).is_some() {}
            while let Some(next) = to_come.front() {
                let size = groups[*next].queries.len();
                let recent = tracked.iter().map(|(_, count)| count).sum::<usize>() + start.len();
                let is_much = recent > 0 && recent + size > *trackable;
                if is_much || planned > 0 && planned + size > most {
                    break;
                }
                let (now, searches) = (Instant::now(), ledger.searches(&groups[*next].entries));
                if let Some(wait) = pace.wait(searches, now) {
                    rest = rest.min(wait);
                    break;
                }
                if !ledger.take(&groups[*next].entries, false) {
                    // Giving back costs a look at each namespace: it is done for many together.
                    let idle = ledger.idle();
                    if !idle.is_empty() && (planned == 0 || idle.len() * 4 > ledger.peak()) {
                        give_back(spaces, &mut ledger, &idle);
                        continue;
                    }
                    // Where nothing is on its way, one gets through whatever the table says.
                    if planned > 0 || !ledger.take(&groups[*next].entries, true) {
                        break;
                    }
                }
                pace.begin(*next, searches, now);
                planned += size;
                start.extend(&groups[*next].queries);
                to_come.pop_front();
            }
            if !start.is_empty() {
                tracked.push_back((Instant::now(), start.len()));
            }
            lost.extend(begin(&mut round, spaces, places, queries, start));
            if round.is_over() && lost.is_empty() && to_come.is_empty() {
                break;
            }
            if round.is_over() && lost.is_empty() {
                // The kernel still remembers too many.
                thread::sleep(LOOK);
            }
            for (query, result) in lost.drain(..).chain(round.turn(rest)) {
                count += 1;
                results[query] = Some(result);
                pace.end(group_of[query]);
                let group = &mut groups[group_of[query]];
                group.left -= 1;
                if group.left == 0 {
                    ledger.release(&group.entries);
                }
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                if !go_on(std::mem::take(&mut count)) {
                    break;
                }
            }
        }
        let is_stopped = !round.is_over();
        drop(round);
        if is_stopped {
            // What is still on its way would make the kernel learn again what it has forgotten.
            thread::sleep(ARRIVE);
        }
        go_on(count);
        self.peak = self.peak.max(ledger.peak());
        self.forget(queries, &groups);
        results.into_iter().map(|it| it.unwrap_or(Err(Failure::Stopped))).collect()
    }

    /// How full the machine's table of neighbours is.
    fn fill(&self, is_ipv6: bool) -> Fill {
        let counts = self.spaces.iter().map(|space| space.count(is_ipv6));
        let (learned, written) = counts.fold((0, 0), |all, more| (all.0 + more.0, all.1 + more.1));
        match kernel::neighbour_fill(is_ipv6) {
            Some(fill) => Fill { used: fill.used.saturating_sub(written), ..fill },
            None => Fill { limit: 1024, used: learned, refused: 0 },
        }
    }

    /// Questions between the same two addresses, in the order of their first.
    fn groups(&mut self, queries: &[Query]) -> Vec<Group> {
        let mut known = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        let local: HashMap<IpAddr, usize> =
            self.places.iter().enumerate().map(|(place, it)| (it.address, place)).collect();
        for (number, query) in queries.iter().enumerate() {
            let (from, to) = (self.places[query.from].address, query.to.ip());
            let group = *known.entry((from.min(to), from.max(to))).or_insert_with(|| {
                groups.push(Group { queries: Vec::new(), entries: Vec::new(), left: 0 });
                let mut entries = self.entries(query.from, to);
                if let Some(back) = local.get(&to) {
                    entries.extend(self.entries(*back, from));
                }
                let group = groups.len() - 1;
                groups[group].entries = entries;
                group
            });
            groups[group].queries.push(number);
            groups[group].left += 1;
        }
        groups
    }

    /// The entries that a packet from a place to an address makes, and were not there before.
    fn entries(&mut self, place: usize, to: IpAddr) -> Vec<Entry> {
        let Open { space, address: from, .. } = self.places[place];
        let Some(number) = space else { return Vec::new() };
        let Some(hop) = self.spaces[number].new_hop(from, to) else { return Vec::new() };
        let mut entries = vec![Entry::here(number, hop)];
        if hop.is_gateway {
            entries.extend(self.beyond(hop.address, from));
        }
        entries
    }

    /// The entries that a gateway makes of a place.
    fn beyond(&mut self, gateway: IpAddr, place: IpAddr) -> Vec<Entry> {
        let Self { spaces, gateways, .. } = self;
        let within = gateways.entry(gateway).or_insert_with(|| {
            let all = spaces.iter_mut().enumerate();
            all.filter_map(|(it, space)| space.has_gateway(gateway, place).then_some(it)).collect()
        });
        if within.is_empty() {
            return vec![Entry::Beyond(place)];
        }
        let entry =
            |space: &usize| Some(Entry::here(*space, spaces[*space].new_hop(gateway, place)?));
        within.iter().filter_map(entry).collect()
    }

    /// Removes what is left of all these questions from every namespace that we are in: our own
    /// entries and those that their packets made on the way.
    fn forget(&mut self, queries: &[Query], groups: &[Group]) {
        let mut ours: HashSet<IpAddr> = queries.iter().map(|query| query.to.ip()).collect();
        ours.extend(queries.iter().map(|query| self.places[query.from].address));
        ours.extend(groups.iter().flat_map(|group| &group.entries).map(|entry| match entry {
            Entry::Here { address, .. } | Entry::Beyond(address) => *address,
        }));
        for space in &mut self.spaces {
            space.forget(&ours);
        }
    }
}

/// How long at most nobody is asked whether to go on.
const LOOK: Duration = Duration::from_millis(50);

/// How long packets are on their way at most.
const ARRIVE: Duration = Duration::from_millis(100);

/// How long the kernel remembers a question: as long as a datagram by default (the setting
/// `nf_conntrack_udp_timeout`); an echo as long, a connection that was reset for ten seconds.
const TRACKED: Duration = Duration::from_secs(30);

/// If not even so many can be tracked at a time, asking one after the other would last for hours.
const FEW: usize = 64;

/// Questions that share their entries.
#[derive(Debug)]
struct Group {
    queries: Vec<usize>,
    entries: Vec<Entry>,
    /// How many have no result yet.
    left: usize,
}

/// Removes entries that nobody uses.
fn give_back(spaces: &mut [Space], ledger: &mut Ledger, idle: &[Entry]) {
    let mut by_space: HashMap<usize, HashSet<(u32, IpAddr)>> = HashMap::new();
    for entry in idle {
        if let Entry::Here { space, device, address } = entry {
            by_space.entry(*space).or_default().insert((*device, *address));
        }
    }
    for (space, entries) in by_space {
        spaces[space].give_back(&entries);
    }
    ledger.forget(idle);
}

/// Sends questions, one visit of a namespace for all of them that need something from there. Returns
/// those that could not be sent.
fn begin(
    round: &mut Round<'_>,
    spaces: &[Space],
    places: &[Open],
    queries: &[Query],
    start: Vec<usize>,
) -> Vec<(usize, Result<Reply, Failure>)> {
    let mut lost = Vec::new();
    let mut by_place: HashMap<usize, Vec<usize>> = HashMap::new();
    for query in &start {
        by_place.entry(queries[*query].from).or_default().push(*query);
    }
    let mut clients: HashMap<usize, OwnedFd> = HashMap::new();
    let mut failed: HashMap<usize, Failure> = HashMap::new();
    for (place, wanted) in by_place {
        let Open { space, address, ends } = &places[place];
        let unusable = |reason: String| Failure::Unusable { address: *address, reason };
        let space = match (space, ends) {
            (Some(space), Ok(_)) => &spaces[*space],
            (_, Err(failure)) => {
                failed.extend(wanted.iter().map(|query| (*query, failure.clone())));
                continue;
            }
            (None, Ok(_)) => continue,
        };
        let mut open = |query: usize| -> io::Result<()> {
            match queries[query].protocol {
                Protocol::Tcp => {
                    clients.insert(query, sockets::client(*address)?);
                    Ok(())
                }
                protocol => round.open(place, protocol),
            }
        };
        let entered = space.netns().enter(|| {
            for query in &wanted {
                if let Err(error) = open(*query) {
                    failed.insert(*query, unusable(words(&error)));
                }
            }
        });
        if let Err(error) = entered {
            failed.extend(wanted.iter().map(|query| (*query, unusable(error.to_string()))));
        }
    }
    for query in start {
        match failed.remove(&query) {
            Some(failure) => lost.push((query, Err(failure))),
            None => round.ask(query, clients.remove(&query)),
        }
    }
    lost
}
