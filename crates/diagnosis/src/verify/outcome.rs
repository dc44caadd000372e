//! What came of a question, and the search for what does pass.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::plan::{Plan, Protocol, Question};
use super::rule::Rule;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It arrived, and an answer came back.
    Answered {
        /// The source address that the other end saw; `None` where nobody tells.
        seen: Option<IpAddr>,
        /// The address that the answer came from.
        from: Option<IpAddr>,
    },
    /// It arrived, and no answer came back: the way back is broken.
    Unanswered {
        /// The source address that the other end saw.
        seen: IpAddr,
    },
    /// Nothing came back within so many milliseconds.
    Silent(u64),
    /// It does not fit: the sender's kernel or somebody on the way said so.
    TooLarge(String),
    /// It was refused, in somebody's words.
    Refused(String),
    /// The asker cannot use its address, or the other end cannot.
    NoAddress {
        /// The address.
        address: IpAddr,
        /// Why.
        why: String,
    },
    /// The namespace of one end is not there any more. Only who has the plan knows which one it is.
    #[serde(skip)]
    Gone(usize),
    /// It could not be asked.
    Unknown(String),
}

impl Outcome {
    /// Whether a packet of this size arrives, whatever address it is seen from; its answer is small.
    pub(super) fn has_arrived(&self) -> bool {
        matches!(self, Self::Answered { .. } | Self::Unanswered { .. })
    }
}

/// The search for the largest packet that passes between two, where one of the wanted size does not.
///
/// What does not pass is mostly lost without a word, which costs a whole time limit. So many sizes
/// are tried at once, and the space between two of them the next time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Where packets start, in [`Plan::places`].
    pub from: usize,
    /// Where they arrive.
    pub to: usize,
    /// This passes, or nothing does.
    low: usize,
    /// This does not.
    high: usize,
}

/// How many sizes are tried at once.
const RUNGS: usize = 40;
/// The size of the smallest question, which is known to pass.
const LEAST: [usize; 2] = [68, 88];

impl Search {
    /// The sizes to try.
    pub fn rungs(&self) -> Vec<usize> {
        let gap = self.high - self.low;
        if gap <= 1 {
            return Vec::new();
        }
        let count = RUNGS.min(gap - 1);
        (1..=count).map(|rung| self.low + gap * rung / (count + 1)).collect()
    }

    /// Takes in which of the [rungs](Self::rungs) have passed.
    pub fn narrow(&mut self, outcomes: &[Outcome]) {
        let (mut low, mut high) = (self.low, self.high);
        for (size, outcome) in self.rungs().into_iter().zip(outcomes) {
            match outcome.has_arrived() {
                true => low = low.max(size),
                false => high = high.min(size),
            }
        }
        // One that was lost by chance does not turn the order around.
        (self.low, self.high) = (low, high.max(low + 1));
    }

    /// The largest size that passes, as far as it is known.
    pub fn largest(&self) -> usize {
        self.low
    }
}

impl Plan {
    /// What to search for, one representative of each two nodes and of each layer.
    pub fn searches(&self, outcomes: &[Outcome]) -> Vec<Search> {
        let small = self.small(outcomes);
        let mut known = BTreeSet::new();
        let mut searches = Vec::new();
        for (question, outcome) in self.questions.iter().zip(outcomes) {
            let Some(high) = question.whole else { continue };
            let is_lost =
                matches!(outcome, Outcome::Silent(_) | Outcome::TooLarge(_) | Outcome::Refused(_));
            let Question { from, to, .. } = *question;
            let is_open = small.get(&(from, to)) == Some(&true);
            if !is_lost || !is_open || !known.insert(self.route(question)) {
                continue;
            }
            let low = LEAST[usize::from(self.places[from].address.is_ipv6())].min(high);
            searches.push(Search { from, to, low, high });
        }
        searches
    }

    /// Between which places small datagrams pass, and between which they do not.
    pub(super) fn small(&self, outcomes: &[Outcome]) -> HashMap<(usize, usize), bool> {
        let asked = self.questions.iter().zip(outcomes);
        let small = asked.filter(|(it, _)| it.protocol == Protocol::Udp && it.whole.is_none());
        small.map(|(it, outcome)| ((it.from, it.to), outcome.has_arrived())).collect()
    }

    /// What a search for one question tells about: the two nodes, the family, pods' packets or the
    /// tunnel's.
    pub(super) fn route(&self, question: &Question) -> Route {
        let ends = [question.from, question.to].map(|place| &self.hosts[self.places[place].host]);
        let homes = ends.map(|host| host.home);
        let v6 = self.places[question.from].address.is_ipv6();
        (homes, v6, ends[0].kind)
    }

    /// The question by which a size is tried.
    pub fn rung(&self, search: &Search, size: usize) -> Question {
        let Search { from, to, .. } = *search;
        let (protocol, rule) = (Protocol::Udp, Rule::Mtu);
        Question { from, to, protocol, whole: Some(size), rule }
    }
}

/// See [`Plan::route`].
pub(super) type Route = ([Option<usize>; 2], bool, super::hosts::Kind);

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: usize, high: usize) -> (usize, usize) {
        let mut search = Search { from: 0, to: 1, low: 68, high };
        let mut rounds = 0;
        while !search.rungs().is_empty() {
            let outcome = |size: usize| match size <= limit {
                true => Outcome::Answered { seen: None, from: None },
                false => Outcome::Silent(1),
            };
            let outcomes: Vec<Outcome> = search.rungs().into_iter().map(outcome).collect();
            search.narrow(&outcomes);
            rounds += 1;
        }
        (search.largest(), rounds)
    }

    #[test]
    fn the_largest_size_is_found_in_a_few_rounds() {
        for limit in [68, 69, 576, 1279, 1400, 1449] {
            let (size, rounds) = found(limit, 1450);
            assert_eq!(size, limit);
            assert!(rounds <= 3, "{limit}: {rounds}");
        }
        assert_eq!(found(8_950, 65_535).0, 8_950);
    }

    #[test]
    fn what_was_lost_by_chance_does_not_hide_what_passes() {
        let mut search = Search { from: 0, to: 1, low: 68, high: 100 };
        let outcomes: Vec<Outcome> = search
            .rungs()
            .iter()
            .map(|size| match size {
                80 => Outcome::Silent(1),
                _ => Outcome::Answered { seen: None, from: None },
            })
            .collect();
        search.narrow(&outcomes);
        assert_eq!(search.largest(), 99);
    }
}
