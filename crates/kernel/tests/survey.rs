//! That a survey tells what the system's own tools tell, and how long large tables take.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::time::Duration;

use kernel::dump::{LinkInfo, NeighbourState, RouteKind};
use kernel::{Kernel, Listening, Survey};
use net::Space;
use serde_json::{Value, json};
use testbed::{isolated, need, sh};

fn survey() -> Survey {
    let survey = Kernel::new().unwrap().survey(&Space::Here).unwrap();
    assert!(survey.failures.is_empty(), "{:?}", survey.failures);
    survey
}

fn told(script: &str) -> Value {
    serde_json::from_str(&sh(script)).unwrap()
}

#[test]
fn links_are_as_ip_and_bridge_tell_them() {
    isolated!();
    sh("ip link add br0 type bridge ageing_time 12300 group_fwd_mask 8 mcast_snooping 0
        ip link add veth0 type veth peer name veth1
        ip link set veth0 master br0; ip link set veth0 alias 'a note'
        bridge link set dev veth0 hairpin on learning off cost 7 isolated on
        ip link add vx0 type vxlan id 5 remote 192.0.2.1 dstport 4789 learning
        ip link add mv0 link veth1 type macvlan mode vepa
        ip link set br0 up; ip link set veth0 up; ip link set veth1 up
        ip address add 10.1.0.1/24 dev br0; ip address add 192.0.2.1 peer 192.0.2.2 dev veth1
        ping -c 1 -W 1 10.1.0.1");
    let seen = survey();
    for expected in told("ip -s -d -j link show").as_array().unwrap() {
        let index = u32::try_from(expected["ifindex"].as_u64().unwrap()).unwrap();
        let link = serde_json::to_value(&seen.dump.links[&index]).unwrap();
        for field in ["ifindex", "ifname", "mtu", "operstate", "ifalias"] {
            let expected = match (&expected[field], field) {
                (Value::Null, "ifalias") => continue,
                (expected, _) => expected,
            };
            assert_eq!(&link[field], expected, "{field} of {link:#}");
        }
        // ip adds one that it works out.
        let mut flags = expected["flags"].as_array().unwrap().clone();
        flags.retain(|flag| flag != "NO-CARRIER");
        let mut read = link["flags"].as_array().unwrap().clone();
        read.retain(|flag| flag != "RUNNING");
        let sorted = |mut flags: Vec<Value>| {
            flags.sort_by_key(ToString::to_string);
            flags
        };
        assert_eq!(sorted(read), sorted(flags), "{link:#}");
        for side in ["rx", "tx"] {
            for counter in ["bytes", "packets", "errors", "dropped"] {
                let (read, told) =
                    (&link["stats64"][side][counter], &expected["stats64"][side][counter]);
                // Neighbour discovery goes on meanwhile.
                assert!(told.as_u64() >= read.as_u64(), "{counter}: {read} and {told}");
            }
        }
    }
    let link = |name: &str| seen.dump.links.values().find(|it| it.name == name).unwrap();
    assert!(link("br0").carrier() && link("lo").stats.unwrap().rx.packets > 0);
    let data = &told("ip -d -j link show br0")[0]["linkinfo"]["info_data"];
    let Some(LinkInfo::Bridge(bridge)) = &link("br0").info else { panic!("no bridge") };
    let read = serde_json::to_value(bridge).unwrap();
    for field in ["stp_state", "priority", "forward_delay", "ageing_time", "group_fwd_mask"] {
        // Old versions of ip write this one as text.
        let number = data[field].as_str().and_then(|it| u64::from_str_radix(&it[2..], 16).ok());
        assert_eq!(read[field], number.map_or(data[field].clone(), Into::into), "{field}");
    }
    for (field, value) in [("mcast_snooping", 0), ("nf_call_iptables", 0), ("vlan_filtering", 0)] {
        assert_eq!(data[field].as_u64(), Some(value));
        assert_eq!(read[field], json!(value != 0));
    }
    let expected = &told("bridge -d -j link show dev veth0")[0];
    let port = serde_json::to_value(link("veth0").port.unwrap()).unwrap();
    for field in [
        "priority",
        "cost",
        "hairpin",
        "guard",
        "learning",
        "flood",
        "mcast_flood",
        "bcast_flood",
        "neigh_suppress",
        "isolated",
    ] {
        assert_eq!(port[field], expected[field], "{field}");
    }
    assert_eq!((port["state"].as_u64(), expected["state"].as_str()), (Some(3), Some("forwarding")));
    let vxlan = link("vx0").vxlan.unwrap();
    assert_eq!((vxlan.vni, vxlan.remote, vxlan.learning), (5, "192.0.2.1".parse().ok(), true));
    assert_eq!(link("mv0").info, Some(LinkInfo::Macvlan { mode: "vepa".into() }));
    let peer = seen.dump.addresses.iter().find_map(|it| it.peer);
    assert_eq!(peer, "192.0.2.2".parse().ok());
    let document = serde_json::to_string(&seen.dump).unwrap();
    assert_eq!(serde_json::from_str::<kernel::dump::Dump>(&document).unwrap(), seen.dump);
}

#[test]
fn settings_of_devices_are_those_of_the_files() {
    isolated!();
    sh("ip link add a.b type veth peer name c; ip link add br0 type bridge
        for i in all default a.b; do
            echo 2 > /proc/sys/net/ipv4/conf/$i/rp_filter
            echo 1 > /proc/sys/net/ipv4/conf/$i/route_localnet
        done
        echo 1 > /proc/sys/net/ipv4/conf/all/proxy_arp; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
        echo 1 > /proc/sys/net/ipv4/conf/c/proxy_arp; echo 1 > /proc/sys/net/ipv4/conf/c/arp_ignore
        echo 1 > /proc/sys/net/ipv6/conf/c/disable_ipv6; echo 0 > /proc/sys/net/ipv6/conf/c/accept_dad
        echo 2 > /proc/sys/net/ipv6/conf/c/accept_ra; echo 1 > /proc/sys/net/ipv4/conf/c/accept_local
        echo 1 > /proc/sys/net/ipv4/conf/c/src_valid_mark; echo 1 > /proc/sys/net/ipv6/conf/c/proxy_ndp
        echo 1 > /proc/sys/net/ipv4/conf/c/arp_announce; echo 0 > /proc/sys/net/ipv4/conf/c/send_redirects");
    let seen = survey();
    for key in ["forwarding", "rp_filter", "proxy_arp", "arp_ignore", "route_localnet"] {
        assert!(seen.settings.contains_key(&format!("net.ipv4.conf.all.{key}")), "{key}");
    }
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        assert!(seen.settings.contains_key(key), "{key}");
    }
    for (key, value) in &seen.settings {
        let path: String = key
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                letter => letter,
            })
            .collect();
        assert_eq!(sh(&format!("cat /proc/sys/{path}")).trim(), value, "{key}");
    }
    assert_eq!(seen.settings["net.ipv4.conf.a/b.rp_filter"], "2");
    // Without br_netfilter there are none of bridges.
    let has = std::path::Path::new("/proc/sys/net/bridge").exists();
    assert_eq!(seen.settings.contains_key("net.bridge.bridge-nf-call-iptables"), has);
}

#[test]
fn each_namespace_has_its_own_settings() {
    isolated!();
    let netns = kernel::Netns::unnamed().unwrap();
    let set = |value| {
        sh(&format!(
            "for i in ip_forward conf/all/arp_ignore; do echo {value} > /proc/sys/net/ipv4/$i; done"
        ));
    };
    set(1);
    netns.enter(|| set(0)).unwrap();
    let mut kernel = Kernel::new().unwrap();
    let space = Space::At(netns.path().to_owned());
    for (space, expected) in [(&Space::Here, "1"), (&space, "0"), (&Space::Here, "1")] {
        let seen = kernel.survey(space).unwrap();
        for key in ["net.ipv4.ip_forward", "net.ipv4.conf.all.arp_ignore"] {
            assert_eq!(seen.settings[key], expected, "{key}");
        }
    }
}

#[test]
fn connections_are_counted() {
    isolated!();
    need("nft", "nftables");
    sh("ip link set lo up; nft 'add table ip t; add chain ip t c { type filter hook output priority 0; }
        add rule ip t c ct state new accept'");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for port in [1001, 1002, 1003] {
        socket.send_to(b"x", ("127.0.0.1", port)).ok();
    }
    let count: u64 = sh("cat /proc/sys/net/netfilter/nf_conntrack_count").trim().parse().unwrap();
    assert_eq!((survey().connections, count > 2), (Some(count), true));
}

#[test]
fn routes_rules_and_neighbours_are_as_ip_tells_them() {
    isolated!();
    sh("ip link add va type veth peer name vb; ip link set va up; ip link set vb up
        ip address add 10.0.0.1/24 dev va
        ip nexthop add id 7 via 10.0.0.2 dev va
        ip route add 10.9.0.0/16 nhid 7
        ip route add 10.8.0.0/16 nexthop via 10.0.0.3 weight 3 nexthop via 10.0.0.4 weight 1
        ip route add 10.7.0.0/16 via 10.0.0.5 features ecn table 77 proto 17
        ip route add prohibit 10.6.0.0/16; ip route add throw 10.5.0.0/16 table 77
        ip rule add fwmark 0x4000/0xffff lookup 77 priority 100
        ip rule add not from 10.1.0.0/16 iif va blackhole priority 101
        ip rule add lookup main suppress_prefixlength 0 priority 102
        ip rule add goto 32766 priority 103; ip rule add from 10.0.0.9 dport 80 lookup 77 priority 104
        ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:01 dev va nud permanent
        ip neigh add 10.0.0.3 lladdr 02:00:00:00:00:02 dev va nud reachable");
    let Survey { dump, .. } = survey();
    let route =
        |net: &str| dump.routes.iter().find(|it| it.destination == net.parse().unwrap()).unwrap();
    assert_eq!(route("10.9.0.0/16").hop_id, Some(7));
    assert_eq!(route("10.9.0.0/16").hops[0].gateway, "10.0.0.2".parse().ok());
    let hops: Vec<_> = route("10.8.0.0/16").hops.iter().map(|hop| (hop.weight, hop.dead)).collect();
    assert_eq!(hops, [(3, false), (1, false)]);
    let it = route("10.7.0.0/16");
    assert_eq!((it.features, it.table, it.protocol), (Some(1), 77, 17));
    assert_eq!(route("10.6.0.0/16").kind, RouteKind::Prohibit);
    assert_eq!(route("10.5.0.0/16").kind, RouteKind::Throw);
    assert_eq!(
        dump.routes.iter().filter(|it| it.destination.addr().is_ipv4()).count(),
        told("ip -4 -j route show table all").as_array().unwrap().len()
    );

    let rule = |priority| dump.rules.iter().find(|it| it.priority == priority && !it.v6).unwrap();
    assert_eq!((rule(100).fwmark, rule(100).table), (Some((0x4000, 0xffff)), 77));
    let it = rule(101);
    assert_eq!(
        (it.not, it.iif.as_deref(), it.action.as_deref(), it.table),
        (true, Some("va"), Some("blackhole"), 0)
    );
    assert_eq!((rule(102).suppress, rule(102).table), (Some(0), 254));
    assert_eq!((rule(103).goto, rule(103).action.as_deref()), (Some(32766), Some("goto")));
    assert!(rule(104).more);
    assert_eq!(rule(100).object().unwrap().fwmark, rule(100).fwmark);
    // Of these a plan cannot speak.
    assert!((101..105).all(|priority| rule(priority).object().is_none()));
    assert!(rule(0).object().is_some() && rule(32766).object().is_some());

    let state = |address: &str| {
        let address = address.parse().ok();
        dump.neighbours.iter().find(|it| it.address == address).unwrap().state
    };
    assert_eq!(state("10.0.0.2"), NeighbourState::Permanent);
    assert_eq!(state("10.0.0.3"), NeighbourState::Reachable);
}

#[test]
fn who_listens_and_which_old_tables_are_in_use_is_told() {
    isolated!();
    need("iptables-legacy", "iptables");
    sh("iptables-legacy -t nat -L >/dev/null; ip6tables-legacy -t filter -L >/dev/null");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("[::1]:0").unwrap();
    let connected = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect(tcp.local_addr().unwrap()).unwrap();
    let seen = survey();
    assert_eq!(seen.legacy_tables, ["ip nat", "ip6 filter"]);
    let listening = |protocol, at: std::net::SocketAddr| Listening {
        protocol,
        address: at.ip(),
        port: at.port(),
    };
    let expected =
        [listening(6, tcp.local_addr().unwrap()), listening(17, udp.local_addr().unwrap())];
    assert_eq!(seen.listening, expected);
}

/// Large tables are read in bounded time; what it is, is printed.
#[test]
fn large_tables_are_read_in_bounded_time() {
    isolated!();
    sh("ip link add br0 type bridge; ip link set br0 up; ip address add 10.0.0.1/8 dev br0
        seq 1 1000 | sed 's/.*/link add l& type veth peer name r&/' | ip -batch -
        { for a in $(seq 1 200); do for b in $(seq 1 250); do for c in 0 128; do
            echo \"route add 172.$((a % 200)).$b.$c/25 via 10.0.0.2 table $((1000 + a))\"; done; done; done; } \
            | ip -batch -
        nft 'add table ip t'; nft 'add chain ip t c'
        for i in $(seq 0 249); do
            seq $((i * 400 + 1)) $((i * 400 + 400)) | awk '{ print \"add rule ip t c ip saddr 10.0.\" \
                int($1 / 256) % 256 \".\" $1 % 256 \" tcp dport \" $1 % 60000 + 1 \" counter accept\" }' \
                | nft -f -
        done");
    // Not by the clock: the machine may have other things to do.
    let on_processor = || {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
    };
    let before = on_processor();
    let seen = survey();
    let took = on_processor() - before;
    let rules: usize = seen
        .dump
        .nft
        .iter()
        .map(|object| match object {
            net::nft::Object::Chain(chain) => chain.rules.len(),
            _ => 0,
        })
        .sum();
    println!(
        "{} links, {} routes and {rules} rules in {took:?}",
        seen.dump.links.len(),
        seen.dump.routes.len()
    );
    assert!(seen.dump.links.len() > 2000 && seen.dump.routes.len() > 100_000 && rules == 100_000);
    assert!(took < Duration::from_secs(30), "{took:?}");
}
