//! The index's table: records by their keys, and which addresses are taken.
//!
//! It is in memory, or in a file of which only the pages that a question needs are read. A record
//! is in the page that its key names, or in one of those behind it if that was full. The pages are
//! a power of two, and two thirds full at most on the average.
//!
//! # Which addresses are taken
//!
//! A word of level 0 says of 64 addresses in a row which are taken. A word of level 1 says of 64
//! words of level 0 which are full, and so on. Looking for the next free address means to go up
//! until something is not full and down again: three or four pages, whether there are a hundred
//! reservations or a million in a row. Words in which no bit is set are not there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;

use crate::Owner;
use crate::range::bits;

use super::page::{self, Page};
use super::record::{Kind, Record, attachment_key, container_key};

/// How many records of the 31 a page has on the average at most: of pages that are filled by chance,
/// few overflow then.
const EACH: usize = 20;

/// How many it has at most when the table is made, so that it need not be made again soon.
const EACH_AT_FIRST: usize = 16;

/// The fewest pages: room for a whole /24.
const FEWEST: u32 = 16;

/// How much of a new file is written at once.
const PIECE: usize = 4096;

/// The level whose only word covers everything: 21 steps of 6 bits leave 2 of 128.
const TOP: u8 = 21;

/// The records.
#[derive(Debug)]
pub(super) struct Table {
    /// Where pages that are not loaded are.
    file: Option<File>,
    loaded: BTreeMap<u32, Loaded>,
    pages: u32,
    records: u32,
    sound: bool,
}

#[derive(Debug)]
struct Loaded {
    page: Page,
    is_changed: bool,
}

/// A table without records.
impl Default for Table {
    fn default() -> Self {
        Self { file: None, loaded: BTreeMap::new(), pages: FEWEST, records: 0, sound: true }
    }
}

impl Table {
    /// The table of these addresses, each of which comes once, and of those who hold them.
    pub(super) fn of(mut taken: Vec<IpAddr>, holders: &[Record]) -> Self {
        taken.sort_unstable();
        let mut records = words(&taken);
        records.extend(holders);
        Self::filled(&records)
    }

    /// A table with these records, and room for some more.
    fn filled(records: &[Record]) -> Self {
        let pages = u32::try_from(records.len().div_ceil(EACH_AT_FIRST)).unwrap_or(u32::MAX / 2);
        let pages = pages.next_power_of_two().max(FEWEST);
        let mut table = Self { pages, ..Self::default() };
        let mut filling = vec![(Page::empty(), 0); pages as usize];
        for record in records {
            for step in 0..pages {
                let (page, used) = &mut filling[table.place(record.home(), step) as usize];
                if *used < page::RECORDS {
                    *used += 1;
                    page.replace(*used, Some(record));
                    table.records += 1;
                    break;
                }
                page.set_overflown();
            }
        }
        let pages = filling.into_iter().map(|(page, _)| Loaded { page, is_changed: true });
        table.loaded = (0..).zip(pages).collect();
        table
    }

    /// The table in a file that has so many pages and records.
    pub(super) fn in_file(file: File, pages: u32, records: u32) -> Self {
        Self { file: Some(file), loaded: BTreeMap::new(), pages, records, sound: true }
    }

    /// Whether all pages that were needed could be read. One that cannot counts as empty, and so
    /// what a table that is not sound has answered is worth nothing.
    pub(super) fn is_sound(&self) -> bool {
        self.sound
    }

    /// How many pages there are: a power of two.
    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// How many records there are.
    pub(super) fn records(&self) -> u32 {
        self.records
    }

    /// The file that the table is in; `None` if it has to be written as a whole.
    pub(super) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Writes the pages that have changed, or all of them into a new file, which stays the table's.
    pub(super) fn write(&mut self, new: Option<File>) -> io::Result<()> {
        if let Some(file) = new {
            // A page of zeros is no page, so that a hole is never taken for one.
            let mut all = Vec::with_capacity((self.pages as usize + 1) * page::SIZE);
            all.resize(page::SIZE, 0);
            for number in 0..self.pages {
                all.extend_from_slice(self.page(number).seal(number));
            }
            // What is written at once the kernel may keep as one piece, all of which it walks
            // through whenever a part of it is written: 100 microseconds for two megabytes.
            for (piece, place) in all.chunks(PIECE).zip((0..).step_by(PIECE)) {
                file.write_all_at(piece, place)?;
            }
            self.file = Some(file);
        } else if let Some(file) = &self.file {
            for (number, loaded) in &mut self.loaded {
                if loaded.is_changed {
                    file.write_all_at(loaded.page.seal(*number), offset(*number))?;
                }
            }
        }
        self.loaded.values_mut().for_each(|loaded| loaded.is_changed = false);
        Ok(())
    }

    /// Notes that an address is taken, and who holds it if that can be asked for.
    pub(super) fn add(&mut self, address: IpAddr, holder: Option<&Record>) {
        self.take(address);
        if let Some(record) = holder {
            self.insert(record);
        }
    }

    /// Notes that an address, which this holder had, is free.
    pub(super) fn remove(&mut self, address: IpAddr, holder: Option<&Record>) {
        self.free(address);
        let Some(held) = holder else { return };
        let same = |it: &Record| (it.kind, it.value) == (held.kind, held.value);
        let place = self.locate(held.home(), |it| same(it) && it.address() == address);
        if let Some((number, slot, _)) = place {
            self.erase(number, slot);
        }
    }

    /// The addresses of an attachment, ascending; those of its container in the old format if it
    /// has none.
    pub(super) fn owned(&mut self, owner: &Owner) -> Vec<IpAddr> {
        let own = self.held(Kind::Attachment, attachment_key(owner));
        if own.is_empty() { self.held(Kind::Container, container_key(&owner.id)) } else { own }
    }

    /// Every address of an attachment, ascending, in the old format too.
    pub(super) fn all_owned(&mut self, owner: &Owner) -> Vec<IpAddr> {
        let mut own = self.held(Kind::Attachment, attachment_key(owner));
        own.extend(self.held(Kind::Container, container_key(&owner.id)));
        own.sort_unstable();
        own
    }

    /// Every record of a holder.
    pub(super) fn holders(&mut self) -> Vec<Record> {
        let mut all = self.all();
        all.retain(|record| record.kind != Kind::Word);
        all
    }

    /// How many addresses are taken.
    pub(super) fn taken(&mut self) -> u64 {
        let words = self.all().into_iter().filter(|it| it.kind == Kind::Word && it.level == 0);
        words.map(|word| u64::from(word.value.count_ones())).sum()
    }

    /// Whether an address is taken.
    pub(super) fn is_taken(&mut self, address: IpAddr) -> bool {
        let at = bits(address);
        self.word(address.is_ipv4(), 0, at >> 6) >> (at & 63) & 1 == 1
    }

    fn take(&mut self, address: IpAddr) {
        let (v4, mut at) = (address.is_ipv4(), bits(address));
        for level in 0..=TOP {
            let word = self.word(v4, level, at >> 6) | 1 << (at & 63);
            self.set_word(v4, level, at >> 6, word);
            if word != u64::MAX {
                break;
            }
            at >>= 6;
        }
    }

    fn free(&mut self, address: IpAddr) {
        let (v4, mut at) = (address.is_ipv4(), bits(address));
        for level in 0..=TOP {
            let word = self.word(v4, level, at >> 6);
            self.set_word(v4, level, at >> 6, word & !(1 << (at & 63)));
            if word != u64::MAX {
                break;
            }
            at >>= 6;
        }
    }

    /// The first free address from `from` to `to`, as a number.
    pub(super) fn next_free(&mut self, v4: bool, from: u128, to: u128) -> Option<u128> {
        let (mut level, mut at) = (0, from);
        while at <= to >> (6 * level) {
            let before = (1 << (at & 63)) - 1;
            let word = self.word(v4, level, at >> 6) | before;
            if word == u64::MAX {
                if level == TOP {
                    return None;
                }
                (level, at) = (level + 1, (at >> 6) + 1);
                continue;
            }
            at = at & !63 | u128::from(word.trailing_ones());
            if level == 0 {
                return (at <= to).then_some(at);
            }
            (level, at) = (level - 1, at << 6);
        }
        None
    }

    fn all(&mut self) -> Vec<Record> {
        let records = |page: &mut Page| page.records().map(|(_, it)| it).collect::<Vec<_>>();
        (0..self.pages).flat_map(|number| records(self.page(number))).collect()
    }

    fn held(&mut self, kind: Kind, key: u64) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        self.locate(key, |record| {
            if record.kind == kind && record.value == key {
                addresses.push(record.address());
            }
            false
        });
        addresses.sort_unstable();
        addresses
    }

    fn word(&mut self, v4: bool, level: u8, number: u128) -> u64 {
        self.locate_word(v4, level, number).map_or(0, |(_, _, word)| word.value)
    }

    fn set_word(&mut self, v4: bool, level: u8, number: u128, value: u64) {
        let word = Record::word(v4, level, number, value);
        match self.locate_word(v4, level, number) {
            None if value != 0 => self.insert(&word),
            Some((page, slot, _)) if value != 0 => self.change(page).replace(slot, Some(&word)),
            Some((page, slot, _)) => self.erase(page, slot),
            None => {}
        }
    }

    fn erase(&mut self, page: u32, slot: usize) {
        self.change(page).replace(slot, None);
        self.records = self.records.saturating_sub(1);
    }

    fn locate_word(&mut self, v4: bool, level: u8, number: u128) -> Option<(u32, usize, Record)> {
        let home = Record::word(v4, level, number, 0).home();
        self.locate(home, |it| {
            it.kind == Kind::Word && (it.is_ipv4, it.level, it.number) == (v4, level, number)
        })
    }

    /// The first record among those with this home that is wanted: its page, its slot and itself.
    fn locate(
        &mut self,
        home: u64,
        mut is_wanted: impl FnMut(&Record) -> bool,
    ) -> Option<(u32, usize, Record)> {
        for step in 0..self.pages {
            let number = self.place(home, step);
            let page = self.page(number);
            let mut records = page.records();
            if let Some((slot, record)) = records.find(|(_, record)| is_wanted(record)) {
                return Some((number, slot, record));
            }
            drop(records);
            if !page.is_overflown() {
                break;
            }
        }
        None
    }

    fn insert(&mut self, record: &Record) {
        if self.records as usize >= self.pages as usize * EACH {
            let (all, sound) = (self.all(), self.sound);
            *self = Self { sound, ..Self::filled(&all) };
        }
        self.records += 1;
        for step in 0..self.pages {
            let number = self.place(record.home(), step);
            if self.change(number).insert(record) {
                return;
            }
            self.change(number).set_overflown();
        }
        // There is room somewhere, unless the number of records is wrong, and then nothing is right.
        self.sound = false;
    }

    /// The page `step` behind the one that is home.
    fn place(&self, home: u64, step: u32) -> u32 {
        (home as u32).wrapping_add(step) & (self.pages - 1)
    }

    fn change(&mut self, number: u32) -> &mut Page {
        let loaded = self.load(number);
        loaded.is_changed = true;
        &mut loaded.page
    }

    fn page(&mut self, number: u32) -> &mut Page {
        &mut self.load(number).page
    }

    fn load(&mut self, number: u32) -> &mut Loaded {
        self.loaded.entry(number).or_insert_with(|| {
            let page = self.file.as_ref().map_or_else(
                || Some(Page::empty()),
                |file| {
                    let mut bytes = [0; page::SIZE];
                    file.read_exact_at(&mut bytes, offset(number)).ok()?;
                    Page::read(number, &bytes)
                },
            );
            self.sound &= page.is_some();
            Loaded { page: page.unwrap_or_else(Page::empty), is_changed: false }
        })
    }
}

/// The words that say that these addresses are taken, which are in ascending order.
fn words(taken: &[IpAddr]) -> Vec<Record> {
    let (v4, v6) = taken.split_at(taken.partition_point(IpAddr::is_ipv4));
    let mut words = Vec::new();
    for (is_ipv4, family) in [(true, v4), (false, v6)] {
        let mut set: Vec<u128> = family.iter().copied().map(bits).collect();
        for level in 0..=TOP {
            let first = words.len();
            for word in set.chunk_by(|one, other| one >> 6 == other >> 6) {
                let bits = word.iter().fold(0, |bits, at| bits | 1 << (at & 63));
                words.push(Record::word(is_ipv4, level, word[0] >> 6, bits));
            }
            let full = words[first..].iter().filter(|word| word.value == u64::MAX);
            set = full.map(|word| word.number).collect();
        }
    }
    words
}

/// Where a page is in the file: behind the header, which is as long as a page.
fn offset(number: u32) -> u64 {
    (u64::from(number) + 1) * page::SIZE as u64
}

#[cfg(test)]
mod tests;
