//! Virtual networks on one machine: planned as values, made of network namespaces, removed exactly.
//!
//! A [`Lab`] says what a network consists of; its [`Plan`] is the steps that make it; a [`Store`]
//! keeps the labs of the machine below one directory, makes them and takes them down. Everything of
//! a lab, also what plays the host, is inside namespaces that the lab owns, so that removing these
//! namespaces removes all of it, and nothing is ever recognised by the look of its name.
//!
//! Pods are wired by CNI plugin *files*, called as a container runtime calls them.

mod agents;
mod attachment;
mod cluster;
mod edit;
mod error;
pub mod faults;
mod invocation;
mod model;
mod name;
mod plain;
mod plan;
mod pods;
mod processes;
mod publish;
mod removal;
mod resolver;
mod script;
mod sources;
mod status;
mod store;

pub use agents::{AgentRun, Started};
pub use cluster::{Cluster, Families, Underlay};
pub use error::{Error, Result};
pub use invocation::Invocation;
pub use model::{Lab, Namespace, Network, Plugins, Pods, Role, Runtime};
pub use name::{Name, NameError};
pub use plan::{Entry, Plan, Step};
pub use processes::{LAB_VARIABLE, Process};
pub use removal::{Farewell, Removal};
pub use resolver::ResolverRun;
pub use script::{down as script_down, remove as script_remove, up as script_up};
pub use status::{Deviation, Status};
pub use store::{Made, Report, State, Store, Summary};
