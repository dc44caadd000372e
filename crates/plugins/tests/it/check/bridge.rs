//! What CHECK of the bridge looks at.

use serde_json::{Value, json};

use super::{Damage, in_node, in_pod};
use crate::harness::*;

const DAMAGES: &[Damage] = &[
    in_pod("ip link set eth0 down", "Interface eth0 is down"),
    in_pod("ip link delete eth0", "Interface name eth0 not found"),
    in_pod(
        "ip link delete eth0; ip link add eth0 type bridge",
        "Error: Container interface eth0 not of type veth",
    ),
    in_pod("ip link delete eth0; ip link add eth0 type veth peer name e", "Interface eth0 Mac "),
    in_pod("ip link set eth0 address 02:00:00:00:00:07", "Interface eth0 Mac "),
    in_pod(
        "ip address delete 10.1.2.2/24 dev eth0",
        "Failed to match addr 10.1.2.2/24 on interface eth0",
    ),
    in_pod(
        "ip address delete 2001:db8:1::2/64 dev eth0",
        "Failed to match addr 2001:db8:1::2/64 on interface eth0",
    ),
    in_pod(
        "ip address delete 10.1.2.2/24 dev eth0; ip address add 10.1.2.2/16 dev eth0",
        "Failed to match addr 10.1.2.2/24 on interface eth0",
    ),
    in_pod(
        "ip route delete default",
        "Expected Route 0.0.0.0/0 via 10.1.2.1 not found in routing table 254",
    ),
    in_pod(
        "ip -6 route delete default",
        "Expected Route ::/0 via 2001:db8:1::1 not found in routing table 254",
    ),
    in_pod(
        "ip route delete 192.0.2.0/24 table 100",
        "Expected Route 192.0.2.0/24 via 10.1.2.9 not found in routing table 100",
    ),
    in_pod(
        "ip route replace default via 10.1.2.99",
        "Expected Route 0.0.0.0/0 via 10.1.2.1 not found in routing table 254",
    ),
    in_node("ip link set VETH nomaster", "CNI veth created for bridge cni0 was not found"),
    in_node(
        "ip link add br1 type bridge; ip link set VETH master br1",
        "CNI veth created for bridge cni0 was not found",
    ),
    in_node(
        "ip link set dev VETH type bridge_slave hairpin off",
        "Interface VETH configured hairpin mode true doesn't match current state: false",
    ),
    in_node(
        "ip link set dev VETH type bridge_slave isolated off",
        "Interface VETH configured port isolation true doesn't match current state: false",
    ),
    in_node("ip link delete cni0", "Interface name cni0 not found"),
    in_node(
        "ip link delete cni0; ip link add cni0 type veth peer name c",
        "Interface cni0 does not have link type of bridge",
    ),
    in_node(
        "ip link set cni0 address 02:00:00:00:00:07",
        "Bridge interface cni0 Mac doesn't match: ",
    ),
    in_node("ip link set cni0 down", "Bridge interface cni0 is down"),
    in_node(
        "ip address delete 10.1.2.1/24 dev cni0",
        "Bridge interface cni0 lacks gateway address 10.1.2.1",
    ),
    in_node("echo 0 >/proc/sys/net/ipv4/ip_forward", "net/ipv4/ip_forward is not 1"),
    in_node(
        "nft flush table inet podwire_cni",
        "nft chain inet podwire_cni subnet-10.1.2.0/24 is not as ADD left it",
    ),
    in_node(
        "nft flush table bridge podwire_cni",
        "nft chain bridge podwire_cni prerouting is not as ADD left it",
    ),
    in_node("nft flush ruleset", "masquerade of 10.1.2.2/24 is missing"),
    in_node(
        "nft delete element inet podwire_cni masquerade6 { 2001:db8:1::2 }",
        "masquerade of 2001:db8:1::2/64 is missing",
    ),
    in_node("nft flush set bridge podwire_cni guarded", "spoof check of eth0 is missing"),
    in_node("nft delete table bridge podwire_cni", "spoof check of eth0 is missing"),
    in_node(
        "rm /run/node/networks/pods/10.1.2.2 /run/node/networks/pods/2001:db8:1::2",
        "host-local: Failed to find address added by container pod",
    ),
];

pub(super) fn guarded(node: &Node) -> Value {
    let keys = json!({
        "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true, "portIsolation": true,
        "ipam": { "routes": [{ "dst": "192.0.2.0/24", "gw": "10.1.2.9", "table": 100 }] },
    });
    node.network("1.1.0", &["10.1.2.0/24", "2001:db8:1::/64"], keys)
}

#[test]
fn damage_is_named() {
    testbed::isolated!();
    super::damage_is_named(DAMAGES, guarded);
}

/// The damage that the reference is not asked about, by what is said of it here.
const UNNOTICED: [&str; 8] = [
    "masquerade of",
    "spoof check of",
    "nft chain",
    "Interface VETH configured",
    "Bridge interface cni0 is down",
    "Bridge interface cni0 lacks",
    "net/ipv4/ip_forward",
    "table 100",
];

#[test]
fn the_reference_notices_the_same_damage() {
    testbed::isolated!();
    let is_noticed = |it: &&Damage| {
        // To it, any default route is as good as another.
        !UNNOTICED.iter().any(|part| it.said.contains(part)) && !it.pod.contains("via 10.1.2.99")
    };
    let noticed: Vec<_> = DAMAGES.iter().filter(is_noticed).collect();
    let config = |node: &Node| {
        let keys = json!({ "isDefaultGateway": true });
        node.network("1.0.0", &["10.1.2.0/24", "2001:db8:1::/64"], keys)
    };
    // It prints routes as its structures, and notices by its routes that a pod is down.
    super::the_reference_notices(&noticed, config, |said| match said {
        "Interface eth0 is down" => "Failed to find Gateway 10.1.2.1 for interface eth0",
        said if said.starts_with("Expected Route") => "Expected Route {Dst:{",
        said => said,
    });
}

#[test]
fn what_does_not_concern_the_pod_is_no_damage() {
    testbed::isolated!();
    let (node, pod, config, result) = super::is_left_well(
        guarded,
        "ip link set cni0 promisc on; ip address add 192.0.2.200/24 dev cni0",
    );
    // Interfaces that a later plugin of the chain has added.
    let mut longer = result;
    longer["interfaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "tap0", "sandbox": pod.netns() }));
    longer["ips"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "address": "10.99.0.1/24", "interface": 3 }));
    node.check(&pod, &config, &longer);
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
            (config.clone(), "Required prevResult missing"),
            (after(&config, &Value::Null), "Required prevResult missing"),
            (after(&config, &json!("x")), "could not parse prevResult: "),
            (with(|it| it["cniVersion"] = "9.9.9".into()), "could not parse prevResult: "),
            (with(|it| it["ips"][0]["address"] = "x".into()), "could not parse prevResult: "),
            (
                with(|it| it["interfaces"] = json!([])),
                "Bridge interface cni0 not found in prevResult",
            ),
            (
                with(|it| it["interfaces"].as_array_mut().unwrap().truncate(2)),
                "Container interface eth0 not found in prevResult",
            ),
            (
                with(|it| it["interfaces"][2]["sandbox"] = "/elsewhere".into()),
                "Sandbox in prevResult /elsewhere doesn't match configured netns: /run/netns/pod",
            ),
            (
                with(|it| it["interfaces"][1]["name"] = "veth0".into()),
                "CNI veth created for bridge cni0 was not found",
            ),
            (
                merged(after(&config, &result), json!({ "bridge": "br1" })),
                "Bridge interface br1 not found in prevResult",
            ),
        ],
    );
    let gone =
        node.call("CHECK", &pod, &after(&config, &result)).with("CNI_NETNS", "/run/netns/gone");
    assert!(
        node.run(&gone).refused().msg.starts_with("failed to open netns \"/run/netns/gone\": ")
    );
}
