//! The agent's nftables table: what leaves the cluster is masqueraded, what is tunnelled is not
//! tracked, tunnels are open to peers only, and what leads to a pod by a port of the node is answered
//! the way it came.
//!
//! ```text
//! table inet podwire {
//!     set pods4 { type ipv4_addr; flags interval; }      all pods
//!     set nodes4 { type ipv4_addr; }                     the other nodes, and this one
//!     set spared4 { type ipv4_addr; flags interval; }    masquerade.except
//!     chain postrouting { type nat hook postrouting priority srcnat; ip saddr <own pods> jump masquerade4 }
//!     chain masquerade4 { ip daddr @pods4 return; …; masquerade fully-random }
//!     chain direct { type filter hook prerouting priority dstnat + 10; iifname eth0 ct status dnat meta mark set … }
//!     chain tunnel_in { type filter hook prerouting priority raw; udp dport 8472 … }
//!     chain tunnel_out { type filter hook output priority raw; udp dport 8472 notrack }
//! }
//! ```
//!
//! A peer is an element or two of sets, so that it costs the same at the thousandth as at the first.

use std::sync::LazyLock;

use ipnet::IpNet;
use net::nft::{
    AddressType, Base, Chain, ChainKind, CtDirection, CtStatus, Element, Field, Hook, Key, KeyType,
    Policy, Rule, Set, SetFlags, Statement, TableId, Test, Transport, Value, Verdict, priority,
};
use net::{LinkName, Object, nft, owner};

use crate::{Config, Family, Joint, Node};

/// The table.
pub(crate) fn table() -> TableId {
    static TABLE: LazyLock<TableId> =
        LazyLock::new(|| TableId::new(nft::Family::Inet, owner::AGENT_NFT_TABLE));
    TABLE.clone()
}

/// All but what each peer adds.
pub(crate) fn base(joint: &Joint<'_>) -> Vec<Object> {
    let Joint { config, me, pod_networks, uplinks, .. } = joint;
    let mut objects: Vec<Object> = vec![Object::Nft(table().into())];
    for family in Family::ALL {
        for (name, interval) in [(&PODS, true), (&NODES, false), (&SPARED, true)] {
            objects.push(set(name, family, interval).into());
        }
    }
    for net in pod_networks {
        objects.push(element(&PODS, Family::of_net(*net), (*net).into()));
    }
    for net in &config.masquerade.except {
        objects.push(element(&SPARED, Family::of_net(*net), (*net).into()));
    }
    objects.extend(Family::ALL.into_iter().filter_map(|family| pods_of(joint, me, family)));
    for (family, uplink) in uplinks.iter() {
        let key = Key::Point(vec![Value::Address(uplink.address)]);
        objects.push(element(&NODES, family, key));
    }
    objects.extend(Family::ALL.map(|family| masquerade(config, family).into()));
    objects.push(postrouting(config, me).into());
    if joint.has_tunnel() {
        objects.push(direct(joint).into());
        objects.push(tunnel_in(joint).into());
        objects.push(tunnel_out(config).into());
    }
    if let Some(probes) = &config.probes {
        objects.push(probes_in(probes.port).into());
    }
    objects
}

/// What a peer adds for `family`.
pub(crate) fn peer(joint: &Joint<'_>, peer: &Node, family: Family) -> Vec<Object> {
    let address = peer.addresses.get(family);
    let node = address.map(|it| element(&NODES, family, Key::Point(vec![Value::Address(*it)])));
    pods_of(joint, peer, family).into_iter().chain(node).collect()
}

/// The pods of a node, where they are not among those of the whole cluster: a set of intervals has
/// none that overlap.
fn pods_of(joint: &Joint<'_>, node: &Node, family: Family) -> Option<Object> {
    let subnet = node.subnets.get(family)?;
    let is_new = !overlaps(&joint.pod_networks, subnet);
    is_new.then(|| element(&PODS, family, (*subnet).into()))
}

fn overlaps(networks: &[IpNet], subnet: &IpNet) -> bool {
    networks.iter().any(|net| net.contains(subnet) || subnet.contains(net))
}

/// Whether an element of the pods makes room for these networks, which it would keep out.
pub(crate) fn makes_room(object: &Object, networks: &[IpNet]) -> bool {
    let Object::Nft(nft::Object::Element(Element { set, key, .. })) = object else { return false };
    let Key::Interval(first, last) = key else { return false };
    let ([Value::Address(first)], [Value::Address(last)]) = (&first[..], &last[..]) else {
        return false;
    };
    Family::ALL.into_iter().any(|family| set == named(&PODS, family))
        && nft::network(*first, *last).is_some_and(|subnet| overlaps(networks, &subnet))
}

/// What there is of for each family, of IPv4 and IPv6. Each of thousands of elements has the name of
/// its set.
type Names = LazyLock<[nft::Name; 2]>;

static PODS: Names = LazyLock::new(|| ["pods4", "pods6"].map(nft::Name::from));
static NODES: Names = LazyLock::new(|| ["nodes4", "nodes6"].map(nft::Name::from));
static SPARED: Names = LazyLock::new(|| ["spared4", "spared6"].map(nft::Name::from));
static MASQUERADE: Names = LazyLock::new(|| ["masquerade4", "masquerade6"].map(nft::Name::from));

fn named(names: &'static Names, family: Family) -> &'static nft::Name {
    let [v4, v6] = &**names;
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

fn set(names: &'static Names, family: Family, interval: bool) -> Set {
    let key = match family {
        Family::V4 => KeyType::Ipv4Addr,
        Family::V6 => KeyType::Ipv6Addr,
    };
    Set {
        table: table(),
        name: named(names, family).to_string(),
        key: vec![key],
        value: None,
        flags: SetFlags { interval, ..SetFlags::default() },
        comment: None,
    }
}

fn element(set: &'static Names, family: Family, key: Key) -> Object {
    let set = named(set, family).clone();
    Element { table: table(), set, key, value: None, comment: None }.into()
}

fn source(family: Family) -> Field {
    match family {
        Family::V4 => Field::IpSource,
        Family::V6 => Field::Ip6Source,
    }
}

fn destination(family: Family) -> Field {
    match family {
        Family::V4 => Field::IpDestination,
        Family::V6 => Field::Ip6Destination,
    }
}

fn chain(name: impl Into<String>, base: Option<Base>, rules: Vec<Rule>) -> Chain {
    Chain { table: table(), name: name.into(), base, rules }
}

fn base_chain(kind: ChainKind, hook: Hook, priority: i32) -> Base {
    Base { kind, hook, priority, policy: Policy::Accept, devices: Vec::new() }
}

/// What this node's own pods send is looked at; what other nodes' pods send was looked at there.
fn postrouting(config: &Config, me: &Node) -> Chain {
    let look = |(family, subnet): (Family, &IpNet)| {
        Rule::new([
            Statement::within(source(family), *subnet),
            Statement::Verdict(Verdict::Jump(named(&MASQUERADE, family).to_string())),
        ])
    };
    let rules = match config.masquerade.enabled {
        true => me.subnets.iter().map(look).collect(),
        false => Vec::new(),
    };
    chain(
        "postrouting",
        Some(base_chain(ChainKind::Nat, Hook::Postrouting, priority::SRCNAT)),
        rules,
    )
}

/// What stays in the cluster keeps its address. Where nothing is masqueraded, the chain says so by
/// being empty: who looks at the node sees what is wanted.
fn masquerade(config: &Config, family: Family) -> Chain {
    if !config.masquerade.enabled {
        return chain(named(&MASQUERADE, family).as_str(), None, Vec::new());
    }
    let to = destination(family);
    let back = || Statement::Verdict(Verdict::Return);
    let spare = |set| Rule::new([Statement::lookup([to], named(set, family).as_str()), back()]);
    let multicast = match family {
        Family::V4 => IpNet::new([224, 0, 0, 0].into(), 4),
        Family::V6 => IpNet::new([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8),
    };
    let multicast = multicast.ok().map(|net| Rule::new([Statement::within(to, net), back()]));
    // Ports by chance: two nodes' pods that ask one server at once do not run into each other.
    let rest = Rule::new([Statement::Masquerade { fully_random: true }]);
    let spared = [&PODS, &NODES, &SPARED].map(spare);
    let rules = spared.into_iter().chain(multicast).chain([rest]).collect();
    chain(named(&MASQUERADE, family).as_str(), None, rules)
}

/// A port of the node that leads to one of its pods is asked by the underlay and answered by it. Our
/// rule for what pods send to nodes would have the answer go by the tunnel, so that both are marked,
/// and another rule has what is marked go by the main table: the answer by its way, and the question
/// because the kernel looks for its way back (`rp_filter`) with the mark that it carries.
///
/// What a pod asks of a service is no such thing, though its destination is rewritten too.
fn direct(joint: &Joint<'_>) -> Chain {
    let by = |name: &LinkName, negated: bool| Statement::Match {
        field: Field::InputName,
        negated,
        test: Test::Is(Value::Interface(name.clone())),
    };
    let rewritten = || {
        let test = Test::Any(CtStatus::DNAT.into());
        Statement::Match { field: Field::CtStatus, negated: false, test }
    };
    let mark = || Statement::SetMark { mask: owner::DIRECT_MARK, value: owner::DIRECT_MARK };
    let mut uplinks: Vec<&LinkName> =
        joint.uplinks.iter().map(|(_, uplink)| &uplink.link).collect();
    uplinks.dedup();
    let mut tunnels: Vec<LinkName> =
        joint.me.subnets.iter().map(|(it, _)| joint.device(it)).collect();
    tunnels.dedup();
    let asked = uplinks.iter().map(|name| Rule::new([by(name, false), rewritten(), mark()]));
    let elsewhere = uplinks.iter().copied().chain(&tunnels).map(|name| by(name, true));
    let answer = [Statement::is(Field::CtDirection, CtDirection::REPLY), rewritten(), mark()];
    let answered = Rule::new(elsewhere.chain(answer).collect::<Vec<_>>());
    let base = base_chain(ChainKind::Filter, Hook::Prerouting, priority::DSTNAT + 10);
    chain("direct", Some(base), asked.chain([answered]).collect())
}

/// A tunnel takes packets of its network from anybody, so that others' are kept out before it sees
/// them. A flow through it is many flows inside: tracking it would say nothing and cost an entry.
fn tunnel_in(joint: &Joint<'_>) -> Chain {
    let tunnel = &joint.config.tunnel;
    let to_tunnel = || {
        [
            Statement::is(Field::DestinationPort(Transport::Udp), Value::Port(tunnel.port)),
            Statement::is(Field::DestinationType, AddressType::LOCAL),
        ]
    };
    let stranger = |family: Family| {
        let unknown = Statement::Lookup {
            key: vec![source(family)],
            negated: true,
            set: named(&NODES, family).to_string(),
        };
        let [port, local] = to_tunnel();
        Rule::new([port, local, unknown, Statement::Verdict(Verdict::Drop)])
    };
    // A device that does not name the networks that it takes takes all of them.
    let takes_all = !joint.vni_filter && !joint.is_classic();
    let other_network = takes_all.then(|| {
        let [_, vni @ ..] = tunnel.vni.to_be_bytes();
        let test = Test::Is(Value::Raw(vni.to_vec()));
        let other = Statement::Match { field: Field::Vni, negated: true, test };
        let [port, local] = to_tunnel();
        Rule::new([port, local, other, Statement::Verdict(Verdict::Drop)])
    });
    let [port, local] = to_tunnel();
    let untracked = Rule::new([port, local, Statement::NoTrack]);
    let base = base_chain(ChainKind::Filter, Hook::Prerouting, priority::RAW);
    let strangers = Family::ALL.map(stranger).into_iter();
    let rules = strangers.chain(other_network).chain([untracked]).collect();
    chain("tunnel_in", Some(base), rules)
}

fn tunnel_out(config: &Config) -> Chain {
    let untracked = |family: Family| {
        let peer = Statement::lookup([destination(family)], named(&NODES, family).as_str());
        let port =
            Statement::is(Field::DestinationPort(Transport::Udp), Value::Port(config.tunnel.port));
        Rule::new([port, peer, Statement::NoTrack])
    };
    let base = base_chain(ChainKind::Filter, Hook::Output, priority::RAW);
    chain("tunnel_out", Some(base), Family::ALL.map(untracked).into())
}

/// Agents answer agents: on the underlay, and in the tunnel.
fn probes_in(port: u16) -> Chain {
    let to_us = || {
        vec![
            Statement::is(Field::DestinationPort(Transport::Udp), Value::Port(port)),
            Statement::is(Field::DestinationType, AddressType::LOCAL),
        ]
    };
    let known = |(family, set): (Family, &'static Names)| {
        let mut statements = to_us();
        statements.push(Statement::lookup([source(family)], named(set, family).as_str()));
        statements.push(Verdict::Accept.into());
        Rule::new(statements)
    };
    let sets = Family::ALL.into_iter().flat_map(|family| [(family, &NODES), (family, &PODS)]);
    let mut stranger = to_us();
    stranger.push(Verdict::Drop.into());
    let rules = sets.map(known).chain([Rule::new(stranger)]).collect();
    chain("probes_in", Some(base_chain(ChainKind::Filter, Hook::Input, priority::FILTER)), rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::choose;
    use crate::{Machine, PerFamily};

    #[test]
    fn other_networks_are_dropped_where_the_device_takes_them() {
        let drops = |settings: &str, vni_filter: bool| {
            let config = Config::parse(&format!("source: {{file: /n}}\n{settings}")).unwrap();
            let mut me = Node::new("n1".parse().unwrap());
            me.subnets.v4 = Some("10.1.0.0/24".parse().unwrap());
            let joint = Joint {
                config: &config,
                me,
                pod_networks: Vec::new(),
                uplinks: PerFamily::default(),
                chosen: choose(&config, &Machine::default(), &PerFamily::default()),
                vni_filter,
                tx_checksum: None,
            };
            let rules: Vec<String> = tunnel_in(&joint).rules.iter().map(Rule::to_string).collect();
            rules.into_iter().filter(|rule| rule.contains("@th")).collect::<Vec<_>>()
        };
        let rule = "udp dport 8472 fib daddr type local @th,96,24 != 0x";
        let dropped = |vni: &str| vec![format!("{rule}{vni} drop")];
        assert_eq!(drops("", false), dropped("000001"));
        assert_eq!(drops("backend: gpe\ntunnel: {vni: 70000}", false), dropped("011170"));
        assert!(drops("", true).is_empty(), "the device drops them by itself");
        assert!(drops("tunnel: {form: classic}", false).is_empty(), "it has one network only");
    }

    #[test]
    fn nothing_is_masqueraded_where_that_is_off() {
        let mut config = Config::of_file("/n".as_ref());
        let mut me = Node::new("n1".parse().unwrap());
        me.subnets.v4 = Some("10.1.0.0/24".parse().unwrap());
        assert_eq!(postrouting(&config, &me).rules.len(), 1);
        config.masquerade.enabled = false;
        assert!(postrouting(&config, &me).rules.is_empty());
        assert!(masquerade(&config, Family::V4).rules.is_empty());
    }
}
