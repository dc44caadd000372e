//! The crate as a plugin and a runtime use it: exact texts, every pair of versions, and any input.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails, also in its helpers")]

mod properties;
mod request;
mod result;
mod runtime;
mod serve;

use cni::{CniResult, Environment, Error, Plugin, Request, Streams, Version};

/// A complete environment for a command.
fn environment(command: &str) -> Environment {
    let text = |text: &str| Some(text.to_owned());
    Environment {
        command: text(command),
        container_id: text("one"),
        netns: text("/run/netns/one"),
        ifname: text("eth0"),
        args: None,
        path: text("/opt/cni/bin:/usr/lib/cni"),
        netns_override: None,
    }
}

/// A plugin whose every command has the same outcome.
struct Fake {
    supported: Vec<Version>,
    outcome: Result<CniResult, Error>,
}

impl Default for Fake {
    fn default() -> Self {
        Fake { supported: Version::ALL.to_vec(), outcome: Ok(CniResult::default()) }
    }
}

impl Plugin for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn build_version(&self) -> &str {
        "v1"
    }

    fn supported(&self) -> &[Version] {
        &self.supported
    }

    fn add(&self, _request: &Request) -> Result<CniResult, Error> {
        self.outcome.clone()
    }

    fn check(&self, _request: &Request) -> Result<(), Error> {
        self.outcome.clone().map(drop)
    }

    fn del(&self, _request: &Request) -> Result<(), Error> {
        self.outcome.clone().map(drop)
    }
}

/// What a start of a plugin left on standard output, on standard error, and its exit code.
fn start(plugin: &dyn Plugin, environment: &Environment, stdin: &[u8]) -> (String, String, u8) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let streams = Streams { stdin: &mut &*stdin, stdout: &mut stdout, stderr: &mut stderr };
    let code = cni::serve(plugin, environment, &|_| Ok(false), streams);
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), code)
}
