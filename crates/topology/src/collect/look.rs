//! One look into one namespace.

use std::fs;
use std::io;
use std::path::Path;

use kernel::{Error, ErrorKind, Kernel, Listening, Netns, Result, Survey};
use net::Space;

use super::{numbers, resolvers, spaces};
use crate::{Conntrack, Gap, Listener, Namespace, Tracked};

/// What came of it.
pub(super) enum Look {
    /// It was looked at; what of it could not be read is beside it.
    Seen(Box<Namespace>, Vec<Gap>),
    /// It went away before.
    Gone,
    /// It is there and was not to be looked at.
    Closed(Gap),
}

/// What is the same for all namespaces.
pub(super) struct Around {
    /// The machine's own, where it is known and may be opened.
    pub(super) own: Option<Netns>,
    /// The most connections that namespaces can track together.
    pub(super) tracked: Option<u64>,
}

pub(super) fn look(kernel: &mut Kernel, space: &spaces::Space, around: &Around) -> Look {
    for path in &space.paths {
        let at = Space::At(path.clone());
        let seen = into(kernel, space, &at, around);
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
    around: &Around,
) -> Result<Option<(Namespace, Vec<Gap>)>> {
    if kernel.id(at)? != space.id {
        return Ok(None);
    }
    let seen = kernel.survey(at)?;
    let Survey { dump, settings, connections, listening, legacy_tables, tracked, failures } = seen;
    let conntrack = connections.zip(around.tracked).map(|(count, max)| Conntrack { count, max });
    let other = around.own.as_ref().filter(|own| own.id().is_ok_and(|own| own != space.id));
    let known = other.and_then(|own| numbers::of(kernel, at, &dump, own));
    let gap = |error: Error| {
        let what = format!("network namespace {}", space.paths[0].display());
        Gap { what, why: with_remedy(&error) }
    };
    let namespace = Namespace {
        paths: space.paths.clone(),
        processes: space.processes.clone(),
        resolvers: resolvers::of(&space.processes),
        known: known.into_iter().collect(),
        dump,
        settings,
        conntrack,
        tracked: tracked.iter().map(flow).collect(),
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

fn listener(it: &Listening) -> Listener {
    /// `IPPROTO_TCP`; the other one that is asked about is UDP.
    const TCP: u8 = 6;
    let protocol = if it.protocol == TCP { "tcp" } else { "udp" };
    Listener { protocol: protocol.to_owned(), address: it.address, port: it.port }
}

fn flow(it: &net::Tracked) -> Tracked {
    Tracked { from: it.from, to: it.to, led_to: it.led_to }
}

/// A setting of the namespace that the thread is in, or of the machine.
pub(super) fn setting(key: &str) -> io::Result<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(key))?;
    Ok(text.trim_end().replace('\t', " "))
}
