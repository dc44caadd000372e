//! One start of a plugin, from its environment to its exit code.

use std::io::{self, Read, Write};
use std::path::Path;

use serde::Serialize;

use crate::{CniResult, Code, Command, Environment, Error, Request, Version, json};

/// A network plugin: what it does for each command.
///
/// Standard output belongs to the answer, so none of this prints anything.
pub trait Plugin {
    /// The file name that it is called by, such as `bridge`.
    fn name(&self) -> &str;

    /// The version of this build, for people.
    fn build_version(&self) -> &str;

    /// The versions of the specification that it speaks, oldest first.
    fn supported(&self) -> &[Version] {
        &Version::ALL
    }

    /// Adds the container to the network.
    ///
    /// The result is printed in [`Request::version`]. A plugin that may have no addresses to
    /// report asks [`Version::can_express`] before it acts.
    fn add(&self, request: &Request) -> Result<CniResult, Error>;

    /// Checks that everything is as `ADD` left it.
    fn check(&self, request: &Request) -> Result<(), Error>;

    /// Removes the container from the network, however little of it is left.
    fn del(&self, request: &Request) -> Result<(), Error>;

    /// Removes what belongs to no valid attachment.
    fn gc(&self, _request: &Request) -> Result<(), Error> {
        Ok(())
    }

    /// Says whether `ADD` could be served.
    fn status(&self, _request: &Request) -> Result<(), Error> {
        Ok(())
    }
}

/// The standard streams of a plugin.
pub struct Streams<'a> {
    /// Where the configuration comes from.
    pub stdin: &'a mut dyn Read,
    /// Where the answer goes.
    pub stdout: &'a mut dyn Write,
    /// Where a person reads who starts the plugin by hand.
    pub stderr: &'a mut dyn Write,
}

/// Whether a path is the network namespace of this process; an error if it cannot be opened.
pub type IsOwnNetns<'a> = dyn Fn(&Path) -> io::Result<bool> + 'a;

/// Answers one call of a plugin, and gives the exit code: 0, or 1 after an error was printed.
pub fn serve(
    plugin: &dyn Plugin,
    environment: &Environment,
    is_own_netns: &IsOwnNetns<'_>,
    streams: Streams<'_>,
) -> u8 {
    let Streams { stdin, stdout, stderr } = streams;
    // A reader who has gone away is the only one who could be told that writing failed.
    if environment.command.as_deref().unwrap_or_default().is_empty() {
        let _ = stderr.write_all(about(plugin).as_bytes());
        return 0;
    }
    let (answer, code) = match answer(plugin, environment, is_own_netns, stdin) {
        Ok(answer) => (answer, 0),
        Err(error) => (error.to_json(), 1),
    };
    match stdout.write_all(answer.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => code,
        Err(_) => 1,
    }
}

/// What a person sees who starts the plugin without a command.
fn about(plugin: &dyn Plugin) -> String {
    let versions: Vec<_> = plugin.supported().iter().map(|version| version.as_str()).collect();
    format!(
        "CNI {} plugin {}\nCNI protocol versions supported: {}\n",
        plugin.name(),
        plugin.build_version(),
        versions.join(", ")
    )
}

/// What goes to standard output when all is well.
fn answer(
    plugin: &dyn Plugin,
    environment: &Environment,
    is_own_netns: &IsOwnNetns<'_>,
    stdin: &mut dyn Read,
) -> Result<String, Error> {
    // The environment is checked before standard input is read, because a person who has forgotten
    // a variable would wait for ever.
    if environment.validate()? == Some(Command::Version) {
        return Ok(version_line(plugin));
    }
    // Room for a usual configuration, so that it is read in one go.
    let mut config = Vec::with_capacity(4096);
    stdin
        .read_to_end(&mut config)
        .map_err(|error| Error::new(Code::Io, format!("error reading from stdin: {error}")))?;
    let mut request = Request::parse(environment, config, plugin.supported())?;
    if let Err(clash) = refuse_own_netns(&request, is_own_netns) {
        if request.command == Command::Del {
            // The path of a namespace that is gone now leads here. What the attachment has besides
            // goes all the same; nothing in this namespace is taken for it.
            request.netns = None;
            plugin.del(&request)?;
        }
        return Err(clash);
    }
    let nothing = |()| String::new();
    match request.command {
        Command::Add => {
            let result = plugin.add(&request)?;
            result.to_json(request.version).map_err(Error::internal)
        }
        Command::Check => plugin.check(&request).map(nothing),
        Command::Del => plugin.del(&request).map(nothing),
        Command::Gc => plugin.gc(&request).map(nothing),
        Command::Status => plugin.status(&request).map(nothing),
        Command::Version => Ok(version_line(plugin)),
    }
}

/// Refuses to act on the host's own network, before anything is done.
///
/// A path that cannot be opened is for the plugin to judge: `DEL` must work without a netns.
fn refuse_own_netns(request: &Request, is_own_netns: &IsOwnNetns<'_>) -> Result<(), Error> {
    let Some(netns) = request.netns.as_deref() else { return Ok(()) };
    if request.netns_override {
        return Ok(());
    }
    match is_own_netns(netns) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::new(
            Code::InvalidNetns,
            "plugin's netns and netns from CNI_NETNS should not be the same",
        )),
        // If even our own cannot be opened, the question has no answer, and acting would be a guess.
        Err(_) if is_own_netns(Path::new("/proc/thread-self/ns/net")).is_err() => {
            Err(Error::new(Code::InvalidNetns, "get plugin's netns failed"))
        }
        Err(_) => Ok(()),
    }
}

/// The answer to `VERSION`. CNI spec 1.1.0 section 5, "VERSION Success".
fn version_line(plugin: &dyn Plugin) -> String {
    #[derive(Serialize)]
    struct Reply<'a> {
        #[serde(rename = "cniVersion")]
        cni_version: Version,
        #[serde(rename = "supportedVersions")]
        supported_versions: &'a [Version],
    }
    let reply = Reply { cni_version: Version::LATEST, supported_versions: plugin.supported() };
    format!("{}\n", json::compact(&reply))
}
