//! `podwire ipam check`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

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

/// From this part on a range set is nearly full.
const NEARLY_FULL: (u128, u128) = (9, 10);

/// Something that is not as it should be.
#[derive(Serialize, JsonSchema)]
struct Finding {
    /// The network.
    network: String,
    /// What of it.
    object: String,
    /// What is the matter with it.
    what: String,
    /// A command, or a sentence.
    fix: String,
}

/// Runs it.
pub(super) fn run(arguments: &Check, terminal: Terminal) -> Result<ExitCode> {
    let networks = survey(&arguments.places, arguments.network.as_deref())?;
    let mut findings = Vec::new();
    let mut indexes = Vec::new();
    for network in &networks {
        let state = network.store.index_state()?;
        findings.extend(reservations(network));
        findings.extend(network.usage().iter().filter_map(|usage| range(network, usage)));
        findings.extend(strangers(network)?);
        findings.extend(writable(network));
        findings.extend(index(network, &state));
        indexes.push(word(&state));
    }
    print(&match arguments.places.output {
        Format::Json => document(&told(&networks, &indexes, &findings))?,
        Format::Text => text(&networks, &indexes, &findings, terminal),
    })?;
    Ok(if findings.is_empty() { Exit::Yes } else { Exit::No }.into())
}

/// Addresses that nobody uses, that one attachment has too many of, or that nobody can read.
fn reservations(network: &Network) -> Vec<Finding> {
    let mut findings = Vec::new();
    let gc = format!("podwire ipam gc {}", network.name);
    let mut note = |object: String, what: String, fix: &str| {
        let (network, fix) = (network.name.clone(), fix.to_owned());
        findings.push(Finding { network, object, what, fix });
    };
    let mut owners = BTreeMap::<_, Vec<_>>::new();
    for entry in &network.entries {
        let (address, why) = (entry.reservation.address, &entry.judgement.why);
        let remove = format!(
            "look at it, and remove {}",
            network.store.path().join(address.to_string()).display()
        );
        match (&entry.reservation.holder, entry.judgement.life) {
            (Holder::Nobody, _) => {
                note(address.to_string(), format!("is reserved for nobody: {why}"), &gc);
            }
            (Holder::Unknown, _) => {
                note(address.to_string(), format!("is blocked: {why}"), &remove);
            }
            (_, Life::Gone) => note(address.to_string(), format!("has leaked: {why}"), &gc),
            (Holder::Container(id), Life::Unknown) => {
                let what =
                    format!("its file names {id:?} and no interface: it is very old, or cut off");
                note(address.to_string(), what, &format!("{gc} --force, if nobody uses it"));
            }
            _ => {}
        }
        if let Holder::Attachment(owner) = &entry.reservation.holder {
            let place = network.sets.iter().position(|set| set.contains(address));
            let set = place.ok_or(address.is_ipv4());
            owners.entry((owner, set)).or_default().push(address.to_string());
        }
    }
    for ((owner, _), addresses) in owners {
        if addresses.len() > 1 {
            let what = format!(
                "are all of {} in container {}, which was given more than one of the same range",
                owner.ifname, owner.id
            );
            note(addresses.join(", "), what, "delete the pod, which frees all of them");
        }
    }
    findings
}

/// A range that soon gives out no more.
fn range(network: &Network, usage: &Usage) -> Option<Finding> {
    let (part, whole) = NEARLY_FULL;
    let is_nearly_full = usage.used * whole >= usage.size.saturating_mul(part);
    let what = match usage.free() {
        0 => format!("is exhausted: all of {} are reserved", usage.size),
        free => format!("is nearly full: {free} of {} are free", usage.size),
    };
    is_nearly_full.then(|| Finding {
        network: network.name.clone(),
        object: usage.set.clone(),
        what,
        fix: format!("podwire ipam gc {}, or widen the range", network.name),
    })
}

/// Files that do not belong in the directory. The reference reads them, and DEL of the reference
/// removes them if their text fits.
fn strangers(network: &Network) -> Result<Vec<Finding>> {
    let path = network.store.path();
    let strangers = network.store.strangers()?.into_iter().map(|name| Finding {
        network: network.name.clone(),
        object: name.display().to_string(),
        what: "is no address and nothing else that belongs here".to_owned(),
        fix: format!("look at it, and move {} away", path.join(&name).display()),
    });
    Ok(strangers.collect())
}

/// A directory in which others can take addresses away, and give them to whom they like.
fn writable(network: &Network) -> Option<Finding> {
    const OTHERS: u32 = 0o022;
    let path = network.store.path();
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    (mode & OTHERS != 0).then(|| Finding {
        network: network.name.clone(),
        object: "directory".to_owned(),
        what: format!("can be written by others (mode {mode:04o})"),
        fix: format!("chmod go-w {}", net::quote(&path.display().to_string())),
    })
}

fn index(network: &Network, state: &IndexState) -> Option<Finding> {
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
    Some(Finding { network: network.name.clone(), object: "index".to_owned(), what, fix })
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

fn text(
    networks: &[Network],
    indexes: &[&str],
    findings: &[Finding],
    terminal: Terminal,
) -> String {
    let mut text = String::new();
    for Finding { network, object, what, fix } in findings {
        let [object, what, fix] = [object, what, fix].map(|text| harmless(text));
        let _ = writeln!(text, "{} {network} {object}: {what}\n  fix: {fix}", terminal.bad("FAIL"));
    }
    for (network, index) in networks.iter().zip(indexes) {
        let wrong = findings.iter().filter(|finding| finding.network == network.name).count();
        let verdict = match wrong {
            0 => terminal.good("nothing is wrong"),
            1 => terminal.bad("1 finding"),
            _ => terminal.bad(&format!("{wrong} findings")),
        };
        let (name, count) = (&network.name, network.entries.len());
        let unknown = match network.count(Life::Unknown) {
            0 => String::new(),
            unknown => format!(", {unknown} of them used or not, nobody can tell"),
        };
        let _ = writeln!(text, "{name}: {verdict}; {count} reserved{unknown}; index {index}");
    }
    if networks.is_empty() {
        text.push_str("No network has addresses of host-local.\n");
    }
    text
}

/// All of it for programs.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Report<'a> {
    /// What is not as it should be.
    findings: &'a [Finding],
    /// What was looked at.
    networks: Vec<Checked<'a>>,
}

/// A network that was looked at.
#[derive(Serialize, JsonSchema)]
struct Checked<'a> {
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

fn told<'a>(networks: &'a [Network], indexes: &[&'a str], findings: &'a [Finding]) -> Report<'a> {
    let checked = |(network, &index): (&'a Network, &&'a str)| Checked {
        name: &network.name,
        reserved: network.entries.len(),
        unknown: network.count(Life::Unknown),
        index,
        ranges: network.usage().into_iter().map(Usage::told).collect(),
    };
    Report { findings, networks: networks.iter().zip(indexes).map(checked).collect() }
}
