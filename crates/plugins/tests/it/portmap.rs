//! Ports of the node that lead to pods: by whom they are reached, what a pod sees of the caller,
//! and what becomes of them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use kernel::Netns;
use serde_json::{Value, json};
use testbed::Namespace;

use crate::harness::*;
use crate::keys::BOTH;

/// Long for a network without distance, short for one who waits in vain.
const PATIENCE: Duration = Duration::from_millis(400);

/// A node with a world beyond, and a network with pods that may have ports.
struct Town {
    node: Node,
    world: Pod,
    bridge: Value,
}

impl Town {
    fn new(by: By) -> Self {
        let node = Node::new(by);
        let world = node.pod("world");
        for space in [&node.namespace, &world.namespace] {
            space.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
        }
        node.namespace.sh("ip link add up0 type veth peer name down0 netns world
             ip address add 192.0.2.1/24 dev up0; ip address add 192.0.2.2/24 dev up0
             ip address add 2001:db8:99::1/64 dev up0 nodad; ip link set up0 up");
        world.namespace.sh("ip address add 192.0.2.9/24 dev down0
             ip address add 2001:db8:99::9/64 dev down0 nodad; ip link set down0 up
             ip route add default via 192.0.2.1; ip route add default via 2001:db8:99::1");
        let subnets = ["10.1.2.0/24", "2001:db8:1::/64"];
        // Without it, br_netfilter keeps a pod from reaching itself by the node.
        let keys = json!({ "isDefaultGateway": true, "hairpinMode": true });
        let bridge = node.network("0.4.0", &subnets, keys);
        Self { node, world, bridge }
    }

    fn rules(&self) -> String {
        self.node.namespace.sh("nft list ruleset; sysctl net.ipv4.conf.cni0.route_localnet")
    }

    fn config(&self, mappings: &Value, keys: Value, result: &Value) -> Value {
        let config = json!({
            "cniVersion": "0.4.0", "name": "pods", "type": "portmap",
            "runtimeConfig": { "portMappings": mappings }, "prevResult": result,
        });
        merged(config, keys)
    }

    /// A pod of these ports.
    #[expect(clippy::needless_pass_by_value, reason = "callers make the ports in place")]
    fn pod(&self, id: &str, mappings: Value, keys: Value) -> Tenant<'_> {
        let pod = self.node.pod(id);
        let result = self.node.add(&pod, &self.bridge);
        let config = self.config(&mappings, keys, &result);
        assert_eq!(self.node.add(&pod, &config), result);
        Tenant { town: self, pod, config, result }
    }
}

/// A pod, and what its ports were asked for with.
struct Tenant<'a> {
    town: &'a Town,
    pod: Pod,
    config: Value,
    result: Value,
}

impl Tenant<'_> {
    fn netns(&self) -> &Netns {
        self.pod.namespace.netns()
    }

    fn del(&self) {
        self.town.node.del(&self.pod, &self.config);
    }

    fn address(&self, place: usize) -> IpAddr {
        bare(&ips(&self.result)[place])
    }
}

/// Who the other end says has called, or `None` if nobody answers.
fn call(from: &Netns, to: &str, at: &Netns, port: u16) -> Option<String> {
    let listener = at.enter(|| TcpListener::bind((wildcard(to), port)).unwrap()).unwrap();
    listener.set_nonblocking(false).unwrap();
    let to: SocketAddr = to.parse().unwrap();
    let answering = std::thread::spawn(move || {
        if let Ok((mut stream, peer)) = listener.accept() {
            let _ = stream.write_all(peer.ip().to_canonical().to_string().as_bytes());
        }
    });
    let answer = from
        .enter(|| {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        })
        .unwrap();
    // A listener that nobody called is called, so that its thread ends.
    let own = SocketAddr::new(
        if to.is_ipv4() { [127, 0, 0, 1].into() } else { "::1".parse().unwrap() },
        port,
    );
    at.enter(|| drop(TcpStream::connect_timeout(&own, PATIENCE))).unwrap();
    answering.join().unwrap();
    answer.filter(|text| !text.is_empty())
}

fn wildcard(family: &str) -> &'static str {
    if family.starts_with('[') { "::" } else { "0.0.0.0" }
}

/// Whether a datagram to `to` arrives at `at` within a time.
fn send(socket: &UdpSocket, to: &str, at: &UdpSocket, patience: Duration) -> bool {
    at.set_read_timeout(Some(patience)).unwrap();
    socket.send_to(b"hello", to).unwrap();
    let mut bytes = [0; 16];
    at.recv_from(&mut bytes).is_ok()
}

fn tcp(host: u16, container: u16) -> Value {
    json!({ "hostPort": host, "containerPort": container, "protocol": "tcp" })
}

#[test]
fn a_port_is_reached_from_everywhere() {
    testbed::isolated!();
    for by in BOTH {
        let town = Town::new(by);
        let one = town.pod("one", json!([tcp(8080, 80)]), json!({}));
        let two = town.pod("two", json!([tcp(8081, 80)]), json!({}));
        let (world, node) = (town.world.namespace.netns(), town.node.namespace.netns());
        let ask = |from: &Netns, to: &str| call(from, to, one.netns(), 80);
        // The caller is seen as it is, unless the answer would not find back.
        assert_eq!(ask(world, "192.0.2.1:8080").as_deref(), Some("192.0.2.9"), "{by:?}");
        assert_eq!(ask(world, "[2001:db8:99::1]:8080").as_deref(), Some("2001:db8:99::9"));
        let own = "10.1.2.1";
        assert!(ask(node, "192.0.2.1:8080").is_some());
        assert_eq!(ask(node, "127.0.0.1:8080").as_deref(), Some(own));
        assert_eq!(ask(node, "10.1.2.1:8080").as_deref(), Some(own));
        assert!(ask(node, "[2001:db8:99::1]:8080").is_some());
        // The pod itself, and its sibling: answers would go past the node.
        assert_eq!(ask(one.netns(), "192.0.2.1:8080").as_deref(), Some(own));
        assert_eq!(ask(one.netns(), "10.1.2.1:8080").as_deref(), Some(own));
        assert_eq!(ask(one.netns(), "[2001:db8:99::1]:8080").as_deref(), Some("2001:db8:1::1"));
        assert_eq!(ask(two.netns(), "192.0.2.1:8080").as_deref(), Some(own));
        assert_eq!(call(one.netns(), "192.0.2.1:8081", two.netns(), 80).as_deref(), Some(own));
        // What is no host port is the pod's own address, unchanged.
        let direct = format!("{}:80", one.address(0));
        assert_eq!(ask(two.netns(), &direct), Some(two.address(0).to_string()));
        one.del();
        one.del();
        assert_eq!(ask(world, "192.0.2.1:8080"), None);
        assert!(call(world, "192.0.2.1:8081", two.netns(), 80).is_some());
    }
}

#[test]
fn a_port_may_be_at_some_addresses_only() {
    testbed::isolated!();
    let town = Town::new(By::Podwire);
    let at = |host: u16, ip: &str| json!({ "hostPort": host, "containerPort": 80, "protocol": "tcp", "hostIP": ip });
    let mappings = json!([
        at(81, "192.0.2.2"),
        at(82, "192.0.2.0/24"),
        at(82, "192.0.2.0/23"),
        at(83, "0.0.0.0"),
        at(84, "::"),
        at(85, "127.0.0.1"),
        at(86, "198.51.100.7"),
        at(87, "2001:db8:99::/64"),
    ]);
    let pod = town.pod("one", mappings, json!({}));
    let (world, node) = (town.world.namespace.netns(), town.node.namespace.netns());
    let reaches = |from: &Netns, to: &str| call(from, to, pod.netns(), 80).is_some();
    for (to, wanted) in [
        ("192.0.2.1:81", false),
        ("192.0.2.2:81", true),
        ("192.0.2.1:82", true),
        ("192.0.2.2:82", true),
        ("192.0.2.1:83", true),
        ("[2001:db8:99::1]:83", false),
        ("192.0.2.1:84", false),
        ("[2001:db8:99::1]:84", true),
        ("192.0.2.1:85", false),
        ("192.0.2.1:86", false),
        ("[2001:db8:99::1]:87", true),
    ] {
        assert_eq!(reaches(world, to), wanted, "{to}");
    }
    assert!(reaches(node, "127.0.0.1:85") && !reaches(node, "127.0.0.1:82"));
    // Nothing can be led away from there: who asks is told so at once, and goes on to IPv4.
    let at_home = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 84));
    let refused = node.enter(|| TcpStream::connect_timeout(&at_home, PATIENCE)).unwrap();
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    pod.del();
    let rules = town.node.namespace.sh("nft list ruleset");
    assert!(!rules.contains("id: one") && !rules.contains("hostports-veth"), "{rules}");
}

#[test]
fn who_calls_is_seen_or_not_as_it_was_asked_for() {
    testbed::isolated!();
    let town = Town::new(By::Podwire);
    let (world, node) = (town.world.namespace.netns(), town.node.namespace.netns());
    let plain = town.pod("plain", json!([tcp(8080, 80)]), json!({ "snat": false }));
    assert_eq!(call(world, "192.0.2.1:8080", plain.netns(), 80).as_deref(), Some("192.0.2.9"));
    assert_eq!(call(node, "127.0.0.1:8080", plain.netns(), 80), None);
    let all = town.pod("all", json!([tcp(8081, 80)]), json!({ "masqAll": true, "markMasqBit": 7 }));
    assert_eq!(call(world, "192.0.2.1:8081", all.netns(), 80).as_deref(), Some("10.1.2.1"));
    // A network with another mark does not take its own from the others.
    assert_eq!(call(world, "192.0.2.1:8080", plain.netns(), 80).as_deref(), Some("192.0.2.9"));
    for pod in [&plain, &all] {
        town.node.run(&town.node.call("CHECK", &pod.pod, &pod.config)).ok();
    }
}

#[test]
fn conditions_keep_callers_out() {
    testbed::isolated!();
    for (v4, v6) in [
        (json!(["!", "-d", "192.0.2.2/32"]), json!(["-i", "up+"])),
        (json!(["ip daddr != 192.0.2.2"]), json!(["iifname", "\"up*\""])),
    ] {
        let town = Town::new(By::Podwire);
        let keys = json!({ "conditionsV4": v4, "conditionsV6": v6 });
        let one = town.pod("one", json!([tcp(8080, 80)]), keys);
        // Those of one network are not those of another.
        let two = town.pod("two", json!([tcp(8081, 80)]), json!({}));
        let (world, node) = (town.world.namespace.netns(), town.node.namespace.netns());
        let ask = |from: &Netns, to: &str| call(from, to, one.netns(), 80).is_some();
        assert!(ask(world, "192.0.2.1:8080") && !ask(world, "192.0.2.2:8080"));
        assert!(ask(world, "[2001:db8:99::1]:8080") && !ask(node, "[2001:db8:99::1]:8080"));
        assert!(call(world, "192.0.2.2:8081", two.netns(), 80).is_some());
        town.node.run(&town.node.call("CHECK", &one.pod, &one.config)).ok();
        one.del();
        let rules = town.node.namespace.sh("nft list ruleset");
        assert!(!rules.contains("id: one") && !rules.contains("hostports-veth"), "{rules}");
    }
}

/// A flow that began before its port led to a pod, or when it led to another one, finds the new way
/// with its next datagram.
#[test]
fn datagrams_find_the_new_pod_at_once() {
    testbed::isolated!();
    for by in BOTH {
        let town = Town::new(by);
        let (world, node) = (town.world.namespace.netns(), town.node.namespace.netns());
        let socket = world.enter(|| UdpSocket::bind("192.0.2.9:0").unwrap()).unwrap();
        let local = node.enter(|| UdpSocket::bind("192.0.2.1:53").unwrap()).unwrap();
        // Tracking needs a rule that looks at it.
        town.node.namespace.sh("nft 'add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c ct state new counter'");
        assert!(send(&socket, "192.0.2.1:53", &local, 10 * PATIENCE));
        let mapping = || json!([{ "hostPort": 53, "containerPort": 5353, "protocol": "udp" }]);
        for id in ["one", "two"] {
            let pod = town.pod(id, mapping(), json!({}));
            let inside = pod.netns().enter(|| UdpSocket::bind("0.0.0.0:5353").unwrap()).unwrap();
            assert!(send(&socket, "192.0.2.1:53", &inside, 10 * PATIENCE), "{by:?} {id}");
            pod.del();
        }
        if by == By::Podwire {
            // Without a pod it is the node's own again, which the reference forgets. DEL's child
            // may still be at it.
            let found = (0..20).any(|_| send(&socket, "192.0.2.1:53", &local, PATIENCE));
            assert!(found);
        }
    }
}

#[test]
fn a_port_that_is_taken_is_refused_and_nothing_is_changed() {
    testbed::isolated!();
    let town = Town::new(By::Podwire);
    let one = town.pod("one", json!([tcp(8080, 80)]), json!({}));
    let other = town.node.pod("other");
    let result = town.node.add(&other, &town.bridge);
    let config = |mappings: Value| town.config(&mappings, json!({}), &result);
    let before = town.rules();
    let refusal = town
        .node
        .run(&town.node.call("ADD", &other, &config(json!([tcp(9090, 80), tcp(8080, 80)]))))
        .refused();
    assert_eq!(
        refusal.msg,
        "host port 8080/tcp is taken: it leads to the container of net: pods, if: eth0, id: one"
    );
    let remedy = "choose another hostPort, or delete that container; if it is gone already: nft 'delete element inet podwire_cni hostports4 { tcp . 8080 }'";
    assert_eq!(refusal.details, remedy);
    assert_eq!(town.rules(), before);
    // Another protocol, another address: another port.
    let beside = json!([
        { "hostPort": 8080, "containerPort": 80, "protocol": "udp" },
        { "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.2" },
    ]);
    town.node.add(&other, &config(beside));
    let (world, at) = (town.world.namespace.netns(), other.namespace.netns());
    assert!(call(world, "192.0.2.2:8080", at, 80).is_some());
    assert!(call(world, "192.0.2.1:8080", one.netns(), 80).is_some());
    // Networks of addresses that overlap share what is in both.
    let in_net = |net: &str| json!([{ "hostPort": 7, "containerPort": 7, "protocol": "tcp", "hostIP": net }]);
    town.node.add(&other, &config(in_net("192.0.0.0/16")));
    let third = town.node.pod("third");
    let result = town.node.add(&third, &town.bridge);
    let refusal = town
        .node
        .run(&town.node.call(
            "ADD",
            &third,
            &town.config(&in_net("192.0.2.0/24"), json!({}), &result),
        ))
        .refused();
    assert_eq!(
        refusal.msg,
        "host port 192.0.2.0/24 port 7/tcp is taken: it leads to the container of net: pods, if: eth0, id: other"
    );
}

#[test]
fn what_the_node_does_not_allow_is_named_and_changes_nothing() {
    testbed::isolated!();
    let town = Town::new(By::Podwire);
    let pod = town.node.pod("one");
    let result = town.node.add(&pod, &town.bridge);
    let config = town.config(&json!([tcp(8080, 80)]), json!({}), &result);
    let before = town.rules();
    testbed::sh("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
    let refusal = town.node.run(&town.node.call("ADD", &pod, &config)).refused();
    testbed::sh("umount /proc/sys");
    assert_eq!(
        refusal.msg,
        "unable to enable route_localnet: set net/ipv4/conf/cni0/route_localnet to 1: read-only file system"
    );
    assert_eq!(refusal.details, "sysctl -qw net/ipv4/conf/cni0/route_localnet=1");
    assert_eq!(town.rules(), before);
}

/// podman asks for a container's ports on each of its networks.
#[test]
fn a_pod_with_two_networks_has_its_ports_once() {
    testbed::isolated!();
    for by in BOTH {
        let town = Town::new(by);
        let mut one = town.pod("one", json!([tcp(8080, 80)]), json!({}));
        one.pod.ifname = "eth1".into();
        let keys = json!({ "name": "more", "bridge": "cni1", "isGateway": true });
        let more = town.node.network("0.4.0", &["10.1.3.0/24"], keys);
        let result = town.node.add(&one.pod, &more);
        let ports = json!([tcp(8080, 80), tcp(7, 80)]);
        let config = town.config(&ports, json!({ "name": "more" }), &result);
        town.node.add(&one.pod, &config);
        if by == By::Podwire {
            town.node.run(&town.node.call("CHECK", &one.pod, &config)).ok();
        }
        let world = town.world.namespace.netns();
        let answers = |port: u16| call(world, &format!("192.0.2.1:{port}"), one.netns(), 80);
        assert!(answers(8080).is_some() && answers(7).is_some(), "{by:?}");
        town.node.del(&one.pod, &config);
        assert!(answers(8080).is_some() && answers(7).is_none(), "{by:?}");
    }
}

/// The address of a pod that is gone without DEL belongs to the next one, and so do its ports.
#[test]
fn what_a_dead_pod_holds_is_not_taken() {
    testbed::isolated!();
    let town = Town::new(By::Podwire);
    let one = town.pod("one", json!([tcp(8080, 80)]), json!({}));
    let reservation = town.node.data().join("pods").join(one.address(0).to_string());
    std::fs::remove_file(reservation).unwrap();
    let two = town.node.pod("two");
    let keys = json!({ "runtimeConfig": { "ips": [one.address(0)] } });
    drop(one);
    let result = town.node.add(&two, &merged(town.bridge.clone(), keys));
    town.node.add(&two, &town.config(&json!([tcp(8080, 80)]), json!({}), &result));
    assert!(
        call(town.world.namespace.netns(), "192.0.2.1:8080", two.namespace.netns(), 80).is_some()
    );
}

#[test]
fn check_sees_what_is_missing() {
    testbed::isolated!();
    let town = Town::new(By::Podwire);
    let pod = town.pod("one", json!([tcp(8080, 80)]), json!({}));
    let check = || town.node.run(&town.node.call("CHECK", &pod.pod, &pod.config));
    check().ok();
    let nft = |line: &str| town.node.namespace.sh(&format!("nft '{line}'"));
    for (damage, said) in [
        (
            "delete element inet podwire_cni hostports4 { tcp . 8080 }",
            "host port 8080/tcp does not lead to 10.1.2.2:80",
        ),
        (
            "delete element inet podwire_cni hairpin6 { 2001:db8:1::2 }",
            "nft map hairpin6 does not know 2001:db8:1::2",
        ),
        (
            "flush chain inet podwire_cni hostports_in",
            "nft chain inet podwire_cni hostports_in is not as ADD left it",
        ),
        (
            "insert rule inet podwire_cni hairpin-10.1.2.0/24 return",
            "nft chain inet podwire_cni hairpin-10.1.2.0/24 is not as ADD left it",
        ),
        ("delete table inet podwire_cni", "host port 8080/tcp does not lead to 10.1.2.2:80"),
    ] {
        nft(damage);
        assert_eq!(check().refused().msg, said, "{damage}");
        town.node.add(&pod.pod, &pod.config);
        check().ok();
    }
    town.node.namespace.sh("echo 0 > /proc/sys/net/ipv4/conf/cni0/route_localnet");
    let said = "net/ipv4/conf/cni0/route_localnet is not 1: the port is not there on the loopback addresses";
    assert_eq!(check().refused().msg, said);
    let mut config = pod.config.clone();
    config.as_object_mut().unwrap().remove("prevResult");
    let refusal = town.node.run(&town.node.call("CHECK", &pod.pod, &config)).refused();
    assert_eq!(refusal.msg, "Required prevResult missing");
}

#[test]
fn del_needs_to_know_nothing() {
    testbed::isolated!();
    let town = Town::new(By::Podwire);
    let port = |number: u64| {
        json!([
            tcp(8080 + number as u16, 80),
            { "hostPort": 8080 + number, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.0/24" },
        ])
    };
    let changes: [fn(&mut Value); 4] = [
        |_| {},
        |config| drop(config.as_object_mut().unwrap().remove("prevResult")),
        |config| drop(config.as_object_mut().unwrap().remove("runtimeConfig")),
        |config| config["runtimeConfig"]["portMappings"] = json!([{ "hostPort": -1 }]),
    ];
    let stays = town.pod("stays", port(9), json!({}));
    for (number, change) in changes.into_iter().enumerate() {
        let pod = town.pod(&format!("pod{number}"), port(number as u64), json!({}));
        let mut config = pod.config.clone();
        change(&mut config);
        let call = town.node.call("DEL", &pod.pod, &config).without("CNI_NETNS");
        for _ in 0..2 {
            town.node.run(&call).ok();
            let rules = town.node.namespace.sh("nft list ruleset");
            assert!(!rules.contains(&format!("id: pod{number}")), "{rules}");
        }
    }
    town.node.run(&town.node.call("CHECK", &stays.pod, &stays.config)).ok();
}

#[test]
fn gc_frees_the_ports_of_those_who_are_gone_and_status_tells() {
    testbed::isolated!();
    let town = Town::new(By::Podwire);
    let (lives, dies, valid) = (
        town.pod("lives", json!([tcp(8080, 80)]), json!({})),
        town.pod("dies", json!([tcp(8081, 80)]), json!({})),
        town.pod("valid", json!([tcp(8082, 80)]), json!({})),
    );
    town.node.del(&dies.pod, &town.bridge);
    town.node.del(&valid.pod, &town.bridge);
    let config = |keys: Value| {
        merged(json!({ "cniVersion": "1.1.0", "name": "pods", "type": "portmap" }), keys)
    };
    let ports = || {
        let rules = town.node.namespace.sh("nft list ruleset");
        ["lives", "dies", "valid"].map(|id| rules.contains(&format!("id: {id}\" : ")))
    };
    let gc = |keys: Value| {
        let answer = town.node.run(&town.node.call_about_all("GC", &config(keys)));
        let told = answer.stderr.clone();
        answer.ok();
        told
    };
    gc(json!({}));
    assert_eq!(ports(), [true; 3]);
    let told =
        gc(json!({ "cni.dev/valid-attachments": [{ "containerID": "valid", "ifname": "eth0" }] }));
    assert_eq!(ports(), [true, false, true]);
    assert_eq!(told.matches("id: lives").count(), 1, "{told}");
    gc(json!({ "name": "others", "cni.dev/valid-attachments": [] }));
    assert_eq!(ports(), [true, false, true]);
    gc(json!({ "cni.dev/valid-attachments": null }));
    assert_eq!(ports(), [true, false, false]);
    drop(lives);
    town.node.run(&town.node.call_about_all("STATUS", &config(json!({})))).ok();
    let bad = config(json!({ "backend": "x" }));
    let refusal = town.node.run(&town.node.call_about_all("STATUS", &bad)).refused();
    assert_eq!(refusal.msg, "failed to parse config: unrecognized backend \"x\"");
}

/// Pods that the reference's plugins made are deleted by ours: nothing of theirs is left.
#[test]
fn del_removes_what_the_reference_made() {
    testbed::isolated!();
    let theirs = Town::new(By::Reference);
    let one = theirs.pod("one", json!([tcp(8080, 80)]), json!({}));
    let two = theirs.pod("two", json!([tcp(8081, 80)]), json!({}));
    let ours = Node::named("ours", By::Podwire);
    let rules = || theirs.node.namespace.sh("nft list ruleset 2>/dev/null");
    // 1.9.1 with its other back end; its container "one" has a port on another network, too.
    theirs.node.namespace.sh("nft -f - <<'RULES'
        table ip cni_hostport {
            chain hostports {
                tcp dport 80 dnat to 10.1.2.2:80 comment \"one\"
                tcp dport 81 dnat to 10.9.9.9:80 comment \"one\"
                tcp dport 82 dnat to 10.1.2.3:80 comment \"two\"
            }
            chain masquerading {
                ip saddr 10.1.2.2 ip daddr 10.1.2.2 masquerade comment \"one\"
                ip saddr 127.0.0.1 ip daddr 10.1.2.2 masquerade comment \"one\"
            }
        }
RULES");
    assert_eq!(rules().matches("10.1.2.2").count(), 5, "{}", rules());
    let del = ours.call("DEL", &one.pod, &one.config);
    del.start(theirs.node.namespace.netns()).wait().ok();
    assert_eq!(rules().matches("10.1.2.2").count(), 0, "{}", rules());
    assert!(rules().contains("10.9.9.9") && rules().contains("tcp dport 82"));
    let (world, at) = (theirs.world.namespace.netns(), two.netns());
    assert!(call(world, "192.0.2.1:8081", at, 80).is_some());
    let legacy: &Namespace = &theirs.node.namespace;
    legacy.sh("iptables-legacy -t nat -N CNI-DN-5f4dcc3b5aa765d61d832");
    let told = del.start(legacy.netns()).wait();
    assert_eq!(told.stderr, "");
    let chain = cni::hash::chain_name_with_prefix("DN-", "pods", "one");
    legacy.sh(&format!("iptables-legacy -t nat -N {chain}"));
    let told = del.start(legacy.netns()).wait();
    assert!(told.is_ok() && told.stderr.contains(&format!("iptables-legacy -t nat -X {chain}")));
}

#[test]
fn it_has_to_come_behind_another_one_and_leaves_alone_who_asks_for_nothing() {
    testbed::isolated!();
    let town = Town::new(By::Podwire);
    let pod = town.node.pod("one");
    let config = json!({ "cniVersion": "0.4.0", "name": "pods", "type": "portmap" });
    let refusal = town.node.run(&town.node.call("ADD", &pod, &config)).refused();
    assert_eq!(refusal.msg, "must be called as chained plugin");
    let result = town.node.add(&pod, &town.bridge);
    let before = town.rules();
    assert_eq!(town.node.add(&pod, &after(&config, &result)), result);
    town.node.del(&pod, &config);
    assert_eq!(town.rules(), before);
}

/// A plugin can be killed at any moment; whatever is left, DEL removes, and ADD makes whole.
#[test]
fn del_and_add_repair_what_a_kill_leaves() {
    testbed::isolated!();
    let town = Town::new(By::Podwire);
    let mappings = json!([tcp(8080, 80), { "hostPort": 81, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.0/24" }]);
    let pod = town.pod("one", mappings, json!({}));
    // Chains come in the order in which they were made, elements in any.
    let ruleset = || {
        let rules = town.node.namespace.sh("nft list ruleset | tr -d '}{,='");
        let mut parts: Vec<String> = rules.split("\n\n").map(|it| it.trim().to_owned()).collect();
        parts.sort();
        parts
    };
    let whole = ruleset();
    pod.del();
    let clean = ruleset();
    let add = town.node.call("ADD", &pod.pod, &pod.config);
    let del = town.node.call("DEL", &pod.pod, &pod.config);
    let begin = std::time::Instant::now();
    town.node.run(&add).ok();
    let takes = begin.elapsed();
    for moment in 0..24 {
        for (first, then, wanted) in
            [(&add, &del, &clean), (&del, &add, &whole), (&add, &add, &whole), (&del, &del, &clean)]
        {
            let mut running = town.node.start(first);
            // Not a wait for anything: the moment is what is tested.
            std::thread::sleep(takes * moment / 20);
            running.kill();
            running.wait();
            town.node.run(then).ok();
            assert_eq!(&ruleset(), wanted, "killed at moment {moment}");
        }
    }
}
