//! What a person asks of the agent, read once and strictly.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use net::LinkName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Family, Node, NodeName};

/// The agent's configuration: YAML or JSON, all keys optional but `source`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Which of the nodes this one is; the host's name if it is left out.
    #[serde(default)]
    pub node: Option<NodeName>,
    /// Who says which nodes there are.
    pub source: Source,
    /// How nodes are joined.
    #[serde(default)]
    pub backend: Backend,
    /// With `host-gw`: how nodes are joined that are not on a link of this one. They are left out
    /// and named if nothing is given.
    #[serde(default)]
    pub fallback: Option<Backend>,
    /// The tunnel of `vxlan` and `gpe`.
    #[serde(default)]
    pub tunnel: Tunnel,
    /// By which device and addresses other nodes are reached, where the choice is not to be made by
    /// the node's own entry in the source.
    #[serde(default)]
    pub underlay: Underlay,
    /// The largest packet of a pod, in bytes; the underlay's less the tunnel's overhead if left out.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// What leaves the cluster with the node's address.
    #[serde(default)]
    pub masquerade: Masquerade,
    /// All pods' addresses, where they are known beforehand; else the subnets of the nodes.
    #[serde(default)]
    pub pod_networks: Vec<IpNet>,
    /// What container runtimes are told.
    #[serde(default)]
    pub cni: Cni,
    /// How agents try the ways between them; not at all if `null`.
    #[serde(default = "probes")]
    pub probes: Option<Probes>,
    /// Where the last complete set of nodes is kept over restarts.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// Where the state of this run is kept: gone after a boot.
    #[serde(default = "run")]
    pub run: PathBuf,
    /// Where health and metrics are served; nowhere if `null`.
    #[serde(default = "listen")]
    pub listen: Option<SocketAddr>,
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not YAML, or a key or value is not one of ours.
    #[error("{0}")]
    Form(String),
    /// A value cannot be what it is there for.
    #[error("{field}: {what}")]
    Value {
        /// The key.
        field: &'static str,
        /// What is wrong and what would be right.
        what: String,
    },
}

/// Who says which nodes there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A list that a person keeps, see [`crate::parse_nodes`].
    File(PathBuf),
    /// Leases in etcd, in flannel's layout.
    Etcd(Etcd),
    /// The Node objects of Kubernetes.
    Kubernetes(Kubernetes),
}

/// etcd, by its v3 JSON gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Etcd {
    /// Where its members answer, such as `https://192.0.2.10:2379`; one after another is tried.
    pub endpoints: Vec<String>,
    /// Below which key flannel's `config` and `subnets` are.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// The certificate of the authority that signed the members'.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Our own certificate …
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// … and its key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Who we are, where etcd asks.
    #[serde(default)]
    pub username: Option<String>,
    /// The file that holds the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// How long our lease lives without renewal, in seconds.
    #[serde(default = "lease_seconds")]
    pub lease_seconds: u64,
}

/// Kubernetes' API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubernetes {
    /// How to reach it; as a pod of the cluster does if left out.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// Publish and read flannel's annotations, so that nodes of both kinds reach each other.
    #[serde(default)]
    pub flannel: bool,
}

/// How agents try the ways between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Probes {
    /// The UDP port at which they answer each other: the same on all nodes.
    pub port: u16,
    /// How often each asks a few others, in seconds.
    pub seconds: u64,
}

impl Default for Probes {
    fn default() -> Self {
        Self { port: 9113, seconds: 10 }
    }
}

/// How nodes are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// VXLAN as flannel's: Ethernet frames over UDP.
    #[default]
    Vxlan,
    /// VXLAN-GPE: IP packets over UDP.
    Gpe,
    /// Plain routes, where nodes share a link.
    HostGw,
    /// What suits the machine.
    Auto,
}

/// The tunnel device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Tunnel {
    /// What it is called. Where `device` is `flannel.1`, all that is on it is ours.
    pub device: LinkName,
    /// The virtual network: the same on all nodes.
    pub vni: u32,
    /// The UDP port: the same on all nodes.
    pub port: u16,
    /// How it knows the far ends.
    pub form: TunnelForm,
    /// Whether checksums of what is sent through it are left to it: `null` lets the kernel's
    /// default be.
    pub tx_checksum: Option<bool>,
}

/// How a VXLAN tunnel knows the far ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TunnelForm {
    /// Routes name them: two objects a peer.
    #[default]
    External,
    /// Forwarding entries name them: three objects a peer, as flannel has it.
    Classic,
}

/// By which device and addresses other nodes are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Underlay {
    /// The device.
    pub interface: Option<LinkName>,
    /// The addresses, one a family.
    pub addresses: Vec<IpAddr>,
}

/// What leaves the cluster with the node's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Masquerade {
    /// Whether anything does.
    pub enabled: bool,
    /// Destinations that see the pods' own addresses.
    pub except: Vec<IpNet>,
}

/// What container runtimes are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Cni {
    /// Where they look for configurations; none is written if `null`.
    pub directory: Option<PathBuf>,
    /// The file's name there.
    pub file: String,
    /// The network's name, which is also that of host-local's directory.
    pub name: String,
    /// The bridge of the node's pods.
    pub bridge: LinkName,
    /// Keys that the bridge plugin is given beside those that the agent knows.
    pub bridge_options: serde_json::Map<String, Value>,
    /// Keys that host-local is given beside those that the agent knows.
    pub ipam_options: serde_json::Map<String, Value>,
    /// Where flannel's CNI plugin finds the node's subnet; not written if `null`.
    pub subnet_env: Option<PathBuf>,
}

fn state() -> PathBuf {
    "/var/lib/podwire".into()
}

fn run() -> PathBuf {
    "/run/podwire".into()
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional key")]
fn listen() -> Option<SocketAddr> {
    Some(SocketAddr::from(([127, 0, 0, 1], 9112)))
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional key")]
fn probes() -> Option<Probes> {
    Some(Probes::default())
}

fn prefix() -> String {
    "/coreos.com/network".to_owned()
}

fn lease_seconds() -> u64 {
    24 * 60 * 60
}

/// A name that is written here and is right.
fn name(text: &str) -> LinkName {
    #[expect(clippy::expect_used, reason = "a constant, and a test makes each of them")]
    text.parse().expect("a device name")
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            device: name("podwire0"),
            vni: 1,
            port: 8472,
            form: TunnelForm::default(),
            tx_checksum: None,
        }
    }
}

impl Tunnel {
    /// The devices that may be ours, whatever the form.
    pub fn devices(&self) -> [LinkName; 2] {
        Family::ALL.map(|family| self.device_of(family))
    }

    /// The device that packets of `family` go by, where each has its own.
    pub fn device_of(&self, family: Family) -> LinkName {
        if family == Family::V4 {
            return self.device.clone();
        }
        // As flannel calls it; else a name that fits whatever the first one is.
        let text = match self.device.as_str().strip_prefix("flannel.") {
            Some(vni) => format!("flannel-v6.{vni}"),
            None => format!("{:.13}-6", self.device.as_str()),
        };
        text.parse().unwrap_or_else(|_| self.device.clone())
    }
}

impl Default for Masquerade {
    fn default() -> Self {
        Self { enabled: true, except: Vec::new() }
    }
}

impl Default for Cni {
    fn default() -> Self {
        Self {
            directory: Some("/etc/cni/net.d".into()),
            file: "10-podwire.conflist".to_owned(),
            name: "podwire".to_owned(),
            bridge: name("cni0"),
            bridge_options: serde_json::Map::new(),
            ipam_options: serde_json::Map::new(),
            subnet_env: None,
        }
    }
}

impl Config {
    /// Reads a configuration.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self =
            serde_saphyr::from_str(text).map_err(|error| ConfigError::Form(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// All by default, with nodes from `source`.
    pub fn new(source: Source) -> Self {
        Self {
            node: None,
            source,
            backend: Backend::default(),
            fallback: None,
            tunnel: Tunnel::default(),
            underlay: Underlay::default(),
            mtu: None,
            masquerade: Masquerade::default(),
            pod_networks: Vec::new(),
            cni: Cni::default(),
            probes: probes(),
            state: state(),
            run: run(),
            listen: listen(),
        }
    }

    /// The default place of the configuration.
    pub const PATH: &str = "/etc/podwire/agent.yaml";

    /// All by default, with nodes from a file at `path`.
    pub fn of_file(path: &Path) -> Self {
        Self::new(Source::File(path.to_owned()))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field, what: String| Err(ConfigError::Value { field, what });
        if self.tunnel.vni == 0 || self.tunnel.vni >= 1 << 24 {
            return refuse("tunnel.vni", format!("{} is not in 1 to 16777215", self.tunnel.vni));
        }
        if self.tunnel.port == 0 {
            return refuse(
                "tunnel.port",
                "0 is no port; flannel's is 8472, IANA's 4789".to_owned(),
            );
        }
        if let Some(mtu) = self.mtu
            && !(68..=65535).contains(&mtu)
        {
            return refuse("mtu", format!("{mtu} is not in 68 to 65535 bytes"));
        }
        match (self.backend, self.fallback) {
            (_, None) | (Backend::HostGw, Some(Backend::Vxlan | Backend::Gpe)) => {}
            (Backend::HostGw, Some(_)) => {
                return refuse("fallback", "is a tunnel: vxlan or gpe".to_owned());
            }
            _ => return refuse("fallback", "goes with backend host-gw only".to_owned()),
        }
        let networks = self.pod_networks.iter().chain(&self.masquerade.except);
        if let Some(net) = networks.into_iter().find(|net| net.trunc() != **net) {
            let what = format!("{net} has host bits; the network is {}", net.trunc());
            return refuse("podNetworks or masquerade.except", what);
        }
        if self.cni.file.is_empty() || self.cni.file.contains('/') {
            return refuse("cni.file", format!("{:?} is not a file name", self.cni.file));
        }
        if let Source::Etcd(etcd) = &self.source
            && etcd.endpoints.is_empty()
        {
            return refuse("source.etcd.endpoints", "names no member of etcd".to_owned());
        }
        Ok(())
    }

    /// Whether all that is on the tunnel device is ours, whoever wrote it.
    pub fn takes_over(&self) -> bool {
        self.tunnel.device.as_str().starts_with("flannel")
    }

    /// Where the configuration for runtimes is written.
    pub fn conflist_path(&self) -> Option<PathBuf> {
        Some(self.cni.directory.as_deref()?.join(&self.cni.file))
    }

    /// Whose existence says that the node's network stands.
    pub fn ready_path(&self) -> PathBuf {
        self.run.join("ready")
    }

    /// The last complete set of nodes.
    pub fn nodes_path(&self) -> PathBuf {
        self.state.join("nodes.json")
    }

    /// What container runtimes are to read: pods on a bridge, with addresses of this node's subnets.
    pub fn conflist(&self, me: &Node, mtu: u32) -> Value {
        let ranges: Vec<Value> =
            me.subnets.iter().map(|(_, subnet)| json!([{ "subnet": subnet }])).collect();
        let mut ipam = json!({ "type": "host-local", "ranges": ranges });
        extend(&mut ipam, &self.cni.ipam_options);
        let mut bridge = json!({
            "type": "bridge",
            "bridge": self.cni.bridge,
            "isDefaultGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "mtu": mtu,
        });
        extend(&mut bridge, &self.cni.bridge_options);
        bridge["ipam"] = ipam;
        let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        json!({ "cniVersion": "1.0.0", "name": self.cni.name, "plugins": [bridge, portmap] })
    }
}

fn extend(value: &mut Value, options: &serde_json::Map<String, Value>) {
    if let Value::Object(object) = value {
        object.extend(options.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_enough() {
        let config = Config::parse("source: {file: /etc/podwire/nodes.yaml}").unwrap();
        assert_eq!(config, Config::of_file(Path::new("/etc/podwire/nodes.yaml")));
    }

    #[test]
    fn it_survives_being_written() {
        let config = Config::of_file(Path::new("/n"));
        assert_eq!(Config::parse(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (line, expected) in [
            ("tunnel: {vni: 0}", "tunnel.vni: 0 is not in 1 to 16777215"),
            ("tunnel: {vni: 16777216}", "tunnel.vni"),
            ("tunnel: {port: 0}", "tunnel.port: 0 is no port"),
            ("tunnel: {port: 70000}", "70000"),
            ("tunnel: {device: a/b}", "a/b"),
            ("mtu: 12", "mtu: 12 is not in 68 to 65535 bytes"),
            ("fallback: gpe", "fallback: goes with backend host-gw only"),
            ("backend: wireguard", "wireguard"),
            ("backends: vxlan", "backends"),
            ("podNetworks: [10.0.0.1/8]", "10.0.0.1/8 has host bits; the network is 10.0.0.0/8"),
            ("cni: {file: ../x}", "cni.file"),
        ] {
            let text = format!("source: {{file: /n}}\n{line}\n");
            let error = Config::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\n  does not say\n{expected}");
        }
        let error = Config::parse("source: {etcd: {endpoints: []}}").unwrap_err().to_string();
        assert!(error.contains("names no member"), "{error}");
    }
}
