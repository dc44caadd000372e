//! Whether the addresses that host-local has given out are those that pods have.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use topology::{Attachment, Node, Reservation, Reservations};

use crate::finding::{Code, Finding};
use crate::view::View;
use crate::{Thing, words};

/// From this part on a range is nearly full.
const NEARLY_FULL: (u128, u128) = (9, 10);

/// How many addresses of a subnet can be given: not its first and last one, nor the gateway's.
pub(crate) fn usable(subnet: IpNet) -> u128 {
    let bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
    let all = 1_u128.checked_shl(bits).unwrap_or(u128::MAX);
    let kept = if subnet.addr().is_ipv4() { 3 } else { 2 };
    all.saturating_sub(kept)
}

/// What is wrong with the reservations of all nodes.
pub(crate) fn findings(view: &View<'_>) -> Vec<Finding> {
    let nodes = view.machine.nodes.iter();
    nodes
        .flat_map(|node| node.reservations.iter().flat_map(move |it| network(view, node, it)))
        .collect()
}

/// What is known of who holds an address.
enum Life<'a> {
    Lives,
    Gone(&'a Attachment),
    Unknown,
}

fn network(view: &View<'_>, node: &Node, reservations: &Reservations) -> Vec<Finding> {
    let mut findings = Vec::new();
    let about = || vec![Thing::Node(node.name.clone())];
    let name = &reservations.network;
    let list = format!("ls {}", net::quote(&reservations.directory.to_string_lossy()));
    let mut by_container: HashMap<&str, Vec<&Attachment>> = HashMap::new();
    for attachment in node.attachments.iter().filter(|it| it.network == *name) {
        by_container.entry(&attachment.container_id).or_default().push(attachment);
    }
    let home = node.namespace.and_then(|id| view.at(id));
    let guests = home.map(|home| view.guests(home)).unwrap_or_default();
    let used: HashSet<IpAddr> =
        guests.iter().flat_map(|at| view.own(*at)).map(|it| it.address.addr()).collect();
    let mut several: BTreeMap<(&str, &str, IpNet), Vec<IpAddr>> = BTreeMap::new();
    for entry in &reservations.entries {
        let file = reservations.directory.join(entry.address.to_string()).display().to_string();
        let show = format!("cat {}", net::quote(&file));
        match life(view, entry, &by_container, &used) {
            Life::Lives => {}
            Life::Gone(attachment) => {
                let place = attachment.netns.as_ref().map(|path| format!(" ({})", path.display()));
                let text = format!(
                    "{} of the network {name} is reserved for container {}, whose namespace{} is gone.",
                    entry.address,
                    entry.container_id,
                    place.unwrap_or_default()
                );
                let consequence = "It is given to nobody else until it is freed.";
                let finding = Finding::new(Code::ReservationLeaked, text, consequence, about());
                let remedy = format!("podwire ipam gc {}", net::quote(name));
                findings.push(finding.remedy(remedy).shown_by(show));
            }
            Life::Unknown if view.machine.gaps.is_empty() => {
                let text = format!(
                    "{} of the network {name} is reserved for container {}, of which no runtime has a \
                     note, and no namespace that was seen has the address.",
                    entry.address, entry.container_id
                );
                let consequence =
                    "If the container is gone, the address is lost until it is freed.";
                let finding = Finding::new(Code::ReservationUnknown, text, consequence, about());
                let remedy = format!("podwire ipam check {} tells more", net::quote(name));
                findings.push(finding.remedy(remedy).shown_by(show));
            }
            Life::Unknown => {}
        }
        if let Some(subnet) = reservations.subnets.iter().find(|it| it.contains(&entry.address)) {
            let key = (entry.container_id.as_str(), entry.ifname.as_str(), *subnet);
            several.entry(key).or_default().push(entry.address);
        }
    }
    for ((container, ifname, subnet), addresses) in several {
        if addresses.len() > 1 {
            let text = format!(
                "{} of {subnet} are all reserved for {ifname} of container {container}.",
                words::some(&addresses, 6)
            );
            let consequence = "One is used, and the others are given to nobody.";
            let finding = Finding::new(Code::ReservationTwice, text, consequence, about());
            findings.push(
                finding.remedy("delete the pod, which frees all of them").shown_by(list.clone()),
            );
        }
    }
    findings.extend(unreserved(view, node, reservations, &list));
    findings.extend(ranges(node, reservations, &list));
    findings
}

fn life<'a>(
    view: &View<'_>,
    entry: &Reservation,
    by_container: &HashMap<&str, Vec<&'a Attachment>>,
    used: &HashSet<IpAddr>,
) -> Life<'a> {
    if used.contains(&entry.address) {
        return Life::Lives;
    }
    let notes = by_container.get(entry.container_id.as_str()).into_iter().flatten();
    let notes: Vec<&&Attachment> =
        notes.filter(|note| entry.ifname.is_empty() || note.ifname == entry.ifname).collect();
    let is_there = |note: &&&Attachment| {
        let at = note.namespace.and_then(|id| view.at(id));
        at.is_some_and(|at| view.named(at, &note.ifname).is_some())
    };
    if notes.iter().any(is_there) {
        return Life::Lives;
    }
    // One whose namespace is there, but was not looked at, may live.
    match notes.iter().find(|note| note.namespace.is_none()) {
        Some(note) => Life::Gone(note),
        None => Life::Unknown,
    }
}

/// Addresses that pods have, and that the network might give to others.
fn unreserved(
    view: &View<'_>,
    node: &Node,
    reservations: &Reservations,
    list: &str,
) -> Vec<Finding> {
    let reserved: HashSet<IpAddr> = reservations.entries.iter().map(|it| it.address).collect();
    let mut findings = Vec::new();
    for attachment in node.attachments.iter().filter(|it| it.network == reservations.network) {
        let Some(at) = attachment.namespace.and_then(|id| view.at(id)) else { continue };
        let Some((end, _)) = view.named(at, &attachment.ifname) else { continue };
        for address in view.addresses(end).map(|it| it.address.addr()) {
            let is_given = reservations.subnets.iter().any(|subnet| subnet.contains(&address));
            if is_given && !reserved.contains(&address) {
                let text = format!(
                    "{} has the address {address}, which is not reserved in {}.",
                    view.called(at),
                    reservations.directory.display()
                );
                let consequence = "Another pod can be given the same address at any time.";
                let about = vec![view.thing(end), Thing::Node(node.name.clone())];
                let finding = Finding::new(Code::ReservationMissing, text, consequence, about);
                findings.push(finding.remedy("recreate the pod").shown_by(list));
            }
        }
    }
    findings
}

fn ranges(node: &Node, reservations: &Reservations, list: &str) -> Vec<Finding> {
    let (part, whole) = NEARLY_FULL;
    let range = |subnet: &IpNet| {
        let size = usable(*subnet);
        let held = reservations.entries.iter().filter(|it| subnet.contains(&it.address));
        let used = held.count() as u128;
        let free = size.saturating_sub(used);
        let about = vec![Thing::Node(node.name.clone())];
        let network = &reservations.network;
        let finding = match free {
            0 => {
                let text = format!(
                    "{subnet} of the network {network} is full: all {size} addresses are reserved."
                );
                Finding::new(Code::RangeFull, text, "No further pod gets an address.", about)
            }
            _ if used * whole >= size.saturating_mul(part) => {
                let text = format!(
                    "{subnet} of the network {network} is nearly full: {free} of {size} addresses are free."
                );
                let consequence = "Soon no further pod gets an address.";
                Finding::new(Code::RangeNearlyFull, text, consequence, about)
            }
            _ => return None,
        };
        let remedy = format!("podwire ipam gc {}, or widen the range", net::quote(network));
        Some(finding.remedy(remedy).shown_by(list))
    };
    reservations.subnets.iter().filter_map(range).collect()
}
