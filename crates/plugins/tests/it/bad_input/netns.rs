//! Network namespaces that are none, or not the pod's.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::Scene;
use crate::harness::*;

#[test]
fn only_another_network_namespace_is_acted_on() {
    testbed::isolated!();
    for plugin in CABLED {
        let scene = Scene::of(plugin);
        let home = &scene.node.home;
        let path = |name: &str| home.join(name).to_str().unwrap().to_owned();
        fs::write(home.join("plain"), "").unwrap();
        fs::create_dir(home.join("directory")).unwrap();
        symlink("nowhere", home.join("dangling")).unwrap();
        testbed::sh(&format!("mkfifo {}", path("pipe")));
        let own = scene.node.namespace.path().to_str().unwrap().to_owned();
        symlink(&own, home.join("link-to-own")).unwrap();

        let same = "plugin's netns and netns from CNI_NETNS should not be the same";
        for (netns, code, cause) in [
            (own, 8, same.to_owned()),
            (path("link-to-own"), 8, same.to_owned()),
            ("/proc/self/ns/net".to_owned(), 8, same.to_owned()),
            (
                path("gone"),
                999,
                format!("failed to Statfs {:?}: no such file or directory", path("gone")),
            ),
            (
                path("dangling"),
                999,
                format!("failed to Statfs {:?}: no such file or directory", path("dangling")),
            ),
            (path("plain"), 999, format!("unknown FS magic on {:?}: 1021994", path("plain"))),
            (
                path("directory"),
                999,
                format!("unknown FS magic on {:?}: 1021994", path("directory")),
            ),
            (path("pipe"), 999, format!("unknown FS magic on {:?}: 1021994", path("pipe"))),
            (
                "/proc/self/status".to_owned(),
                999,
                "unknown FS magic on \"/proc/self/status\": 9fa0".to_owned(),
            ),
            ("/proc/self/ns/uts".to_owned(), 999, "it is a namespace of another kind".to_owned()),
        ] {
            let msg =
                if code == 8 { cause } else { format!("failed to open netns {netns:?}: {cause}") };
            let loopback = json!({ "cniVersion": "1.1.0", "name": "lo", "type": "loopback" });
            for config in
                [scene.config(json!({})), scene.node.bridged("1.1.0", json!({})), loopback]
            {
                let call = scene.call(&config).with("CNI_NETNS", &netns);
                let details = scene.refuses(&call, code, &msg);
                assert_eq!(
                    details.contains("CNI_NETNS must be the path"),
                    code == 999,
                    "{details}"
                );
            }
        }
    }
}

#[test]
fn the_node_s_own_network_can_be_meant() {
    testbed::isolated!();
    for plugin in CABLED {
        let scene = Scene::of(plugin);
        let own = scene.node.namespace.path().to_str().unwrap().to_owned();
        let config = scene.config(json!({}));
        let call = scene.call(&config).with("CNI_NETNS", &own).with("CNI_NETNS_OVERRIDE", "1");
        scene.node.run(&call).ok();
        assert_eq!(addresses(&scene.node.namespace, "eth0"), ["10.1.2.2/24"]);
        scene.node.run(&call.with("CNI_COMMAND", "DEL")).ok();
        scene.is_untouched();
        // Its loopback device is not switched off by mistake.
        let loopback = json!({ "cniVersion": "1.1.0", "name": "lo", "type": "loopback" });
        let del = scene.node.call("DEL", &scene.pod, &loopback).with("CNI_NETNS", &own);
        scene.refuses(&del, 8, "plugin's netns and netns from CNI_NETNS should not be the same");
    }
}
