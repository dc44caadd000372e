//! A client of the Kubernetes container runtime interface: the calls that a kubelet makes of pods.
//!
//! The messages are written down here rather than generated, which would need `protoc`.

mod messages;

use std::net::IpAddr;
use std::path::Path;

use messages::*;
use serde_json::Value;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// A connection to a runtime's socket, for use by one thread. What fails does so with the runtime's
/// text.
pub(crate) struct Cri {
    executor: tokio::runtime::Runtime,
    channel: Channel,
}

/// What a pod publishes on its node.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// The only address of the node that it is published on; without one, all.
    pub address: Option<IpAddr>,
    /// The port of the node.
    pub host: u16,
    /// The port of the pod.
    pub pod: u16,
    /// Whether for UDP rather than TCP.
    pub is_udp: bool,
}

/// A pod as it is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox<'a> {
    pub(crate) name: &'a str,
    pub(crate) ports: &'a [Port],
    pub(crate) cgroup: &'a str,
}

/// What a runtime tells of a pod.
pub(crate) struct Told {
    /// As in `status.podIPs`, the primary one first.
    pub(crate) addresses: Vec<IpAddr>,
    /// The path of its network namespace.
    pub(crate) netns: String,
}

impl Cri {
    /// Connects; fails while nobody listens.
    pub(crate) fn connect(socket: &Path) -> Result<Self, String> {
        let executor = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap();
        let channel = executor.block_on(endpoint.connect()).map_err(|error| error.to_string())?;
        Ok(Self { executor, channel })
    }

    /// Whether the runtime and its network say that they are ready.
    pub(crate) fn is_ready(&self) -> bool {
        let told: Result<StatusResponse, _> = self.call("Status", Empty {});
        let conditions = told.ok().and_then(|told| told.status).unwrap_or_default().conditions;
        ["RuntimeReady", "NetworkReady"]
            .iter()
            .all(|wanted| conditions.iter().any(|it| it.kind == *wanted && it.status))
    }

    /// Makes a pod's sandbox, with its network, and returns its identifier.
    pub(crate) fn run_sandbox(&self, sandbox: &Sandbox<'_>) -> Result<String, String> {
        let request = RunPodSandboxRequest { config: Some(config(sandbox)) };
        self.call("RunPodSandbox", request).map(|it: RunPodSandboxResponse| it.pod_sandbox_id)
    }

    /// Stops what runs in a sandbox and takes its network away.
    pub(crate) fn stop_sandbox(&self, id: &str) -> Result<(), String> {
        let request = PodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.call("StopPodSandbox", request).map(|_: Empty| ())
    }

    /// Removes a sandbox with all that is in it.
    pub(crate) fn remove_sandbox(&self, id: &str) -> Result<(), String> {
        let request = PodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.call("RemovePodSandbox", request).map(|_: Empty| ())
    }

    /// The identifiers of all sandboxes.
    pub(crate) fn sandboxes(&self) -> Vec<String> {
        let told: ListPodSandboxResponse = self.call("ListPodSandbox", Empty {}).unwrap();
        told.items.into_iter().map(|sandbox| sandbox.id).collect()
    }

    /// What the runtime knows of a sandbox.
    pub(crate) fn status(&self, id: &str) -> Result<Told, String> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        let told: PodSandboxStatusResponse = self.call("PodSandboxStatus", request)?;
        let network = told.status.and_then(|status| status.network).unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|it| it.ip);
        let addresses = [network.ip].into_iter().chain(more);
        let info: Value = serde_json::from_str(&told.info["info"]).unwrap();
        let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().unwrap();
        let netns = namespaces.iter().find(|it| it["type"] == "network").unwrap();
        Ok(Told {
            addresses: addresses.map(|address| address.parse().unwrap()).collect(),
            netns: netns["path"].as_str().unwrap().to_owned(),
        })
    }

    /// Starts a container in a sandbox and returns its identifier.
    pub(crate) fn start_container(
        &self,
        id: &str,
        sandbox: &Sandbox<'_>,
        image: &str,
        command: &[&str],
    ) -> Result<String, String> {
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_owned() }),
            image: Some(ImageSpec { image: image.to_owned() }),
            command: command.iter().map(|&word| word.to_owned()).collect(),
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: id.to_owned(),
            config: Some(container),
            sandbox_config: Some(config(sandbox)),
        };
        let created: CreateContainerResponse = self.call("CreateContainer", request)?;
        let request = StartContainerRequest { container_id: created.container_id.clone() };
        let _: Empty = self.call("StartContainer", request)?;
        Ok(created.container_id)
    }

    /// Runs a command in a container; what it prints; a command that fails is an error, too.
    pub(crate) fn exec(&self, container: &str, command: &[&str]) -> Result<String, String> {
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: 20,
        };
        let told: ExecSyncResponse = self.call("ExecSync", request)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if told.exit_code == 0 {
            return Ok(text(&told.stdout));
        }
        Err(format!("{command:?} failed ({}):\n{}", told.exit_code, text(&told.stderr)))
    }

    fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, String>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let path = format!("/runtime.v1.RuntimeService/{method}").parse().unwrap();
        self.executor.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| error.to_string())?;
            let request = tonic::Request::new(request);
            let answer = client.unary(request, path, ProstCodec::default()).await;
            answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
        })
    }
}

fn config(sandbox: &Sandbox<'_>) -> PodSandboxConfig {
    let port = |port: &Port| PortMapping {
        protocol: port.is_udp.into(),
        container_port: port.pod.into(),
        host_port: port.host.into(),
        host_ip: port.address.map(|address| address.to_string()).unwrap_or_default(),
    };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: sandbox.name.to_owned(),
            uid: format!("uid-of-{}", sandbox.name),
            namespace: "e2e".to_owned(),
        }),
        hostname: sandbox.name.to_owned(),
        port_mappings: sandbox.ports.iter().map(port).collect(),
        // No network heeds it that does not have the capability.
        annotations: [("kubernetes.io/ingress-bandwidth".to_owned(), "1G".to_owned())].into(),
        linux: Some(LinuxPodSandboxConfig { cgroup_parent: sandbox.cgroup.to_owned() }),
    }
}
