//! `podwire ipam`.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use testbed::{Namespace, TempDir, isolated};

use crate::{Run, command, finish, names, podwire};

/// A node with a network `n` that can give out 10.1.2.2 to 10.1.2.14.
struct Node {
    home: TempDir,
    pod: Namespace,
}

impl Node {
    fn new() -> Self {
        let home = testbed::directory();
        for directory in ["networks/n", "cni/results", "net.d"] {
            fs::create_dir_all(home.path().join(directory)).unwrap();
        }
        let node = Self { home, pod: Namespace::new("pod") };
        node.pod.sh("ip link add eth0 type veth peer name other");
        let list = json!({
            "cniVersion": "1.0.0", "name": "n", "plugins": [
                { "type": "bridge", "ipam": {
                    "type": "host-local", "subnet": "10.1.2.0/28",
                    "dataDir": node.path("networks"), "indexDir": node.path("index"),
                } },
                { "type": "portmap" },
            ],
        });
        fs::write(node.path("net.d/n.conflist"), list.to_string()).unwrap();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Reserves an address an hour ago.
    fn reserve(&self, address: &str, text: &str) {
        let path = self.path("networks/n").join(address);
        fs::write(&path, text).unwrap();
        let hour = Duration::from_secs(3_600);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(SystemTime::now() - hour)
            .unwrap();
    }

    /// Notes an attachment of the container's `eth0`, as runtimes do.
    fn note(&self, id: &str, netns: &str) {
        let note = json!({ "kind": "cniCacheV1", "containerId": id, "ifName": "eth0",
            "networkName": "n", "netns": netns });
        fs::write(self.path(&format!("cni/results/n-{id}-eth0")), note.to_string()).unwrap();
    }

    fn run(&self, arguments: &str) -> Run {
        let (conf, cache) = (self.path("net.d"), self.path("cni"));
        let places = format!("--conf-dir {} --cache-dir {}", conf.display(), cache.display());
        podwire(&format!(
            "ipam {arguments} {places} --data-dir {}",
            self.path("networks").display()
        ))
    }

    fn value(&self, arguments: &str, code: i32) -> Value {
        serde_json::from_str(&self.run(&format!("{arguments} -o json")).expect(code).stdout)
            .unwrap()
    }

    /// The reserved addresses.
    fn left(&self) -> Vec<String> {
        let mut names = names(self.path("networks/n").to_str().unwrap());
        names.retain(|name| name.parse::<std::net::IpAddr>().is_ok());
        names
    }

    /// One of each kind.
    fn with_all_kinds() -> Self {
        let node = Self::new();
        node.reserve("10.1.2.2", "lives\r\neth0");
        node.note("lives", node.pod.path().to_str().unwrap());
        node.reserve("10.1.2.3", "gone\r\neth0");
        node.note("gone", "/run/netns/gone");
        node.reserve("10.1.2.4", "unknown\r\neth0");
        node.reserve("10.1.2.5", "");
        node.reserve("10.1.2.6", "old");
        fs::create_dir(node.path("networks/n/10.1.2.7")).unwrap();
        node.reserve("note", "text");
        node.reserve("lock", "");
        node
    }
}

/// The values of one member of each item.
fn column<'a>(items: &'a Value, member: &str) -> Vec<&'a str> {
    items.as_array().unwrap().iter().map(|item| item[member].as_str().unwrap_or("-")).collect()
}

#[test]
fn list_says_who_has_what_and_whether_that_lives() {
    isolated!();
    let node = Node::with_all_kinds();
    let told = node.run("list n").expect(0).stdout;
    let expected = "\
NETWORK  ADDRESS   CONTAINER  INTERFACE  AGE  STATE
n        10.1.2.2  lives      eth0       1h   lives
n        10.1.2.3  gone       eth0       1h   gone: its namespace /run/netns/gone is not there any more
n        10.1.2.4  unknown    eth0       1h   unknown: RESULTS has no note of it
n        10.1.2.5  -          -          1h   empty: nobody's name is in the file
n        10.1.2.6  old        -          1h   unknown: RESULTS has no note of it
n        10.1.2.7  -          -          0s   unreadable: the file is none of a reservation

n: 6 reserved (1 live, 2 gone, 3 unknown), 7 of 13 free in 10.1.2.1-10.1.2.14
";
    let results = node.path("cni/results").display().to_string();
    // The machine may have been started within the hour.
    let told =
        told.replace(&results, "RESULTS").replace(", and it seems to be from before this boot", "");
    assert_eq!(told, expected);
    let list = node.value("list", 0);
    assert_eq!(
        column(&list["items"], "state"),
        ["lives", "gone", "unknown", "empty", "unknown", "unreadable"]
    );
    assert_eq!(
        column(&list["items"], "containerID"),
        ["lives", "gone", "unknown", "-", "old", "-"]
    );
    assert_eq!(
        list["networks"][0]["ranges"],
        json!([{ "range": "10.1.2.1-10.1.2.14", "size": 13, "used": 6, "free": 7 }])
    );
    assert!(!node.run("list --no-headers").expect(0).stdout.contains("NETWORK"));
    node.run("list other").expect(4);
}

#[test]
fn check_names_what_is_wrong_and_what_helps() {
    isolated!();
    let node = Node::new();
    assert_eq!(
        node.run("check").expect(0).stdout,
        "n: nothing is wrong; 0 reserved; index missing\n"
    );
    drop(node);
    let node = Node::with_all_kinds();
    let check = node.value("check", 1);
    assert_eq!(
        column(&check["findings"], "object"),
        ["10.1.2.3", "10.1.2.5", "10.1.2.6", "10.1.2.7", "note"]
    );
    let told = node.run("check").expect(1).stdout;
    for part in [
        "FAIL n 10.1.2.3: is reserved for container gone, which is gone: its namespace /run/netns/gone is not there any more\n  fix: podwire ipam gc n\n",
        "FAIL n 10.1.2.5: is reserved for nobody",
        "fix: podwire ipam gc n --force, if nobody uses it",
        "n: 5 findings; 6 reserved, 3 of them used or not, nobody can tell; index missing",
    ] {
        assert!(told.contains(part), "{told}");
    }
    drop(node);
    // More than one address for one interface, and a range that is nearly full.
    let node = Node::new();
    for last in 2..14 {
        node.reserve(&format!("10.1.2.{last}"), &format!("c{}\r\neth0", last.min(12)));
    }
    let check = node.value("check n", 1);
    let objects = column(&check["findings"], "object");
    assert_eq!(objects, ["10.1.2.12, 10.1.2.13", "10.1.2.1-10.1.2.14"]);
    assert_eq!(check["findings"][1]["what"], "is nearly full: 1 of 13 addresses are free");
}

#[test]
fn gc_frees_what_is_gone_and_leaves_what_nobody_can_tell() {
    isolated!();
    let node = Node::with_all_kinds();
    let all = node.left();
    let plan = node.value("gc --dry-run", 0);
    assert_eq!((plan["kind"].as_str(), node.left()), (Some("IpamGcPlan"), all));
    assert_eq!(column(&plan["freed"], "address"), ["10.1.2.3", "10.1.2.5"]);
    assert!(!node.path("index").exists());

    let told = node.run("gc").expect(0).stdout;
    assert!(told.contains("n 10.1.2.3 freed: its namespace"), "{told}");
    assert!(told.ends_with("2 freed, 1 live, 3 left; --force frees 2 of them\n"), "{told}");
    assert_eq!(node.left(), ["10.1.2.2", "10.1.2.4", "10.1.2.6", "10.1.2.7"]);
    assert_eq!(node.value("check", 1)["networks"][0]["index"], "right");

    // Somebody may be about to make an interface for this one.
    fs::write(node.path("networks/n/10.1.2.8"), "young\r\neth0").unwrap();
    let report = node.value("gc --force", 0);
    assert_eq!(column(&report["freed"], "address"), ["10.1.2.4", "10.1.2.6"]);
    assert_eq!(column(&report["left"], "address"), ["10.1.2.7", "10.1.2.8"]);
    assert_eq!(node.left(), ["10.1.2.2", "10.1.2.7", "10.1.2.8"]);
}

#[test]
fn what_strangers_wrote_cannot_act_on_the_terminal() {
    isolated!();
    let node = Node::new();
    node.reserve("10.1.2.2", "x\x1b[31m\r\ne\x07");
    node.reserve("ev\x1b[31mil\n", "");
    let list = node.run("list").expect(0).stdout;
    assert!(list.contains("10.1.2.2  x\\u{1b}[31m  e\\u{7}"), "{list}");
    let check = node.run("check").expect(1).stdout;
    assert!(check.contains("FAIL n ev\\u{1b}[31mil\\n: is no address"), "{check}");
    let gc = node.run("gc").expect(0).stdout;
    for told in [list, check, gc] {
        assert!(!told.contains(['\x1b', '\x07']), "{told:?}");
    }
}

#[test]
fn a_directory_that_others_may_write_to_is_told() {
    isolated!();
    let node = Node::new();
    fs::set_permissions(node.path("networks/n"), Permissions::from_mode(0o777)).unwrap();
    let told = node.run("check").expect(1).stdout;
    let expected = format!(
        "FAIL n directory: can be written by others (mode 0777)\n  fix: chmod go-w {}\n",
        node.path("networks/n").display()
    );
    assert!(told.starts_with(&expected), "{told}");
}

#[test]
fn a_directory_is_the_same_however_it_is_written() {
    isolated!();
    let node = Node::new();
    node.reserve("10.1.2.2", "one\r\neth0");
    let mut relative = command("ipam list --data-dir networks --conf-dir net.d");
    let told = finish(relative.current_dir(node.home.path()).spawn().unwrap()).expect(0).stdout;
    assert!(told.contains("12 of 13 free in 10.1.2.1-10.1.2.14"), "{told}");
    let none = podwire("ipam list --conf-dir /none --data-dir /none").expect(4).stderr;
    assert!(none.starts_with("error: there is no /none\n  fix: "), "{none}");
    // One that a configuration names is made by the first ADD. A variable that is empty says nothing.
    fs::remove_dir_all(node.path("networks")).unwrap();
    let mut variables = command("ipam list");
    variables.args(["--data-dir", node.path("networks").to_str().unwrap()]);
    variables.args(["--conf-dir", node.path("net.d").to_str().unwrap()]);
    for name in ["PODWIRE_CNI_CACHE_DIR", "PODWIRE_IPAM_INDEX_DIR"] {
        variables.env(name, "");
    }
    let told = finish(variables.spawn().unwrap()).expect(0).stdout;
    assert!(told.contains("13 of 13 free"), "{told}");
}

#[test]
fn gc_makes_a_wrong_index_anew_and_removes_those_of_nothing() {
    isolated!();
    let node = Node::with_all_kinds();
    node.run("gc").expect(0);
    let [index] = &names(node.path("index").to_str().unwrap())[..] else { panic!("one index") };
    let index = node.path("index").join(index);
    let mut bytes = fs::read(&index).unwrap();
    bytes.iter_mut().skip(1024).for_each(|byte| *byte ^= 1);
    fs::write(&index, bytes).unwrap();
    let check = node.value("check", 1);
    assert!(column(&check["findings"], "object").contains(&"index"), "{check}");
    fs::create_dir_all(node.path("networks/m")).unwrap();
    fs::write(node.path("networks/m/lock"), "").unwrap();
    node.run(&format!("gc --index-dir {}", node.path("index").display())).expect(0);
    assert_eq!(node.value("check n", 1)["networks"][0]["index"], "right");
    assert_eq!(names(node.path("index").to_str().unwrap()).len(), 2);

    fs::remove_dir_all(node.path("networks/m")).unwrap();
    let report = node.value("gc", 0);
    assert_eq!(report["indexesRemoved"], json!([node.path("networks/m")]));
    assert_eq!(names(node.path("index").to_str().unwrap()).len(), 1);
}
