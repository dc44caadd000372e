//! What a set of keys below `<prefix>/subnets/` means: whose lease is which, and which nodes there
//! are. Never I/O.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fabric::flannel::{Lease, NetConf, lease_key, parse_lease_key};
use fabric::{Cluster, Family, Node, NodeName, PerFamily, Publication};
use ipnet::IpNet;

use super::subnets::overlap;
use super::wire::{Event, KeyValue};

/// The largest lease that is read. flannel's are below 300 bytes.
const LARGEST: usize = 64 << 10;

/// Where things are, below the configured prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) config: String,
    /// With a `/` at the end.
    pub(super) leases: String,
}

impl Keys {
    pub(super) fn below(prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/');
        Self { config: format!("{prefix}/config"), leases: format!("{prefix}/subnets/") }
    }

    /// The full key of the lease of `subnets`.
    pub(super) fn of(&self, subnets: &PerFamily<IpNet>) -> String {
        // flannel reads no key without an IPv4 part; this is what it writes itself.
        let none = if subnets.v4.is_none() { "0.0.0.0-0&" } else { "" };
        format!("{}{none}{}", self.leases, lease_key(subnets))
    }
}

/// One lease, somebody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) subnets: PerFamily<IpNet>,
    /// `None` if it is not understood; its subnets are taken nevertheless.
    pub(super) lease: Option<Lease>,
    pub(super) value: Vec<u8>,
    pub(super) created: i64,
    pub(super) modified: i64,
    /// etcd's own lease, a grant of time: 0 if it never ends.
    pub(super) grant: i64,
}

/// All that is known of etcd, as it was at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) config: Option<Vec<u8>>,
    pub(super) entries: BTreeMap<String, Entry>,
    /// From which revisions on changes are not in it: of the configuration, and of leases. Two,
    /// since two watches need not tell in one order.
    pub(super) next: (i64, i64),
}

impl Picture {
    /// What one listing at `revision` says.
    pub(super) fn of(keys: &Keys, revision: i64, all: impl Iterator<Item = KeyValue>) -> Self {
        let mut picture = Self::default();
        for kv in all {
            picture.write(keys, kv);
        }
        picture.next = (revision + 1, revision + 1);
        picture
    }

    /// Takes one change in.
    pub(super) fn apply(&mut self, keys: &Keys, event: Event) {
        let revision = event.kv.mod_revision.0;
        let is_config = event.kv.key.0 == keys.config.as_bytes();
        let next = if is_config { &mut self.next.0 } else { &mut self.next.1 };
        *next = (*next).max(revision + 1);
        if !event.is_removal() {
            self.write(keys, event.kv);
        } else if is_config {
            self.config = None;
        } else if let Ok(key) = std::str::from_utf8(&event.kv.key.0) {
            self.entries.remove(key);
        }
    }

    fn write(&mut self, keys: &Keys, kv: KeyValue) {
        if kv.key.0 == keys.config.as_bytes() {
            self.config = Some(kv.value.0);
            return;
        }
        // What is no lease by its key is none of ours to judge.
        let Ok(key) = String::from_utf8(kv.key.0) else { return };
        let Some(subnets) = key.strip_prefix(&keys.leases).and_then(subnets_of) else { return };
        let value = kv.value.0;
        let lease = (value.len() <= LARGEST).then(|| serde_json::from_slice(&value).ok()).flatten();
        let entry = Entry {
            subnets,
            lease,
            value,
            created: kv.create_revision.0,
            modified: kv.mod_revision.0,
            grant: kv.lease.0,
        };
        self.entries.insert(key, entry);
    }

    /// What it says of the cluster, see [`Picture::nodes`].
    pub(super) fn cluster(&self, keys: &Keys, me: &Publication, own: &str) -> Cluster {
        let conf = self.config.as_deref().and_then(|it| serde_json::from_slice::<NetConf>(it).ok());
        let pod_networks = conf.map(|conf| conf.networks()).unwrap_or_default();
        Cluster { nodes: self.nodes(keys, me, own), pod_networks }
    }

    /// The nodes, in the order of their keys. `own` is the key of ours; others that would be ours are
    /// left over from earlier.
    fn nodes(&self, keys: &Keys, me: &Publication, own: &str) -> Vec<Node> {
        // The newest of one name is right; the others are what it had before.
        let mut newest: BTreeMap<NodeName, (i64, &str)> = BTreeMap::new();
        let mut nodes = BTreeMap::new();
        for (key, entry) in &self.entries {
            if key != own && entry.owner(me) == Owner::We {
                continue;
            }
            let Some(node) = entry.node(key.strip_prefix(&keys.leases).unwrap_or(key)) else {
                continue;
            };
            let rank = (entry.modified, key.as_str());
            let best = newest.entry(node.name.clone()).or_insert(rank);
            *best = (*best).max(rank);
            nodes.insert(key.as_str(), node);
        }
        nodes.retain(|key, node| newest.get(&node.name).is_some_and(|(_, it)| it == key));
        nodes.into_values().collect()
    }

    /// Our lease: the newest that names us, else one that only has our address. Those that `fits`
    /// come first.
    pub(super) fn own<'a>(
        &'a self,
        me: &Publication,
        fits: impl Fn(&Entry) -> bool,
    ) -> Option<(&'a str, &'a Entry)> {
        let ours = self.entries.iter().filter(|(_, entry)| entry.owner(me) == Owner::We);
        let rank = |entry: &Entry| {
            let is_named = entry.lease.as_ref().is_some_and(|it| it.node_name.is_some());
            (fits(entry), is_named, entry.modified)
        };
        let best = ours.max_by_key(|(_, entry)| rank(entry));
        best.map(|(key, entry)| (key.as_str(), entry))
    }

    /// All subnets of others than those at `but`.
    pub(super) fn taken(&self, but: Option<&str>) -> Vec<IpNet> {
        let others = self.entries.iter().filter(|(key, _)| Some(key.as_str()) != but);
        others.flat_map(|(_, entry)| entry.subnets.iter().map(|(_, net)| *net)).collect()
    }

    /// Somebody else's lease that overlaps what is, or was, leased to us at `key`. Both being there,
    /// the older one is right.
    pub(super) fn rival(
        &self,
        me: &Publication,
        key: &str,
        subnets: &PerFamily<IpNet>,
    ) -> Option<(&str, &Entry)> {
        let since = self.entries.get(key).map_or(i64::MAX, |entry| entry.created);
        let is_rival = |entry: &Entry| {
            entry.created < since
                && entry.owner(me) != Owner::We
                && subnets.iter().any(|(family, net)| {
                    entry.subnets.get(family).is_some_and(|other| overlap(*net, *other))
                })
        };
        let mut others = self.entries.iter().filter(|(other, _)| *other != key);
        let rival = others.find(|(_, entry)| is_rival(entry));
        rival.map(|(key, entry)| (key.as_str(), entry))
    }
}

/// Whose a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It names us, or has no name and our address.
    We,
    /// It names us, but has another address.
    Namesake,
    /// It is another's.
    Other,
}

impl Entry {
    /// A namesake is us as long as we have not published: our address may have changed.
    pub(super) fn owner(&self, me: &Publication) -> Owner {
        let Some(lease) = &self.lease else { return Owner::Other };
        match &lease.node_name {
            Some(name) if *name == me.name => Owner::We,
            Some(_) => Owner::Other,
            None => {
                let address = address(lease);
                let own = me.addresses.iter().map(|(_, own)| *own).next();
                if address.is_some() && address == own { Owner::We } else { Owner::Other }
            }
        }
    }

    /// As [`Entry::owner`], of a key that we have written ourselves: now another address is another
    /// machine.
    pub(super) fn owner_now(&self, me: &Publication) -> Owner {
        match (self.owner(me), &self.lease) {
            (Owner::We, Some(lease)) => {
                let node = lease.node(me.name.clone(), self.subnets);
                let is_same = |family| match (node.addresses.get(family), me.addresses.get(family))
                {
                    (Some(there), Some(here)) => there == here,
                    _ => true,
                };
                if Family::ALL.into_iter().all(is_same) { Owner::We } else { Owner::Namesake }
            }
            (owner, _) => owner,
        }
    }

    /// Who has it, and where he is.
    pub(super) fn holder(&self) -> (Option<&NodeName>, Option<IpAddr>) {
        let lease = self.lease.as_ref();
        (lease.and_then(|lease| lease.node_name.as_ref()), lease.and_then(address))
    }

    /// The node whose lease is at `key`, where there is one: a subnet that is only reserved has no
    /// backend yet.
    fn node(&self, key: &str) -> Option<Node> {
        let lease = self.lease.as_ref().filter(|lease| !lease.backend_type.is_empty())?;
        let name = lease.node_name.clone().or_else(|| name_of(key))?;
        Some(lease.node(name, self.subnets))
    }
}

/// The address by which flannel knows a node.
fn address(lease: &Lease) -> Option<IpAddr> {
    let v4 = Some(lease.public_ip).filter(|it| !it.is_unspecified()).map(IpAddr::V4);
    v4.or(lease.public_ipv6.filter(|it| !it.is_unspecified()).map(IpAddr::V6))
}

/// The subnets of a key. Nobody leases everything: flannel writes `0.0.0.0-0` where there is no IPv4,
/// and taken at its word it would be a way to the whole world.
fn subnets_of(key: &str) -> Option<PerFamily<IpNet>> {
    let mut subnets = parse_lease_key(key)?;
    for family in Family::ALL {
        let place = subnets.place(family);
        *place = place.filter(|net| net.prefix_len() > 0);
    }
    (!subnets.is_empty()).then_some(subnets)
}

/// What a node is called that does not say it.
fn name_of(key: &str) -> Option<NodeName> {
    let text = key.to_ascii_lowercase().replace('&', ".").replace(':', "-");
    text.trim_matches(|letter: char| !letter.is_ascii_alphanumeric()).parse().ok()
}

#[cfg(test)]
mod tests;
