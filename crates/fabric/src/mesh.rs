//! Probes between agents: whom to ask, and what the answers mean.
//!
//! Each node asks a few others, so that the load does not grow with the cluster and yet every node is
//! asked by somebody. A packet as large as a pod's goes through the tunnel; one as large as the
//! tunnel's outside goes plainly, with DF: the outside of a tunnel has none, is fragmented, and
//! hides a small underlay.

use std::collections::BTreeSet;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Backend, Code, Family, Joint, Node, NodeName, Nodes, Problem, Subject};

/// How many rounds in a row something fails before it is told: one packet may be lost.
const ROUNDS: u32 = 3;
/// The distances on the ring of all nodes: the first one joins all of them, the others find what is
/// cut in two sooner.
const DISTANCES: [usize; 3] = [1, 2, 7];

/// What to ask one peer in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whom.
    pub peer: NodeName,
    /// In which family of pods.
    pub family: Family,
    /// Through the tunnel: our address in it, the peer's, and the size of a pod's largest packet.
    pub inner: Option<(IpAddr, IpAddr, u32)>,
    /// Plainly: our address, the peer's, and the size that such a packet has outside.
    pub outer: (IpAddr, IpAddr, u32),
}

/// What came of one target in one round. `None` where there was nothing to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// A large packet through the tunnel, with its time there and back in microseconds.
    pub inner: Option<Result<u64, ()>>,
    /// A small one, asked where the large one was lost.
    pub inner_small: Option<Result<u64, ()>>,
    /// A large one plainly.
    pub outer: Option<Result<u64, ()>>,
    /// A small one, asked where the large one was lost.
    pub outer_small: Option<Result<u64, ()>>,
}

/// What is known of the way to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    /// Whom.
    pub peer: NodeName,
    /// In which family of pods.
    pub family: Family,
    /// There and back, in microseconds, when it was asked last with success.
    pub micros: Option<u64>,
    /// How many rounds there were, and how many of them lost the large packet.
    pub rounds: u64,
    /// See `rounds`.
    pub lost: u64,
    /// What is wrong.
    pub problem: Option<Problem>,
    #[serde(skip)]
    failures: u32,
    #[serde(skip)]
    has_answered: bool,
}

/// Whom a node asks: by a ring of all nodes in an order that is the same for all of them.
pub fn to_ask(nodes: &Nodes, me: &NodeName) -> Vec<NodeName> {
    let place = |name: &NodeName| Sha256::digest(name.as_str().as_bytes());
    let mut ring: Vec<&NodeName> = nodes.iter().map(|node| &node.name).collect();
    ring.sort_by_cached_key(|name| place(name));
    let Some(own) = ring.iter().position(|name| *name == me) else { return Vec::new() };
    // Round a small ring two distances lead to the same one.
    let places = DISTANCES.iter().map(|distance| (own + distance) % ring.len());
    let places: BTreeSet<usize> = places.filter(|place| *place != own).collect();
    places.into_iter().map(|place| ring[place].clone()).collect()
}

/// What to ask of these peers.
pub fn targets<'a>(joint: &Joint<'_>, peers: impl Iterator<Item = &'a Node>) -> Vec<Target> {
    let one = |peer| Family::ALL.map(|family| target(joint, peer, family));
    peers.flat_map(one).flatten().collect()
}

fn target(joint: &Joint<'_>, peer: &Node, family: Family) -> Option<Target> {
    // Whom there is no way to need not be asked.
    joint.peer(peer, family).ok().filter(|objects| !objects.is_empty())?;
    let hop = joint.hop(peer, family).ok()?;
    let is_tunnelled = hop.by != Backend::HostGw;
    let overhead = if is_tunnelled { joint.overhead(hop.outer) } else { 0 };
    // A peer that is reached over the other family is so with smaller packets.
    let mtu = joint.mtu()?.min(hop.uplink.mtu.saturating_sub(overhead));
    let inner = is_tunnelled.then(|| Some((joint.me.inner(family)?, peer.inner(family)?, mtu)));
    let outer = (hop.uplink.address, hop.address, mtu + overhead);
    Some(Target { peer: peer.name.clone(), family, inner: inner.flatten(), outer })
}

impl Way {
    /// One that was not asked yet.
    pub fn new(target: &Target) -> Self {
        let (peer, family) = (target.peer.clone(), target.family);
        let (rounds, lost, failures) = (0, 0, 0);
        Self {
            peer,
            family,
            micros: None,
            rounds,
            lost,
            problem: None,
            failures,
            has_answered: false,
        }
    }

    /// Takes in one round.
    pub fn learn(&mut self, target: &Target, round: Round, tunnel: (u16, u32)) {
        self.rounds += 1;
        let is_ok = |answer: Option<Result<u64, ()>>| answer.is_none_or(|it| it.is_ok());
        let any = [round.inner, round.inner_small, round.outer, round.outer_small];
        self.has_answered |= any.iter().flatten().any(Result::is_ok);
        let timed = if round.inner.is_some() { round.inner } else { round.outer };
        if is_ok(round.inner) && is_ok(round.outer) {
            (self.failures, self.problem) = (0, None);
        } else {
            self.failures += 1;
        }
        match timed {
            Some(Ok(micros)) => self.micros = Some(micros),
            _ => self.lost += 1,
        }
        if self.failures >= ROUNDS {
            self.problem = self.conclude(target, round, tunnel);
        }
    }

    /// What is wrong, as far as the round tells.
    fn conclude(&self, target: &Target, round: Round, (port, vni): (u16, u32)) -> Option<Problem> {
        let works = |answer: Option<Result<u64, ()>>| answer.is_some_and(|it| it.is_ok());
        let plain = works(round.outer) || works(round.outer_small);
        let family = self.family;
        let text = if let Some((_, _, mtu)) = target.inner {
            if works(round.inner) {
                // The tunnel fragments what the underlay does not carry whole.
                works(round.outer_small).then(|| {
                    format!(
                        "the underlay does not carry packets of {} bytes whole, which pods' packets \
                         of {mtu} bytes make: they are fragmented; raise its MTU, or set `mtu` lower",
                        target.outer.2
                    )
                })
            } else if works(round.inner_small) {
                Some(format!(
                    "{family} packets of {mtu} bytes are lost in the tunnel, small ones pass: \
                     something on the way has a smaller MTU and drops fragments; set `mtu` lower"
                ))
            } else if plain {
                Some(format!(
                    "{family} packets are lost in the tunnel, plain ones pass: a firewall on the way \
                     drops UDP port {port}, or the node has another port or VNI than {vni}"
                ))
            } else {
                self.has_answered.then(|| format!("does not answer any more to {family} probes"))
            }
        } else if works(round.outer_small) {
            Some(format!(
                "packets of {} bytes are lost, small ones pass: something on the way has a smaller \
                 MTU; set `mtu` lower",
                target.outer.2
            ))
        } else {
            self.has_answered.then(|| format!("does not answer any more to {family} probes"))
        };
        // Probes may be wrong where pods are not: whether peers are joined is not for them to say.
        let problem = |text| Problem {
            subject: Subject::Note,
            code: Code::Probe,
            text: format!("node {}: {text}", self.peer),
        };
        text.map(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_of(tunnel: bool) -> Target {
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|it| it.parse().unwrap());
        let inner =
            tunnel.then(|| ("10.1.0.0".parse().unwrap(), "10.2.0.0".parse().unwrap(), 1450));
        Target { peer: "n2".parse().unwrap(), family: Family::V4, inner, outer: (a, b, 1500) }
    }

    fn told(tunnel: bool, round: Round, before: Option<Round>) -> String {
        let target = target_of(tunnel);
        let mut way = Way::new(&target);
        for round in before.into_iter().chain([round; ROUNDS as usize]) {
            way.learn(&target, round, (8472, 1));
        }
        way.problem.map(|problem| problem.text).unwrap_or_default()
    }

    const GOOD: Option<Result<u64, ()>> = Some(Ok(100));
    const BAD: Option<Result<u64, ()>> = Some(Err(()));

    #[test]
    fn what_is_lost_tells_what_is_wrong() {
        let round = |inner, inner_small, outer, outer_small| Round {
            inner,
            inner_small,
            outer,
            outer_small,
        };
        let all = round(GOOD, None, GOOD, None);
        assert_eq!(told(true, all, None), "");
        for (round, expected) in [
            (round(GOOD, None, BAD, GOOD), "does not carry packets of 1500 bytes whole"),
            (
                round(BAD, GOOD, BAD, GOOD),
                "packets of 1450 bytes are lost in the tunnel, small ones pass",
            ),
            (
                round(BAD, BAD, GOOD, None),
                "drops UDP port 8472, or the node has another port or VNI than 1",
            ),
            (round(BAD, BAD, BAD, BAD), "does not answer any more"),
        ] {
            let text = told(true, round, Some(all));
            assert!(text.contains(expected), "{text}");
        }
        // Who never answered has no agent of ours, perhaps.
        assert_eq!(told(true, round(BAD, BAD, BAD, BAD), None), "");
        // Who answers through the tunnel is not cut off, whatever plain probes say.
        assert_eq!(told(true, round(GOOD, None, BAD, BAD), None), "");
        assert!(told(false, round(None, None, BAD, GOOD), None).contains("small ones pass"));
    }

    #[test]
    fn one_lost_packet_is_nothing() {
        let target = target_of(true);
        let mut way = Way::new(&target);
        let lost = Round { inner: BAD, inner_small: BAD, outer: GOOD, outer_small: None };
        for _ in 1..ROUNDS {
            way.learn(&target, lost, (8472, 1));
        }
        assert_eq!(way.problem, None);
        way.learn(&target, lost, (8472, 1));
        assert!(way.problem.is_some());
        way.learn(&target, Round { inner: GOOD, outer: GOOD, ..Round::default() }, (8472, 1));
        assert_eq!((way.problem, way.lost, way.rounds), (None, 3, 4));
    }
}
