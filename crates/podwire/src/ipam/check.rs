//! `podwire ipam check`.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

use diagnosis::audit::{Flaw, Ledger, Unused};
use ipam::{Holder, IndexState};
use plugins::alive::Life;
use schemars::JsonSchema;
use serde::Serialize;
use topology::Document;

use super::survey::{Network, ToldRange, Usage, survey};
use crate::cli::ipam::Check;
use crate::cli::{Format, document, print};
use crate::failure::{Exit, Result};
use crate::terminal::{Terminal, harmless};

/// A network, and what is not as it should be.
struct Checked {
    network: Network,
    index: IndexState,
    findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Serialize, JsonSchema)]
struct Finding {
    /// What of the network.
    object: String,
    /// What is the matter with it.
    what: String,
    /// A command, or a sentence.
    fix: String,
}

/// Runs it.
pub(super) fn run(arguments: &Check, terminal: Terminal) -> Result<ExitCode> {
    let networks = survey(&arguments.places, arguments.network.as_deref())?;
    let checked: Vec<Checked> = networks.into_iter().map(check).collect::<Result<_>>()?;
    print(&match arguments.places.output {
        Format::Json => document(&told(&checked))?,
        Format::Text => text(&checked, terminal),
    })?;
    let is_right = checked.iter().all(|it| it.findings.is_empty());
    Ok(if is_right { Exit::Yes } else { Exit::No }.into())
}

fn check(network: Network) -> Result<Checked> {
    let index = network.store.index_state()?;
    let mut findings = reservations(&network);
    findings.extend(strangers(&network)?);
    findings.extend(writable(&network));
    findings.extend(indexed(&network, &index));
    Ok(Checked { network, index, findings })
}

/// What diagnosis says of the reservations, and of ranges that soon give out no more.
fn reservations(network: &Network) -> Vec<Finding> {
    let ledger = Ledger(&network.name);
    let lost = network.entries.iter().filter_map(|entry| {
        let unused = match (&entry.reservation.holder, entry.judgement.life) {
            (Holder::Nobody, _) => Unused::Empty,
            (_, Life::Gone) => Unused::Gone(entry.holder().0?, entry.judgement.why.clone()),
            (Holder::Container(container), Life::Unknown) => {
                let why = "its file names no interface, so it is very old, or cut off".to_owned();
                Unused::Unknown(container, why)
            }
            _ => return None,
        };
        Some(ledger.unused(entry.reservation.address, unused))
    });
    let twice = ledger.twice(network.entries.iter().filter_map(|entry| {
        let (Some(container), Some(ifname)) = entry.holder() else { return None };
        let address = entry.reservation.address;
        let set = network.sets.iter().position(|set| set.contains(address));
        Some((container, ifname, set.ok_or(address.is_ipv4()), address))
    }));
    let usage = network.usage();
    let ranges = usage.iter().filter_map(|it| ledger.range(&it.set, it.size, it.used));
    let finding = |Flaw { object, what, remedy, .. }| Finding { object, what, fix: remedy };
    lost.chain(twice).chain(ranges).map(finding).collect()
}

/// What is no reservation, and does not belong in the directory. The reference reads such files, and
/// its DEL removes them if their text fits.
fn strangers(network: &Network) -> Result<Vec<Finding>> {
    let path = network.store.path();
    let odd = network.entries.iter().filter(|entry| entry.is_odd()).map(|entry| {
        (entry.reservation.address.to_string().into(), "is blocked: its file is no reservation")
    });
    let strangers = network.store.strangers()?.into_iter();
    let strangers =
        strangers.map(|name| (name, "is no address and nothing else that belongs here"));
    let finding = odd.chain(strangers).map(|(name, what)| Finding {
        object: name.display().to_string(),
        what: what.to_owned(),
        fix: format!("look at it, and move {} away", path.join(&name).display()),
    });
    Ok(finding.collect())
}

/// A directory in which others can take addresses away, and give them to whom they like.
fn writable(network: &Network) -> Option<Finding> {
    const OTHERS: u32 = 0o022;
    let path = network.store.path();
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    (mode & OTHERS != 0).then(|| Finding {
        object: "directory".to_owned(),
        what: format!("can be written by others (mode {mode:04o})"),
        fix: format!("chmod go-w {}", net::quote(&path.display().to_string())),
    })
}

fn indexed(network: &Network, state: &IndexState) -> Option<Finding> {
    let (what, fix) = match state {
        IndexState::Wrong => (
            "does not say what is reserved".to_owned(),
            format!("podwire ipam gc {}", network.name),
        ),
        IndexState::Impossible(error) => {
            let fix =
                error.remedy().unwrap_or_else(|| "name another place by ipam.indexDir".to_owned());
            (format!("cannot be kept, which costs time: {error}"), fix)
        }
        _ => return None,
    };
    Some(Finding { object: "index".to_owned(), what, fix })
}

fn word(state: &IndexState) -> &'static str {
    match state {
        IndexState::Unwanted => "none",
        IndexState::Impossible(_) => "impossible",
        IndexState::Missing => "missing",
        IndexState::Outdated => "outdated",
        IndexState::Right => "right",
        IndexState::Wrong => "wrong",
    }
}

fn text(checked: &[Checked], terminal: Terminal) -> String {
    let mut text = String::new();
    for Checked { network: Network { name, .. }, findings, .. } in checked {
        for Finding { object, what, fix } in findings {
            let [object, what, fix] = [object, what, fix].map(|text| harmless(text));
            let _ =
                writeln!(text, "{} {name} {object}: {what}\n  fix: {fix}", terminal.bad("FAIL"));
        }
    }
    for Checked { network, index, findings } in checked {
        let verdict = match findings.len() {
            0 => terminal.good("nothing is wrong"),
            1 => terminal.bad("1 finding"),
            wrong => terminal.bad(&format!("{wrong} findings")),
        };
        let (name, count, index) = (&network.name, network.entries.len(), word(index));
        let unknown = match network.count(Life::Unknown) {
            0 => String::new(),
            unknown => format!(", {unknown} of them used or not, nobody can tell"),
        };
        let _ = writeln!(text, "{name}: {verdict}; {count} reserved{unknown}; index {index}");
    }
    if checked.is_empty() {
        text.push_str("No network has addresses of host-local.\n");
    }
    text
}

/// All of it for programs.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Report<'a> {
    /// What is not as it should be.
    findings: Vec<ToldFinding<'a>>,
    /// What was looked at.
    networks: Vec<ToldNetwork<'a>>,
}

/// What is not as it should be in a network.
#[derive(Serialize, JsonSchema)]
struct ToldFinding<'a> {
    /// The network.
    network: &'a str,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// A network that was looked at.
#[derive(Serialize, JsonSchema)]
struct ToldNetwork<'a> {
    /// What it is called.
    name: &'a str,
    /// How many addresses are reserved.
    reserved: usize,
    /// Of how many of them nobody can tell whether they are used.
    unknown: usize,
    /// What its index is, in a word.
    index: &'a str,
    /// What its configuration lets it give out.
    ranges: Vec<ToldRange>,
}

impl Document for Report<'_> {
    const KIND: &'static str = "IpamCheck";
}

fn told(checked: &[Checked]) -> Report<'_> {
    let findings = checked.iter().flat_map(|Checked { network, findings, .. }| {
        findings.iter().map(|finding| ToldFinding { network: &network.name, finding })
    });
    let networks = checked.iter().map(|Checked { network, index, .. }| ToldNetwork {
        name: &network.name,
        reserved: network.entries.len(),
        unknown: network.count(Life::Unknown),
        index: word(index),
        ranges: network.usage().into_iter().map(Usage::told).collect(),
    });
    Report { findings: findings.collect(), networks: networks.collect() }
}
