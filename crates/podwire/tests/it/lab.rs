//! `podwire lab`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use testbed::{isolated, sh};

use crate::{assert_nothing_left, command, finish, go_plugins, names, podwire, write_plugin};

#[test]
fn a_lab_is_drawn_in_every_form() {
    isolated!();
    podwire("lab up --pods 2").expect(0);
    let directory = tempfile::tempdir().unwrap();
    for (suffix, part) in [
        ("txt", "┌ cni0 "),
        ("tree", "cable to "),
        ("svg", "<title id=\"scene-title\">lab default</title>"),
        ("html", "Content-Security-Policy"),
        ("dot", "graph podwire {"),
        ("mmd", "flowchart TB"),
        ("json", "\"kind\": \"Scene\""),
    ] {
        let path = directory.path().join(format!("lab.{suffix}"));
        let drawn = podwire(&format!("lab graph -O {}", path.display())).expect(0);
        assert_eq!(drawn.stdout, "");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(part), "{suffix}: {text}");
    }
    let page = directory.path().join("pod.html");
    podwire(&format!("explain pod/pod1 --teach -O {}", page.display()));
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("<h1>pod1 on node1</h1>") && text.contains("<code>"), "{text}");
    assert!(podwire("lab graph -o dot").expect(0).stdout.starts_with("graph podwire {"));
    let refused = podwire("lab graph -O lab.png").expect(2);
    assert!(refused.stderr.contains("end it with one of txt, tree, svg"), "{}", refused.stderr);
    podwire("lab down").expect(0);
}

#[test]
fn a_plain_lab_is_that_of_the_textbook() {
    isolated!();
    let up = podwire("lab up --plain").expect(0);
    assert!(up.stdout.contains("┌ br0 "), "{}", up.stdout);
    assert_eq!(names("/run/netns"), ["host", "node1", "node2"]);
    sh(
        "ip netns exec node1 ping -c 1 -W 2 10.10.0.3; ip netns exec node2 ping -c 1 -W 2 10.10.0.2",
    );
    assert_eq!(sh("ip -n host -o link show master br0 | wc -l").trim(), "2");
    assert!(podwire("lab ls").expect(0).stdout.contains("default  up          host node1 node2"));
    podwire("lab status").expect(0);
    podwire("lab up").expect(1);
    podwire("lab down").expect(0);
    assert_nothing_left();
    let again = podwire("lab down").expect(4);
    assert!(again.stderr.contains("`podwire lab up` makes one"), "{}", again.stderr);
}

#[test]
fn pods_are_wired_by_plugin_files() {
    isolated!();
    for flags in ["", "--plugin-dir /usr/lib/cni"] {
        go_plugins();
        podwire(&format!("lab up --dual-stack --pods 3 {flags}")).expect(0);
        for target in ["10.1.0.1", "10.1.0.4", "fd00:10:1::4"] {
            sh(&format!("ip netns exec pod1 ping -c 1 -W 3 {target}"));
        }
        sh("ip netns exec node1 ping -c 1 -W 2 10.1.0.3");
        sh("ip netns exec pod1 ping -c 1 -W 2 127.0.0.1");
        podwire("lab status").expect(0);
        let lab = "/run/podwire/lab/default";
        let addresses = names(&format!("{lab}/cni/networks/podwire"));
        assert!(addresses.contains(&"10.1.0.4".to_owned()), "{addresses:?}");
        let holder = fs::read_to_string(format!("{lab}/cni/networks/podwire/10.1.0.2")).unwrap();
        assert!(holder.starts_with("default-pod1"), "{holder}");
        let list = fs::read_to_string(format!("{lab}/cni/net.d/10-podwire.conflist")).unwrap();
        assert!(list.contains("\"isDefaultGateway\": true"), "{list}");
        podwire("lab down").expect(0);
        assert_nothing_left();
    }
}

#[test]
fn a_command_runs_inside_and_its_exit_code_is_passed_on() {
    isolated!();
    podwire("lab up --pods 1").expect(0);
    let addresses = podwire("lab exec pod/pod1 -- ip -o address").expect(0);
    assert!(addresses.stdout.contains("10.1.0.2/24"), "{}", addresses.stdout);
    let node = podwire("lab exec node1 -- ip -o address").expect(0);
    assert!(node.stdout.contains("10.1.0.1/24"), "{}", node.stdout);
    podwire("lab exec pod/pod1 -- false").expect(1);
    podwire("lab exec pod/pod1 -- no-such-program").expect(4);
    let none = podwire("lab exec pod/pod2 -- true").expect(4);
    assert!(none.stderr.contains("there are: node/node1, pod/pod1"), "{}", none.stderr);
    podwire("lab down").expect(0);
}

#[test]
fn labs_with_the_same_addresses_live_side_by_side() {
    isolated!();
    podwire("lab up").expect(0);
    podwire("lab up blue").expect(0);
    podwire("lab up red --plain").expect(0);
    sh("ip netns exec pod1 ping -c 1 -W 2 10.1.0.3
        ip netns exec blue-pod1 ping -c 1 -W 2 10.1.0.3
        ip netns exec red-node1 ping -c 1 -W 2 10.10.0.3");
    let ambiguous = podwire("lab exec pod/pod1 -- true").expect(4);
    assert!(ambiguous.stderr.contains("labs blue, default have it"), "{}", ambiguous.stderr);
    podwire("lab exec --lab blue pod/pod1 -- true").expect(0);
    podwire("lab exec blue-pod1 -- true").expect(0);
    podwire("lab down blue").expect(0);
    podwire("lab status").expect(0);
    podwire("lab status red").expect(0);
    podwire("lab down --all").expect(0);
    assert_nothing_left();
}

#[test]
fn a_name_that_somebody_has_is_refused_and_left_alone() {
    isolated!();
    sh("ip netns add pod2");
    let before = fs::metadata("/run/netns/pod2").unwrap().ino();
    let refused = podwire("lab up").expect(1);
    assert!(refused.stderr.contains("/run/netns/pod2 already exists"), "{}", refused.stderr);
    assert!(refused.stderr.contains("ip netns delete pod2"), "{}", refused.stderr);
    assert_eq!(names("/run/netns"), ["pod2"]);
    assert_eq!(fs::metadata("/run/netns/pod2").unwrap().ino(), before);
    sh("ip netns delete pod2");
    podwire("lab up").expect(0);
    sh("ip netns add blue-host");
    podwire("lab up blue --plain").expect(1);
    podwire("lab status").expect(0);
    podwire("lab down").expect(0);
    sh("ip netns delete blue-host");
    assert_nothing_left();
}

#[test]
fn files_that_no_lab_recorded_are_left_alone() {
    isolated!();
    sh("mkdir -p /run/podwire/lab/default/cni");
    for command in ["up", "down"] {
        let refused = podwire(&format!("lab {command}")).expect(1);
        assert!(refused.stderr.contains("rm -r /run/podwire/lab/default"), "{}", refused.stderr);
        assert_eq!(names("/run/podwire/lab/default"), ["cni"]);
    }
}

#[test]
fn one_unreadable_record_hides_no_other_lab() {
    isolated!();
    podwire("lab up --pods 1").expect(0);
    podwire("lab up blue --pods 1").expect(0);
    sh("ip netns delete blue-node1; ip netns add blue-node1
        echo nonsense >/run/podwire/lab/blue/lab.json");
    let list = podwire("lab ls").expect(0).stdout;
    assert!(list.contains("blue     unreadable") && list.contains("default  up"), "{list}");
    podwire("lab exec pod/pod1 -- true").expect(0);
    let status = podwire("lab status blue").expect(3);
    assert!(status.stderr.contains("podwire lab down blue"), "{}", status.stderr);
    podwire("lab down blue").expect(0);
    assert_eq!(names("/run/netns"), ["blue-node1", "node1", "pod1"]);
    sh("ip netns delete blue-node1");
    podwire("lab status").expect(0);
    podwire("lab down").expect(0);
    assert_nothing_left();
}

#[test]
fn all_labs_go_but_those_that_cannot() {
    isolated!();
    podwire("lab up").expect(0);
    podwire("lab up red --plain").expect(0);
    sh("mkdir -p /run/podwire/lab/blue/cni");
    let plan = podwire("lab down --all --dry-run").expect(1);
    for name in ["default", "red"] {
        assert!(plan.stdout.contains(&format!("Would take down lab {name}:")), "{}", plan.stdout);
    }
    podwire("lab status red").expect(0);
    let down = podwire("lab down --all").expect(1);
    assert!(down.stderr.contains("/run/podwire/lab/blue"), "{}", down.stderr);
    assert_eq!(names("/run/podwire/lab"), ["blue"]);
    sh("rm -r /run/podwire/lab/blue");
    podwire("lab down --all").expect(0);
}

#[test]
fn a_name_that_became_somebody_elses_is_left_to_them() {
    isolated!();
    podwire("lab up").expect(0);
    sh("ip netns delete pod1; ip netns add pod1; ip -n pod1 link add eth0 type bridge");
    let status = podwire("lab status").expect(1);
    assert!(
        status.stdout.contains("/run/netns/pod1 is another namespace now"),
        "{}",
        status.stdout
    );
    let down = podwire("lab down").expect(0);
    assert!(down.stderr.contains("not this lab's any more"), "{}", down.stderr);
    assert_eq!(names("/run/netns"), ["pod1"]);
    sh("ip -n pod1 link show eth0; ip netns delete pod1");
    assert_nothing_left();
}

#[test]
fn what_is_damaged_is_named() {
    isolated!();
    podwire("lab up").expect(0);
    sh("ip -n pod1 link delete eth0; ip -n node1 link set lo down; ip netns delete pod2");
    let status = podwire("lab status").expect(1);
    for fault in [
        "pod/pod1: plugin bridge failed to CHECK",
        "node/node1: device lo is switched off",
        "pod/pod2: /run/netns/pod2 is gone",
    ] {
        assert!(status.stdout.contains(fault), "{fault}:\n{}", status.stdout);
    }
    podwire("lab down").expect(0);
    podwire("lab up --plain").expect(0);
    sh("ip -n node1 address flush dev vethA; ip -n host link set vethY nomaster");
    let status = podwire("lab status").expect(1);
    for fault in [
        "netns/node1: address 10.10.0.2/24 on vethA is missing",
        "netns/host: device vethY is not in its bridge",
    ] {
        assert!(status.stdout.contains(fault), "{fault}:\n{}", status.stdout);
    }
    podwire("lab down").expect(0);
    assert_nothing_left();
}

#[test]
fn a_failure_half_way_is_taken_back() {
    isolated!();
    let plugins = testbed::directory();
    for (name, script) in [
        ("loopback", "#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\"}'\n"),
        ("bridge", "#!/bin/sh\necho '{\"code\":7,\"msg\":\"bridges are out\"}'; exit 1\n"),
    ] {
        write_plugin(&plugins.path().join(name), script);
    }
    let failed = podwire(&format!("lab up --plugin-dir {}", plugins.path().display())).expect(5);
    assert!(failed.stderr.contains("bridges are out"), "{}", failed.stderr);
    assert!(
        failed.stderr.contains("everything that was made is removed again"),
        "{}",
        failed.stderr
    );
    assert_nothing_left();
}

#[test]
fn processes_of_the_lab_end_with_it_and_others_do_not() {
    isolated!();
    podwire("lab up --pods 1").expect(0);
    let mut ours = command("lab exec pod/pod1 -- sleep 60").spawn().unwrap();
    let other = sh("ip netns exec pod1 sleep 61 >/dev/null 2>&1 & echo $!");
    while !sh("ip netns pids pod1").contains(other.trim())
        || sh("ip netns pids pod1 | wc -l").trim() < "2"
    {}
    let down = podwire("lab down").expect(0);
    assert!(down.stderr.contains(&format!("process {} (sleep)", other.trim())), "{}", down.stderr);
    assert_eq!(ours.wait().unwrap().code(), Some(128 + 15));
    sh(&format!("kill {other}"));
    assert_nothing_left();
}

#[test]
fn answers_are_also_json() {
    isolated!();
    podwire("lab up --pods 1 -o json").expect(0);
    for (arguments, kind) in [
        ("lab ls -o json", "LabList"),
        ("lab status -o json", "Lab"),
        ("lab up blue --dry-run -o json", "LabPlan"),
        ("lab down --dry-run -o json", "LabDownPlan"),
        ("lab down -o json", "LabDownReport"),
    ] {
        let answer = podwire(arguments).expect(0).stdout;
        let value: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(value["kind"], kind);
        assert_eq!(value["apiVersion"], "podwire/v1");
    }
    assert_nothing_left();
}

#[test]
fn commands_on_one_lab_wait_for_each_other() {
    isolated!();
    let runs: Vec<_> = (0..4).map(|_| command("lab up").spawn().unwrap()).collect();
    let mut codes: Vec<_> = runs.into_iter().map(|run| finish(run).code.unwrap()).collect();
    codes.sort();
    assert_eq!(codes, [0, 1, 1, 1]);
    podwire("lab status").expect(0);
    let runs: Vec<_> = (0..4).map(|_| command("lab down").spawn().unwrap()).collect();
    let mut codes: Vec<_> = runs.into_iter().map(|run| finish(run).code.unwrap()).collect();
    codes.sort();
    assert_eq!(codes, [0, 4, 4, 4]);
    assert_nothing_left();
}
