//! The two names of a lab's namespace, and how the public one is taken away from nobody else.
//!
//! A namespace is bound below the lab's own directory first, where everything is the lab's by
//! definition, and then once more where `ip netns` finds it. A public name is the lab's exactly
//! if both lead to the same namespace.

use std::path::Path;

use kernel::{Netns, NetnsId};

use crate::{Error, Namespace, Result};

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// A namespace.
    Namespace(NetnsId),
    /// A plain file without content, as a kill between its creation and the mount leaves it.
    EmptyFile,
    /// Anything else.
    Other,
}

/// The namespace that a path leads to.
pub(crate) fn identity(path: &Path) -> Option<NetnsId> {
    Netns::open(path).and_then(|netns| netns.id()).ok()
}

/// Looks at a path.
pub(crate) fn look(path: &Path) -> Found {
    // An nsfs file looks like an empty plain file, so this comes first.
    if let Some(id) = identity(path) {
        return Found::Namespace(id);
    }
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => Found::EmptyFile,
        Ok(_) => Found::Other,
        Err(_) => Found::Nothing,
    }
}

/// Makes a namespace and gives it both names.
pub(crate) fn publish(namespace: &Namespace, directory: &Path) -> Result<()> {
    let netns = Netns::create(&namespace.private_path(directory))?;
    Ok(netns.bind_to(&namespace.public_path())?)
}

/// Takes both names away. Returns what was found in the place of the public one, if it is not
/// this lab's and stays.
pub(crate) fn withdraw(namespace: &Namespace, directory: &Path) -> Result<Option<String>> {
    let (private, public) = (namespace.private_path(directory), namespace.public_path());
    let left = match (look(&public), look(&private)) {
        (Found::Nothing, _) => None,
        (Found::EmptyFile, _) => remove(&public)?,
        (Found::Namespace(seen), Found::Namespace(own)) if seen == own => remove(&public)?,
        _ => Some(format!("{} stays: it is not this lab's any more", public.display())),
    };
    remove(&private)?;
    Ok(left)
}

fn remove(path: &Path) -> Result<Option<String>> {
    Netns::remove(path).map_err(Error::from)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use testbed::{directory, isolated};

    use super::*;
    use crate::Role;

    fn pod(directory: &Path) -> Namespace {
        fs::create_dir(directory.join("netns")).unwrap();
        Namespace { public: "blue-pod1".to_owned(), ..Namespace::new(Role::Pod, "pod1") }
    }

    #[test]
    fn what_was_published_is_withdrawn() {
        isolated!();
        let directory = directory();
        let pod = pod(directory.path());
        publish(&pod, directory.path()).unwrap();
        assert_eq!(look(&pod.public_path()), look(&pod.private_path(directory.path())));
        assert_eq!(withdraw(&pod, directory.path()).unwrap(), None);
        assert_eq!(look(&pod.public_path()), Found::Nothing);
        assert_eq!(look(&pod.private_path(directory.path())), Found::Nothing);
        assert_eq!(withdraw(&pod, directory.path()).unwrap(), None);
    }

    #[test]
    fn what_a_kill_leaves_is_withdrawn() {
        isolated!();
        let directory = directory();
        let pod = pod(directory.path());
        // Between the creation of each file and its mount.
        fs::write(pod.private_path(directory.path()), "").unwrap();
        assert_eq!(withdraw(&pod, directory.path()).unwrap(), None);
        Netns::create(&pod.private_path(directory.path())).unwrap();
        fs::write(pod.public_path(), "").unwrap();
        assert_eq!(look(&pod.public_path()), Found::EmptyFile);
        assert_eq!(withdraw(&pod, directory.path()).unwrap(), None);
        assert_eq!(look(&pod.public_path()), Found::Nothing);
    }

    #[test]
    fn what_belongs_to_others_stays() {
        isolated!();
        let directory = directory();
        let pod = pod(directory.path());
        publish(&pod, directory.path()).unwrap();
        Netns::remove(&pod.public_path()).unwrap();
        Netns::create(&pod.public_path()).unwrap();
        let other = look(&pod.public_path());
        assert!(withdraw(&pod, directory.path()).unwrap().is_some());
        assert_eq!(look(&pod.public_path()), other);

        Netns::remove(&pod.public_path()).unwrap();
        fs::write(pod.public_path(), "not a namespace").unwrap();
        assert!(withdraw(&pod, directory.path()).unwrap().is_some());
        assert_eq!(look(&pod.public_path()), Found::Other);
    }
}
