//! What a container runtime does for one pod: a network's plugin file, called.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::exec::Patience;
use cni::runtime::{Cache, NetworkList, Parameters, Runtime};
use cni::{Command, Environment};
use net::Space;
use serde_json::{Map, Value};

use crate::{Error, Result, processes};

/// A plugin that takes longer is killed: a kubelet would not wait longer for a pod either.
const LIMIT: Duration = Duration::from_secs(60);

/// A call of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    /// The node's namespace, in which the plugin runs.
    pub space: Space,
    /// What is asked.
    pub command: Command,
    /// The network's list, as a person would write it; or as it will be, where an agent writes it.
    pub list: Value,
    /// The file that it is read from, where an agent writes it.
    pub file: Option<PathBuf>,
    /// The directory in which it and its delegates are found: `CNI_PATH`.
    pub path: PathBuf,
    /// What it is told of the pod.
    pub parameters: Parameters,
    /// The directory in which attachments are remembered.
    pub cache: PathBuf,
    /// Why, in a sentence without subject.
    pub why: &'static str,
}

impl Invocation {
    /// Calls the plugin. `ADD` gives the result; other commands give nothing.
    pub fn run(&self, interrupted: &dyn Fn() -> bool) -> Result<Option<Value>> {
        let failed = |error| Error::of_runtime(error, &self.parameters.attachment.container_id);
        let list = self.list_now()?;
        let network = parse(&list).map_err(failed)?;
        let runtime = self.runtime(interrupted);
        let call = || match self.command {
            Command::Add => runtime.add(&network, &self.parameters).map(Some),
            Command::Check => runtime.check(&network, &self.parameters).map(|()| None),
            _ => runtime.del(&network, &self.parameters).map(|()| None),
        };
        processes::enter(&self.space, call)?.map_err(failed)
    }

    /// Whether the pod was attached, or at least begun to be.
    pub fn is_remembered(&self) -> bool {
        let network = self.list["name"].as_str().unwrap_or_default();
        let found = Cache::new(&self.cache).get(network, &self.parameters.attachment);
        matches!(found, Ok(Some(_)))
    }

    /// What the plugin says that it did, as a script with a sentence for each step; `None` from a
    /// plugin that does not explain itself.
    pub fn explanation(&self, result: &Value) -> Option<String> {
        let directory = Path::new(self.list["plugins"][0]["explainIn"].as_str()?);
        // It has the name of the cable's end on the node.
        let interfaces = result["interfaces"].as_array()?.iter();
        let names = interfaces.filter_map(|interface| interface["name"].as_str());
        let files = names.map(|name| directory.join(format!("{name}.sh")));
        files.into_iter().find_map(|file| fs::read_to_string(file).ok())
    }

    /// The `CNI_*` variables.
    pub fn environment(&self) -> Environment {
        self.runtime(&|| false).environment(self.command, &self.parameters)
    }

    /// The file name of the network's first plugin. Those that follow have nothing to do for a lab.
    pub(crate) fn plugin(&self) -> &str {
        self.list["plugins"][0]["type"].as_str().unwrap_or_default()
    }

    /// What that reads on standard input.
    pub(crate) fn config(&self) -> Value {
        let network = self.network().ok();
        let config = |network: &NetworkList| {
            Some(network.execution_config(network.plugins.first()?, &Map::new(), None))
        };
        network.as_ref().and_then(config).unwrap_or_default()
    }

    /// The list as the runtime finds it. A pod is only attached where the agent says that the node's
    /// network stands; it is also released where it does not say so any more.
    fn list_now(&self) -> Result<Value> {
        let Some(path) = &self.file else { return Ok(self.list.clone()) };
        match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text)
                .map_err(|source| Error::Record { path: path.clone(), source }),
            Err(_) if self.command != Command::Add => Ok(self.list.clone()),
            Err(error) => Err(Error::io("read", path, error)),
        }
    }

    fn network(&self) -> cni::runtime::Result<NetworkList> {
        parse(&self.list)
    }

    fn runtime<'a>(&self, interrupted: &'a dyn Fn() -> bool) -> Runtime<'a> {
        Runtime {
            plugin_dirs: vec![self.path.clone()],
            cache: Cache::new(&self.cache),
            patience: Patience { limit: LIMIT, interrupted },
        }
    }
}

fn parse(list: &Value) -> cni::runtime::Result<NetworkList> {
    NetworkList::parse(cni::json::compact(list).as_bytes())
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parameters { netns, attachment, .. } = &self.parameters;
        let netns = netns.as_deref().unwrap_or(Path::new("")).display();
        let ifname = &attachment.ifname;
        write!(f, "{} {}, CNI_NETNS={netns} CNI_IFNAME={ifname}", self.plugin(), self.command)
    }
}
