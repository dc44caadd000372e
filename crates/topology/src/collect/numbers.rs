//! Whose the numbers are by which a namespace knows others: those that its devices lead to.
//!
//! The kernel answers only whether an open namespace has a number, so the ones that it can be are
//! asked about first: those with a veth that leads back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kernel::{ErrorKind, Kernel, Netns, NetnsId, Result};
use net::Space;

use super::parallel;
use crate::{Gap, Namespace};

/// The namespaces by the devices in them that lead elsewhere: own index and index there.
type Ends = HashMap<(u32, u32), Vec<usize>>;

pub(super) fn settle(
    mut namespaces: Vec<Namespace>,
    gaps: &mut Vec<Gap>,
) -> Result<Vec<Namespace>> {
    let mut ends = Ends::new();
    for (at, namespace) in namespaces.iter().enumerate() {
        for link in namespace.links().filter(|link| link.parent_netns.is_some()) {
            let parent = link.parent.unwrap_or_default();
            ends.entry((link.index, parent)).or_default().push(at);
        }
    }
    let places: Vec<usize> = (0..namespaces.len()).collect();
    let known = parallel::each(&places, |kernel, at| known(kernel, &namespaces, &ends, *at))?;
    for (namespace, (known, lost)) in namespaces.iter_mut().zip(known) {
        let name = &namespace.name;
        gaps.extend(lost.into_iter().map(|link| Gap {
            what: format!("the network namespace that {link} of {name} leads to"),
            why: "it is none of those that could be seen".to_owned(),
        }));
        namespace.known = known;
    }
    Ok(namespaces)
}

/// The numbers that could be told, and the devices that lead to no namespace that was seen.
fn known(
    kernel: &mut Kernel,
    namespaces: &[Namespace],
    ends: &Ends,
    at: usize,
) -> (BTreeMap<i32, NetnsId>, Vec<String>) {
    let own = &namespaces[at];
    let mut wanted: BTreeMap<i32, BTreeSet<usize>> = BTreeMap::new();
    for link in own.links() {
        let Some(number) = link.parent_netns else { continue };
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
    let is_lost = |number: i32| !known.contains_key(&number);
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
