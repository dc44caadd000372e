//! The index beside the directory: what it knows, what ends it, and where it cannot be.

use std::fs::{File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use ipam::{Holder, IndexState};

use super::disk::make_pipe;
use super::*;

/// Longer than the clock that stamps files takes to go on.
const TICK: Duration = Duration::from_millis(20);

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A store with three reservations of `c1` to `c3`, and an index.
fn three() -> Fixture {
    let fixture = Fixture::new();
    for id in ["c1", "c2", "c3"] {
        fixture.add(&sets(&["10.1.2.0/24"]), &[], &owner(id, "eth0"));
    }
    fixture
}

impl Fixture {
    fn state(&self) -> IndexState {
        self.store.index_state().unwrap()
    }

    fn find(&self, id: &str) -> String {
        let found = self.store.find(&owner(id, "eth0")).unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    fn modified(&self) -> SystemTime {
        fs::metadata(self.directory()).unwrap().modified().unwrap()
    }

    fn set_modified(&self, time: SystemTime) {
        File::open(self.directory())
            .unwrap()
            .set_times(FileTimes::new().set_modified(time))
            .unwrap();
    }
}

#[test]
fn it_is_a_file_that_only_its_owner_can_write() {
    let fixture = three();
    assert_eq!((mode(fixture.index().parent().unwrap()), mode(&fixture.index())), (0o700, 0o600));
    assert!(fixture.index().file_name().unwrap().to_str().unwrap().starts_with("n-"));
    let text = fs::read(fixture.index()).unwrap();
    let path = fixture.directory();
    assert!(String::from_utf8_lossy(&text).contains(path.to_str().unwrap()));
    assert!(matches!(fixture.state(), IndexState::Right));
    assert!(matches!(fixture.unindexed().index_state(), Ok(IndexState::Unwanted)));
    assert_eq!(fixture.names(), ["10.1.2.2", "10.1.2.3", "10.1.2.4", "last_reserved_ip.0", "lock"]);
}

#[test]
fn what_others_do_is_noticed() {
    let fixture = three();
    fixture.plant("10.1.2.9", "c9\r\neth0");
    assert!(matches!(fixture.state(), IndexState::Outdated));
    assert_eq!(fixture.find("c9"), "10.1.2.9");
    assert!(matches!(fixture.state(), IndexState::Right));
    // The same file, by another.
    for id in ["c10", "c11", "c12"] {
        fs::remove_file(fixture.directory().join("10.1.2.9")).unwrap();
        fixture.plant("10.1.2.9", &format!("{id}\r\neth0"));
        assert_eq!(fixture.find(id), "10.1.2.9");
    }
    // The times of a directory are put back, as by a program that restores it.
    sleep(TICK);
    let before = fixture.modified();
    fs::remove_file(fixture.directory().join("10.1.2.9")).unwrap();
    fixture.plant("10.1.2.8", "c9\r\neth0");
    fixture.set_modified(before);
    assert!(matches!(fixture.state(), IndexState::Outdated));
    assert_eq!((fixture.find("c9"), fixture.find("c12")), ("10.1.2.8".into(), String::new()));
}

/// This is why files are read before they are removed, and the price of not reading all of them.
#[test]
fn a_text_that_is_written_anew_is_noticed_when_somebody_asks_for_the_old_one() {
    let fixture = three();
    fixture.plant("10.1.2.2", "c9\r\neth0");
    assert_eq!(fixture.find("c9"), "");
    assert_eq!(fixture.store.release(&owner("c1", "eth0")).unwrap(), [] as [IpAddr; 0]);
    assert_eq!(fixture.read("10.1.2.2"), "c9\r\neth0");
    assert_eq!(fixture.find("c9"), "10.1.2.2");
}

#[test]
fn nothing_is_refused_on_its_word() {
    let fixture = three();
    let sets = sets(&["10.1.2.0/29"]);
    for id in ["c4", "c5"] {
        fixture.add(&sets, &[], &owner(id, "eth0"));
    }
    // Somebody removes a file without the lock, in the middle of a call of ours.
    let (before, index) = (fixture.modified(), fs::read(fixture.index()).unwrap());
    fs::remove_file(fixture.directory().join("10.1.2.4")).unwrap();
    fixture.set_modified(before);
    fs::write(fixture.index(), index).unwrap();
    assert_eq!(fixture.add(&sets, &[], &owner("c3", "eth0")), "10.1.2.4/29");
    fs::remove_file(fixture.directory().join("10.1.2.5")).unwrap();
    fixture.set_modified(before);
    assert_eq!(fixture.add(&sets, &["10.1.2.5"], &owner("c6", "eth0")), "10.1.2.5/29");
    assert!(matches!(fixture.state(), IndexState::Right));
}

#[test]
fn an_index_of_an_earlier_boot_is_not_believed() {
    let fixture = three();
    // A power loss brings a file back with another text, and everything else as it was.
    fixture.plant("10.1.2.2", "c9\r\neth0");
    let next = store_in_boot(fixture.root.path(), "next");
    assert!(matches!(next.index_state(), Ok(IndexState::Missing)));
    assert_eq!(next.find(&owner("c9", "eth0")).unwrap().len(), 1);
    assert!(matches!(next.index_state(), Ok(IndexState::Right)));
    assert!(matches!(fixture.state(), IndexState::Missing));
}

#[test]
fn empty_and_unreadable_files_are_known_to_be_there() {
    let fixture = Fixture::new();
    let sets = sets(&["10.1.2.0/29"]);
    fixture.plant("10.1.2.2", "");
    fixture.plant("10.1.2.3", "old");
    fs::create_dir(fixture.directory().join("10.1.2.4")).unwrap();
    fixture.plant("10.1.2.5", &"x".repeat(100_000));
    for _ in 0..2 {
        assert_eq!(fixture.add(&sets, &[], &owner("c1", "eth0")), "10.1.2.6/29");
        assert!(matches!(fixture.state(), IndexState::Right));
        fixture.store.release(&owner("c1", "eth0")).unwrap();
    }
    fixture.add(&sets, &[], &owner("c1", "eth0"));
    assert_eq!(fixture.add(&sets, &[], &owner("c2", "eth0")), "10.1.2.2/29");
    let holders: Vec<_> =
        fixture.store.reservations().unwrap().into_iter().map(|it| it.holder).collect();
    assert_eq!(holders[1..4], [Holder::Container("old".into()), Holder::Unknown, Holder::Unknown]);
    assert_eq!(fixture.find("old"), "10.1.2.3");
    assert!(matches!(fixture.state(), IndexState::Right));
}

#[test]
fn it_grows_with_the_reservations() {
    let fixture = Fixture::new();
    let sets = sets(&["10.1.0.0/20"]);
    let added: Vec<_> =
        (0..700).map(|id| fixture.add(&sets, &[], &owner(&format!("c{id}"), "eth0"))).collect();
    assert!(matches!(fixture.state(), IndexState::Right));
    for id in (0..700).step_by(3) {
        let freed = fixture.store.release(&owner(&format!("c{id}"), "eth0")).unwrap();
        assert_eq!(format!("{}/20", freed[0]), added[id]);
    }
    assert!(matches!(fixture.state(), IndexState::Right));
}

#[test]
fn a_place_that_cannot_be_trusted_is_not_used() {
    let fixture = three();
    let (place, root) = (fixture.root.path().join("index"), fixture.root.path());
    let elsewhere = root.join("elsewhere");
    fs::rename(&place, &elsewhere).unwrap();
    let index = names(&elsewhere).pop().unwrap();
    let before = fs::read(elsewhere.join(&index)).unwrap();
    let path = place.display();
    let works = |complaint: String| {
        assert_eq!(fixture.find("c1"), "10.1.2.2");
        let added = fixture.add(&sets(&["10.1.3.0/24"]), &[], &owner("c9", "eth0"));
        assert!(added.starts_with("10.1.3."), "{added}");
        assert_eq!(fixture.store.release(&owner("c9", "eth0")).unwrap().len(), 1);
        // Once a call.
        assert_eq!(complaints(), vec![complaint; 3]);
    };
    // Planted where an index is looked for: a link, a file, and a directory for everybody.
    symlink(&elsewhere, &place).unwrap();
    works(format!("open {path}: not a directory"));
    fs::remove_file(&place).unwrap();
    fs::write(&place, "").unwrap();
    works(format!("open {path}: not a directory"));
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(0o777)).unwrap();
    works(format!("{path} can be written by others"));
    assert_eq!(names(&place), [""; 0]);
    assert_eq!(fs::read(elsewhere.join(index)).unwrap(), before);
}

#[test]
fn what_is_planted_in_place_of_an_index_goes() {
    let fixture = three();
    let (index, target) = (fixture.index(), fixture.root.path().join("target"));
    fs::write(&target, "text").unwrap();
    let works = || {
        assert_eq!(fixture.find("c1"), "10.1.2.2");
        assert!(matches!(fixture.state(), IndexState::Right));
        assert_eq!((mode(&index), fs::read_to_string(&target).unwrap().as_str()), (0o600, "text"));
    };
    fs::remove_file(&index).unwrap();
    symlink(&target, &index).unwrap();
    works();
    // A pipe is not waited for.
    fs::remove_file(&index).unwrap();
    make_pipe(&index);
    works();
    fs::set_permissions(&index, Permissions::from_mode(0o666)).unwrap();
    works();
    fs::write(&index, "an index of another program").unwrap();
    works();
    // What cannot be removed is told of.
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    assert_eq!(fixture.find("c1"), "10.1.2.2");
    assert_eq!(complaints(), [format!("remove {}: is a directory", index.display())]);
}

#[test]
fn indexes_of_directories_that_are_no_more_are_known() {
    let fixture = three();
    let place = IndexPlace {
        directory: fixture.root.path().join("index"),
        boot_id: String::new(),
        report: |_| {},
    };
    fs::write(place.directory.join("note"), vec![b'x'; 5000]).unwrap();
    assert_eq!(place.orphans().unwrap(), [] as [PathBuf; 0]);
    fs::remove_dir_all(fixture.directory()).unwrap();
    assert_eq!(place.orphans().unwrap(), [fixture.directory()]);
    place.forget(&fixture.directory()).unwrap();
    assert_eq!(names(&place.directory), ["note"]);
}
