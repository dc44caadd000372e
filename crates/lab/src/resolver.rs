//! The resolver of a lab: the program in the namespace of the host beyond the cluster, which pods are
//! told to ask for names.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use net::Space;

use crate::{Error, Name, Result, processes};

/// A run of the resolver, which ends with the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverRun {
    /// The lab, whose name marks what is started.
    pub lab: Name,
    /// The namespace that it answers in.
    pub space: Space,
    /// The program.
    pub program: PathBuf,
    /// The names and addresses that it knows, as hosts(5) has them.
    pub hosts: PathBuf,
    /// Where it answers.
    pub addresses: Vec<IpAddr>,
    /// Why, in a sentence without subject.
    pub why: &'static str,
}

/// How long it may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

impl ResolverRun {
    /// Where names are asked for (RFC 1035 section 4.2).
    pub const PORT: u16 = 53;

    /// The arguments of the program.
    pub fn arguments(&self) -> Vec<String> {
        let hosts = ["--hosts".to_owned(), self.hosts.display().to_string()];
        let listen = self.addresses.iter().flat_map(|it| ["--listen".to_owned(), it.to_string()]);
        ["lab", "resolver"].map(str::to_owned).into_iter().chain(hosts).chain(listen).collect()
    }

    /// Starts it so that it outlives us, and waits until it answers.
    pub(crate) fn start(&self, interrupted: &dyn Fn() -> bool) -> Result<()> {
        let log = self.hosts.with_file_name("resolver.log");
        let mut command = processes::command(&self.program, &self.lab);
        command.args(self.arguments());
        let mut child = processes::detach(&mut command, &self.space, &log)?;
        let until = Instant::now() + PATIENCE;
        let failed = |what: String| Error::Resolver { what };
        while !self.answers()? {
            if let Ok(Some(_)) = child.try_wait() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(failed(said.trim().trim_start_matches("error: ").to_owned()));
            }
            if interrupted() {
                return Err(Error::Interrupted);
            }
            if Instant::now() > until {
                return Err(failed("it does not answer".to_owned()));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Whether it takes questions at all of its addresses, as those see it that are where it is.
    pub(crate) fn answers(&self) -> Result<bool> {
        let connects = |address: &IpAddr| {
            TcpStream::connect_timeout(
                &SocketAddr::new(*address, Self::PORT),
                Duration::from_secs(1),
            )
            .is_ok()
        };
        processes::enter(&self.space, || self.addresses.iter().all(connects))
    }
}

impl fmt::Display for ResolverRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "podwire {}", self.arguments().join(" "))
    }
}
