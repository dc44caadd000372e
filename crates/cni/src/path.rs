//! Where a plugin's file is found.

use std::path::{Path, PathBuf};

use crate::Error;

/// The first regular file named `plugin` in the directories, as `CNI_PATH` lists them.
///
/// A symbolic link to a file counts, and whether it is executable is not tested. The errors are
/// the reference library's, with code 999.
pub fn find(plugin: &str, dirs: &[PathBuf]) -> Result<PathBuf, Error> {
    if plugin.is_empty() {
        return Err(Error::internal("no plugin name provided"));
    }
    if plugin.contains('/') {
        return Err(Error::internal(format!("invalid plugin name: {plugin}")));
    }
    if dirs.is_empty() {
        return Err(Error::internal("no paths provided"));
    }
    let candidates = dirs.iter().map(|dir| dir.join(plugin));
    candidates.into_iter().find(|file| file.is_file()).ok_or_else(|| {
        let dirs: Vec<_> = dirs.iter().map(|dir| dir.to_string_lossy()).collect();
        Error::internal(format!("failed to find plugin {plugin:?} in path [{}]", dirs.join(" ")))
    })
}

/// The directories of a `CNI_PATH` value.
pub fn split(list: &str) -> Vec<PathBuf> {
    if list.is_empty() {
        return Vec::new();
    }
    list.split(':').map(|dir| Path::new(dir).to_owned()).collect()
}
