//! Our own lease: taken, kept, given back where another was first. Never tells anybody.

use std::time::{Duration, Instant};

use fabric::flannel::Lease;
use fabric::{Mac, Node, PerFamily, Publication};
use ipnet::IpNet;
use serde_json::json;

use super::Here;
use super::client::{Client, Failure};
use super::conf;
use super::error::Error;
use super::leases::{Entry, Keys, Owner, Picture};
use super::subnets::{Range, choose};
use super::wire::{self, LeaseAnswer, Only, Streamed, TxnAnswer};

/// How often another may be faster.
const RACES: usize = 10;

/// Whoever keeps our lease.
pub(super) struct Holding {
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(super) publication: Publication,
    pub(super) here: Here,
    /// How long a lease lives, in seconds.
    pub(super) seconds: u64,
    pub(super) own: Option<Own>,
    races: usize,
}

/// What we have.
pub(super) struct Own {
    pub(super) key: String,
    subnets: PerFamily<IpNet>,
    /// The hardware addresses that other nodes know already, of flannel here or of a run before: with
    /// others, what they send until they have read those would be lost.
    macs: PerFamily<Mac>,
    /// etcd's own lease, a grant of time: 0 if there is none, because it has gone or none is needed.
    grant: i64,
    /// A person has reserved it for us.
    is_for_ever: bool,
    seconds: u64,
    renewed: Instant,
    /// Nobody has been told yet, so it can be given back.
    is_fresh: bool,
    /// What we wrote there: the last value that is known to have arrived, and what may have since.
    written: Vec<String>,
}

/// How things are, after all has been done that could be.
pub(super) enum Settled {
    /// Something was written: all has to be read again.
    Written,
    /// Our lease is there, and the configuration is right.
    Well,
    /// Something is wrong that only others can change.
    Amiss(Error),
}

/// What became of a grant.
enum Renewed {
    Alive(u64),
    Gone,
}

impl Own {
    /// When it should be renewed: twice more before it ends.
    pub(super) fn renewal(&self) -> Option<Instant> {
        (self.grant != 0).then(|| self.renewed + Duration::from_secs(self.seconds) / 3)
    }

    /// Whether it has ended, as far as we know.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        !self.is_for_ever && now > self.renewed + Duration::from_secs(self.seconds)
    }
}

impl Holding {
    pub(super) fn new(
        client: Client,
        keys: Keys,
        publication: Publication,
        here: Here,
        seconds: u64,
    ) -> Self {
        // etcd knows no lease of less, and raises what is too short for it.
        Self { client, keys, publication, here, seconds: seconds.max(1), own: None, races: 0 }
    }

    /// All that is in etcd.
    pub(super) fn list(&mut self) -> Result<Picture, Error> {
        let question = wire::list(&self.keys.config, &self.keys.leases);
        let answer: TxnAnswer = self.client.ask("/v3/kv/txn", &question)?;
        let revision = answer.header.revision.0;
        Ok(Picture::of(&self.keys, revision, answer.key_values()))
    }

    /// Makes our lease what it should be, if it is not.
    pub(super) fn settle(&mut self, picture: &Picture) -> Result<Settled, Error> {
        let config = picture.config.as_deref();
        let ranges = conf::ranges_of(&self.keys.config, config, &self.publication, self.here.port);
        let Some(own) = &self.own else {
            return match ranges {
                Ok(ranges) => self.acquire(picture, &ranges),
                Err(error) => Ok(Settled::Amiss(error)),
            };
        };
        let (key, subnets) = (own.key.clone(), own.subnets);
        let rival = picture.rival(&self.publication, &key, &subnets);
        let Some(entry) = picture.entries.get(&key) else {
            return match rival {
                Some((_, rival)) => Ok(Settled::Amiss(taken(&key, rival))),
                None if !is_reached(&self.publication, &subnets) => {
                    Ok(Settled::Amiss(Error::NoAddress))
                }
                None => self.write_again(),
            };
        };
        // Where our own address has changed, what is there is that of a stranger, but for this.
        let is_ours = own.written.iter().any(|value| value.as_bytes() == entry.value);
        if !is_ours && entry.owner_now(&self.publication) != Owner::We {
            return Ok(Settled::Amiss(taken(&key, entry)));
        }
        if own.is_fresh && rival.is_some() {
            // Keys that differ in one family only do not keep each other out.
            self.own = None;
            self.remove(&key, entry.modified)?;
            return self.lost_race();
        }
        if let Some(own) = &mut self.own {
            own.is_fresh = false;
            own.is_for_ever = entry.grant == 0;
            if own.is_for_ever {
                own.grant = 0;
            }
        }
        self.races = 0;
        if !is_reached(&self.publication, &subnets) {
            return Ok(Settled::Amiss(Error::NoAddress));
        }
        if !self.is_as_wanted(entry) {
            return self.write(Only::Unchanged(entry.modified));
        }
        Ok(match ranges {
            Err(error) => Settled::Amiss(error),
            Ok(ranges) if !fits(&ranges, &subnets) => {
                Settled::Amiss(Error::Outside { lease: key, key: self.keys.config.clone() })
            }
            Ok(_) => Settled::Well,
        })
    }

    /// Takes over what we had before, or takes a free subnet.
    fn acquire(&mut self, picture: &Picture, ranges: &PerFamily<Range>) -> Result<Settled, Error> {
        let me = &self.publication;
        let old = picture.own(me, |entry| fits(ranges, &entry.subnets));
        let is_good = |key: &str, entry: &Entry| {
            fits(ranges, &entry.subnets) && picture.rival(me, key, &entry.subnets).is_none()
        };
        if let Some((key, entry)) = old
            && is_good(key, entry)
        {
            self.take_over(key, entry)?;
            return self.settle(picture);
        }
        if !is_reached(me, ranges) {
            return Ok(Settled::Amiss(Error::NoAddress));
        }
        let before = old.map_or(self.here.subnets, |(_, entry)| entry.subnets);
        let taken = picture.taken(old.map(|(key, _)| key));
        let subnets = choose(ranges, &taken, &before, self.seed()).map_err(|range| {
            let (first, last) = range.bounds();
            let prefix = self.keys.leases.clone();
            Error::Full { network: range.network.to_string(), first, last, prefix }
        });
        let subnets = match subnets {
            Ok(subnets) => subnets,
            Err(error) => return Ok(Settled::Amiss(error)),
        };
        self.own = Some(Own {
            key: self.keys.of(&subnets),
            subnets,
            macs: PerFamily::default(),
            grant: 0,
            is_for_ever: false,
            seconds: self.seconds,
            renewed: Instant::now(),
            is_fresh: true,
            written: Vec::new(),
        });
        let is_written = self.put(Only::New);
        if !matches!(is_written, Ok(true)) {
            self.own = None;
            is_written?;
            return self.lost_race();
        }
        if let Some((key, entry)) = old {
            self.remove(key, entry.modified)?;
        }
        Ok(Settled::Written)
    }

    /// From the name: nodes that come at once try different subnets, and one that
    /// lost tries another.
    fn seed(&self) -> u64 {
        let mac = self.publication.name.mac().0;
        let name = mac.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        name.wrapping_add(self.races as u64 * 37)
    }

    fn lost_race(&mut self) -> Result<Settled, Error> {
        self.races += 1;
        if self.races < RACES {
            return Ok(Settled::Written);
        }
        let races = std::mem::take(&mut self.races);
        Err(Error::Race(races))
    }

    /// Has what a run before this one, or flannel, had leased.
    fn take_over(&mut self, key: &str, entry: &Entry) -> Result<(), Error> {
        let renewed = Instant::now();
        let mut own = Own {
            key: key.to_owned(),
            subnets: entry.subnets,
            macs: entry.lease.as_ref().map(Lease::macs).unwrap_or_default(),
            grant: entry.grant,
            is_for_ever: entry.grant == 0,
            seconds: self.seconds,
            renewed,
            is_fresh: false,
            written: vec![String::from_utf8_lossy(&entry.value).into_owned()],
        };
        if entry.grant != 0 {
            match self.keep_alive(entry.grant)? {
                Renewed::Alive(seconds) if seconds == self.seconds => {}
                // One that lives longer or shorter than is asked for now is let go.
                Renewed::Alive(_) | Renewed::Gone => {
                    (own.grant, own.seconds) = self.ask_grant()?;
                }
            }
        }
        self.own = Some(own);
        Ok(())
    }

    /// Has the grant renewed. `false`: it has gone, and our key with it.
    pub(super) fn renew(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        let Some(Own { grant: grant @ 1.., .. }) = self.own else { return Ok(true) };
        match self.keep_alive(grant)? {
            Renewed::Gone => {
                if let Some(own) = &mut self.own {
                    own.grant = 0;
                }
                Ok(false)
            }
            Renewed::Alive(left) => {
                if let Some(own) = &mut self.own {
                    (own.renewed, own.seconds) = (now, left);
                }
                Ok(true)
            }
        }
    }

    fn keep_alive(&mut self, grant: i64) -> Result<Renewed, Error> {
        let question = json!({ "ID": grant.to_string() });
        let answer = self.client.ask("/v3/lease/keepalive", &question)?;
        match answer {
            Streamed::Result(LeaseAnswer { ttl, .. }) => Ok(match u64::try_from(ttl.0) {
                Ok(seconds @ 1..) => Renewed::Alive(seconds),
                _ => Renewed::Gone,
            }),
            Streamed::Error(status) => Err(Error::Unreachable(status.message)),
        }
    }

    fn ask_grant(&mut self) -> Result<(i64, u64), Error> {
        let question = json!({ "TTL": self.seconds.to_string() });
        let answer: LeaseAnswer = self.client.ask("/v3/lease/grant", &question)?;
        Ok((answer.id.0, u64::try_from(answer.ttl.0).unwrap_or(self.seconds)))
    }

    fn is_as_wanted(&self, entry: &Entry) -> bool {
        self.own.as_ref().is_some_and(|own| {
            own.grant == entry.grant && entry.value == value(&self.publication, own).as_bytes()
        })
    }

    /// Writes our key. If somebody was there before, the next look says who.
    fn write(&mut self, only: Only) -> Result<Settled, Error> {
        self.put(only)?;
        Ok(Settled::Written)
    }

    /// Writes our key where there is none any more. If it was reserved, that is over, too.
    fn write_again(&mut self) -> Result<Settled, Error> {
        if let Some(own) = &mut self.own {
            own.is_for_ever = false;
        }
        self.write(Only::New)
    }

    fn put(&mut self, only: Only) -> Result<bool, Error> {
        let me = &self.publication;
        let Some(own) = &mut self.own else { return Ok(false) };
        let value = value(me, own);
        if !own.written.contains(&value) {
            own.written.push(value.clone());
        }
        let key = own.key.clone();
        let mut grant = own.grant;
        if grant == 0 && !own.is_for_ever {
            grant = self.grant_anew()?;
        }
        let question = wire::put(&key, &value, grant, only);
        let answer = match self.client.ask::<TxnAnswer>("/v3/kv/txn", &question) {
            Err(Failure::Said(status)) if status.is_without_lease() => {
                let grant = self.grant_anew()?;
                self.client.ask("/v3/kv/txn", &wire::put(&key, &value, grant, only))?
            }
            other => other?,
        };
        if let Some(own) = self.own.as_mut().filter(|_| answer.succeeded) {
            own.written = vec![value];
        }
        Ok(answer.succeeded)
    }

    fn grant_anew(&mut self) -> Result<i64, Error> {
        let renewed = Instant::now();
        let (grant, seconds) = self.ask_grant()?;
        if let Some(own) = &mut self.own {
            (own.grant, own.seconds, own.renewed) = (grant, seconds, renewed);
        }
        Ok(grant)
    }

    fn remove(&mut self, key: &str, revision: i64) -> Result<(), Error> {
        self.client.ask::<TxnAnswer>("/v3/kv/txn", &wire::delete(key, revision))?;
        Ok(())
    }
}

/// Whether the subnets are what the configuration offers, family by family.
fn fits(ranges: &PerFamily<Range>, subnets: &PerFamily<IpNet>) -> bool {
    fabric::Family::ALL.into_iter().all(|family| match (ranges.get(family), subnets.get(family)) {
        (Some(range), Some(subnet)) => range.has(*subnet),
        (None, None) => true,
        _ => false,
    })
}

/// Whether others can send to pods of some of the `families`: a lease without an address would have
/// them send to nowhere.
fn is_reached<T>(me: &Publication, families: &PerFamily<T>) -> bool {
    // vxlan carries each family over itself alone.
    let is_vxlan = me.backend == "vxlan";
    me.addresses.iter().any(|(family, _)| !is_vxlan || families.get(family).is_some())
}

fn taken(key: &str, entry: &Entry) -> Error {
    let (name, address) = entry.holder();
    Error::Taken { lease: key.to_owned(), who: Error::who(name, address) }
}

/// What we write at our key.
fn value(me: &Publication, own: &Own) -> String {
    let Own { subnets, macs, .. } = *own;
    let node = Node { name: me.name.clone(), addresses: me.addresses, subnets, macs };
    let lease = Lease::of(&node, &me.backend, me.vni);
    // A value of strings and numbers: there is nothing that could fail.
    serde_json::to_string(&lease).unwrap_or_default()
}
