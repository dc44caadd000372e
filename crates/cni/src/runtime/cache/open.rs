//! The directories of a cache, opened because they can be trusted: the only place that touches its
//! files.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::record::{Kept, Record};
use crate::Attachment;
use crate::runtime::{Error, Result};

/// The directory of the files.
pub(super) const RESULTS: &str = "results";
/// The name of a file while it is written, beside that directory: the reference library takes
/// whatever is in it for an attachment.
const TEMPORARY: &str = ".podwire.new";
/// The longest file that is read, in bytes.
const LONGEST: u64 = 2 * crate::exec::LONGEST as u64;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// The two directories of a cache.
pub(super) struct Open<'a> {
    dir: &'a Path,
    cache: OwnedFd,
    results: OwnedFd,
}

/// How a file gets its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// Nobody may have it.
    New,
    /// Whoever has it is replaced.
    Over,
}

/// What has a name: a file, or what is said of it without one.
enum Named {
    File(File),
    Kept(Kept),
}

impl<'a> Open<'a> {
    /// Opens a cache; `None` if there is none.
    pub(super) fn existing(dir: &'a Path) -> Result<Option<Self>> {
        match open_cache(dir)? {
            None => Ok(None),
            Some(cache) => Self::with_results(dir, cache),
        }
    }

    /// Opens a cache and makes what is missing of it, as the reference library does.
    pub(super) fn create(dir: &'a Path) -> Result<Self> {
        let failed = |source| failed("create", dir, source);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let cache = open_cache(dir)?.ok_or_else(|| failed(Errno::NOENT.into()))?;
        match rustix::fs::mkdirat(&cache, RESULTS, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        Self::with_results(dir, cache)?.ok_or_else(|| failed(Errno::NOENT.into()))
    }

    fn with_results(dir: &'a Path, cache: OwnedFd) -> Result<Option<Self>> {
        let path = dir.join(RESULTS);
        let opened =
            rustix::fs::openat(&cache, RESULTS, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        // The kernel says the one or the other of a link, by version.
        if let Err(Errno::LOOP | Errno::NOTDIR) = opened {
            return Err(untrusted(&path, "it is not a directory but a file or a link".to_owned()));
        }
        let Some(results) = found(opened, &path)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&results).map_err(|e| failed("stat", &path, e))?;
        let mode = stat.st_mode & 0o7777;
        if mode & 0o002 != 0 {
            return Err(untrusted(&path, format!("anybody may write to it (mode {mode:04o})")));
        }
        if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(untrusted(&path, format!("it belongs to user {}", stat.st_uid)));
        }
        Ok(Some(Self { dir, cache, results }))
    }

    /// The path of a file, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(RESULTS).join(name)
    }

    /// The names of all files.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let failed = |errno| failed("read", &self.dir.join(RESULTS), errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.results).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if !matches!(name.as_str(), "." | "..") {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads a file; without `expected` it is whoever's its name says.
    pub(super) fn read(&self, name: &str, expected: Option<(&str, &Attachment)>) -> Result<Kept> {
        let file = match self.named(name)? {
            Named::File(file) => file,
            Named::Kept(kept) => return Ok(kept),
        };
        let mut bytes = Vec::new();
        let read = file.take(LONGEST + 1).read_to_end(&mut bytes);
        read.map_err(|source| failed("read", &self.path(name), source))?;
        if bytes.len() as u64 > LONGEST {
            return Ok(Kept::Strange(format!("is longer than {} MiB", LONGEST >> 20)));
        }
        Ok(Kept::understand(&bytes, name, expected))
    }

    /// Opens a file; `None` if there is no regular one.
    pub(super) fn file(&self, name: &str) -> Result<Option<File>> {
        Ok(match self.named(name)? {
            Named::File(file) => Some(file),
            Named::Kept(_) => None,
        })
    }

    fn named(&self, name: &str) -> Result<Named> {
        let said = |kept| Ok(Named::Kept(kept));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.results, name, flags, Mode::empty()) {
            // What has too long a name cannot be there.
            Err(Errno::NOENT | Errno::NAMETOOLONG) => return said(Kept::Nothing),
            Err(Errno::LOOP) => return said(Kept::Foreign("is a symbolic link".to_owned())),
            Err(Errno::NXIO) => return said(Kept::Foreign("is not a regular file".to_owned())),
            opened => opened.map_err(|errno| failed("open", &self.path(name), errno))?,
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| failed("stat", &self.path(name), e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Named::File(file.into())),
            _ => said(Kept::Foreign("is not a regular file".to_owned())),
        }
    }

    /// Writes a file beside its place and puts it there; `None` if somebody has the name of one that
    /// has to be new. The file given back is locked. Nothing waits for the disk: after a power loss
    /// there are no attachments, and a torn file is understood.
    pub(super) fn write(&self, name: &str, record: &Record, put: Put) -> Result<Option<File>> {
        let in_words = |source: io::Error| failed("write", &self.path(name), source);
        let lock = FlockOperation::LockExclusive;
        rustix::fs::flock(&self.results, lock).map_err(|errno| in_words(errno.into()))?;
        // A kill may have left one.
        self.discard();
        let written = self.write_temporary(&record.text()).and_then(|file| {
            let (from, to) = (&self.cache, &self.results);
            let put = match put {
                Put::New => rustix::fs::linkat(from, TEMPORARY, to, name, AtFlags::empty()),
                Put::Over => rustix::fs::renameat(from, TEMPORARY, to, name),
            };
            match put {
                Err(Errno::EXIST) => Ok(None),
                put => Ok(put.map(|()| Some(file))?),
            }
        });
        self.discard();
        let _ = rustix::fs::flock(&self.results, FlockOperation::Unlock);
        written.map_err(in_words)
    }

    fn write_temporary(&self, text: &str) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let mut file: File = rustix::fs::openat(&self.cache, TEMPORARY, flags, mode)?.into();
        file.lock()?;
        file.write_all(text.as_bytes())?;
        Ok(file)
    }

    /// Removes the temporary file; mostly there is none.
    fn discard(&self) {
        let _ = rustix::fs::unlinkat(&self.cache, TEMPORARY, AtFlags::empty());
    }

    /// Removes a file; gone already is done.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.results, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove", &self.path(name), errno)),
        }
    }
}

/// Opens the directory itself, through whatever links lead there.
fn open_cache(dir: &Path) -> Result<Option<OwnedFd>> {
    let Some(fd) = found(rustix::fs::open(dir, DIRECTORY, Mode::empty()), dir)? else {
        return Ok(None);
    };
    let stat = rustix::fs::fstat(&fd).map_err(|e| failed("stat", dir, e))?;
    let mode = stat.st_mode & 0o7777;
    // A directory such as /tmp keeps what is in it, which is looked at next.
    if mode & 0o002 != 0 && (mode & 0o1000 == 0 || stat.st_uid != 0) {
        return Err(untrusted(dir, format!("anybody may write to it (mode {mode:04o})")));
    }
    Ok(Some(fd))
}

/// What was opened; `None` if there is nothing of that name.
fn found(opened: rustix::io::Result<OwnedFd>, path: &Path) -> Result<Option<OwnedFd>> {
    match opened {
        Err(Errno::NOENT) => Ok(None),
        opened => opened.map(Some).map_err(|errno| failed("open", path, errno)),
    }
}

pub(super) fn failed(verb: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
    Error::Cache { verb, path: path.to_owned(), source: source.into() }
}

fn untrusted(path: &Path, why: String) -> Error {
    Error::Untrusted { path: path.to_owned(), why }
}
