//! Containers made by podman with its CNI back end, whose networks also have `firewall` and
//! `tuning`.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use e2e::{Machine, NODE, Podman, addresses, assert_published, get, page};
use serde_json::Value;
use testbed::look::ports;
use testbed::{assert_same_state, golden};

for_each_maker!(containers_on_two_networks);

fn containers_on_two_networks(machine: &Machine) {
    let podman = Podman::new(machine);
    podman.tell("network create --subnet 10.30.0.0/24 --ipv6 --subnet fd30::/64 one");
    podman.tell("network create --subnet 10.31.0.0/24 two");
    podman.start("first", "--network one,two --publish 18080:80");
    remove(podman, "first");
    let settled = machine.traces();
    for bridge in ["cni-podman1", "cni-podman2"] {
        assert_eq!(ports(machine.node(), bridge), Vec::<String>::new());
    }

    podman.start(
        "web",
        "--network one --publish 18080:80 --publish 15353:5353/udp --publish 127.0.0.1:18081:80 \
         --ip 10.30.0.9 --mac-address 02:00:00:00:00:09",
    );
    podman.start("client", "--network one");
    let web = podman.exec("web", "ip address show eth0");
    assert!(web.contains("02:00:00:00:00:09") && web.contains("10.30.0.9/24"), "{web}");
    for (from, to) in [("web", "client"), ("client", "web")] {
        for address in addresses_of(podman, to, "eth0") {
            podman.exec(from, &format!("ping -c 1 -W 5 {address}"));
        }
    }
    let [web, client] = ["web", "client"].map(|name| podman.netns(name));
    assert_published(machine, "web", &web, &client);
    assert_eq!(page(machine.node().netns(), "127.0.0.1:18081".parse().unwrap()), "web");
    assert!(get(machine.outside(), SocketAddr::new(NODE[0], 18081)).is_err());

    assert_explained(machine);
    assert_verified(machine);

    podman.tell("network connect two client");
    podman.exec("client", "ping -c 1 -W 5 10.31.0.1");
    let more = addresses_of(podman, "client", "eth1");
    assert!(machine.reserved().contains(&more[0]), "{more:?}");
    podman.tell("network disconnect two client");
    assert_eq!(addresses_of(podman, "client", "eth1"), Vec::<IpAddr>::new());
    assert!(!machine.reserved().contains(&more[0]), "{more:?}");

    let before = machine.reserved();
    podman.tell("network reload --all");
    assert_eq!(before, machine.reserved());
    let web = podman.exec("web", "ip address show eth0");
    assert!(web.contains("02:00:00:00:00:09") && web.contains("10.30.0.9/24"), "{web}");
    assert_published(machine, "web", &podman.netns("web"), &client);

    remove(podman, "web client");
    assert_same_state(&settled, &machine.traces());
}

/// What `podwire explain` tells of a container whose network it did not make. That of the reference's
/// plugins is in docs/tour.md.
fn assert_explained(machine: &Machine) {
    let text = machine.podwire("snapshot - || [ $? -eq 3 ]");
    let mut snapshot = golden::snapshot(&text, |it| it["name"] != "outside");
    let namespaces = snapshot["namespaces"].as_array_mut().unwrap().iter_mut();
    for process in namespaces.filter_map(|it| it["processes"].as_array_mut()).flatten() {
        process["pid"] = 1000.into();
    }
    fs::write("/run/e2e/snapshot.json", snapshot.to_string()).unwrap();
    let ask = |how: &str| {
        machine.podwire(&format!("explain container/web --from /run/e2e/snapshot.json {how}"))
    };
    if !machine.is_podwire("bridge") {
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../podwire/tests/golden");
        let text = golden::same_containers(&without_ports(&ask("--teach")));
        golden::hold(files.join("podman.txt"), &text);
    }
    let answer: Value = serde_json::from_str(&ask("-o json")).unwrap();
    let sentences = answer["chapters"].as_array().unwrap().iter();
    let sentences = sentences.flat_map(|it| it["sentences"].as_array().unwrap());
    let text: Vec<&str> = sentences.map(|it| it["text"].as_str().unwrap()).collect();
    let text = text.join("\n");
    for fact in ["10.30.0.9", "cni-podman1", "default route", "18080", "15353", "one.conflist"] {
        assert!(text.contains(fact), "{fact} is not in it: {text}");
    }
    let is_wrong = |finding: &&Value| finding["severity"] == "wrong";
    let wrong = answer["findings"].as_array().unwrap().iter().find(is_wrong);
    assert_eq!(wrong, None);
}

/// An explanation without the rules of ports, which podman tells plugins in any order.
fn without_ports(text: &str) -> String {
    let (mut rest, mut is_port) = (String::new(), false);
    for line in text.lines() {
        is_port |= line.starts_with("  What also fits -m addrtype");
        if !is_port {
            rest += line;
            rest.push('\n');
        }
        is_port &= !line.starts_with("    $ ");
    }
    rest
}

/// What `podwire verify` finds between containers whose network it did not make. The container's own
/// program listens at the port that is mapped by UDP, so that of this nobody can tell; and the resolver
/// that it is told is one of the machine that the test is on.
fn assert_verified(machine: &Machine) {
    let answer = machine.podwire(
        "verify container/web container/client --skip dns --timeout 2s -o json || [ $? -eq 3 ]",
    );
    let report: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(report["profile"], "current");
    for rule in report["rules"].as_array().unwrap() {
        assert_eq!(rule["fail"], 0, "{report:#}");
    }
    let rule = |name: &str| {
        let rules = report["rules"].as_array().unwrap();
        rules.iter().find(|it| it["rule"] == name).unwrap().clone()
    };
    for (name, pairs) in [("pod-to-pod", 4), ("mtu", 4), ("node-to-pod", 4), ("self-view", 4)] {
        let rule = rule(name);
        assert_eq!((&rule["pairs"], &rule["pass"]), (&pairs.into(), &pairs.into()), "{report:#}");
    }
    assert!(rule("host-port")["pairs"].as_u64().unwrap() > 0, "{report:#}");
}

fn remove(podman: Podman<'_>, names: &str) {
    podman.tell(&format!("rm --force --time 0 {names}"));
}

/// What `ip` in a container and podman itself agree on.
fn addresses_of(podman: Podman<'_>, name: &str, interface: &str) -> Vec<IpAddr> {
    let told =
        podman.exec(name, &format!("ip -o address show dev {interface} scope global || true"));
    let has = addresses(&told);
    let networks =
        podman.tell(&format!("inspect --format '{{{{json .NetworkSettings.Networks}}}}' {name}"));
    assert!(
        has.iter().all(|address| networks.contains(&format!("\"{address}\""))),
        "{networks} {told}"
    );
    has
}
