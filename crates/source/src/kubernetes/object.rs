//! A Node object as far as it says something to us; the rest is dropped while it is read.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use fabric::{Family, PerFamily};
use ipnet::IpNet;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::annotation;

/// A Node, or its metadata alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Object {
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
    pub(super) status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    /// Another one where a node of the same name was registered anew.
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) annotations: Annotations,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    addresses: Option<Vec<Address>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Address {
    r#type: String,
    address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

/// The annotations that are ours or flannel's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Annotations(BTreeMap<String, String>);

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct List {
    pub(super) metadata: ListMetadata,
    pub(super) items: Vec<Object>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    pub(super) r#continue: Option<String>,
}

impl Object {
    /// The subnets of its pods; none where only metadata was asked for.
    pub(super) fn subnets(&self) -> PerFamily<IpNet> {
        let all = self.spec.pod_cidrs.iter().flatten().chain(&self.spec.pod_cidr);
        first_of_each(all, |net: IpNet| (Family::of_net(net), net.trunc()))
    }

    /// The addresses by which other nodes reach it, as its kubelet says.
    pub(super) fn internal(&self) -> PerFamily<IpAddr> {
        let all = self.status.addresses.iter().flatten();
        let internal = all.filter(|it| it.r#type == "InternalIP").map(|it| &it.address);
        first_of_each(internal, |address: IpAddr| (Family::of(address), address))
    }

    /// Whether pods are told that the node has no network; `None` if nobody has said.
    pub(super) fn network_unavailable(&self) -> Option<bool> {
        let mut conditions = self.status.conditions.iter().flatten();
        let condition = conditions.find(|it| it.r#type == super::api::NETWORK_UNAVAILABLE)?;
        Some(condition.status != "False")
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.0.get(key).map(String::as_str)
    }
}

/// The first of each family, of what can be read.
fn first_of_each<'a, T: FromStr, U>(
    texts: impl Iterator<Item = &'a String>,
    family: impl Fn(T) -> (Family, U),
) -> PerFamily<U> {
    let mut found = PerFamily::default();
    for value in texts.filter_map(|text| text.parse().ok()) {
        let (family, value) = family(value);
        found.place(family).get_or_insert(value);
    }
    found
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wanted;
        impl<'de> Visitor<'de> for Wanted {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_unit<E>(self) -> Result<Annotations, E> {
                Ok(Annotations::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
                let mut annotations = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if annotation::is_known(&key) {
                        annotations.insert(key, map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Annotations(annotations))
            }
        }
        deserializer.deserialize_any(Wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_read_as_far_as_it_matters() {
        let object: Object = serde_json::from_str(
            r#"{"kind": "Node", "metadata": {"name": "n1", "uid": "u", "resourceVersion": "7",
                "annotations": {"podwire.dev/node": "{}", "foreign": "x",
                    "flannel.alpha.coreos.com/public-ip": "192.0.2.9"},
                "managedFields": [{"manager": "kubelet"}]},
              "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00::/64"],
                "taints": []},
              "status": {"addresses": [
                  {"type": "Hostname", "address": "n1"},
                  {"type": "ExternalIP", "address": "203.0.113.1"},
                  {"type": "InternalIP", "address": "192.0.2.1"},
                  {"type": "InternalIP", "address": "192.0.2.2"},
                  {"type": "InternalIP", "address": "2001:db8::1"}],
                "conditions": [{"type": "Ready", "status": "True"},
                  {"type": "NetworkUnavailable", "status": "True", "reason": "x"}]}}"#,
        )
        .unwrap();
        let subnets = object.subnets();
        assert_eq!(subnets.v4, Some("10.244.1.0/24".parse().unwrap()));
        assert_eq!(subnets.v6, Some("fd00::/64".parse().unwrap()));
        let internal = object.internal();
        assert_eq!(internal.v4, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(internal.v6, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(object.network_unavailable(), Some(true));
        assert_eq!(object.annotation("podwire.dev/node"), Some("{}"));
        assert_eq!(object.annotation("foreign"), None);
    }

    #[test]
    fn what_is_missing_null_or_odd_is_not_there() {
        for text in [
            r#"{"metadata": {"name": "n1"}}"#,
            r#"{"metadata": {"name": "n1", "annotations": null}, "spec": {}, "status": {}}"#,
            r#"{"metadata": {"name": "n1"}, "spec": {"podCIDR": "", "podCIDRs": null},
                "status": {"addresses": [{"type": "InternalIP", "address": "n1.example"}],
                "conditions": null}}"#,
        ] {
            let object: Object = serde_json::from_str(text).unwrap();
            assert!(object.subnets().is_empty() && object.internal().is_empty(), "{text}");
            assert_eq!(object.network_unavailable(), None);
        }
    }

    #[test]
    fn a_single_subnet_counts_where_there_is_no_list() {
        let text = r#"{"metadata": {"name": "n1"}, "spec": {"podCIDR": "10.0.1.7/24"}}"#;
        let object: Object = serde_json::from_str(text).unwrap();
        assert_eq!(object.subnets().v4, Some("10.0.1.0/24".parse().unwrap()));
    }
}
