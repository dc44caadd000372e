//! The files of the cache: what others wrote is understood, what is torn is in nobody's way, and
//! nothing leads elsewhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use cni::runtime::{Cache, Error, Parameters};
use serde_json::{Value, json};

use super::{World, attachment, list, names, network, pod};

/// What libcni 1.3.0 writes for the list below, with arguments of both kinds.
const REFERENCE: &str = concat!(
    r#"{"kind":"cniCacheV1","containerId":"one","config":"eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJuYW1lIjoibmV0IiwicGx1Z2lucyI6W3sidHlwZSI6ImZpcnN0In1dfQ==","#,
    r#""ifName":"eth0","networkName":"net","netns":"/run/netns/pod","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAME","p"]],"#,
    r#""capabilityArgs":{"portMappings":[{"hostPort":8080}]},"result":{"cniVersion":"1.0.0","#,
    r#""ips":[{"address":"10.0.0.2/24"}]}}"#
);
/// What libcni 1.1.2 wrote, as podman 4.3 has it.
const OLDER: &str = concat!(
    r#"{"kind":"cniCacheV1","containerId":"cnitool-9539caf00070aeae0bd6","config":"eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJuYW1lIjoibmV0IiwicGx1Z2lucyI6W3sidHlwZSI6ImZpcnN0IiwiY2FwYWJpbGl0aWVzIjp7InBvcnRNYXBwaW5ncyI6dHJ1ZX0sImIiOjkwMDcxOTkyNTQ3NDA5OTN9XX0=","#,
    r#""ifName":"eth0","networkName":"net","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAME","p"]],"#,
    r#""capabilityArgs":{"portMappings":[{"hostPort":8080}]},"result":{"cniVersion":"1.0.0","dns":{},"ips":[{"address":"10.0.0.2/24"}]}}"#
);
const LIST: &str = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"first"}]}"#;

/// A cache with this text for `net`, container `one`, `eth0`, and a plugin that adds.
fn world_with(text: &str) -> World {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    fs::create_dir_all(world.path("cache/results")).unwrap();
    fs::write(file(&world), text).unwrap();
    world
}

fn file(world: &World) -> std::path::PathBuf {
    world.path("cache/results/net-one-eth0")
}

fn parameters() -> Parameters {
    let pairs = [("IgnoreUnknown", "1"), ("K8S_POD_NAME", "p")];
    let capability_args = json!({ "portMappings": [{ "hostPort": 8080 }] });
    Parameters {
        args: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        capability_args: capability_args.as_object().unwrap().clone(),
        ..pod("one")
    }
}

#[test]
fn the_file_is_the_references_to_the_byte() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let net = cni::runtime::NetworkList::parse(LIST.as_bytes()).unwrap();
    world.runtime().add(&net, &parameters()).unwrap();
    assert_eq!(fs::read_to_string(file(&world)).unwrap(), REFERENCE);
    assert_eq!(names(&world.path("cache")), ["results"]);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&world.path("cache")), 0o700);
    assert_eq!(mode(&world.path("cache/results")), 0o700);
    assert_eq!(mode(&file(&world)), 0o600);
    // What there is nothing to say of is left out.
    let bare = Parameters { netns: None, ..pod("two") };
    world.runtime().add(&net, &bare).unwrap();
    let bare: Value =
        serde_json::from_slice(&fs::read(world.path("cache/results/net-two-eth0")).unwrap())
            .unwrap();
    let keys: Vec<_> = bare.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["kind", "containerId", "config", "ifName", "networkName", "result"]);
}

#[test]
fn what_the_reference_wrote_is_understood() {
    let world = world_with(REFERENCE);
    let runtime = world.runtime();
    let record = runtime.cache.get("net", &attachment("one", "eth0")).unwrap().unwrap();
    assert_eq!(record.network, "net");
    assert_eq!(record.parameters, parameters());
    assert_eq!(record.config, LIST.as_bytes());
    assert_eq!(record.result.as_ref().unwrap()["ips"][0]["address"], "10.0.0.2/24");
    let (all, unusable) = runtime.cache.list().unwrap();
    assert_eq!((all, unusable.len()), (vec![record], 0));
    runtime.del(&network("1.0.0", &["first"]), &pod("one")).unwrap();
    assert_eq!(world.told("first", "DEL")["prevResult"]["cniVersion"], "1.0.0");
    assert_eq!(world.cached(), [""; 0]);
}

#[test]
fn what_an_older_reference_wrote_is_understood() {
    let world = world_with("");
    let path = world.path("cache/results/net-cnitool-9539caf00070aeae0bd6-eth0");
    fs::write(path, OLDER).unwrap();
    let id = attachment("cnitool-9539caf00070aeae0bd6", "eth0");
    let record = world.runtime().cache.get("net", &id).unwrap().unwrap();
    assert_eq!(record.parameters.netns, None);
    assert_eq!(record.parameters.args, parameters().args);
    let net = cni::runtime::NetworkList::parse(&record.config).unwrap();
    world.runtime().check(&net, &record.parameters).unwrap();
    assert_eq!(
        world.told("first", "CHECK"),
        json!({
            "type": "first", "b": 9_007_199_254_740_993_u64, "name": "net", "cniVersion": "1.0.0",
            "prevResult": { "cniVersion": "1.0.0", "ips": [{ "address": "10.0.0.2/24" }] },
            "runtimeConfig": { "portMappings": [{ "hostPort": 8080 }] },
        })
    );
}

/// The namespace, which an older reference did not write, is where the result has the interface.
#[test]
fn the_namespace_is_known_from_the_result() {
    let interfaces = r#""interfaces":[{"name":"eth0"},{"name":"lo","sandbox":"/run/netns/x"},
        {"name":"eth0","sandbox":"/run/netns/pod"}],"ips""#;
    let without = REFERENCE.replace(r#""netns":"/run/netns/pod","#, "");
    for (text, known) in [
        (without.replace(r#""ips""#, interfaces), Some("/run/netns/pod")),
        (without.replace(r#""ips""#, &interfaces.replace("/run/netns/pod", "")), None),
        (without.clone(), None),
    ] {
        let world = world_with(&text);
        let record = world.runtime().cache.get("net", &attachment("one", "eth0")).unwrap().unwrap();
        assert_eq!(record.parameters.netns.as_deref(), known.map(Path::new));
    }
}

/// Before there was a format, the file was the result itself.
#[test]
fn the_oldest_files_are_understood() {
    let text = r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.0.0.2/24"}],"dns":{}}"#;
    let world = world_with(text);
    let (runtime, net) = (world.runtime(), network("0.4.0", &["first"]));
    let want = json!({
        "cniVersion": "0.4.0", "ips": [{ "version": "4", "address": "10.0.0.2/24" }], "dns": {},
    });
    runtime.check(&net, &pod("one")).unwrap();
    assert_eq!(world.told("first", "CHECK")["prevResult"], want);
    assert!(matches!(runtime.add(&net, &pod("one")).unwrap_err(), Error::Attached { .. }));
    runtime.del(&net, &pod("one")).unwrap();
    assert_eq!(world.told("first", "DEL")["prevResult"], want);
    assert_eq!(world.cached(), [""; 0]);
}

#[test]
fn a_result_of_another_version_is_converted() {
    let world = world_with(REFERENCE);
    let (runtime, net) = (world.runtime(), network("0.4.0", &["first"]));
    runtime.check(&net, &pod("one")).unwrap();
    assert_eq!(
        world.told("first", "CHECK")["prevResult"],
        json!({
            "cniVersion": "0.4.0", "dns": {}, "ips": [{ "version": "4", "address": "10.0.0.2/24" }],
        })
    );
    runtime.del(&net, &pod("one")).unwrap();
    assert_eq!(world.told("first", "DEL")["prevResult"]["cniVersion"], "0.4.0");
}

/// What is of no use to CHECK is told by it, and is no obstacle to DEL, which clears it.
#[test]
fn no_file_stands_in_the_way_of_delete() {
    let other_version =
        REFERENCE.replace(r#""cniVersion":"1.0.0","ips""#, r#""cniVersion":"9.0.0","ips""#);
    let other_kind = REFERENCE.replace("cniCacheV1", "cniCacheV2");
    let not_base64 = REFERENCE.replace("eyJjbmlWZXJ", "!!!");
    let no_result = REFERENCE.split(r#","result""#).next().unwrap().to_owned() + "}";
    let cases = [
        ("", "is empty"),
        (&REFERENCE[..100], "is torn: unexpected end of JSON input"),
        ("\0\0\0\0", "is torn: expected value at line 1 column 1"),
        ("[]", "is not an object"),
        (&other_kind, r#"has kind "cniCacheV2", which is not "cniCacheV1""#),
        (&not_base64, "config: not base64: Invalid symbol 33, offset 0."),
        (
            &other_version,
            r#"failed to convert cached result to config version "1.0.0": unsupported CNI result version "9.0.0""#,
        ),
        (&no_result, "its ADD was never finished"),
        (r#"{"kind":"cniCacheV1","result":7}"#, "result: invalid value 7: expected an object"),
    ];
    for (text, why) in cases {
        let world = world_with(text);
        let (runtime, net) = (world.runtime(), network("1.0.0", &["first"]));
        let error = runtime.check(&net, &pod("one")).unwrap_err().to_string();
        let want =
            format!("failed to get network \"net\" cached result: {}: ", file(&world).display());
        assert_eq!(error, format!("{want}{why}"), "{text}");
        assert_eq!(world.calls(), [""; 0]);
        runtime.del(&net, &pod("one")).unwrap();
        assert_eq!(world.calls(), ["DEL first"]);
        assert_eq!(world.told("first", "DEL").get("prevResult"), None, "{text}");
        assert_eq!(world.cached(), [""; 0], "{text}");
    }
}

/// A torn file is of an ADD that nobody has been told of.
#[test]
fn add_replaces_what_is_torn_and_nothing_else() {
    for text in ["", &REFERENCE[..100]] {
        let world = world_with(text);
        world.runtime().add(&network("1.0.0", &["first"]), &pod("one")).unwrap();
        let record = world.runtime().cache.get("net", &attachment("one", "eth0")).unwrap();
        assert!(record.unwrap().result.is_some());
    }
    let world = world_with(&REFERENCE.replace("cniCacheV1", "cniCacheV2"));
    let error = world.runtime().add(&network("1.0.0", &["first"]), &pod("one")).unwrap_err();
    assert!(matches!(error, Error::Occupied { .. }), "{error}");
    assert_eq!(world.calls(), [""; 0]);
}

/// `a-b` and `c` make the same name as `a` and `b-c`.
#[test]
fn the_file_of_another_attachment_is_left_alone() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let runtime = world.runtime();
    let named = |name: &str| {
        list(&json!({ "cniVersion": "1.0.0", "name": name, "plugins": [{ "type": "first" }] }))
    };
    runtime.add(&named("a-b"), &pod("c")).unwrap();
    world.calls();
    let error = runtime.add(&named("a"), &pod("b-c")).unwrap_err();
    assert!(
        error.to_string().ends_with(
            r#"a-b-c-eth0 belongs to interface "eth0" of container "c" on network "a-b""#
        ),
        "{error}"
    );
    assert_eq!(world.calls(), [""; 0]);
    runtime.check(&named("a"), &pod("b-c")).unwrap_err();
    runtime.del(&named("a"), &pod("b-c")).unwrap();
    assert_eq!(world.told("first", "DEL").get("prevResult"), None);
    assert_eq!(world.cached(), ["a-b-c-eth0"]);
    runtime.check(&named("a-b"), &pod("c")).unwrap();
}

#[test]
fn a_planted_link_leads_nowhere() {
    let world = world_with("");
    fs::remove_file(file(&world)).unwrap();
    let victim = world.path("victim");
    fs::write(&victim, REFERENCE).unwrap();
    symlink(&victim, file(&world)).unwrap();
    symlink(&victim, world.path("cache/.podwire.new")).unwrap();
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first"]));
    let error = runtime.add(&net, &pod("one")).unwrap_err().to_string();
    let path = file(&world).display().to_string();
    assert_eq!(error, format!("the cache cannot keep network \"net\": {path} is a symbolic link"));
    let error = runtime.check(&net, &pod("one")).unwrap_err().to_string();
    assert!(error.ends_with("is a symbolic link"), "{error}");
    assert_eq!(world.calls(), [""; 0]);
    runtime.del(&net, &pod("one")).unwrap();
    assert_eq!(world.told("first", "DEL").get("prevResult"), None);
    let (all, unusable) = runtime.cache.list().unwrap();
    assert_eq!((all.len(), unusable[0].why.as_str()), (0, "is a symbolic link"));
    // The other one is in the way of a name that is podwire's own.
    runtime.add(&net, &pod("two")).unwrap();
    assert_eq!(names(&world.path("cache")), ["results"]);
    assert_eq!(fs::read_to_string(&victim).unwrap(), REFERENCE);
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let world = world_with("");
    let results = world.path("cache/results");
    fs::create_dir(results.join("net-dir-eth0")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        results.join("net-pipe-eth0"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first"]));
    for id in ["dir", "pipe"] {
        let error = runtime.add(&net, &pod(id)).unwrap_err();
        assert!(error.to_string().ends_with("is not a regular file"), "{error}");
        runtime.del(&net, &pod(id)).unwrap();
    }
    assert_eq!(runtime.cache.list().unwrap().1.len(), 3);
}

#[test]
fn a_cache_that_others_can_change_is_refused() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let cache = world.path("cache");
    let results = cache.join("results");
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first"]));
    let refused = |path: &Path, why: &str| {
        let want = format!("the cache directory {} cannot be trusted: {why}", path.display());
        for outcome in [
            runtime.add(&net, &pod("one")).map(drop),
            runtime.check(&net, &pod("one")),
            runtime.del(&net, &pod("one")),
            runtime.gc(&net, &[]).map(drop),
            runtime.cache.list().map(drop),
        ] {
            assert_eq!(outcome.unwrap_err().to_string(), want);
        }
        assert_eq!(world.calls(), [""; 0]);
    };
    let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    fs::create_dir(&cache).unwrap();
    set(&cache, 0o777);
    refused(&cache, "anybody may write to it (mode 0777)");
    set(&cache, 0o700);
    symlink(world.path("log"), &results).unwrap();
    refused(&results, "it is not a directory but a file or a link");
    fs::remove_file(&results).unwrap();
    fs::write(&results, "").unwrap();
    refused(&results, "it is not a directory but a file or a link");
    fs::remove_file(&results).unwrap();
    fs::create_dir(&results).unwrap();
    set(&results, 0o1777);
    refused(&results, "anybody may write to it (mode 1777)");
    set(&results, 0o755);
    runtime.add(&net, &pod("one")).unwrap();
}

/// As root: nobody else can give a directory away.
#[test]
#[ignore = "needs root"]
fn a_cache_of_somebody_else_is_refused() {
    let world = World::new();
    let cache = world.path("cache");
    fs::create_dir_all(cache.join("results")).unwrap();
    chown(cache.join("results"), Some(65534), None).unwrap();
    let error = Cache::new(&cache).list().unwrap_err().to_string();
    assert!(error.ends_with("results cannot be trusted: it belongs to user 65534"), "{error}");
    chown(cache.join("results"), Some(0), None).unwrap();
    chown(&cache, Some(65534), None).unwrap();
    fs::set_permissions(&cache, Permissions::from_mode(0o1777)).unwrap();
    let error = Cache::new(&cache).list().unwrap_err().to_string();
    assert!(error.ends_with("anybody may write to it (mode 1777)"), "{error}");
    // Root's own such directory keeps what is in it.
    chown(&cache, Some(0), None).unwrap();
    assert_eq!(Cache::new(&cache).list().unwrap().0.len(), 0);
}

#[test]
fn a_cache_that_cannot_be_written_is_noticed_before_anything_is_done() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    fs::write(world.path("cache"), "").unwrap();
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first"]));
    let error = runtime.add(&net, &pod("one")).unwrap_err();
    assert!(matches!(error, Error::Cache { .. }), "{error}");
    assert!(error.to_string().contains("cache: "), "{error}");
    fs::remove_file(world.path("cache")).unwrap();
    let error = runtime.add(&net, &pod(&"x".repeat(300))).unwrap_err();
    assert!(error.to_string().contains("File name too long"), "{error}");
    assert_eq!(world.calls(), [""; 0]);
    assert_eq!(names(&world.path("cache")), ["results"]);
    runtime.del(&net, &pod(&"x".repeat(300))).unwrap();
}

#[test]
fn the_result_that_cannot_be_kept_is_taken_back() {
    let world = World::new();
    let results = world.path("cache/results");
    // A directory cannot be replaced by a file.
    let (file, away) = (results.join("net-one-eth0"), world.path("away"));
    let swap = format!("mv {0} {1}; mkdir {0}; echo '{{}}'", file.display(), away.display());
    world.plugin("first", &format!("[ $CNI_COMMAND != ADD ] || {{ {swap}; }}"));
    let error = world.runtime().add(&network("1.0.0", &["first"]), &pod("one")).unwrap_err();
    assert!(matches!(error, Error::Undone { .. }), "{error}");
    assert!(error.to_string().starts_with("write "), "{error}");
    assert_eq!(world.calls(), ["ADD first", "DEL first"]);
    assert_eq!(names(&world.path("cache")), ["results"]);
}

/// Both ask at the same time; one of them makes it.
#[test]
fn of_two_adds_at_once_one_is_refused() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let net = network("1.0.0", &["first"]);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let add = || world.runtime().add(&net, &pod("one"));
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(add)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused = |it: &cni::runtime::Result<Value>| matches!(it, Err(Error::Attached { .. }));
    assert_eq!(outcomes.iter().filter(|it| refused(it)).count(), 3);
    assert_eq!(world.calls(), ["ADD first"]);
    assert_eq!(world.cached(), ["net-one-eth0"]);
}
