//! In which order objects are made and removed, and what can be changed where it is.

use std::collections::HashMap;

use net::{Change, Key, Link, Object, Step, nft};

use super::ours::device_of;

/// What is wanted, in the order in which it is made: what all peers share, and then some hundred peers
/// at a time, so that the rules of the next can be made while the routes of these are.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    objects: Vec<Object>,
    /// Where those begin that are not in order yet, and of how many peers they are.
    begin: usize,
    peers: usize,
}

impl Wanted {
    /// Adds what all peers share, or what one peer needs.
    pub(super) fn add(&mut self, objects: Vec<Object>) {
        /// How many peers go together: their rules are one transaction, which costs something by
        /// itself.
        const TOGETHER: usize = 512;
        self.objects.extend(objects);
        self.peers += 1;
        if self.peers >= TOGETHER {
            self.put_in_order();
        }
    }

    /// All of it.
    pub(super) fn objects(mut self) -> Vec<Object> {
        self.put_in_order();
        self.objects
    }

    fn put_in_order(&mut self) {
        rules_first(&mut self.objects[self.begin..]);
        (self.begin, self.peers) = (self.objects.len(), 0);
    }
}

/// Rules keep what a pod sends in the cluster from being masqueraded: they are there before a route
/// has it sent. And what is adjacent is one transaction.
fn rules_first(objects: &mut [Object]) {
    objects.sort_by_cached_key(|object| match object {
        Object::Link(_) | Object::Address(_) | Object::Vni(_) | Object::Rule(_) => 0,
        Object::Nft(nft::Object::Table(_)) => 1,
        Object::Nft(nft::Object::Set(_)) => 2,
        // Those that others jump to come first.
        Object::Nft(nft::Object::Chain(chain)) if chain.base.is_none() => 3,
        Object::Nft(nft::Object::Chain(_)) => 4,
        Object::Nft(nft::Object::Element(_)) => 5,
        _ => 6,
    });
}

/// Deletions are made in reverse order of what is seen.
pub(super) fn rules_last(objects: &mut [Object]) {
    objects.sort_by_cached_key(|object| match object {
        Object::Link(_) => 0,
        Object::Nft(nft::Object::Table(_)) => 1,
        Object::Nft(nft::Object::Set(_)) => 2,
        Object::Nft(nft::Object::Chain(chain)) if chain.base.is_none() => 3,
        Object::Nft(nft::Object::Chain(_)) => 4,
        Object::Nft(nft::Object::Element(_)) => 5,
        Object::Address(_) | Object::Vni(_) => 6,
        Object::Neighbour(_) | Object::Fdb(_) => 7,
        _ => 8,
    });
}

/// A device that is made anew takes with it all that is on it, so that all is made anew.
pub(super) fn forget_what_goes_with_devices(want: &[Object], seen: &mut Vec<Object>) {
    for link in want.iter().filter_map(as_link) {
        let found = seen.iter().filter_map(as_link).find(|it| it.name == link.name);
        if found.is_none_or(|found| found.kind != link.kind) {
            seen.retain(|object| device_of(object) != Some(&link.name));
        }
    }
}

pub(super) fn as_link(object: &Object) -> Option<&Link> {
    match object {
        Object::Link(link) => Some(link),
        _ => None,
    }
}

/// Whether what is there of our table can be turned into what is wanted.
pub(super) fn fits(want: &[Object], seen: &[Object]) -> bool {
    let mut found = HashMap::new();
    for object in seen.iter().filter(|object| is_form(object)) {
        found.insert(Key::of(object), object);
    }
    want.iter().filter(|object| is_form(object)).all(|object| {
        match (object, found.get(&Key::of(object))) {
            (_, None) => true,
            (Object::Nft(nft::Object::Set(want)), Some(Object::Nft(nft::Object::Set(seen)))) => {
                want == seen
            }
            (
                Object::Nft(nft::Object::Chain(want)),
                Some(Object::Nft(nft::Object::Chain(seen))),
            ) => want.base == seen.base,
            _ => true,
        }
    })
}

fn is_form(object: &Object) -> bool {
    matches!(object, Object::Nft(nft::Object::Set(_) | nft::Object::Chain(_)))
}

/// What is in the way of ours is written over. Packets that were on the way while an entry was missing
/// have the kernel make one of its own, which nobody has written. An IPv4 route stands before what is
/// there already; an IPv6 one would have half of the packets go by a route of somebody else's.
pub(super) fn over_what_is_in_the_way(step: Step) -> Step {
    let change = match step.change {
        Change::Create(object @ (Object::Neighbour(_) | Object::Fdb(_))) => Change::Ensure(object),
        Change::Create(object @ Object::Route(_)) if is_ipv6(&object) => {
            Change::replace(object.clone(), object)
        }
        other => other,
    };
    Step { change, ..step }
}

fn is_ipv6(object: &Object) -> bool {
    matches!(object, Object::Route(route) if route.destination.addr().is_ipv6())
}
