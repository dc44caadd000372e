//! `host-local` side by side with the reference plugin: the same calls, the same answers, the
//! same files, and both on one directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process, thread};

use cni::{Environment, Streams};
use plugins::host_local::{self, HostLocal};
use serde_json::{Value, json};

/// Debian's build of the reference, 1.1.1: it knows the specification up to 1.0.0.
const REFERENCE: &str = "/usr/lib/cni/host-local";

/// Who answers a call.
#[derive(Debug, Clone, Copy)]
enum Side {
    Ours,
    Reference,
}
use Side::{Ours, Reference};

/// What a runtime sets besides the configuration.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    command: &'a str,
    id: &'a str,
    ifname: &'a str,
    args: &'a str,
}

const fn call<'a>(command: &'a str, id: &'a str) -> Call<'a> {
    Call { command, id, ifname: "eth0", args: "" }
}

const fn with_args<'a>(command: &'a str, id: &'a str, args: &'a str) -> Call<'a> {
    Call { command, id, ifname: "eth0", args }
}

impl Side {
    /// Exit code and answer; the answer is `null` if nothing was printed.
    fn run(self, call: Call<'_>, config: &str) -> (i32, Value) {
        let Call { command, id, ifname, args } = call;
        let variables = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", "/nonexistent/netns"),
            ("CNI_IFNAME", ifname),
            ("CNI_ARGS", args),
            ("CNI_PATH", "/usr/lib/cni"),
        ];
        let (code, stdout) = match self {
            Ours => serve(&variables, config),
            Reference => execute(&variables, config),
        };
        let answer =
            if stdout.is_empty() { Value::Null } else { serde_json::from_slice(&stdout).unwrap() };
        (code, answer)
    }
}

fn serve(variables: &[(&str, &str)], config: &str) -> (i32, Vec<u8>) {
    let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name);
    let environment = Environment::from_lookup(|name| Some(lookup(name)?.1.to_owned()));
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let streams =
        Streams { stdin: &mut config.as_bytes(), stdout: &mut stdout, stderr: &mut stderr };
    let code = cni::serve(&HostLocal, &environment, &|_| Ok(false), streams);
    (code.into(), stdout)
}

fn execute(variables: &[(&str, &str)], config: &str) -> (i32, Vec<u8>) {
    assert!(
        Path::new(REFERENCE).exists(),
        "{REFERENCE} is missing, which this is compared with: apt-get install containernetworking-plugins"
    );
    #[expect(clippy::disallowed_methods, reason = "the reference is another program")]
    let mut command = Command::new(REFERENCE);
    let command = command.env_clear().envs(variables.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), output.stdout)
}

/// A data directory of its own.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("host-local-{}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The configuration of network `n` with the members of `ipam` and of the document.
    fn config(&self, version: &str, ipam: &Value, more: &Value) -> String {
        let mut config =
            json!({ "cniVersion": version, "name": "n", "type": "bridge", "ipam": ipam });
        config["ipam"]["type"] = "host-local".into();
        if ipam.get("dataDir").is_none() {
            config["ipam"]["dataDir"] = self.0.to_str().unwrap().into();
        }
        config["ipam"]["indexDir"] = self.index().to_str().unwrap().into();
        config.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        config.to_string()
    }

    /// Where the index of our side is.
    fn index(&self) -> PathBuf {
        self.0.with_extension("index")
    }

    /// The network's files with their texts.
    fn files(&self) -> BTreeMap<String, String> {
        let Ok(entries) = fs::read_dir(self.0.join("n")) else { return BTreeMap::new() };
        let files = entries.map(|entry| {
            let entry = entry.unwrap();
            let text = fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        });
        files.collect()
    }

    fn plant(&self, name: &str, text: &str) {
        fs::create_dir_all(self.0.join("n")).unwrap();
        fs::write(self.0.join("n").join(name), text).unwrap();
    }

    /// The answer with this directory's path left out, and without what the reference prints in
    /// 1.0.0 results though it is empty and later versions of it leave out.
    fn neutral(&self, (code, answer): (i32, Value), version: &str) -> (i32, Value) {
        let text = answer.to_string().replace(self.0.to_str().unwrap(), "DIR");
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        if let Some(object) = answer.as_object_mut()
            && version == "1.0.0"
            && object.get("dns") == Some(&json!({}))
        {
            object.remove("dns");
        }
        (code, answer)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        let _ = fs::remove_dir_all(self.index());
    }
}

/// Makes the same calls on both sides, each in a directory of its own, and compares the answers
/// and what is on disk after each. Gives the answers.
fn compare(version: &str, ipam: &Value, more: &Value, calls: &[Call<'_>]) -> Vec<Value> {
    let (ours, reference) = (Scratch::new(), Scratch::new());
    let mut answers = Vec::new();
    for call in calls {
        let answer = |side: Side, scratch: &Scratch| {
            let config = scratch.config(version, ipam, more);
            scratch.neutral(side.run(*call, &config), version)
        };
        let got = answer(Ours, &ours);
        let context = format!("{call:?} with {version} {ipam} {more}");
        assert_eq!(got, answer(Reference, &reference), "{context}");
        // The reference creates the directory and the lock for any command.
        let (mut have, mut want) = (ours.files(), reference.files());
        have.remove("lock");
        want.remove("lock");
        assert_eq!(have, want, "{context}");
        answers.push(got.1);
    }
    answers
}

#[test]
fn the_same_calls_give_the_same_answers_and_files() {
    let tiny = json!({ "subnet": "10.1.2.0/29", "routes": [{ "dst": "0.0.0.0/0" }] });
    let lifecycle = [
        call("ADD", "c1"),
        call("ADD", "c1"),
        Call { ifname: "eth1", ..call("ADD", "c1") },
        call("ADD", "c2"),
        call("DEL", "c1"),
        call("DEL", "c1"),
        call("ADD", "c1"),
        call("ADD", "c3"),
        call("ADD", "c4"),
        call("ADD", "c5"),
        Call { ifname: "eth1", ..call("DEL", "c1") },
        call("ADD", "c5"),
    ];
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
        compare(version, &tiny, &json!({}), &lifecycle);
    }
    let checks = [call("CHECK", "c1"), call("ADD", "c1"), call("CHECK", "c1"), call("CHECK", "c2")];
    compare("1.0.0", &tiny, &json!({}), &checks);

    let sets = json!({
        "ranges": [
            [{ "subnet": "10.1.2.0/30" }, { "subnet": "10.1.3.0/28", "rangeStart": "10.1.3.0",
               "rangeEnd": "10.1.3.2", "gateway": "10.1.3.9" }],
            [{ "subnet": "2001:DB8:1::/64" }],
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "192.168.0.0/16", "gw": "10.10.5.1" }, { "dst": "::/0" }],
    });
    let ids = ["c1", "c2", "c3", "c4"];
    let adds = ids.map(|id| call("ADD", id));
    for version in ["0.2.0", "0.4.0", "1.0.0"] {
        compare(version, &sets, &json!({}), &adds);
    }

    // The network and the broadcast address are given out to whoever configures them.
    let whole =
        json!({ "subnet": "10.1.2.0/30", "rangeStart": "10.1.2.0", "rangeEnd": "10.1.2.3" });
    compare("1.0.0", &whole, &json!({}), &adds);
}

#[test]
fn requested_addresses_are_taken_from_the_same_places() {
    let two = json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "10.1.3.0/24" }]] });
    let adds = |args: &'static str| [with_args("ADD", "c1", args), with_args("ADD", "c2", args)];
    for args in [
        "IP=10.1.2.9",
        "IP=10.1.3.9/16",
        "IP=",
        "IP=::ffff:10.1.2.9",
        "IgnoreUnknown=1;K8S_POD_NAME=x;IP=10.1.2.9",
    ] {
        // The second ADD fails where the first has an address that was asked for; the cursor of
        // the set before it has gone on in the reference, and so only the first is compared.
        compare("1.0.0", &two, &json!({}), &adds(args)[..1]);
    }
    let one = json!({ "subnet": "10.1.2.0/24" });
    for args in ["IP=10.1.2.9", "IP=10.1.2.1", "x", "IP=x", "ip=10.1.2.9", "IP=;A=b"] {
        compare("1.0.0", &one, &json!({}), &adds(args));
    }
    for more in [
        json!({ "args": { "cni": { "ips": ["10.1.2.7", "10.1.3.8/24", "10.1.2.7"] } } }),
        json!({ "runtimeConfig": { "ips": ["10.1.2.7/24"] } }),
        json!({ "runtimeConfig": { "ips": ["10.1.3.7"] }, "args": { "cni": { "ips": ["10.1.2.8"] } } }),
        json!({ "args": { "cni": null }, "runtimeConfig": null }),
        json!({ "runtimeConfig": { "ipRanges": [[{ "subnet": "10.5.0.0/24" }]] } }),
        json!({ "RUNTIMECONFIG": { "IPRANGES": [[{ "Subnet": "10.5.0.0/24" }]] } }),
    ] {
        compare("1.0.0", &two, &more, &[call("ADD", "c1"), call("DEL", "c1")]);
    }

    // A caller that names an address gets it beside the one that it has; a search is refused.
    let second = [
        call("ADD", "c1"),
        with_args("ADD", "c1", "IP=10.1.2.9"),
        with_args("ADD", "c1", "IP=10.1.2.9"),
        call("ADD", "c1"),
        call("DEL", "c1"),
    ];
    compare("1.0.0", &one, &json!({}), &second);
}

#[test]
fn a_request_that_no_set_takes_fails_alike() {
    let (ours, reference) = (Scratch::new(), Scratch::new());
    let answer = |side: Side, scratch: &Scratch| {
        let config = scratch.config("1.0.0", &json!({ "subnet": "10.1.2.0/24" }), &json!({}));
        let refused = side.run(with_args("ADD", "c1", "IP=10.9.9.9"), &config);
        (refused, side.run(call("ADD", "c1"), &config).1["ips"][0]["address"].clone())
    };
    let (refused, next) = answer(Ours, &ours);
    let (want, skipped) = answer(Reference, &reference);
    assert_eq!(refused, want);
    // The reference has written an address and taken it back, and the cursor has gone on.
    assert_eq!((next, skipped), (json!("10.1.2.2/24"), json!("10.1.2.3/24")));
}

#[test]
fn a_wrong_configuration_is_refused_in_the_same_words() {
    for ipam in [
        json!({}),
        json!({ "ranges": [] }),
        json!({ "ranges": [[]] }),
        json!({ "ranges": [null] }),
        json!({ "ranges": [[{}]] }),
        json!({ "rangeStart": "10.1.2.3" }),
        json!({ "subnet": "10.1.2.1/24" }),
        json!({ "subnet": "2001:db8::1/64" }),
        json!({ "subnet": "10.1.2.0/31" }),
        json!({ "subnet": "2001:db8::/127" }),
        json!({ "subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1" }),
        json!({ "subnet": "10.1.2.0/24", "rangeStart": "::1" }),
        json!({ "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.20", "rangeEnd": "10.1.2.10" }),
        json!({ "subnet": "10.1.2.0/24", "rangeEnd": "10.1.2.0" }),
        json!({ "subnet": "10.1.2.0/24", "rangeEnd": "10.1.3.0" }),
        json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }, { "subnet": "2001:db8::/64" }]] }),
        json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }, { "subnet": "10.1.2.0/25" }]] }),
        json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "10.1.2.0/25" }]] }),
        json!({ "subnet": "10.1.2.0/24", "ranges": [[{ "subnet": "10.1.2.0/25" }]] }),
        json!({ "subnet": "10.1.2.0/24", "resolvConf": "/nonexistent/resolv.conf" }),
    ] {
        compare("1.0.0", &ipam, &json!({}), &[call("ADD", "c1")]);
    }
    let two = json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "10.1.3.0/24" }]] });
    for version in ["", "0.1.0", "0.2.0"] {
        compare(version, &two, &json!({}), &[call("ADD", "c1")]);
    }
    let valid = json!({ "subnet": "10.1.2.0/24" });
    for more in [json!({ "ipam": null }), json!({ "runtimeConfig": { "ips": [""] } })] {
        compare("1.0.0", &valid, &more, &[call("ADD", "c1"), call("CHECK", "c1")]);
    }
}

#[test]
fn values_of_a_wrong_type_are_refused_with_the_place_beside_the_reference_s_words() {
    let refusal = |side: Side, ipam: &Value, more: &Value| {
        let (code, answer) =
            side.run(call("ADD", "c1"), &Scratch::new().config("1.0.0", ipam, more));
        assert_eq!((code, &answer["code"]), (1, &json!(999)));
        answer["msg"].as_str().unwrap().to_owned()
    };
    let none = json!({});
    for (ipam, more, place) in [
        (json!({ "subnet": "10.1.2.0" }), &none, "ipam.subnet: "),
        (json!({ "subnet": "" }), &none, "ipam.subnet: "),
        (json!({ "subnet": "10.1.2.0/24", "gateway": "x" }), &none, "ipam.gateway: "),
        (json!({ "ranges": [[{ "subnet": "x" }]] }), &none, "ipam.ranges[0][0].subnet: "),
        (
            json!({ "subnet": "10.1.2.0/24" }),
            &json!({ "runtimeConfig": { "ips": ["z"] } }),
            "runtimeConfig.ips[0]: ",
        ),
    ] {
        let want = refusal(Reference, &ipam, more);
        let got = refusal(Ours, &ipam, more);
        assert!(got.starts_with(place) && got.ends_with(&want), "{got} for {want}");
    }
}

#[test]
fn a_resolver_file_becomes_dns() {
    let scratch = Scratch::new();
    let file = scratch.0.join("resolv.conf");
    fs::write(&file, "nameserver 192.0.2.3\ndomain d\nsearch a b\noptions ndots:2\n#\n").unwrap();
    let ipam = json!({ "subnet": "10.1.2.0/24", "resolvConf": file.to_str().unwrap() });
    for version in ["0.2.0", "0.4.0", "1.0.0"] {
        let answers = compare(version, &ipam, &json!({}), &[call("ADD", "c1")]);
        let dns = json!({ "nameservers": ["192.0.2.3"], "domain": "d", "search": ["a", "b"],
                          "options": ["ndots:2"] });
        assert_eq!(answers[0]["dns"], dns);
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_reported_alike_and_with_a_remedy() {
    let scratch = Scratch::new();
    let file = scratch.0.join("file");
    fs::write(&file, "").unwrap();
    let ipam = json!({ "subnet": "10.1.2.0/24", "dataDir": file.to_str().unwrap() });
    let config = scratch.config("1.0.0", &ipam, &json!({}));
    let (code, mut answer) = Ours.run(call("ADD", "c1"), &config);
    let details = answer.as_object_mut().unwrap().remove("details").unwrap();
    assert!(details.as_str().unwrap().contains("set ipam.dataDir to another directory"));
    assert_eq!((code, answer), Reference.run(call("ADD", "c1"), &config));
}

#[test]
fn both_release_what_the_other_has_reserved() {
    for (first, second) in [(Ours, Reference), (Reference, Ours)] {
        let scratch = Scratch::new();
        let ipam =
            json!({ "ranges": [[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "2001:db8::/64" }]] });
        let config = scratch.config("1.0.0", &ipam, &json!({}));
        let added = first.run(call("ADD", "c1"), &config).1;
        assert_eq!(added["ips"][1]["address"], "2001:db8::2/64");
        assert_eq!(second.run(call("CHECK", "c1"), &config), (0, Value::Null));
        let again = second.run(call("ADD", "c1"), &config).1;
        assert_eq!(
            again["msg"],
            "failed to allocate for range 0: 10.1.2.2 has been allocated to c1, duplicate allocation is not allowed"
        );
        let next = second.run(call("ADD", "c2"), &config).1;
        assert_eq!(next["ips"][0]["address"], "10.1.2.3/24");
        assert_eq!(second.run(call("DEL", "c1"), &config), (0, Value::Null));
        assert!(!scratch.files().contains_key("10.1.2.2"));
        // The old format, and white space around the text.
        scratch.plant("10.1.2.77", "c7");
        assert_eq!(second.run(call("DEL", "c7"), &config), (0, Value::Null));
        scratch.plant("10.1.2.78", "\nc7\r\neth0 \n");
        assert_eq!(second.run(call("DEL", "c7"), &config), (0, Value::Null));
        let left: Vec<_> = scratch.files().into_keys().collect();
        assert_eq!(
            left,
            ["10.1.2.3", "2001:db8::3", "last_reserved_ip.0", "last_reserved_ip.1", "lock"]
        );
    }
}

#[test]
fn both_allocate_from_one_directory_at_once() {
    const EACH: usize = 40;
    let scratch = Scratch::new();
    let ipam =
        json!({ "ranges": [[{ "subnet": "10.1.0.0/23" }], [{ "subnet": "2001:db8::/64" }]] });
    let config = &scratch.config("1.0.0", &ipam, &json!({}));
    let work = |side: Side, worker: usize| {
        let mut kept = Vec::new();
        for turn in 0..EACH {
            let id = format!("w{worker}-{turn}");
            let (code, added) = side.run(call("ADD", &id), config);
            assert_eq!(code, 0, "{added}");
            if turn % 4 == 0 {
                assert_eq!(side.run(call("DEL", &id), config), (0, Value::Null));
                continue;
            }
            for ip in added["ips"].as_array().unwrap() {
                let (address, _) = ip["address"].as_str().unwrap().split_once('/').unwrap();
                kept.push((address.to_owned(), format!("{id}\r\neth0")));
            }
        }
        kept
    };
    let kept: Vec<_> = thread::scope(|scope| {
        let sides = [Ours, Reference, Ours, Reference].into_iter().enumerate();
        let threads: Vec<_> =
            sides.map(|(worker, side)| scope.spawn(move || work(side, worker))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: BTreeSet<_> = kept.iter().map(|(address, _)| address).collect();
    assert_eq!((kept.len(), distinct.len()), (4 * EACH * 3 / 4 * 2, kept.len()));
    let files = scratch.files();
    for (address, text) in &kept {
        assert_eq!(files.get(address), Some(text));
    }
    assert_eq!(files.len(), kept.len() + 3);
}

#[test]
fn del_and_gc_need_only_the_place_of_the_files() {
    let scratch = Scratch::new();
    let broken = json!({ "ranges": "none", "subnet": 5, "routes": false });
    let more = json!({ "args": 7, "cni.dev/valid-attachments": [{ "containerID": "c2", "ifname": "eth0" }] });
    scratch.plant("10.1.2.2", "c1\r\neth0");
    scratch.plant("10.1.2.3", "c2\r\neth0");
    scratch.plant("10.1.2.4", "c3\r\neth0");
    scratch.plant("10.1.2.5", "");
    // `args` belongs to what every plugin reads, so the request itself must still be readable.
    let config = scratch.config("1.1.0", &broken, &more);
    assert_eq!(Ours.run(with_args("DEL", "c1", "nonsense"), &config), (0, Value::Null));
    assert_eq!(
        scratch.files().into_keys().collect::<Vec<_>>(),
        ["10.1.2.3", "10.1.2.4", "10.1.2.5", "lock"]
    );
    assert_eq!(Ours.run(call("GC", ""), &config), (0, Value::Null));
    assert_eq!(scratch.files().into_keys().collect::<Vec<_>>(), ["10.1.2.3", "lock"]);
}

#[test]
fn del_in_a_place_that_is_not_there_creates_nothing() {
    let scratch = Scratch::new();
    let config = scratch.config("1.1.0", &json!({ "subnet": "10.1.2.0/24" }), &json!({}));
    assert_eq!(Ours.run(call("DEL", "c1"), &config), (0, Value::Null));
    assert_eq!(Ours.run(call("STATUS", ""), &config), (0, Value::Null));
    assert_eq!(Ours.run(call("CHECK", "c1"), &config).0, 1);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
}

#[test]
fn gc_spares_what_is_valid_or_alive() {
    let scratch = Scratch::new();
    let files = ["10.1.2.2", "10.1.2.3"];
    let plant = || {
        scratch.plant(files[0], "c1\r\neth0");
        scratch.plant(files[1], "c2\r\neth0");
    };
    plant();
    let config = |more: Value| scratch.config("1.1.0", &json!({ "subnet": "10.1.2.0/24" }), &more);
    let left = || scratch.files().into_keys().filter(|name| name != "lock").collect::<Vec<_>>();

    assert_eq!(Ours.run(call("GC", ""), &config(json!({}))), (0, Value::Null));
    assert_eq!(left(), files);

    // A main plugin that calls this as a function knows which interfaces live.
    let variables = [("CNI_COMMAND", "GC"), ("CNI_PATH", "/x")];
    let lookup = |name: &str| Some(variables.iter().find(|(key, _)| *key == name)?.1.to_owned());
    let stdin = config(json!({ "cni.dev/valid-attachments": [] })).into_bytes();
    let environment = Environment::from_lookup(lookup);
    let request = cni::Request::parse(&environment, stdin, &cni::Version::ALL).unwrap();
    let alive = ipam::Owner { id: "c1".into(), ifname: "eth0".into() };
    let alive = ipam::Holder::Attachment(alive);
    let collected = host_local::gc(&request, |holder| *holder == alive).unwrap();
    assert_eq!((collected.freed.len(), collected.spared.len()), (1, 1));
    assert_eq!(left(), files[..1]);

    let none = config(json!({ "cni.dev/valid-attachments": null }));
    assert_eq!(Ours.run(call("GC", ""), &none), (0, Value::Null));
    assert!(left().is_empty());
}

#[test]
fn status_tells_whether_add_could_be_served() {
    let scratch = Scratch::new();
    let ipam =
        json!({ "ranges": [[{ "subnet": "2001:db8::/64" }], [{ "subnet": "10.1.2.0/30" }]] });
    let config = scratch.config("1.1.0", &ipam, &json!({}));
    assert_eq!(Ours.run(call("STATUS", ""), &config), (0, Value::Null));
    assert_eq!(Ours.run(call("ADD", "c1"), &config).0, 0);
    let (code, answer) = Ours.run(call("STATUS", ""), &config);
    assert_eq!(code, 1);
    assert_eq!(
        answer,
        json!({
            "code": 50,
            "msg": "no IP addresses available in range set: 10.1.2.1-10.1.2.2",
            "details": format!(
                "all addresses are reserved in {}: widen the range, or let DEL or GC free those of \
                 containers that are gone",
                scratch.0.join("n").display()
            ),
        })
    );

    let file = scratch.0.join("file");
    fs::write(&file, "").unwrap();
    let ipam = json!({ "subnet": "10.1.2.0/24", "dataDir": file.to_str().unwrap() });
    let (code, answer) = Ours.run(call("STATUS", ""), &scratch.config("1.1.0", &ipam, &json!({})));
    assert_eq!((code, &answer["code"]), (1, &json!(50)));
    assert_eq!(answer["msg"], format!("open {}: not a directory", file.display()));
}
