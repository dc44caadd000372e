//! What a large cluster costs, with the source alone in a process.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testbed::kubernetes::{Server, large};

use crate::agent::{Agent, node};

const NODES: usize = 5000;

/// The source must leave enough of the agent's 40 MB to the agent.
const LIMIT_KIB: usize = 16 * 1024;

/// Where the server is that the process of its own asks.
const API: &str = "PODWIRE_TEST_API";
const FLANNEL: &str = "PODWIRE_TEST_FLANNEL";

#[test]
fn five_thousand_nodes_are_little_memory() {
    if std::env::var_os(API).is_some() {
        return;
    }
    let server = Server::start();
    (1..=NODES).for_each(|number| server.put(large(node(number))));
    for flannel in [false, true] {
        #[expect(clippy::disallowed_methods, reason = "this very test, in a process of its own")]
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["memory::in_a_process_of_its_own", "--exact", "--nocapture"])
            .env(API, server.address().to_string())
            .env(FLANNEL, flannel.to_string())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        text.lines().filter(|line| line.contains("KiB")).for_each(|line| println!("{line}"));
    }
}

#[test]
fn in_a_process_of_its_own() {
    let Ok(api) = std::env::var(API) else { return };
    let flannel = std::env::var(FLANNEL).is_ok_and(|it| it == "true");
    let begun = Instant::now();
    let agent = Agent::start_at(api.parse().unwrap(), flannel);
    let nodes = agent.complete();
    let took = begun.elapsed();
    assert_eq!(nodes.len(), NODES);
    agent.is_silent(Duration::from_millis(500));
    // The program's own code is not what nodes cost, and most of it in a test.
    let peak = status("VmHWM") - status("RssFile");
    println!(
        "{NODES} nodes, flannel {flannel}: {peak} KiB at most, {} KiB in the end, after {} ms",
        status("RssAnon"),
        took.as_millis()
    );
    assert!(peak < LIMIT_KIB, "{peak} KiB");
}

/// What the kernel says about this process, in KiB.
fn status(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
