//! containerd, driven as a kubelet drives it.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use kernel::Netns;
use testbed::look::eventually;
use testbed::need;

use crate::Machine;
use crate::cri::{Cri, Port, Sandbox};
use crate::image;
use crate::machine::HOME;

/// Where it complains.
pub(crate) const LOG: &str = "/run/e2e/containerd.log";

/// containerd on a machine's node.
pub struct Containerd<'a> {
    machine: &'a Machine,
    process: Child,
}

/// A pod with one container, in which a web server tells the pod's name on port 80.
#[derive(Debug)]
pub struct Pod {
    /// What it is called.
    pub name: String,
    /// The identifier of its sandbox.
    pub id: String,
    /// The addresses that the runtime tells, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Its network.
    pub netns: Netns,
    container: String,
}

impl<'a> Containerd<'a> {
    /// Starts it, and waits until it is ready for pods.
    pub fn start(machine: &'a Machine) -> Self {
        // What a kubelet's node has as defaults, but for places, and for what the machines of CI do
        // not allow: scores below zero and AppArmor.
        let configuration = format!(
            r#"version = 2
root = "{HOME}/containerd"
state = "{HOME}/containerd-state"
oom_score = 0
[grpc]
address = "{HOME}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{}"
restrict_oom_score_adj = true
disable_apparmor = true
"#,
            image::NAME
        );
        fs::write(format!("{HOME}/containerd.toml"), configuration).unwrap();
        let containerd = Self { machine, process: start(machine) };
        containerd.wait();
        let import =
            format!("ctr -a {HOME}/containerd.sock -n k8s.io image import {HOME}/image.tar");
        machine.node().sh(&import);
        containerd
    }

    /// Stops it as an upgrade does and starts it again: what it runs goes on running.
    pub fn restart(&mut self) {
        self.machine.node().sh(&format!("kill {}", self.process.id()));
        self.process.wait().unwrap();
        self.start_again();
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it after [`Containerd::kill`].
    pub fn start_again(&mut self) {
        self.process = start(self.machine);
        self.wait();
    }

    fn wait(&self) {
        let is_ready = || Cri::connect(&socket()).is_ok_and(|cri| cri.is_ready()).then_some(());
        eventually("containerd is ready", is_ready);
    }

    /// Makes a pod, as a kubelet does; a failure is the runtime's text.
    pub fn run(&self, name: &str, ports: &[Port]) -> Result<Pod, String> {
        let cgroup = self.machine.cgroup();
        let sandbox = Sandbox { name, ports, cgroup: &cgroup };
        let server = format!("mkdir /www; echo {name} > /www/index.html; exec httpd -f -h /www");
        let cri = connect();
        let text = |status: tonic::Status| status.message().to_owned();
        let id = cri.run_sandbox(&sandbox).map_err(text)?;
        let command = ["/bin/sh", "-c", &server];
        let container = cri.start_container(&id, &sandbox, image::NAME, &command).map_err(text)?;
        let told = cri.status(&id);
        let netns = Netns::open(Path::new(&told.netns)).unwrap();
        Ok(Pod { name: name.to_owned(), id, addresses: told.addresses, netns, container })
    }

    /// Runs a command in a pod; what it prints, or what it complains about.
    pub fn exec(&self, pod: &Pod, command: &str) -> Result<String, String> {
        connect().exec(&pod.container, &["/bin/sh", "-c", command])
    }

    /// Stops a pod: nothing runs in it any more, and it has no network.
    pub fn stop(&self, pod: &Pod) {
        connect().stop_sandbox(&pod.id).unwrap();
    }

    /// Removes a pod.
    pub fn remove(&self, pod: &Pod) {
        self.remove_by_id(&pod.id);
    }

    /// Removes a pod by the identifier of its sandbox.
    pub fn remove_by_id(&self, id: &str) {
        connect().remove_sandbox(id).unwrap();
    }

    /// The identifiers of the sandboxes of all pods that the runtime knows.
    pub fn pods(&self) -> Vec<String> {
        connect().sandboxes()
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        // It is gone already where a test killed it last.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn socket() -> std::path::PathBuf {
    Path::new(HOME).join("containerd.sock")
}

/// A connection for one call, so that every thread has its own.
fn connect() -> Cri {
    Cri::connect(&socket()).unwrap()
}

fn start(machine: &Machine) -> Child {
    let log = File::options().create(true).append(true).open(LOG).unwrap();
    let mut command = Command::new(need("containerd", "containerd"));
    command.args(["--config", &format!("{HOME}/containerd.toml"), "--log-level", "warn"]);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    machine.node().netns().spawn(&mut command).unwrap()
}
