//! Questions about a part of a namespace: the answers are the parts of the answer to all of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kernel::{ForeignDrop, Kernel, Query};
use net::nft::{Family, TableId};
use net::{Address, Link, LinkName, Networks, Object, Space};
use testbed::Namespace;

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

/// Two tunnel ends and a bridge with something of every kind on each, by two writers.
const NODE: &str = "
ip link add under type veth peer name far
ip address add 192.0.2.1/24 dev under; ip address add fd00::1/64 dev under nodad
ip link set far up; ip link set under up
ip link add br0 type bridge; ip link add port type veth peer name end
ip link set port master br0; ip link set br0 up; ip link set port up; ip link set end up
bridge fdb add 02:00:00:00:00:07 dev port master static
bridge fdb add 02:00:00:00:00:08 dev far self permanent
for d in one two; do
    case $d in one) n=1;; two) n=2;; esac
    ip link add $d type vxlan external vnifilter dstport 847$n
    ip link set $d up
    bridge vni add dev $d vni $n
    bridge vni add dev $d vni 10-13
    ip address add 10.$n.0.0/32 dev $d
    ip address add fd0$n::/128 dev $d nodad
    ip neighbour add 10.$n.1.0 lladdr 02:00:00:00:00:0$n dev $d nud permanent protocol 112
    ip neighbour add 10.$n.2.0 lladdr 02:00:00:00:00:0$n dev $d nud stale
    ip neighbour add fd0$n:1:: lladdr 02:00:00:00:00:0$n dev $d nud permanent
    bridge fdb add 02:00:00:00:00:0$n dev $d dst 192.0.2.7 vni $n
    ip route add 10.$n.1.0/24 encap ip id $n dst 192.0.2.7 via 10.$n.1.0 dev $d onlink proto 112
    ip route add 10.$n.2.0/24 dev $d table 113 proto 4
    ip -6 route add fd0$n:1::/64 encap ip6 id $n dst fd00::7 csum via fd0$n:1:: dev $d onlink proto 112
    ip -6 route add fd0$n:2::/64 dev $d table 1000 proto 112
    ip rule add from 10.$n.0.0/16 lookup 113 priority 100$n protocol 11$n
    ip -6 rule add from fd0$n::/16 lookup 113 priority 100$n protocol 112
done
ip route add blackhole 10.9.0.0/16 proto 112
ip route add 10.8.0.0/16 proto 112 nexthop dev one nexthop dev two
";

fn is_on(object: &Object, link: &LinkName) -> bool {
    match object {
        Object::Link(it) => it.name == *link,
        Object::Address(it) => it.link == *link,
        Object::Route(it) => it.link.as_ref() == Some(link),
        Object::Neighbour(it) => it.link == *link,
        Object::Fdb(it) => it.link == *link,
        Object::Vni(it) => it.link == *link,
        _ => false,
    }
}

/// Without what is seen only where one device is asked about.
fn sorted(objects: impl IntoIterator<Item = Object>) -> Vec<String> {
    let plain = |object| match object {
        Object::Link(link) => Link { tx_checksum: None, ..link }.into(),
        other => other,
    };
    let mut lines: Vec<String> =
        objects.into_iter().map(|object| format!("{:?}", plain(object))).collect();
    lines.sort();
    lines
}

/// Those that one writer has written.
fn routes_of(protocol: u8) -> Query {
    Query::Routes { protocol, by: Vec::new(), within: Networks::default() }
}

#[test]
fn what_is_on_a_device_is_found_alone() {
    testbed::isolated!();
    let node = Namespace::new("node");
    node.sh(NODE);
    let mut kernel = Kernel::new().unwrap();
    let all = kernel.observe(&node.space(), &Query::All).unwrap();
    // Link, two addresses, two neighbours, one forwarding entry, five networks; four routes.
    for (link, count) in [("one", 15), ("two", 15), ("port", 2), ("br0", 1), ("lo", 3)] {
        let link = name(link);
        let mut seen = kernel.observe(&node.space(), &Query::On(link.clone())).unwrap();
        assert!(matches!(seen[0], Object::Link(_)));
        assert!(!seen.iter().any(|object| matches!(object, Object::Route(_))));
        let (by, within) = (vec![link.clone()], Networks::default());
        let routes = Query::Routes { protocol: 99, by, within };
        seen.extend(kernel.observe(&node.space(), &routes).unwrap());
        let expected = all.iter().filter(|object| is_on(object, &link)).cloned();
        assert_eq!(sorted(seen.clone()), sorted(expected), "{link}");
        assert_eq!(seen.len(), count, "{link}: {seen:#?}");
    }
    assert_eq!(kernel.observe(&node.space(), &Query::On(name("none"))).unwrap(), []);
}

#[test]
fn link_local_addresses_are_found_where_addresses_are_asked_for() {
    testbed::isolated!();
    let node = Namespace::new("node");
    node.sh(NODE);
    node.sh("ip address add fe80::7/64 dev under nodad");
    let address = Address::new(name("under"), "fe80::7/64".parse().unwrap());
    let address = Object::Address(Address { nodad: true, ..address });
    let mut kernel = Kernel::new().unwrap();
    let mut finds = |query| kernel.observe(&node.space(), &query).unwrap().contains(&address);
    assert!(finds(Query::Addresses(name("under"))));
    assert!(!finds(Query::On(name("under"))) && !finds(Query::All));
}

#[test]
fn what_one_writer_wrote_is_found_alone() {
    testbed::isolated!();
    let node = Namespace::new("node");
    node.sh(NODE);
    let mut kernel = Kernel::new().unwrap();
    let all = kernel.observe(&node.space(), &Query::All).unwrap();
    for (writer, routes, rules) in [(112, 7, 3), (4, 2, 0), (111, 0, 1), (113, 0, 0)] {
        let seen = kernel.observe(&node.space(), &routes_of(writer)).unwrap();
        let is_theirs =
            |object: &&Object| matches!(object, Object::Route(it) if it.protocol == writer);
        assert_eq!(sorted(seen.clone()), sorted(all.iter().filter(is_theirs).cloned()));
        assert_eq!(seen.len(), routes, "{seen:#?}");
        let seen = kernel.observe(&node.space(), &Query::Rules { protocol: writer }).unwrap();
        let is_theirs =
            |object: &&Object| matches!(object, Object::Rule(it) if it.protocol == writer);
        assert_eq!(sorted(seen.clone()), sorted(all.iter().filter(is_theirs).cloned()));
        assert_eq!(seen.len(), rules, "{seen:#?}");
    }
}

#[test]
fn routes_of_others_are_found_amid_networks_the_first_one_first() {
    testbed::isolated!();
    let node = Namespace::new("node");
    node.sh(NODE);
    node.sh("ip address add 10.1.1.9/28 dev under
        ip route prepend 10.1.1.0/24 via 192.0.2.8 proto 99
        ip route append 10.1.1.0/24 via 192.0.2.9 proto 99
        ip route add 10.1.1.128/25 proto 99 nexthop via 192.0.2.6 nexthop via 192.0.2.7
        ip route add unreachable 10.1.1.77 proto 99; ip route add 10.1.0.0/16 via 192.0.2.9
        ip route add 10.1.1.78/32 via 192.0.2.9 table 5
        ip -6 route add fd01:1::/96 via fd00::9 proto 99");
    let all = ["10.1.1.0/24", "fd01:1::/64"].map(|net| net.parse().unwrap());
    let within: Networks = all.into_iter().collect();
    let query = Query::Routes { protocol: 98, by: Vec::new(), within };
    let seen = Kernel::new().unwrap().observe(&node.space(), &query).unwrap();
    let line = |object: &Object| {
        let Object::Route(route) = object else { panic!("{object:?}") };
        let by =
            route.gateway.map(|it| it.to_string()).or(route.link.clone().map(|it| it.to_string()));
        format!("{} {} {}", route.destination, by.unwrap_or_default(), route.protocol)
    };
    let mut told: Vec<String> = seen.iter().map(line).collect();
    let whole: Vec<&str> = told.iter().filter_map(|it| it.strip_prefix("10.1.1.0/24 ")).collect();
    assert_eq!(whole, ["192.0.2.8 99", "10.1.1.0 112", "192.0.2.9 99"]);
    told.retain(|it| !it.starts_with("10.1.1.0/24"));
    told.sort();
    assert_eq!(
        told,
        [
            "10.1.1.0/28 under 2",
            "10.1.1.128/25 192.0.2.6 99",
            "10.1.1.77/32  99",
            "fd01:1::/64 fd01:1:: 112",
            "fd01:1::/96 fd00::9 99",
        ]
    );
}

#[test]
fn one_table_is_found_alone() {
    testbed::isolated!();
    let node = Namespace::new("node");
    for (family, table) in [("inet", "mine"), ("inet", "theirs"), ("ip", "mine")] {
        node.sh(&format!(
            "nft 'add table {family} {table}
                add set {family} {table} peers {{ type ipv4_addr; flags interval; }}
                add element {family} {table} peers {{ 192.0.2.1, 10.0.0.0/8 }}
                add chain {family} {table} out {{ type filter hook output priority 0; }}
                add chain {family} {table} other
                add rule {family} {table} out ip daddr @peers accept
                add rule {family} {table} out jump other'"
        ));
    }
    let mut kernel = Kernel::new().unwrap();
    let all = kernel.observe(&node.space(), &Query::All).unwrap();
    let table = TableId::new(Family::Inet, "mine");
    let seen = kernel.observe(&node.space(), &Query::NftTable(table.clone())).unwrap();
    let is_of_it = |object: &&Object| match object {
        Object::Nft(net::nft::Object::Table(it)) => it.id == table,
        Object::Nft(net::nft::Object::Chain(it)) => it.table == table,
        Object::Nft(net::nft::Object::Set(it)) => it.table == table,
        Object::Nft(net::nft::Object::Element(it)) => it.table == table,
        _ => false,
    };
    assert_eq!(seen, all.iter().filter(is_of_it).cloned().collect::<Vec<_>>());
    assert_eq!(seen.len(), 6, "{seen:#?}");
    let none = TableId::new(Family::Ip6, "mine");
    assert_eq!(kernel.observe(&node.space(), &Query::NftTable(none)).unwrap(), []);
}

#[test]
fn firewalls_are_found() {
    testbed::isolated!();
    testbed::need("iptables-nft", "iptables");
    let node = Namespace::new("node");
    let found = || Kernel::new().unwrap().forward_droppers(&node.space()).unwrap();
    assert_eq!(found(), []);
    let add = |table: &str, policy: &str, rules: &str| {
        let base = format!("type filter hook forward priority 0; policy {policy};");
        node.sh(&format!(
            "nft -f - <<'RULES'\ntable inet {table} {{ chain forward {{ {base} {rules}\n}}\n}}\nRULES"
        ));
    };
    add("open", "accept", "ip saddr 10.0.0.0/8 accept; counter; ct state invalid return");
    add("podwire", "drop", "drop");
    add("podwire_cni", "accept", "drop");
    assert_eq!(found(), []);
    add("asleep", "drop", "drop");
    node.sh("nft 'add table inet asleep { flags dormant; }'");
    assert_eq!(found(), []);
    add("shut", "drop", "");
    add("picky", "accept", "ip saddr 10.0.0.0/8 counter drop");
    add("rude", "accept", "ip saddr 10.0.0.0/8 accept; counter log reject");
    node.sh("nft -f - <<'RULES'
        table ip far {
            chain last { drop; }
            chain between { ip saddr 10.1.0.0/16 accept; goto last; }
            chain never { drop; }
            chain forward {
                type filter hook forward priority 10
                iifname eth0 jump never
                counter jump between
            }
            chain input { type filter hook input priority 0; policy drop; drop; }
        }
RULES
        iptables-nft -A FORWARD -s 10.1.0.0/16 -j REJECT
        ip6tables-nft -P FORWARD DROP");
    let expected =
        |family, table: &str, chain: &str, [policy_drop, drop_rules, drops_the_rest]: [bool; 3]| {
            let (table, chain) = (table.to_owned(), chain.to_owned());
            ForeignDrop { family, table, chain, policy_drop, drop_rules, drops_the_rest }
        };
    let mut seen = found();
    seen.sort_by_key(|it| (it.table.clone(), it.family));
    assert_eq!(
        seen,
        [
            expected(Family::Ip, "far", "forward", [false, true, true]),
            expected(Family::Ip, "filter", "FORWARD", [false, true, false]),
            expected(Family::Ip6, "filter", "FORWARD", [true, false, false]),
            expected(Family::Inet, "picky", "forward", [false, true, false]),
            expected(Family::Inet, "rude", "forward", [false, true, true]),
            expected(Family::Inet, "shut", "forward", [true, false, false]),
        ]
    );
}

#[test]
fn a_namespace_that_is_not_there_is_named() {
    testbed::isolated!();
    let observed = Kernel::new().unwrap().observe(&Space::named("nowhere"), &routes_of(112));
    let error = observed.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn a_namespace_is_known_by_the_number_that_cables_to_it_tell() {
    testbed::isolated!();
    let [one, two, stranger] = ["one", "two", "stranger"].map(Namespace::new);
    one.sh("ip link add near type veth peer name far netns two");
    let mut kernel = Kernel::new().unwrap();
    let end = kernel.link(&one.space(), &name("near")).unwrap().unwrap();
    let number = kernel.number_of(&one.space(), two.netns()).unwrap();
    assert!(number.is_some());
    assert_eq!(number, end.parent_netns);
    assert_eq!(kernel.number_of(&one.space(), stranger.netns()).unwrap(), None);
}
