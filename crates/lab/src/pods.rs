//! A node with pods, wired as a container runtime has it done: by CNI plugin files.

use std::path::{Path, PathBuf};

use cni::runtime::Parameters;
use cni::{Attachment, Command};
use net::{Change, File, Link, LinkName, Space, Sysctl};
use serde_json::{Value, json};

use crate::{Entry, Invocation, Lab, Namespace, Plan, Plugins, Pods, Step};

/// The node's namespace.
pub(crate) const NODE: &str = "node1";

/// The pods' addresses, as the textbook's sample has them; the first one is the gateway.
const SUBNET: &str = "10.1.0.0/24";
const SUBNET6: &str = "fd00:10:1::/64";

/// The newest version that both podwire's plugins and the ones that distributions ship speak.
const CNI_VERSION: &str = "1.0.0";

pub(crate) fn plan(lab: &Lab, network: &Pods, directory: &Path) -> Plan {
    let files = files(network, directory);
    let node = lab.node().map(|node| Space::named(&node.public));
    let steps = node.map(|node| steps(lab, network, directory, &node)).unwrap_or_default();
    Plan { lab: lab.clone(), directory: directory.to_owned(), files, steps }
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
    for pod in lab.pods() {
        let netns = pod.public_path();
        let call = Call { lab, network, directory, pod, space: node.clone(), netns };
        steps.push(Step::Cni(call.loopback()));
        steps.push(Step::Cni(call.attachment(Command::Add)));
    }
    steps
}

/// The calls that a runtime makes before it removes the pods, last pod first. They are made with
/// the lab's own paths, because a public name may have come to mean something else.
pub(crate) fn release(lab: &Lab, network: &Pods, directory: &Path) -> Vec<Invocation> {
    calls(lab, network, directory, Command::Del).into_iter().rev().collect()
}

/// The calls by which a runtime asks whether the pods' networks are as they were made.
pub(crate) fn checks(lab: &Lab, network: &Pods, directory: &Path) -> Vec<Invocation> {
    calls(lab, network, directory, Command::Check)
}

fn calls(lab: &Lab, network: &Pods, directory: &Path, command: Command) -> Vec<Invocation> {
    let Some(node) = lab.node() else { return Vec::new() };
    let space = Space::At(node.private_path(directory));
    let call = |pod: &Namespace| {
        let netns = match command {
            // Results name the sandbox as ADD was given it, and CHECK compares.
            Command::Check => pod.public_path(),
            _ => pod.private_path(directory),
        };
        Call { lab, network, directory, pod, space: space.clone(), netns }.attachment(command)
    };
    lab.pods().map(call).collect()
}

/// What all calls for one pod have in common.
struct Call<'a> {
    lab: &'a Lab,
    network: &'a Pods,
    directory: &'a Path,
    pod: &'a Namespace,
    space: Space,
    netns: PathBuf,
}

impl Call<'_> {
    /// containerd does the same with a network of its own before all others.
    fn loopback(&self) -> Invocation {
        let plugins = [json!({ "type": "loopback" })];
        let why = "lets the pod talk to itself";
        self.invocation(Command::Add, "lo", list("cni-loopback", &plugins), why)
    }

    fn attachment(&self, command: Command) -> Invocation {
        let why = match command {
            Command::Add => "joins the pod to the network, as a container runtime asks for it",
            Command::Check => "asks whether the pod is still joined as it was",
            _ => "takes the pod out of the network and gives its address back",
        };
        self.invocation(command, "eth0", pods_list(self.network, self.directory), why)
    }

    fn invocation(
        &self,
        command: Command,
        ifname: &str,
        list: Value,
        why: &'static str,
    ) -> Invocation {
        let container_id = format!("{}-{}", self.lab.name, self.pod.name);
        let attachment = Attachment { container_id, ifname: ifname.to_owned() };
        let netns = Some(self.netns.clone());
        Invocation {
            space: self.space.clone(),
            command,
            list,
            path: plugin_directory(self.network, self.directory),
            parameters: Parameters { attachment, netns, ..Parameters::default() },
            cache: self.directory.join(CACHE),
            why,
        }
    }
}

/// The name of the pods' network, which is also that of its directory of addresses.
const NETWORK: &str = "podwire";
/// Where attachments are remembered, as runtimes remember them for `CHECK` and `DEL` …
const CACHE: &str = "cni";
/// … and the directory that is made in it.
const RESULTS: &str = "cni/results";
/// Where the bridge plugin leaves what it did, if it is podwire's.
const EXPLANATIONS: &str = "cni/explanations";
/// Where host-local keeps the addresses.
const ADDRESSES: &str = "cni/networks";
/// Where it keeps their index, if it is podwire's.
const INDEX: &str = "cni/index";

fn plugin_directory(network: &Pods, directory: &Path) -> PathBuf {
    match &network.plugins {
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
            path: configurations.join("10-podwire.conflist"),
            content: cni::json::pretty(&list) + "\n",
        }),
    ];
    if let Plugins::Program { file, names } = &network.plugins {
        let bin = plugin_directory(network, directory);
        files.push(Entry::Directory(bin.clone()));
        files.extend(
            names.iter().map(|name| Entry::Symlink { path: bin.join(name), target: file.clone() }),
        );
    }
    files
}

#[cfg(test)]
mod tests {
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
        let (lab, pods) = lab(false);
        let calls = release(&lab, &pods, Path::new("/labs/blue"));
        let paths: Vec<_> =
            calls.iter().map(|call| call.parameters.netns.clone().unwrap()).collect();
        let own = ["/labs/blue/netns/pod2", "/labs/blue/netns/pod1"];
        assert_eq!(paths, own.map(PathBuf::from));
        assert!(calls.iter().all(|call| call.command == Command::Del));
        assert_eq!(calls[0].space, Space::At("/labs/blue/netns/node1".into()));
    }
}
