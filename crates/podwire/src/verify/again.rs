//! Asking again what came to nothing, before it is told.
//!
//! That nothing comes back, or that there is no way, says little by itself: queues and tables of the
//! machine overflow, and who is too busy answers late. What keeps silent a second time, a few seconds later, has another reason,
//! unless packets were lost in great numbers meanwhile: then nobody can tell.

use diagnosis::verify::Outcome;

use crate::failure::Result;

/// Why nobody can tell what has become of a packet.
const FULL: &str = "the machine's table of neighbours was full (gc_thresh3), which loses packets";
const LATE: &str =
    "the machine's queues of packets were full (net.core.netdev_max_backlog), which loses packets";

/// How many packets the machine has lost without a word since it was started, as far as it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// For which its tables of neighbours had no room.
    refused: u64,
    /// For which its queues had none.
    dropped: u64,
    /// Those that its queues let through.
    passed: u64,
}

impl Losses {
    pub(super) fn now() -> Self {
        let fills = [false, true].into_iter().filter_map(kernel::neighbour_fill);
        let backlog = kernel::backlog();
        Self {
            refused: fills.map(|fill| fill.refused).sum(),
            dropped: backlog.map(|it| it.dropped).unwrap_or_default(),
            passed: backlog.map(|it| it.passed).unwrap_or_default(),
        }
    }

    /// Why nobody can tell what became of packets since then; none if hardly any were lost. A question
    /// is sent many times, so that a few drops anywhere on the machine do not silence it.
    fn since(self, before: Self) -> Option<&'static str> {
        /// One in so many may be lost.
        const FEW: u64 = 20;
        let Self { refused, dropped, passed } = self;
        if refused != before.refused {
            return Some(FULL);
        }
        let dropped = dropped.saturating_sub(before.dropped);
        (dropped * FEW > passed.saturating_sub(before.passed)).then_some(LATE)
    }
}

/// Asks again what came to nothing: all of it if that is at most `most`; else so many of it, evenly
/// spread, and the rest only if one of these is answered now. Tells how many were.
pub(super) fn again(
    outcomes: &mut [Outcome],
    most: usize,
    losses: &dyn Fn() -> Losses,
    ask: &mut dyn FnMut(&[usize]) -> Result<Vec<Outcome>>,
) -> Result<usize> {
    let all: Vec<usize> = (0..outcomes.len()).filter(|it| is_bad(&outcomes[*it])).collect();
    let before = losses();
    let mut late = 0;
    for part in parts(&all, most) {
        for (place, outcome) in part.iter().zip(ask(&part)?) {
            if matches!(outcome, Outcome::Answered { .. }) {
                outcomes[*place] = outcome;
                late += 1;
            }
        }
        if late == 0 {
            break;
        }
    }
    if let Some(why) = losses().since(before) {
        for outcome in outcomes.iter_mut().filter(|it| is_lost(it)) {
            *outcome = Outcome::Unknown(why.to_owned());
        }
    }
    Ok(late)
}

/// Whether it may come to something the next time. A kernel whose search for a neighbour was lost says
/// that there is no way.
fn is_bad(outcome: &Outcome) -> bool {
    is_lost(outcome) || matches!(outcome, Outcome::Refused(_))
}

fn is_lost(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Silent(_) | Outcome::Unanswered { .. })
}

/// At most so many, evenly spread, and the others; none that would be empty.
fn parts(all: &[usize], most: usize) -> Vec<Vec<usize>> {
    let few = all.len().min(most.max(1));
    let is_first = |number: usize| (number + 1) * few / all.len() > number * few / all.len();
    let (first, rest): (Vec<_>, Vec<_>) = (0..all.len()).partition(|number| is_first(*number));
    let of = |numbers: Vec<usize>| numbers.into_iter().map(|number| all[number]).collect();
    [first, rest].into_iter().filter(|part| !part.is_empty()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERED: Outcome = Outcome::Answered { seen: None, from: None };
    const SILENT: Outcome = Outcome::Silent(400);

    /// What is told of so many silent ones of which `is_late` answer now, how many those are said to
    /// be, and how many are asked each time.
    fn asked(
        silent: usize,
        is_late: impl Fn(usize) -> bool,
        lost: Losses,
    ) -> (Vec<Outcome>, usize, Vec<usize>) {
        let mut outcomes = vec![SILENT; silent];
        let told = std::cell::Cell::new(Losses::default());
        let mut counts = Vec::new();
        let late = again(&mut outcomes, 8, &|| told.get(), &mut |places| {
            counts.push(places.len());
            told.set(lost);
            Ok(places.iter().map(|it| if is_late(*it) { ANSWERED } else { SILENT }).collect())
        });
        (outcomes, late.ok().unwrap(), counts)
    }

    #[test]
    fn all_of_a_few_are_asked_again() {
        let (outcomes, late, counts) = asked(8, |it| it == 5, Losses::default());
        assert_eq!((late, counts), (1, vec![8]));
        assert_eq!(outcomes[5], ANSWERED);
        assert_eq!(outcomes.iter().filter(|it| **it == SILENT).count(), 7);
        assert_eq!(asked(0, |_| true, Losses::default()), (vec![], 0, vec![]));
    }

    #[test]
    fn the_rest_of_many_is_asked_only_if_one_of_a_spread_sample_is_answered() {
        let (outcomes, late, counts) = asked(100, |_| false, Losses::default());
        assert_eq!((outcomes, late, counts), (vec![SILENT; 100], 0, vec![8]));
        let (outcomes, late, counts) = asked(100, |it| it >= 80, Losses::default());
        assert_eq!((late, counts), (20, vec![8, 92]));
        assert!(outcomes[80..].iter().all(|it| *it == ANSWERED));
        let all: Vec<usize> = (0..100).collect();
        assert_eq!(parts(&all, 8)[0], [12, 24, 37, 49, 62, 74, 87, 99]);
    }

    #[test]
    fn what_stays_silent_while_much_is_lost_is_unknown() {
        let told = |lost| asked(100, |_| false, lost).0;
        let unknown = |why: &str| vec![Outcome::Unknown(why.to_owned()); 100];
        assert_eq!(told(Losses { refused: 1, ..Losses::default() }), unknown(FULL));
        let (dropped, passed) = (51, 1000);
        assert_eq!(told(Losses { dropped, passed, refused: 0 }), unknown(LATE));
        let few = Losses { dropped: 50, passed, refused: 0 };
        assert_eq!(told(few), vec![SILENT; 100]);
    }

    #[test]
    fn what_was_answered_is_not_asked_again() {
        let refused = Outcome::Refused("no route".to_owned());
        let unanswered = Outcome::Unanswered { seen: [10, 0, 0, 1].into() };
        let mut outcomes = vec![ANSWERED, refused.clone(), unanswered, SILENT];
        let mut asked = Vec::new();
        let late = again(&mut outcomes, 8, &Losses::default, &mut |places| {
            asked = places.to_vec();
            Ok(vec![SILENT, ANSWERED, SILENT])
        });
        assert_eq!((late.ok(), asked), (Some(1), vec![1, 2, 3]));
        assert_eq!(outcomes, [ANSWERED, refused, ANSWERED, SILENT]);
    }
}
