//! One record of the index's table.

use std::net::IpAddr;

use crate::range::bits;
use crate::{Holder, Owner};

use super::mix::mix;

/// The length of a record in bytes.
pub(super) const LENGTH: usize = 32;

/// What is known of one address or of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) is_ipv4: bool,
    /// Of a word: how often 64 were made one.
    pub(super) level: u8,
    /// Of a holder: what its file looked like, 0 if that is not known.
    pub(super) stamp: u32,
    /// Of a holder its key, of a word its bits.
    pub(super) value: u64,
    /// Of a holder its address, of a word its place among those of its level.
    pub(super) number: u128,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An address of an attachment.
    Attachment = 1,
    /// An address of a container, whichever the interface: the old format.
    Container = 2,
    /// 64 addresses, or 64 words of the level below: which of them are taken.
    Word = 3,
}

impl Record {
    /// An address and who holds it; `None` if that is nobody who could ask for it.
    pub(super) fn of(address: IpAddr, holder: &Holder, stamp: u32) -> Option<Self> {
        let (kind, value) = match holder {
            Holder::Attachment(owner) => (Kind::Attachment, attachment_key(owner)),
            Holder::Container(id) => (Kind::Container, container_key(id)),
            Holder::Nobody | Holder::Unknown => return None,
        };
        let (is_ipv4, number) = (address.is_ipv4(), bits(address));
        Some(Self { kind, is_ipv4, level: 0, stamp, value, number })
    }

    /// A word of the occupancy.
    pub(super) fn word(is_ipv4: bool, level: u8, number: u128, value: u64) -> Self {
        Self { kind: Kind::Word, is_ipv4, level, stamp: 0, value, number }
    }

    /// The address of a holder.
    pub(super) fn address(&self) -> IpAddr {
        if self.is_ipv4 {
            IpAddr::V4((self.number as u32).into())
        } else {
            IpAddr::V6(self.number.into())
        }
    }

    /// The number whose low bits say in which page the record is.
    pub(super) fn home(&self) -> u64 {
        match self.kind {
            Kind::Attachment | Kind::Container => self.value,
            Kind::Word => {
                let seed = u64::from(self.level) << 1 | u64::from(self.is_ipv4);
                mix(seed, &self.number.to_le_bytes())
            }
        }
    }

    pub(super) fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = self.kind as u8;
        bytes[1] = if self.is_ipv4 { 4 } else { 6 };
        bytes[2] = self.level;
        bytes[4..8].copy_from_slice(&self.stamp.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.value.to_le_bytes());
        bytes[16..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Reads a record; `None` where there is none.
    pub(super) fn decode(bytes: &[u8; LENGTH]) -> Option<Self> {
        let [kind, family, level, _, stamp @ .., _, _, _, _] = *bytes.first_chunk::<12>()?;
        let kind = match kind {
            1 => Kind::Attachment,
            2 => Kind::Container,
            3 => Kind::Word,
            _ => return None,
        };
        Some(Self {
            kind,
            is_ipv4: family == 4,
            level,
            stamp: u32::from_le_bytes(stamp),
            value: u64::from_le_bytes(*bytes[8..].first_chunk()?),
            number: u128::from_le_bytes(*bytes[16..].first_chunk()?),
        })
    }
}

/// What the addresses of an attachment are found by.
pub(super) fn attachment_key(owner: &Owner) -> u64 {
    mix(1, owner.text().as_bytes())
}

/// What the addresses of a container in the old format are found by.
pub(super) fn container_key(id: &str) -> u64 {
    mix(2, id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back() {
        let owner = Owner { id: "c1".into(), ifname: "eth0".into() };
        let holders = [Holder::Attachment(owner), Holder::Container("c1".into())];
        for address in ["10.1.2.3", "2001:db8::3", "::ffff:1.2.3.4"] {
            let address: IpAddr = address.parse().unwrap();
            for holder in &holders {
                let record = Record::of(address, holder, 7).unwrap();
                assert_eq!(Record::decode(&record.encode()), Some(record));
                assert_eq!(record.address(), address);
            }
            assert_eq!(Record::of(address, &Holder::Nobody, 7), None);
        }
        let word = Record::word(false, 3, u128::MAX >> 6, u64::MAX - 1);
        assert_eq!(Record::decode(&word.encode()), Some(word));
        assert_eq!(Record::decode(&[0; LENGTH]), None);
    }
}
