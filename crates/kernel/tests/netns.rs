//! Namespaces: who they are, how one enters them, and what is left of them.
#![expect(clippy::disallowed_methods, reason = "tests start processes")]

use std::path::Path;
use std::process::{Command, Stdio};

use kernel::{ErrorKind, Kernel, Netns, Query};
use net::{Object, Space};
use testbed::Namespace;

#[test]
fn a_namespace_is_the_same_by_whatever_path() {
    testbed::isolated!();
    let blue = Namespace::new("blue");
    let red = Namespace::new("red");
    let id = |netns: &Netns| netns.id().unwrap();
    assert_eq!(id(blue.netns()), id(&Netns::open(&blue.path()).unwrap()));
    assert_ne!(id(blue.netns()), id(red.netns()));
    assert_ne!(id(blue.netns()), id(&Netns::current().unwrap()));
    let inside = blue.netns().enter(|| Netns::current().unwrap().id().unwrap()).unwrap();
    assert_eq!(inside, id(blue.netns()));
    let mut process = Command::new("sleep");
    let mut process = blue.netns().spawn(process.arg("60").stdin(Stdio::null())).unwrap();
    assert_eq!(id(&Netns::of_process(process.id()).unwrap()), id(blue.netns()));
    process.kill().unwrap();
    process.wait().unwrap();
    blue.netns().bind_to(Path::new("/run/netns/azure")).unwrap();
    assert_eq!(id(&Netns::open(Path::new("/run/netns/azure")).unwrap()), id(blue.netns()));
}

#[test]
fn a_thread_comes_back_also_from_a_panic() {
    testbed::isolated!();
    let blue = Namespace::new("blue");
    let home = Netns::current().unwrap().id().unwrap();
    let result = std::thread::spawn(move || {
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            blue.netns().enter(|| panic!("on purpose")).unwrap()
        }));
        assert!(unwound.is_err());
        Netns::current().unwrap().id().unwrap()
    });
    assert_eq!(result.join().unwrap(), home);
}

#[test]
fn what_is_no_namespace_is_named() {
    testbed::isolated!();
    let directory = testbed::directory();
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    let error = Netns::open(&plain).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKind);
    assert!(error.to_string().contains("unknown FS magic on"), "{error}");
    let error = Netns::open(&directory.path().join("gone")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = Netns::open(Path::new("/proc/self/ns/uts")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKind);
    assert!(Kernel::new().unwrap().observe(&Space::At(plain), &Query::All).is_err());
}

#[test]
fn removing_leaves_nothing_and_can_be_repeated() {
    testbed::isolated!();
    let path = Path::new("/run/netns/brief");
    Netns::create(path).unwrap();
    assert_eq!(Netns::create(path).unwrap_err().kind(), ErrorKind::Exists);
    Netns::remove(path).unwrap();
    assert!(!path.exists());
    Netns::remove(path).unwrap();
    // A kill between making the file and mounting on it leaves a plain file.
    std::fs::write(path, "").unwrap();
    Netns::remove(path).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_dump_is_whole_while_everything_changes() {
    testbed::isolated!();
    let blue = Namespace::new("blue");
    blue.sh("for i in $(seq 100); do echo link add stays$i type bridge; done | ip -batch -");
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            for _ in 0..5 {
                blue.sh(
                    "for i in $(seq 10); do echo link add comes$i type bridge; done | ip -batch -
                         for i in $(seq 10); do echo link delete comes$i; done | ip -batch -",
                );
            }
        });
        let mut kernel = Kernel::new().unwrap();
        while !churn.is_finished() {
            let seen = kernel.observe(&blue.space(), &Query::All).unwrap();
            let stays = seen.iter().filter(|object| {
                matches!(object, Object::Link(link) if link.name.as_str().starts_with("stays"))
            });
            assert_eq!(stays.count(), 100);
        }
    });
}
