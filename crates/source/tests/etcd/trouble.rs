//! An etcd that dies, is slow, forgets, or holds what should not be there.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use testbed::isolated;

use crate::member::{Gate, Member, compact, configure, delete, etcd, leases, put, put_leased};
use crate::node::{At, NET};

#[test]
fn leases_are_renewed_and_end_with_their_node() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let here = At(1).with(|etcd| etcd.lease_seconds = 2).start();
    here.complete(|_| true);
    let before = leases();
    thread::sleep(Duration::from_secs(5));
    let after = leases();
    assert_eq!((&after[0].created, &after[0].lease), (&before[0].created, &before[0].lease));
    here.hears_nothing();
    drop(here);
    let start = Instant::now();
    while !leases().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(8), "it is renewed still");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn etcd_may_die_and_come_back() {
    isolated!();
    let mut member = Member::start();
    configure(NET);
    let here = At(1).start();
    let before = here.complete(|_| true);
    // What is soon over is not worth a word.
    member.kill();
    member.restart();
    here.hears_nothing();
    put_leased("subnets/10.244.7.0-24", r#"{"PublicIP":"192.0.2.7","BackendType":"vxlan"}"#, 60);
    here.complete(|nodes| nodes.len() == 2);
    delete("subnets/10.244.7.0-24");
    here.complete(|nodes| nodes.len() == 1);

    member.kill();
    let text = here.astray();
    assert!(text.contains("etcd cannot be reached: http://127.0.0.1:2379"), "{text}");
    here.hears_nothing();
    member.restart();
    assert_eq!(here.complete(|_| true), before);
}

#[test]
fn etcd_may_be_slow() {
    isolated!();
    let member = Member::start();
    configure(NET);
    let here = At(1).with(|etcd| etcd.lease_seconds = 3).start();
    here.complete(|_| true);
    member.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(2500));
    member.signal(Signal::CONT);
    put_leased("subnets/10.244.7.0-24", r#"{"PublicIP":"192.0.2.7","BackendType":"vxlan"}"#, 60);
    let nodes = here.complete(|nodes| nodes.len() == 2);
    assert!(nodes.iter().any(|node| node.name.as_str() == "n1"));

    // So slow that our lease may have ended.
    member.signal(Signal::STOP);
    let text = here.astray();
    assert!(text.contains("has run out, and another node may be given it"), "{text}");
    member.signal(Signal::CONT);
    assert_eq!(here.complete(|_| true), nodes);

    // And an end does not wait for it.
    member.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(1500));
    let start = Instant::now();
    drop(here);
    let took = start.elapsed();
    member.signal(Signal::CONT);
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn etcd_may_forget_what_was_between() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let gate = Gate::new();
    let here = At(1).through(Gate::URL).start();
    let before = here.complete(|_| true);
    gate.close();
    put("subnets/10.244.7.0-24", r#"{"PublicIP":"192.0.2.7","BackendType":"vxlan"}"#);
    put("subnets/10.244.8.0-24", r#"{"PublicIP":"192.0.2.8","BackendType":"vxlan"}"#);
    delete("subnets/10.244.7.0-24");
    put("elsewhere", "x");
    compact();
    gate.open();
    let nodes = here.complete(|nodes| nodes.len() == 2);
    assert_eq!(nodes[1].name.as_str(), "10.244.8.0-24");
    assert_eq!(nodes[0], before[0]);
    here.hears_nothing();
}

#[test]
fn etcd_may_lose_everything() {
    isolated!();
    let mut member = Member::start();
    configure(NET);
    for _ in 0..20 {
        put("elsewhere", "x");
    }
    let here = At(1).start();
    let before = here.complete(|_| true);
    member.wipe();
    member.restart();
    let text = here.astray();
    assert!(text.contains("/coreos.com/network/config is not in etcd"), "{text}");
    configure(NET);
    assert_eq!(here.complete(|_| true), before, "the node has its pods still");
}

#[test]
fn a_lease_that_was_removed_is_written_again() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let here = At(1).start();
    here.complete(|_| true);
    let before = leases();
    delete(&format!("subnets/{}", before[0].key));
    here.until(|| !leases().is_empty());
    let after = leases();
    assert_eq!((after.len(), &after[0].key), (1, &before[0].key));
    assert!(after[0].created != before[0].created);
    // And so is one that ended with etcd's lease.
    etcd("/v3/kv/lease/revoke", &json!({ "ID": after[0].lease }));
    here.until(|| leases().iter().any(|it| it.key == before[0].key && it.lease != after[0].lease));
    here.hears_nothing();
}

#[test]
fn a_lease_that_another_has_is_withdrawn() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let gate = Gate::new();
    let here = At(1).through(Gate::URL).with(|etcd| etcd.lease_seconds = 2).start();
    let before = here.complete(|_| true);
    gate.close();
    let text = here.astray();
    assert!(text.contains("has run out, and another node may be given it"), "{text}");
    let key = format!("subnets/{}", before[0].subnets.v4.unwrap().to_string().replace('/', "-"));
    let other = r#"{"NodeName":"n9","PublicIP":"192.0.2.9","BackendType":"vxlan"}"#;
    put(&key, other);
    gate.open();
    let text = here.withdrawn();
    assert!(text.contains("is now leased to node n9 at 192.0.2.9"), "{text}");
    here.hears_nothing();
    let stored = leases();
    assert_eq!((stored.len(), stored[0].value["NodeName"].as_str()), (1, Some("n9")));
    // It is free again: nothing but this agent knows how to use it.
    delete(&key);
    assert_eq!(here.complete(|_| true), before);

    // A machine that calls itself as we do is another one, too.
    put(&key, r#"{"NodeName":"n1","PublicIP":"192.0.2.8","BackendType":"vxlan"}"#);
    let text = here.withdrawn();
    assert!(text.contains("node n1 at 192.0.2.8"), "{text}");
}

#[test]
fn a_configuration_that_cannot_be_is_named() {
    isolated!();
    let _member = Member::start();
    let here = At(1).start();
    let text = here.astray();
    assert!(text.contains("/coreos.com/network/config is not in etcd"), "{text}");
    configure("{");
    let text = here.astray();
    assert!(text.contains("it is not a network configuration such as {\"Network\""), "{text}");
    configure(r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":7}}"#);
    let text = here.astray();
    assert!(text.contains("Backend.VNI is 7 there, tunnel.vni is 1 here"), "{text}");
    assert!(leases().is_empty(), "nothing is leased under what is wrong");
    here.hears_nothing();
    here.publish(|publication| publication.vni = 7);
    here.complete(|_| true);
    // And later, under a node at work: it keeps its lease.
    configure(r#"{"Network":"10.99.0.0/16","Backend":{"Type":"vxlan","VNI":7}}"#);
    let text = here.astray();
    assert!(text.contains("is not of the network"), "{text}");
    assert_eq!(leases().len(), 1);
    configure(r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":7}}"#);
    here.complete(|_| true);
}
