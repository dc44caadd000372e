//! A runtime starts pods at once: what they share is made once, and what fails fails alone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::*;

const SUBNET: &str = "10.1.2.0/24";

/// Everything at once: all processes are started before the first one is waited for.
fn at_once(node: &Node, calls: &[Call]) -> Vec<Answer> {
    let running: Vec<_> = calls.iter().map(|call| node.start(call)).collect();
    running.into_iter().map(Running::wait).collect()
}

fn pods(node: &Node, count: usize) -> Vec<Pod> {
    (0..count).map(|number| node.pod(&format!("pod{number}"))).collect()
}

fn calls(node: &Node, command: &str, pods: &[Pod], config: &Value) -> Vec<Call> {
    pods.iter().map(|pod| node.call(command, pod, config)).collect()
}

/// Each result names the bridge's own address, and each pod reaches the gateway with its own.
fn assert_good(node: &Node, good: &[(&Pod, Value)], config: &Value) {
    let bridge = link(&node.namespace, "cni0");
    let mut own = BTreeSet::new();
    for (pod, result) in good {
        assert_eq!(result["interfaces"][0]["mac"], bridge["address"], "{}", pod.id);
        let address = ips(result).remove(0);
        assert_eq!(addresses(&pod.namespace, "eth0"), std::slice::from_ref(&address));
        let (a, b) = (pod.namespace.netns(), node.namespace.netns());
        let gateway = "10.1.2.1".parse().unwrap();
        assert_eq!(source_seen(a, b, gateway), Some(bare(&address)));
        node.check(pod, config, result);
        assert!(own.insert(address));
    }
    assert_eq!(ports(&node.namespace, "cni0").len(), good.len());
    assert_eq!(node.reservations().len(), good.len());
}

#[test]
fn eight_pods_on_a_new_bridge_share_it() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let untouched = node.remains("cni0");
    let pods = pods(&node, 8);
    let keys = json!({ "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true });
    let config = node.network("1.1.0", &[SUBNET], keys);
    let answers = at_once(&node, &calls(&node, "ADD", &pods, &config));
    let good: Vec<_> = pods.iter().zip(answers.into_iter().map(Answer::ok)).collect();
    assert_good(&node, &good, &config);
    assert_eq!(addresses(&node.namespace, "cni0"), ["10.1.2.1/24"]);

    let configs: Vec<_> = good.iter().map(|(_, result)| after(&config, result)).collect();
    let dels = pods.iter().zip(&configs).map(|(pod, config)| node.call("DEL", pod, config));
    for answer in at_once(&node, &dels.collect::<Vec<_>>()) {
        answer.ok();
    }
    assert!(pods.iter().all(|pod| links(&pod.namespace) == ["lo"]));
    assert!(!node.namespace.sh("nft list ruleset").contains("id: pod"));
    node.namespace.sh("nft flush ruleset");
    testbed::assert_same_state(&untouched, &node.remains("cni0"));
}

#[test]
fn those_that_fail_leave_nothing_and_harm_nobody() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pods = pods(&node, 8);
    // Room for four; and of the eight, one has no netns, one has an interface already, and one asks
    // for what cannot be.
    let range = json!([[{ "subnet": SUBNET, "rangeStart": "10.1.2.10", "rangeEnd": "10.1.2.13" }]]);
    let keys = json!({ "isGateway": true, "ipMasq": true, "macspoofchk": true, "ipam": { "ranges": range } });
    let config = node.network("1.1.0", &[SUBNET], keys);
    pods[1].namespace.sh("ip link add eth0 type bridge");
    let mut calls = calls(&node, "ADD", &pods, &config);
    calls[0] = calls[0].clone().with("CNI_NETNS", "/run/netns/gone");
    let lost = json!({ "ipam": { "routes": [{ "dst": "10.0.0.0/8", "gw": "192.0.2.1" }] } });
    calls[2] = calls[2].clone().saying(&merged(config.clone(), lost).to_string());
    let answers = at_once(&node, &calls);
    let (good, bad): (Vec<_>, Vec<_>) =
        pods.iter().zip(answers).partition(|(_, answer)| answer.is_ok());
    let good: Vec<_> = good.into_iter().map(|(pod, answer)| (pod, answer.ok())).collect();
    // The third one may have had an address while others looked for one.
    assert!((3..=4).contains(&good.len()), "{bad:?}");
    assert_good(&node, &good, &config);
    let ruleset = node.namespace.sh("nft list ruleset");
    for (pod, answer) in bad {
        assert!(links(&pod.namespace).len() == if pod.id == "pod1" { 2 } else { 1 });
        assert!(!ruleset.contains(&format!("id: {}\"", pod.id)), "{ruleset}");
        let msg = answer.refused().msg;
        let expected = match pod.id.as_str() {
            "pod0" => "failed to open netns",
            "pod1" => "container veth name",
            "pod2" => "failed to ",
            _ => "failed to allocate for range 0: no IP addresses available",
        };
        assert!(msg.starts_with(expected), "{}: {msg}", pod.id);
    }
}

#[test]
fn pods_come_and_go_at_once() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pods = pods(&node, 8);
    let keys = json!({ "isGateway": true, "ipMasq": true, "macspoofchk": true });
    let config = node.network("1.1.0", &[SUBNET], keys);
    let (mut here, mut away) = pods.split_at(4);
    for pod in here {
        node.add(pod, &config);
    }
    let mut good = Vec::new();
    for _ in 0..3 {
        let mut mixed = calls(&node, "DEL", here, &config);
        mixed.extend(calls(&node, "ADD", away, &config));
        let answers: Vec<_> = at_once(&node, &mixed).into_iter().map(Answer::ok).collect();
        good = away.iter().zip(answers.into_iter().skip(here.len())).collect();
        assert_good(&node, &good, &config);
        assert!(here.iter().all(|pod| links(&pod.namespace) == ["lo"]));
        std::mem::swap(&mut here, &mut away);
    }
    drop(good);
}

#[test]
fn one_attachment_is_added_once_however_often_it_is_asked_for_at_once() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    for config in [
        node.network("1.1.0", &[SUBNET], json!({ "isGateway": true, "ipMasq": true })),
        node.routed("ptp", "1.1.0", &[SUBNET], json!({ "ipMasq": true })),
        node.bridged("1.1.0", json!({ "name": "plain" })),
    ] {
        let calls = vec![node.call("ADD", &pod, &config); 6];
        let answers = at_once(&node, &calls);
        let good: Vec<_> = answers.iter().filter(|answer| answer.is_ok()).collect();
        assert_eq!(good.len(), 1, "{answers:?}");
        node.check(&pod, &config, &good[0].clone().ok());
        assert!(node.reservations().len() <= 1);
        let dels = vec![node.call("DEL", &pod, &config); 6];
        assert!(at_once(&node, &dels).iter().all(Answer::is_ok));
        assert_eq!(node.reservations().len() + host_ends(&node.namespace).len(), 0);
    }
}
