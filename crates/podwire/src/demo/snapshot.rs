//! What the demo must leave as it was.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kernel::Kernel;
use net::Space;

use crate::failure::Result;

/// Facts about the machine, each a line of text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeSet<String>);

/// Settings that count something, and so change by themselves.
const COUNTERS: [&str; 2] = ["nf_conntrack_count", "nf_conntrack_expect_count"];

impl Snapshot {
    /// Looks at the namespace of this process and at what all namespaces share.
    pub(crate) fn take() -> Result<Self> {
        let dump = Kernel::new()?.dump(&Space::Here)?;
        let mut facts = BTreeSet::new();
        for link in dump.links.values() {
            facts.insert(format!(
                "device {} {} mtu {} up {} mac {:?} master {:?}",
                link.name, link.kind, link.mtu, link.up, link.mac, link.master
            ));
        }
        let names = dump.names();
        for address in &dump.addresses {
            let name = names.get(&address.index).copied().unwrap_or_default();
            facts.insert(format!("address {} on {name}", address.address));
        }
        for route in &dump.routes {
            let hops: Vec<String> = route
                .hops
                .iter()
                .map(|hop| {
                    let name = hop.index.and_then(|index| names.get(&index).copied());
                    format!("{:?} dev {}", hop.gateway, name.unwrap_or_default())
                })
                .collect();
            facts.insert(format!(
                "route {} table {} via {}",
                route.destination,
                route.table,
                hops.join(", ")
            ));
        }
        facts.extend(dump.rules.iter().map(|rule| format!("rule {rule:?}")));
        facts.extend(dump.nft.iter().map(|object| format!("firewall {object:?}")));
        settings(Path::new("/proc/sys/net"), &mut facts);
        for directory in [net::NAMED, "/run/podwire/lab"] {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            facts.extend(entries.map(|entry| format!("{}", entry.path().display())));
        }
        Ok(Self(facts))
    }

    /// What is gone and what is new.
    pub(crate) fn changes(&self, after: &Self) -> Vec<String> {
        let gone = self.0.difference(&after.0).map(|fact| format!("gone: {fact}"));
        let new = after.0.difference(&self.0).map(|fact| format!("new:  {fact}"));
        gone.chain(new).collect()
    }
}

/// Reads all settings below a directory; those that can only be written say nothing.
fn settings(directory: &Path, facts: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            settings(&path, facts);
        } else if let Ok(value) = fs::read_to_string(&path)
            && !COUNTERS.iter().any(|counter| path.ends_with(counter))
        {
            facts.insert(format!("setting {} = {}", path.display(), value.trim_end()));
        }
    }
}
