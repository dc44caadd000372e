//! The directory of one network: the only place that touches files.
//!
//! Everything is opened relative to the directory and never through a symbolic link, so that a
//! link planted in it leads nowhere. The way to the directory is the administrator's and may have
//! links.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::choose::Held;
use crate::{Error, Holder, Owner, Result};

/// The lock's file.
const LOCK: &str = "lock";

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

impl Directory {
    /// Opens the directory; `None` if there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_owned() })),
            // What has too long a name cannot be there.
            Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(failed("open", path, errno)),
        }
    }

    /// Opens the directory, and makes it and its parents (0755) where they are missing.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        make(path)?;
        Self::open(path)?.ok_or_else(|| failed("open", path, Errno::NOENT))
    }

    /// Waits until nobody else changes the directory. Both this and the reference hold this lock
    /// whenever they change something.
    pub(crate) fn lock(&self) -> Result<Locked<'_>> {
        let lock = self.file(LOCK, OFlags::CREATE | OFlags::RDONLY, 0o750)?;
        lock.lock().map_err(|error| self.io("flock", LOCK, error))?;
        Ok(Locked { directory: self, _lock: lock })
    }

    /// Who holds which address: reads every reservation.
    ///
    /// This is the one place that costs as much as there are reservations, and where an index can
    /// stand in for the reading.
    pub(crate) fn held(&self) -> Result<Held> {
        let holders = self.addresses()?.into_iter();
        Ok(holders.filter_map(|address| Some((address, self.holder(address)?))).collect())
    }

    /// The reserved addresses, without their holders: reads no file. A name counts if it is an
    /// address as this crate and the reference write it; others are nobody's business here.
    pub(crate) fn addresses(&self) -> Result<Vec<IpAddr>> {
        let read = |errno| failed("read", &self.path, errno);
        let mut addresses = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(read)? {
            let entry = entry.map_err(read)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Ok(address) = name.parse::<IpAddr>() else { continue };
            if address.to_string() == name {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// Who holds an address; `None` if it is not reserved. One file that cannot be read must not
    /// stop everything else, so it is [`Holder::Unknown`].
    pub(crate) fn holder(&self, address: IpAddr) -> Option<Holder> {
        // Without NONBLOCK a named pipe would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.fd, address.to_string(), flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return None,
            Err(_) => return Some(Holder::Unknown),
        };
        let mut text = Vec::with_capacity(256);
        let read = (&file).take(LONGEST).read_to_end(&mut text).is_ok();
        // A pipe reads as empty, but it is not a reservation without an owner.
        let plain = !text.is_empty() || file.metadata().is_ok_and(|metadata| metadata.is_file());
        Some(if read && plain { Holder::parse(&text) } else { Holder::Unknown })
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
        failed(call, &self.path.join(name), error)
    }
}

impl Locked<'_> {
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

    /// Removes a reservation that is still this holder's; `false` if it is not.
    pub(crate) fn remove_if(&self, address: IpAddr, holder: &Holder) -> Result<bool> {
        let current = self.directory.holder(address);
        if current.as_ref() == Some(holder) { self.remove(address) } else { Ok(false) }
    }

    /// Remembers the address that a set gives out.
    ///
    /// The text is written over the old one and cut to length afterwards: this needs no new block
    /// on a full disk, and what a crash in between leaves is no worse than no cursor.
    pub(crate) fn set_cursor(&self, set: usize, address: IpAddr) -> Result<()> {
        let name = cursor_name(set);
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let mut file = self.directory.file(&name, flags, 0o600)?;
        let text = address.to_string();
        let written =
            file.write_all(text.as_bytes()).and_then(|()| file.set_len(text.len() as u64));
        written.map_err(|error| {
            // A file that was created for nothing must not stay.
            if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                let _ = rustix::fs::unlinkat(&self.directory.fd, &name, AtFlags::empty());
            }
            self.directory.io("write", &name, error)
        })
    }
}

/// Whether the directory, or the nearest one that exists on the way to it, can take new files.
/// Nothing is written to find out.
pub(crate) fn writable(path: &Path) -> Result<()> {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Err(failed("open", existing, Errno::NOTDIR));
    }
    let check = rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK);
    check.map_err(|errno| failed("access", existing, errno))?;
    let space = rustix::fs::statvfs(existing).map_err(|errno| failed("statfs", existing, errno))?;
    // A file system without such a limit says 0 of 0.
    let blocks = space.f_blocks > 0 && space.f_bfree == 0;
    let inodes = space.f_files > 0 && space.f_ffree == 0;
    if blocks || inodes { Err(failed("write", existing, Errno::NOSPC)) } else { Ok(()) }
}

/// Makes a directory and its parents. What is in the way is named, as the reference does.
fn make(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(failed("mkdir", path, Errno::NOTDIR)),
        Err(_) => {}
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make(parent)?;
    }
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) if path.is_dir() => Ok(()),
        Err(errno) => Err(failed("mkdir", path, errno)),
    }
}

fn cursor_name(set: usize) -> String {
    format!("last_reserved_ip.{set}")
}

fn failed(call: &'static str, path: &Path, error: impl Into<io::Error>) -> Error {
    Error::Io { call, path: path.to_owned(), error: error.into() }
}
