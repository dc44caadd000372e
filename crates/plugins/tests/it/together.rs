//! Our plugins and others' on one node: as each other's delegates, and one after the other when a
//! node is upgraded under its pods, or back.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount_bind, mount_remount};
use serde_json::{Value, json};

use crate::harness::*;

const V4: &str = "10.1.2.0/24";
const V6: &str = "2001:db8:1::/64";
const THEIRS: &str = "/usr/lib/cni";

/// A directory with `bridge` and `host-local` of these.
fn directory(node: &Node, name: &str, host_local: &Path) -> String {
    let path = node.home.join(name);
    fs::create_dir_all(&path).unwrap();
    symlink(host_local, path.join("host-local")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A script that writes down each call and passes it on.
fn witness(node: &Node, behind: &str) -> PathBuf {
    let (file, log) = (node.home.join("witness"), node.home.join("log"));
    let text = format!("#!/bin/sh\necho $CNI_COMMAND >> {}\nexec {behind}\n", log.display());
    fs::write(&file, text).unwrap();
    testbed::sh(&format!("chmod +x {}", file.display()));
    file
}

/// ADD, CHECK, DEL, as a runtime that looks for plugins in `path`.
fn lifecycle(node: &Node, plugin: &str, path: &str) {
    let pod = node.pod("pod");
    let config = node.routed(plugin, "1.0.0", &[V4, V6], json!({}));
    let call =
        |command: &str, config: &Value| node.call(command, &pod, config).with("CNI_PATH", path);
    let result = node.run(&call("ADD", &config)).ok();
    let reserved: Vec<_> = ips(&result).iter().map(|ip| bare(ip).to_string()).collect();
    assert_eq!(node.reservations().into_keys().collect::<Vec<_>>(), reserved);
    assert_eq!(addresses(&pod.namespace, "eth0"), ips(&result));
    node.run(&call("CHECK", &after(&config, &result))).ok();
    node.run(&call("DEL", &after(&config, &result))).ok();
    assert_eq!((node.reservations().len(), links(&pod.namespace).len()), (0, 1));
}

#[test]
fn either_plugin_works_with_either_host_local() {
    testbed::isolated!();
    for by in [By::Podwire, By::Reference] {
        let node = Node::new(by);
        let ours = directory(&node, "ours", Path::new(env!("CARGO_BIN_EXE_podwire-cni")));
        for plugin in CABLED {
            lifecycle(&node, plugin, THEIRS);
            lifecycle(&node, plugin, &ours);
        }
    }
}

#[test]
fn the_file_on_the_path_is_what_is_called() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let behind = node.home.join("bin/host-local");
    for behind in [behind.to_str().unwrap(), "/usr/lib/cni/host-local"] {
        // The first directory counts, although ours is in the second.
        let first = directory(&node, "first", &witness(&node, behind));
        lifecycle(&node, "ptp", &format!("/nowhere:{first}:{}", node.home.join("bin").display()));
        assert_eq!(fs::read_to_string(node.home.join("log")).unwrap(), "ADD\nCHECK\nDEL\n");
        testbed::sh(&format!("rm -r {first} {}/log", node.home.display()));
    }
}

#[test]
fn our_own_file_is_called_without_a_process() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let ours = Path::new(env!("CARGO_BIN_EXE_podwire-cni"));
    // Beside the program, because a hard link does not leave its file system.
    let links = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("own-{}", std::process::id()));
    let (linked, copied) = (links.join("linked"), links.join("copied"));
    for directory in [&linked, &copied] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::hard_link(ours, linked.join("host-local")).unwrap();
    fs::copy(ours, copied.join("host-local")).unwrap();
    // Where nothing can be executed, only what is not executed works.
    let inert = node.home.join("inert");
    fs::create_dir_all(&inert).unwrap();
    mount_bind(&links, &inert).unwrap();
    let noexec = MountFlags::BIND | MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(&inert, noexec, "").unwrap();

    for plugin in CABLED {
        lifecycle(&node, plugin, inert.join("linked").to_str().unwrap());
    }
    let pod = node.pod("other");
    let config = node.network("1.0.0", &[V4], json!({}));
    let copy =
        node.call("ADD", &pod, &config).with("CNI_PATH", inert.join("copied").to_str().unwrap());
    let refusal = node.run(&copy).refused();
    assert!(refusal.msg.contains("Permission denied"), "{refusal:?}");
    testbed::sh(&format!("umount -l {}; rm -r {}", inert.display(), links.display()));
}

#[test]
fn a_delegate_is_told_what_we_were_told_and_its_error_is_passed_on() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        let (file, log) = (node.home.join("bin/odd"), node.home.join("log"));
        let error = r#"{"cniVersion":"1.1.0","code":11,"msg":"later <&>","details":"why"}"#;
        let text = format!(
            "#!/bin/sh\nenv | grep ^CNI_ | sort > {0}\ncat >> {0}\necho '{error}'\nexit 1\n",
            log.display()
        );
        fs::write(&file, text).unwrap();
        testbed::sh(&format!("chmod +x {}", file.display()));
        let config = node.bridged(
            "1.1.0",
            json!({ "type": plugin, "ipam": { "type": "odd" }, "unknown": [1.50, "ä"] }),
        );
        let stdin = format!("  {config}\n");
        for command in ["ADD", "CHECK", "DEL", "GC", "STATUS"] {
            let call = node.call(
                command,
                &pod,
                &merged(config.clone(), json!({ "cni.dev/valid-attachments": [] })),
            );
            let call = call
                .with("CNI_ARGS", "IgnoreUnknown=1;A=b")
                .saying(&stdin.replace("\"name\"", "\"cni.dev/valid-attachments\":[],\"name\""));
            let refusal = node.run(&call).refused();
            assert_eq!(
                (refusal.said(), refusal.details.as_str()),
                ((11, "later <&>"), "why"),
                "{command}"
            );
            let told = fs::read_to_string(&log).unwrap();
            let variables = format!(
                "CNI_ARGS=IgnoreUnknown=1;A=b\nCNI_COMMAND={command}\nCNI_CONTAINERID=pod\nCNI_IFNAME=eth0\nCNI_NETNS=/run/netns/pod\nCNI_PATH=/run/node/bin\n"
            );
            assert_eq!(told, variables + std::str::from_utf8(&call.stdin).unwrap(), "{command}");
        }
    }
}

/// A node with both in place, whose calls are made by whichever the test says.
fn node_with_both() -> (Node, impl Fn(&Node, By, &str, &Pod, &Value) -> Answer) {
    let node = Node::new(By::Reference);
    install(&node.home.join("bin"));
    let run = |node: &Node, by: By, command: &str, pod: &Pod, config: &Value| {
        let call = node.call(command, pod, config);
        node.run(&match by {
            By::Reference => call,
            By::Podwire => {
                let program = node.home.join("bin").join(config["type"].as_str().unwrap());
                let call = call.with("CNI_PATH", node.home.join("bin").to_str().unwrap());
                Call { program, ..call }
            }
        })
    };
    (node, run)
}

#[test]
fn what_one_has_made_the_other_checks_and_removes() {
    testbed::isolated!();
    for plugin in CABLED {
        for (maker, other) in [(By::Reference, By::Podwire), (By::Podwire, By::Reference)] {
            for version in ["0.4.0", "1.0.0"] {
                let (node, run) = node_with_both();
                let pod = node.pod("pod");
                let before = node.remains("cni0");
                let config = node.routed(plugin, version, &[V4, V6], json!({ "mtu": 1400 }));
                let result = run(&node, maker, "ADD", &pod, &config).ok();
                run(&node, other, "CHECK", &pod, &after(&config, &result)).ok();
                for _ in 0..2 {
                    run(&node, other, "DEL", &pod, &after(&config, &result)).ok();
                    assert_eq!(links(&pod.namespace), ["lo"]);
                    testbed::assert_same_state(&before, &node.remains("cni0"));
                }
                // And the one who made it does not mind.
                run(&node, maker, "DEL", &pod, &config).ok();
            }
        }
    }
}

#[test]
fn a_pod_of_the_reference_goes_without_its_result_and_without_its_netns() {
    testbed::isolated!();
    for plugin in CABLED {
        let (node, run) = node_with_both();
        for version in ["0.3.1", "1.0.0"] {
            let config = node.routed(plugin, version, &[V4], json!({}));
            let pod = node.pod("pod");
            run(&node, By::Reference, "ADD", &pod, &config).ok();
            run(&node, By::Podwire, "DEL", &pod, &config).ok();
            assert_eq!((node.reservations().len(), links(&pod.namespace).len()), (0, 1));

            run(&node, By::Reference, "ADD", &pod, &config).ok();
            let call = node.call("DEL", &pod, &config).without("CNI_NETNS");
            let program = node.home.join("bin").join(plugin);
            node.run(&Call { program, ..call }).ok();
            assert!(node.reservations().is_empty());
            // The cable goes with the sandbox.
            drop(pod);
            eventually("the cable goes", || host_ends(&node.namespace).is_empty().then_some(()));
        }
    }
}

#[test]
fn a_plain_bridge_of_the_reference_is_checked_and_removed() {
    testbed::isolated!();
    let (node, run) = node_with_both();
    let pod = node.pod("pod");
    let config = node.bridged("1.0.0", json!({ "hairpinMode": true }));
    let result = run(&node, By::Reference, "ADD", &pod, &config).ok();
    run(&node, By::Podwire, "CHECK", &pod, &after(&config, &result)).ok();
    run(&node, By::Podwire, "DEL", &pod, &after(&config, &result)).ok();
    assert_eq!((links(&pod.namespace).len(), ports(&node.namespace, "cni0").len()), (1, 0));
}

#[test]
fn pods_of_both_share_a_bridge_and_its_addresses() {
    testbed::isolated!();
    let (node, run) = node_with_both();
    let (old, new) = (node.pod("old"), node.pod("new"));
    let config = node.network("1.0.0", &[V4, V6], json!({ "isDefaultGateway": true }));
    let results = [
        run(&node, By::Reference, "ADD", &old, &config).ok(),
        run(&node, By::Podwire, "ADD", &new, &config).ok(),
    ];
    assert_eq!(results[0]["interfaces"][0], results[1]["interfaces"][0]);
    for (one, other) in ips(&results[0]).iter().zip(&ips(&results[1])) {
        let (a, b) = (old.namespace.netns(), new.namespace.netns());
        assert_eq!(source_seen(a, b, bare(other)), Some(bare(one)));
    }
    for (pod, result) in [&old, &new].into_iter().zip(&results) {
        for by in [By::Reference, By::Podwire] {
            run(&node, by, "CHECK", pod, &after(&config, result)).ok();
        }
    }
    run(&node, By::Podwire, "DEL", &old, &after(&config, &results[0])).ok();
    run(&node, By::Reference, "DEL", &new, &after(&config, &results[1])).ok();
    assert!(node.reservations().is_empty() && ports(&node.namespace, "cni0").is_empty());
}

#[test]
fn rules_of_the_reference_go_with_its_pod_and_those_of_other_pods_stay() {
    testbed::isolated!();
    for plugin in CABLED {
        testbed::need("iptables-nft", "iptables");
        let (node, run) = node_with_both();
        let keys = json!({ "ipMasq": true, "macspoofchk": true });
        let config = node.routed(plugin, "1.0.0", &[V4, V6], keys);
        let (one, two) = (node.pod("one"), node.pod("two"));
        for pod in [&one, &two] {
            run(&node, By::Reference, "ADD", pod, &config).ok();
        }
        let rules = |id: &str| {
            let script = "iptables-nft -t nat -S; ip6tables-nft -t nat -S; nft list table bridge nat || true";
            let told = node.namespace.sh(script);
            told.lines().filter(|line| line.contains(id)).count()
        };
        let name = |pod: &Pod| node.call("DEL", pod, &config).variables["CNI_CONTAINERID"].clone();
        // As `iptables -S` writes a comment with an id in it.
        let [first, second] = [&one, &two].map(|pod| format!("{}\\\"", name(pod)));
        let of_two = rules(&second);
        assert!(rules(&first) > 0 && of_two > 0);
        run(&node, By::Podwire, "DEL", &one, &config).ok();
        assert_eq!((rules(&first), rules(&second)), (0, of_two));
        assert_eq!(rules(&format!("macspoofchk-{}", name(&one))), 0);
        // As after a crash: neither the netns nor the result is known any more.
        let late = node.call("DEL", &two, &config).without("CNI_NETNS");
        let program = node.home.join("bin").join(plugin);
        node.run(&Call { program, ..late }).ok();
        assert_eq!((rules(&second), node.reservations().len()), (0, 0));
        assert!(!node.namespace.sh("iptables-nft -t nat -S").contains("CNI-"));
    }
}

#[test]
fn rules_of_newer_references_go_by_their_comment() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let pod = node.pod("one");
        let config = node.routed(plugin, "1.0.0", &[V4], json!({}));
        let call = node.call("DEL", &pod, &config);
        let network = config["name"].as_str().unwrap();
        let comment = cni::hash::comment(network, "eth0", &call.variables["CNI_CONTAINERID"]);
        node.namespace.sh(&format!(
        "nft -f - <<'RULES'
         add table inet cni_plugins_masquerade
         add chain inet cni_plugins_masquerade masq_checks
         add rule inet cni_plugins_masquerade masq_checks ip saddr 10.1.2.2 ip daddr != 10.1.2.0/24 masquerade comment \"{comment}\"
         add rule inet cni_plugins_masquerade masq_checks ip saddr 10.1.2.3 ip daddr != 10.1.2.0/24 masquerade comment \"another\"
RULES"
    ));
        node.run(&call).ok();
        let left = node.namespace.sh("nft list table inet cni_plugins_masquerade");
        assert!(!left.contains("10.1.2.2") && left.contains("10.1.2.3"), "{left}");
    }
}
