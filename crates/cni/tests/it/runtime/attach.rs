//! ADD, CHECK and DEL over a list.

use std::cell::Cell;
use std::fs::{self, File};
use std::time::Duration;

use cni::exec::{Failure, Patience};
use cni::runtime::{self, Error, NetworkList, Runtime};
use serde_json::{Value, json};

use super::{PATIENCE, World, attachment, list, network, pod, validate};

#[test]
fn a_list_runs_forwards_and_backwards() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24").adder("second", "10.0.0.3/24");
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first", "second"]));
    let result = runtime.add(&net, &pod("one")).unwrap();
    assert_eq!(result, json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.0.0.3/24" }] }));
    assert_eq!(world.calls(), ["ADD first", "ADD second"]);
    assert_eq!(world.told("first", "ADD").get("prevResult"), None);
    assert_eq!(world.told("second", "ADD")["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    assert_eq!(world.cached(), ["net-one-eth0"]);

    runtime.check(&net, &pod("one")).unwrap();
    assert_eq!(world.calls(), ["CHECK first", "CHECK second"]);
    assert_eq!(world.told("first", "CHECK")["prevResult"], result);

    runtime.del(&net, &pod("one")).unwrap();
    assert_eq!(world.calls(), ["DEL second", "DEL first"]);
    for plugin in ["first", "second"] {
        assert_eq!(world.told(plugin, "DEL")["prevResult"], result);
    }
    assert_eq!(world.cached(), [""; 0]);
    // A runtime may delete as often as it likes.
    runtime.del(&net, &pod("one")).unwrap();
    assert_eq!(world.calls(), ["DEL second", "DEL first"]);
    assert_eq!(world.told("first", "DEL").get("prevResult"), None);
}

#[test]
fn plugins_have_the_variables_of_the_call() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let (runtime, net) = (world.runtime(), network("1.1.0", &["first"]));
    let args = [("IgnoreUnknown", "1"), ("IP", "10.0.0.9")];
    let args = args.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    runtime.add(&net, &runtime::Parameters { args, ..pod("one") }).unwrap();
    let path = format!(
        "CNI_PATH={}:{}",
        world.path("no-such-directory").display(),
        world.path("bin").display()
    );
    let common = ["CNI_ARGS=IgnoreUnknown=1;IP=10.0.0.9", "CNI_COMMAND=ADD", "CNI_CONTAINERID=one"];
    assert_eq!(
        world.variables("first", "ADD"),
        [&common[..], &["CNI_IFNAME=eth0", "CNI_NETNS=/run/netns/pod", &path]].concat()
    );
    runtime.status(&net).unwrap();
    assert_eq!(
        world.variables("first", "STATUS"),
        ["CNI_ARGS=", "CNI_COMMAND=STATUS", "CNI_CONTAINERID=", "CNI_IFNAME=", "CNI_NETNS=", &path]
    );
}

/// Who deletes by the identifier alone knows nothing of ports and paths, and the plugins must.
#[test]
fn what_delete_and_check_leave_out_is_as_it_was_for_add() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let runtime = world.runtime();
    let net = list(&json!({
        "cniVersion": "1.0.0", "name": "net",
        "plugins": [{ "type": "first", "capabilities": { "portMappings": true } }],
    }));
    let ports = json!({ "portMappings": [{ "hostPort": 80 }], "unknown": 1 });
    let mut parameters = pod("one");
    parameters.capability_args = ports.as_object().unwrap().clone();
    parameters.args = vec![("K".to_owned(), "V".to_owned())];
    runtime.add(&net, &parameters).unwrap();
    let bare = runtime::Parameters {
        attachment: attachment("one", "eth0"),
        ..runtime::Parameters::default()
    };
    for command in ["CHECK", "DEL"] {
        match command {
            "CHECK" => runtime.check(&net, &bare).unwrap(),
            _ => runtime.del(&net, &bare).unwrap(),
        }
        let told = world.told("first", command);
        assert_eq!(told["runtimeConfig"], json!({ "portMappings": [{ "hostPort": 80 }] }));
        let variables = world.variables("first", command);
        assert!(variables.contains(&"CNI_ARGS=K=V".to_owned()), "{variables:?}");
        assert!(variables.contains(&"CNI_NETNS=/run/netns/pod".to_owned()), "{variables:?}");
    }
}

#[test]
fn two_interfaces_of_a_container_are_two_attachments() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first"]));
    let mut second = pod("one");
    second.attachment.ifname = "eth1".to_owned();
    runtime.add(&net, &pod("one")).unwrap();
    runtime.add(&net, &second).unwrap();
    assert_eq!(world.cached(), ["net-one-eth0", "net-one-eth1"]);
    runtime.del(&net, &pod("one")).unwrap();
    assert_eq!(world.cached(), ["net-one-eth1"]);
}

#[test]
fn before_0_4_0_there_is_no_check_and_delete_knows_no_result() {
    let world = World::new();
    world.plugin(
        "first",
        r#"if [ $CNI_COMMAND = ADD ]; then echo '{"ip4":{"ip":"10.0.0.2/24"}}'; fi"#,
    );
    for version in ["", "0.1.0", "0.2.0"] {
        let (runtime, net) = (world.runtime(), network(version, &["first"]));
        let result = runtime.add(&net, &pod("one")).unwrap();
        let named = if version.is_empty() { "0.1.0" } else { version };
        assert_eq!(
            result,
            json!({ "cniVersion": named, "ip4": { "ip": "10.0.0.2/24" }, "dns": {} })
        );
        let refused = runtime.check(&net, &pod("one")).unwrap_err().to_string();
        assert_eq!(
            refused,
            format!("configuration version {version:?} does not support the CHECK command")
        );
        runtime.del(&net, &pod("one")).unwrap();
        assert_eq!(world.told("first", "DEL").get("prevResult"), None);
        assert_eq!(world.calls(), ["ADD first", "DEL first"]);
        assert_eq!(world.cached(), [""; 0]);
    }
}

#[test]
fn check_can_be_switched_off() {
    let world = World::new();
    let net = list(&json!({
        "cniVersion": "1.0.0", "name": "net", "disableCheck": true, "plugins": [{ "type": "first" }]
    }));
    world.runtime().check(&net, &pod("one")).unwrap();
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn a_result_is_passed_on_in_the_version_of_the_list() {
    let world = World::new();
    // One plugin speaks another version, one says nothing of it, and one has nothing to say.
    world
        .plugin(
            "old",
            r#"echo '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/24"}]}'"#,
        )
        .plugin("silent", r#"echo '{"ips":[{"address":"10.0.0.3/24"}]}'"#)
        .plugin("null", "echo null");
    let add = |version: &str, types: &[&str]| {
        let (runtime, net) = (world.runtime(), network(version, types));
        let added = runtime.add(&net, &pod("one"));
        runtime.del(&net, &pod("one")).unwrap();
        added
    };
    let result = add("1.0.0", &["old", "silent"]).unwrap();
    assert_eq!(
        world.told("silent", "ADD")["prevResult"],
        json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.0.0.2/24" }] })
    );
    assert_eq!(result, json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.0.0.3/24" }] }));
    assert_eq!(add("1.0.0", &["null"]).unwrap(), json!({ "cniVersion": "1.0.0" }));
    assert_eq!(add("0.2.0", &["null"]).unwrap(), json!({ "cniVersion": "0.2.0", "dns": {} }));
    // A version that nobody knows is the plugin's business, but then it has to name another.
    assert_eq!(add("1.2.3", &["old"]).unwrap()["cniVersion"], "0.4.0");
    assert_eq!(
        add("1.2.3", &["null"]).unwrap_err().to_string(),
        r#"plugin type="null" failed (add): unsupported CNI result version "1.2.3""#
    );
}

#[test]
fn names_that_lead_elsewhere_are_refused_before_anything_is_done() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let runtime = world.runtime();
    let good = network("1.0.0", &["first"]);
    let bad =
        list(&json!({ "cniVersion": "1.0.0", "name": "a/b", "plugins": [{ "type": "first" }] }));
    let with_ifname = |ifname: &str| {
        let attachment = attachment("one", ifname);
        runtime::Parameters { attachment, ..pod("one") }
    };
    let cases = [
        (
            &good,
            pod("../one"),
            r#"container ID "../one": invalid characters in containerID; ../one"#,
        ),
        (&good, pod(""), r#"container ID "": missing containerID"#),
        (&bad, pod("one"), r#"network name "a/b": invalid characters found in network name; a/b"#),
        (&good, with_ifname(""), r#"interface name "": interface name is empty"#),
        (&good, with_ifname(".."), r#"interface name "..": interface name is . or .."#),
        (
            &good,
            with_ifname("a/b"),
            r#"interface name "a/b": interface name contains / or : or whitespace characters"#,
        ),
        (
            &good,
            with_ifname("sixteencharacter"),
            r#"interface name "sixteencharacter": interface name is too long; interface name should be less than 16 characters"#,
        ),
    ];
    for (net, parameters, want) in cases {
        for outcome in [
            runtime.add(net, &parameters).map(drop),
            runtime.check(net, &parameters),
            runtime.del(net, &parameters),
        ] {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }));
            assert_eq!(error.to_string(), want);
        }
    }
    assert_eq!(world.calls(), [""; 0]);
    assert!(!world.path("cache").exists());
}

#[test]
fn a_missing_plugin_is_noticed_before_anything_is_done() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first", "missing"]));
    let error = runtime.add(&net, &pod("one")).unwrap_err().to_string();
    let path =
        format!("{} {}", world.path("no-such-directory").display(), world.path("bin").display());
    let want = format!("failed to find plugin \"missing\" in path [{path}]");
    assert_eq!(error, format!("plugin type=\"missing\" failed (add): {want}"));
    assert_eq!(world.calls(), [""; 0]);
    assert_eq!(world.cached(), [""; 0]);
    let error = runtime.del(&net, &pod("one")).unwrap_err().to_string();
    assert_eq!(error, format!("plugin type=\"missing\" failed (delete): {want}"));
    let nowhere = Runtime { plugin_dirs: Vec::new(), ..runtime.clone() };
    let error = nowhere.add(&net, &pod("one")).unwrap_err().to_string();
    assert_eq!(error, "plugin type=\"first\" failed (add): no paths provided");
    let named = list(&json!({ "name": "net", "plugins": [{ "type": "a/b", "name": "own" }] }));
    let error = runtime.add(&named, &pod("one")).unwrap_err().to_string();
    assert_eq!(error, "plugin type=\"a/b\" name=\"own\" failed (add): invalid plugin name: a/b");
}

#[test]
fn a_half_done_add_is_taken_back() {
    let world = World::new();
    let fails = r#"[ $CNI_COMMAND != ADD ] || { echo '{"code":11,"msg":"busy"}'; exit 1; }"#;
    world.adder("first", "10.0.0.2/24").plugin("second", fails).adder("third", "10.0.0.4/24");
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first", "second", "third"]));
    let error = runtime.add(&net, &pod("one")).unwrap_err();
    assert_eq!(error.to_string(), "plugin type=\"second\" failed (add): busy");
    let Error::Undone { left, .. } = error else { panic!("{error:?}") };
    assert_eq!(left.len(), 0);
    assert_eq!(world.calls(), ["ADD first", "ADD second", "DEL second", "DEL first"]);
    // The plugin that failed is told what it was told, the result of the one before.
    let told = world.told("second", "DEL");
    assert_eq!(told["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    assert_eq!(world.cached(), [""; 0]);
}

#[test]
fn what_cannot_be_taken_back_is_told_and_stops_nothing() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24").plugin("second", "echo no >&2; exit 3");
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first", "second"]));
    let error = runtime.add(&net, &pod("one")).unwrap_err();
    let want = "netplugin failed: \"no\\n\": exit status 3";
    assert_eq!(error.to_string(), format!("plugin type=\"second\" failed (add): {want}"));
    let Error::Undone { left, .. } = error else { panic!("{error:?}") };
    let left: Vec<_> = left.iter().map(Error::to_string).collect();
    assert_eq!(left, [format!("plugin type=\"second\" failed (delete): {want}")]);
    assert_eq!(world.calls(), ["ADD first", "ADD second", "DEL second", "DEL first"]);
    assert_eq!(world.cached(), [""; 0]);
}

/// Otherwise taking back the second would take away the first.
#[test]
fn a_second_add_is_refused_and_does_no_harm() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first"]));
    runtime.add(&net, &pod("one")).unwrap();
    let before = fs::read(world.path("cache/results/net-one-eth0")).unwrap();
    world.calls();
    let error = runtime.add(&net, &pod("one")).unwrap_err();
    assert!(matches!(error, Error::Attached { .. }), "{error}");
    assert_eq!(world.calls(), [""; 0]);
    assert_eq!(fs::read(world.path("cache/results/net-one-eth0")).unwrap(), before);
}

/// A world in which a runtime was killed while its first plugin was at work: the cache is as the
/// plugin sees it.
fn killed() -> (World, NetworkList) {
    let world = World::new();
    let net = network("1.0.0", &["first"]);
    let (results, seen) = (world.path("cache/results"), world.path("seen"));
    world.plugin("first", &format!("cp -r {} {}; exit 1", results.display(), seen.display()));
    world.runtime().add(&net, &pod("one")).unwrap_err();
    assert_eq!(world.cached(), [""; 0]);
    let left = fs::read(seen.join("net-one-eth0")).unwrap();
    fs::write(results.join("net-one-eth0"), &left).unwrap();
    let record: Value = serde_json::from_slice(&left).unwrap();
    assert_eq!(record["netns"], "/run/netns/pod");
    assert_eq!(record.get("result"), None);
    world.adder("first", "10.0.0.2/24").calls();
    (world, net)
}

#[test]
fn an_add_that_was_killed_is_taken_back_by_delete() {
    let (world, net) = killed();
    let error = world.runtime().check(&net, &pod("one")).unwrap_err();
    assert!(error.to_string().ends_with("its ADD was never finished"), "{error}");
    world.runtime().del(&net, &pod("one")).unwrap();
    assert_eq!(world.calls(), ["DEL first"]);
    assert_eq!(world.cached(), [""; 0]);
}

/// With the configuration that it had, whatever that has become.
#[test]
fn an_add_that_was_killed_is_taken_back_by_the_next() {
    let (world, _) = killed();
    world.adder("second", "10.0.0.3/24");
    world.runtime().add(&network("1.0.0", &["second"]), &pod("one")).unwrap();
    assert_eq!(world.calls(), ["DEL first", "ADD second"]);
    assert_eq!(world.cached(), ["net-one-eth0"]);
}

/// A plugin outlives the runtime that was killed. It has inherited the lock.
#[test]
fn what_is_at_work_is_waited_for() {
    let (world, net) = killed();
    let file = File::open(world.path("cache/results/net-one-eth0")).unwrap();
    file.lock().unwrap();
    let error = world.runtime().add(&net, &pod("one")).unwrap_err();
    assert!(matches!(error, Error::Attached { .. }), "{error}");
    let asked = Cell::new(0);
    let interrupted = || asked.replace(asked.get() + 1) == 3;
    let patience = Patience { interrupted: &interrupted, ..PATIENCE };
    let error = Runtime { patience, ..world.runtime() }.del(&net, &pod("one")).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert_eq!(world.calls(), [""; 0]);
    std::thread::scope(|scope| {
        let del = scope.spawn(|| world.runtime().del(&net, &pod("one")));
        drop(file);
        del.join().unwrap().unwrap();
    });
    assert_eq!(world.calls(), ["DEL first"]);
    // What hangs is not waited for without end.
    let (world, net) = killed();
    let file = File::open(world.path("cache/results/net-one-eth0")).unwrap();
    file.lock().unwrap();
    let patience = Patience { limit: Duration::from_secs(2), ..PATIENCE };
    Runtime { patience, ..world.runtime() }.del(&net, &pod("one")).unwrap();
    assert_eq!(world.calls(), ["DEL first"]);
}

#[test]
fn plugins_hold_what_their_runtime_holds() {
    let world = World::new();
    let file = world.path("cache/results/net-one-eth0");
    let is_free = format!("flock -n {} true", file.display());
    let has_it = "ls -l /proc/self/fd | grep -q cache/";
    world.plugin("first", &format!("! {is_free} && {has_it} && echo '{{}}'"));
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first"]));
    runtime.add(&net, &pod("one")).unwrap();
    File::open(&file).unwrap().try_lock().unwrap();
    runtime.del(&net, &pod("one")).unwrap();
}

#[test]
fn whoever_asks_to_stop_gets_everything_taken_back() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24").adder("second", "10.0.0.3/24");
    let first = world.path("log/first.ADD.env");
    let stop = || first.exists();
    let patience = Patience { interrupted: &stop, ..PATIENCE };
    let runtime = Runtime { patience, ..world.runtime() };
    let net = network("1.0.0", &["first", "second"]);
    let error = runtime.add(&net, &pod("one")).unwrap_err();
    assert!(matches!(error, Error::Undone { ref left, .. } if left.is_empty()), "{error}");
    assert_eq!(world.calls(), ["ADD first", "DEL first"]);
    assert_eq!(world.cached(), [""; 0]);
    // Nobody has to be asked again for what is taken back.
    let asked = Cell::new(0);
    let count = || asked.replace(asked.get() + 1) > 1_000_000;
    let patience = Patience { interrupted: &count, ..PATIENCE };
    Runtime { patience, ..world.runtime() }.add(&net, &pod("one")).unwrap();
    assert!(asked.get() > 2);
}

#[test]
fn every_plugin_is_asked_whether_it_can_serve() {
    let world = World::new();
    let full = r#"echo '{"code":50,"msg":"full"}'; exit 1"#;
    world.plugin("first", "exit 0").plugin("second", full).plugin("third", "exit 0");
    let runtime = world.runtime();
    let error = runtime.status(&network("1.1.0", &["first", "second", "third"])).unwrap_err();
    assert_eq!(error.to_string(), "plugin type=\"second\" failed (status): full");
    let Error::Plugin { failure, .. } = error else { panic!("{error:?}") };
    let Failure::Refused(own) = *failure else { panic!("{failure:?}") };
    assert_eq!(own.code, cni::Code::NotAvailable);
    assert_eq!(world.calls(), ["STATUS first", "STATUS second"]);
    assert_eq!(
        world.told("second", "STATUS"),
        json!({ "type": "second", "name": "net", "cniVersion": "1.1.0" })
    );
    // There was no such question before.
    runtime.status(&network("1.0.0", &["first", "second"])).unwrap();
    assert_eq!(world.calls(), [""; 0]);
    assert!(runtime.status(&network("1.0.0", &["first", "missing"])).is_err());
}

#[test]
fn every_plugin_is_asked_for_its_versions() {
    let world = World::new();
    world
        .plugin("new", r#"echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}'"#)
        .plugin("old", r#"echo '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1"#);
    let runtime = world.runtime();
    assert!(validate(&runtime, &network("1.1.0", &["new", "new"])).iter().all(Result::is_ok));
    assert_eq!(world.told("new", "VERSION"), json!({ "cniVersion": "1.1.0" }));
    assert_eq!(world.calls(), ["VERSION new", "VERSION new"]);
    let errors = validate(&runtime, &network("1.0.0", &["old", "new", "missing"])).into_iter();
    let errors: Vec<_> = errors.filter_map(|it| Some(it.err()?.to_string())).collect();
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0], "plugin old does not support config version \"1.0.0\"");
    assert!(errors[1].starts_with("plugin type=\"missing\" failed (version): "), "{}", errors[1]);
    assert!(validate(&runtime, &network("", &["old"]))[0].is_ok());
}

#[test]
fn a_container_is_called_as_cnitool_calls_it() {
    let id = runtime::container_id("/var/run/netns/testing".as_ref());
    assert_eq!(id, "cnitool-77383ca0a0715733ca6f");
}
