//! Containers with a network made by `ctr run --cni`, which finds plugins and configuration where
//! they are by default.

use std::net::IpAddr;

use e2e::{Containerd, Machine};
use testbed::assert_same_state;

for_each_maker!(a_container_comes_and_goes);

fn a_container_comes_and_goes(machine: &Machine) {
    machine.configure();
    let _containerd = Containerd::start(machine);
    machine.ctr("image import /run/e2e/image.tar");
    let first = machine.run_with_ctr("first", "ip -o address show scope global");
    assert!(first.contains("10.20.0.2/24") && first.contains("fd20::2/64"), "{first}");
    let left = machine.traces();
    let second =
        machine.run_with_ctr("second", "ip -o address show scope global; ping -c 1 192.0.2.1");
    assert!(second.contains("10.20.0.3/24") && second.contains("1 packets received"), "{second}");
    assert_eq!(machine.reserved(), Vec::<IpAddr>::new());
    // By the time of DEL, the namespace is gone. Then the reference forgets the masquerade.
    if machine.is_podwire("bridge") {
        assert_same_state(&left, &machine.traces());
    }
}
