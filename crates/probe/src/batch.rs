//! How many packets may be on their way without hurting the machine.

/// How many pairs may be asked at once on a machine whose neighbour table may hold `limit` entries
/// (`gc_thresh3`) and holds `used`.
///
/// That table is one for all namespaces of a machine, and when it is full, packets of others are
/// dropped without a word. So at most half of what is free is taken. Who asks in many batches
/// removes the entries that a batch made, or looks at the table again, before the next.
pub fn at_once(limit: usize, used: usize) -> usize {
    // Each end has an entry for its gateway or for the other end, and each gateway has one for its
    // end.
    const ENTRIES_A_PAIR: usize = 4;
    // A pair has two sockets, and a process may by default have 1,024 files open.
    const MOST: usize = 256;
    let free = limit.saturating_sub(used);
    (free / 2 / ENTRIES_A_PAIR).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_half_of_the_free_entries_are_taken() {
        assert_eq!(at_once(1024, 0), 128);
        assert_eq!(at_once(1024, 512), 64);
        assert_eq!(at_once(1 << 20, 0), 256);
    }

    #[test]
    fn a_full_table_still_lets_one_pair_through() {
        assert_eq!(at_once(1024, 1024), 1);
        assert_eq!(at_once(0, 5), 1);
    }
}
