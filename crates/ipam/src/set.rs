//! Range sets: each gives one address to every attachment.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::range::bits;
use crate::{Error, Range, RangeSpec, Result};

/// Ranges of one family that stand in for each other: an attachment gets one address from the
/// whole set. It has at least one range, and no two of them overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

/// The range sets of a configuration, of which every attachment gets one address each: at least
/// one, and no two of them overlap.
pub fn range_sets(specs: &[Vec<RangeSpec>]) -> Result<Vec<RangeSet>> {
    if specs.is_empty() {
        return Err(Error::NoRanges);
    }
    let sets = specs
        .iter()
        .enumerate()
        .map(|(index, specs)| {
            RangeSet::new(specs)
                .map_err(|reason| Error::InvalidSet { index, reason: Box::new(reason) })
        })
        .collect::<Result<Vec<_>>>()?;
    for (first, set) in sets.iter().enumerate() {
        let overlap = sets[first + 1..].iter().position(|other| set.overlaps(other));
        if let Some(distance) = overlap {
            return Err(Error::SetsOverlap { first, second: first + 1 + distance });
        }
    }
    Ok(sets)
}

impl RangeSet {
    /// Checks the ranges one by one and against each other, in the reference's order.
    pub fn new(specs: &[RangeSpec]) -> Result<Self> {
        let mut ranges = Vec::<Range>::with_capacity(specs.len());
        for spec in specs {
            let range = Range::new(spec)?;
            if ranges.first().is_some_and(|first| first.is_ipv4() != range.is_ipv4()) {
                return Err(Error::MixedFamilies);
            }
            ranges.push(range);
        }
        if ranges.is_empty() {
            return Err(Error::EmptySet);
        }
        for (index, first) in ranges.iter().enumerate() {
            if let Some(second) = ranges[index + 1..].iter().find(|range| first.overlaps(range)) {
                let (first, second) = (first.to_string(), second.to_string());
                return Err(Error::RangesOverlap { first, second });
            }
        }
        Ok(Self(ranges))
    }

    /// Where to look for the next address, in order: round robin from the one after `last` over
    /// all ranges, ending with `last` itself. Without a `last` in this set it starts at the first
    /// range. Each part is the numbers of addresses of one range, whose gateway is not left out.
    pub(crate) fn turn(&self, last: Option<IpAddr>) -> Vec<(RangeInclusive<u128>, &Range)> {
        let mut parts: Vec<_> = self.0.iter().map(|range| (range.numbers(), range)).collect();
        let turn = last.and_then(|last| self.0.iter().position(|range| range.contains(last)));
        if let (Some(turn), Some(last)) = (turn, last.map(bits)) {
            // The cursor's range comes in two parts: what is behind the cursor at first, and what
            // is up to it at the end.
            parts.rotate_left(turn);
            let (numbers, range) = &mut parts[0];
            let until = (*numbers.start()..=last, *range);
            *numbers = last..=*numbers.end();
            numbers.next();
            parts.push(until);
        }
        parts
    }

    /// The range that contains the address.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// Whether some range contains the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.range_of(address).is_some()
    }

    /// Whether some address is in both sets.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|range| other.0.iter().any(|other| range.overlaps(other)))
    }

    /// Whether the set gives out IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.0[0].is_ipv4()
    }

    /// How many addresses can be given out at most.
    pub fn size(&self) -> u128 {
        self.0.iter().map(Range::size).fold(0, u128::saturating_add)
    }
}

/// `start-end,start-end`, as the reference prints sets in its errors.
impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(subnet: &str, start: &str, end: &str) -> RangeSpec {
        RangeSpec {
            subnet: subnet.parse().ok(),
            start: start.parse().ok(),
            end: end.parse().ok(),
            gateway: None,
        }
    }

    fn set(subnets: &[&str]) -> RangeSet {
        let specs: Vec<_> = subnets.iter().map(|subnet| spec(subnet, "", "")).collect();
        RangeSet::new(&specs).unwrap()
    }

    fn candidates(set: &RangeSet, last: &str) -> impl Iterator<Item = IpAddr> {
        let parts = set.turn(last.parse().ok()).into_iter();
        parts.flat_map(|(numbers, range)| {
            let addresses = numbers.map(|number| range.address(number));
            addresses.filter(|address| *address != range.gateway())
        })
    }

    /// All candidates, by the last part of their address.
    fn order(set: &RangeSet, last: &str) -> Vec<String> {
        candidates(set, last)
            .map(|address| address.to_string().rsplit(['.', ':']).next().unwrap().to_owned())
            .collect()
    }

    fn refusal(specs: &[Vec<RangeSpec>]) -> String {
        range_sets(specs).unwrap_err().to_string()
    }

    #[test]
    fn round_robin_ends_with_the_last_reserved_address() {
        let one = set(&["10.1.2.0/29"]);
        assert_eq!(order(&one, ""), ["2", "3", "4", "5", "6"]);
        assert_eq!(order(&one, "10.1.2.2"), ["3", "4", "5", "6", "2"]);
        assert_eq!(order(&one, "10.1.2.6"), ["2", "3", "4", "5", "6"]);
        assert_eq!(order(&one, "10.1.2.1"), ["2", "3", "4", "5", "6"]);
        assert_eq!(order(&one, "10.1.2.7"), ["2", "3", "4", "5", "6"]);
        assert_eq!(order(&one, "10.9.9.9"), ["2", "3", "4", "5", "6"]);
    }

    #[test]
    fn round_robin_goes_over_all_ranges() {
        let two = set(&["10.1.2.0/30", "10.1.3.8/29"]);
        assert_eq!(order(&two, ""), ["2", "10", "11", "12", "13", "14"]);
        assert_eq!(order(&two, "10.1.2.2"), ["10", "11", "12", "13", "14", "2"]);
        assert_eq!(order(&two, "10.1.3.12"), ["13", "14", "2", "10", "11", "12"]);
        assert_eq!(order(&two, "10.1.3.14"), ["2", "10", "11", "12", "13", "14"]);
    }

    #[test]
    fn the_network_address_is_given_out_when_it_is_asked_for() {
        let all = RangeSet::new(&[spec("10.1.2.0/30", "10.1.2.0", "10.1.2.3")]).unwrap();
        assert_eq!(order(&all, ""), ["0", "2", "3"]);
    }

    #[test]
    fn huge_ranges_are_walked_from_any_place() {
        let huge = RangeSet::new(&[spec("::/8", "::", "")]).unwrap();
        let next = |last: &str| candidates(&huge, last).next().unwrap().to_string();
        assert_eq!(next(""), "::");
        assert_eq!(next("::ffff:ffff"), "::1:0:0");
        assert_eq!(next("ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "::");
        let top = RangeSet::new(&[spec("ff00::/8", "", "")]).unwrap();
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(candidates(&top, last).next().unwrap().to_string(), "ff00::2");
    }

    #[test]
    fn addresses_read_as_the_reference_prints_them() {
        assert_eq!(
            set(&["10.1.2.0/29", "10.1.3.0/29"]).to_string(),
            "10.1.2.1-10.1.2.6,10.1.3.1-10.1.3.6"
        );
        assert_eq!(set(&["::102:300/126"]).to_string(), "::102:301-::102:303");
        assert_eq!(
            set(&["2001:DB8:0:1:1:1:1:0/126"]).to_string(),
            "2001:db8:0:1:1:1:1:1-2001:db8:0:1:1:1:1:3"
        );
    }

    #[test]
    fn ranges_and_sets_are_checked_against_each_other() {
        let v4 = || spec("10.1.2.0/24", "", "");
        let v6 = || spec("2001:db8::/64", "", "");
        assert_eq!(refusal(&[]), "no IP ranges specified");
        assert_eq!(refusal(&[vec![v4()], vec![]]), "invalid range set 1: empty range set");
        assert_eq!(refusal(&[vec![v4(), v6()]]), "invalid range set 0: mixed address families");
        assert_eq!(
            refusal(&[vec![v4(), spec("10.1.2.0/25", "", "")]]),
            "invalid range set 0: subnets 10.1.2.1-10.1.2.254 and 10.1.2.1-10.1.2.126 overlap"
        );
        assert_eq!(refusal(&[vec![v4()], vec![v6()], vec![v4()]]), "range set 0 overlaps with 2");
        let halves = [
            vec![spec("10.1.2.0/24", "", "10.1.2.127")],
            vec![spec("10.1.2.0/24", "10.1.2.128", "")],
        ];
        assert_eq!(range_sets(&halves).unwrap().len(), 2);
    }
}
