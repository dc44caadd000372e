//! The plans of ADD, as a whole and step by step, against a real kernel.

use cni::{CniResult, Environment, IpConfig, Request};
use kernel::{Kernel, OnError};
use net::{Mac, Plan, Space, script};
use testbed::{Namespace, assert_same_state, state};

use super::config::Config;
use super::plan::{Seen, Wiring};
use crate::attachment::Attachment;
use crate::cable::Cable;

/// The keys of configurations that differ in what they make, each with the addresses it is for.
const VARIANTS: &[(&str, &[&str])] = &[
    ("", &[]),
    (r#","disableContainerInterface":true,"mtu":1400"#, &[]),
    (r#","isGateway":true"#, &["10.1.0.2/24"]),
    (r#","isDefaultGateway":true,"ipMasq":true,"hairpinMode":true"#, &["10.1.0.2/24"]),
    (r#","isDefaultGateway":true,"ipMasq":true,"mtu":1400"#, &["fd00:1::2/64"]),
    (
        r#","isDefaultGateway":true,"ipMasq":true,"macspoofchk":true,"portIsolation":true,"promiscMode":true"#,
        &["10.1.0.2/24", "fd00:1::2/64", "fd00:2::2/64"],
    ),
];

fn request(keys: &str) -> Request {
    let ipam = if keys.contains("ateway") { r#","ipam":{"type":"host-local"}"# } else { "" };
    let stdin = format!(r#"{{"cniVersion":"1.1.0","name":"net","type":"bridge"{ipam}{keys}}}"#);
    let environment = Environment {
        command: Some("ADD".into()),
        container_id: Some("one".into()),
        netns: Some("/n".into()),
        ifname: Some("eth0".into()),
        path: Some("/p".into()),
        ..Environment::default()
    };
    Request::parse(&environment, stdin.into_bytes(), &cni::Version::ALL).unwrap()
}

fn plan(keys: &str, addresses: &[&str], pod: &Space) -> Plan {
    let request = request(keys);
    let config = Config::parse(&request).unwrap();
    let attachment = Attachment::of(&request);
    let given = CniResult {
        ips: addresses
            .iter()
            .map(|address| IpConfig {
                interface: None,
                address: address.parse().unwrap(),
                gateway: None,
            })
            .collect(),
        ..CniResult::default()
    };
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    let cable = Cable {
        attachment: attachment.clone(),
        pod: pod.clone(),
        ifname: "eth0".parse().unwrap(),
        host_link: attachment.host_link().unwrap(),
        macs: [mac(2), mac(3)],
        mtu: config.mtu,
    };
    let seen = &Seen::default();
    let wiring = Wiring { config: &config, cable: &cable, bridge_mac: mac(1), seen };
    let result = wiring.complete(given);
    wiring.plan(&result).unwrap()
}

/// Runs `work` with a kernel whose "here" is `host`.
fn on<T>(host: &Namespace, work: impl FnOnce(&mut Kernel) -> T) -> T {
    host.netns().enter(|| work(&mut Kernel::new().unwrap())).unwrap()
}

/// The state of a host, but for the size of the bridge, which the kernel makes that of its
/// smallest port whenever ports come and go.
fn host_state(host: &Namespace) -> String {
    let sizeless = |line: &str| match line.split_once(" mtu ") {
        Some((bridge, rest)) if bridge.starts_with("cni0") => {
            format!("{bridge} {}", rest.split_once(' ').map_or("", |(_, rest)| rest))
        }
        _ => line.to_owned(),
    };
    state(host).lines().map(sizeless).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_plan_and_its_shell_text_do_the_same() {
    testbed::isolated!();
    testbed::need("sysctl", "procps");
    for (keys, addresses) in VARIANTS {
        println!("{keys}");
        let (host, pod) = (Namespace::new("host1"), Namespace::new("pod1"));
        let (host2, pod2) = (Namespace::new("host2"), Namespace::new("pod2"));
        let applied =
            on(&host, |kernel| kernel.apply(&plan(keys, addresses, &pod.space()), OnError::Undo));
        applied.into_result().unwrap();
        host2.sh(&script(&plan(keys, addresses, &pod2.space())));
        assert_same_state(&state(&host), &state(&host2));
        assert_same_state(&state(&pod), &state(&pod2));
    }
}

#[test]
fn every_prefix_of_the_plan_can_be_taken_back() {
    testbed::isolated!();
    // Every other one: what they have in common need not be taken back six times.
    for (keys, addresses) in VARIANTS.iter().skip(1).step_by(2) {
        let (host, pod) = (Namespace::new("host1"), Namespace::new("pod1"));
        let fresh = state(&pod);
        let plan = plan(keys, addresses, &pod.space());
        // The first time makes what is shared, which stays.
        let done = on(&host, |kernel| kernel.apply(&plan, OnError::Undo)).into_result().unwrap();
        on(&host, |kernel| kernel.apply(&net::undo(&done), OnError::Continue))
            .into_result()
            .unwrap();
        let shared = host_state(&host);
        assert_same_state(&fresh, &state(&pod));
        for steps in 0..plan.len() {
            println!("{keys}: before step {steps}");
            let applied = on(&host, |kernel| {
                kernel.fail_after(steps);
                kernel.apply(&plan, OnError::Undo)
            });
            assert_eq!(applied.failed.len(), 1, "{:?}", applied.failed);
            assert_eq!(applied.done, []);
            assert_same_state(&shared, &host_state(&host));
            assert_same_state(&fresh, &state(&pod));
        }
    }
}
