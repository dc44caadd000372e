//! A cluster of etcd of which members die.

use std::thread;
use std::time::Duration;

use testbed::isolated;

use crate::member::{Member, configure, delete, leases, put_leased};
use crate::node::{At, NET};

const OTHER: &str = r#"{"PublicIP":"192.0.2.7","BackendType":"vxlan"}"#;

/// One after another is killed, so that one of them is the leader, and so is the one that is asked.
#[test]
fn whichever_member_dies_the_next_one_is_asked() {
    isolated!();
    let mut members = Member::cluster(3);
    configure(NET);
    let all = [0, 1, 2].map(Member::url);
    let here = At(1).with(|etcd| {
        etcd.endpoints = all.to_vec();
        etcd.lease_seconds = 4;
    });
    let here = here.start();
    let before = here.complete(|_| true);
    let held = || {
        let lease = leases().into_iter().find(|it| it.value["NodeName"] == "n1").unwrap();
        (lease.key, lease.created, lease.lease)
    };
    let lease = held();
    for member in &mut members {
        member.kill();
        put_leased("subnets/10.244.7.0-24", OTHER, 60);
        here.complete(|nodes| nodes.len() == 2);
        // Longer than the lease lives without being renewed.
        thread::sleep(Duration::from_secs(6));
        assert_eq!(held(), lease, "it is the same one");
        delete("subnets/10.244.7.0-24");
        assert_eq!(here.complete(|nodes| nodes.len() == 1), before);
        member.restart();
    }
    here.hears_nothing();
}
