//! Where this node keeps the reservations of its networks, and their indexes.

use std::path::{Path, PathBuf};
use std::{fs, io};

use ipam::{IndexPlace, Store};

/// Where indexes are kept.
const INDEXES: &str = "/var/lib/podwire/ipam";

/// Where indexes of reservations are kept that do not outlive the boot.
const VOLATILE_INDEXES: &str = "/run/podwire/ipam";

/// The kernel's name for this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The reservations of a network with their index, each in its directory or, without one, in the
/// default one.
pub fn store(network: &str, data_dir: Option<PathBuf>, index_dir: Option<PathBuf>) -> Store {
    let data_dir = data_dir.unwrap_or_else(|| ipam::DEFAULT_DATA_DIR.into());
    let store = Store::new(&data_dir, network);
    match index_place(&data_dir, index_dir) {
        Ok(place) => store.with_index(place),
        Err(error) => {
            eprintln!("podwire: reads all reservations, for want of an index: {BOOT_ID}: {error}");
            store
        }
    }
}

/// Where the indexes of the reservations below a directory are kept.
pub fn index_place(data_dir: &Path, index_dir: Option<PathBuf>) -> io::Result<IndexPlace> {
    let directory = index_dir.unwrap_or_else(|| default_index_dir(data_dir).into());
    let boot_id = fs::read_to_string(BOOT_ID)?;
    Ok(IndexPlace { directory, boot_id, report })
}

/// An index lives as long as what it is about.
fn default_index_dir(data_dir: &Path) -> &'static str {
    let is_volatile = ["/run", "/var/run"].iter().any(|place| data_dir.starts_with(place));
    if is_volatile { VOLATILE_INDEXES } else { INDEXES }
}

fn report(error: &ipam::Error) {
    eprintln!("podwire: reads all reservations, for want of an index: {error}");
}
