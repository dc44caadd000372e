//! The scripts of `--dry-run -o sh` do what podwire does.

use testbed::{isolated, sh};

use crate::{assert_nothing_left, names, podwire};

#[test]
fn scripts_make_the_same_network() {
    isolated!();
    for flags in [
        "--plain",
        "--pods 2",
        "--pods 2 --dual-stack",
        "blue --pods 1",
        "--nodes 2 --pods 1 --dual-stack",
        "--nodes 3 --pods 1 --backend host-gw --routed",
        "--nodes 2 --pods 1 --backend gpe --agents --dns",
    ] {
        let name = if flags.starts_with("blue") { "blue" } else { "" };
        podwire(&format!("lab up {flags}")).expect(0);
        let made = network();
        podwire(&format!("lab down {name}")).expect(0);
        assert_nothing_left();

        let script = podwire(&format!("lab up {flags} --dry-run -o sh")).expect(0).stdout;
        assert_nothing_left();
        sh(&script);
        let typed = network();
        assert_eq!(made, typed, "{script}");

        // The script says at its end how to take it down.
        let (_, down) = script.split_once("# To take it down again:\n").unwrap();
        sh(&down.replace("#  ", ""));
        sh("rmdir /run/podwire/lab /run/podwire 2>/dev/null || true");
        assert_nothing_left();
    }
}

#[test]
fn what_a_script_made_says_how_it_is_taken_down() {
    isolated!();
    sh(&podwire("lab up s1 --pods 1 --dry-run -o sh").expect(0).stdout);
    assert!(podwire("lab ls").expect(0).stdout.contains("s1    script"));
    for arguments in ["up", "status", "down"] {
        let refused = podwire(&format!("lab {arguments} s1")).expect(1);
        assert!(refused.stderr.contains("was made by a script"), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("ip netns delete s1-pod1; ip netns delete s1-node1; rm -r"),
            "{}",
            refused.stderr
        );
    }
    sh("sh /run/podwire/lab/s1/down.sh");
    podwire("lab down s1").expect(4);
    assert_nothing_left();
}

#[test]
fn the_script_of_down_takes_a_lab_down() {
    isolated!();
    for flags in ["--plain", "--pods 2", "--nodes 2 --pods 1 --agents"] {
        podwire(&format!("lab up {flags}")).expect(0);
        let script = podwire("lab down --dry-run -o sh").expect(0).stdout;
        podwire("lab status").expect(0);
        sh(&script);
        sh("rmdir /run/podwire/lab /run/podwire");
        assert_nothing_left();
        podwire("lab down").expect(4);
    }
}

/// All of the network as the system's own tools show it, without what is chosen at random (hardware
/// addresses) and what settles after the fact (carriers, link-local addresses).
fn network() -> String {
    let show = |name: String| {
        sh(&format!(
            "echo == {name}
             ip -n {name} -o address show scope global
             ip -n {name} -d -o link show | sed -E '
                 s/link-netns [^ ]+|link.ether [^ ]+|(bridge|designated)_[a-z]+ [^ ]+|state [A-Z]+//g
                 s/[a-z_]+_timer +[0-9.]+|,LOWER_UP|NO-CARRIER,|M-DOWN|state [a-z]+//g'
             ip -n {name} route
             ip -n {name} -6 route | grep -v fe80 || true
             ip netns exec {name} nft list ruleset
             ip netns exec {name} sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding"
        ))
    };
    names("/run/netns").into_iter().map(show).collect()
}
