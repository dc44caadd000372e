//! The reservations of one network, and what can be done with them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::choose::choose;
use crate::directory::{self, Directory, Locked};
use crate::{Error, Holder, Owner, RangeSet, Reservation, Result};

/// Where the reservations of all networks are by default, as in the reference.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

/// The reservations of one network on this node.
///
/// Making one touches nothing. Only [`Store::reserve`] creates the directory; whatever else is
/// asked about a network that has none is answered as for an empty one.
///
/// Every change is made under the directory's lock, in one critical section a call. What can be
/// found out without the lock is found out before taking it, and looked at again under it.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
}

/// An address that was given to an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The address, with the prefix length of its subnet.
    pub address: IpNet,
    /// The gateway of its range.
    pub gateway: IpAddr,
}

/// What [`Store::gc`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// What is free again.
    pub freed: Vec<Reservation>,
    /// What the caller's list lacks, but whose attachment still lives.
    pub spared: Vec<Reservation>,
}

impl Store {
    /// The reservations of `network` below `data_dir`. The name is one path component: CNI allows
    /// letters, digits, `_`, `.` and `-`, and the request has been checked for that.
    pub fn new(data_dir: &Path, network: &str) -> Self {
        Self { path: data_dir.join(network) }
    }

    /// The directory of the network.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the attachment one address of each set, all or none. Requested addresses are taken
    /// by the sets that contain them.
    pub fn reserve(
        &self,
        sets: &[RangeSet],
        requested: &[IpAddr],
        owner: &Owner,
    ) -> Result<Vec<Lease>> {
        let directory = Directory::create(&self.path)?;
        let locked = directory.lock()?;
        let held = directory.held()?;
        let choices = choose(sets, requested, owner, &held, |set| directory.cursor(set))?;

        // The cursors go first: one that is ahead does no harm, and so nothing has to be taken
        // back when the disk has no room for it.
        for (index, choice) in choices.iter().enumerate() {
            locked
                .set_cursor(index, choice.lease.address.addr())
                .map_err(|reason| reason.in_set(index))?;
        }
        for (index, choice) in choices.iter().enumerate() {
            let address = choice.lease.address.addr();
            let left_over = if choice.reclaim { locked.remove(address).map(drop) } else { Ok(()) };
            if let Err(reason) = left_over.and_then(|()| locked.reserve(address, owner)) {
                for earlier in &choices[..index] {
                    // Why the reservation failed is what the caller needs to know.
                    let _ = locked.remove(earlier.lease.address.addr());
                }
                return Err(reason.in_set(index));
            }
        }
        Ok(choices.into_iter().map(|choice| choice.lease).collect())
    }

    /// Frees every address of the attachment, configured or not, and says which. An attachment
    /// without addresses is fine. Files of the old format, which name only the container, are
    /// freed if there is no file that names the attachment.
    pub fn release(&self, owner: &Owner) -> Result<Vec<IpAddr>> {
        let Some(directory) = Directory::open(&self.path)? else { return Ok(Vec::new()) };
        let own = owned(&directory, owner)?;
        if own.is_empty() {
            return Ok(Vec::new());
        }
        let freed = remove_unchanged(&directory.lock()?, own)?;
        Ok(freed.into_iter().map(|reservation| reservation.address).collect())
    }

    /// The addresses of the attachment: what [`Store::release`] would free.
    pub fn find(&self, owner: &Owner) -> Result<Vec<IpAddr>> {
        let Some(directory) = Directory::open(&self.path)? else { return Ok(Vec::new()) };
        Ok(owned(&directory, owner)?.into_iter().map(|reservation| reservation.address).collect())
    }

    /// Frees what belongs to none of the `valid` attachments and what belongs to nobody, except
    /// for attachments (or containers of the old format) that `alive` vouches for.
    pub fn gc(&self, valid: &[Owner], mut alive: impl FnMut(&Holder) -> bool) -> Result<Collected> {
        let mut collected = Collected::default();
        let Some(directory) = Directory::open(&self.path)? else { return Ok(collected) };
        let owners: BTreeSet<_> = valid.iter().collect();
        let containers: BTreeSet<_> = valid.iter().map(|owner| &owner.id).collect();
        let mut stale = Vec::new();
        for reservation in reservations(&directory)? {
            match &reservation.holder {
                Holder::Unknown => {}
                Holder::Nobody => stale.push(reservation),
                Holder::Attachment(owner) if owners.contains(owner) => {}
                Holder::Container(id) if containers.contains(id) => {}
                holder if alive(holder) => collected.spared.push(reservation),
                _ => stale.push(reservation),
            }
        }
        if !stale.is_empty() {
            collected.freed = remove_unchanged(&directory.lock()?, stale)?;
        }
        Ok(collected)
    }

    /// How many addresses of each set can still be given out. An empty file counts as free only
    /// where [`Store::reserve`] would fall back on it: when nothing else is free.
    pub fn free(&self, sets: &[RangeSet]) -> Result<Vec<u128>> {
        let directory = Directory::open(&self.path)?;
        let reserved = directory.as_ref().map_or(Ok(Vec::new()), Directory::addresses)?;
        let mut free = Vec::with_capacity(sets.len());
        for set in sets {
            let usable = |address: &&IpAddr| {
                set.range_of(**address).is_some_and(|range| range.gateway() != **address)
            };
            let mut left =
                set.size().saturating_sub(reserved.iter().filter(usable).count() as u128);
            if left == 0
                && let Some(directory) = &directory
            {
                let nobody =
                    |address: &&IpAddr| directory.holder(**address) == Some(Holder::Nobody);
                left = reserved.iter().filter(usable).filter(nobody).count() as u128;
            }
            free.push(left);
        }
        Ok(free)
    }

    /// Whether reservations can be written, as far as this can be told without writing.
    pub fn check_writable(&self) -> Result<()> {
        directory::writable(&self.path)
    }

    /// Everything that is reserved, in the order of the addresses.
    pub fn reservations(&self) -> Result<Vec<Reservation>> {
        Directory::open(&self.path)?.map_or(Ok(Vec::new()), |directory| reservations(&directory))
    }
}

fn reservations(directory: &Directory) -> Result<Vec<Reservation>> {
    let held = directory.held()?;
    Ok(held.into_iter().map(|(address, holder)| Reservation { address, holder }).collect())
}

/// The reservations of an attachment; those of its container in the old format if it has none.
fn owned(directory: &Directory, owner: &Owner) -> Result<Vec<Reservation>> {
    let mut all = reservations(directory)?;
    all.retain(|reservation| reservation.holder.is(owner));
    let named = |reservation: &Reservation| matches!(reservation.holder, Holder::Attachment(_));
    if all.iter().any(named) {
        all.retain(named);
    }
    Ok(all)
}

/// Removes the reservations that are still what they were seen to be, and answers with them. One
/// that cannot be removed does not keep the others; it is the error at the end.
fn remove_unchanged(locked: &Locked<'_>, seen: Vec<Reservation>) -> Result<Vec<Reservation>> {
    let mut removed = Vec::with_capacity(seen.len());
    let mut failure = None;
    for reservation in seen {
        match locked.remove_if(reservation.address, &reservation.holder) {
            Ok(true) => removed.push(reservation),
            Ok(false) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(removed), Err::<_, Error>)
}
