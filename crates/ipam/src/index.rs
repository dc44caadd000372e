//! The index of a network's directory: what it costs as much as there are reservations to find
//! out, found out once.
//!
//! The reservations are the files of the directory, which other programs read and write as well.
//! An index saves reading them, and is only as good as it is known to describe the directory as it
//! is. It never gives or frees an address by itself: a file is created exclusively before an
//! address is given, and read before it is removed; and nothing is refused on its word.
//!
//! # When it is believed
//!
//! The last act of whoever changed the directory with this crate is to set the directory's time of
//! modification to a *sentinel*, a moment before the change with odd nanoseconds, and to note
//! in the index the directory as it then is: device, inode, and the times of modification and of
//! change. Whoever creates or removes a file makes the kernel set both times alike, and the
//! sentinel is gone. A directory that was copied or restored has another inode or another time of
//! change, which nobody can set. All of this happens under the directory's lock; whoever is killed
//! on the way leaves a directory and an index that do not fit each other.
//!
//! What does not fit is read again: all names, but only those files that have changed. The index
//! remembers of each file what it looked like (inode, time of change), unless it was so young that
//! another could look the same. An index of an earlier boot is not believed at all, since a power
//! loss may have kept any part of it, nor one with a page that is not what was written.
//!
//! Two things can go unnoticed, because others do them without the lock: a file removed by hand in
//! the microseconds of somebody's call, whose address then rests until the next time names are
//! read; and a text written anew into a file that stays.
//!
//! # The file
//!
//! `<directory of indexes>/<network>-<hash of the path of its directory>`, 0600, pages of 1 KiB,
//! numbers little-endian:
//!
//! | page | offset | bytes | what |
//! |---|---|---|---|
//! | header | 0 | 8 | `podwip`, 0, the version: 1 |
//! | | 8 | 8 | checksum of bytes 16 to 127 |
//! | | 16 | 8 | hash of the boot's id |
//! | | 24 | 16 | the directory's device and inode |
//! | | 40 | 32 | its times of modification and of change: seconds, nanoseconds |
//! | | 72 | 8 | how often the index was written |
//! | | 80 | 8 | how many pages follow (a power of two), how many records they have |
//! | | 128 | | the directory's path, for people |
//! | every other | 0 | 8 | checksum of the rest, and of the page's number |
//! | | 8 | 1 | whether records that belong here are in the next page |
//! | | 32 | 31 × 32 | records |
//!
//! | record | bytes | of a reservation | of 64 addresses (level 0) or words (level 1 and up) |
//! |---|---|---|---|
//! | 0 | 1 | 1 attachment, 2 container (old format), 0 no record | 3 |
//! | 1 | 1 | 4 or 6: the family | likewise |
//! | 2 | 1 | 0 | level |
//! | 4 | 4 | what the file looked like, 0 for not known | 0 |
//! | 8 | 8 | hash of id and interface, or of the id | which are taken, or full |
//! | 16 | 16 | the address | the place among those of its level |
//!
//! A reservation's page is named by its hash, a word's by the hash of family, level and place. Files
//! that are empty or cannot be read are taken, but have no record.

mod header;
mod keeper;
mod mix;
mod page;
mod place;
mod record;
mod table;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::directory::{Directory, Locked, Seen, Time};
use crate::{Error, Holder, Owner, Reservation, Result};

use keeper::Keeper;
use mix::mix;
use place::Place;
use record::Record;
use table::Table;

/// Where a store keeps its index, and what it has to know for that.
#[derive(Debug, Clone)]
pub struct IndexPlace {
    /// The directory of indexes, made (0700) where it is missing. It must not be one of
    /// reservations, in which the reference reads every file.
    pub directory: PathBuf,
    /// The kernel's name for this boot of the machine, `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Is told, once a call at most, why there is no index. Everything works without it, only not
    /// as fast.
    pub report: fn(&Error),
}

impl IndexPlace {
    /// The directories that there are indexes of, but that are no more.
    pub fn orphans(&self) -> Result<Vec<PathBuf>> {
        if !self.directory.exists() {
            return Ok(Vec::new());
        }
        let place = Place::open(&self.directory)?;
        let mut orphans: Vec<_> =
            place.names()?.iter().filter_map(|name| keeper::directory_of(&place, name)).collect();
        orphans.retain(|directory| !directory.exists());
        orphans.sort();
        Ok(orphans)
    }

    /// Removes the index of a directory, if there is one. It is made anew when somebody asks.
    pub fn forget(&self, directory: &Path) -> Result<()> {
        if !self.directory.exists() {
            return Ok(());
        }
        Place::open(&self.directory)?.remove(&keeper::file_name(directory))
    }
}

/// How an index stands to its directory.
#[derive(Debug)]
pub enum IndexState {
    /// The store keeps none.
    Unwanted,
    /// It cannot be kept, which costs time and nothing else.
    Impossible(Error),
    /// There is none that says anything about this directory since the machine was started.
    Missing,
    /// The directory was changed by others since; the next call reads it again.
    Outdated,
    /// It describes the directory as it is.
    Right,
    /// It claims to describe the directory, and does not.
    Wrong,
}

/// What is reserved in a directory, as far as anybody asks.
#[derive(Debug, Default)]
pub(crate) struct Index<'a> {
    table: Table,
    /// The empty files; known only where the directory itself was read.
    empty: Option<BTreeSet<IpAddr>>,
    /// Whether the directory was changed, and the table with it.
    is_changed: bool,
    keeper: Option<Keeper<'a>>,
}

impl<'a> Index<'a> {
    /// Reads a whole directory, for this call only.
    pub(crate) fn of(directory: &Directory) -> Result<Self> {
        let reservations = directory.reservations()?.into_iter();
        Ok(reservations.map(|Reservation { address, holder }| (address, holder)).collect())
    }

    /// The index that is kept in `place`, or what takes its place if there is none that fits.
    pub(crate) fn open(locked: &Locked<'_>, wanted: &'a IndexPlace) -> Result<Self> {
        let (keeper, table, fits) = match Keeper::open(wanted, locked) {
            Ok(opened) => opened,
            Err(error) => {
                (wanted.report)(&error);
                return Self::of(locked.directory());
            }
        };
        let mut index = Self { table, empty: None, is_changed: false, keeper: Some(keeper) };
        if !fits {
            index.reread(locked)?;
        }
        Ok(index)
    }

    /// How the index that is kept in `place` stands to the directory, which is read for that.
    pub(crate) fn state(locked: &Locked<'_>, place: &'a IndexPlace) -> Result<IndexState> {
        if !place.directory.exists() {
            return Ok(IndexState::Missing);
        }
        let (_, mut table, fits) = match Keeper::open(place, locked) {
            Ok(opened) => opened,
            Err(error) => return Ok(IndexState::Impossible(error)),
        };
        if !fits {
            let is_there = table.file().is_some();
            return Ok(if is_there { IndexState::Outdated } else { IndexState::Missing });
        }
        let reservations = locked.directory().reservations()?;
        let key = |record: Record| (record.address(), record.kind as u8, record.value);
        let records = reservations.iter().filter_map(|it| Record::of(it.address, &it.holder, 0));
        let records: BTreeSet<_> = records.map(key).collect();
        let is_right = table.holders().into_iter().map(key).collect::<BTreeSet<_>>() == records
            && reservations.iter().all(|it| table.is_taken(it.address))
            && table.taken() == reservations.len() as u64
            && table.is_sound();
        Ok(if is_right { IndexState::Right } else { IndexState::Wrong })
    }

    /// The same, read from the directory itself.
    pub(crate) fn fresh(mut self, locked: &Locked<'_>) -> Result<Self> {
        if !self.is_fresh() {
            self.reread(locked)?;
        }
        Ok(self)
    }

    /// Reads the directory again, of its files only those that are not known.
    pub(crate) fn reread(&mut self, locked: &Locked<'_>) -> Result<()> {
        let now = self.keeper.as_ref().map(|keeper| keeper.prepare(locked));
        let now = match now.transpose() {
            Ok(now) => now,
            Err(error) => {
                self.give_up(&error);
                None
            }
        };
        let mut known = Vec::new();
        if now.is_some() {
            let holders = self.table.holders();
            if self.table.is_sound() {
                known = holders;
                known.sort_unstable_by_key(Record::address);
            }
        }
        let (table, empty) = read(locked.directory(), &known, now)?;
        (self.table, self.empty) = (table, Some(empty));
        Ok(())
    }

    /// Whether the directory itself was read just now, so that reading it again would tell nothing
    /// new.
    pub(crate) fn is_fresh(&self) -> bool {
        self.empty.is_some()
    }

    /// Whether what was answered so far can be right.
    pub(crate) fn is_sound(&self) -> bool {
        self.table.is_sound()
    }

    /// The addresses that [`crate::Store::release`] has to free, ascending: those of the
    /// attachment, or those of its container in the old format if it has none.
    pub(crate) fn owned(&mut self, owner: &Owner) -> Vec<IpAddr> {
        self.table.owned(owner)
    }

    /// All addresses that are the attachment's in either format, ascending.
    pub(crate) fn all_owned(&mut self, owner: &Owner) -> Vec<IpAddr> {
        self.table.all_owned(owner)
    }

    /// Whether an address has a file.
    pub(crate) fn is_taken(&mut self, address: IpAddr) -> bool {
        self.table.is_taken(address)
    }

    /// Whether the file of an address is known to be empty.
    pub(crate) fn is_empty(&self, address: IpAddr) -> bool {
        self.empty.as_ref().is_some_and(|empty| empty.contains(&address))
    }

    /// The first address from `from` to `to`, as numbers, that has no file.
    pub(crate) fn next_free(&mut self, v4: bool, from: u128, to: u128) -> Option<u128> {
        self.table.next_free(v4, from, to)
    }

    /// The addresses from `from` to `to` whose files are known to be empty, ascending.
    pub(crate) fn empty(&self, from: IpAddr, to: IpAddr) -> impl Iterator<Item = IpAddr> {
        self.empty.iter().flat_map(move |empty| empty.range(from..=to)).copied()
    }

    /// Notes that a file was made.
    pub(crate) fn add(&mut self, address: IpAddr, holder: &Holder) {
        // Another file could still look like this one: the clock that stamps files has ticks.
        self.table.add(address, Record::of(address, holder, 0).as_ref());
        self.is_changed = true;
    }

    /// Notes that a file was removed.
    pub(crate) fn remove(&mut self, address: IpAddr, holder: &Holder) {
        self.table.remove(address, Record::of(address, holder, 0).as_ref());
        self.is_changed = true;
    }

    /// Keeps what is known for the next call. The directory has to be as the index says.
    pub(crate) fn keep(mut self, locked: &Locked<'_>) {
        if !self.table.is_sound() || !(self.is_changed || self.is_fresh()) {
            return;
        }
        let Some(keeper) = &self.keeper else { return };
        if let Err(error) = keeper.keep(&mut self.table, locked) {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &Error) {
        if let Some(keeper) = self.keeper.take() {
            keeper.remove();
            (keeper.wanted.report)(error);
        }
    }
}

/// As if these addresses with these holders had been read from a directory.
impl FromIterator<(IpAddr, Holder)> for Index<'_> {
    fn from_iter<T: IntoIterator<Item = (IpAddr, Holder)>>(reservations: T) -> Self {
        let (mut taken, mut holders, mut empty) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (address, holder) in reservations {
            taken.push(address);
            holders.extend(Record::of(address, &holder, 0));
            if holder == Holder::Nobody {
                empty.insert(address);
            }
        }
        let table = Table::of(taken, &holders);
        Self { table, empty: Some(empty), is_changed: false, keeper: None }
    }
}

/// Reads a directory, of its files only those that are not known or do not look as they did; what
/// is known is in the order of the addresses. `now` is a moment since when the lock has been held;
/// without it nothing can be said about what files look like.
fn read(
    directory: &Directory,
    known: &[Record],
    now: Option<Time>,
) -> Result<(Table, BTreeSet<IpAddr>)> {
    let (mut taken, mut holders, mut empty) = (Vec::new(), Vec::new(), BTreeSet::new());
    let stamp = |file: &Seen| now.map_or(0, |now| stamp(file, now));
    directory.each_address(|address, entry| {
        let place = known.binary_search_by_key(&address, Record::address);
        let known = place.ok().map(|place| &known[place]).filter(|it| it.stamp != 0);
        let same = |it: &&Record| entry.seen().is_some_and(|file| stamp(&file) == it.stamp);
        if let Some(record) = known.filter(same) {
            taken.push(address);
            holders.push(*record);
            return;
        }
        let Some((holder, file)) = entry.look() else { return };
        taken.push(address);
        holders.extend(Record::of(address, &holder, file.map_or(0, |file| stamp(&file))));
        if holder == Holder::Nobody {
            empty.insert(address);
        }
    })?;
    Ok((Table::of(taken, &holders), empty))
}

/// What a file looked like; 0 for one that changed `now`, and so could change again and look the
/// same.
fn stamp(file: &Seen, now: Time) -> u32 {
    if file.changed >= now {
        return 0;
    }
    let Time { seconds, nanoseconds } = file.changed;
    let numbers = [file.inode, seconds.cast_unsigned(), nanoseconds].map(u64::to_le_bytes);
    (mix(0, numbers.as_flattened()) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_this_very_moment_may_be_another_one_already() {
        let time = |nanoseconds| Time { seconds: 5, nanoseconds };
        let file = Seen { device: 1, inode: 2, modified: time(0), changed: time(7) };
        let other = Seen { inode: 3, ..file };
        assert_ne!(stamp(&file, time(8)), 0);
        assert_ne!(stamp(&file, time(8)), stamp(&other, time(8)));
        assert_eq!(stamp(&file, time(7)), 0);
    }
}
