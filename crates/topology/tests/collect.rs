//! That cables are found in real namespaces.

use std::path::Path;
use std::process::{Child, Command};

use testbed::look::eventually;
use testbed::{Namespace, isolated, sh};
use topology::{End, Machine, Place, Role, Sources};

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
    let machine = Machine::collect(&Sources::of(places)).unwrap();

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

#[test]
fn every_namespace_of_a_machine_is_found_once() {
    isolated!();
    let bound = Namespace::new("bound");
    let pod = Namespace::new("cni-pod");
    sh(
        "mkdir /run/elsewhere; touch /run/elsewhere/a; mount --bind /run/netns/bound /run/elsewhere/a",
    );
    // One with a process only, one with an open file only.
    let process = Running::new("exec unshare -n sleep 60");
    let held = Namespace::new("held");
    let holder = Running::new("exec 7</run/netns/held; exec sleep 60");
    let id = held.netns().id().unwrap();
    sh("ip -n cni-pod link add eth0 type veth peer name veth0 netns bound");
    let by_process = eventually("a namespace of its own", || {
        let ours = kernel::Netns::current().unwrap().id().unwrap();
        let netns = kernel::Netns::of_process(process.pid()).ok()?.id().ok()?;
        (netns != ours).then_some(netns)
    });
    eventually("a file held open", || {
        Path::new(&format!("/proc/{}/fd/7", holder.pid())).exists().then_some(())
    });
    drop(held);

    let machine = Machine::collect(&Sources::machine()).unwrap();
    let find = |id: topology::NetnsId| {
        let found: Vec<_> = machine.namespaces.iter().filter(|it| it.id == id).collect();
        assert_eq!(found.len(), 1, "{id:?}: {found:#?}");
        found[0]
    };
    assert_eq!(machine.namespaces[0].role, Role::Host);
    assert_eq!(machine.namespaces[0].name, "host");
    let seen = find(bound.netns().id().unwrap());
    assert_eq!(seen.name, "bound");
    assert_eq!(seen.path(), Some(&*bound.path()));
    assert!(seen.paths.contains(&"/run/elsewhere/a".into()));
    let seen = find(by_process);
    assert_eq!(seen.name, format!("sleep-{}", process.pid()));
    assert_eq!(seen.processes[0].pid, process.pid());
    let seen = find(id);
    assert_eq!(seen.path(), Some(Path::new(&format!("/proc/{}/fd/7", holder.pid()))));
    // Peers are found whoever bound them.
    let seen = find(pod.netns().id().unwrap());
    let at = machine.namespaces.iter().position(|it| it.id == seen.id).unwrap();
    let eth0 = seen.links().find(|link| link.name == "eth0").unwrap();
    let far = machine.peer(End { namespace: at, link: eth0.index }).unwrap();
    assert_eq!(machine.namespaces[far.namespace].name, "bound");
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    #[expect(clippy::disallowed_methods, reason = "tests start processes")]
    fn new(script: &str) -> Self {
        Self(Command::new("sh").args(["-c", script]).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
