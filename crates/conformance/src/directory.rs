//! A directory of plugins, and what they say of themselves.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cni::Version;
use cni::exec::{Failure, Patience};

use crate::case::{By, Implementation, Instance, Known};

/// The plugins that there are cases for.
pub const PLUGINS: [&str; 6] = ["bridge", "host-local", "loopback", "portmap", "ptp", "static"];

/// How long a plugin may take to say what it is.
const LIMIT: Duration = Duration::from_secs(10);

/// The plugins of a directory that there are cases for.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Where they are.
    pub path: PathBuf,
    /// What each of them says of itself.
    pub plugins: BTreeMap<&'static str, Plugin>,
}

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Whose it is.
    pub implementation: Implementation,
    /// The first line of what it prints for a person.
    pub about: String,
    /// The versions of the specification that it advertises.
    pub versions: Vec<String>,
}

/// Why a directory cannot be tested.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is where each case has a place of its own.
    #[error("{} is in /run, of which each case has one of its own", .0.display())]
    Hidden(PathBuf),
    /// Not one of the plugins is there.
    #[error("{} has none of {}", .0.display(), PLUGINS.join(", "))]
    Empty(PathBuf),
    /// It cannot be read, or a plugin not be started.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    /// A plugin does not say which versions it supports.
    #[error("{} does not answer VERSION: {}", .0.display(), .1)]
    Silent(PathBuf, Box<Failure>),
}

impl Directory {
    /// Asks the plugins of a directory what they are.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let path = path.canonicalize().map_err(|e| Error::Io(path.to_owned(), e))?;
        if path.starts_with("/run") {
            return Err(Error::Hidden(path));
        }
        let mut plugins = BTreeMap::new();
        for name in PLUGINS {
            let file = path.join(name);
            if file.is_file() {
                plugins.insert(name, Plugin::ask(name, &file)?);
            }
        }
        if plugins.is_empty() {
            return Err(Error::Empty(path));
        }
        Ok(Self { path, plugins })
    }

    /// Why a case is not about these plugins, if it is not.
    pub fn lacks(&self, instance: &Instance) -> Option<String> {
        let since = instance.case.since;
        instance.needs().find_map(|name| match self.plugins.get(name) {
            None => Some(format!("{name} is not in the directory")),
            Some(plugin) if !plugin.reaches(since) => {
                Some(format!("{name} does not speak {since}"))
            }
            Some(_) => None,
        })
    }

    /// The difference that is known of a case and these plugins.
    pub fn known(&self, instance: &Instance) -> Option<&'static Known> {
        let plugin = self.plugins.get(instance.judged())?;
        let is_theirs = |by: By| match by {
            By::Reference => plugin.implementation == Implementation::Reference,
            By::OldReference => {
                plugin.implementation == Implementation::Reference
                    && !plugin.reaches(Version::V1_1_0)
            }
            By::Podwire => plugin.implementation == Implementation::Podwire,
        };
        let concerns = |known: &&Known| {
            is_theirs(known.by) && known.of.is_none_or(|subject| subject == instance.subject)
        };
        instance.case.known.iter().find(concerns)
    }
}

impl Plugin {
    fn ask(name: &str, file: &Path) -> Result<Self, Error> {
        let patience = Patience { limit: LIMIT, interrupted: &|| false };
        let versions = cni::exec::version(file, Some(patience))
            .map_err(|error| Error::Silent(file.to_owned(), error.into()))?;
        #[expect(clippy::disallowed_methods, reason = "this room starts plugins")]
        let output = std::process::Command::new(file)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|e| Error::Io(file.to_owned(), e))?;
        let told = String::from_utf8_lossy(&output.stderr);
        let about = told.lines().next().unwrap_or_default().to_owned();
        let implementation = match about.strip_prefix(&format!("CNI {name} plugin ")) {
            Some(build) if build.starts_with("podwire") => Implementation::Podwire,
            Some(_) => Implementation::Reference,
            None => Implementation::Other,
        };
        Ok(Self { implementation, about, versions })
    }

    /// Whether it advertises a version or a newer one.
    pub fn reaches(&self, version: Version) -> bool {
        self.versions.iter().any(|own| own.parse::<Version>().is_ok_and(|own| own >= version))
    }
}
