//! GC and STATUS, which the reference's version lacks.

use serde_json::{Value, json};

use crate::harness::*;

const SUBNETS: [&str; 2] = ["10.1.2.0/24", "2001:db8:1::/64"];

/// Two living pods, one whose sandbox died without DEL, and a network that guards and masquerades.
struct Village {
    node: Node,
    config: Value,
    one: Pod,
    two: Pod,
}

impl Village {
    fn new(plugin: &str) -> Self {
        let node = Node::new(By::Podwire);
        let keys = json!({ "ipMasq": true, "macspoofchk": true });
        let config = node.routed(plugin, "1.1.0", &SUBNETS, keys);
        let (one, two) = (node.pod("one"), node.pod("two"));
        for pod in [&one, &two] {
            node.add(pod, &config);
        }
        let doomed = node.pod("doomed");
        node.add(&doomed, &config);
        drop(doomed);
        eventually("the cable goes with the sandbox", || {
            (host_ends(&node.namespace).len() == 2).then_some(())
        });
        Self { node, config, one, two }
    }

    /// GC with these further members of the configuration.
    fn gc(&self, keys: Value) -> Answer {
        self.node.run(&self.node.call_about_all("GC", &merged(self.config.clone(), keys)))
    }

    /// Who still has a reservation, and who a rule.
    fn known(&self) -> (Vec<String>, Vec<String>) {
        let name = |holder: &String| holder.split('\r').next().unwrap().to_owned();
        let mut holders: Vec<_> = self.node.reservations().values().map(name).collect();
        holders.sort();
        holders.dedup();
        let rules = self.node.namespace.sh("nft list ruleset");
        let named = |id: &&str| rules.contains(&format!("id: {id}\""));
        let ruled =
            ["doomed", "one", "two"].iter().filter(|id| named(id)).map(|id| (*id).to_owned());
        (holders, ruled.collect())
    }

    #[track_caller]
    fn knows(&self, names: &[&str]) {
        let (holders, ruled) = self.known();
        assert_eq!((holders, ruled), (texts(names), texts(names)));
    }
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn attachment(id: &str) -> Value {
    json!({ "containerID": id, "ifname": "eth0" })
}

#[test]
fn without_a_list_nothing_is_known_and_nothing_changes() {
    testbed::isolated!();
    for plugin in CABLED {
        let village = Village::new(plugin);
        let before = village.node.state();
        assert_eq!(village.gc(json!({})).ok(), Value::Null);
        testbed::assert_same_state(&before, &village.node.state());
    }
}

#[test]
fn what_is_dead_and_not_listed_goes() {
    testbed::isolated!();
    for plugin in CABLED {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let village = Village::new(plugin);
            village.knows(&["doomed", "one", "two"]);
            let valid =
                json!({ key: [attachment("one"), attachment("two"), attachment("doomed")] });
            assert_eq!(village.gc(valid).ok(), Value::Null);
            village.knows(&["doomed", "one", "two"]);
            for _ in 0..2 {
                let valid =
                    json!({ key: [attachment("one"), attachment("two"), attachment("elsewhere")] });
                let answer = village.gc(valid);
                assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""));
                assert!(answer.is_ok());
                village.knows(&["one", "two"]);
            }
        }
    }
}

#[test]
fn what_lives_is_spared_and_reported() {
    testbed::isolated!();
    for plugin in CABLED {
        for list in [
            Value::Null,
            json!([]),
            json!([attachment("one")]),
            json!([{ "containerID": "two", "ifname": "eth1" }]),
        ] {
            let village = Village::new(plugin);
            let has_one = list == json!([attachment("one")]);
            let answer = village.gc(json!({ "cni.dev/valid-attachments": list }));
            assert!(answer.is_ok() && answer.stdout.is_empty(), "{answer:?}");
            let told = |id: &str| answer.stderr.contains(&format!("id: {id}"));
            assert_eq!(
                (told("one"), told("two"), told("doomed")),
                (!has_one, true, false),
                "{answer:?}"
            );
            village.knows(&["one", "two"]);
            for pod in [&village.one, &village.two] {
                village.node.del(pod, &village.config);
            }
            village.knows(&[]);
        }
    }
}

#[test]
fn only_the_network_s_own_is_collected() {
    testbed::isolated!();
    for plugin in CABLED {
        let village = Village::new(plugin);
        let others = merged(village.config.clone(), json!({ "name": "others" }));
        let gc = merged(others, json!({ "cni.dev/valid-attachments": [] }));
        village.node.run(&village.node.call_about_all("GC", &gc)).ok();
        village.knows(&["doomed", "one", "two"]);
    }
}

#[test]
fn a_list_that_cannot_be_read_is_refused_and_changes_nothing() {
    testbed::isolated!();
    for plugin in CABLED {
        let village = Village::new(plugin);
        let refused = village.gc(json!({ "cni.dev/valid-attachments": "all" })).refused();
        let text = r#"failed to load netconf: cni.dev/valid-attachments: invalid value "all": expected a list"#;
        assert_eq!(refused.said(), (999, text));
        village.knows(&["doomed", "one", "two"]);
    }
}

#[test]
fn gc_and_status_are_of_version_1_1_0() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    for name in plugins::NAMES {
        for version in ["0.1.0", "0.4.0", "1.0.0"] {
            for command in ["GC", "STATUS"] {
                let config = json!({ "cniVersion": version, "name": "n", "type": name });
                let refused = node.run(&node.call_about_all(command, &config)).refused();
                let text = format!("config version does not allow {command}");
                assert_eq!(refused.said(), (1, text.as_str()));
            }
        }
    }
}

#[test]
fn gc_collects_for_host_local_called_by_itself_and_for_loopback_nothing() {
    testbed::isolated!();
    let village = Village::new("bridge");
    let valid = json!({ "cni.dev/valid-attachments": [attachment("one"), attachment("two")] });
    let loopback = merged(village.config.clone(), json!({ "type": "loopback" }));
    village.node.run(&village.node.call_about_all("GC", &merged(loopback, valid.clone()))).ok();
    assert_eq!(village.known().0, ["doomed", "one", "two"]);
    let host_local = merged(village.config.clone(), json!({ "type": "host-local" }));
    village.node.run(&village.node.call_about_all("GC", &merged(host_local, valid))).ok();
    assert_eq!(village.known().0, ["one", "two"]);
}

/// Puts an IPAM plugin of somebody else's into place, which writes down what it is asked.
fn odd_ipam(node: &Node, answer: &str) -> String {
    let (file, log) = (node.home.join("bin/odd"), node.home.join("log"));
    let (file, log) = (file.to_str().unwrap(), log.to_str().unwrap());
    std::fs::write(
        file,
        format!("#!/bin/sh\necho $CNI_COMMAND >> {log}\ncat >> {log}\n{answer}\n"),
    )
    .unwrap();
    testbed::sh(&format!("chmod +x {file}; : > {log}"));
    log.to_owned()
}

#[test]
fn gc_and_status_are_passed_on_to_any_ipam_plugin() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let log = odd_ipam(&node, "exit 0");
        let config = node.bridged(
            "1.1.0",
            json!({ "type": plugin, "ipam": { "type": "odd" }, "cni.dev/valid-attachments": [] }),
        );
        for command in ["GC", "STATUS"] {
            node.run(&node.call_about_all(command, &config)).ok();
            assert_eq!(std::fs::read_to_string(&log).unwrap(), format!("{command}\n{config}"));
            odd_ipam(&node, "exit 0");
        }
        odd_ipam(
            &node,
            "echo '{\"code\": 51, \"msg\": \"half dead\", \"details\": \"d\"}'; exit 1",
        );
        for command in ["GC", "STATUS"] {
            let refused = node.run(&node.call_about_all(command, &config)).refused();
            assert_eq!((refused.said(), refused.details.as_str()), ((51, "half dead"), "d"));
        }
        // A list that is not known is not passed on, because the other one may take it for an empty one.
        let unknown = node.bridged("1.1.0", json!({ "type": plugin, "ipam": { "type": "odd" } }));
        node.run(&node.call_about_all("GC", &unknown)).ok();
    }
}

#[test]
fn status_says_whether_the_next_add_could_be_served() {
    testbed::isolated!();
    for plugin in CABLED {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        let status = |config: &Value| node.run(&node.call_about_all("STATUS", config));
        let config = node.routed(plugin, "1.1.0", &["10.1.2.0/30"], json!({}));
        assert_eq!(status(&config).ok(), Value::Null);
        assert!(!node.data().exists(), "to ask changes nothing");
        node.add(&pod, &config);
        let refused = status(&config).refused();
        let text = "no IP addresses available in range set: 10.1.2.1-10.1.2.2";
        assert_eq!(refused.said(), (50, text));
        assert!(refused.details.contains("widen the range"), "{refused:?}");
        node.del(&pod, &config);
        status(&config).ok();

        let nowhere = merged(config.clone(), json!({ "ipam": { "dataDir": "/proc/version" } }));
        let refused = status(&nowhere).refused();
        assert_eq!(refused.said(), (50, "open /proc/version: not a directory"));
        let nobody = merged(config, json!({ "ipam": { "type": "nobody" } }));
        let refused = status(&nobody).refused();
        assert_eq!(
            refused.said(),
            (999, "failed to find plugin \"nobody\" in path [/run/node/bin]")
        );
        for plain in [
            node.bridged("1.1.0", json!({})),
            json!({ "cniVersion": "1.1.0", "name": "lo", "type": "loopback" }),
        ] {
            assert_eq!(status(&plain).ok(), Value::Null);
        }
    }
}

#[test]
fn status_notices_a_configuration_that_add_would_refuse() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let mtu = "failed to load netconf: mtu: invalid value 1: must be 68 to 65535, or 0 for the kernel's choice";
    for (plugin, keys, msg) in [
        (
            "bridge",
            json!({ "hairpinMode": true, "promiscMode": true }),
            "cannot set hairpin mode and promiscuous mode at the same time",
        ),
        ("bridge", json!({ "mtu": 1 }), mtu),
        ("bridge", json!({ "ipam": { "ranges": [] } }), "no IP ranges specified"),
        ("ptp", json!({ "mtu": 1 }), mtu),
        ("ptp", json!({ "ipMasqBackend": "x" }), "unknown ipmasq backend \"x\""),
        ("ptp", json!({ "ipam": { "ranges": [] } }), "no IP ranges specified"),
        (
            "static",
            json!({ "ipam": { "addresses": [{ "address": "10.1.2.3" }] } }),
            "the 'address' field is expected to be in CIDR notation, got: '10.1.2.3'",
        ),
    ] {
        let config = node.routed(plugin, "1.1.0", &["10.1.2.0/24"], keys);
        let refused = node.run(&node.call_about_all("STATUS", &config)).refused();
        assert_eq!(refused.said(), (999, msg));
    }
}

#[test]
fn every_plugin_refuses_a_list_that_cannot_be_read() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    for name in plugins::NAMES {
        let config = json!({ "cniVersion": "1.1.0", "name": "n", "type": name,
            "cni.dev/valid-attachments": [{ "containerID": 5 }] });
        let refused = node.run(&node.call_about_all("GC", &config)).refused();
        let text = "failed to load netconf: cni.dev/valid-attachments[0].containerID: invalid value 5: expected a string";
        assert_eq!(refused.said(), (999, text), "{name}");
    }
}

#[test]
fn a_network_of_written_down_addresses_is_well_and_has_nothing_to_collect() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let addresses = json!([{ "address": "10.1.2.9/24", "gateway": "10.1.2.1" }]);
    let ipam = json!({ "type": "static", "addresses": addresses });
    for plugin in ["static", "ptp", "bridge"] {
        let keys = json!({ "type": plugin, "ipam": ipam, "cni.dev/valid-attachments": [] });
        let config = node.bridged("1.1.0", keys);
        for command in ["GC", "STATUS"] {
            let answer = node.run(&node.call_about_all(command, &config)).ok();
            assert_eq!(answer, Value::Null, "{plugin} {command}");
        }
    }
}
