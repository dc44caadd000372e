//! The queues in which packets between devices of a machine wait for its processors.
//!
//! There is one a processor, for all namespaces, and when it is full, packets of others are dropped
//! without a word. A broadcast on a bridge takes a place in it for each port.

use std::fs;

/// The queues of all processors together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// How many packets may wait for one processor.
    pub limit: usize,
    /// How many were let through since the machine was started.
    pub passed: u64,
    /// How many were dropped for lack of room.
    pub dropped: u64,
}

/// What the kernel tells of them; none if it tells nothing.
pub fn backlog() -> Option<Backlog> {
    /// What the kernel takes if nobody has set it. It tells in the machine's first namespace only.
    const USUAL: usize = 1000;
    let setting = fs::read_to_string("/proc/sys/net/core/netdev_max_backlog").ok();
    let limit = setting.and_then(|it| it.trim().parse().ok()).unwrap_or(USUAL);
    let text = fs::read_to_string("/proc/thread-self/net/softnet_stat").ok()?;
    let (passed, dropped) = counts(&text)?;
    Some(Backlog { limit, passed, dropped })
}

/// The first two columns of all lines, of which each processor has one.
fn counts(text: &str) -> Option<(u64, u64)> {
    let mut sums = (0, 0);
    for line in text.lines() {
        let mut words = line.split_whitespace().map(|word| u64::from_str_radix(word, 16).ok());
        sums.0 += words.next()??;
        sums.1 += words.next()??;
    }
    Some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_all_processors_are_added() {
        assert_eq!(
            counts("000000ff 00000001 00000000\n00000001 00000010 00000003\n"),
            Some((256, 17))
        );
        assert_eq!(counts("what is this"), None);
        let told = backlog().unwrap();
        assert!(told.limit > 0 && told.passed > 0, "{told:?}");
    }
}
