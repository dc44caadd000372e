//! The configuration as a document.

use serde_json::{Map, Value, json};

use super::version::previous;
use super::{EVERY, Scene};
use crate::case::{Case, case};
use crate::node::{Node, merged};

const FORMAT: &str = "CNI spec, section 1, Configuration format";
const GO: &str = "reference, as Go reads JSON";

pub(in crate::cases) const CASES: &[Case] = &[
    case!(
        rubbish,
        EVERY,
        "CNI spec, section 5, Error, code 6",
        "a configuration that is no JSON is refused with code 6"
    ),
    case!(
        network_name,
        EVERY,
        FORMAT,
        "a network's name that is missing, or has characters that it may not have, is refused \
         with code 7"
    ),
    case!(keys_in_any_case, EVERY, GO, "keys are read whatever their case"),
    case!(last_key_wins, EVERY, GO, "of several values for one key the last one counts"),
    case!(unknown_keys, EVERY, FORMAT, "keys that nobody knows are ignored"),
    case!(null_is_no_value, EVERY, GO, "null stands for a value that is not there"),
    case!(large_configuration, EVERY, FORMAT, "a configuration may be larger than a pipe"),
    case!(no_version, EVERY, FORMAT, "a configuration without a version is one of 0.1.0"),
];

fn rubbish(node: &Node) {
    let scene = Scene::new(node);
    let good = String::from_utf8(scene.call("ADD").stdin).unwrap();
    for text in ["", "{", "[]", "7", "kaput", &format!("{good} more"), &format!("{good}{good}")] {
        for command in ["ADD", "CHECK", "DEL"] {
            let refusal = scene.run(&scene.call(command).saying(text)).refused();
            assert_eq!(refusal.code, 6, "{text}: {refusal:?}");
            let start = "error unmarshall network config: ";
            assert!(refusal.msg.starts_with(start), "{text}: {refusal:?}");
        }
    }
    for version in ["7", "[]", "\"1.0.0.0\"", "\"one\""] {
        let text = format!("{{\"cniVersion\": {version}, \"name\": \"pods\"}}");
        // Where a version is text it may be one that is not supported, or only CHECK may look.
        let refusal = scene.run(&scene.call("CHECK").saying(&text)).refused();
        assert_eq!(refusal.code, 6, "{text}: {refusal:?}");
    }
}

fn network_name(node: &Node) {
    let scene = Scene::new(node);
    let named = |name: &Value| merged(scene.network.only().clone(), &json!({ "name": name }));
    for command in ["ADD", "CHECK", "DEL", "NOPE"] {
        for name in ["a/b", "../x", "a b", "-a", ".a"] {
            let call = node.call(command, &scene.pod, &named(&name.into()));
            assert_eq!(scene.refuses(&call, 7, "invalid characters found in network name"), name);
        }
        for config in [named(&"".into()), named(&Value::Null), Value::Null] {
            let call = scene.call(command).saying(&config.to_string());
            scene.refuses(&call, 7, "missing network name");
        }
    }
}

/// The document with every key changed, but for keys that are data of their own.
fn with_keys(value: &Value, change: fn(&str) -> String) -> Value {
    match value {
        Value::Object(members) => {
            let changed = |(key, value): (&String, _)| (change(key), with_keys(value, change));
            Value::Object(members.iter().map(changed).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|item| with_keys(item, change)).collect(),
        other => other.clone(),
    }
}

/// Asserts that a configuration is understood as the plain one is.
#[track_caller]
fn assert_understood(scene: &Scene<'_>, text: &str) {
    let node = scene.node;
    let plain = node.add(&scene.pod, &scene.network);
    node.del(&scene.pod, &scene.network, &plain);
    let result = scene.run(&scene.call("ADD").saying(text)).ok();
    let steady =
        |result: &Value| (result["cniVersion"].clone(), result["interfaces"][0]["sandbox"].clone());
    assert_eq!(steady(&result), steady(&plain));
    // host-local goes on with the next address.
    assert_eq!(result["ips"].as_array().map(Vec::len), plain["ips"].as_array().map(Vec::len));
    assert!(scene.run(&scene.call("DEL").saying(text)).is_ok());
}

fn keys_in_any_case(node: &Node) {
    let scene = Scene::new(node);
    for change in [str::to_uppercase, str::to_lowercase] {
        assert_understood(&scene, &with_keys(scene.network.only(), change).to_string());
    }
}

fn last_key_wins(node: &Node) {
    let scene = Scene::new(node);
    let text = scene.network.only().to_string();
    let text = format!("{{\"name\":\"a/b\",\"CniVersion\":\"9.9.9\",{}", &text[1..]);
    assert_understood(&scene, &text);
}

fn unknown_keys(node: &Node) {
    let scene = Scene::new(node);
    let keys = json!({
        "nobody": [{ "knows": 7 }], "capabilities": { "portMappings": true },
        "args": { "cni": { "nobody": "knows" }, "labels": [] },
        "runtimeConfig": { "nobody": "knows" },
    });
    assert_understood(&scene, &merged(scene.network.only().clone(), &keys).to_string());
}

fn null_is_no_value(node: &Node) {
    let scene = Scene::new(node);
    let keys = json!({
        "bridge": null, "mtu": null, "isGateway": null, "ipMasq": null, "dns": null, "args": null,
        "runtimeConfig": null, "capabilities": null, "snat": null, "backend": null,
    });
    let mut config = merged(scene.network.only().clone(), &keys);
    if config.get("prevResult").is_none() {
        config["prevResult"] = Value::Null;
    }
    if let Some(ipam) = config.get_mut("ipam") {
        *ipam = merged(ipam.take(), &json!({ "routes": null, "resolvConf": null, "dns": null }));
    }
    assert_understood(&scene, &config.to_string());
}

fn large_configuration(node: &Node) {
    let scene = Scene::new(node);
    let keys = json!({ "comment": "x".repeat(1 << 20) });
    assert_understood(&scene, &merged(scene.network.only().clone(), &keys).to_string());
}

fn no_version(node: &Node) {
    let scene = Scene::new(node);
    let mut config = scene.network.only().clone();
    config.as_object_mut().unwrap().remove("cniVersion");
    if config.get("prevResult").is_some() {
        config["prevResult"] = previous("0.1.0");
    }
    let answer = node.run(&node.call("ADD", &scene.pod, &config));
    let result = answer.ok();
    assert_eq!(result["cniVersion"], "0.1.0");
    assert!(result["ip4"]["ip"].is_string(), "{result}");
}
