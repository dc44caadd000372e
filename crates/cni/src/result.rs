//! What an `ADD` made, in every version's shape.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Version, fields, json, version};

mod wire;

/// The result of an attachment, in the shape of the newest version.
///
/// CNI spec 1.1.0 section 5, "ADD Success". It has no version of its own: it is read from any
/// version and printed in any other. Its serde form is the newest version's without `cniVersion`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CniResult {
    /// The interfaces that were made, on the host and in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// The addresses, each with the index of its interface.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpConfig>,
    /// The routes in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What resolvers may use.
    pub dns: Dns,
}

/// An interface of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address; empty if it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU; 0 if it is not said. Since 1.1.0.
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The netns path of the container, exactly as `CNI_NETNS` had it; empty on the host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// The path of a socket for interfaces outside the kernel. Since 1.1.0.
    #[serde(rename = "socketPath", skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// The identifier of a PCI device. Since 1.1.0.
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// The index of its interface in [`CniResult::interfaces`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// The address and its prefix length.
    #[serde(deserialize_with = "fields::cidr")]
    pub address: IpNet,
    /// The gateway of its subnet.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "fields::optional_ip"
    )]
    pub gateway: Option<IpAddr>,
}

/// A route of a result or of an IPAM configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    #[serde(deserialize_with = "fields::cidr")]
    pub dst: IpNet,
    /// The next hop; if there is none, the gateway of the address of the same family is meant.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "fields::optional_ip"
    )]
    pub gw: Option<IpAddr>,
    /// The MTU along the route; 0 if it is not said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// The maximal segment size to advertise; 0 if it is not said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub advmss: u32,
    /// The metric; 0 if it is not said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// The routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope: 0 global, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route with nothing but a destination and a next hop.
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Route { dst, gw, mtu: 0, advmss: 0, priority: 0, table: None, scope: None }
    }
}

/// What resolvers may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// The addresses of servers, most preferred first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains to try for short names, most preferred first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options for the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

/// Why a result cannot be read or printed. The texts are the reference library's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A version that nobody has published.
    #[error("unsupported CNI result version {0:?}")]
    UnsupportedVersion(String),
    /// A result whose version has another shape than the one that was expected.
    #[error("result type supports [{supported}] but unmarshalled CNIVersion is {found:?}")]
    OtherType {
        /// The versions of the expected shape.
        supported: &'static str,
        /// The version that the result names.
        found: String,
    },
    /// 0.1.0 and 0.2.0 cannot say that there are no addresses.
    #[error("cannot convert: no valid IP addresses")]
    NoIps,
    /// A field is wrong.
    #[error(transparent)]
    Json(#[from] json::Error),
}

impl CniResult {
    /// Reads a result in the version that it names, or in `assumed` if it names none.
    ///
    /// This is what a runtime does with a plugin's output, where `assumed` is the version of the
    /// configuration.
    pub fn parse(value: &Value, assumed: &str) -> Result<Self, Error> {
        let named = version::named(value)?;
        let version = if named.is_empty() { assumed } else { &named };
        let unsupported = |_| Error::UnsupportedVersion(version.to_owned());
        wire::read(value, version.parse().map_err(unsupported)?)
    }

    /// Reads a result whose shape must be that of `version`, though it may name another version of
    /// the same shape. This is what a plugin does with `prevResult`.
    pub fn parse_as(value: &Value, version: Version) -> Result<Self, Error> {
        let found = version::named(value)?;
        let shape = wire::Shape::of(version);
        match found.parse() {
            _ if found.is_empty() => wire::read(value, version),
            Ok(named) if wire::Shape::of(named) == shape => wire::read(value, named),
            _ => Err(Error::OtherType { supported: shape.versions(), found }),
        }
    }

    /// The result as a document of a version.
    pub fn to_value(&self, version: Version) -> Result<Value, Error> {
        wire::write(self, version)
    }

    /// The text that a plugin prints: indented by four spaces, without a newline at the end.
    pub fn to_json(&self, version: Version) -> Result<String, Error> {
        self.to_value(version).map(|value| json::pretty(&value))
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
