//! The files of a node's pods: what runtimes remember, what host-local has reserved, and what asked
//! for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni::runtime::{Cache, Record, directory};
use ipam::{Holder, Store};
use ipnet::IpNet;
use kernel::NetnsId;
use serde_json::Value;

use super::spaces::identity;
use crate::{
    Attachment, Configuration, Gap, Node, PodName, PortMapping, Reservation, Reservations,
};

/// Where a node has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// What CNI runtimes remember: `results` is in it.
    pub cache: PathBuf,
    /// The directories of host-local, one directory a network in each; those that configurations
    /// name are looked at as well.
    pub reservations: Vec<PathBuf>,
    /// Where networks are configured.
    pub configurations: Vec<PathBuf>,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            cache: "/var/lib/cni".into(),
            reservations: vec![ipam::DEFAULT_DATA_DIR.into()],
            configurations: vec!["/etc/cni/net.d".into()],
        }
    }
}

/// The longest file that is read as a cursor of host-local.
const LONGEST: u64 = 1024;

impl Files {
    /// Reads them.
    pub(super) fn node(
        &self,
        name: &str,
        lab: Option<String>,
        namespace: Option<NetnsId>,
        gaps: &mut Vec<Gap>,
    ) -> Node {
        let configurations = self.configured(gaps);
        Node {
            name: name.to_owned(),
            lab,
            namespace,
            attachments: self.attachments(gaps),
            reservations: self.reserved(&configurations, gaps),
            configurations,
        }
    }

    fn attachments(&self, gaps: &mut Vec<Gap>) -> Vec<Attachment> {
        let cache = Cache::new(&self.cache);
        let (records, unusable) = match cache.list() {
            Ok(listed) => listed,
            Err(error) => {
                let what = format!("attachments in {}", self.cache.display());
                gaps.push(Gap { what, why: error.to_string() });
                return Vec::new();
            }
        };
        gaps.extend(unusable.into_iter().map(|it| Gap {
            what: format!("attachment {}", it.path.display()),
            why: format!("the file {}", it.why),
        }));
        records.into_iter().map(|record| attachment(&cache, record)).collect()
    }

    fn configured(&self, gaps: &mut Vec<Gap>) -> Vec<Configuration> {
        let mut configurations = Vec::new();
        for directory in &self.configurations {
            let what = |path: &Path| format!("network configurations in {}", path.display());
            let (found, unreadable) = match directory::list(directory) {
                Ok(listed) => listed,
                Err(error) => {
                    gaps.push(Gap { what: what(directory), why: error.to_string() });
                    continue;
                }
            };
            gaps.extend(
                unreadable
                    .into_iter()
                    .map(|error| Gap { what: what(directory), why: error.to_string() }),
            );
            configurations.extend(found.into_iter().map(|found| {
                let mut content =
                    serde_json::from_slice(&found.network.bytes).unwrap_or(Value::Null);
                hide_secrets(&mut content);
                Configuration { file: found.file, name: found.network.name, content }
            }));
        }
        configurations
    }

    fn reserved(&self, configurations: &[Configuration], gaps: &mut Vec<Gap>) -> Vec<Reservations> {
        let pools: Vec<(&str, Pool)> = configurations
            .iter()
            .flat_map(|it| pools(&it.content).map(|pool| (it.name.as_str(), pool)))
            .collect();
        let named = pools.iter().filter_map(|(_, pool)| pool.directory.clone());
        let places: BTreeSet<PathBuf> = named.chain(self.reservations.iter().cloned()).collect();
        let mut all = Vec::new();
        for place in places {
            for network in networks(&place, gaps) {
                let of_it = pools.iter().filter(|(name, pool)| {
                    *name == network && pool.directory.as_ref().is_none_or(|it| *it == place)
                });
                let subnets = of_it.flat_map(|(_, pool)| pool.subnets.iter().copied()).collect();
                match reservations(&place, &network) {
                    Ok(entries) => all.push(Reservations { subnets, ..entries }),
                    Err(why) => {
                        let what = format!("reservations of {network} in {}", place.display());
                        gaps.push(Gap { what, why });
                    }
                }
            }
        }
        all
    }
}

fn attachment(cache: &Cache, record: Record) -> Attachment {
    let Record { network, parameters, result, .. } = record;
    let file = cache.path(&network, &parameters.attachment);
    let argument = |key: &str| {
        let found = parameters.args.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    let pod = argument("K8S_POD_NAME")
        .map(|name| PodName { namespace: argument("K8S_POD_NAMESPACE").unwrap_or_default(), name });
    let namespace = parameters.netns.as_deref().and_then(identity);
    Attachment {
        file,
        network,
        container_id: parameters.attachment.container_id,
        ifname: parameters.attachment.ifname,
        pod,
        netns: parameters.netns,
        namespace,
        addresses: result.as_ref().map(addresses).unwrap_or_default(),
        ports: ports(parameters.capability_args.get("portMappings")),
        nameservers: result.as_ref().map(nameservers).unwrap_or_default(),
    }
}

/// What the capability `portMappings` asks for; an unspecified address is every address.
fn ports(mappings: Option<&Value>) -> Vec<PortMapping> {
    let mapping = |it: &Value| {
        let port = |key: &str| it[key].as_u64().and_then(|port| u16::try_from(port).ok());
        let host_ip = it["hostIP"].as_str().and_then(|text| text.parse::<IpAddr>().ok());
        Some(PortMapping {
            protocol: it["protocol"].as_str().unwrap_or("tcp").to_lowercase(),
            host_ip: host_ip.filter(|address| !address.is_unspecified()),
            host_port: port("hostPort").filter(|port| *port != 0)?,
            container_port: port("containerPort")?,
        })
    };
    let listed = mappings.and_then(Value::as_array).into_iter().flatten();
    listed.filter_map(mapping).collect()
}

/// The resolvers in a result.
fn nameservers(result: &Value) -> Vec<IpAddr> {
    let listed = result["dns"]["nameservers"].as_array().into_iter().flatten();
    listed.filter_map(|it| it.as_str()?.parse().ok()).collect()
}

/// The addresses in a result, of today's form or of the two oldest.
fn addresses(result: &Value) -> Vec<IpNet> {
    let today = result["ips"].as_array().into_iter().flatten();
    let today = today.filter_map(|ip| ip["address"].as_str());
    let old = ["ip4", "ip6"].into_iter().filter_map(|family| result[family]["ip"].as_str());
    today.chain(old).filter_map(|text| text.parse().ok()).collect()
}

/// The names of the directories in host-local's.
fn networks(place: &Path, gaps: &mut Vec<Gap>) -> Vec<String> {
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            let what = format!("reservations in {}", place.display());
            gaps.push(Gap { what, why: error.to_string() });
            return Vec::new();
        }
    };
    let directories = entries.flatten().filter(|it| it.path().is_dir());
    let mut names: Vec<String> =
        directories.filter_map(|it| it.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn reservations(place: &Path, network: &str) -> Result<Reservations, String> {
    let store = Store::new(place, network);
    let read = store.reservations().map_err(|error| error.to_string())?;
    let entry = |it: ipam::Reservation| {
        let (container_id, ifname) = match it.holder {
            Holder::Attachment(owner) => (owner.id, owner.ifname),
            Holder::Container(id) => (id, String::new()),
            Holder::Nobody | Holder::Unknown => Default::default(),
        };
        Reservation { address: it.address, container_id, ifname }
    };
    Ok(Reservations {
        directory: store.path().to_owned(),
        network: network.to_owned(),
        entries: read.into_iter().map(entry).collect(),
        last: last(store.path()),
        subnets: Vec::new(),
    })
}

/// The cursors of the range sets.
fn last(directory: &Path) -> BTreeMap<usize, IpAddr> {
    let cursor = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let set = name.strip_prefix("last_reserved_ip.")?.parse().ok()?;
        let metadata = entry.path().symlink_metadata().ok()?;
        let is_short = metadata.is_file() && metadata.len() <= LONGEST;
        let text = is_short.then(|| fs::read_to_string(entry.path()).ok()).flatten()?;
        Some((set, text.trim().parse().ok()?))
    };
    fs::read_dir(directory).into_iter().flatten().flatten().filter_map(cursor).collect()
}

/// What a configuration lets host-local give out.
struct Pool {
    directory: Option<PathBuf>,
    subnets: Vec<IpNet>,
}

fn pools(content: &Value) -> impl Iterator<Item = Pool> + '_ {
    let listed = content["plugins"].as_array().into_iter().flatten();
    let ipams = listed.chain([content]).map(|plugin| &plugin["ipam"]);
    ipams.filter(|ipam| ipam["type"] == "host-local").map(|ipam| {
        let sets = ipam["ranges"].as_array().into_iter().flatten();
        let ranges = sets.filter_map(Value::as_array).flatten().chain([ipam]);
        let subnets = ranges.filter_map(|range| range["subnet"].as_str()?.parse().ok());
        Pool {
            directory: ipam["dataDir"].as_str().filter(|it| !it.is_empty()).map(PathBuf::from),
            subnets: subnets.map(|net: IpNet| net.trunc()).collect(),
        }
    })
}

/// What nobody should find in a file that is handed on. Configurations of policy engines have had
/// tokens in them.
fn hide_secrets(value: &mut Value) {
    const SECRETS: [&str; 4] = ["token", "password", "secret", "client_key_data"];
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let key = key.to_lowercase();
                match value {
                    Value::String(text) if SECRETS.iter().any(|it| key.contains(it)) => {
                        *text = "(left out)".to_owned();
                    }
                    value => hide_secrets(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_secrets),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_read_from_results_of_all_versions() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let today = json!({ "ips": [{ "address": "10.1.0.2/24" }, { "address": "fd00::2/64" }] });
        assert_eq!(addresses(&today), [net("10.1.0.2/24"), net("fd00::2/64")]);
        assert_eq!(addresses(&json!({ "ip4": { "ip": "10.1.0.2/24" } })), [net("10.1.0.2/24")]);
        assert_eq!(addresses(&json!({ "ips": [{ "address": 3 }, "x"] })), []);
    }

    #[test]
    fn ports_and_resolvers_are_read_as_runtimes_write_them() {
        let asked = json!([
            { "hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": "" },
            { "hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "192.0.2.1" },
            { "hostPort": 0, "containerPort": 80 },
            { "hostPort": 70_000, "containerPort": 80 },
            "x",
        ]);
        let mapping = |protocol: &str, host_ip: Option<&str>, host_port, container_port| {
            let host_ip = host_ip.map(|text| text.parse().unwrap());
            PortMapping { protocol: protocol.to_owned(), host_ip, host_port, container_port }
        };
        let expected =
            [mapping("tcp", None, 8080, 80), mapping("udp", Some("192.0.2.1"), 53, 5353)];
        assert_eq!(ports(Some(&asked)), expected);
        assert_eq!(ports(None), []);
        let result = json!({ "dns": { "nameservers": ["10.96.0.10", "no", 3] } });
        assert_eq!(nameservers(&result), ["10.96.0.10".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn what_may_be_given_out_is_read_from_lists_and_single_configurations() {
        let subnets =
            |content: Value| pools(&content).flat_map(|it| it.subnets).collect::<Vec<_>>();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let ranges = json!([[{ "subnet": "10.1.0.5/24" }], [{ "subnet": "fd00::/64" }]]);
        let list = json!({ "plugins": [{ "ipam": { "type": "host-local", "ranges": ranges } }] });
        assert_eq!(subnets(list), [net("10.1.0.0/24"), net("fd00::/64")]);
        let single = json!({ "ipam": { "type": "host-local", "subnet": "10.2.0.0/16" } });
        assert_eq!(subnets(single), [net("10.2.0.0/16")]);
        assert!(subnets(json!({ "ipam": { "type": "dhcp", "subnet": "10.2.0.0/16" } })).is_empty());
    }

    #[test]
    fn secrets_stay_where_they_are() {
        let mut content =
            json!({ "plugins": [{ "policy": { "k8s_auth_token": "s3" }, "mtu": 3 }] });
        hide_secrets(&mut content);
        let left =
            json!({ "plugins": [{ "policy": { "k8s_auth_token": "(left out)" }, "mtu": 3 }] });
        assert_eq!(content, left);
    }
}
