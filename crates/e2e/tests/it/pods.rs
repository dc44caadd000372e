//! Pods made by containerd through CRI, as a kubelet makes them.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use e2e::{
    By, Containerd, Kubelet, Machine, NAMES, NODE, OUTSIDE, Pod, Port, WEB, addresses,
    assert_published, get, page, seen,
};
use serde_json::json;
use testbed::assert_same_state;
use testbed::look::host_ends;

for_each_maker!(
    a_life_of_pods,
    a_life_without_a_bridge,
    ten_pods_at_once,
    a_host_port_that_is_taken,
    a_runtime_that_is_killed,
    a_node_that_reboots,
    a_runtime_that_forgets
);

/// Published on the node's loopback only.
const LOCAL: Port = Port { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), host: 18081, ..WEB };

/// podwire's network in a chain of others' plugins.
#[test]
fn neighbours_by_the_reference() {
    let machine = e2e::machine!(By::Mixed);
    let more = [
        json!({ "type": "firewall" }),
        json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" } }),
        json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }),
    ];
    machine.configure_with("bridge", &more);
    pods_come_and_go(&machine);
}

fn a_life_of_pods(machine: &Machine) {
    machine.configure();
    pods_come_and_go(machine);
}

fn a_life_without_a_bridge(machine: &Machine) {
    machine.configure_with("ptp", &[]);
    pods_come_and_go(machine);
}

fn pods_come_and_go(machine: &Machine) {
    let (mut containerd, kubelet, settled) = ready(machine);

    let web = kubelet.run("web", &[WEB, NAMES, LOCAL]).unwrap();
    let client = kubelet.run("client", &[]).unwrap();
    for pod in [&web, &client] {
        has_what_the_runtime_tells(kubelet, pod);
    }
    reach_each_other(kubelet, &web, &client);
    reaches_the_world(machine, &client);
    assert_published(machine, "web", &web.netns, &client.netns);
    for (from, address) in [(&client, NODE[0]), (&web, NODE[1])] {
        let get = format!("timeout 5 wget -q -O - http://{}/", SocketAddr::new(address, WEB.host));
        assert_eq!(kubelet.exec(from, &get).unwrap(), "web\n");
    }

    let [here, elsewhere] = [LOCAL.address.unwrap(), NODE[0]];
    let local = |address| SocketAddr::new(address, LOCAL.host);
    assert_eq!(page(machine.node().netns(), local(here)), "web");
    assert!(get(machine.node().netns(), local(elsewhere)).is_err());
    assert!(get(machine.outside(), local(elsewhere)).is_err());

    containerd.restart();
    assert_eq!(kubelet.pods().len(), 2);
    assert_published(machine, "web", &web.netns, &client.netns);

    kubelet.stop(&web.id).unwrap();
    for address in NODE {
        assert!(get(machine.outside(), SocketAddr::new(address, WEB.host)).is_err());
    }
    assert!(machine.reserved().iter().all(|address| client.addresses.contains(address)));
    kubelet.stop(&client.id).unwrap();
    for pod in [&web, &client] {
        kubelet.stop(&pod.id).unwrap();
        kubelet.remove(&pod.id).unwrap();
        kubelet.remove(&pod.id).unwrap();
    }
    assert_same_state(&settled, &machine.traces());
}

fn ten_pods_at_once(machine: &Machine) {
    machine.configure();
    let (_containerd, kubelet, settled) = ready(machine);

    let ports = |number: u16| [Port { host: 18000 + number, ..WEB }];
    let run = |number: u16| kubelet.run(&format!("pod{number}"), &ports(number)).unwrap();
    let pods: Vec<Pod> = at_once((0..10).map(|number| move || run(number)));
    let distinct: HashSet<IpAddr> = pods.iter().flat_map(|pod| pod.addresses.clone()).collect();
    assert_eq!(distinct.len(), 20);
    for (number, pod) in (0..).zip(&pods) {
        for &address in &pod.addresses {
            let server = SocketAddr::new(address, WEB.pod);
            assert_eq!(page(machine.node().netns(), server), pod.name);
            assert_eq!(page(&pods[usize::from(number + 1) % 10].netns, server), pod.name);
        }
        let server = SocketAddr::new(NODE[0], 18000 + number);
        assert_eq!(page(machine.outside(), server), pod.name);
    }

    at_once(pods.iter().map(|pod| || kubelet.stop(&pod.id).unwrap()));
    at_once(pods.iter().map(|pod| || kubelet.remove(&pod.id).unwrap()));
    assert_same_state(&settled, &machine.traces());
}

fn a_host_port_that_is_taken(machine: &Machine) {
    machine.configure();
    let (_containerd, kubelet, settled) = ready(machine);

    let first = kubelet.run("first", &[WEB]).unwrap();
    let before = machine.traces();
    let second = kubelet.run("second", &[WEB]);
    let server = SocketAddr::new(NODE[0], WEB.host);
    if machine.is_podwire("portmap") {
        let refusal = second.unwrap_err();
        assert!(refusal.contains("18080") && refusal.contains(&first.id), "{refusal}");
        assert_same_state(&before, &machine.traces());
        for id in kubelet.pods().iter().filter(|id| **id != first.id) {
            kubelet.remove(id).unwrap();
        }
    } else {
        // The reference lets whoever is asked first have it.
        kubelet.remove(&second.unwrap().id).unwrap();
    }
    assert_eq!(page(machine.outside(), server), "first");
    kubelet.remove(&first.id).unwrap();
    // What is free again is anybody's.
    let third = kubelet.run("third", &[WEB]).unwrap();
    assert_eq!(page(machine.outside(), server), "third");
    kubelet.remove(&third.id).unwrap();
    assert_same_state(&settled, &machine.traces());
}

fn a_runtime_that_is_killed(machine: &Machine) {
    machine.configure();
    let (mut containerd, kubelet, settled) = ready(machine);

    let bystander = kubelet.run("bystander", &[]).unwrap();
    let before = machine.traces();
    // A sandbox takes 0.1 s, the first half of which its plugins are at work.
    for millis in [5, 10, 15, 20, 30, 40, 60, 100] {
        std::thread::scope(|scope| {
            scope.spawn(|| kubelet.run("web", &[WEB]));
            std::thread::sleep(Duration::from_millis(millis));
            containerd.kill();
        });
        containerd.start_again();
        for id in kubelet.pods().iter().filter(|id| **id != bystander.id) {
            kubelet.remove(id).unwrap();
        }
        assert_same_state(&but_namespaces(&before), &but_namespaces(&machine.traces()));
    }
    let web = kubelet.run("web", &[WEB]).unwrap();
    assert_eq!(page(machine.outside(), SocketAddr::new(NODE[0], WEB.host)), "web");
    reach_each_other(kubelet, &bystander, &web);
    for pod in [&bystander, &web] {
        kubelet.remove(&pod.id).unwrap();
    }
    assert_same_state(&but_namespaces(&settled), &but_namespaces(&machine.traces()));
}

fn a_node_that_reboots(machine: &Machine) {
    machine.configure();
    let mut containerd = Containerd::start(machine);
    let kubelet = Kubelet::new(machine);

    // No more than the name is kept: a namespace that is open here would not end with the machine.
    let old = ["web", "client"].map(|name| kubelet.run(name, &[WEB][..usize::from(name == "web")]));
    let old = old.map(|pod| pod.unwrap().id);
    containerd.reboot();
    assert_eq!(machine.reserved().len(), 4);
    // A kubelet stops what the runtime still has of its pods, makes them anew, and tidies up later.
    for id in &old {
        kubelet.stop(id).unwrap();
    }
    assert_eq!(machine.reserved(), Vec::<IpAddr>::new());
    let web = kubelet.run("web-again", &[WEB, NAMES]).unwrap();
    let client = kubelet.run("client-again", &[]).unwrap();
    assert_published(machine, "web-again", &web.netns, &client.netns);
    for id in old.iter().chain([&web.id, &client.id]) {
        kubelet.remove(id).unwrap();
    }
    // The bridge is another one than before.
    let left = machine.traces();
    assert_same_state(&settle(machine, kubelet), &left);
}

fn a_runtime_that_forgets(machine: &Machine) {
    machine.configure();
    let (mut containerd, kubelet, settled) = ready(machine);

    let old = ["web", "client"].map(|name| kubelet.run(name, &[WEB][..usize::from(name == "web")]));
    let old = old.map(|pod| pod.unwrap().id);
    containerd.forget();
    assert_eq!((kubelet.pods().len(), machine.reserved().len()), (0, 4));
    let bystander = kubelet.run("bystander", &[]).unwrap();
    // What the runtime's library has noted is enough to give everything back.
    machine.podwire("cni gc pods");
    for id in old {
        // containerd's own network, which has no file.
        machine.podwire(&format!("cni del cni-loopback --container-id {id} --ifname lo"));
    }
    let own: HashSet<IpAddr> = machine.reserved().into_iter().collect();
    assert_eq!(own, bystander.addresses.iter().copied().collect());
    let web = kubelet.run("web", &[WEB, NAMES]).unwrap();
    assert_published(machine, "web", &web.netns, &bystander.netns);
    for pod in [&web, &bystander] {
        kubelet.remove(&pod.id).unwrap();
    }
    // Without its namespace, the reference forgets the masquerade of a pod.
    if machine.is_podwire("bridge") {
        assert_same_state(&settled, &machine.traces());
    }
}

/// A namespace that containerd made just before it was killed, and did not get to write down, is
/// nobody's, and empty.
fn but_namespaces(traces: &str) -> String {
    let lines = traces.lines().filter(|line| !line.starts_with("/run/netns/cni-"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The same work in as many threads as there is.
pub(crate) fn at_once<T: Send>(work: impl Iterator<Item: FnOnce() -> T + Send>) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = work.map(|work| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A node with its runtime, on which a pod has come and gone; and what that has left, for all pods to
/// share.
pub(crate) fn ready(machine: &Machine) -> (Containerd<'_>, Kubelet<'_>, String) {
    let containerd = Containerd::start(machine);
    let kubelet = Kubelet::new(machine);
    (containerd, kubelet, settle(machine, kubelet))
}

/// Makes and removes a pod, so that what all pods share is there, and returns what then is left.
pub(crate) fn settle(machine: &Machine, kubelet: Kubelet<'_>) -> String {
    let first = kubelet.run("first", &[WEB, NAMES]).unwrap();
    kubelet.stop(&first.id).unwrap();
    kubelet.remove(&first.id).unwrap();
    let traces = machine.traces();
    assert!(!traces.contains(&first.id), "{traces}");
    assert_eq!(host_ends(machine.node()), Vec::<String>::new());
    assert_eq!(machine.reserved(), Vec::<IpAddr>::new());
    traces
}

fn has_what_the_runtime_tells(kubelet: Kubelet<'_>, pod: &Pod) {
    let told = kubelet.exec(pod, "ip -o address show scope global").unwrap();
    let has = addresses(&told);
    assert_eq!(has, pod.addresses, "{told}");
    assert!(has.len() == 2 && has[0].is_ipv4() && has[1].is_ipv6(), "{told}");
    let lo = kubelet.exec(pod, "ip address show lo").unwrap();
    assert!(lo.contains(",UP") && lo.contains("127.0.0.1/8") && lo.contains("::1/128"), "{lo}");
}

pub(crate) fn reach_each_other(kubelet: Kubelet<'_>, one: &Pod, other: &Pod) {
    for (from, to) in [(one, other), (other, one)] {
        for &address in &to.addresses {
            kubelet.exec(from, &format!("ping -c 1 -W 5 {address}")).unwrap();
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
