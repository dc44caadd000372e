//! Real clients of a directory of CNI plugins: containerd, through CRI and through `ctr`, and podman.
//!
//! Each test has a [`Machine`] of its own, whose `/opt/cni/bin` holds the plugins of one maker or of
//! two, and on it starts the clients that Debian has. A scenario is written once and runs with the
//! reference's plugins first, so that it is known to be right.
//!
//! They need root, `cargo xtask test` installs their packages, and a plain `cargo test` leaves them
//! out.
#![expect(clippy::disallowed_methods, reason = "tests start processes")]
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

mod containerd;
mod cri;
mod image;
mod kubelet;
mod machine;
mod plugins;
mod podman;
mod traffic;

pub use containerd::Containerd;
pub use cri::Port;
pub use kubelet::{Kubelet, Pod};
pub use machine::{Machine, NODE, OUTSIDE};
pub use plugins::{By, build};
pub use podman::Podman;
pub use traffic::{NAMES, WEB, addresses, assert_published, get, page, seen};

/// A machine with plugins of a maker, for the rest of the test function. Its first line.
#[macro_export]
macro_rules! machine {
    ($by:expr) => {{
        $crate::build();
        testbed::isolated_with_processes!();
        $crate::Machine::new($by)
    }};
}
