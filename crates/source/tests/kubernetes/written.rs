//! What is written to the own Node: annotations, ours and flannel's, and that the network is there.

use std::time::Duration;

use fabric::PerFamily;
use serde_json::{Value, json};
use testbed::kubernetes::Server;

use crate::agent::{Agent, bare, publication, wait_until};
use crate::{OURS, subnet_of, three};

const NETWORK: &str = "NetworkUnavailable";

#[test]
fn a_lost_annotation_is_written_again() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    wait_until("it is published", || server.annotation("n1", OURS).is_some());
    let published = server.annotation("n1", OURS);
    for lost in [Value::Null, json!({ "other": "x" }), json!({ OURS: "{}" })] {
        server.edit("n1", |node| node["metadata"]["annotations"] = lost);
        wait_until("it is published again", || server.annotation("n1", OURS) == published);
    }
    // The node is registered anew, with a new identity and nothing of ours.
    server.remove("n1");
    server.put(bare(1));
    wait_until("it is published anew", || server.annotation("n1", OURS) == published);
    agent.is_silent(Duration::from_millis(200));
}

#[test]
fn what_is_not_allowed_is_told_with_the_remedy() {
    let server = three();
    server.set_refuses_patches(true);
    let agent = Agent::start(&server);
    assert_eq!(agent.complete().len(), 3);
    let why = agent.astray();
    assert!(why.contains("annotations of Node n1 cannot be written: nodes is forbidden"), "{why}");
    assert!(why.contains("ClusterRole"), "{why}");
    server.set_refuses_patches(false);
    assert_eq!(agent.complete().len(), 3);
    assert!(server.annotation("n1", OURS).is_some());
}

#[test]
fn changed_addresses_are_published() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    let mut publication = publication();
    publication.addresses = PerFamily { v4: Some("198.51.100.7".parse().unwrap()), v6: None };
    agent.running.publish(publication);
    let nodes = agent.complete();
    assert_eq!(nodes[0].addresses.v4, Some("198.51.100.7".parse().unwrap()));
    wait_until("others are told", || {
        server.annotation("n1", OURS).is_some_and(|text| text.contains("198.51.100.7"))
    });
}

fn condition(server: &Server) -> Value {
    let node = server.node("n1");
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|it| it["type"] == NETWORK).unwrap_or_default()
}

#[test]
fn pods_may_come_when_the_network_is_there() {
    let server = three();
    server.edit("n1", |node| {
        node["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" },
            { "type": NETWORK, "status": "True", "reason": "NoRouteCreated" }]);
    });
    let agent = Agent::start(&server);
    agent.complete();
    wait_until("it is published", || server.annotation("n1", OURS).is_some());
    agent.is_silent(Duration::from_millis(200));
    assert_eq!(condition(&server)["status"], "True", "nobody has said that it is ready");
    agent.running.set_ready(true);
    wait_until("the condition is set", || condition(&server)["status"] == "False");
    let set = condition(&server);
    assert_eq!(set["reason"], "PodwireIsUp");
    assert!(set["lastTransitionTime"].as_str().unwrap().ends_with('Z'));
    let conditions = server.node("n1")["status"]["conditions"].as_array().unwrap().len();
    assert_eq!(conditions, 2, "the kubelet's are left alone");
    // A cloud's controller, or a node that is registered anew.
    server.edit("n1", |node| {
        node["status"]["conditions"] = json!([{ "type": NETWORK, "status": "True" }]);
    });
    wait_until("the condition is set again", || condition(&server)["status"] == "False");
    // What is not ready any more is left to the kubelet.
    agent.running.set_ready(false);
    server.edit("n1", |node| {
        node["status"]["conditions"] = json!([{ "type": NETWORK, "status": "True" }]);
    });
    agent.is_silent(Duration::from_millis(500));
    assert_eq!(condition(&server)["status"], "True");
}

#[test]
fn nodes_of_flannel_and_ours_reach_each_other() {
    let server = three();
    let mut flannel = bare(5);
    flannel["metadata"]["annotations"] = json!({
        "flannel.alpha.coreos.com/kube-subnet-manager": "true",
        "flannel.alpha.coreos.com/backend-type": "vxlan",
        "flannel.alpha.coreos.com/backend-data": r#"{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:f0"}"#,
        "flannel.alpha.coreos.com/public-ip": "192.0.2.55",
    });
    server.put(flannel);
    server.edit("n1", |node| {
        node["metadata"]["annotations"]["flannel.alpha.coreos.com/public-ip-overwrite"] =
            json!("203.0.113.1");
    });
    let agent = Agent::start_with(&server, true);
    let nodes = agent.complete();
    let node = nodes.iter().find(|node| node.name.as_str() == "n5").unwrap();
    assert_eq!(node.subnets.v4, Some("10.244.5.0/24".parse().unwrap()));
    assert_eq!(node.addresses.v4, Some("192.0.2.55".parse().unwrap()));
    assert_eq!(node.mac(fabric::Family::V4).to_string(), "aa:bb:cc:dd:ee:f0");
    assert_eq!(subnet_of(&nodes, "n2").as_deref(), Some("10.244.2.0/24"));
    assert_eq!(nodes[0].addresses.v4, Some("192.0.2.1".parse().unwrap()), "as it has it");

    let told = |key: &str| server.annotation("n1", &format!("flannel.alpha.coreos.com/{key}"));
    wait_until("flannel is told", || told("backend-data").is_some());
    let mac = fabric::Node::new("n1".parse().unwrap()).mac(fabric::Family::V4);
    assert_eq!(told("kube-subnet-manager").as_deref(), Some("true"));
    assert_eq!(told("backend-type").as_deref(), Some("vxlan"));
    assert_eq!(told("backend-data"), Some(format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#)));
    assert_eq!(told("public-ip").as_deref(), Some("203.0.113.1"));
    assert_eq!(told("public-ipv6"), None);

    // flannel starts anew there, with another hardware address.
    server.edit("n5", |node| {
        node["metadata"]["annotations"]["flannel.alpha.coreos.com/backend-data"] =
            json!(r#"{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:f1"}"#);
    });
    let nodes = agent.complete();
    let node = nodes.iter().find(|node| node.name.as_str() == "n5").unwrap();
    assert_eq!(node.mac(fabric::Family::V4).to_string(), "aa:bb:cc:dd:ee:f1");
}

#[test]
fn who_only_looks_writes_nothing() {
    let server = three();
    let agent = Agent::look(&server);
    assert_eq!(agent.complete().len(), 3);
    agent.running.set_ready(true);
    agent.running.publish(publication());
    agent.is_silent(Duration::from_millis(500));
    assert_eq!(server.count(|request| request.method != "GET"), 0);
}
