//! The Kubernetes source against a server that speaks the API's list, watch and patch over HTTP.

#![cfg(feature = "kubernetes")]
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

mod agent;
mod deploy;
mod memory;
mod pod;
mod server;

use std::time::{Duration, Instant};

use fabric::{PerFamily, Report};
use serde_json::{Value, json};
use testbed::{isolated, sh};

use agent::{Agent, bare, names, node, publication};
use server::{Server, wait_until};

const OURS: &str = "podwire.dev/node";
const NETWORK: &str = "NetworkUnavailable";

fn three() -> Server {
    let server = Server::start();
    server.put(bare(1));
    server.put(node(2));
    server.put(node(3));
    server
}

fn subnet_of(nodes: &[fabric::Node], name: &str) -> Option<String> {
    let node = nodes.iter().find(|node| node.name.as_str() == name).unwrap();
    node.subnets.v4.map(|subnet| subnet.to_string())
}

#[test]
fn all_nodes_are_told_at_once_and_this_one_is_published() {
    let server = three();
    let agent = Agent::start(&server);
    let nodes = agent.complete();
    assert_eq!(names(&nodes), ["n1", "n2", "n3"]);
    assert_eq!(subnet_of(&nodes, "n1").as_deref(), Some("10.244.1.0/24"));
    assert_eq!(subnet_of(&nodes, "n3").as_deref(), Some("10.244.3.0/24"));
    assert_eq!(nodes[0].addresses.v4, Some("192.0.2.1".parse().unwrap()));
    wait_until("it is published", || server.annotation("n1", OURS).is_some());
    let text = server.annotation("n1", OURS).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({ "addresses": { "v4": "192.0.2.1" }, "subnets": { "v4": "10.244.1.0/24" },
            "backend": "vxlan", "vni": 1 })
    );
    agent.is_silent(Duration::from_millis(300));
    // Of all nodes only metadata is asked for, of the own one everything; all in pages, with
    // bookmarks, and once.
    for request in server.requests().iter().filter(|request| request.method == "GET") {
        assert_eq!(request.is_metadata(), request.is_of_all(), "{request:?}");
        assert_eq!(request.is_list(), request.query.contains_key("limit"), "{request:?}");
        let bookmarks = request.query.contains_key("allowWatchBookmarks");
        assert_eq!(request.is_watch(), bookmarks, "{request:?}");
    }
    assert_eq!(server.requests().len(), 5, "{:#?}", server.requests());
}

#[test]
fn nodes_come_change_and_go() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    server.put(node(4));
    assert_eq!(names(&agent.complete()), ["n1", "n2", "n3", "n4"]);
    server.edit("n4", |node| {
        node["metadata"]["annotations"][OURS] =
            json!(r#"{"addresses":{"v4":"192.0.2.44"},"subnets":{"v4":"10.244.44.0/24"}}"#);
    });
    assert_eq!(subnet_of(&agent.complete(), "n4").as_deref(), Some("10.244.44.0/24"));
    server.edit("n4", |node| node["metadata"]["labels"] = json!({ "new": "x" }));
    agent.is_silent(Duration::from_millis(200));
    server.remove("n4");
    assert_eq!(names(&agent.complete()), ["n1", "n2", "n3"]);
    // What comes together is told together.
    (4..40).for_each(|number| server.put(node(number)));
    let mut told = 0;
    while agent.complete().len() < 39 {
        told += 1;
    }
    assert!(told <= 5, "{told} reports of 36 nodes");
}

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
fn a_peer_that_loses_its_annotation_stays_as_it_was() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    server.edit("n2", |node| node["metadata"]["annotations"] = json!({}));
    agent.is_silent(Duration::from_millis(200));
    server.remove("n2");
    assert_eq!(names(&agent.complete()), ["n1", "n3"]);
    server.put(bare(2));
    let nodes = agent.complete();
    assert_eq!((names(&nodes), subnet_of(&nodes, "n2")), (vec!["n1", "n2", "n3"], None));
}

#[test]
fn a_changed_pod_cidr_is_followed() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    server.edit("n1", |node| node["spec"] = json!({ "podCIDRs": ["10.99.0.0/24", "fd00::/64"] }));
    let nodes = agent.complete();
    assert_eq!(subnet_of(&nodes, "n1").as_deref(), Some("10.99.0.0/24"));
    assert_eq!(nodes[0].subnets.v6, Some("fd00::/64".parse().unwrap()));
    wait_until("others are told", || {
        server.annotation("n1", OURS).is_some_and(|text| text.contains("10.99.0.0/24"))
    });
}

#[test]
fn a_node_without_pod_cidr_or_object_is_named() {
    let server = Server::start();
    server.put(node(2));
    let agent = Agent::start(&server);
    assert!(agent.astray().contains("there is no Node n1"));
    let mut late = bare(1);
    late["spec"] = json!({});
    server.put(late);
    assert_eq!(
        agent.astray(),
        "node n1 has no podCIDR; run kube-controller-manager with --allocate-node-cidrs"
    );
    assert_eq!(server.annotation("n1", OURS), None);
    server.put(bare(1));
    assert_eq!(names(&agent.complete()), ["n1", "n2"]);
}

#[test]
fn what_is_forgotten_is_listed_again() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    wait_until("it is published", || server.annotation("n1", OURS).is_some());
    let lists = || server.count(|request| request.is_list() && request.is_of_all());
    // While nobody watches, one node goes and one comes, and nobody remembers.
    server.set_away(true);
    server.remove("n2");
    server.put(node(4));
    server.forget();
    server.set_away(false);
    assert_eq!(names(&agent.complete()), ["n1", "n3", "n4"]);
    assert_eq!(lists(), 2);
    // Nothing has happened, but nobody remembers that.
    server.forget();
    server.cut();
    wait_until("it is listed again", || lists() == 3);
    agent.is_silent(Duration::from_millis(300));
}

#[test]
fn a_list_that_breaks_off_is_never_told() {
    let server = three();
    (4..=700).for_each(|number| server.put(node(number)));
    server.set_breaks_at_page(Some(1));
    let agent = Agent::start(&server);
    let is_list = |request: &server::Request| request.is_list() && request.is_of_all();
    wait_until("it is tried again", || server.count(is_list) > 4);
    server.set_breaks_at_page(None);
    assert_eq!(agent.complete().len(), 700);
    // The watch stands for long enough to be trusted.
    agent.is_silent(Duration::from_millis(1200));
    server.set_breaks_at_page(Some(1));
    server.forget();
    server.cut();
    let before = server.count(is_list);
    wait_until("it is tried again", || server.count(is_list) > before + 4);
    agent.is_silent(Duration::from_millis(100));
    server.set_breaks_at_page(None);
    server.put(node(701));
    assert_eq!(agent.complete().len(), 701);
}

#[test]
fn a_bookmark_saves_a_list() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    wait_until("it is published", || server.annotation("n1", OURS).is_some());
    let asked = || server.count(server::Request::is_watch);
    server.forget();
    server.bookmark();
    std::thread::sleep(Duration::from_millis(200));
    let before = asked();
    server.cut();
    wait_until("both watches stand again", || asked() == before + 2);
    server.put(node(4));
    assert_eq!(names(&agent.complete()), ["n1", "n2", "n3", "n4"]);
    assert_eq!(server.count(server::Request::is_list), 2);
}

#[test]
fn a_short_break_is_no_news() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    server.set_away(true);
    std::thread::sleep(Duration::from_secs(1));
    server.remove("n3");
    server.set_away(false);
    assert_eq!(names(&agent.complete()), ["n1", "n2"]);
    agent.is_silent(Duration::from_millis(300));
}

#[test]
fn a_long_break_is_told_once_and_what_holds_after_it() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    server.set_away(true);
    std::thread::sleep(Duration::from_secs(6));
    server.remove("n3");
    let why = agent.astray();
    assert!(why.starts_with("Kubernetes' API cannot be asked"), "{why}");
    assert!(why.contains("Connection refused"), "{why}");
    agent.is_silent(Duration::from_millis(500));
    server.set_away(false);
    // As it was before, if the news is slower than the good news that there will be any.
    while names(&agent.complete()) != ["n1", "n2"] {}
    agent.is_silent(Duration::from_millis(300));
}

#[test]
fn an_api_that_vanishes_without_a_word_is_noticed() {
    isolated!();
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    let port = server.address().port();
    sh(&format!(
        "nft 'add table inet t; add chain inet t c {{ type filter hook input priority 0; }}
              add rule inet t c tcp dport {port} drop; add rule inet t c tcp sport {port} drop'"
    ));
    agent.is_silent(Duration::from_secs(2));
    let begun = Instant::now();
    assert!(agent.astray_within(Duration::from_secs(40)).contains("cannot be asked"));
    println!("told after {} s", begun.elapsed().as_secs() + 2);
    sh("nft delete table inet t");
    assert_eq!(names(&agent.complete()), ["n1", "n2", "n3"]);
}

#[test]
fn an_api_that_is_not_there_yet_is_waited_for() {
    let server = three();
    server.set_away(true);
    let agent = Agent::start(&server);
    assert!(agent.astray().contains("cannot be asked"));
    server.set_away(false);
    assert_eq!(names(&agent.complete()), ["n1", "n2", "n3"]);
}

#[test]
fn a_slow_api_is_waited_for() {
    let server = three();
    server.set_delay(Duration::from_millis(1500));
    let agent = Agent::start(&server);
    assert_eq!(names(&agent.complete()), ["n1", "n2", "n3"]);
    agent.is_silent(Duration::from_secs(3));
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
fn what_is_doubted_is_read_and_told_again() {
    let server = three();
    let agent = Agent::start(&server);
    let before = agent.complete();
    agent.running.resync();
    assert_eq!(agent.complete(), before);
    assert_eq!(server.count(|request| request.is_list() && request.is_of_all()), 2);
    agent.is_silent(Duration::from_millis(200));
    server.put(node(4));
    assert_eq!(agent.complete().len(), 4);
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
fn it_ends_when_it_is_dropped() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    let reports = agent.stop();
    wait_until("nobody tells any more", || {
        matches!(reports.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected))
    });
}

#[test]
fn what_cannot_be_read_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    let start = |path: &std::path::Path| {
        let config = fabric::Kubernetes { kubeconfig: Some(path.to_owned()), flannel: false };
        let tell = Box::new(|_: Report| {});
        source::kubernetes::start(&config, publication(), tell).err().unwrap().to_string()
    };
    let missing = start(&path);
    assert!(missing.contains("No such file") && missing.contains("kubeconfig"), "{missing}");
    std::fs::write(&path, "clusters: [").unwrap();
    let broken = start(&path);
    assert!(broken.contains(path.to_str().unwrap()), "{broken}");
}
