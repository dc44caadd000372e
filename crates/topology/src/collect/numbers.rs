//! Whose the numbers are by which a namespace knows others: those that its devices lead to.
//!
//! The kernel answers only whether an open namespace has a number, so the ones that it can be are
//! asked about first: those with a veth that leads back. Most lead to the machine's own, which each
//! namespace is asked about when it is looked at; what that says of one end of a cable it says of the
//! other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kernel::dump::{Dump, Link};
use kernel::{ErrorKind, Kernel, Netns, NetnsId, Result};
use net::Space;

use super::parallel;
use crate::{Gap, Namespace};

/// The namespaces by the devices in them that lead elsewhere: own index and index there.
type Ends = HashMap<(u32, u32), Vec<usize>>;

/// Whose the numbers are that are not known yet.
pub(super) fn settle(
    mut namespaces: Vec<Namespace>,
    gaps: &mut Vec<Gap>,
) -> Result<Vec<Namespace>> {
    for (at, number, id) in told(&namespaces) {
        namespaces[at].known.insert(number, id);
    }
    let mut ends = Ends::new();
    for (at, namespace) in namespaces.iter().enumerate() {
        for link in namespace.links().filter(|link| link.parent_netns.is_some()) {
            let parent = link.parent.unwrap_or_default();
            ends.entry((link.index, parent)).or_default().push(at);
        }
    }
    let is_open = |at: &usize| {
        let own = &namespaces[*at];
        own.links().filter_map(|link| link.parent_netns).any(|it| !own.known.contains_key(&it))
    };
    let places: Vec<usize> = (0..namespaces.len()).filter(is_open).collect();
    let known = parallel::each(&places, |kernel, at| known(kernel, &namespaces, &ends, *at))?;
    for (at, (known, lost)) in places.into_iter().zip(known) {
        gaps.extend(gap(&namespaces[at].name, &lost));
        namespaces[at].known.extend(known);
    }
    Ok(namespaces)
}

/// What the far ends of cables tell: where it is known whose number is meant at one end, it is known
/// at the other, too. Place, number there, and whose it is.
fn told(namespaces: &[Namespace]) -> Vec<(usize, i32, NetnsId)> {
    let places: HashMap<NetnsId, usize> =
        namespaces.iter().enumerate().map(|(at, it)| (it.id, at)).collect();
    let mut told = Vec::new();
    for near in namespaces {
        let back = |link: &Link| {
            let at = *places.get(near.known.get(&link.parent_netns?)?)?;
            let far = namespaces[at].dump.links.get(&link.parent?).filter(|it| it.is_cable())?;
            (far.parent == Some(link.index)).then_some((at, far.parent_netns?, near.id))
        };
        told.extend(near.links().filter(|link| link.is_cable()).filter_map(back));
    }
    told
}

/// The number by which the namespace at `space`, with these devices, knows `other`, if a device of it
/// leads there.
pub(super) fn of(
    kernel: &mut Kernel,
    space: &Space,
    dump: &Dump,
    other: &Netns,
) -> Option<(i32, NetnsId)> {
    let mut leads = dump.links.values().filter_map(|link| link.parent_netns).peekable();
    leads.peek()?;
    let number = kernel.number_of(space, other).ok().flatten()?;
    leads.any(|it| it == number).then(|| other.id().ok()).flatten().map(|id| (number, id))
}

/// One for all of a namespace's devices that lead to none that was seen.
fn gap(name: &str, lost: &[String]) -> Option<Gap> {
    let first = lost.first()?;
    let what = match lost.len() {
        1 => format!("the network namespace that {first} of {name} leads to"),
        count => {
            format!("the network namespaces that {first} and {} more of {name} lead to", count - 1)
        }
    };
    let why = "none of those that could be seen".to_owned();
    Some(Gap { what, why })
}

/// The other numbers that could be told, and the devices that lead to no namespace that was seen.
fn known(
    kernel: &mut Kernel,
    namespaces: &[Namespace],
    ends: &Ends,
    at: usize,
) -> (BTreeMap<i32, NetnsId>, Vec<String>) {
    let own = &namespaces[at];
    let mut wanted: BTreeMap<i32, BTreeSet<usize>> = BTreeMap::new();
    for link in own.links() {
        let Some(number) = link.parent_netns.filter(|it| !own.known.contains_key(it)) else {
            continue;
        };
        let likely = wanted.entry(number).or_default();
        let back = ends.get(&(link.parent.unwrap_or_default(), link.index));
        likely.extend(back.into_iter().flatten().filter(|other| **other != at));
    }
    let mut known = BTreeMap::new();
    if let (false, Some(path)) = (wanted.is_empty(), own.path()) {
        let space = Space::At(path.to_owned());
        let mut asked = BTreeSet::new();
        let likely: BTreeSet<usize> = wanted.values().flatten().copied().collect();
        for other in likely.into_iter().chain(0..namespaces.len()) {
            if known.len() == wanted.len() {
                break;
            }
            if other != at
                && asked.insert(other)
                && let Some(number) = number_of(kernel, &space, &namespaces[other])
                && wanted.contains_key(&number)
            {
                known.insert(number, namespaces[other].id);
            }
        }
        kernel.close(&space);
    }
    let is_lost = |number: i32| !own.known.contains_key(&number) && !known.contains_key(&number);
    let lost = own.links().filter(|link| link.parent_netns.is_some_and(is_lost));
    let lost = lost.map(|link| link.name.clone()).collect();
    (known, lost)
}

fn number_of(kernel: &mut Kernel, space: &Space, other: &Namespace) -> Option<i32> {
    let opened = Netns::open(other.path()?).ok()?;
    if opened.id().ok()? != other.id {
        return None;
    }
    match kernel.number_of(space, &opened) {
        Ok(number) => number,
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(_) => None,
    }
}
