//! The suite is tested first: the reference passes it, with what is known of it, and plugins that
//! do not keep their promises do not.
#![expect(clippy::disallowed_methods, reason = "tests start processes")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use conformance::PLUGINS;
use serde_json::Value;

/// Where Debian keeps the reference's plugins.
const REFERENCE: &str = "/usr/lib/cni";

fn conformance(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.args(arguments).output().expect("start conformance")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it prints text")
}

#[test]
fn the_reference_passes_with_what_is_known_of_it() {
    for plugin in PLUGINS {
        testbed::need(&format!("{REFERENCE}/{plugin}"), "containernetworking-plugins");
    }
    testbed::need("iptables", "iptables");
    let run = conformance(&["--plugins", REFERENCE, "--output", "json"]);
    let report: Value = serde_json::from_slice(&run.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&run.stderr)));
    let cases = report["cases"].as_array().expect("it lists its cases");
    let bad: Vec<_> = cases.iter().filter(|case| case["outcome"] == "failed").collect();
    assert!(run.status.success() && bad.is_empty(), "{bad:#?}");
    // What is not applicable is so for one reason only.
    for case in cases.iter().filter(|case| case["outcome"] == "not applicable") {
        let why = case["because"].as_str().expect("it says why");
        assert!(why.ends_with(" does not speak 1.1.0"), "{case}");
    }
    println!("{}", report["sum"]);
}

/// Puts a plugin into a directory that does as the reference's, but for one line of shell.
fn sabotage(directory: &Path, plugin: &str, line: &str) {
    let path = directory.join(plugin);
    let script = format!("#!/bin/sh\n{line}\nexec {REFERENCE}/{plugin}\n");
    fs::write(&path, script).expect("write a plugin");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
}

#[test]
fn plugins_that_do_not_keep_their_promises_are_found_out() {
    testbed::need(&format!("{REFERENCE}/bridge"), "containernetworking-plugins");
    let nothing = "[ \"$CNI_COMMAND\" != ADD ] || { cat >/dev/null; echo '{}'; exit 0; }";
    let keeps = "[ \"$CNI_COMMAND\" != DEL ] || { cat >/dev/null; exit 0; }";
    let dies = "[ \"$CNI_COMMAND\" != ADD ] || kill -9 $$";
    // Of a stranger nothing is known that would excuse it.
    let stranger = "[ -n \"$CNI_COMMAND\" ] || { echo a stranger >&2; exit 0; }";
    let honest = "true";
    for (plugin, line, case) in [
        ("loopback", nothing, "loopback/up_and_down"),
        ("loopback", dies, "loopback/whatever_its_name"),
        ("host-local", keeps, "host-local/release_by_content"),
        ("bridge", keeps, "bridge/del_takes_all"),
        ("static", nothing, "static/written_addresses"),
        ("static", stranger, "static/static_check_sees_lost_address"),
        // As it is, it passes.
        ("static", honest, ""),
    ] {
        let directory = testbed::directory();
        sabotage(directory.path(), plugin, line);
        if plugin == "bridge" {
            symlink(format!("{REFERENCE}/host-local"), directory.path().join("host-local"))
                .expect("link host-local");
        }
        let path = directory.path().to_str().expect("a path is text");
        let only = if case.is_empty() { "static/written" } else { case };
        let run = conformance(&["--plugins", path, "--only", only]);
        let told = text(&run.stdout);
        let code = if case.is_empty() { 0 } else { 1 };
        assert_eq!(run.status.code(), Some(code), "{case}: {told}{}", text(&run.stderr));
        assert_eq!(told.contains(&format!("FAILED {case}\n")), !case.is_empty(), "{told}");
    }
}

#[test]
fn what_is_not_applicable_is_listed_and_no_success_by_itself() {
    testbed::need(&format!("{REFERENCE}/loopback"), "containernetworking-plugins");
    let directory = testbed::directory();
    symlink(format!("{REFERENCE}/loopback"), directory.path().join("loopback")).expect("link it");
    let path = directory.path().to_str().expect("a path is text");
    let run = conformance(&["--plugins", path, "--only", "loopback/gc"]);
    let told = text(&run.stdout);
    assert!(told.contains("not applicable: loopback does not speak 1.1.0"), "{told}");
    assert!(
        told.ends_with("0 passed, 0 failed, 0 known differences, 2 not applicable\n"),
        "{told}"
    );
    assert_eq!(run.status.code(), Some(1));
}

#[test]
fn wrong_use_is_told_from_failure() {
    let empty = testbed::directory();
    let path = empty.path().to_str().expect("a path is text");
    for (arguments, code, said) in [
        (&["--plugins", path][..], 3, "has none of bridge, "),
        (&["--plugins", "/no/such/directory"], 3, "/no/such/directory: "),
        (&["--plugins", REFERENCE, "--only", "nobody"], 2, "no case has \"nobody\" in its name"),
        (&[], 2, "--plugins"),
    ] {
        let run = conformance(arguments);
        let told = text(&run.stderr);
        assert!(run.status.code() == Some(code) && told.contains(said), "{arguments:?}: {told}");
    }
    let list = conformance(&["--list", "--only", "/mtu"]);
    assert!(list.status.success());
    assert!(text(&list.stdout).starts_with("bridge/mtu\n    "), "{}", text(&list.stdout));
}
