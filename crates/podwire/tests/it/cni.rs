//! `podwire cni`, with podwire's plugins and with the reference's.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testbed::{Namespace, assert_same_state, isolated, state};

use crate::{Run, command, finish, go_plugins, names, write_plugin};

/// A node with plugins, one network and what the runtime remembers, below `/run`, which is the
/// test's own.
struct Node {
    namespace: Namespace,
    plugins: String,
}

/// Whose plugins a node has.
const OURS: &str = "/run/bin";

impl Node {
    fn new(plugins: &str) -> Self {
        fs::create_dir_all("/run/net.d").unwrap();
        fs::create_dir_all("/run/extra").unwrap();
        if !Path::new(OURS).exists() {
            fs::create_dir_all(OURS).unwrap();
            for name in plugins::NAMES {
                symlink(env!("CARGO_BIN_EXE_podwire"), Path::new(OURS).join(name)).unwrap();
            }
        }
        let node = Self { namespace: Namespace::new("node"), plugins: plugins.to_owned() };
        node.write("pods", &[bridge()]);
        node
    }

    /// Writes a network of these plugins.
    fn write(&self, name: &str, plugins: &[Value]) {
        self.write_version("1.0.0", name, plugins);
    }

    fn write_version(&self, version: &str, name: &str, plugins: &[Value]) {
        let list = json!({ "cniVersion": version, "name": name, "plugins": plugins });
        fs::write(format!("/run/net.d/{name}.conflist"), list.to_string()).unwrap();
    }

    /// A plugin that does as it is told, beside the others.
    fn script(&self, name: &str, script: &str) {
        write_plugin(&Path::new("/run/extra").join(name), &format!("#!/bin/sh\n{script}\n"));
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = command(&format!("cni {arguments}"));
        command
            .env("NETCONFPATH", "/run/net.d")
            .env("CNI_PATH", format!("/run/extra:{}", self.plugins))
            .env("PODWIRE_CNI_CACHE_DIR", "/run/cache");
        command
    }

    fn cni(&self, arguments: &str) -> Run {
        self.finish(&mut self.command(arguments))
    }

    fn finish(&self, command: &mut Command) -> Run {
        finish(self.namespace.netns().spawn(command).unwrap())
    }

    /// All that an attachment may leave.
    fn state(&self) -> String {
        let files = [names("/run/networks/pods"), names("/run/cache/results"), names("/run/cache")];
        format!("{}\n{files:?}", state(&self.namespace))
    }
}

fn bridge() -> Value {
    json!({
        "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true,
        "ipam": { "type": "host-local", "subnet": "10.7.0.0/24", "dataDir": "/run/networks" },
    })
}

fn remembered() -> Vec<String> {
    names("/run/cache/results")
}

/// With the plugins of both.
fn each(test: fn(&Node)) {
    for plugins in [OURS, go_plugins()] {
        test(&Node::new(plugins));
        for left in ["/run/cache", "/run/networks", "/run/net.d", "/run/extra"] {
            let _ = fs::remove_dir_all(left);
        }
    }
}

#[test]
fn a_pod_is_attached_checked_and_detached() {
    isolated!();
    each(|node| {
        let pod = Namespace::new("pod1");
        let added = node.cni("add pods pod1").expect(0).stdout;
        assert!(added.contains("eth0 of /var/run/netns/pod1 (container cnitool-"), "{added}");
        assert!(added.contains("  address    10.7.0.2/24, gateway 10.7.0.1\n"), "{added}");
        pod.sh("ping -c 1 -W 2 10.7.0.1");
        node.cni("check pods pod1").expect(0);
        let list = node.cni("list").expect(0).stdout;
        assert!(list.contains("pods     1.0.0    bridge   /run/net.d/pods.conflist"), "{list}");
        assert!(
            list.contains("pods         eth0       10.7.0.2/24  /var/run/netns/pod1"),
            "{list}"
        );
        pod.sh("ip address flush dev eth0");
        let check = node.cni("check pods pod1").expect(1).stderr;
        assert!(
            check.starts_with("error: network pods: plugin type=\"bridge\" failed (check): "),
            "{check}"
        );
        node.cni("del pods pod1").expect(0);
        assert_eq!(remembered(), [""; 0]);
        assert_eq!(names("/run/networks/pods"), ["last_reserved_ip.0", "lock"]);
        pod.sh("! ip link show eth0 2>/dev/null");
        // As often as one likes, and where there is nothing to ask about.
        let again = node.cni("del pods pod1").expect(0).stdout;
        assert!(again.contains("it was not remembered"), "{again}");
        node.cni("check pods pod1").expect(4);
    });
}

#[test]
fn the_answer_for_programs_is_the_result_of_cni() {
    isolated!();
    each(|node| {
        let _pod = Namespace::new("pod1");
        let result = node.cni("add pods /run/netns/pod1 -i net1 -o json").expect(0).stdout;
        let value: Value = serde_json::from_str(&result).unwrap();
        assert_eq!(value["cniVersion"], "1.0.0");
        assert_eq!(value["ips"][0]["address"], "10.7.0.2/24");
        assert_eq!(value["interfaces"][2]["name"], "net1");
        assert_eq!(value["interfaces"][2]["sandbox"], "/run/netns/pod1");
        assert!(result.starts_with("{\n    \"cniVersion\": \"1.0.0\",\n"), "{result}");
        assert_eq!(remembered(), ["pods-cnitool-eb69d96616c204ff963c-net1"]);
        for (arguments, kind) in [
            ("check pods /run/netns/pod1 -i net1", "CniCheck"),
            ("list", "CniNetworkList"),
            ("status pods", "CniStatus"),
            ("version pods", "CniVersionList"),
            ("gc pods --dry-run", "CniGcPlan"),
            ("gc pods", "CniGcReport"),
            ("del pods /run/netns/pod1 -i net1", "CniDel"),
        ] {
            let answer = node.cni(&format!("{arguments} -o json")).expect(0).stdout;
            let value: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(value["kind"], kind);
            assert_eq!(value["apiVersion"], "podwire/v1");
        }
    });
}

/// Of two plugins the second fails, in every way there is: the first is undone, the error is told,
/// and the machine is as it was.
#[test]
fn nothing_is_left_of_an_add_that_fails() {
    isolated!();
    each(|node| {
        let pod = Namespace::new("pod1");
        // The bridge and the place of the last address stay in any case.
        node.cni("add pods pod1").expect(0);
        node.cni("del pods pod1").expect(0);
        let before = (node.state(), state(&pod));
        node.write("pods", &[bridge(), json!({ "type": "second" })]);
        let cases = [
            ("exit 0", 5, "failed to unmarshal raw result", "does not answer as a CNI plugin does"),
            (
                "echo rubbish",
                5,
                "result rubbish\n       every",
                "does not answer as a CNI plugin does",
            ),
            ("echo rubbish; exit 1", 5, "\"rubbish\\n\"", "does not answer as a CNI plugin does"),
            ("kill -9 $$", 5, "signal: 9 (SIGKILL)", "second died without a CNI error"),
            ("sleep 1000", 5, "second was killed after 3s", "--timeout"),
            ("echo '{\"code\":11,\"msg\":\"busy\"}'; exit 1", 5, "(add): busy", "try again later"),
        ];
        for (script, code, what, fix) in cases {
            node.script("second", &format!("[ $CNI_COMMAND != ADD ] || {{ {script}; }}"));
            let failed = node.cni("add pods pod1 --timeout 3s").expect(code).stderr;
            let start = "error: network pods: plugin type=\"second\" failed (add): ";
            assert!(failed.starts_with(start) && failed.contains(what), "{failed}");
            assert!(failed.contains("everything that was done is taken back"), "{failed}");
            let (_, remedy) = failed.split_once("\n  fix: ").unwrap();
            assert!(remedy.contains(fix), "{failed}");
            assert_same_state(&node.state(), &before.0);
            assert_same_state(&state(&pod), &before.1);
        }
        // What fails to take itself back hinders nobody else.
        node.script("second", "exit 7");
        let failed = node.cni("add pods pod1").expect(5).stderr;
        assert!(failed.contains("could not be taken back: plugin type=\"second\" failed (delete)"));
        assert_same_state(&node.state(), &before.0);
        testbed::sh("chmod -x /run/extra/second");
        let failed = node.cni("add pods pod1").expect(5).stderr;
        assert!(
            failed.contains("fix: make it executable (`chmod +x /run/extra/second`)"),
            "{failed}"
        );
        testbed::sh("rm /run/extra/second");
        let failed = node.cni("add pods pod1").expect(4).stderr;
        assert!(
            failed.contains("failed to find plugin \"second\" in path [/run/extra "),
            "{failed}"
        );
        assert!(failed.contains("--plugin-dir"), "{failed}");
        assert_same_state(&node.state(), &before.0);
        assert_same_state(&state(&pod), &before.1);
    });
}

/// However one names the namespace, it is the same.
#[test]
fn a_namespace_is_known_by_name_and_by_both_paths() {
    isolated!();
    let node = Node::new(OURS);
    let _pod = Namespace::new("pod1");
    for path in ["pod1", "/var/run/netns/pod1", "/run/netns/pod1"] {
        node.cni(&format!("add pods {path}")).expect(0);
        for other in ["/run/netns/pod1", "/run/../run/netns/./pod1", "pod1", "/var/run/netns/pod1"]
        {
            node.cni(&format!("check pods {other}")).expect(0);
            node.cni(&format!("add pods {other}")).expect(1);
        }
        let other = if path == "pod1" { "/run/netns/pod1" } else { "pod1" };
        node.cni(&format!("del pods {other}")).expect(0);
        assert_eq!(remembered(), [""; 0], "{path}");
    }
    node.cni("add pods /run/netns/pod1 --container-id c1").expect(0);
    node.cni("check pods pod1 --container-id c1").expect(0);
}

#[test]
fn an_interface_that_is_there_is_left_alone() {
    isolated!();
    let node = Node::new(OURS);
    let pod = Namespace::new("pod1");
    pod.sh("ip link add eth0 type bridge");
    let refused = node.cni("add pods pod1").expect(1).stderr;
    assert!(refused.contains("has an interface eth0 already"), "{refused}");
    pod.sh("ip link show eth0");
    let own = node.cni("add pods /proc/self/ns/net").expect(2).stderr;
    assert!(own.contains("is the namespace that podwire runs in"), "{own}");
    let none = node.cni("add pods pod2").expect(4).stderr;
    assert!(none.contains("/var/run/netns/pod2: no such file or directory"), "{none}");
    node.cni("add pods /etc/passwd").expect(2);
    assert_eq!(remembered(), [""; 0]);
    assert!(!Path::new("/run/cache").exists());
}

/// What was said for ADD need not be said again, not even the configuration.
#[test]
fn what_was_attached_is_detached_without_its_configuration() {
    isolated!();
    let node = Node::new(OURS);
    let pod = Namespace::new("pod1");
    let log = "cat >/run/told.$CNI_COMMAND; echo $CNI_ARGS >/run/args.$CNI_COMMAND; echo '{}'";
    node.script("second", log);
    let second = json!({ "type": "second", "capabilities": { "portMappings": true } });
    node.write("pods", &[bridge(), second]);
    let ports = r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;
    let mut add = node.command("add pods pod1 --container-id c1 --args IgnoreUnknown=1;K=V");
    node.finish(add.env("CAP_ARGS", ports)).expect(0);
    fs::remove_file("/run/net.d/pods.conflist").unwrap();
    node.cni("check pods pod1 --container-id c1").expect(4);
    let del = node.cni("del pods --container-id c1").expect(0);
    assert!(del.stderr.contains("the configuration that was remembered is used"), "{del:?}");
    let told: Value = serde_json::from_slice(&fs::read("/run/told.DEL").unwrap()).unwrap();
    assert_eq!(told["runtimeConfig"], serde_json::from_str::<Value>(ports).unwrap());
    assert_eq!(told.get("capabilities"), None);
    assert_eq!(fs::read_to_string("/run/args.DEL").unwrap(), "IgnoreUnknown=1;K=V\n");
    pod.sh("! ip link show eth0 2>/dev/null");
    assert_eq!(names("/run/networks/pods"), ["last_reserved_ip.0", "lock"]);
    node.cni("del pods --container-id c1").expect(4);
}

#[test]
fn what_is_not_valid_is_collected() {
    isolated!();
    each(|node| {
        let _pod1 = Namespace::new("pod1");
        let pod2 = Namespace::new("pod2");
        let quiet = node.cni("gc pods").expect(0).stdout;
        assert!(quiet.contains("nothing is done"), "{quiet}");
        node.cni("add pods pod1 --container-id c1").expect(0);
        node.cni("add pods pod2 --container-id c2").expect(0);
        drop(pod2);
        let list = node.cni("list pods").expect(0).stdout;
        assert!(list.contains("/var/run/netns/pod2 (gone)"), "{list}");
        let plan = node.cni("gc pods --dry-run").expect(0).stdout;
        assert!(plan.contains("eth0 of container c2 would be deleted"), "{plan}");
        assert_eq!(remembered(), ["pods-c1-eth0", "pods-c2-eth0"]);
        let report = node.cni("gc pods").expect(0).stdout;
        assert_eq!(
            report,
            "pods: 1 valid attachment, 1 not valid.\n  eth0 of container c2 is deleted\n"
        );
        assert_eq!(remembered(), ["pods-c1-eth0"]);
        assert_eq!(names("/run/networks/pods"), ["10.7.0.2", "last_reserved_ip.0", "lock"]);
        node.cni("gc pods --keep c1").expect(0);
        node.cni("gc pods --keep c1/eth0 --keep other").expect(0);
        node.cni("check pods pod1 --container-id c1").expect(0);
        node.cni("gc pods --keep other/eth0").expect(0);
        assert_eq!(remembered(), [""; 0]);
        node.cni("add pods pod1 --container-id c1").expect(0);
        node.cni("gc pods --none-valid").expect(0);
        assert_eq!(names("/run/networks/pods"), ["last_reserved_ip.0", "lock"]);
    });
}

/// Other people's plugins do not look whether what is said to be stale lives.
#[test]
fn whose_note_is_torn_is_not_told_to_be_stale() {
    isolated!();
    let node = Node::new(OURS);
    let _pods = [Namespace::new("pod1"), Namespace::new("pod2")];
    node.script(
        "told",
        r#"[ "$CNI_COMMAND" = VERSION ] && exec echo '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}'
        [ "$CNI_COMMAND" = ADD ] && exec echo '{"cniVersion":"1.1.0"}'
        cat > /run/told-$CNI_COMMAND"#,
    );
    node.write_version("1.1.0", "told", &[json!({ "type": "told" })]);
    for (pod, id) in [("pod1", "c1"), ("pod2", "c-2")] {
        node.cni(&format!("add told {pod} --container-id {id}")).expect(0);
    }
    let file = "/run/cache/results/told-c-2-eth0";
    fs::write(file, "{").unwrap();
    let valid = |arguments: &str| {
        let stderr = node.cni(arguments).expect(0).stderr;
        assert!(stderr.contains(&format!("warning: {file} is torn")), "{stderr}");
        let told: Value = serde_json::from_slice(&fs::read("/run/told-GC").unwrap()).unwrap();
        told["cni.dev/valid-attachments"].clone()
    };
    let one = |id: &str, ifname: &str| json!({ "containerID": id, "ifname": ifname });
    // Where the container's name ends and the interface's begins cannot be seen.
    let spared = [one("c1", "eth0"), one("c", "2-eth0"), one("c-2", "eth0")];
    assert_eq!(valid("gc told"), json!(spared));
    assert_eq!(valid("gc told --keep c1"), json!([one("c1", "eth0")]));
    assert!(node.cni("gc told --dry-run").expect(0).stderr.contains("is torn"));
    assert!(node.cni("gc told --keep a/b/c").expect(2).stderr.contains("interface name \"b/c\""));
    assert_eq!(valid("gc told --none-valid"), json!([]));
    assert_eq!(remembered(), ["told-c-2-eth0"]);
}

/// Killed while a plugin is at work, also where nobody ever asks for that container again.
#[test]
fn an_add_that_is_killed_is_repaired_by_gc_and_by_del() {
    isolated!();
    let node = Node::new(OURS);
    // It goes on when its caller is killed, as nobody tells it to stop.
    let script = "[ $CNI_COMMAND != ADD ] || { echo $$ >/run/pid; mv /run/pid /run/at-work; exec sleep 1000; }";
    node.script("second", script);
    node.write("pods", &[bridge(), json!({ "type": "second" })]);
    for repair in ["gc pods", "del pods pod1"] {
        let pod = Namespace::new("pod1");
        let mut add = node.command("add pods pod1");
        let mut child = node.namespace.netns().spawn(&mut add).unwrap();
        while !Path::new("/run/at-work").exists() {}
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(remembered().len(), 1);
        let again = node.cni("add pods pod1").expect(1).stderr;
        assert!(again.contains("podwire cni del pods --container-id cnitool-"), "{again}");
        assert!(node.cni("list").expect(0).stdout.contains("(unfinished)"));
        testbed::sh("kill $(cat /run/at-work); rm /run/at-work");
        if repair.starts_with("gc") {
            drop(pod);
        }
        node.cni(repair).expect(0);
        assert_eq!(remembered(), [""; 0]);
        assert_eq!(names("/run/networks/pods"), ["last_reserved_ip.0", "lock"]);
        assert_eq!(node.namespace.sh("ip -o link show type veth"), "");
    }
}

/// Also where the plugin goes on behind the back of whoever was killed.
#[test]
fn a_kill_at_any_time_is_repaired_by_the_next_command() {
    isolated!();
    each(|node| {
        let moments = (0..20).map(|step| step * 1_500).chain((3..12).map(|step| step * 10_000));
        for micros in moments {
            for repair in ["del", "add"] {
                let pod = Namespace::new("pod1");
                let mut add = node.command("add pods pod1");
                let mut child = node.namespace.netns().spawn(&mut add).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(micros));
                child.kill().unwrap();
                child.wait().unwrap();
                if repair == "add" {
                    // Where a plugin is still at work, or the kill came too late, it is refused.
                    let added = node.cni("add pods pod1");
                    assert!([Some(0), Some(1)].contains(&added.code), "{micros} us: {added:?}");
                }
                node.cni("del pods pod1").expect(0);
                assert_eq!(remembered(), [""; 0], "{repair} after {micros} us");
                let mut addresses = names("/run/networks/pods");
                addresses.retain(|name| name.starts_with("10."));
                assert_eq!(addresses, [""; 0], "{repair} after {micros} us");
                assert_eq!(pod.sh("ip -o link | wc -l").trim(), "1", "{repair} after {micros} us");
            }
        }
        assert_eq!(node.namespace.sh("ip -o link show type veth"), "");
    });
}

#[test]
fn an_interrupted_add_is_taken_back() {
    isolated!();
    let node = Node::new(OURS);
    let _pod = Namespace::new("pod1");
    node.script("second", "[ $CNI_COMMAND != ADD ] || { : >/run/at-work; sleep 1000; }");
    node.write("pods", &[bridge(), json!({ "type": "second" })]);
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut add = node.command("add pods pod1");
        let child = node.namespace.netns().spawn(&mut add).unwrap();
        while !Path::new("/run/at-work").exists() {}
        fs::remove_file("/run/at-work").unwrap();
        testbed::sh(&format!("kill -{signal} {}", child.id()));
        let run = finish(child).expect(code);
        assert!(run.stderr.contains("everything that was done is taken back"), "{}", run.stderr);
        assert_eq!(remembered(), [""; 0]);
        assert_eq!(names("/run/networks/pods"), ["last_reserved_ip.0", "lock"]);
    }
}

#[test]
fn plugins_are_asked_for_versions_and_status() {
    isolated!();
    each(|node| {
        node.write_version("1.1.0", "new", &[bridge()]);
        let version = node.cni("version pods").expect(0).stdout;
        assert!(version.starts_with("pods wants 1.0.0.\n  ok  bridge  0.1.0 "), "{version}");
        let old = node.plugins != OURS;
        let version = node.cni("version new").expect(old.into());
        let verdict = if old { "NO  bridge" } else { "ok  bridge" };
        assert!(version.stdout.contains(verdict), "{version:?}");
        let complaint = "error: plugin bridge does not support config version \"1.1.0\"\n  fix: it speaks 0.1.0, ";
        assert_eq!(version.stderr.starts_with(complaint), old, "{version:?}");
        let status = node.cni("status pods").expect(0).stdout;
        assert!(status.contains("can be asked from CNI 1.1.0 on"), "{status}");
        let status = node.cni("status new").expect(old.into());
        assert!(old || status.stdout.contains("can attach pods"), "{status:?}");
        node.write("missing", &[json!({ "type": "nothing" })]);
        node.cni("status missing").expect(4);
        node.cni("version missing").expect(4);
    });
}

#[test]
fn bad_configurations_are_told_and_hinder_no_other() {
    isolated!();
    let node = Node::new(OURS);
    fs::write("/run/net.d/00-torn.conflist", r#"{"name":"torn"#).unwrap();
    fs::write("/run/net.d/01-bad.conflist", r#"{"name":"bad","plugins":[{"tpye":"bridge"}]}"#)
        .unwrap();
    let status = node.cni("status pods").expect(0);
    assert!(status.stderr.contains("warning: /run/net.d/00-torn.conflist: "), "{status:?}");
    let bad = node.cni("status bad").expect(2).stderr;
    assert!(
        bad.contains("/run/net.d/01-bad.conflist: failed to parse plugin config 0: ")
            && bad.contains("missing 'type'")
            && bad.contains("fix: correct /run/net.d/01-bad.conflist"),
        "{bad}"
    );
    let torn = node.cni("status torn").expect(4).stderr;
    assert!(torn.contains("no net configuration with name \"torn\" in /run/net.d; "), "{torn}");
    fs::write("/run/net.d/02-name.conflist", r#"{"name":"a/b","plugins":[{"type":"bridge"}]}"#)
        .unwrap();
    let _pod = Namespace::new("pod1");
    let name = node.cni("add a/b pod1").expect(2).stderr;
    assert!(
        name.contains("network name \"a/b\": invalid characters found in network name"),
        "{name}"
    );
    let none = node.cni("status pods --conf-dir /run/none").expect(4).stderr;
    assert!(none.contains("no net configurations found in /run/none"), "{none}");
    assert_eq!(node.cni("list --conf-dir /run/none --no-headers").expect(0).stdout, "");
}

#[test]
fn a_cache_that_is_damaged_or_open_to_all_is_told() {
    isolated!();
    let node = Node::new(OURS);
    let pod = Namespace::new("pod1");
    node.cni("add pods pod1 --container-id c1").expect(0);
    let file = PathBuf::from("/run/cache/results/pods-c1-eth0");
    fs::write(&file, "{\"kind\":\"cniCa").unwrap();
    let check = node.cni("check pods pod1 --container-id c1").expect(3).stderr;
    assert!(check.contains("/run/cache/results/pods-c1-eth0: is torn: "), "{check}");
    let list = node.cni("list").expect(0).stderr;
    assert!(list.contains("warning: /run/cache/results/pods-c1-eth0 is torn"), "{list}");
    node.cni("del pods pod1 --container-id c1").expect(0);
    pod.sh("! ip link show eth0 2>/dev/null");
    assert_eq!(remembered(), [""; 0]);
    symlink("/etc/passwd", &file).unwrap();
    let link = node.cni("add pods pod1 --container-id c1").expect(1).stderr;
    assert!(
        link.contains("is a symbolic link") && link.contains("rm /run/cache/results"),
        "{link}"
    );
    fs::remove_file(&file).unwrap();
    testbed::sh("chmod 0777 /run/cache");
    for arguments in ["add pods pod1", "check pods pod1", "del pods pod1", "gc pods", "list"] {
        let open = node.cni(arguments).expect(1).stderr;
        assert!(
            open.contains("/run/cache cannot be trusted: anybody may write to it (mode 0777)")
                && open
                    .contains("fix: let only root write to it (`chown root /run/cache; chmod 0700"),
            "{open}"
        );
    }
    pod.sh("! ip link show eth0 2>/dev/null");
}

#[test]
fn wrong_use_is_told() {
    for (arguments, hint) in [
        ("add pods", "NETNS"),
        ("add pods --container-id c1", "no namespace is given"),
        ("del pods", "NETNS"),
        ("add pods pod1 --args x", "invalid CNI_ARGS pair \"x\""),
        ("add pods pod1 --capability-args []", "expected a JSON object"),
        ("add pods pod1 --timeout 1h", "expected a time such as 30s"),
        ("gc pods --keep c1 --none-valid", "cannot be used with"),
    ] {
        let run = crate::podwire(&format!("cni {arguments}")).expect(2);
        assert!(run.stderr.contains(hint), "{arguments}: {}", run.stderr);
    }
    // A variable that is empty says nothing.
    let mut list = command("cni list");
    for name in ["NETCONFPATH", "CNI_PATH", "CNI_IFNAME", "CNI_ARGS", "CAP_ARGS"] {
        list.env(name, "");
    }
    list.args(["--conf-dir", "/nonexistent", "--cache-dir", "/nonexistent"]);
    finish(list.spawn().unwrap()).expect(0);
}
