//! podman with its CNI back end.

use std::fs;
use std::path::Path;

use kernel::Netns;
use testbed::need;

use crate::Machine;
use crate::machine::HOME;
use crate::plugins;

/// podman on a machine's node. It has no daemon; what it starts ends with the machine.
#[derive(Clone, Copy, Debug)]
pub struct Podman<'a> {
    machine: &'a Machine,
}

impl<'a> Podman<'a> {
    /// Tells podman where plugins are, and that there is no systemd.
    pub fn new(machine: &'a Machine) -> Self {
        need("podman", "podman");
        let configuration = format!(
            r#"[network]
network_backend = "cni"
cni_plugin_dirs = ["{}"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"#,
            plugins::DIRECTORY
        );
        fs::write(format!("{HOME}/containers.conf"), configuration).unwrap();
        Self { machine }
    }

    /// Runs `podman` on the node; returns what it prints.
    pub fn tell(&self, arguments: &str) -> String {
        let line = format!("CONTAINERS_CONF={HOME}/containers.conf podman {arguments}");
        self.machine.node().sh(&line).trim().to_owned()
    }

    /// Starts a container in which a web server tells the container's name on port 80.
    pub fn start(&self, name: &str, options: &str) {
        let cgroup = self.machine.cgroup();
        let server = format!("mkdir /www; echo {name} > /www/index.html; exec httpd -f -h /www");
        self.tell(&format!(
            "run --detach --name {name} --cgroup-parent {cgroup} {options} \
             --rootfs {HOME}/rootfs:O /bin/sh -c '{server}'"
        ));
    }

    /// Runs a command in a container; returns what it prints.
    pub fn exec(&self, name: &str, command: &str) -> String {
        self.tell(&format!("exec {name} /bin/sh -c '{command}'"))
    }

    /// A container's network.
    pub fn netns(&self, name: &str) -> Netns {
        let path =
            self.tell(&format!("inspect --format {{{{.NetworkSettings.SandboxKey}}}} {name}"));
        Netns::open(Path::new(&path)).unwrap()
    }
}
