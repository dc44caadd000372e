//! Faults of the addresses that host-local has given out: files that say what is not so.

use std::path::PathBuf;

use diagnosis::Code;
use net::{File, Plan};

use super::site::{Made, POD_LINK, Site, create, delete};
use super::{ALL, Families, Fault, NOWHERE};
use crate::Role;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "reservation-leaked",
        what: "An address is reserved for a container that is gone.",
        symptom: "Nothing yet: each such address is one pod less.",
        repair: "podwire ipam gc, or rm ADDRESS in the node's directory of addresses",
        on: Role::Node,
        scenes: ALL,
        families: Families::Any,
        rules: &[],
        unfelt: NOWHERE,
        codes: &[Code::ReservationLeaked, Code::ReservationUnknown],
        healed: false,
        make: reservation_leaked,
    },
    Fault {
        name: "reservation-lost",
        what: "A pod's address is not reserved any more.",
        symptom: "Nothing yet: the next pod may be given the same address.",
        repair: "podwire lab pod rm POD && podwire lab pod add NODE",
        on: Role::Pod,
        scenes: ALL,
        families: Families::Any,
        rules: &[],
        unfelt: NOWHERE,
        codes: &[Code::ReservationMissing],
        healed: false,
        make: reservation_lost,
    },
    Fault {
        name: "range-nearly-full",
        what: "Nine in ten addresses of the node are reserved, nearly all for containers that are gone.",
        symptom: "Nothing yet: soon no further pod gets an address.",
        repair: "podwire ipam gc, or rm the files of nobody in the node's directory of addresses",
        on: Role::Node,
        scenes: ALL,
        families: Families::V4,
        rules: &[],
        unfelt: NOWHERE,
        codes: &[Code::RangeNearlyFull],
        healed: false,
        make: range_nearly_full,
    },
    Fault {
        name: "range-full",
        what: "All addresses of the node are reserved, nearly all for containers that are gone.",
        symptom: "New pods stay in ContainerCreating: no IP addresses available.",
        repair: "podwire ipam gc, or rm the files of nobody in the node's directory of addresses",
        on: Role::Node,
        scenes: ALL,
        families: Families::V4,
        rules: &[],
        unfelt: NOWHERE,
        codes: &[Code::RangeFull],
        healed: false,
        make: range_full,
    },
];

/// The directory of the pods' addresses on a node.
fn directory(site: &Site<'_>) -> Result<PathBuf, String> {
    Ok(reservations(site)?.directory.clone())
}

fn reservations<'a>(site: &Site<'a>) -> Result<&'a topology::Reservations, String> {
    let node = site.node()?;
    let is_it = |it: &&topology::Node| {
        it.name == node.public && it.lab.as_deref() == Some(site.lab.name.as_str())
    };
    let found = site.machine.nodes.iter().find(is_it);
    let networks = found.into_iter().flat_map(|it| &it.reservations);
    let mut given = networks.filter(|it| !it.entries.is_empty());
    given.next().ok_or_else(|| format!("no address of {} is reserved", node.name))
}

fn range(site: &Site<'_>) -> Result<ipnet::IpNet, String> {
    let pods = site.pods_of(site.node()?);
    let first = pods.first().ok_or_else(|| format!("{} has no pods", site.on.name))?;
    Ok(site.address(first, POD_LINK)?.address.trunc())
}

/// What host-local writes for a container.
fn content(container: &str) -> String {
    format!("{container}\r\n{POD_LINK}")
}

fn reservation_leaked(site: &Site<'_>) -> Made {
    let free = super::site::last(range(site)?);
    let file = File { path: directory(site)?.join(free.to_string()), content: content(GONE) };
    Ok(vec![create(site.on, file, "reserves an address for a container that is gone")])
}

/// A container that never was.
const GONE: &str = "f00dbabe0000";

fn reservation_lost(site: &Site<'_>) -> Made {
    let address = site.address(site.on, POD_LINK)?.address.addr();
    let given = reservations(site)?;
    let entry = given.entries.iter().find(|it| it.address == address);
    let entry = entry.ok_or_else(|| format!("{address} is not reserved"))?;
    let content = match entry.ifname.as_str() {
        "" => entry.container_id.clone(),
        ifname => format!("{}\r\n{ifname}", entry.container_id),
    };
    let file = File { path: given.directory.join(address.to_string()), content };
    Ok(vec![delete(site.on, file, "forgets who has the pod's address")])
}

fn range_nearly_full(site: &Site<'_>) -> Made {
    filled(site, 92)
}

fn range_full(site: &Site<'_>) -> Made {
    filled(site, 100)
}

/// Reserves free addresses until so many of a hundred are reserved.
fn filled(site: &Site<'_>, percent: usize) -> Made {
    let (range, given) = (range(site)?, reservations(site)?);
    let bridge = super::bridges::bridge_of(site, site.node()?)?;
    let gateway = site.address(site.node()?, bridge.name.as_str())?.address.addr();
    let all: Vec<std::net::IpAddr> = range.hosts().filter(|it| *it != gateway).collect();
    let is_free = |it: &&std::net::IpAddr| !given.entries.iter().any(|held| held.address == **it);
    let wanted = (all.len() * percent).div_ceil(100);
    let held = all.len() - all.iter().filter(is_free).count();
    let step = |(number, address): (usize, &std::net::IpAddr)| {
        let path = given.directory.join(address.to_string());
        let file = File { path, content: content(&format!("{GONE}{number:03}")) };
        create(site.on, file, "reserves an address for a container that is gone")
    };
    let free = all.iter().filter(is_free).take(wanted.saturating_sub(held));
    let plan: Plan = free.enumerate().map(step).collect();
    if plan.is_empty() { Err(format!("{range} is as full as that already")) } else { Ok(plan) }
}
