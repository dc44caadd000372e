use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::Code;

/// A plugin that is a shell script.
fn plugin(script: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plugin");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    (dir, file)
}

fn run_script(script: &str, stdin: &[u8], limit: Option<Duration>) -> Result<Vec<u8>, Failure> {
    let (_dir, file) = plugin(script);
    let environment = Environment {
        command: Some("ADD".to_owned()),
        ifname: Some("eth0".to_owned()),
        ..Environment::default()
    };
    run(&file, &environment, stdin, limit.map(|limit| Patience { limit, interrupted: &|| false }))
}

#[test]
fn the_environment_is_inherited_except_for_cni() {
    let script =
        r#"printf '%s|%s|%s|%s' "$CNI_COMMAND" "$CNI_IFNAME" "${CNI_NETNS-unset}" "${PATH:+path}""#;
    assert_eq!(run_script(script, b"", None).unwrap(), b"ADD|eth0|unset|path");
}

#[test]
fn large_streams_do_not_block_each_other() {
    let stdin = vec![b'x'; 1 << 20];
    let output = run_script("head -c 300000 /dev/zero; cat", &stdin, None).unwrap();
    assert_eq!(output.len(), 300_000 + stdin.len());
    assert_eq!(run_script("exit 0", &stdin, None).unwrap(), b"");
}

#[test]
fn failures_are_told_as_the_reference_does() {
    let cases = [
        (r#"echo '{"code":142,"msg":"own","details":"why"}'; exit 3"#, 142, "own; why"),
        (r#"echo '{"Code":11}'; exit 3"#, 11, ""),
        ("echo text >&2; exit 3", 0, r#"netplugin failed: "text\n": exit status 3"#),
        ("exit 3", 0, "netplugin failed with no error message: exit status 3"),
        ("kill -9 $$", 0, "netplugin failed with no error message: signal: 9 (SIGKILL)"),
        (
            "printf '{'; exit 3",
            0,
            r#"netplugin failed but error parsing its diagnostic message "{": unexpected end of JSON input; exit status 3"#,
        ),
    ];
    for (script, code, text) in cases {
        let failure = run_script(script, b"", Some(Duration::from_secs(60))).unwrap_err();
        assert_eq!(failure.to_string(), text, "{script}");
        let error = Error::from(failure);
        assert_eq!((error.code, error.to_string().as_str()), (Code::from(code), text), "{script}");
    }
}

#[test]
fn a_missing_file_is_an_error() {
    let program = Path::new("/nonexistent/plugin");
    let error = run(program, &Environment::default(), b"", None).unwrap_err();
    let want = "netplugin failed with no error message: fork/exec /nonexistent/plugin: No such file or directory (os error 2)";
    assert_eq!(error.to_string(), want);
}

#[test]
fn a_file_that_is_being_written_is_busy() {
    let (_dir, file) = plugin("exit 0");
    let writer = File::options().append(true).open(&file).unwrap();
    let error = run(&file, &Environment::default(), b"", None).unwrap_err();
    assert!(error.to_string().ends_with("Text file busy (os error 26)"), "{error}");
    drop(writer);
    assert_eq!(run(&file, &Environment::default(), b"", None).unwrap(), b"");
}

#[test]
fn the_limit_holds_whatever_the_plugin_does() {
    // The second one holds its pipes by another process, and the last one closes them.
    for script in ["exec sleep 1000", "sleep 1000", "sleep 1000 &", "exec sleep 1000 <&- >&- 2>&-"]
    {
        let error = run_script(script, b"", Some(Duration::from_millis(100))).unwrap_err();
        assert!(error.to_string().ends_with("plugin was killed after 100ms"), "{error}");
    }
}

/// What a plugin has started would hold its pipes, and go on with what it does.
#[test]
fn a_plugin_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let holds = dir.path().join("holds");
    let script = format!("exec 3>{}; : >{}; sleep 1000 & wait", fifo.display(), holds.display());
    let (_dir, file) = plugin(&script);
    let reader = thread::spawn(move || fs::read(&fifo).unwrap());
    let patience = Patience { limit: Duration::from_secs(1000), interrupted: &|| holds.exists() };
    run(&file, &Environment::default(), b"", Some(patience)).unwrap_err();
    // It comes to its end when nobody is left who could write.
    assert_eq!(reader.join().unwrap(), b"");
}

#[test]
fn whoever_asks_to_stop_is_heard_at_once() {
    let (_dir, file) = plugin("exec sleep 1000");
    let asked = Cell::new(0);
    let interrupted = || asked.replace(asked.get() + 1) == 3;
    let patience = Patience { limit: Duration::from_secs(1000), interrupted: &interrupted };
    let failure = run(&file, &Environment::default(), b"", Some(patience)).unwrap_err();
    assert!(matches!(failure, Failure::Interrupted { .. }), "{failure}");
    assert_eq!(asked.get(), 4);
}

#[test]
fn output_without_end_is_not_kept() {
    let failure = run_script("exec cat /dev/zero", b"", None).unwrap_err();
    assert!(matches!(failure, Failure::TooMuch { .. }), "{failure}");
    assert!(failure.to_string().ends_with("plugin was killed: it printed more than 16 MiB"));
    // Somebody may read the messages of a plugin, but nobody has to.
    let chatty = format!("head -c {} /dev/zero >&2; echo answer", LONGEST + (1 << 20));
    assert_eq!(run_script(&chatty, b"", None).unwrap(), b"answer\n");
    let failure = run_script("head -c 100000 /dev/zero; exit 1", b"", None).unwrap_err();
    assert!(failure.to_string().len() < 10_000);
}

#[test]
fn a_result_without_version_has_the_configuration_s() {
    let (_dir, file) = plugin(r#"echo '{"cniVersion":"","ips":[{"address":"10.0.0.2/24"}]}'"#);
    let added = |config: &str| add(&file, &Environment::default(), config.as_bytes());
    assert_eq!(added(r#"{"cniVersion":"1.0.0"}"#).unwrap().ips.len(), 1);
    assert_eq!(added("{}").unwrap(), CniResult::default());
    assert_eq!(
        added(r#"{"cniVersion":"9.9.9"}"#).unwrap_err().msg,
        r#"unsupported CNI result version "9.9.9""#
    );
    let (_dir, file) = plugin("echo null");
    assert_eq!(add(&file, &Environment::default(), b"{}"), Ok(CniResult::default()));
}

#[test]
fn versions_of_old_plugins_are_understood() {
    let cases = [
        (
            r#"echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","9.9.9"]}'"#,
            Ok(vec!["1.0.0", "9.9.9"]),
        ),
        (r#"echo '{"cniVersion":"0.2.0"}'"#, Ok(vec!["0.1.0", "0.2.0"])),
        (r#"echo '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1"#, Ok(vec!["0.1.0"])),
        ("echo '{}'", Err("decoding version info: missing field cniVersion")),
        (
            r#"echo '{"cniVersion":"1.0.0"}'"#,
            Err("decoding version info: missing field supportedVersions"),
        ),
        ("echo x", Err("decoding version info: expected value at line 1 column 1")),
    ];
    for (script, want) in cases {
        let (_dir, file) = plugin(script);
        let want = want.map(|versions| versions.into_iter().map(str::to_owned).collect());
        assert_eq!(
            version(&file, None).map_err(|error| error.to_string()),
            want.map_err(str::to_owned),
            "{script}"
        );
    }
}

#[test]
fn a_call_sets_its_command() {
    let (_dir, file) = plugin(r#"test "$CNI_COMMAND" = DEL"#);
    let environment = Environment::default().with_command(Command::Add);
    assert_eq!(call(&file, Command::Del, &environment, b""), Ok(()));
    assert!(call(&file, Command::Gc, &environment, b"").is_err());
}
