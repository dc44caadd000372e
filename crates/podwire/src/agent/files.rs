//! The files by which the agent speaks to runtimes, and to itself after a restart.
//!
//! Each comes into place as a whole, by a rename, and is written only if it says something else.

use std::fs;
use std::io;
use std::path::Path;

use fabric::agent::Ready;
use fabric::{Cluster, Config};

use crate::failure::{Exit, Failure, Result};
use crate::replace::replace;

/// What the source said last before the start; nothing if there is nothing that can be read.
pub(super) fn kept(config: &Config) -> Cluster {
    let text = fs::read_to_string(config.nodes_path()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Keeps what the source says.
pub(super) fn keep(config: &Config, cluster: &Cluster) -> io::Result<()> {
    write(&config.nodes_path(), &(serde_json::to_string(cluster)? + "\n"))
}

/// Tells runtimes that the node's network stands. What lets them make pods comes last.
pub(super) fn ready(config: &Config, ready: &Ready) -> io::Result<()> {
    let Ready { me, pod_networks, mtu } = ready;
    if let Some(path) = &config.cni.subnet_env {
        write(path, &fabric::flannel::subnet_env(me, pod_networks, *mtu))?;
    }
    write(&config.ready_path(), &format!("{mtu}\n"))?;
    if let Some(path) = config.conflist_path() {
        write(&path, &format!("{:#}\n", config.conflist(me, *mtu)))?;
    }
    Ok(())
}

/// Tells runtimes that it does not.
pub(super) fn unready(config: &Config) -> io::Result<()> {
    for path in config.conflist_path().into_iter().chain([config.ready_path()]) {
        remove(&path)?;
    }
    Ok(())
}

/// Removes all of them.
pub(super) fn remove_all(config: &Config) -> Result<()> {
    let mut paths = vec![config.ready_path(), config.nodes_path()];
    paths.extend(config.conflist_path());
    paths.extend(config.cni.subnet_env.clone());
    paths.push(super::serve::socket(config));
    for path in paths {
        remove(&path).map_err(|error| Failure::new(Exit::No, error.to_string()))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named("remove", path, &error)),
        _ => Ok(()),
    }
}

fn write(path: &Path, content: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|before| before == content) {
        return Ok(());
    }
    replace(path, content).map_err(|error| named("write", path, &error))
}

fn named(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}
