//! Where a namespace is that somebody names.

use std::path::{Component, Path, PathBuf};

use kernel::{ErrorKind, Netns};

use crate::failure::{Exit, Failure, Result};

/// The directory of names as `ip netns` calls it; on today's systems it is [`net::NAMED`] by another
/// path.
const OLD_NAMED: &str = "/var/run/netns";

/// A network namespace by path or by name.
pub(super) struct Place {
    path: Option<PathBuf>,
}

impl Place {
    /// Understands a path, or the name that `ip netns` knows; a path has a slash.
    pub(super) fn new(text: Option<&str>) -> Self {
        let path = text.map(|text| {
            if text.contains('/') {
                return absolute(Path::new(text));
            }
            let [old, new] = [OLD_NAMED, net::NAMED].map(|names| Path::new(names).join(text));
            if old.exists() || !new.exists() { old } else { new }
        });
        Self { path }
    }

    /// Its path, the one that cnitool would be given.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.path.clone()
    }

    /// Its path, then the other one of the same file: each makes another container's identifier.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let other = self.path.as_deref().and_then(|path| {
            let below =
                |from: &str, to: &str| Some(Path::new(to).join(path.strip_prefix(from).ok()?));
            below(OLD_NAMED, net::NAMED).or_else(|| below(net::NAMED, OLD_NAMED))
        });
        self.path.iter().cloned().chain(other).collect()
    }

    /// Whether another path leads to the same namespace.
    pub(super) fn is_also(&self, other: &Path) -> bool {
        let id = |path: &Path| Netns::open(path).and_then(|netns| netns.id()).ok();
        let own = self.path.as_deref().and_then(id);
        own.is_some() && own == id(other)
    }

    /// Refuses what is no namespace, or the one that podwire runs in.
    pub(super) fn require_other(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let netns = Netns::open(path).map_err(|error| {
            let exit = match error.kind() {
                ErrorKind::NotFound => Exit::NotFound,
                ErrorKind::WrongKind => Exit::Usage,
                _ => Exit::Unknown,
            };
            Failure::new(exit, error.to_string())
                .remedy("`ip netns list` shows those that have names; a path is one, too")
        })?;
        if netns.id()? == Netns::current()?.id()? {
            let what = format!("{} is the namespace that podwire runs in", path.display());
            return Err(Failure::new(Exit::Usage, what).remedy("name the container's"));
        }
        Ok(())
    }
}

/// Whether a namespace is certainly gone.
pub(super) fn is_gone(path: &Path) -> bool {
    let kind = Netns::open(path).err().map(|error| error.kind());
    matches!(kind, Some(ErrorKind::NotFound | ErrorKind::WrongKind))
}

/// The path from the root, without `.` and `..`, as cnitool makes it: no link is followed.
fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut clean = PathBuf::new();
    for component in whole.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            component => clean.push(component),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let paths = Place::new(Some(text)).paths().into_iter();
        paths.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn names_and_paths_are_what_cnitool_would_hash() {
        assert_eq!(
            paths("no-such-name"),
            ["/var/run/netns/no-such-name", "/run/netns/no-such-name"]
        );
        assert_eq!(paths("/run/netns/x"), ["/run/netns/x", "/var/run/netns/x"]);
        assert_eq!(paths("/proc/1/../2//ns/./net"), ["/proc/2/ns/net"]);
        assert_eq!(paths("/a/b/"), ["/a/b"]);
        assert_eq!(Place::new(None).path(), None);
    }
}
