//! Any sequence of operations against the simplest thing that could be right.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ipam::{Error, Holder};
use proptest::prelude::*;

use super::*;

/// The reference's rules for one set of two ranges, in a map. Addresses are their last byte.
#[derive(Default)]
struct Model {
    held: BTreeMap<u8, Owner>,
    last: Option<u8>,
}

/// What is given out, in order: 10.1.2.2-6 (gateway .1) and 10.1.2.18-21 (gateway .20).
const ORDER: [u8; 8] = [2, 3, 4, 5, 6, 18, 19, 21];

impl Model {
    fn search(&mut self, owner: &Owner) -> Option<u8> {
        if self.held.values().any(|holder| holder == owner) {
            return None;
        }
        let start = self
            .last
            .and_then(|last| ORDER.iter().position(|address| *address == last))
            .map_or(0, |position| position + 1);
        let mut turn = ORDER.iter().cycle().skip(start).take(ORDER.len());
        let free = *turn.find(|address| !self.held.contains_key(address))?;
        self.held.insert(free, owner.clone());
        self.last = Some(free);
        Some(free)
    }

    fn request(&mut self, address: u8, owner: &Owner) -> Option<u8> {
        match self.held.entry(address) {
            Entry::Vacant(free) if ORDER.contains(&address) => {
                free.insert(owner.clone());
                self.last = Some(address);
                Some(address)
            }
            _ => None,
        }
    }

    fn keep(&mut self, stays: impl Fn(&Owner) -> bool) -> Vec<u8> {
        let gone: Vec<_> = self.held.extract_if(.., |_, owner| !stays(owner)).collect();
        gone.into_iter().map(|(address, _)| address).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Search(Owner),
    Request(u8, Owner),
    Release(Owner),
    Find(Owner),
    Collect { valid: Vec<Owner>, alive: Owner },
}

fn owners() -> impl Strategy<Value = Owner> {
    (0..6_u8, 0..2_u8).prop_map(|(id, port)| owner(&format!("c{id}"), &format!("eth{port}")))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => owners().prop_map(Step::Search),
        2 => (0..24_u8, owners()).prop_map(|(address, owner)| Step::Request(address, owner)),
        3 => owners().prop_map(Step::Release),
        1 => owners().prop_map(Step::Find),
        1 => (prop::collection::vec(owners(), 0..6), owners())
            .prop_map(|(valid, alive)| Step::Collect { valid, alive }),
    ];
    prop::collection::vec(step, 1..60)
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 1, 2, last])
}

fn addresses(last: &[u8]) -> Vec<IpAddr> {
    last.iter().copied().map(address).collect()
}

/// The set that [`ORDER`] describes.
fn two_ranges() -> Vec<RangeSet> {
    let subnet = |text: &str| Some(text.parse().unwrap());
    let first = RangeSpec { subnet: subnet("10.1.2.0/29"), ..RangeSpec::default() };
    let second = RangeSpec {
        subnet: subnet("10.1.2.16/28"),
        start: Some(address(18)),
        end: Some(address(21)),
        gateway: Some(address(20)),
    };
    range_sets(&[vec![first, second]]).unwrap()
}

fn given(result: Result<Vec<ipam::Lease>, Error>) -> Option<IpAddr> {
    result.ok().map(|leases| leases[0].address.addr())
}

fn run(steps: Vec<Step>) {
    let (fixture, sets, mut model) = (Fixture::new(), two_ranges(), Model::default());
    let store = &fixture.store;
    for step in steps {
        match step {
            Step::Search(owner) => {
                let got = given(store.reserve(&sets, &[], &owner));
                assert_eq!(got, model.search(&owner).map(address));
            }
            Step::Request(last, owner) => {
                let got = given(store.reserve(&sets, &[address(last)], &owner));
                assert_eq!(got, model.request(last, &owner).map(address));
            }
            Step::Release(owner) => {
                let want = model.keep(|holder| *holder != owner);
                assert_eq!(store.release(&owner).unwrap(), addresses(&want));
            }
            Step::Find(owner) => {
                let want = model.held.iter().filter(|(_, holder)| **holder == owner);
                let want: Vec<_> = want.map(|(last, _)| address(*last)).collect();
                assert_eq!(store.find(&owner).unwrap(), want);
            }
            Step::Collect { valid, alive } => {
                let lives = |holder: &Holder| *holder == Holder::Attachment(alive.clone());
                let got = store.gc(&valid, lives).unwrap();
                let want = model.keep(|owner| valid.contains(owner) || *owner == alive);
                let freed: Vec<_> = got.freed.iter().map(|freed| freed.address).collect();
                assert_eq!(freed, addresses(&want));
            }
        }
        let seen = store.reservations().unwrap().into_iter();
        let seen: BTreeMap<_, _> = seen.map(|entry| (entry.address, entry.holder)).collect();
        let want = model.held.iter();
        let want = want.map(|(last, owner)| (address(*last), Holder::Attachment(owner.clone())));
        assert_eq!(seen, want.collect());
        let in_use = model.held.len() as u128;
        assert_eq!(store.free(&sets).unwrap(), [ORDER.len() as u128 - in_use]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_agrees_with_the_model(steps in steps()) {
        run(steps);
    }
}
