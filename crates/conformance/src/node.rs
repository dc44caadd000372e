//! The machine of a case: a node with plugins, pods on it, a world beyond it, and the calls that a
//! runtime makes.
//!
//! What is asserted here panics, as in a test: the runner turns that into the case's failure.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testbed::Namespace;
use testbed::call::{Answer, Call};
use testbed::look::files;

/// The subnets of most cases.
pub(crate) const V4: &str = "10.1.2.0/24";
pub(crate) const V6: &str = "2001:db8:1::/64";

/// What most cases are written in: the newest version that everybody speaks.
pub(crate) const VERSION: &str = "1.0.0";

/// A node whose processes are plugins, with its own directory of reservations.
#[derive(Debug)]
pub struct Node {
    /// The plugin or the chain of plugins that the case is about.
    pub(crate) subject: String,
    /// Its network.
    pub(crate) namespace: Namespace,
    /// The directory of the plugins.
    pub(crate) bin: PathBuf,
    /// Its files, in `/run`, which is the case's own.
    pub(crate) home: PathBuf,
}

/// A sandbox, and what it asks for.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) ifname: String,
    /// `CNI_NETNS`, which need not lead to the namespace any more.
    pub(crate) netns: String,
    /// `CNI_ARGS`.
    pub(crate) args: String,
    pub(crate) namespace: Namespace,
}

/// A list of plugin configurations, each as the runtime hands it to its plugin, but for
/// `prevResult`.
#[derive(Clone, Debug)]
pub(crate) struct Network(Vec<Value>);

impl Node {
    /// The node of a case.
    pub(crate) fn new(subject: &str, bin: &Path) -> Self {
        let home = PathBuf::from("/run/node");
        fs::create_dir_all(&home).unwrap();
        let (subject, bin) = (subject.to_owned(), bin.to_owned());
        Self { subject, namespace: space("node"), bin, home }
    }

    /// A pod without any interface but `lo`.
    pub(crate) fn pod(&self, id: &str) -> Pod {
        let namespace = space(id);
        Pod {
            id: id.to_owned(),
            ifname: "eth0".to_owned(),
            netns: namespace.path().to_str().unwrap().to_owned(),
            args: String::new(),
            namespace,
        }
    }

    /// The first plugin of the subject.
    pub(crate) fn main(&self) -> &str {
        self.subject.split('+').next().unwrap()
    }

    /// Where host-local keeps its files.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("networks")
    }

    /// The network `pods` of the subject's first plugin, with addresses of each of these subnets.
    pub(crate) fn network(&self, subnets: &[&str], keys: Value) -> Network {
        let main = json!({ "type": self.main(), "ipam": self.host_local(subnets) });
        Network::of(vec![main]).with(gateway(self.main())).with(keys)
    }

    /// The `ipam` of host-local that takes an address of each of these subnets.
    pub(crate) fn host_local(&self, subnets: &[&str]) -> Value {
        let sets: Vec<_> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
        json!({ "type": "host-local", "dataDir": self.data(), "ranges": sets })
    }

    /// The least that a plugin can be called with.
    pub(crate) fn least(&self, plugin: &str) -> Network {
        let keys = match plugin {
            "bridge" | "ptp" => json!({ "ipam": self.host_local(&[V4]) }),
            "host-local" => json!({ "ipam": self.host_local(&[V4]) }),
            "static" => {
                json!({ "ipam": { "type": "static", "addresses": [{ "address": "10.1.2.2/24" }] } })
            }
            "portmap" => json!({
                "prevResult": {
                    "cniVersion": VERSION,
                    "interfaces": [{ "name": "eth0", "sandbox": "/run/netns/pod" }],
                    "ips": [{ "address": "10.1.2.2/24", "interface": 0 }],
                },
            }),
            _ => json!({}),
        };
        Network::of(vec![json!({ "type": plugin })]).with(keys)
    }

    /// The versions that a plugin advertises.
    pub(crate) fn versions(&self, plugin: &str) -> Vec<String> {
        let told = self.run(&self.call_about_all("VERSION", &json!({ "type": plugin }))).ok();
        let versions = told["supportedVersions"].as_array().expect("it lists its versions");
        versions.iter().map(|version| version.as_str().unwrap().to_owned()).collect()
    }

    /// A call of a plugin about a pod.
    pub(crate) fn call(&self, command: &str, pod: &Pod, config: &Value) -> Call {
        let call = self
            .call_about_all(command, config)
            .with("CNI_CONTAINERID", &pod.id)
            .with("CNI_NETNS", &pod.netns)
            .with("CNI_IFNAME", &pod.ifname);
        if pod.args.is_empty() { call } else { call.with("CNI_ARGS", &pod.args) }
    }

    /// A call that is about no pod: GC, STATUS, VERSION.
    pub(crate) fn call_about_all(&self, command: &str, config: &Value) -> Call {
        let nobody = Call {
            program: self.bin.join(config["type"].as_str().unwrap()),
            variables: BTreeMap::new(),
            stdin: config.to_string().into_bytes(),
        };
        nobody
            .with("CNI_COMMAND", command)
            .with("CNI_PATH", self.bin.to_str().unwrap())
            // Where plugins look for helper programs.
            .with("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    }

    pub(crate) fn run(&self, call: &Call) -> Answer {
        call.start(self.namespace.netns()).wait()
    }

    /// Runs a list as a runtime does, up to the first plugin that fails: backwards for DEL, and
    /// each plugin of an ADD is told what the one before has said. `result` is that of the whole
    /// ADD, or `null`.
    pub(crate) fn attempt(
        &self,
        command: &str,
        pod: &Pod,
        network: &Network,
        result: &Value,
    ) -> Answer {
        self.attempt_with(command, pod, network, result, &|call| call)
    }

    /// The same with each call changed.
    pub(crate) fn attempt_with(
        &self,
        command: &str,
        pod: &Pod,
        network: &Network,
        result: &Value,
        change: &dyn Fn(Call) -> Call,
    ) -> Answer {
        let mut plugins: Vec<_> = network.0.iter().collect();
        if command == "DEL" {
            plugins.reverse();
        }
        let mut told = result.clone();
        let mut last = None;
        for config in plugins {
            let config = if told.is_null() { config.clone() } else { after(config, &told) };
            let answer = self.run(&change(self.call(command, pod, &config)));
            if command == "ADD" && answer.is_ok() {
                told = answer.clone().ok();
            }
            let failed = !answer.is_ok();
            last = Some(answer);
            if failed {
                break;
            }
        }
        last.expect("a network has a plugin")
    }

    /// ADD, which has to succeed.
    #[track_caller]
    pub(crate) fn add(&self, pod: &Pod, network: &Network) -> Value {
        self.attempt("ADD", pod, network, &Value::Null).ok()
    }

    /// CHECK, which has to succeed and to say nothing.
    #[track_caller]
    pub(crate) fn check(&self, pod: &Pod, network: &Network, result: &Value) {
        assert_eq!(self.attempt("CHECK", pod, network, result).ok(), Value::Null);
    }

    /// DEL, which has to succeed and to say nothing.
    #[track_caller]
    pub(crate) fn del(&self, pod: &Pod, network: &Network, result: &Value) {
        assert_eq!(self.attempt("DEL", pod, network, result).ok(), Value::Null);
    }

    /// The addresses that host-local has reserved for the network `pods`, with their files' texts.
    pub(crate) fn reservations(&self) -> BTreeMap<String, String> {
        files(&self.data().join("pods"))
            .into_iter()
            .filter(|(name, _)| name.parse::<IpAddr>().is_ok())
            .collect()
    }

    /// All that is known of the node's packet filters, whoever speaks to them.
    pub(crate) fn rules(&self) -> String {
        self.namespace.sh("nft list ruleset 2>/dev/null
             ! command -v iptables-save >/dev/null || iptables-save
             ! command -v ip6tables-save >/dev/null || ip6tables-save")
    }
}

impl Network {
    /// The list `pods`.
    pub(crate) fn of(plugins: Vec<Value>) -> Self {
        Self(plugins).with_all(&json!({ "name": "pods", "cniVersion": VERSION }))
    }

    /// The same with these keys in its first plugin; members of `ipam` are replaced one by one.
    #[expect(clippy::needless_pass_by_value, reason = "callers make the keys in place")]
    pub(crate) fn with(mut self, keys: Value) -> Self {
        self.0[0] = merged(self.0[0].take(), &keys);
        self
    }

    /// The same with these keys in each plugin.
    pub(crate) fn with_all(mut self, keys: &Value) -> Self {
        for plugin in &mut self.0 {
            *plugin = merged(plugin.take(), keys);
        }
        self
    }

    /// The same in another version.
    pub(crate) fn version(self, version: &str) -> Self {
        self.with_all(&json!({ "cniVersion": version }))
    }

    /// The same under another name.
    pub(crate) fn named(self, name: &str) -> Self {
        self.with_all(&json!({ "name": name }))
    }

    /// The same with one more plugin at its end.
    pub(crate) fn chained(mut self, plugin: Value) -> Self {
        let shared = json!({ "name": self.0[0]["name"], "cniVersion": self.0[0]["cniVersion"] });
        self.0.push(merged(plugin, &shared));
        self
    }

    /// The configurations of its plugins.
    pub(crate) fn plugins(&self) -> &[Value] {
        &self.0
    }

    /// The configuration of its last plugin.
    pub(crate) fn last(&self) -> &Value {
        self.0.last().expect("a network has a plugin")
    }

    /// The configuration of its only plugin.
    pub(crate) fn only(&self) -> &Value {
        assert_eq!(self.0.len(), 1);
        &self.0[0]
    }
}

/// What makes a main plugin the pods' way out.
fn gateway(main: &str) -> Value {
    match main {
        "bridge" => json!({ "isDefaultGateway": true }),
        "ptp" => json!({ "ipam": { "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] } }),
        _ => json!({}),
    }
}

/// A namespace in which nobody claims addresses of IPv6 for seconds before they can be used.
pub(crate) fn space(name: &str) -> Namespace {
    let space = Namespace::new(name);
    space.sh("echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad");
    space
}

/// `config` with the members of `keys`, member by member of `ipam` too.
pub(crate) fn merged(mut config: Value, keys: &Value) -> Value {
    for (key, value) in keys.as_object().into_iter().flatten() {
        match (key.as_str(), config.get_mut(key)) {
            ("ipam", Some(ipam)) if value.is_object() => *ipam = merged(ipam.take(), value),
            _ => config[key] = value.clone(),
        }
    }
    config
}

/// A configuration as it is for commands after ADD.
pub(crate) fn after(config: &Value, result: &Value) -> Value {
    merged(config.clone(), &json!({ "prevResult": result }))
}

/// The interface of that place in a result.
pub(crate) fn interface(result: &Value, place: usize) -> &str {
    result["interfaces"][place]["name"].as_str().expect("the result has that interface")
}

/// The addresses of a result, without their prefixes.
pub(crate) fn ips(result: &Value) -> Vec<IpAddr> {
    let listed = result["ips"].as_array().into_iter().flatten();
    listed.map(|ip| bare(ip["address"].as_str().expect("an address has a text"))).collect()
}

/// An address without its prefix.
pub(crate) fn bare(address: &str) -> IpAddr {
    address.split('/').next().unwrap().parse().unwrap()
}
