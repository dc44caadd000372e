//! What of a namespace only files tell: settings below `/proc/sys`, and a few counts and lists below
//! `/proc/net`. All is read relative to a directory that was opened once, by a thread that is in the
//! namespace.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::Survey;
use crate::error::Error;

/// Settings of all devices of a namespace together that rtnetlink does not tell. Those of each device
/// come with the device; those of devices that are still to come say nothing of what is there.
const OF_ALL: (&str, &[&str]) = (
    "ipv4/conf/all",
    &["route_localnet", "accept_local", "arp_ignore", "arp_announce", "src_valid_mark"],
);

/// Settings of a namespace that has a bridge.
const OF_BRIDGES: (&str, &[&str]) = (
    "bridge",
    &["bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"],
);

/// Settings of networks: one directory for all namespaces, in which each sees its own.
const NETWORK: &str = "/proc/sys/net";

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory of which files are read.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

impl Survey {
    /// Opens the directory of the settings of networks.
    pub(super) fn open_settings(&mut self) -> Option<Directory> {
        let path = Path::new(NETWORK);
        self.keep(path, "", Directory::open(path))
    }

    /// Settings that a namespace or a kernel does not have are no failures.
    ///
    /// The kernel remembers the directories of all namespaces under one name, and looks through all of
    /// them for the one of this namespace: with a lock on each where the way there begins further up.
    pub(super) fn read_settings(&mut self, all: &Directory) {
        let path = Path::new(NETWORK);
        let has_bridge = self.dump.links.values().any(|link| link.kind == "bridge");
        let of_bridges = has_bridge.then_some(OF_BRIDGES);
        for (name, files) in [OF_ALL].into_iter().chain(of_bridges) {
            let Some(directory) = self.keep(path, name, all.directory(name)) else { continue };
            let path = path.join(name);
            for file in files {
                if let Some(value) = self.read(&path, &directory, file) {
                    let key = format!("net.{}.{file}", name.replace('/', "."));
                    self.settings.insert(key, value.trim_end().replace('\t', " "));
                }
            }
        }
    }

    /// Tables of iptables-legacy, and how many connections are tracked. Returns which of the
    /// transports' sockets there are none of.
    pub(super) fn read_counts(&mut self) -> InUse {
        let path = Path::new("/proc/thread-self/net");
        let opened = self.keep(path, "", Directory::open(path));
        let Some(directory) = opened else { return InUse::default() };
        for (family, file) in
            [("ip", "ip_tables_names"), ("ip6", "ip6_tables_names"), ("arp", "arp_tables_names")]
        {
            let names = self.read(path, &directory, file).unwrap_or_default();
            self.legacy_tables.extend(names.lines().map(|name| format!("{family} {name}")));
        }
        self.legacy_tables.sort();
        self.connections = self
            .read(path, &directory, "stat/nf_conntrack")
            .and_then(|table| connections(&table))
            // A kernel without this table may have the setting.
            .or_else(|| {
                let directory = self.open_settings()?;
                let file = "netfilter/nf_conntrack_count";
                let count = self.read(Path::new(NETWORK), &directory, file)?;
                count.trim_end().parse().ok()
            });
        // They are asked about where this cannot be read.
        let mut text = directory.read("sockstat").unwrap_or_default();
        text += &directory.read("sockstat6").unwrap_or_default();
        InUse(text)
    }

    fn read(&mut self, path: &Path, directory: &Directory, file: &str) -> Option<String> {
        self.keep(path, file, directory.read(file))
    }

    /// `None` if there is no such thing, or if it could not be read, which is told.
    fn keep<T>(&mut self, path: &Path, file: &str, read: io::Result<T>) -> Option<T> {
        match read {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let what = format!("read {}", path.join(file).display());
                self.failures.push(Error::io(what, &error));
                None
            }
            read => read.ok(),
        }
    }
}

impl Directory {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::open(path, DIRECTORY, Mode::empty())?))
    }

    fn directory(&self, name: &str) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(&self.0, name, DIRECTORY, Mode::empty())?))
    }

    /// Asks once where `read_to_string` asks four times: the kernel tells such a file as a whole. What
    /// fills the room may go on.
    fn read(&self, file: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut opened = File::from(rustix::fs::openat(&self.0, file, flags, Mode::empty())?);
        let mut room = [0; 1024];
        let length = opened.read(&mut room)?;
        let mut text = String::from_utf8_lossy(&room[..length]).into_owned();
        if length == room.len() {
            opened.read_to_string(&mut text)?;
        }
        Ok(text)
    }
}

/// How many sockets of each transport a namespace has, as `/proc/net/sockstat` and `sockstat6` tell.
#[derive(Debug, Default)]
pub(super) struct InUse(String);

impl InUse {
    /// Whether it says that there is none of `what`, such as `TCP6`.
    pub(super) fn is_none_of(&self, what: &str) -> bool {
        let counts = self.0.lines().filter_map(|line| line.split_once(": inuse "));
        let mut own = counts.filter(|(name, _)| *name == what);
        own.next().is_some_and(|(_, count)| count.split(' ').next() == Some("0"))
    }
}

/// The first number of the second line of `/proc/net/stat/nf_conntrack`: each processor's line begins
/// with the number of them all.
fn connections(table: &str) -> Option<u64> {
    let line = table.lines().nth(1)?;
    u64::from_str_radix(line.split(' ').next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_told_to_be_none_is_none() {
        let text = "sockets: used 3\nTCP: inuse 1 orphan 0\nUDP: inuse 0 mem 0\nTCP6: inuse 10\n";
        let in_use = InUse(text.to_owned());
        assert!(in_use.is_none_of("UDP"));
        for what in ["TCP", "TCP6", "UDP6", "sockets", ""] {
            assert!(!in_use.is_none_of(what), "{what}");
        }
    }

    #[test]
    fn connections_are_counted_in_hexadecimal() {
        let table = "entries  clashres found\n0000001f  00000000 00000000\n0000001f  0 0\n";
        assert_eq!(connections(table), Some(31));
        assert_eq!(connections("entries\n"), None);
    }
}
