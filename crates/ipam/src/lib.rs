//! Which addresses a node may give to its attachments, and which it has given: ranges, and
//! reservations on disk.
//!
//! [`Store`] keeps the reservations of one network in the directory format and under the lock of
//! the reference `host-local` plugin, so that both can serve one node at the same time. It is
//! built on three pure parts: [`RangeSet`] says what may be given out and in which order,
//! [`Holder`] what the file of an address says, and a choice made from the two says which
//! addresses an attachment gets. [`resolv::parse`] reads the resolver file that a configuration
//! may name.
//!
//! # The directory
//!
//! `<data directory>/<network>/` (0755) holds
//!
//! | file | what it is |
//! |---|---|
//! | `10.1.2.3`, `2001:db8::3` | a reservation (0600), created exclusively; its text is `<container id>\r\n<interface>` |
//! | `last_reserved_ip.0` | the address that range set 0 gave out last |
//! | `lock` | an empty file (0750), locked with `flock` by whoever changes the directory |
//!
//! An attachment's own files are found by reading every reservation, a free address by reading
//! their names; or both by looking into an index beside it (see [`IndexPlace`]).

mod choose;
mod directory;
mod error;
mod holder;
mod index;
mod range;
pub mod resolv;
mod set;
mod store;

pub use error::{Error, Result};
pub use holder::{Holder, Owner, Reservation};
pub use index::{IndexPlace, IndexState};
pub use range::{Range, RangeSpec};
pub use set::{RangeSet, range_sets};
pub use store::{Collected, DEFAULT_DATA_DIR, Lease, Store};
