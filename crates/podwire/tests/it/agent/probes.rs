//! What agents find out by probes before a user does.

use testbed::look::eventually;

use super::cluster::{Cluster, DUAL, V4};

const PROBES: &str = "probes: {seconds: 1}";

/// Waits until n1 says this of a probe.
#[track_caller]
fn said(cluster: &Cluster, text: &str) {
    eventually(text, || {
        let status = cluster.nodes[0].status();
        let problems = status["problems"].as_array()?.clone();
        let mut problems = problems.iter().filter(|it| it["code"] == "probe");
        problems.any(|it| it["text"].as_str().is_some_and(|it| it.contains(text))).then_some(())
    });
}

#[track_caller]
fn probed(cluster: &Cluster) {
    eventually("probes are answered", || {
        let status = cluster.nodes[0].status();
        let ways = status["ways"].as_array()?.clone();
        let is_good =
            |way: &serde_json::Value| way["micros"].as_u64().is_some() && way["problem"].is_null();
        (!ways.is_empty() && ways.iter().all(is_good)).then_some(())
    });
}

#[test]
fn a_small_underlay_is_known_before_a_user_finds_it() {
    testbed::isolated!();
    for settings in ["backend: vxlan", "backend: gpe"] {
        let mut cluster = Cluster::new(2, &format!("{settings}\n{PROBES}"), DUAL);
        cluster.start();
        probed(&cluster);
        // A hop in the middle, which the nodes' own devices do not tell of.
        cluster.switch.sh("ip link set port2 mtu 1400");
        said(&cluster, "the underlay does not carry packets of");
        cluster.switch.sh("ip link set port2 mtu 1500");
        probed(&cluster);
    }
}

#[test]
fn a_blocked_tunnel_is_told_from_a_node_that_is_down() {
    testbed::isolated!();
    let mut cluster = Cluster::new(2, PROBES, V4);
    cluster.start();
    probed(&cluster);
    cluster
        .switch
        .sh("nft add chain bridge underlay tunnels '{ type filter hook forward priority -10; }'
        nft add rule bridge underlay tunnels udp dport 8472 drop");
    said(&cluster, "a firewall on the way drops UDP port 8472");
    cluster.switch.sh("nft delete chain bridge underlay tunnels");
    probed(&cluster);
    cluster.switch.sh("ip link set port2 down");
    said(&cluster, "does not answer any more");
}

#[test]
fn another_port_or_virtual_network_is_found_out() {
    testbed::isolated!();
    for other in ["tunnel: {port: 8473}", "tunnel: {vni: 2}"] {
        let mut cluster = Cluster::new(2, PROBES, V4);
        let config = cluster.directory.path().join("n2.yaml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{text}{other}\n")).unwrap();
        cluster.start();
        said(&cluster, "or the node has another port or VNI than 1");
    }
}
