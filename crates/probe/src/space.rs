//! A namespace with what the kernel knew of neighbours in it before our packets, so that it can be
//! made to forget what it learned by them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use kernel::{Hop, Neighbours, Netns};

/// A neighbour by its device and address.
type Entry = (u32, IpAddr);

/// A namespace in which packets of ours start, arrive or pass.
#[derive(Debug)]
pub struct Space {
    netns: Netns,
    /// `None` where the kernel does not tell.
    neighbours: Option<Neighbours>,
    before: Before,
}

/// What was known before any packet of ours.
#[derive(Debug)]
enum Before {
    /// All of it, and whether somebody has written it: what packets make that pass here nobody knows
    /// beforehand.
    All(HashMap<Entry, bool>),
    /// Whether it was, of those to whom our packets are given: they make nothing else where they only
    /// start. A node has thousands of neighbours, and few of them are asked.
    Given(HashMap<Entry, bool>),
}

impl Space {
    /// What is known there, before any packet of ours.
    ///
    /// # Errors
    ///
    /// If it cannot be entered.
    pub fn open(netns: &Netns) -> kernel::Result<Self> {
        let mut space = Self::look(netns)?.0;
        space.look_at_all();
        Ok(space)
    }

    /// One in which our packets only start, and how many connections more can be tracked there.
    pub(crate) fn look(netns: &Netns) -> kernel::Result<(Self, Option<usize>)> {
        let netns = netns.twin()?;
        let (neighbours, room) = netns.enter(|| (Neighbours::open(), kernel::track_room()))?;
        let before = Before::Given(HashMap::new());
        Ok((Self { netns, neighbours: neighbours.ok(), before }, room))
    }

    /// From here on, packets of ours may also pass or arrive there.
    pub(crate) fn look_at_all(&mut self) {
        let before = self.neighbours.as_mut().and_then(|it| it.all().ok());
        if before.is_none() {
            self.neighbours = None;
        }
        self.before = Before::All(before.unwrap_or_default());
    }

    /// The namespace.
    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// How many neighbours of a family were known before, as far as they were looked at: those that the
    /// kernel has learned, and those that somebody has written.
    pub(crate) fn count(&self, is_ipv6: bool) -> (usize, usize) {
        let Before::All(all) = &self.before else { return (0, 0) };
        let (mut learned, mut written) = (0, 0);
        for ((_, address), is_written) in all {
            if address.is_ipv6() == is_ipv6 {
                *(if *is_written { &mut written } else { &mut learned }) += 1;
            }
        }
        (learned, written)
    }

    /// The neighbour by which packets leave that was not known before; none if there is no such way.
    pub fn new_hop(&mut self, from: IpAddr, to: IpAddr) -> Option<Hop> {
        let hop = self.hop(from, to)?;
        let neighbours = self.neighbours.as_mut()?;
        let entry = (hop.device, hop.address);
        let was_known = match &mut self.before {
            Before::All(all) => all.contains_key(&entry),
            // What cannot be asked about is not touched.
            Before::Given(given) => *given
                .entry(entry)
                .or_insert_with(|| neighbours.knows(entry.0, entry.1).unwrap_or(true)),
        };
        (!was_known).then_some(hop)
    }

    /// Whether the gateway of a place is here, beside that place: it owns the one address, and the
    /// other is of a neighbour.
    pub(crate) fn has_gateway(&mut self, gateway: IpAddr, place: IpAddr) -> bool {
        let is_beside = self.hop(gateway, place).is_some_and(|hop| !hop.is_gateway);
        is_beside && self.hop(place, gateway).is_none()
    }

    fn hop(&mut self, from: IpAddr, to: IpAddr) -> Option<Hop> {
        self.neighbours.as_mut()?.next_hop(from, to)
    }

    /// Makes the kernel forget these neighbours, but for what it knew before.
    pub fn forget(&mut self, ours: &HashSet<IpAddr>) {
        let Some(neighbours) = &mut self.neighbours else { return };
        // Of a namespace that is gone nothing is left.
        let _ = match &self.before {
            Before::All(before) => neighbours.forget(|device, address| {
                ours.contains(&address) && !before.contains_key(&(device, address))
            }),
            Before::Given(given) => {
                let new = given.iter().filter(|(entry, was)| !**was && ours.contains(&entry.1));
                neighbours.forget_few(new.map(|(entry, _)| *entry))
            }
        };
    }

    /// Makes it forget these, because others need the room.
    pub(crate) fn give_back(&mut self, entries: &HashSet<Entry>) {
        if let Some(neighbours) = &mut self.neighbours {
            let _ = neighbours.forget_few(entries.iter().copied());
        }
    }
}
