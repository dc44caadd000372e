//! DEL: nothing that is wrong keeps a pod from going.

use std::fs;

use serde_json::{Value, json};

use super::{Scene, glance};
use crate::harness::*;

/// What may have become of a call since ADD.
type Damage = fn(&Scene, Call, &Value) -> Call;

/// The call with another configuration, made from the one of ADD.
fn with_config(call: Call, config: &Value, keys: Value) -> Call {
    let config = merged(config.clone(), keys);
    call.saying(&config.to_string())
}

const AROUND: &[(&str, Damage)] = &[
    ("the netns is not given", |_, call, _| call.without("CNI_NETNS")),
    ("the netns is empty", |_, call, _| call.with("CNI_NETNS", "")),
    ("the netns is gone", |_, call, _| call.with("CNI_NETNS", "/run/netns/gone")),
    ("a plain file is left of the netns", |scene, call, _| {
        let plain = scene.node.home.join("plain");
        fs::write(&plain, "").unwrap();
        call.with("CNI_NETNS", plain.to_str().unwrap())
    }),
    ("a directory is in its place", |_, call, _| call.with("CNI_NETNS", "/run")),
    ("another kind of namespace is in its place", |_, call, _| {
        call.with("CNI_NETNS", "/proc/self/ns/uts")
    }),
    ("another pod has its place", |scene, call, _| {
        scene.node.namespace.sh("ip netns add other 2>/dev/null || true");
        call.with("CNI_NETNS", "/run/netns/other")
    }),
    ("the host's end is gone", |scene, call, _| {
        scene.pod.namespace.sh("ip link delete eth0");
        call
    }),
    ("the bridge is gone", |scene, call, _| {
        scene.node.namespace.sh("ip link delete cni0 2>/dev/null || true");
        call
    }),
];

const TOLD: &[(&str, Damage)] = &[
    ("prevResult is torn", |_, call, config| {
        with_config(call, config, json!({ "prevResult": { "ips": 5 } }))
    }),
    ("prevResult is of another version", |_, call, config| {
        with_config(call, config, json!({ "prevResult": { "cniVersion": "9.9.9", "ips": [] } }))
    }),
    ("prevResult is no object", |_, call, config| {
        with_config(call, config, json!({ "prevResult": "x" }))
    }),
    ("prevResult is of somebody else", |_, call, config| {
        with_config(
            call,
            config,
            json!({ "prevResult": { "cniVersion": "1.1.0", "ips": [{ "address": "10.9.9.9/24" }] } }),
        )
    }),
    ("keys have wrong types", |_, call, config| {
        with_config(
            call,
            config,
            json!({ "isGateway": 5, "mtu": "x", "vlan": [], "ipMasq": {}, "delWaits": "x", "args": 7 }),
        )
    }),
    ("keys exclude each other", |_, call, config| {
        with_config(call, config, json!({ "hairpinMode": true, "promiscMode": true, "vlan": 9999 }))
    }),
    ("the bridge's name is invalid", |_, call, config| {
        with_config(call, config, json!({ "bridge": "a/b" }))
    }),
    ("it is another bridge", |_, call, config| {
        with_config(call, config, json!({ "bridge": "br7" }))
    }),
    ("masquerade and spoof check were switched off", |_, call, config| {
        with_config(call, config, json!({ "ipMasq": false, "macspoofchk": false }))
    }),
    ("the ranges are invalid", |_, call, config| {
        with_config(call, config, json!({ "ipam": { "ranges": [[{ "subnet": "10.1.2.1/8" }]] } }))
    }),
    ("the ranges are others", |_, call, config| {
        with_config(call, config, json!({ "ipam": { "ranges": [[{ "subnet": "10.7.0.0/24" }]] } }))
    }),
    ("the arguments cannot be read", |_, call, _| call.with("CNI_ARGS", "a;b;c=d=e")),
];

#[test]
fn a_pod_goes_whatever_has_become_of_it() {
    testbed::isolated!();
    goes_in_spite_of(AROUND);
}

#[test]
fn a_pod_goes_whatever_the_plugin_is_told() {
    testbed::isolated!();
    goes_in_spite_of(TOLD);
}

fn goes_in_spite_of(damages: &[(&str, Damage)]) {
    for ((what, damage), plugin) in damages.iter().flat_map(|it| CABLED.map(|plugin| (it, plugin)))
    {
        let scene = Scene::of(plugin);
        let config = scene.config(json!({ "ipMasq": true, "macspoofchk": true }));
        let result = scene.node.add(&scene.pod, &config);
        let config = after(&config, &result);
        let call = damage(&scene, scene.node.call("DEL", &scene.pod, &config), &config);
        for _ in 0..2 {
            let answer = scene.node.run(&call);
            assert!(answer.is_ok() && answer.stdout.is_empty(), "{what}: {answer:?}");
            assert_eq!(remains(&scene), "", "{what}");
        }
    }
}

/// Everything of the pod that is left, in all places.
fn remains(scene: &Scene) -> String {
    let told = glance(&scene.node, &scene.pod);
    let of_pod =
        |line: &&str| line.contains("veth") || line.contains("10.1.2.2 ") || line.contains("eth0");
    told.lines().filter(of_pod).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_was_never_added_is_gone() {
    testbed::isolated!();
    for by in [By::Podwire, By::Reference] {
        let node = Node::new(by);
        let pod = node.pod("pod");
        let state = testbed::state(&node.namespace);
        let keys = json!({ "ipMasq": true, "macspoofchk": true });
        for config in [
            node.routed("bridge", "1.0.0", &["10.1.2.0/24"], keys.clone()),
            node.routed("ptp", "1.0.0", &["10.1.2.0/24"], keys),
            node.bridged("1.0.0", json!({})),
        ] {
            node.del(&pod, &config);
            let gone = node.call("DEL", &pod, &config).with("CNI_NETNS", "/run/netns/gone");
            assert!(node.run(&gone).is_ok());
        }
        if by == By::Podwire {
            // The reference makes empty tables and chains to find nothing in them.
            testbed::assert_same_state(&state, &testbed::state(&node.namespace));
        }
    }
}

#[test]
fn an_error_of_ipam_is_reported_and_the_rest_done() {
    testbed::isolated!();
    for ((what, keys, code, msg), plugin) in [
        (
            "the plugin is gone",
            json!({ "type": "nobody" }),
            999,
            "failed to find plugin \"nobody\" in path [/run/node/bin]",
        ),
        (
            "the directory is none",
            json!({ "dataDir": "/proc/version" }),
            999,
            "open /proc/version/pods: not a directory",
        ),
        (
            "the directory is no text",
            json!({ "dataDir": 5 }),
            999,
            "ipam.dataDir: invalid value 5: expected a path in quotes",
        ),
    ]
    .into_iter()
    .flat_map(|it| CABLED.map(|plugin| (it.clone(), plugin)))
    {
        let scene = Scene::of(plugin);
        let config = scene.config(json!({ "ipMasq": true, "macspoofchk": true }));
        scene.node.add(&scene.pod, &config);
        let broken = merged(config.clone(), json!({ "ipam": keys }));
        for _ in 0..2 {
            let refusal = scene.node.run(&scene.node.call("DEL", &scene.pod, &broken)).refused();
            assert_eq!(refusal.said(), (code, msg), "{what}");
            assert_eq!(links(&scene.pod.namespace), ["lo"], "{what}");
            let left = glance(&scene.node, &scene.pod);
            assert!(!left.contains("10.1.2.2 :") && !left.contains("veth"), "{what}: {left}");
        }
        // The address is not given to anybody else, until the runtime tries again and it works.
        assert_eq!(scene.node.reservations().len(), 1, "{what}");
        scene.node.del(&scene.pod, &config);
        assert_eq!(scene.node.reservations().len(), 0, "{what}");
    }
}

#[test]
fn a_previous_result_cannot_name_others_rules() {
    testbed::isolated!();
    for plugin in CABLED {
        let scene = Scene::of(plugin);
        let config = scene.config(json!({ "ipMasq": true }));
        let other = scene.node.pod("other");
        let result = scene.node.add(&other, &config);
        scene.node.add(&scene.pod, &config);
        // The runtime has mixed up two containers.
        scene.node.del(&scene.pod, &after(&config, &result));
        assert!(scene.node.namespace.sh("nft list ruleset").contains("10.1.2.2"));
        scene.node.check(&other, &config, &result);
    }
}
