//! The CNI language: what a container runtime and a network plugin say to each other.
//!
//! A plugin is started with `CNI_*` variables and a JSON document on standard input, and answers
//! with a JSON document on standard output. [`serve()`] turns such a start into one call of a
//! [`Plugin`]; [`exec`] is the other side, for delegates and for the [`runtime`], which calls the
//! plugins of a network in order and remembers what came of it.
//!
//! Everything here follows the CNI specification 1.1.0 and, where that is silent, what the plugins
//! and the library of the containernetworking project do, down to codes and messages: runtimes and
//! people match on them. Only [`exec`] starts processes; only [`path`] looks for files and only
//! [`runtime`] reads and writes any, below the directories that it is given. The rest is pure, and
//! gets the environment, the streams and the answer about the netns as arguments.

pub mod args;
pub mod config;
pub mod environment;
pub mod error;
pub mod exec;
pub mod fields;
pub mod hash;
pub mod json;
pub mod path;
pub mod request;
pub mod result;
pub mod runtime;
pub mod serve;
pub mod version;

pub use config::{Attachment, Ipam, NetworkConfig, ValidAttachments};
pub use environment::Environment;
pub use error::{Code, Error};
pub use request::{Command, Request};
pub use result::{CniResult, Dns, Interface, IpConfig, Route};
pub use serve::{IsOwnNetns, Plugin, Streams, serve};
pub use version::Version;
