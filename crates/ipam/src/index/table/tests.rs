//! The table against the simplest thing that could be right.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::Holder;

fn owner(number: u16) -> Owner {
    Owner { id: format!("c{number}"), ifname: "eth0".into() }
}

/// Of every four one has the old format, and one is nobody's.
fn holder(number: u16) -> Holder {
    match number % 4 {
        0 => Holder::Container(owner(number).id),
        1 => Holder::Nobody,
        _ => Holder::Attachment(owner(number)),
    }
}

fn record(address: IpAddr, holder: &Holder) -> Option<Record> {
    Record::of(address, holder, 0)
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + number).into())
}

#[derive(Debug, Clone)]
enum Step {
    Add(u32, u16),
    Remove(u32),
    Reload,
    Remake,
}

/// Addresses that are often neighbours, so that words become full, and more than fit the smallest
/// table.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = prop_oneof![3 => 0..260_u32, 1 => 0..20_000_u32];
    let step = prop_oneof![
        8 => (place.clone(), 0..200_u16).prop_map(|(at, who)| Step::Add(at, who)),
        2 => place.prop_map(Step::Remove),
        1 => Just(Step::Reload),
        1 => Just(Step::Remake),
    ];
    prop::collection::vec(step, 1..900)
}

fn run(steps: Vec<Step>) {
    let mut table = Table::default();
    let mut model = BTreeMap::<u32, Holder>::new();
    for step in steps {
        match step {
            Step::Add(at, who) => {
                if let Entry::Vacant(free) = model.entry(at) {
                    table.add(address(at), record(address(at), &holder(who)).as_ref());
                    free.insert(holder(who));
                }
            }
            Step::Remove(at) => {
                if let Some(holder) = model.remove(&at) {
                    table.remove(address(at), record(address(at), &holder).as_ref());
                }
            }
            Step::Reload => table = reload(table),
            Step::Remake => {
                let taken = model.keys().copied().map(address).collect();
                table = Table::of(taken, &table.holders());
            }
        }
    }
    assert!(table.is_sound());
    for who in 0..200 {
        let own = |wanted: fn(&Holder) -> bool| {
            let own = model.iter().filter(|(_, it)| it.is(&owner(who)) && wanted(it));
            own.map(|(at, _)| address(*at)).collect::<Vec<_>>()
        };
        let all = own(|_| true);
        assert_eq!(table.all_owned(&owner(who)), all);
        let named = own(|it| matches!(it, Holder::Attachment(_)));
        assert_eq!(table.owned(&owner(who)), if named.is_empty() { all } else { named });
    }
    let records = model.iter().filter_map(|(at, holder)| record(address(*at), holder));
    let records: BTreeSet<_> = records.map(|record| record.encode()).collect();
    let held: BTreeSet<_> = table.holders().iter().map(Record::encode).collect();
    assert_eq!(held, records);
    for at in (0..300).chain((300..20_100).step_by(97)) {
        assert_eq!(table.is_taken(address(at)), model.contains_key(&at));
        for to in [at, at + 3, 25_000] {
            let free = (at..=to).find(|at| !model.contains_key(at)).map(address).map(bits);
            assert_eq!(table.next_free(true, bits(address(at)), bits(address(to))), free);
        }
    }
}

fn reload(mut table: Table) -> Table {
    let new = table.file().is_none().then(|| tempfile::tempfile().unwrap());
    table.write(new).unwrap();
    Table::in_file(table.file.unwrap(), table.pages, table.records)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_agrees_with_the_model(steps in steps()) {
        run(steps);
    }
}

const TAKEN: u32 = 20_000;

#[test]
fn a_long_row_is_passed_in_a_few_steps() {
    let mut table = Table::default();
    for at in 0..TAKEN {
        table.add(address(at), None);
    }
    let taken: Vec<_> = (0..TAKEN).rev().map(address).collect();
    let whole = Table::of(taken, &[]);
    assert_eq!(table.all().len(), whole.records() as usize);
    for table in [table, whole] {
        pass(reload(table));
    }
}

fn pass(mut table: Table) {
    let next = |table: &mut Table, from: u32, to: u32| {
        table.next_free(true, bits(address(from)), bits(address(to)))
    };
    assert_eq!(next(&mut table, 1, u32::MAX >> 8), Some(bits(address(TAKEN))));
    assert!(table.loaded.len() < 10, "{} pages were read", table.loaded.len());
    assert_eq!(next(&mut table, 1, TAKEN - 1), None);
    table.remove(address(TAKEN / 2), None);
    assert_eq!(next(&mut table, 1, TAKEN - 1), Some(bits(address(TAKEN / 2))));
    for at in 0..TAKEN {
        table.remove(address(at), None);
    }
    assert_eq!(table.records(), 0);
}

#[test]
fn the_ends_of_all_addresses_are_addresses() {
    let (first, last): (IpAddr, IpAddr) = ("::".parse().unwrap(), IpAddr::V6(u128::MAX.into()));
    let mut table = Table::default();
    assert_eq!(table.next_free(false, 0, u128::MAX), Some(0));
    table.add(first, None);
    assert_eq!(table.next_free(false, 0, u128::MAX), Some(1));
    for below in 0..64 {
        table.add(IpAddr::V6((u128::MAX - below).into()), None);
    }
    assert_eq!(table.next_free(false, u128::MAX - 64, u128::MAX), Some(u128::MAX - 64));
    assert_eq!(table.next_free(false, u128::MAX - 63, u128::MAX), None);
    assert!(table.is_taken(last) && !table.is_taken("0.0.0.0".parse().unwrap()));
}

#[test]
fn pages_that_overflow_still_find_their_own() {
    let mut table = Table::default();
    let many = Holder::Attachment(owner(2));
    for at in 0..100 {
        table.add(address(at), record(address(at), &many).as_ref());
    }
    let mut table = reload(table);
    assert_eq!(table.owned(&owner(2)).len(), 100);
    for at in 0..90 {
        table.remove(address(at), record(address(at), &many).as_ref());
    }
    assert_eq!(table.owned(&owner(2)), (90..100).map(address).collect::<Vec<_>>());
}

#[test]
fn a_page_that_is_not_what_was_written_makes_it_unsound() {
    let mut table = Table::default();
    table.add(address(1), record(address(1), &holder(2)).as_ref());
    let mut table = reload(table);
    let file = table.file.as_ref().unwrap().try_clone().unwrap();
    file.set_len(offset(table.pages - 1)).unwrap();
    assert_eq!(table.holders().len(), 1);
    assert!(!table.is_sound());
    let zero = [0; page::SIZE];
    for number in 0..table.pages {
        file.write_all_at(&zero, offset(number)).unwrap();
    }
    let mut table = Table::in_file(file, table.pages, table.records);
    assert!(table.owned(&owner(2)).is_empty() && !table.is_sound());
}
