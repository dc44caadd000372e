//! Plugins that hang, die, print rubbish or cannot be started: one clear error, nothing left.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cni::exec::{Failure, Patience};
use cni::runtime::{Error, Runtime};

use super::{PATIENCE, World, network, pod};

/// Adds with a plugin that does this, behind one that is well, and gives the error without the part
/// that names the plugin. The first one must have been undone.
fn add(script: &str, limit: Duration) -> (Failure, String) {
    let world = World::new();
    world
        .adder("first", "10.0.0.2/24")
        .plugin("bad", &format!("[ $CNI_COMMAND != ADD ] || {{ {script}; }}"));
    let patience = Patience { limit, ..PATIENCE };
    let runtime = Runtime { patience, ..world.runtime() };
    let error = runtime.add(&network("1.0.0", &["first", "bad"]), &pod("one")).unwrap_err();
    assert_eq!(world.calls(), ["ADD first", "ADD bad", "DEL bad", "DEL first"]);
    assert_eq!(world.cached(), [""; 0]);
    let Error::Undone { cause, left } = error else { panic!("{error:?}") };
    assert_eq!(left.len(), 0, "{left:?}");
    let Error::Plugin { failure, ref network, .. } = *cause else { panic!("{cause:?}") };
    assert_eq!(network, "net");
    let text = failure.to_string().replace(&world.path("").display().to_string(), "");
    (*failure, text)
}

/// Ample for a plugin that is well.
const SHORT: Duration = Duration::from_secs(3);

#[test]
fn each_way_to_fail_has_its_text() {
    let cases = [
        ("exit 0", "failed to unmarshal raw result: unexpected end of JSON input result "),
        (
            "echo rubbish",
            "failed to unmarshal raw result: expected value at line 1 column 1 result rubbish\n",
        ),
        (
            "echo rubbish; exit 2",
            r#"netplugin failed but error parsing its diagnostic message "rubbish\n": expected value at line 1 column 1; exit status 2"#,
        ),
        ("exit 2", "netplugin failed with no error message: exit status 2"),
        ("kill -SEGV $$", "netplugin failed with no error message: signal: 11 (SIGSEGV)"),
        ("kill -9 $$", "netplugin failed with no error message: signal: 9 (SIGKILL)"),
        (
            r#"echo '["10.0.0.2"]'"#,
            "failed to unmarshal raw result: invalid value [\"10.0.0.2\"]: expected an object \
             result [\"10.0.0.2\"]\n",
        ),
        (r#"echo '{"ips":7}'"#, "ips: invalid value 7: expected a list"),
        (r#"echo '{"cniVersion":"9.0.0"}'"#, r#"unsupported CNI result version "9.0.0""#),
    ];
    for (script, want) in cases {
        let (_, text) = add(&format!("ulimit -c 0; {script}"), PATIENCE.limit);
        assert_eq!(text, want, "{script}");
    }
}

#[test]
fn a_plugin_that_hangs_is_killed_and_undone() {
    for script in ["exec sleep 1000", "sleep 1000 & exit 0"] {
        let (failure, text) = add(script, SHORT);
        assert!(matches!(failure, Failure::TooSlow { .. }));
        assert_eq!(
            text, "netplugin failed with no error message: bin/bad was killed after 3s",
            "{script}"
        );
    }
}

#[test]
fn a_plugin_that_prints_without_end_is_killed_and_undone() {
    let (failure, text) = add("exec cat /dev/zero", PATIENCE.limit);
    assert!(matches!(failure, Failure::TooMuch { .. }));
    assert_eq!(text, "netplugin failed: bin/bad was killed: it printed more than 16 MiB");
}

#[test]
fn a_plugin_that_cannot_be_started_did_nothing() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24").plugin("bad", "exit 0");
    let file = world.path("bin/bad");
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first", "bad"]));
    let failure = |want: &str| {
        let error = runtime.add(&net, &pod("one")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "plugin type=\"bad\" failed (add): netplugin failed with no error message: \
                 fork/exec {}: {want}",
                file.display()
            )
        );
        let Error::Undone { left, .. } = error else { panic!("{error:?}") };
        assert_eq!(left.len(), 0, "{left:?}");
        assert_eq!(world.calls(), ["ADD first", "DEL first"]);
    };
    let writer = File::options().append(true).open(&file).unwrap();
    failure("Text file busy (os error 26)");
    drop(writer);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    failure("Permission denied (os error 13)");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&file, "\u{7f}ELF").unwrap();
    failure("Exec format error (os error 8)");
}

/// Taking back stops nowhere, but each plugin has its time and no more.
#[test]
fn a_plugin_that_always_hangs_keeps_no_other_from_being_undone() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24").plugin("bad", "sleep 1000");
    let patience = Patience { limit: SHORT, ..PATIENCE };
    let runtime = Runtime { patience, ..world.runtime() };
    let error = runtime.add(&network("1.0.0", &["first", "bad"]), &pod("one")).unwrap_err();
    let Error::Undone { left, .. } = error else { panic!("{error:?}") };
    assert_eq!(left.len(), 1);
    assert_eq!(world.calls(), ["ADD first", "ADD bad", "DEL bad", "DEL first"]);
}

#[test]
fn delete_stops_at_a_plugin_that_fails_and_can_be_tried_again() {
    let world = World::new();
    world.adder("first", "10.0.0.2/24").adder("second", "10.0.0.3/24");
    let (runtime, net) = (world.runtime(), network("1.0.0", &["first", "second"]));
    runtime.add(&net, &pod("one")).unwrap();
    world.calls();
    world.plugin("second", "echo rubbish; exit 1");
    let error = runtime.del(&net, &pod("one")).unwrap_err().to_string();
    assert!(error.starts_with("plugin type=\"second\" failed (delete): "), "{error}");
    assert_eq!(world.calls(), ["DEL second"]);
    assert_eq!(world.cached(), ["net-one-eth0"]);
    world.adder("second", "10.0.0.3/24");
    runtime.del(&net, &pod("one")).unwrap();
    assert_eq!(world.calls(), ["DEL second", "DEL first"]);
    assert_eq!(world.cached(), [""; 0]);
}
