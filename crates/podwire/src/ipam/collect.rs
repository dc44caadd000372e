//! `podwire ipam gc`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ipam::Reservation;
use plugins::alive::Life;
use serde_json::{Value, json};

use super::survey::{Entry, Network, survey};
use crate::cli::ipam::Gc;
use crate::cli::{Format, print};
use crate::failure::{Exit, Failure, Result};
use crate::lab::{pretty, tell};
use crate::terminal::harmless;

/// What may be reserved by an `ADD` that has not come to making an interface yet.
const YOUNG: Duration = Duration::from_secs(60);

/// What was done, or would be.
#[derive(Default)]
struct Done<'a> {
    freed: Vec<(&'a Network, &'a Entry)>,
    /// Nobody can tell whether it is used.
    left: Vec<(&'a Network, &'a Entry)>,
    lives: usize,
    /// Directories that are no more, whose indexes were removed.
    orphans: BTreeSet<PathBuf>,
    failures: Vec<Failure>,
}

/// Runs it.
pub(super) fn run(arguments: &Gc) -> Result<ExitCode> {
    let networks = survey(&arguments.places, arguments.network.as_deref())?;
    let mut done = Done::default();
    for network in &networks {
        let mut stale = Vec::new();
        for entry in &network.entries {
            match verdict(entry, arguments.force) {
                Some(true) => stale.push(entry),
                Some(false) => done.lives += 1,
                None => done.left.push((network, entry)),
            }
        }
        if !arguments.dry_run {
            match free(network, &stale) {
                Ok(freed) => stale.retain(|entry| freed.contains(&entry.reservation)),
                Err(failure) => {
                    tell(&failure.to_string());
                    done.failures.push(failure);
                    continue;
                }
            }
        }
        done.freed.extend(stale.into_iter().map(|entry| (network, entry)));
    }
    sweep(&networks, arguments, &mut done)?;
    print(&match arguments.places.output {
        Format::Json => pretty(&value(&done, arguments.dry_run)),
        Format::Text => text(&done, arguments),
    })?;
    Ok(done.failures.first().map_or(Exit::Yes, |failure| failure.exit).into())
}

/// Whether a reservation has to go; `None` if nobody can tell.
fn verdict(entry: &Entry, force: bool) -> Option<bool> {
    let is_young = entry.age.is_none_or(|age| age < YOUNG);
    match entry.judgement.life {
        _ if entry.is_odd() => None,
        Life::Gone => Some(true),
        Life::Lives => Some(false),
        Life::Unknown => (force && !is_young).then_some(true),
    }
}

/// Frees what is stale and has not changed hands meanwhile, and makes the index anew.
fn free(network: &Network, stale: &[&Entry]) -> Result<Vec<Reservation>> {
    if let Some(place) = &network.index {
        // One that cannot even be removed is told of when it is to be made.
        let _ = place.forget(network.store.path());
    }
    let stale: BTreeSet<_> = stale.iter().map(|entry| &entry.reservation).collect();
    Ok(network.store.free_where(|reservation| stale.contains(reservation))?)
}

/// Removes the indexes of directories that are no more.
fn sweep(networks: &[Network], arguments: &Gc, done: &mut Done<'_>) -> Result<()> {
    if arguments.network.is_some() {
        return Ok(());
    }
    for place in networks.iter().filter_map(|network| network.index.as_ref()) {
        for orphan in place.orphans().unwrap_or_default() {
            if !arguments.dry_run {
                place.forget(&orphan)?;
            }
            done.orphans.insert(orphan);
        }
    }
    Ok(())
}

fn text(done: &Done<'_>, arguments: &Gc) -> String {
    let would = if arguments.dry_run { "would be " } else { "" };
    let mut text = String::new();
    let mut lines = |entries: &[(&Network, &Entry)], what: &str| {
        for (network, entry) in entries {
            let (address, why) = (entry.reservation.address, &entry.judgement.why);
            let _ = writeln!(text, "{} {address} {what}: {}", network.name, harmless(why));
        }
    };
    lines(&done.freed, &format!("{would}freed"));
    let (odd, doubtful): (Vec<_>, Vec<_>) = done.left.iter().partition(|(_, entry)| entry.is_odd());
    lines(&doubtful, "left, because nobody can tell whether it is used");
    lines(&odd, "left, and has to be looked at");
    for orphan in &done.orphans {
        let _ = writeln!(text, "index of {}, which is no more, {would}removed", orphan.display());
    }
    let (freed, left, lives) = (done.freed.len(), done.left.len(), done.lives);
    let _ = write!(text, "{freed} {would}freed, {lives} live, {left} left");
    let force = match (doubtful.len(), arguments.force) {
        (0, _) => String::new(),
        (_, true) => "; what is younger than a minute may be an ADD at work".to_owned(),
        (all, false) if all == left => "; --force frees those too".to_owned(),
        (some, false) => format!("; --force frees {some} of them"),
    };
    text + &force + "\n"
}

fn value(done: &Done<'_>, dry_run: bool) -> Value {
    let items = |entries: &[(&Network, &Entry)]| -> Value {
        entries.iter().map(|(network, entry)| json!(entry.told(&network.name))).collect()
    };
    let failures: Vec<String> = done.failures.iter().map(Failure::to_string).collect();
    json!({
        "apiVersion": "podwire/v1",
        "kind": if dry_run { "IpamGcPlan" } else { "IpamGcReport" },
        "freed": items(&done.freed),
        "left": items(&done.left),
        "live": done.lives,
        "indexesRemoved": done.orphans,
        "failures": failures,
    })
}
