//! Rulesets that podwire did not write.

use net::Change;
use net::nft::Object;
use testbed::Namespace;

use crate::{apply, dump, listed};

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
    let seen = dump(&space);
    let dormant = |object: &Object| match object {
        Object::Table(table) if table.dormant => Some(table.id.to_string()),
        _ => None,
    };
    assert_eq!(seen.iter().filter_map(dormant).collect::<Vec<_>>(), ["ip old"]);
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
    theirs.sh("iptables-nft -t nat -N CNI-1
        iptables-nft -t nat -A CNI-1 -d 10.1.0.0/16 -m comment --comment pods -j ACCEPT
        iptables-nft -t nat -A CNI-1 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
        iptables-nft -t nat -A POSTROUTING -s 10.1.0.2 -j CNI-1
        iptables-nft -A FORWARD -i cni0 ! -o eth+ -m conntrack --ctstate ESTABLISHED -j ACCEPT
        iptables-nft -A INPUT -p tcp --dport 80 -m mark --mark 0x4000/0x4000 -j DROP
        ip6tables-nft -A INPUT -s fd00::/64 -j DROP");
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
