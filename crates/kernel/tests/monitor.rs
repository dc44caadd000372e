//! What happens in a namespace is told, as the objects that a look at it would find.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use kernel::{Kernel, Monitor, Notice, OnError, Query};
use net::nft::{self, Family, KeyType, Set, SetFlags, TableId, Value};
use net::{
    Address, Change, Encap, Fdb, Key, Link, LinkKind, LinkName, Mac, Neighbour, Object, Plan,
    Route, Rule, Space, Step, Vni, Vxlan, VxlanForm,
};
use testbed::Namespace;

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

/// All that is told until nothing more is for a while.
fn told(monitor: &mut Monitor) -> Vec<Notice> {
    let while_quiet = || Some(Instant::now() + Duration::from_millis(50));
    std::iter::from_fn(|| monitor.next(while_quiet()).unwrap()).collect()
}

/// As [`told`], without the states that devices go through.
fn told_of_others(monitor: &mut Monitor) -> Vec<Notice> {
    let is_link = |it: &Notice| matches!(it, Notice::Seen(Object::Link(_)));
    told(monitor).into_iter().filter(|it| !is_link(it)).collect()
}

fn seen(object: impl Into<Object>) -> Notice {
    Notice::Seen(object.into())
}

fn gone(object: impl Into<Object>) -> Notice {
    Notice::Gone(object.into())
}

/// The last that was told of a device.
fn last_of(link: &str, notices: &[Notice]) -> Link {
    let find = |it: &Notice| match it {
        Notice::Seen(Object::Link(it)) if it.name == name(link) => Some(it.clone()),
        _ => None,
    };
    notices.iter().rev().find_map(find).unwrap_or_else(|| panic!("no {link} in {notices:#?}"))
}

fn as_observed(space: &Space, link: &str) -> Link {
    let query = Query::Link(name(link));
    match &Kernel::new().unwrap().observe(space, &query).unwrap()[..] {
        [Object::Link(link)] => Link { tx_checksum: None, ..link.clone() },
        other => panic!("{other:?}"),
    }
}

const DEVICES: &str = "
ip link add under type veth peer name far; ip link set far up; ip link set under up
ip address add fd00::1/64 dev under nodad
ip link add ext0 type vxlan external vnifilter dstport 8472; ip link set ext0 up
ip link add vx0 type vxlan id 1 dev under nolearning dstport 8473; ip link set vx0 up
ip link add br0 type bridge; ip link set br0 up
ip link add port type veth peer name end; ip link set end up
ip link set port master br0 up
";

/// A node with [`DEVICES`], whose states may still change a little later.
fn node() -> Namespace {
    let node = Namespace::new("node");
    node.sh(DEVICES);
    node
}

fn tunnel_route(n: u8) -> Route {
    Route {
        encap: Some(Encap { vni: 1, to: [192, 0, 2, n].into(), checksum: false }),
        gateway: Some([10, 60, n, 0].into()),
        link: Some(name("ext0")),
        metric: Some(u32::from(n)),
        onlink: true,
        protocol: 112,
        ..Route::new(format!("10.60.{n}.0/24").parse().unwrap())
    }
}

fn peer(n: u8) -> [Object; 5] {
    let mac = Mac([2, 0, 0, 0, 0, n]);
    let neighbour =
        Neighbour { link: name("ext0"), address: [10, 60, n, 0].into(), mac, protocol: 112 };
    let v6 =
        Neighbour { address: [0xfd60, 0, 0, 0, 0, 0, 0, n.into()].into(), ..neighbour.clone() };
    let fdb = Fdb { link: name("vx0"), mac, to: Some([192, 0, 2, n].into()) };
    let vni = Vni { link: name("ext0"), vni: n.into() };
    [neighbour.into(), v6.into(), fdb.into(), tunnel_route(n).into(), vni.into()]
}

#[test]
fn what_others_change_is_told() {
    testbed::isolated!();
    let node = node();
    let mut monitor = Monitor::new(&node.space()).unwrap();
    let mut check = |script: &str, expected: &[Notice]| {
        node.sh(script);
        assert_eq!(told_of_others(&mut monitor), expected, "{script}");
    };

    let address = Address::new(name("under"), "192.0.2.1/24".parse().unwrap());
    check("ip address add 192.0.2.1/24 brd + dev under", &[seen(address.clone())]);
    check("ip address del 192.0.2.1/24 dev under", &[gone(address)]);

    let route = tunnel_route(7);
    let line = "10.60.7.0/24 encap ip id 1 dst 192.0.2.7 via 10.60.7.0 dev ext0 onlink \
        metric 7 proto 112";
    check(&format!("ip route add {line}"), &[seen(route.clone())]);
    let other = Route { mtu: Some(1400), ..route };
    check(&format!("ip route replace {line} mtu 1400"), &[seen(other.clone())]);
    let foreign = Route { encap: None, mtu: None, protocol: 4, ..other.clone() };
    assert_eq!(Key::of(&other.into()), Key::of(&foreign.clone().into()));
    check(
        "ip route replace 10.60.7.0/24 via 10.60.7.0 dev ext0 onlink metric 7 proto 4",
        &[seen(foreign.clone())],
    );
    check("ip route del 10.60.7.0/24 metric 7", &[gone(foreign)]);
    let route = Route {
        link: Some(name("ext0")),
        metric: Some(1024),
        table: 1000,
        protocol: 112,
        ..Route::new("fd60::/64".parse().unwrap())
    };
    let line = "fd60::/64 dev ext0 table 1000 proto 112";
    check(&format!("ip -6 route add {line}"), &[seen(route.clone())]);
    check(&format!("ip -6 route del {line}"), &[gone(route)]);
    check("ip route add 10.9.0.0/16 proto 112 nexthop dev ext0 nexthop dev br0", &[]);

    for (family, v6) in [("-4", false), ("-6", true)] {
        let rule = Rule {
            priority: 100,
            v6,
            fwmark: None,
            from: None,
            to: None,
            table: 113,
            protocol: 112,
        };
        let line = "lookup 113 priority 100 protocol 112";
        check(&format!("ip {family} rule add {line}"), &[seen(rule.clone())]);
        check(&format!("ip {family} rule del {line}"), &[gone(rule)]);
    }

    for vni in [7, 8] {
        let vni = Vni { link: name("ext0"), vni };
        check(&format!("bridge vni add dev ext0 vni {}", vni.vni), &[seen(vni)]);
    }
    let range = [7, 8].map(|vni| gone(Vni { link: name("ext0"), vni }));
    check("bridge vni delete dev ext0 vni 7-8", &range);

    let mac = Mac([2, 0, 0, 0, 0, 7]);
    let entry = Fdb { link: name("vx0"), mac, to: Some([192, 0, 2, 7].into()) };
    let line = "02:00:00:00:00:07 dev vx0 dst 192.0.2.7";
    check(&format!("bridge fdb add {line}"), &[seen(entry.clone())]);
    check(&format!("bridge fdb del {line}"), &[gone(entry)]);
    let entry = Fdb { link: name("port"), mac, to: None };
    let line = "02:00:00:00:00:07 dev port master";
    check(&format!("bridge fdb add {line} static"), &[seen(entry.clone())]);
    check(&format!("bridge fdb del {line}"), &[gone(entry)]);
    check(&format!("bridge fdb add {line} dynamic"), &[]);
}

#[test]
fn only_permanent_neighbours_are_told() {
    testbed::isolated!();
    let node = node();
    node.sh("ip neighbour add 10.60.1.0 lladdr 02:00:00:00:00:01 dev ext0 nud permanent");
    node.sh("ip neighbour add 10.60.2.0 lladdr 02:00:00:00:00:02 dev ext0 nud stale");
    let mut monitor = Monitor::new(&node.space()).unwrap();
    let mut check = |script: &str, expected: &[Notice]| {
        node.sh(&script.replace("NEIGH", "ip neighbour").replace("MAC", "lladdr 02:00:00:00:00"));
        assert_eq!(told_of_others(&mut monitor), expected, "{script}");
    };
    let neighbour = |address: &str, mac, protocol| Neighbour {
        link: name("ext0"),
        address: address.parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, mac]),
        protocol,
    };
    // One that was there before.
    check("NEIGH del 10.60.1.0 dev ext0", &[gone(neighbour("10.60.1.0", 1, 0))]);
    check("NEIGH del 10.60.2.0 dev ext0", &[]);

    let (old, new) = (neighbour("10.60.7.0", 7, 112), neighbour("10.60.7.0", 8, 112));
    check("NEIGH add 10.60.7.0 MAC:07 dev ext0 nud permanent protocol 112", &[seen(old)]);
    check("NEIGH replace 10.60.7.0 MAC:08 dev ext0 nud permanent", &[seen(new.clone())]);
    check("NEIGH replace 10.60.7.0 MAC:08 dev ext0 nud reachable", &[gone(new)]);
    check("NEIGH del 10.60.7.0 dev ext0", &[]);

    let v6 = neighbour("fd60::7", 7, 0);
    check("NEIGH add fd60::7 MAC:07 dev ext0 nud permanent", &[seen(v6.clone())]);
    check("NEIGH add proxy fd60::7 dev ext0; NEIGH del proxy fd60::7 dev ext0", &[]);
    for nud in ["reachable", "stale", "failed"] {
        check(&format!("NEIGH replace fd60::8 MAC:07 dev ext0 nud {nud}"), &[]);
    }
    check("NEIGH flush dev ext0 nud permanent", &[gone(v6)]);
}

#[test]
fn devices_are_told_as_they_are() {
    testbed::isolated!();
    let node = Namespace::new("node");
    let mut monitor = Monitor::new(&node.space()).unwrap();
    node.sh(DEVICES);
    let notices = told(&mut monitor);
    for link in ["under", "far", "ext0", "vx0", "br0", "port", "end"] {
        assert_eq!(last_of(link, &notices), as_observed(&node.space(), link));
    }
    let master = last_of("port", &notices).master;
    assert_eq!(master, Some(name("br0")));

    // By one who knew them before as by one who has just come.
    let mut other = Monitor::new(&node.space()).unwrap();
    for script in [
        "ip link set ext0 mtu 1400",
        "ip link set ext0 down",
        "ip link set ext0 address 02:00:00:00:00:42",
        "ip link set ext0 promisc on",
        "ip link set port down; ip link set end down; ip link set port up; ip link set end up",
        "bridge link set dev port hairpin on",
        "bridge link set dev port isolated on",
        "ip link set port nomaster",
        "ip link set port master br0",
        "ip link set end down",
    ] {
        let link = if script.contains("ext0") { "ext0" } else { "port" };
        node.sh(script);
        let notices = told(&mut monitor);
        assert_eq!(last_of(link, &notices), as_observed(&node.space(), link), "{script}");
        assert_eq!(last_of(link, &told(&mut other)), last_of(link, &notices), "{script}");
    }

    let before = as_observed(&node.space(), "ext0");
    node.sh("ip link del ext0");
    assert!(told(&mut monitor).contains(&gone(before)));
}

#[test]
fn a_device_with_another_name_is_another() {
    testbed::isolated!();
    let node = node();
    let old = as_observed(&node.space(), "ext0");
    let mut monitor = Monitor::new(&node.space()).unwrap();
    node.sh("ip link set ext0 down; ip link set ext0 name new0");
    let new = Link { name: name("new0"), up: Some(false), ..old.clone() };
    let gone_then_seen = [gone(Link { up: Some(false), ..old }), seen(new.clone())];
    assert!(told(&mut monitor).windows(2).any(|it| it == gone_then_seen));

    let address = Address::new(name("new0"), "10.60.0.0/32".parse().unwrap());
    node.sh("ip address add 10.60.0.0/32 dev new0");
    assert_eq!(told_of_others(&mut monitor), [seen(address.clone())]);
    node.sh("ip link del new0");
    let notices = told(&mut monitor);
    assert!(notices.contains(&gone(address)) && notices.contains(&gone(new)), "{notices:#?}");
}

#[test]
fn a_device_that_moves_is_gone_here_and_seen_there() {
    testbed::isolated!();
    let (node, pod) = (node(), Namespace::new("pod"));
    let mut here = Monitor::new(&node.space()).unwrap();
    let mut there = Monitor::new(&pod.space()).unwrap();
    node.sh("ip link set end netns pod name eth0");
    let is_gone =
        |it: &Notice| matches!(it, Notice::Gone(Object::Link(it)) if it.name == name("end"));
    assert!(told(&mut here).iter().any(is_gone));
    assert_eq!(last_of("eth0", &told(&mut there)), as_observed(&pod.space(), "eth0"));
    // And gone with the namespace, at this end.
    drop(there);
    drop(pod);
    let until = Instant::now() + Duration::from_secs(10);
    let is_gone =
        |it: &Notice| matches!(it, Notice::Gone(Object::Link(it)) if it.name == name("port"));
    while !is_gone(&here.next(Some(until)).unwrap().unwrap()) {}
}

#[test]
fn what_the_executor_does_is_told() {
    testbed::isolated!();
    let node = node();
    let mut monitor = Monitor::new(&node.space()).unwrap();
    let rule = Rule {
        priority: 100,
        v6: true,
        fwmark: None,
        from: None,
        to: None,
        table: 113,
        protocol: 112,
    };
    let address = Address::new(name("under"), "192.0.2.1/24".parse().unwrap());
    let mut objects: Vec<Object> = vec![rule.into(), address.into()];
    objects.extend((1..=200).flat_map(peer));
    let create =
        |it: &Object| Step::new(&node.space(), Change::Create(it.clone()), "is one of many");
    let plan: Plan = objects.iter().map(create).collect();
    let mut kernel = Kernel::new().unwrap();
    let applied = kernel.apply(&plan, OnError::Continue);
    assert!(applied.failed.is_empty(), "{:?}", applied.failed);
    assert_eq!(
        told_of_others(&mut monitor),
        objects.iter().cloned().map(Notice::Seen).collect::<Vec<_>>()
    );
    kernel.apply(&applied.undo(&plan), OnError::Continue).into_result().unwrap();
    let expected: Vec<Notice> = objects.into_iter().rev().map(Notice::Gone).collect();
    assert_eq!(told_of_others(&mut monitor), expected);

    let form = VxlanForm::External { gpe: false, filtered: false };
    let device = Link::vxlan(name("ext1"), Vxlan { port: 8474, form }).up();
    let plan = [create(&device.into())];
    let applied = kernel.apply(&plan, OnError::Undo);
    let device = last_of("ext1", &told(&mut monitor));
    assert!(matches!(&device.kind, Some(LinkKind::Vxlan(it)) if it.port == 8474));
    kernel.apply(&applied.undo(&plan), OnError::Undo).into_result().unwrap();
    let notices = told(&mut monitor);
    assert!(
        notices.contains(&gone(Link { up: Some(false), ..device.clone() })),
        "{notices:#?} {device:#?}"
    );
}

#[test]
fn of_routes_and_rules_only_those_of_others_are_told() {
    testbed::isolated!();
    let node = node();
    let mut kernel = Kernel::new().unwrap();
    let mut monitor = Monitor::new(&node.space()).unwrap();
    monitor.ignore(&mut kernel, &node.space()).unwrap();
    told(&mut monitor);
    let [ours, neighbour] = [Object::from(tunnel_route(1)), peer(1)[0].clone()];
    assert!(matches!(neighbour, Object::Neighbour(_)), "{neighbour:?}");
    let table = Object::Nft(TableId::new(Family::Inet, "t").into());
    let create = |it: &Object| Step::new(&node.space(), Change::Create(it.clone()), "");
    let plan: Plan = [&table, &neighbour, &ours].map(create).into();
    kernel.apply(&plan, OnError::Continue).into_result().unwrap();
    assert_eq!(told_of_others(&mut monitor), [seen(neighbour)]);
    node.sh("ip route delete 10.60.1.0/24; nft add chain inet t c");
    let changed = Notice::Nft(TableId::new(Family::Inet, "t"));
    assert_eq!(told_of_others(&mut monitor), [gone(ours), changed]);
}

#[test]
fn of_large_transactions_nothing_is_told_and_what_others_did_meanwhile_is_known() {
    testbed::isolated!();
    let node = node();
    let mut kernel = Kernel::new().unwrap();
    let mut monitor = Monitor::new(&node.space()).unwrap();
    monitor.ignore(&mut kernel, &node.space()).unwrap();
    let table = TableId::new(Family::Inet, "t");
    let name = "nodes".to_owned();
    let (key, flags) = (vec![KeyType::Ipv4Addr], SetFlags::default());
    let set = Set { table: table.clone(), name, key, value: None, flags, comment: None };
    let mut plan: Plan = Vec::new();
    let mut create = |it| plan.push(Step::new(&node.space(), Change::Create(it), "is one of many"));
    create(Object::Nft(table.clone().into()));
    create(set.clone().into());
    for number in 0..1000u16 {
        let [high, low] = number.to_be_bytes();
        let key = nft::Key::Point(vec![Value::Address([10, 1, high, low].into())]);
        let (table, set) = (table.clone(), set.name.as_str().into());
        create(nft::Element { table, set, key, value: None, comment: None }.into());
    }
    told(&mut monitor);
    let applied = kernel.apply(&plan, OnError::Continue);
    assert_eq!((applied.done.len(), applied.unheard), (plan.len(), false));
    assert_eq!(told_of_others(&mut monitor), []);
    node.sh("nft add chain inet t c");
    assert_eq!(told_of_others(&mut monitor), [Notice::Nft(table.clone())]);
    // While others change the table all the time, some of that is not told.
    let delete = |step: &Step| Step { change: step.change.inverse().unwrap(), ..step.clone() };
    let (create, delete) = (&plan[2..], plan[2..].iter().map(delete).collect::<Plan>());
    let unheard = std::thread::scope(|scope| {
        let others = "for n in $(seq 100); do nft add chain inet t c$n; done";
        let others = scope.spawn(|| node.sh(others));
        let mut unheard = false;
        while !others.is_finished() {
            for plan in [&delete[..], create] {
                let applied = kernel.apply(plan, OnError::Continue);
                assert_eq!(applied.failed.len(), 0, "{:?}", applied.failed);
                unheard |= applied.unheard;
            }
        }
        unheard
    });
    assert!(unheard);
    told(&mut monitor);
    node.sh("nft add chain inet t last");
    assert_eq!(told_of_others(&mut monitor), [Notice::Nft(table)]);
}

#[test]
fn all_that_is_told_makes_up_what_is_there() {
    testbed::isolated!();
    let node = Namespace::new("node");
    let mut kernel = Kernel::new().unwrap();
    let mut all = || kernel.observe(&node.space(), &Query::All).unwrap();
    let mut objects = all();
    let mut monitor = Monitor::new(&node.space()).unwrap();
    node.sh(DEVICES);
    let create = |it| Step::new(&node.space(), Change::Create(it), "is one of many");
    let plan: Plan = (1..=9).flat_map(peer).map(create).collect();
    Kernel::new().unwrap().apply(&plan, OnError::Undo).into_result().unwrap();
    node.sh("
        ip link set far down; ip link set far name far1; ip link del port
        ip address add 192.0.2.1/24 brd + dev under; ip address add 192.0.2.2/24 dev under
        ip address del 192.0.2.1/24 dev under
        ip route replace 10.60.1.0/24 via 10.60.1.0 dev ext0 onlink metric 1
        ip route change 10.60.2.0/24 via 10.60.1.0 dev ext0 onlink metric 2 proto 112
        ip -6 route add fd60::/64 dev ext0; ip -6 route del fd60::/64
        ip -6 route add fd61::/64 dev ext0; ip -6 route replace fd61::/64 dev under
        ip neighbour del 10.60.9.0 dev ext0; bridge vni delete dev ext0 vni 2-7
        ip rule add lookup 113 priority 100; ip -6 rule add lookup 113 priority 100
        ip rule del priority 100; ip link del vx0");
    for notice in told(&mut monitor) {
        let (Notice::Seen(object) | Notice::Gone(object)) = &notice else { panic!("{notice:?}") };
        objects.retain(|it| Key::of(it) != Key::of(object) && !is_on(it, object, &notice));
        if let Notice::Seen(object) = notice {
            objects.push(object);
        }
    }
    let sorted = |objects: Vec<Object>| {
        let mut lines: Vec<String> = objects.iter().map(|it| format!("{it:?}")).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(objects), sorted(all()));
}

/// Whether an object went with a device that is gone.
fn is_on(object: &Object, device: &Object, notice: &Notice) -> bool {
    let (Notice::Gone(_), Object::Link(device)) = (notice, device) else { return false };
    match object {
        Object::Address(it) => it.link == device.name,
        Object::Route(it) => it.link.as_ref() == Some(&device.name),
        Object::Neighbour(it) => it.link == device.name,
        Object::Fdb(it) => it.link == device.name,
        Object::Vni(it) => it.link == device.name,
        _ => false,
    }
}

#[test]
fn a_table_is_told_once_a_change() {
    testbed::isolated!();
    let node = node();
    let mut monitor = Monitor::new(&node.space()).unwrap();
    let table = |family, name| Notice::Nft(TableId::new(family, name));
    let (mine, theirs) = (table(Family::Inet, "mine"), table(Family::Ip, "theirs"));
    let mut check = |rules: &str, expected: &[&Notice]| {
        node.sh(&format!("nft -f - <<'RULES'\n{rules}\nRULES"));
        assert_eq!(told_of_others(&mut monitor).iter().collect::<Vec<_>>(), expected, "{rules}");
    };
    check("table inet mine { set peers { type ipv4_addr; flags interval; }; }", &[&mine]);
    check("add chain inet mine out { type filter hook output priority 0; }", &[&mine]);
    check("add rule inet mine out ip daddr @peers accept", &[&mine]);
    let many: Vec<String> = (0..5000).map(|n| format!("10.{}.{}.0/24", n / 250, n % 250)).collect();
    check(&format!("add element inet mine peers {{ {} }}", many.join(", ")), &[&mine]);
    check("delete element inet mine peers { 10.0.7.0/24 }", &[&mine]);
    check("table ip theirs { chain c { accept; }; }; flush chain inet mine out", &[&mine, &theirs]);
    check("add counter ip theirs hits", &[&theirs]);
    check("list ruleset", &[]);
    check("delete table inet mine", &[&mine]);

    let chain = net::nft::Chain {
        table: TableId::new(Family::Inet, "mine"),
        name: "out".to_owned(),
        base: None,
        rules: Vec::new(),
    };
    let table = net::nft::Table::new(chain.table.clone());
    let objects = [net::nft::Object::Table(table), net::nft::Object::Chain(chain)];
    let create =
        |it: net::nft::Object| Step::new(&node.space(), Change::Create(it.into()), "is ours");
    let plan: Plan = objects.map(create).into();
    Kernel::new().unwrap().apply(&plan, OnError::Undo).into_result().unwrap();
    assert_eq!(told_of_others(&mut monitor), [mine]);
}

#[test]
fn after_a_loss_it_goes_on() {
    testbed::isolated!();
    let node = node();
    let mut monitor = Monitor::new(&node.space()).unwrap();
    // Among what is lost is that a device got another name.
    node.sh("ip link set ext0 down; ip link set ext0 name new0; ip link set new0 up");
    node.sh("for i in $(seq 25000); do echo \"route add 10.9.9.0/24 dev new0 proto 112\"; \
        echo \"route del 10.9.9.0/24 dev new0 proto 112\"; done | ip -batch -");
    let notices = told(&mut monitor);
    assert_eq!(notices.last(), Some(&Notice::Lost));
    assert_eq!(notices.iter().filter(|it| **it == Notice::Lost).count(), 1);
    let address = Address::new(name("new0"), "10.60.0.0/32".parse().unwrap());
    node.sh("ip address add 10.60.0.0/32 dev new0");
    assert_eq!(told_of_others(&mut monitor), [seen(address)]);
}

#[test]
fn waiting_ends_in_time_or_with_the_event() {
    testbed::isolated!();
    let node = Namespace::new("node");
    let mut monitor = Monitor::new(&node.space()).unwrap();
    let start = Instant::now();
    assert_eq!(monitor.next(Some(start)).unwrap(), None);
    assert!(start.elapsed() < Duration::from_millis(50));
    assert_eq!(monitor.next(Some(start + Duration::from_millis(100))).unwrap(), None);
    assert!(start.elapsed() >= Duration::from_millis(100));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            node.sh("nft add table inet mine");
        });
        let notice = monitor.next(None).unwrap();
        assert_eq!(notice, Some(Notice::Nft(TableId::new(Family::Inet, "mine"))));
    });
    // What has come in is told, however late it is.
    node.sh("nft delete table inet mine");
    assert!(monitor.next(Some(start)).unwrap().is_some());
}

#[test]
fn a_namespace_that_is_not_there_is_named() {
    testbed::isolated!();
    let error = Monitor::new(&Space::named("nowhere")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn several_are_waited_for_at_once() {
    testbed::isolated!();
    let (one, other) = (Namespace::new("one"), Namespace::new("other"));
    let mut monitors = [&one, &other].map(|it| Monitor::new(&it.space()).unwrap());
    let wait = |monitors: &[Monitor], millis: u64| {
        let deadline = Instant::now() + Duration::from_millis(millis);
        Monitor::wait_for_any(monitors, deadline).unwrap()
    };
    assert!(!wait(&monitors, 20));
    other.sh("ip link add br1 type bridge; ip link add br2 type bridge");
    assert!(wait(&monitors, 10_000));
    // What was read with another, and is not told yet, counts as well.
    assert!(monitors[1].next(Some(Instant::now())).unwrap().is_some());
    assert!(wait(&monitors, 0));
    told(&mut monitors[1]);
    assert!(!wait(&monitors, 20));
}
