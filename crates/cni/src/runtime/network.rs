//! A network configuration as an administrator writes it: a list of plugins.
//!
//! CNI spec 1.1.0 section 1, "Network configuration format". The keys of the list itself match by
//! their exact case, as in the reference library; those of the plugins whatever their case.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Error, Result};
use crate::version::Numbers;
use crate::{NetworkConfig, Version, json};

/// A network: the plugins that are called for each attachment, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkList {
    /// Its name, which is checked only when it is used.
    pub name: String,
    /// The version that its plugins are spoken to in, as it was written; empty means 0.1.0. A
    /// version that nobody has published is for the plugins to refuse.
    pub version: String,
    /// `CHECK` is not for this network.
    pub disable_check: bool,
    /// `GC` is not for this network.
    pub disable_gc: bool,
    /// The plugins are all in the list; none are in the network's own directory.
    pub load_only_inlined_plugins: bool,
    /// The plugins in the order of `ADD`.
    pub plugins: Vec<PluginConfig>,
    /// The list as the cache keeps it: the bytes of its file, or a list with all of its plugins.
    pub bytes: Vec<u8>,
}

/// A plugin of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// `type`: the file name of the plugin.
    pub plugin_type: String,
    /// `name`, which a plugin in a list seldom has.
    pub name: String,
    /// `cniVersion` of a single configuration; a list has its own.
    version: String,
    /// The capabilities that it declares to have.
    pub capabilities: Vec<String>,
    /// All of it, without `capabilities`, which is for the runtime alone.
    document: Map<String, Value>,
}

impl NetworkList {
    /// Reads a list. It may have no plugins, because more may be in the network's own directory.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let list = List::parse(bytes)?;
        let Some(Value::String(name)) = list.0.get("name") else {
            return Err(match list.0.get("name") {
                None => List::error("no name"),
                Some(other) => List::wrong_type("invalid name type", other, "a string"),
            });
        };
        let version = list.version()?;
        let disable_check = list.flag("disableCheck")?;
        let disable_gc = list.flag("disableGC")?;
        let load_only_inlined_plugins = list.flag("loadOnlyInlinedPlugins")?;
        let plugins = match list.0.get("plugins") {
            None if load_only_inlined_plugins => {
                let what = "`loadOnlyInlinedPlugins` is true, and no 'plugins' key";
                return Err(List::error(what));
            }
            None => Vec::new(),
            Some(Value::Array(plugins)) if plugins.is_empty() => {
                return Err(List::error("no plugins in list"));
            }
            Some(Value::Array(plugins)) => plugins
                .iter()
                .enumerate()
                .map(|(index, plugin)| {
                    let context = |why| format!("failed to parse plugin config {index}: {why}");
                    PluginConfig::of(plugin).map_err(|why| Error::Configuration(context(why)))
                })
                .collect::<Result<_>>()?,
            Some(other) => {
                return Err(List::wrong_type("invalid 'plugins' type", other, "a list"));
            }
        };
        Ok(NetworkList {
            name: name.clone(),
            version,
            disable_check,
            disable_gc,
            load_only_inlined_plugins,
            plugins,
            bytes: bytes.to_owned(),
        })
    }

    /// The list of one plugin that a single configuration is: the format from before 1.0.0.
    pub fn from_single(bytes: &[u8]) -> Result<Self> {
        let (document, plugin) = PluginConfig::parse(bytes)?;
        let list = serde_json::json!({
            "name": plugin.name,
            "cniVersion": plugin.version,
            "plugins": [document],
        });
        Self::parse(json::compact(&list).as_bytes())
    }

    /// The same with more plugins, which were in files of their own.
    pub(super) fn with_plugins(self, further: Vec<Value>) -> Result<Self> {
        if further.is_empty() {
            return Ok(self);
        }
        // It was an object before.
        let mut list = json::parse(&self.bytes).unwrap_or_default();
        let plugins = list["plugins"].as_array().cloned().unwrap_or_default();
        list["plugins"] = plugins.into_iter().chain(further).collect();
        list["loadOnlyInlinedPlugins"] = true.into();
        Self::parse(json::compact(&list).as_bytes())
    }

    /// What a plugin is told on standard input. CNI spec 1.1.0 section 3, "Deriving execution
    /// configuration from plugin configuration".
    pub fn execution_config(
        &self,
        plugin: &PluginConfig,
        capability_args: &Map<String, Value>,
        prev_result: Option<&Value>,
    ) -> Value {
        let given = |it: &String| Some((it.clone(), capability_args.get(it)?.clone()));
        let runtime_config: Map<_, _> = plugin.capabilities.iter().filter_map(given).collect();
        let runtime_config = Some(runtime_config).filter(|members| !members.is_empty());
        let injected = [
            ("cniVersion", Some(self.version.as_str().into())),
            ("name", Some(self.name.as_str().into())),
            ("prevResult", prev_result.cloned()),
            ("runtimeConfig", runtime_config.map(Value::Object)),
        ];
        let injected = injected.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let mut config: Map<_, _> = injected.map(|(key, value)| (key.to_owned(), value)).collect();
        for (key, value) in &plugin.document {
            if !config.keys().any(|injected| json::same_key(key, injected)) {
                config.insert(key.clone(), value.clone());
            }
        }
        config.into()
    }

    /// Refuses a network that nobody could attach to.
    pub(super) fn require_plugins(&self) -> Result<()> {
        match self.plugins.is_empty() {
            false => Ok(()),
            true => Err(Error::Configuration("no plugin configs found".to_owned())),
        }
    }

    /// Refuses a plugin that speaks these versions, and not the network's.
    pub fn require_version(&self, plugin: &PluginConfig, supported: &[String]) -> Result<()> {
        let version = match self.version.as_str() {
            "" => Version::V0_1_0.as_str(),
            version => version,
        };
        if supported.iter().any(|it| it == version) {
            return Ok(());
        }
        let (plugin, version) = (plugin.plugin_type.clone(), version.to_owned());
        Err(Error::UnsupportedVersion { plugin, version, supported: supported.to_owned() })
    }

    /// Whether its version has `STATUS`, and `GC`, which came with it.
    pub fn has_status(&self) -> bool {
        self.is_since(Version::V1_1_0).unwrap_or_default()
    }

    /// Whether its version has what came with `version`. The error is about the network's.
    pub(super) fn is_since(&self, version: Version) -> Result<bool> {
        let numbers: Numbers =
            self.version.parse().map_err(|error| Error::Configuration(format!("{error}")))?;
        Ok(numbers >= version.numbers())
    }
}

impl PluginConfig {
    /// Reads the configuration of one plugin, as a file of its own holds it: as it is written, and
    /// as it is understood.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Value, Self)> {
        let failed = |error| Error::Configuration(format!("error parsing configuration: {error}"));
        let document = json::parse(bytes).map_err(failed)?;
        let plugin = Self::of(&document).map_err(Error::Configuration)?;
        Ok((document, plugin))
    }

    fn of(document: &Value) -> Result<Self, String> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Capabilities {
            capabilities: BTreeMap<String, Option<bool>>,
        }
        let text = |error: json::Error| format!("error parsing configuration: {error}");
        let common: NetworkConfig = json::from_value(document).map_err(text)?;
        let Capabilities { capabilities } = json::from_value(document).map_err(text)?;
        if common.plugin_type.is_empty() {
            return Err("error parsing configuration: missing 'type'".to_owned());
        }
        let declared = capabilities.into_iter().filter(|(_, is_there)| *is_there == Some(true));
        let mut members = document.as_object().cloned().unwrap_or_default();
        members.retain(|key, _| !json::same_key(key, "capabilities"));
        Ok(PluginConfig {
            plugin_type: common.plugin_type,
            name: common.name,
            version: common.cni_version,
            capabilities: declared.map(|(name, _)| name).collect(),
            document: members,
        })
    }
}

/// The top level of a list.
struct List(Map<String, Value>);

impl List {
    fn parse(bytes: &[u8]) -> Result<Self> {
        match json::parse(bytes).map_err(Self::error)? {
            Value::Object(members) => Ok(Self(members)),
            Value::Null => Ok(Self(Map::new())),
            other => Err(Self::wrong_type("invalid type", &other, "an object")),
        }
    }

    /// The newest version of `cniVersions` and `cniVersion` that podwire speaks, or `cniVersion`.
    fn version(&self) -> Result<String> {
        let single = match self.0.get("cniVersion") {
            None => "",
            Some(Value::String(version)) => version,
            Some(other) => {
                return Err(Self::wrong_type("invalid cniVersion type", other, "a string"));
            }
        };
        let listed = match self.0.get("cniVersions") {
            None => return Ok(single.to_owned()),
            Some(Value::Array(versions)) => versions,
            Some(other) => {
                return Err(Self::wrong_type("invalid type for cniVersions:", other, "a list"));
            }
        };
        let mut candidates: Vec<(Numbers, &str)> = Vec::new();
        for (index, version) in listed.iter().enumerate() {
            let Value::String(version) = version else {
                let what = format!("invalid type for cniVersions index {index}:");
                return Err(Self::wrong_type(&what, version, "a string"));
            };
            let numbers = version.parse().map_err(|error| {
                Self::error(format!(
                    "invalid cniVersions entry {version} at index {index}: {error}"
                ))
            })?;
            candidates.push((numbers, version));
        }
        if !single.is_empty() {
            let numbers = single
                .parse()
                .map_err(|error| Self::error(format!("invalid cniVersion {single}: {error}")))?;
            candidates.push((numbers, single));
        }
        candidates.retain(|(numbers, _)| *numbers <= Version::LATEST.numbers());
        let newest = candidates.into_iter().max_by_key(|(numbers, _)| *numbers);
        Ok(newest.map_or(single, |(_, version)| version).to_owned())
    }

    fn flag(&self, key: &str) -> Result<bool> {
        match self.0.get(key) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::String(text)) => match text.to_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                text => {
                    let what = format!("invalid value {text:?} for {key}: expected true or false");
                    Err(Self::error(what))
                }
            },
            Some(other) => {
                let found = go_type(other);
                Err(Self::error(format!("invalid type {found} for {key}: expected true or false")))
            }
        }
    }

    fn wrong_type(what: &str, found: &Value, expected: &str) -> Error {
        Self::error(format!("{what} {}: expected {expected}", go_type(found)))
    }

    fn error(what: impl std::fmt::Display) -> Error {
        Error::Configuration(format!("error parsing configuration list: {what}"))
    }
}

/// What the reference library calls the type of a value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
