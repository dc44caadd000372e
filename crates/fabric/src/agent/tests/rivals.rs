//! Routes of others, beside the world's own.

use super::*;
use net::Route;

/// The routes of n1's pods, 10.1.1.0/24, and more by somebody else.
fn foreign(to: &str) -> Object {
    let gateway = "192.0.2.77".parse().ok();
    Route { gateway, protocol: 99, ..Route::new(to.parse().unwrap()) }.into()
}

fn texts(world: &World) -> Vec<String> {
    world.agent.status().problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_part_of_a_peers_subnet_that_others_take_is_told_without_a_look() {
    let mut world = World::with("", 4);
    let looks = world.looks;
    world.on(Event::Seen(foreign("10.1.1.128/25")));
    assert_eq!(
        texts(&world),
        [
            "node n1: a route that is not ours, 10.1.1.128/25 via 192.0.2.77, takes what is for 128 of \
          the 256 addresses of its pods, 10.1.1.0/24, in place of ours: have whoever wrote it (proto \
          99) leave pods alone, or delete it: ip route delete 10.1.1.128/25 via 192.0.2.77 proto 99"
        ]
    );
    assert_eq!(world.agent.status().programmed, 2);
    assert!(world.agent.deadline().unwrap() <= world.now + GATHER, "the log is told soon");
    world.on(Event::Seen(foreign("10.1.1.8/29")));
    world.on(Event::Seen(foreign("10.1.1.192/26")));
    let [text] = &texts(&world)[..] else { panic!("{:?}", texts(&world)) };
    assert!(text.contains("3 routes that are not ours, the first 10.1.1.8/29 via"), "{text}");
    assert!(text.contains("136 of the 256 addresses"), "{text}");
    for gone in ["10.1.1.8/29", "10.1.1.192/26", "10.1.1.128/25"] {
        world.on(Event::Gone(foreign(gone)));
    }
    assert_eq!(world.problems(), []);
    world.wait(GATHER);
    assert_eq!(world.looks, looks);
}

#[test]
fn what_is_not_for_a_peers_pods_is_not_told() {
    let mut world = World::with("", 4);
    let looks = world.looks;
    let mut elsewhere = Route::new("10.1.1.7/32".parse().unwrap());
    elsewhere.table = 99;
    let all =
        ["10.1.0.0/16", "10.1.0.7/32", "10.1.0.0/24", "10.1.4.0/24", "0.0.0.0/1"].map(foreign);
    for object in all.into_iter().chain([elsewhere.into()]) {
        world.on(Event::Seen(object.clone()));
        world.objects.push(object);
    }
    world.wait(GATHER);
    assert_eq!((world.looks, world.problems()), (looks, vec![]));
    world.on(Event::Looked(world.objects.clone()));
    assert_eq!(world.problems(), []);
    // What was a peer's subnet, and is nobody's any more.
    world.on(Event::Seen(foreign("10.1.3.7/32")));
    assert_eq!(world.problems(), [Code::ForeignRoute]);
    world.on(Event::Source(Report::Complete(nodes(3).into())));
    assert_eq!(world.problems(), []);
}

#[test]
fn a_look_corrects_what_events_have_said() {
    let mut world = World::with("", 4);
    world.on(Event::Seen(foreign("10.1.1.7/32")));
    world.on(Event::Looked(world.objects.clone()));
    assert_eq!(world.problems(), []);
    world.objects.push(foreign("10.1.2.7/32"));
    world.wait(SLOW);
    assert_eq!(world.problems(), [Code::ForeignRoute]);
}

#[test]
fn a_route_to_a_whole_subnet_takes_packets_if_it_comes_first() {
    let mut world = World::with("", 4);
    let own = world.objects.len();
    for (place, problems) in [(own, vec![]), (0, vec![Code::ForeignRoute])] {
        world.objects.insert(place, foreign("10.1.1.0/24"));
        world.on(Event::Looked(world.objects.clone()));
        assert_eq!(world.problems(), problems);
        world.objects.remove(place);
    }
    let looks = world.looks;
    world.on(Event::Gone(foreign("10.1.1.0/24")));
    world.wait(SETTLE);
    assert_eq!((world.looks, world.problems()), (looks + 1, vec![]));
}

#[test]
fn an_address_of_a_peers_pods_has_the_machine_looked_at() {
    let mut world = World::with("", 4);
    for (address, more) in [("10.1.1.7/26", 1), ("10.9.9.7/26", 0)] {
        let looks = world.looks;
        let device = "docker0".parse().unwrap();
        world.on(Event::Seen(net::Address::new(device, address.parse().unwrap()).into()));
        world.wait(SETTLE);
        assert_eq!(world.looks, looks + more, "{address}");
    }
}

#[test]
fn peers_that_are_told_after_the_first_look_are_looked_at_for_others() {
    let mut world = World::new("", Vec::new(), Vec::new());
    world.objects.push(foreign("10.1.1.7/32"));
    let looks = world.looks;
    world.on(Event::Source(Report::Complete(nodes(4).into())));
    assert_eq!((world.looks, world.problems()), (looks + 1, vec![Code::ForeignRoute]));
    world.on(Event::Source(Report::Complete(nodes(5).into())));
    assert_eq!(world.looks, looks + 1, "of another one the next look tells");
}
