//! One namespace as the executor works in it: its sockets, and the indices behind its names.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Seek, Write};
use std::path::Path;

use net::{Change, LinkName, Space, Sysctl};

use crate::dump;
use crate::error::{Error, ErrorKind, Result};
use crate::netlink::{Protocol, Socket};
use crate::netns::Netns;
use crate::nft;
use crate::rtnetlink::{self, rtm};

/// An open namespace.
#[derive(Debug)]
pub(crate) struct Handle {
    /// `None` for the namespace that the process runs in.
    netns: Option<Netns>,
    route: Socket,
    tables: Tables,
    indices: HashMap<LinkName, u32>,
}

impl Handle {
    /// Opens `space`; `home` is the way back.
    pub(crate) fn open(space: &Space, home: &Netns) -> Result<Self> {
        let netns = match space {
            Space::Here => None,
            Space::At(path) => Some(Netns::open(path)?),
        };
        let route = inside(netns.as_ref(), home, || Socket::open(Protocol::Route))??;
        Ok(Self { netns, route, tables: Tables::default(), indices: HashMap::new() })
    }

    /// The namespace, unless it is the process' own.
    pub(crate) fn netns(&self) -> Option<&Netns> {
        self.netns.as_ref()
    }

    /// The socket for links, addresses and routes.
    pub(crate) fn route(&mut self) -> &mut Socket {
        &mut self.route
    }

    /// The socket for nftables and conntrack, opened at first use.
    pub(crate) fn netfilter(&mut self, home: &Netns) -> Result<&mut Socket> {
        let opened = match self.tables.socket.take() {
            Some(socket) => socket,
            None => inside(self.netns.as_ref(), home, || Socket::open(Protocol::Netfilter))??,
        };
        Ok(self.tables.socket.insert(opened))
    }

    /// Spares a listener the events of large transactions from here on.
    pub(crate) fn spare(&mut self, listener: nft::Listener) {
        self.tables.listener = Some(listener);
    }

    /// Makes changes to nftables in one transaction, as [`Tables::transact`].
    pub(crate) fn transact(&mut self, home: &Netns, changes: &[&Change]) -> (nft::Outcome, bool) {
        match self.netfilter(home) {
            Err(error) => (Err((0, error)), false),
            Ok(_) => self.tables.transact(changes),
        }
    }

    /// The way to nftables, for another thread to use; [`Handle::put_tables`] gives it back.
    pub(crate) fn take_tables(&mut self, home: &Netns) -> Result<Tables> {
        self.netfilter(home)?;
        Ok(std::mem::take(&mut self.tables))
    }

    /// Takes the way to nftables back.
    pub(crate) fn put_tables(&mut self, tables: Tables) {
        self.tables = tables;
    }

    /// A socket for questions about sockets.
    pub(crate) fn diagnosis(&self, home: &Netns) -> Result<Socket> {
        inside(self.netns.as_ref(), home, || Socket::open(Protocol::Diagnosis))?
    }

    /// Runs `work` in the namespace.
    pub(crate) fn inside<T>(&self, home: &Netns, work: impl FnOnce() -> T) -> Result<T> {
        inside(self.netns.as_ref(), home, work)
    }

    /// Looks a device up by name; `None` if there is none.
    pub(crate) fn link(&mut self, name: &LinkName) -> Result<Option<dump::Link>> {
        let mut found = None;
        let request = rtnetlink::link::by_name(name);
        match self.route.get(rtm::GETLINK, &request, |message| {
            found = rtnetlink::link::parse(message.payload);
        }) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.during(format!("look up device {name}"))),
        }
        match &found {
            Some(link) => self.indices.insert(name.clone(), link.index),
            None => self.indices.remove(name),
        };
        Ok(found)
    }

    /// The index of a device that has to be there. Indices are remembered: a device that goes
    /// away during a plan makes the step that uses it fail, which is what should happen.
    pub(crate) fn index(&mut self, name: &LinkName) -> Result<u32> {
        if let Some(index) = self.indices.get(name) {
            return Ok(*index);
        }
        self.link(name)?
            .map(|link| link.index)
            .ok_or_else(|| Error::errno(format!("look up device {name}"), libc::ENODEV, None))
    }

    /// Forgets all indices, because devices come and go under the same names between plans.
    pub(crate) fn forget_all(&mut self) {
        self.indices.clear();
    }

    /// Forgets an index, because its device was removed or made.
    pub(crate) fn forget(&mut self, name: &LinkName) {
        self.indices.remove(name);
    }

    /// Sees to settings in one visit of the namespace. Returns how many of them had to be
    /// written, and the first failure with its place.
    pub(crate) fn ensure_sysctls(
        &self,
        home: &Netns,
        sysctls: &[&Sysctl],
    ) -> Result<(Vec<bool>, Option<Error>)> {
        self.inside(home, || {
            let mut written = Vec::with_capacity(sysctls.len());
            for sysctl in sysctls {
                match ensure_sysctl(sysctl) {
                    Ok(wrote) => written.push(wrote),
                    Err(_) if sysctl.best_effort => written.push(false),
                    Err(error) => {
                        let what = format!("set {} to {}", sysctl.key, sysctl.value);
                        return (written, Some(Error::io(what, &error)));
                    }
                }
            }
            (written, None)
        })
    }
}

/// The way to a namespace's nftables.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Opened at first use.
    socket: Option<Socket>,
    /// Who is spared the events of large transactions that are made here.
    listener: Option<nft::Listener>,
}

impl Tables {
    /// Makes changes in one transaction. Returns as well whether somebody else may have changed
    /// something meanwhile that a spared listener has not heard of.
    pub(crate) fn transact(&mut self, changes: &[&Change]) -> (nft::Outcome, bool) {
        /// How many changes make a transaction large.
        const MANY: usize = 64;
        match (&mut self.socket, &mut self.listener) {
            (Some(socket), Some(listener)) if changes.len() >= MANY => {
                listener.spared(socket, |socket| nft::apply(socket, changes))
            }
            (Some(socket), _) => (nft::apply(socket, changes), false),
            (None, _) => {
                let error = Error::text("change nftables", ErrorKind::Other, "it is not open");
                (Err((0, error)), false)
            }
        }
    }
}

/// Reads a setting of the namespace that the calling thread is in.
pub(crate) fn read_sysctl(key: &str) -> std::io::Result<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(key))?;
    Ok(text.trim_end().replace('\t', " "))
}

/// Writes a setting unless it reads so already; writing some of them costs the kernel a walk over
/// all devices.
fn ensure_sysctl(sysctl: &Sysctl) -> std::io::Result<bool> {
    let path = Path::new("/proc/sys").join(&sysctl.key);
    let mut file = match fs::OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        // Where /proc/sys is read-only, a setting that is right already is no failure.
        Err(error) => {
            return match read_sysctl(&sysctl.key) {
                Ok(value) if value == sysctl.value => Ok(false),
                _ => Err(error),
            };
        }
    };
    let mut current = [0; 64];
    let length = file.read(&mut current)?;
    if current[..length].trim_ascii_end() == sysctl.value.as_bytes() {
        return Ok(false);
    }
    file.rewind()?;
    file.write_all(sysctl.value.as_bytes())?;
    Ok(true)
}

fn inside<T>(netns: Option<&Netns>, home: &Netns, work: impl FnOnce() -> T) -> Result<T> {
    match netns {
        Some(netns) => netns.enter_from(home, work),
        None => Ok(work()),
    }
}
