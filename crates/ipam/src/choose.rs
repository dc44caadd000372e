//! Which addresses an attachment gets: a choice made from what is configured and what is held,
//! before anything is written.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::index::Index;
use crate::{Error, Lease, Owner, Range, RangeSet, Result};

/// One address of one set, not reserved yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// What the attachment is told.
    pub lease: Lease,
    /// Whether an empty file of the same name has to go first.
    pub reclaim: bool,
}

/// Chooses one address of each set, in order, or says with the reference's words why there is
/// none. `last` answers which address a set gave out last.
///
/// A set takes the first requested address that it contains; a request that no set takes is an
/// error. Only a search refuses an attachment that has an address of the set already: the
/// reference gives a second address to a caller that names it, and so does this, because callers
/// may rely on it and a release frees both.
pub(crate) fn choose(
    sets: &[RangeSet],
    requested: &[IpAddr],
    owner: &Owner,
    index: &mut Index<'_>,
    last: impl Fn(usize) -> Option<IpAddr>,
) -> Result<Vec<Choice>> {
    let mut open = Vec::<IpAddr>::new();
    for address in requested.iter().map(IpAddr::to_canonical) {
        if !open.contains(&address) {
            open.push(address);
        }
    }
    let mut choices = Vec::with_capacity(sets.len());
    for (number, set) in sets.iter().enumerate() {
        let request = open.iter().position(|address| set.contains(*address));
        let choice = match request.map(|position| open.remove(position)) {
            Some(address) => take(set, address, index),
            None => search(set, owner, index, last(number)),
        };
        choices.push(choice.map_err(|reason| reason.in_set(number))?);
    }
    if open.is_empty() { Ok(choices) } else { Err(Error::Unfulfilled(open)) }
}

/// Whether a search would find an address, as far as the index knows.
pub(crate) fn has_free(set: &RangeSet, index: &mut Index<'_>) -> bool {
    next(set, index, None).is_some()
}

/// The requested address, if it is free.
fn take(set: &RangeSet, address: IpAddr, index: &mut Index<'_>) -> Result<Choice> {
    let unavailable = || Error::NotAvailable { address, set: set.to_string() };
    let range = set.range_of(address).ok_or_else(unavailable)?;
    if address == range.gateway() {
        return Err(Error::IsGateway(address));
    }
    match (index.is_taken(address), index.is_empty(address)) {
        (false, _) => Ok(choice(address, range, false)),
        (true, true) => Ok(choice(address, range, true)),
        (true, false) => Err(unavailable()),
    }
}

/// The next free address, unless the attachment has one of the set.
fn search(
    set: &RangeSet,
    owner: &Owner,
    index: &mut Index<'_>,
    last: Option<IpAddr>,
) -> Result<Choice> {
    let own = index.all_owned(owner).into_iter().find(|address| set.contains(*address));
    if let Some(address) = own {
        return Err(Error::Duplicate { address, id: owner.id.clone() });
    }
    next(set, index, last).ok_or_else(|| Error::Exhausted(set.to_string()))
}

/// The next free address; when there is none, the next one whose file says nobody has it.
fn next(set: &RangeSet, index: &mut Index<'_>, last: Option<IpAddr>) -> Option<Choice> {
    let turn = set.turn(last);
    let mut free = turn.iter().filter(|(numbers, _)| !numbers.is_empty());
    let free = free.find_map(|(numbers, range)| {
        let mut next = |from| index.next_free(range.is_ipv4(), from, *numbers.end());
        let first = next(*numbers.start())?;
        let is_gateway = range.address(first) == range.gateway();
        let number = if is_gateway { next(first.checked_add(1)?)? } else { first };
        Some(choice(range.address(number), range, false))
    });
    free.or_else(|| {
        turn.iter().filter(|(numbers, _)| !numbers.is_empty()).find_map(|(numbers, range)| {
            let mut empty =
                index.empty(range.address(*numbers.start()), range.address(*numbers.end()));
            let address = empty.find(|address| *address != range.gateway())?;
            Some(choice(address, range, true))
        })
    })
}

fn choice(address: IpAddr, range: &Range, reclaim: bool) -> Choice {
    // The address is of the subnet's family, so the length fits it.
    let address = IpNet::new_assert(address, range.subnet().prefix_len());
    Choice { lease: Lease { address, gateway: range.gateway() }, reclaim }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Holder, RangeSpec, range_sets};

    fn sets(subnets: &[&str]) -> Vec<RangeSet> {
        let spec =
            |subnet: &&str| vec![RangeSpec { subnet: subnet.parse().ok(), ..RangeSpec::default() }];
        range_sets(&subnets.iter().map(spec).collect::<Vec<_>>()).unwrap()
    }

    /// Chooses for `me`/`eth0`; `held` is written as `address=content`.
    fn run(subnets: &[&str], requested: &[&str], held: &[&str], last: &str) -> String {
        let held = held.iter().map(|entry| {
            let (address, text) = entry.split_once('=').unwrap();
            (address.parse().unwrap(), Holder::parse(text.as_bytes()))
        });
        let mut index = Index::from_iter(held);
        let requested: Vec<_> = requested.iter().map(|text| text.parse().unwrap()).collect();
        let owner = Owner { id: "me".into(), ifname: "eth0".into() };
        match choose(&sets(subnets), &requested, &owner, &mut index, |_| last.parse().ok()) {
            Ok(choices) => choices
                .iter()
                .map(|choice| {
                    let how = if choice.reclaim { " again" } else { "" };
                    format!("{} via {}{how}", choice.lease.address, choice.lease.gateway)
                })
                .collect::<Vec<_>>()
                .join(", "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_next_free_address_of_each_set() {
        let both = ["10.1.2.0/29", "2001:db8::/64"];
        assert_eq!(
            run(&both, &[], &[], ""),
            "10.1.2.2/29 via 10.1.2.1, 2001:db8::2/64 via 2001:db8::1"
        );
        assert_eq!(
            run(&both[..1], &[], &["10.1.2.4=a\r\neth0"], "10.1.2.3"),
            "10.1.2.5/29 via 10.1.2.1"
        );
    }

    #[test]
    fn a_left_over_is_used_when_nothing_else_is_free() {
        let subnet = ["10.1.2.0/30"];
        assert_eq!(run(&["10.1.2.0/29"], &[], &["10.1.2.2="], ""), "10.1.2.3/29 via 10.1.2.1");
        assert_eq!(run(&subnet, &[], &["10.1.2.2="], ""), "10.1.2.2/30 via 10.1.2.1 again");
        assert_eq!(
            run(&subnet, &["10.1.2.2"], &["10.1.2.2="], ""),
            "10.1.2.2/30 via 10.1.2.1 again"
        );
        assert_eq!(
            run(&subnet, &[], &["10.1.2.2=you"], ""),
            "failed to allocate for range 0: no IP addresses available in range set: 10.1.2.1-10.1.2.2"
        );
    }

    #[test]
    fn requests_are_taken_by_the_sets_that_contain_them() {
        let both = ["10.1.2.0/29", "10.1.3.0/29"];
        assert_eq!(
            run(&both, &["10.1.3.5", "10.1.3.5"], &[], ""),
            "10.1.2.2/29 via 10.1.2.1, 10.1.3.5/29 via 10.1.3.1"
        );
        assert_eq!(
            run(&both, &["10.1.2.5", "10.1.2.6", "::1"], &[], ""),
            "failed to allocate all requested IPs: 10.1.2.6 ::1"
        );
        assert_eq!(
            run(&both, &["10.1.3.1"], &[], ""),
            "failed to allocate for range 1: requested ip 10.1.3.1 is subnet's gateway"
        );
        assert_eq!(
            run(&both, &["10.1.3.2"], &["10.1.3.2=you\r\neth0"], ""),
            "failed to allocate for range 1: requested IP address 10.1.3.2 is not available in range set 10.1.3.1-10.1.3.6"
        );
    }

    #[test]
    fn only_a_search_refuses_a_second_address() {
        let subnet = ["10.1.2.0/29"];
        let duplicate = "failed to allocate for range 0: 10.1.2.4 has been allocated to me, duplicate allocation is not allowed";
        assert_eq!(run(&subnet, &[], &["10.1.2.4=me\r\neth0"], ""), duplicate);
        assert_eq!(run(&subnet, &[], &["10.1.2.4=me"], ""), duplicate);
        assert_eq!(run(&subnet, &[], &["10.1.2.4=me\r\neth1"], ""), "10.1.2.2/29 via 10.1.2.1");
        assert_eq!(run(&subnet, &[], &["10.9.9.9=me\r\neth0"], ""), "10.1.2.2/29 via 10.1.2.1");
        assert_eq!(
            run(&subnet, &["10.1.2.6"], &["10.1.2.4=me\r\neth0"], ""),
            "10.1.2.6/29 via 10.1.2.1"
        );
    }
}
