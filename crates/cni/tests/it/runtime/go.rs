//! The runtime with the reference's plugins, against a real kernel.

use std::path::Path;

use cni::runtime::{Cache, Error, NetworkList, Parameters, Runtime};
use serde_json::{Value, json};
use testbed::{Namespace, isolated, sh};

use super::{PATIENCE, World, attachment, list, names, validate};

/// Where Debian keeps the reference's plugins.
const REFERENCE: &str = "/usr/lib/cni";

fn runtime(world: &World) -> Runtime<'static> {
    assert!(
        Path::new(REFERENCE).join("bridge").exists(),
        "this test needs {REFERENCE}: apt-get install containernetworking-plugins"
    );
    Runtime {
        plugin_dirs: vec![world.path("bin"), REFERENCE.into()],
        cache: Cache::new(world.path("cache")),
        patience: PATIENCE,
    }
}

/// A bridge with addresses, and further plugins.
fn bridged(world: &World, further: &[Value]) -> NetworkList {
    let bridge = json!({
        "type": "bridge", "bridge": "cni0", "isGateway": true,
        "ipam": {
            "type": "host-local", "subnet": "10.5.0.0/24", "dataDir": world.path("networks"),
        },
    });
    let plugins: Vec<_> = [bridge].iter().chain(further).cloned().collect();
    list(&json!({ "cniVersion": "1.0.0", "name": "net", "plugins": plugins }))
}

fn pod(space: &Namespace, id: &str) -> Parameters {
    let attachment = attachment(id, "eth0");
    Parameters { attachment, netns: Some(space.path()), ..Parameters::default() }
}

#[test]
fn a_pod_is_attached_checked_and_detached() {
    isolated!();
    let world = World::new();
    let (runtime, space) = (runtime(&world), Namespace::new("pod"));
    let net = bridged(&world, &[json!({ "type": "tuning", "mtu": 1400 })]);
    assert!(validate(&runtime, &net).iter().all(Result::is_ok));
    let result = runtime.add(&net, &pod(&space, "one")).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.5.0.2/24");
    assert!(space.sh("ip link show eth0").contains("mtu 1400"));
    runtime.check(&net, &pod(&space, "one")).unwrap();
    space.sh("ip link set eth0 mtu 1300");
    let error = runtime.check(&net, &pod(&space, "one")).unwrap_err().to_string();
    assert!(error.starts_with("plugin type=\"tuning\" failed (check): "), "{error}");
    runtime.del(&net, &pod(&space, "one")).unwrap();
    assert_eq!(space.sh("ip -o link | wc -l").trim(), "1");
    assert_eq!(names(&world.path("networks/net")), ["last_reserved_ip.0", "lock"]);
    assert_eq!(world.cached(), [""; 0]);
}

/// The reference's own library would leave the interface and the address.
#[test]
fn nothing_is_left_of_a_pod_whose_second_plugin_fails() {
    isolated!();
    let world = World::new();
    let (runtime, space) = (runtime(&world), Namespace::new("pod"));
    world.plugin("bad", "exit 1");
    // The bridge itself and the place where the last address was are meant to stay.
    runtime.add(&bridged(&world, &[]), &pod(&space, "one")).unwrap();
    runtime.del(&bridged(&world, &[]), &pod(&space, "one")).unwrap();
    let state = |space: &Namespace| {
        let here =
            sh("ip -o link | grep -o ': [^:@]*' | sort; iptables-save | grep -c CNI || true");
        format!("{here}{}{:?}", space.sh("ip -o address"), names(&world.path("networks/net")))
    };
    let before = state(&space);
    let failing = bridged(&world, &[json!({ "type": "bad" })]);
    let error = runtime.add(&failing, &pod(&space, "one")).unwrap_err();
    assert!(matches!(error, Error::Undone { .. }), "{error}");
    assert_eq!(state(&space), before);
    assert_eq!(world.cached(), [""; 0]);
}

#[test]
fn capabilities_reach_the_plugin_that_declares_them() {
    isolated!();
    let world = World::new();
    let (runtime, space) = (runtime(&world), Namespace::new("pod"));
    let mut net = bridged(&world, &[]);
    let mut parameters = pod(&space, "one");
    let given = json!({ "mac": "02:00:00:00:00:07" });
    parameters.capability_args = given.as_object().unwrap().clone();
    runtime.add(&net, &parameters).unwrap();
    assert!(!space.sh("ip link show eth0").contains("02:00:00:00:00:07"));
    runtime.del(&net, &parameters).unwrap();
    let mut document: Value = serde_json::from_slice(&net.bytes).unwrap();
    document["plugins"][0]["capabilities"] = json!({ "mac": true });
    net = list(&document);
    runtime.add(&net, &parameters).unwrap();
    assert!(space.sh("ip link show eth0").contains("02:00:00:00:00:07"));
}
