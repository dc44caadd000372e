//! `podwire ipam` as it is typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Directories, Format, path};

/// What to do with the addresses that host-local has given out on this node.
#[derive(Debug, Subcommand)]
pub(crate) enum IpamCommand {
    /// List reserved addresses: who has each, since when, and whether that is still there.
    #[command(visible_alias = "ls")]
    List(List),
    /// Look for addresses that leaked, files that are no reservations, ranges that are nearly full,
    /// and an index that is wrong.
    Check(Check),
    /// Free the addresses of attachments that are gone, and make the index anew.
    #[command(after_help = "What lives is never freed: an attachment whose cable or interface is \
        there. What is gone is freed: an attachment whose namespace or interface, as its runtime \
        has noted it, is not there any more, and a file without an owner. Of all else nobody can \
        tell; it is freed with --force, unless it is younger than a minute.")]
    Gc(Gc),
}

/// Where things are.
#[derive(Debug, Args)]
pub(crate) struct Places {
    #[command(flatten)]
    pub(crate) directories: Directories,
    /// The directory of reservations [default: those that the networks' configurations name, and
    /// /var/lib/cni/networks].
    #[arg(long, value_name = "DIR", env = "PODWIRE_IPAM_DATA_DIR", value_parser = path, hide_env_values = true)]
    data_dir: Option<PathBuf>,
    /// The directory of indexes [default: those that the configurations name, and
    /// /var/lib/podwire/ipam, or /run/podwire/ipam for reservations in /run].
    #[arg(long, value_name = "DIR", env = "PODWIRE_IPAM_INDEX_DIR", value_parser = path, hide_env_values = true)]
    index_dir: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

impl Places {
    /// The directory of reservations, from the root, as configurations name it.
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        from_the_root(self.data_dir.as_ref())
    }

    /// The directory of indexes, likewise.
    pub(crate) fn index_dir(&self) -> Option<PathBuf> {
        from_the_root(self.index_dir.as_ref())
    }
}

fn from_the_root(path: Option<&PathBuf>) -> Option<PathBuf> {
    let path = path.filter(|path| !path.as_os_str().is_empty())?;
    Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
}

/// `podwire ipam list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this network.
    pub(crate) network: Option<String>,
    #[command(flatten)]
    pub(crate) places: Places,
    /// Leave the first line out.
    #[arg(long)]
    pub(crate) no_headers: bool,
}

/// `podwire ipam check`
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Only this network.
    pub(crate) network: Option<String>,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `podwire ipam gc`
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Only this network.
    pub(crate) network: Option<String>,
    #[command(flatten)]
    pub(crate) places: Places,
    /// Only show what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also free what nobody can tell about.
    #[arg(long)]
    pub(crate) force: bool,
}
