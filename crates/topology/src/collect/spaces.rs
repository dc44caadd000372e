//! Finding every network namespace of a machine, each once, by what leads to it: a mount in any
//! mount namespace, a process, an open file.
//!
//! The kernel has no list of them. One that nothing of these leads to, alive only by a device or a
//! socket in it, is told as a gap where a device of another namespace leads into it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use kernel::{NetnsId, Result};

use super::{Sources, parallel};
use crate::{Gap, Process};

/// A namespace that was found.
#[derive(Clone, Debug)]
pub(super) struct Space {
    pub(super) id: NetnsId,
    /// What leads to it, best first; never empty.
    pub(super) paths: Vec<PathBuf>,
    pub(super) processes: Vec<Process>,
}

/// All namespaces that were found.
#[derive(Debug)]
pub(super) struct Spaces {
    pub(super) all: Vec<Space>,
    /// The machine's own, where the whole machine is looked at.
    pub(super) own: Option<NetnsId>,
}

/// The most open files that are looked at: beyond, a namespace that only an open file leads to is
/// not worth the time.
const MOST_FILES: usize = 200_000;

/// The first process of the machine is in the namespace that is the machine's own.
const FIRST: &str = "/proc/1/ns/net";

impl Spaces {
    pub(super) fn find(sources: &Sources, gaps: &mut Vec<Gap>) -> Result<Self> {
        let mut search = Search::default();
        for place in &sources.places {
            if let Some(id) = identity(&place.path) {
                search.path(id, place.path.clone());
            }
        }
        let own = match sources.whole {
            Some(_) => search.machine(gaps)?,
            None => None,
        };
        let space = |(id, (mut paths, processes)): (NetnsId, (Vec<PathBuf>, Vec<Process>))| {
            paths.sort_by_key(|path| rank(path));
            Space { id, paths, processes }
        };
        Ok(Self { all: search.found.into_iter().map(space).collect(), own })
    }

    /// What leads to the machine's own.
    pub(super) fn path_of_own(&self) -> Option<&Path> {
        let own = self.all.iter().find(|it| Some(it.id) == self.own)?;
        own.paths.first().map(PathBuf::as_path)
    }
}

/// How much a path is of use to a person: one that `ip netns` knows before any other, and what goes
/// with a process last.
fn rank(path: &Path) -> u8 {
    match path {
        path if path.starts_with(net::NAMED) => 0,
        path if path.starts_with("/proc") => 2,
        _ => 1,
    }
}

/// Who is at a path; `None` if nobody is, or if it is not for us to know.
pub(super) fn identity(path: &Path) -> Option<NetnsId> {
    let metadata = fs::metadata(path).ok()?;
    Some(NetnsId { device: metadata.dev(), inode: metadata.ino() })
}

#[derive(Debug, Default)]
struct Search {
    found: BTreeMap<NetnsId, (Vec<PathBuf>, Vec<Process>)>,
    /// Of nsfs there is one on a machine, so that an inode is enough to know a namespace again.
    inodes: HashMap<u64, NetnsId>,
}

/// What one process tells.
struct Told {
    pid: u32,
    netns: Option<NetnsId>,
    mounts: Option<u64>,
    process: Process,
    /// Namespaces that it holds open.
    open: Vec<(NetnsId, PathBuf)>,
}

impl Search {
    fn path(&mut self, id: NetnsId, path: PathBuf) {
        self.inodes.insert(id.inode, id);
        let (paths, _) = self.found.entry(id).or_default();
        if !paths.contains(&path) {
            paths.push(path);
        }
    }

    /// Finds all of the machine, and says which is the machine's own.
    fn machine(&mut self, gaps: &mut Vec<Gap>) -> Result<Option<NetnsId>> {
        let current = kernel::Netns::current()?.id()?;
        let own = identity(Path::new(FIRST)).unwrap_or_else(|| {
            let what = "the machine's own network namespace".to_owned();
            let why = "that of process 1 is not for this user to know; the one that podwire runs \
                in is taken for it: use sudo";
            gaps.push(Gap { what, why: why.to_owned() });
            current
        });
        let pids = pids(gaps);
        let files = AtomicUsize::new(0);
        let told = parallel::each(&pids, |_, pid| Told::of(*pid, &files))?;
        let told: Vec<Told> = told.into_iter().flatten().collect();
        self.mounts(&told);
        for it in &told {
            let Some(id) = it.netns else { continue };
            self.inodes.insert(id.inode, id);
            self.found.entry(id).or_default().1.push(it.process.clone());
        }
        for (id, path) in told.iter().flat_map(|it| &it.open) {
            if self
                .found
                .get(id)
                .is_none_or(|(paths, processes)| paths.is_empty() && processes.is_empty())
            {
                self.path(*id, path.clone());
            }
        }
        self.found.entry(current).or_default();
        self.found.entry(own).or_default();
        for (id, (paths, processes)) in &mut self.found {
            if paths.is_empty() {
                let pid = processes.iter().map(|it| it.pid).min();
                let pid = pid.filter(|_| *id != current).map(|pid| format!("/proc/{pid}/ns/net"));
                paths.push(pid.unwrap_or_else(|| "/proc/self/ns/net".to_owned()).into());
            }
            processes.sort();
        }
        // Without their count, which changes all the time.
        if told.iter().any(|it| it.netns.is_none()) {
            let what = "processes of other users".to_owned();
            let why = "which network namespaces they are in is not for this user to know; those \
                that nothing else leads to are missing: use sudo";
            gaps.push(Gap { what, why: why.to_owned() });
        }
        if files.into_inner() >= MOST_FILES {
            let what = "open files".to_owned();
            let why = format!("processes have more than {MOST_FILES} open; not all were looked at");
            gaps.push(Gap { what, why });
        }
        Ok(Some(own))
    }

    /// Finds what is mounted: where podwire is first, then where others are.
    fn mounts(&mut self, told: &[Told]) {
        for (inode, path) in mounted(Path::new("/proc/self/mountinfo")) {
            if let Some(id) = identity(&path).filter(|id| id.inode == inode) {
                self.path(id, path);
            }
        }
        let own = fs::metadata("/proc/self/ns/mnt").map(|it| it.ino()).ok();
        let mut seen: BTreeSet<u64> = own.into_iter().collect();
        for it in told {
            if it.mounts.is_none_or(|mounts| !seen.insert(mounts)) {
                continue;
            }
            let process = PathBuf::from(format!("/proc/{}", it.pid));
            for (inode, path) in mounted(&process.join("mountinfo")) {
                if self.inodes.contains_key(&inode) {
                    continue;
                }
                let path = path.strip_prefix("/").unwrap_or(&path);
                let path = process.join("root").join(path);
                if let Some(id) = identity(&path).filter(|id| id.inode == inode) {
                    self.path(id, path);
                }
            }
        }
    }
}

fn pids(gaps: &mut Vec<Gap>) -> Vec<u32> {
    let entries = match fs::read_dir("/proc") {
        Ok(entries) => entries,
        Err(error) => {
            gaps.push(Gap { what: "processes".to_owned(), why: format!("read /proc: {error}") });
            return Vec::new();
        }
    };
    let mut pids: Vec<u32> =
        entries.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

impl Told {
    fn of(pid: u32, files: &AtomicUsize) -> Option<Self> {
        let of_it = PathBuf::from(format!("/proc/{pid}"));
        let text = |name: &str| {
            let bytes = fs::read(of_it.join(name)).unwrap_or_default();
            String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned()
        };
        // One that ended meanwhile is no gap.
        let name = text("comm");
        if name.is_empty() && !of_it.exists() {
            return None;
        }
        let netns = identity(&of_it.join("ns/net"));
        let mut told = Self {
            pid,
            netns,
            mounts: fs::metadata(of_it.join("ns/mnt")).map(|it| it.ino()).ok(),
            process: Process { pid, name, cgroup: cgroup(&text("cgroup")) },
            open: Vec::new(),
        };
        // This one's own are those that it has just opened.
        if netns.is_some() && pid != std::process::id() {
            told.look_at_files(&of_it.join("fd"), files);
        }
        Some(told)
    }

    fn look_at_files(&mut self, directory: &Path, files: &AtomicUsize) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if files.fetch_add(1, Ordering::Relaxed) >= MOST_FILES {
                return;
            }
            let path = entry.path();
            let leads_to = fs::read_link(&path).unwrap_or_default();
            let own = self.netns.map(|id| id.device);
            if may_be_netns(leads_to.as_os_str().as_bytes())
                && let Some(id) = identity(&path).filter(|id| Some(id.device) == own)
                && kernel::Netns::open(&path).is_ok()
            {
                self.open.push((id, path));
            }
        }
    }
}

/// Whether an open file can be a network namespace, by what it says it is. One that was opened where
/// it was bound has that path, and `/` when it is bound there no more. Others are not looked at
/// more closely, because on some file systems that can take for ever.
fn may_be_netns(leads_to: &[u8]) -> bool {
    let begins = [&b"net:["[..], b"/run/", b"/var/run/"];
    leads_to == b"/" || begins.iter().any(|begin| leads_to.starts_with(begin))
}

/// The group of the one hierarchy of today's kernels, else that of the first of the old ones that
/// is not the root.
fn cgroup(text: &str) -> String {
    let groups = text.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        Some((number, rest.split_once(':')?.1))
    });
    let unified = groups.clone().find(|(number, group)| *number == "0" && *group != "/");
    let any = || groups.clone().find(|(_, group)| *group != "/");
    unified.or_else(any).map(|(_, group)| group.to_owned()).unwrap_or_default()
}

/// The network namespaces in a table of mounts (proc_pid_mountinfo(5)): inode and mount point.
fn mounted(table: &Path) -> Vec<(u64, PathBuf)> {
    let bytes = fs::read(table).unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

fn mount(line: &[u8]) -> Option<(u64, PathBuf)> {
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    let root = std::str::from_utf8(fields.next()?).ok()?;
    let inode = root.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()?;
    Some((inode, PathBuf::from(OsString::from_vec(unescaped(fields.next()?)))))
}

/// Undoes `\040` and its like, which stand for white space and the backslash.
fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|it| std::str::from_utf8(it).ok());
        let code = digits.and_then(|it| u8::from_str_radix(it, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(code) => {
                plain.push(code);
                rest = &tail[3..];
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_namespaces_are_found_among_others() {
        let line = br"72 30 0:4 net:[4026532281] /run/net\040ns/a\134b rw shared:1 - nsfs nsfs rw";
        assert_eq!(mount(line), Some((4_026_532_281, PathBuf::from(r"/run/net ns/a\b"))));
        for other in [&b""[..], b"1 2 0:4 / /run rw - tmpfs tmpfs rw", b"1 2 0:4 mnt:[3] /run/x"] {
            assert_eq!(mount(other), None);
        }
    }

    #[test]
    fn the_unified_control_group_is_preferred() {
        let hybrid = "5:devices:/a\n1:name=systemd:/b\n0::/kubepods/pod1/c";
        assert_eq!(cgroup(hybrid), "/kubepods/pod1/c");
        assert_eq!(cgroup("5:devices:/a\n0::/"), "/a");
        assert_eq!(cgroup("0::/"), "");
        assert_eq!(cgroup("rubbish"), "");
    }
}
