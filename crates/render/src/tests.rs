//! Pictures as they should be. `PODWIRE_BLESS=1` writes what is drawn now into `tests/`, for a
//! person to look at.

mod machines;

use std::path::Path;

use machines::{
    Space, cluster, crowded, cyclic, explanations, hostile, machine, named, node, real_node,
    routed_pods,
};
use topology::dump::{Dump, OperState};
use topology::{Gap, Machine};

use crate::scene::is_hidden;
use crate::{Focus, Format, Picture, View, text, write};

const WIDE: Picture = Picture { width: 100, unicode: true };

#[test]
fn the_textbook() {
    let machine = machine(vec![
        Space::new("host").bridge(2, "br0").port(3, "vethB", 2, 2).port(4, "vethY", 2, 2).done(),
        Space::new("node1").veth(2, "vethA", 3).address(2, "10.10.0.2/24").done(),
        Space::new("node2").veth(2, "vethX", 4).address(2, "10.10.0.3/24").done(),
    ]);
    check("textbook", &machine, WIDE);
    check("textbook-ascii", &machine, Picture { unicode: false, ..WIDE });
}

#[test]
fn a_node_with_two_pods() {
    check("pods", &node(2, true), WIDE);
}

#[test]
fn what_does_not_fit_is_folded() {
    check("folded", &node(18, false), WIDE);
    check("folded-ascii", &node(18, false), Picture { unicode: false, ..WIDE });
    check("folded-narrow", &node(3, false), Picture { width: 20, ..WIDE });
}

#[test]
fn what_is_broken_looks_broken() {
    let mut machine = node(3, false);
    let down = machine.namespaces[1].dump.links.get_mut(&2).unwrap();
    (down.up, down.oper_state) = (false, OperState::Down);
    machine.namespaces[0].dump.links.remove(&4);
    machine.namespaces[2].dump = Dump::default();
    check("broken", &machine, WIDE);
}

#[test]
fn cables_that_fit_no_lane_are_told() {
    let machine = machine(vec![
        Space::new("left").bridge(2, "br0").port(3, "a", 2, 2).veth(4, "uplink", 5).done(),
        Space::new("pod").veth(2, "eth0", 3).address(2, "10.1.0.2/24").veth(3, "eth1", 4).done(),
        Space::new("right").bridge(2, "br0").port(4, "b", 3, 2).veth(5, "uplink", 4).done(),
        Space::new("alone").done(),
    ]);
    check("told", &machine, WIDE);
}

#[test]
fn two_bridges_stand_side_by_side() {
    let machine = machine(vec![
        Space::new("node")
            .bridge(2, "red")
            .bridge(3, "blue")
            .port(4, "r1", 2, 2)
            .port(5, "b1", 2, 3)
            .veth(6, "direct", 2)
            .done(),
        Space::new("b").veth(2, "eth0", 5).address(2, "10.2.0.2/24").done(),
        Space::new("r").veth(2, "eth0", 4).address(2, "10.1.0.2/24").done(),
        Space::new("d").veth(2, "eth0", 6).address(2, "10.3.0.2/32").done(),
    ]);
    check("bridges", &machine, WIDE);
}

#[test]
fn nodes_are_joined_by_their_switch() {
    check("cluster", &cluster(2, &["br0"]), WIDE);
    check("cluster-ascii", &cluster(2, &["br0"]), Picture { unicode: false, ..WIDE });
    check("cluster-routed", &cluster(3, &["br1", "br2"]), WIDE);
    check("cluster-folded", &cluster(20, &["br0"]), WIDE);
}

#[test]
fn a_node_that_is_unplugged_looks_so() {
    let mut machine = cluster(3, &["br0"]);
    let uplink = machine.namespaces[3].dump.links.get_mut(&2).unwrap();
    (uplink.up, uplink.oper_state) = (false, OperState::Down);
    machine.namespaces[4].dump.links.remove(&2);
    check("cluster-broken", &machine, WIDE);
}

#[test]
fn nothing_is_drawn_as_nothing() {
    assert_eq!(text(&Machine::default(), &WIDE), "");
}

#[test]
fn every_form_of_one_node() {
    check_forms("one", &named(node(2, true)), &Focus::Machine);
}

#[test]
fn every_form_of_three_nodes() {
    check_forms("three", &named(cluster(3, &["br0"])), &Focus::Machine);
}

#[test]
fn a_pod_is_shown_with_its_way_to_the_wire() {
    let machine = real_node(200, 3);
    let pod = Focus::Namespace(machine.namespaces[100].id);
    let view = View { focus: pod, width: Some(100), ..View::of(&machine) };
    golden("pod.txt", &write(Format::Text, &view));
    golden("../../../../docs/pictures/pod.svg", &write(Format::Svg, &view));
}

#[test]
fn the_pictures_of_the_tour_are_as_they_are_drawn() {
    let machine = named(cluster(3, &["br0"]));
    golden("../../../../docs/pictures/nodes.svg", &write(Format::Svg, &View::of(&machine)));
}

#[test]
fn pods_without_a_bridge_lead_to_the_routes() {
    check("routed", &routed_pods(), WIDE);
}

#[test]
fn a_cluster_bridge_and_another_stand_side_by_side() {
    check("real", &real_node(3, 2), Picture { width: 140, ..WIDE });
}

#[test]
fn what_could_not_be_read_is_said() {
    let mut machine = node(1, false);
    let gap = Gap { what: "netns /run/netns/a".to_owned(), why: "permission denied".to_owned() };
    machine.gaps.push(gap);
    let drawn = text(&machine, &WIDE);
    assert!(drawn.ends_with("could not be read: netns /run/netns/a: permission denied\n"));
}

#[test]
fn a_tunnel_that_only_one_end_knows_of_is_said() {
    let mut machine = named(cluster(3, &["br0"]));
    machine.namespaces[2].dump.neighbours.pop();
    let drawn = text(&machine, &WIDE);
    assert!(drawn.contains("not all of the way back is there"), "{drawn}");
}

/// Nothing of a name gets to a terminal, a browser or another program as it is.
#[test]
fn names_do_nothing() {
    let machine = hostile();
    let said = explanations(&machine);
    for format in Format::ALL {
        let text = write(format, &View { explanations: &said, ..View::of(&machine) });
        let hidden = text.chars().find(|it| *it != '\n' && is_hidden(*it));
        assert_eq!(hidden, None, "{format:?}:\n{text}");
        let is_markup = matches!(format, Format::Svg | Format::Html | Format::Mermaid);
        // A page's document is JSON, where a quote has a backslash.
        let text = text.split("<script type=\"application/json\"").next().unwrap_or_default();
        let markup = ["<script>x", "</title>&amp;", "\"onload"];
        let found = markup.iter().find(|it| is_markup && text.contains(**it));
        assert_eq!(found, None, "{format:?}:\n{text}");
    }
}

#[test]
fn cycles_end() {
    let machine = cyclic();
    for format in Format::ALL {
        assert!(write(format, &View::of(&machine)).contains("port of"), "{format:?}");
    }
}

/// What is much is folded: the picture stays small, and is soon there.
#[test]
fn crowds_are_folded() {
    let machine = crowded(2000, 100_000);
    let started = std::time::Instant::now();
    for format in Format::ALL.into_iter().filter(|format| *format != Format::Html) {
        let text = write(format, &View::of(&machine));
        assert!(text.len() < 20_000, "{format:?}: {} bytes", text.len());
    }
    check("crowded", &machine, WIDE);
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

fn check_forms(name: &str, machine: &Machine, focus: &Focus) {
    let said = explanations(machine);
    for format in Format::ALL {
        let view = View { explanations: &said, focus: focus.clone(), ..View::of(machine) };
        let text = write(format, &view);
        assert_eq!(text, write(format, &view), "the same network gives the same picture");
        golden(&format!("{name}.{}", format.suffix()), &without_assets(&text));
    }
}

/// A drawing or page without its style and script, which are files themselves, and their hashes.
fn without_assets(page: &str) -> String {
    let assets = |line: &&str| !line.contains("Content-Security-Policy");
    let page = page.lines().filter(assets).map(|line| format!("{line}\n")).collect::<String>();
    let cut = |text: String, open: &str, close: &str| match text.split_once(open) {
        Some((before, rest)) => {
            let after = rest.split_once(close).map(|(_, after)| after).unwrap_or_default();
            format!("{before}{open}{close}{after}")
        }
        None => text,
    };
    let own = cut(cut(page, "<style>", "</style>"), "<script>", "</script>");
    assert!(!own.contains("--sheet:"), "the style is still there: {own}");
    own
}

#[track_caller]
fn check(name: &str, machine: &Machine, picture: Picture) {
    let drawn = text(machine, &picture);
    assert_eq!(drawn, text(machine, &picture), "the same network gives the same picture");
    golden(&format!("{name}.txt"), &drawn);
}

#[track_caller]
fn golden(file: &str, drawn: &str) {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests");
    testbed::golden::hold(files.join(file), drawn);
}
