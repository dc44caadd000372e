//! A machine to measure on: namespaces of its own, the programs, and networks that have one pod
//! already, as those of a node in use.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kernel::Netns;
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};

use super::contender::{Contender, Network, Pod, Programs, REFERENCE, Verb};
use crate::command::{output, search_path};

/// All that is made lies below this, in a file system in memory that ends with the run.
const PLACE: &str = "/run/bench";

/// How long the machine may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(10);

/// The machine.
#[derive(Debug)]
pub(crate) struct Machine {
    programs: Programs,
    next: Cell<u16>,
}

impl Machine {
    /// Moves this process into namespaces of its own and prepares them.
    pub(crate) fn new(built: &Programs) -> Result<Self> {
        kernel::isolate_process()?;
        // What a plugin leaves behind to finish its work becomes our child, so that we can wait.
        set_child_subreaper(Some(getpid())).context("become the parent of orphans")?;
        let programs = place(built)?;
        kernel::prepare_directory(Path::new(net::NAMED))?;
        fs::create_dir_all(data()).context("make a place for reservations")?;
        sh("ip link set lo up")?;
        let machine = Self { programs, next: Cell::new(256) };
        for network in Network::all() {
            if network.contender == Contender::Floor {
                prepare_floor(network)?;
            }
            let pod = machine.pod(network)?;
            let (told, _) = machine.call(&pod, Verb::Add)?;
            pod.remember(&told)?;
        }
        machine.settle()?;
        check_masquerade()?;
        Ok(machine)
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Where files may be written, which end with the run.
    pub(crate) fn place(&self) -> &Path {
        Path::new(PLACE)
    }

    /// A pod with a fresh namespace.
    pub(crate) fn pod(&self, network: Network) -> Result<Pod> {
        let number = self.next.get();
        self.next.set(number.checked_add(1).context("out of pods")?);
        let netns = Path::new(net::NAMED).join(format!("pod{number}"));
        Netns::create(&netns)?;
        Pod::new(network, number, netns, Path::new(PLACE), &data())
    }

    /// Removes the namespaces of pods and lets the kernel finish with them.
    pub(crate) fn remove(&self, pods: &[PathBuf]) -> Result<()> {
        for netns in pods {
            Netns::remove(netns)?;
        }
        // Namespaces are taken apart by a worker of the kernel that nobody can wait for.
        std::thread::sleep(Duration::from_millis(150));
        Ok(())
    }

    /// Calls a plugin for a pod: what it prints, and how long that took from the start of the
    /// process until it had ended.
    pub(crate) fn call(&self, pod: &Pod, verb: Verb) -> Result<(Vec<u8>, Duration)> {
        timed(&mut pod.command(&self.programs, verb)?)
    }

    /// Waits until what plugins left running has ended: the processes, and with them the removal
    /// of devices, which they wait for. Nothing else may be running.
    pub(crate) fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match wait(WaitOptions::NOHANG) {
                Err(_) => return Ok(()),
                Ok(Some(_)) => {}
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_micros(100));
                }
                Ok(None) => bail!("a process that a plugin left behind does not end"),
            }
        }
    }

    /// How many devices the machine has.
    pub(crate) fn links(&self) -> Result<usize> {
        let table = fs::read_to_string("/proc/thread-self/net/dev").context("count devices")?;
        Ok(table.lines().count())
    }

    /// The sizes of what is installed for a bridge with host-local and loopback, in bytes.
    pub(crate) fn sizes(&self) -> Result<[(Contender, u64); 2]> {
        let size = |path: &Path| {
            fs::metadata(path).map(|m| m.len()).with_context(|| path.display().to_string())
        };
        let mut go = 0;
        for name in ["bridge", "host-local", "loopback"] {
            go += size(&Path::new(REFERENCE).join(name))?;
        }
        Ok([(Contender::Podwire, size(&self.programs.podwire)?), (Contender::Go, go)])
    }
}

/// Starts a program and waits for its end and the end of what it prints.
pub(crate) fn timed(command: &mut Command) -> Result<(Vec<u8>, Duration)> {
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let begin = Instant::now();
    let child = command.spawn().context("start a plugin")?;
    let output = child.wait_with_output().context("wait for a plugin")?;
    let took = begin.elapsed();
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {told}{complaint}", output.status);
    Ok((output.stdout, took))
}

fn data() -> PathBuf {
    Path::new(PLACE).join("networks")
}

/// Copies the programs to where they are called, podwire's under the names of its plugins.
fn place(built: &Programs) -> Result<Programs> {
    let directory = Path::new(PLACE).join("bin");
    fs::create_dir_all(&directory).context("make a place for programs")?;
    let copy = |from: &Path| -> Result<PathBuf> {
        let to = directory.join(from.file_name().context("a program has a name")?);
        fs::copy(from, &to).with_context(|| format!("copy {}", from.display()))?;
        Ok(to)
    };
    for name in ["bridge", "host-local", "portmap"] {
        symlink("podwire-cni", directory.join(name)).context("name a plugin")?;
    }
    Ok(Programs {
        podwire: copy(&built.podwire)?,
        floor: copy(&built.floor)?,
        peak: copy(&built.peak)?,
    })
}

/// Makes what the floor program finds there, as a plugin finds it from the second pod on.
fn prepare_floor(network: Network) -> Result<()> {
    let (name, gateway, subnet) = (network.name(), network.gateway(), network.subnet());
    fs::create_dir_all(network.directory(&data())).context("make a place for reservations")?;
    sh(&format!(
        "ip link add {name} type bridge; ip link set {name} up; ip addr add {gateway} dev {name}
         ip link set {name} address 02:00:00:00:00:01; echo 1 > /proc/sys/net/ipv4/ip_forward"
    ))?;
    if network.masquerade {
        sh(&format!(
            "nft 'table inet floor {{
                 map masquerade4 {{ type ipv4_addr : verdict; }}
                 chain subnet {{
                     ip daddr {subnet} return; ip daddr 224.0.0.0/4 return; masquerade;
                 }}
                 chain postrouting {{
                     type nat hook postrouting priority srcnat; ip saddr vmap @masquerade4;
                 }}
             }}'"
        ))?;
    }
    Ok(())
}

/// A contender that masquerades nothing would win for nothing.
fn check_masquerade() -> Result<()> {
    // It warns of the tables that belong to iptables.
    let rules = sh("nft list ruleset 2>/dev/null")?;
    for network in Network::all().filter(|network| network.masquerade) {
        let subnet = network.subnet();
        ensure!(
            rules.contains(&subnet) && rules.contains("masquerade"),
            "{} made no masquerade rule for {subnet}",
            network.contender.name()
        );
    }
    Ok(())
}

fn sh(script: &str) -> Result<String> {
    output(Command::new("sh").args(["-euc", script]).env("PATH", search_path()))
}
