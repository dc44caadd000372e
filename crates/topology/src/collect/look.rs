//! One look into one namespace.

use std::fs;
use std::io;
use std::path::Path;

use kernel::{Error, ErrorKind, Kernel, Result};
use net::Space;

use super::spaces;
use crate::{Gap, Namespace};

/// What came of it.
pub(super) enum Look {
    /// It was looked at; what of it could not be read is beside it.
    Seen(Box<Namespace>, Vec<Gap>),
    /// It went away before.
    Gone,
    /// It is there and was not to be looked at.
    Closed(Gap),
}

pub(super) fn look(kernel: &mut Kernel, space: &spaces::Space) -> Look {
    for path in &space.paths {
        let at = Space::At(path.clone());
        let seen = into(kernel, space, &at);
        kernel.close(&at);
        match seen {
            Ok(Some((namespace, gaps))) => return Look::Seen(Box::new(namespace), gaps),
            // Another namespace is there by now, or none: another path may still lead to this one.
            Ok(None) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                let what = format!("network namespace {}", path.display());
                let remedy = match error.kind() {
                    ErrorKind::Denied => ": use sudo",
                    _ => "",
                };
                return Look::Closed(Gap { what, why: format!("{error}{remedy}") });
            }
        }
    }
    Look::Gone
}

/// Whether nothing, or something else than a namespace, is there by now.
fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::WrongKind)
}

fn into(
    kernel: &mut Kernel,
    space: &spaces::Space,
    at: &Space,
) -> Result<Option<(Namespace, Vec<Gap>)>> {
    if kernel.id(at)? != space.id {
        return Ok(None);
    }
    let dump = kernel.dump(at)?;
    let (paths, processes) = (space.paths.clone(), space.processes.clone());
    let namespace = Namespace { paths, processes, dump, ..Namespace::new(space.id) };
    Ok(Some((namespace, Vec::new())))
}

/// A setting of the namespace that the thread is in, or of the machine.
pub(super) fn setting(key: &str) -> io::Result<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(key))?;
    Ok(text.trim_end().replace('\t', " "))
}
