//! How many entries of the machine's table of neighbours our packets take, and when to give some back.
//!
//! That table is one for all namespaces of a machine, and when it is full, packets of others are
//! dropped without a word. So at most half of what is free is taken at a time.

use std::collections::HashMap;
use std::net::IpAddr;

use kernel::{Fill, Hop};

/// An entry that a question may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// In one of the namespaces that we are in.
    Here {
        /// Which one.
        space: usize,
        /// The device.
        device: u32,
        /// The neighbour.
        address: IpAddr,
    },
    /// That of a gateway, out of reach, for one of our places.
    Beyond(IpAddr),
}

impl Entry {
    /// That of a neighbour in a namespace that we are in.
    pub(crate) fn here(space: usize, hop: Hop) -> Self {
        Self::Here { space, device: hop.device, address: hop.address }
    }

    fn is_ipv6(&self) -> bool {
        match self {
            Self::Here { address, .. } | Self::Beyond(address) => address.is_ipv6(),
        }
    }
}

/// The entries of both families: one table each.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// How many may be held, by family.
    most: [usize; 2],
    /// Those that are held, and by how many they are in use.
    held: HashMap<Entry, usize>,
    /// How many are held, by family; the most that were.
    count: [usize; 2],
    peak: usize,
}

impl Ledger {
    /// For tables that are as full as this, of which one of so many `parts` may be taken.
    pub(crate) fn new(v4: Fill, v6: Fill, parts: usize) -> Self {
        let half = |fill: Fill| fill.limit.saturating_sub(fill.used) / 2 / parts;
        let most = [half(v4), half(v6)];
        Self { most, held: HashMap::new(), count: [0; 2], peak: 0 }
    }

    /// How many neighbours have to be looked for, of whom two know each other by one search: who is
    /// asked learns who asks.
    pub(crate) fn searches(&self, entries: &[Entry]) -> usize {
        entries.iter().filter(|entry| !self.held.contains_key(entry)).count().div_ceil(2)
    }

    /// Takes entries into use, if there is room for those that are new, or `anyway`.
    pub(crate) fn take(&mut self, entries: &[Entry], anyway: bool) -> bool {
        let mut more = self.count;
        for entry in entries {
            more[usize::from(entry.is_ipv6())] += usize::from(!self.held.contains_key(entry));
        }
        let fits = |family: usize| more[family] <= self.most[family];
        if !(anyway || fits(0) && fits(1)) {
            return false;
        }
        for entry in entries {
            *self.held.entry(*entry).or_default() += 1;
        }
        self.count = more;
        self.peak = self.peak.max(more[0] + more[1]);
        true
    }

    /// Has no more use for them. They are still held.
    pub(crate) fn release(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Some(users) = self.held.get_mut(entry) {
                *users = users.saturating_sub(1);
            }
        }
    }

    /// Those that can be given back: held by nobody, and within reach.
    pub(crate) fn idle(&self) -> Vec<Entry> {
        let is_idle =
            |(entry, users): &(&Entry, &usize)| **users == 0 && matches!(entry, Entry::Here { .. });
        self.held.iter().filter(is_idle).map(|(entry, _)| *entry).collect()
    }

    /// They are gone from the table.
    pub(crate) fn forget(&mut self, entries: &[Entry]) {
        for entry in entries {
            if self.held.remove(entry).is_some() {
                self.count[usize::from(entry.is_ipv6())] -= 1;
            }
        }
    }

    /// The most that were held at a time.
    pub(crate) fn peak(&self) -> usize {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(number: u8) -> Entry {
        Entry::Here { space: 0, device: 1, address: IpAddr::from([10, 0, 0, number]) }
    }

    fn ledger(limit: usize, used: usize) -> Ledger {
        let fill = Fill { limit, used, refused: 0 };
        Ledger::new(fill, fill, 1)
    }

    #[test]
    fn at_most_half_of_what_is_free_is_held() {
        let mut ledger = ledger(10, 2);
        assert!(ledger.take(&[here(1), here(2)], false));
        assert!(ledger.take(&[here(2), here(3), here(4)], false), "one of them is held already");
        assert!(!ledger.take(&[here(5)], false));
        assert_eq!(ledger.peak(), 4);
        assert_eq!(ledger.searches(&[here(1), here(7)]), 1, "one of them is known");
        assert_eq!(ledger.searches(&[here(5), here(6), here(7)]), 2);
        ledger.release(&[here(1), here(2)]);
        assert_eq!(ledger.idle(), [here(1)], "the other is still in use");
        assert!(!ledger.take(&[here(5)], false), "it is held until it is gone");
        ledger.forget(&[here(1)]);
        assert!(ledger.take(&[here(5)], false));
        let six = Entry::Beyond("fd00::1".parse().unwrap());
        assert!(ledger.take(&[six], false), "the other family has a table of its own");
        assert!(ledger.take(&[here(6)], true));
    }
}
