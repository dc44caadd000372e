//! Where a change happens.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A network namespace as a plan names it. Only the executor opens it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Space {
    /// The namespace that the process runs in.
    Here,
    /// The namespace bound to (or linked from) this path, e.g. `/run/netns/blue` or
    /// `/proc/123/ns/net`.
    At(PathBuf),
}

/// The directory in which `ip netns` looks names up.
pub const NAMED: &str = "/run/netns";

impl Space {
    /// The namespace that `ip netns` calls `name`.
    pub fn named(name: &str) -> Self {
        Self::At(Path::new(NAMED).join(name))
    }

    /// The name that `ip netns` knows this namespace by, if its path is one of those.
    pub fn name(&self) -> Option<&str> {
        let Self::At(path) = self else { return None };
        let below =
            path.strip_prefix(NAMED).or_else(|_| path.strip_prefix("/var/run/netns")).ok()?;
        below.to_str().filter(|name| !name.is_empty() && !name.contains('/'))
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.name()) {
            (Self::Here, _) => f.write_str("this namespace"),
            (_, Some(name)) => f.write_str(name),
            (Self::At(path), None) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_ip_netns() {
        assert_eq!(Space::named("blue").name(), Some("blue"));
        assert_eq!(Space::At("/var/run/netns/cni-1".into()).name(), Some("cni-1"));
        assert_eq!(Space::At("/proc/1/ns/net".into()).name(), None);
        assert_eq!(Space::Here.name(), None);
    }
}
