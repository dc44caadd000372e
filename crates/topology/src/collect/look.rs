//! One look into one namespace.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use kernel::{Error, ErrorKind, Kernel, Listening, Result, Survey};
use net::Space;

use super::spaces;
use crate::{Conntrack, Gap, Listener, Namespace};

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
                return Look::Closed(Gap { what, why: with_remedy(&error) });
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
    let Survey { dump, mut settings, listening, legacy_tables, failures } = kernel.survey(at)?;
    let conntrack = conntrack(&mut settings);
    let gap = |error: Error| {
        let what = format!("network namespace {}", space.paths[0].display());
        Gap { what, why: with_remedy(&error) }
    };
    let namespace = Namespace {
        paths: space.paths.clone(),
        processes: space.processes.clone(),
        dump,
        settings,
        conntrack,
        listeners: listening.iter().map(listener).collect(),
        legacy_tables,
        ..Namespace::new(space.id)
    };
    Ok(Some((namespace, failures.into_iter().map(gap).collect())))
}

fn with_remedy(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Denied => format!("{error}: use sudo"),
        _ => error.to_string(),
    }
}

/// The counts, which are no settings.
fn conntrack(settings: &mut BTreeMap<String, String>) -> Option<Conntrack> {
    let mut take = |key| settings.remove(key)?.parse().ok();
    let count = take("net.netfilter.nf_conntrack_count")?;
    Some(Conntrack { count, max: take("net.netfilter.nf_conntrack_max")? })
}

fn listener(it: &Listening) -> Listener {
    /// `IPPROTO_TCP`; the other one that is asked about is UDP.
    const TCP: u8 = 6;
    let protocol = if it.protocol == TCP { "tcp" } else { "udp" };
    Listener { protocol: protocol.to_owned(), address: it.address, port: it.port }
}

/// A setting of the namespace that the thread is in, or of the machine.
pub(super) fn setting(key: &str) -> io::Result<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(key))?;
    Ok(text.trim_end().replace('\t', " "))
}
