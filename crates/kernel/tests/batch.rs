//! Steps that are sent together have the outcome that each would have had by itself.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kernel::{ErrorKind, Kernel, OnError};
use net::nft::{self, Element, Key, TableId, Value};
use net::{
    Address, Change, Encap, Fdb, LinkName, Mac, Neighbour, Object, Plan, Route, Rule, Space, Step,
    Vni,
};
use testbed::{Namespace, assert_same_state, state};

const DEVICES: &str = "
ip link add under address 02:00:00:00:00:01 type veth peer name far address 02:00:00:00:00:09
ip link set far up; ip link set under up
ip address add 192.0.2.1/24 dev under; ip address add fd00::1/64 dev under nodad
ip link add ext0 address 02:00:00:00:00:02 type vxlan external vnifilter dstport 8472
ip link add vx0 address 02:00:00:00:00:03 type vxlan id 1 dev under nolearning dstport 8473
ip link set ext0 up; ip link set vx0 up
for n in 1 2 3; do bridge vni add dev ext0 vni $n; done
";

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

fn peer(n: u8) -> [Object; 5] {
    let neighbour = Neighbour {
        link: name("ext0"),
        address: [10, 60, n, 0].into(),
        mac: Mac([2, 0, 0, 0, 1, n]),
        protocol: 112,
    };
    let fdb = Fdb { link: name("vx0"), mac: neighbour.mac, to: Some([192, 0, 2, n].into()) };
    let route = Route {
        encap: Some(Encap { vni: 1, to: [192, 0, 2, n].into(), checksum: false }),
        gateway: Some(neighbour.address),
        link: Some(name("ext0")),
        onlink: true,
        protocol: 112,
        ..Route::new(format!("10.60.{n}.0/24").parse().unwrap())
    };
    let v6 = Route {
        link: Some(name("ext0")),
        protocol: 112,
        ..Route::new(format!("fd60:{n:x}::/64").parse().unwrap())
    };
    let address = Address::new(name("under"), format!("198.51.100.{n}/32").parse().unwrap());
    [neighbour.into(), fdb.into(), route.into(), v6.into(), address.into()]
}

/// Several hundred steps, among which are all that fail and all that have nothing to do.
fn plan(space: &Space) -> Plan {
    let mut plan = Plan::new();
    let mut add = |change| plan.push(Step::new(space, change, "is one of many"));
    let rule = |n: u8| Rule {
        priority: 1000 + u32::from(n),
        v6: n.is_multiple_of(2),
        fwmark: None,
        from: None,
        to: None,
        table: 112,
        protocol: 112,
    };
    let lost = Route {
        gateway: Some([203, 0, 113, 1].into()),
        ..Route::new("10.70.0.0/16".parse().unwrap())
    };
    let nowhere = Address::new(name("nope"), "10.0.0.1/8".parse().unwrap());
    for n in 1..=60 {
        for object in peer(n) {
            let is_odd = matches!(object, Object::Route(_)) && n % 3 == 0;
            add(if is_odd { Change::Ensure(object) } else { Change::Create(object) });
        }
        add(Change::Create(rule(n).into()));
        match n % 10 {
            1 => add(Change::Create(lost.clone().into())),
            2 => add(Change::Create(nowhere.clone().into())),
            3 => add(Change::Delete(nowhere.clone().into())),
            4 => peer(n - 1).into_iter().for_each(|object| add(Change::Create(object))),
            5 => peer(n - 1).into_iter().for_each(|object| add(Change::Ensure(object))),
            6 => peer(n - 3).into_iter().for_each(|object| add(Change::Delete(object))),
            7 => peer(n - 4).into_iter().for_each(|object| add(Change::Delete(object))),
            8 => add(Change::replace(rule(n), rule(n))),
            9 => {
                let [Object::Neighbour(from), ..] = peer(n) else { panic!("not a neighbour") };
                let to = Neighbour { mac: Mac([2; 6]), ..from.clone() };
                add(Change::replace(from, to));
            }
            _ => {}
        }
    }
    for vni in [2, 3, 3, 9] {
        add(Change::Delete(Vni { link: name("ext0"), vni }.into()));
    }
    for vni in [1, 2, 2] {
        add(Change::Create(Vni { link: name("ext0"), vni }.into()));
    }
    add(Change::Delete(rule(1).into()));
    plan
}

#[test]
fn together_is_as_one_by_one() {
    testbed::isolated!();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    a.sh(DEVICES);
    b.sh(DEVICES);
    let mut kernel = Kernel::new().unwrap();
    let together = kernel.apply(&plan(&a.space()), OnError::Continue);
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (place, step) in plan(&b.space()).iter().enumerate() {
        let one = kernel.apply(std::slice::from_ref(step), OnError::Stop);
        done.extend(one.done.iter().map(|_| place));
        failed.extend(one.failed.into_iter().map(|(_, it)| (place, it.kind(), it.to_string())));
    }
    assert_eq!(together.done, done);
    let failures: Vec<_> =
        together.failed.iter().map(|(at, it)| (*at, it.kind(), it.to_string())).collect();
    assert_eq!(failures, failed);
    let kinds: Vec<ErrorKind> = failures.iter().map(|(_, kind, _)| *kind).collect();
    for kind in [ErrorKind::Exists, ErrorKind::NotFound, ErrorKind::Other, ErrorKind::WrongKind] {
        assert!(kinds.contains(&kind), "no failure is {kind:?}");
    }
    assert!(failures.len() > 40 && done.len() > 300, "{} {}", failures.len(), done.len());
    assert_same_state(&state(&a), &state(&b));
}

/// What is added to nftables goes ahead of what comes before it, and what comes after it waits for it:
/// the outcome is the one that each transaction and each run of routes has by itself.
#[test]
fn rules_and_routes_at_once_are_as_one_after_the_other() {
    testbed::isolated!();
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    let table = TableId::new(nft::Family::Inet, "t");
    let element = |n: u8| {
        let key = Key::Point(vec![Value::Address([10, 60, n, 0].into())]);
        Element { table: table.clone(), set: "s".into(), key, value: None, comment: None }
    };
    for namespace in [&a, &b] {
        namespace.sh(DEVICES);
        namespace.sh("nft add table inet t; nft 'add set inet t s { type ipv4_addr; }'");
    }
    let runs = |space: &Space| -> Vec<Plan> {
        let step = |object| Step::new(space, Change::Create(object), "is one of many");
        let tens = (0..10).map(|ten| 10 * ten + 1..=10 * ten + 10);
        let runs = tens.flat_map(|peers| {
            let mut elements: Plan = peers.clone().map(|n| step(element(n).into())).collect();
            let mut routes: Plan = peers.clone().flat_map(|n| peer(n).map(step)).collect();
            match *peers.start() {
                // One that is there already has its whole transaction refused, and a route only itself.
                31 => elements.push(step(element(1).into())),
                51 => routes.extend(peer(7).map(step)),
                _ => {}
            }
            [elements, routes]
        });
        runs.collect()
    };
    let mut kernel = Kernel::new().unwrap();
    let at_once = kernel.apply(&runs(&a.space()).concat(), OnError::Continue);
    let (mut done, mut failed, mut first) = (Vec::new(), Vec::new(), 0);
    for run in runs(&b.space()) {
        let one = kernel.apply(&run, OnError::Continue);
        done.extend(one.done.iter().map(|place| first + place));
        failed.extend(one.failed.into_iter().map(|(at, it)| (first + at, it.kind())));
        first += run.len();
    }
    let failures: Vec<_> = at_once.failed.iter().map(|(at, it)| (*at, it.kind())).collect();
    assert_eq!((&at_once.done, failures), (&done, failed));
    assert_eq!(at_once.done.len(), first - 11 - 5);
    assert_same_state(&state(&a), &state(&b));
}

#[test]
fn a_fault_among_many_is_in_its_place() {
    testbed::isolated!();
    let a = Namespace::new("a");
    a.sh(DEVICES);
    let create = |object| Step::new(&a.space(), Change::Create(object), "is one of many");
    let plan: Plan = (1..=40).flat_map(|n| peer(n).map(create)).collect();
    let before = state(&a);
    for place in [0, 1, 63, 64, 65, 199] {
        let mut kernel = Kernel::new().unwrap();
        kernel.fail_after(place);
        let applied = kernel.apply(&plan, OnError::Continue);
        let [(at, error)] = &applied.failed[..] else { panic!("{:?}", applied.failed) };
        assert_eq!((*at, error.kind()), (place, ErrorKind::Injected));
        assert_eq!(applied.done.len(), plan.len() - 1);
        kernel.apply(&applied.undo(&plan), OnError::Continue).into_result().unwrap();
        assert_same_state(&before, &state(&a));
    }
}

#[test]
fn steps_in_a_namespace_that_is_gone_fail_each() {
    testbed::isolated!();
    let create = |object| Step::new(&Space::named("gone"), Change::Create(object), "is lost");
    let plan: Plan = peer(1).map(create).into();
    let applied = Kernel::new().unwrap().apply(&plan, OnError::Continue);
    let places: Vec<usize> = applied.failed.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, [0, 1, 2, 3, 4]);
    assert_eq!(applied.done, [0; 0]);
}
