//! Places where reservations cannot be written.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_remount};
use serde_json::json;

use super::Scene;
use crate::harness::*;

/// The place that is in the way, what is there, and what is said about it.
#[test]
fn a_place_that_is_none_is_named_with_a_remedy() {
    testbed::isolated!();
    let scene = Scene::new();
    let home = scene.node.home.clone();
    let put = |name: &str| {
        let path = home.join(name);
        (path.clone(), path.to_str().unwrap().to_owned())
    };
    let (plain, plain_text) = put("plain");
    fs::write(plain, "").unwrap();
    let (dangling, dangling_text) = put("dangling");
    symlink("/nowhere/at/all", &dangling).unwrap();
    let (network, network_text) = put("network-is-a-file");
    fs::create_dir(&network).unwrap();
    fs::write(network.join("pods"), "").unwrap();
    let (lock, lock_text) = put("lock-is-a-link");
    fs::create_dir_all(lock.join("pods")).unwrap();
    symlink("/etc/passwd", lock.join("pods/lock")).unwrap();
    for (data, msg, remedy) in [
        (
            &plain_text,
            format!("mkdir {plain_text}: not a directory"),
            "set ipam.dataDir to another directory",
        ),
        (
            &dangling_text,
            format!("mkdir {dangling_text}: file exists"),
            "set ipam.dataDir to another directory",
        ),
        (
            &network_text,
            format!("mkdir {network_text}/pods: not a directory"),
            "set ipam.dataDir to another directory",
        ),
        (
            &lock_text,
            format!("open {lock_text}/pods/lock: too many levels of symbolic links"),
            "remove it",
        ),
    ] {
        let config = scene.config(json!({ "ipam": { "dataDir": data } }));
        let before = files(&home);
        let details = scene.refuses(&scene.call(&config), 999, &msg);
        assert!(details.contains(remedy), "{details}");
        assert_eq!(files(&home), before);
    }
}

#[test]
fn a_link_to_the_directory_is_followed() {
    testbed::isolated!();
    let scene = Scene::new();
    let (real, link) = (scene.node.home.join("real"), scene.node.home.join("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let config = scene.config(json!({ "ipam": { "dataDir": link.to_str().unwrap() } }));
    scene.node.add(&scene.pod, &config);
    assert_eq!(fs::read_to_string(real.join("pods/10.1.2.2")).unwrap(), "pod\r\neth0");
    scene.node.del(&scene.pod, &config);
    assert!(!real.join("pods/10.1.2.2").exists());
}

fn tmpfs(at: &Path, options: &str) {
    fs::create_dir_all(at).unwrap();
    let options = std::ffi::CString::new(options).unwrap();
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(options.as_c_str())).unwrap();
}

#[test]
fn a_read_only_directory_is_named() {
    testbed::isolated!();
    let scene = Scene::new();
    let data = scene.node.data();
    tmpfs(&data, "size=1m");
    mount_remount(&data, MountFlags::RDONLY, "").unwrap();
    let text = data.to_str().unwrap();
    let call = scene.call(&scene.config(json!({})));
    let details = scene.refuses(&call, 999, &format!("mkdir {text}/pods: read-only file system"));
    assert!(details.contains("remount it read-write"), "{details}");
}

#[test]
fn a_full_disk_takes_nothing_and_leaves_nothing() {
    testbed::isolated!();
    // Five inodes are used: the directory, the network's, the lock, the cursor, and the
    // reservation itself.
    for inodes in 1..=4 {
        let scene = Scene::new();
        let data = scene.node.data();
        tmpfs(&data, &format!("nr_inodes={inodes}"));
        let call = scene.call(&scene.config(json!({ "ipMasq": true })));
        let refusal = scene.node.run(&call).refused();
        assert_eq!(refusal.code, 999);
        assert!(refusal.msg.ends_with(": no space left on device"), "{inodes}: {refusal:?}");
        assert!(refusal.details.contains("the file system is full"), "{refusal:?}");
        scene.is_untouched();
        if inodes < 4 {
            testbed::sh(&format!("umount {}", data.display()));
            continue;
        }
        // With room again, all is well.
        mount_remount(&data, MountFlags::empty(), "nr_inodes=5").unwrap();
        scene.node.run(&call).ok();
        testbed::sh(&format!("umount -l {}", data.display()));
    }
}

#[test]
fn a_full_disk_keeps_no_pod_from_going() {
    testbed::isolated!();
    let scene = Scene::new();
    let data = scene.node.data();
    tmpfs(&data, "size=32k");
    let config = scene.config(json!({}));
    scene.node.add(&scene.pod, &config);
    testbed::sh(&format!("cat /dev/zero > {}/fill 2>/dev/null || true", data.display()));
    let other = scene.node.pod("other");
    let refused = scene.node.run(&scene.node.call("ADD", &other, &config)).refused();
    assert!(refused.msg.ends_with(": no space left on device"), "{refused:?}");
    scene.node.del(&scene.pod, &config);
    scene.is_untouched();
    testbed::sh(&format!("umount -l {}", data.display()));
}
