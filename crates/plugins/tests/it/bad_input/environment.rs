//! The environment.

use serde_json::json;

use super::Scene;
use crate::harness::CABLED;

#[test]
fn missing_variables_are_named_together() {
    testbed::isolated!();
    for plugin in CABLED {
        let scene = Scene::of(plugin);
        let config = scene.config(json!({}));
        let call = |command: &str| scene.node.call(command, &scene.pod, &config);
        for (command, without, named) in [
            ("ADD", &["CNI_CONTAINERID"][..], "CNI_CONTAINERID"),
            ("ADD", &["CNI_NETNS"], "CNI_NETNS"),
            ("ADD", &["CNI_IFNAME"], "CNI_IFNAME"),
            ("ADD", &["CNI_PATH"], "CNI_PATH"),
            (
                "ADD",
                &["CNI_PATH", "CNI_NETNS", "CNI_CONTAINERID", "CNI_IFNAME"],
                "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH",
            ),
            ("CHECK", &["CNI_NETNS", "CNI_PATH"], "CNI_NETNS,CNI_PATH"),
            ("DEL", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"], "CNI_CONTAINERID,CNI_IFNAME"),
            ("GC", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"], "CNI_PATH"),
            ("STATUS", &["CNI_PATH"], "CNI_PATH"),
        ] {
            let missing = format!("required env variables [{named}] missing");
            let unset = without.iter().fold(call(command), |call, name| call.without(name));
            scene.refuses(&unset, 4, &missing);
            let empty = without.iter().fold(call(command), |call, name| call.with(name, ""));
            scene.refuses(&empty, 4, &missing);
        }
    }
}

#[test]
fn variables_with_values_that_cannot_be_are_refused() {
    testbed::isolated!();
    let scene = Scene::new();
    let config = scene.config(json!({}));
    let separators = "interface name contains / or : or whitespace characters";
    for (name, value, msg, details) in [
        ("CNI_COMMAND", "NOPE", "unknown CNI_COMMAND: NOPE", ""),
        ("CNI_COMMAND", "add", "unknown CNI_COMMAND: add", ""),
        ("CNI_CONTAINERID", "../x", "invalid characters in containerID", "../x"),
        ("CNI_CONTAINERID", "-x", "invalid characters in containerID", "-x"),
        ("CNI_CONTAINERID", "a b", "invalid characters in containerID", "a b"),
        ("CNI_CONTAINERID", "a\r\nb", "invalid characters in containerID", "a\r\nb"),
        (
            "CNI_IFNAME",
            "0123456789abcdef",
            "interface name is too long",
            "interface name should be less than 16 characters",
        ),
        ("CNI_IFNAME", ".", "interface name is . or ..", ""),
        ("CNI_IFNAME", "..", "interface name is . or ..", ""),
        ("CNI_IFNAME", "eth0/1", separators, ""),
        ("CNI_IFNAME", "eth0:1", separators, ""),
        ("CNI_IFNAME", "eth\t0", separators, ""),
    ] {
        let call = scene.call(&config).with(name, value);
        assert_eq!(scene.refuses(&call, 4, msg), details);
    }
    for (args, msg) in [
        ("IP", "ARGS: invalid pair \"IP\""),
        ("A=b", "ARGS: unknown args [\"A=b\"]"),
        (
            "IgnoreUnknown=1;MAC=zz",
            "ARGS: error parsing value of pair \"MAC=zz\": address zz: invalid MAC address",
        ),
        (
            "IgnoreUnknown=maybe",
            "ARGS: error parsing value of pair \"IgnoreUnknown=maybe\": boolean unmarshal error: invalid input maybe",
        ),
    ] {
        scene.refuses(&scene.call(&config).with("CNI_ARGS", args), 999, msg);
    }
    // A container's name may be as long as it likes.
    let long = "x".repeat(300);
    for command in ["ADD", "DEL"] {
        let call = scene.node.call(command, &scene.pod, &config).with("CNI_CONTAINERID", &long);
        let answer = scene.node.run(&call);
        assert!(answer.is_ok(), "{command}: {answer:?}");
    }
}

#[test]
fn a_name_that_only_the_kernel_dislikes_is_refused_in_time() {
    testbed::isolated!();
    for plugin in CABLED {
        let scene = Scene::of(plugin);
        let config = scene.config(json!({}));
        for name in ["eth%d", "all", "default"] {
            let refusal = scene.node.run(&scene.call(&config).with("CNI_IFNAME", name)).refused();
            assert_eq!(refusal.code, 999, "{refusal:?}");
            assert!(refusal.msg.contains(name), "{refusal:?}");
            scene.is_untouched();
        }
    }
}

#[test]
fn without_a_command_a_person_is_told_what_this_is() {
    testbed::isolated!();
    let scene = Scene::new();
    for name in plugins::NAMES {
        let config = json!({ "type": name });
        let call = scene.node.call("", &scene.pod, &config);
        for call in [call.clone(), call.without("CNI_COMMAND")] {
            let answer = scene.node.run(&call);
            assert!(answer.is_ok() && answer.stdout.is_empty());
            let start = format!("CNI {name} plugin podwire ");
            assert!(answer.stderr.starts_with(&start), "{answer:?}");
            assert!(answer.stderr.ends_with(
                "\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
            ));
        }
        // The configuration is not even read.
        let version = scene.node.call_about_all("VERSION", &config).saying("{");
        assert_eq!(
            scene.node.run(&version).stdout,
            "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"
        );
    }
}
