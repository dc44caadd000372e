//! What joins the nodes: switches, a router, and a host beyond it.

use fabric::{Backend, Family};
use net::nft::{
    Base, Chain, ChainKind, Field, Hook, Policy, Rule, Statement, Table, TableId, Verdict, priority,
};
use net::{Action, Address, Change, Link, LinkName, Object, Peer, Route, Space, Sysctl};

use super::Cluster;
use super::addresses::{self, Wire, all_pods, everywhere};
use crate::{Lab, Namespace, Role, Step};

/// The namespace of switches and router.
pub(super) const NAMESPACE: &str = "net";
/// The namespace of the host beyond the cluster.
pub(super) const OUTSIDE: &str = "outside";
/// The device of a host.
const UPLINK: &str = "eth0";
/// The nftables table of the router.
const TABLE: &str = "underlay";
/// How long a cable may take, in milliseconds.
const PATIENCE: u32 = 3000;

/// A device's name, which is written here or made of a namespace's.
pub(super) fn link(text: &str) -> LinkName {
    #[expect(clippy::expect_used, reason = "names of nodes are short, and tests make the others")]
    text.parse().expect("a device name")
}

/// A list of steps in the making.
struct Steps(Vec<Step>);

impl Steps {
    fn push(&mut self, space: &Space, change: Change, why: &'static str) {
        self.0.push(Step::Machine(net::Step::new(space, change, why)));
    }

    fn create(&mut self, space: &Space, object: impl Into<Object>, why: &'static str) {
        self.push(space, Change::Create(object.into()), why);
    }

    fn ensure(&mut self, space: &Space, object: impl Into<Object>, why: &'static str) {
        self.push(space, Change::Ensure(object.into()), why);
    }

    /// What comes first in every namespace.
    fn begin(&mut self, space: &Space, network: &Cluster) {
        if network.families.all().contains(&Family::V6) {
            let quick = Sysctl::nicety("net/ipv6/conf/default/accept_dad", "0");
            let why = "makes IPv6 addresses usable at once: nobody else is on these cables";
            self.ensure(space, quick, why);
        }
        self.ensure(space, Link::existing(link("lo")).up(), "lets it talk to itself");
    }

    /// A cable from the underlay to the only device of a host.
    fn cable(&mut self, net: &Space, bridge: Option<&str>, host: &Namespace) {
        let far = host.space();
        let peer = Peer { space: far.clone(), name: link(UPLINK), mac: None, mtu: None };
        let near = Link { master: bridge.map(link), ..Link::veth(link(&host.name), peer).up() };
        let why = match bridge {
            Some(_) => "is a cable with one end in the switch and one in the node",
            None => "is a cable from the router to a host beyond the cluster",
        };
        self.create(net, near, why);
        self.ensure(&far, Link::existing(link(UPLINK)).up(), "switches the far end on");
    }

    /// A host's address, and its way to all others.
    fn host(&mut self, space: &Space, address: ipnet::IpNet, gateway: ipnet::IpNet) {
        let on_link = Address::new(link(UPLINK), address);
        self.create(space, on_link, "is the address by which others find it");
        let family = Family::of_net(address);
        let way = Route {
            gateway: Some(gateway.addr()),
            link: Some(link(UPLINK)),
            ..Route::new(everywhere(family))
        };
        self.create(space, way, "is the way to everybody else");
    }

    fn forward(&mut self, space: &Space, families: &[Family]) {
        for family in families {
            let key = match family {
                Family::V4 => "net/ipv4/ip_forward",
                Family::V6 => "net/ipv6/conf/all/forwarding",
            };
            self.ensure(space, Sysctl::new(key, "1"), "makes it a router");
        }
    }
}

/// Switches, router, and the host beyond.
pub(super) fn steps(lab: &Lab, network: &Cluster) -> Vec<Step> {
    let mut steps = Steps(Vec::new());
    let Some(net) = lab.namespaces.iter().find(|it| it.role == Role::Underlay) else {
        return steps.0;
    };
    let net = net.space();
    steps.begin(&net, network);
    for wire in addresses::wires(network.underlay) {
        let switch = Link::bridge(link(wire.bridge)).up();
        steps.create(&net, switch, "is the switch that joins the nodes");
        for family in network.families.all() {
            let router = Address::new(link(wire.bridge), wire.gateway(*family));
            steps.create(&net, router, "is the nodes' way out");
        }
    }
    steps.forward(&net, network.families.all());
    // Where br_netfilter is loaded, the router's rules would be asked about what is only switched.
    for family in network.families.all() {
        let key = match family {
            Family::V4 => "net/bridge/bridge-nf-call-iptables",
            Family::V6 => "net/bridge/bridge-nf-call-ip6tables",
        };
        let why = "keeps the router out of what is only switched";
        steps.ensure(&net, Sysctl::nicety(key, "0"), why);
    }
    for object in filter(network) {
        steps.create(&net, object, "drops what is from or for a pod: an underlay knows nodes only");
    }
    for host in lab.namespaces.iter().filter(|it| it.role == Role::Outside) {
        steps.begin(&host.space(), network);
        steps.cable(&net, None, host);
        for family in network.families.all() {
            let (address, gateway) = addresses::outside(*family);
            let router = Address::new(link(&host.name), gateway);
            steps.create(&net, router, "is that host's way to the nodes");
            steps.host(&host.space(), address, gateway);
            if network.dns {
                let address = Address::new(link(UPLINK), addresses::resolver(*family));
                steps.create(&host.space(), address, "is the address of the resolver");
            }
        }
    }
    steps.0
}

/// A node's own devices, before its agent comes.
pub(super) fn node(lab: &Lab, network: &Cluster, node: &Namespace) -> Vec<Step> {
    let mut steps = Steps(Vec::new());
    let Some(net) = lab.namespaces.iter().find(|it| it.role == Role::Underlay) else {
        return steps.0;
    };
    let (net, space) = (net.space(), node.space());
    steps.begin(&space, network);
    let strict = Sysctl::nicety("net/ipv4/conf/all/rp_filter", "1");
    steps.ensure(&space, strict, "drops what comes by another way than its answer would take");
    let wire: Wire = addresses::wire_of(network.underlay, node);
    steps.cable(&net, Some(wire.bridge), node);
    for family in network.families.all() {
        steps.host(&space, wire.node(*family, node), wire.gateway(*family));
    }
    steps.0
}

/// Waits for the cable of a node: a program is quicker than the kernel, which looks at its cables
/// once a second.
pub(super) fn waits(lab: &Lab, node: &Namespace) -> Vec<Step> {
    let mut steps = Steps(Vec::new());
    let net = lab.namespaces.iter().find(|it| it.role == Role::Underlay).map(Namespace::space);
    for (space, end) in
        net.map(|net| (net, node.name.as_str())).into_iter().chain([(node.space(), UPLINK)])
    {
        let wait = Action::WaitUp { link: link(end), millis: PATIENCE };
        steps.push(&space, Change::Act(wait), "waits until the cable carries packets");
    }
    steps.0
}

/// What keeps pods' packets off the underlay. Where nodes route to each other on one link, that link
/// carries them, and only the router does not.
fn filter(network: &Cluster) -> Vec<net::nft::Object> {
    let mut tables = vec![net::nft::Family::Inet];
    if network.backend != Backend::HostGw {
        tables.push(net::nft::Family::Bridge);
    }
    let drops = |family: &Family| {
        let fields = match family {
            Family::V4 => [Field::IpSource, Field::IpDestination],
            Family::V6 => [Field::Ip6Source, Field::Ip6Destination],
        };
        let drop = |field| {
            let pods = Statement::within(field, all_pods(*family));
            Rule::new([pods, Statement::Verdict(Verdict::Drop)])
        };
        fields.map(drop)
    };
    let rules: Vec<Rule> = network.families.all().iter().flat_map(drops).collect();
    let table = |family| {
        let id = TableId::new(family, TABLE);
        let base = Base {
            kind: ChainKind::Filter,
            hook: Hook::Forward,
            priority: priority::FILTER,
            policy: Policy::Accept,
            devices: Vec::new(),
        };
        let name = "forward".to_owned();
        let chain = Chain { table: id.clone(), name, base: Some(base), rules: rules.clone() };
        [net::nft::Object::from(Table::new(id)), chain.into()]
    };
    tables.into_iter().flat_map(table).collect()
}
