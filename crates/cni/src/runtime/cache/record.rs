//! The text of a file of the cache: the reference library's, member by member.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::Parameters;
use crate::{Attachment, json};

/// The mark of the format.
const KIND: &str = "cniCacheV1";

/// What is remembered of an attachment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The network.
    pub network: String,
    /// What its plugins were told.
    pub parameters: Parameters,
    /// The network's list as it was then.
    pub config: Vec<u8>,
    /// The last plugin's result; `None` if `ADD` is still at work, or was killed.
    pub result: Option<Value>,
}

/// What the cache holds under the name of an attachment.
#[derive(Debug)]
pub(in super::super) enum Kept {
    /// No file.
    Nothing,
    /// What `ADD` left.
    Record(Box<Record>),
    /// A file that was not written to its end: its `ADD` has not succeeded, or the machine lost its
    /// power since.
    Torn(String),
    /// A file of the attachment that cannot be understood.
    Strange(String),
    /// Something that is not the attachment's.
    Foreign(String),
}

impl Record {
    /// The text of its file.
    pub(super) fn text(&self) -> String {
        json::compact(&Wire::of(self))
    }
}

impl Kept {
    /// Understands the text of a file; without `expected` it is whoever's it says.
    pub(super) fn understand(
        bytes: &[u8],
        file: &str,
        expected: Option<(&str, &Attachment)>,
    ) -> Self {
        let members = match json::parse(bytes) {
            Ok(Value::Object(members)) => members,
            _ if bytes.is_empty() => return Kept::Torn("is empty".to_owned()),
            Ok(_) => return Kept::Torn("is not an object".to_owned()),
            Err(error) => return Kept::Torn(format!("is torn: {error}")),
        };
        let document = Value::Object(members);
        let kind = json::member(&document, "kind").cloned().unwrap_or_default();
        match (kind.as_str(), expected) {
            (Some(KIND), _) => {}
            // Before there was a format, the file was the result itself.
            (_, Some((network, attachment))) if kind.is_null() => {
                let parameters =
                    Parameters { attachment: attachment.clone(), ..Parameters::default() };
                let record = Record {
                    network: network.to_owned(),
                    parameters,
                    result: Some(document),
                    ..Record::default()
                };
                return Kept::Record(Box::new(record));
            }
            _ if kind.is_null() => return Kept::Strange("does not say whose it is".to_owned()),
            _ => return Kept::Strange(format!("has kind {kind}, which is not {KIND:?}")),
        }
        let record = json::from_value::<Wire>(&document).map_err(|error| error.to_string());
        match record.and_then(Wire::into_record) {
            Err(why) => Kept::Strange(why),
            Ok(record) if name(&record.network, &record.parameters.attachment) != file => {
                Kept::Foreign("is about an attachment of another name".to_owned())
            }
            Ok(record) => {
                let whose = (record.network.as_str(), &record.parameters.attachment);
                match expected {
                    Some(expected) if expected != whose => Kept::Foreign(format!(
                        "belongs to interface {:?} of container {:?} on network {:?}",
                        whose.1.ifname, whose.1.container_id, whose.0
                    )),
                    _ => Kept::Record(Box::new(record)),
                }
            }
        }
    }
}

/// The name of an attachment's file. It can be another's, too: both networks and containers may
/// have hyphens in their names.
pub(super) fn name(network: &str, attachment: &Attachment) -> String {
    format!("{network}-{}-{}", attachment.container_id, attachment.ifname)
}

/// The file's text, member by member as the reference library writes it.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Wire {
    kind: String,
    #[serde(rename = "containerId")]
    container_id: String,
    /// In base64.
    config: String,
    #[serde(rename = "ifName")]
    ifname: String,
    #[serde(rename = "networkName")]
    network: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(rename = "cniArgs", skip_serializing_if = "Vec::is_empty")]
    args: Vec<(String, String)>,
    #[serde(rename = "capabilityArgs", skip_serializing_if = "Map::is_empty")]
    capability_args: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    result: Map<String, Value>,
}

impl Wire {
    fn of(record: &Record) -> Self {
        let Record { network, parameters, config, result } = record;
        let netns = parameters.netns.as_deref().unwrap_or(Path::new(""));
        Wire {
            kind: KIND.to_owned(),
            container_id: parameters.attachment.container_id.clone(),
            config: STANDARD.encode(config),
            ifname: parameters.attachment.ifname.clone(),
            network: network.clone(),
            netns: netns.display().to_string(),
            args: parameters.args.clone(),
            capability_args: parameters.capability_args.clone(),
            result: result.as_ref().and_then(Value::as_object).cloned().unwrap_or_default(),
        }
    }

    fn into_record(self) -> Result<Record, String> {
        let config = STANDARD
            .decode(&self.config)
            .map_err(|error| format!("config: not base64: {error}"))?;
        let recorded = Some(self.netns.as_str()).filter(|path| !path.is_empty());
        let netns = recorded.or_else(|| sandbox(&self.result, &self.ifname)).map(PathBuf::from);
        let attachment = Attachment { container_id: self.container_id, ifname: self.ifname };
        let parameters = Parameters {
            attachment,
            netns,
            args: self.args,
            capability_args: self.capability_args,
        };
        let result = Some(self.result).filter(|members| !members.is_empty()).map(Value::Object);
        Ok(Record { network: self.network, parameters, config, result })
    }
}

/// Where a result has the interface: what runtimes of before 2024 wrote, such as containerd 1.6, has
/// the namespace nowhere else.
fn sandbox<'a>(result: &'a Map<String, Value>, ifname: &str) -> Option<&'a str> {
    let interfaces = result.get("interfaces")?.as_array()?;
    let own = interfaces.iter().filter(|interface| interface["name"] == ifname);
    let mut sandboxes = own.filter_map(|interface| interface["sandbox"].as_str());
    sandboxes.find(|path| !path.is_empty())
}
