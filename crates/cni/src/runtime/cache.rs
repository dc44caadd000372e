//! What a runtime remembers of each attachment: the reference library's files, in both directions.
//!
//! One file an attachment, `results/<network>-<container>-<interface>` below the cache's directory.
//! A file comes into being before the first plugin is called, without a result, so that whatever is
//! killed in between is known and can be taken back; it gets its result by a rename, so that no
//! crash tears it. What others left there, torn or foreign, is told and never an obstacle to `DEL`.
//!
//! Whoever is at work on an attachment holds a lock on its file, and so do the plugins that he has
//! started: a runtime can be killed and its plugin go on, and until that has ended, too, nothing can
//! be taken back for good.
//!
//! Everything is opened relative to the two directories and never through a symbolic link. The way
//! to the cache is the administrator's and may have links.

mod open;
pub(super) mod record;

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::FdFlags;

use self::open::{Open, Put, RESULTS, failed};
pub use self::record::Record;
use self::record::{Kept, name};
use super::{Error, Result};
use crate::Attachment;
use crate::exec::Patience;

/// The files of one cache directory.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

/// A file of the cache that is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl Unusable {
    /// The attachments of a network that it may be of: where the container's name has hyphens, its
    /// own name tells of more than one.
    pub fn candidates(&self, network: &str) -> Vec<Attachment> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let rest = name.strip_prefix(network).and_then(|rest| rest.strip_prefix('-'));
        let rest = rest.unwrap_or_default();
        let candidate = |(at, _)| Attachment {
            container_id: rest[..at].to_owned(),
            ifname: rest[at + 1..].to_owned(),
        };
        let candidates = rest.match_indices('-').map(candidate);
        candidates.filter(|it| super::require_attachment(it).is_ok()).collect()
    }
}

/// An attachment that nobody else works on. It is given back when this process has dropped it and
/// every plugin that was started meanwhile has ended.
#[derive(Debug)]
pub(super) struct Held {
    _file: File,
}

/// How soon it is noticed that an attachment is given back.
const PAUSE: Duration = Duration::from_millis(2);

impl Cache {
    /// The cache in a directory, which is made when it is needed.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The file of an attachment.
    pub fn path(&self, network: &str, attachment: &Attachment) -> PathBuf {
        self.dir.join(RESULTS).join(name(network, attachment))
    }

    /// What is remembered of an attachment, if it can be understood.
    pub fn get(&self, network: &str, attachment: &Attachment) -> Result<Option<Record>> {
        Ok(match self.read(network, attachment)? {
            Kept::Record(record) => Some(*record),
            _ => None,
        })
    }

    /// All attachments of all networks by the name of their files, and the files of no use.
    pub fn list(&self) -> Result<(Vec<Record>, Vec<Unusable>)> {
        let (mut records, mut unusable) = (Vec::new(), Vec::new());
        let Some(open) = Open::existing(&self.dir)? else { return Ok((records, unusable)) };
        for name in open.names()? {
            let why = match open.read(&name, None)? {
                Kept::Nothing => continue,
                Kept::Record(record) => {
                    records.push(*record);
                    continue;
                }
                Kept::Torn(why) | Kept::Strange(why) | Kept::Foreign(why) => why,
            };
            unusable.push(Unusable { path: open.path(&name), why });
        }
        Ok((records, unusable))
    }

    /// What there is under the name of an attachment.
    pub(super) fn read(&self, network: &str, attachment: &Attachment) -> Result<Kept> {
        match Open::existing(&self.dir)? {
            None => Ok(Kept::Nothing),
            Some(open) => open.read(&name(network, attachment), Some((network, attachment))),
        }
    }

    /// Waits until nobody works on an attachment any more, keeps others from it and reads it. After
    /// the time limit of the patience it is read without being held: what hangs for so long does not
    /// end by being waited for.
    pub(super) fn hold(
        &self,
        network: &str,
        attachment: &Attachment,
        patience: Patience<'_>,
    ) -> Result<(Kept, Option<Held>)> {
        let name = name(network, attachment);
        let since = Instant::now();
        loop {
            let Some(open) = Open::existing(&self.dir)? else { return Ok((Kept::Nothing, None)) };
            let read = || open.read(&name, Some((network, attachment)));
            let Some(file) = open.file(&name)? else { return Ok((read()?, None)) };
            match file.try_lock() {
                Ok(()) if is_same(&file, open.file(&name)?.as_ref()) => {
                    return Ok((read()?, Some(Held::new(file, &open.path(&name))?)));
                }
                // Whoever had it has put another one in its place, or removed it.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if since.elapsed() < patience.limit => {
                    if (patience.interrupted)() {
                        return Err(Error::Interrupted);
                    }
                    thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => return Ok((read()?, None)),
                Err(TryLockError::Error(source)) => {
                    return Err(failed("lock", &open.path(&name), source));
                }
            }
        }
    }

    /// Remembers an attachment before it is made, and holds it. Only one can: a second `ADD` is
    /// refused.
    pub(super) fn begin(&self, record: &Record) -> Result<Held> {
        let (network, attachment) = (record.network.clone(), record.parameters.attachment.clone());
        let name = name(&network, &attachment);
        let open = Open::create(&self.dir)?;
        let path = open.path(&name);
        match open.read(&name, Some((&network, &attachment)))? {
            Kept::Nothing => {}
            Kept::Torn(_) => open.remove(&name)?,
            Kept::Record(_) => return Err(Error::Attached { network, attachment, path }),
            Kept::Strange(why) | Kept::Foreign(why) => {
                return Err(Error::Occupied { network, path, why });
            }
        }
        match open.write(&name, record, Put::New)? {
            Some(file) => Held::new(file, &path),
            None => Err(Error::Attached { network, attachment, path }),
        }
    }

    /// Remembers the result of an attachment that was begun.
    pub(super) fn finish(&self, record: &Record) -> Result<()> {
        let name = name(&record.network, &record.parameters.attachment);
        Open::create(&self.dir)?.write(&name, record, Put::Over).map(drop)
    }

    /// Forgets an attachment.
    pub(super) fn forget(&self, network: &str, attachment: &Attachment) -> Result<()> {
        match Open::existing(&self.dir)? {
            None => Ok(()),
            Some(open) => open.remove(&name(network, attachment)),
        }
    }
}

impl Held {
    /// Has plugins inherit a locked file.
    fn new(file: File, path: &std::path::Path) -> Result<Self> {
        rustix::io::fcntl_setfd(&file, FdFlags::empty()).map_err(|e| failed("lock", path, e))?;
        Ok(Self { _file: file })
    }
}

/// Whether two files are one.
fn is_same(one: &File, other: Option<&File>) -> bool {
    let id = |file: &File| file.metadata().map(|file| (file.dev(), file.ino())).ok();
    other.is_some_and(|other| id(one).is_some() && id(one) == id(other))
}
