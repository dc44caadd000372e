//! The plans of ADD, as a whole and step by step.

use net::{Mac, Plan, Space};

use super::config::Config;
use super::plan::{Seen, Wiring};
use crate::proof;

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

fn plan(keys: &str, addresses: &[&str], pod: &Space) -> Plan {
    let ipam = if keys.contains("ateway") { r#","ipam":{"type":"host-local"}"# } else { "" };
    let request = proof::request("bridge", &format!("{ipam}{keys}"));
    let config = &Config::parse(&request).unwrap();
    let cable = &proof::cable(&request, pod, config.mtu);
    let bridge_mac = Mac([2, 0, 0, 0, 0, 1]);
    let wiring = Wiring { config, cable, bridge_mac, seen: &Seen::default() };
    let result = wiring.complete(proof::given(addresses));
    wiring.plan(&result).unwrap()
}

#[test]
fn the_plan_and_its_shell_text_do_the_same() {
    testbed::isolated!();
    for (keys, addresses) in VARIANTS {
        println!("{keys}");
        proof::shell_text_does_the_same(|pod| plan(keys, addresses, pod));
    }
}

#[test]
fn every_prefix_of_the_plan_can_be_taken_back() {
    testbed::isolated!();
    // Every other one: what they have in common need not be taken back six times.
    for (keys, addresses) in VARIANTS.iter().skip(1).step_by(2) {
        println!("{keys}");
        proof::every_prefix_can_be_taken_back(|pod| plan(keys, addresses, pod));
    }
}
