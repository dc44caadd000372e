//! The store against a model, against other processes, and against hostile directories.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

mod disk;
mod index;
mod model;
mod operations;
mod processes;

use std::cell::RefCell;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use ipam::{Error, IndexPlace, Owner, RangeSet, RangeSpec, Store, range_sets};

/// A data directory of its own for one test, with the store of network `n` in it.
struct Fixture {
    store: Store,
    root: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { store: store(root.path()), root }
    }

    /// The same reservations, looked at without the index.
    fn unindexed(&self) -> Store {
        Store::new(self.root.path(), "n")
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("n")
    }

    /// Writes a file into the network's directory, as somebody else.
    fn plant(&self, name: &str, text: &str) {
        fs::create_dir_all(self.directory()).unwrap();
        fs::write(self.directory().join(name), text).unwrap();
    }

    /// The file of the index.
    fn index(&self) -> PathBuf {
        let directory = self.root.path().join("index");
        let [name] = &names(&directory)[..] else { panic!("{:?}", names(&directory)) };
        directory.join(name)
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

/// The store of network `n` in a directory, with its index beside it.
fn store(root: &Path) -> Store {
    store_in_boot(root, "this")
}

fn store_in_boot(root: &Path, boot_id: &str) -> Store {
    let report = |error: &Error| COMPLAINTS.with_borrow_mut(|all| all.push(error.to_string()));
    let directory = root.join("index");
    Store::new(root, "n").with_index(IndexPlace { directory, boot_id: boot_id.into(), report })
}

thread_local! {
    static COMPLAINTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Why there was no index since the last time this was asked.
fn complaints() -> Vec<String> {
    COMPLAINTS.take()
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(complaints(), [""; 0]);
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
