//! The edge to the Linux kernel: netlink, namespaces, settings, and the executor of plans.
//!
//! The only room with `unsafe` code, the only one that opens netlink sockets, enters namespaces
//! and writes settings. It knows nothing of CNI, of plugins and of labs; what should be comes to it
//! as a [`net::Plan`].

mod attribute;
mod backlog;
mod conntrack;
pub mod dump;
mod error;
mod ethtool;
mod executor;
mod handle;
mod legacy;
mod monitor;
mod neighbours;
mod netlink;
mod netns;
mod nft;
mod observe;
pub mod probing;
pub mod process;
mod removal;
mod rtnetlink;
mod sockets;
mod survey;
mod trial;
mod wait;

pub use backlog::{Backlog, backlog};
pub use conntrack::track_room;
pub use error::{Error, ErrorKind, Result};
pub use ethtool::LinkFeatures;
pub use executor::{Applied, Kernel, OnError};
pub use monitor::{Monitor, Notice};
pub use neighbours::{Fill, Hop, Neighbours, neighbour_fill};
pub use netns::{
    Netns, NetnsId, is_prepared, isolate_process, prepare_directory, release_directory,
};
pub use nft::ForeignDrop;
pub use observe::Query;
pub use process::release;
pub use removal::Removal;
pub use sockets::Listening;
pub use survey::Survey;

/// Random bytes, for names and hardware addresses that a planner chooses.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The pool is initialised long before a plugin is called, and short reads do not happen for
    // requests of up to 256 bytes (getrandom(2)).
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes
}
