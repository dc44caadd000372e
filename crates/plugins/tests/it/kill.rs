//! A plugin can be killed at any moment: by a runtime that lost its patience, or with its node's
//! memory. The next DEL cleans up, and the next ADD finds the address free.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::*;

/// How many moments of a run are tried.
const MOMENTS: u32 = 24;

struct Victim {
    node: Node,
    pod: Pod,
    config: Value,
    clean: String,
    /// How long ADD and DEL take here and now, undisturbed.
    add_takes: Duration,
    del_takes: Duration,
}

impl Victim {
    /// A network with one address, so that a reservation that stays is noticed.
    fn new(plugin: &str, version: &str) -> Self {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        let keys = json!({ "ipMasq": true, "macspoofchk": true });
        let subnets = ["10.1.2.0/30", "2001:db8:1::/126"];
        let config = node.routed(plugin, version, &subnets, keys);
        // The first one makes what stays for all.
        node.add(&pod, &config);
        node.del(&pod, &config);
        let time = |command: &str| {
            let start = Instant::now();
            node.run(&node.call(command, &pod, &config)).ok();
            start.elapsed()
        };
        let (add_takes, del_takes) = (time("ADD"), time("DEL"));
        let clean = glance(&node, &pod);
        Self { node, pod, config, clean, add_takes, del_takes }
    }

    /// Kills a call after each part of the time that it takes, and has `then` look at the rest.
    fn kill(&self, command: &str, takes: Duration, mut then: impl FnMut(&str)) {
        let call = self.node.call(command, &self.pod, &self.config);
        for moment in 0..MOMENTS {
            if command == "DEL" {
                self.node.add(&self.pod, &self.config);
            }
            let after = takes * moment / (MOMENTS - 4);
            let mut running = self.node.start(&call);
            // Not a wait for anything: the moment is what is tested.
            std::thread::sleep(after);
            running.kill();
            running.wait();
            then(&format!("{command} killed after {after:?} of {takes:?}"));
        }
    }

    fn is_clean(&self, when: &str) {
        let now = glance(&self.node, &self.pod);
        assert_eq!(now, self.clean, "{when}");
    }
}

/// What a call changes: links, addresses, rules, and the reservations that name somebody. An empty
/// file is as good as none to the next ADD, as its success shows.
fn glance(node: &Node, pod: &Pod) -> String {
    let ends = host_ends(&node.namespace).join(" ");
    let routes = routes(&node.namespace, "main").join("\n");
    let inside = links(&pod.namespace).join(" ");
    let rules = node.namespace.sh("nft list ruleset");
    let mut held = node.reservations();
    held.retain(|_, holder| !holder.is_empty());
    format!("{ends}\n{routes}\n{inside}\n{rules}\n{held:?}")
}

#[test]
fn del_cleans_up_after_an_add_that_was_killed() {
    testbed::isolated!();
    for plugin in CABLED {
        let it = Victim::new(plugin, "1.1.0");
        it.kill("ADD", it.add_takes, |when| {
            it.node.del(&it.pod, &it.config);
            it.is_clean(when);
        });
        let result = it.node.add(&it.pod, &it.config);
        it.node.check(&it.pod, &it.config, &result);
    }
}

#[test]
fn the_same_attachment_can_be_added_after_an_add_that_was_killed() {
    testbed::isolated!();
    for plugin in CABLED {
        let it = Victim::new(plugin, "1.1.0");
        it.kill("ADD", it.add_takes, |_| {
            it.node.del(&it.pod, &it.config);
            let result = it.node.add(&it.pod, &it.config);
            it.node.check(&it.pod, &it.config, &result);
            it.node.del(&it.pod, &it.config);
        });
    }
}

#[test]
fn del_without_the_netns_cleans_up_after_an_add_that_was_killed() {
    testbed::isolated!();
    for plugin in CABLED {
        let it = Victim::new(plugin, "0.3.1");
        let del = it.node.call("DEL", &it.pod, &it.config).without("CNI_NETNS");
        it.kill("ADD", it.add_takes, |when| {
            it.node.run(&del).ok();
            it.is_clean(when);
        });
    }
}

#[test]
fn a_second_del_finishes_what_a_killed_one_began() {
    testbed::isolated!();
    for plugin in CABLED {
        let it = Victim::new(plugin, "1.1.0");
        it.kill("DEL", it.del_takes, |when| {
            it.node.del(&it.pod, &it.config);
            it.is_clean(when);
        });
    }
}

#[test]
fn another_pod_takes_the_address_after_a_killed_add_and_its_del() {
    testbed::isolated!();
    for plugin in CABLED {
        let it = Victim::new(plugin, "1.1.0");
        let other = it.node.pod("other");
        it.kill("ADD", it.add_takes, |_| {
            it.node.del(&it.pod, &it.config);
            let result = it.node.add(&other, &it.config);
            it.node.check(&other, &it.config, &result);
            // The late DEL of the first one does not take the second one's rules.
            it.node.del(&it.pod, &after(&it.config, &result));
            it.node.check(&other, &it.config, &result);
            it.node.del(&other, &it.config);
        });
    }
}

#[test]
fn without_del_the_sandbox_takes_its_link_along_and_gc_does_the_rest() {
    testbed::isolated!();
    for plugin in CABLED {
        let it = Victim::new(plugin, "1.1.0");
        let gc = merged(it.config.clone(), json!({ "cni.dev/valid-attachments": [] }));
        for moment in 0..MOMENTS / 2 {
            let pod = it.node.pod("doomed");
            let mut running = it.node.start(&it.node.call("ADD", &pod, &it.config));
            std::thread::sleep(it.add_takes * moment / (MOMENTS / 2 - 2));
            running.kill();
            running.wait();
            drop(pod);
            eventually("the cable goes with the sandbox", || {
                host_ends(&it.node.namespace).is_empty().then_some(())
            });
            it.node.run(&it.node.call_about_all("GC", &gc)).ok();
            it.is_clean("collected");
        }
    }
}
