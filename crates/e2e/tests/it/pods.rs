//! Pods made by containerd through CRI, as a kubelet makes them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use e2e::{By, Containerd, Machine, NODE, OUTSIDE, Pod, Port, get, page, seen};
use testbed::assert_same_state;
use testbed::look::{eventually, ports};

#[test]
fn pods_by_the_reference() {
    let machine = e2e::machine!(By::Reference);
    a_life_of_pods(&machine);
}

#[test]
fn pods_by_podwire() {
    let machine = e2e::machine!(By::Podwire);
    a_life_of_pods(&machine);
}

#[test]
fn pods_by_podwire_with_ports_by_the_reference() {
    let machine = e2e::machine!(By::Mixed);
    a_life_of_pods(&machine);
}

const WEB: Port = Port { host: 18080, pod: 80, is_udp: false };
const NAMES: Port = Port { host: 15353, pod: 5353, is_udp: true };

fn a_life_of_pods(machine: &Machine) {
    machine.configure();
    let mut containerd = Containerd::start(machine);
    let settled = settle(machine, &containerd);

    let web = containerd.run("web", &[WEB, NAMES]).unwrap();
    let client = containerd.run("client", &[]).unwrap();
    for pod in [&web, &client] {
        has_what_the_runtime_tells(&containerd, pod);
    }
    reach_each_other(&containerd, &web, &client);
    reaches_the_world(machine, &client);
    answers_on_host_ports(machine, &containerd, &web, &client);

    containerd.restart();
    assert_eq!(containerd.pods().len(), 2);
    answers_on_host_ports(machine, &containerd, &web, &client);

    containerd.stop(&web);
    for address in NODE {
        assert!(get(machine.outside(), SocketAddr::new(address, WEB.host)).is_err());
    }
    assert!(machine.reserved().iter().all(|address| client.addresses.contains(address)));
    containerd.stop(&client);
    for pod in [&web, &client] {
        containerd.stop(pod);
        containerd.remove(pod);
        containerd.remove(pod);
    }
    assert_same_state(&settled, &machine.traces());
}

/// Makes and removes a pod, so that what all pods share is there, and returns what then is left.
fn settle(machine: &Machine, containerd: &Containerd<'_>) -> String {
    let first = containerd.run("first", &[WEB, NAMES]).unwrap();
    eventually("the bridge's addresses are its own", || {
        let tentative = machine.node().sh("ip -o address show dev cni0 tentative scope global");
        tentative.is_empty().then_some(())
    });
    containerd.stop(&first);
    containerd.remove(&first);
    let traces = machine.traces();
    assert!(!traces.contains(&first.id), "{traces}");
    assert_eq!(ports(machine.node(), "cni0"), Vec::<String>::new());
    assert_eq!(machine.reserved(), Vec::<IpAddr>::new());
    traces
}

fn has_what_the_runtime_tells(containerd: &Containerd<'_>, pod: &Pod) {
    let told = containerd.exec(pod, "ip -o address show scope global").unwrap();
    let has: Vec<IpAddr> = told
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok())
        .collect();
    assert_eq!(has, pod.addresses, "{told}");
    assert!(has.len() == 2 && has[0].is_ipv4() && has[1].is_ipv6(), "{told}");
    let lo = containerd.exec(pod, "ip address show lo").unwrap();
    assert!(lo.contains(",UP") && lo.contains("127.0.0.1/8") && lo.contains("::1/128"), "{lo}");
}

fn reach_each_other(containerd: &Containerd<'_>, one: &Pod, other: &Pod) {
    for (from, to) in [(one, other), (other, one)] {
        for &address in &to.addresses {
            containerd.exec(from, &format!("ping -c 1 -W 5 {address}")).unwrap();
            let source = seen(&from.netns, SocketAddr::new(address, 7), &to.netns, 7);
            assert!(from.addresses.contains(&source), "{source}");
        }
    }
}

fn reaches_the_world(machine: &Machine, pod: &Pod) {
    for (outside, node) in OUTSIDE.into_iter().zip(NODE) {
        let source = seen(&pod.netns, SocketAddr::new(outside, 7), machine.outside(), 7);
        assert_eq!(source, node, "masquerade");
    }
}

/// From outside, from the node by its own address and by the loopback's, from another pod, and from
/// the pod itself.
fn answers_on_host_ports(machine: &Machine, containerd: &Containerd<'_>, web: &Pod, other: &Pod) {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let node = machine.node().netns();
    for (from, address) in NODE
        .into_iter()
        .flat_map(|own| [(machine.outside(), own), (node, own)])
        .chain([(node, here)])
    {
        assert_eq!(page(from, SocketAddr::new(address, WEB.host)), web.name, "by {address}");
        seen(from, SocketAddr::new(address, NAMES.host), &web.netns, NAMES.pod);
    }
    for from in [other, web] {
        for address in NODE {
            let server = SocketAddr::new(address, WEB.host);
            let get = format!("timeout 5 wget -q -O - http://{server}/");
            assert_eq!(
                containerd.exec(from, &get).unwrap().trim(),
                web.name,
                "{} {get}",
                from.name
            );
            seen(&from.netns, SocketAddr::new(address, NAMES.host), &web.netns, NAMES.pod);
        }
    }
}
