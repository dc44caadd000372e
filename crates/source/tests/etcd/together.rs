//! Nodes that share a network, with others that run flannel.

use std::thread;
use std::time::{Duration, Instant};

use fabric::{Family, PerFamily};
use testbed::isolated;

use crate::member::{Member, configure, delete, leases, put, put_leased, revision};
use crate::node::{At, NET, Seen};

#[test]
fn two_nodes_have_different_subnets_and_see_each_other() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let first = At(1).start();
    let alone = first.complete(|nodes| nodes.len() == 1);
    let second = At(2).start();
    let both = first.complete(|nodes| nodes.len() == 2);
    assert_eq!(second.complete(|nodes| nodes.len() == 2), both);
    assert!(both.iter().any(|node| *node == alone[0]));
    assert!(both[0].subnets != both[1].subnets);
    let node = both.iter().find(|node| node.name.as_str() == "n2").unwrap();
    assert_eq!(node.addresses.v4, Some("192.0.2.2".parse().unwrap()));
    assert!(node.subnets.v4.unwrap().to_string().starts_with("10.244."), "{node:?}");

    // What has ended has taken nothing with it, and a restart finds it again.
    let before = leases();
    let start = Instant::now();
    drop(first);
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    let again = At(1).start();
    assert_eq!(again.complete(|nodes| nodes.len() == 2), both);
    let after = leases();
    assert_eq!(after.len(), 2);
    assert_eq!((&after[0].created, &after[0].lease), (&before[0].created, &before[0].lease));
    second.hears_nothing();
}

#[test]
fn many_that_come_at_once_have_one_subnet_each() {
    isolated!();
    let _member = Member::start();
    // Both families: keys that differ in one of them do not keep each other out.
    configure(
        r#"{"Network":"10.5.0.0/19","EnableIPv6":true,"IPv6Network":"fc00::/59","Backend":{"Type":"vxlan"}}"#,
    );
    let nodes: Vec<Seen> = (1..=25).map(|n| At(n).start()).collect();
    let mut last = Vec::new();
    for node in &nodes {
        last = node.complete(|nodes| nodes.len() == 25);
    }
    for family in Family::ALL {
        let mut subnets: Vec<_> = last.iter().map(|it| it.subnets.get(family).unwrap()).collect();
        subnets.sort();
        subnets.dedup();
        assert_eq!(subnets.len(), 25, "{family}");
    }
}

#[test]
fn leases_of_flannel_are_understood_and_taken_over() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let flannel = |address: &str| {
        let last = address.rsplit('.').next().unwrap();
        format!(
            r#"{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:{last:0>2}"}}}}"#
        )
    };
    put_leased("subnets/10.244.7.0-24", &flannel("192.0.2.7"), 60);
    put_leased("subnets/10.244.9.0-24", &flannel("192.0.2.1"), 60);
    put("subnets/10.244.3.0-24", "{\"PublicIP\": 7");
    put("subnets/0.0.0.0-0", &flannel("192.0.2.66"));
    put("subnets/else", "\u{0}");
    let here = At(1).start();
    let nodes = here.complete(|_| true);
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["10.244.7.0-24", "n1"]);
    assert_eq!(nodes[0].mac(Family::V4).to_string(), "aa:bb:cc:dd:ee:07");
    assert_eq!(nodes[1].subnets.v4, Some("10.244.9.0/24".parse().unwrap()));
    let known = "aa:bb:cc:dd:ee:01";
    assert_eq!(nodes[1].mac(Family::V4).to_string(), known, "where others send");
    let ours = leases().into_iter().find(|it| it.key == "10.244.9.0-24").unwrap();
    assert_eq!(ours.value["NodeName"], "n1");
    assert_eq!(ours.value["BackendData"], serde_json::json!({ "VNI": 1, "VtepMAC": known }));

    // flannel goes on writing on this node until it is stopped: it is us, so we go on, too.
    put_leased("subnets/10.244.9.0-24", &flannel("192.0.2.1"), 60);
    here.until(|| leases().iter().any(|it| it.value["NodeName"] == "n1"));
    delete("subnets/10.244.7.0-24");
    here.complete(|nodes| nodes.len() == 1);
}

#[test]
fn nobody_is_told_of_a_node_without_an_address() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let here = At(1).nowhere().start();
    let said = here.astray();
    assert!(said.contains("underlay.interface"), "{said}");
    assert!(leases().is_empty(), "{:?}", leases());
    // It is told as soon as there is one, and not taken back when that goes.
    let address = |it: &str| it.parse().ok();
    here.publish(|publication| publication.addresses.v4 = address("192.0.2.1"));
    here.complete(|nodes| nodes.len() == 1);
    here.publish(|publication| publication.addresses = PerFamily::default());
    assert_eq!(here.astray(), said);
    // vxlan carries IPv4 pods over IPv4 alone.
    here.publish(|publication| publication.addresses.v6 = address("2001:db8::1"));
    here.hears_nothing();
    assert_eq!(leases()[0].value["PublicIP"], "192.0.2.1");
    here.publish(|publication| publication.addresses.v4 = address("192.0.2.11"));
    here.complete(|nodes| nodes[0].addresses.v4 == address("192.0.2.11"));
}

#[test]
fn reserved_subnets_stay_reserved() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    put("subnets/10.244.200.0-24", r#"{"PublicIP":"192.0.2.1"}"#);
    put("subnets/10.244.201.0-24", r#"{"PublicIP":"192.0.2.2"}"#);
    let here = At(1).with(|etcd| etcd.lease_seconds = 1).start();
    let nodes = here.complete(|_| true);
    assert_eq!(nodes.len(), 1, "nobody is at the other yet");
    assert_eq!(nodes[0].subnets.v4, Some("10.244.200.0/24".parse().unwrap()));
    thread::sleep(Duration::from_secs(2));
    assert!(leases().iter().all(|it| it.lease.is_none()), "{:?}", leases());
}

#[test]
fn two_families_are_one_lease() {
    isolated!();
    let _member = Member::start();
    configure(
        r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56","Backend":{"Type":"vxlan"}}"#,
    );
    put(
        "subnets/10.244.5.0-24&fd00:10:244:5::-64",
        r#"{"PublicIP":"192.0.2.5","PublicIPv6":"2001:db8::5","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:05"},"BackendV6Data":{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:56"}}"#,
    );
    let here = At(1).start();
    let nodes = here.complete(|nodes| nodes.len() == 2);
    let ours = nodes.iter().find(|node| node.name.as_str() == "n1").unwrap();
    let theirs = nodes.iter().find(|node| node.name.as_str() != "n1").unwrap();
    assert_eq!(ours.addresses.v6, Some("2001:db8::1".parse().unwrap()));
    assert_eq!(theirs.subnets.v6, Some("fd00:10:244:5::/64".parse().unwrap()));
    assert_eq!(theirs.mac(Family::V6).to_string(), "aa:bb:cc:dd:ee:56");
    assert_eq!(ours.subnets.v6.unwrap().prefix_len(), 64);
    drop(here);

    // A cluster that gets its second family later keeps the subnets of the first.
    let subnet = ours.subnets.v4.unwrap();
    configure(NET);
    let here = At(1).start();
    let ours = here.complete(|_| true).into_iter().find(|node| node.name.as_str() == "n1").unwrap();
    assert_eq!((ours.subnets.v4, ours.subnets.v6), (Some(subnet), None));
    assert_eq!(leases().len(), 2, "{:?}", leases());
}

#[test]
fn a_full_network_is_said_and_waited_for() {
    isolated!();
    let _member = Member::start();
    configure(r#"{"Network":"10.5.0.0/22","SubnetMax":"10.5.2.0"}"#);
    for n in 1..=2 {
        let lease = format!(r#"{{"PublicIP":"192.0.2.{}","BackendType":"vxlan"}}"#, 100 + n);
        put(&format!("subnets/10.5.{n}.0-24"), &lease);
    }
    let here = At(1).start();
    let text = here.astray();
    assert!(text.contains("all of 10.5.0.0/22 from 10.5.1.0 to 10.5.2.0 are leased"), "{text}");
    delete("subnets/10.5.2.0-24");
    assert_eq!(here.complete(|_| true).len(), 2);
}

#[test]
fn what_a_node_publishes_may_change() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let (first, second) = (At(1).start(), At(2).start());
    first.complete(|nodes| nodes.len() == 2);
    let before = second.complete(|nodes| nodes.len() == 2);
    first.publish(|publication| publication.addresses.v4 = Some("192.0.2.77".parse().unwrap()));
    let moved = |nodes: &[fabric::Node]| {
        nodes.iter().any(|node| node.addresses.v4 == Some("192.0.2.77".parse().unwrap()))
    };
    let after = second.complete(moved);
    assert_eq!(
        after.iter().map(|it| it.subnets).collect::<Vec<_>>(),
        before.iter().map(|it| it.subnets).collect::<Vec<_>>()
    );
    assert_eq!(first.complete(moved), after);
    drop(first);
    // It was moved while its agent did not run.
    let first = At(1).start();
    assert_eq!(first.complete(|_| true), before);
}

#[test]
fn a_subnet_from_before_is_preferred() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let subnet = "10.244.123.0/24".parse().unwrap();
    let here = At(1).start_here(|here| here.subnets.v4 = Some(subnet));
    assert_eq!(here.complete(|_| true)[0].subnets.v4, Some(subnet));
    let there = At(2).start_here(|here| here.subnets.v4 = Some(subnet));
    assert_eq!(there.complete(|nodes| nodes.len() == 2).len(), 2);
}

#[test]
fn a_network_may_have_the_other_family_only() {
    isolated!();
    let _member = Member::start();
    configure(
        r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/56","Backend":{"Type":"vxlan"}}"#,
    );
    let here = At(1).start();
    let nodes = here.complete(|_| true);
    assert_eq!(nodes[0].subnets.v4, None);
    assert!(leases()[0].key.starts_with("0.0.0.0-0&fd00:10:244:"), "{:?}", leases());
    drop(here);
    assert_eq!(At(1).start().complete(|_| true), nodes);
}

#[test]
fn a_second_machine_of_the_same_name_takes_it_once() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let first = At(1).start();
    let before = first.complete(|_| true);
    let second = At(1).from("192.0.2.99").start();
    let after = second.complete(|_| true);
    assert_eq!(after[0].subnets, before[0].subnets);
    let text = first.withdrawn();
    assert!(text.contains("node n1 at 192.0.2.99"), "{text}");
    first.hears_nothing();
    second.hears_nothing();
}

#[test]
fn two_agents_of_one_node_do_not_keep_etcd_busy() {
    isolated!();
    let _member = Member::start();
    // Nothing says which of the two is right.
    configure(r#"{"Network":"10.244.0.0/16"}"#);
    let first = At(1).start();
    first.complete(|_| true);
    let second = At(1).start();
    second.publish(|publication| publication.vni = 7);
    thread::sleep(Duration::from_secs(1));
    let before = revision();
    thread::sleep(Duration::from_secs(4));
    let writes = revision() - before;
    assert!((1..40).contains(&writes), "{writes} writes in 4 s");
    println!("{writes} writes in 4 s");
    assert_eq!(leases().len(), 1);
}

#[test]
fn the_networks_of_all_pods_are_told() {
    isolated!();
    let _member = Member::start();
    configure(
        r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56","Backend":{"Type":"vxlan"}}"#,
    );
    let here = At(1).start();
    let networks = |count: usize| {
        let networks = here.cluster(|cluster| cluster.pod_networks.len() == count).pod_networks;
        networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(networks(2), "10.244.0.0/16 fd00:10:244::/56");
}
