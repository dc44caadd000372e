//! The store against a model, against other processes, and against hostile directories.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

mod disk;
mod model;
mod operations;
mod processes;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipam::{Owner, RangeSet, RangeSpec, Store, range_sets};

/// A data directory of its own for one test, with the store of network `n` in it.
struct Fixture {
    store: Store,
    root: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { store: Store::new(root.path(), "n"), root }
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("n")
    }

    /// Writes a file into the network's directory, as somebody else.
    fn plant(&self, name: &str, text: &str) {
        fs::create_dir_all(self.directory()).unwrap();
        fs::write(self.directory().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        names(&self.directory())
    }

    /// Reserves for an attachment; the addresses, or the error.
    fn add(&self, sets: &[RangeSet], requested: &[&str], owner: &Owner) -> String {
        let requested: Vec<IpAddr> = requested.iter().map(|text| text.parse().unwrap()).collect();
        match self.store.reserve(sets, &requested, owner) {
            Ok(leases) => {
                let addresses = leases.iter().map(|lease| lease.address.to_string());
                addresses.collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }
}

/// The files of a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn owner(id: &str, ifname: &str) -> Owner {
    Owner { id: id.to_owned(), ifname: ifname.to_owned() }
}

/// One set for each subnet.
fn sets(subnets: &[&str]) -> Vec<RangeSet> {
    let spec = |subnet: &&str| {
        vec![RangeSpec { subnet: Some(subnet.parse().unwrap()), ..RangeSpec::default() }]
    };
    range_sets(&subnets.iter().map(spec).collect::<Vec<_>>()).unwrap()
}
