//! What a node's own files say of its pods: who is attached, which addresses are reserved, which
//! configuration asked for it. Read, never written.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use kernel::NetnsId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A machine that runs pods: this one, or a node of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name; no two of a machine are called the same.
    pub name: String,
    /// The lab that it is of; `None` for the machine itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lab: Option<String>,
    /// Its own namespace; `None` if it is not there.
    pub namespace: Option<NetnsId>,
    /// What CNI runtimes remember.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// The directories of host-local.
    #[serde(default)]
    pub reservations: Vec<Reservations>,
    /// What runtimes read.
    #[serde(default)]
    pub configurations: Vec<Configuration>,
}

/// A container's attachment to a network, as a runtime remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The file that says so.
    pub file: PathBuf,
    /// The network's name.
    pub network: String,
    /// The container.
    pub container_id: String,
    /// The device in the container.
    pub ifname: String,
    /// The pod's namespace and name, where the runtime told the plugins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// Where the container's namespace was bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// Which namespace that is; `None` if there is none by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NetnsId>,
    /// The addresses that the plugins have given.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpNet>,
    /// The ports of the node that the runtime had mapped to the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// Whom the plugins' result tells the container to ask for names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<IpAddr>,
}

/// A port of a node that leads to a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// `tcp` or `udp`, or what else the runtime has written.
    pub protocol: String,
    /// The node's address that it is open at; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The node's port.
    pub host_port: u16,
    /// The container's.
    pub container_port: u16,
}

/// A pod's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct PodName {
    /// The namespace of Kubernetes; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

/// `default/nginx`, or the name alone where there is no namespace.
impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// One network's directory of host-local.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reservations {
    /// Where it is.
    pub directory: PathBuf,
    /// The network's name, which is the directory's.
    pub network: String,
    /// One file each.
    pub entries: Vec<Reservation>,
    /// The address that was given last, by the number of the range set.
    #[serde(default)]
    pub last: BTreeMap<usize, IpAddr>,
    /// The subnets that the configuration lets it give out.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub subnets: Vec<IpNet>,
}

/// A reserved address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// The address, which is the file's name.
    pub address: IpAddr,
    /// Who holds it.
    pub container_id: String,
    /// For which device; empty in files of old plugins.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ifname: String,
}

/// A network's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Configuration {
    /// Its file.
    pub file: PathBuf,
    /// The network's name.
    pub name: String,
    /// What it says.
    pub content: serde_json::Value,
}
