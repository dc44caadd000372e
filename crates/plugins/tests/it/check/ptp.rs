//! What CHECK of ptp looks at, on both ends of the cable.

use serde_json::{Value, json};

use super::{Damage, in_node, in_pod};
use crate::harness::*;

const DAMAGES: &[Damage] = &[
    in_pod("ip link set eth0 down", "Interface eth0 is down"),
    in_pod(
        "ip link delete eth0",
        "ptp: Container Interface name in prevResult: eth0 not found",
    ),
    in_pod(
        "ip link delete eth0; ip link add eth0 type bridge",
        "Error: Container interface eth0 not of type veth/p2p",
    ),
    in_pod(
        "ip link delete eth0; ip link add eth0 type veth peer name e",
        "ptp: Interface eth0 Mac ",
    ),
    in_pod("ip link set eth0 address 02:00:00:00:00:07", "ptp: Interface eth0 Mac "),
    in_pod(
        "ip address delete 10.1.2.2/24 dev eth0",
        "Failed to match addr 10.1.2.2/24 on interface eth0",
    ),
    in_pod(
        "ip address delete 2001:db8:1::2/64 dev eth0",
        "Failed to match addr 2001:db8:1::2/64 on interface eth0",
    ),
    in_pod("ip route delete default", "Expected Route 0.0.0.0/0 not found in routing table 254"),
    in_pod("ip -6 route delete default", "Expected Route ::/0 not found in routing table 254"),
    in_pod(
        "ip route delete 192.0.2.0/24 table 100",
        "Expected Route 192.0.2.0/24 via 10.1.2.1 not found in routing table 100",
    ),
    in_pod(
        "ip route delete 10.1.2.0/24 via 10.1.2.1",
        "Expected Route 10.1.2.0/24 via 10.1.2.1 not found in routing table 254",
    ),
    in_pod(
        "ip -6 route delete 2001:db8:1::1",
        "Expected Route 2001:db8:1::1/128 not found in routing table 254",
    ),
    // The kernel puts the subnet back on the link, and the routes by the node are gone.
    in_pod(
        "ip link set eth0 down; ip link set eth0 up; ip route add default via 10.1.2.1
         ip -6 route add default via 2001:db8:1::1; ip route add 192.0.2.0/24 via 10.1.2.1 table 100",
        "Expected Route 10.1.2.1/32 not found in routing table 254",
    ),
    in_node("ip link set VETH down", "Interface VETH is down"),
    in_node(
        "ip link set VETH down; ip link set VETH name other; ip link set other up",
        "ptp: host end of container interface eth0 was not found",
    ),
    in_node(
        "ip address delete 10.1.2.1/32 dev VETH",
        "Interface VETH lacks gateway address 10.1.2.1",
    ),
    in_node(
        "ip address delete 2001:db8:1::1/128 dev VETH",
        "Interface VETH lacks gateway address 2001:db8:1::1",
    ),
    in_node(
        "ip route delete 10.1.2.2",
        "Expected Route 10.1.2.2/32 dev VETH not found on the host",
    ),
    in_node(
        "ip -6 route delete 2001:db8:1::2",
        "Expected Route 2001:db8:1::2/128 dev VETH not found on the host",
    ),
    in_node(
        "ip link add w type veth peer name v; ip link set w up; ip route replace 10.1.2.2 dev w scope host",
        "Expected Route 10.1.2.2/32 dev VETH not found on the host",
    ),
    in_node("echo 0 >/proc/sys/net/ipv4/ip_forward", "net/ipv4/ip_forward is not 1"),
    in_node(
        "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding",
        "net/ipv6/conf/all/forwarding is not 1",
    ),
    in_node("nft flush ruleset", "masquerade of 10.1.2.2/24 is missing"),
    in_node(
        "nft flush table inet podwire_cni",
        "nft chain inet podwire_cni subnet-10.1.2.0/24 is not as ADD left it",
    ),
    in_node(
        "nft delete element inet podwire_cni masquerade6 { 2001:db8:1::2 }",
        "masquerade of 2001:db8:1::2/64 is missing",
    ),
    in_node(
        "rm /run/node/networks/pods/10.1.2.2 /run/node/networks/pods/2001:db8:1::2",
        "host-local: Failed to find address added by container pod",
    ),
];

const SUBNETS: [&str; 2] = ["10.1.2.0/24", "2001:db8:1::/64"];

pub(super) fn guarded(node: &Node) -> Value {
    let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" },
        { "dst": "192.0.2.0/24", "gw": "10.1.2.1", "table": 100 }]);
    let keys = json!({ "ipMasq": true, "ipam": { "routes": routes } });
    node.routed("ptp", "1.1.0", &SUBNETS, keys)
}

#[test]
fn damage_is_named() {
    testbed::isolated!();
    super::damage_is_named(DAMAGES, guarded);
}

/// The damage that the reference is not asked about: all of the node's, and of the pod's what is
/// said so of it here.
const UNNOTICED: [&str; 4] = ["table 100", "via 10.1.2.1", "/32 not found", "/128 not found"];

#[test]
fn the_reference_notices_the_same_damage_in_the_pod() {
    testbed::isolated!();
    let is_noticed = |it: &&Damage| {
        it.node == "true" && !UNNOTICED.iter().any(|part| it.said.contains(part))
            || it.node.starts_with("rm ")
    };
    let noticed: Vec<_> = DAMAGES.iter().filter(is_noticed).collect();
    let config = |node: &Node| node.routed("ptp", "1.0.0", &SUBNETS, json!({}));
    super::the_reference_notices(&noticed, config, |said| match said {
        // It prints routes as its structures, and notices by its routes that a pod is down.
        said if said.starts_with("Expected Route") => "Expected Route {",
        "Interface eth0 is down" => "Failed to find Gateway 10.1.2.1 for interface eth0",
        said => said,
    });
}

#[test]
fn what_does_not_concern_the_pod_is_no_damage() {
    testbed::isolated!();
    super::is_left_well(
        guarded,
        "ip address add 192.0.2.200/32 dev VETH; ip route add 203.0.113.0/24 dev VETH",
    );
}

#[test]
fn routes_may_have_been_moved_to_another_table() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let config = guarded(&node);
    let result = node.add(&pod, &config);
    // As `sbr` does, behind this plugin in a list.
    for family in ["-4", "-6"] {
        pod.namespace.sh(&format!(
            "ip {family} route show dev eth0 | grep -v fe80 > /run/routes
             while read route; do ip {family} route add $route dev eth0 table 7; done < /run/routes
             tac /run/routes | while read route; do ip {family} route delete $route dev eth0; done"
        ));
    }
    assert_eq!(routes(&pod.namespace, "main"), [""; 0]);
    node.check(&pod, &config, &result);
}

#[test]
fn a_previous_result_that_does_not_fit_is_refused() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    let config = guarded(&node);
    let result = node.add(&pod, &config);
    let with = |change: fn(&mut Value)| {
        let mut changed = result.clone();
        change(&mut changed);
        after(&config, &changed)
    };
    super::are_refused(
        &node,
        &pod,
        &[
            (config.clone(), "ptp: Required prevResult missing"),
            (after(&config, &json!("x")), "could not parse prevResult: "),
            (
                with(|it| it["interfaces"] = json!([])),
                "Container interface eth0 not found in prevResult",
            ),
            (
                with(|it| it["interfaces"][1]["sandbox"] = "/elsewhere".into()),
                "Sandbox in prevResult /elsewhere doesn't match configured netns: /run/netns/pod",
            ),
            (
                with(|it| it["interfaces"][0]["name"] = "veth0".into()),
                "ptp: host end of container interface eth0 was not found",
            ),
            (merged(after(&config, &result), json!({ "ipam": null })), "no plugin name provided"),
        ],
    );
}
