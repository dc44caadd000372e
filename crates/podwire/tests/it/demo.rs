//! `podwire demo`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use testbed::{directory, isolated, need, sh};

use crate::{Run, assert_nothing_left, names, podwire, write_plugin};

#[test]
fn the_demo_keeps_its_promises_and_leaves_nothing() {
    isolated!();
    for (flags, packets) in [
        ("", 10),
        ("--plain", 2),
        ("--nodes 1 --pods 5 --dual-stack", 60),
        ("--nodes 3 --pods 1 --backend gpe --routed --dual-stack", 48),
    ] {
        let demo = podwire(&format!("demo {flags}")).expect(0);
        assert!(
            demo.stdout.contains(&format!("no NAT ({packets} of {packets})")),
            "{}",
            demo.stdout
        );
        assert!(demo.stdout.contains("The machine is as before"), "{}", demo.stdout);
        assert_nothing_left();
    }
}

#[test]
fn the_demo_makes_room_for_namespaces_that_are_there() {
    isolated!();
    sh("ip netns add pod1");
    let demo = podwire("demo").expect(0);
    assert!(demo.stdout.contains("-pod2"), "{}", demo.stdout);
    assert_eq!(names("/run/netns"), ["pod1"]);
    sh("ip netns delete pod1");
    assert_nothing_left();
}

#[test]
fn a_broken_network_fails_the_demo() {
    isolated!();
    // A bridge plugin that also has the node take one pod for somebody else.
    let plugins = directory();
    let own = plugins.path().join("own");
    fs::create_dir(&own).unwrap();
    for link in
        ["loopback", "host-local", "portmap", "own/bridge"].map(|name| plugins.path().join(name))
    {
        symlink(env!("CARGO_BIN_EXE_podwire"), link).unwrap();
    }
    let script = format!(
        "#!/bin/sh
         nft 'add table ip forge
              add chain ip forge input {{ type nat hook input priority 100; }}
              flush chain ip forge input
              add rule ip forge input ip saddr 10.244.1.2 snat to 10.244.1.99'
         exec {}/bridge\n",
        own.display()
    );
    write_plugin(&plugins.path().join("bridge"), &script);
    let demo = podwire(&format!("demo --plugin-dir {}", plugins.path().display())).expect(1);
    assert!(
        demo.stdout.contains("sent from 10.244.1.2, but seen as from 10.244.1.99"),
        "{}",
        demo.stdout
    );
    assert!(demo.stdout.contains("The machine is as before"), "{}", demo.stdout);
    assert_nothing_left();
}

/// The only test here that starts on the host: what it runs there is what must not touch it.
#[test]
fn an_ordinary_user_sees_the_demo() {
    let directory = directory();
    let podwire = directory.path().join("podwire");
    fs::copy(env!("CARGO_BIN_EXE_podwire"), &podwire).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let before = names("/run/netns");
    let mut command = Command::new(need("setpriv", "util-linux"));
    // Root becomes nobody; anybody else is an ordinary user already.
    if sh("id -u").trim() == "0" {
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    }
    let output = command.arg(&podwire).arg("demo").output().unwrap();
    let run = Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    let run = run.expect(0);
    assert!(run.stdout.contains("no NAT (10 of 10)"), "{}", run.stdout);
    assert_eq!(names("/run/netns"), before);
}
