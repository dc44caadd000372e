//! What needs another kernel than this machine's, with devices and modules that it may lack:
//! `cargo xtask vm` runs these tests on Debian's, where nobody minds what they load.

use std::path::Path;

use serde_json::Value;
use testbed::{isolated_as_root, sh};

use crate::{assert_nothing_left, podwire};

/// Has the uplinks of a lab's nodes treat what they send as `netem` says (tc-netem(8)).
fn hamper(netem: &str) {
    for node in 1..=3 {
        sh(&format!("ip netns exec node{node} tc qdisc replace dev eth0 root netem {netem}"));
    }
}

/// A bad underlay is slow and loses packets, and breaks no promise.
#[test]
#[ignore = "needs the virtual machine"]
fn a_bad_underlay_is_not_called_broken() {
    isolated_as_root!();
    podwire("lab up --nodes 3 --pods 1 --dual-stack").expect(0);
    for netem in ["delay 300ms 50ms", "loss 3%", "duplicate 30%", "reorder 30% delay 20ms"] {
        hamper(netem);
        let run = podwire("verify lab/default --profile strict");
        assert_eq!(run.code, Some(0), "{netem}: {}", run.stdout);
    }
    podwire("lab down").expect(0);
    assert_nothing_left();
}

/// The module of a tunnel puts a device into every namespace, so that asking whether there is one must
/// not load it.
#[test]
#[ignore = "needs the virtual machine"]
fn the_doctor_leaves_no_device_anywhere() {
    isolated_as_root!();
    let is_loaded = || Path::new("/sys/module/ipip").exists();
    assert!(!is_loaded());
    let report = podwire("doctor -o json").stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    let abilities = report["abilities"].as_array().unwrap();
    for kind in ["bond", "dummy", "ifb", "ipip", "ipvlan", "vlan", "vrf", "wireguard"] {
        let ability = abilities.iter().find(|it| it["name"] == kind).unwrap();
        assert_eq!(ability["state"], "yes", "{ability}");
    }
    assert!(!is_loaded());
    assert_eq!(sh("ip -o link | wc -l").trim(), "1", "{}", sh("ip link"));
}

/// Such devices are in nobody's way, and in no picture.
#[test]
#[ignore = "needs the virtual machine"]
fn devices_that_modules_put_everywhere_are_not_shown() {
    isolated_as_root!();
    podwire("lab up --pods 2").expect(0);
    let ask = || ["lab graph", "explain pod/pod1"].map(|it| podwire(it).expect(0).stdout);
    let before = ask();
    sh("modprobe -a ipip sit ip_gre ip6_tunnel");
    assert!(sh("ip -n pod1 link").contains("tunl0"));
    assert_eq!(before, ask());
    sh("modprobe -r ipip sit ip_gre ip6_tunnel");
    podwire("lab down").expect(0);
    assert_nothing_left();
}

/// What is not followed to its end is not called well.
#[test]
#[ignore = "needs the virtual machine"]
fn what_is_encrypted_or_kept_apart_by_vlans_is_left_open() {
    isolated_as_root!();
    podwire("lab up --nodes 2 --pods 1").expect(0);
    for (make, undo) in [
        ("add wg0 type wireguard; ip -n node1 link set wg0 up", "del wg0"),
        ("set cni0 type bridge vlan_filtering 1", "set cni0 type bridge vlan_filtering 0"),
    ] {
        sh(&format!("ip -n node1 link {make}"));
        let run = podwire("explain node/node1 -o json").expect(3);
        let answer: Value = serde_json::from_str(&run.stdout).unwrap();
        let found = answer["findings"].as_array().unwrap();
        assert!(found.iter().any(|it| it["code"] == "unreadable"), "{make}: {found:?}");
        sh(&format!("ip -n node1 link {undo}"));
        podwire("explain node/node1").expect(0);
    }
    podwire("lab down").expect(0);
    assert_nothing_left();
}
