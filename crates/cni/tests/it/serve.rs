use std::io::{self, Read};

use cni::{CniResult, Code, Environment, Error, IsOwnNetns, Streams, Version, serve};

use super::{Fake, environment, start};

const CONFIG: &[u8] = br#"{"cniVersion":"1.1.0","name":"net","type":"fake"}"#;

/// A standard input that must not be read.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("banana"))
    }
}

fn start_broken(environment: &Environment) -> (String, u8) {
    let mut stdout = Vec::new();
    let streams = Streams { stdin: &mut Broken, stdout: &mut stdout, stderr: &mut io::sink() };
    let code = serve(&Fake::default(), environment, &|_| Ok(false), streams);
    (String::from_utf8(stdout).unwrap(), code)
}

#[test]
fn without_a_command_it_says_what_it_is() {
    for command in [None, Some(String::new())] {
        let environment = Environment { command, ..Environment::default() };
        let (stdout, stderr, code) = start(&Fake::default(), &environment, b"");
        assert_eq!((stdout.as_str(), code), ("", 0));
        assert_eq!(
            stderr,
            "CNI fake plugin v1\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
        );
    }
}

#[test]
fn version_needs_nothing_else() {
    let environment = Environment { command: Some("VERSION".into()), ..Environment::default() };
    let (stdout, code) = start_broken(&environment);
    assert_eq!(code, 0);
    assert_eq!(
        stdout,
        "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"
    );
}

#[test]
fn the_environment_is_checked_before_stdin() {
    let (stdout, code) = start_broken(&Environment { ifname: None, ..environment("ADD") });
    assert_eq!(code, 1);
    let want =
        "{\n    \"code\": 4,\n    \"msg\": \"required env variables [CNI_IFNAME] missing\"\n}";
    assert_eq!(stdout, want);
    let (stdout, code) = start_broken(&environment("ADD"));
    assert_eq!(code, 1);
    let want = "{\n    \"code\": 5,\n    \"msg\": \"error reading from stdin: banana\"\n}";
    assert_eq!(stdout, want);
}

#[test]
fn an_answer_is_a_result_or_nothing() {
    let (stdout, stderr, code) = start(&Fake::default(), &environment("ADD"), CONFIG);
    assert_eq!(stdout, "{\n    \"cniVersion\": \"1.1.0\"\n}");
    assert_eq!((stderr.as_str(), code), ("", 0));
    for command in ["CHECK", "DEL", "GC", "STATUS"] {
        let answer = start(&Fake::default(), &environment(command), CONFIG);
        assert_eq!(answer, (String::new(), String::new(), 0), "{command}");
    }
}

#[test]
fn a_result_that_the_version_cannot_express_is_an_error() {
    let config = br#"{"cniVersion":"0.2.0","name":"net"}"#;
    let (stdout, _, code) = start(&Fake::default(), &environment("ADD"), config);
    assert_eq!(code, 1);
    assert_eq!(
        stdout,
        "{\n    \"code\": 999,\n    \"msg\": \"cannot convert: no valid IP addresses\"\n}"
    );
}

#[test]
fn an_error_of_the_plugin_passes_unchanged() {
    let error = Error::new(Code::Other(142), "own").with_details("why");
    let plugin = Fake { outcome: Err(error.clone()), ..Fake::default() };
    for command in ["ADD", "CHECK", "DEL"] {
        let answer = start(&plugin, &environment(command), CONFIG);
        assert_eq!(answer, (error.to_json(), String::new(), 1), "{command}");
    }
}

#[test]
fn the_plugin_s_own_netns_is_refused_before_it_acts() {
    let plugin = Fake { outcome: Err(Error::internal("acted")), supported: Version::ALL.to_vec() };
    let ours: &IsOwnNetns<'_> = &|_| Ok(true);
    let gone: &IsOwnNetns<'_> = &|path| match path.to_str() {
        Some("/proc/thread-self/ns/net") => Ok(true),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let blind: &IsOwnNetns<'_> = &|_| Err(io::ErrorKind::NotFound.into());
    let same = "plugin's netns and netns from CNI_NETNS should not be the same";
    let cases = [
        ("ADD", ours, Some("/n"), None, same),
        ("CHECK", ours, Some("/n"), None, same),
        // DEL cleans up what needs no netns, and says what fails of that.
        ("DEL", ours, Some("/n"), None, "acted"),
        ("DEL", ours, None, None, "acted"),
        ("ADD", ours, Some("/n"), Some("tRuE"), "acted"),
        ("ADD", ours, Some("/n"), Some("1"), "acted"),
        ("ADD", ours, Some("/n"), Some("yes"), same),
        ("DEL", gone, Some("/n"), None, "acted"),
        ("CHECK", blind, Some("/n"), None, "get plugin's netns failed"),
    ];
    for (command, is_own, netns, netns_override, want) in cases {
        let environment = Environment {
            netns: netns.map(str::to_owned),
            netns_override: netns_override.map(str::to_owned),
            ..environment(command)
        };
        let mut stdout = Vec::new();
        let streams =
            Streams { stdin: &mut &*CONFIG, stdout: &mut stdout, stderr: &mut io::sink() };
        assert_eq!(serve(&plugin, &environment, is_own, streams), 1);
        let error: Error = serde_json::from_slice(&stdout).unwrap();
        let code = if want == "acted" { Code::Internal } else { Code::InvalidNetns };
        assert_eq!(error, Error::new(code, want), "{command} {netns:?} {netns_override:?}");
    }
    let plugin = Fake::default();
    let environment = Environment { netns: Some("/n".to_owned()), ..environment("DEL") };
    let mut stdout = Vec::new();
    let streams = Streams { stdin: &mut &*CONFIG, stdout: &mut stdout, stderr: &mut io::sink() };
    assert_eq!(serve(&plugin, &environment, ours, streams), 1);
    let error: Error = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(error, Error::new(Code::InvalidNetns, same));
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let streams = Streams { stdin: &mut &*CONFIG, stdout: &mut Full, stderr: &mut io::sink() };
    let plugin = Fake { outcome: Ok(CniResult::default()), ..Fake::default() };
    assert_eq!(serve(&plugin, &environment("ADD"), &|_| Ok(false), streams), 1);
}
