//! Nodes, sandboxes and delegates as they are found outside of tests.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::*;

const V4: &str = "10.1.2.0/24";
const V6: &str = "2001:db8:1::/64";

#[test]
fn a_sandbox_may_be_the_namespace_of_a_process() {
    testbed::isolated!();
    for plugin in CABLED {
        for by in [By::Podwire, By::Reference] {
            let node = Node::new(by);
            let pod = node.pod("pod");
            #[expect(clippy::disallowed_methods, reason = "tests start processes")]
            let mut sleep = Command::new("sleep");
            let mut sandbox =
                pod.namespace.netns().spawn(sleep.arg("60").stdin(Stdio::null())).unwrap();
            let path = format!("/proc/{}/ns/net", sandbox.id());
            let config = node.routed(plugin, "1.0.0", &[V4, V6], json!({}));
            let call = |command: &str, config: &Value| {
                node.run(&node.call(command, &pod, config).with("CNI_NETNS", &path))
            };
            let result = call("ADD", &config).ok();
            assert_eq!(result["interfaces"].as_array().unwrap().last().unwrap()["sandbox"], path);
            assert_eq!(addresses(&pod.namespace, "eth0"), ips(&result));
            call("CHECK", &after(&config, &result)).ok();
            call("DEL", &after(&config, &result)).ok();
            assert_eq!(links(&pod.namespace), ["lo"]);
            sandbox.kill().unwrap();
            sandbox.wait().unwrap();
            // The process is gone, and its number may soon be somebody else's.
            call("DEL", &config).ok();
        }
    }
}

#[test]
fn nothing_holds_the_sandbox_when_del_has_answered() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        for turn in 0..5 {
            let pod = node.pod("pod");
            let config = node.routed(plugin, "1.1.0", &[V4], json!({ "ipMasq": true }));
            let result = node.add(&pod, &config);
            // A runtime's way: bind, add, del, and a plain umount, which fails for a busy mount.
            let path = node.home.join("sandbox");
            pod.namespace.netns().bind_to(&path).unwrap();
            let call = node.call("DEL", &pod, &after(&config, &result));
            node.run(&call.with("CNI_NETNS", path.to_str().unwrap())).ok();
            testbed::sh(&format!("umount {0} && rm {0}", path.display()));
            assert_eq!(host_ends(&node.namespace), [""; 0], "{turn}");
        }
    }
}

#[test]
fn del_can_wait_until_the_kernel_has_finished() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        let keys = json!({ "ipMasq": true, "macspoofchk": true, "delWaits": true });
        let config = node.routed(plugin, "1.1.0", &[V4], keys);
        let result = node.add(&pod, &config);
        for config in [after(&config, &result), config] {
            node.del(&pod, &config);
            assert_eq!(links(&pod.namespace), ["lo"]);
            assert!(!node.namespace.sh("nft list ruleset").contains("id: pod"));
        }
    }
}

#[test]
fn a_node_without_ipv6_has_ipv4_pods() {
    testbed::isolated!();
    for plugin in CABLED {
        for by in [By::Podwire, By::Reference] {
            let node = Node::new(by);
            let pod = node.pod("pod");
            for space in [&node.namespace, &pod.namespace] {
                space.sh(
                "for c in all default; do echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done",
            );
            }
            let config = node.routed(plugin, "1.0.0", &[V4], json!({}));
            let result = node.add(&pod, &config);
            let seen = source_seen(pod.namespace.netns(), node.namespace.netns(), bare("10.1.2.1"));
            assert_eq!(seen, Some(bare(&ips(&result)[0])));
            // It stays switched off.
            assert_eq!(sysctl(&pod.namespace, "net/ipv6/conf/eth0/disable_ipv6"), "1");
            node.del(&pod, &config);
        }
    }
}

#[test]
fn settings_that_cannot_be_written_matter_only_if_they_are_wrong() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        node.namespace.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        testbed::sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
        let config = node.routed(plugin, "1.1.0", &[V4], json!({ "ipMasq": true }));
        let result = node.add(&pod, &config);
        node.check(&pod, &config, &result);
        node.del(&pod, &config);
        let before = node.reservations();
        let v6 = node.routed(plugin, "1.1.0", &[V6], json!({}));
        let refusal = node.run(&node.call("ADD", &pod, &v6)).refused();
        assert!(refusal.msg.contains("net/ipv6/conf/"), "{refusal:?}");
        assert!(refusal.msg.contains("read-only file system"), "{refusal:?}");
        assert_eq!((links(&pod.namespace).len(), node.reservations()), (1, before));
        testbed::sh("umount /proc/sys");
    }
}

/// Puts an IPAM plugin into place that gives these members of a result.
fn giver(node: &Node, members: &Value) -> Value {
    let file = node.home.join("bin/giver");
    let result = merged(json!({ "cniVersion": "1.1.0" }), members.clone());
    fs::write(&file, format!("#!/bin/sh\n[ $CNI_COMMAND = ADD ] && echo '{result}'\nexit 0\n"))
        .unwrap();
    testbed::sh(&format!("chmod +x {}", file.display()));
    json!({ "ipam": { "type": "giver" } })
}

#[test]
fn a_gateway_that_ipam_does_not_name_is_the_first_address() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let given = json!({ "ips": [
        { "address": "10.1.2.9/25" },
        { "address": "2001:db8:1::9/64", "interface": 0 },
    ] });
    let keys = merged(giver(&node, &given), json!({ "isDefaultGateway": true }));
    let config = node.bridged("1.1.0", keys);
    let result = node.add(&pod, &config);
    assert_eq!(
        result["ips"],
        json!([
            { "address": "10.1.2.9/25", "gateway": "10.1.2.1", "interface": 2 },
            { "address": "2001:db8:1::9/64", "gateway": "2001:db8:1::1", "interface": 2 },
        ])
    );
    assert_eq!(addresses(&node.namespace, "cni0"), ["10.1.2.1/25", "2001:db8:1::1/64"]);
    node.check(&pod, &config, &result);
    // Without a gateway, none is made up.
    node.del(&pod, &config);
    let config = node.bridged("1.1.0", giver(&node, &given));
    assert_eq!(node.add(&pod, &config)["ips"][0]["gateway"], Value::Null);
}

#[test]
fn a_pod_may_have_a_host_address() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let given = json!({
        "ips": [{ "address": "10.1.2.9/32", "gateway": "10.1.2.1" }],
        "routes": [{ "dst": "10.1.2.1/32", "scope": 253 }, { "dst": "0.0.0.0/0", "gw": "10.1.2.1" }],
    });
    let config = node.bridged("1.1.0", merged(giver(&node, &given), json!({ "isGateway": true })));
    let result = node.add(&pod, &config);
    assert_eq!(addresses(&node.namespace, "cni0"), ["10.1.2.1/32"]);
    assert_eq!(
        routes(&pod.namespace, "main"),
        ["10.1.2.1 dev eth0 scope link", "default via 10.1.2.1 dev eth0"]
    );
    node.check(&pod, &config, &result);
    node.namespace.sh("ip route add 10.1.2.9 dev cni0");
    let seen = source_seen(pod.namespace.netns(), node.namespace.netns(), bare("10.1.2.1"));
    assert_eq!(seen, Some(bare("10.1.2.9")));
}

#[test]
fn a_gateway_may_be_link_local() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let (one, two) = (node.pod("one"), node.pod("two"));
    let ranges = json!([[{ "subnet": V6, "gateway": "fe80::1" }]]);
    let keys = json!({ "isDefaultGateway": true, "ipam": { "ranges": ranges } });
    let config = node.network("1.1.0", &[V6], keys);
    for pod in [&one, &two] {
        let result = node.add(pod, &config);
        assert_eq!(
            routes(&pod.namespace, "main"),
            ["default via fe80::1 dev eth0 metric 1024 pref medium"]
        );
        node.check(pod, &config, &result);
    }
    assert!(node.namespace.sh("ip -6 address show dev cni0").contains("fe80::1/64"));
}

#[test]
fn names_that_are_too_long_for_a_file_are_refused() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let long = "n".repeat(300);
    let config = node.network("1.1.0", &[V4], json!({ "name": long, "isGateway": true }));
    let refusal = node.run(&node.call("ADD", &pod, &config)).refused();
    assert!(refusal.msg.ends_with("file name too long"), "{refusal:?}");
    assert_eq!((links(&pod.namespace).len(), links(&node.namespace).len()), (1, 1));
    // What could not be added can be deleted.
    let del = node.run(&node.call("DEL", &pod, &config));
    assert!(del.is_ok(), "{del:?}");
}

#[test]
fn an_answer_that_nobody_reads_is_a_failure() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let call = node.call("ADD", &pod, &node.bridged("1.1.0", json!({})));
    #[expect(clippy::disallowed_methods, reason = "tests start processes")]
    let mut command = Command::new(&call.program);
    command.env_clear().envs(&call.variables).stdin(Stdio::piped());
    command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    let mut child = node.namespace.netns().spawn(&mut command).unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &call.stdin).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    node.del(&pod, &node.bridged("1.1.0", json!({})));
    assert_eq!(links(&pod.namespace), ["lo"]);
}
