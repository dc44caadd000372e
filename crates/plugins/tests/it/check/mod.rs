//! CHECK: passes as long as all is as ADD left it, and otherwise says what is not.

mod bridge;
mod ptp;

use serde_json::Value;

use crate::harness::*;

/// What happens after ADD, in the node and in the pod, and what CHECK says then.
struct Damage {
    node: &'static str,
    pod: &'static str,
    said: &'static str,
}

const fn in_pod(pod: &'static str, said: &'static str) -> Damage {
    Damage { node: "true", pod, said }
}

const fn in_node(node: &'static str, said: &'static str) -> Damage {
    Damage { node, pod: "true", said }
}

/// The configuration of a network with much that can be damaged, in which the kinds of damage are
/// for a pod with the first addresses.
type Guarded = fn(&Node) -> Value;

const BOTH: [Guarded; 2] = [bridge::guarded, ptp::guarded];

/// CHECK finds each damage and says so. `VETH` stands for the host's end.
fn damage_is_named(damages: &[Damage], guarded: Guarded) {
    for Damage { node: in_node, pod: in_pod, said } in damages {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        let config = guarded(&node);
        let result = node.add(&pod, &config);
        node.check(&pod, &config, &result);
        let veth = host_end(&result);
        node.namespace.sh(&in_node.replace("VETH", veth));
        pod.namespace.sh(in_pod);
        let call = node.call("CHECK", &pod, &after(&config, &result));
        let refusal = node.run(&call).refused();
        assert!(
            refusal.code == 999 && refusal.msg.starts_with(&said.replace("VETH", veth)),
            "{in_node} {in_pod}: {refusal:?}"
        );
        node.del(&pod, &config);
        assert!(node.reservations().is_empty());
    }
}

/// The reference finds the same, with the same words but for some.
fn the_reference_notices(damages: &[&Damage], config: Guarded, words: fn(&str) -> &str) {
    for Damage { node: in_node, pod: in_pod, said } in damages {
        let node = Node::new(By::Reference);
        let pod = node.pod("pod");
        let config = config(&node);
        let result = node.add(&pod, &config);
        node.namespace.sh(&in_node.replace("VETH", host_end(&result)));
        pod.namespace.sh(in_pod);
        let refusal = node.run(&node.call("CHECK", &pod, &after(&config, &result))).refused();
        assert!(refusal.msg.starts_with(words(said)), "{in_node} {in_pod}: {refusal:?}");
    }
}

/// CHECK passes whatever happens beside the pod. What was used for it can be used further.
fn is_left_well(guarded: Guarded, in_node: &str) -> (Node, Pod, Value, Value) {
    let node = Node::new(By::Podwire);
    let (pod, other) = (node.pod("pod"), node.pod("other"));
    let config = guarded(&node);
    let result = node.add(&pod, &config);
    node.add(&other, &config);
    node.namespace.sh(&in_node.replace("VETH", host_end(&result)));
    pod.namespace.sh("ip address add 192.0.2.5/32 dev eth0; ip route add 203.0.113.0/24 dev eth0
         ip link add eth7 type bridge; ip link set lo down");
    node.check(&pod, &config, &result);
    node.del(&other, &config);
    node.check(&pod, &config, &result);
    (node, pod, config, result)
}

/// Each of these configurations is refused with words that begin so.
fn are_refused(node: &Node, pod: &Pod, configs: &[(Value, &str)]) {
    for (config, msg) in configs {
        let refusal = node.run(&node.call("CHECK", pod, config)).refused();
        assert!(refusal.code == 999 && refusal.msg.starts_with(msg), "{msg}: {refusal:?}");
    }
}

#[test]
fn to_check_changes_nothing() {
    testbed::isolated!();
    for guarded in BOTH {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        let config = guarded(&node);
        let result = node.add(&pod, &config);
        let mut other = result.clone();
        other["ips"][0]["address"] = "10.1.2.77/24".into();
        let before = (node.state(), testbed::state(&pod.namespace));
        node.check(&pod, &config, &result);
        node.run(&node.call("CHECK", &pod, &after(&config, &other))).refused();
        testbed::assert_same_state(&before.0, &node.state());
        testbed::assert_same_state(&before.1, &testbed::state(&pod.namespace));
    }
}

#[test]
fn a_result_of_any_version_is_understood() {
    testbed::isolated!();
    for guarded in BOTH {
        let node = Node::new(By::Podwire);
        let pod = node.pod("pod");
        for version in ["0.4.0", "1.0.0", "1.1.0"] {
            let mut config = guarded(&node);
            config["cniVersion"] = version.into();
            let result = node.add(&pod, &config);
            node.check(&pod, &config, &result);
            // The version in the result counts, and that of the configuration if there is none.
            let mut bare = result.clone();
            bare.as_object_mut().unwrap().remove("cniVersion");
            node.check(&pod, &config, &bare);
            node.del(&pod, &after(&config, &bare));
        }
    }
}
