//! The two proofs that the plan of every ADD stands, against a real kernel: its shell text does the
//! same, and every prefix of it can be taken back.

use cni::{CniResult, Environment, IpConfig, Request};
use kernel::{Kernel, OnError};
use net::{Mac, Plan, Space, script};
use testbed::{Namespace, assert_same_state, state};

use crate::attachment::Attachment;
use crate::cable::Cable;

/// The ADD of a plugin that is configured with these keys.
pub(crate) fn request(plugin: &str, keys: &str) -> Request {
    let stdin = format!(r#"{{"cniVersion":"1.1.0","name":"net","type":"{plugin}"{keys}}}"#);
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

/// The cable that the request is about, to a pod in another place.
pub(crate) fn cable(request: &Request, pod: &Space, mtu: Option<u32>) -> Cable {
    let attachment = Attachment::of(request);
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    Cable {
        pod: pod.clone(),
        ifname: "eth0".parse().unwrap(),
        host_link: attachment.host_link().unwrap(),
        attachment,
        macs: [mac(2), mac(3)],
        mtu,
    }
}

/// What IPAM gives: addresses, each with the gateway behind `via` if it has one.
pub(crate) fn given(addresses: &[&str]) -> CniResult {
    let ip = |text: &&str| {
        let (address, gateway) = text.split_once(" via ").unzip();
        IpConfig {
            interface: None,
            address: address.unwrap_or(text).parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        }
    };
    CniResult { ips: addresses.iter().map(ip).collect(), ..CniResult::default() }
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

/// The plan and its shell text do the same on two nodes alike.
pub(crate) fn shell_text_does_the_same(plan: impl Fn(&Space) -> Plan) {
    testbed::need("sysctl", "procps");
    let (host, pod) = (Namespace::new("host1"), Namespace::new("pod1"));
    let (host2, pod2) = (Namespace::new("host2"), Namespace::new("pod2"));
    let applied = on(&host, |kernel| kernel.apply(&plan(&pod.space()), OnError::Undo));
    applied.into_result().unwrap();
    host2.sh(&script(&plan(&pod2.space())));
    assert_same_state(&state(&host), &state(&host2));
    assert_same_state(&state(&pod), &state(&pod2));
}

/// Before whichever step ADD fails, what it did is taken back.
pub(crate) fn every_prefix_can_be_taken_back(plan: impl Fn(&Space) -> Plan) {
    let (host, pod) = (Namespace::new("host1"), Namespace::new("pod1"));
    let fresh = state(&pod);
    let plan = plan(&pod.space());
    // The first time makes what is shared, which stays.
    let applied = on(&host, |kernel| kernel.apply(&plan, OnError::Undo));
    let back = applied.undo(&plan);
    applied.into_result().unwrap();
    on(&host, |kernel| kernel.apply(&back, OnError::Continue)).into_result().unwrap();
    let shared = host_state(&host);
    assert_same_state(&fresh, &state(&pod));
    for steps in 0..plan.len() {
        println!("before step {steps}");
        let applied = on(&host, |kernel| {
            kernel.fail_after(steps);
            kernel.apply(&plan, OnError::Undo)
        });
        assert_eq!(applied.failed.len(), 1, "{:?}", applied.failed);
        assert_eq!(applied.done, [0; 0]);
        assert_same_state(&shared, &host_state(&host));
        assert_same_state(&fresh, &state(&pod));
    }
}
