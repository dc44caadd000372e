//! Who keeps the index of a directory in a file, and says whether it still fits.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::directory::{Locked, Seen, Time};
use crate::{Error, Result};

use super::IndexPlace;
use super::header::{self, Header};
use super::mix::mix;
use super::page;
use super::place::Place;
use super::table::Table;

/// The file systems that stamp a directory whenever they change it, by their magic numbers
/// (statfs(2)). Those that share directories with other machines do so at some time.
const RELIABLE: &[i64] = &[
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs
];

/// The keeper of one directory's index.
#[derive(Debug)]
pub(super) struct Keeper<'a> {
    pub(super) wanted: &'a IndexPlace,
    place: Place,
    name: String,
    boot: u64,
    generation: u64,
    /// Whether the table's file can be written.
    is_writable: bool,
}

impl<'a> Keeper<'a> {
    /// Opens the index of the directory: the table, and whether it fits the directory. One that
    /// does not may still tell what is in the files that have not changed.
    pub(super) fn open(wanted: &'a IndexPlace, locked: &Locked<'_>) -> Result<(Self, Table, bool)> {
        let place = Place::open(&wanted.directory)?;
        let name = file_name(locked.directory().path());
        let boot = mix(0, wanted.boot_id.as_bytes());
        let seen = locked.directory().seen()?;
        let is_same = |it: &Seen| (it.device, it.inode) == (seen.device, seen.inode);
        let kept = place.file(&name).and_then(|kept| {
            let header = header_of(&kept.file)?;
            let is_whole = kept.length == (u64::from(header.pages) + 1) * page::SIZE as u64;
            (is_whole && header.boot == boot && is_same(&header.seen)).then_some((header, kept))
        });
        let keeper =
            |generation, is_writable| Self { wanted, place, name, boot, generation, is_writable };
        Ok(match kept {
            None => (keeper(0, true), Table::default(), false),
            Some((header, kept)) => {
                let table = Table::in_file(kept.file, header.pages, header.records);
                (keeper(header.generation, kept.is_writable), table, header.seen == seen)
            }
        })
    }

    /// Sees to it that whatever changes from now on can be told from what was there before: gives
    /// a time that every later change is stamped with, or a later one.
    pub(super) fn prepare(&self, locked: &Locked<'_>) -> Result<Time> {
        let directory = locked.directory();
        let refuse = |why| Err(Error::io("statfs", directory.path(), io::Error::other(why)));
        if !RELIABLE.contains(&directory.file_system()?) {
            return refuse("times of this file system are not known to tell of every change");
        }
        let trial = sentinel(&directory.seen()?, self.generation);
        let seen = locked.mark(trial)?;
        if seen.modified == trial {
            Ok(seen.changed)
        } else {
            refuse("this file system does not keep times to the nanosecond")
        }
    }

    /// Writes what has changed of the table, sets the sentinel, and notes it.
    pub(super) fn keep(&self, table: &mut Table, locked: &Locked<'_>) -> Result<()> {
        let failed = |error| self.place.failed("write", &self.name, error);
        let is_new = table.file().is_none() || !self.is_writable;
        let new = is_new.then(|| self.place.create(&self.name)).transpose()?;
        table.write(new).map_err(failed)?;
        let generation = self.generation + 1;
        let sentinel = sentinel(&locked.directory().seen()?, generation);
        let seen = locked.mark(sentinel)?;
        // Somebody who changes the directory without the lock may have come in between.
        let Some(file) = table.file().filter(|_| seen.modified == sentinel) else { return Ok(()) };
        let header = Header {
            boot: self.boot,
            seen,
            pages: table.pages(),
            records: table.records(),
            generation,
        };
        let path = locked.directory().path().as_os_str().as_bytes();
        file.write_all_at(&*header.bytes(path), 0).map_err(failed)
    }

    /// Removes an index that is of no use. Its space may be what is missing.
    pub(super) fn remove(&self) {
        let _ = self.place.remove(&self.name);
    }
}

/// A time that no change made now leaves behind: the kernel stamps both times of a directory with
/// the time of the change, and this one differs from it. It differs from earlier ones too.
fn sentinel(seen: &Seen, generation: u64) -> Time {
    let numbers = [seen.changed.nanoseconds, seen.inode].map(u64::to_le_bytes);
    Time {
        seconds: seen.changed.seconds - 1,
        nanoseconds: mix(generation, numbers.as_flattened()) % 1_000_000_000,
    }
}

/// The header of an index, if the file is one.
fn header_of(file: &File) -> Option<Header> {
    Header::read(&first_page(file)?)
}

/// The directory that a file is the index of, as far as this can be told.
pub(super) fn directory_of(place: &Place, name: &str) -> Option<PathBuf> {
    let page = first_page(&place.file(name)?.file)?;
    let directory = PathBuf::from(OsStr::from_bytes(header::path(&page)?));
    (directory.is_absolute() && file_name(&directory) == name).then_some(directory)
}

fn first_page(file: &File) -> Option<[u8; page::SIZE]> {
    let mut bytes = [0; page::SIZE];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(bytes)
}

/// The name of the index of a directory: the last part of its path, and a hash of all of it.
pub(super) fn file_name(directory: &Path) -> String {
    // A trailing slash or a doubled one is the same directory.
    let directory: PathBuf = directory.components().collect();
    let network = directory.file_name().unwrap_or_default().to_string_lossy();
    let short = &network[..network.floor_char_boundary(200)];
    format!("{short}-{:016x}", mix(0, directory.as_os_str().as_bytes()))
}
