//! The catalogue of faults: each one is made, named by podwire, and taken back exactly.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use lab::faults::{self, Families, Fault, Scene};
use serde_json::Value;
use testbed::isolated;

use crate::{Agents, podwire};

/// What stands in the way of a fault being found and taken back, a line each.
struct Score {
    /// Whether packets are sent, too.
    is_verified: bool,
    injected: usize,
    named: usize,
    wrong: Vec<String>,
}

/// Looks at the labs of this machine, and at nothing else: where the test runs is none of its business.
fn look(file: &str) {
    let mut machine: Value = serde_json::from_str(&podwire("snapshot -").expect(0).stdout).unwrap();
    machine["gaps"] = Value::Array(vec![]);
    for part in ["namespaces", "nodes"] {
        machine[part].as_array_mut().unwrap().retain(|it| !it["lab"].is_null());
    }
    fs::write(file, machine.to_string()).unwrap();
}

/// The kinds of what `explain` finds in a lab that was looked at.
fn found(file: &str) -> Vec<String> {
    let answer = podwire(&format!("explain --from {file} lab/default -o json"));
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    let findings = answer["findings"].as_array().unwrap();
    findings.iter().map(|it| it["code"].as_str().unwrap().to_owned()).collect()
}

/// A code as JSON has it.
fn word(code: diagnosis::Code) -> String {
    serde_json::to_value(code).unwrap().as_str().unwrap().to_owned()
}

/// Makes a fault, asks what is wrong, and takes it back.
fn tried(fault: &Fault, scene: Scene, score: &mut Score) {
    let mut wrong = |what: String| score.wrong.push(format!("{}: {what}", fault.name));
    look("before.json");
    let made = podwire(&format!("lab break {}", fault.name));
    if made.code != Some(0) {
        return wrong(format!("was not made: {}", made.stderr));
    }
    score.injected += 1;
    let declared: Vec<String> = fault.codes.iter().map(|code| word(*code)).collect();
    let mut codes = Vec::new();
    // The kernel takes its time to find out that an address is somebody else's.
    let is_named = (0..20).any(|attempt| {
        thread::sleep(Duration::from_millis(if attempt == 0 { 0 } else { 200 }));
        look("broken.json");
        codes = found("broken.json");
        declared.iter().any(|code| codes.contains(code))
    });
    if is_named {
        score.named += 1;
    } else {
        wrong(format!("{codes:?} instead of {declared:?}"));
    }
    if score.is_verified {
        wrong_of_verify(fault, scene).into_iter().for_each(&mut wrong);
    }
    let fixed = podwire(&format!("lab fix {}", fault.name));
    if fixed.code != Some(0) {
        wrong(format!("was not taken back: {}{}", fixed.stdout, fixed.stderr));
    }
    look("after.json");
    let left = found("after.json");
    if !left.is_empty() {
        wrong(format!("leaves {left:?}"));
    }
    let still = if score.is_verified { flagged("") } else { Vec::new() };
    if !still.is_empty() {
        wrong(format!("verify flags {still:?} afterwards"));
    }
    let diff = podwire("diff before.json after.json");
    if diff.code != Some(0) {
        wrong(format!("leaves a difference: {}", diff.stdout));
    }
}

/// What `podwire verify` says otherwise than the catalogue. Every question that is not answered takes
/// its time, so that where an answer is missing no more is asked than has to be.
fn wrong_of_verify(fault: &Fault, scene: Scene) -> Vec<String> {
    let declared = fault.felt_in(scene);
    if declared.is_empty() {
        return match &flagged("")[..] {
            [] => Vec::new(),
            flagged => vec![format!("verify flags {flagged:?}")],
        };
    }
    let names: Vec<&str> = declared.iter().map(|rule| rule.name()).collect();
    match &flagged(&format!("--timeout 100ms --only {}", names.join(",")))[..] {
        [] => vec![format!("verify flags nothing instead of {names:?}")],
        _ => Vec::new(),
    }
}

/// The rules that `podwire verify` finds broken.
fn flagged(flags: &str) -> Vec<String> {
    let answer = podwire(&format!("verify lab/default -o json {flags}"));
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    let rules = answer["rules"].as_array().unwrap().iter();
    let broken = rules.filter(|it| it["fail"] != 0);
    broken.map(|it| it["rule"].as_str().unwrap().to_owned()).collect()
}

/// All faults of a kind of lab, one after the other.
#[track_caller]
fn all(flags: &str, scene: Scene) {
    let _agents = Agents;
    let home = testbed::TempDir::new().unwrap();
    std::env::set_current_dir(home.path()).unwrap();
    podwire(&format!("lab up {flags}")).expect(0);
    look("whole.json");
    assert_eq!(found("whole.json"), [""; 0], "lab up {flags}");
    assert_eq!(flagged(""), [""; 0], "lab up {flags}");
    let (v4, v6) = (!flags.contains("--ipv6"), flags.contains("--ipv6") || flags.contains("dual"));
    let is_of_it = |fault: &&Fault| {
        let fits = match fault.families {
            Families::Any => true,
            Families::V4 => v4,
            Families::V6 => v6,
        };
        fits && fault.exists_in(scene)
    };
    let is_verified = false;
    let mut score = Score { is_verified, injected: 0, named: 0, wrong: Vec::new() };
    for fault in faults::all().filter(is_of_it) {
        tried(fault, scene, &mut score);
    }
    println!("lab up {flags}: {} of {} faults named", score.named, score.injected);
    assert_eq!(score.wrong, [""; 0], "lab up {flags}");
    podwire("lab down").expect(0);
    assert!(!Path::new("/run/podwire").exists());
    let _ = fs::remove_dir_all(home.path());
}

#[test]
fn of_one_node() {
    isolated!();
    all("--pods 3", Scene::Pods);
}

#[test]
fn of_one_node_with_both_families() {
    isolated!();
    all("--pods 3 --dual-stack", Scene::Pods);
}

#[test]
fn of_nodes_joined_by_vxlan() {
    isolated!();
    all("--nodes 3 --pods 2", Scene::Vxlan);
}

#[test]
fn of_nodes_joined_by_vxlan_with_ipv6() {
    isolated!();
    all("--nodes 3 --pods 2 --ipv6", Scene::Vxlan);
}

#[test]
fn of_nodes_joined_as_flannel_does() {
    isolated!();
    all("--nodes 3 --pods 2 --classic", Scene::Classic);
}

#[test]
fn of_nodes_joined_by_gpe() {
    isolated!();
    all("--nodes 3 --pods 2 --backend gpe --dual-stack", Scene::Gpe);
}

#[test]
fn of_nodes_joined_by_routes() {
    isolated!();
    all("--nodes 3 --pods 2 --backend host-gw", Scene::HostGw);
}

#[test]
fn of_nodes_joined_by_routes_with_ipv6() {
    isolated!();
    all("--nodes 3 --pods 2 --backend host-gw --ipv6", Scene::HostGw);
}
