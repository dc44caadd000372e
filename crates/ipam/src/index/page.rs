//! One page of the index's table: 31 records, under one checksum.

use super::mix::mix;
use super::record::{LENGTH, Record};

/// The length of a page in bytes.
pub(super) const SIZE: usize = 1024;

/// How many records there is room for. What would be the first one is the page's head: the
/// checksum of all that follows it (8 bytes), whether records that belong here are in the next
/// page (1), nothing (23).
pub(super) const RECORDS: usize = SIZE / LENGTH - 1;

const OVERFLOWN: usize = 8;

/// The bytes of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page(Box<[u8; SIZE]>);

impl Page {
    /// A page without records.
    pub(super) fn empty() -> Self {
        Self(Box::new([0; SIZE]))
    }

    /// The page that `bytes` are, if they are what was written as page `number`.
    pub(super) fn read(number: u32, bytes: &[u8; SIZE]) -> Option<Self> {
        let page = Self(Box::new(*bytes));
        (page.0[..8] == page.checksum(number)).then_some(page)
    }

    /// The bytes to write as page `number`.
    pub(super) fn seal(&mut self, number: u32) -> &[u8; SIZE] {
        let checksum = self.checksum(number);
        self.0[..8].copy_from_slice(&checksum);
        &self.0
    }

    /// The records, each with its slot.
    pub(super) fn records(&self) -> impl Iterator<Item = (usize, Record)> {
        let (slots, _) = self.0.as_chunks::<LENGTH>();
        let filled = slots.iter().enumerate().skip(1);
        filled.filter_map(|(slot, bytes)| Some((slot, Record::decode(bytes)?)))
    }

    /// Puts a record into the first free slot; `false` if there is none.
    pub(super) fn insert(&mut self, record: &Record) -> bool {
        let (slots, _) = self.0.as_chunks_mut::<LENGTH>();
        let free = slots.iter_mut().skip(1).find(|bytes| Record::decode(bytes).is_none());
        free.map(|bytes| *bytes = record.encode()).is_some()
    }

    /// Puts a record, or nothing, in place of the one in a slot.
    pub(super) fn replace(&mut self, slot: usize, record: Option<&Record>) {
        let (slots, _) = self.0.as_chunks_mut::<LENGTH>();
        slots[slot] = record.map_or([0; LENGTH], Record::encode);
    }

    /// Whether records that belong here were put into the next page. Once they were, it stays so
    /// until the table is made anew, because nobody counts them.
    pub(super) fn is_overflown(&self) -> bool {
        self.0[OVERFLOWN] != 0
    }

    pub(super) fn set_overflown(&mut self) {
        self.0[OVERFLOWN] = 1;
    }

    /// It depends on the number too, so that a page in the wrong place is noticed, and is not zero
    /// for a page of zeros, so that a hole in the file is.
    fn checksum(&self, number: u32) -> [u8; 8] {
        mix(u64::from(number) + 1, &self.0[8..]).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_as_many_records_as_it_says() {
        let mut page = Page::empty();
        let record = |number: usize| Record::word(true, 0, number as u128, 1);
        assert!((0..RECORDS).all(|number| page.insert(&record(number))));
        assert!(!page.insert(&record(RECORDS)));
        page.replace(5, None);
        assert_eq!(page.records().count(), RECORDS - 1);
        assert!(page.insert(&record(99)));
        assert_eq!(page.records().nth(4), Some((5, record(99))));
    }

    #[test]
    fn what_was_not_written_there_is_noticed() {
        let mut page = Page::empty();
        assert_eq!(Page::read(0, &[0; SIZE]), None);
        page.set_overflown();
        let bytes = *page.seal(3);
        assert_eq!(Page::read(3, &bytes), Some(page));
        assert_eq!(Page::read(4, &bytes), None);
        for bit in 0..SIZE * 8 {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Page::read(3, &other), None);
        }
    }
}
