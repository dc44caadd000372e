//! That a test's machine is its own.

use testbed::look::eventually;
use testbed::{Namespace, isolated, isolated_as_root, isolated_with_processes, need, sh};

#[test]
fn a_test_has_a_machine_of_its_own() {
    isolated!();
    alone();
}

mod deeper {
    #[test]
    fn names_of_tests_in_modules_are_found() {
        testbed::isolated!();
        super::alone();
    }
}

#[test]
#[ignore = "needs root"]
fn root_keeps_its_rights() {
    isolated_as_root!();
    alone();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"]);
}

#[test]
#[ignore = "needs root"]
fn root_has_processes_of_its_own() {
    isolated_with_processes!();
    alone();
    assert_eq!(sh("cat /proc/1/comm").trim(), "sh");
    // An orphan that nobody reaps would stay.
    let orphan = sh("sh -c 'true & echo $!'");
    let orphan = std::path::Path::new("/proc").join(orphan.trim());
    eventually("the orphan is reaped", || (!orphan.exists()).then_some(()));
}

/// Asserts that the test shares nothing with the host that it could break.
fn alone() {
    let links = std::fs::read_to_string("/proc/thread-self/net/dev").expect("read links");
    let links: Vec<_> = links.lines().skip(2).filter_map(|l| l.split(':').next()).collect();
    assert_eq!(links.iter().map(|l| l.trim()).collect::<Vec<_>>(), ["lo"]);
    assert!(sh("ip -o link show lo").contains("LOWER_UP"));

    let run = std::fs::read_dir("/run").expect("read /run");
    let run: Vec<_> = run.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(run, ["netns"]);

    let blue = Namespace::new("blue");
    sh("ip link add left type veth peer name right netns blue");
    assert!(blue.sh("ip -o link").contains("right"));
    assert_eq!(sh("ip netns list").split_whitespace().next(), Some("blue"));
    let path = blue.path();
    drop(blue);
    assert!(!path.exists());
}

#[test]
#[should_panic(expected = "apt-get install nftables")]
fn a_missing_tool_fails_the_test_and_names_the_package() {
    need("no-such-tool", "nftables");
}

#[test]
#[should_panic(expected = "no such thing")]
fn a_line_that_fails_fails_the_test() {
    sh("echo no such thing >&2; false; true");
}
