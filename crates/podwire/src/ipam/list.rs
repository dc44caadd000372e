//! `podwire ipam list`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use plugins::alive::Life;
use schemars::JsonSchema;
use serde::Serialize;
use topology::Document;

use super::survey::{Entry, Network, ToldRange, ToldReservation, Usage, survey};
use crate::cli::ipam::List;
use crate::cli::{Format, document, print};
use crate::failure::{Exit, Result};
use crate::table::table;
use crate::terminal::{Terminal, harmless};

/// How much of an id is shown, as other tools for containers do.
const ID_LENGTH: usize = 13;

/// Runs it.
pub(super) fn run(arguments: &List, terminal: Terminal) -> Result<ExitCode> {
    let networks = survey(&arguments.places, arguments.network.as_deref())?;
    print(&match arguments.places.output {
        Format::Json => document(&told(&networks))?,
        Format::Text => text(&networks, arguments.no_headers, terminal),
    })?;
    Ok(Exit::Yes.into())
}

fn text(networks: &[Network], no_headers: bool, terminal: Terminal) -> String {
    let row = |cells: [&str; 6]| cells.map(str::to_owned);
    let mut rows = vec![row(["NETWORK", "ADDRESS", "CONTAINER", "INTERFACE", "AGE", "STATE"])];
    for network in networks {
        rows.extend(network.entries.iter().map(|entry| {
            let (container, ifname) = entry.holder();
            let container = container
                .map_or("-".to_owned(), |id| harmless(id).chars().take(ID_LENGTH).collect());
            let age = entry.age.map_or("-".to_owned(), age);
            let address = entry.reservation.address.to_string();
            row([
                &network.name,
                &address,
                &container,
                &harmless(ifname.unwrap_or("-")),
                &age,
                &state(entry, terminal),
            ])
        }));
    }
    let mut text = table(rows, no_headers);
    if !networks.is_empty() {
        text.push('\n');
    }
    for network in networks {
        let _ = writeln!(text, "{}", total(network));
    }
    text
}

/// Who is not certain to live is explained.
fn state(entry: &Entry, terminal: Terminal) -> String {
    match entry.judgement.life {
        Life::Lives => terminal.good(entry.state()),
        _ => format!("{}: {}", terminal.bad(entry.state()), harmless(&entry.judgement.why)),
    }
}

fn total(network: &Network) -> String {
    let count = |life| network.count(life);
    let mut text = format!(
        "{}: {} reserved ({} live, {} gone, {} unknown)",
        network.name,
        network.entries.len(),
        count(Life::Lives),
        count(Life::Gone),
        count(Life::Unknown),
    );
    for usage in network.usage() {
        let _ = write!(text, ", {} of {} free in {}", usage.free(), usage.size, usage.set);
    }
    text
}

/// The largest unit of which there is one at least.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let units = [("d", 86_400), ("h", 3_600), ("m", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= *length);
    unit.map_or(format!("{seconds}s"), |(name, length)| format!("{}{name}", seconds / length))
}

/// All of it for programs.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ReservationList<'a> {
    /// What is reserved.
    items: Vec<ToldReservation<'a>>,
    /// Where, and how much is left there.
    networks: Vec<Total<'a>>,
}

/// A network with its numbers of reservations.
#[derive(Serialize, JsonSchema)]
struct Total<'a> {
    /// What it is called.
    name: &'a str,
    /// Where host-local keeps its reservations.
    directory: &'a Path,
    /// How many there are.
    reserved: usize,
    /// How many of them are of somebody who is there.
    live: usize,
    /// How many are of somebody who is gone.
    gone: usize,
    /// Of how many that cannot be told.
    unknown: usize,
    /// What its configuration lets it give out.
    ranges: Vec<ToldRange>,
}

impl<'a> Total<'a> {
    fn of(network: &'a Network) -> Self {
        Self {
            name: &network.name,
            directory: network.store.path(),
            reserved: network.entries.len(),
            live: network.count(Life::Lives),
            gone: network.count(Life::Gone),
            unknown: network.count(Life::Unknown),
            ranges: network.usage().into_iter().map(Usage::told).collect(),
        }
    }
}

impl Document for ReservationList<'_> {
    const KIND: &'static str = "IpamReservationList";
}

fn told(networks: &[Network]) -> ReservationList<'_> {
    let entries = networks
        .iter()
        .flat_map(|network| network.entries.iter().map(|entry| entry.told(&network.name)));
    ReservationList { items: entries.collect(), networks: networks.iter().map(Total::of).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_the_largest_unit() {
        let text = |seconds| age(Duration::from_secs(seconds));
        assert_eq!([0, 59, 60, 7_199, 86_400].map(text), ["0s", "59s", "1m", "1h", "1d"]);
    }
}
