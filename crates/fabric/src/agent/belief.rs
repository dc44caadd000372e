//! What the agent believes to be in the kernel, so that one node more costs what one node costs.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use net::{Key, Object};

/// Objects by their keys.
#[derive(Debug, Default)]
pub(super) struct Belief {
    objects: HashTable<Object>,
    hasher: RandomState,
}

impl Belief {
    /// That with the key of `object`.
    pub(super) fn get(&self, object: &Object) -> Option<&Object> {
        let key = Key::of(object);
        self.objects.find(self.hasher.hash_one(&key), |it| Key::of(it) == key)
    }

    /// Takes `object` for true in place of what had its key.
    pub(super) fn insert(&mut self, object: Object) {
        self.remove(&object);
        let hash = self.hasher.hash_one(Key::of(&object));
        let hasher = &self.hasher;
        self.objects.insert_unique(hash, object, |it| hasher.hash_one(Key::of(it)));
    }

    /// Gives up what has the key of `object`.
    pub(super) fn remove(&mut self, object: &Object) {
        let key = Key::of(object);
        let hash = self.hasher.hash_one(&key);
        if let Ok(entry) = self.objects.find_entry(hash, |it| Key::of(it) == key) {
            entry.remove();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter()
    }

    pub(super) fn clear(&mut self) {
        self.objects.clear();
    }
}
