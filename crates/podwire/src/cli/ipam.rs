//! `podwire ipam` as it is typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

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
    /// The directory of reservations [default: those that the networks' configurations name, and
    /// /var/lib/cni/networks].
    #[arg(long, value_name = "DIR", env = "PODWIRE_IPAM_DATA_DIR", hide_env_values = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// The directory of indexes [default: those that the configurations name, and
    /// /var/lib/podwire/ipam, or /run/podwire/ipam for reservations in /run].
    #[arg(long, value_name = "DIR", env = "PODWIRE_IPAM_INDEX_DIR", hide_env_values = true)]
    pub(crate) index_dir: Option<PathBuf>,
    /// The directory of network configurations, which say how large the ranges are.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/etc/cni/net.d",
        env = "NETCONFPATH",
        hide_env_values = true
    )]
    pub(crate) conf_dir: PathBuf,
    /// The directory in which runtimes note their attachments.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/cni",
        env = "PODWIRE_CNI_CACHE_DIR",
        hide_env_values = true
    )]
    pub(crate) cache_dir: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
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
