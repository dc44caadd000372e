//! containerd as a process of a node.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use testbed::look::eventually;
use testbed::need;

use crate::Machine;
use crate::cri::Cri;
use crate::image;
use crate::machine::{HOME, VOLATILE};

/// Where it complains.
pub(crate) const LOG: &str = "/run/e2e/containerd.log";

/// Where it keeps what outlives a reboot.
const DISK: &str = "/run/e2e/containerd";

/// containerd on a machine's node; it ends with this value.
#[derive(Debug)]
pub struct Containerd<'a> {
    machine: &'a Machine,
    process: Child,
}

impl<'a> Containerd<'a> {
    /// Starts it, and waits until it is ready for pods.
    pub fn start(machine: &'a Machine) -> Self {
        // What a node has by default, but for places, and for what the machines of CI do not allow:
        // scores below zero and AppArmor.
        let configuration = format!(
            r#"version = 2
root = "{DISK}"
state = "{VOLATILE}/containerd"
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
        containerd.import();
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

    /// Has the power fail and come back. Pods are gone; what is on disk is not, and the runtime is up
    /// again.
    pub fn reboot(&mut self) {
        self.kill();
        self.machine.lose_power();
        self.start_again();
    }

    /// Has it lose its disk, and with that the pods, of which it knows nothing any more.
    pub fn forget(&mut self) {
        self.kill();
        self.machine.end_pods();
        fs::remove_dir_all(DISK).unwrap();
        self.start_again();
        self.import();
    }

    fn import(&self) {
        self.machine.ctr("--namespace k8s.io image import /run/e2e/image.tar");
    }

    fn wait(&self) {
        let is_ready = || Cri::connect(&socket()).is_ok_and(|cri| cri.is_ready()).then_some(());
        eventually("containerd is ready", is_ready);
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        // It is gone already where a test killed it last.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where it listens.
pub(crate) fn socket() -> PathBuf {
    Path::new(HOME).join("containerd.sock")
}

fn start(machine: &Machine) -> Child {
    let log = File::options().create(true).append(true).open(LOG).unwrap();
    let mut command = Command::new(need("containerd", "containerd"));
    command.args(["--config", &format!("{HOME}/containerd.toml"), "--log-level", "warn"]);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    machine.node().netns().spawn(&mut command).unwrap()
}
