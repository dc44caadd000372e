//! A node with pods, wired as a container runtime has it done: by CNI plugin files.

use std::path::{Path, PathBuf};

use net::{Change, File, Link, LinkName, Space, Sysctl};
use serde_json::{Value, json};

use crate::attachment::{self, CNI_VERSION, Wiring};
use crate::{Entry, Lab, Namespace, Plan, Plugins, Pods, Step};

/// The node's namespace.
pub(crate) const NODE: &str = "node1";

/// The pods' addresses, as the textbook's sample has them; the first one is the gateway.
const SUBNET: &str = "10.1.0.0/24";
const SUBNET6: &str = "fd00:10:1::/64";

pub(crate) fn plan(lab: &Lab, network: &Pods, directory: &Path) -> Plan {
    let files = files(network, directory);
    let node = lab.nodes().next().map(Namespace::space);
    let steps = node.map(|node| steps(lab, network, directory, &node)).unwrap_or_default();
    let namespaces = lab.namespaces.clone();
    Plan { lab: lab.clone(), directory: directory.to_owned(), namespaces, files, steps }
}

fn steps(lab: &Lab, network: &Pods, directory: &Path, node: &Space) -> Vec<Step> {
    let machine = |change, why| Step::Machine(net::Step::new(node, change, why));
    let mut steps = Vec::new();
    if let Ok(lo) = "lo".parse::<LinkName>() {
        let change = Change::Ensure(Link::existing(lo).up().into());
        steps.push(machine(change, "lets the node talk to itself"));
    }
    if network.dual_stack {
        let sysctl = Sysctl::nicety("net/ipv6/conf/default/accept_dad", "0");
        let why = "makes IPv6 addresses usable at once: nobody else is on these cables";
        steps.push(machine(Change::Ensure(sysctl.into()), why));
    }
    steps.extend(lab.pods().flat_map(|pod| attachment::adds(lab, directory, pod)));
    steps
}

/// How the pods are attached.
pub(crate) fn wiring(network: &Pods, directory: &Path) -> Wiring {
    Wiring {
        list: pods_list(network, directory),
        file: None,
        plugins: plugin_directory(&network.plugins, directory),
        cache: directory.join(CACHE),
    }
}

/// The name of the pods' network, which is also that of its directory of addresses.
const NETWORK: &str = "podwire";
/// Where attachments are remembered, as runtimes remember them for `CHECK` and `DEL` …
const CACHE: &str = "cni";
/// … and the directory that is made in it.
const RESULTS: &str = "cni/results";
/// The file that says how pods are attached; agents call theirs so, too, if they are not told
/// otherwise.
pub(crate) const CONFLIST: &str = "10-podwire.conflist";
/// Where the bridge plugin leaves what it did, if it is podwire's.
const EXPLANATIONS: &str = "cni/explanations";
/// Where host-local keeps the addresses.
const ADDRESSES: &str = "cni/networks";
/// Where it keeps their index, if it is podwire's.
const INDEX: &str = "cni/index";

/// Where the plugins are found.
pub(crate) fn plugin_directory(plugins: &Plugins, directory: &Path) -> PathBuf {
    match plugins {
        Plugins::Directory(path) => path.clone(),
        Plugins::Program { .. } => directory.join("cni/bin"),
    }
}

/// The plugin of the list, without what the list says for all of them.
fn bridge(network: &Pods, directory: &Path) -> Value {
    let mut ranges = vec![json!([{ "subnet": SUBNET }])];
    if network.dual_stack {
        ranges.push(json!([{ "subnet": SUBNET6 }]));
    }
    json!({
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": true,
        "ipMasq": true,
        "ipam": {
            "type": "host-local",
            "dataDir": directory.join(ADDRESSES),
            "indexDir": directory.join(INDEX),
            "ranges": ranges,
        },
        "explainIn": directory.join(EXPLANATIONS),
    })
}

/// The pods' network.
fn pods_list(network: &Pods, directory: &Path) -> Value {
    list(NETWORK, &[bridge(network, directory)])
}

fn list(name: &str, plugins: &[Value]) -> Value {
    json!({ "cniVersion": CNI_VERSION, "name": name, "plugins": plugins })
}

fn files(network: &Pods, directory: &Path) -> Vec<Entry> {
    let list = pods_list(network, directory);
    let configurations = directory.join("cni/net.d");
    let mut files = vec![
        Entry::Directory(directory.join("cni")),
        Entry::Directory(directory.join(RESULTS)),
        Entry::Directory(directory.join(EXPLANATIONS)),
        Entry::Directory(configurations.clone()),
        Entry::File(File {
            path: configurations.join(CONFLIST),
            content: cni::json::pretty(&list) + "\n",
        }),
    ];
    files.extend(plugin_links(&network.plugins, directory));
    files
}

/// The names by which one program is all plugins.
pub(crate) fn plugin_links(plugins: &Plugins, directory: &Path) -> Vec<Entry> {
    let Plugins::Program { file, names } = plugins else { return Vec::new() };
    let bin = plugin_directory(plugins, directory);
    let link = |name| Entry::Symlink { path: bin.join(name), target: file.clone() };
    std::iter::once(Entry::Directory(bin.clone())).chain(names.iter().map(link)).collect()
}

#[cfg(test)]
mod tests {
    use cni::Command;

    use crate::{Name, Network};

    use super::*;

    fn lab(dual_stack: bool) -> (Lab, Pods) {
        let plugins = Plugins::Program {
            file: "/usr/bin/podwire".into(),
            names: vec!["bridge".to_owned(), "loopback".to_owned()],
        };
        let pods = Pods { count: 2, dual_stack, plugins };
        let name: Name = "blue".parse().unwrap();
        let prefix = name.prefix();
        (Lab::new(name, &prefix, Network::Pods(pods.clone())).unwrap(), pods)
    }

    #[test]
    fn pods_are_added_as_a_runtime_adds_them() {
        let (lab, _) = lab(false);
        let plan = lab.plan(Path::new("/labs/blue"));
        let calls: Vec<String> = plan
            .steps
            .iter()
            .map(|step| match step {
                Step::Machine(step) => net::shell(step).join("; "),
                Step::Cni(call) => call.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            calls,
            [
                "ip -n blue-node1 link set lo up",
                "loopback ADD, CNI_NETNS=/run/netns/blue-pod1 CNI_IFNAME=lo",
                "bridge ADD, CNI_NETNS=/run/netns/blue-pod1 CNI_IFNAME=eth0",
                "loopback ADD, CNI_NETNS=/run/netns/blue-pod2 CNI_IFNAME=lo",
                "bridge ADD, CNI_NETNS=/run/netns/blue-pod2 CNI_IFNAME=eth0",
            ]
        );
        let Some(Step::Cni(call)) = plan.steps.last() else { panic!("{:?}", plan.steps.last()) };
        assert_eq!(call.space, Space::named("blue-node1"));
        let environment = call.environment();
        assert_eq!(environment.validate().unwrap(), Some(Command::Add));
        assert_eq!(environment.container_id.as_deref(), Some("blue-pod2"));
        assert_eq!(environment.path.as_deref(), Some("/labs/blue/cni/bin"));
        let link = |name: &str| Entry::Symlink {
            path: Path::new("/labs/blue/cni/bin").join(name),
            target: "/usr/bin/podwire".into(),
        };
        assert!(plan.files.contains(&link("bridge")) && plan.files.contains(&link("loopback")));
    }

    #[test]
    fn the_list_of_a_person_and_the_call_of_the_runtime_say_the_same() {
        let (lab, _) = lab(true);
        let plan = lab.plan(Path::new("/labs/blue"));
        let list = plan.files.iter().find_map(|entry| match entry {
            Entry::File(file) => serde_json::from_str::<Value>(&file.content).ok(),
            _ => None,
        });
        let list = list.unwrap();
        let Some(Step::Cni(call)) = plan.steps.last() else { panic!("{:?}", plan.steps.last()) };
        assert_eq!(call.list, list);
        assert_eq!(list["plugins"][0]["ipam"]["ranges"][1][0]["subnet"], SUBNET6);
    }

    /// What is called a pod's name by then may be somebody else's.
    #[test]
    fn pods_are_released_by_the_labs_own_paths_last_one_first() {
        let (lab, _) = lab(false);
        let calls = attachment::releases(&lab, Path::new("/labs/blue"));
        let paths: Vec<_> =
            calls.iter().map(|call| call.parameters.netns.clone().unwrap()).collect();
        let own = ["/labs/blue/netns/pod2", "/labs/blue/netns/pod1"];
        assert_eq!(paths, own.map(PathBuf::from));
        assert!(calls.iter().all(|call| call.command == Command::Del));
        assert_eq!(calls[0].space, Space::At("/labs/blue/netns/node1".into()));
    }
}
