//! Versions of the specification, and results in each of them.

use cni::Version;
use serde_json::{Value, json};
use testbed::call::Call;

use super::{EVERY, Scene};
use crate::case::{By, Case, Known, case};
use crate::node::{Node, merged};

/// How 1.1.1's loopback shows that it does not convert its result.
const LOOPBACK: &str = r#""interfaces":[{"name":"lo""#;
const LOOPBACK_WHY: &str =
    "loopback prints its result in the newest shape with the old version's name";

const RESULT: &str = "CNI spec, section 5, Success";

pub(in crate::cases) const CASES: &[Case] = &[
    case!(
        versions,
        EVERY,
        "CNI spec, section 2, VERSION",
        "VERSION lists the versions in one line, oldest first, and needs neither configuration \
         nor variables"
    ),
    case!(
        unsupported_version,
        EVERY,
        "CNI spec, section 5, Error, code 1",
        "a configuration of a version that the plugin does not speak is refused with code 1, and \
         the details list what it speaks"
    ),
    case!(
        every_version,
        EVERY,
        RESULT,
        "the result has the version of the configuration, for every version that is advertised, \
         and its shape"
    )
    .known(&[Known::new(By::OldReference, LOOPBACK, LOOPBACK_WHY).of("loopback")]),
    case!(
        result_text,
        EVERY,
        RESULT,
        "a result is indented by four spaces, without a newline at the end, and from 1.0.0 on \
         its keys are sorted and it has no empty dns"
    )
    .known(&[Known::new(
        By::OldReference,
        "the text of 1.0.0",
        "it prints the members of 1.0.0 in another order, and an empty dns",
    )]),
    case!(
        check_is_of_0_4_0,
        EVERY,
        "CNI spec, section 2, CHECK",
        "CHECK of a configuration \
        older than 0.4.0 is refused with code 1"
    ),
    case!(
        gc_and_status_are_of_1_1_0,
        EVERY,
        "CNI spec, section 2, GC and STATUS",
        "GC and STATUS of a configuration older than 1.1.0 are refused with code 1"
    )
    .since(Version::V1_1_0),
    case!(
        gc_and_status_need_only_a_path,
        EVERY,
        "CNI spec, section 2, GC and STATUS",
        "GC and STATUS need CNI_PATH and no other variable"
    )
    .since(Version::V1_1_0),
];

fn versions(node: &Node) {
    let scene = Scene::new(node);
    let nothing = scene.call("VERSION").saying("{").without("CNI_CONTAINERID");
    let nothing = ["CNI_NETNS", "CNI_IFNAME", "CNI_PATH"].into_iter().fold(nothing, Call::without);
    let answer = scene.run(&nothing);
    assert!(answer.is_ok(), "{answer:?}");
    assert!(answer.stdout.ends_with("}\n") && answer.stdout.lines().count() == 1, "{answer:?}");
    let told: Value = serde_json::from_str(&answer.stdout).unwrap();
    let versions: Vec<Version> = told["supportedVersions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version.as_str().unwrap().parse().unwrap())
        .collect();
    assert!(versions.is_sorted(), "{told}");
    assert_eq!(told["cniVersion"], versions.last().unwrap().as_str());
}

fn unsupported_version(node: &Node) {
    let scene = Scene::new(node);
    let quoted: Vec<_> = node.versions(&node.subject).iter().map(|it| format!("{it:?}")).collect();
    for version in ["9.9.9", "1.0", "0.3.2"] {
        for command in ["ADD", "DEL"] {
            let network = scene.network.clone().version(version);
            let call = node.call(command, &scene.pod, network.only());
            let details = scene.refuses(&call, 1, "incompatible CNI versions");
            let expected = format!("config is {version:?}, plugin supports [{}]", quoted.join(" "));
            assert_eq!(details, expected);
        }
    }
}

/// The plugin's result in a version.
fn result(scene: &Scene<'_>, version: &str) -> String {
    let network = scene.network.clone().version(version);
    let mut config = network.only().clone();
    if config.get("prevResult").is_some() {
        config["prevResult"] = previous(version);
    }
    let answer = scene.run(&scene.node.call("ADD", &scene.pod, &config));
    assert!(answer.is_ok(), "{version}: {answer:?}");
    let deleted = scene.run(&scene.node.call("DEL", &scene.pod, &config));
    assert!(deleted.is_ok(), "{version}: {deleted:?}");
    answer.stdout
}

/// A previous result in a version.
pub(super) fn previous(version: &str) -> Value {
    let ip = match version {
        "0.1.0" | "0.2.0" => {
            return json!({ "cniVersion": version, "ip4": { "ip": "10.1.2.2/24" } });
        }
        "0.3.0" | "0.3.1" | "0.4.0" => {
            json!({ "version": "4", "interface": 0, "address": "10.1.2.2/24" })
        }
        _ => json!({ "interface": 0, "address": "10.1.2.2/24" }),
    };
    json!({
        "cniVersion": version,
        "interfaces": [{ "name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/pod" }],
        "ips": [ip],
    })
}

fn every_version(node: &Node) {
    let scene = Scene::new(node);
    let gives_interfaces = !["host-local", "static"].contains(&node.subject.as_str());
    for version in node.versions(&node.subject) {
        let result: Value = serde_json::from_str(&result(&scene, &version)).unwrap();
        assert_eq!(result["cniVersion"], version.as_str());
        let first = &result["ips"][0];
        match version.as_str() {
            "0.1.0" | "0.2.0" => {
                assert!(result["ip4"]["ip"].is_string(), "{result}");
                assert!(result.get("ips").is_none() && result.get("interfaces").is_none());
            }
            "0.3.0" | "0.3.1" | "0.4.0" => {
                assert!(first["address"].is_string() && first["version"] == "4", "{result}");
                assert_eq!(result["interfaces"].is_array(), gives_interfaces, "{result}");
            }
            _ => {
                assert!(first["address"].is_string(), "{result}");
                assert!(first.get("version").is_none(), "{result}");
                assert_eq!(result["interfaces"].is_array(), gives_interfaces, "{result}");
            }
        }
    }
}

fn result_text(node: &Node) {
    let scene = Scene::new(node);
    for version in node.versions(&node.subject) {
        let text = result(&scene, &version);
        let value: Value = serde_json::from_str(&text).unwrap();
        let expected = if version.starts_with("0.") {
            assert_eq!(value["dns"], json!({}), "the text of {version} {text}");
            value
        } else {
            assert!(value.get("dns").is_none(), "the text of {version} {text}");
            sorted(&value)
        };
        assert_eq!(text, pretty(&expected), "the text of {version}");
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| key.as_str());
            members.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// A document as Go indents it by four spaces. None of ours has brackets or colons in its texts
/// that would be taken for structure, since it is the library that writes them.
fn pretty(value: &Value) -> String {
    let two_spaces = format!("{value:#}");
    let lines: Vec<_> = two_spaces
        .lines()
        .map(|line| {
            let text = line.trim_start();
            format!("{}{text}", " ".repeat(2 * (line.len() - text.len())))
        })
        .collect();
    lines.join("\n")
}

fn check_is_of_0_4_0(node: &Node) {
    let scene = Scene::new(node);
    for version in node.versions(&node.subject) {
        if version.parse::<Version>().is_ok_and(|version| version < Version::V0_4_0) {
            let network = scene.network.clone().version(&version);
            let call = node.call("CHECK", &scene.pod, network.only());
            scene.refuses(&call, 1, "config version does not allow CHECK");
        }
    }
}

fn gc_and_status_are_of_1_1_0(node: &Node) {
    let scene = Scene::new(node);
    for command in ["GC", "STATUS"] {
        for version in ["0.4.0", "1.0.0"] {
            let network = scene.network.clone().version(version);
            let call = node.call_about_all(command, network.only());
            scene.refuses(&call, 1, &format!("config version does not allow {command}"));
        }
    }
}

fn gc_and_status_need_only_a_path(node: &Node) {
    let scene = Scene::new(node);
    let valid = json!({ "cniVersion": "1.1.0", "cni.dev/valid-attachments": [] });
    let config = merged(scene.network.only().clone(), &valid);
    for command in ["GC", "STATUS"] {
        let call = node.call_about_all(command, &config);
        let answer = scene.run(&call);
        assert!(answer.is_ok() && answer.stdout.is_empty(), "{command}: {answer:?}");
        let missing = "required env variables [CNI_PATH] missing";
        scene.refuses(&call.without("CNI_PATH"), 4, missing);
    }
}
