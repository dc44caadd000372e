//! The plans of ADD, as a whole and step by step.

use cni::{CniResult, Route};
use net::{Plan, Space};

use super::config::Config;
use super::plan::{Seen, Wiring};
use crate::proof;

const V4: &str = "10.1.0.2/24 via 10.1.0.1";
const V6: &str = "fd00:1::2/64 via fd00:1::1";

/// The keys of configurations that differ in what they make, each with the addresses it is for.
const VARIANTS: &[(&str, &[&str])] = &[
    ("", &[V4]),
    (r#","ipMasq":true,"mtu":1400"#, &[V6]),
    (r#","ipMasq":true"#, &[V4, V6, "10.2.0.2/24 via 10.2.0.1"]),
    // Subnets of one address, a gateway for two of them, and one of the link.
    (
        r#","ipMasq":true"#,
        &["10.1.0.2/32 via 10.9.9.9", "10.1.0.3/32 via 10.9.9.9", "fd00:1::2/128 via fe80::1"],
    ),
    ("", &[V4, "10.1.0.3/24 via 10.1.0.254", V6, "fd00:1::3/64 via fd00:1::1"]),
];

fn result_of(routes: &[Route], addresses: &[&str]) -> CniResult {
    CniResult { routes: routes.to_vec(), ..proof::given(addresses) }
}

fn try_plan(keys: &str, given: CniResult, seen: &Seen, pod: &Space) -> Result<Plan, String> {
    let request = proof::request("ptp", keys);
    let config = &Config::parse(&request).unwrap();
    let cable = &proof::cable(&request, pod, config.mtu);
    let wiring = Wiring { config, cable, seen };
    let result = wiring.complete(given);
    wiring.plan(&result).map_err(|error| error.msg)
}

fn plan(keys: &str, addresses: &[&str], pod: &Space) -> Plan {
    let default = |v4| Route::new(crate::interface::everywhere(v4), None);
    let has = |v4: bool| addresses.iter().any(|address| address.contains('.') == v4);
    let routes: Vec<_> = [true, false].into_iter().filter(|v4| has(*v4)).map(default).collect();
    try_plan(keys, result_of(&routes, addresses), &Seen::default(), pod).unwrap()
}

#[test]
fn the_plan_and_its_shell_text_do_the_same() {
    testbed::isolated!();
    for (keys, addresses) in VARIANTS {
        println!("{keys} {addresses:?}");
        proof::shell_text_does_the_same(|pod| plan(keys, addresses, pod));
    }
}

#[test]
fn every_prefix_of_the_plan_can_be_taken_back() {
    testbed::isolated!();
    for (keys, addresses) in &VARIANTS[2..4] {
        println!("{keys} {addresses:?}");
        proof::every_prefix_can_be_taken_back(|pod| plan(keys, addresses, pod));
    }
}

#[test]
fn what_cannot_be_the_gateway_is_refused_before_anything_is_made() {
    let pod = Space::named("pod");
    for (addresses, msg) in [
        (&["10.1.0.2/24"][..], "IPAM plugin returned no gateway for 10.1.0.2/24"),
        (&[V4, "fd00:1::2/64"], "IPAM plugin returned no gateway for fd00:1::2/64"),
        (&["10.1.0.2/24 via fd00:1::1"], "fd00:1::1 cannot be the gateway of 10.1.0.2/24"),
        (&["10.1.0.2/24 via 0.0.0.0"], "0.0.0.0 cannot be the gateway of 10.1.0.2/24"),
        (&["10.1.0.2/24 via 10.1.0.2"], "10.1.0.2 cannot be the gateway of 10.1.0.2/24"),
        (&[V4, "10.1.0.1/24 via 10.1.0.2"], "10.1.0.1 cannot be the gateway of 10.1.0.2/24"),
    ] {
        let refused = try_plan("", result_of(&[], addresses), &Seen::default(), &pod).unwrap_err();
        assert_eq!(refused, msg);
    }
}
