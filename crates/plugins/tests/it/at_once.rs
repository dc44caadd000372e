//! `host-local` of both makes in many processes on one directory, some of which are killed: held
//! against the simplest model of who has which address.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use std::{fs, thread};

use ipam::{Holder, IndexState, Owner, Store};
use plugins::reservations;
use proptest::prelude::*;
use serde_json::{Value, json};

const WORKERS: usize = 4;

/// One call of a worker.
#[derive(Debug, Clone)]
struct Step {
    /// Whether the reference makes it.
    is_theirs: bool,
    what: What,
    /// After how many microseconds the process is killed.
    killed: Option<u64>,
}

#[derive(Debug, Clone)]
enum What {
    Add,
    /// The last byte of an address that is asked for.
    Request(u8),
    /// One of those that the worker has.
    Del(prop::sample::Index),
    Check(prop::sample::Index),
    /// Nobody has this.
    DelNothing,
    CheckNothing,
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let place = any::<prop::sample::Index>;
    let what = prop_oneof![
        5 => Just(What::Add),
        1 => (0..16_u8).prop_map(What::Request),
        4 => place().prop_map(What::Del),
        1 => place().prop_map(What::Check),
        1 => Just(What::DelNothing),
        1 => Just(What::CheckNothing),
    ];
    let killed = prop_oneof![5 => Just(None), 1 => (0..4000_u64).prop_map(Some)];
    let step = (prop::bool::weighted(0.4), what, killed);
    let step = step.prop_map(|(is_theirs, what, killed)| Step { is_theirs, what, killed });
    prop::collection::vec(prop::collection::vec(step, 20..30), WORKERS)
}

/// A directory with a plugin of ours, reservations and an index.
struct Node {
    home: testbed::TempDir,
    config: String,
    /// Who has which address, from the answer to ADD until DEL is called.
    held: Mutex<BTreeMap<String, String>>,
}

impl Node {
    fn new() -> Self {
        let home = testbed::directory();
        symlink(env!("CARGO_BIN_EXE_podwire-cni"), home.path().join("host-local")).unwrap();
        let config = json!({
            "cniVersion": "1.0.0", "name": "n", "type": "bridge",
            "ipam": {
                "type": "host-local",
                "dataDir": home.path().join("networks"), "indexDir": home.path().join("index"),
                // Few addresses, so that they soon are another's.
                "ranges": [[{ "subnet": "10.1.2.0/28" }], [{ "subnet": "2001:db8::/64" }]],
            },
        });
        Self { home, config: config.to_string(), held: Mutex::default() }
    }

    fn store(&self) -> Store {
        let [data, index] = ["networks", "index"].map(|name| self.home.path().join(name));
        reservations::store("n", Some(data), Some(index))
    }

    fn unindexed(&self) -> Store {
        Store::new(&self.home.path().join("networks"), "n")
    }

    /// Exit code and answer; `None` if the process was killed before it had ended.
    fn call(&self, step: &Step, command: &str, id: &str, args: &str) -> Option<(i32, Value)> {
        let ours = self.home.path().join("host-local");
        let program = if step.is_theirs { Path::new("/usr/lib/cni/host-local") } else { &ours };
        #[expect(clippy::disallowed_methods, reason = "plugins are programs")]
        let mut process = Command::new(program);
        process.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let variables = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", "/nonexistent/netns"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", args),
            ("CNI_PATH", "/nonexistent"),
        ];
        let spawned = process.envs(variables).spawn();
        let mut child = spawned.unwrap_or_else(|error| {
            panic!(
                "start {}: {error}: apt-get install containernetworking-plugins",
                program.display()
            )
        });
        // One that was killed reads no more.
        let _ = child.stdin.take().unwrap().write_all(self.config.as_bytes());
        if let Some(micros) = step.killed {
            thread::sleep(Duration::from_micros(micros));
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let code = output.status.code()?;
        Some((code, serde_json::from_slice(&output.stdout).unwrap_or_default()))
    }
}

/// What a worker knows of its attachments: the addresses of each, or that it was killed over them.
#[derive(Default)]
struct Known {
    sure: BTreeMap<String, Vec<String>>,
    unsure: Vec<String>,
    gone: Vec<String>,
}

fn work(node: &Node, worker: usize, steps: &[Step]) -> Known {
    let mut known = Known::default();
    for (turn, step) in steps.iter().enumerate() {
        let new = format!("w{worker}-{turn}");
        let pick = |place: &prop::sample::Index| {
            let sure: Vec<_> = known.sure.keys().collect();
            (!sure.is_empty()).then(|| (*place.get(&sure)).clone())
        };
        match &step.what {
            What::Add => add(node, step, new, "", &mut known),
            What::Request(last) => {
                add(node, step, new, &format!("IP=10.1.2.{last}"), &mut known);
            }
            What::Del(place) => {
                let Some(id) = pick(place) else { continue };
                let addresses = known.sure.remove(&id).unwrap_or_default();
                let mut held = node.held.lock().unwrap();
                addresses.iter().for_each(|address| drop(held.remove(address)));
                drop(held);
                match node.call(step, "DEL", &id, "") {
                    Some(answer) => {
                        assert_eq!(answer, (0, Value::Null), "{id} {step:?}");
                        known.gone.push(id);
                    }
                    None => known.unsure.push(id),
                }
            }
            What::Check(place) => {
                let Some(id) = pick(place) else { continue };
                let code = node.call(step, "CHECK", &id, "").map_or(0, |(code, _)| code);
                assert_eq!(code, 0, "{id} {step:?}");
            }
            What::DelNothing => {
                let code = node.call(step, "DEL", "nobody", "").map_or(0, |(code, _)| code);
                assert_eq!(code, 0, "{step:?}");
            }
            What::CheckNothing => {
                let code = node.call(step, "CHECK", "nobody", "").map_or(1, |(code, _)| code);
                assert_eq!(code, 1, "{step:?}");
            }
        }
    }
    known
}

fn add(node: &Node, step: &Step, id: String, args: &str, known: &mut Known) {
    let Some((code, answer)) = node.call(step, "ADD", &id, args) else {
        return known.unsure.push(id);
    };
    if code != 0 {
        let why = answer["msg"].as_str().unwrap_or_default();
        let is_taken = ["no IP addresses available in", "is not available in", "subnet's gateway"];
        let is_no_address = !args.is_empty() && why.starts_with("failed to allocate all requested");
        assert!(
            is_no_address || is_taken.iter().any(|words| why.contains(words)),
            "{step:?}: {why}"
        );
        return known.gone.push(id);
    }
    let bare = |ip: &Value| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
    let addresses: Vec<_> = answer["ips"].as_array().unwrap().iter().map(bare).collect();
    assert_eq!(addresses.len(), 2);
    let mut held = node.held.lock().unwrap();
    for address in &addresses {
        if let Some(other) = held.insert(address.clone(), id.clone()) {
            panic!("{address} was given to {other} and to {id}: {step:?}");
        }
    }
    known.sure.insert(id, addresses);
}

/// What is on disk once all is quiet is what everybody was told, and the index says the same.
fn agree(node: &Node, known: &[Known]) {
    let (store, unindexed) = (node.store(), node.unindexed());
    let owner = |id: &str| Owner { id: id.to_owned(), ifname: "eth0".to_owned() };
    let find = |store: &Store, id: &str| -> Vec<String> {
        store.find(&owner(id)).unwrap().iter().map(ToString::to_string).collect()
    };
    for known in known {
        for (id, addresses) in &known.sure {
            assert_eq!((&find(&store, id), &find(&unindexed, id)), (addresses, addresses), "{id}");
        }
        for id in &known.unsure {
            assert_eq!(find(&store, id), find(&unindexed, id), "{id}");
        }
        for id in &known.gone {
            assert_eq!([find(&store, id), find(&unindexed, id)], [[""; 0]; 2], "{id}");
        }
    }
    let state = store.index_state().unwrap();
    assert!(matches!(state, IndexState::Right | IndexState::Missing), "{state:?}");
}

fn run(steps: &[Vec<Step>]) {
    let node = Node::new();
    let known: Vec<_> = thread::scope(|scope| {
        let work = |(worker, steps)| {
            let node = &node;
            scope.spawn(move || work(node, worker, steps))
        };
        let threads: Vec<_> = steps.iter().map(Vec::as_slice).enumerate().map(work).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    agree(&node, &known);

    // A runtime calls DEL again for what it does not know the end of, and then nothing is held.
    let held = known.iter().flat_map(|known| known.sure.keys().chain(&known.unsure));
    for (turn, id) in held.enumerate() {
        let step = Step { is_theirs: turn % 3 == 0, what: What::DelNothing, killed: None };
        assert_eq!(node.call(&step, "DEL", id, ""), Some((0, Value::Null)), "{id}");
    }
    let left = node.unindexed().reservations().unwrap();
    assert!(left.iter().all(|it| it.holder == Holder::Nobody), "{left:?}");
    node.store().gc(&[], |_| false).unwrap();
    assert_eq!(node.store().reservations().unwrap(), []);
    agree(&node, &[]);
    let names = fs::read_dir(node.home.path().join("networks/n")).unwrap();
    assert!(names.count() <= 3, "more than the lock and two cursors");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 6, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn an_address_given_by_one_is_never_given_by_the_other(steps in steps()) {
        run(&steps);
    }
}
