//! The `static` plugin by itself and behind others, side by side with the reference's.

use serde_json::{Value, json};

use crate::harness::*;

const BOTH: [By; 2] = [By::Reference, By::Podwire];
const MISSING: &str = "IPAM config missing 'ipam' key";

/// The configuration of some plugin, of which this one reads what is for it.
fn config(version: &str, keys: Value) -> Value {
    merged(json!({ "cniVersion": version, "name": "pods", "type": "static" }), keys)
}

fn addresses() -> Value {
    json!([{ "address": "10.10.0.1/24", "gateway": "10.10.0.254" },
        { "address": "3ffe:ffff:0:1ff::1/64", "gateway": "3ffe:ffff:0::1" }])
}

/// Whole networks, with the arguments that are given beside them.
fn networks() -> Vec<(Value, &'static str)> {
    let lists = |runtime: Value, args: Value| {
        json!({ "ipam": { "type": "static", "addresses": addresses() },
            "runtimeConfig": { "ips": runtime }, "args": { "cni": { "ips": args } } })
    };
    vec![
        (json!({ "ipam": { "type": "static" } }), "IP=10.10.0.1/24;GATEWAY=10.10.0.254"),
        (
            json!({ "ipam": { "addresses": addresses(), "routes": [
            { "dst": "0.0.0.0/0" }, { "dst": "192.168.0.0/16", "gw": "10.10.5.1" },
            { "dst": "192.168.0.0/16", "gw": "10.10.5.2" }, { "dst": "3ffe:ffff:0:1ff::1/64" }],
            "dns": { "nameservers": ["192.0.2.53"], "domain": "d", "search": ["s"], "options": ["o"] } } }),
            "",
        ),
        // Those of the arguments come behind those that are written down.
        (
            json!({ "ipam": { "addresses": [{ "address": "10.9.0.1/16" }] } }),
            "IgnoreUnknown=1;K8S_POD_NAME=x;IP=fd00::5/64, fd00:1::5/64;GATEWAY=fd00:1::1, 10.9.0.254",
        ),
        (json!({ "ipam": {} }), "IP=10.10.0.1/24,11.11.0.1/24;GATEWAY=10.10.0.254,10.10.0.253"),
        (json!({ "ipam": { "addresses": addresses() } }), "IP=;GATEWAY="),
        (lists(json!([]), json!(["10.1.0.1/24", "fd00::1/64"])), "IP=10.7.0.1/24"),
        (lists(json!(["10.1.0.1/24", "fd00::1/64"]), json!(["10.2.0.1/24"])), ""),
        (lists(json!(["::ffff:10.1.0.1/120"]), Value::Null), ""),
        (lists(Value::Null, json!([])), ""),
        (json!({ "ipam": { "addresses": [{ "address": "10.1.0.1/24", "gateway": "" }] } }), ""),
        // What does not count is not looked at.
        (
            json!({ "ipam": { "addresses": [{ "address": "x" }] },
            "RuntimeConfig": { "ips": ["10.1.0.1/24"] } }),
            "",
        ),
        (
            json!({ "ipam": { "addresses": [{ "address": "10.1.0.1/24" }, { "address": "10.1.0.1/24" }] } }),
            "",
        ),
    ]
}

#[test]
fn both_give_what_is_written_down() {
    testbed::isolated!();
    let [theirs, ours] = BOTH.map(|by| Node::named(&format!("{by:?}").to_lowercase(), by));
    let pod = ours.pod("pod");
    for version in ["0.1.0", "0.2.0", "0.3.1", "0.4.0", "1.0.0"] {
        for (keys, args) in networks() {
            let config = config(version, keys);
            let [mut theirs, ours] = [&theirs, &ours].map(|node| {
                let answer = node.run(&node.call("ADD", &pod, &config).with("CNI_ARGS", args));
                serde_json::from_str::<Value>(&answer.stdout).unwrap()
            });
            if ours["dns"].is_null() && theirs["dns"] == json!({}) {
                // In 1.0.0 the reference prints an empty one, and later versions of it do not.
                theirs.as_object_mut().unwrap().remove("dns");
            }
            assert_eq!(ours, theirs, "{config} {args}");
        }
    }
}

#[test]
fn what_is_no_address_is_named() {
    testbed::isolated!();
    let cidr = |field: &str| format!("{field} in CIDR notation, got: '10.10.0.1'");
    let entry = cidr("an entry in the 'ips' field is NOT");
    let bare = json!(["10.10.0.1"]);
    let ipam = json!({ "type": "static", "addresses": addresses() });
    for (keys, args, msg) in [
        (json!({}), "", MISSING.to_owned()),
        (json!({ "ipam": null }), "", MISSING.to_owned()),
        (json!({}), "IP=10.10.0.1/24;GATEWAY=10.10.0.254", MISSING.to_owned()),
        (json!({ "runtimeConfig": { "ips": ["10.10.0.1/24"] } }), "", MISSING.to_owned()),
        (json!({ "args": { "cni": { "ips": ["10.10.0.1/24"] } } }), "", MISSING.to_owned()),
        (
            json!({ "ipam": { "addresses": [{ "address": "10.10.0.1" }] } }),
            "",
            cidr("the 'address' field is expected to be"),
        ),
        (
            json!({ "ipam": { "addresses": [{ "gateway": "10.10.0.1" }] } }),
            "",
            "the 'address' field is expected to be in CIDR notation, got: ''".to_owned(),
        ),
        (json!({ "ipam": ipam }), "IP=10.10.0.1", cidr("the 'ip' field is expected to be")),
        (
            json!({ "ipam": ipam }),
            "IP=10.10.0.1/24,",
            "the 'ip' field is expected to be in CIDR notation, got: ''".to_owned(),
        ),
        (
            json!({ "ipam": ipam }),
            "IP=10.10.0.1/24;GATEWAY=10.0.0.1, x",
            "invalid gateway address:  x".to_owned(),
        ),
        (json!({ "ipam": ipam }), "FOO=1", "ARGS: unknown args [\"FOO=1\"]".to_owned()),
        (json!({ "ipam": ipam, "runtimeConfig": { "ips": bare } }), "", entry.clone()),
        (json!({ "ipam": ipam, "args": { "cni": { "ips": bare } } }), "", entry.clone()),
        (
            json!({ "ipam": ipam, "args": { "cni": { "ips": bare } },
                "runtimeConfig": { "ips": ["10.1.0.1/24"] } }),
            "",
            entry,
        ),
    ] {
        for by in BOTH {
            let node = Node::new(by);
            let pod = node.pod("pod");
            let call = node.call("ADD", &pod, &config("1.0.0", keys.clone()));
            let call = call.with("CNI_ARGS", args);
            assert_eq!(node.run(&call).refused().said(), (999, msg.as_str()), "{by:?} {keys}");
            let told = after(&config("1.0.0", keys.clone()), &json!({ "cniVersion": "1.0.0" }));
            let check = node.call("CHECK", &pod, &told).with("CNI_ARGS", args);
            assert_eq!(node.run(&check).refused().said(), (999, msg.as_str()), "{by:?} {keys}");
            // DEL has nothing to do.
            node.run(&call.with("CNI_COMMAND", "DEL")).ok();
        }
    }
}

#[test]
fn values_that_cannot_be_are_named_by_their_path() {
    testbed::isolated!();
    let node = Node::new(By::Podwire);
    let pod = node.pod("pod");
    for (keys, msg) in [
        (json!({ "ipam": { "addresses": 5 } }), "ipam.addresses: invalid value 5: expected a list"),
        (
            json!({ "ipam": { "addresses": [{ "address": 5 }] } }),
            "ipam.addresses[0].address: invalid value 5: expected a string",
        ),
        (
            json!({ "ipam": { "addresses": [{ "address": "10.1.0.1/24", "gateway": "x" }] } }),
            r#"ipam.addresses[0].gateway: invalid value "x": invalid IP address: x"#,
        ),
        (
            json!({ "ipam": { "routes": [{ "dst": "x" }] } }),
            r#"ipam.routes[0].dst: invalid value "x": invalid CIDR address: x"#,
        ),
        (
            json!({ "ipam": {}, "runtimeConfig": { "ips": "x" } }),
            r#"runtimeConfig.ips: invalid value "x": expected a list"#,
        ),
    ] {
        let refused = node.run(&node.call("ADD", &pod, &config("1.1.0", keys))).refused();
        assert_eq!(refused.said(), (999, msg));
    }
}

#[test]
fn an_old_version_has_no_place_for_two_addresses_of_a_family_or_for_none() {
    testbed::isolated!();
    for by in BOTH {
        let node = Node::new(by);
        let pod = node.pod("pod");
        for version in ["0.1.0", "0.2.0"] {
            let two = json!([{ "address": "10.1.0.1/24" }, { "address": "10.2.0.1/24" }]);
            let many =
                format!("CNI version {version} does not support more than 1 address per family");
            for (addresses, msg) in
                [(two, many.as_str()), (json!([]), "cannot convert: no valid IP addresses")]
            {
                let config = config(version, json!({ "ipam": { "addresses": addresses } }));
                let refused = node.run(&node.call("ADD", &pod, &config)).refused();
                assert_eq!(refused.said(), (999, msg), "{by:?}");
            }
        }
    }
}

#[test]
fn check_misses_no_address() {
    testbed::isolated!();
    let ipam = json!({ "ipam": { "addresses": addresses() } });
    let said = |address: &str| format!("static: Failed to match addr {address} on interface eth0");
    let given = json!({ "cniVersion": "1.0.0", "interfaces": [{ "name": "eth0", "sandbox": "s" }, { "name": "x" }],
        "ips": [
            { "address": "10.10.0.1/24", "gateway": "10.10.0.254", "interface": 0 },
            { "address": "3ffe:ffff:0:1ff::1/64", "gateway": "3ffe:ffff:0::1", "interface": 0 },
        ] });
    let with = |change: fn(&mut Value)| {
        let mut changed = given.clone();
        change(&mut changed["ips"]);
        changed
    };
    // The last ones are no failure to the reference.
    for (previous, msg, by) in [
        (given.clone(), None, &BOTH[..]),
        (
            with(|ips| ips.as_array_mut().unwrap().push(json!({ "address": "10.7.0.1/24" }))),
            None,
            &BOTH,
        ),
        (with(|ips| ips[0]["gateway"] = "10.10.0.1".into()), Some(said("10.10.0.1")), &BOTH),
        (with(|ips| ips[1]["gateway"] = Value::Null), Some(said("3ffe:ffff:0:1ff::1")), &BOTH),
        (with(|ips| *ips = json!([])), Some(said("10.10.0.1")), &BOTH[1..]),
        (
            with(|ips| ips[1]["address"] = "fd00::1/64".into()),
            Some(said("3ffe:ffff:0:1ff::1")),
            &BOTH[1..],
        ),
        (
            with(|ips| ips[0]["address"] = "10.10.0.1/16".into()),
            Some(said("10.10.0.1")),
            &BOTH[1..],
        ),
        (with(|ips| ips[0]["interface"] = 1.into()), Some(said("10.10.0.1")), &BOTH[1..]),
    ] {
        for by in by {
            let node = Node::new(*by);
            let pod = node.pod("pod");
            let call = node.call("CHECK", &pod, &after(&config("1.0.0", ipam.clone()), &previous));
            let answer = node.run(&call);
            match &msg {
                None => assert_eq!(answer.ok(), Value::Null),
                Some(msg) => assert_eq!(answer.refused().said(), (999, msg.as_str()), "{by:?}"),
            }
            let without = node.run(&node.call("CHECK", &pod, &config("1.0.0", ipam.clone())));
            assert_eq!(without.refused().said(), (999, "Required prevResult missing"));
        }
    }
}

#[test]
fn pods_have_the_addresses_that_are_written_down_for_them() {
    testbed::isolated!();
    for by in BOTH {
        for plugin in CABLED {
            let node = Node::new(by);
            let (one, two) = (node.pod("one"), node.pod("two"));
            let network = |last: u8| {
                let ips = json!([format!("10.1.2.{last}/24"), format!("2001:db8:1::{last}/64")]);
                let written = json!([
                    { "address": format!("10.1.2.{last}/24"), "gateway": "10.1.2.1" },
                    { "address": format!("2001:db8:1::{last}/64"), "gateway": "2001:db8:1::1" },
                ]);
                let ipam = json!({ "type": "static", "addresses": written });
                let keys = json!({ "type": plugin, "isGateway": true, "ipam": ipam });
                (node.bridged("1.0.0", keys), ips)
            };
            let (first, first_ips) = network(8);
            let (second, _) = network(9);
            let results = [node.add(&one, &first), node.add(&two, &second)];
            assert_eq!(json!(ips(&results[0])), first_ips);
            assert_eq!(json!(addresses_of(&one)), first_ips);
            for (own, other) in ips(&results[0]).iter().zip(&ips(&results[1])) {
                let (a, b) = (one.namespace.netns(), two.namespace.netns());
                assert_eq!(source_seen(a, b, bare(other)), Some(bare(own)));
            }
            node.check(&one, &first, &results[0]);
            for _ in 0..2 {
                node.del(&one, &after(&first, &results[0]));
            }
            assert_eq!(links(&one.namespace), ["lo"]);
        }
    }
}

fn addresses_of(pod: &Pod) -> Vec<String> {
    crate::harness::addresses(&pod.namespace, "eth0")
}
