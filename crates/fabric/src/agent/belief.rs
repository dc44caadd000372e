//! What the agent believes to be in the kernel, so that one node more costs what one node costs.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use net::{Key, Object};

/// Objects by their keys.
#[derive(Debug, Default)]
pub(super) struct Belief {
    objects: Vec<Object>,
    /// Where in there an object is, by the hash of its key.
    places: HashTable<usize>,
    hasher: DefaultHashBuilder,
}

impl Belief {
    /// What is believed once all of `objects`, of which no two have the same key, is taken for true:
    /// nothing is copied, because there are thousands.
    pub(super) fn of(objects: Vec<Object>) -> Self {
        let (hasher, mut places) =
            (DefaultHashBuilder::default(), HashTable::with_capacity(objects.len()));
        for (place, object) in objects.iter().enumerate() {
            let hash = |place: &usize| hasher.hash_one(Key::of(&objects[*place]));
            places.insert_unique(hasher.hash_one(Key::of(object)), place, hash);
        }
        Self { objects, places, hasher }
    }

    /// That with the key of `object`.
    pub(super) fn get(&self, object: &Object) -> Option<&Object> {
        let key = Key::of(object);
        let is_it = |place: &usize| Key::of(&self.objects[*place]) == key;
        self.places.find(self.hasher.hash_one(&key), is_it).map(|place| &self.objects[*place])
    }

    /// Takes `object` for true in place of what had its key.
    pub(super) fn insert(&mut self, object: Object) {
        let Self { objects, places, hasher } = self;
        let key = Key::of(&object);
        let is_it = |place: &usize| Key::of(&objects[*place]) == key;
        let hash = |place: &usize| hasher.hash_one(Key::of(&objects[*place]));
        let known = match places.entry(hasher.hash_one(&key), is_it, hash) {
            Entry::Occupied(entry) => Some(*entry.get()),
            Entry::Vacant(entry) => {
                entry.insert(objects.len());
                None
            }
        };
        match known {
            Some(place) => objects[place] = object,
            None => objects.push(object),
        }
    }

    /// Gives up what has the key of `object`.
    pub(super) fn remove(&mut self, object: &Object) {
        let Self { objects, places, hasher } = self;
        let key = Key::of(object);
        let is_it = |place: &usize| Key::of(&objects[*place]) == key;
        let Ok(entry) = places.find_entry(hasher.hash_one(&key), is_it) else { return };
        let (place, _) = entry.remove();
        let last = objects.len() - 1;
        if place != last {
            // The last one takes its place.
            let hash = hasher.hash_one(Key::of(&objects[last]));
            if let Some(moved) = places.find_mut(hash, |it| *it == last) {
                *moved = place;
            }
        }
        objects.swap_remove(place);
    }

    /// All of it.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter()
    }

    /// All of it, of which nothing is believed any more.
    pub(super) fn take(&mut self) -> Vec<Object> {
        std::mem::take(self).objects
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use net::Route;
    use proptest::prelude::*;

    use super::*;

    fn route(number: u8, gateway: u8) -> Object {
        let net = ipnet::Ipv4Net::new_assert([10, 0, number, 0].into(), 24);
        Route { gateway: Some([192, 0, 2, gateway].into()), ..Route::new(net.into()) }.into()
    }

    proptest! {
        #[test]
        fn it_is_a_map(
            first in prop::collection::btree_map(0..20u8, 0..9u8, 0..20),
            steps in prop::collection::vec((0..20u8, prop::option::of(0..9u8)), 0..60),
        ) {
            let mut map: BTreeMap<u8, u8> = first;
            let mut belief = Belief::of(map.iter().map(|(n, by)| route(*n, *by)).collect());
            for (number, by) in steps {
                match by {
                    Some(by) => {
                        belief.insert(route(number, by));
                        map.insert(number, by);
                    }
                    None => {
                        belief.remove(&route(number, 0));
                        map.remove(&number);
                    }
                }
                for number in 0..20 {
                    let wanted = map.get(&number).map(|by| route(number, *by));
                    prop_assert_eq!(belief.get(&route(number, 0)), wanted.as_ref());
                }
            }
            prop_assert_eq!(belief.take().len(), map.len());
        }
    }
}
