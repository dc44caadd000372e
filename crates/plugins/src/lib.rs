//! The network plugins, and the one program that is all of them.
//!
//! A plugin parses its configuration, looks at what it needs to know, computes a plan without
//! touching anything, and has the kernel room apply it. It starts no helper programs: nftables and
//! netlink are spoken directly, and an IPAM plugin that is part of this program is called as a
//! function.

pub mod alive;
mod attachment;
pub mod bridge;
mod cable;
mod check;
mod delegate;
mod elements;
mod failures;
mod forwarding;
pub mod host_local;
mod interface;
mod keys;
mod loopback;
mod masquerade;
mod portmap;
#[cfg(test)]
mod proof;
mod ptp;
mod reference;
pub mod reservations;
mod spoof_check;
mod static_addresses;
mod teardown;

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

pub use bridge::Bridge;
pub use host_local::HostLocal;
pub use loopback::Loopback;
pub use portmap::Portmap;
pub use ptp::Ptp;
pub use static_addresses::Static;

/// The names that the program answers to, and that `podwire install` puts into place.
pub const NAMES: &[&str] = &["bridge", "host-local", "loopback", "portmap", "ptp", "static"];

/// The version of this build, as the plugins print it.
pub const BUILD: &str = concat!("podwire ", env!("CARGO_PKG_VERSION"));

/// The plugin of that name.
pub fn plugin(name: &str) -> Option<Box<dyn cni::Plugin>> {
    match name {
        "bridge" => Some(Box::new(Bridge)),
        "host-local" => Some(Box::new(HostLocal)),
        "loopback" => Some(Box::new(Loopback)),
        "portmap" => Some(Box::new(Portmap)),
        "ptp" => Some(Box::new(Ptp)),
        "static" => Some(Box::new(Static)),
        _ => None,
    }
}

/// The name that a program was called by: the last part of its first argument.
pub fn called_as(argument: Option<&OsStr>) -> &str {
    argument
        .and_then(|path| Path::new(path).file_name())
        .and_then(OsStr::to_str)
        .unwrap_or_default()
}

/// Serves one call of the plugin `name` from the environment and the standard streams of this
/// process; `None` if there is no such plugin.
pub fn main(name: &str) -> Option<ExitCode> {
    let plugin = plugin(name)?;
    let environment = cni::Environment::from_lookup(|name| std::env::var(name).ok());
    let (mut stdin, mut stdout, mut stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams = cni::Streams { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr };
    Some(ExitCode::from(cni::serve(plugin.as_ref(), &environment, &is_own_netns, streams)))
}

/// Whether `path` leads to the network namespace that this process is in.
fn is_own_netns(path: &Path) -> io::Result<bool> {
    let id = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino()));
    Ok(id(path)? == id(Path::new("/proc/thread-self/ns/net"))?)
}
