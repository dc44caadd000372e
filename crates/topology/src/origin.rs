//! Who made a thing, by the marks that makers leave: the number of a route's writer, the name of a
//! table or chain, a comment, a device's name where that is the maker's own convention. Pure.
//!
//! Nothing here proves anything: whoever can write the thing can write the mark. What has no mark of
//! its own has the origin `Unknown`, and what an administrator and many programs do alike has
//! `Person`.

use std::fmt;

use kernel::dump::{Address, Link, Route, Rule};
use net::nft::{Chain, Object, TableId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Namespace, Role};

/// A maker.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// The kernel, by itself or for another object.
    Kernel,
    /// `podwire agent`.
    PodwireAgent,
    /// podwire's CNI plugins.
    PodwirePlugins,
    /// The CNI project's plugins.
    GoPlugins,
    /// flannel.
    Flannel,
    /// Docker.
    Docker,
    /// podman, or its netavark.
    Podman,
    /// kube-proxy or the kubelet.
    KubeProxy,
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
    /// libvirt.
    Libvirt,
    /// Calico.
    Calico,
    /// Cilium.
    Cilium,
    /// systemd-networkd.
    Networkd,
    /// NetworkManager.
    NetworkManager,
    /// A DHCP client.
    Dhcp,
    /// A routing daemon such as FRR or BIRD.
    RoutingDaemon,
    /// A person at a shell, or a program that does as one would.
    Person,
    /// Nothing tells.
    Unknown,
}

use Origin::{
    Calico, Cilium, Dhcp, Docker, Firewalld, Flannel, GoPlugins, Kernel, KubeProxy, Libvirt,
    NetworkManager, Networkd, Person, Podman, PodwireAgent, PodwirePlugins, RoutingDaemon, Ufw,
    Unknown,
};

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kernel => "the kernel",
            PodwireAgent => "podwire agent",
            PodwirePlugins => "podwire's plugins",
            GoPlugins => "the CNI project's plugins",
            Flannel => "flannel",
            Docker => "Docker",
            Podman => "podman",
            KubeProxy => "kube-proxy",
            Firewalld => "firewalld",
            Ufw => "ufw",
            Libvirt => "libvirt",
            Calico => "Calico",
            Cilium => "Cilium",
            Networkd => "systemd-networkd",
            NetworkManager => "NetworkManager",
            Dhcp => "a DHCP client",
            RoutingDaemon => "a routing daemon",
            Person => "a person, or a program that left no mark",
            Unknown => "unknown",
        })
    }
}

/// Writers of routes and rules: number, name and maker. Names and numbers are those of
/// include/uapi/linux/rtnetlink.h (`RTPROT_*`) and of iproute2's `rt_protos`.
const PROTOCOLS: [(u8, &str, Origin); 24] = [
    (0, "unspec", Unknown),
    (1, "redirect", Kernel),
    (2, "kernel", Kernel),
    // What `ip` writes where nothing is said, and with it the Go plugins and flannel.
    (3, "boot", Person),
    // What administrators, NetworkManager and systemd-networkd write alike.
    (4, "static", Person),
    (8, "gated", RoutingDaemon),
    (9, "ra", Kernel),
    (10, "mrt", RoutingDaemon),
    (11, "zebra", RoutingDaemon),
    (12, "bird", RoutingDaemon),
    (13, "dnrouted", RoutingDaemon),
    (14, "xorp", RoutingDaemon),
    (15, "ntk", RoutingDaemon),
    (16, "dhcp", Dhcp),
    (18, "keepalived", RoutingDaemon),
    (42, "babel", RoutingDaemon),
    // Felix' configuration: DeviceRouteProtocol, by default 80.
    (80, "calico", Calico),
    (99, "openr", RoutingDaemon),
    (net::owner::PROTOCOL, "podwire", PodwireAgent),
    (186, "bgp", RoutingDaemon),
    (187, "isis", RoutingDaemon),
    (188, "ospf", RoutingDaemon),
    (189, "rip", RoutingDaemon),
    (192, "eigrp", RoutingDaemon),
];

/// How the end of a name is.
#[derive(Clone, Copy, Debug)]
enum Rest {
    /// There is none.
    Nothing,
    /// So many hexadecimal digits.
    Hex(usize),
    /// A decimal number.
    Number,
    /// Anything.
    Any,
}

/// Names of devices: how they begin and end, of which kind they are (any, if empty), the maker.
const DEVICES: [(&str, Rest, &str, Origin); 33] = [
    ("lo", Rest::Nothing, "", Kernel),
    // What the modules of tunnels make when they are loaded (Documentation/admin-guide/sysctl/net.rst:
    // fb_tunnels_only_for_init_net).
    ("tunl0", Rest::Nothing, "ipip", Kernel),
    ("sit0", Rest::Nothing, "sit", Kernel),
    ("gre0", Rest::Nothing, "gre", Kernel),
    ("gretap0", Rest::Nothing, "gretap", Kernel),
    ("erspan0", Rest::Nothing, "erspan", Kernel),
    ("ip6tnl0", Rest::Nothing, "ip6tnl", Kernel),
    ("ip6gre0", Rest::Nothing, "ip6gre", Kernel),
    ("ip_vti0", Rest::Nothing, "vti", Kernel),
    ("ip6_vti0", Rest::Nothing, "vti6", Kernel),
    // docs/agent.md and plugins/src/attachment.rs: 44 bits of a hash.
    ("podwire0", Rest::Nothing, "", PodwireAgent),
    ("veth", Rest::Hex(11), "veth", PodwirePlugins),
    // plugins/pkg/ip/link_linux.go: RandomVethName, four random bytes.
    ("veth", Rest::Hex(8), "veth", GoPlugins),
    // flannel's backend/vxlan: "flannel.%v" and "flannel-v6.%v" with the VNI.
    ("flannel.", Rest::Number, "vxlan", Flannel),
    ("flannel-v6.", Rest::Number, "vxlan", Flannel),
    ("flannel-wg", Rest::Any, "wireguard", Flannel),
    // libnetwork's drivers/bridge: DefaultBridgeName, "br-" and 12 digits of the network's id, "veth"
    // and 7 digits; the swarm's gateway network.
    ("docker0", Rest::Nothing, "bridge", Docker),
    ("docker_gwbridge", Rest::Nothing, "bridge", Docker),
    ("br-", Rest::Hex(12), "bridge", Docker),
    ("veth", Rest::Hex(7), "veth", Docker),
    // podman-network-create(1), and podman's configuration for CNI.
    ("podman", Rest::Number, "bridge", Podman),
    ("cni-podman", Rest::Number, "bridge", Podman),
    // netavark leaves the name to the kernel, which counts.
    ("veth", Rest::Number, "veth", Unknown),
    // kube-proxy's IPVS mode, and the cache of names on nodes.
    ("kube-ipvs0", Rest::Nothing, "", KubeProxy),
    ("nodelocaldns", Rest::Nothing, "", KubeProxy),
    // libvirt's formatdomain and formatnetwork: "virbr%d", "vnet%d".
    ("virbr", Rest::Any, "", Libvirt),
    ("vnet", Rest::Number, "tun", Libvirt),
    // Felix' configuration: InterfacePrefix, and the names of its tunnels.
    ("cali", Rest::Hex(11), "veth", Calico),
    ("vxlan.calico", Rest::Nothing, "vxlan", Calico),
    ("vxlan-v6.calico", Rest::Nothing, "vxlan", Calico),
    ("wireguard.cali", Rest::Nothing, "", Calico),
    // Cilium's pkg/defaults: HostDevice, SecondHostDevice, and the names of its tunnels.
    ("cilium_", Rest::Any, "", Cilium),
    // Cilium's pkg/datapath/connector: "lxc" and digits of a hash, or "lxc_health".
    ("lxc", Rest::Any, "veth", Cilium),
];

/// Names of nftables tables: the beginning, whether it is all of the name, the maker.
const TABLES: [(&str, bool, Origin); 14] = [
    (net::owner::AGENT_NFT_TABLE, true, PodwireAgent),
    (net::owner::PLUGIN_NFT_TABLE, true, PodwirePlugins),
    // The Go plugins' pkg/ip/ipmasq_nftables_linux.go and plugins/meta/portmap/portmap_nftables.go.
    ("cni_plugins_masquerade", true, GoPlugins),
    ("cni_hostport", true, GoPlugins),
    // flannel's pkg/trafficmngr/nftables: one a family.
    ("flannel-ipv4", true, Flannel),
    ("flannel-ipv6", true, Flannel),
    // Docker's documentation, "Docker with nftables".
    ("docker-bridges", true, Docker),
    // netavark's firewall/nft.rs.
    ("netavark", true, Podman),
    // kube-proxy's nftables mode, both families.
    ("kube-proxy", true, KubeProxy),
    ("firewalld", true, Firewalld),
    // libvirt's network driver, backend nftables.
    ("libvirt_network", true, Libvirt),
    ("calico", true, Calico),
    // systemd's firewall-util-nft.c.
    ("io.systemd.nat", true, Networkd),
    // NetworkManager's nm-firewall-utils.c: "nm-shared-" and the device.
    ("nm-", false, NetworkManager),
];

/// Beginnings of the names of chains in the tables of iptables, which all share.
const CHAINS: [(&str, Origin); 18] = [
    // The Go plugins' ipmasq, portmap (CNI-HOSTPORT-*, CNI-DN-*) and firewall (CNI-FORWARD).
    ("CNI-", GoPlugins),
    ("FLANNEL-", Flannel),
    ("DOCKER", Docker),
    ("NETAVARK", Podman),
    // kube-proxy's and the kubelet's: KUBE-SERVICES, KUBE-FIREWALL, KUBE-KUBELET-CANARY.
    ("KUBE-", KubeProxy),
    ("LIBVIRT_", Libvirt),
    ("cali-", Calico),
    ("CILIUM_", Cilium),
    ("OLD_CILIUM_", Cilium),
    ("ufw-", Ufw),
    ("ufw6-", Ufw),
    // firewalld's backend iptables.
    ("INPUT_ZONES", Firewalld),
    ("FORWARD_ZONES", Firewalld),
    ("FORWARD_IN_ZONES", Firewalld),
    ("FORWARD_OUT_ZONES", Firewalld),
    ("PREROUTING_ZONES", Firewalld),
    ("POSTROUTING_ZONES", Firewalld),
    // NetworkManager's backend iptables, for shared connections.
    ("nm-sh-", NetworkManager),
];

/// Beginnings of comments on rules.
const COMMENTS: [(&str, Origin); 5] = [
    ("flanneld ", Flannel),
    ("cali:", Calico),
    ("cilium: ", Cilium),
    ("cilium-", Cilium),
    ("kubernetes ", KubeProxy),
];

/// Tables of routes that programs keep for themselves.
const ROUTE_TABLES: [(u32, Origin); 3] = [
    (net::owner::TABLE, PodwireAgent),
    // Cilium's pkg/datapath/linux/linux_defaults: RouteTableToProxy and RouteTableFromProxy.
    (2004, Cilium),
    (2005, Cilium),
];

/// What a writer of routes is called; the number, if it has no name.
pub fn protocol_name(number: u8) -> String {
    let known = PROTOCOLS.iter().find(|(known, ..)| *known == number);
    known.map_or_else(|| number.to_string(), |(_, name, _)| (*name).to_owned())
}

/// Who writes with this number.
pub fn of_protocol(number: u8) -> Origin {
    let known = PROTOCOLS.iter().find(|(known, ..)| *known == number);
    known.map_or(Unknown, |(.., origin)| *origin)
}

/// Whether it is one of the devices that the kernel puts into every namespace, and nobody uses it for
/// more than that: the loopback device, and what a loaded module of tunnels makes, while it is down.
pub fn is_everywhere(link: &Link) -> bool {
    let is_it = |known: &(&str, Rest, &str, Origin)| {
        let (name, _, kind, origin) = known;
        *origin == Kernel && *name == link.name && (kind.is_empty() || *kind == link.kind)
    };
    DEVICES.iter().any(is_it) && (link.name == "lo" || !link.up)
}

/// Who made a device.
pub fn of_link(namespace: &Namespace, link: &Link) -> Origin {
    let known = DEVICES.iter().find(|(begin, rest, kind, _)| {
        (kind.is_empty() || *kind == link.kind) && fits(&link.name, begin, *rest)
    });
    match known.map(|(.., origin)| *origin) {
        // podwire keeps flannel's name where it takes a cluster over, and its routes are marked.
        Some(Flannel) if writes_by(namespace, link) => PodwireAgent,
        Some(origin) => origin,
        // Of hardware, and of what a hypervisor shows as such, the driver has told the kernel.
        None if link.kind.is_empty() => Kernel,
        None => Unknown,
    }
}

fn fits(name: &str, begin: &str, rest: Rest) -> bool {
    let Some(end) = name.strip_prefix(begin) else { return false };
    match rest {
        Rest::Nothing => end.is_empty(),
        Rest::Number => !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit()),
        Rest::Hex(digits) => {
            end.len() == digits && end.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
        }
        Rest::Any => !end.is_empty(),
    }
}

/// Whether something by this device has the agent's mark.
fn writes_by(namespace: &Namespace, link: &Link) -> bool {
    let is_by = |route: &Route| route.hops.iter().any(|hop| hop.index == Some(link.index));
    let dump = &namespace.dump;
    let mut routes = dump.routes.iter().filter(|it| it.protocol == net::owner::PROTOCOL);
    let mut entries = dump.neighbours.iter().filter(|it| it.protocol == net::owner::PROTOCOL);
    routes.any(is_by) || entries.any(|it| it.index == link.index)
}

/// Who wrote a route. Where its writer's number says little, the device that it sends by may say more.
pub fn of_route(namespace: &Namespace, route: &Route) -> Origin {
    if let Some((_, origin)) = ROUTE_TABLES.iter().find(|(table, _)| *table == route.table) {
        return *origin;
    }
    let of_hop = |index: u32| of_link(namespace, namespace.dump.links.get(&index)?).tunnel();
    match of_protocol(route.protocol) {
        Person | Unknown => {
            let by_device = route.hops.iter().filter_map(|hop| hop.index).find_map(of_hop);
            match by_device {
                Some(origin) => origin,
                // A pod's routes are written by whoever wires it, and none of them marks them.
                None if namespace.role == Role::Pod => Unknown,
                None => of_protocol(route.protocol),
            }
        }
        // Cilium gives the kernel's number to its own.
        Kernel => {
            let by_device = route.hops.iter().filter_map(|hop| hop.index).find_map(of_hop);
            by_device.filter(|it| *it == Cilium).unwrap_or(Kernel)
        }
        origin => origin,
    }
}

impl Origin {
    /// Makers whose devices only they themselves write routes by.
    fn tunnel(self) -> Option<Self> {
        matches!(self, PodwireAgent | Flannel | Calico | Cilium).then_some(self)
    }
}

/// Who wrote a policy rule.
pub fn of_rule(rule: &Rule) -> Origin {
    /// The three of every namespace, and the one that the first VRF brings.
    const KERNEL: [u32; 4] = [0, 1000, 32766, 32767];
    if let Some((_, origin)) = ROUTE_TABLES.iter().find(|(table, _)| *table == rule.table) {
        return *origin;
    }
    match of_protocol(rule.protocol) {
        Kernel if KERNEL.contains(&rule.priority) => Kernel,
        // `ip rule` writes the number of `boot`; programs that leave it out write 0.
        Kernel => Unknown,
        origin => origin,
    }
}

/// Who gave an address (`IFAPROT_*`, since Linux 5.18); those of leases go away by themselves.
pub fn of_address(address: &Address) -> Origin {
    match address.protocol {
        1..=3 => Kernel,
        0 if address.scope == net::Scope::Link => Kernel,
        0 if address.dynamic && address.address.addr().is_ipv4() => Dhcp,
        0 if address.dynamic => Kernel,
        _ => Unknown,
    }
}

/// Who made a table of nftables.
pub fn of_table(table: &TableId) -> Origin {
    let is_it = |(name, whole, _): &&(&str, bool, Origin)| {
        if *whole { table.name == *name } else { table.name.starts_with(name) }
    };
    TABLES.iter().find(is_it).map_or(Unknown, |(.., origin)| *origin)
}

/// Who made a chain: by its table, its name, or the comments on its rules, if they are all one
/// maker's.
pub fn of_chain(chain: &Chain) -> Origin {
    let by_table = of_table(&chain.table);
    if by_table != Unknown {
        return by_table;
    }
    if let Some((_, origin)) = CHAINS.iter().find(|(name, _)| chain.name.starts_with(name)) {
        return *origin;
    }
    let mut makers = chain.rules.iter().map(|rule| of_comment(rule.comment.as_deref()));
    let first = makers.next().unwrap_or(Unknown);
    if makers.all(|maker| maker == first) { first } else { Unknown }
}

/// Who leaves such a comment on a rule.
pub fn of_comment(comment: Option<&str>) -> Origin {
    let comment = comment.unwrap_or_default();
    let known = COMMENTS.iter().find(|(begin, _)| comment.starts_with(begin));
    known.map_or(Unknown, |(_, origin)| *origin)
}

/// Who made a part of the ruleset.
pub fn of_object(object: &Object) -> Origin {
    match object {
        Object::Table(table) => of_table(&table.id),
        Object::Chain(chain) => of_chain(chain),
        Object::Set(set) => of_table(&set.table),
        Object::Element(element) => of_table(&element.table),
    }
}

#[cfg(test)]
mod tests {
    use net::nft::Family;

    use super::*;
    use crate::NetnsId;

    fn namespace(links: &[(u32, &str, &str)]) -> Namespace {
        let mut namespace = Namespace::new(NetnsId { device: 4, inode: 1 });
        for (index, name, kind) in links {
            let (name, kind) = ((*name).to_owned(), (*kind).to_owned());
            let link = Link { index: *index, name, kind, ..Link::default() };
            namespace.dump.links.insert(*index, link);
        }
        namespace
    }

    fn route(protocol: u8, index: u32) -> Route {
        let hop = kernel::dump::Hop { index: Some(index), ..Default::default() };
        Route {
            destination: "10.9.0.0/16".parse().unwrap(),
            kind: kernel::dump::RouteKind::Unicast,
            hops: vec![hop],
            hop_id: None,
            source: None,
            metric: None,
            table: net::MAIN_TABLE,
            protocol,
            scope: net::Scope::Universe,
            mtu: None,
            advmss: None,
            onlink: false,
            features: None,
            encap: None,
        }
    }

    #[test]
    fn devices_are_known_by_their_makers_conventions() {
        for (name, kind, origin) in [
            ("lo", "", Kernel),
            ("enp1s0", "", Kernel),
            ("tunl0", "ipip", Kernel),
            ("veth0a1b2c3d4e5", "veth", PodwirePlugins),
            ("veth0a1b2c3d", "veth", GoPlugins),
            ("veth0a1b2c3", "veth", Docker),
            ("veth0", "veth", Unknown),
            ("vethmine", "veth", Unknown),
            ("br-0123456789ab", "bridge", Docker),
            ("br-mine", "bridge", Unknown),
            ("br0", "bridge", Unknown),
            ("flannel.1", "vxlan", Flannel),
            ("flannel.1", "bridge", Unknown),
            ("cali0123456789a", "veth", Calico),
            ("cilium_vxlan", "vxlan", Cilium),
            ("podman0", "bridge", Podman),
            ("virbr0", "bridge", Libvirt),
            ("kube-ipvs0", "dummy", KubeProxy),
        ] {
            let namespace = namespace(&[(1, name, kind)]);
            assert_eq!(of_link(&namespace, &namespace.dump.links[&1]), origin, "{name} {kind}");
        }
    }

    #[test]
    fn devices_of_every_namespace_are_told_apart_until_they_are_used() {
        let is_it = |name: &str, kind: &str, up: bool| {
            let namespace = namespace(&[(1, name, kind)]);
            is_everywhere(&Link { up, ..namespace.dump.links[&1].clone() })
        };
        assert!(is_it("lo", "", true) && is_it("tunl0", "ipip", false));
        assert!(!is_it("tunl0", "ipip", true), "a node of Calico's has its address on it");
        assert!(!is_it("tunl0", "veth", false) && !is_it("eth0", "", false));
    }

    #[test]
    fn routes_are_known_by_number_table_and_device() {
        let node =
            namespace(&[(1, "eth0", ""), (2, "flannel.1", "vxlan"), (3, "cilium_host", "veth")]);
        assert_eq!(of_route(&node, &route(112, 1)), PodwireAgent);
        assert_eq!(of_route(&node, &route(3, 1)), Person);
        assert_eq!(of_route(&node, &route(3, 2)), Flannel);
        assert_eq!(of_route(&node, &route(2, 2)), Kernel);
        assert_eq!(of_route(&node, &route(2, 3)), Cilium);
        assert_eq!(of_route(&node, &route(11, 1)), RoutingDaemon);
        assert_eq!(of_route(&node, &route(16, 1)), Dhcp);
        assert_eq!(of_route(&node, &route(250, 1)), Unknown);
        assert_eq!(of_route(&node, &Route { table: 2004, ..route(250, 1) }), Cilium);
        let pod = Namespace { role: Role::Pod, ..namespace(&[(1, "eth0", "veth")]) };
        assert_eq!(of_route(&pod, &route(3, 1)), Unknown);
        // A cluster that podwire has taken over.
        let mut taken = node;
        taken.dump.routes = vec![route(112, 2)];
        assert_eq!(of_link(&taken, &taken.dump.links[&2]), PodwireAgent);
        assert_eq!((protocol_name(12), protocol_name(112)), ("bird".into(), "podwire".into()));
        assert_eq!(protocol_name(77), "77");
    }

    #[test]
    fn rules_of_firewalls_are_known_by_table_chain_and_comment() {
        let chain = |table: &str, name: &str| Chain {
            table: TableId::new(Family::Ip, table),
            name: name.to_owned(),
            base: None,
            rules: Vec::new(),
        };
        for (table, name, origin) in [
            ("podwire", "x", PodwireAgent),
            ("podwire_cni", "x", PodwirePlugins),
            ("nat", "CNI-0123456789abcdef01234567", GoPlugins),
            ("nat", "KUBE-SVC-X", KubeProxy),
            ("filter", "DOCKER-USER", Docker),
            ("filter", "ufw-before-input", Ufw),
            ("firewalld", "x", Firewalld),
            ("nm-shared-eth0", "x", NetworkManager),
            ("nat", "POSTROUTING", Unknown),
            ("podwire2", "x", Unknown),
        ] {
            assert_eq!(of_chain(&chain(table, name)), origin, "{table} {name}");
        }
        let commented = |texts: &[&str]| Chain {
            rules: texts
                .iter()
                .map(|text| net::nft::Rule {
                    comment: Some((*text).to_owned()),
                    ..Default::default()
                })
                .collect(),
            ..chain("nat", "x")
        };
        assert_eq!(of_chain(&commented(&["flanneld masq", "flanneld masq"])), Flannel);
        assert_eq!(of_chain(&commented(&["flanneld masq", "mine"])), Unknown);
    }

    #[test]
    fn policy_rules_and_addresses_have_makers() {
        let rule =
            |priority, protocol, table| Rule { priority, protocol, table, ..Rule::default() };
        assert_eq!(of_rule(&rule(0, 2, 255)), Kernel);
        assert_eq!(of_rule(&rule(5, 2, 255)), Unknown);
        assert_eq!(of_rule(&rule(100, 3, 77)), Person);
        assert_eq!(of_rule(&rule(100, 0, net::owner::TABLE)), PodwireAgent);
        assert_eq!(of_rule(&rule(100, 0, 77)), Unknown);
        let address = |text: &str, dynamic| Address {
            index: 1,
            address: text.parse().unwrap(),
            broadcast: None,
            scope: net::Scope::Universe,
            nodad: false,
            tentative: false,
            dad_failed: false,
            dynamic,
            deprecated: false,
            peer: None,
            protocol: 0,
        };
        assert_eq!(of_address(&address("192.0.2.1/24", true)), Dhcp);
        assert_eq!(of_address(&address("2001:db8::1/64", true)), Kernel);
        assert_eq!(of_address(&address("192.0.2.1/24", false)), Unknown);
    }
}
