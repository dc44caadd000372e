//! What a machine's network should be: objects, changes to them, and the words for both.
//!
//! Nothing here does I/O. The `kernel` room applies a [`Plan`] and observes objects; this room
//! computes, compares and prints them.

mod change;
mod diff;
mod ip;
mod link;
mod names;
mod networks;
pub mod nft;
pub mod owner;
mod qdisc;
mod shell;
mod space;

pub use change::{Action, Change, File, Flow, Netns, Object, Plan, Step, Sysctl, Tracked, undo};
pub use diff::{Key, diff};
pub use ip::{
    Address, Encap, Fdb, MAIN_TABLE, Neighbour, PROTOCOL_BOOT, PROTOCOL_KERNEL, Route, RouteKind,
    Rule, Scope, Vni,
};
pub use link::{Link, LinkKind, Peer, Port, Vxlan, VxlanForm};
pub use names::{LinkName, LinkNameError, Mac, MacError};
pub use networks::Networks;
pub use qdisc::{Qdisc, QdiscKind};
pub use shell::{quote, script, shell};
pub use space::{NAMED, Space};
