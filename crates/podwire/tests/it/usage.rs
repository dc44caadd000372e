//! Exit codes, messages and names.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::process::Command;

use testbed::{directory, isolated};

use crate::{command, finish, podwire};

#[test]
fn wrong_use_is_2_and_says_what_is_right() {
    for (arguments, hint) in [
        ("lab up Blue", "lower-case letters"),
        ("lab up --pods 0", "1 to 253 pods"),
        ("lab up --pods 254", "1 to 253 pods"),
        ("demo --pods 17", "neighbour table"),
        ("lab up --plain --pods 2", "cannot be used with"),
        ("lab up -o sh", "add --dry-run"),
        ("lab up --dns", "add --nodes 2"),
        ("lab up --plugin-dir /no/such/directory", "is not a directory of plugins"),
        ("lab exec pod/pod1", "required"),
        ("no-such-command", "unrecognized"),
    ] {
        let run = podwire(arguments).expect(2);
        assert!(run.stderr.contains(hint), "{arguments}: {}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn answers_go_to_standard_output() {
    assert!(podwire("version").expect(0).stdout.starts_with("podwire "));
    assert!(podwire("--help").expect(0).stdout.contains("Exit codes"));
    assert!(podwire("completion bash").expect(0).stdout.contains("_podwire"));
    assert_eq!(podwire("lab ls --no-headers").stderr, "");
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let mut completion = command("completion bash");
    completion.stdout(File::create("/dev/full").unwrap());
    let run = finish(completion.spawn().unwrap()).expect(3);
    assert!(run.stderr.contains("No space left on device"), "{}", run.stderr);
}

#[test]
fn flags_can_be_given_by_the_environment() {
    let mut up = command("lab up --dry-run");
    up.env("PODWIRE_LAB_PODS", "7");
    let run = finish(up.spawn().unwrap()).expect(0);
    assert!(run.stdout.contains("pod7"), "{}", run.stdout);
}

#[test]
fn pictures_are_ascii_where_nothing_else_is_understood() {
    isolated!();
    for (variable, value) in [("LANG", "C"), ("PODWIRE_ASCII", "true")] {
        let mut up = command("lab up --plain");
        up.env(variable, value);
        let run = finish(up.spawn().unwrap()).expect(0);
        assert!(run.stdout.is_ascii(), "{}", run.stdout);
        podwire("lab down").expect(0);
    }
}

#[test]
fn by_a_plugins_name_it_is_that_plugin() {
    let directory = directory();
    let bridge = directory.path().join("bridge");
    symlink(env!("CARGO_BIN_EXE_podwire"), &bridge).unwrap();
    let mut plugin = Command::new(&bridge);
    plugin.env("CNI_COMMAND", "VERSION");
    let output = plugin.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("supportedVersions"));
}
