//! The ruleset that podwire writes, beside what the system's own `nft` makes of the same words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kernel::{Error, ErrorKind, Kernel, OnError};
use net::nft::{
    AddressFamily, AddressType, Base, Chain, ChainKind, CtState, CtStatus, Element, Family, Field,
    Hook, Key, KeyType, MapValue, Mapped, Nat, NatKind, NatTarget, Object, Policy, Rule, Set,
    SetFlags, Statement, TableId, Test, Transport, Value, Verdict, priority, text,
};
use net::{Change, Space, Step};
use testbed::Namespace;

/// The same objects by netlink and by `nft -f -`, in every way of writing them.
#[test]
fn netlink_and_text_make_the_same_ruleset() {
    testbed::isolated!();
    testbed::need("nft", "nftables");
    for (name, objects) in rulesets() {
        for change in [Change::Create, Change::Ensure] {
            let (ours, theirs) = (Namespace::new("ours"), Namespace::new("theirs"));
            let changes: Vec<Change> =
                objects.iter().map(|object| change(object.clone().into())).collect();
            apply(&ours.space(), &changes).unwrap();
            type_in(&theirs, &changes);
            for list in ["nft list ruleset", "nft -j list ruleset"] {
                assert_eq!(listed(&ours, list), listed(&theirs, list), "{name}: {list}");
            }
            let (mine, other) = (dump(&ours.space()), dump(&theirs.space()));
            assert_eq!(mine, other, "{name}");
            assert_eq!(sorted(mine), sorted(objects.clone()), "{name}");
        }
    }
}

/// What is written is found again by its key, and nothing else is.
#[test]
fn elements_have_keys() {
    testbed::isolated!();
    let space = Namespace::new("ours");
    let (space, table) = (space.space(), cni(Family::Inet));
    let mut kernel = Kernel::new().unwrap();
    assert_eq!(kernel.nft_elements(&space, &table, "masquerade4").unwrap(), None);
    let pod = Key::Point(vec![v4("10.1.0.2")]);
    assert_eq!(kernel.nft_element(&space, &table, "masquerade4", &pod).unwrap(), None);

    for ruleset in [masquerade(), host_ports(), every_statement()] {
        let changes: Vec<_> = ruleset.iter().map(|it| Change::Ensure(it.clone().into())).collect();
        apply(&space, &changes).unwrap();
        for object in ruleset {
            let Object::Element(element) = object else { continue };
            let seen = kernel.nft_element(&space, &element.table, &element.set, &element.key);
            assert_eq!(seen.unwrap().as_ref(), Some(&element));
            let delete = Change::Delete(element.clone().into());
            let all = kernel.nft_elements(&space, &element.table, &element.set).unwrap().unwrap();
            apply(&space, std::slice::from_ref(&delete)).unwrap();
            let rest = kernel.nft_elements(&space, &element.table, &element.set).unwrap().unwrap();
            assert_eq!(rest.len(), all.len() - 1, "{element:?}");
            assert!(!rest.contains(&element));
            let seen = kernel.nft_element(&space, &element.table, &element.set, &element.key);
            assert_eq!(seen.unwrap(), None);
            apply(&space, &[delete]).unwrap();
        }
    }
    let other = Key::Point(vec![v4("10.1.0.99")]);
    assert_eq!(kernel.nft_element(&space, &table, "masquerade4", &other).unwrap(), None);
}

/// What is refused is named, with its place, and nothing of the transaction remains.
#[test]
fn a_refusal_names_the_change_and_undoes_all() {
    testbed::isolated!();
    let ours = Namespace::new("ours");
    let space = ours.space();
    let create = |object: &Object| Change::Create(object.clone().into());
    let all: Vec<_> = masquerade().iter().map(create).collect();
    apply(&space, &all).unwrap();

    let objects = masquerade();
    let pod = |last: u8| {
        let Object::Element(element) = objects[6].clone() else { panic!("{:?}", objects[6]) };
        let key = Key::Point(vec![Ipv4Addr::new(10, 1, 0, last).into()]);
        Object::from(Element { key, ..element })
    };
    let refused = |changes: &[Change]| {
        let plan: Vec<_> = changes.iter().map(|c| Step::new(&space, c.clone(), "tests")).collect();
        let mut failed = Kernel::new().unwrap().apply(&plan, OnError::Undo).failed;
        assert_eq!(failed.len(), 1, "{failed:?}");
        let (place, error) = failed.remove(0);
        (place, error.kind(), error.to_string())
    };
    let exists = "create nft element 10.1.0.2 in inet podwire_cni masquerade4: file exists";
    assert_eq!(
        refused(&[create(&pod(3)), create(&pod(2)), create(&pod(4))]),
        (1, ErrorKind::Exists, exists.to_owned())
    );
    let elements = |set: &str| {
        let mut kernel = Kernel::new().unwrap();
        kernel.nft_elements(&space, &cni(Family::Inet), set).unwrap().unwrap()
    };
    assert_eq!(elements("masquerade4").len(), 1);

    let table = Object::from(cni(Family::Inet));
    let exists = "create nft table inet podwire_cni: file exists";
    assert_eq!(refused(&[create(&table)]), (0, ErrorKind::Exists, exists.to_owned()));
    for (at, name) in [(1, "map masquerade4"), (3, "chain subnet-10.1.0.0/16")] {
        let exists = format!("create nft {name} in inet podwire_cni: file exists");
        assert_eq!(refused(&[create(&objects[at])]), (0, ErrorKind::Exists, exists));
    }

    let Object::Element(element) = pod(2) else { panic!("{objects:?}") };
    let other = Element { value: Some(Mapped::Verdict(Verdict::Accept)), ..element.clone() };
    let (place, _, text) = refused(&[
        Change::Delete(pod(9).into()),
        Change::Ensure(other.clone().into()),
    ]);
    assert_eq!(place, 1);
    assert!(text.starts_with("ensure nft element 10.1.0.2 in inet podwire_cni masquerade4"), "{text}");
    assert!(text.contains("not as it should be"), "{text}");

    let Object::Chain(chain) = objects[5].clone() else { panic!("{objects:?}") };
    let moved = Chain { base: hook(ChainKind::Nat, Hook::Postrouting, 5), ..chain.clone() };
    let (_, _, text) = refused(&[Change::Ensure(moved.clone().into())]);
    assert!(text.contains("it is there"), "{text}");

    let nonsense = Rule::new([Statement::is(Field::IpSource, Value::Port(1))]);
    let chain = Chain { rules: vec![nonsense], ..chain };
    let (place, _, text) =
        refused(&[Change::Ensure(pod(2).into()), Change::Ensure(chain.into())]);
    assert_eq!(place, 1);
    assert_eq!(
        text,
        "ensure nft chain postrouting in inet podwire_cni: ip saddr is never 1: it has another type"
    );

    let comment = Some("x".repeat(129));
    let (_, _, text) = refused(&[create(&Element { comment, ..other.clone() }.into())]);
    assert!(text.contains("at most 128 bytes"), "{text}");

    // Replacing is one transaction, and works whether or not the old one is still there.
    for _ in 0..2 {
        let (from, to) = (element.clone().into(), other.clone().into());
        apply(&space, &[Change::Replace { from, to }]).unwrap();
        assert_eq!(elements("masquerade4"), std::slice::from_ref(&other));
        apply(&space, &[Change::Delete(other.clone().into())]).unwrap();
    }
    let (from, to) = (objects[5].clone().into(), moved.clone().into());
    apply(&space, &[Change::Replace { from, to }]).unwrap();
    assert!(dump(&space).contains(&moved.into()));
}

/// Deleting is done where there is nothing to delete, in part or as a whole, and is not told as a
/// change, so that taking a plan back does not make what never was.
#[test]
fn what_is_gone_is_deleted() {
    testbed::isolated!();
    let ours = Namespace::new("ours");
    let space = ours.space();
    let steps = |change: fn(net::Object) -> Change, objects: Vec<Object>| -> Vec<Step> {
        objects.into_iter().map(|it| Step::new(&space, change(it.into()), "tests it")).collect()
    };
    let mut kernel = Kernel::new().unwrap();
    let mut delete = |objects: Vec<Object>| -> Vec<Step> {
        kernel.apply(&steps(Change::Delete, objects), OnError::Undo).into_result().unwrap()
    };
    assert_eq!(delete(masquerade()), []);
    assert_eq!(delete(masquerade().into_iter().rev().collect()), []);

    let create = steps(Change::Create, masquerade());
    Kernel::new().unwrap().apply(&create, OnError::Undo).into_result().unwrap();
    let objects = masquerade();
    let absent = element(
        &cni(Family::Inet),
        "masquerade4",
        Key::Point(vec![v4("10.1.0.99")]),
        None,
    );
    // The element that is there, one that is not, and a table that is not.
    let some = vec![absent.into(), objects[6].clone(), Object::from(cni(Family::Bridge))];
    assert_eq!(delete(some.clone()), steps(Change::Delete, vec![objects[6].clone()]));
    assert_eq!(delete(some), []);

    // A chain that a map leads to stays; one that nothing leads to goes, with its rules.
    let plan = steps(Change::Delete, vec![objects[4].clone()]);
    let failed = Kernel::new().unwrap().apply(&plan, OnError::Undo).into_result().unwrap_err();
    assert_eq!(
        failed.to_string(),
        "delete nft chain subnet-fd00__/64 in inet podwire_cni: device or resource busy"
    );
    assert_eq!(delete(vec![objects[3].clone()]).len(), 1);

    assert_eq!(delete(objects.into_iter().rev().collect()).len(), 6);
    assert_eq!(dump(&space), []);
}

/// Many plugins see to what is shared at the same time, each with a pod of its own.
#[test]
fn ensuring_is_idempotent_under_contention() {
    testbed::isolated!();
    const WORKERS: u8 = 8;
    const ROUNDS: u8 = 20;
    let ours = Namespace::new("ours");
    let space = ours.space();
    let objects = masquerade();
    let (shared, own) = objects.split_at(6);
    let Object::Element(element) = &own[0] else { panic!("{own:?}") };
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let space = &space;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let key = Key::Point(vec![Ipv4Addr::new(10, 1, worker, round).into()]);
                    let pod = Object::from(Element { key, ..element.clone() });
                    let mut changes: Vec<_> =
                        shared.iter().map(|it| Change::Ensure(it.clone().into())).collect();
                    changes.push(Change::Create(pod.into()));
                    apply(space, &changes).unwrap();
                    // Reading gives one picture, whatever the others write meanwhile.
                    let chains = dump(space).into_iter().filter(|it| matches!(it, Object::Chain(_)));
                    assert_eq!(chains.collect::<Vec<_>>(), shared[3..]);
                }
            });
        }
    });
    let elements = dump(&space).into_iter().filter(|it| matches!(it, Object::Element(_))).count();
    assert_eq!(elements, usize::from(WORKERS) * usize::from(ROUNDS));
}

/// A transaction larger than a socket takes by default, and one in which more is refused than it
/// has room to tell.
#[test]
fn large_transactions_go_through() {
    testbed::isolated!();
    let ours = Namespace::new("ours");
    let space = ours.space();
    let table = cni(Family::Inet);
    let pods = |from: u16| -> Vec<Object> {
        let pod = |n: u16| {
            let [high, low] = n.to_be_bytes();
            let key = Key::Point(vec![Ipv4Addr::new(10, 1, high, low).into()]);
            element(&table, "pods", key, None).into()
        };
        (from..from + 3000).map(pod).collect()
    };
    let shared = [table.clone().into(), set(&table, "pods", &[KeyType::Ipv4Addr], None).into()];
    let changes = |change: fn(net::Object) -> Change, objects: &[Object]| -> Vec<Change> {
        objects.iter().map(|object| change(object.clone().into())).collect()
    };
    apply(&space, &changes(Change::Create, &shared)).unwrap();
    apply(&space, &changes(Change::Create, &pods(0))).unwrap();
    let error = apply(&space, &changes(Change::Create, &pods(0))).unwrap_err();
    assert!(error.to_string().starts_with("create nft element 10.1.0.0 in"), "{error}");
    apply(&space, &changes(Change::Delete, &pods(1500))).unwrap();
    apply(&space, &changes(Change::Delete, &pods(6000))).unwrap();
    let mut kernel = Kernel::new().unwrap();
    assert_eq!(kernel.nft_elements(&space, &table, "pods").unwrap().unwrap().len(), 1500);
}

/// Whatever others have written is read without a failure, and what is read is understood or kept:
/// written again, it is what it was.
#[test]
fn foreign_rulesets_are_read_and_written_again() {
    testbed::isolated!();
    let theirs = Namespace::new("theirs");
    let space = theirs.space();
    theirs.sh("ip link add veth0 type veth peer name veth1");
    theirs.sh(&format!("nft -f - <<'RULES'\n{FOREIGN}\nRULES"));
    let list = "nft -s list ruleset";
    let before = listed(&theirs, list);
    let chains: Vec<_> =
        dump(&space).into_iter().filter(|it| matches!(it, Object::Chain(_))).collect();
    assert_eq!(chains.len(), 10, "{chains:#?}");
    let ensure: Vec<_> = chains.iter().map(|it| Change::Ensure(it.clone().into())).collect();
    apply(&space, &ensure).unwrap();
    assert_eq!(listed(&theirs, list), before);

    // Some rules can be read, but not be written again: those with sets of their own, and those
    // of which the kernel tells more than it takes.
    theirs.sh(&format!("nft -f - <<'RULES'\n{READ_ONLY}\nRULES"));
    let known = chains.len();
    let seen = dump(&space);
    assert_eq!(seen.iter().filter(|it| matches!(it, Object::Chain(_))).count(), known + 1);
    let anonymous =
        seen.iter().filter(|it| matches!(it, Object::Set(set) if set.flags.anonymous)).count();
    assert_eq!(anonymous, 8);
}

/// What iptables writes by way of nftables, which no rule of `nft` is made of.
#[test]
fn rules_of_iptables_are_read() {
    testbed::isolated!();
    testbed::need("iptables-nft", "iptables");
    let theirs = Namespace::new("theirs");
    theirs.sh(
        "iptables-nft -t nat -N CNI-1
        iptables-nft -t nat -A CNI-1 -d 10.1.0.0/16 -m comment --comment pods -j ACCEPT
        iptables-nft -t nat -A CNI-1 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
        iptables-nft -t nat -A POSTROUTING -s 10.1.0.2 -j CNI-1
        iptables-nft -A FORWARD -i cni0 ! -o eth+ -m conntrack --ctstate ESTABLISHED -j ACCEPT
        iptables-nft -A INPUT -p tcp --dport 80 -m mark --mark 0x4000/0x4000 -j DROP
        ip6tables-nft -A INPUT -s fd00::/64 -j DROP",
    );
    let rules = |name: &str| {
        dump(&theirs.space()).into_iter().find_map(|object| match object {
            Object::Chain(chain) if chain.name == name => Some(chain.rules),
            _ => None,
        })
    };
    let first: Vec<String> =
        rules("POSTROUTING").unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(first, ["ip saddr 10.1.0.2 counter jump CNI-1"]);
    let forward = rules("FORWARD").unwrap()[0].to_string();
    assert!(forward.starts_with("iifname \"cni0\" oifname != \"eth*\" <match>"), "{forward}");
    assert_eq!(rules("CNI-1").unwrap().len(), 2);
}

const FOREIGN: &str = r#"
table inet foreign {
    comment "of somebody else"
    counter hits { }
    quota daily { over 25 mbytes }
    limit slow { rate 400/minute }
    ct helper ftp { type "ftp" protocol tcp; }
    ct timeout short { protocol tcp; l3proto ip; policy = { established: 120 }; }
    set nets { type ipv4_addr; flags interval, timeout; auto-merge; elements = { 10.0.0.0/8 timeout 1h, 192.0.2.1-192.0.2.9 } }
    set names { type ifname; flags interval; elements = { "veth*", "eth0" } }
    set marks { type mark; flags interval; elements = { 0x10-0x20 } }
    set lengths { typeof meta length; elements = { 100 } }
    set tos { typeof ip saddr . ip dscp . tcp dport; elements = { 10.0.0.1 . cs1 . 80 } }
    set uids { typeof meta skuid; elements = { 1000 } }
    set states { type ct_state; elements = { new, established } }
    set seen { type ipv4_addr . inet_service; size 128; flags dynamic,timeout; timeout 5m; }
    set counted { type ipv4_addr; counter; elements = { 10.0.0.7 counter } }
    set rest { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, * } }
    map helpers { type inet_service : counter; elements = { 80 : "hits" } }
    map names_by_port { type inet_service : ifname; elements = { 80 : "veth0" } }
    map spans { type ipv4_addr : ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 : 10.1.1.1 . 80 } }
    map ranges { type ipv4_addr : interval ipv4_addr; elements = { 10.0.0.1 : 10.1.1.1-10.1.1.9 } }
    map decide { type ifname . ipv4_addr : verdict; flags interval; elements = { "eth0" . 10.0.0.0/8 : jump leaf, "eth1" . 10.0.0.1 : drop } }
    chain leaf { }
    chain other {
        counter name "hits" return comment "after all"
        quota name "daily" drop
        limit name "slow" accept
        limit rate over 10 mbytes/second burst 100 kbytes drop
        log prefix "odd: " level debug flags all
        log group 5 queue-threshold 3
        reject with icmpx type admin-prohibited
        reject with tcp reset
        tcp flags & (syn | ack) == syn
        tcp option sack-perm exists
        ip dscp cs1 ip ttl 64 ip protocol icmp
        ip6 flowlabel 5 ip6 hoplimit 1
        exthdr frag exists
        rt classid 5
        icmp type echo-request
        icmpv6 type nd-neighbor-solicit
        meta length > 100 meta cpu 1 meta skuid 0 meta pkttype multicast
        meta iif lo meta priority none
        meta mark set meta mark | 0x4000
        meta mark & 0xff > 5
        ct mark set meta mark ct direction original
        ct original ip saddr 10.0.0.1 ct zone 5
        ct expiration 10s-1m ct packets > 100
        ct helper set "ftp"
        ct timeout set "short"
        ip saddr & 255.0.255.0 == 10.0.1.0
        ip saddr > 10.0.0.1
        ip saddr != @nets iifname @names meta mark @marks
        ip saddr . ip dscp . tcp dport @tos
        tcp dport != 80-90 tcp sport > 1024
        update @seen { ip saddr . tcp dport timeout 1m limit rate 10/minute } drop
        meta nftrace set 1
        meta hour "08:00"-"17:00"
        fib saddr . iif oif missing drop
        fib daddr . iif type local
        socket transparent 1 accept
        meta mark set numgen random mod 4
        th dport 80 @th,16,16 0x50 @nh,96,8 10
        ether type ip ether saddr 0a:58:0a:01:00:02 ip saddr 10.0.0.1
        vlan id 5
        udp dport 4789 udp length 8
        meta l4proto tcp meta nfproto ipv4 tcp dport 80
        meta l4proto tcp th dport 53
        ct state established,related ct state != invalid
        ip6 saddr fd00::/64 ip6 daddr fd00::1-fd00::9
        synproxy mss 1460 wscale 7
    }
    chain filter {
        type filter hook forward priority filter + 5; policy drop;
        ip protocol tcp jump leaf
        iifname . ip saddr vmap @decide
        goto leaf
    }
    chain divert {
        type filter hook prerouting priority mangle; policy accept;
        meta l4proto tcp tproxy ip to 127.0.0.1:5000 meta mark set 1
        ip saddr 10.0.0.1 notrack
    }
    chain rewrite {
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr 192.0.2.1 dnat ip to 10.0.0.1-10.0.0.9
        tcp dport 80 dnat ip to 10.0.0.1:8080-8090 random,persistent
        meta l4proto tcp dnat ip to ip daddr map @spans
        meta l4proto tcp dnat to :8080
        tcp dport 80 redirect to :8000-8010
        udp dport 53 redirect to :53 random
    }
    chain hide {
        type nat hook postrouting priority srcnat; policy accept;
        meta l4proto tcp masquerade to :1024-65535 random
        masquerade persistent
        snat ip prefix to 10.0.0.0/24
    }
}
table netdev early {
    chain in { type filter hook ingress device "veth0" priority -500; policy accept;
        ip saddr 10.0.0.1 fwd to "veth1"
        dup to "veth1"
    }
    chain out { type filter hook egress devices = { "veth0", "veth1" } priority 0; policy accept; }
}
table arp resolve {
    chain in { type filter hook input priority 0; policy accept; arp operation request arp saddr ip 10.0.0.1 drop; }
}
table ip old {
    chain in { type filter hook input priority 0; policy accept; ip saddr 10.0.0.1 tcp dport 80 accept; }
    flags dormant
}
"#;

const READ_ONLY: &str = r#"
table inet foreign {
    chain sets {
        tcp dport { 80, 443 } ip saddr { 10.0.0.0/8, 192.0.2.1 }
        ip saddr . tcp dport { 10.0.0.1 . 80, 10.0.0.2 . 443 }
        ct state vmap { established : accept, invalid : drop }
        meta l4proto { tcp, udp } th dport 53
        iifname { "eth0", "veth*" }
        meta mark set ip saddr map { 10.0.0.1 : 1, 10.0.0.2 : 2 }
        dnat ip to numgen inc mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }
        tcp flags syn tcp option maxseg size set rt mtu
        add @counted { ip saddr }
        osf name "Linux"
    }
}
"#;

fn type_in(namespace: &Namespace, changes: &[Change]) {
    let lines: Vec<_> = changes.iter().flat_map(text::command).collect();
    namespace.sh(&format!("nft -f - <<'RULES'\n{}\nRULES", lines.join("\n")));
}

/// The ruleset in nft's words, without the handles, which tell the order of creation.
fn listed(namespace: &Namespace, command: &str) -> String {
    namespace.sh(&format!("{command} | sed -E 's/\"handle\": [0-9]+, //g'"))
}

fn apply(space: &Space, changes: &[Change]) -> Result<(), Error> {
    let plan: Vec<Step> = changes.iter().map(|c| Step::new(space, c.clone(), "tests it")).collect();
    Kernel::new()?.apply(&plan, OnError::Undo).into_result().map(|_| ())
}

fn dump(space: &Space) -> Vec<Object> {
    Kernel::new().unwrap().dump(space).unwrap().nft
}

fn sorted(mut objects: Vec<Object>) -> Vec<Object> {
    objects.sort_by_cached_key(|object| format!("{object:?}"));
    objects
}

fn rulesets() -> [(&'static str, Vec<Object>); 4] {
    [
        ("masquerade", masquerade()),
        ("spoof check", spoof_check()),
        ("host ports", host_ports()),
        ("every statement", every_statement()),
    ]
}

fn cni(family: Family) -> TableId {
    TableId::new(family, "podwire_cni")
}

fn chain(table: &TableId, name: &str, base: Option<Base>, rules: Vec<Rule>) -> Object {
    Chain { table: table.clone(), name: name.to_owned(), base, rules }.into()
}

fn hook(kind: ChainKind, hook: Hook, priority: i32) -> Option<Base> {
    Some(Base { kind, hook, priority, policy: Policy::Accept, devices: Vec::new() })
}

fn set(table: &TableId, name: &str, key: &[KeyType], value: Option<MapValue>) -> Set {
    Set {
        table: table.clone(),
        name: name.to_owned(),
        key: key.to_vec(),
        value,
        flags: SetFlags::default(),
        comment: None,
    }
}

fn element(table: &TableId, set: &str, key: Key, value: Option<Mapped>) -> Element {
    Element { table: table.clone(), set: set.to_owned(), key, value, comment: None }
}

fn rule(statements: impl Into<Vec<Statement>>) -> Rule {
    Rule::new(statements)
}

fn commented(rule: Rule, comment: &str) -> Rule {
    Rule { comment: Some(comment.to_owned()), ..rule }
}

fn v4(text: &str) -> Value {
    text.parse::<Ipv4Addr>().unwrap().into()
}

fn v6(text: &str) -> Value {
    text.parse::<Ipv6Addr>().unwrap().into()
}

fn ifname(text: &str) -> Value {
    Value::Interface(text.parse().unwrap())
}

fn within(field: Field, net: &str) -> Statement {
    Statement::within(field, net.parse().unwrap())
}

fn test(field: Field, negated: bool, test: Test) -> Statement {
    Statement::Match { field, negated, test }
}

fn masquerade() -> Vec<Object> {
    let table = cni(Family::Inet);
    let verdict = Some(MapValue::Verdict);
    let jump = |chain: &str| Some(Mapped::Verdict(Verdict::Jump(chain.to_owned())));
    let (subnet4, subnet6) = ("subnet-10.1.0.0/16", "subnet-fd00__/64");
    let element4 = element(&table, "masquerade4", Key::Point(vec![v4("10.1.0.2")]), jump(subnet4));
    let element6 = element(&table, "masquerade6", Key::Point(vec![v6("fd00::2")]), jump(subnet6));
    vec![
        table.clone().into(),
        set(&table, "masquerade4", &[KeyType::Ipv4Addr], verdict.clone()).into(),
        Set {
            comment: Some("pods by their addresses".to_owned()),
            ..set(&table, "masquerade6", &[KeyType::Ipv6Addr], verdict)
        }
        .into(),
        chain(
            &table,
            subnet4,
            None,
            vec![
                rule([within(Field::IpDestination, "10.1.0.0/16"), Verdict::Return.into()]),
                rule([within(Field::IpDestination, "224.0.0.0/4"), Verdict::Return.into()]),
                rule([Statement::Masquerade { fully_random: false }]),
            ],
        ),
        chain(
            &table,
            subnet6,
            None,
            vec![
                rule([within(Field::Ip6Destination, "fd00::/64"), Verdict::Return.into()]),
                rule([within(Field::Ip6Destination, "ff00::/8"), Verdict::Return.into()]),
                rule([Statement::Masquerade { fully_random: true }]),
            ],
        ),
        chain(
            &table,
            "postrouting",
            hook(ChainKind::Nat, Hook::Postrouting, priority::SRCNAT),
            vec![
                rule([Statement::vmap([Field::IpSource], "masquerade4")]),
                commented(rule([Statement::vmap([Field::Ip6Source], "masquerade6")]), "of IPv6"),
            ],
        ),
        Element { comment: Some("cbr0 0123abcd eth0".to_owned()), ..element4 }.into(),
        element6.into(),
    ]
}

fn spoof_check() -> Vec<Object> {
    let table = cni(Family::Bridge);
    let veth = || ifname("veth0123456789a");
    let mac = Value::Ether("0a:58:0a:01:00:02".parse().unwrap());
    vec![
        table.clone().into(),
        set(&table, "guarded", &[KeyType::Ifname], None).into(),
        set(&table, "allowed", &[KeyType::Ifname, KeyType::EtherAddr], None).into(),
        chain(
            &table,
            "prerouting",
            hook(ChainKind::Filter, Hook::Prerouting, -300),
            vec![
                rule([
                    Statement::lookup([Field::InputName, Field::EtherSource], "allowed"),
                    Verdict::Accept.into(),
                ]),
                rule([Statement::lookup([Field::InputName], "guarded"), Verdict::Drop.into()]),
            ],
        ),
        element(&table, "allowed", Key::Point(vec![veth(), mac]), None).into(),
        element(&table, "guarded", Key::Point(vec![veth()]), None).into(),
    ]
}

/// Destinations rewritten by maps: by protocol and port, with and without an address in the key.
fn host_ports() -> Vec<Object> {
    use KeyType::{InetProto, InetService, Ipv4Addr, Ipv6Addr};
    let table = cni(Family::Inet);
    let ports = Field::DestinationPort(Transport::Any);
    let data = |types: &[KeyType]| Some(MapValue::Data(types.to_vec()));
    let (tcp, udp) = (Value::Protocol(6), Value::Protocol(17));
    let dnat = |family, key: &[Field], map: &str, port| {
        let to = NatTarget::Map { family, key: key.to_vec(), map: map.to_owned(), port };
        Statement::Nat(Nat { kind: NatKind::Dnat, to })
    };
    let is_v6 = Statement::is(Field::NetworkFamily, Value::NetworkFamily(10));
    vec![
        table.clone().into(),
        set(
            &table,
            "by_address",
            &[Ipv4Addr, InetProto, InetService],
            data(&[Ipv4Addr, InetService]),
        )
        .into(),
        set(&table, "v4", &[InetProto, InetService], data(&[Ipv4Addr, InetService])).into(),
        set(&table, "v6", &[InetProto, InetService], data(&[Ipv6Addr, InetService])).into(),
        set(&table, "hosts", &[InetService], data(&[Ipv4Addr])).into(),
        chain(
            &table,
            "hostports",
            hook(ChainKind::Nat, Hook::Prerouting, priority::DSTNAT),
            vec![
                rule([
                    Statement::is(Field::DestinationType, AddressType::LOCAL),
                    dnat(
                        AddressFamily::Ip,
                        &[Field::IpDestination, Field::Protocol, ports],
                        "by_address",
                        true,
                    ),
                ]),
                rule([dnat(AddressFamily::Ip, &[Field::Protocol, ports], "v4", true)]),
                rule([is_v6, dnat(AddressFamily::Ip6, &[Field::Protocol, ports], "v6", true)]),
                rule([dnat(
                    AddressFamily::Ip,
                    &[Field::DestinationPort(Transport::Tcp)],
                    "hosts",
                    false,
                )]),
            ],
        ),
        element(
            &table,
            "by_address",
            Key::Point(vec![v4("192.0.2.1"), tcp.clone(), Value::Port(8080)]),
            Some(Mapped::Data(vec![v4("10.1.0.2"), Value::Port(80)])),
        )
        .into(),
        element(
            &table,
            "v4",
            Key::Point(vec![udp, Value::Port(53)]),
            Some(Mapped::Data(vec![v4("10.1.0.3"), Value::Port(5353)])),
        )
        .into(),
        element(
            &table,
            "v6",
            Key::Point(vec![tcp, Value::Port(443)]),
            Some(Mapped::Data(vec![v6("fd00::3"), Value::Port(8443)])),
        )
        .into(),
        element(
            &table,
            "hosts",
            Key::Point(vec![Value::Port(22)]),
            Some(Mapped::Data(vec![v4("10.1.0.4")])),
        )
        .into(),
    ]
}

/// Every statement, test, type and flag that the other rulesets lack.
fn every_statement() -> Vec<Object> {
    let table = TableId::new(Family::Inet, "sample");
    let frames = TableId::new(Family::Bridge, "frames");
    let tcp = Field::DestinationPort(Transport::Tcp);
    let matches = [
        within(Field::IpSource, "0.0.0.0/0"),
        within(Field::IpSource, "10.0.0.0/12"),
        test(Field::IpSource, true, Test::Within("10.0.0.0/8".parse().unwrap())),
        test(Field::IpSource, true, Test::Range(v4("10.0.0.1"), v4("10.0.0.9"))),
        test(Field::IpSource, false, Test::Range(v4("10.0.0.1"), v4("10.0.0.9"))),
        within(Field::Ip6Destination, "fd00::/61"),
        Statement::is(Field::Ip6Source, "fd00::1".parse::<Ipv6Addr>().unwrap()),
        Statement::is(Field::InputName, ifname("eth0")),
        test(Field::OutputName, true, Test::Is(ifname("eth0"))),
        test(Field::InputName, false, Test::StartsWith("veth".to_owned())),
        Statement::is(Field::InputType, Value::DeviceType(1)),
        Statement::is(Field::EtherType, Value::EtherType(0x0806)),
        Statement::is(Field::NetworkFamily, Value::NetworkFamily(2)),
        Statement::is(Field::Protocol, Value::Protocol(132)),
        test(Field::Protocol, true, Test::Is(Value::Protocol(58))),
        Statement::is(tcp, Value::Port(80)),
        test(tcp, false, Test::Range(Value::Port(80), Value::Port(90))),
        Statement::is(Field::SourcePort(Transport::Udp), Value::Port(53)),
        Statement::is(Field::SourcePort(Transport::Sctp), Value::Port(53)),
        Statement::is(Field::EtherSource, Value::Ether("0a:58:0a:01:00:02".parse().unwrap())),
        test(
            Field::CtState,
            false,
            Test::Any((CtState::ESTABLISHED | CtState::RELATED).into()),
        ),
        test(
            Field::CtState,
            true,
            Test::Any((CtState::NEW | CtState::INVALID | CtState::UNTRACKED).into()),
        ),
        Statement::is(Field::CtState, CtState::NEW),
        test(Field::CtState, true, Test::Is(CtState::NEW.into())),
        test(Field::CtStatus, false, Test::Any(CtStatus::DNAT.into())),
        test(Field::CtStatus, true, Test::Any(CtStatus::SNAT.into())),
        Statement::is(Field::Mark, Value::Mark(0x10)),
        test(Field::Mark, false, Test::Masked { mask: 0x4000, value: 0x4000 }),
        test(Field::Mark, true, Test::Masked { mask: 0xff, value: 0 }),
        Statement::is(Field::DestinationType, AddressType::LOCAL),
        test(Field::DestinationType, true, Test::Is(AddressType::MULTICAST.into())),
        Statement::lookup([Field::IpSource], "nets"),
        Statement::Lookup {
            key: vec![Field::IpSource, Field::InputName],
            negated: true,
            set: "pairs".to_owned(),
        },
        Statement::lookup([Field::IpSource, tcp], "ranges"),
        Statement::lookup([Field::Mark], "marks"),
    ];
    let mut rules: Vec<Rule> =
        matches.into_iter().map(|it| rule([it, Statement::Counter, Verdict::Continue.into()])).collect();
    rules.push(rule([Statement::vmap([Field::Protocol, Field::Mark], "verdicts")]));
    rules.push(rule([
        Statement::is(Field::IpSource, "192.0.2.1".parse::<Ipv4Addr>().unwrap()),
        Statement::is(tcp, Value::Port(80)),
        within(Field::IpDestination, "192.0.2.0/24"),
        Statement::SetMark(0x2000),
        Verdict::Goto("other".to_owned()).into(),
    ]));
    rules.push(commented(rule([Verdict::Jump("other".to_owned()).into()]), "see there"));
    let nat = |kind, address: &str, port| {
        let to = NatTarget::Address(address.parse::<IpAddr>().unwrap(), port);
        Statement::Nat(Nat { kind, to })
    };
    let is = |number| Statement::is(Field::Protocol, Value::Protocol(number));
    let v6_only = Statement::is(Field::NetworkFamily, Value::NetworkFamily(10));
    let interval = SetFlags { interval: true, ..SetFlags::default() };
    let between = |first: &Value, last: &Value| Key::Interval(vec![first.clone()], vec![last.clone()]);
    vec![
        net::nft::Table { id: table.clone(), comment: Some("all of it".to_owned()) }.into(),
        frames.clone().into(),
        Set { flags: interval, ..set(&table, "nets", &[KeyType::Ipv4Addr], None) }.into(),
        Set { flags: interval, ..set(&table, "nets6", &[KeyType::Ipv6Addr], None) }.into(),
        set(&table, "pairs", &[KeyType::Ipv4Addr, KeyType::Ifname], None).into(),
        Set {
            flags: interval,
            ..set(&table, "ranges", &[KeyType::Ipv4Addr, KeyType::InetService], None)
        }
        .into(),
        set(&table, "marks", &[KeyType::Mark], None).into(),
        Set {
            flags: SetFlags { dynamic: true, timeout: true, ..SetFlags::default() },
            ..set(&table, "seen", &[KeyType::Ipv4Addr], None)
        }
        .into(),
        set(&table, "to_mark", &[KeyType::EtherAddr], Some(MapValue::Data(vec![KeyType::Mark])))
            .into(),
        set(
            &table,
            "verdicts",
            &[KeyType::InetProto, KeyType::Mark],
            Some(MapValue::Verdict),
        )
        .into(),
        chain(&table, "other", None, vec![rule([Verdict::Return.into()])]),
        chain(&table, "input", hook(ChainKind::Filter, Hook::Input, 5), rules),
        chain(
            &table,
            "raw",
            hook(ChainKind::Filter, Hook::Prerouting, priority::RAW),
            vec![rule([Statement::is(Field::InputName, ifname("podwire0")), Statement::NoTrack])],
        ),
        chain(
            &table,
            "in",
            hook(ChainKind::Nat, Hook::Prerouting, priority::DSTNAT),
            vec![
                rule([Statement::is(tcp, Value::Port(80)), nat(NatKind::Dnat, "10.1.0.2", Some(8080))]),
                rule([v6_only.clone(), is(6), nat(NatKind::Dnat, "fd00::2", Some(8080))]),
                rule([v6_only, nat(NatKind::Dnat, "fd00::2", None)]),
                rule([is(17), Statement::Redirect { port: Some(5353) }]),
                rule([is(17), Statement::Redirect { port: None }]),
            ],
        ),
        chain(
            &table,
            "out",
            hook(ChainKind::Nat, Hook::Postrouting, priority::SRCNAT),
            vec![rule([nat(NatKind::Snat, "192.0.2.1", None)])],
        ),
        chain(
            &table,
            "late",
            Some(Base {
                kind: ChainKind::Route,
                hook: Hook::Output,
                priority: -150,
                policy: Policy::Drop,
                devices: Vec::new(),
            }),
            vec![],
        ),
        chain(
            &frames,
            "forward",
            hook(ChainKind::Filter, Hook::Forward, priority::FILTER),
            vec![
                rule([within(Field::IpSource, "10.1.0.0/16"), Verdict::Accept.into()]),
                rule([within(Field::Ip6Source, "fd00::/64"), Verdict::Accept.into()]),
                rule([
                    Statement::is(Field::EtherType, Value::EtherType(0x0806)),
                    Verdict::Drop.into(),
                ]),
            ],
        ),
        element(&table, "nets", between(&v4("10.0.0.0"), &v4("10.255.255.255")), None).into(),
        element(&table, "nets", between(&v4("11.0.0.0"), &v4("11.0.0.0")), None).into(),
        Element {
            comment: Some("odd".to_owned()),
            ..element(&table, "nets", between(&v4("192.0.2.3"), &v4("192.0.2.10")), None)
        }
        .into(),
        element(&table, "nets", between(&v4("240.0.0.0"), &v4("255.255.255.255")), None).into(),
        element(&table, "nets6", between(&v6("fd00::"), &v6("fd00::ffff")), None).into(),
        element(&table, "pairs", Key::Point(vec![v4("10.1.0.2"), ifname("eth0")]), None).into(),
        element(
            &table,
            "ranges",
            Key::Interval(
                vec![v4("10.0.0.0"), Value::Port(80)],
                vec![v4("10.0.255.255"), Value::Port(90)],
            ),
            None,
        )
        .into(),
        element(&table, "marks", Key::Point(vec![Value::Mark(0x4000)]), None).into(),
        element(
            &table,
            "to_mark",
            Key::Point(vec![Value::Ether("0a:58:0a:01:00:02".parse().unwrap())]),
            Some(Mapped::Data(vec![Value::Mark(7)])),
        )
        .into(),
        element(
            &table,
            "verdicts",
            Key::Point(vec![Value::Protocol(6), Value::Mark(1)]),
            Some(Mapped::Verdict(Verdict::Goto("other".to_owned()))),
        )
        .into(),
        element(&table, "verdicts", Key::Rest, Some(Mapped::Verdict(Verdict::Accept))).into(),
    ]
}
