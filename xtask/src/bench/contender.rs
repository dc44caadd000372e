//! Who is measured, and how each is called.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::command::search_path;

/// The programs that were built for the benchmark.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) podwire: PathBuf,
    pub(crate) floor: PathBuf,
    pub(crate) peak: PathBuf,
}

/// Where Debian puts the reference plugins.
pub(crate) const REFERENCE: &str = "/usr/lib/cni";

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// podwire's plugins.
    Podwire,
    /// The reference plugins, written in Go.
    Go,
    /// The bare program that sends the same messages.
    Floor,
}

impl Contender {
    pub(crate) const ALL: [Self; 3] = [Self::Podwire, Self::Go, Self::Floor];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Podwire => "podwire",
            Self::Go => "go",
            Self::Floor => "floor",
        }
    }
}

/// The two ways of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Add,
    Del,
}

/// One network of one contender. No two share anything but the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) contender: Contender,
    pub(crate) masquerade: bool,
}

impl Network {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Contender::ALL
            .into_iter()
            .flat_map(|contender| [false, true].map(|masquerade| Self { contender, masquerade }))
    }

    /// Its name, and that of its bridge.
    pub(crate) fn name(self) -> String {
        format!("{}{}", self.contender.name(), u8::from(self.masquerade))
    }

    /// The first two bytes of its addresses.
    fn prefix(self) -> String {
        format!("10.{}", 71 + 2 * self.contender as u8 + u8::from(self.masquerade))
    }

    pub(crate) fn subnet(self) -> String {
        format!("{}.0.0/16", self.prefix())
    }

    pub(crate) fn gateway(self) -> String {
        format!("{}.0.1/16", self.prefix())
    }

    /// Where its addresses are noted.
    pub(crate) fn directory(self, data: &Path) -> PathBuf {
        data.join(self.name())
    }

    /// Its configuration, as a runtime gives it to the plugin.
    fn configuration(self, data: &Path) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": self.name(),
            "type": "bridge",
            "bridge": self.name(),
            "isGateway": true,
            "ipMasq": self.masquerade,
            "ipam": {
                "type": "host-local",
                "dataDir": data,
                "ranges": [[{ "subnet": self.subnet() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        })
    }
}

/// One pod: a fresh namespace and what is needed to call a plugin for it.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) network: Network,
    /// The number that makes it different from all others of the run.
    pub(crate) number: u16,
    pub(crate) netns: PathBuf,
    /// Where its configuration is.
    configuration: PathBuf,
    data: PathBuf,
}

impl Pod {
    /// A pod whose configuration is written for ADD.
    pub(crate) fn new(
        network: Network,
        number: u16,
        netns: PathBuf,
        directory: &Path,
        data: &Path,
    ) -> Result<Self> {
        let configuration = directory.join(format!("pod{number}.json"));
        let pod = Self { network, number, netns, configuration, data: data.to_owned() };
        pod.write(&network.configuration(data))?;
        Ok(pod)
    }

    /// Notes the result of ADD for DEL, as runtimes do since version 0.4.0.
    pub(crate) fn remember(&self, result: &[u8]) -> Result<()> {
        if self.network.contender == Contender::Floor {
            return Ok(());
        }
        let mut configuration = self.network.configuration(&self.data);
        configuration["prevResult"] = serde_json::from_slice(result).context("read a result")?;
        self.write(&configuration)
    }

    /// The call, ready to be started.
    pub(crate) fn command(&self, programs: &Programs, verb: Verb) -> Result<Command> {
        let contender = self.network.contender;
        if contender == Contender::Floor {
            let mut command = Command::new(&programs.floor);
            let [high, low] = self.number.to_be_bytes();
            command
                .arg(if verb == Verb::Add { "add" } else { "del" })
                .arg(&self.netns)
                .arg(self.network.name())
                .arg(format!("fl{:08x}", self.number))
                .arg(format!("{}.{high}.{low}", self.network.prefix()))
                .arg(self.network.directory(&self.data))
                .arg(self.network.masquerade.to_string())
                .env_clear()
                .stdin(Stdio::null());
            return Ok(command);
        }
        let mut command =
            plugin(programs, contender, if verb == Verb::Add { "ADD" } else { "DEL" });
        command
            // As long as those of the runtimes.
            .env("CNI_CONTAINERID", format!("{:064x}", self.number))
            .env("CNI_NETNS", &self.netns)
            .env("CNI_IFNAME", "eth0")
            .stdin(self.input()?);
        Ok(command)
    }

    /// What a plugin reads.
    pub(crate) fn input(&self) -> Result<File> {
        let path = &self.configuration;
        File::open(path).with_context(|| format!("open {}", path.display()))
    }

    fn write(&self, configuration: &Value) -> Result<()> {
        std::fs::write(&self.configuration, configuration.to_string())
            .with_context(|| format!("write {}", self.configuration.display()))
    }
}

/// The start of a process that does nothing else: VERSION, and nothing at all for the floor.
pub(crate) fn version(programs: &Programs, contender: Contender) -> Command {
    let mut command = match contender {
        Contender::Floor => Command::new(&programs.floor),
        _ => plugin(programs, contender, "VERSION"),
    };
    command.stdin(Stdio::null());
    command
}

fn plugin(programs: &Programs, contender: Contender, verb: &str) -> Command {
    let mut command = called(programs, contender, "bridge");
    command.env("CNI_COMMAND", verb);
    command
}

/// A plugin of that name, with nothing in its environment but where to find others.
pub(crate) fn called(programs: &Programs, contender: Contender, name: &str) -> Command {
    let directory = match contender {
        Contender::Go => Path::new(REFERENCE),
        _ => programs.podwire.parent().unwrap_or(Path::new("/")),
    };
    let mut command = Command::new(directory.join(name));
    command
        .env_clear()
        // The reference calls iptables, which a user's path may not lead to.
        .env("PATH", search_path())
        .env("CNI_PATH", directory);
    command
}
