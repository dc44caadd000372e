//! The manifests of `deploy/` against what the code does.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use fabric::{Config, Source};
use serde_json::{Value, json};
use testbed::kubernetes::{Request, Server};
use testbed::{isolated, sh as sh_in};

use crate::agent::{Agent, bare, node, wait_until};

fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
    serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn one(kind: &str) -> Value {
    let mut found: Vec<Value> =
        documents("podwire.yaml").into_iter().filter(|it| it["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found.remove(0)
}

fn config() -> Config {
    Config::parse(one("ConfigMap")["data"]["agent.yaml"].as_str().unwrap()).unwrap()
}

fn pod() -> Value {
    one("DaemonSet")["spec"]["template"]["spec"].clone()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn agent() -> Value {
    let pod = pod();
    let [agent] = list(&pod["containers"]) else { panic!("more than an agent") };
    agent.clone()
}

/// Where a container has what of the node.
fn mounts(pod: &Value, container: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    let volumes = list(&pod["volumes"]);
    mounts
        .filter_map(|mount| {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            let path = volume["hostPath"]["path"].as_str()?;
            Some((text(&mount["mountPath"]), path.to_owned()))
        })
        .collect()
}

#[test]
fn every_document_is_whole() {
    for file in ["podwire.yaml", "own-node-only.yaml"] {
        for document in documents(file) {
            for path in ["/apiVersion", "/kind", "/metadata/name"] {
                assert!(document.pointer(path).is_some_and(Value::is_string), "{path}: {document}");
            }
            let namespaced = ["ServiceAccount", "ConfigMap", "DaemonSet"];
            let is_namespaced = namespaced.iter().any(|kind| document["kind"] == *kind);
            assert_eq!(document["metadata"]["namespace"] == "podwire", is_namespaced, "{document}");
        }
    }
    let binding = one("ClusterRoleBinding");
    assert_eq!(binding["roleRef"]["name"], one("ClusterRole")["metadata"]["name"]);
    let account = json!({ "kind": "ServiceAccount", "name": "podwire", "namespace": "podwire" });
    assert_eq!(binding["subjects"], json!([account]));
    assert_eq!(pod()["serviceAccountName"], one("ServiceAccount")["metadata"]["name"]);
    let set = one("DaemonSet");
    assert_eq!(
        set["spec"]["selector"]["matchLabels"],
        set["spec"]["template"]["metadata"]["labels"]
    );
    let policy = &documents("own-node-only.yaml")[0]["spec"];
    let user = policy["matchConditions"][0]["expression"].as_str().unwrap();
    assert!(user.contains("'system:serviceaccount:podwire:podwire'"), "{user}");
}

#[test]
fn the_agent_is_given_what_it_asks_for() {
    let config = config();
    assert_eq!(config.source, Source::Kubernetes(fabric::Kubernetes::default()));
    let (pod, agent) = (pod(), agent());
    assert_eq!(agent["command"], json!(["podwire", "agent", "--config", Config::PATH]));
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    let name = json!({ "name": "PODWIRE_NODE",
        "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } });
    assert_eq!(agent["env"], json!([name]));
    let listen = config.listen.unwrap();
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let asked = json!({ "host": listen.ip(), "port": listen.port(), "path": path });
        assert_eq!(agent[probe]["httpGet"], asked);
    }
    // What it writes is on the node, under the same name.
    let mounts = mounts(&pod, &agent);
    for path in [config.run, config.state, config.cni.directory.unwrap()] {
        let path = path.to_str().unwrap().to_owned();
        assert!(mounts.contains(&(path.clone(), path.clone())), "{path}");
    }
    let of_config = list(&agent["volumeMounts"]).iter().find(|it| it["name"] == "config").unwrap();
    assert_eq!(Path::new(Config::PATH).parent(), of_config["mountPath"].as_str().map(Path::new));
}

#[test]
fn nobody_may_do_more_than_needed() {
    let pod = pod();
    let capabilities = json!({ "drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"] });
    assert_eq!(agent()["securityContext"]["capabilities"], capabilities);
    let [settings, plugins] = list(&pod["initContainers"]) else { panic!("two preparations") };
    assert_eq!(settings["securityContext"]["privileged"], true);
    assert!(mounts(&pod, settings).is_empty());
    assert_eq!(plugins["command"], json!(["podwire", "install", "--dir", "/opt/cni/bin"]));
    assert_eq!(plugins["securityContext"]["capabilities"], json!({ "drop": ["ALL"] }));
    for container in [&agent(), plugins] {
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(container["securityContext"].get("privileged"), None);
    }
    for container in [&agent(), plugins, settings] {
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    }
}

#[test]
fn the_settings_that_a_node_needs_are_made() {
    isolated!();
    let pod = pod();
    let [sh, flags, script] = list(&pod["initContainers"][0]["command"]) else {
        panic!("a script")
    };
    assert_eq!((sh, flags), (&json!("sh"), &json!("-euc")));
    let directory = testbed::directory();
    let file = directory.path().join("settings");
    std::fs::write(&file, script.as_str().unwrap()).unwrap();
    let run = |ipv6: bool| sh_in(&format!("IPV6={ipv6} sh -eu {}", file.display()));
    let setting = |key: &str| sh_in(&format!("cat /proc/sys/net/{key}")).trim().to_owned();
    sh_in("ip link add uplink type veth peer name far; ip link set uplink up; ip link set far up");
    sh_in("ip -6 route add default dev uplink");
    let accept = |device: &str| setting(&format!("ipv6/conf/{device}/accept_ra"));
    run(false);
    assert_eq!(setting("ipv4/ip_forward"), "1");
    assert_eq!((setting("ipv6/conf/all/forwarding"), accept("uplink")), ("0".into(), "1".into()));
    run(true);
    assert_eq!((setting("ipv6/conf/all/forwarding"), accept("uplink")), ("1".into(), "2".into()));
    assert_eq!(accept("far"), "1");
    run(true);
    assert_eq!(accept("uplink"), "2");
}

/// What RBAC calls a request.
fn verb(request: &Request) -> (String, String) {
    let below = request.path.strip_prefix("/api/v1/nodes").unwrap();
    let verb = match (request.method.as_str(), below) {
        ("GET", "") if request.is_watch() => "watch",
        ("GET", "") => "list",
        ("GET", _) => "get",
        ("PATCH", _) => "patch",
        other => panic!("{other:?}"),
    };
    let resource = if below.ends_with("/status") { "nodes/status" } else { "nodes" };
    (resource.to_owned(), verb.to_owned())
}

#[test]
fn the_role_allows_what_is_asked_and_nothing_else() {
    let mut asked = BTreeSet::new();
    for flannel in [false, true] {
        let server = Server::start();
        server.put(bare(1));
        server.put(node(2));
        let agent = Agent::start_with(&server, flannel);
        agent.complete();
        agent.running.set_ready(true);
        wait_until("all is written", || {
            let count = server.count(|request| request.method == "PATCH");
            count >= 2
        });
        server.forget();
        server.cut();
        agent.is_silent(Duration::from_millis(500));
        asked.extend(server.requests().iter().map(verb));
    }
    let mut allowed = BTreeSet::new();
    for rule in list(&one("ClusterRole")["rules"]) {
        assert_eq!(rule["apiGroups"], json!([""]));
        for resource in list(&rule["resources"]) {
            for verb in list(&rule["verbs"]) {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                allowed.insert((text(resource), text(verb)));
            }
        }
    }
    assert_eq!(allowed, asked);
}
