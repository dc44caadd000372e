//! The three shapes that results had over time.
//!
//! 0.1.0 and 0.2.0 have at most one address a family with its routes. 0.3.0 to 0.4.0 have lists,
//! and say the family of each address. 1.0.0 and 1.1.0 add fields and drop the family.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CniResult, Dns, Error, Interface, IpConfig, Route};
use crate::{Version, fields, json};

/// Versions with the same shape of result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// 0.1.0 and 0.2.0.
    Families,
    /// 0.3.0 to 0.4.0.
    Lists,
    /// 1.0.0 and 1.1.0.
    Current,
}

impl Shape {
    pub(super) fn of(version: Version) -> Self {
        match version {
            Version::V0_1_0 | Version::V0_2_0 => Shape::Families,
            Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => Shape::Lists,
            Version::V1_0_0 | Version::V1_1_0 => Shape::Current,
        }
    }

    /// Its versions as the reference library prints them, where the oldest shape also belongs to
    /// the empty version.
    pub(super) fn versions(self) -> &'static str {
        match self {
            Shape::Families => " 0.1.0 0.2.0",
            Shape::Lists => "0.3.0 0.3.1 0.4.0",
            Shape::Current => "1.0.0 1.1.0",
        }
    }
}

pub(super) fn read(value: &Value, version: Version) -> Result<CniResult, Error> {
    let result = match Shape::of(version) {
        Shape::Families => json::from_value(value).map(Families::into_result)?,
        Shape::Lists => {
            let mut result: CniResult = json::from_value(value)?;
            result.interfaces = result.interfaces.iter().map(without_new_fields).collect();
            result
        }
        Shape::Current => json::from_value(value)?,
    };
    Ok(result)
}

pub(super) fn write(result: &CniResult, version: Version) -> Result<Value, Error> {
    let mut document = Map::new();
    document.insert("cniVersion".to_owned(), version.as_str().into());
    let body = match Shape::of(version) {
        Shape::Families => json::to_value(&Families::from_result(result)?),
        Shape::Lists => json::to_value(&Lists::from_result(result)),
        Shape::Current => json::to_value(result),
    };
    if let Value::Object(body) = body {
        document.extend(body);
    }
    if Shape::of(version) == Shape::Current {
        if result.dns.is_empty() {
            document.shift_remove("dns");
        }
        document.sort_keys();
        document.values_mut().for_each(Value::sort_all_objects);
    }
    Ok(Value::Object(document))
}

/// A result of 0.1.0 or 0.2.0.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Families {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<Family>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<Family>,
    dns: Dns,
}

#[derive(Serialize, Deserialize)]
struct Family {
    #[serde(deserialize_with = "fields::cidr")]
    ip: IpNet,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "fields::optional_ip"
    )]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

impl Families {
    fn into_result(self) -> CniResult {
        let mut result = CniResult { dns: self.dns, ..CniResult::default() };
        for family in self.ip4.into_iter().chain(self.ip6) {
            let Family { ip: address, gateway, routes } = family;
            result.ips.push(IpConfig { interface: None, address, gateway });
            result.routes.extend(routes);
        }
        result
    }

    fn from_result(result: &CniResult) -> Result<Self, Error> {
        if result.ips.is_empty() {
            return Err(Error::NoIps);
        }
        let family = |is_ours: fn(&IpNet) -> bool| {
            let first = result.ips.iter().find(|ip| is_ours(&ip.address))?;
            let routes = result.routes.iter().filter(|route| is_ours(&route.dst));
            let routes = routes.map(|route| Route::new(route.dst, route.gw)).collect();
            Some(Family { ip: first.address, gateway: first.gateway, routes })
        };
        let ip4 = family(|net| matches!(net, IpNet::V4(_)));
        let ip6 = family(|net| matches!(net, IpNet::V6(_)));
        Ok(Families { ip4, ip6, dns: result.dns.clone() })
    }
}

/// A result of 0.3.0 to 0.4.0, for printing; it is read as the newest shape.
#[derive(Serialize)]
struct Lists<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<ListedIp<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    routes: &'a [Route],
    dns: &'a Dns,
}

#[derive(Serialize)]
struct ListedIp<'a> {
    /// The family, `4` or `6`.
    version: &'static str,
    #[serde(flatten)]
    ip: &'a IpConfig,
}

impl<'a> Lists<'a> {
    fn from_result(result: &'a CniResult) -> Self {
        let listed = |ip: &'a IpConfig| {
            let version = if ip.address.addr().is_ipv4() { "4" } else { "6" };
            ListedIp { version, ip }
        };
        Lists {
            interfaces: result.interfaces.iter().map(without_new_fields).collect(),
            ips: result.ips.iter().map(listed).collect(),
            routes: &result.routes,
            dns: &result.dns,
        }
    }
}

/// An interface with only what versions before 1.0.0 know of it.
fn without_new_fields(interface: &Interface) -> Interface {
    let Interface { name, mac, sandbox, .. } = interface.clone();
    Interface { name, mac, sandbox, ..Interface::default() }
}
