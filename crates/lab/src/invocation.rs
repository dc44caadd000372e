//! One call of a CNI plugin file, as a container runtime makes it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::{Command, Environment};
use kernel::Netns;
use net::Space;
use serde_json::Value;

use crate::{Error, Result, script};

/// A plugin that takes longer is killed: a kubelet would not wait longer for a pod either.
const LIMIT: Duration = Duration::from_secs(60);

/// A call of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    /// The node's namespace, in which the plugin runs.
    pub space: Space,
    /// What is asked.
    pub command: Command,
    /// The plugin's file name.
    pub plugin: String,
    /// The directory in which it and its delegates are found: `CNI_PATH`.
    pub path: PathBuf,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`.
    pub netns: PathBuf,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// What it reads on standard input.
    pub config: Value,
    /// Where the result of `ADD` is kept.
    pub result: PathBuf,
    /// Why, in a sentence without subject.
    pub why: &'static str,
}

impl Invocation {
    /// Calls the plugin. The result of `ADD` is kept and returned; other commands return nothing,
    /// and are told the result that was kept.
    pub fn run(&self) -> Result<Option<Value>> {
        let fail = |error: cni::Error| Error::Plugin {
            command: self.command.as_str(),
            plugin: self.plugin.clone(),
            container_id: self.container_id.clone(),
            error: Box::new(error),
        };
        let program =
            cni::path::find(&self.plugin, std::slice::from_ref(&self.path)).map_err(fail)?;
        let mut config = self.config.clone();
        if self.command != Command::Add
            && let Ok(text) = fs::read(&self.result)
            && let Ok(result) = cni::json::parse(&text)
        {
            config["prevResult"] = result;
        }
        let stdin = cni::json::compact(&config);
        let call = || cni::exec::run(&program, &self.environment(), stdin.as_bytes(), Some(LIMIT));
        let answer = match &self.space {
            Space::Here => call(),
            Space::At(path) => Netns::open(path)?.enter(call)?,
        };
        let answer = answer.map_err(fail)?;
        if self.command != Command::Add {
            return Ok(None);
        }
        fs::write(&self.result, &answer)
            .map_err(|source| Error::io("write", &self.result, source))?;
        let result = cni::json::parse(&answer);
        result.map(Some).map_err(|error| fail(cni::Error::internal(error)))
    }

    /// What the plugin says that it did, as a script with a sentence for each step; `None` from a
    /// plugin that does not explain itself.
    pub fn explanation(&self) -> Option<String> {
        let directory = Path::new(self.config["explainIn"].as_str()?);
        let result = cni::json::parse(&fs::read(&self.result).ok()?).ok()?;
        // It has the name of the cable's end on the node.
        let interfaces = result["interfaces"].as_array()?.iter();
        let names = interfaces.filter_map(|interface| interface["name"].as_str());
        let files = names.map(|name| directory.join(format!("{name}.sh")));
        files.into_iter().find_map(|file| fs::read_to_string(file).ok())
    }

    /// The same call in the words of a shell.
    pub fn shell(&self) -> String {
        script::call(self)
    }

    /// The `CNI_*` variables.
    pub fn environment(&self) -> Environment {
        let text = |path: &Path| Some(path.display().to_string());
        Environment {
            command: Some(self.command.as_str().to_owned()),
            container_id: Some(self.container_id.clone()),
            netns: text(&self.netns),
            ifname: Some(self.ifname.clone()),
            path: text(&self.path),
            ..Environment::default()
        }
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, plugin, netns, ifname, .. } = self;
        write!(
            f,
            "{plugin} {}, CNI_NETNS={} CNI_IFNAME={ifname}",
            command.as_str(),
            netns.display()
        )
    }
}
