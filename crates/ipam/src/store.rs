//! The reservations of one network, and what can be done with them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::choose::{Choice, choose, has_free};
use crate::directory::{self, Directory, Locked};
use crate::index::{Index, IndexPlace, IndexState};
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
///
/// Without an index, each call costs as much as there are reservations, because it reads all of
/// them. See [`IndexPlace`].
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    index: Option<IndexPlace>,
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
        Self { path: data_dir.join(network), index: None }
    }

    /// The same reservations, with an index that is kept there.
    pub fn with_index(self, place: IndexPlace) -> Self {
        Self { index: Some(place), ..self }
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
        let mut index = self.index(&locked)?;
        loop {
            let choices = choose(sets, requested, owner, &mut index, |set| directory.cursor(set));
            // Nothing is refused on the word of the index, and nothing done on that of a broken one.
            if !index.is_fresh() && (choices.is_err() || !index.is_sound()) {
                index.reread(&locked)?;
                continue;
            }
            let choices = match choices {
                Ok(choices) => choices,
                Err(reason) => {
                    index.keep(&locked);
                    return Err(reason);
                }
            };
            match write(&locked, &choices, owner) {
                // There is a file where the index knows of none.
                Err(reason) if reason.is_existing() && !index.is_fresh() => {
                    index.reread(&locked)?;
                }
                Err(reason) => return Err(reason),
                Ok(()) => {
                    let leases: Vec<_> = choices.into_iter().map(|choice| choice.lease).collect();
                    let holder = Holder::Attachment(owner.clone());
                    for lease in &leases {
                        index.add(lease.address.addr(), &holder);
                    }
                    index.keep(&locked);
                    return Ok(leases);
                }
            }
        }
    }

    /// Frees every address of the attachment, configured or not, and says which. An attachment
    /// without addresses is fine. Files of the old format, which name only the container, are
    /// freed if there is no file that names the attachment.
    pub fn release(&self, owner: &Owner) -> Result<Vec<IpAddr>> {
        let Some(directory) = Directory::open(&self.path)? else { return Ok(Vec::new()) };
        let locked = match directory.lock_if_there() {
            Some(locked) => locked,
            None if owned_unlocked(&directory, owner)?.is_empty() => return Ok(Vec::new()),
            None => directory.lock()?,
        };
        let mut index = self.index(&locked)?;
        let own = owned(&locked, &mut index, owner)?;
        let freed = remove(&locked, Some(&mut index), own);
        index.keep(&locked);
        Ok(freed?.into_iter().map(|reservation| reservation.address).collect())
    }

    /// The addresses of the attachment: what [`Store::release`] would free.
    pub fn find(&self, owner: &Owner) -> Result<Vec<IpAddr>> {
        let Some(directory) = Directory::open(&self.path)? else { return Ok(Vec::new()) };
        let own = match directory.lock_if_there() {
            None => owned_unlocked(&directory, owner)?,
            Some(locked) => {
                let mut index = self.index(&locked)?;
                let own = owned(&locked, &mut index, owner)?;
                index.keep(&locked);
                own
            }
        };
        Ok(own.into_iter().map(|reservation| reservation.address).collect())
    }

    /// Frees what belongs to none of the `valid` attachments and what belongs to nobody, except
    /// for attachments (or containers of the old format) that `alive` vouches for.
    pub fn gc(&self, valid: &[Owner], mut alive: impl FnMut(&Holder) -> bool) -> Result<Collected> {
        let owners: BTreeSet<_> = valid.iter().collect();
        let containers: BTreeSet<_> = valid.iter().map(|owner| &owner.id).collect();
        let mut spared = Vec::new();
        let freed = self.free_where(|reservation| match &reservation.holder {
            Holder::Unknown => false,
            Holder::Nobody => true,
            Holder::Attachment(owner) if owners.contains(owner) => false,
            Holder::Container(id) if containers.contains(id) => false,
            holder if alive(holder) => {
                spared.push(reservation.clone());
                false
            }
            _ => true,
        })?;
        Ok(Collected { freed, spared })
    }

    /// Frees what is found to be stale and is still held by the same when the lock is there, and
    /// says what that was. An index is compared with the names on the way.
    pub fn free_where(
        &self,
        mut is_stale: impl FnMut(&Reservation) -> bool,
    ) -> Result<Vec<Reservation>> {
        let Some(directory) = Directory::open(&self.path)? else { return Ok(Vec::new()) };
        // To find out may take long, and so nobody has to wait for it.
        let mut stale = directory.reservations()?;
        stale.retain(|reservation| is_stale(reservation));
        let locked = match directory.lock_if_there() {
            Some(locked) => locked,
            None if stale.is_empty() => return Ok(stale),
            None => directory.lock()?,
        };
        let index = self.index.as_ref().map(|place| Index::open(&locked, place)).transpose()?;
        let mut index = index.map(|index| index.fresh(&locked)).transpose()?;
        stale.retain(|seen| directory.holder(seen.address).as_ref() == Some(&seen.holder));
        let freed = remove(&locked, index.as_mut(), stale);
        if let Some(index) = index {
            index.keep(&locked);
        }
        freed
    }

    /// The first set of which every address is reserved. An empty file counts as free, since
    /// [`Store::reserve`] falls back on it.
    pub fn exhausted<'a>(&self, sets: &'a [RangeSet]) -> Result<Option<&'a RangeSet>> {
        let full = |index: &mut Index<'_>| sets.iter().find(|set| !has_free(set, index));
        let Some(directory) = Directory::open(&self.path)? else {
            return Ok(full(&mut Index::default()));
        };
        let Some(locked) = directory.lock_if_there() else {
            return Ok(full(&mut Index::of(&directory)?));
        };
        let mut index = self.index(&locked)?;
        let mut found = full(&mut index);
        if !index.is_fresh() && (found.is_some() || !index.is_sound()) {
            index.reread(&locked)?;
            found = full(&mut index);
        }
        index.keep(&locked);
        Ok(found)
    }

    /// Whether reservations can be written, as far as this can be told without writing.
    pub fn check_writable(&self) -> Result<()> {
        directory::writable(&self.path)
    }

    /// Everything that is reserved, in the order of the addresses.
    pub fn reservations(&self) -> Result<Vec<Reservation>> {
        Directory::open(&self.path)?.map_or(Ok(Vec::new()), |directory| directory.reservations())
    }

    /// The names in the directory that are neither an address nor anything else that belongs there.
    /// The reference reads them as reservations.
    pub fn strangers(&self) -> Result<Vec<OsString>> {
        Directory::open(&self.path)?.map_or(Ok(Vec::new()), |directory| directory.strangers())
    }

    /// How the index stands to the directory. This reads every reservation, and changes nothing.
    pub fn index_state(&self) -> Result<IndexState> {
        let Some(place) = &self.index else { return Ok(IndexState::Unwanted) };
        let directory = Directory::open(&self.path)?;
        let locked = directory.as_ref().and_then(Directory::lock_if_there);
        locked.map_or(Ok(IndexState::Missing), |locked| Index::state(&locked, place))
    }

    fn index(&self, locked: &Locked<'_>) -> Result<Index<'_>> {
        match &self.index {
            Some(place) => Index::open(locked, place),
            None => Index::of(locked.directory()),
        }
    }
}

/// Writes what was chosen, all or nothing.
///
/// The cursors go first: one that is ahead does no harm, and so nothing has to be taken back when
/// the disk has no room for it.
fn write(locked: &Locked<'_>, choices: &[Choice], owner: &Owner) -> Result<()> {
    for (set, choice) in choices.iter().enumerate() {
        let address = choice.lease.address.addr();
        locked.set_cursor(set, address).map_err(|reason| reason.in_set(set))?;
    }
    for (set, choice) in choices.iter().enumerate() {
        let address = choice.lease.address.addr();
        let left_over = if choice.reclaim { locked.remove(address).map(drop) } else { Ok(()) };
        if let Err(reason) = left_over.and_then(|()| locked.reserve(address, owner)) {
            for earlier in &choices[..set] {
                // Why the reservation failed is what the caller needs to know.
                let _ = locked.remove(earlier.lease.address.addr());
            }
            return Err(reason.in_set(set));
        }
    }
    Ok(())
}

/// The reservations of an attachment; those of its container in the old format if it has none.
fn owned(locked: &Locked<'_>, index: &mut Index<'_>, owner: &Owner) -> Result<Vec<Reservation>> {
    loop {
        let addresses = index.owned(owner);
        let own = confirmed(locked.directory(), &addresses, owner);
        if index.is_fresh() || (index.is_sound() && own.len() == addresses.len()) {
            return Ok(own);
        }
        index.reread(locked)?;
    }
}

/// The same, where nobody has changed anything yet.
fn owned_unlocked(directory: &Directory, owner: &Owner) -> Result<Vec<Reservation>> {
    let addresses = Index::of(directory)?.owned(owner);
    Ok(confirmed(directory, &addresses, owner))
}

/// Of what was found, that of which the files say the same.
fn confirmed(directory: &Directory, found: &[IpAddr], owner: &Owner) -> Vec<Reservation> {
    let holders = found.iter().filter_map(|address| {
        Some(Reservation { address: *address, holder: directory.holder(*address)? })
    });
    holders.filter(|reservation| reservation.holder.is(owner)).collect()
}

/// Removes reservations, and answers with those that were there. One that cannot be removed does
/// not keep the others; it is the error at the end.
fn remove(
    locked: &Locked<'_>,
    mut index: Option<&mut Index<'_>>,
    reservations: Vec<Reservation>,
) -> Result<Vec<Reservation>> {
    let mut removed = Vec::with_capacity(reservations.len());
    let mut failure = None;
    for reservation in reservations {
        match locked.remove(reservation.address) {
            Ok(true) => {
                if let Some(index) = &mut index {
                    index.remove(reservation.address, &reservation.holder);
                }
                removed.push(reservation);
            }
            Ok(false) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(removed), Err::<_, Error>)
}
