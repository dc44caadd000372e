//! What a plugin is asked to do: the environment and standard input, checked.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::environment::{given, missing};
use crate::version::Numbers;
use crate::{
    CniResult, Code, Environment, Error, NetworkConfig, Version, config, json, path, result,
};

/// One call of a plugin, valid in every respect that is common to all plugins.
///
/// CNI spec 1.1.0 section 2, "Execution Protocol".
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is asked; never [`Command::Version`].
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for `GC` and `STATUS`.
    pub container_id: String,
    /// `CNI_NETNS`; always there for `ADD` and `CHECK`.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`; empty for `GC` and `STATUS`.
    pub ifname: String,
    /// `CNI_ARGS` as it was given; plugins that use it read it with [`crate::args::Args`].
    pub args: String,
    /// The directories of `CNI_PATH`, for [`crate::path::find`].
    pub path: Vec<PathBuf>,
    /// Whether `CNI_NETNS_OVERRIDE` allows the netns to be the plugin's own.
    pub netns_override: bool,
    /// The bytes of standard input, which a delegate gets unchanged.
    pub stdin: Vec<u8>,
    /// The same as a document.
    pub document: Value,
    /// The version of the configuration, in which the result is printed.
    pub version: Version,
    /// The part of the configuration that all plugins share.
    pub network: NetworkConfig,
    environment: Environment,
}

impl Request {
    /// Checks a call in the order of the reference: environment, network name, command, version.
    ///
    /// `VERSION` is no request, since it has no configuration: the caller answers it before.
    pub fn parse(
        environment: &Environment,
        stdin: Vec<u8>,
        supported: &[Version],
    ) -> Result<Self, Error> {
        let command = environment.validate()?;
        let document = config::parse(&stdin)?;
        let command = command.ok_or_else(|| environment.unknown_command())?;
        let version = negotiate(command, &document, supported)?;
        let network = NetworkConfig::parse(&document)?;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Ok(Request {
            command,
            container_id: text(&environment.container_id),
            netns: given(&environment.netns).map(PathBuf::from),
            ifname: text(&environment.ifname),
            args: text(&environment.args),
            path: path::split(&text(&environment.path)),
            netns_override: environment.overrides_netns(),
            stdin,
            document,
            version,
            network,
            environment: environment.clone(),
        })
    }

    /// The plugin's own configuration. An error is text with the plugin's prefix and code 999,
    /// such as `failed to load netconf: mtu: invalid value "x": expected a whole number from 0 to 4294967295`.
    pub fn config<T: DeserializeOwned>(&self, prefix: &str) -> Result<T, Error> {
        json::from_value(&self.document)
            .map_err(|error| Error::internal(format_args!("{prefix}: {error}")))
    }

    /// The result of the plugin before this one in the list.
    pub fn prev_result(&self) -> Result<Option<CniResult>, Error> {
        let parse = |value| CniResult::parse_as(value, self.version);
        self.network.prev_result.as_ref().map(parse).transpose().map_err(|error: result::Error| {
            Error::internal(format_args!("could not parse prevResult: {error}"))
        })
    }

    /// The netns, where the command promises one.
    pub fn netns(&self) -> Result<&Path, Error> {
        self.netns.as_deref().ok_or_else(|| missing(&["CNI_NETNS"]))
    }

    /// The environment to call a delegate with.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The same call with another command, for a delegate that runs in this process.
    #[must_use]
    pub fn with_command(&self, command: Command) -> Self {
        let environment = self.environment.with_command(command);
        Request { command, environment, ..self.clone() }
    }
}

/// The commands of CNI spec 1.1.0 section 2, "CNI operations".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Add a container to a network, or apply changes.
    Add,
    /// Check that a container's networking is as expected.
    Check,
    /// Remove a container from a network, or undo changes.
    Del,
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Say whether `ADD` could be served.
    Status,
    /// Say which versions are supported.
    Version,
}

impl Command {
    /// All commands.
    pub const ALL: [Command; 6] = [
        Command::Add,
        Command::Check,
        Command::Del,
        Command::Gc,
        Command::Status,
        Command::Version,
    ];

    /// The value of `CNI_COMMAND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Check => "CHECK",
            Command::Del => "DEL",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    /// Whether the command is about one attachment, and so names container and interface.
    pub(crate) const fn is_about_attachment(self) -> bool {
        matches!(self, Command::Add | Command::Check | Command::Del)
    }

    /// The first version that has the command.
    const fn since(self) -> Version {
        match self {
            Command::Check => Version::V0_4_0,
            Command::Gc | Command::Status => Version::V1_1_0,
            Command::Add | Command::Del | Command::Version => Version::V0_1_0,
        }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The version of the configuration, if the command exists in it and the plugin speaks it.
fn negotiate(command: Command, document: &Value, supported: &[Version]) -> Result<Version, Error> {
    let text = config::version(document)?;
    let refused = |msg: String| Err(Error::new(Code::IncompatibleVersion, msg));
    if command.since() > Version::V0_1_0 {
        let asked: Numbers = text.parse().map_err(|error| Error::decode(format!("{error}")))?;
        if asked < command.since().numbers() {
            return refused(format!("config version does not allow {command}"));
        }
        if supported.iter().all(|version| version.numbers() < asked) {
            return refused(format!("plugin version does not allow {command}"));
        }
    }
    supported.iter().copied().find(|version| version.as_str() == text).ok_or_else(|| {
        let supported: Vec<_> = supported.iter().map(|version| format!("\"{version}\"")).collect();
        Error::new(Code::IncompatibleVersion, "incompatible CNI versions")
            .with_details(format!("config is {text:?}, plugin supports [{}]", supported.join(" ")))
    })
}
