//! `podwire snapshot`, `diff` and `schema`.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::fs;
use std::process::Command;

use serde_json::Value;
use testbed::{isolated, need, sh};

use crate::{assert_nothing_left, command, finish, podwire};

fn read(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_lab_is_in_a_snapshot_and_changes_are_told() {
    isolated!();
    podwire("lab up blue --pods 2").expect(0);
    podwire("snapshot /run/a.json").expect(0);
    let document = read("/run/a.json");
    assert_eq!(
        (&document["apiVersion"], &document["kind"]),
        (&"podwire/v1".into(), &"Topology".into())
    );
    let find = |name: &str| {
        let all = document["namespaces"].as_array().unwrap();
        all.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {name}"))
    };
    for (name, role) in [("host", "host"), ("blue-node1", "node"), ("blue-pod1", "pod")] {
        assert_eq!(find(name)["role"], role);
    }
    assert_eq!(find("blue-pod1")["node"], "blue-node1");
    assert_eq!(find("blue-pod1")["paths"][0], "/run/netns/blue-pod1");
    let nodes = document["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|it| it["name"] == "blue-node1").unwrap();
    let attached = node["attachments"].as_array().unwrap();
    assert!(attached.iter().any(|it| it["addresses"][0] == "10.1.0.2/24"), "{attached:#?}");
    assert_eq!(node["reservations"][0]["entries"].as_array().unwrap().len(), 2);

    // In a user namespace the machine's own is not to be seen, so nobody can say that all is the same.
    podwire("snapshot /run/b.json").expect(0);
    let same = podwire("diff /run/a.json /run/b.json").expect(3);
    assert!(same.stdout.contains("Nothing is different in what both"), "{}", same.stdout);
    sh("for veth in $(ip -n blue-node1 -o link show master cni0 | sed 's/^[0-9]*: //; s/@.*//' | head -1)
        do ip -n blue-node1 link set $veth nomaster; done");
    podwire("snapshot /run/b.json").expect(0);
    let changed = podwire("diff /run/a.json /run/b.json").expect(1);
    assert!(changed.stdout.contains("lost its bridge cni0"), "{}", changed.stdout);
    let told = podwire("diff /run/a.json /run/b.json -o json").expect(1);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(
        (&told["kind"], &told["differences"][0]["change"]),
        (&"Diff".into(), &"changed".into())
    );
    let mut by_pipe = command("diff /run/a.json -");
    by_pipe.stdin(fs::File::open("/run/b.json").unwrap());
    finish(by_pipe.spawn().unwrap()).expect(1);
    podwire("lab down blue").expect(0);
    assert_nothing_left();
}

#[test]
fn what_is_no_snapshot_is_refused_with_the_reason() {
    let directory = testbed::directory();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (whole, cut, other) = (path("whole"), path("cut"), path("other"));
    let text = r#"{ "apiVersion": "podwire/v1", "kind": "Topology" }"#;
    fs::write(&whole, text).unwrap();
    fs::write(&cut, &text[..text.len() - 5]).unwrap();
    fs::write(&other, r#"{ "apiVersion": "podwire/v7", "kind": "Topology" }"#).unwrap();
    podwire(&format!("diff {whole} {whole}")).expect(0);
    for (after, reason) in [
        (cut.as_str(), "ends in the middle, at line 1"),
        (&other, "apiVersion is \"podwire/v7\""),
        ("/no/such/file", "No such file"),
        ("/dev/null", "ends in the middle"),
    ] {
        for question in [format!("diff {whole} {after}"), format!("explain --from {after}")] {
            let run = podwire(&question).expect(2);
            assert!(run.stderr.contains(reason), "{question}: {}", run.stderr);
            assert_eq!(run.stdout, "");
        }
    }
    podwire("diff - -").expect(2);
}

#[test]
fn without_rights_it_tells_what_it_could_not_see() {
    isolated!();
    need("setpriv", "util-linux");
    sh("ip netns add other");
    let podwire = env!("CARGO_BIN_EXE_podwire");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", podwire, "snapshot", "-"]);
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["namespaces"].as_array().unwrap().len(), 1);
    assert!(document["namespaces"][0]["dump"]["links"]["1"]["ifname"] == "lo");
    let gaps = document["gaps"].as_array().unwrap();
    let gap = gaps.iter().find(|it| it["what"] == "network namespace /run/netns/other").unwrap();
    assert!(gap["why"].as_str().unwrap().contains("use sudo"), "{gap}");
    assert!(told.contains("warning: network namespace /run/netns/other"), "{told}");
    assert!(gaps.iter().any(|it| it["why"].as_str().unwrap().contains("nftables")), "{gaps:#?}");
}
