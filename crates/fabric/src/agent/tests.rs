//! The state machine with a machine that is a list of objects.

mod rivals;

use super::ours::device_of;
use super::*;
use crate::{Code, Node, PerFamily};
use net::nft;

struct World {
    agent: Agent,
    objects: Vec<Object>,
    machine: Machine,
    now: Duration,
    changed: usize,
    looks: usize,
    told: Vec<Effect>,
}

fn node(n: usize) -> Node {
    let mut node = Node::new(format!("n{n}").parse().unwrap());
    node.addresses.v4 = Some(format!("192.0.{}.{}", 2 + n / 250, n % 250 + 1).parse().unwrap());
    node.subnets.v4 = Some(format!("10.{}.{}.0/24", 1 + n / 250, n % 250).parse().unwrap());
    node
}

fn nodes(count: usize) -> Vec<Node> {
    (0..count).map(node).collect()
}

fn machine() -> Machine {
    let eth0: LinkName = "eth0".parse().unwrap();
    let link = Link { mtu: Some(1500), ..Link::existing(eth0.clone()).up() };
    let address = net::Address::new(eth0.clone(), "192.0.2.1/16".parse().unwrap());
    Machine {
        links: vec![link],
        addresses: vec![address],
        default_routes: PerFamily { v4: Some(eth0), v6: None },
        vni_filter: true,
        gpe_sound: true,
        ..Machine::default()
    }
}

impl World {
    fn new(config: &str, kept: Vec<Node>, objects: Vec<Object>) -> Self {
        let source = if config.contains("source:") { "" } else { "source: {file: /n}\n" };
        let config = Config::parse(&format!("{source}{config}")).unwrap();
        let agent = Agent::new(config, "n0".parse().unwrap(), kept.into());
        let now = Duration::ZERO;
        let (changed, looks, told) = Default::default();
        let mut world = Self { agent, objects, machine: machine(), now, changed, looks, told };
        let effects = world.agent.start();
        world.perform(effects);
        world
    }

    /// One that has been told of so many nodes.
    fn with(config: &str, count: usize) -> Self {
        let mut world = Self::new(config, Vec::new(), Vec::new());
        world.on(Event::Source(Report::Complete(nodes(count).into())));
        world
    }

    fn on(&mut self, event: Event) -> usize {
        let before = self.changed;
        let effects = self.agent.on(event, self.now);
        self.perform(effects);
        self.changed - before
    }

    fn wait(&mut self, time: Duration) -> usize {
        let before = self.changed;
        let end = self.now + time;
        while let Some(at) = self.agent.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.on(Event::Tick);
        }
        self.now = end;
        self.changed - before
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let event = match effect {
                Effect::Survey => Event::Surveyed(self.machine.clone()),
                Effect::Look => {
                    self.looks += 1;
                    Event::Looked(self.objects.clone())
                }
                Effect::Apply(plan) => {
                    plan.iter().for_each(|step| self.make(&step.change));
                    Event::Applied { plan, failed: Vec::new() }
                }
                other => {
                    self.told.push(other);
                    continue;
                }
            };
            let effects = self.agent.on(event, self.now);
            self.perform(effects);
        }
    }

    fn make(&mut self, change: &Change) {
        let mut forget = |object: &Object| {
            let before = self.objects.len();
            self.objects.retain(|it| Key::of(it) != Key::of(object));
            before - self.objects.len()
        };
        match change {
            Change::Create(object) => {
                assert_eq!(forget(object), 0, "{object:?} is there already");
                self.objects.push(object.clone());
            }
            Change::Ensure(object @ (Object::Neighbour(_) | Object::Fdb(_))) => {
                forget(object);
                self.objects.push(object.clone());
            }
            Change::Replace { to, .. } => {
                // A route is written over whatever leads there, or over nothing.
                let is_route = matches!(to, Object::Route(_));
                assert!(forget(to) == 1 || is_route, "{to:?} is not there");
                self.objects.push(to.clone());
            }
            Change::Delete(object) => assert!(forget(object) > 0, "{object:?} is not there"),
            Change::Ensure(_) | Change::Act(_) => return,
        }
        self.changed += 1;
    }

    fn routes(&self) -> usize {
        self.objects.iter().filter(|it| is_peer_route(it)).count()
    }

    fn problems(&self) -> Vec<Code> {
        self.agent.status().problems.iter().map(|it| it.code).collect()
    }

    fn is_ready(&self) -> bool {
        self.agent.status().ready
    }
}

const BACKENDS: [&str; 4] =
    ["backend: vxlan", "tunnel: {form: classic}", "backend: gpe", "backend: host-gw"];

#[test]
fn what_should_be_is_made_once() {
    for backend in BACKENDS {
        let mut world = World::with(backend, 10);
        assert_eq!(world.routes(), 9, "{backend}");
        assert!(world.is_ready(), "{backend}: {:?}", world.agent.status());
        assert_eq!(world.on(Event::Looked(world.objects.clone())), 0, "{backend}");
        let status = world.agent.status();
        assert_eq!((status.peers, status.programmed), (9, 9));
        // Another agent that finds all of it in place.
        let mut next = World::new(backend, nodes(10), world.objects.clone());
        assert_eq!(next.on(Event::Source(Report::Complete(nodes(10).into()))) + next.changed, 0);
        assert!(next.is_ready());
    }
}

#[test]
fn one_node_more_or_less_costs_what_it_is() {
    for (backend, cost) in BACKENDS.into_iter().zip([5, 6, 4, 3]) {
        let mut world = World::with(backend, 10);
        let looks = world.looks;
        assert_eq!(world.on(Event::Source(Report::Complete(nodes(11).into()))), cost, "{backend}");
        assert_eq!(world.on(Event::Source(Report::Complete(nodes(10).into()))), cost, "{backend}");
        assert_eq!(world.looks, looks, "without a look");
        let mut moved = nodes(10);
        moved[9].addresses.v4 = Some("192.0.7.7".parse().unwrap());
        assert!(world.on(Event::Source(Report::Complete(moved.into()))) > 0);
        assert_eq!(world.on(Event::Looked(world.objects.clone())), 0, "{backend}");
    }
}

#[test]
fn a_subnet_moves_from_one_node_to_another() {
    let mut world = World::with("", 10);
    let mut told = nodes(10);
    told[9].name = "other".parse().unwrap();
    assert!(world.on(Event::Source(Report::Complete(told.into()))) > 0);
    assert_eq!(world.routes(), 9);
    assert_eq!(world.on(Event::Looked(world.objects.clone())), 0);
}

#[test]
fn what_others_take_away_comes_back() {
    let mut world = World::with("", 4);
    let gone = world.objects.clone();
    for object in gone {
        if matches!(object, Object::Nft(_)) {
            continue;
        }
        world.objects.retain(|it| *it != object);
        if let Object::Link(link) = &object {
            world.objects.retain(|it| device_of(it) != Some(&link.name));
        }
        world.on(Event::Gone(object.clone()));
        assert!(world.wait(SETTLE) > 0, "{object:?}");
        assert!(world.objects.contains(&object), "{object:?}");
    }
    world.objects.retain(|it| !matches!(it, Object::Nft(_)));
    world.on(Event::Rules);
    assert!(world.wait(SETTLE) > 0);
}

#[test]
fn what_others_change_is_put_right_and_what_is_as_it_should_be_is_no_news() {
    let mut world = World::with("", 4);
    let looks = world.looks;
    for object in world.objects.clone() {
        world.on(Event::Seen(object));
    }
    world.wait(SETTLE);
    assert_eq!(world.looks, looks);
    let place = world.objects.iter().position(is_peer_route).unwrap();
    let Object::Route(route) = &mut world.objects[place] else { panic!("not a route") };
    route.gateway = Some("203.0.113.9".parse().unwrap());
    let event = Event::Seen(world.objects[place].clone());
    world.on(event);
    assert_eq!(world.wait(SETTLE), 1);
}

#[test]
fn a_stranger_is_left_alone() {
    let mut world = World::with("", 4);
    let mut route = net::Route::new("10.99.0.0/16".parse().unwrap());
    route.link = Some("podwire0".parse().unwrap());
    world.objects.push(route.clone().into());
    world.on(Event::Seen(route.clone().into()));
    assert_eq!(world.wait(SLOW), 0);
    route.protocol = net::owner::PROTOCOL;
    world.objects.push(route.clone().into());
    world.on(Event::Seen(route.into()));
    assert_eq!(world.wait(SETTLE), 1, "but not one that says it is ours");
}

#[test]
fn a_cluster_that_shrinks_suspiciously_is_held() {
    for count in [1, 4] {
        let mut world = World::with("", 10);
        assert_eq!(world.on(Event::Source(Report::Complete(nodes(count).into()))), 0);
        assert_eq!(world.problems(), [Code::Held]);
        assert_eq!(world.wait(HOLD), 0, "time alone does not confirm it");
        assert!(world.told.contains(&Effect::Resync));
        let again = [Report::Complete(nodes(count).into()), Report::Unchanged];
        world.on(Event::Source(again[count % 2].clone()));
        world.wait(SETTLE);
        assert_eq!(world.routes(), count - 1);
        assert_eq!(world.problems(), []);
    }
    let mut world = World::with("", 10);
    world.on(Event::Source(Report::Complete(nodes(5).into())));
    // New nodes come all the same.
    let mut told = nodes(5);
    told.push(node(20));
    world.on(Event::Source(Report::Complete(told.clone().into())));
    assert_eq!(world.routes(), 10);
    // And back again is back again.
    world.on(Event::Source(Report::Complete(nodes(10).into())));
    world.wait(SETTLE);
    assert_eq!((world.routes(), world.problems()), (9, vec![]));
    world.on(Event::Source(Report::Complete(nodes(5).into())));
    world.on(Event::Accept);
    world.wait(SETTLE);
    assert_eq!(world.routes(), 4);
}

#[test]
fn a_source_that_says_nothing_removes_nothing() {
    let world = World::with("", 10);
    let mut next = World::new("", nodes(9), world.objects);
    assert_eq!(next.changed, 0, "the last one is stale, but the source has not said so");
    assert!(next.is_ready());
    next.on(Event::Source(Report::Astray("it does not answer".to_owned())));
    assert_eq!(next.wait(SLOW * 5), 0);
    assert_eq!(next.problems(), [Code::Source]);
    assert!(next.is_ready());
    next.on(Event::Source(Report::Complete(nodes(9).into())));
    assert_eq!(next.routes(), 8);
}

#[test]
fn a_node_that_is_not_listed_keeps_what_works_and_says_so() {
    let mut world = World::with("", 10);
    let told = nodes(10).split_off(1);
    assert_eq!(world.on(Event::Source(Report::Complete(told.into()))), 0);
    assert_eq!(world.problems(), [Code::NotListed]);
    assert!(world.told.contains(&Effect::Keep));
    assert_eq!(world.agent.cluster(), nodes(10).split_off(1).into());
    assert_eq!(world.wait(GRACE), 0);
    assert_eq!(world.told.last(), Some(&Effect::Unready));
    world.on(Event::Source(Report::Complete(nodes(10).into())));
    assert!(world.is_ready());
    let last = world.told.iter().rev().find(|it| !matches!(it, Effect::Keep));
    assert!(matches!(last, Some(Effect::Ready(_))));
}

#[test]
fn a_node_that_the_source_has_not_told_yet_is_not_called_unlisted() {
    // Also one that was not among those that were told before the start.
    for kept in [Vec::new(), nodes(10).split_off(1)] {
        let mut world = World::new("", kept, Vec::new());
        let [problem] = &world.agent.status().problems[..] else { panic!("one problem") };
        assert_eq!(problem.to_string(), "the source has not told which nodes there are yet");
        assert!(!world.is_ready());
        world.on(Event::Source(Report::Astray("set this".to_owned())));
        let [problem] = &world.agent.status().problems[..] else { panic!("one problem") };
        let text = "the source has not told which nodes there are: set this";
        assert_eq!((problem.code, problem.to_string().as_str()), (Code::Source, text));
        world.on(Event::Source(Report::Complete(nodes(10).into())));
        assert_eq!(world.problems(), []);
    }
    // Who only looks takes no lease.
    let etcd = "source: {etcd: {endpoints: ['http://192.0.2.9:2379']}}";
    let mut world = World::new(etcd, Vec::new(), Vec::new());
    world.on(Event::Source(Report::Complete(nodes(10).split_off(1).into())));
    let [problem] = &world.agent.status().problems[..] else { panic!("one problem") };
    assert!(problem.text.contains("no lease of its name in etcd yet"), "{problem}");
}

#[test]
fn bad_input_is_one_clear_problem() {
    let mut world = World::with("", 4);
    type Case = (&'static str, fn(&mut Vec<Node>), Code);
    let cases: [Case; 4] = [
        (
            "overlap",
            |it| it[3].subnets.v4 = Some("10.1.1.128/25".parse().unwrap()),
            Code::SubnetOverlap,
        ),
        (
            "underlay",
            |it| it[3].subnets.v4 = Some("192.0.0.0/15".parse().unwrap()),
            Code::SubnetOnUnderlay,
        ),
        ("no address", |it| it[3].addresses.v4 = None, Code::NoAddress),
        ("one address", |it| it[3].addresses.v4 = it[1].addresses.v4, Code::AddressTwice),
    ];
    for (what, spoil, code) in cases {
        let mut told = nodes(4);
        spoil(&mut told);
        world.on(Event::Source(Report::Complete(told.into())));
        assert!(world.problems().contains(&code), "{what}: {:?}", world.problems());
        assert_eq!(world.routes(), 2, "{what}");
        assert!(world.is_ready(), "{what}");
        world.on(Event::Source(Report::Complete(nodes(4).into())));
        assert_eq!((world.routes(), world.problems()), (3, vec![]), "{what}");
    }
}

#[test]
fn a_strangers_device_of_our_name_is_not_touched() {
    let mut world = World::new("", Vec::new(), Vec::new());
    world.machine.links.push(Link::bridge("podwire0".parse().unwrap()));
    world.on(Event::Surveyed(world.machine.clone()));
    assert_eq!(world.on(Event::Source(Report::Complete(nodes(4).into()))), 0);
    assert_eq!(world.problems(), [Code::ForeignDevice]);
    let Object::Link(gone) = Object::Link(world.machine.links.pop().unwrap()) else { panic!() };
    world.on(Event::Gone(gone.into()));
    world.wait(SETTLE);
    assert!(world.is_ready(), "{:?}", world.agent.status());
}

#[test]
fn an_uplink_that_changes_is_followed() {
    let mut world = World::with("", 4);
    world.machine.links[0].mtu = Some(1400);
    world.on(Event::Seen(world.machine.links[0].clone().into()));
    world.wait(SETTLE);
    assert_eq!(world.agent.status().mtu, Some(1350));
    let Some(Effect::Ready(ready)) = world.told.last() else { panic!("{:?}", world.told) };
    assert_eq!(ready.mtu, 1350);
    // Gone, and back: nothing is given up.
    let addresses = std::mem::take(&mut world.machine.addresses);
    world.on(Event::Gone(addresses[0].clone().into()));
    assert_eq!(world.wait(SETTLE), 0);
    assert!(!world.is_ready());
    world.machine.addresses = addresses.clone();
    world.on(Event::Seen(addresses[0].clone().into()));
    assert_eq!(world.wait(SETTLE), 0);
    assert!(world.is_ready());
}

#[test]
fn pods_that_come_and_go_cost_no_look() {
    let mut world = World::with("", 4);
    let looks = world.looks;
    let veth: LinkName = "veth1234".parse().unwrap();
    let link = Link::existing(veth.clone()).up();
    world.on(Event::Seen(link.clone().into()));
    let local: Object = net::Address::new(veth, "fe80::1234/64".parse().unwrap()).into();
    world.on(Event::Seen(local.clone()));
    world.on(Event::Gone(local));
    world.on(Event::Gone(link.into()));
    world.wait(SETTLE);
    assert_eq!(world.looks, looks);
}

#[test]
fn what_is_refused_is_tried_again_ever_more_rarely() {
    let mut world = World::with("", 4);
    let place = world.objects.iter().position(is_peer_route).unwrap();
    let route = world.objects.remove(place);
    for _ in 0..20 {
        let plan = vec![Step::new(&Space::Here, Change::Create(route.clone()), "is missing")];
        world.agent.on(Event::Applied { plan, failed: vec![(0, "no".to_owned())] }, world.now);
        let due = world.agent.deadline().unwrap();
        assert!(due <= world.now + Duration::from_secs(30));
        world.now = due;
    }
    assert_eq!(world.agent.status().programmed, 2);
    assert!(world.is_ready(), "the others are reached");
    world.on(Event::Tick);
    assert_eq!((world.routes(), world.problems()), (3, vec![]));
}

#[test]
fn a_table_of_another_form_is_made_anew() {
    let mut world = World::with("", 4);
    for object in &mut world.objects {
        if let Object::Nft(nft::Object::Set(set)) = object {
            set.flags.interval = true;
        }
    }
    world.on(Event::Rules);
    // Here, sets and all that is in them go with the table.
    let table = Object::Nft(firewall::table().into());
    let effects = world.agent.on(Event::Looked(world.objects.clone()), world.now);
    let Some(Effect::Apply(plan)) = effects.first() else { panic!("{effects:?}") };
    let nft = plan.iter().filter(|it| !matches!(it.change, Change::Ensure(_)));
    assert_eq!(nft.clone().next().map(|it| &it.change), Some(&Change::Delete(table)));
    assert!(nft.count() > 10);
}

#[test]
fn cleaning_up_takes_what_is_ours() {
    let mut world = World::with("", 4);
    let foreign: Object = net::Route::new("10.99.0.0/16".parse().unwrap()).into();
    world.objects.push(foreign);
    let plan = cleanup(&world.agent.config, &world.objects);
    let kinds: Vec<&str> = plan.iter().map(|step| kind(&step.change)).collect();
    assert_eq!(kinds, ["rule", "rule", "nft", "link"]);
}

#[test]
fn families_are_joined_or_refused_one_by_one() {
    let dual = |n: usize| {
        let mut node = node(n);
        node.subnets.v6 = Some(format!("fd00:10:{n:x}::/64").parse().unwrap());
        node
    };
    let told = || Event::Source(Report::Complete((0..4).map(dual).collect::<Vec<_>>().into()));
    let mut world = World::new("", Vec::new(), Vec::new());
    world.on(told());
    assert_eq!(world.routes(), 3);
    assert_eq!(world.problems(), [Code::Families], "vxlan carries IPv6 over IPv6 only");
    let mut world = World::new("backend: gpe", Vec::new(), Vec::new());
    world.on(told());
    assert_eq!((world.routes(), world.problems()), (6, vec![]));
    world.machine.links[0].mtu = Some(1300);
    world.on(Event::Surveyed(world.machine.clone()));
    assert_eq!(world.problems(), [Code::Mtu]);
}

#[test]
fn networks_of_pods_that_the_source_knows_stand_for_all_of_them() {
    let pods = |world: &World| {
        let element = |object: &Object| match object {
            Object::Nft(nft::Object::Element(it)) if it.set == "pods4" => Some(it.key.to_string()),
            _ => None,
        };
        let mut keys: Vec<String> = world.objects.iter().filter_map(element).collect();
        keys.sort();
        keys.join(" ")
    };
    let told = |networks: &[&str]| {
        let pod_networks = networks.iter().map(|net| net.parse().unwrap()).collect();
        Event::Source(Report::Complete(Cluster { nodes: nodes(3), pod_networks }))
    };
    let mut world = World::with("", 3);
    assert_eq!(pods(&world), "10.1.0.0/24 10.1.1.0/24 10.1.2.0/24");
    world.on(told(&["10.1.0.0/16"]));
    assert_eq!(pods(&world), "10.1.0.0/16");
    let Some(Effect::Ready(ready)) = world.told.iter().rfind(|it| matches!(it, Effect::Ready(_)))
    else {
        panic!("{:?}", world.told)
    };
    assert_eq!(ready.pod_networks, ["10.1.0.0/16".parse().unwrap()]);
    // It becomes another one, of which a node is not a part.
    world.on(told(&["10.1.0.0/23", "fd00::/48"]));
    assert_eq!(pods(&world), "10.1.0.0/23 10.1.2.0/24");
    // It makes room also where nothing of a peer may be deleted.
    world.machine.links[0].up = Some(false);
    world.on(Event::Surveyed(world.machine.clone()));
    world.on(told(&["10.0.0.0/8"]));
    assert_eq!((pods(&world).as_str(), world.problems()), ("10.0.0.0/8", vec![Code::UplinkDown]));
    // What was known before the start is in force while the source is away.
    assert!(world.told.contains(&Effect::Keep));
    let kept = world.agent.cluster();
    let mut next = World::new("", Vec::new(), world.objects.clone());
    next.agent = Agent::new(next.agent.config.clone(), "n0".parse().unwrap(), kept);
    let effects = next.agent.start();
    next.perform(effects);
    assert_eq!((pods(&next).as_str(), next.routes()), ("10.0.0.0/8", 2));
    // What is configured goes before what the source says.
    let mut world = World::new("podNetworks: [10.0.0.0/9]", Vec::new(), Vec::new());
    world.on(told(&["10.1.0.0/16"]));
    assert_eq!(pods(&world), "10.0.0.0/9");
}

#[test]
fn a_peer_is_reached_and_probed_by_the_family_that_it_has() {
    let mut dual = machine();
    let eth0: LinkName = "eth0".parse().unwrap();
    dual.addresses.push(net::Address::new(eth0.clone(), "2001:db8::1/64".parse().unwrap()));
    dual.default_routes.v6 = Some(eth0);
    let told = |me: Node, address: &str| {
        let mut peer = node(1);
        peer.addresses = PerFamily { v4: None, v6: address.parse().ok() };
        Event::Source(Report::Complete(vec![me, peer].into()))
    };
    // IPv4 pods of a peer that has an IPv6 address only.
    let over_v6 = "2001:db8::2";
    for (backend, machine, problem) in [
        ("backend: gpe", dual.clone(), None),
        ("backend: host-gw", dual.clone(), None),
        ("backend: host-gw\nfallback: gpe", dual.clone(), None),
        ("backend: vxlan", dual.clone(), Some("it has no address that IPv4 pods")),
        ("backend: gpe", machine(), Some("it has no address that IPv4 pods")),
    ] {
        let mut world = World::new(backend, Vec::new(), Vec::new());
        let mut me = node(0);
        me.addresses.v6 = machine.addresses.get(1).map(|it| it.address.addr());
        world.machine = machine.clone();
        world.on(Event::Surveyed(machine));
        world.on(told(me, over_v6));
        let texts: Vec<String> =
            world.agent.status().problems.into_iter().map(|it| it.text).collect();
        let (_, targets) = world.agent.mesh();
        match problem {
            None => {
                assert_eq!((world.routes(), &texts[..]), (1, &[][..]), "{backend}");
                let [target] = &targets[..] else { panic!("{backend}: {targets:?}") };
                let (from, to, size) = target.outer;
                assert_eq!([from.to_string(), to.to_string()], ["2001:db8::1", over_v6]);
                assert!(size <= 1500, "{backend}: {size} bytes are not carried whole");
                let is_plain = target.inner.is_none();
                assert_eq!(is_plain, backend.starts_with("backend: host-gw"), "{backend}");
            }
            Some(problem) => {
                assert!(texts.iter().any(|it| it.contains(problem)), "{backend}: {texts:?}");
                assert_eq!((world.routes(), targets), (0, vec![]), "{backend}");
            }
        }
    }
    // From an address that the others do not know they would take nothing.
    let mut world = World::new("backend: gpe", Vec::new(), Vec::new());
    let (mut me, mut peer) = (node(0), node(1));
    me.addresses = PerFamily { v4: None, v6: "2001:db8::1".parse().ok() };
    peer.addresses.v6 = over_v6.parse().ok();
    world.machine = dual;
    world.on(Event::Surveyed(world.machine.clone()));
    world.on(Event::Source(Report::Complete(vec![me, peer].into())));
    let (_, targets) = world.agent.mesh();
    assert_eq!(targets[0].outer.1.to_string(), over_v6);
    assert_eq!(world.agent.status().mtu, Some(1444));
}
