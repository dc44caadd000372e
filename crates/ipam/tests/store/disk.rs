//! Directories that are in the way, planted, read-only or full.

use std::os::unix::fs::symlink;
use std::process::Command;
use std::{env, process};

use ipam::Holder;

use super::*;

/// What an attachment is told, and what it can do about it.
fn refusal(store: &Store) -> (String, String) {
    let error = store.reserve(&sets(&["10.1.2.0/24"]), &[], &owner("c1", "eth0")).unwrap_err();
    (error.to_string(), error.remedy().unwrap())
}

#[test]
fn a_file_in_place_of_a_directory_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let (error, remedy) = refusal(&Store::new(&file, "n"));
    assert_eq!(error, format!("mkdir {}: not a directory", file.display()));
    assert_eq!(
        remedy,
        format!(
            "{}: something else is in this place: move it away, or set ipam.dataDir to another directory",
            file.display()
        )
    );
    let network = Store::new(root.path(), "file");
    assert_eq!(refusal(&network).0, format!("mkdir {}: not a directory", file.display()));
    let status = network.check_writable().unwrap_err();
    assert_eq!(status.to_string(), format!("open {}: not a directory", file.display()));
    let release = network.release(&owner("c1", "eth0")).unwrap_err();
    assert_eq!(release.to_string(), format!("open {}: not a directory", file.display()));
    assert_eq!(names(root.path()), ["file"]);
}

#[test]
fn planted_links_are_not_followed() {
    let fixture = Fixture::new();
    let target = fixture.root.path().join("target");
    fs::write(&target, "c1\r\neth0").unwrap();
    fixture.plant("10.1.2.3", "other\r\neth0");
    let plant = |name: &str| symlink(&target, fixture.directory().join(name)).unwrap();

    // An address: it is taken, belongs to nobody, and stays.
    plant("10.1.2.2");
    let sets = sets(&["10.1.2.0/24"]);
    assert!(fixture.store.find(&owner("c1", "eth0")).unwrap().is_empty());
    assert_eq!(fixture.store.gc(&[owner("other", "eth0")], |_| false).unwrap().freed, []);
    assert_eq!(fixture.store.reservations().unwrap()[0].holder, Holder::Unknown);
    assert_eq!(fixture.add(&sets, &[], &owner("c1", "eth0")), "10.1.2.4/24");

    // A cursor: it is not read, and writing it fails before anything is reserved.
    fs::remove_file(fixture.directory().join("last_reserved_ip.0")).unwrap();
    plant("last_reserved_ip.0");
    let error = fixture.add(&sets, &[], &owner("c2", "eth0"));
    let cursor = fixture.directory().join("last_reserved_ip.0");
    assert_eq!(
        error,
        format!(
            "failed to allocate for range 0: open {}: too many levels of symbolic links",
            cursor.display()
        )
    );

    // The lock.
    fs::remove_file(fixture.directory().join("lock")).unwrap();
    plant("lock");
    let lock = fixture.directory().join("lock");
    let error = fixture.add(&sets, &[], &owner("c2", "eth0"));
    assert_eq!(error, format!("open {}: too many levels of symbolic links", lock.display()));

    assert_eq!(fs::read_to_string(&target).unwrap(), "c1\r\neth0");
    assert!(!fixture.directory().join("10.1.2.5").exists());
}

#[test]
fn a_pipe_in_place_of_a_reservation_is_not_waited_for() {
    let fixture = Fixture::new();
    fixture.plant("10.1.2.2", "c1\r\neth0");
    make_pipe(&fixture.directory().join("10.1.2.3"));
    let holders: Vec<_> =
        fixture.store.reservations().unwrap().into_iter().map(|entry| entry.holder).collect();
    assert_eq!(holders, [Holder::Attachment(owner("c1", "eth0")), Holder::Unknown]);

    // Nor are those in place of the cursor and of the lock.
    make_pipe(&fixture.directory().join("last_reserved_ip.0"));
    let sets = sets(&["10.1.2.0/24"]);
    let cursor = fixture.directory().join("last_reserved_ip.0");
    assert_eq!(
        fixture.add(&sets, &[], &owner("c2", "eth0")),
        format!(
            "failed to allocate for range 0: open {}: no such device or address",
            cursor.display()
        )
    );
    let lock = fixture.directory().join("lock");
    fs::remove_file(&lock).unwrap();
    make_pipe(&lock);
    assert_eq!(
        fixture.add(&sets, &[], &owner("c2", "eth0")),
        format!("{} is not a plain file", lock.display())
    );
    assert_eq!(fixture.store.find(&owner("c1", "eth0")).unwrap().len(), 1);
    assert!(fixture.store.release(&owner("c2", "eth0")).unwrap().is_empty());
    let error = fixture.store.release(&owner("c1", "eth0")).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is not a plain file", lock.display()));
    assert!(error.remedy().unwrap().contains("look who put it there"));
}

#[test]
fn another_name_of_a_file_elsewhere_is_not_written_to() {
    let fixture = Fixture::new();
    let target = fixture.root.path().join("target");
    fs::write(&target, "text").unwrap();
    fs::create_dir(fixture.directory()).unwrap();
    for name in ["last_reserved_ip.0", "10.1.2.2", "lock"] {
        fs::hard_link(&target, fixture.directory().join(name)).unwrap();
    }
    let sets = sets(&["10.1.2.0/24"]);
    assert_eq!(fixture.add(&sets, &[], &owner("c1", "eth0")), "10.1.2.3/24");
    assert_eq!(fixture.store.release(&owner("text", "eth0")).unwrap().len(), 1);
    assert_eq!(fs::read_to_string(&target).unwrap(), "text");
}

#[test]
fn our_own_link_to_a_network_is_followed_and_one_to_nowhere_makes_nothing() {
    let fixture = Fixture::new();
    let target = fixture.root.path().join("target");
    symlink("target", fixture.directory()).unwrap();
    let sets = sets(&["10.1.2.0/24"]);
    assert_eq!(
        fixture.add(&sets, &[], &owner("c1", "eth0")),
        format!("mkdir {}: file exists", fixture.directory().display())
    );
    assert!(!target.exists());
    fs::create_dir(&target).unwrap();
    assert_eq!(fixture.add(&sets, &[], &owner("c1", "eth0")), "10.1.2.2/24");
    assert_eq!(names(&target), ["10.1.2.2", "last_reserved_ip.0", "lock"]);
}

/// Makes a named pipe.
pub(super) fn make_pipe(path: &Path) {
    #[expect(clippy::disallowed_methods, reason = "the standard library makes no named pipes")]
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// Runs a test again as root of user and mount namespaces of its own, where it may mount.
fn in_own_mounts(name: &str, test: impl FnOnce()) {
    const INSIDE: &str = "IPAM_TEST_INSIDE";
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    // What the inner process leaves goes with this.
    let place = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a thread cannot get mounts of its own")]
    let mut command = Command::new("unshare");
    let inner = command
        .args(["--user", "--map-root-user", "--mount", "--"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, process::id().to_string())
        .env("TMPDIR", place.path())
        .stdout(process::Stdio::null());
    assert!(inner.status().unwrap().success());
}

fn mount(options: &str, at: &Path) {
    #[expect(clippy::disallowed_methods, reason = "a full or read-only disk has to be mounted")]
    let mut command = Command::new("mount");
    assert!(
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status().unwrap().success()
    );
}

/// Takes what is left of a file system.
fn fill(directory: &Path) -> PathBuf {
    let ballast = directory.join("ballast");
    // The write stops with an error at the last free byte.
    let _ = fs::write(&ballast, vec![0; 1 << 20]);
    ballast
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    in_own_mounts("disk::a_full_disk_leaves_nothing_behind", || {
        let fixture = Fixture::new();
        mount("size=64k", fixture.root.path());
        let both = sets(&["10.1.2.0/24", "10.1.3.0/24"]);
        assert_eq!(fixture.add(&both[..1], &[], &owner("c1", "eth0")), "10.1.2.2/24");
        let before = fixture.names();

        // No room for the reservation, though there is for the cursor, which has a block.
        let ballast = fill(fixture.root.path());
        let (error, remedy) = refusal_of(&fixture, &both[..1]);
        let file = fixture.directory().join("10.1.2.3");
        assert_eq!(
            error,
            format!(
                "failed to allocate for range 0: write {}: no space left on device",
                file.display()
            )
        );
        assert_eq!(
            remedy,
            format!(
                "{}: the file system is full: free blocks or inodes on it, or set ipam.dataDir to a directory on another one",
                file.display()
            )
        );
        assert_eq!(fixture.names(), before);
        let status = fixture.store.check_writable().unwrap_err().to_string();
        assert_eq!(
            status,
            format!("write {}: no space left on device", fixture.directory().display())
        );

        // No room for the cursor of a second set.
        let (error, _) = refusal_of(&fixture, &both);
        let cursor = fixture.directory().join("last_reserved_ip.1");
        assert_eq!(
            error,
            format!(
                "failed to allocate for range 1: write {}: no space left on device",
                cursor.display()
            )
        );
        assert_eq!(fixture.names(), before);

        // A release needs no room, and makes some. The cursor has gone on with each attempt.
        assert_eq!(fixture.store.release(&owner("c1", "eth0")).unwrap().len(), 1);
        fs::remove_file(ballast).unwrap();
        assert_eq!(fixture.add(&both, &[], &owner("c1", "eth0")), "10.1.2.5/24 10.1.3.2/24");

        // Room for the reservation of the first set, but not of the second.
        fill(fixture.root.path());
        fixture.store.release(&owner("c1", "eth0")).unwrap();
        fs::write(fixture.root.path().join("more"), vec![0; 4096]).unwrap();
        let (error, _) = refusal_of(&fixture, &both);
        assert!(error.starts_with("failed to allocate for range 1: write "), "{error}");
        assert!(fixture.store.reservations().unwrap().is_empty());
    });
}

#[test]
fn a_read_only_disk_is_reported_and_hinders_no_question() {
    in_own_mounts("disk::a_read_only_disk_is_reported_and_hinders_no_question", || {
        let fixture = Fixture::new();
        mount("size=1m", fixture.root.path());
        let sets = sets(&["10.1.2.0/24"]);
        assert_eq!(fixture.add(&sets, &[], &owner("c1", "eth0")), "10.1.2.2/24");
        mount_read_only(fixture.root.path());

        assert_eq!(fixture.store.find(&owner("c1", "eth0")).unwrap().len(), 1);
        assert!(fixture.store.release(&owner("unknown", "eth0")).unwrap().is_empty());
        let error = fixture.store.release(&owner("c1", "eth0")).unwrap_err();
        let file = fixture.directory().join("10.1.2.2");
        assert_eq!(error.to_string(), format!("remove {}: read-only file system", file.display()));
        let (error, remedy) = refusal_of(&fixture, &sets);
        let cursor = fixture.directory().join("last_reserved_ip.0");
        assert_eq!(
            error,
            format!(
                "failed to allocate for range 0: open {}: read-only file system",
                cursor.display()
            )
        );
        assert_eq!(
            remedy,
            format!(
                "{}: the file system is read-only: remount it read-write, or set ipam.dataDir to a directory that is writable",
                cursor.display()
            )
        );
        let missing = Store::new(&fixture.root.path().join("a"), "b");
        let status = missing.check_writable().unwrap_err();
        assert_eq!(
            status.to_string(),
            format!("access {}: read-only file system", fixture.root.path().display())
        );
        assert_eq!(
            refusal(&missing).0,
            format!("mkdir {}: read-only file system", fixture.root.path().join("a").display())
        );
    });
}

fn refusal_of(fixture: &Fixture, sets: &[RangeSet]) -> (String, String) {
    let error: Error = fixture.store.reserve(sets, &[], &owner("c2", "eth0")).unwrap_err();
    (error.to_string(), error.remedy().unwrap())
}

fn mount_read_only(at: &Path) {
    #[expect(clippy::disallowed_methods, reason = "a full or read-only disk has to be mounted")]
    let mut command = Command::new("mount");
    assert!(command.args(["-o", "remount,bind,ro"]).arg(at).status().unwrap().success());
}
