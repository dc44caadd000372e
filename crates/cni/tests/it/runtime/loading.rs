//! Network configurations: from bytes, and from a directory.

use std::fs;
use std::path::Path;

use cni::runtime::{Error, NetworkList, directory};
use serde_json::{Map, json};

use super::{names, network};

fn problem(text: &str) -> String {
    NetworkList::parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn problems_of_a_list_are_told_as_the_reference_does() {
    let cases = [
        (r"{", "unexpected end of JSON input"),
        ("[]", "invalid type []interface {}: expected an object"),
        ("null", "no name"),
        ("{}", "no name"),
        (r#"{"NAME":"n"}"#, "no name"),
        (r#"{"name":7}"#, "invalid name type float64: expected a string"),
        (r#"{"name":null}"#, "invalid name type <nil>: expected a string"),
        (r#"{"name":"n","cniVersion":1}"#, "invalid cniVersion type float64: expected a string"),
        (
            r#"{"name":"n","cniVersions":"1.0.0"}"#,
            "invalid type for cniVersions: string: expected a list",
        ),
        (
            r#"{"name":"n","cniVersions":["1.0.0",true]}"#,
            "invalid type for cniVersions index 1: bool: expected a string",
        ),
        (
            r#"{"name":"n","cniVersions":["1.0.0.0"]}"#,
            r#"invalid cniVersions entry 1.0.0.0 at index 0: invalid version "1.0.0.0": too many parts"#,
        ),
        (
            r#"{"name":"n","cniVersion":"x","cniVersions":["1.0.0"]}"#,
            r#"invalid cniVersion x: failed to convert major version part "x": strconv.Atoi: parsing "x": invalid syntax"#,
        ),
        (
            r#"{"name":"n","disableCheck":"maybe"}"#,
            r#"invalid value "maybe" for disableCheck: expected true or false"#,
        ),
        (
            r#"{"name":"n","disableGC":1}"#,
            "invalid type float64 for disableGC: expected true or false",
        ),
        (
            r#"{"name":"n","loadOnlyInlinedPlugins":{}}"#,
            "invalid type map[string]interface {} for loadOnlyInlinedPlugins: expected true or false",
        ),
        (
            r#"{"name":"n","loadOnlyInlinedPlugins":"TRUE"}"#,
            "`loadOnlyInlinedPlugins` is true, and no 'plugins' key",
        ),
        (
            r#"{"name":"n","plugins":{}}"#,
            "invalid 'plugins' type map[string]interface {}: expected a list",
        ),
        (r#"{"name":"n","plugins":[]}"#, "no plugins in list"),
    ];
    for (text, want) in cases {
        assert_eq!(problem(text), format!("error parsing configuration list: {want}"), "{text}");
    }
}

#[test]
fn problems_of_a_plugin_name_its_place() {
    let cases = [
        (r#"[{"type":"a"},{"Type":""}]"#, "1: error parsing configuration: missing 'type'"),
        (r#"["a"]"#, r#"0: error parsing configuration: invalid value "a": expected an object"#),
        (
            r#"[{"type":7}]"#,
            "0: error parsing configuration: type: invalid value 7: expected a string",
        ),
        (
            r#"[{"type":"a","capabilities":{"mac":"yes"}}]"#,
            r#"0: error parsing configuration: capabilities.mac: invalid value "yes": expected a boolean"#,
        ),
    ];
    for (plugins, want) in cases {
        let text = format!(r#"{{"name":"n","plugins":{plugins}}}"#);
        assert_eq!(problem(&text), format!("failed to parse plugin config {want}"), "{plugins}");
    }
}

#[test]
fn flags_are_booleans_or_their_words() {
    for (text, want) in
        [("true", true), (r#""TRUE""#, true), ("false", false), (r#""False""#, false)]
    {
        let list = format!(
            r#"{{"name":"n","disableCheck":{text},"disableGC":{text},
                "loadOnlyInlinedPlugins":{text},"plugins":[{{"type":"a"}}]}}"#
        );
        let list = NetworkList::parse(list.as_bytes()).unwrap();
        assert_eq!(
            (list.disable_check, list.disable_gc, list.load_only_inlined_plugins),
            (want, want, want)
        );
    }
}

#[test]
fn the_newest_version_that_is_spoken_is_chosen() {
    let cases = [
        (r#""cniVersion":"0.4.0""#, "0.4.0"),
        (r#""cniVersion":"1.2.3""#, "1.2.3"),
        (r#""x":0"#, ""),
        (r#""cniVersions":["0.3.1","1.0.0","0.4.0"]"#, "1.0.0"),
        (r#""cniVersions":["1.1.0","1.2.0","2.0.0"]"#, "1.1.0"),
        (r#""cniVersion":"1.1.0","cniVersions":["0.3.1"]"#, "1.1.0"),
        (r#""cniVersion":"0.3.0","cniVersions":["1.0.0"]"#, "1.0.0"),
        (r#""cniVersion":"0.3.0","cniVersions":[]"#, "0.3.0"),
        (r#""cniVersion":"9.0.0","cniVersions":["8.0.0"]"#, "9.0.0"),
        (r#""cniVersion":"9.0.0","cniVersions":["0.4.0"]"#, "0.4.0"),
    ];
    for (keys, want) in cases {
        let text = format!(r#"{{"name":"n",{keys},"plugins":[{{"type":"a"}}]}}"#);
        assert_eq!(NetworkList::parse(text.as_bytes()).unwrap().version, want, "{keys}");
    }
}

#[test]
fn a_plugin_is_told_what_is_its_own() {
    let text = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{
        "Name":"own","CNIVERSION":"0.1.0","type":"a","big":9007199254740993,"at":1.5,"text":"<&>",
        "capabilities":{"mac":true,"ips":false,"dns":null,"portMappings":true},
        "prevResult":{"old":1},"runtimeConfig":{"mac":"old"}
    }]}"#;
    let list = NetworkList::parse(text.as_bytes()).unwrap();
    let plugin = &list.plugins[0];
    assert_eq!((plugin.plugin_type.as_str(), plugin.name.as_str()), ("a", "own"));
    assert_eq!(plugin.capabilities, ["mac", "portMappings"]);
    let given = json!({ "mac": "02:00:00:00:00:01", "ips": ["10.0.0.1"], "unknown": 1 });
    let result = json!({ "cniVersion": "1.0.0" });
    let told = list.execution_config(plugin, given.as_object().unwrap(), Some(&result));
    assert_eq!(
        told,
        json!({
            "type": "a", "big": 9_007_199_254_740_993_u64, "at": 1.5, "text": "<&>",
            "name": "net", "cniVersion": "1.0.0", "prevResult": result,
            "runtimeConfig": { "mac": "02:00:00:00:00:01" },
        })
    );
    let told = list.execution_config(plugin, &Map::new(), None);
    assert_eq!(told["runtimeConfig"], json!({ "mac": "old" }));
    assert_eq!(told["prevResult"], json!({ "old": 1 }));
    let without = network("1.0.0", &["a"]);
    let told = without.execution_config(&without.plugins[0], given.as_object().unwrap(), None);
    assert_eq!(told, json!({ "type": "a", "name": "net", "cniVersion": "1.0.0" }));
}

fn write(dir: &Path, file: &str, text: &str) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The file and the plugins of a network.
fn found(dir: &Path, name: &str) -> Result<(String, Vec<String>), String> {
    let (found, _) = directory::find(dir, name).map_err(|error| error.to_string())?;
    let file = found.file.strip_prefix(dir).unwrap().display().to_string();
    let plugins = found.network.plugins.into_iter().map(|plugin| plugin.plugin_type);
    Ok((file, plugins.collect()))
}

#[test]
fn lists_come_before_single_configurations_and_each_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let list = |name: &str, plugin: &str| {
        format!(r#"{{"name":"{name}","plugins":[{{"type":"{plugin}"}}]}}"#)
    };
    write(dir, "30-second.conflist", &list("net", "second"));
    write(dir, "20-first.conflist", &list("net", "first"));
    write(dir, "10-single.conf", r#"{"name":"net","type":"single"}"#);
    write(
        dir,
        "10-other.json",
        r#"{"cniVersion":"0.4.0","Name":"other","type":"other","big":9007199254740993}"#,
    );
    write(dir, "deep.conflist/10-deep.conflist", &list("deep", "deep"));
    write(dir, "10-ignored.txt", &list("ignored", "ignored"));
    assert_eq!(found(dir, "net"), Ok(("20-first.conflist".to_owned(), vec!["first".to_owned()])));
    fs::remove_file(dir.join("20-first.conflist")).unwrap();
    fs::remove_file(dir.join("30-second.conflist")).unwrap();
    assert_eq!(found(dir, "net").unwrap().0, "10-single.conf");
    let (other, _) = directory::find(dir, "other").unwrap();
    assert_eq!((other.network.name.as_str(), other.network.version.as_str()), ("other", "0.4.0"));
    assert_eq!(other.network.plugins[0].name, "other");
    let kept = String::from_utf8(other.network.bytes).unwrap();
    assert!(kept.contains(r#""big":9007199254740993"#), "{kept}");
    for missing in ["deep", "ignored"] {
        assert_eq!(
            found(dir, missing).unwrap_err(),
            format!("no net configuration with name {missing:?} in {}", dir.display())
        );
    }
    let (all, unreadable) = directory::list(dir).unwrap();
    let all: Vec<_> = all.into_iter().map(|found| found.network.name).collect();
    assert_eq!(all, ["other", "net"]);
    assert_eq!(unreadable.len(), 0);
}

#[test]
fn a_directory_without_configurations_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [dir.path().to_owned(), dir.path().join("missing")] {
        let error = directory::find(&dir, "net").unwrap_err();
        assert!(matches!(error, Error::NoConfigurations { .. }));
        assert_eq!(error.to_string(), format!("no net configurations found in {}", dir.display()));
        assert_eq!(directory::list(&dir).unwrap().0.len(), 0);
    }
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(directory::find(&file, "net").unwrap_err(), Error::Read { .. }));
}

#[test]
fn a_file_that_cannot_be_read_stands_in_the_way_of_no_other_network() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "10-torn.conflist", r#"{"name":"torn","plug"#);
    write(dir, "20-net.conflist", r#"{"name":"net","plugins":[{"type":"a"}]}"#);
    let (found, unreadable) = directory::find(dir, "net").unwrap();
    assert_eq!(found.file, dir.join("20-net.conflist"));
    let torn = format!(
        "{}: error parsing configuration list: unexpected end of JSON input",
        dir.join("10-torn.conflist").display()
    );
    assert_eq!(unreadable.iter().map(Error::to_string).collect::<Vec<_>>(), [torn.as_str()]);
    // It may be the one that is wanted.
    let error = directory::find(dir, "torn").unwrap_err().to_string();
    let missing = format!("no net configuration with name \"torn\" in {}", dir.display());
    assert_eq!(error, format!("{missing}; {torn}"));
    assert_eq!(directory::list(dir).unwrap().1.len(), 1);
}

/// Another file of the same name, further behind, is not what the administrator means.
#[test]
fn the_wanted_network_is_not_replaced_by_a_namesake() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "10-net.conflist", r#"{"name":"net","plugins":[{}]}"#);
    write(dir, "20-net.conflist", r#"{"name":"net","plugins":[{"type":"a"}]}"#);
    let error = directory::find(dir, "net").unwrap_err().to_string();
    assert!(
        error.ends_with("plugin config 0: error parsing configuration: missing 'type'"),
        "{error}"
    );
    assert!(error.contains("10-net.conflist"), "{error}");
}

#[test]
fn more_plugins_may_be_in_the_networks_own_directory() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "net/20-third.conf", r#"{"type":"third"}"#);
    write(dir, "net/10-second.conf", r#"{"type":"second"}"#);
    write(dir, "net/10-ignored.json", r#"{"type":"ignored"}"#);
    let plugins = |keys: &str| {
        write(dir, "10-net.conflist", &format!(r#"{{"name":"net"{keys}}}"#));
        found(dir, "net").map(|(_, plugins)| plugins.join(" "))
    };
    let inlined = r#","plugins":[{"type":"first"}]"#;
    assert_eq!(plugins(inlined).unwrap(), "first second third");
    // What is remembered is all of it, whatever becomes of the directory.
    let (found, _) = directory::find(dir, "net").unwrap();
    assert_eq!(NetworkList::parse(&found.network.bytes).unwrap(), found.network);
    assert_eq!(plugins("").unwrap(), "second third");
    let only = format!(r#"{inlined},"loadOnlyInlinedPlugins":true"#);
    assert_eq!(plugins(&only).unwrap(), "first");
    write(dir, "net/30-fourth.conf", "{}");
    let error = plugins(inlined).unwrap_err();
    assert!(
        error.ends_with("net/30-fourth.conf: error parsing configuration: missing 'type'"),
        "{error}"
    );
    fs::remove_dir_all(dir.join("net")).unwrap();
    assert_eq!(plugins(inlined).unwrap(), "first");
    assert!(plugins("").unwrap_err().ends_with("10-net.conflist: no plugin configs found"));
}

/// A name such as `../elsewhere` is refused when it is used; until then it leads nowhere.
#[test]
fn a_networks_name_does_not_lead_out_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "elsewhere/10-plugin.conf", r#"{"type":"evil"}"#);
    write(dir, "net.d/10-net.conflist", r#"{"name":"../elsewhere","plugins":[{"type":"a"}]}"#);
    let (_, plugins) = found(&dir.join("net.d"), "../elsewhere").unwrap();
    assert_eq!(plugins, ["a"]);
}

#[test]
fn a_pipe_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("10-pipe.conflist"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    write(dir, "20-net.conf", r#"{"name":"net","type":"a"}"#);
    assert_eq!(found(dir, "net").unwrap().0, "20-net.conf");
    assert_eq!(names(dir), ["10-pipe.conflist", "20-net.conf"]);
}
