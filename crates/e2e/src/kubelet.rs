//! The calls of a container runtime that a kubelet makes.

use std::net::IpAddr;
use std::path::Path;

use kernel::Netns;

use crate::Machine;
use crate::containerd::socket;
use crate::cri::{Cri, Port, Sandbox};
use crate::image;

/// Whoever has pods made on a node.
#[derive(Clone, Copy, Debug)]
pub struct Kubelet<'a> {
    machine: &'a Machine,
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

impl<'a> Kubelet<'a> {
    /// The one of a machine's node.
    pub fn new(machine: &'a Machine) -> Self {
        Self { machine }
    }

    /// Makes a pod, as a kubelet does; a failure is the runtime's text.
    pub fn run(&self, name: &str, ports: &[Port]) -> Result<Pod, String> {
        let cgroup = self.machine.cgroup();
        let sandbox = Sandbox { name, ports, cgroup: &cgroup };
        let server = format!("mkdir /www; echo {name} > /www/index.html; exec httpd -f -h /www");
        let cri = Cri::connect(&socket()).map_err(|error| error.to_string())?;
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

    /// Stops a pod: nothing runs in it any more, and it has no network. A failure is the runtime's
    /// text.
    pub fn stop(&self, id: &str) -> Result<(), String> {
        connect().stop_sandbox(id).map_err(text)
    }

    /// Removes a pod. A failure is the runtime's text.
    pub fn remove(&self, id: &str) -> Result<(), String> {
        connect().remove_sandbox(id).map_err(text)
    }

    /// The identifiers of the sandboxes of all pods that the runtime knows.
    pub fn pods(&self) -> Vec<String> {
        connect().sandboxes()
    }
}

fn text(status: tonic::Status) -> String {
    status.message().to_owned()
}

/// A connection for one call, so that every thread has its own.
fn connect() -> Cri {
    Cri::connect(&socket()).unwrap()
}
