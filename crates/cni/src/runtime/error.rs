//! What a runtime can fail with.

use std::io;
use std::path::PathBuf;

use crate::exec::Failure;
use crate::{Attachment, Command};

/// What this module's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a network failed: the variant is what a program branches on. Where the
/// reference library has a text for it, this is that text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A network configuration is wrong.
    #[error("{0}")]
    Configuration(String),
    /// A file with a network configuration is wrong.
    #[error("{}: {cause}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        #[source]
        cause: Box<Error>,
    },
    /// A file or directory of network configurations cannot be read.
    #[error("error reading {}: {source}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory has no network configurations.
    #[error("no net configurations found in {}", dir.display())]
    NoConfigurations {
        /// The directory.
        dir: PathBuf,
    },
    /// A directory has no network of that name, as far as its files can be read.
    #[error(
        "no net configuration with name {name:?} in {}{}", dir.display(), listed(unreadable)
    )]
    NoNetwork {
        /// The directory.
        dir: PathBuf,
        /// The name.
        name: String,
        /// The files that cannot be read: it may be in one of these.
        unreadable: Vec<Error>,
    },
    /// An identifier, a network's name or an interface's name cannot be one.
    #[error("{what} {value:?}: {error}")]
    Invalid {
        /// What it should be.
        what: &'static str,
        /// What it is.
        value: String,
        /// Why it cannot be.
        #[source]
        error: crate::Error,
    },
    /// A plugin failed.
    #[error("{}: {failure}", context(plugin, name, *command))]
    Plugin {
        /// The network.
        network: String,
        /// The plugin's file name.
        plugin: String,
        /// The plugin's own `name`; mostly it has none.
        name: String,
        /// What was asked.
        command: Command,
        /// Why.
        #[source]
        failure: Box<Failure>,
    },
    /// `ADD` failed, and what had been done was taken back, except for what is listed.
    #[error("{cause}")]
    Undone {
        /// What failed.
        #[source]
        cause: Box<Error>,
        /// What could not be taken back.
        left: Vec<Error>,
    },
    /// `GC` could not delete an attachment that is not valid.
    #[error(
        "failed to delete stale attachment {} {}: {cause}",
        attachment.container_id, attachment.ifname
    )]
    Stale {
        /// Container and interface.
        attachment: Attachment,
        /// Why not.
        #[source]
        cause: Box<Error>,
    },
    /// Somebody asked to stop between two plugins.
    #[error("interrupted")]
    Interrupted,
    /// The attachment is there already, or `ADD` of it is at work or was killed.
    #[error(
        "container {:?} has an interface {:?} on network {network:?} already, as {} says",
        attachment.container_id, attachment.ifname, path.display()
    )]
    Attached {
        /// The network.
        network: String,
        /// Container and interface.
        attachment: Attachment,
        /// The file of the cache.
        path: PathBuf,
    },
    /// Nothing is known of the attachment.
    #[error(
        "container {:?} has no interface {:?} on network {network:?}: there is no {}",
        attachment.container_id, attachment.ifname, path.display()
    )]
    NotAttached {
        /// The network.
        network: String,
        /// Container and interface.
        attachment: Attachment,
        /// The file that the cache would have.
        path: PathBuf,
    },
    /// What the cache holds of the attachment is of no use.
    #[error("failed to get network {network:?} cached result: {}: {why}", path.display())]
    Cached {
        /// The network.
        network: String,
        /// The file of the cache.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file that the attachment would have in the cache is something else.
    #[error("the cache cannot keep network {network:?}: {} {why}", path.display())]
    Occupied {
        /// The network.
        network: String,
        /// The file of the cache.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// Others than its owner can change the cache.
    #[error("the cache directory {} cannot be trusted: {why}", path.display())]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The cache cannot be read or written.
    #[error("{verb} {}: {source}", path.display())]
    Cache {
        /// What was tried.
        verb: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// `CHECK` came with 0.4.0.
    #[error("configuration version {version:?} does not support the CHECK command")]
    NoCheck {
        /// The version of the network.
        version: String,
    },
    /// A plugin does not speak the version of the network.
    #[error("plugin {plugin} does not support config version {version:?}")]
    UnsupportedVersion {
        /// Its file name.
        plugin: String,
        /// The version of the network.
        version: String,
        /// The versions that it speaks.
        supported: Vec<String>,
    },
}

fn context(plugin: &str, name: &str, command: Command) -> String {
    let verb = match command {
        Command::Add => "add",
        Command::Check => "check",
        Command::Del => "delete",
        Command::Gc => return format!("failed to GC plugin {plugin}"),
        Command::Status => "status",
        Command::Version => "version",
    };
    let name = if name.is_empty() { String::new() } else { format!(" name={name:?}") };
    format!("plugin type={plugin:?}{name} failed ({verb})")
}

fn listed(errors: &[Error]) -> String {
    errors.iter().map(|error| format!("; {error}")).collect()
}
