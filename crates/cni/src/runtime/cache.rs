//! What a runtime remembers of each attachment: the reference library's files, in both directions.
//!
//! One file an attachment, `results/<network>-<container>-<interface>` below the cache's directory.
//! A file comes into being before the first plugin is called, without a result, so that whatever is
//! killed in between is known and can be taken back; it gets its result by a rename, so that no
//! crash tears it. What others left there, torn or foreign, is told and never an obstacle to `DEL`.
//!
//! Everything is opened relative to the two directories and never through a symbolic link. The way
//! to the cache is the administrator's and may have links.

pub(super) mod record;

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

pub use self::record::Record;
use self::record::{Kept, name};
use super::{Error, Result};
use crate::Attachment;

/// The files of one cache directory.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

/// A file of the cache that is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// The directory of the files.
const RESULTS: &str = "results";
/// The name of a file while it is written, beside that directory: the reference library takes
/// whatever is in it for an attachment.
const TEMPORARY: &str = ".podwire.new";
/// The longest file that is read, in bytes.
const LONGEST: u64 = 2 * crate::exec::LONGEST as u64;

impl Cache {
    /// The cache in a directory, which is made when it is needed.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The file of an attachment.
    pub fn path(&self, network: &str, attachment: &Attachment) -> PathBuf {
        self.dir.join(RESULTS).join(name(network, attachment))
    }

    /// What is remembered of an attachment, if it can be understood.
    pub fn get(&self, network: &str, attachment: &Attachment) -> Result<Option<Record>> {
        Ok(match self.read(network, attachment)? {
            Kept::Record(record) => Some(*record),
            _ => None,
        })
    }

    /// All attachments of all networks by the name of their files, and the files of no use.
    pub fn list(&self) -> Result<(Vec<Record>, Vec<Unusable>)> {
        let (mut records, mut unusable) = (Vec::new(), Vec::new());
        let Some(open) = self.open()? else { return Ok((records, unusable)) };
        for name in open.names()? {
            let why = match open.read(&name, None)? {
                Kept::Nothing => continue,
                Kept::Record(record) => {
                    records.push(*record);
                    continue;
                }
                Kept::Torn(why) | Kept::Strange(why) | Kept::Foreign(why) => why,
            };
            unusable.push(Unusable { path: open.results_path().join(name), why });
        }
        Ok((records, unusable))
    }

    /// What there is under the name of an attachment.
    pub(super) fn read(&self, network: &str, attachment: &Attachment) -> Result<Kept> {
        match self.open()? {
            None => Ok(Kept::Nothing),
            Some(open) => open.read(&name(network, attachment), Some((network, attachment))),
        }
    }

    /// Remembers an attachment before it is made. Only one can: a second `ADD` is refused.
    pub(super) fn begin(&self, record: &Record) -> Result<()> {
        let (network, attachment) = (record.network.clone(), record.parameters.attachment.clone());
        let name = name(&network, &attachment);
        let path = self.path(&network, &attachment);
        let open = self.create()?;
        match open.read(&name, Some((&network, &attachment)))? {
            Kept::Nothing => {}
            Kept::Torn(_) => open.remove(&name)?,
            Kept::Record(_) => return Err(Error::Attached { network, attachment, path }),
            Kept::Strange(why) | Kept::Foreign(why) => {
                return Err(Error::Occupied { network, path, why });
            }
        }
        let is_new = open.write(&name, record, |open| {
            match rustix::fs::linkat(&open.cache, TEMPORARY, &open.results, &name, AtFlags::empty())
            {
                Err(Errno::EXIST) => Ok(false),
                linked => linked.map(|()| true),
            }
        })?;
        if is_new { Ok(()) } else { Err(Error::Attached { network, attachment, path }) }
    }

    /// Remembers the result of an attachment that was begun.
    pub(super) fn finish(&self, record: &Record) -> Result<()> {
        let name = name(&record.network, &record.parameters.attachment);
        self.create()?.write(&name, record, |open| {
            rustix::fs::renameat(&open.cache, TEMPORARY, &open.results, &name)
        })
    }

    /// Forgets an attachment.
    pub(super) fn forget(&self, network: &str, attachment: &Attachment) -> Result<()> {
        match self.open()? {
            None => Ok(()),
            Some(open) => open.remove(&name(network, attachment)),
        }
    }

    /// Opens the cache and makes what is missing of it, as the reference library does.
    fn create(&self) -> Result<Open<'_>> {
        let failed = |source| cache_error("create", &self.dir, source);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(failed)?;
        let cache = self.open_top()?.ok_or_else(|| failed(Errno::NOENT.into()))?;
        match rustix::fs::mkdirat(&cache, RESULTS, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(cache_error("create", &self.dir.join(RESULTS), errno)),
        }
        self.open_results(cache)?.ok_or_else(|| failed(Errno::NOENT.into()))
    }

    /// Opens the cache; `None` if there is none.
    fn open(&self) -> Result<Option<Open<'_>>> {
        match self.open_top()? {
            None => Ok(None),
            Some(cache) => self.open_results(cache),
        }
    }

    fn open_top(&self) -> Result<Option<OwnedFd>> {
        let opened = rustix::fs::open(&self.dir, DIRECTORY, Mode::empty());
        let Some(fd) = found(opened, "open", &self.dir)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&fd).map_err(|e| cache_error("stat", &self.dir, e))?;
        let mode = stat.st_mode & 0o7777;
        // A directory such as /tmp keeps what is in it, which is looked at next.
        if mode & 0o002 != 0 && (mode & 0o1000 == 0 || stat.st_uid != 0) {
            return Err(untrusted(&self.dir, format!("anybody may write to it (mode {mode:04o})")));
        }
        Ok(Some(fd))
    }

    fn open_results(&self, cache: OwnedFd) -> Result<Option<Open<'_>>> {
        let path = self.dir.join(RESULTS);
        let opened =
            rustix::fs::openat(&cache, RESULTS, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        // The kernel says the one or the other of a link, by version.
        if let Err(Errno::LOOP | Errno::NOTDIR) = opened {
            return Err(untrusted(&path, "it is not a directory but a file or a link".to_owned()));
        }
        let Some(results) = found(opened, "open", &path)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&results).map_err(|e| cache_error("stat", &path, e))?;
        let mode = stat.st_mode & 0o7777;
        if mode & 0o002 != 0 {
            return Err(untrusted(&path, format!("anybody may write to it (mode {mode:04o})")));
        }
        if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(untrusted(&path, format!("it belongs to user {}", stat.st_uid)));
        }
        Ok(Some(Open { dir: &self.dir, cache, results }))
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// The two directories of a cache that can be trusted.
struct Open<'a> {
    dir: &'a Path,
    cache: OwnedFd,
    results: OwnedFd,
}

impl Open<'_> {
    fn results_path(&self) -> PathBuf {
        self.dir.join(RESULTS)
    }

    fn names(&self) -> Result<Vec<String>> {
        let failed = |errno| cache_error("read", &self.results_path(), errno);
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
    fn read(&self, name: &str, expected: Option<(&str, &Attachment)>) -> Result<Kept> {
        let path = || self.results_path().join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.results, name, flags, Mode::empty()) {
            // What has too long a name cannot be there.
            Err(Errno::NOENT | Errno::NAMETOOLONG) => return Ok(Kept::Nothing),
            Err(Errno::LOOP) => return Ok(Kept::Foreign("is a symbolic link".to_owned())),
            Err(Errno::NXIO) => return Ok(Kept::Foreign("is not a regular file".to_owned())),
            opened => opened.map_err(|errno| cache_error("open", &path(), errno))?,
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| cache_error("stat", &path(), e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Kept::Foreign("is not a regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        let read = File::from(file).take(LONGEST + 1).read_to_end(&mut bytes);
        read.map_err(|source| cache_error("read", &path(), source))?;
        if bytes.len() as u64 > LONGEST {
            return Ok(Kept::Strange(format!("is longer than {} MiB", LONGEST >> 20)));
        }
        Ok(Kept::understand(&bytes, name, expected))
    }

    /// Writes a file beside its place and has it put there. Nothing waits for the disk: after a
    /// power loss there are no attachments, and a torn file is understood.
    fn write<T>(
        &self,
        name: &str,
        record: &Record,
        put: impl FnOnce(&Self) -> rustix::io::Result<T>,
    ) -> Result<T> {
        let failed =
            |source: io::Error| cache_error("write", &self.results_path().join(name), source);
        let lock = FlockOperation::LockExclusive;
        rustix::fs::flock(&self.results, lock).map_err(|errno| failed(errno.into()))?;
        self.discard();
        let written = self.write_temporary(&record.text());
        let put = written.and_then(|()| Ok(put(self)?));
        self.discard();
        let _ = rustix::fs::flock(&self.results, FlockOperation::Unlock);
        put.map_err(failed)
    }

    fn write_temporary(&self, text: &str) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(self.cache.as_fd(), TEMPORARY, flags, mode)?;
        File::from(file).write_all(text.as_bytes())
    }

    /// Removes the temporary file, also one that a kill left; mostly there is none.
    fn discard(&self) {
        let _ = rustix::fs::unlinkat(&self.cache, TEMPORARY, AtFlags::empty());
    }

    fn remove(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.results, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(cache_error("remove", &self.results_path().join(name), errno)),
        }
    }
}

/// What was opened; `None` if there is nothing of that name.
fn found(
    opened: rustix::io::Result<OwnedFd>,
    verb: &'static str,
    path: &Path,
) -> Result<Option<OwnedFd>> {
    match opened {
        Err(Errno::NOENT) => Ok(None),
        opened => opened.map(Some).map_err(|errno| cache_error(verb, path, errno)),
    }
}

fn cache_error(verb: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
    Error::Cache { verb, path: path.to_owned(), source: source.into() }
}

fn untrusted(path: &Path, why: String) -> Error {
    Error::Untrusted { path: path.to_owned(), why }
}
