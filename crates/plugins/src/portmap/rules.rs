//! What a port mapping is in nftables: pure, from mappings and addresses to objects.
//!
//! One map element a port, looked up by address, protocol and port, so that a port costs the same
//! at the thousandth as at the first, and can be taken only once. The first packet of a connection
//! to a host port carries a mark on its way through the node; the container's subnet decides then
//! whether it needs the node's address as its source.
//!
//! ```text
//! table inet podwire_cni {
//!     map hostports4     { type inet_proto . inet_service : ipv4_addr . inet_service; … 8080 : 10.1.0.2 . 80 }
//!     map hostports_ip4  { type ipv4_addr . inet_proto . inet_service : … }   at one address of the node
//!     map hostports_net4 { … : verdict; flags interval; … 192.0.2.0/24 . 8080 : jump hostports-veth… }
//!     map hostports_if4  { type inet_proto . inet_service : verdict; … }      under conditions
//!     map hairpin4       { type ipv4_addr : verdict; … 10.1.0.2 : goto hairpin-10.1.0.0/16 }
//!     chain hostports_in   { type nat hook prerouting priority dstnat; fib daddr type local jump hostports }
//!     chain hostports_out  { type nat hook output priority dstnat; fib daddr type local jump hostports }
//!     chain hostports      { ip6 daddr ::1 return; mark; dnat to … map @hostports_ip4; … vmap @hostports_net4; … ; unmark }
//!     chain hostports-veth… { conditions, dnat to 10.1.0.2:80 }               of one attachment
//!     chain hostports_snat { type nat hook postrouting priority srcnat; marked ip daddr vmap @hairpin4 }
//!     chain hairpin-10.1.0.0/16 { ip saddr { 10.1.0.0/16, 127.0.0.0/8 } masquerade }
//!     chain hostports_guard { type filter hook prerouting priority raw; iiftype != loopback ip daddr 127.0.0.0/8 drop }
//! }
//! ```

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use net::nft::{
    self, AddressFamily, AddressType, Base, Chain, ChainKind, Element, Field, Hook, Key, KeyType,
    MapValue, Mapped, Nat, NatKind, NatTarget, Policy, Rule, Set, SetFlags, Statement, Test,
    Transport, Value, Verdict, priority,
};

use super::config::{Config, Mapping, Protocol, Snat};
use crate::attachment::Attachment;
use crate::{interface, masquerade};

/// One port of the node, and where in the container it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Which protocol's ports are meant.
    pub(crate) protocol: Protocol,
    /// The node's addresses at which the port is; all of the family are a network too.
    pub(crate) host: IpNet,
    /// The port on the node.
    pub(crate) host_port: u16,
    /// The container's address and port.
    pub(crate) target: SocketAddr,
}

/// The ports that `mappings` ask for where the container has these addresses, each once. A mapping
/// whose host IP is of a family that the container has no address of leads nowhere. Two that lead
/// the same port to different places are returned as an error.
pub(crate) fn ports(mappings: &[Mapping], containers: &[IpNet]) -> Result<Vec<Port>, [Port; 2]> {
    let mut ports = Vec::<Port>::new();
    for container in containers {
        for mapping in mappings {
            let all = interface::everywhere(container.addr().is_ipv4());
            let host = mapping.host.unwrap_or(all);
            if host.addr().is_ipv4() != container.addr().is_ipv4() {
                continue;
            }
            let port = Port {
                protocol: mapping.protocol,
                host,
                host_port: mapping.host_port,
                target: SocketAddr::new(container.addr(), mapping.container_port),
            };
            match ports.iter().find(|other| Port { target: other.target, ..port } == **other) {
                None => ports.push(port),
                Some(other) if *other == port => {}
                Some(other) => return Err([*other, port]),
            }
        }
    }
    Ok(ports)
}

impl Port {
    /// The map in which the port is, and its key there.
    pub(crate) fn place(&self, is_conditional: bool) -> (&'static str, Key) {
        let v4 = self.host.addr().is_ipv4();
        let name = |of4, of6| if v4 { of4 } else { of6 };
        let rest = [Value::Protocol(self.protocol.number()), Value::Port(self.host_port)];
        let key = |address: IpAddr| [&[Value::Address(address)], &rest[..]].concat();
        let host = self.host;
        match (host.prefix_len(), is_conditional) {
            (0, false) => (name("hostports4", "hostports6"), Key::Point(rest.to_vec())),
            (0, true) => (name("hostports_if4", "hostports_if6"), Key::Point(rest.to_vec())),
            (_, false) if interface::is_single(host) => {
                (name("hostports_ip4", "hostports_ip6"), Key::Point(key(host.addr())))
            }
            _ => {
                let key = Key::Interval(key(host.network()), key(host.broadcast()));
                (name("hostports_net4", "hostports_net6"), key)
            }
        }
    }

    /// Whether the port is at the node's IPv4 loopback addresses too.
    pub(crate) fn is_at_loopback(&self) -> bool {
        let (host, lo) = (self.host, localhost());
        host.contains(&lo) || lo.contains(&host)
    }

    /// Whether the same port is at a wider network of addresses, too.
    fn is_within(&self, wider: &Self) -> bool {
        (self.protocol, self.host_port) == (wider.protocol, wider.host_port)
            && self.host != wider.host
            && wider.host.contains(&self.host)
    }

    /// Whether some flow is to both.
    pub(crate) fn overlaps(&self, other: net::Flow) -> bool {
        let own = self.flow();
        let (one, two) = (own.destination, other.destination);
        (own.protocol, own.port) == (other.protocol, other.port)
            && (one.contains(&two) || two.contains(&one))
    }

    /// What connection tracking knows of flows to the port.
    pub(crate) fn flow(&self) -> net::Flow {
        let Self { protocol, host, host_port, .. } = *self;
        net::Flow { destination: host, protocol: protocol.number(), port: host_port }
    }
}

/// `192.0.2.1:8080/tcp`, or `8080/tcp` where it is at all addresses.
impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { protocol, host, host_port, .. } = self;
        match (host.prefix_len(), host.addr()) {
            (0, _) => write!(f, "{host_port}/{protocol}"),
            (_, address) if interface::is_single(*host) => {
                write!(f, "{}/{protocol}", SocketAddr::new(address, *host_port))
            }
            _ => write!(f, "{host} port {host_port}/{protocol}"),
        }
    }
}

/// What one attachment needs beside what all of them share.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    /// The chains that its elements lead to.
    pub(crate) chains: Vec<Chain>,
    /// The elements of its ports, with the port that each is for.
    pub(crate) ports: Vec<(Port, Element)>,
    /// The elements of its addresses.
    pub(crate) hairpins: Vec<Element>,
}

/// What the ports of a container with these addresses need.
pub(crate) fn needs(
    config: &Config,
    attachment: &Attachment,
    ports: &[Port],
    containers: &[IpNet],
) -> Needs {
    let mut needs = Needs { chains: Vec::new(), ports: Vec::new(), hairpins: Vec::new() };
    // What is hashed is hashed once, however many ports there are.
    let comment = attachment.comment();
    let element = |set: &str, key, value| Element {
        table: masquerade::table(),
        set: set.into(),
        key,
        value: Some(value),
        comment: Some(comment.clone()),
    };
    for v4 in [true, false] {
        let conditions = if v4 { &config.conditions4 } else { &config.conditions6 };
        let own_chain = conditional_name(attachment, v4);
        let mut rules = Vec::new();
        let mut ports = Vec::from_iter(ports.iter().filter(|it| it.host.addr().is_ipv4() == v4));
        // Of networks that lie in each other the most special one counts.
        ports.sort_by_key(|port| Reverse(port.host.prefix_len()));
        for port in &ports {
            let (map, key) = port.place(!conditions.is_empty());
            let is_direct = conditions.is_empty() && matches!(key, Key::Point(_));
            let value = if is_direct {
                let (address, number) = (port.target.ip(), port.target.port());
                Mapped::Data(vec![Value::Address(address), Value::Port(number)])
            } else {
                rules.push(conditional(conditions, port));
                Mapped::Verdict(Verdict::Jump(own_chain.clone()))
            };
            // The element of a wider one leads to the same chain, and the kernel takes no second one
            // that begins or ends where another is.
            let is_wider =
                |it: &&Port| port.is_within(it) && it.place(!conditions.is_empty()).0 == map;
            let is_there = |(_, it): &(Port, Element)| it.set == map && it.key == key;
            if !ports.iter().any(is_wider) && !needs.ports.iter().any(is_there) {
                needs.ports.push((**port, element(map, key, value)));
            }
        }
        if !rules.is_empty() {
            needs.chains.push(chain(&own_chain, None, rules));
        }
    }
    for container in containers {
        let chain = match config.snat {
            Snat::Never => None,
            Snat::Hairpin => Some(hairpin(*container)),
            Snat::All => Some(masquerade_all()),
        };
        let verdict = chain.as_ref().map_or(Verdict::Return, |it| Verdict::Goto(it.name.clone()));
        let (map, key) = hairpin_place(container.addr());
        needs.hairpins.push(element(map, key, Mapped::Verdict(verdict)));
        needs.chains.extend(chain);
    }
    needs.chains.dedup();
    needs
}

impl Needs {
    /// All elements.
    pub(crate) fn elements(&self) -> impl Iterator<Item = &Element> {
        self.ports.iter().map(|(_, element)| element).chain(&self.hairpins)
    }

    /// Gives up these ports, and the chains to which nothing leads then.
    pub(crate) fn leave(&mut self, ports: &[Port]) {
        self.ports.retain(|(port, _)| !ports.contains(port));
        let mut chains = std::mem::take(&mut self.chains);
        chains.retain(|chain| self.elements().any(|element| led_to(element) == Some(&chain.name)));
        self.chains = chains;
    }
}

/// The map that knows a container's address, and its key there.
pub(crate) fn hairpin_place(address: IpAddr) -> (&'static str, Key) {
    let map = if address.is_ipv4() { "hairpin4" } else { "hairpin6" };
    (map, Key::Point(vec![Value::Address(address)]))
}

/// The chain that goes when `element`, which leads to it, goes: the one of its attachment alone.
/// Those of subnets stay.
pub(crate) fn chain_of(element: &Element) -> Option<Chain> {
    let name = led_to(element)?;
    let is_of_port = element.set.starts_with("hostports_");
    let is_single = name.ends_with("/32") || name.ends_with("/128");
    (is_of_port || is_single).then(|| chain(name, None, Vec::new()))
}

/// The name of the chain that an element leads to.
fn led_to(element: &Element) -> Option<&String> {
    match &element.value {
        Some(Mapped::Verdict(Verdict::Goto(name) | Verdict::Jump(name))) => Some(name),
        _ => None,
    }
}

/// The port of an element, as far as flows to it have to be forgotten.
pub(crate) fn flow_of(element: &Element) -> Option<net::Flow> {
    let (first, last) = match &element.key {
        Key::Point(parts) => (parts, parts),
        Key::Interval(first, last) => (first, last),
        Key::Rest => return None,
    };
    let [.., Value::Protocol(protocol), Value::Port(port)] = first[..] else { return None };
    let destination = match (first.first()?, last.first()?) {
        (Value::Address(first), Value::Address(last)) => nft::network(*first, *last)?,
        _ => interface::everywhere(element.set.ends_with('4')),
    };
    Some(net::Flow { destination, protocol, port })
}

/// All maps of port mappings.
pub(crate) const MAPS: [&str; 10] = [
    "hostports4",
    "hostports6",
    "hostports_ip4",
    "hostports_ip6",
    "hostports_net4",
    "hostports_net6",
    "hostports_if4",
    "hostports_if6",
    "hairpin4",
    "hairpin6",
];

/// The maps as they are made.
pub(crate) fn maps() -> impl Iterator<Item = Set> {
    use KeyType::{InetProto, InetService, Ipv4Addr, Ipv6Addr};
    MAPS.into_iter().map(|name| {
        let address = if name.ends_with('4') { Ipv4Addr } else { Ipv6Addr };
        let target = MapValue::Data(vec![address.clone(), InetService]);
        let port = vec![InetProto, InetService];
        let (key, value) = match name.trim_end_matches(['4', '6']) {
            "hostports" => (port, target),
            "hostports_ip" => ([vec![address], port].concat(), target),
            "hostports_net" => ([vec![address], port].concat(), MapValue::Verdict),
            "hostports_if" => (port, MapValue::Verdict),
            _ => (vec![address], MapValue::Verdict),
        };
        let interval = name.starts_with("hostports_net");
        Set {
            table: masquerade::table(),
            name: name.to_owned(),
            key,
            value: Some(value),
            flags: SetFlags { interval, ..SetFlags::default() },
            comment: None,
        }
    })
}

/// The chains that all port mappings share, in the order in which they have to be made. `mark` is
/// the bit that a connection to a host port carries on its way.
pub(crate) fn shared(mark: u32) -> Vec<Chain> {
    let set = |value| Statement::SetMark { mask: mark, value };
    let is_local = || Statement::is(Field::DestinationType, AddressType::LOCAL);
    let enter = || vec![Rule::new([is_local(), Verdict::Jump("hostports".to_owned()).into()])];
    let marked = || Statement::Match {
        field: Field::Mark,
        negated: false,
        test: Test::Masked { mask: mark, value: mark },
    };
    // The kernel takes no packet with this source off the node, so that a port there would swallow
    // connections instead of refusing them, and hide who listens there.
    let from_itself =
        Statement::within(Field::Ip6Destination, IpAddr::from(Ipv6Addr::LOCALHOST).into());
    let leave_alone = Rule::new([from_itself, Verdict::Return.into()]);
    let mut hostports = vec![leave_alone, Rule::new([set(mark)])];
    hostports.extend([true, false].into_iter().flat_map(look_ups));
    hostports.push(Rule::new([set(0)]));
    let hairpins = [(Field::IpDestination, "hairpin4"), (Field::Ip6Destination, "hairpin6")];
    let hairpins =
        hairpins.map(|(field, map)| Rule::new([marked(), Statement::vmap([field], map)])).to_vec();
    let nat = |hook, priority| base(ChainKind::Nat, hook, priority);
    vec![
        chain("hostports", None, hostports),
        chain("hostports_in", nat(Hook::Prerouting, priority::DSTNAT), enter()),
        chain("hostports_out", nat(Hook::Output, priority::DSTNAT), enter()),
        chain("hostports_snat", nat(Hook::Postrouting, priority::SRCNAT), hairpins),
    ]
}

/// Once a device routes the node's loopback addresses, the node's own services on them could be
/// reached by whoever is at that device: what did not come from the node itself is dropped.
pub(crate) fn guard() -> Chain {
    /// `ARPHRD_LOOPBACK`.
    const LOOPBACK: u16 = 772;
    let test = Test::Is(Value::DeviceType(LOOPBACK));
    let rule = Rule::new([
        Statement::Match { field: Field::InputType, negated: true, test },
        Statement::within(Field::IpDestination, localhost()),
        Verdict::Drop.into(),
    ]);
    chain("hostports_guard", base(ChainKind::Filter, Hook::Prerouting, priority::RAW), vec![rule])
}

/// Gives the node's address to everything.
fn masquerade_all() -> Chain {
    chain("hairpin-all", None, vec![Rule::new([Statement::Masquerade { fully_random: false }])])
}

/// Gives the node's address to what comes from the container's own subnet, whose answers would not
/// come back by the node, and from the node's loopback addresses, which mean nothing elsewhere.
fn hairpin(container: IpNet) -> Chain {
    let masquerade = |field, net| {
        Rule::new([Statement::within(field, net), Statement::Masquerade { fully_random: false }])
    };
    let rules = match container {
        IpNet::V4(_) => vec![
            masquerade(Field::IpSource, container.trunc()),
            masquerade(Field::IpSource, localhost()),
        ],
        IpNet::V6(_) => vec![masquerade(Field::Ip6Source, container.trunc())],
    };
    chain(&hairpin_name(container), None, rules)
}

/// `hairpin-10.1.0.0/16`; colons are not allowed in names.
fn hairpin_name(container: IpNet) -> String {
    format!("hairpin-{}", container.trunc()).replace(':', "_")
}

/// The rules that look a packet's destination up: the more special maps come first.
fn look_ups(v4: bool) -> Vec<Rule> {
    let family = if v4 { AddressFamily::Ip } else { AddressFamily::Ip6 };
    let is_family =
        || Statement::is(Field::NetworkFamily, Value::NetworkFamily(if v4 { 2 } else { 10 }));
    let name = |stem: &str| format!("{stem}{}", if v4 { 4 } else { 6 });
    let port = || vec![Field::Protocol, Field::DestinationPort(Transport::Any)];
    let address = if v4 { Field::IpDestination } else { Field::Ip6Destination };
    let dnat = |key, stem| {
        let to = NatTarget::Map { family, key, map: name(stem), port: true };
        Statement::Nat(Nat { kind: NatKind::Dnat, to })
    };
    let with_address = || [vec![address], port()].concat();
    vec![
        Rule::new([dnat(with_address(), "hostports_ip")]),
        Rule::new([Statement::vmap(with_address(), name("hostports_net"))]),
        Rule::new([is_family(), Statement::vmap(port(), name("hostports_if"))]),
        Rule::new([is_family(), dnat(port(), "hostports")]),
    ]
}

/// The chain of an attachment whose ports are in a network, or lead to it under conditions only.
fn conditional_name(attachment: &Attachment, v4: bool) -> String {
    format!("hostports-{}-{}", attachment.host_link_text(), if v4 { 4 } else { 6 })
}

fn conditional(conditions: &[Statement], port: &Port) -> Rule {
    let field =
        if port.host.addr().is_ipv4() { Field::IpDestination } else { Field::Ip6Destination };
    let host = (port.host.prefix_len() > 0).then(|| Statement::within(field, port.host));
    let mut statements = conditions.to_vec();
    statements.extend(host);
    statements.extend([
        Statement::is(Field::Protocol, Value::Protocol(port.protocol.number())),
        Statement::is(Field::DestinationPort(Transport::Any), Value::Port(port.host_port)),
        Statement::Nat(Nat {
            kind: NatKind::Dnat,
            to: NatTarget::Address(port.target.ip(), Some(port.target.port())),
        }),
    ]);
    Rule::new(statements)
}

fn chain(name: &str, base: Option<Base>, rules: Vec<Rule>) -> Chain {
    Chain { table: masquerade::table(), name: name.to_owned(), base, rules }
}

fn base(kind: ChainKind, hook: Hook, priority: i32) -> Option<Base> {
    Some(Base { kind, hook, priority, policy: Policy::Accept, devices: Vec::new() })
}

/// The node's loopback addresses (RFC 1122, section 3.2.1.3).
fn localhost() -> IpNet {
    IpNet::new_assert([127, 0, 0, 0].into(), 8)
}
