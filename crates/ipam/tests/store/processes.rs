//! Many processes and threads on one directory.

use std::collections::BTreeSet;
use std::env;
use std::process::{Child, Command, Stdio};

use super::*;

/// In the environment of a worker process: the data directory.
const DATA_DIR: &str = "IPAM_TEST_DATA_DIR";
/// And the worker's number.
const WORKER: &str = "IPAM_TEST_WORKER";

const PROCESSES: usize = 4;
const THREADS: usize = 2;
const EACH: usize = 60;

/// What a thread of a worker does: it allocates, and gives back every third address.
fn work(store: &Store, sets: &[RangeSet], name: &str) -> Vec<IpAddr> {
    let mut kept = Vec::new();
    for turn in 0..EACH {
        let owner = owner(&format!("{name}-{turn}"), "eth0");
        let leases = store.reserve(sets, &[], &owner).unwrap();
        let addresses = leases.iter().map(|lease| lease.address.addr());
        if turn % 3 == 0 {
            assert_eq!(store.release(&owner).unwrap(), addresses.collect::<Vec<_>>());
        } else {
            kept.extend(addresses);
        }
    }
    kept
}

fn spawn(root: &Path, worker: usize) -> Child {
    #[expect(clippy::disallowed_methods, reason = "a test of several processes has to start them")]
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "processes::worker", "--ignored", "--nocapture", "--quiet"])
        .env(DATA_DIR, root)
        .env(WORKER, worker.to_string())
        .stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// Runs in a process of its own, and prints the addresses that it keeps.
#[test]
#[ignore = "started by no_address_is_given_twice"]
fn worker() {
    let (Some(root), Some(worker)) = (env::var_os(DATA_DIR), env::var_os(WORKER)) else { return };
    let store = store(Path::new(&root));
    let sets = sets(&["10.1.0.0/22", "2001:db8::/64"]);
    let worker = worker.into_string().unwrap();
    let kept = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (store, sets, name) = (&store, &sets, format!("w{worker}-{thread}"));
                scope.spawn(move || work(store, sets, &name))
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for address in kept {
        println!("kept {address}");
    }
}

#[test]
fn no_address_is_given_twice() {
    let fixture = Fixture::new();
    let workers: Vec<_> = (0..PROCESSES).map(|number| spawn(fixture.root.path(), number)).collect();
    let mut kept = Vec::<IpAddr>::new();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success());
        let output = String::from_utf8(output.stdout).unwrap();
        let addresses = output.lines().filter_map(|line| line.strip_prefix("kept "));
        kept.extend(addresses.map(|text| text.parse::<IpAddr>().unwrap()));
    }
    assert_eq!(kept.len(), PROCESSES * THREADS * (EACH - EACH / 3) * 2);
    let distinct: BTreeSet<_> = kept.iter().copied().collect();
    assert_eq!(distinct.len(), kept.len());
    let reserved = fixture.store.reservations().unwrap().into_iter();
    assert_eq!(reserved.map(|entry| entry.address).collect::<BTreeSet<_>>(), distinct);
}
