//! A namespace with what the kernel knew of neighbours in it before our packets, so that it can be
//! made to forget what it learned by them.

use std::collections::HashSet;
use std::net::IpAddr;

use kernel::{Hop, Neighbours, Netns};

/// A namespace in which packets of ours start, arrive or pass.
#[derive(Debug)]
pub struct Space {
    netns: Netns,
    /// `None` where the kernel does not tell.
    neighbours: Option<Neighbours>,
    /// By device and address.
    before: HashSet<(u32, IpAddr)>,
}

impl Space {
    /// What is known there, before any packet of ours.
    ///
    /// # Errors
    ///
    /// If it cannot be entered.
    pub fn open(netns: &Netns) -> kernel::Result<Self> {
        Ok(Self::look(netns)?.0)
    }

    /// The same, and how many connections more can be tracked there.
    pub(crate) fn look(netns: &Netns) -> kernel::Result<(Self, Option<usize>)> {
        let netns = netns.twin()?;
        let (neighbours, room) = netns.enter(|| (Neighbours::open(), kernel::track_room()))?;
        let mut neighbours = neighbours.ok();
        let before = neighbours.as_mut().and_then(|it| it.all().ok());
        if before.is_none() {
            neighbours = None;
        }
        Ok((Self { netns, neighbours, before: before.unwrap_or_default() }, room))
    }

    /// The namespace.
    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// How many neighbours were known before.
    pub(crate) fn count_before(&self) -> usize {
        self.before.len()
    }

    /// The neighbour by which packets leave that was not known before; none if there is no such way.
    pub fn new_hop(&mut self, from: IpAddr, to: IpAddr) -> Option<Hop> {
        let hop = self.hop(from, to)?;
        (!self.before.contains(&(hop.device, hop.address))).then_some(hop)
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
        let Self { neighbours, before, .. } = self;
        if let Some(neighbours) = neighbours {
            // Of a namespace that is gone nothing is left.
            let _ = neighbours.forget(|device, address| {
                ours.contains(&address) && !before.contains(&(device, address))
            });
        }
    }

    /// Makes it forget these, because others need the room.
    pub(crate) fn give_back(&mut self, entries: &HashSet<(u32, IpAddr)>) {
        if let Some(neighbours) = &mut self.neighbours {
            let _ = neighbours.forget(|device, address| entries.contains(&(device, address)));
        }
    }
}
