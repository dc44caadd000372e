//! `podwire doctor`.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::fs;

use serde_json::Value;
use testbed::{isolated, sh};

use crate::{assert_nothing_left, podwire};

/// The findings of a run, by code and text.
fn findings(arguments: &str) -> Vec<(String, String)> {
    let run = podwire(&format!("doctor -o json {arguments}"));
    assert!(matches!(run.code, Some(0 | 1 | 3)), "{run:?}");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["kind"], "DoctorReport");
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let of = |finding| (text(finding, "code"), text(finding, "text"));
    report["findings"].as_array().unwrap().iter().map(of).collect()
}

/// Whether there is a finding with this code, whose text mentions `word`.
fn has(findings: &[(String, String)], code: &str, word: &str) -> bool {
    findings.iter().any(|(it, text)| it == code && text.contains(word))
}

#[test]
fn a_healthy_lab_is_healthy() {
    isolated!();
    podwire("lab up --nodes 2 --pods 1").expect(0);
    let found = findings("");
    let about_labs = ["labLeft", "elementLeft", "attachmentLeft", "deadName", "agentGone"];
    assert!(!found.iter().any(|(code, _)| about_labs.contains(&code.as_str())), "{found:?}");
    podwire("lab down").expect(0);
    assert_nothing_left();
}

#[test]
fn what_is_left_over_is_named_and_what_is_ours_is_taken_away() {
    isolated!();
    // A pod with masquerade whose namespace and reservation go away without a DEL.
    podwire("lab up --pods 2").expect(0);
    let elements = "ip netns exec node1 nft list table inet podwire_cni | grep -c 'id: ' || true";
    let before = sh(elements);
    sh("ip netns exec node1 ip link del $(ip netns exec node1 bridge link | head -n 1 | \
        cut -d: -f2 | cut -d@ -f1)");
    sh("cd /run/podwire/lab/default && rm $(find . -name 10.*.2 -type f)");
    // A lab whose command was killed, and a name that leads nowhere.
    fs::create_dir_all("/run/podwire/lab/half").unwrap();
    fs::write("/run/netns/dead", "").unwrap();
    let found = findings("");
    assert!(has(&found, "labLeft", "half"), "{found:?}");
    assert!(has(&found, "deadName", "/run/netns/dead"), "{found:?}");
    let removes = podwire("doctor --fix --dry-run -o sh").expect(0).stdout;
    assert!(removes.contains("podwire lab down half"), "{removes}");
    assert_eq!(sh(elements), before, "a dry run changes nothing");
    podwire("doctor --fix");
    let found = findings("");
    assert!(!has(&found, "labLeft", ""), "{found:?}");
    assert!(!has(&found, "elementLeft", ""), "{found:?}");
    // It is not ours.
    assert!(has(&found, "deadName", "/run/netns/dead"), "{found:?}");
    fs::remove_file("/run/netns/dead").unwrap();
    podwire("lab down --all");
}
