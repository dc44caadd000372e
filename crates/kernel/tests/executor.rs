//! The executor against a real kernel: what a plan says is what happens, its shell text says the
//! same, and every step can be taken back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use kernel::{Applied, ErrorKind, Kernel, OnError, Query};
use net::{
    Action, Address, Change, Encap, Fdb, File, Link, LinkKind, LinkName, Mac, Neighbour, Object,
    Peer, Plan, Port, Qdisc, QdiscKind, Route, RouteKind, Rule, Scope, Space, Step, Sysctl, Vni,
    Vxlan, VxlanForm, script,
};
use testbed::{Namespace, assert_same_state, state};

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn route(to: &str, via: Option<&str>, link: &str) -> Route {
    let mut route = Route::new(to.parse().unwrap());
    route.gateway = via.map(ip);
    route.link = Some(name(link));
    route
}

/// One of everything, in a namespace `a` with a cable to a namespace `b`.
fn everything(a: &Space, b: &Space) -> Plan {
    let mut plan = Plan::new();
    let mut create = |space: &Space, object: Object| {
        plan.push(Step::new(space, Change::Create(object), "is part of everything"));
    };
    let bridge = Link { mac: Some(mac(1)), mtu: Some(1400), ..Link::bridge(name("br0")).up() };
    create(a, bridge.into());
    let peer = Peer { space: b.clone(), name: name("eth0"), mac: Some(mac(3)), mtu: Some(1400) };
    let cable = Link {
        mac: Some(mac(2)),
        mtu: Some(1400),
        master: Some(name("br0")),
        port: Port { hairpin: Some(true), isolated: Some(true) },
        ..Link::veth(name("veth0"), peer).up()
    };
    create(a, cable.into());
    let local = Peer { space: a.clone(), name: name("right"), mac: Some(mac(5)), mtu: None };
    create(a, Link { mac: Some(mac(4)), ..Link::veth(name("left"), local).up() }.into());
    create(a, Address::new(name("br0"), "10.1.0.1/24".parse().unwrap()).into());
    let v6 = Address::new(name("br0"), "fd00::1/64".parse().unwrap());
    create(a, Address { nodad: true, ..v6 }.into());
    create(a, Address::new(name("left"), "192.0.2.1/32".parse().unwrap()).into());
    let gateway = Some("10.1.0.2");
    create(a, route("10.2.0.0/24", gateway, "br0").into());
    let sized = route("10.3.0.0/24", gateway, "br0");
    create(a, Route { metric: Some(7), mtu: Some(1300), advmss: Some(1200), ..sized }.into());
    create(a, Route { scope: Some(Scope::Link), ..route("10.4.0.0/24", None, "br0") }.into());
    let source = Some(ip("192.0.2.1"));
    let default = route("0.0.0.0/0", gateway, "br0");
    create(a, Route { source, table: 112, protocol: 112, ..default }.into());
    create(a, route("fd01::/64", Some("fd00::2"), "br0").into());
    let drop = |to: &str, kind| Route { kind, ..Route::new(to.parse().unwrap()) };
    create(a, drop("10.5.0.0/16", RouteKind::Blackhole).into());
    create(a, drop("fd05::/64", RouteKind::Unreachable).into());
    let rule = |from: &str| Rule {
        priority: 1000,
        v6: from.contains(':'),
        fwmark: Some((0x10, 0xf0)),
        from: Some(from.parse().unwrap()),
        to: None,
        table: 112,
        protocol: 112,
    };
    create(a, rule("10.1.0.0/24").into());
    create(a, rule("fd00::/64").into());
    let neighbour =
        |to| Neighbour { link: name("br0"), address: ip(to), mac: mac(9), protocol: 112 };
    create(a, neighbour("10.1.0.9").into());
    create(a, neighbour("fd00::9").into());
    create(a, Fdb { link: name("veth0"), mac: mac(10), to: None }.into());
    let kind = QdiscKind::Tbf { rate: 125_000, burst: 16_000, limit: 32_000 };
    create(a, Qdisc { link: name("left"), kind }.into());
    for object in tunnels() {
        create(a, object);
    }
    create(b, Address::new(name("eth0"), "10.1.0.2/24".parse().unwrap()).into());
    let mut step = |space: &Space, change| plan.push(Step::new(space, change, "completes it"));
    step(b, Change::Ensure(Link::existing(name("eth0")).up().into()));
    step(b, Change::Create(route("0.0.0.0/0", Some("10.1.0.1"), "eth0").into()));
    step(a, Change::Ensure(Sysctl::new("net/ipv4/ip_forward", "1").into()));
    plan
}

/// Tunnel ends of every form, with what leads to far ends by each.
fn tunnels() -> Vec<Object> {
    // As large as fits over IPv6: the kernel makes a larger one smaller without a word.
    let link = |name: &str, last, port, form| Link {
        mac: Some(mac(last)),
        mtu: Some(1330),
        ..Link::vxlan(self::name(name), Vxlan { port, form }).up()
    };
    let underlay = Some(name("br0"));
    let classic = |local| VxlanForm::Classic { vni: 1, underlay: underlay.clone(), local };
    let external = |gpe| VxlanForm::External { gpe, filtered: true };
    // A device without Ethernet headers has no hardware address.
    let gpe = Link { mac: None, ..link("gpe0", 0, 4790, external(true)) };
    let through = |to: &str, via: Option<&str>, dev, far: &str| {
        let encap = Encap { vni: 1, to: ip(far), checksum: far.contains(':') };
        let onlink = via.is_some();
        Route { encap: Some(encap), onlink, protocol: 112, ..route(to, via, dev) }
    };
    let onlink = |to, via| Route { onlink: true, ..route(to, Some(via), "vx0") };
    let neighbour =
        |dev, to| Neighbour { link: name(dev), address: ip(to), mac: mac(20), protocol: 112 };
    let mine = |dev, address: &str| {
        Object::from(Address {
            nodad: address.contains(':'),
            ..Address::new(name(dev), address.parse().unwrap())
        })
    };
    vec![
        Link { tx_checksum: Some(false), ..link("vx0", 11, 8472, classic(Some(ip("10.1.0.1")))) }
            .into(),
        link("vx6", 12, 8472, classic(Some(ip("fd00::1")))).into(),
        link("ext0", 13, 8473, external(false)).into(),
        gpe.into(),
        Vni { link: name("ext0"), vni: 1 }.into(),
        Vni { link: name("gpe0"), vni: 1 }.into(),
        mine("gpe0", "10.60.1.0/32"),
        mine("gpe0", "fd60:1::/128"),
        neighbour("vx0", "10.60.2.0").into(),
        Fdb { link: name("vx0"), mac: mac(20), to: Some(ip("10.1.0.7")) }.into(),
        Fdb { link: name("vx6"), mac: mac(20), to: Some(ip("fd00::7")) }.into(),
        onlink("10.60.2.0/24", "10.60.2.0").into(),
        neighbour("ext0", "10.60.3.0").into(),
        through("10.60.3.0/24", Some("10.60.3.0"), "ext0", "10.1.0.7").into(),
        neighbour("ext0", "fd60:3::").into(),
        through("fd60:3::/64", Some("fd60:3::"), "ext0", "fd00::7").into(),
        Route {
            source: Some(ip("10.60.1.0")),
            ..through("10.60.4.0/24", None, "gpe0", "10.1.0.7")
        }
        .into(),
        Route { source: Some(ip("fd60:1::")), ..through("fd60:4::/64", None, "gpe0", "10.1.0.7") }
            .into(),
        through("10.60.5.0/24", None, "gpe0", "fd00::7").into(),
        Route { table: 112, ..through("fd60:5::/64", None, "gpe0", "fd00::7") }.into(),
    ]
}

fn apply(plan: &Plan, on_error: OnError) -> Applied {
    Kernel::new().unwrap().apply(plan, on_error)
}

#[test]
fn a_plan_and_its_shell_text_do_the_same() {
    testbed::isolated!();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    let (c, d) = (Namespace::new("c"), Namespace::new("d"));
    apply(&everything(&a.space(), &b.space()), OnError::Undo).into_result().unwrap();
    testbed::sh(&script(&everything(&c.space(), &d.space())));
    assert_same_state(&state(&a), &state(&c));
    assert_same_state(&state(&b), &state(&d));
    let checksums = "ethtool -k vx0 | grep '^tx-checksumming: off'";
    assert_eq!(a.sh(checksums), c.sh(checksums));
    assert!(state(&a).contains("10.2.0.0/24 via 10.1.0.2 dev br0"), "{}", state(&a));
}

#[test]
fn every_prefix_of_a_plan_can_be_taken_back() {
    testbed::isolated!();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    let plan = everything(&a.space(), &b.space());
    // What is shared stays: it is made first, as a neighbour would have made it.
    testbed::sh("ip netns exec a sysctl -qw net.ipv4.ip_forward=1");
    let before = [state(&a), state(&b)];
    for steps in 0..=plan.len() {
        let mut kernel = Kernel::new().unwrap();
        if steps < plan.len() {
            kernel.fail_after(steps);
        }
        let applied = kernel.apply(&plan, OnError::Undo);
        if steps < plan.len() {
            assert_eq!(applied.failed.len(), 1, "before step {steps}: {:?}", applied.failed);
            assert_eq!(applied.failed[0].0, steps);
            assert_eq!(applied.failed[0].1.kind(), ErrorKind::Injected);
        } else {
            kernel.apply(&applied.undo(&plan), OnError::Continue).into_result().unwrap();
        }
        println!("after {steps} steps");
        assert_same_state(&before[0], &state(&a));
        assert_same_state(&before[1], &state(&b));
    }
}

#[test]
fn a_plan_applied_again_says_what_is_there_already() {
    testbed::isolated!();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    let plan = everything(&a.space(), &b.space());
    apply(&plan, OnError::Undo).into_result().unwrap();
    let before = state(&a);
    let again = apply(&plan, OnError::Continue);
    let creations = plan.iter().filter(|step| matches!(step.change, Change::Create(_))).count();
    for (place, error) in &again.failed {
        assert_eq!(error.kind(), ErrorKind::Exists, "{:?}: {error}", plan[*place]);
    }
    assert_eq!(again.failed.len(), creations);
    assert_eq!(again.done, [0; 0]);
    assert_same_state(&before, &state(&a));
}

#[test]
fn deletions_of_what_is_gone_are_done() {
    testbed::isolated!();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    let plan = everything(&a.space(), &b.space());
    let before = [state(&a), state(&b)];
    let deletions: Plan = net::undo(&plan);
    let applied = apply(&deletions, OnError::Continue);
    assert!(applied.failed.is_empty(), "{:?}", applied.failed);
    assert_eq!(applied.done, [0; 0]);
    assert_eq!([state(&a), state(&b)], before);
}

#[test]
fn what_is_observed_is_what_was_planned() {
    testbed::isolated!();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    let plan = everything(&a.space(), &b.space());
    apply(&plan, OnError::Undo).into_result().unwrap();
    let seen = Kernel::new().unwrap().observe(&a.space(), &Query::All).unwrap();
    let created = plan.iter().filter(|step| step.space == a.space()).filter_map(|step| {
        match &step.change {
            // The far end of a cable cannot be seen, and the depth of a bucket is counted in
            // ticks and does not come back to the byte.
            Change::Create(Object::Link(_) | Object::Qdisc(_)) => None,
            Change::Create(object) => Some(object.clone()),
            _ => None,
        }
    });
    let want: Vec<Object> = created.collect();
    assert_eq!(net::diff(&a.space(), want, &seen, |_| false), []);
}

#[test]
fn the_kernels_own_words_are_in_the_error() {
    testbed::isolated!();
    let a = Namespace::new("a");
    let fails = |object: Object| {
        let plan = vec![Step::new(&a.space(), Change::Create(object), "cannot work")];
        apply(&plan, OnError::Undo).into_result().unwrap_err()
    };
    let text = fails(route("10.9.0.0/24", Some("203.0.113.1"), "lo").into()).to_string();
    let start = "add route 10.9.0.0/24 via 203.0.113.1 dev lo: network is unreachable";
    assert!(text.starts_with(start) && text.contains("Nexthop has invalid gateway"), "{text}");
    let error = fails(Address::new(name("nope"), "10.0.0.1/8".parse().unwrap()).into());
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "look up device nope: no such device");
}

#[test]
fn shared_things_are_ensured() {
    testbed::isolated!();
    let a = Namespace::new("a");
    let ensure = |object: Object| {
        apply(&vec![Step::new(&a.space(), Change::Ensure(object), "shared")], OnError::Undo)
    };
    let bridge = Link { promiscuous: Some(true), ..Link::bridge(name("br0")).up() };
    assert_eq!(ensure(bridge.clone().into()).done.len(), 1);
    let second = ensure(bridge.clone().into());
    assert_eq!((second.done.len(), second.failed.len()), (0, 0));
    a.sh("ip link set br0 down");
    assert_eq!(ensure(bridge.into()).done.len(), 1);
    assert!(a.sh("ip link show br0").contains("UP"));

    a.sh("ip link add br1 type veth peer name br1peer");
    let error = ensure(Link::bridge(name("br1")).into()).into_result().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKind);
    assert!(error.to_string().contains("\"br1\" already exists but is not a bridge"), "{error}");

    assert!(ensure(Sysctl::nicety("net/ipv4/no_such_setting", "1").into()).failed.is_empty());
    let needed = Sysctl::new("net/ipv4/no_such_setting", "1");
    let error = ensure(needed.into()).into_result().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn files_and_namespaces_are_made_and_unmade() {
    testbed::isolated!();
    let directory = testbed::directory();
    let file = File { path: directory.path().join("note"), content: "one\n".into() };
    let netns = net::Netns { path: std::path::Path::new(net::NAMED).join("fresh") };
    let lo = Link::existing(name("lo")).up();
    let plan = vec![
        Step::new(&Space::Here, Change::Create(file.clone().into()), "a note"),
        Step::new(&Space::Here, Change::Create(netns.into()), "a place"),
        Step::new(&Space::named("fresh"), Change::Ensure(lo.into()), "is alive"),
    ];
    let applied = apply(&plan, OnError::Undo);
    assert!(applied.failed.is_empty(), "{:?}", applied.failed);
    assert!(testbed::sh("ip netns list").contains("fresh"));
    assert!(testbed::sh("ip -n fresh link show lo").contains("UP"));
    let again = apply(&plan, OnError::Undo);
    assert_eq!(again.failed[0].1.kind(), ErrorKind::Exists);
    assert_eq!(std::fs::read_to_string(&file.path).unwrap(), "one\n");
    Kernel::new().unwrap().apply(&applied.undo(&plan), OnError::Continue).into_result().unwrap();
    assert!(!file.path.exists());
    assert!(!testbed::sh("ip netns list").contains("fresh"));
}

#[test]
fn a_device_that_was_made_again_is_the_one_that_a_later_plan_means() {
    testbed::isolated!();
    let space = Namespace::new("a");
    let mut kernel = Kernel::new().unwrap();
    for subnet in ["10.2.0.0/24", "10.3.0.0/24"] {
        space.sh("ip link add eth0 type veth peer name other; ip link set eth0 up
            ip address add 192.0.2.1/24 dev eth0");
        let change = Change::Create(route(subnet, Some("192.0.2.2"), "eth0").into());
        let plan = [Step::new(&space.space(), change, "leads there")];
        kernel.apply(&plan, OnError::Continue).into_result().unwrap();
        assert!(space.sh("ip route show").contains(subnet));
        space.sh("ip link delete eth0");
    }
}

#[test]
fn waiting_ends_with_the_event_or_in_time() {
    testbed::isolated!();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    a.sh("ip link add veth0 type veth peer name eth0 netns b; ip link set veth0 up");
    let wait = |millis| {
        let action = Action::WaitUp { link: name("veth0"), millis };
        vec![Step::new(&a.space(), Change::Act(action), "waits")]
    };
    let error = apply(&wait(20), OnError::Undo).into_result().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| apply(&wait(5000), OnError::Undo).into_result());
        b.sh("ip link set eth0 up");
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn an_address_that_was_waited_for_is_delivered_to() {
    testbed::isolated!();
    for turn in 0..10 {
        let a = Namespace::new("a");
        a.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
              ip link add left type veth peer name right; ip link set left up; ip link set right up");
        let addresses = (0..20).map(|n| format!("fd00::{turn}:{n:x}/128"));
        let address = |text: String| Address {
            nodad: true,
            ..Address::new(name("left"), text.parse().unwrap())
        };
        let create = |text| Change::Create(address(text).into());
        let mut plan: Plan =
            addresses.map(|text| Step::new(&a.space(), create(text), "is used at once")).collect();
        let wait = Action::WaitAddresses { link: name("left"), addresses: vec![], millis: 5000 };
        plan.push(Step::new(&a.space(), Change::Act(wait), "waits"));
        let mut kernel = Kernel::new().unwrap();
        kernel.apply(&plan, OnError::Undo).into_result().unwrap();
        let dump = kernel.dump(&a.space()).unwrap();
        let local = |text: &str| {
            dump.routes.iter().any(|it| it.table == 255 && it.destination == text.parse().unwrap())
        };
        assert!((0..20).all(|n| local(&format!("fd00::{turn}:{n:x}/128"))), "{:?}", dump.routes);
    }
}

#[test]
fn a_removal_is_over_when_the_device_is_gone() {
    testbed::isolated!();
    testbed::sh("ip link add veth0 type veth peer name eth0");
    let mut kernel = Kernel::new().unwrap();
    let removal = kernel.begin_removal(&name("veth0"), &[ip("10.1.0.2")]).unwrap().unwrap();
    kernel.finish_removal(removal).unwrap();
    assert!(!testbed::sh("ip link").contains("veth0"));
    assert!(kernel.begin_removal(&name("veth0"), &[]).unwrap().is_none());
}

#[test]
fn an_announcement_corrects_what_neighbours_believed() {
    testbed::isolated!();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    a.sh("ip link add eth0 address 02:00:00:00:00:01 type veth peer name eth0 netns b
          for f in 4 6; do for s in arp_notify ndisc_notify accept_dad; do
              k=/proc/sys/net/ipv$f/conf/eth0/$s
              if [ $s = accept_dad ]; then v=0; else v=1; fi
              if [ -e $k ]; then echo $v >$k; fi
          done; done
          ip address add 10.1.0.1/24 dev eth0; ip address add fd00::1/64 dev eth0; ip link set eth0 up");
    b.sh("ip address add 10.1.0.2/24 dev eth0; ip address add fd00::2/64 dev eth0 nodad
          ip link set eth0 up
          ip neighbour replace 10.1.0.1 lladdr 02:00:00:00:00:99 dev eth0 nud stale
          ip neighbour replace fd00::1 lladdr 02:00:00:00:00:99 dev eth0 nud stale");
    let announce = Action::Announce { link: name("eth0"), mac: mac(1) };
    let up = || Change::Act(Action::WaitUp { link: name("eth0"), millis: 1000 });
    // Before the kernel has noticed the carrier, IPv6 neither speaks nor listens.
    let plan = vec![
        Step::new(&a.space(), up(), "has a carrier"),
        Step::new(&b.space(), up(), "has a carrier"),
        Step::new(&a.space(), Change::Act(announce), "moves in"),
    ];
    apply(&plan, OnError::Undo).into_result().unwrap();
    for address in ["10.1.0.1", "fd00::1"] {
        let entry = b.sh(&format!("ip neighbour show {address} dev eth0"));
        assert!(entry.contains("02:00:00:00:00:01"), "{entry}");
    }
}

#[test]
fn the_route_that_a_packet_takes_is_found() {
    testbed::isolated!();
    let node = Namespace::new("node");
    let mut kernel = Kernel::new().unwrap();
    let mut found = |to: &str| kernel.route_to(&node.space(), ip(to)).unwrap();
    for nowhere in ["192.0.2.1", "2001:db8::1"] {
        assert_eq!(found(nowhere), None);
    }
    node.sh("ip link add veth0 type veth peer name veth1; ip link set veth0 up
             ip address add 10.1.0.1/24 dev veth0; ip address add fd00:1::1/64 dev veth0 nodad
             ip route add 10.9.0.9 dev veth0 scope host; ip route add 10.9.0.0/16 via 10.1.0.2
             ip route add 10.8.0.0/16 nexthop via 10.1.0.2 nexthop via 10.1.0.3
             ip route add blackhole 10.6.0.0/16; ip route add unreachable 10.5.0.0/16
             ip route add prohibit 10.4.0.0/16; ip -6 route add fd00:9::9 dev veth0
             ip -6 route add fd00:9::/32 via fd00:1::2 metric 7");
    let by = |destination: &str, via: Option<&str>| Some(route(destination, via, "veth0"));
    let scoped = by("10.9.0.9/32", None).map(|it| Route { scope: Some(Scope::Host), ..it });
    assert_eq!(found("10.9.0.9"), scoped);
    assert_eq!(found("10.9.0.1"), by("10.9.0.0/16", Some("10.1.0.2")));
    let with_metric = |it: Route, metric| Route { metric: Some(metric), ..it };
    let single = by("fd00:9::9/128", None).map(|it| with_metric(it, 1024));
    assert_eq!(found("fd00:9::9"), single);
    let wide = by("fd00:9::/32", Some("fd00:1::2")).map(|it| with_metric(it, 7));
    assert_eq!(found("fd00:9::1"), wide);
    // Several next hops, what sends nothing on, and the kernel's own: of none can a plan speak.
    for other in
        ["10.8.0.1", "10.6.0.1", "10.5.0.1", "10.4.0.1", "10.1.0.1", "10.1.0.7", "fd00:1::7"]
    {
        assert_eq!(found(other), None, "{other}");
    }
    assert!(kernel.route_to(&Space::named("nowhere"), ip("10.1.0.1")).is_err());
}

#[test]
fn a_device_that_is_asked_about_is_seen_as_it_was_planned() {
    testbed::isolated!();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    let plan = everything(&a.space(), &b.space());
    apply(&plan, OnError::Undo).into_result().unwrap();
    let mut kernel = Kernel::new().unwrap();
    let links = plan.iter().filter_map(|step| match &step.change {
        Change::Create(Object::Link(link)) => Some(link),
        _ => None,
    });
    let mut told = 0;
    for link in links {
        let seen = kernel.observe(&a.space(), &Query::Link(link.name.clone())).unwrap();
        let [Object::Link(seen)] = &seen[..] else { panic!("{seen:?}") };
        let is_veth = matches!(link.kind, Some(LinkKind::Veth { .. }));
        // The far end of a cable cannot be seen.
        let want = if is_veth { &Link { kind: None, ..link.clone() } } else { link };
        assert!(want.is_satisfied_by(seen), "{want:?}\n{seen:?}");
        told += 1;
    }
    assert_eq!(told, 7);
}

#[test]
fn a_device_of_another_kind_is_no_tunnel_end() {
    testbed::isolated!();
    let a = Namespace::new("a");
    a.sh("ip link add under type veth peer name under2");
    let local = Some(ip("192.0.2.1"));
    let form = VxlanForm::Classic { vni: 1, underlay: Some(name("under")), local };
    let want = Link::vxlan(name("podwire0"), Vxlan { port: 8472, form });
    let mut kernel = Kernel::new().unwrap();
    let others = [
        "veth peer name other",
        "bridge",
        "ifb",
        "vxlan id 2 local 192.0.2.1 dev under nolearning dstport 8472",
        "vxlan id 1 local 192.0.2.2 dev under nolearning dstport 8472",
        "vxlan id 1 local 192.0.2.1 dev under2 nolearning dstport 8472",
        "vxlan id 1 local 192.0.2.1 nolearning dstport 8472",
        "vxlan id 1 local 192.0.2.1 dev under nolearning dstport 8473",
        "vxlan external dstport 8472",
        "vxlan external gpe dstport 8472",
    ];
    for other in others {
        a.sh(&format!("ip link add podwire0 type {other}"));
        let seen = kernel.observe(&a.space(), &Query::Link(name("podwire0"))).unwrap();
        let plan = net::diff(&a.space(), vec![want.clone().into()], &seen, |_| false);
        let changes: Vec<&Change> = plan.iter().map(|step| &step.change).collect();
        assert!(
            matches!(changes[..], [Change::Delete(_), Change::Create(_)]),
            "{other}: {changes:?}"
        );
        let ensure = vec![Step::new(&a.space(), Change::Ensure(want.clone().into()), "shared")];
        let error = kernel.apply(&ensure, OnError::Undo).into_result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongKind, "{other}: {error}");
        kernel.apply(&plan, OnError::Undo).into_result().unwrap();
        let again = kernel.apply(&ensure, OnError::Undo);
        assert!(again.done.is_empty() && again.failed.is_empty(), "{again:?}");
        a.sh("ip link delete podwire0");
    }
}

#[test]
fn features_of_devices_are_told() {
    testbed::isolated!();
    let a = Namespace::new("a");
    a.sh("ip link add veth0 type veth peer name veth1
          ip link add vx0 type vxlan id 1 dev veth0 dstport 8472");
    let mut kernel = Kernel::new().unwrap();
    for (link, driver) in [("veth0", "veth"), ("vx0", "vxlan")] {
        let features = kernel.link_features(&a.space(), &name(link)).unwrap();
        let theirs = a.sh(&format!("ethtool -k {link}"));
        let on = theirs.contains("tx-udp_tnl-segmentation: on");
        assert_eq!(features.driver.as_deref(), Some(driver));
        assert_eq!(features.tx_udp_tnl_segmentation, Some(on), "{theirs}");
    }
    let error = kernel.link_features(&a.space(), &name("nope")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(kernel.tx_checksum(&a.space(), &name("vx0")).unwrap(), Some(true));
    let off = Link { tx_checksum: Some(false), ..Link::existing(name("vx0")) };
    let plan = vec![Step::new(&a.space(), Change::Ensure(off.into()), "shared")];
    assert_eq!(kernel.apply(&plan, OnError::Undo).done.len(), 1);
    assert_eq!(kernel.apply(&plan, OnError::Undo).done.len(), 0);
    assert!(a.sh("ethtool -k vx0").contains("tx-checksumming: off"));
}
