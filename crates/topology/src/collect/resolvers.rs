//! Whom a container's programs ask for names: its own `/etc/resolv.conf`.
//!
//! A container's files are a stranger's: nothing outside of them is ever opened, whatever links they
//! hold, nothing that could hang, and no more of it than the addresses is kept.

use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::Process;

/// How many processes are asked before it is given up: all of a container have the same file.
const MOST: usize = 4;
/// The longest file that is read.
const LONGEST: u64 = 64 * 1024;

/// The resolvers of those of these processes that have files of their own.
pub(super) fn of(processes: &[Process]) -> Vec<IpAddr> {
    let space = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/mnt")).map(|it| it.ino()).ok();
    let own = space("self");
    let others = processes.iter().take(MOST).filter(|process| {
        let theirs = space(&process.pid.to_string());
        theirs.is_some() && theirs != own
    });
    let root = |process: &Process| format!("/proc/{}/root", process.pid);
    others.filter_map(|process| read(root(process).as_ref())).next().unwrap_or_default()
}

fn read(root: &Path) -> Option<Vec<IpAddr>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).ok()?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(&root, "etc/resolv.conf", flags, Mode::empty(), inside);
    let file = File::from(file.ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).ok()?;
    Some(nameservers(&String::from_utf8_lossy(&text)))
}

/// The addresses after `nameserver` (resolv.conf(5)), without those that mean the container itself.
fn nameservers(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let is_it = words.next() == Some("nameserver");
        let address: IpAddr = words.next().filter(|_| is_it)?.parse().ok()?;
        (!address.is_loopback()).then_some(address)
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_addresses_of_resolvers_are_read() {
        let text = "# nameserver 1.2.3.4\nnameserver 10.96.0.10\n search a.b\nnameserver fd00::a \
                    x\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver\noptions ndots:5";
        let expected: [IpAddr; 2] = ["10.96.0.10".parse().unwrap(), "fd00::a".parse().unwrap()];
        assert_eq!(nameservers(text), expected);
    }

    #[test]
    fn links_lead_nowhere_but_into_the_container() {
        let root = testbed::directory();
        let root = root.path();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir_all(root.join("run")).unwrap();
        fs::write(root.join("run/real"), "nameserver 10.0.0.1").unwrap();
        symlink("/run/real", root.join("etc/resolv.conf")).unwrap();
        assert_eq!(read(root), Some(vec!["10.0.0.1".parse().unwrap()]));
        fs::remove_file(root.join("etc/resolv.conf")).unwrap();
        symlink("../../../../../etc/hostname", root.join("etc/resolv.conf")).unwrap();
        assert_eq!(read(root), None);
        fs::remove_file(root.join("etc/resolv.conf")).unwrap();
        testbed::sh(&format!("mkfifo {}", root.join("etc/resolv.conf").display()));
        assert_eq!(read(root), None);
    }
}
