//! All that a namespace holds, as text that two runs of the same thing have in common.
//!
//! The system's own tools tell it, so that a mistake of ours in writing is not hidden by the same
//! mistake in reading. What differs by chance (indices, timers, counters) is left out.

use crate::Namespace;

/// What is told, tool by tool. Each line of output stands for itself: the order is not part of
/// the state.
const SCRIPT: &str = r#"
ip -d -o link show
ip -o address show
ip -4 route show table all
ip -6 route show table all
ip -4 rule show
ip -6 rule show
ip neighbour show nud permanent
bridge -d link show
bridge fdb show | grep -E 'static|permanent' || true
bridge vni show 2>/dev/null || true
tc qdisc show
cd /proc/sys
grep -H . net/ipv4/ip_forward net/ipv6/conf/all/forwarding net/ipv6/conf/*/accept_ra \
    net/ipv6/conf/*/accept_dad net/ipv6/conf/*/disable_ipv6 net/ipv6/conf/*/keep_addr_on_down \
    net/ipv4/conf/*/arp_notify | sed 's/:/=/'
"#;

/// The state of a namespace.
pub fn state(namespace: &Namespace) -> String {
    crate::need("bridge", "iproute2");
    crate::need("nft", "nftables");
    let told = namespace.sh(SCRIPT);
    let mut lines: Vec<String> = told.lines().map(steady).filter(|line| !line.is_empty()).collect();
    lines.sort();
    // The ruleset's lines mean something only together, and chains come in the order of creation.
    let mut chains: Vec<String> =
        namespace.sh("nft --stateless list ruleset").split("\n\n").map(str::to_owned).collect();
    chains.sort();
    lines.extend(chains);
    lines.join("\n")
}

/// Fails with the lines that two states do not share.
#[track_caller]
pub fn assert_same_state(left: &str, right: &str) {
    let missing = |from: &str, lines: &str| -> Vec<String> {
        lines
            .lines()
            .filter(|line| !from.lines().any(|other| other == *line))
            .map(str::to_owned)
            .collect()
    };
    let (only_left, only_right) = (missing(right, left), missing(left, right));
    assert!(left == right, "only left:  {only_left:#?}\nonly right: {only_right:#?}");
}

/// A line without what differs by chance; nothing of a line that the kernel adds and removes by
/// itself as carriers come and go.
fn steady(line: &str) -> String {
    if ["fe80::", "33:33:", "01:00:5e:", "multicast ff00::/8"].iter().any(|own| line.contains(own))
    {
        return String::new();
    }
    // What leads an IPv6 address to its owner comes when the kernel knows that nobody else has it.
    if line.contains(" table local proto kernel metric 0 pref ") {
        return String::new();
    }
    // The index in front, of links, addresses and ports.
    let line = match line.split_once(": ") {
        Some((index, rest)) if index.parse::<u32>().is_ok() => rest,
        _ => line,
    };
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let takes_a_number = [
            "link-netnsid",
            "link-netns",
            "hello_timer",
            "tcn_timer",
            "topology_change_timer",
            "gc_timer",
            "message_age_timer",
            "forward_delay_timer",
            "hold_timer",
            "numtxqueues",
            "qlen",
            "numrxqueues",
            "state",
            "gso_max_size",
            "expires",
            "fdb_n_learned",
            "port_id",
            "port_no",
        ];
        if takes_a_number.contains(&word.as_str()) {
            words.next();
            continue;
        }
        // Duplicate address detection and the carrier settle after the fact.
        if ["tentative", "linkdown"].contains(&word.as_str()) {
            continue;
        }
        kept.push(match word.split_once("@if") {
            Some((name, _)) => format!("{name}@peer"),
            None => word.replace("NO-CARRIER,", "").replace(",LOWER_UP", "").replace(",M-DOWN", ""),
        });
    }
    kept.join(" ")
}
