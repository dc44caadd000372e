//! The agent as a state machine: events come in, effects go out, and nothing else happens.
//!
//! It keeps a belief of what is in the kernel. A word from the source is a difference of that belief;
//! an event that contradicts it, a failure and a slow timer cause one look at everything, and a
//! difference of that. A restart, a lost event and a deleted device are all the same case.
//!
//! It never deletes anything of a peer from data that is not known to be complete, or that has shrunk
//! suspiciously, and never touches what is not ours.

mod belief;
mod cleanup;
mod hold;
mod order;
mod ours;
mod rivals;
mod runtimes;
mod shape;
mod status;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashSet;
use net::{Change, Key, Link, LinkName, Networks, Object, Plan, Space, Step};
use serde::{Deserialize, Serialize};

pub use self::cleanup::cleanup;
pub use self::runtimes::Ready;
pub use self::status::{SourceStatus, Status};

use self::belief::Belief;
use self::hold::{HOLD, Held};
use self::order::{
    Wanted, fits, forget_what_goes_with_devices, over_what_is_in_the_way, rules_last,
};
use self::ours::Ours;
use self::rivals::{Heard, Rivals};
use self::runtimes::{GRACE, Runtimes};
use self::shape::{holds, is_peer_route, kind};
use crate::desired::{Desired, desired, is_tunnel};
use crate::mesh::{self, Target};
use crate::{Cluster, Config, Machine, NodeName, Nodes, Problem, Report, firewall, machine};

/// What happens to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The source has said something.
    Source(Report),
    /// The machine, as [`Effect::Survey`] asked for.
    Surveyed(Machine),
    /// All that may be ours, as [`Effect::Look`] asked for, and routes of others to peers' pods; of
    /// several routes to one destination the one that packets take first.
    Looked(Vec<Object>),
    /// What came of [`Effect::Apply`].
    Applied {
        /// What was to be made.
        plan: Plan,
        /// What of it failed, by its place in the plan, in order, and with the reason.
        failed: Vec<(usize, String)>,
    },
    /// The kernel says that this is there now, or is so now.
    Seen(Object),
    /// The kernel says that this has gone.
    Gone(Object),
    /// Somebody else has changed our table.
    Rules,
    /// Events were lost.
    Lost,
    /// A person says that a suspicious shrinking of the cluster is meant.
    Accept,
    /// The time that [`Agent::deadline`] named has come.
    Tick,
}

impl Event {
    /// Whether it has the machine looked at, at most: what the kernel says, which it says thousands of
    /// times.
    pub fn is_hint(&self) -> bool {
        matches!(self, Self::Seen(_) | Self::Gone(_) | Self::Rules | Self::Lost)
    }
}

/// What the agent has done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// See what the machine has; the answer is [`Event::Surveyed`].
    Survey,
    /// See what may be ours; the answer is [`Event::Looked`].
    Look,
    /// Make these changes, all that can be made; the answer is [`Event::Applied`].
    Apply(Plan),
    /// Have the source tell the whole set anew, even if it is the same.
    Resync,
    /// Keep what the source said last, [`Agent::cluster`], over a restart.
    Keep,
    /// Tell runtimes that the node's network stands, with everything that they have to know.
    Ready(Ready),
    /// Tell runtimes that it does not.
    Unready,
}

/// How long events are collected before the machine is looked at: a flap is many of them.
const SETTLE: Duration = Duration::from_millis(20);
/// How often the machine is looked at without any reason.
const SLOW: Duration = Duration::from_secs(60);
/// How long what events alone say is collected before it is told: it may be thousands of routes.
const GATHER: Duration = Duration::from_secs(1);

/// The agent of one node.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    name: NodeName,
    nodes: Nodes,
    contradictions: Vec<Problem>,
    source: SourceStatus,
    source_told: Option<Duration>,
    /// Whether the source has told the whole set since the start.
    is_complete: bool,
    withdrawn: Option<String>,
    machine: Option<Machine>,
    belief: Belief,
    has_looked: bool,
    ours: Ours,
    /// What is wrong with this node, and what with peers.
    here: Vec<Problem>,
    peers: BTreeMap<NodeName, Vec<Problem>>,
    failed: Vec<(Change, String)>,
    rivals: Rivals,
    /// Whom the mesh asks, once somebody has wanted to know.
    to_ask: Option<Vec<NodeName>>,
    held: Option<Held>,
    /// Whether the last plan for all peers left something in place that may be stale.
    has_withheld: bool,
    look_at: Option<Duration>,
    retry: Duration,
    survey_at: Option<Duration>,
    /// When [`Agent::news`] are due that only events have brought.
    news_at: Option<Duration>,
    runtimes: Runtimes,
    unready_since: Option<Duration>,
    changes: BTreeMap<String, u64>,
    last_change: Option<Duration>,
    now: Duration,
}

impl Agent {
    /// The agent of the node `name`, with what the source said last before the start.
    pub fn new(config: Config, name: NodeName, kept: Cluster) -> Self {
        let (nodes, contradictions) = Nodes::consistent(kept, &Nodes::default());
        let ours = Ours::of(&config);
        let mut rivals = Rivals::default();
        rivals.set_nodes(&nodes, &name);
        Self {
            config,
            name,
            nodes,
            contradictions,
            source: SourceStatus::Awaited,
            source_told: None,
            is_complete: false,
            withdrawn: None,
            machine: None,
            belief: Belief::default(),
            has_looked: false,
            ours,
            here: Vec::new(),
            peers: BTreeMap::new(),
            failed: Vec::new(),
            rivals,
            to_ask: None,
            held: None,
            has_withheld: false,
            look_at: None,
            retry: Duration::ZERO,
            survey_at: None,
            news_at: None,
            runtimes: Runtimes::Untold,
            unready_since: None,
            changes: BTreeMap::new(),
            last_change: None,
            now: Duration::ZERO,
        }
    }

    /// What to do first.
    pub fn start(&self) -> Vec<Effect> {
        vec![Effect::Survey, Effect::Look]
    }

    /// When [`Event::Tick`] is due, in the time that `on` is given.
    pub fn deadline(&self) -> Option<Duration> {
        let held = self.held.filter(|held| !held.asked || held.told > 0);
        let held = held.map(|held| held.since + HOLD);
        let is_ready = matches!(self.runtimes, Runtimes::Ready(_));
        let grace = self.unready_since.filter(|_| is_ready).map(|since| since + GRACE);
        [self.look_at, self.survey_at, self.news_at, held, grace].into_iter().flatten().min()
    }

    /// What the mesh needs: our addresses at which others ask, and whom we ask.
    pub fn mesh(&mut self) -> (Vec<IpAddr>, Vec<Target>) {
        let Self { nodes, name, to_ask, .. } = self;
        let to_ask = &*to_ask.get_or_insert_with(|| mesh::to_ask(nodes, name));
        let Some(machine) = &self.machine else { return Default::default() };
        let desired = desired(&self.config, &self.name, &self.nodes, machine);
        let Some(joint) = desired.joint else { return Default::default() };
        let outer = joint.uplinks.iter().map(|(_, uplink)| uplink.address);
        let inner = joint.me.subnets.iter().filter_map(|(family, _)| joint.me.inner(family));
        let inner = inner.filter(|_| joint.has_tunnel());
        (
            outer.chain(inner).collect(),
            mesh::targets(&joint, to_ask.iter().filter_map(|name| self.nodes.get(name))),
        )
    }

    /// What the source said last, to be kept over a restart.
    pub fn cluster(&self) -> Cluster {
        self.nodes.cluster()
    }

    /// The devices that may be ours.
    pub fn devices(&self) -> impl Iterator<Item = &LinkName> {
        self.ours.devices.iter()
    }

    /// The subnets of peers' pods, to which no route of anybody else's should lead.
    pub fn pods(&self) -> &Networks {
        self.rivals.pods()
    }

    /// Who we are.
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// What was asked for.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes an event that happened `now`, a time since any fixed point.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.now = now;
        let mut effects = Vec::new();
        let is_look = matches!(event, Event::Looked(_));
        let is_hint = event.is_hint();
        match event {
            Event::Source(report) => self.on_report(report, &mut effects),
            Event::Surveyed(machine) => self.on_machine(machine, &mut effects),
            Event::Looked(seen) => self.on_look(seen, &mut effects),
            Event::Applied { plan, failed } => self.on_applied(plan, failed),
            Event::Seen(object) => self.on_seen(&object),
            Event::Gone(object) => self.on_gone(&object),
            Event::Rules => self.look_soon(),
            Event::Lost => {
                self.survey_soon();
                self.look_soon();
            }
            Event::Accept => {
                if let Some(held) = &mut self.held {
                    held.accepted = true;
                    self.look_soon();
                }
            }
            Event::Tick => self.on_tick(&mut effects),
        }
        if !is_hint {
            self.tell_runtimes(is_look, &mut effects);
        }
        effects
    }

    fn look_soon(&mut self) {
        let soon = self.now + SETTLE;
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    fn survey_soon(&mut self) {
        let soon = self.now + SETTLE;
        self.survey_at = Some(self.survey_at.map_or(soon, |at| at.min(soon)));
    }

    fn on_report(&mut self, report: Report, effects: &mut Vec<Effect>) {
        match report {
            Report::Unchanged => self.on_complete(),
            Report::Complete(told) => {
                self.on_complete();
                let was_complete = std::mem::replace(&mut self.is_complete, true);
                let (nodes, contradictions) = Nodes::consistent(told, &self.nodes);
                let before = std::mem::replace(&mut self.nodes, nodes);
                self.contradictions = contradictions;
                let is_same = before == self.nodes;
                if !is_same || (!was_complete && self.has_withheld) {
                    self.follow(&before, was_complete, effects);
                }
                if !is_same {
                    // Peers first: the file is for the next start.
                    effects.push(Effect::Keep);
                }
            }
            Report::Astray(why) => self.source = SourceStatus::Astray(why),
            Report::Withdrawn(why) => {
                self.withdrawn = Some(why);
                self.look_soon();
            }
        }
    }

    /// The source knows all nodes.
    fn on_complete(&mut self) {
        self.source = SourceStatus::InSync;
        self.source_told = Some(self.now);
        self.withdrawn = None;
        if let Some(held) = &mut self.held {
            held.told += 1;
        }
    }

    /// Makes true what a new set of nodes says.
    fn follow(&mut self, before: &Nodes, was_complete: bool, effects: &mut Vec<Effect>) {
        self.to_ask = None;
        let had_peers = !self.rivals.pods().is_empty();
        self.rivals.set_nodes(&self.nodes, &self.name);
        if !self.has_looked {
            return;
        }
        if !had_peers {
            // There is hardly anything to see but routes of others to those pods.
            effects.push(Effect::Look);
            return;
        }
        let is_same_me = before.get(&self.name) == self.nodes.get(&self.name);
        let networks = |nodes: &Nodes| nodes.pod_networks(&self.config).to_vec();
        let is_same_all = networks(before) == networks(&self.nodes);
        if !was_complete || !is_same_me || !is_same_all || self.held.is_some() {
            // The rare case: whatever is stale may go now.
            let seen = self.belief.take();
            self.settle(seen, effects);
            return;
        }
        let Some(machine) = self.machine.take() else { return };
        let config = self.config.clone();
        let desired = desired(&config, &self.name, &self.nodes, &machine);
        let differing = |a: &Nodes, b: &Nodes| -> BTreeSet<NodeName> {
            let nodes = a.iter().filter(|node| b.get(&node.name) != Some(node));
            nodes.map(|node| node.name.clone()).collect()
        };
        let names = &differing(before, &self.nodes) | &differing(&self.nodes, before);
        let (mut want, mut seen) = (Wanted::default(), Vec::new());
        for name in &names {
            let old = before.get(name).map(|node| desired.peer(node).0).unwrap_or_default();
            let (new, problems) =
                self.nodes.get(name).map(|node| desired.peer(node)).unwrap_or_default();
            self.peers.remove(name);
            if !problems.is_empty() {
                self.peers.insert(name.clone(), problems);
            }
            let known =
                old.iter().chain(&new).filter_map(|object| self.belief.get(object).cloned());
            seen.extend(known);
            want.add(new);
        }
        let want = want.objects();
        rules_last(&mut seen);
        let plan = net::diff(&Space::Here, want, &seen, |object| self.ours.is(object));
        drop(seen);
        self.machine = Some(machine);
        let routes = self.belief.iter().filter(|object| is_peer_route(object)).count();
        let plan = self.restrain(plan, routes);
        self.apply(plan, effects);
    }

    fn on_machine(&mut self, machine: Machine, effects: &mut Vec<Effect>) {
        let is_same = self.machine.as_ref().is_some_and(|before| {
            // Devices and addresses of pods come and go, and change nothing for other nodes.
            let of = |machine| desired(&self.config, &self.name, &self.nodes, machine);
            *before == machine || of(before) == of(&machine)
        });
        self.machine = Some(machine);
        if self.has_looked && !is_same {
            let seen = self.belief.take();
            self.settle(seen, effects);
        }
    }

    fn on_look(&mut self, seen: Vec<Object>, effects: &mut Vec<Effect>) {
        self.has_looked = true;
        self.look_at = Some(self.now + SLOW);
        self.failed.clear();
        self.rivals.look(&seen, &self.ours);
        self.settle(seen, effects);
        if self.failed.is_empty() {
            self.retry = Duration::ZERO;
        }
    }

    /// From what is seen to what should be, as a whole.
    fn settle(&mut self, seen: Vec<Object>, effects: &mut Vec<Effect>) {
        let Some(machine) = self.machine.take() else {
            self.belief = Belief::of(self.ours_of(seen));
            return;
        };
        let config = self.config.clone();
        let desired = desired(&config, &self.name, &self.nodes, &machine);
        self.here = desired.problems.clone();
        if desired.joint.is_some() {
            let plan = self.plan(&desired, seen);
            self.apply(plan, effects);
        } else {
            // Nothing is known of how things should be: what works goes on working.
            self.belief = Belief::of(self.ours_of(seen));
        }
        self.machine = Some(machine);
    }

    /// Of what is seen what is ours, each once: two routes may differ in nothing that tells them apart.
    fn ours_of(&self, mut seen: Vec<Object>) -> Vec<Object> {
        let mut distinct = HashSet::with_capacity(seen.len());
        let is_first = |object| self.ours.is(object) && distinct.insert(Key::of(object));
        let stays: Vec<bool> = seen.iter().map(is_first).collect();
        drop(distinct);
        let mut stays = stays.into_iter();
        seen.retain(|_| stays.next() == Some(true));
        seen
    }

    fn plan(&mut self, desired: &Desired<'_>, seen: Vec<Object>) -> Plan {
        let (settings, shared): (Vec<Object>, Vec<Object>) =
            desired.shared.iter().cloned().partition(|object| matches!(object, Object::Sysctl(_)));
        let mut want = Wanted::default();
        want.add(shared);
        self.peers.clear();
        let me = self.name.clone();
        for node in self.nodes.iter().filter(|node| node.name != me) {
            let (objects, problems) = desired.peer(node);
            want.add(objects);
            if !problems.is_empty() {
                self.peers.insert(node.name.clone(), problems);
            }
        }
        let want = want.objects();
        let mut seen = self.ours_of(seen);
        let mut before: Plan = settings
            .into_iter()
            .map(|it| {
                Step::new(&Space::Here, Change::Ensure(it), "a node forwards as a router does")
            })
            .collect();
        forget_what_goes_with_devices(&want, &mut seen);
        if !fits(&want, &seen) {
            // Sets and hooks cannot be changed in place, so the table is made anew, in one
            // transaction.
            let table = Object::Nft(firewall::table().into());
            seen.retain(|object| !matches!(object, Object::Nft(_)));
            before.push(Step::new(&Space::Here, Change::Delete(table), "is of another form"));
        }
        rules_last(&mut seen);
        let routes = seen.iter().filter(|object| is_peer_route(object)).count();
        let made = net::diff(&Space::Here, want, &seen, |object| self.ours.is(object));
        self.belief = Belief::of(seen);
        let mut plan = self.restrain(made, routes);
        plan.splice(..0, before);
        plan
    }

    fn apply(&mut self, plan: Plan, effects: &mut Vec<Effect>) {
        if !plan.is_empty() {
            effects.push(Effect::Apply(plan.into_iter().map(over_what_is_in_the_way).collect()));
        }
    }

    /// Believes in what was made. The plan comes back for that, so that nothing of it is copied, and
    /// peers need not wait until this is done.
    fn on_applied(&mut self, plan: Plan, refused: Vec<(usize, String)>) {
        let mut refused = refused.into_iter().peekable();
        let mut has_failed = false;
        for (place, Step { change, .. }) in plan.into_iter().enumerate() {
            if let Some((_, why)) = refused.next_if(|(it, _)| *it == place) {
                has_failed = true;
                if let Some(object) = change.object() {
                    self.belief.remove(object);
                }
                self.failed.push((change, why));
                continue;
            }
            // A setting is seen to and not told of.
            if matches!(change, Change::Ensure(Object::Sysctl(_)) | Change::Act(_)) {
                continue;
            }
            let kind = kind(&change);
            match self.changes.get_mut(kind) {
                Some(count) => *count += 1,
                None => drop(self.changes.insert(kind.to_owned(), 1)),
            }
            self.last_change = Some(self.now);
            match change {
                Change::Create(object)
                | Change::Ensure(object)
                | Change::Replace { to: object, .. } => self.belief.insert(object),
                Change::Delete(object) => self.belief.remove(&object),
                Change::Act(_) => {}
            }
        }
        if !has_failed {
            return;
        }
        // What the kernel refuses now it may take later; a machine that refuses is not pestered.
        self.retry = (self.retry * 2).clamp(Duration::from_millis(250), Duration::from_secs(30));
        let at = self.now + self.retry;
        self.look_at = Some(self.look_at.map_or(at, |before| before.min(at)));
    }

    fn on_seen(&mut self, object: &Object) {
        self.look_at_machine(object, false);
        match self.belief.get(object) {
            Some(believed) if holds(believed, object) => {}
            Some(_) => self.look_soon(),
            None if self.ours.is(object) => self.look_soon(),
            None => self.on_stranger(object, false),
        }
    }

    fn on_gone(&mut self, object: &Object) {
        self.look_at_machine(object, true);
        let is_link = matches!(object, Object::Link(_));
        let believed = self.belief.get(object);
        if believed.is_some_and(|believed| is_link || holds(believed, object)) {
            self.look_soon();
        } else if !self.ours.is(object) {
            self.on_stranger(object, true);
        }
    }

    /// What is not ours may be in the way of what is.
    fn on_stranger(&mut self, object: &Object, is_gone: bool) {
        match self.rivals.hear(object, is_gone) {
            Heard::Nothing => {}
            Heard::News => {
                self.news_at.get_or_insert(self.now + GATHER);
            }
            Heard::Unclear => self.look_soon(),
        }
    }

    /// Has the machine looked at where the way to other nodes may be another one now.
    fn look_at_machine(&mut self, object: &Object, gone: bool) {
        let Some(machine) = &self.machine else { return };
        let carries = |link: &LinkName| machine.addresses.iter().any(|it| it.link == *link);
        match object {
            // A stranger of our name, or one that made room.
            Object::Link(link)
                if self.ours.devices.contains(&link.name) && (!is_tunnel(link) || gone) =>
            {
                self.survey_soon();
            }
            Object::Link(link) if carries(&link.name) => {
                let known = machine.links.iter().find(|it| it.name == link.name);
                let is_same = |it: &Link| !gone && it.mtu == link.mtu && it.up == link.up;
                if !known.is_some_and(is_same) {
                    // The kernel drops the routes of a device that goes down without a word.
                    self.survey_soon();
                    self.look_soon();
                }
            }
            Object::Address(address)
                if !self.ours.is(object)
                    && !machine::is_link_local(address)
                    && machine.addresses.contains(address) == gone =>
            {
                self.survey_soon();
                if gone {
                    // Those of its last address, too.
                    self.look_soon();
                }
            }
            Object::Route(route) if route.destination.prefix_len() == 0 => self.survey_soon(),
            _ => {}
        }
    }

    fn on_tick(&mut self, effects: &mut Vec<Effect>) {
        let is_due = |at: &Option<Duration>| at.is_some_and(|at| at <= self.now);
        let mut look = is_due(&self.look_at);
        // Whoever ticks asks for news.
        self.news_at = self.news_at.filter(|at| *at > self.now);
        if let Some(held) = &mut self.held
            && self.now >= held.since + HOLD
        {
            if held.told > 0 {
                look = true;
            } else if !std::mem::replace(&mut held.asked, true) {
                effects.push(Effect::Resync);
            }
        }
        if look || is_due(&self.survey_at) {
            self.survey_at = None;
            effects.push(Effect::Survey);
        }
        if look {
            self.look_at = None;
            effects.push(Effect::Look);
        }
    }
}

#[cfg(test)]
mod tests;
