//! What a command that is killed or interrupted leaves.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use testbed::{TempDir, isolated, sh};

use crate::{Agents, assert_nothing_left, command, finish, podwire, write_plugin};

#[test]
fn a_kill_at_any_time_is_repaired_by_down() {
    isolated!();
    for millis in moments() {
        kill_after(millis, "lab up --pods 3");
        let down = podwire("lab down");
        assert!([Some(0), Some(4)].contains(&down.code), "after {millis} ms: {down:?}");
        assert_nothing_left();
    }
}

#[test]
fn a_kill_at_any_time_is_repaired_by_up() {
    isolated!();
    for millis in moments() {
        kill_after(millis, "lab up --pods 3");
        // Where the kill came too late, the lab is up.
        let up = podwire("lab up --pods 3");
        assert!([Some(0), Some(1)].contains(&up.code), "after {millis} ms: {up:?}");
        podwire("lab status").expect(0);
        podwire("lab down").expect(0);
        assert_nothing_left();
    }
}

/// Nor does an agent outlive its lab.
#[test]
fn a_kill_of_a_cluster_is_repaired_by_down() {
    isolated!();
    let _agents = Agents;
    let name = format!("kill-{}", std::process::id());
    for step in 0..25 {
        let millis = f64::from(step) * 10.0;
        kill_after(millis, &format!("lab up {name} --nodes 2 --pods 1 --agents"));
        let down = podwire(&format!("lab down {name}"));
        assert!([Some(0), Some(4)].contains(&down.code), "after {millis} ms: {down:?}");
        assert_nothing_left();
        assert_eq!(processes_of(&name), [""; 0], "after {millis} ms");
    }
}

#[test]
fn a_cluster_that_fails_half_way_leaves_no_agent() {
    isolated!();
    let _agents = Agents;
    let name = format!("fail-{}", std::process::id());
    let plugins = testbed::directory();
    for (plugin, script) in [
        ("loopback", "#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\"}'\n"),
        ("bridge", "#!/bin/sh\necho '{\"code\":7,\"msg\":\"bridges are out\"}'; exit 1\n"),
        ("portmap", "#!/bin/sh\n"),
    ] {
        write_plugin(&plugins.path().join(plugin), script);
    }
    let plugins = plugins.path().display();
    let up = format!("lab up {name} --nodes 2 --agents --plugin-dir {plugins}");
    let failed = podwire(&up).expect(5);
    assert!(failed.stderr.contains("bridges are out"), "{}", failed.stderr);
    assert_nothing_left();
    assert_eq!(processes_of(&name), [""; 0]);
}

/// The programs that were started for a lab.
fn processes_of(lab: &str) -> Vec<String> {
    let mark = format!("PODWIRE_LAB={lab}\0");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        if environment.contains(&mark) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn a_kill_of_down_is_repaired_by_down() {
    isolated!();
    for millis in moments() {
        podwire("lab up --plain").expect(0);
        kill_after(millis / 4.0, "lab down");
        let down = podwire("lab down");
        assert!([Some(0), Some(4)].contains(&down.code), "after {millis} ms: {down:?}");
        assert_nothing_left();
    }
}

#[test]
fn an_interrupt_takes_everything_back() {
    isolated!();
    let plugins = slow_plugins();
    for (signal, code) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        let up = format!("lab up --plugin-dir {}", plugins.path().display());
        let child = command(&up).spawn().unwrap();
        wait_for("/run/netns/pod2");
        sh(&format!("kill -{signal} {}", child.id()));
        let run = finish(child).expect(code);
        assert!(run.stderr.contains("interrupted"), "{}", run.stderr);
        assert_nothing_left();
    }
}

/// Ctrl-C is for all that runs on the terminal, and a plugin that hangs is not waited for.
#[test]
fn an_interrupt_of_a_plugin_that_hangs_takes_everything_back() {
    isolated!();
    let plugins = slow_plugins();
    let hangs = "#!/bin/sh\n[ $CNI_COMMAND != ADD ] || { : >/run/hangs; sleep 1000; }\n";
    write_plugin(&plugins.path().join("bridge"), hangs);
    let up = format!("lab up --plugin-dir {}", plugins.path().display());
    let child = command(&up).process_group(0).spawn().unwrap();
    wait_for("/run/hangs");
    sh(&format!("kill -INT -{}", child.id()));
    let run = finish(child).expect(130);
    assert!(run.stderr.contains("could not be made: interrupted"), "{}", run.stderr);
    assert_nothing_left();
}

#[test]
fn nohup_keeps_its_promise() {
    isolated!();
    let plugins = slow_plugins();
    let up = format!("lab up --pods 1 --plugin-dir {}", plugins.path().display());
    let mut child = Command::new("nohup")
        .arg(env!("CARGO_BIN_EXE_podwire"))
        .args(up.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("/run/netns/pod1");
    sh(&format!("kill -HUP {}", child.id()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    podwire("lab down").expect(0);
    assert_nothing_left();
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    isolated!();
    let plugins = slow_plugins();
    let demo = format!("demo --plugin-dir {}", plugins.path().display());
    let child = command(&demo).spawn().unwrap();
    wait_for("/run/netns/pod2");
    sh(&format!("kill -INT {}", child.id()));
    finish(child).expect(130);
    assert_nothing_left();
}

#[test]
fn a_lab_in_the_making_is_busy() {
    isolated!();
    let plugins = slow_plugins();
    let up = format!("lab up --plugin-dir {}", plugins.path().display());
    let mut child = command(&up).spawn().unwrap();
    wait_for("/run/netns/pod2");
    assert!(podwire("lab ls").expect(0).stdout.contains("default  busy"));
    podwire("lab status").expect(3);
    kill(&mut child);
    assert!(podwire("lab ls").expect(0).stdout.contains("default  unfinished"));
    podwire("lab status").expect(1);
    podwire("lab down").expect(0);
}

/// Milliseconds from before the first step until after the last one, close together where much
/// happens.
fn moments() -> impl Iterator<Item = f64> {
    let early = (0..24).map(|step| f64::from(step) * 0.5);
    early.chain((0..20).map(|step| 12.0 + f64::from(step) * 5.0))
}

fn kill_after(millis: f64, arguments: &str) {
    let mut child = command(arguments).spawn().expect("start podwire");
    sleep(Duration::from_secs_f64(millis / 1000.0));
    kill(&mut child);
}

fn kill(child: &mut Child) {
    child.kill().expect("kill podwire");
    child.wait().expect("wait for podwire");
}

/// Plugins that take their time.
fn slow_plugins() -> TempDir {
    let plugins = testbed::directory();
    for name in ["loopback", "bridge", "portmap"] {
        let script = "#!/bin/sh\nsleep 0.5\necho '{\"cniVersion\":\"1.0.0\"}'\n";
        write_plugin(&plugins.path().join(name), script);
    }
    plugins
}

fn wait_for(path: &str) {
    testbed::look::eventually(path, || Path::new(path).exists().then_some(()));
}
