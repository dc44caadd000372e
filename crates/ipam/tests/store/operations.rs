//! What each operation does to the files.

use std::os::unix::fs::PermissionsExt;

use ipam::{Collected, Holder, Reservation};

use super::*;

#[test]
fn a_reservation_is_the_reference_s_files() {
    let fixture = Fixture::new();
    let sets = sets(&["10.1.2.0/24", "2001:db8::/64"]);
    assert_eq!(fixture.add(&sets, &[], &owner("c1", "eth0")), "10.1.2.2/24 2001:db8::2/64");
    assert_eq!(
        fixture.names(),
        ["10.1.2.2", "2001:db8::2", "last_reserved_ip.0", "last_reserved_ip.1", "lock"]
    );
    assert_eq!(fixture.read("10.1.2.2"), "c1\r\neth0");
    assert_eq!(fixture.read("last_reserved_ip.0"), "10.1.2.2");
    assert_eq!(fixture.read("last_reserved_ip.1"), "2001:db8::2");
    let mode = |name: &str| {
        fs::metadata(fixture.directory().join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(
        (mode("."), mode("10.1.2.2"), mode("last_reserved_ip.0"), mode("lock")),
        (0o755, 0o600, 0o600, 0o750)
    );
}

#[test]
fn the_cursor_goes_round_and_a_shorter_address_replaces_a_longer_one() {
    let fixture = Fixture::new();
    let sets = sets(&["10.1.2.0/29"]);
    fixture.plant("last_reserved_ip.0", "::ffff:10.1.2.5");
    assert_eq!(fixture.add(&sets, &[], &owner("c1", "eth0")), "10.1.2.6/29");
    assert_eq!(fixture.read("last_reserved_ip.0"), "10.1.2.6");
    assert_eq!(fixture.add(&sets, &[], &owner("c2", "eth0")), "10.1.2.2/29");
    for nonsense in ["", "10.1.2.5\n", "x", "10.9.9.9"] {
        fixture.plant("last_reserved_ip.0", nonsense);
        fixture.store.release(&owner("c2", "eth0")).unwrap();
        assert_eq!(fixture.add(&sets, &[], &owner("c2", "eth0")), "10.1.2.2/29", "{nonsense:?}");
    }
}

#[test]
fn a_failure_in_a_later_set_changes_nothing() {
    let fixture = Fixture::new();
    let both = sets(&["10.1.2.0/29", "10.1.3.0/30"]);
    fixture.plant("10.1.3.2", "other\r\neth0");
    // An address that the attachment had before must survive the failure too.
    fixture.plant("10.1.2.4", "c1\r\neth0");
    assert_eq!(
        fixture.add(&both, &["10.1.2.6"], &owner("c1", "eth0")),
        "failed to allocate for range 1: no IP addresses available in range set: 10.1.3.1-10.1.3.2"
    );
    assert_eq!(fixture.names(), ["10.1.2.4", "10.1.3.2", "lock"]);
}

#[test]
fn release_frees_what_the_attachment_has_wherever_it_is() {
    let fixture = Fixture::new();
    fixture.plant("10.1.2.2", "c1\r\neth0");
    fixture.plant("10.9.9.9", "\n c1\r\neth0 \n");
    fixture.plant("10.1.2.3", "c1\r\neth1");
    fixture.plant("10.1.2.4", "c1");
    fixture.plant("note", "c1\r\neth0");
    let released = fixture.store.release(&owner("c1", "eth0")).unwrap();
    assert_eq!(released, ["10.1.2.2", "10.9.9.9"].map(|text| text.parse::<IpAddr>().unwrap()));
    assert_eq!(fixture.names(), ["10.1.2.3", "10.1.2.4", "lock", "note"]);
    let old = fixture.store.release(&owner("c1", "eth0")).unwrap();
    assert_eq!(old, ["10.1.2.4".parse::<IpAddr>().unwrap()]);
    assert!(fixture.store.release(&owner("c1", "eth0")).unwrap().is_empty());
}

#[test]
fn questions_about_an_unknown_network_create_nothing() {
    let fixture = Fixture::new();
    let owner = owner("c1", "eth0");
    assert!(fixture.store.release(&owner).unwrap().is_empty());
    assert!(fixture.store.find(&owner).unwrap().is_empty());
    assert!(fixture.store.reservations().unwrap().is_empty());
    assert_eq!(fixture.store.gc(&[], |_| false).unwrap(), Collected::default());
    assert_eq!(fixture.store.exhausted(&sets(&["10.1.2.0/24"])).unwrap(), None);
    fixture.store.check_writable().unwrap();
    assert!(names(fixture.root.path()).is_empty());
    // Nor do they create a lock when there is nothing to change.
    fixture.plant("10.1.2.2", "other\r\neth0");
    assert!(fixture.store.release(&owner).unwrap().is_empty());
    assert_eq!(fixture.names(), ["10.1.2.2"]);
}

#[test]
fn gc_frees_what_nobody_has_and_spares_what_lives() {
    let fixture = Fixture::new();
    for (address, text) in [
        ("10.1.2.2", "valid\r\neth0"),
        ("10.1.2.3", "valid\r\neth1"),
        ("10.1.2.4", "valid"),
        ("10.1.2.5", "gone\r\neth0"),
        ("10.1.2.6", "alive\r\neth0"),
        ("10.1.2.7", ""),
        ("10.1.2.8", "torn"),
        ("last_reserved_ip.0", "10.1.2.8"),
    ] {
        fixture.plant(address, text);
    }
    fs::create_dir(fixture.directory().join("10.1.2.9")).unwrap();

    let alive = Holder::Attachment(owner("alive", "eth0"));
    let collected = fixture.store.gc(&[owner("valid", "eth0")], |holder| *holder == alive).unwrap();
    let reservation =
        |address: &str, holder| Reservation { address: address.parse().unwrap(), holder };
    assert_eq!(
        collected,
        Collected {
            freed: vec![
                reservation("10.1.2.3", Holder::Attachment(owner("valid", "eth1"))),
                reservation("10.1.2.5", Holder::Attachment(owner("gone", "eth0"))),
                reservation("10.1.2.7", Holder::Nobody),
                reservation("10.1.2.8", Holder::Container("torn".to_owned())),
            ],
            spared: vec![reservation("10.1.2.6", alive)],
        }
    );
    assert_eq!(
        fixture.names(),
        ["10.1.2.2", "10.1.2.4", "10.1.2.6", "10.1.2.9", "last_reserved_ip.0", "lock"]
    );
}

#[test]
fn a_set_is_exhausted_when_add_would_find_nothing() {
    let fixture = Fixture::new();
    let sets = sets(&["2001:db8::/64", "10.1.3.0/30", "10.1.2.0/30"]);
    let exhausted = || fixture.store.exhausted(&sets).unwrap().map(ToString::to_string);
    for address in ["10.1.2.1", "2001:db8::5", "10.9.9.9"] {
        fixture.plant(address, "c1\r\neth0");
    }
    // An empty file is used when nothing else is free.
    fixture.plant("10.1.3.2", "");
    assert_eq!(exhausted(), None);
    fixture.plant("10.1.2.2", "c2\r\neth0");
    assert_eq!(exhausted().as_deref(), Some("10.1.2.1-10.1.2.2"));
    assert_eq!(fixture.add(&sets[1..2], &[], &owner("c1", "eth0")), "10.1.3.2/30");
    assert_eq!(fixture.read("10.1.3.2"), "c1\r\neth0");
    assert_eq!(exhausted().as_deref(), Some("10.1.3.1-10.1.3.2"));
}
