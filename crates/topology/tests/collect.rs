//! That cables are found in real namespaces.

use kernel::Kernel;
use testbed::{Namespace, isolated, sh};
use topology::{End, Machine, Place};

#[test]
fn a_machine_is_collected_with_its_cables() {
    isolated!();
    let (node, pod, other) =
        (Namespace::new("node"), Namespace::new("pod"), Namespace::new("other"));
    sh("ip -n node link add br0 type bridge
        ip -n node link add veth1 type veth peer name eth0 netns pod
        ip -n node link add veth2 type veth peer name eth0 netns other
        ip -n node link set veth1 master br0
        ip -n node address add 10.1.0.1/24 dev br0
        ip -n pod link add left type veth peer name right
        ip -n node link set br0 up; ip -n node link set veth1 up; ip -n pod link set eth0 up
        ip -n pod address add 10.1.0.2/24 dev eth0
        ip -n pod route add default via 10.1.0.1");
    let place = |space: &Namespace, name: &str| Place::new(name, space.path());
    let places = [place(&node, "node"), place(&pod, "pod"), place(&other, "other")];
    let machine = Machine::collect(&mut Kernel::new().unwrap(), &places).unwrap();

    let end = |namespace: usize, name: &str| {
        let link = machine.namespaces[namespace].links().find(|link| link.name == name).unwrap();
        End { namespace, link: link.index }
    };
    for (near, far) in [
        (end(0, "veth1"), end(1, "eth0")),
        (end(0, "veth2"), end(2, "eth0")),
        (end(1, "left"), end(1, "right")),
    ] {
        assert_eq!(machine.peer(near), Some(far));
        assert_eq!(machine.peer(far), Some(near));
    }
    assert_eq!(machine.peer(end(0, "br0")), None);

    let node = &machine.namespaces[0];
    let bridge = node.bridges().next().unwrap();
    assert_eq!(node.ports(bridge).map(|link| link.name.as_str()).collect::<Vec<_>>(), ["veth1"]);
    assert_eq!(node.addresses(bridge).count(), 1);
    assert_eq!(node.default_routes().count(), 0);
    assert_eq!(machine.namespaces[1].default_routes().count(), 1);
}
