//! The first page of an index: which directory it is about, and when it was last right.

use crate::directory::{Seen, Time};

use super::mix::mix;
use super::page::SIZE;

/// What an index begins with. The last byte is the version of the format.
const MAGIC: [u8; 8] = *b"podwip\0\x01";

/// Where the text for people begins. It is not part of what is checked.
const TEXT: usize = 128;

/// What is known of an index as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The boot of the machine during which it was written. Nothing waits for the disk, and so
    /// what a power loss leaves of it is anybody's guess.
    pub(super) boot: u64,
    /// The directory as it was left, with the sentinel.
    pub(super) seen: Seen,
    /// How many pages follow.
    pub(super) pages: u32,
    /// How many records they have.
    pub(super) records: u32,
    /// How often it was written.
    pub(super) generation: u64,
}

impl Header {
    /// Reads a header; `None` if it is not one, or not whole.
    pub(super) fn read(bytes: &[u8; SIZE]) -> Option<Self> {
        let number = |at: usize| bytes[at..].first_chunk().map(|it| u64::from_le_bytes(*it));
        let half = |at: usize| bytes[at..].first_chunk().map(|it| u32::from_le_bytes(*it));
        let time = |at: usize| {
            Some(Time { seconds: number(at)?.cast_signed(), nanoseconds: number(at + 8)? })
        };
        let is_whole = bytes[..8] == MAGIC && number(8)? == checksum(bytes);
        let header = Self {
            boot: number(16)?,
            seen: Seen {
                device: number(24)?,
                inode: number(32)?,
                modified: time(40)?,
                changed: time(56)?,
            },
            generation: number(72)?,
            pages: half(80)?,
            records: half(84)?,
        };
        (is_whole && header.pages.is_power_of_two()).then_some(header)
    }

    /// The bytes to write; `path` tells people which directory this is about.
    pub(super) fn bytes(&self, path: &[u8]) -> Box<[u8; SIZE]> {
        let mut bytes = Box::new([0; SIZE]);
        bytes[..8].copy_from_slice(&MAGIC);
        let Seen { device, inode, modified, changed } = self.seen;
        let numbers = [
            self.boot,
            device,
            inode,
            modified.seconds.cast_unsigned(),
            modified.nanoseconds,
            changed.seconds.cast_unsigned(),
            changed.nanoseconds,
            self.generation,
            u64::from(self.records) << 32 | u64::from(self.pages),
        ];
        for (place, number) in bytes[16..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(&bytes);
        bytes[8..16].copy_from_slice(&sum.to_le_bytes());
        let length = path.len().min(SIZE - TEXT);
        bytes[TEXT..TEXT + length].copy_from_slice(&path[..length]);
        bytes
    }
}

/// The directory that the text for people names; `None` if this is no index, or if there may be
/// more to the name than fits.
pub(super) fn path(bytes: &[u8; SIZE]) -> Option<&[u8]> {
    let is_index = bytes[..7] == MAGIC[..7];
    let end = bytes[TEXT..].iter().position(|byte| *byte == 0).filter(|_| is_index)?;
    Some(&bytes[TEXT..TEXT + end])
}

fn checksum(bytes: &[u8; SIZE]) -> u64 {
    mix(0, &bytes[16..TEXT])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_no_bit_of_it_can_be_another() {
        let time = |seconds| Time { seconds, nanoseconds: 999_999_999 };
        let header = Header {
            boot: 1,
            seen: Seen { device: 2, inode: 3, modified: time(-4), changed: time(5) },
            pages: 16,
            records: 7,
            generation: 8,
        };
        let bytes = *header.bytes(b"/data/n");
        assert_eq!(Header::read(&bytes), Some(header));
        assert_eq!(path(&bytes), Some(&b"/data/n"[..]));
        assert_eq!(path(&header.bytes(&[b'x'; SIZE])), None);
        assert_eq!(path(&[0; SIZE]), None);
        for bit in 0..TEXT * 8 {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::read(&other), None);
        }
        assert_eq!(Header::read(&[0; SIZE]), None);
    }
}
