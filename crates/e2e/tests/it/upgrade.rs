//! A node whose plugins change under its pods.

use std::net::SocketAddr;

use e2e::{By, Kubelet, Machine, NODE, Pod, Port, WEB, page};
use testbed::{assert_same_state, sh};

use crate::pods::{reach_each_other, ready, settle};

const MORE: Port = Port { host: 18081, ..WEB };

#[test]
fn to_podwire() {
    let machine = e2e::machine!(By::Reference);
    machine.configure();
    let (_containerd, kubelet, _) = ready(&machine);
    // What all pods share is there from both makers.
    machine.podwire("install");
    let settled = settle(&machine, kubelet);
    machine.podwire("install --undo");

    let [old, new] = pods_of_two_makers(&machine, kubelet, "install");
    for pod in [&old, &new] {
        kubelet.stop(&pod.id).unwrap();
        kubelet.remove(&pod.id).unwrap();
    }
    assert_same_state(&settled, &machine.traces());
}

#[test]
fn back_to_the_reference() {
    let machine = e2e::machine!(By::Reference);
    machine.configure();
    let (_containerd, kubelet, settled) = ready(&machine);
    machine.podwire("install");

    let [old, new] = pods_of_two_makers(&machine, kubelet, "install --undo");
    // The reference does not find its own masquerade, says so, and is content when asked again, as
    // every runtime asks again.
    if let Err(error) = kubelet.stop(&old.id) {
        assert!(error.contains("-t nat -D POSTROUTING"), "{error}");
    }
    for pod in [&old, &new] {
        kubelet.stop(&pod.id).unwrap();
        kubelet.remove(&pod.id).unwrap();
    }
    // docs/runtimes.md tells how podwire's own tables and index go, of which the reference does not
    // know.
    for table in ["inet podwire_cni", "bridge podwire_cni"] {
        machine.node().sh(&format!("nft add table {table}; nft delete table {table}"));
    }
    sh("rm -r /var/lib/podwire/ipam; rmdir /var/lib/podwire");
    assert_same_state(&settled, &machine.traces());
}

/// A pod made before `podwire` does what it is told, and another one made after it.
fn pods_of_two_makers(machine: &Machine, kubelet: Kubelet<'_>, change: &str) -> [Pod; 2] {
    let old = kubelet.run("old", &[WEB]).unwrap();
    machine.podwire(change);
    let new = kubelet.run("new", &[MORE]).unwrap();
    assert!(new.addresses.iter().all(|address| !old.addresses.contains(address)));
    reach_each_other(kubelet, &old, &new);
    for (pod, port) in [(&old, WEB), (&new, MORE)] {
        for address in NODE {
            assert_eq!(page(machine.outside(), SocketAddr::new(address, port.host)), pod.name);
        }
    }
    [old, new]
}
