//! Any sequence of operations against the simplest thing that could be right.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ipam::{Holder, IndexState};
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

    fn find(&self, owner: &Owner) -> Vec<IpAddr> {
        let own = self.held.iter().filter(|(_, holder)| *holder == owner);
        own.map(|(last, _)| address(*last)).collect()
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
    Collect {
        valid: Vec<Owner>,
        alive: Owner,
    },
    /// Another implementation does the same, and knows of no index.
    TheirRequest(u8, Owner),
    TheirRelease(Owner),
    /// What becomes of the index.
    Harm(Harm),
}

#[derive(Debug, Clone)]
enum Harm {
    /// Bytes at these places, as fractions of the file, get these bits turned over.
    Flip(Vec<(prop::sample::Index, u8)>),
    /// It is cut off, or filled with zeros from there on.
    Cut(prop::sample::Index, bool),
    Remove,
    /// An earlier one comes back.
    Keep,
    Restore,
    /// The machine is started again.
    Reboot,
    /// The directory is copied with the times of everything, and the copy takes its place.
    Copy,
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
        2 => (0..24_u8, owners()).prop_map(|(address, owner)| Step::TheirRequest(address, owner)),
        2 => owners().prop_map(Step::TheirRelease),
        2 => harm().prop_map(Step::Harm),
    ];
    prop::collection::vec(step, 1..60)
}

fn harm() -> impl Strategy<Value = Harm> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        4 => prop::collection::vec((place(), 1..=255_u8), 1..4).prop_map(Harm::Flip),
        2 => (place(), any::<bool>()).prop_map(|(at, zeros)| Harm::Cut(at, zeros)),
        1 => Just(Harm::Remove),
        1 => Just(Harm::Keep),
        1 => Just(Harm::Restore),
        1 => Just(Harm::Reboot),
        1 => Just(Harm::Copy),
    ]
}

/// What is done to the index, and what has to be remembered for that.
#[derive(Default)]
struct Vandal {
    kept: Option<Vec<u8>>,
    boots: u32,
    /// Whether the index may have damage that nobody has met yet.
    has_harmed: bool,
}

impl Vandal {
    fn run(&mut self, harm: Harm, fixture: &mut Fixture) {
        let index = fixture.root.path().join("index");
        let file = index.exists().then(|| names(&index).pop()).flatten();
        let file = file.map(|name| index.join(name));
        let change = |change: &dyn Fn(&mut Vec<u8>)| {
            let Some(file) = &file else { return };
            let mut bytes = fs::read(file).unwrap();
            change(&mut bytes);
            fs::write(file, bytes).unwrap();
        };
        self.has_harmed |= matches!(harm, Harm::Flip(_) | Harm::Cut(..) | Harm::Restore);
        match harm {
            Harm::Flip(places) => change(&|bytes| {
                for (place, bits) in &places {
                    if !bytes.is_empty() {
                        let at = place.index(bytes.len());
                        bytes[at] ^= bits;
                    }
                }
            }),
            Harm::Cut(place, zeros) => change(&|bytes| {
                let (length, at) = (bytes.len(), place.index(bytes.len() + 1));
                bytes.truncate(at);
                if zeros {
                    bytes.resize(length, 0);
                }
            }),
            Harm::Remove => file.iter().for_each(|file| fs::remove_file(file).unwrap()),
            Harm::Keep => self.kept = file.map(|file| fs::read(file).unwrap()),
            Harm::Restore => change(&|bytes| {
                if let Some(kept) = &self.kept {
                    bytes.clone_from(kept);
                }
            }),
            Harm::Reboot => {
                self.boots += 1;
                fixture.store = store_in_boot(fixture.root.path(), &self.boots.to_string());
            }
            Harm::Copy => copy(&fixture.directory()),
        }
    }
}

/// Puts a copy in the place of a directory, as `cp -a` makes it.
fn copy(directory: &Path) {
    let Ok(metadata) = fs::metadata(directory) else { return };
    let other = directory.with_extension("copy");
    fs::create_dir(&other).unwrap();
    for name in names(directory) {
        fs::copy(directory.join(&name), other.join(name)).unwrap();
    }
    let times = fs::FileTimes::new().set_modified(metadata.modified().unwrap());
    fs::File::open(&other).unwrap().set_times(times).unwrap();
    fs::remove_dir_all(directory).unwrap();
    fs::rename(other, directory).unwrap();
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
    let (mut fixture, sets, mut model) = (Fixture::new(), two_ranges(), Model::default());
    let mut vandal = Vandal::default();
    for step in steps {
        let store = &fixture.store;
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
            Step::Find(owner) => assert_eq!(store.find(&owner).unwrap(), model.find(&owner)),
            Step::Collect { valid, alive } => {
                let lives = |holder: &Holder| *holder == Holder::Attachment(alive.clone());
                let got = store.gc(&valid, lives).unwrap();
                let want = model.keep(|owner| valid.contains(owner) || *owner == alive);
                let freed: Vec<_> = got.freed.iter().map(|freed| freed.address).collect();
                assert_eq!(freed, addresses(&want));
            }
            Step::TheirRequest(last, owner) => {
                if let Some(last) = model.request(last, &owner) {
                    let text = format!("{}\r\n{}", owner.id, owner.ifname);
                    fixture.plant(&address(last).to_string(), &text);
                    fixture.plant("last_reserved_ip.0", &address(last).to_string());
                }
            }
            Step::TheirRelease(owner) => {
                for last in model.keep(|holder| *holder != owner) {
                    fs::remove_file(fixture.directory().join(address(last).to_string())).unwrap();
                }
            }
            Step::Harm(harm) => vandal.run(harm, &mut fixture),
        }
        agree(&fixture.store, &sets, &model);
        if !vandal.has_harmed {
            let state = fixture.store.index_state().unwrap();
            assert!(matches!(state, IndexState::Right | IndexState::Missing), "{state:?}");
        }
    }
    if let Err(_) | Ok(IndexState::Wrong) = fixture.store.index_state() {
        assert!(vandal.has_harmed);
        // A thorough look mends it.
        fixture.store.gc(&model.held.values().cloned().collect::<Vec<_>>(), |_| false).unwrap();
        assert!(matches!(fixture.store.index_state(), Ok(IndexState::Right)));
    }
}

/// Whatever can be asked is answered as by the model.
fn agree(store: &ipam::Store, sets: &[RangeSet], model: &Model) {
    for id in 0..6 {
        for port in 0..2 {
            let owner = owner(&format!("c{id}"), &format!("eth{port}"));
            assert_eq!(store.find(&owner).unwrap(), model.find(&owner));
        }
    }
    let seen = store.reservations().unwrap().into_iter();
    let seen: BTreeMap<_, _> = seen.map(|entry| (entry.address, entry.holder)).collect();
    let want = model.held.iter();
    let want = want.map(|(last, owner)| (address(*last), Holder::Attachment(owner.clone())));
    assert_eq!(seen, want.collect());
    let is_full = model.held.len() == ORDER.len();
    assert_eq!(store.exhausted(sets).unwrap().is_some(), is_full);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_agrees_with_the_model(steps in steps()) {
        run(steps);
    }
}
