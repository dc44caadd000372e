//! The directories of reservations and of their index in the hands of others.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_remount};
use serde_json::{Value, json};

use super::Scene;
use crate::harness::*;

/// Nobody whom anybody trusts.
const STRANGER: Option<u32> = Some(4711);

/// The IPAM plugin alone.
fn host_local(scene: &Scene, keys: Value) -> Value {
    scene.config(merged(json!({ "type": "host-local" }), keys))
}

/// ADD, CHECK and DEL succeed, and each says once on standard error that there is no index.
#[track_caller]
fn works_without(scene: &Scene, index: &Path, why: &str) {
    let keys = json!({ "ipam": { "indexDir": index.to_str().unwrap() } });
    let config = host_local(scene, keys);
    for command in ["ADD", "CHECK", "DEL"] {
        let answer = scene.node.run(&scene.node.call(command, &scene.pod, &config));
        let complaint = format!("podwire: reads all reservations, for want of an index: {why}\n");
        assert_eq!(answer.stderr, complaint, "{command}");
        answer.ok();
    }
    assert!(scene.node.reservations().is_empty());
}

#[test]
fn an_index_that_cannot_be_kept_costs_nothing_but_time() {
    testbed::isolated!();
    let scene = Scene::new();
    let home = &scene.node.home;
    let (index, text) = (home.join("index"), home.join("index").display().to_string());

    fs::write(&index, "").unwrap();
    works_without(&scene, &index, &format!("open {text}: not a directory"));
    fs::remove_file(&index).unwrap();
    symlink("/etc", &index).unwrap();
    works_without(&scene, &index, &format!("open {text}: not a directory"));
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    fs::set_permissions(&index, Permissions::from_mode(0o1777)).unwrap();
    works_without(&scene, &index, &format!("{text} can be written by others"));
    assert_eq!(fs::read_dir(&index).unwrap().count(), 0);

    let tmpfs = |options: &std::ffi::CStr| {
        mount("tmpfs", &index, "tmpfs", MountFlags::empty(), Some(options)).unwrap();
    };
    tmpfs(c"mode=0700,nr_inodes=1");
    let config = host_local(&scene, json!({ "ipam": { "indexDir": text } }));
    let answer = scene.node.run(&scene.node.call("ADD", &scene.pod, &config));
    assert!(answer.stderr.contains(&format!("open {text}/pods-")), "{}", answer.stderr);
    assert!(answer.stderr.ends_with(": no space left on device\n"), "{}", answer.stderr);
    answer.ok();
    // One that has become read-only is used as long as nothing changes.
    mount_remount(&index, MountFlags::empty(), "nr_inodes=2").unwrap();
    scene.node.run(&scene.node.call("CHECK", &scene.pod, &config)).ok();
    mount_remount(&index, MountFlags::RDONLY, "").unwrap();
    let answer = scene.node.run(&scene.node.call("CHECK", &scene.pod, &config));
    assert_eq!((answer.stderr.as_str(), answer.is_ok()), ("", true));
    let answer = scene.node.run(&scene.node.call("DEL", &scene.pod, &config));
    assert!(answer.stderr.contains(&format!("remove {text}/pods-")), "{}", answer.stderr);
    assert!(answer.stderr.ends_with(": read-only file system\n"), "{}", answer.stderr);
    answer.ok();
    scene.is_untouched();
    testbed::sh(&format!("umount -l {text}"));
}

#[test]
#[ignore = "needs root"]
fn what_somebody_else_has_planted_is_refused() {
    testbed::isolated_as_root!();
    let scene = Scene::new();
    let home = &scene.node.home;
    let (data, target) = (home.join("shared"), home.join("target"));
    for directory in [&data, &target] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(target.join("10.1.2.9"), "pod\r\neth0").unwrap();
    // Everybody may write here, and so somebody has put a link where the network's directory is
    // to be.
    fs::set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
    let network = data.join("pods");
    symlink(&target, &network).unwrap();
    lchown(&network, STRANGER, STRANGER).unwrap();
    let none_valid = json!({ "cni.dev/valid-attachments": [], "ipam": { "dataDir": data } });
    let config = host_local(&scene, none_valid);
    let before = files(home);
    for command in ["ADD", "CHECK", "DEL", "GC", "STATUS"] {
        let refusal = scene.node.run(&scene.node.call(command, &scene.pod, &config)).refused();
        let text = network.display();
        assert_eq!(refusal.msg, format!("{text} is a symbolic link of somebody else"), "{command}");
        assert!(refusal.details.contains("look who put it there"), "{refusal:?}");
        assert_eq!(files(home), before);
    }
    // Root's own is followed.
    lchown(&network, Some(0), Some(0)).unwrap();
    scene.node.run(&scene.node.call("DEL", &scene.pod, &config)).ok();
    assert!(!target.join("10.1.2.9").exists());

    // An index that somebody else could have written is not believed.
    let index = home.join("index");
    fs::create_dir(&index).unwrap();
    chown(&index, STRANGER, STRANGER).unwrap();
    works_without(&scene, &index, &format!("{} belongs to somebody else", index.display()));
}
