//! A pod joined to its node's network: the calls that a container runtime makes for it.

use std::path::{Path, PathBuf};

use cni::runtime::Parameters;
use cni::{Attachment, Command};
use net::Space;
use serde_json::{Map, Value, json};

use crate::{Invocation, Lab, Namespace, Network, Step, cluster, pods};

/// The newest version that both podwire's plugins and the ones that distributions ship speak.
pub(crate) const CNI_VERSION: &str = "1.0.0";

/// What a node's runtime knows.
#[derive(Clone, Debug)]
pub(crate) struct Wiring {
    /// The network's list.
    pub(crate) list: Value,
    /// The file that it is read from when a pod is attached, where somebody else writes it.
    pub(crate) file: Option<PathBuf>,
    /// Where the plugins are.
    pub(crate) plugins: PathBuf,
    /// Where attachments are remembered.
    pub(crate) cache: PathBuf,
}

/// The steps that attach a pod.
pub(crate) fn adds(lab: &Lab, directory: &Path, pod: &Namespace) -> Vec<Step> {
    let Some(node) = lab.node_of(pod) else { return Vec::new() };
    let call = Call::new(lab, directory, pod, node.space(), pod.public_path());
    let steps = call
        .map(|call| [call.loopback(Command::Add), call.attachment(Command::Add)].map(Step::Cni));
    steps.into_iter().flatten().collect()
}

/// The calls that a runtime makes before it removes a pod: those of [`adds`], taken back. They are
/// made with the lab's own paths, because a public name may have come to mean something else.
pub(crate) fn release(lab: &Lab, directory: &Path, pod: &Namespace) -> Option<[Invocation; 2]> {
    let space = Space::At(lab.node_of(pod)?.private_path(directory));
    let call = Call::new(lab, directory, pod, space, pod.private_path(directory))?;
    Some([call.attachment(Command::Del), call.loopback(Command::Del)])
}

/// The calls that release all pods, last pod first. What only the runtime remembers goes with the
/// lab's files.
pub(crate) fn releases(lab: &Lab, directory: &Path) -> Vec<Invocation> {
    let pods: Vec<&Namespace> = lab.pods().collect();
    let release = |pod| release(lab, directory, pod).map(|[attachment, _]| attachment);
    pods.into_iter().rev().filter_map(release).collect()
}

/// The call by which a runtime asks whether a pod's network is as it was made.
pub(crate) fn check(lab: &Lab, directory: &Path, pod: &Namespace) -> Option<Invocation> {
    let space = Space::At(lab.node_of(pod)?.private_path(directory));
    // Results name the sandbox as ADD was given it, and CHECK compares.
    let call = Call::new(lab, directory, pod, space, pod.public_path())?;
    Some(call.attachment(Command::Check))
}

/// The port of the node that leads to a pod: the first of each node has one, if it was asked for.
fn host_port(lab: &Lab, pod: &Namespace) -> Option<u16> {
    let Network::Cluster(network) = &lab.network else { return None };
    let first = lab.pods().find(|it| it.node == pod.node)?;
    network.host_port.filter(|_| first == pod)
}

/// What a runtime tells plugins of such a port.
fn port_mappings(host_port: u16) -> Map<String, Value> {
    let mapping = |protocol: &str| json!({ "hostPort": host_port, "containerPort": 80, "protocol": protocol });
    let mappings = ["tcp", "udp"].map(mapping);
    Map::from_iter([("portMappings".to_owned(), json!(mappings))])
}

/// What all calls for one pod have in common.
struct Call {
    container_id: String,
    wiring: Wiring,
    space: Space,
    netns: PathBuf,
    /// The port of the node that leads to the pod.
    host_port: Option<u16>,
}

impl Call {
    fn new(
        lab: &Lab,
        directory: &Path,
        pod: &Namespace,
        space: Space,
        netns: PathBuf,
    ) -> Option<Self> {
        let wiring = match &lab.network {
            Network::Plain => return None,
            Network::Pods(network) => pods::wiring(network, directory),
            Network::Cluster(network) => {
                cluster::wiring(lab, network, directory, lab.node_of(pod)?)
            }
        };
        let container_id = format!("{}-{}", lab.name, pod.name);
        let host_port = host_port(lab, pod);
        Some(Self { container_id, wiring, space, netns, host_port })
    }

    /// containerd does the same with a network of its own before all others.
    fn loopback(&self, command: Command) -> Invocation {
        let list = json!({
            "cniVersion": CNI_VERSION, "name": "cni-loopback", "plugins": [{ "type": "loopback" }],
        });
        self.invocation(command, "lo", list, None, "lets the pod talk to itself")
    }

    fn attachment(&self, command: Command) -> Invocation {
        let why = match command {
            Command::Add => "joins the pod to the network, as a container runtime asks for it",
            Command::Check => "asks whether the pod is still joined as it was",
            _ => "takes the pod out of the network and gives its address back",
        };
        let Wiring { list, file, .. } = &self.wiring;
        self.invocation(command, "eth0", list.clone(), file.clone(), why)
    }

    fn invocation(
        &self,
        command: Command,
        ifname: &str,
        list: Value,
        file: Option<PathBuf>,
        why: &'static str,
    ) -> Invocation {
        let container_id = self.container_id.clone();
        let attachment = Attachment { container_id, ifname: ifname.to_owned() };
        let netns = Some(self.netns.clone());
        // A loopback device has no ports of the node.
        let host_port = self.host_port.filter(|_| ifname != "lo");
        let capability_args = host_port.map(port_mappings).unwrap_or_default();
        Invocation {
            space: self.space.clone(),
            command,
            list,
            file,
            path: self.wiring.plugins.clone(),
            parameters: Parameters { attachment, netns, capability_args, ..Parameters::default() },
            cache: self.wiring.cache.clone(),
            why,
        }
    }
}
