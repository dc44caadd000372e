//! `podwire agent` on real kernels: nodes that are joined, faults while packets flow, and what is
//! said of bad input.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod etcd;
mod faults;
mod flannel;
mod joining;
mod kubernetes;
mod probes;
mod rivals;
mod stream;
mod traffic;
mod vni;
