//! A node with a directory of plugins, pods on it, and the calls that a runtime makes.
//!
//! The plugins are files of whoever made them: ours, or those of the reference. A test that says
//! what every implementation does runs with both, and so the test itself is tested.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testbed::Namespace;

pub(crate) use testbed::call::{Answer, Call, Running};
pub(crate) use testbed::look::*;

/// Where Debian keeps the reference's plugins. Its version 1.1.1 knows the specification up to
/// 1.0.0, and neither STATUS nor GC.
const REFERENCE: &str = "/usr/lib/cni";

/// Whose plugins are on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Podwire,
    Reference,
}

/// The plugins that run a cable to each pod. Much is true of both, and tested of both.
pub(crate) const CABLED: [&str; 2] = ["bridge", "ptp"];

/// A network of its own whose processes are plugins, with its own directory of reservations.
pub(crate) struct Node {
    pub(crate) by: By,
    pub(crate) namespace: Namespace,
    /// Its files, below `/run`, which is the test's own.
    pub(crate) home: PathBuf,
    bin: PathBuf,
}

impl Node {
    /// The only node of a test.
    pub(crate) fn new(by: By) -> Self {
        Self::named("node", by)
    }

    pub(crate) fn named(name: &str, by: By) -> Self {
        let home = Path::new("/run").join(name);
        let bin = match by {
            By::Podwire => home.join("bin"),
            By::Reference => PathBuf::from(REFERENCE),
        };
        fs::create_dir_all(&home).unwrap();
        match by {
            By::Podwire => install(&bin),
            By::Reference => assert!(
                bin.join("bridge").is_file() && bin.join("host-local").is_file(),
                "{REFERENCE} has no plugins to compare with: apt-get install containernetworking-plugins"
            ),
        }
        Self { by, namespace: space(name, by), home, bin }
    }

    /// A pod without any interface but `lo`.
    pub(crate) fn pod(&self, id: &str) -> Pod {
        self.pod_in(id, id)
    }

    /// A pod in a namespace of another name.
    pub(crate) fn pod_in(&self, id: &str, namespace: &str) -> Pod {
        let namespace = space(namespace, self.by);
        Pod { id: id.to_owned(), ifname: "eth0".to_owned(), namespace }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("networks")
    }

    /// The configuration of a bridged network without addresses, with `keys` on top.
    pub(crate) fn bridged(&self, version: &str, keys: Value) -> Value {
        let config = json!({ "cniVersion": version, "name": "pods", "type": "bridge" });
        merged(config, keys)
    }

    /// The same with addresses of these subnets, of each one.
    pub(crate) fn network(&self, version: &str, subnets: &[&str], keys: Value) -> Value {
        let sets: Vec<_> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
        let ipam = json!({
            "type": "host-local", "dataDir": self.data().to_str().unwrap(), "ranges": sets,
        });
        merged(self.bridged(version, json!({ "ipam": ipam })), keys)
    }

    /// A network of one of the plugins with cables, whose pods have a gateway and a default route.
    pub(crate) fn routed(
        &self,
        plugin: &str,
        version: &str,
        subnets: &[&str],
        keys: Value,
    ) -> Value {
        let families = [(".", "0.0.0.0/0"), (":", "::/0")].into_iter();
        let has = |mark: &str| subnets.iter().any(|subnet| subnet.contains(mark));
        let defaults = families.filter(|(mark, _)| has(mark)).map(|(_, dst)| json!({ "dst": dst }));
        let gateway = match plugin {
            "bridge" => json!({ "isDefaultGateway": true }),
            _ => json!({ "type": plugin, "ipam": { "routes": defaults.collect::<Vec<_>>() } }),
        };
        merged(self.network(version, subnets, gateway), keys)
    }

    /// A call of the plugin that a configuration is for.
    pub(crate) fn call(&self, command: &str, pod: &Pod, config: &Value) -> Call {
        let call = Call {
            program: self.bin.join(config["type"].as_str().unwrap()),
            variables: BTreeMap::new(),
            stdin: config.to_string().into_bytes(),
        };
        let netns = pod.netns();
        call.with("CNI_COMMAND", command)
            .with("CNI_CONTAINERID", &pod.id)
            .with("CNI_NETNS", &netns)
            .with("CNI_IFNAME", &pod.ifname)
            .with("CNI_PATH", self.bin.to_str().unwrap())
            // The reference looks for iptables there.
            .with("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    }

    /// A call that is about no pod: GC, STATUS, VERSION.
    pub(crate) fn call_about_all(&self, command: &str, config: &Value) -> Call {
        let nobody = Call {
            program: self.bin.join(config["type"].as_str().unwrap()),
            variables: BTreeMap::new(),
            stdin: config.to_string().into_bytes(),
        };
        nobody.with("CNI_COMMAND", command).with("CNI_PATH", self.bin.to_str().unwrap())
    }

    pub(crate) fn start(&self, call: &Call) -> Running {
        call.start(self.namespace.netns())
    }

    pub(crate) fn run(&self, call: &Call) -> Answer {
        self.start(call).wait()
    }

    #[track_caller]
    pub(crate) fn add(&self, pod: &Pod, config: &Value) -> Value {
        self.run(&self.call("ADD", pod, config)).ok()
    }

    #[track_caller]
    pub(crate) fn check(&self, pod: &Pod, config: &Value, result: &Value) {
        let answer = self.run(&self.call("CHECK", pod, &after(config, result))).ok();
        assert_eq!(answer, Value::Null);
    }

    /// DEL answers nothing.
    #[track_caller]
    pub(crate) fn del(&self, pod: &Pod, config: &Value) {
        let answer = self.run(&self.call("DEL", pod, config)).ok();
        assert_eq!(answer, Value::Null);
    }

    /// Everything that may have changed: the network of the node, and the reservations.
    pub(crate) fn state(&self) -> String {
        let files: Vec<_> = files(&self.data())
            .into_iter()
            .map(|(name, text)| format!("file {name}: {text:?}"))
            .collect();
        format!("{}\n{}", testbed::state(&self.namespace), files.join("\n"))
    }

    /// The same without what stays for the next pod: forwarding, the empty bridge, empty tables,
    /// and where the next search for an address starts.
    pub(crate) fn remains(&self, bridge: &str) -> String {
        assert_eq!(ports(&self.namespace, bridge), [""; 0]);
        self.namespace.sh(&format!("ip link delete {bridge} 2>/dev/null || true"));
        let state = self.state();
        let stays = |line: &&str| {
            !line.starts_with("net/ipv4/ip_forward=")
                && !line.starts_with("net/ipv6/conf/all/forwarding=")
                && !line.starts_with("file pods/: ")
                && !line.starts_with("file pods/lock: ")
                && !line.starts_with("file pods/last_reserved_ip.")
        };
        state.lines().filter(stays).collect::<Vec<_>>().join("\n")
    }

    /// The addresses that are reserved, with the attachment.
    pub(crate) fn reservations(&self) -> BTreeMap<String, String> {
        let address = |name: String| name.strip_prefix("pods/").map(str::to_owned);
        let is_address = |name: &str| name.parse::<std::net::IpAddr>().is_ok();
        files(&self.data())
            .into_iter()
            .filter_map(|(name, text)| Some((address(name)?, text)))
            .filter(|(name, _)| is_address(name))
            .collect()
    }
}

fn space(name: &str, by: By) -> Namespace {
    let space = Namespace::new(name);
    if by == By::Reference {
        // It claims IPv6 addresses for seconds before it uses them.
        space.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    }
    space
}

impl Drop for Node {
    fn drop(&mut self) {
        // The next node of this name starts with nothing, too.
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Puts our program into a directory under the names of its plugins.
pub(crate) fn install(bin: &Path) {
    fs::create_dir_all(bin).unwrap();
    for name in plugins::NAMES {
        symlink(env!("CARGO_BIN_EXE_podwire-cni"), bin.join(name)).unwrap();
    }
}

/// A sandbox and the interface that it asks for.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) ifname: String,
    pub(crate) namespace: Namespace,
}

impl Pod {
    pub(crate) fn netns(&self) -> String {
        self.namespace.path().to_str().unwrap().to_owned()
    }
}

/// `config` with the members of `keys`, member by member of `ipam` too.
#[expect(clippy::needless_pass_by_value, reason = "callers make the keys in place")]
pub(crate) fn merged(mut config: Value, keys: Value) -> Value {
    for (key, value) in keys.as_object().cloned().unwrap_or_default() {
        match (key.as_str(), config.get_mut(&key)) {
            ("ipam", Some(ipam)) if value.is_object() => *ipam = merged(ipam.take(), value),
            _ => config[key] = value,
        }
    }
    config
}

/// A configuration as it is for commands after ADD.
pub(crate) fn after(config: &Value, result: &Value) -> Value {
    merged(config.clone(), json!({ "prevResult": result }))
}

/// The host's end of a cable, as its result names it.
pub(crate) fn host_end(result: &Value) -> &str {
    let interfaces = result["interfaces"].as_array().unwrap().iter();
    let mut names = interfaces.map(|it| it["name"].as_str().unwrap());
    names.find(|name| name.starts_with("veth")).unwrap()
}

/// The interface of that place in a result.
pub(crate) fn interface(result: &Value, place: usize) -> &str {
    result["interfaces"][place]["name"].as_str().unwrap()
}

/// The addresses of a result, as `a/n`, of any version.
pub(crate) fn ips(result: &Value) -> Vec<String> {
    let listed = result["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    let single = ["ip4", "ip6"].into_iter().map(|family| &result[family]["ip"]);
    listed.chain(single).filter_map(|ip| Some(ip.as_str()?.to_owned())).collect()
}

/// An address without its prefix.
pub(crate) fn bare(address: &str) -> std::net::IpAddr {
    address.split('/').next().unwrap().parse().unwrap()
}
