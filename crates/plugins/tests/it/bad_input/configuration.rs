//! The configuration, and what it asks for that cannot be had.

use serde_json::json;

use super::Scene;
use crate::harness::*;

#[test]
fn what_is_no_configuration_is_refused() {
    testbed::isolated!();
    for plugin in CABLED {
        let scene = Scene::of(plugin);
        let call = scene.call(&scene.config(json!({})));
        for (stdin, code, msg, details) in [
            ("", 6, "error unmarshall network config: unexpected end of JSON input", ""),
            ("{", 6, "error unmarshall network config: unexpected end of JSON input", ""),
            ("{}{}", 6, "error unmarshall network config: ", ""),
            ("[]", 6, "error unmarshall network config: ", ""),
            ("null", 7, "missing network name", ""),
            ("{}", 7, "missing network name", ""),
            (r#"{"name":""}"#, 7, "missing network name", ""),
            (r#"{"name":5}"#, 6, "error unmarshall network config: name: ", ""),
            (r#"{"name":"a/b"}"#, 7, "invalid characters found in network name", "a/b"),
            (r#"{"name":".."}"#, 7, "invalid characters found in network name", ".."),
            (r#"{"name":"n","cniVersion":1}"#, 6, "decoding version from network config: ", ""),
            (
                r#"{"name":"n","cniVersion":"1.2.3"}"#,
                1,
                "incompatible CNI versions",
                r#"config is "1.2.3", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]"#,
            ),
            (
                r#"{"name":"n","cniVersion":"x"}"#,
                1,
                "incompatible CNI versions",
                r#"config is "x", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]"#,
            ),
        ] {
            let refusal = scene.node.run(&call.clone().saying(stdin)).refused();
            let said = (refusal.code, &refusal.msg[..msg.len().min(refusal.msg.len())]);
            assert_eq!(
                (said, refusal.details.as_str()),
                ((code, msg), details),
                "{stdin}: {refusal:?}"
            );
            assert!(!refusal.msg.ends_with(": "), "{refusal:?}");
            scene.is_untouched();
        }
    }
}

#[test]
fn keys_with_values_that_cannot_be_are_named() {
    testbed::isolated!();
    let scene = Scene::new();
    for (keys, msg) in [
        (json!({ "isGateway": "yes" }), r#"isGateway: invalid value "yes": expected a boolean"#),
        (json!({ "mtu": "1500" }), r#"mtu: invalid value "1500": expected a whole number"#),
        (
            json!({ "mtu": -1 }),
            "mtu: invalid value -1: must be 68 to 65535, or 0 for the kernel's choice",
        ),
        (
            json!({ "mtu": 67 }),
            "mtu: invalid value 67: must be 68 to 65535, or 0 for the kernel's choice",
        ),
        (
            json!({ "mtu": 65536 }),
            "mtu: invalid value 65536: must be 68 to 65535, or 0 for the kernel's choice",
        ),
        (json!({ "bridge": 1 }), "bridge: invalid value 1: expected a string"),
        (
            json!({ "bridge": "much-too-long-a-name" }),
            r#"bridge: interface name "much-too-long-a-name" is too long: at most 15 bytes fit"#,
        ),
        (
            json!({ "bridge": "a/b" }),
            r#"bridge: interface name "a/b" is . or .., or contains / or : or white space"#,
        ),
        // The kernel would make br0, and say so to nobody.
        (
            json!({ "bridge": "br%d" }),
            r#"bridge: interface name "br%d" contains %, where the kernel would put a number"#,
        ),
        (
            json!({ "dns": { "nameservers": "192.0.2.53" } }),
            r#"dns.nameservers: invalid value "192.0.2.53": expected a list"#,
        ),
        (
            json!({ "runtimeConfig": { "mac": "xx" } }),
            r#"runtimeConfig.mac: invalid value "xx": address xx: invalid MAC address"#,
        ),
        (
            json!({ "runtimeConfig": { "mac": "00:00:00:00:00:00:00:01" } }),
            r#"runtimeConfig.mac: invalid value "00:00:00:00:00:00:00:01": address 00:00:00:00:00:00:00:01: a MAC address of 8 bytes, but Ethernet's have 6"#,
        ),
        (
            json!({ "args": { "cni": { "mac": "01:00:5e:00:00:01" } } }),
            r#"args.cni.mac: invalid value "01:00:5e:00:00:01": no interface can have a multicast address, or one of zeros"#,
        ),
        (
            json!({ "args": { "cni": { "mac": 5 } } }),
            "args.cni.mac: invalid value 5: expected a string",
        ),
        (json!({ "ipam": 5 }), "ipam: invalid value 5: expected an object"),
        (json!({ "ipam": { "type": 5 } }), "ipam.type: invalid value 5: expected a string"),
    ] {
        let msg = format!("failed to load netconf: {msg}");
        scene.refuses(&scene.call(&scene.config(keys)), 999, &msg);
    }
}

#[test]
fn a_cable_too_small_for_ipv6_is_refused() {
    testbed::isolated!();
    for plugin in CABLED {
        let scene = Scene::of(plugin);
        let config = |mtu: u32| {
            let ranges = json!([[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "2001:db8:1::/64" }]]);
            scene.config(json!({ "mtu": mtu, "ipam": { "ranges": ranges } }))
        };
        let msg = "failed to load netconf: mtu: invalid value 1279: IPv6 addresses such as 2001:db8:1::2/64 need 1280 or more";
        scene.refuses(&scene.call(&config(1279)), 999, msg);
        scene.node.add(&scene.pod, &config(1280));
    }
}

#[test]
fn keys_of_ptp_with_values_that_cannot_be_are_named() {
    testbed::isolated!();
    let scene = Scene::of("ptp");
    for (keys, msg) in [
        (json!({ "ipMasq": "yes" }), r#"ipMasq: invalid value "yes": expected a boolean"#),
        (json!({ "ipMasqBackend": 5 }), "ipMasqBackend: invalid value 5: expected a string"),
        (json!({ "mtu": "1500" }), r#"mtu: invalid value "1500": expected a whole number"#),
        (
            json!({ "mtu": 67 }),
            "mtu: invalid value 67: must be 68 to 65535, or 0 for the kernel's choice",
        ),
        (json!({ "dns": { "search": "x" } }), r#"dns.search: invalid value "x": expected a list"#),
        (json!({ "ipam": [] }), "ipam: invalid value []: expected an object"),
    ] {
        let msg = format!("failed to load netconf: {msg}");
        scene.refuses(&scene.call(&scene.config(keys)), 999, &msg);
    }
    for (keys, msg) in [
        (json!({ "ipMasqBackend": "ebtables" }), "unknown ipmasq backend \"ebtables\""),
        (json!({ "ipam": { "type": "" } }), "no plugin name provided"),
        (
            json!({ "ipam": { "type": "nobody" } }),
            "failed to find plugin \"nobody\" in path [/run/node/bin]",
        ),
    ] {
        scene.refuses(&scene.call(&scene.config(keys)), 999, msg);
    }
}

#[test]
fn keys_that_exclude_each_other_are_refused() {
    testbed::isolated!();
    let scene = Scene::new();
    for (keys, code, msg) in [
        (
            json!({ "hairpinMode": true, "promiscMode": true }),
            999,
            "cannot set hairpin mode and promiscuous mode at the same time",
        ),
        (
            json!({ "disableContainerInterface": true }),
            999,
            "cannot use IPAM when DisableContainerInterface flag is set",
        ),
        (
            json!({ "ipMasq": true, "ipMasqBackend": "ebtables" }),
            999,
            "unknown ipmasq backend \"ebtables\"",
        ),
        (json!({ "vlan": 4095 }), 999, "invalid VLAN ID 4095 (must be between 0 and 4094)"),
        (json!({ "vlan": -1 }), 999, "invalid VLAN ID -1 (must be between 0 and 4094)"),
        (
            json!({ "vlan": 5 }),
            2,
            "vlan and vlanTrunk are not supported by this build: remove them",
        ),
        (
            json!({ "vlanTrunk": [] }),
            2,
            "vlan and vlanTrunk are not supported by this build: remove them",
        ),
        (
            json!({ "ipam": { "type": "nobody" } }),
            999,
            "failed to find plugin \"nobody\" in path [/run/node/bin]",
        ),
        (json!({ "ipam": { "type": "../host-local" } }), 999, "invalid plugin name: ../host-local"),
    ] {
        scene.refuses(&scene.call(&scene.config(keys)), code, msg);
    }
}

#[test]
fn ranges_and_routes_that_cannot_be_are_named() {
    testbed::isolated!();
    let scene = Scene::new();
    let one = |subnet: &str| json!([[{ "subnet": subnet }]]);
    for (ipam, msg) in [
        (
            json!({ "ranges": "10.0.0.0/8" }),
            r#"ipam.ranges: invalid value "10.0.0.0/8": expected a list"#,
        ),
        (
            json!({ "ranges": one("10.1.2.0") }),
            r#"ipam.ranges[0][0].subnet: invalid value "10.1.2.0": invalid CIDR address: 10.1.2.0"#,
        ),
        (
            json!({ "ranges": one("10.1.2.1/24") }),
            "invalid range set 0: Network has host bits set. For a subnet mask of length 24 the network address is 10.1.2.0",
        ),
        (
            json!({ "ranges": one("10.1.2.0/31") }),
            "invalid range set 0: Network 10.1.2.0/31 too small to allocate from",
        ),
        (json!({ "ranges": [] }), "no IP ranges specified"),
        (
            json!({ "routes": [{ "dst": "nowhere" }] }),
            r#"ipam.routes[0].dst: invalid value "nowhere": invalid CIDR address: nowhere"#,
        ),
    ] {
        let config = scene.config(json!({ "ipam": ipam }));
        scene.refuses(&scene.call(&config), 999, msg);
    }
    // Only the kernel knows, and by then there is much to take back.
    let lost = json!({ "ipam": { "routes": [{ "dst": "10.0.0.0/8", "gw": "192.0.2.1" }] }, "ipMasq": true, "macspoofchk": true });
    let call = scene.call(&scene.config(lost));
    let refusal = scene.node.run(&call).refused();
    let text =
        "failed to add route: add route 10.0.0.0/8 via 192.0.2.1 dev eth0: network is unreachable";
    assert!(refusal.code == 999 && refusal.msg.starts_with(text), "{refusal:?}");
    assert_eq!(refusal.details, "ip -n pod route add 10.0.0.0/8 via 192.0.2.1 dev eth0");
    let told = testbed::state(&scene.node.namespace);
    assert!(!told.contains("veth") && !told.contains("10.1.2.2 "), "{told}");
    assert_eq!(links(&scene.pod.namespace), ["lo"]);
}

#[test]
fn addresses_that_cannot_be_had_are_refused() {
    testbed::isolated!();
    for plugin in CABLED {
        let mut scene = Scene::of(plugin);
        let holder = scene.node.pod("holder");
        let tiny = scene.config(json!({ "ipam": { "ranges": [[{ "subnet": "10.1.2.0/30" }]] } }));
        scene.node.add(&holder, &tiny);
        scene.starts_here();

        let full = scene.call(&tiny);
        scene.refuses(
        &full,
        999,
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.2.1-10.1.2.2",
    );
        for (ip, msg) in [
            (
                "10.1.2.2",
                "failed to allocate for range 0: requested IP address 10.1.2.2 is not available in range set 10.1.2.1-10.1.2.254",
            ),
            (
                "10.1.2.1",
                "failed to allocate for range 0: requested ip 10.1.2.1 is subnet's gateway",
            ),
            ("10.9.9.9", "failed to allocate all requested IPs: 10.9.9.9"),
            ("10.1.2.255", "failed to allocate all requested IPs: 10.1.2.255"),
        ] {
            let config = scene.config(json!({ "runtimeConfig": { "ips": [ip] } }));
            scene.refuses(&scene.call(&config), 999, msg);
            let config = scene.config(json!({}));
            scene.refuses(
                &scene.call(&config).with("CNI_ARGS", &format!("IP={ip};IgnoreUnknown=1")),
                999,
                msg,
            );
        }
        // The same container again, in another netns.
        let again = scene.call(&scene.config(json!({}))).with("CNI_CONTAINERID", "holder");
        scene.refuses(&again, 999,
        "failed to allocate for range 0: 10.1.2.2 has been allocated to holder, duplicate allocation is not allowed");
        assert_eq!(addresses(&holder.namespace, "eth0"), ["10.1.2.2/30"]);
    }
}

#[test]
fn a_bridge_of_another_kind_is_left_alone() {
    testbed::isolated!();
    let mut scene = Scene::new();
    scene.node.namespace.sh(
        "ip link add wire type veth peer name eriw; ip link add vx type vxlan id 5 dstport 4789",
    );
    scene.starts_here();
    for name in ["wire", "vx", "lo"] {
        let config = scene.config(json!({ "bridge": name }));
        let msg = format!(
            "failed to create bridge {name:?}: {name:?} already exists but is not a bridge"
        );
        let details = scene.refuses(&scene.call(&config), 999, &msg);
        assert!(!details.is_empty(), "no remedy");
    }
}

#[test]
fn an_interface_that_is_in_the_pod_is_left_alone() {
    testbed::isolated!();
    for plugin in CABLED {
        let mut scene = Scene::of(plugin);
        scene
            .pod
            .namespace
            .sh("ip link add eth0 type bridge; ip address add 192.0.2.1/24 dev eth0");
        scene.starts_here();
        for config in [scene.config(json!({})), scene.node.bridged("1.1.0", json!({}))] {
            let refusal = scene.node.run(&scene.call(&config)).refused();
            assert_eq!(refusal.code, 999);
            let (start, end) =
                ("container veth name (\"eth0\") peer provided (\"veth", "\") already exists");
            assert!(refusal.msg.starts_with(start) && refusal.msg.ends_with(end), "{refusal:?}");
            scene.is_untouched();
        }
        // `lo` is in every pod.
        let lo = scene.call(&scene.config(json!({}))).with("CNI_IFNAME", "lo");
        assert!(scene.node.run(&lo).refused().msg.starts_with("container veth name (\"lo\")"));
        scene.is_untouched();
    }
}

#[test]
fn a_gateway_that_the_bridge_cannot_have_is_refused() {
    testbed::isolated!();
    let scene = Scene::new();
    scene.node.namespace.sh("ip link add cni0 type bridge; ip address add 10.9.9.1/24 dev cni0");
    let msg =
        "failed to set bridge addr: \"cni0\" already has an IP address different from 10.1.2.1/24";
    let details = scene.refuses(&scene.call(&scene.config(json!({}))), 999, msg);
    assert!(details.contains("10.9.9.1/24") && details.contains("forceAddress"), "{details}");
    assert_eq!(addresses(&scene.node.namespace, "cni0"), ["10.9.9.1/24"]);
}

#[test]
fn the_same_attachment_is_not_made_twice() {
    testbed::isolated!();
    for by in [By::Podwire, By::Reference] {
        let node = Node::new(by);
        let pod = node.pod("pod");
        let network = node.network("1.0.0", &["10.1.2.0/24"], json!({}));
        let plain = node.bridged("1.0.0", json!({ "name": "plain" }));
        for (config, again) in [
            (&network, network.clone()),
            (&plain, plain.clone()),
            // IPAM would give another address, and give both back when the interface cannot be made.
            (
                &network,
                merged(network.clone(), json!({ "runtimeConfig": { "ips": ["10.1.2.9"] } })),
            ),
        ] {
            let result = node.add(&pod, config);
            let before = (node.state(), testbed::state(&pod.namespace));
            let refusal = node.run(&node.call("ADD", &pod, &again)).refused();
            assert_eq!(refusal.code, 999);
            assert!(refusal.msg.starts_with("container veth name "), "{refusal:?}");
            assert!(refusal.msg.ends_with(" already exists"), "{refusal:?}");
            testbed::assert_same_state(&before.0, &node.state());
            testbed::assert_same_state(&before.1, &testbed::state(&pod.namespace));
            if *config == network {
                node.check(&pod, config, &result);
            }
            node.del(&pod, config);
        }
    }
}

/// Writes an IPAM plugin of nobody, as a shell script.
fn script(scene: &Scene, body: &str) {
    let file = scene.node.home.join("bin/odd");
    std::fs::write(&file, format!("#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\n{body}\n"))
        .unwrap();
    testbed::sh(&format!("chmod +x {}", file.display()));
}

#[test]
fn what_an_ipam_plugin_does_wrong_is_told() {
    testbed::isolated!();
    for plugin in CABLED {
        let scene = Scene::of(plugin);
        let config = scene.config(json!({ "ipam": { "type": "odd" } }));
        for (body, code, msg) in [
            ("echo rubbish", 999, "failed to unmarshal raw result: "),
            ("echo '{\"cniVersion\":\"9.9.9\"}'", 999, "unsupported CNI result version \"9.9.9\""),
            (
                "echo '{\"cniVersion\":\"1.1.0\",\"ips\":[{\"address\":\"x\"}]}'",
                999,
                "ips[0].address: ",
            ),
            ("exit 0", 999, "failed to unmarshal raw result: "),
            ("echo '{}'", 999, "IPAM plugin returned missing IP config"),
            ("echo '{\"code\":123,\"msg\":\"no\"}'; exit 1", 123, "no"),
            ("echo trouble >&2; exit 3", 0, "netplugin failed: \"trouble\\n\": exit status 3"),
            ("exit 3", 0, "netplugin failed with no error message: exit status 3"),
            ("kill -9 $$", 0, "netplugin failed with no error message: signal: 9 (SIGKILL)"),
            (
                "echo rubbish; exit 1",
                0,
                "netplugin failed but error parsing its diagnostic message \"rubbish\\n\": ",
            ),
        ] {
            script(&scene, body);
            let refusal = scene.node.run(&scene.call(&config)).refused();
            assert_eq!(refusal.code, code, "{body}: {refusal:?}");
            assert!(refusal.msg.starts_with(msg), "{body}: {refusal:?}");
            scene.is_untouched();
        }
        std::fs::write(scene.node.home.join("bin/odd"), "no program").unwrap();
        let refusal = scene.node.run(&scene.call(&config)).refused();
        assert!(
            refusal.msg.contains("/run/node/bin/odd") && refusal.msg.contains("format"),
            "{refusal:?}"
        );
        testbed::sh("chmod -x /run/node/bin/odd");
        let refusal = scene.node.run(&scene.call(&config)).refused();
        assert!(refusal.msg.to_lowercase().contains("permission denied"), "{refusal:?}");
        scene.is_untouched();
    }
}

#[test]
fn addresses_that_an_ipam_plugin_makes_up_are_taken_back_whole() {
    testbed::isolated!();
    let scene = Scene::new();
    let config = scene.config(json!({ "ipam": { "type": "odd" }, "ipMasq": true }));
    for (ips, msg) in [
        (r#"{"address":"ff02::1/64","gateway":"fd00::1"}"#, "failed to add IP addr: "),
        (
            r#"{"address":"10.5.0.2/24"},{"address":"ff02::1/64","gateway":"fd00::1"}"#,
            "failed to add IP addr: ",
        ),
        (
            r#"{"address":"10.5.0.2/24"},{"address":"10.5.0.2/24"}"#,
            "IPAM plugin returned 10.5.0.2 twice",
        ),
    ] {
        let log = scene.node.home.join("log");
        script(&scene, &format!("echo '{{\"cniVersion\":\"1.1.0\",\"ips\":[{ips}]}}'"));
        let text = std::fs::read_to_string(scene.node.home.join("bin/odd")).unwrap();
        let text = text.replace(
            "#!/bin/sh\n",
            &format!("#!/bin/sh\necho $CNI_COMMAND >> {}\n", log.display()),
        );
        std::fs::write(scene.node.home.join("bin/odd"), text).unwrap();
        let refusal = scene.node.run(&scene.call(&config)).refused();
        assert!(refusal.msg.starts_with(msg), "{ips}: {refusal:?}");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "ADD\nDEL\n");
        std::fs::remove_file(log).unwrap();
        assert_eq!(links(&scene.pod.namespace), ["lo"]);
        assert_eq!(ports(&scene.node.namespace, "cni0"), [""; 0]);
        assert!(!scene.node.namespace.sh("nft list ruleset").contains("id: pod"));
    }
}
