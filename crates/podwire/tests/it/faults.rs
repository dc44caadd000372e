//! The catalogue of faults: each one is made, named by podwire, and taken back exactly.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use diagnosis::verify::Rule;
use lab::faults::{self, Families, Fault, Scene};
use serde_json::Value;
use testbed::{isolated, sh};

use crate::{Agents, podwire};

/// What stands in the way of a fault being found and taken back, a line each.
struct Score {
    injected: usize,
    named: usize,
    wrong: Vec<String>,
}

/// A directory for what is looked at, in which the test goes on.
fn home() -> testbed::TempDir {
    let home = testbed::TempDir::new().unwrap();
    std::env::set_current_dir(home.path()).unwrap();
    home
}

/// Looks at the labs of this machine, and at nothing else: where the test runs is none of its business.
fn look(file: &str) {
    let mut machine: Value = serde_json::from_str(&podwire("snapshot -").expect(0).stdout).unwrap();
    machine["gaps"] = Value::Array(vec![]);
    for part in ["namespaces", "nodes"] {
        machine[part].as_array_mut().unwrap().retain(|it| !it["lab"].is_null());
    }
    fs::write(file, machine.to_string()).unwrap();
}

/// The kinds of what `explain` finds in a lab that was looked at.
fn found(file: &str) -> Vec<String> {
    let answer = podwire(&format!("explain --from {file} lab/default -o json"));
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    let findings = answer["findings"].as_array().unwrap();
    findings.iter().map(|it| it["code"].as_str().unwrap().to_owned()).collect()
}

/// A code as JSON has it.
fn word(code: diagnosis::Code) -> String {
    serde_json::to_value(code).unwrap().as_str().unwrap().to_owned()
}

/// Makes a fault, asks what is wrong, and takes it back.
fn tried(fault: &Fault, scene: Scene, score: &mut Score) {
    let mut wrong = |what: String| score.wrong.push(format!("{}: {what}", fault.name));
    let made = podwire(&format!("lab break {}", fault.name));
    if made.code != Some(0) {
        return wrong(format!("was not made: {}", made.stderr));
    }
    score.injected += 1;
    let declared: Vec<String> = fault.codes.iter().map(|code| word(*code)).collect();
    let mut codes = Vec::new();
    // The kernel takes its time to find out that an address is somebody else's.
    let is_named = (0..20).any(|attempt| {
        thread::sleep(Duration::from_millis(if attempt == 0 { 0 } else { 200 }));
        look("broken.json");
        codes = found("broken.json");
        declared.iter().any(|code| codes.contains(code))
    });
    if is_named {
        score.named += 1;
    } else {
        wrong(format!("{codes:?} instead of {declared:?}"));
    }
    wrong_of_verify(fault.felt_in(scene)).into_iter().for_each(&mut wrong);
    let fixed = podwire(&format!("lab fix {}", fault.name));
    if fixed.code != Some(0) {
        wrong(format!("was not taken back: {}{}", fixed.stdout, fixed.stderr));
    }
    look("after.json");
    let left = found("after.json");
    if !left.is_empty() {
        wrong(format!("leaves {left:?}"));
    }
    let still = flagged("lab/default");
    if !still.is_empty() {
        wrong(format!("verify flags {still:?} afterwards"));
    }
    let diff = podwire("diff whole.json after.json");
    if diff.code != Some(0) {
        wrong(format!("leaves a difference: {}", diff.stdout));
    }
}

/// What `podwire verify` says otherwise than the catalogue. Questions that nobody answers take their
/// time, so that where one is to be expected no more is asked than has to be.
fn wrong_of_verify(declared: &[Rule]) -> Vec<String> {
    if declared.is_empty() {
        return match &flagged("lab/default")[..] {
            [] => Vec::new(),
            flagged => vec![format!("verify flags {flagged:?}")],
        };
    }
    let names: Vec<&str> = declared.iter().map(|rule| rule.name()).collect();
    match &flagged(&format!("lab/default --timeout 200ms --only {}", names.join(",")))[..] {
        [] => vec![format!("verify flags nothing instead of {names:?}")],
        _ => Vec::new(),
    }
}

/// The rules that `podwire verify` finds broken.
fn flagged(question: &str) -> Vec<String> {
    let answer = podwire(&format!("verify {question} -o json"));
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    let rules = answer["rules"].as_array().unwrap().iter();
    let broken = rules.filter(|it| it["fail"] != 0);
    broken.map(|it| it["rule"].as_str().unwrap().to_owned()).collect()
}

/// All faults of a kind of lab, one after the other. In clusters a port of each node leads to a pod, and
/// pods are told a resolver.
#[track_caller]
fn all(flags: &str, scene: Scene) {
    let _agents = Agents;
    let _home = home();
    let more = if scene == Scene::Pods { "" } else { "--host-port 8080 --dns" };
    podwire(&format!("lab up {flags} {more}")).expect(0);
    look("whole.json");
    assert_eq!(found("whole.json"), [""; 0], "lab up {flags}");
    assert_eq!(flagged("lab/default"), [""; 0], "lab up {flags}");
    let (v4, v6) = (!flags.contains("--ipv6"), flags.contains("--ipv6") || flags.contains("dual"));
    let is_of_it = |fault: &&Fault| {
        let fits = match fault.families {
            Families::Any => true,
            Families::V4 => v4,
            Families::V6 => v6,
        };
        fits && fault.exists_in(scene)
    };
    let mut score = Score { injected: 0, named: 0, wrong: Vec::new() };
    for fault in faults::all().filter(is_of_it) {
        tried(fault, scene, &mut score);
    }
    println!("lab up {flags}: {} of {} faults named", score.named, score.injected);
    assert_eq!(score.wrong, [""; 0], "lab up {flags}");
    podwire("lab down").expect(0);
    assert!(!Path::new("/run/podwire").exists());
}

#[test]
fn of_one_node() {
    isolated!();
    all("--pods 3", Scene::Pods);
}

#[test]
fn of_one_node_with_both_families() {
    isolated!();
    all("--pods 3 --dual-stack", Scene::Pods);
}

#[test]
fn of_nodes_joined_by_vxlan() {
    isolated!();
    all("--nodes 3 --pods 2", Scene::Vxlan);
}

#[test]
fn of_nodes_joined_by_vxlan_with_ipv6() {
    isolated!();
    all("--nodes 3 --pods 2 --ipv6", Scene::Vxlan);
}

#[test]
fn of_nodes_joined_as_flannel_does() {
    isolated!();
    all("--nodes 3 --pods 2 --classic", Scene::Classic);
}

#[test]
fn of_nodes_joined_by_gpe() {
    isolated!();
    all("--nodes 3 --pods 2 --backend gpe --dual-stack", Scene::Gpe);
}

#[test]
fn of_nodes_joined_by_routes() {
    isolated!();
    all("--nodes 3 --pods 2 --backend host-gw", Scene::HostGw);
}

#[test]
fn of_nodes_joined_by_routes_with_ipv6() {
    isolated!();
    all("--nodes 3 --pods 2 --backend host-gw --ipv6", Scene::HostGw);
}

/// The catalogue as a page has it.
fn page() -> String {
    let mut text = String::new();
    for fault in faults::all() {
        let codes: Vec<String> =
            fault.codes.iter().map(|code| format!("`{}`", word(*code))).collect();
        let rules: Vec<String> = fault.rules.iter().map(|it| format!("`{}`", it.name())).collect();
        let scenes: Vec<&str> = fault.scenes.iter().map(|scene| scene.word()).collect();
        let scenes = if scenes.len() == 5 { "all".to_owned() } else { scenes.join(", ") };
        let families = match fault.families {
            Families::Any => "",
            Families::V4 => ", with IPv4",
            Families::V6 => ", with IPv6",
        };
        let unfelt: Vec<&str> = fault.unfelt.iter().map(|scene| scene.word()).collect();
        let rules = match (&rules[..], &unfelt[..]) {
            ([], _) => "nothing: pods do not feel it".to_owned(),
            (rules, []) => rules.join(" or "),
            (rules, unfelt) => format!("{}; not with {}", rules.join(" or "), unfelt.join(", ")),
        };
        let healed = if fault.healed { "heals it within a second" } else { "does not heal it" };
        text += &format!(
            "\n## {}\n\n{}\n\n| | |\n|---|---|\n| what one notices | {} |\n| labs | {scenes}{families} |\n\
             | made on | a {} |\n| `explain` says | {} |\n| `verify` flags | {rules} |\n\
             | an agent at work | {healed} |\n| repair | {} |\n",
            fault.name,
            fault.what,
            fault.symptom,
            fault.on.word(),
            codes.join(" or "),
            commands(fault.repair),
        );
    }
    text
}

/// How a fault is repaired, with a bar that a table does not take for its own.
fn commands(repair: &str) -> String {
    repair.replace('|', "\\|")
}

/// The page tells what the catalogue says; `PODWIRE_BLESS=1` writes it anew.
#[test]
fn the_page_of_faults_is_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md");
    let text = fs::read_to_string(&path).unwrap();
    let (intro, _) = text.split_once(MARK).unwrap();
    testbed::golden::hold(&path, &format!("{intro}{MARK}{}", page()));
}

/// What is behind it in the page is the catalogue.
const MARK: &str = "<!-- What follows is written from the catalogue. -->\n";

#[test]
fn a_fault_is_shown_before_it_is_made() {
    isolated!();
    let _agents = Agents;
    let _home = home();
    podwire("lab up --pods 2").expect(0);
    let shown = podwire("lab break cable-down --on pod2 --dry-run -o sh").expect(0);
    assert!(shown.stdout.contains("ip -n node1 link set veth"), "{}", shown.stdout);
    assert!(shown.stdout.trim_end().ends_with("down"), "{}", shown.stdout);
    assert!(podwire("lab fix").expect(0).stdout.contains("Nothing is broken"));
    // Who runs the script has made the same.
    testbed::sh(&shown.stdout);
    look("shown.json");
    assert_eq!(found("shown.json"), ["linkDown"]);
}

#[test]
fn a_fault_is_made_on_the_device_that_it_changes() {
    isolated!();
    let _agents = Agents;
    let _home = home();
    podwire("lab up --nodes 2 --pods 2").expect(0);
    look("whole.json");
    for (fault, link, on) in [
        ("interface-down", "link/pod2:eth0", "pod/pod2"),
        ("default-route-missing", "link/pod3:eth0", "pod/pod3"),
        ("bridge-down", "link/node2:cni0", "node/node2"),
        ("mtu-underlay", "link/net:node2", "node/node2"),
    ] {
        let made = podwire(&format!("lab break {fault} --on {link} -o json")).expect(0);
        let made: Value = serde_json::from_str(&made.stdout).unwrap();
        assert_eq!(made["on"], on, "{fault} on {link}");
        podwire(&format!("lab fix {fault}")).expect(0);
    }
    // The name of a cable's end is of one device only.
    let links = testbed::sh("ip -n node2 -o link | grep -o 'veth[0-9a-f]*' | sort");
    let veth = links.lines().next().unwrap();
    podwire(&format!("lab break cable-down --on link/{veth}")).expect(0);
    assert!(testbed::sh(&format!("ip -n node2 link show {veth}")).contains("state DOWN"));
    podwire("lab fix").expect(0);
    look("after.json");
    podwire("diff whole.json after.json").expect(0);
    let several = podwire("lab break interface-down --on link/eth0").expect(1);
    assert!(several.stderr.contains("link/pod1:eth0, link/pod2:eth0"), "{}", several.stderr);
    let none = podwire("lab break forwarding-off --on link/node1:cni0").expect(1);
    assert!(none.stderr.contains("it changes no device"), "{}", none.stderr);
    let other = podwire("lab break interface-down --on link/node1:cni0").expect(4);
    assert!(other.stderr.contains("there are: link/pod1:eth0"), "{}", other.stderr);
}

#[test]
fn what_cannot_be_broken_is_said() {
    isolated!();
    let _agents = Agents;
    let _home = home();
    podwire("lab up --nodes 2 --pods 1").expect(0);
    podwire("lab break gremlins").expect(2);
    let missing = podwire("lab break cable-down --on pod/pod9").expect(4);
    assert!(missing.stderr.contains("pod/pod1, pod/pod2"), "{}", missing.stderr);
    podwire("lab break cable-down --on node/node1").expect(4);
    podwire("lab break cable-down --lab other").expect(4);
    let other = podwire("lab break fdb-wrong").expect(1);
    assert!(other.stderr.contains("vxlan --classic"), "{}", other.stderr);
    let family = podwire("lab break address-refused").expect(1);
    assert!(family.stderr.contains("IPv4 only"), "{}", family.stderr);
    podwire("lab fix cable-down").expect(4);
    // Two faults on different things may be made, and no two on the same.
    podwire("lab break cable-down").expect(0);
    podwire("lab break default-route-missing --on pod/pod2").expect(0);
    let twice = podwire("lab break mtu-cable").expect(1);
    assert!(twice.stderr.contains("podwire lab fix cable-down"), "{}", twice.stderr);
    let fixed = podwire("lab fix default-route-missing").expect(0);
    assert!(fixed.stdout.contains("pod/pod2 is repaired"), "{}", fixed.stdout);
    look("broken.json");
    assert_eq!(found("broken.json"), ["linkDown"]);
    // With the pod went what was broken of it.
    podwire("lab pod rm pod1").expect(0);
    podwire("lab fix").expect(0);
    assert!(podwire("lab fix").expect(0).stdout.contains("Nothing is broken"));
    podwire("lab break cable-down").expect(0);
    podwire("lab down").expect(0);
    assert!(!Path::new("/run/podwire").exists());
}

/// Who sends from an IPv6 address before the kernel has taken it into use is refused, so that a lab
/// which is verified right after its repair would be called broken.
#[test]
fn an_address_that_was_given_back_can_be_used_at_once() {
    isolated!();
    let _agents = Agents;
    let _home = home();
    podwire("lab up --nodes 2 --pods 2 --ipv6 --backend vxlan").expect(0);
    for _ in 0..5 {
        podwire("lab break address-refused").expect(0);
        podwire("lab fix").expect(0);
        assert_eq!(sh("ip -n pod1 -6 address show dev eth0 scope global tentative"), "");
    }
    podwire("lab down").expect(0);
}

#[test]
fn what_an_agent_heals_is_not_pretended_to_be_broken() {
    isolated!();
    let _agents = Agents;
    let _home = home();
    podwire("lab up --nodes 2 --pods 1 --agents").expect(0);
    let refused = podwire("lab break peer-route-missing").expect(1);
    assert!(refused.stderr.contains("heals it within a second"), "{}", refused.stderr);
    podwire("lab break blackhole-route").expect(0);
    podwire("lab fix").expect(0);
    podwire("lab break peer-route-missing --anyway").expect(0);
    let is_healed = (0..50).any(|_| {
        thread::sleep(Duration::from_millis(100));
        look("healed.json");
        found("healed.json").is_empty()
    });
    assert!(is_healed, "{:?}", found("healed.json"));
    let fixed = podwire("lab fix").expect(0);
    assert!(fixed.stdout.contains("as before already"), "{}", fixed.stdout);
}

/// What a person has repaired in another way, or in part, is as before afterwards.
#[test]
fn a_half_repair_is_completed() {
    isolated!();
    let _agents = Agents;
    let _home = home();
    podwire("lab up --pods 2 --dual-stack").expect(0);
    for (fault, repair) in [
        (
            "interface-down",
            "ip -n pod1 link set eth0 up; ip -n pod1 route add default via 10.1.0.1 metric 7",
        ),
        (
            "port-detached",
            "ip -n node1 link set $(ip -n node1 -o link | grep -o 'veth[0-9a-f]*' | head -1) master cni0",
        ),
        ("bridge-down", "ip -n node1 link set cni0 up"),
        ("default-route-wrong", "ip -n pod1 route del default"),
    ] {
        look("before.json");
        podwire(&format!("lab break {fault}")).expect(0);
        testbed::sh(repair);
        podwire("lab fix").expect(0);
        testbed::sh("ip -n pod1 route del default metric 7 2>/dev/null || true");
        look("after.json");
        podwire("diff before.json after.json").expect(0);
    }
}

#[test]
fn a_quiz_is_solved_by_repairing() {
    isolated!();
    let _agents = Agents;
    let _home = home();
    podwire("lab up --nodes 2 --pods 2").expect(0);
    podwire("lab quiz --check").expect(1);
    look("before.json");
    for seed in 1..=4 {
        let told = podwire(&format!("lab quiz --seed {seed}")).expect(0);
        let record = fs::read_to_string("/run/podwire/lab/default/faults.json").unwrap();
        for fault in faults::all() {
            assert!(!told.stdout.contains(fault.name) && !record.contains(fault.name));
        }
        podwire("lab quiz").expect(1);
        assert!(podwire("lab fix").expect(0).stdout.contains("Nothing is broken"));
        assert!(podwire("lab quiz --check").expect(1).stdout.contains("still there"));
        let hints: Vec<String> =
            (0..3).map(|_| podwire("lab quiz --hint").expect(0).stdout).collect();
        assert!(hints[0] != hints[1] && hints[1] != hints[2], "{hints:?}");
        let shown = podwire("lab quiz --give-up").expect(0);
        assert!(shown.stdout.contains("is repaired"), "{}", shown.stdout);
        look("after.json");
        podwire("diff before.json after.json").expect(0);
    }
    // The same number hides the same, and a person may repair it by hand.
    let hidden = |seed: u64| {
        podwire(&format!("lab quiz --seed {seed}")).expect(0);
        podwire("lab quiz --give-up").expect(0).stdout
    };
    let is_it = |seed: &u64| hidden(*seed).contains("forwarding-off on node/node1");
    let seed = (10..400).find(is_it).expect("a number that hides it");
    podwire(&format!("lab quiz --seed {seed}")).expect(0);
    podwire("lab quiz --check").expect(1);
    // What only silences the finding is no repair.
    testbed::sh("ip netns exec node1 sysctl -qw net.ipv4.ip_forward=1
        ip netns exec node1 nft add table ip mine
        ip netns exec node1 nft add chain ip mine f '{ type filter hook forward priority 0; policy drop; }'");
    let verdict = podwire("lab quiz --check").expect(1);
    assert!(verdict.stdout.contains("packets break pod-to-pod"), "{}", verdict.stdout);
    assert!(!verdict.stdout.contains("forwarding"), "{}", verdict.stdout);
    testbed::sh("ip netns exec node1 nft delete table ip mine");
    // What somebody has broken beside it is told.
    podwire("lab break interface-down --on pod/pod4").expect(0);
    let verdict = podwire("lab quiz --check").expect(1);
    assert!(verdict.stdout.contains("`podwire lab fix` takes it back"), "{}", verdict.stdout);
    podwire("lab fix").expect(0);
    let verdict = podwire("lab quiz --check").expect(0);
    assert!(verdict.stdout.contains("It was forwarding-off on node/node1"), "{}", verdict.stdout);
    look("after.json");
    podwire("diff before.json after.json").expect(0);
    podwire("lab quiz --seed 7").expect(0);
    podwire("lab down").expect(0);
    assert!(!Path::new("/run/podwire").exists());
}
