//! The directory in which indexes are kept.
//!
//! An index is believed, so whoever could write one could free other people's addresses. Therefore
//! the directory and the files in it have to be ours or root's and writable by nobody else, and no
//! symbolic link is followed in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::directory::{is_trusted, make};
use crate::{Error, Result};

/// A directory of indexes that can be trusted.
#[derive(Debug)]
pub(super) struct Place {
    fd: OwnedFd,
    path: PathBuf,
}

/// A file of it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) file: File,
    pub(super) length: u64,
    pub(super) is_writable: bool,
}

impl Place {
    /// Opens the directory, and makes it (0700) and its parents (0755) where they are missing.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |call, errno: Errno| Error::io(call, path, errno);
        let open = || rustix::fs::open(path, flags, Mode::empty());
        let fd = match open() {
            Err(Errno::NOENT) => {
                if let Some(parent) = path.parent() {
                    make(parent)?;
                }
                match rustix::fs::mkdir(path, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => open(),
                    Err(errno) => return Err(failed("mkdir", errno)),
                }
            }
            answer => answer,
        };
        let place = Self { fd: fd.map_err(|errno| failed("open", errno))?, path: path.to_owned() };
        trust(&place.fd, path, FileType::Directory)?;
        Ok(place)
    }

    /// The file of that name; `None` if there is none that can be trusted.
    pub(super) fn file(&self, name: &str) -> Option<Kept> {
        // Without NONBLOCK a named pipe would be waited for.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |access| rustix::fs::openat(&self.fd, name, access | flags, Mode::empty());
        let (fd, is_writable) = match open(OFlags::RDWR) {
            // As long as nothing changes, it need not be written.
            Err(Errno::ROFS) => (open(OFlags::RDONLY).ok()?, false),
            answer => (answer.ok()?, true),
        };
        let stat = trust(&fd, &self.path.join(name), FileType::RegularFile).ok()?;
        Some(Kept { file: fd.into(), length: stat.st_size.cast_unsigned(), is_writable })
    }

    /// A new file of that name, in place of whatever has it.
    pub(super) fn create(&self, name: &str) -> Result<File> {
        self.remove(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|errno| self.failed("open", name, errno))
    }

    /// The names of all files.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let failed = |errno| Error::io("read", &self.path, errno);
        let entries = Dir::read_from(&self.fd).map_err(failed)?;
        let name = |entry: DirEntry| Some(entry.file_name().to_str().ok()?.to_owned());
        let names = entries.map(|entry| entry.map(name)).filter_map(rustix::io::Result::transpose);
        names.collect::<Result<_, _>>().map_err(failed)
    }

    /// Removes the file of that name, if there is one.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    /// A failure about the file of that name.
    pub(super) fn failed(
        &self,
        call: &'static str,
        name: &str,
        error: impl Into<io::Error>,
    ) -> Error {
        Error::io(call, &self.path.join(name), error)
    }
}

/// Refuses what others could have written, or made.
fn trust(file: impl AsFd, path: &Path, kind: FileType) -> Result<Stat> {
    let stat = rustix::fs::fstat(file).map_err(|errno| Error::io("stat", path, errno))?;
    let refuse = |why| Err(Error::Untrusted { path: path.to_owned(), why });
    if FileType::from_raw_mode(stat.st_mode) != kind {
        return refuse("is not what it should be");
    }
    if !is_trusted(&stat) {
        return refuse("belongs to somebody else");
    }
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return refuse("can be written by others");
    }
    Ok(stat)
}
