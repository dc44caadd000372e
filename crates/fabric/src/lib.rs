//! What joins the nodes: who they are, what a node's network should be for all of them to reach each
//! other's pods, and the agent that keeps it so, as a state machine.
//!
//! Nothing here does I/O. A source tells [`Node`]s, a look at the machine gives a [`Machine`];
//! [`desired`] computes what should be, [`agent::Agent`] says what to do about it.

pub mod agent;
mod backend;
mod config;
mod desired;
mod family;
mod firewall;
pub mod flannel;
mod machine;
pub mod mesh;
mod node;
mod node_file;
mod nodes;
mod problem;
mod report;

pub use backend::{Chosen, Joint, publication};
pub use config::{
    Backend, Cni, Config, ConfigError, Etcd, Kubernetes, Masquerade, Probes, Source, Tunnel,
    TunnelForm, Underlay,
};
pub use desired::{Desired, desired};
pub use family::{Family, PerFamily};
pub use machine::{Machine, Uplink, choose_uplink};
pub use node::{Node, NodeName, NodeNameError};
pub use node_file::{NodeFileError, parse_nodes};
pub use nodes::Nodes;
pub use problem::{Code, Problem, Subject};
pub use report::{Cluster, Publication, Report};

pub use net::Mac;
