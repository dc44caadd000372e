//! The calls of a container runtime that a kubelet makes.

use std::net::IpAddr;
use std::path::Path;

use kernel::Netns;

use crate::Machine;
use crate::containerd::socket;
use crate::cri::{Cri, Port, Sandbox};
use crate::image;

/// Whoever has pods made on a node. What fails does so with the runtime's text.
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

    /// Makes a pod.
    pub fn run(&self, name: &str, ports: &[Port]) -> Result<Pod, String> {
        let cgroup = self.machine.cgroup();
        let sandbox = Sandbox { name, ports, cgroup: &cgroup };
        let server = format!("mkdir /www; echo {name} > /www/index.html; exec httpd -f -h /www");
        let cri = Cri::connect(&socket())?;
        let id = cri.run_sandbox(&sandbox)?;
        let command = ["/bin/sh", "-c", &server];
        let container = cri.start_container(&id, &sandbox, image::NAME, &command)?;
        let told = cri.status(&id)?;
        let netns = Netns::open(Path::new(&told.netns)).unwrap();
        Ok(Pod { name: name.to_owned(), id, addresses: told.addresses, netns, container })
    }

    /// Runs a command in a pod; what it prints; a command that fails is an error, too.
    pub fn exec(&self, pod: &Pod, command: &str) -> Result<String, String> {
        connect().exec(&pod.container, &["/bin/sh", "-c", command])
    }

    /// Stops a pod: nothing runs in it any more, and it has no network.
    pub fn stop(&self, id: &str) -> Result<(), String> {
        connect().stop_sandbox(id)
    }

    /// Removes a pod.
    pub fn remove(&self, id: &str) -> Result<(), String> {
        connect().remove_sandbox(id)
    }

    /// The identifiers of the sandboxes of all pods that the runtime knows.
    pub fn pods(&self) -> Vec<String> {
        connect().sandboxes()
    }
}

/// A connection for one call, so that every thread has its own.
fn connect() -> Cri {
    Cri::connect(&socket()).unwrap()
}
