//! The part of a network configuration that all plugins share.

use serde::Deserialize;
use serde_json::Value;

use crate::environment::is_identifier;
use crate::{Dns, Error, Version, json, version};

/// The part of a configuration that all plugins share.
///
/// CNI spec 1.1.0 section 1, "Plugin configuration objects", and section 3 for what a runtime adds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NetworkConfig {
    /// `cniVersion` as it was written; [`Request::version`](crate::Request::version) is what it means.
    #[serde(rename = "cniVersion")]
    pub cni_version: String,
    /// `name`: the network.
    pub name: String,
    /// `type`: the plugin's file name.
    #[serde(rename = "type")]
    pub plugin_type: String,
    /// `ipam`: which plugin gives addresses.
    pub ipam: Ipam,
    /// `dns`: servers that the administrator has set.
    pub dns: Dns,
    /// `prevResult` as it was written, for [`Request::prev_result`](crate::Request::prev_result).
    #[serde(rename = "prevResult")]
    pub prev_result: Option<Value>,
    /// `runtimeConfig`: values for the plugin's capabilities.
    #[serde(rename = "runtimeConfig")]
    pub runtime_config: Option<Value>,
    /// `args`: values from the runtime or the administrator.
    pub args: Option<Value>,
    /// `cni.dev/valid-attachments`, or `cni.dev/attachments` if only that is there.
    #[serde(skip)]
    pub valid_attachments: ValidAttachments,
}

/// What a main plugin looks at in `ipam`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// `type`: the file name of the plugin that gives addresses; empty if there is none.
    #[serde(rename = "type")]
    pub plugin_type: String,
}

/// The attachments that a `GC` must keep. CNI spec 1.1.0 section 2, "GC".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ValidAttachments {
    /// The key is missing: nothing is known, so nothing may be removed.
    #[default]
    Missing,
    /// The key is `null`: none is valid.
    Null,
    /// The attachments that are valid; all others are not.
    List(Vec<Attachment>),
}

/// One interface of one container on the network that the configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// `containerID`.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `ifname`.
    pub ifname: String,
}

/// The keys of the attachments that are valid: the specification's, then the reference library's,
/// which is a misspelling that has stayed.
pub(crate) const VALID_ATTACHMENTS: [&str; 2] =
    ["cni.dev/valid-attachments", "cni.dev/attachments"];

impl ValidAttachments {
    /// The attachments that are valid, or `None` if that is not known.
    pub fn known(&self) -> Option<&[Attachment]> {
        match self {
            ValidAttachments::Missing => None,
            ValidAttachments::Null => Some(&[]),
            ValidAttachments::List(attachments) => Some(attachments),
        }
    }

    fn parse(document: &Value) -> Result<Self, json::Error> {
        let present = |key| json::member(document, key).map(|value| (key, value));
        match VALID_ATTACHMENTS.into_iter().find_map(present) {
            None => Ok(ValidAttachments::Missing),
            Some((_, Value::Null)) => Ok(ValidAttachments::Null),
            Some((key, list)) => json::from_value(list)
                .map(ValidAttachments::List)
                .map_err(|error| error.in_member(key)),
        }
    }
}

impl NetworkConfig {
    pub(crate) fn parse(document: &Value) -> Result<Self, Error> {
        let failed = |error| Error::internal(format_args!("failed to load netconf: {error}"));
        let config: NetworkConfig = json::from_value(document).map_err(failed)?;
        let valid_attachments = ValidAttachments::parse(document).map_err(failed)?;
        Ok(NetworkConfig { valid_attachments, ..config })
    }
}

/// Reads a document whose network has a valid name, which is what a plugin checks first.
pub(crate) fn parse(stdin: &[u8]) -> Result<Value, Error> {
    let document = json::parse(stdin).map_err(|error| not_a_config(&error))?;
    let config: NameOnly = json::from_value(&document).map_err(|error| not_a_config(&error))?;
    validate_network_name(&config.name)?;
    Ok(document)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NameOnly {
    name: String,
}

fn not_a_config(error: &json::Error) -> Error {
    Error::decode(format!("error unmarshall network config: {error}"))
}

pub(crate) fn validate_network_name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        Err(Error::invalid_config("missing network name"))
    } else if is_identifier(name) {
        Ok(())
    } else {
        let msg = "invalid characters found in network name";
        Err(Error::invalid_config(msg).with_details(name))
    }
}

/// `cniVersion` of a configuration; 0.1.0 where there is none.
pub(crate) fn version(document: &Value) -> Result<String, Error> {
    let named = version::named(document)
        .map_err(|error| Error::decode(format!("decoding version from network config: {error}")))?;
    Ok(if named.is_empty() { Version::V0_1_0.to_string() } else { named })
}
