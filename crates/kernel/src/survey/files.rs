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

/// Settings of a namespace by their directory below `/proc/sys/net`. Those of each device come with
/// the device.
const SETTINGS: [(&str, &[&str]); 2] = [
    (
        "ipv4",
        &[
            "ip_forward",
            "ip_forward_use_pmtu",
            "conf/all/forwarding",
            "conf/all/rp_filter",
            "conf/all/proxy_arp",
            "conf/all/route_localnet",
            "conf/all/accept_local",
            "conf/all/arp_ignore",
            "conf/all/arp_announce",
            "conf/all/src_valid_mark",
            "conf/default/rp_filter",
            "conf/default/forwarding",
            "conf/default/route_localnet",
        ],
    ),
    (
        "ipv6",
        &[
            "conf/all/forwarding",
            "conf/all/disable_ipv6",
            "conf/all/accept_ra",
            "conf/default/disable_ipv6",
            "conf/default/accept_ra",
            "conf/default/accept_dad",
        ],
    ),
];

/// Settings of a namespace that has a bridge.
const OF_BRIDGES: (&str, &[&str]) = (
    "bridge",
    &["bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"],
);

/// A directory of which files are read.
struct Directory(OwnedFd);

impl Survey {
    /// Settings that a namespace or a kernel does not have are no failures.
    ///
    /// Directories are few, and each is opened once: the kernel remembers those of all namespaces
    /// under one name, and looks through all of them for the one of this namespace.
    pub(super) fn read_settings(&mut self) {
        let has_bridge = self.dump.links.values().any(|link| link.kind == "bridge");
        let of_bridges = has_bridge.then_some(OF_BRIDGES);
        for (name, files) in SETTINGS.into_iter().chain(of_bridges) {
            let path = Path::new("/proc/sys/net").join(name);
            let Some(directory) = self.open(&path) else { continue };
            for file in files {
                if let Some(value) = self.read(&path, &directory, file) {
                    let key = format!("net.{name}.{}", file.replace('/', "."));
                    self.settings.insert(key, value.trim_end().replace('\t', " "));
                }
            }
        }
    }

    /// Tables of iptables-legacy, and how many connections are tracked. Returns which of the
    /// transports' sockets there are none of.
    pub(super) fn read_counts(&mut self) -> InUse {
        let path = Path::new("/proc/thread-self/net");
        let Some(directory) = self.open(path) else { return InUse::default() };
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
                let path = Path::new("/proc/sys/net/netfilter");
                let directory = self.open(path)?;
                self.read(path, &directory, "nf_conntrack_count")?.trim_end().parse().ok()
            });
        // They are asked about where this cannot be read.
        let mut text = directory.read("sockstat").unwrap_or_default();
        text += &directory.read("sockstat6").unwrap_or_default();
        InUse(text)
    }

    /// `None` if there is none, or if it cannot be opened, which is told.
    fn open(&mut self, path: &Path) -> Option<Directory> {
        self.keep(path, "", Directory::open(path))
    }

    fn read(&mut self, path: &Path, directory: &Directory, file: &str) -> Option<String> {
        self.keep(path, file, directory.read(file))
    }

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
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
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
