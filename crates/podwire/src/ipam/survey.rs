//! What is reserved on this node: every network with its reservations, its ranges and its index.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use cni::runtime::directory;
use ipam::{Holder, IndexPlace, RangeSet, Reservation, Store};
use kernel::Kernel;
use plugins::alive::{self, Judgement, Life};
use plugins::host_local::{self, Pool};
use plugins::reservations;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Map;

use crate::cli::ipam::Places;
use crate::failure::{Exit, Failure, Result};
use crate::lab::tell;

/// A network that gives out addresses.
pub(super) struct Network {
    pub(super) name: String,
    pub(super) store: Store,
    /// Where its index is kept, if it has one.
    pub(super) index: Option<IndexPlace>,
    /// What its configuration lets it give out; empty if there is none.
    pub(super) sets: Vec<RangeSet>,
    pub(super) entries: Vec<Entry>,
}

/// A reserved address.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) reservation: Reservation,
    pub(super) judgement: Judgement,
    /// How long ago its file was written; `None` if that cannot be told or is yet to come.
    pub(super) age: Option<Duration>,
}

/// How much of a range set is used.
pub(super) struct Usage {
    pub(super) set: String,
    pub(super) size: u128,
    pub(super) used: u128,
}

/// Looks at all networks, or at the one of that name.
pub(super) fn survey(places: &Places, wanted: Option<&str>) -> Result<Vec<Network>> {
    let mut kernel = Kernel::new()?;
    let results = places.directories.cache_dir().join("results");
    let mut networks = networks(places)?;
    networks.retain(|network| wanted.is_none_or(|wanted| wanted == network.name));
    if let (Some(name), []) = (wanted, &networks[..]) {
        let what = format!("there is no network {name} with addresses of host-local");
        return Err(Failure::new(Exit::NotFound, what).remedy(
            "`podwire ipam list` shows all; --data-dir and --conf-dir say where they are",
        ));
    }
    for network in &mut networks {
        let name = &network.name;
        let judge = |holder: &Holder| alive::judge(&mut kernel, name, holder, &results);
        network.entries = entries(&network.store, judge)?;
    }
    Ok(networks)
}

/// The networks that are configured, and those that there are reservations of.
fn networks(places: &Places) -> Result<Vec<Network>> {
    let mut pools = BTreeMap::<(String, PathBuf), Pool>::new();
    let named = places.data_dir();
    for (name, pool) in configured(places)? {
        let data_dir = pool.data_dir.clone().unwrap_or_else(|| ipam::DEFAULT_DATA_DIR.into());
        if named.as_ref().is_some_and(|named| !is_same(named, &data_dir)) {
            continue;
        }
        // One network may be configured more than once, with more ranges.
        let known = pools.entry((name, data_dir)).or_insert_with(|| Pool { sets: vec![], ..pool });
        let new = pool.sets.into_iter().filter(|set| !known.sets.contains(set));
        known.sets.extend(new.collect::<Vec<_>>());
    }
    // One that a configuration names may be yet to come; one that only was typed is a slip.
    if let Some(named) = named.as_ref().filter(|named| pools.is_empty() && !named.exists()) {
        let what = format!("there is no {}", named.display());
        return Err(Failure::new(Exit::NotFound, what)
            .remedy("say with --data-dir where the reservations are, or leave it out"));
    }
    let data_dir = named.unwrap_or_else(|| ipam::DEFAULT_DATA_DIR.into());
    for name in directories(&data_dir)? {
        let is_known = |(known, at): &(String, PathBuf)| *known == name && is_same(at, &data_dir);
        if !pools.keys().any(is_known) {
            let none = Pool { sets: vec![], data_dir: None, index_dir: None };
            pools.insert((name, data_dir.clone()), none);
        }
    }
    let network = |((name, data_dir), pool): ((String, PathBuf), Pool)| {
        let index_dir = places.index_dir().or(pool.index_dir);
        let index = reservations::index_place(&data_dir, index_dir).ok();
        let store = Store::new(&data_dir, &name);
        let store = index.clone().into_iter().fold(store, Store::with_index);
        Network { name, store, index, sets: pool.sets, entries: Vec::new() }
    };
    Ok(pools.into_iter().map(network).collect())
}

/// The networks whose addresses host-local gives out, by their configurations.
fn configured(places: &Places) -> Result<Vec<(String, Pool)>> {
    let (networks, unreadable) = directory::list(&places.directories.conf_dir())?;
    for error in &unreadable {
        tell(&format!("warning: {error}"));
    }
    let mut configured = Vec::new();
    for found in networks {
        for plugin in &found.network.plugins {
            let document = found.network.execution_config(plugin, &Map::new(), None);
            match host_local::pool(&document) {
                None => {}
                Some(Ok(pool)) => configured.push((found.network.name.clone(), pool)),
                Some(Err(error)) => {
                    tell(&format!("warning: {}: {error}", found.file.display()));
                }
            }
        }
    }
    Ok(configured)
}

fn is_same(one: &Path, other: &Path) -> bool {
    one.components().eq(other.components())
}

/// The names of the directories in a directory; none if it is not there.
fn directories(directory: &Path) -> Result<Vec<String>> {
    let failed = |error: io::Error| {
        let what = format!("read {}: {error}", directory.display());
        let exit = match error.kind() {
            io::ErrorKind::NotADirectory => Exit::Usage,
            _ => Exit::Unknown,
        };
        Failure::new(exit, what)
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    Ok(names)
}

fn entries(store: &Store, mut judge: impl FnMut(&Holder) -> Judgement) -> Result<Vec<Entry>> {
    let now = SystemTime::now();
    let uptime = uptime();
    let mut entries = Vec::new();
    for reservation in store.reservations()? {
        let file = store.path().join(reservation.address.to_string());
        let metadata = fs::symlink_metadata(&file);
        if reservation.holder == Holder::Unknown
            && metadata.as_ref().is_ok_and(fs::Metadata::is_file)
            && let Err(error) = fs::File::open(&file)
        {
            return Err(Failure::new(Exit::Unknown, format!("open {}: {error}", file.display()))
                .remedy("reservations can be read by their owner, mostly root: use sudo"));
        }
        let age = metadata.and_then(|it| it.modified()).ok();
        let age = age.and_then(|written| now.duration_since(written).ok());
        let mut judgement = judge(&reservation.holder);
        // This only informs: a clock that was set makes living addresses look old.
        if judgement.life == Life::Unknown && age.zip(uptime).is_some_and(|(age, up)| age > up) {
            judgement.why += ", and it seems to be from before this boot";
        }
        entries.push(Entry { reservation, judgement, age });
    }
    Ok(entries)
}

/// How long the machine has been running.
fn uptime() -> Option<Duration> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    Duration::try_from_secs_f64(text.split(' ').next()?.parse().ok()?).ok()
}

impl Network {
    /// How much of each set is used.
    pub(super) fn usage(&self) -> Vec<Usage> {
        let usage = |set: &RangeSet| {
            let is_used = |entry: &&Entry| {
                let address = entry.reservation.address;
                set.range_of(address).is_some_and(|range| range.gateway() != address)
            };
            let used = self.entries.iter().filter(is_used).count() as u128;
            Usage { set: set.to_string(), size: set.size(), used }
        };
        self.sets.iter().map(usage).collect()
    }

    /// How many reservations are judged so.
    pub(super) fn count(&self, life: Life) -> usize {
        self.entries.iter().filter(|entry| entry.judgement.life == life).count()
    }
}

impl Usage {
    pub(super) fn free(&self) -> u128 {
        self.size.saturating_sub(self.used)
    }

    pub(super) fn told(self) -> ToldRange {
        let number = |it: u128| u64::try_from(it).unwrap_or(u64::MAX);
        let (size, used, free) = (number(self.size), number(self.used), number(self.free()));
        ToldRange { range: self.set, size, used, free }
    }
}

impl Entry {
    /// The container and the interface, as far as they are known.
    pub(super) fn holder(&self) -> (Option<&str>, Option<&str>) {
        match &self.reservation.holder {
            Holder::Attachment(owner) => (Some(&owner.id), Some(&owner.ifname)),
            Holder::Container(id) => (Some(id), None),
            Holder::Nobody | Holder::Unknown => (None, None),
        }
    }

    /// Whether what has the address's name is no reservation, so that nothing but a person removes it.
    pub(super) fn is_odd(&self) -> bool {
        self.reservation.holder == Holder::Unknown
    }

    /// One word for what is known of it.
    pub(super) fn state(&self) -> &'static str {
        match (&self.reservation.holder, self.judgement.life) {
            (Holder::Nobody, _) => "empty",
            (Holder::Unknown, _) => "unreadable",
            (_, Life::Lives) => "lives",
            (_, Life::Gone) => "gone",
            (_, Life::Unknown) => "unknown",
        }
    }

    pub(super) fn told<'a>(&'a self, network: &'a str) -> ToldReservation<'a> {
        let (container_id, ifname) = self.holder();
        ToldReservation {
            network,
            address: self.reservation.address,
            container_id,
            ifname,
            age_seconds: self.age.map(|age| age.as_secs()),
            state: self.state(),
            why: &self.judgement.why,
        }
    }
}

/// A set of ranges for programs. The numbers of huge ones are as large as a number can be there.
#[derive(Serialize, JsonSchema)]
pub(super) struct ToldRange {
    /// From where to where.
    range: String,
    /// How many addresses it has.
    size: u64,
    /// How many of them are reserved.
    used: u64,
    /// How many are not.
    free: u64,
}

/// A reserved address for programs.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToldReservation<'a> {
    /// The network.
    network: &'a str,
    /// The address.
    address: IpAddr,
    /// The container that has it, as far as its file says.
    #[serde(rename = "containerID")]
    container_id: Option<&'a str>,
    /// The interface, as far as its file says.
    ifname: Option<&'a str>,
    /// How long ago it was reserved; `null` if that cannot be told.
    age_seconds: Option<u64>,
    /// Whether who has it is there: `lives`, `gone` or `unknown`; or what its file is: `empty` or
    /// `unreadable`.
    state: &'static str,
    /// How that is known.
    why: &'a str,
}
