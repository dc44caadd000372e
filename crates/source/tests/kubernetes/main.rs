//! The Kubernetes source against `testbed`'s server, which speaks the API's list, watch and patch.

#![cfg(feature = "kubernetes")]
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

mod agent;
mod deploy;
mod memory;
mod pod;
mod written;

use std::time::{Duration, Instant};

use fabric::Report;
use serde_json::{Value, json};
use testbed::kubernetes::{Request, Server};
use testbed::{isolated, sh};

use agent::{Agent, bare, names, node, publication, wait_until};

const OURS: &str = "podwire.dev/node";

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
    assert!(told < 18, "{told} reports of 36 nodes");
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
    let is_list = |request: &Request| request.is_list() && request.is_of_all();
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
fn an_event_that_breaks_off_is_heard_again() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    wait_until("it is published", || server.annotation("n1", OURS).is_some());
    server.set_breaks_events(true);
    server.put(node(4));
    server.remove("n2");
    agent.is_silent(Duration::from_millis(500));
    server.set_breaks_events(false);
    assert_eq!(names(&agent.complete()), ["n1", "n3", "n4"]);
    assert_eq!(server.count(Request::is_list), 2, "nothing was forgotten");
}

#[test]
fn a_bookmark_saves_a_list() {
    let server = three();
    let agent = Agent::start(&server);
    agent.complete();
    wait_until("it is published", || server.annotation("n1", OURS).is_some());
    wait_until("both watches stand", || server.watches() == 2);
    server.forget();
    server.bookmark();
    agent.is_silent(Duration::from_millis(500));
    server.cut();
    wait_until("both watches stand again", || server.watches() == 4);
    server.put(node(4));
    assert_eq!(names(&agent.complete()), ["n1", "n2", "n3", "n4"]);
    assert_eq!(server.count(Request::is_list), 2);
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
