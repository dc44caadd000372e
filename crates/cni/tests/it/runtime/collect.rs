//! GC: what is not valid goes, and nothing else.

use std::fs;

use cni::runtime::{Error, Parameters};
use serde_json::json;

use super::{World, attachment, list, network, pod};

#[test]
fn what_is_not_valid_is_deleted_and_the_plugins_are_told_what_is() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24").adder("second", "10.0.0.3/24");
    let (runtime, net) = (world.runtime(), network("1.1.0", &["first", "second"]));
    let mut stale = pod("two");
    stale.args = vec![("K".to_owned(), "V".to_owned())];
    runtime.add(&net, &pod("one")).unwrap();
    runtime.add(&net, &stale).unwrap();
    let other =
        list(&json!({ "name": "other", "cniVersion": "1.1.0", "plugins": [{ "type": "first" }] }));
    runtime.add(&other, &pod("three")).unwrap();
    world.calls();

    let collected = runtime.gc(&net, &[attachment("one", "eth0")]).unwrap();
    assert_eq!(collected.deleted, [attachment("two", "eth0")]);
    assert_eq!((collected.failures.len(), collected.unusable.len()), (0, 0));
    assert_eq!(world.calls(), ["DEL second", "DEL first", "GC first", "GC second"]);
    assert!(world.variables("first", "DEL").contains(&"CNI_ARGS=K=V".to_owned()));
    assert_eq!(world.told("first", "DEL")["prevResult"]["ips"][0]["address"], "10.0.0.3/24");
    let valid = json!([{ "containerID": "one", "ifname": "eth0" }]);
    assert_eq!(
        world.told("second", "GC"),
        json!({
            "type": "second", "name": "net", "cniVersion": "1.1.0",
            "cni.dev/valid-attachments": valid, "cni.dev/attachments": valid,
        })
    );
    assert_eq!(world.cached(), ["net-one-eth0", "other-three-eth0"]);

    // Nothing is valid only where somebody says so.
    runtime.gc(&net, &[]).unwrap();
    assert_eq!(world.told("first", "GC")["cni.dev/valid-attachments"], json!([]));
    assert_eq!(world.cached(), ["other-three-eth0"]);
}

#[test]
fn plugins_are_asked_from_1_1_0_on_and_not_where_it_is_switched_off() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let runtime = world.runtime();
    runtime.add(&network("1.0.0", &["first"]), &pod("one")).unwrap();
    let off = list(&json!({
        "cniVersion": "1.1.0", "name": "net", "disableGC": "true", "plugins": [{ "type": "first" }]
    }));
    world.calls();
    assert_eq!(runtime.gc(&off, &[]).unwrap().deleted, []);
    assert_eq!(world.calls(), [""; 0]);
    assert_eq!(runtime.gc(&network("1.0.0", &["first"]), &[]).unwrap().deleted.len(), 1);
    assert_eq!(world.calls(), ["DEL first"]);
}

#[test]
fn a_failure_stops_nothing_and_all_are_told() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24").adder("second", "10.0.0.3/24");
    let (runtime, net) = (world.runtime(), network("1.1.0", &["first", "second"]));
    for id in ["one", "two"] {
        runtime.add(&net, &pod(id)).unwrap();
    }
    world.calls();
    world.plugin(
        "first",
        r#"[ "$CNI_CONTAINERID" = two ] || { echo '{"code":5,"msg":"no"}'; exit 1; }"#,
    );
    let collected = runtime.gc(&net, &[]).unwrap();
    assert_eq!(collected.deleted, [attachment("two", "eth0")]);
    let failures: Vec<_> = collected.failures.iter().map(Error::to_string).collect();
    assert_eq!(
        failures,
        [
            "failed to delete stale attachment one eth0: plugin type=\"first\" failed (delete): no",
            "failed to GC plugin first: no",
        ]
    );
    assert!(world.calls().ends_with(&["GC first".to_owned(), "GC second".to_owned()]));
    assert_eq!(world.cached(), ["net-one-eth0"]);
}

/// Whose a torn file is cannot be told for certain, so it is only named.
#[test]
fn files_of_no_use_are_named() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let (runtime, net) = (world.runtime(), network("1.1.0", &["first"]));
    runtime.add(&net, &pod("one")).unwrap();
    let results = world.path("cache/results");
    fs::write(results.join("net-two-eth0"), "").unwrap();
    fs::write(results.join("other-two-eth0"), "").unwrap();
    let collected = runtime.gc(&net, &[attachment("one", "eth0")]).unwrap();
    assert_eq!(collected.deleted, []);
    let unusable: Vec<_> = collected.unusable.iter().map(|it| it.path.clone()).collect();
    assert_eq!(unusable, [results.join("net-two-eth0")]);
    assert_eq!(world.cached().len(), 3);
    let two = Parameters { attachment: attachment("two", "eth0"), ..Parameters::default() };
    runtime.del(&net, &two).unwrap();
    assert_eq!(world.cached(), ["net-one-eth0", "other-two-eth0"]);
}

#[test]
fn a_cache_that_is_not_there_knows_of_nobody() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24");
    let collected = world.runtime().gc(&network("1.1.0", &["first"]), &[]).unwrap();
    assert_eq!(collected.deleted, []);
    assert_eq!(world.calls(), ["GC first"]);
    assert!(!world.path("cache").exists());
}
