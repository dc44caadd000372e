//! The IPAM plugin that a network plugin asks for addresses.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cni::{CniResult, Command, Error, Plugin, Request, exec, path};

/// The delegate that `ipam.type` names.
pub(crate) enum Delegate {
    /// A plugin of this very program, called as a function.
    Own(Box<dyn Plugin>),
    /// Somebody else's file, executed.
    File(PathBuf),
}

impl Delegate {
    /// Finds the delegate on `CNI_PATH`; `None` if the configuration names none. A plugin of ours
    /// is only called as a function where the file found is this program (same device and inode):
    /// an administrator who puts another one there gets that one.
    pub(crate) fn find(request: &Request) -> Result<Option<Self>, Error> {
        let name = &request.network.ipam.plugin_type;
        if name.is_empty() {
            return Ok(None);
        }
        let file = path::find(name, &request.path)?;
        Ok(Some(match crate::plugin(name).filter(|_| is_this_program(&file)) {
            Some(plugin) => Self::Own(plugin),
            None => Self::File(file),
        }))
    }

    /// The delegate of a plugin that cannot do without one.
    pub(crate) fn required(request: &Request) -> Result<Self, Error> {
        match Self::find(request)? {
            Some(delegate) => Ok(delegate),
            // Says that there is no name.
            None => path::find("", &request.path).map(Self::File),
        }
    }

    /// Asks for addresses and has `work` use them, and gives them back if that fails.
    pub(crate) fn lend<T>(
        &self,
        request: &Request,
        work: impl FnOnce(CniResult) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let given = self.add(request)?;
        let done = match given.ips.is_empty() {
            true => Err(Error::internal("IPAM plugin returned missing IP config")),
            false => work(given),
        };
        if done.is_err() {
            // The first failure is the one to report.
            let _ = self.del(request);
        }
        done
    }

    /// Asks for addresses.
    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        match self {
            Self::Own(plugin) => plugin.add(request),
            Self::File(file) => exec::add(file, request.environment(), &request.stdin),
        }
    }

    /// Gives addresses back. `request` may be about another command: a failed ADD gives back too.
    pub(crate) fn del(&self, request: &Request) -> Result<(), Error> {
        match self {
            Self::Own(plugin) => plugin.del(&request.with_command(Command::Del)),
            Self::File(_) => self.call(Command::Del, request),
        }
    }

    /// Passes CHECK, GC or STATUS on.
    pub(crate) fn call(&self, command: Command, request: &Request) -> Result<(), Error> {
        match (self, command) {
            (Self::File(file), _) => {
                exec::call(file, command, request.environment(), &request.stdin)
            }
            (Self::Own(plugin), Command::Check) => plugin.check(request),
            (Self::Own(plugin), Command::Gc) => plugin.gc(request),
            (Self::Own(plugin), Command::Status) => plugin.status(request),
            (Self::Own(plugin), Command::Del) => plugin.del(request),
            (Self::Own(_), Command::Add | Command::Version) => Ok(()),
        }
    }
}

fn is_this_program(file: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    id(file).is_some_and(|found| Some(found) == id(Path::new("/proc/self/exe")))
}
