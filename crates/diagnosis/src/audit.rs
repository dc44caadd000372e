//! Whether the addresses that host-local has given out are those that pods have.
//!
//! What is wrong with reservations is said here, for whoever has looked at them: [`Ledger`] makes the
//! sentences, of a [`Machine`](topology::Machine) and of what `podwire ipam` has seen.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use topology::{Attachment, Node, Reservation, Reservations};

use crate::Thing;
use crate::finding::{Code, Finding};
use crate::view::View;

/// The reservations of the network of that name, with which something may be wrong.
#[derive(Clone, Copy, Debug)]
pub struct Ledger<'a>(pub &'a str);

/// Why nobody uses a reserved address, or seems to; the texts are the id of the container that it is
/// reserved for, and what is known of that, as the end of a sentence.
#[derive(Debug)]
pub enum Unused<'a> {
    /// The file names nobody.
    Empty,
    /// The container is gone.
    Gone(&'a str, String),
    /// Nothing tells whether the container is there.
    Unknown(&'a str, String),
}

/// Something that is wrong with a network's reservations.
#[derive(Debug)]
pub struct Flaw {
    /// What kind of thing it is.
    pub code: Code,
    /// The addresses, or the range.
    pub object: String,
    /// What is wrong with that: the rest of the sentence that it begins.
    pub what: String,
    /// What follows from it.
    pub consequence: &'static str,
    /// What to do.
    pub remedy: String,
}

impl Ledger<'_> {
    /// What to say of an address that nobody uses.
    pub fn unused(self, address: IpAddr, unused: Unused<'_>) -> Flaw {
        let gc = self.gc();
        let (code, whom, remedy) = match unused {
            Unused::Empty => {
                (Code::ReservationLeaked, "nobody: its file names no container".to_owned(), gc)
            }
            Unused::Gone(id, why) => {
                (Code::ReservationLeaked, format!("container {id}, which is gone: {why}"), gc)
            }
            Unused::Unknown(id, why) => {
                let whom = format!("container {id}, if that exists: {why}");
                (Code::ReservationUnknown, whom, format!("{gc} --force, if nobody uses it"))
            }
        };
        let (object, what) = (address.to_string(), format!("is reserved for {whom}"));
        let consequence = "It is given to nobody else until it is freed.";
        Flaw { code, object, what, consequence, remedy }
    }

    /// What to say of devices that hold several addresses of one `set`, of which they need one. Each
    /// entry is a container, its device, the set and the address.
    pub fn twice<'e, S: Ord>(
        self,
        entries: impl IntoIterator<Item = (&'e str, &'e str, S, IpAddr)>,
    ) -> Vec<Flaw> {
        let mut held = BTreeMap::<_, Vec<String>>::new();
        for (container, ifname, set, address) in entries {
            held.entry((container, ifname, set)).or_default().push(address.to_string());
        }
        let several = held.into_iter().filter(|(_, addresses)| addresses.len() > 1);
        let flaw = several.map(|((container, ifname, _), addresses)| Flaw {
            code: Code::ReservationTwice,
            object: addresses.join(", "),
            what: format!("are all reserved for {ifname} of container {container}"),
            consequence: "One is used, and the others are given to nobody.",
            remedy: "delete the pod, which frees all of them".to_owned(),
        });
        flaw.collect()
    }

    /// What to say of a range of `size` addresses that is full, or nine tenths of it.
    pub fn range(self, range: &str, size: u128, used: u128) -> Option<Flaw> {
        let (code, what, consequence) = match size.saturating_sub(used) {
            0 => {
                let what = format!("is full: all {size} addresses are reserved");
                (Code::RangeFull, what, "No further pod gets an address.")
            }
            free if used * 10 >= size.saturating_mul(9) => {
                let what = format!("is nearly full: {free} of {size} addresses are free");
                (Code::RangeNearlyFull, what, "Soon no further pod gets an address.")
            }
            _ => return None,
        };
        let remedy = format!("{}, or widen the range", self.gc());
        Some(Flaw { code, object: range.to_string(), what, consequence, remedy })
    }

    fn gc(self) -> String {
        format!("podwire ipam gc {}", net::quote(self.0))
    }
}

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

fn network(view: &View<'_>, node: &Node, reservations: &Reservations) -> Vec<Finding> {
    let ledger = Ledger(&reservations.network);
    let list = format!("ls {}", net::quote(&reservations.directory.to_string_lossy()));
    let finding = |flaw: Flaw, show: String| {
        let text = format!("{} of the network {} {}.", flaw.object, ledger.0, flaw.what);
        Finding::new(flaw.code, text, flaw.consequence, vec![Thing::Node(node.name.clone())])
            .remedy(flaw.remedy)
            .shown_by(show)
    };
    let mut notes: HashMap<&str, Vec<&Attachment>> = HashMap::new();
    for attachment in node.attachments.iter().filter(|it| it.network == reservations.network) {
        notes.entry(&attachment.container_id).or_default().push(attachment);
    }
    let home = node.namespace.and_then(|id| view.at(id));
    let guests = home.map(|home| view.guests(home)).unwrap_or_default();
    let used: HashSet<IpAddr> =
        guests.iter().flat_map(|at| view.own(*at)).map(|it| it.address.addr()).collect();
    let mut findings = Vec::new();
    for entry in reservations.entries.iter().filter(|it| !used.contains(&it.address)) {
        let notes = notes.get(entry.container_id.as_str()).map(Vec::as_slice).unwrap_or_default();
        if let Some(unused) = unused(view, entry, notes) {
            let file = reservations.directory.join(entry.address.to_string());
            let show = format!("cat {}", net::quote(&file.to_string_lossy()));
            findings.push(finding(ledger.unused(entry.address, unused), show));
        }
    }
    let owned = reservations.entries.iter().filter(|it| !it.ifname.is_empty());
    let twice = ledger.twice(owned.filter_map(|it| {
        let subnet = reservations.subnets.iter().find(|subnet| subnet.contains(&it.address))?;
        Some((it.container_id.as_str(), it.ifname.as_str(), *subnet, it.address))
    }));
    let ranges = reservations.subnets.iter().filter_map(|subnet| {
        let held = reservations.entries.iter().filter(|it| subnet.contains(&it.address));
        ledger.range(&subnet.to_string(), usable(*subnet), held.count() as u128)
    });
    let flaws = twice.into_iter().chain(ranges);
    findings.extend(flaws.map(|flaw| finding(flaw, list.clone())));
    findings.extend(unreserved(view, node, reservations, &list));
    findings
}

/// Why nobody uses an address that no pod was seen with; `None` if somebody may. `notes` are those of
/// its container.
fn unused<'a>(
    view: &View<'_>,
    entry: &'a Reservation,
    notes: &[&Attachment],
) -> Option<Unused<'a>> {
    let id = entry.container_id.as_str();
    if id.is_empty() {
        return Some(Unused::Empty);
    }
    let mut gone = None;
    let is_its = |note: &&&Attachment| entry.ifname.is_empty() || entry.ifname == note.ifname;
    for Attachment { ifname, netns, namespace, .. } in notes.iter().filter(is_its) {
        let Some(place) = netns.as_ref().map(|it| it.display()) else { continue };
        gone = Some(match namespace {
            None => format!("its namespace {place} is not there any more"),
            // One that was not looked at may have it.
            Some(id) if view.named(view.at(*id)?, ifname).is_some() => return None,
            Some(_) => format!("there is no {ifname} in {place} any more"),
        });
    }
    let unknown = "no runtime's note leads to it, and no namespace that was seen has the address";
    match gone {
        Some(why) => Some(Unused::Gone(id, why)),
        None => view.machine.gaps.is_empty().then(|| Unused::Unknown(id, unknown.to_owned())),
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use topology::{Machine, Namespace, NetnsId};

    use super::*;

    /// What is found where `container` holds an address, and a runtime has noted a namespace of it.
    fn found(container: &str, netns: Option<&str>, namespace: Option<NetnsId>) -> Vec<String> {
        let note = json!({ "file": "/r/n-c-eth0", "network": "n", "containerId": "c",
            "ifname": "eth0", "netns": netns, "namespace": namespace });
        let entry = |address: &str| json!({ "address": address, "containerId": container });
        let reservations = json!({ "directory": "/n", "network": "n",
            "entries": [entry("10.1.0.2"), entry("10.1.0.3")], "subnets": ["10.1.0.0/24"] });
        let node = json!({ "name": "n1", "namespace": null, "attachments": [note],
            "reservations": [reservations] });
        let nodes = vec![serde_json::from_value(node).unwrap()];
        let machine =
            Machine { nodes, namespaces: vec![Namespace::new(SEEN)], ..Machine::default() };
        findings(&View::new(&machine)).into_iter().map(|it| it.text).take(1).collect()
    }

    const SEEN: NetnsId = NetnsId { device: 4, inode: 1 };
    const UNSEEN: NetnsId = NetnsId { device: 4, inode: 2 };

    #[test]
    fn an_address_is_said_to_be_lost_by_what_is_known_and_no_more() {
        let place = Some("/run/netns/a");
        let text = |end: &str| vec![format!("10.1.0.2 of the network n is reserved for {end}.")];
        let gone =
            text("container c, which is gone: its namespace /run/netns/a is not there any more");
        assert_eq!(found("c", place, None), gone);
        let gone = text("container c, which is gone: there is no eth0 in /run/netns/a any more");
        assert_eq!(found("c", place, Some(SEEN)), gone);
        assert!(found("c", place, Some(UNSEEN)).is_empty());
        let unknown = |container: &str| {
            text(&format!(
                "container {container}, if that exists: no runtime's note leads to it, and no \
                 namespace that was seen has the address"
            ))
        };
        assert_eq!(found("c", None, None), unknown("c"));
        assert_eq!(found("d", place, None), unknown("d"));
        assert_eq!(found("", place, None), text("nobody: its file names no container"));
    }
}
