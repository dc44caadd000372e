//! The ports of nodes that lead to pods: somebody listens in the pod while somebody calls the node,
//! and who was heard there says where the call has come.
//!
//! Both may be of this machine, or each of another one with a responder.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use diagnosis::verify::{Call, Outcome, Plan, Protocol, Service};
use probe::Listening;
use serde::{Deserialize, Serialize};

use super::ask::{self, protocol};
use super::call::{AT_ONCE, among};

/// A port of a pod that a port of its node leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodPort {
    /// The pod's address, and the port.
    pub(crate) at: SocketAddr,
    /// For what.
    pub(crate) protocol: Protocol,
    /// Who is going to call, from which address.
    pub(crate) caller: IpAddr,
}

/// The place at which to listen for a call, and its port; none if it leads to no pod.
pub(super) fn listens(plan: &Plan, call: &Call) -> Option<(usize, PodPort)> {
    let Service::Port { place, port } = call.service else { return None };
    let at = SocketAddr::new(plan.places[place].address, port);
    let caller = plan.places[call.from].address;
    Some((place, PodPort { at, protocol: call.protocol, caller }))
}

/// Calls to ports, by their numbers, in parts that can be made at once: of two to one port of one pod
/// nobody could tell which of both was heard.
pub(super) fn waves(plan: &Plan, calls: &[usize]) -> Vec<Vec<usize>> {
    let port = |number: usize| (&plan.calls[number].service, plan.calls[number].protocol);
    let mut waves: Vec<Vec<usize>> = Vec::new();
    for number in calls {
        let fits = |wave: &&mut Vec<usize>| {
            wave.len() < AT_ONCE && wave.iter().all(|it| port(*it) != port(*number))
        };
        match waves.iter_mut().find(fits) {
            Some(wave) => wave.push(*number),
            None => waves.push(vec![*number]),
        }
    }
    waves
}

/// Of a port whether it is heard who comes there, or why it is not open.
pub(crate) type Opened = Result<bool, Outcome>;

/// Who has come to a port, or why nobody can tell.
pub(crate) type Heard = Result<Vec<IpAddr>, Outcome>;

/// Ports of pods of this machine at which we listen.
pub(crate) struct Listen {
    listening: Option<Listening>,
    /// Those that have a place.
    given: Vec<Result<(), Outcome>>,
    opened: Vec<Opened>,
}

impl Listen {
    /// Listens for calls that wait so long for their answers.
    pub(crate) fn open(
        ports: Vec<Result<(probe::Place<'_>, PodPort), Outcome>>,
        patience: Duration,
    ) -> Self {
        /// For whoever calls to be told so, and to answer.
        const SPARE: Duration = Duration::from_secs(30);
        let given = ports.iter().map(|it| it.as_ref().map(|_| ()).map_err(Clone::clone)).collect();
        let mut listening = None;
        let opened = among(ports, Err, |ports| {
            let ports: Vec<probe::Port<'_>> = ports.iter().map(port).collect();
            match Listening::open(&ports, SPARE + 2 * patience) {
                Ok(open) => {
                    let unusable = |failure| ask::outcome(Err(failure));
                    let opened = open.opened().iter().map(|it| it.clone().map_err(unusable));
                    let opened = opened.collect();
                    listening = Some(open);
                    opened
                }
                Err(error) => vec![Err(Outcome::Unknown(error.to_string())); ports.len()],
            }
        });
        Self { listening, given, opened }
    }

    /// What came of each.
    pub(crate) fn opened(&self) -> &[Opened] {
        &self.opened
    }

    /// Closes all, and tells who has come to each.
    pub(crate) fn heard(self) -> Vec<Heard> {
        let heard = self.listening.and_then(Listening::heard);
        let over = || Outcome::Unknown("the port of the pod was closed too early".to_owned());
        among(self.given, Err, |given| match heard {
            Some(heard) => heard.into_iter().map(Ok).collect(),
            None => vec![Err(over()); given.len()],
        })
    }
}

fn port<'a>((place, port): &(probe::Place<'a>, PodPort)) -> probe::Port<'a> {
    probe::Port { place: *place, protocol: protocol(port.protocol), port: port.at.port() }
}

/// What a call from `own` has come to, where these were heard at the port that it leads to.
pub(super) fn conclude(own: IpAddr, made: Outcome, heard: &[IpAddr]) -> Outcome {
    // Others may use the port meanwhile.
    let seen = heard.iter().find(|it| **it == own).or(heard.first()).copied();
    match (made, seen) {
        (Outcome::Answered { seen: None, from }, Some(seen)) => {
            Outcome::Answered { seen: Some(seen), from }
        }
        (Outcome::Answered { seen: None, .. }, None) => {
            Outcome::Refused("somebody else than the pod answered".to_owned())
        }
        (Outcome::Silent(_), Some(seen)) => Outcome::Unanswered { seen },
        (made, _) => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_heard_says_where_a_call_has_come() {
        let [own, node, other] =
            ["10.1.0.2", "192.0.2.1", "192.0.2.9"].map(|it| it.parse::<IpAddr>().unwrap());
        let connected = || Outcome::Answered { seen: None, from: Some(node) };
        let seen = |seen| Outcome::Answered { seen: Some(seen), from: Some(node) };
        assert_eq!(conclude(own, connected(), &[own]), seen(own));
        assert_eq!(conclude(own, connected(), &[other, own]), seen(own), "others may come as well");
        assert_eq!(conclude(own, connected(), &[other]), seen(other));
        let why = "somebody else than the pod answered".to_owned();
        assert_eq!(conclude(own, connected(), &[]), Outcome::Refused(why));
        let back = Outcome::Unanswered { seen: other };
        assert_eq!(conclude(own, Outcome::Silent(400), &[other]), back);
        assert_eq!(conclude(own, Outcome::Silent(400), &[]), Outcome::Silent(400));
        // A datagram's answer says itself whom the pod saw.
        assert_eq!(conclude(own, seen(other), &[own]), seen(other));
    }
}
