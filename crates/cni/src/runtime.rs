//! What a container runtime does with plugins: finds a network's configuration, calls its plugins in
//! order, remembers the result, and takes back what was done by halves.
//!
//! CNI spec 1.1.0 section 3, "Execution of Network Configurations"; the files and texts are those of
//! the reference library. Plugins run in the network namespace of the calling thread, which is the
//! caller's to choose. Files are touched only below the directories that are given.

pub mod cache;
pub mod directory;
mod error;
mod network;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::cache::Held;
use self::cache::record::Kept;
pub use self::cache::{Cache, Record, Unusable};
pub use self::error::{Error, Result};
pub use self::network::{NetworkList, PluginConfig};
use crate::environment::{validate_container_id, validate_ifname};
use crate::exec::{self, Failure, Patience};
use crate::{
    Attachment, CniResult, Command, Environment, Version, config, hash, json as dialect, path,
    result, version,
};

/// A runtime: where the plugins are, what is remembered, and how long a plugin may take.
#[derive(Clone)]
pub struct Runtime<'a> {
    /// The directories in which plugins are found: `CNI_PATH`.
    pub plugin_dirs: Vec<PathBuf>,
    /// What is remembered of attachments.
    pub cache: Cache,
    /// How long each call of a plugin may take.
    pub patience: Patience<'a>,
}

/// What a plugin is told of an attachment. CNI spec 1.1.0 section 3, "Attachment Parameters".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// Container and interface.
    pub attachment: Attachment,
    /// The path of the container's network namespace, which only `DEL` can do without.
    pub netns: Option<PathBuf>,
    /// Generic arguments: the pairs of `CNI_ARGS`.
    pub args: Vec<(String, String)>,
    /// Capability arguments: `runtimeConfig`, for the plugins that declare them.
    pub capability_args: Map<String, Value>,
}

/// What `GC` did.
#[derive(Debug, Default)]
pub struct Collected {
    /// The attachments that were remembered, not valid, and deleted.
    pub deleted: Vec<Attachment>,
    /// The files of the cache that may be about the network and cannot be understood. `DEL` of
    /// their attachments removes them.
    pub unusable: Vec<Unusable>,
    /// What could not be done; all else was.
    pub failures: Vec<Error>,
}

impl Runtime<'_> {
    /// Attaches a container, or changes nothing: if a plugin fails, `DEL` takes back what was done,
    /// last plugin first, the one that failed included. Gives the last plugin's result, in the
    /// network's version.
    ///
    /// What is taken back is whatever has the interface's name, so the caller makes sure that the
    /// container has no such interface before. An `ADD` of the same attachment that was killed is
    /// taken back first.
    pub fn add(&self, network: &NetworkList, parameters: &Parameters) -> Result<Value> {
        // Before anything is done, so that nothing has to be taken back.
        for plugin in &network.plugins {
            self.find(network, plugin, Command::Add)?;
        }
        require_valid(network, parameters)?;
        let mut record = Record {
            network: network.name.clone(),
            parameters: parameters.clone(),
            config: network.bytes.clone(),
            result: None,
        };
        let _held = self.begin(network, &record)?;
        for (index, plugin) in network.plugins.iter().enumerate() {
            match self.add_one(network, plugin, parameters, record.result.as_ref()) {
                Ok(result) => record.result = Some(result),
                Err(cause) => return Err(self.undo(network, &record, index, cause)),
            }
            if (self.patience.interrupted)() {
                return Err(self.undo(network, &record, index, Error::Interrupted));
            }
        }
        let last = network.plugins.len().saturating_sub(1);
        match self.cache.finish(&record) {
            Ok(()) => Ok(record.result.unwrap_or_default()),
            Err(cause) => Err(self.undo(network, &record, last, cause)),
        }
    }

    /// Asks each plugin whether the attachment is as it was made.
    pub fn check(&self, network: &NetworkList, parameters: &Parameters) -> Result<()> {
        if !network.is_since(Version::V0_4_0)? {
            return Err(Error::NoCheck { version: network.version.clone() });
        }
        if network.disable_check {
            return Ok(());
        }
        require_valid(network, parameters)?;
        let (name, attachment) = (network.name.clone(), parameters.attachment.clone());
        let path = self.cache.path(&name, &attachment);
        let useless = |why| Error::Cached { network: name.clone(), path: path.clone(), why };
        let record = match self.cache.read(&name, &attachment)? {
            Kept::Record(record) => record,
            Kept::Nothing => {
                return Err(Error::NotAttached { network: name, attachment, path });
            }
            Kept::Torn(why) | Kept::Strange(why) | Kept::Foreign(why) => {
                return Err(useless(why));
            }
        };
        let result = record
            .result_for(network)
            .transpose()
            .unwrap_or_else(|| Err("its ADD was never finished".to_owned()))
            .map_err(useless)?;
        let parameters = parameters.completed(&record);
        for plugin in &network.plugins {
            self.call(network, plugin, Command::Check, &parameters, Some(&result))?;
        }
        Ok(())
    }

    /// Detaches a container, last plugin first, and forgets it. What the parameters leave out is as
    /// it was for `ADD`, if that is remembered. Nothing remembered, or nothing that can be
    /// understood, is no failure.
    pub fn del(&self, network: &NetworkList, parameters: &Parameters) -> Result<()> {
        require_valid(network, parameters)?;
        let attachment = &parameters.attachment;
        let (kept, _held) = self.cache.hold(&network.name, attachment, self.patience)?;
        self.detach(network, parameters, &kept)
    }

    /// Detaches a container of which this is remembered.
    fn detach(&self, network: &NetworkList, parameters: &Parameters, kept: &Kept) -> Result<()> {
        let has_prev_result = network.is_since(Version::V0_4_0)?;
        let (parameters, result) = match kept {
            Kept::Record(record) => {
                // One that is of no use is as good as none.
                let result = record.result_for(network).unwrap_or_default();
                (parameters.completed(record), result.filter(|_| has_prev_result))
            }
            _ => (parameters.clone(), None),
        };
        for plugin in network.plugins.iter().rev() {
            self.call(network, plugin, Command::Del, &parameters, result.as_ref())?;
        }
        match kept {
            Kept::Nothing | Kept::Foreign(_) => Ok(()),
            _ => self.cache.forget(&network.name, &parameters.attachment),
        }
    }

    /// Deletes the attachments that are remembered and not valid, and has each plugin remove what
    /// belongs to no valid one. `valid` is the whole truth: of an empty list, nothing stays.
    pub fn gc(&self, network: &NetworkList, valid: &[Attachment]) -> Result<Collected> {
        let mut collected = Collected::default();
        if network.disable_gc {
            return Ok(collected);
        }
        let (records, unusable) = self.cache.list()?;
        let may_be_ours = |it: &Unusable| !it.candidates(&network.name).is_empty();
        collected.unusable = unusable.into_iter().filter(may_be_ours).collect();
        let ours = records.into_iter().filter(|record| record.network == network.name);
        for record in ours.filter(|record| !valid.contains(&record.parameters.attachment)) {
            match self.del(network, &record.parameters) {
                Ok(()) => collected.deleted.push(record.parameters.attachment),
                Err(error) => {
                    let attachment = record.parameters.attachment;
                    collected.failures.push(Error::Stale { attachment, cause: Box::new(error) });
                }
            }
        }
        if network.has_status() {
            let list: Vec<Value> = valid
                .iter()
                .map(|it| json!({ "containerID": it.container_id, "ifname": it.ifname }))
                .collect();
            for plugin in &network.plugins {
                let mut config = network.execution_config(plugin, &Map::new(), None);
                for key in config::VALID_ATTACHMENTS {
                    config[key] = list.clone().into();
                }
                let nobody = Parameters::default();
                let done = self.run(network, plugin, Command::Gc, &nobody, &config);
                collected.failures.extend(done.err());
            }
        }
        Ok(collected)
    }

    /// Asks the plugins whether they could serve `ADD`. Before 1.1.0 there is no such question, and
    /// all that is asked is whether there are such plugins.
    pub fn status(&self, network: &NetworkList) -> Result<()> {
        for plugin in &network.plugins {
            if network.has_status() {
                self.call(network, plugin, Command::Status, &Parameters::default(), None)?;
            } else {
                self.find(network, plugin, Command::Status)?;
            }
        }
        Ok(())
    }

    /// The versions that a plugin speaks, as it writes them.
    pub fn versions(&self, network: &NetworkList, plugin: &PluginConfig) -> Result<Vec<String>> {
        let program = self.find(network, plugin, Command::Version)?;
        exec::version(&program, Some(self.patience))
            .map_err(|failure| failed(network, plugin, Command::Version, failure))
    }

    /// The `CNI_*` variables of a call.
    pub fn environment(&self, command: Command, parameters: &Parameters) -> Environment {
        let Parameters { attachment, netns, args, .. } = parameters;
        let args: Vec<_> = args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let path = |path: &PathBuf| path.display().to_string();
        let dirs: Vec<String> = self.plugin_dirs.iter().map(path).collect();
        Environment {
            command: Some(command.as_str().to_owned()),
            container_id: Some(attachment.container_id.clone()),
            netns: Some(netns.as_ref().map(path).unwrap_or_default()),
            ifname: Some(attachment.ifname.clone()),
            args: Some(args.join(";")),
            path: Some(dirs.join(":")),
            netns_override: None,
        }
    }

    /// Remembers an attachment and holds it. What a killed `ADD` of it has left is taken back, with
    /// the configuration and the parameters that it had.
    fn begin(&self, network: &NetworkList, record: &Record) -> Result<Held> {
        let attachment = &record.parameters.attachment;
        let at_once = Patience { limit: Duration::ZERO, ..self.patience };
        if let (Kept::Record(left), Some(_held)) =
            self.cache.hold(&network.name, attachment, at_once)?
            && left.result.is_none()
        {
            let was = NetworkList::parse(&left.config).unwrap_or_else(|_| network.clone());
            let parameters = left.parameters.clone();
            self.detach(&was, &parameters, &Kept::Record(left))?;
        }
        self.cache.begin(record)
    }

    fn add_one(
        &self,
        network: &NetworkList,
        plugin: &PluginConfig,
        parameters: &Parameters,
        prev_result: Option<&Value>,
    ) -> Result<Value> {
        let config = network.execution_config(plugin, &parameters.capability_args, prev_result);
        let output = self.run(network, plugin, Command::Add, parameters, &config)?;
        let result = exec::result(&output);
        result
            .and_then(|result| Ok(in_version(&result, &network.version, &network.version)?))
            .map_err(|failure| failed(network, plugin, Command::Add, failure))
    }

    /// Takes back what `ADD` did up to the plugin at `tried`, and forgets it. What fails on the way
    /// is told beside the first failure and stops nothing.
    fn undo(&self, network: &NetworkList, record: &Record, tried: usize, cause: Error) -> Error {
        // One that was not even started did nothing.
        let started =
            !matches!(&cause, Error::Plugin { failure, .. } if failure.is_before_the_start());
        let tried = network.plugins.iter().take(if started { tried + 1 } else { tried });
        let knows = network.is_since(Version::V0_4_0).unwrap_or_default();
        let result = record.result.as_ref().filter(|_| knows);
        // Who has asked to stop has not asked to leave it half undone.
        let patience = Patience { interrupted: &|| false, ..self.patience };
        let runtime = Runtime { patience, ..self.clone() };
        let parameters = &record.parameters;
        let mut left: Vec<Error> = tried
            .rev()
            .filter_map(|plugin| {
                runtime.call(network, plugin, Command::Del, parameters, result).err()
            })
            .collect();
        left.extend(self.cache.forget(&network.name, &parameters.attachment).err());
        Error::Undone { cause: Box::new(cause), left }
    }

    /// Calls a plugin for what answers nothing.
    fn call(
        &self,
        network: &NetworkList,
        plugin: &PluginConfig,
        command: Command,
        parameters: &Parameters,
        prev_result: Option<&Value>,
    ) -> Result<()> {
        let config = network.execution_config(plugin, &parameters.capability_args, prev_result);
        self.run(network, plugin, command, parameters, &config).map(drop)
    }

    fn run(
        &self,
        network: &NetworkList,
        plugin: &PluginConfig,
        command: Command,
        parameters: &Parameters,
        config: &Value,
    ) -> Result<Vec<u8>> {
        let program = self.find(network, plugin, command)?;
        let environment = self.environment(command, parameters);
        let stdin = dialect::compact(config);
        exec::run(&program, &environment, stdin.as_bytes(), Some(self.patience))
            .map_err(|failure| failed(network, plugin, command, failure))
    }

    fn find(
        &self,
        network: &NetworkList,
        plugin: &PluginConfig,
        command: Command,
    ) -> Result<PathBuf> {
        path::find(&plugin.plugin_type, &self.plugin_dirs)
            .map_err(|error| failed(network, plugin, command, Failure::Missing(error)))
    }
}

impl Parameters {
    /// The same with what `ADD` was told where nothing is said.
    fn completed(&self, record: &Record) -> Self {
        let was = &record.parameters;
        let args = if self.args.is_empty() { &was.args } else { &self.args };
        let own = &self.capability_args;
        let capability_args = if own.is_empty() { &was.capability_args } else { own };
        Parameters {
            attachment: self.attachment.clone(),
            netns: self.netns.clone().or_else(|| was.netns.clone()),
            args: args.clone(),
            capability_args: capability_args.clone(),
        }
    }
}

impl Record {
    /// The result in a network's version; `None` if there is none yet.
    fn result_for(&self, network: &NetworkList) -> Result<Option<Value>, String> {
        let convert = |result: &Value| {
            in_version(result, "", &network.version).map_err(|error| {
                let version = &network.version;
                format!("failed to convert cached result to config version {version:?}: {error}")
            })
        };
        self.result.as_ref().map(convert).transpose()
    }
}

/// The container's identifier that `cnitool` makes of the path of a network namespace, so that each
/// finds what the other attached. The path is absolute.
pub fn container_id(netns: &Path) -> String {
    const PREFIX: &str = "cnitool-";
    const HASH: usize = 20;
    hash::prefixed(PREFIX.len() + HASH, PREFIX, &netns.display().to_string())
}

/// Refuses a network without plugins, and what cannot be part of a file's name or of a plugin's
/// environment.
fn require_valid(network: &NetworkList, parameters: &Parameters) -> Result<()> {
    network.require_plugins()?;
    require_attachment(&parameters.attachment)?;
    let name = &network.name;
    config::validate_network_name(name).map_err(invalid("network name", name))
}

/// Refuses the names of a container and of an interface that cannot be any.
pub fn require_attachment(attachment: &Attachment) -> Result<()> {
    let Attachment { container_id, ifname } = attachment;
    let of_container = match container_id.as_str() {
        "" => Err(crate::Error::new(crate::Code::UnknownContainer, "missing containerID")),
        id => validate_container_id(id),
    };
    of_container.map_err(invalid("container ID", container_id))?;
    let of_interface = match ifname.as_str() {
        "" => Err(crate::Error::invalid_environment("interface name is empty")),
        name => validate_ifname(name),
    };
    of_interface.map_err(invalid("interface name", ifname))
}

fn invalid(what: &'static str, value: &str) -> impl FnOnce(crate::Error) -> Error {
    let value = value.to_owned();
    move |error| Error::Invalid { what, value, error }
}

/// A result in a version. It is in the version that it names, or in `assumed` if it names none. A
/// version that nobody has published leaves it in its own.
fn in_version(result: &Value, assumed: &str, wanted: &str) -> Result<Value, result::Error> {
    let own = version::named(result)?;
    let own = if own.is_empty() { assumed } else { &own };
    let parsed = CniResult::parse(result, own)?;
    let own: Version = own.parse().unwrap_or(Version::V0_1_0);
    let wanted = wanted.parse().unwrap_or(own);
    match parsed.to_value(wanted) {
        // Of the oldest versions, a plugin says so that it has nothing to say.
        Err(result::Error::NoIps) if own == wanted => {
            Ok(json!({ "cniVersion": wanted, "dns": parsed.dns }))
        }
        value => value,
    }
}

fn failed(
    network: &NetworkList,
    plugin: &PluginConfig,
    command: Command,
    failure: Failure,
) -> Error {
    let (network, name) = (network.name.clone(), plugin.name.clone());
    let (plugin, failure) = (plugin.plugin_type.clone(), Box::new(failure));
    Error::Plugin { network, plugin, name, command, failure }
}
