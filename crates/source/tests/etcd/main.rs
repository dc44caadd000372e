//! The etcd source against a real etcd that is killed, stopped, compacted and wiped, and in which
//! others write.
#![cfg(feature = "etcd")]

mod member;
mod node;

use std::thread;
use std::time::{Duration, Instant};

use fabric::Family;
use rustix::process::Signal;
use serde_json::json;
use testbed::{isolated, sh};

use member::{Gate, Member, URL, base64, configure, delete, etcd, leases, put, put_leased};
use node::{At, NET, Seen};

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
        format!(
            r#"{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:f0"}}}}"#
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
    assert_eq!(nodes[0].mac(Family::V4).to_string(), "aa:bb:cc:dd:ee:f0");
    assert_eq!(nodes[1].subnets.v4, Some("10.244.9.0/24".parse().unwrap()));
    assert_eq!(nodes[1].macs.v4, Some(nodes[1].name.mac()));
    let ours = leases().into_iter().find(|it| it.key == "10.244.9.0-24").unwrap();
    assert_eq!(ours.value["NodeName"], "n1");
    assert_eq!(ours.value["BackendData"]["VNI"], 1);

    // flannel goes on writing on this node until it is stopped: it is us, so we go on, too.
    put_leased("subnets/10.244.9.0-24", &flannel("192.0.2.1"), 60);
    here.until(|| leases().iter().any(|it| it.value["NodeName"] == "n1"));
    delete("subnets/10.244.7.0-24");
    here.complete(|nodes| nodes.len() == 1);
}

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
    member::compact();
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
fn a_member_that_is_dead_is_passed_over() {
    isolated!();
    let _member = Member::start();
    configure(NET);
    let endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2", URL];
    let here = At(1).with(|etcd| etcd.endpoints = endpoints.map(str::to_owned).to_vec()).start();
    here.complete(|_| true);
}

#[test]
fn users_and_passwords() {
    isolated!();
    let _member = Member::with(&["--auth-token-ttl", "2", "--bcrypt-cost", "4"]);
    configure(NET);
    let range = json!({
        "permType": "READWRITE",
        "key": base64("/coreos.com/network/"), "range_end": base64("/coreos.com/network0"),
    });
    etcd("/v3/auth/role/add", &json!({ "name": "net" }));
    etcd("/v3/auth/role/grant", &json!({ "name": "net", "perm": range }));
    for (user, role) in [("root", "root"), ("podwire", "net")] {
        etcd("/v3/auth/user/add", &json!({ "name": user, "password": "secret" }));
        if role == "root" {
            etcd("/v3/auth/role/add", &json!({ "name": role }));
        }
        etcd("/v3/auth/user/grant", &json!({ "user": user, "role": role }));
    }
    etcd("/v3/auth/enable", &json!({}));
    let secret = testbed::directory();
    let path = secret.path().join("password");
    std::fs::write(&path, "wrong\n").unwrap();
    let as_user = |etcd: &mut fabric::Etcd| {
        etcd.username = Some("podwire".to_owned());
        etcd.password_file = Some(path.clone());
        etcd.lease_seconds = 12;
    };
    let here = At(1).with(as_user).start();
    let text = here.astray();
    assert!(text.contains("etcd refuses: ") && text.contains("authentication failed"), "{text}");
    std::fs::write(&path, "secret\n").unwrap();
    here.complete(|_| true);
    // Longer than a token is good for, and then a renewal and a write.
    thread::sleep(Duration::from_millis(4500));
    here.publish(|publication| publication.addresses.v4 = Some("192.0.2.77".parse().unwrap()));
    here.complete(|nodes| nodes[0].addresses.v4 == Some("192.0.2.77".parse().unwrap()));

    let nobody = At(2).start();
    let text = nobody.astray();
    assert!(text.contains("etcd refuses: etcdserver: user name is empty"), "{text}");
}

#[test]
fn certificates_on_both_sides() {
    isolated!();
    testbed::need("openssl", "openssl");
    let directory = testbed::directory();
    let at = |name: &str| directory.path().join(name);
    let d = directory.path().display();
    sh(&format!(
        "cd {d}
         ca() {{ openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -subj /CN=$1 -keyout $1.key -out $1.crt 2>&1; }}
         signed() {{ openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$1 \
             -keyout $1.key -out $1.csr 2>&1
             printf \"$2\" >$1.ext
             openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
             -extfile $1.ext -out $1.crt 2>&1; }}
         ca ca; ca other
         signed server 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth'
         signed client 'extendedKeyUsage=clientAuth'"
    ));
    let file = |name: &str| at(name).display().to_string();
    let (cert, key, ca) = (file("server.crt"), file("server.key"), file("ca.crt"));
    let _member = Member::with(&[
        "--listen-client-urls",
        "https://127.0.0.1:2378,http://127.0.0.1:2379",
        "--cert-file",
        &cert,
        "--key-file",
        &key,
        "--trusted-ca-file",
        &ca,
        "--client-cert-auth",
    ]);
    configure(NET);
    let with = |ca: &str, client: Option<(&str, &str)>| {
        let (ca, client) = (at(ca), client.map(|(cert, key)| (at(cert), at(key))));
        At(1).through("https://127.0.0.1:2378").with(move |etcd| {
            etcd.ca_file = Some(ca);
            (etcd.cert_file, etcd.key_file) = client.unzip();
        })
    };
    let here = with("ca.crt", Some(("client.crt", "client.key"))).start();
    here.complete(|_| true);
    put("subnets/10.244.7.0-24", r#"{"PublicIP":"192.0.2.7","BackendType":"vxlan"}"#);
    here.complete(|nodes| nodes.len() == 2);
    drop(here);

    let text = with("other.crt", Some(("client.crt", "client.key"))).start().astray();
    assert!(text.contains("UnknownIssuer"), "{text}");
    let text = with("ca.crt", None).start().astray();
    assert!(text.contains("ertificate"), "{text}");

    for (ca, client, expected) in [
        ("none.crt", None, "none.crt: No such file"),
        ("ca.key", None, "ca.key: holds no certificate in PEM"),
        ("ca.crt", Some(("client.crt", "server.key")), "server.key: does not go with"),
        ("ca.crt", Some(("client.crt", "ca.crt")), "ca.crt: holds no private key in PEM"),
    ] {
        let error = with(ca, client).refusal();
        assert!(error.contains(expected), "{error}\n  does not say\n{expected}");
    }
}
