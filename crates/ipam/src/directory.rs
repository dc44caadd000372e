//! The directory of one network: the only place that touches files.
//!
//! Everything is opened relative to the directory and never through a symbolic link, so that a
//! link planted in it leads nowhere, and never in a way that waits for whoever is at the other end
//! of a pipe. The way to the directory is the administrator's and may have links; only the last
//! part of it must not be somebody else's.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::Errno;

use crate::{Error, Holder, Owner, Reservation, Result};

/// The lock's file.
const LOCK: &str = "lock";

/// What the names of cursors begin with.
const CURSOR: &str = "last_reserved_ip.";

/// The longest text of a reservation that is read. No id comes near it.
const LONGEST: u64 = 64 * 1024;

/// A network's directory, open for reading.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// A directory that this process may change, as nobody else does.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    directory: &'a Directory,
    /// Dropping it gives the lock back.
    _lock: File,
}

/// A file of a directory.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    directory: &'a Directory,
    name: &'a CStr,
}

/// What a file or directory looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// When its content changed, or what somebody has set instead.
    pub(crate) modified: Time,
    /// When anything about it changed, which nobody can set.
    pub(crate) changed: Time,
}

/// A point in time, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u64,
}

impl Directory {
    /// Opens the directory; `None` if there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let mut opened = rustix::fs::open(path, flags | OFlags::NOFOLLOW, Mode::empty());
        if matches!(opened, Err(Errno::NOTDIR | Errno::LOOP)) {
            opened = rustix::fs::open(target(path)?, flags, Mode::empty());
        }
        match opened {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_owned() })),
            // What has too long a name cannot be there.
            Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(Error::io("open", path, errno)),
        }
    }

    /// Opens the directory, and makes it and its parents (0755) where they are missing.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        make(path)?;
        Self::open(path)?.ok_or_else(|| Error::io("open", path, Errno::NOENT))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until nobody else changes the directory. Both this and the reference hold this lock
    /// whenever they change something.
    pub(crate) fn lock(&self) -> Result<Locked<'_>> {
        self.lock_with(OFlags::CREATE)
    }

    /// The same where there is a lock already. Without one nobody has changed anything yet, and a
    /// question need not create it; one that cannot be had is for the next change to report.
    pub(crate) fn lock_if_there(&self) -> Option<Locked<'_>> {
        self.lock_with(OFlags::empty()).ok()
    }

    fn lock_with(&self, flags: OFlags) -> Result<Locked<'_>> {
        loop {
            let lock = self.file(LOCK, flags | OFlags::RDONLY | OFlags::NONBLOCK, 0o750)?;
            let stat = rustix::fs::fstat(&lock).map_err(|errno| self.io("stat", LOCK, errno))?;
            if !FileType::from_raw_mode(stat.st_mode).is_file() {
                let path = self.path.join(LOCK);
                return Err(Error::Untrusted { path, why: "is not a plain file" });
            }
            lock.lock().map_err(|error| self.io("flock", LOCK, error))?;
            // Whoever tidies up may have removed it meanwhile, and others then lock another one.
            let now = rustix::fs::statat(&self.fd, LOCK, AtFlags::SYMLINK_NOFOLLOW);
            if now.is_ok_and(|now| (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino)) {
                return Ok(Locked { directory: self, _lock: lock });
            }
        }
    }

    /// Who holds which address, in the order of the addresses: reads every reservation.
    pub(crate) fn reservations(&self) -> Result<Vec<Reservation>> {
        let mut reservations = Vec::new();
        self.each_address(|address, entry| {
            let held = entry.look().map(|(holder, _)| Reservation { address, holder });
            reservations.extend(held);
        })?;
        reservations.sort_unstable();
        Ok(reservations)
    }

    /// Shows every reserved address with its file, which is not read for that. A name counts if it
    /// is an address as this crate and the reference write it.
    pub(crate) fn each_address(&self, mut see: impl FnMut(IpAddr, &Entry<'_>)) -> Result<()> {
        self.each_name(|name| {
            if let Some(address) = address(name) {
                see(address, &Entry { directory: self, name });
            }
        })
    }

    /// The names that mean nothing here, in order.
    pub(crate) fn strangers(&self) -> Result<Vec<OsString>> {
        let mut strangers = Vec::new();
        self.each_name(|name| {
            let text = name.to_str().unwrap_or_default();
            let is_known = text == LOCK || text.starts_with(CURSOR) || address(name).is_some();
            strangers.extend((!is_known).then(|| OsStr::from_bytes(name.to_bytes()).to_owned()));
        })?;
        strangers.sort();
        Ok(strangers)
    }

    fn each_name(&self, mut see: impl FnMut(&CStr)) -> Result<()> {
        let read = |errno| Error::io("read", &self.path, errno);
        for entry in Dir::read_from(&self.fd).map_err(read)? {
            let entry = entry.map_err(read)?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                see(name);
            }
        }
        Ok(())
    }

    /// Who holds an address; `None` if it is not reserved. One file that cannot be read must not
    /// stop everything else, so it is [`Holder::Unknown`].
    pub(crate) fn holder(&self, address: IpAddr) -> Option<Holder> {
        let name = CString::new(address.to_string()).ok()?;
        Entry { directory: self, name: &name }.look().map(|(holder, _)| holder)
    }

    /// What the directory itself looks like.
    pub(crate) fn seen(&self) -> Result<Seen> {
        let stat = rustix::fs::fstat(&self.fd);
        stat.map(|stat| Seen::of(&stat)).map_err(|errno| Error::io("stat", &self.path, errno))
    }

    /// The number of the kind of file system (statfs(2)).
    pub(crate) fn file_system(&self) -> Result<i64> {
        let stat = rustix::fs::fstatfs(&self.fd);
        stat.map(|stat| stat.f_type).map_err(|errno| Error::io("statfs", &self.path, errno))
    }

    /// The address that a set gave out last. It is a hint: without one that can be read, the
    /// search starts at the beginning.
    pub(crate) fn cursor(&self, set: usize) -> Option<IpAddr> {
        let file = self.file(&cursor_name(set), OFlags::RDONLY | OFlags::NONBLOCK, 0).ok()?;
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).ok()?;
        text.parse().ok().map(|address: IpAddr| address.to_canonical())
    }

    fn file(&self, name: &str, flags: OFlags, mode: u32) -> Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))
            .map(File::from)
            .map_err(|errno| self.io("open", name, errno))
    }

    fn io(&self, call: &'static str, name: &str, error: impl Into<io::Error>) -> Error {
        Error::io(call, &self.path.join(name), error)
    }
}

impl Locked<'_> {
    /// What is locked.
    pub(crate) fn directory(&self) -> &Directory {
        self.directory
    }

    /// Sets the directory's time of modification, and tells what it looks like then.
    pub(crate) fn mark(&self, modified: Time) -> Result<Seen> {
        let failed = |errno| Error::io("utimensat", &self.directory.path, errno);
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let tv_nsec = modified.nanoseconds.cast_signed();
        let last_modification = Timespec { tv_sec: modified.seconds, tv_nsec };
        let times = Timestamps { last_access: omit, last_modification };
        rustix::fs::futimens(&self.directory.fd, &times).map_err(failed)?;
        self.directory.seen()
    }

    /// Reserves an address that has no file yet: the file is created exclusively and its text
    /// written at once, and if that fails it is removed again.
    ///
    /// A process that is killed between the two leaves an empty file, and a power loss may do so
    /// at any time, since nothing here waits for the disk (which would cost ten times as much as
    /// the whole allocation). Neither blocks the address for ever: an empty file is
    /// [`Holder::Nobody`]. That is why there is no temporary file and no rename either, which
    /// would not survive a power loss without a wait for the disk, and whose name and text the
    /// reference would read like any other.
    pub(crate) fn reserve(&self, address: IpAddr, owner: &Owner) -> Result<()> {
        let name = address.to_string();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let mut file = self.directory.file(&name, flags, 0o600)?;
        file.write_all(owner.text().as_bytes()).map_err(|error| {
            // What failed is the write; that the removal may fail too adds nothing to it.
            let _ = self.remove(address);
            self.directory.io("write", &name, error)
        })
    }

    /// Removes a reservation; `false` if there was none.
    pub(crate) fn remove(&self, address: IpAddr) -> Result<bool> {
        let name = address.to_string();
        match rustix::fs::unlinkat(&self.directory.fd, &name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.directory.io("remove", &name, errno)),
        }
    }

    /// Remembers the address that a set gives out.
    ///
    /// The text is written over the old one and cut to length afterwards: this needs no new block
    /// on a full disk, and what a crash in between leaves is no worse than no cursor.
    pub(crate) fn set_cursor(&self, set: usize, address: IpAddr) -> Result<()> {
        let name = cursor_name(set);
        let unlink = || rustix::fs::unlinkat(&self.directory.fd, &name, AtFlags::empty());
        let open = || {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NONBLOCK;
            let file = self.directory.file(&name, flags, 0o600)?;
            let stat = rustix::fs::fstat(&file);
            Ok((file, stat.map_err(|errno| self.directory.io("stat", &name, errno))?))
        };
        let (mut file, mut stat) = open()?;
        if stat.st_nlink > 1 {
            // Under another name it may be a file that is nobody's business here.
            unlink().map_err(|errno| self.directory.io("remove", &name, errno))?;
            (file, stat) = open()?;
        }
        let text = address.to_string();
        let written =
            file.write_all(text.as_bytes()).and_then(|()| file.set_len(text.len() as u64));
        written.map_err(|error| {
            // A file that was created for nothing must not stay.
            if stat.st_size == 0 && file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                let _ = unlink();
            }
            self.directory.io("write", &name, error)
        })
    }
}

impl Entry<'_> {
    /// Who holds the address, and what the file looked like before it was read; `None` if it is
    /// gone.
    pub(crate) fn look(&self) -> Option<(Holder, Option<Seen>)> {
        // Without NONBLOCK a named pipe would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory.fd, self.name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return None,
            Err(_) => return Some((Holder::Unknown, None)),
        };
        let stat = rustix::fs::fstat(&file).ok();
        // A pipe reads as empty, but it is not a reservation without an owner.
        let is_plain = |stat: &Stat| FileType::from_raw_mode(stat.st_mode).is_file();
        let text = stat.filter(is_plain).and_then(|_| read_short(&file).ok()).flatten();
        let holder = text.map_or(Holder::Unknown, |text| Holder::parse(&text));
        Some((holder, stat.map(|stat| Seen::of(&stat))))
    }

    /// What the file looks like.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let stat = rustix::fs::statat(&self.directory.fd, self.name, AtFlags::SYMLINK_NOFOLLOW);
        stat.ok().map(|stat| Seen::of(&stat))
    }
}

impl Seen {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            modified: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec },
            changed: Time { seconds: stat.st_ctime, nanoseconds: stat.st_ctime_nsec },
        }
    }
}

/// Whether the directory, or the nearest one that exists on the way to it, can take new files.
/// Nothing is written to find out.
pub(crate) fn writable(path: &Path) -> Result<()> {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Err(Error::io("open", existing, Errno::NOTDIR));
    }
    let check = rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK);
    check.map_err(|errno| Error::io("access", existing, errno))?;
    let space =
        rustix::fs::statvfs(existing).map_err(|errno| Error::io("statfs", existing, errno))?;
    // A file system without such a limit says 0 of 0.
    let blocks = space.f_blocks > 0 && space.f_bfree == 0;
    let inodes = space.f_files > 0 && space.f_ffree == 0;
    if blocks || inodes { Err(Error::io("write", existing, Errno::NOSPC)) } else { Ok(()) }
}

/// Makes a directory and its parents. What is in the way is named, as the reference does.
pub(crate) fn make(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(Error::io("mkdir", path, Errno::NOTDIR)),
        Err(_) => {}
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make(parent)?;
    }
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) if path.is_dir() => Ok(()),
        Err(errno) => Err(Error::io("mkdir", path, errno)),
    }
}

/// Where a symbolic link in place of a network's directory leads to. It has to be ours or root's,
/// as the kernel demands in directories that everybody may write to (fs.protected_symlinks).
fn target(path: &Path) -> Result<PathBuf> {
    let failed = |errno| Error::io("open", path, errno);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&link).map_err(failed)?;
    if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
        return Err(failed(Errno::NOTDIR));
    }
    if !is_trusted(&stat) {
        let why = "is a symbolic link of somebody else";
        return Err(Error::Untrusted { path: path.to_owned(), why });
    }
    let target = rustix::fs::readlinkat(&link, "", Vec::new()).map_err(failed)?;
    let target = Path::new(OsStr::from_bytes(target.to_bytes()));
    Ok(path.parent().unwrap_or(Path::new("")).join(target))
}

/// Whether a file is ours or root's.
pub(crate) fn is_trusted(stat: &Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw()
}

/// The text of a file; `None` if it is too long for a reservation.
fn read_short(mut file: &File) -> io::Result<Option<Vec<u8>>> {
    let mut start = [0; 256];
    let length = file.read(&mut start)?;
    let mut text = start[..length].to_vec();
    // A plain file gives all that it has.
    if length == start.len() {
        file.take(LONGEST).read_to_end(&mut text)?;
    }
    Ok((text.len() as u64 <= LONGEST).then_some(text))
}

fn cursor_name(set: usize) -> String {
    format!("{CURSOR}{set}")
}

/// The address that a file is named by.
fn address(name: &CStr) -> Option<IpAddr> {
    let name = name.to_str().ok()?;
    let address = name.parse().ok()?;
    // Of IPv4 there is one way to write an address, of IPv6 there are many.
    let is_canonical = matches!(address, IpAddr::V4(_)) || address.to_string() == name;
    is_canonical.then_some(address)
}
