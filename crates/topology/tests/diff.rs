//! That what is done to a network is told in its own words, and what changes by itself is not.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use testbed::{Namespace, isolated, sh};
use topology::{Kind, Machine, Place, Role, Sources, diff};

fn look() -> Machine {
    let place = |name: &str, role| Place {
        role,
        node: Some("node".to_owned()),
        ..Place::new(name, format!("/run/netns/{name}"))
    };
    let places = [place("node", Role::Node), place("a", Role::Pod), place("b", Role::Pod)];
    Machine::collect(&Sources::of(places)).unwrap()
}

fn told(before: &Machine, after: &Machine) -> Vec<String> {
    let found = diff(before, after);
    assert_eq!(found.unknown, Vec::<String>::new());
    found.differences.iter().map(|it| format!("{}: {}", it.subject, it.text)).collect()
}

#[test]
fn what_is_done_to_a_network_is_told_in_its_words() {
    isolated!();
    let (node, a) = (Namespace::new("node"), Namespace::new("a"));
    let b = Namespace::new("b");
    sh("ip -n node link add br0 type bridge; ip -n node link set br0 up
        ip -n node address add 10.1.0.1/24 dev br0
        for pod in a b; do
            ip -n node link add veth$pod type veth peer name eth0 netns $pod
            ip -n node link set veth$pod master br0 up; ip -n $pod link set eth0 up
        done
        ip -n a address add 10.1.0.2/24 dev eth0; ip -n b address add 10.1.0.3/24 dev eth0
        ip -n a route add default via 10.1.0.1");
    node.sh("nft 'table ip t { chain c { type nat hook postrouting priority 100; }; }'");
    let settled = testbed::look::eventually("a carrier", || {
        let machine = look();
        let links = |it: &topology::Namespace| it.links().all(topology::dump::Link::carrier);
        let up = machine.namespaces.iter().all(links);
        up.then_some(machine)
    });
    // Counters and neighbours go on.
    a.sh("ping -c 1 -W 1 10.1.0.1");
    assert_eq!(told(&settled, &look()), Vec::<String>::new());

    node.sh("ip link set vetha nomaster; bridge link set dev vethb hairpin on
        ip route add 10.9.0.0/16 via 10.1.0.2; echo 1 > /proc/sys/net/ipv4/ip_forward
        for i in $(seq 12); do nft add rule ip t c ip saddr 10.1.0.$i masquerade; done");
    node.sh("nft 'add table ip t { flags dormant; }'");
    a.sh("ip route del default; ip link set eth0 mtu 1400");
    let changed = look();
    let lines = told(&settled, &changed);
    for expected in [
        "node node: the veth vetha of pod a lost its bridge br0",
        "node node: the veth vethb of pod b has hairpin true, it was false",
        "node node: route 10.9.0.0/16 via 10.1.0.2 dev br0 is new",
        "node node: setting net.ipv4.ip_forward is 1, it was 0",
        "node node: 12 new masquerade rules in nftables chain ip t c, the first: ip saddr 10.1.0.1 masquerade",
        "node node: nftables table ip t fell dormant: none of its rules acts",
        "pod a: route default via 10.1.0.1 dev eth0 is gone",
        "pod a: the veth eth0 of node node has MTU 1400, it was 1500",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected:?} in {lines:#?}");
    }
    // Back is the same with the other sign.
    assert_eq!(told(&changed, &settled).len(), lines.len());

    drop(b);
    testbed::look::eventually("the pod's cable to go with it", || {
        (!testbed::look::links(&node).contains(&"vethb".to_owned())).then_some(())
    });
    let lines = told(&changed, &look());
    let gone = "pod b: is gone (10.1.0.3)";
    assert!(lines.iter().any(|line| line == gone), "{lines:#?}");
    let gone = "node node: the veth vethb of pod b is gone";
    assert!(lines.iter().any(|line| line == gone), "{lines:#?}");
    assert!(diff(&changed, &changed).differences.is_empty());
}

#[test]
fn what_could_not_be_seen_is_not_called_the_same() {
    let gap = topology::Gap { what: "network namespace x".into(), why: "no".into() };
    let blind = Machine { gaps: vec![gap], ..Machine::default() };
    let found = diff(&Machine::default(), &blind);
    assert_eq!(found.unknown, ["after: network namespace x: no"]);
    assert!(found.differences.is_empty());
}

#[test]
fn a_pod_that_is_new_is_one_difference() {
    let mut after = Machine::default();
    let mut pod = topology::Namespace::new(topology::NetnsId { device: 4, inode: 1 });
    pod.name = "default/x".to_owned();
    pod.role = Role::Pod;
    after.namespaces.push(pod);
    let found = diff(&Machine::default(), &after).differences;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].subject.as_str(), found[0].change), ("pod default/x", Kind::New));
}

/// Each device is compared with one other and led to its far end by one look-up, however many there
/// are.
#[test]
fn thousands_of_cables_are_told_apart() {
    const PODS: u32 = 2_000;
    let id = |inode: u32| topology::NetnsId { device: 4, inode: inode.into() };
    let cable = |index, name: String, parent, number| topology::dump::Link {
        index,
        name,
        kind: "veth".to_owned(),
        parent: Some(parent),
        parent_netns: Some(number),
        ..Default::default()
    };
    let mut node = topology::Namespace::new(id(1));
    node.name = "node".to_owned();
    node.role = Role::Node;
    let mut before = Machine::default();
    for pod in 0..PODS {
        let (near, number) = (pod + 10, pod as i32);
        let port = cable(near, format!("veth{pod}"), 2, number);
        node.dump.links.insert(near, topology::dump::Link { master: Some(1), ..port });
        node.known.insert(number, id(pod + 100));
        let mut namespace = topology::Namespace::new(id(pod + 100));
        namespace.name = format!("pod{pod}");
        namespace.role = Role::Pod;
        namespace.known.insert(0, node.id);
        namespace.dump.links.insert(2, cable(2, "eth0".to_owned(), near, 0));
        before.namespaces.push(namespace);
    }
    before.namespaces.push(node);
    let mut after = before.clone();
    let node = after.namespaces.last_mut().unwrap();
    node.dump.links.values_mut().for_each(|link| link.master = None);
    let lost = |pod| format!("node node: the veth veth{pod} of pod pod{pod} lost its bridge 1");
    let (mut lines, mut expected) =
        (told(&before, &after), (0..PODS).map(lost).collect::<Vec<_>>());
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}
