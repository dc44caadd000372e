//! The plugins as their callers see them: files that are started with an environment and a
//! configuration, that print an answer, and that change the network of a node.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

mod at_once;
mod bad_input;
mod check;
mod concurrency;
mod conformance;
mod differential;
mod gc_and_status;
mod harness;
mod host_local;
mod keys;
mod kill;
mod lifecycle;
mod portmap;
mod ptp;
mod static_addresses;
mod surroundings;
mod together;
