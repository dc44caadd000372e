//! The directory of network configurations, such as `/etc/cni/net.d`.
//!
//! A file that cannot be read stands in the way of no other network: it is told beside the answer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Error, NetworkList, PluginConfig, Result};
use crate::environment::is_identifier;
use crate::json;

/// A network and where it was found.
#[derive(Debug)]
pub struct Found {
    /// The network.
    pub network: NetworkList,
    /// Its file.
    pub file: PathBuf,
}

/// The network of that name, and the files before it that cannot be read. Lists (`.conflist`) come
/// before single configurations (`.conf`, `.json`), and among each the first by file name.
pub fn find(dir: &Path, name: &str) -> Result<(Found, Vec<Error>)> {
    let files = files(dir)?;
    if files.is_empty() {
        return Err(Error::NoConfigurations { dir: dir.to_owned() });
    }
    let mut unreadable = Vec::new();
    for file in files {
        let bytes = match read(&file) {
            Ok(bytes) => bytes,
            Err(error) => {
                unreadable.push(error);
                continue;
            }
        };
        match load(&file, &bytes) {
            Ok(network) if network.name == name => {
                return Ok((Found { network, file }, unreadable));
            }
            Ok(_) => {}
            // The next file of that name is not the one that the administrator means.
            Err(error) if is_called(&bytes, name) => return Err(error),
            Err(error) => unreadable.push(error),
        }
    }
    Err(Error::NoNetwork { dir: dir.to_owned(), name: name.to_owned(), unreadable })
}

/// All networks in the order in which they are looked for, and the files that cannot be read.
pub fn list(dir: &Path) -> Result<(Vec<Found>, Vec<Error>)> {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for file in files(dir)? {
        match read(&file).and_then(|bytes| load(&file, &bytes)) {
            Ok(network) => found.push(Found { network, file }),
            Err(error) => unreadable.push(error),
        }
    }
    Ok((found, unreadable))
}

/// Reads a network from the bytes of its file, and its plugins from its own directory.
fn load(file: &Path, bytes: &[u8]) -> Result<NetworkList> {
    let in_file = |error| Error::File { file: file.to_owned(), cause: Box::new(error) };
    if !is_list(file) {
        return NetworkList::from_single(bytes).map_err(in_file);
    }
    let network = NetworkList::parse(bytes).map_err(in_file)?;
    let mut further = Vec::new();
    // Any other name could lead out of the directory, and is refused when it is used.
    if !network.load_only_inlined_plugins && is_identifier(&network.name) {
        for file in files_with(&["conf"], &file.with_file_name(&network.name))? {
            let plugin = PluginConfig::parse(&read(&file)?);
            let in_file = |error| Error::File { file, cause: Box::new(error) };
            further.push(plugin.map_err(in_file)?.0);
        }
    }
    let network = network.with_plugins(further).map_err(in_file)?;
    network.require_plugins().map_err(in_file)?;
    Ok(network)
}

/// Whether a file that cannot be understood calls its network so.
fn is_called(bytes: &[u8], name: &str) -> bool {
    let document = json::parse(bytes).unwrap_or_default();
    json::member(&document, "name").and_then(Value::as_str) == Some(name)
}

fn is_list(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "conflist")
}

/// The files of a directory in the order in which networks are looked for.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = files_with(&["conflist", "conf", "json"], dir)?;
    files.sort_by_key(|file| !is_list(file));
    Ok(files)
}

/// What has one of these extensions in a directory, by name; none if there is no directory.
fn files_with(extensions: &[&str], dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Read { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let wanted = path
            .extension()
            .is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted));
        if wanted && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file, and nothing else: a pipe would be waited for without end.
fn read(file: &Path) -> Result<Vec<u8>> {
    let bytes = fs::metadata(file).and_then(|metadata| {
        if metadata.is_file() {
            fs::read(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    });
    bytes.map_err(|source| Error::Read { path: file.to_owned(), source })
}
