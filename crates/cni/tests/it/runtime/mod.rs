//! The runtime with plugins that are shell scripts and do as they are told, and with real ones.

mod attach;
mod cache;
mod collect;
mod go;
mod loading;
mod misbehaving;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::Attachment;
use cni::exec::Patience;
use cni::runtime::{Cache, NetworkList, Parameters, Runtime};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a plugin may take in tests that are not about that.
const PATIENCE: Patience<'static> =
    Patience { limit: Duration::from_secs(100), interrupted: &|| false };

/// Plugins, a cache, and what the plugins were told.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(world.path("bin")).unwrap();
        fs::create_dir(world.path("log")).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A plugin that writes down each call and answers what `script` does for `$CNI_COMMAND`.
    fn plugin(&self, name: &str, script: &str) -> &Self {
        let log = self.path("log");
        let log = log.display();
        let text = format!(
            "#!/bin/sh\necho \"$CNI_COMMAND {name}\" >>{log}/calls\n\
             cat >{log}/{name}.$CNI_COMMAND\nenv | grep ^CNI_ >{log}/{name}.$CNI_COMMAND.env\n{script}\n"
        );
        let file = self.path("bin").join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// A plugin that adds an address of its own.
    fn adder(&self, name: &str, address: &str) -> &Self {
        let result = json!({ "cniVersion": "1.0.0", "ips": [{ "address": address }] });
        self.plugin(name, &format!("if [ $CNI_COMMAND = ADD ]; then echo '{result}'; fi"))
    }

    fn runtime(&self) -> Runtime<'static> {
        Runtime {
            plugin_dirs: vec![self.path("no-such-directory"), self.path("bin")],
            cache: Cache::new(self.path("cache")),
            patience: PATIENCE,
        }
    }

    /// The calls since the last time somebody asked, such as `ADD first`.
    fn calls(&self) -> Vec<String> {
        let file = self.path("log/calls");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(&file);
        text.lines().map(str::to_owned).collect()
    }

    /// What a plugin read on standard input.
    fn told(&self, plugin: &str, command: &str) -> Value {
        let text = fs::read(self.path("log").join(format!("{plugin}.{command}"))).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// The `CNI_*` variables that a plugin had.
    fn variables(&self, plugin: &str, command: &str) -> Vec<String> {
        let file = self.path("log").join(format!("{plugin}.{command}.env"));
        let mut lines: Vec<_> =
            fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The files of the cache.
    fn cached(&self) -> Vec<String> {
        names(&self.path("cache/results"))
    }
}

/// Asks every plugin whether it speaks the network's version.
fn validate(runtime: &Runtime<'_>, network: &NetworkList) -> Vec<cni::runtime::Result<()>> {
    let asked = network.plugins.iter().map(|plugin| {
        let versions = runtime.versions(network, plugin)?;
        network.require_version(plugin, &versions)
    });
    asked.collect()
}

/// The names in a directory; none if there is no directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A list of plugins of these types.
fn network(version: &str, types: &[&str]) -> NetworkList {
    let plugins: Vec<_> = types.iter().map(|it| json!({ "type": it })).collect();
    list(&json!({ "cniVersion": version, "name": "net", "plugins": plugins }))
}

fn list(document: &Value) -> NetworkList {
    NetworkList::parse(document.to_string().as_bytes()).unwrap()
}

/// Container `id` with `eth0`.
fn pod(id: &str) -> Parameters {
    Parameters {
        attachment: attachment(id, "eth0"),
        netns: Some("/run/netns/pod".into()),
        ..Parameters::default()
    }
}

fn attachment(container_id: &str, ifname: &str) -> Attachment {
    Attachment { container_id: container_id.to_owned(), ifname: ifname.to_owned() }
}
