use cni::{
    Attachment, Code, Command, Environment, Error, Request, ValidAttachments, Version, path,
};
use serde::Deserialize;

use super::environment;

fn parse(environment: &Environment, stdin: &str) -> Result<Request, Error> {
    Request::parse(environment, stdin.as_bytes().to_vec(), &Version::ALL)
}

fn add(config: &str) -> Request {
    parse(&environment("ADD"), config).unwrap()
}

fn error(code: u32, msg: &str, details: &str) -> Error {
    Error::new(Code::from(code), msg).with_details(details)
}

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"net"}"#;

#[test]
fn a_request_holds_everything() {
    let config = r#"{"cniVersion":"1.0.0","Name":"net","type":"bridge","ipam":{"type":"host-local","ranges":[]},
        "dns":{"domain":"x"},"runtimeConfig":{"mac":"m"},"args":{"cni":{}},"prevResult":null,"other":1}"#;
    let environment = Environment { args: Some("A=1".into()), ..environment("ADD") };
    let request = parse(&environment, config).unwrap();
    assert_eq!(request.command, Command::Add);
    assert_eq!(request.container_id, "one");
    assert_eq!(request.netns().unwrap().to_str(), Some("/run/netns/one"));
    assert_eq!((request.ifname.as_str(), request.args.as_str()), ("eth0", "A=1"));
    assert_eq!(request.path, path::split("/opt/cni/bin:/usr/lib/cni"));
    assert!(!request.netns_override);
    assert_eq!(request.stdin, config.as_bytes());
    assert_eq!(request.version, Version::V1_0_0);
    assert_eq!(request.environment(), &environment);
    let network = &request.network;
    assert_eq!((network.name.as_str(), network.plugin_type.as_str()), ("net", "bridge"));
    assert_eq!(network.ipam.plugin_type, "host-local");
    assert_eq!(network.dns.domain, "x");
    assert_eq!(network.runtime_config, Some(serde_json::json!({"mac": "m"})));
    assert_eq!(network.args, Some(serde_json::json!({"cni": {}})));
    assert_eq!(network.prev_result, None);
    let del = request.with_command(Command::Del);
    assert_eq!(del.command, Command::Del);
    assert_eq!(del.environment().command.as_deref(), Some("DEL"));
}

#[test]
fn environments_are_refused_as_the_reference_does() {
    let none = || Environment::default();
    let with = |change: fn(&mut Environment)| {
        let mut environment = environment("ADD");
        change(&mut environment);
        environment
    };
    let named = |command: &str| Environment { command: Some(command.into()), ..none() };
    let missing = |names: &str| error(4, &format!("required env variables [{names}] missing"), "");
    let cases = [
        (none(), missing("CNI_COMMAND")),
        (named("ADD"), missing("CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH")),
        (named("CHECK"), missing("CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH")),
        (named("DEL"), missing("CNI_CONTAINERID,CNI_IFNAME,CNI_PATH")),
        (named("GC"), missing("CNI_PATH")),
        (named("STATUS"), missing("CNI_PATH")),
        (named("NOPE"), error(4, "unknown CNI_COMMAND: NOPE", "")),
        (named("add"), error(4, "unknown CNI_COMMAND: add", "")),
        (with(|e| e.netns = Some(String::new())), missing("CNI_NETNS")),
        (
            with(|e| {
                e.container_id = Some("..".into());
                e.path = None;
            }),
            error(4, "invalid characters in containerID", ".."),
        ),
        (
            with(|e| e.container_id = Some("a/b".into())),
            error(4, "invalid characters in containerID", "a/b"),
        ),
        (
            with(|e| e.container_id = Some("é".into())),
            error(4, "invalid characters in containerID", "é"),
        ),
        (
            with(|e| e.ifname = Some("a234567890123456".into())),
            error(
                4,
                "interface name is too long",
                "interface name should be less than 16 characters",
            ),
        ),
        (with(|e| e.ifname = Some(".".into())), error(4, "interface name is . or ..", "")),
        (with(|e| e.ifname = Some("..".into())), error(4, "interface name is . or ..", "")),
    ];
    for (environment, want) in cases {
        assert_eq!(parse(&environment, CONFIG).unwrap_err(), want);
    }
    for ifname in ["a/b", "a:b", "a b", "a\tb", "a\u{2003}b"] {
        let environment = Environment { ifname: Some(ifname.into()), ..environment("ADD") };
        let want = error(4, "interface name contains / or : or whitespace characters", "");
        assert_eq!(parse(&environment, CONFIG).unwrap_err(), want);
    }
}

#[test]
fn what_a_command_does_not_require_is_not_checked() {
    let odd = Environment {
        container_id: Some("..".into()),
        ifname: Some("a/b".into()),
        netns: None,
        ..environment("GC")
    };
    assert_eq!(parse(&odd, CONFIG).unwrap().command, Command::Gc);
    let del = Environment { netns: None, ..environment("DEL") };
    let request = parse(&del, CONFIG).unwrap();
    assert_eq!(request.netns, None);
    assert_eq!(
        request.netns().unwrap_err(),
        error(4, "required env variables [CNI_NETNS] missing", "")
    );
}

#[test]
fn configurations_are_refused_as_the_reference_does() {
    let all = r#"["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]"#;
    let cases = [
        ("ADD", "", error(6, "error unmarshall network config: unexpected end of JSON input", "")),
        ("NOPE", "", error(6, "error unmarshall network config: unexpected end of JSON input", "")),
        ("ADD", "null", error(7, "missing network name", "")),
        ("NOPE", "{}", error(7, "missing network name", "")),
        ("ADD", r#"{"name":"a b"}"#, error(7, "invalid characters found in network name", "a b")),
        (
            "ADD",
            r#"{"name":1}"#,
            error(
                6,
                "error unmarshall network config: name: invalid value 1: expected a string",
                "",
            ),
        ),
        (
            "ADD",
            r#"{"name":"a","cniVersion":1}"#,
            error(
                6,
                "decoding version from network config: cniVersion: invalid value 1: expected a string",
                "",
            ),
        ),
        (
            "ADD",
            r#"{"name":"a","cniVersion":"1.0"}"#,
            error(
                1,
                "incompatible CNI versions",
                &format!(r#"config is "1.0", plugin supports {all}"#),
            ),
        ),
        (
            "CHECK",
            r#"{"name":"a","cniVersion":"x"}"#,
            error(
                6,
                r#"failed to convert major version part "x": strconv.Atoi: parsing "x": invalid syntax"#,
                "",
            ),
        ),
        ("CHECK", r#"{"name":"a"}"#, error(1, "config version does not allow CHECK", "")),
        (
            "CHECK",
            r#"{"name":"a","cniVersion":"0.3.1"}"#,
            error(1, "config version does not allow CHECK", ""),
        ),
        (
            "CHECK",
            r#"{"name":"a","cniVersion":"1.2.0"}"#,
            error(1, "plugin version does not allow CHECK", ""),
        ),
        (
            "CHECK",
            r#"{"name":"a","cniVersion":"0.5.0"}"#,
            error(
                1,
                "incompatible CNI versions",
                &format!(r#"config is "0.5.0", plugin supports {all}"#),
            ),
        ),
        (
            "GC",
            r#"{"name":"a","cniVersion":"1.0.0"}"#,
            error(1, "config version does not allow GC", ""),
        ),
        (
            "STATUS",
            r#"{"name":"a","cniVersion":"1.0.0"}"#,
            error(1, "config version does not allow STATUS", ""),
        ),
        (
            "ADD",
            r#"{"name":"a","ipam":{"type":1}}"#,
            error(999, "failed to load netconf: ipam.type: invalid value 1: expected a string", ""),
        ),
    ];
    for (command, config, want) in cases {
        assert_eq!(parse(&environment(command), config).unwrap_err(), want, "{command} {config}");
    }
}

#[test]
fn a_plugin_may_support_less() {
    let old = [Version::V0_3_0, Version::V0_4_0];
    let parse = |command, config: &str| Request::parse(&environment(command), config.into(), &old);
    assert_eq!(
        parse("ADD", r#"{"name":"a"}"#).unwrap_err(),
        error(
            1,
            "incompatible CNI versions",
            r#"config is "0.1.0", plugin supports ["0.3.0" "0.4.0"]"#
        )
    );
    assert_eq!(
        parse("STATUS", CONFIG).unwrap_err(),
        error(1, "plugin version does not allow STATUS", "")
    );
    assert_eq!(
        parse("CHECK", r#"{"name":"a","cniVersion":"0.4.0"}"#).unwrap().version,
        Version::V0_4_0
    );
}

#[test]
fn a_plugin_reads_its_own_configuration() {
    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Config {
        mtu: u32,
    }
    let config = add(r#"{"name":"a","MTU":9000}"#).config::<Config>("failed to load netconf");
    assert_eq!(config, Ok(Config { mtu: 9000 }));
    let config = add(r#"{"name":"a","mtu":"x"}"#).config::<Config>("failed to load netconf");
    let want = r#"failed to load netconf: mtu: invalid value "x": expected a whole number from 0 to 4294967295"#;
    assert_eq!(config, Err(error(999, want, "")));
}

#[test]
fn valid_attachments_tell_missing_from_null() {
    let one = Attachment { container_id: "one".into(), ifname: "eth0".into() };
    let list = r#"[{"containerID":"one","ifname":"eth0"}]"#;
    let cases = [
        (String::new(), ValidAttachments::Missing),
        (r#","cni.dev/valid-attachments":null"#.into(), ValidAttachments::Null),
        (r#","cni.dev/valid-attachments":[]"#.into(), ValidAttachments::List(vec![])),
        (
            format!(r#","cni.dev/valid-attachments":{list}"#),
            ValidAttachments::List(vec![one.clone()]),
        ),
        (format!(r#","cni.dev/attachments":{list}"#), ValidAttachments::List(vec![one])),
        (
            format!(r#","cni.dev/attachments":{list},"cni.dev/valid-attachments":null"#),
            ValidAttachments::Null,
        ),
    ];
    for (members, want) in cases {
        let config = format!(r#"{{"cniVersion":"1.1.0","name":"a"{members}}}"#);
        let request = parse(&environment("GC"), &config).unwrap();
        assert_eq!(request.network.valid_attachments, want, "{config}");
    }
    assert_eq!(ValidAttachments::Missing.known(), None);
    assert_eq!(ValidAttachments::Null.known(), Some(&[][..]));
    let config = r#"{"cniVersion":"1.1.0","name":"a","cni.dev/valid-attachments":1}"#;
    assert_eq!(
        parse(&environment("GC"), config).unwrap_err(),
        error(
            999,
            "failed to load netconf: cni.dev/valid-attachments: invalid value 1: expected a list",
            ""
        )
    );
}

#[test]
fn plugins_are_found_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let dirs: Vec<_> = ["a", "b"].map(|name| dir.path().join(name)).into();
    std::fs::create_dir_all(dirs[0].join("x")).unwrap();
    std::fs::create_dir_all(&dirs[1]).unwrap();
    std::fs::write(dirs[1].join("file"), "").unwrap();
    std::os::unix::fs::symlink("file", dirs[1].join("x")).unwrap();
    assert_eq!(path::find("x", &dirs), Ok(dirs[1].join("x")));
    let text = |plugin, dirs: &str| path::find(plugin, &path::split(dirs)).unwrap_err();
    assert_eq!(text("", ""), error(999, "no plugin name provided", ""));
    assert_eq!(text("a/b", ""), error(999, "invalid plugin name: a/b", ""));
    assert_eq!(text("a", ""), error(999, "no paths provided", ""));
    assert_eq!(text("a", "/x:/y"), error(999, r#"failed to find plugin "a" in path [/x /y]"#, ""));
}
