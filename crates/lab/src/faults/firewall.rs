//! Faults by rules: what is rewritten, or dropped, that should not be.

use diagnosis::Code;
use diagnosis::verify::Rule as Promise;
use net::nft::{
    self, Base, Chain, ChainKind, Element, Field, Hook, Policy, Rule, Statement, Table, TableId,
    Test, Transport, Value, Verdict, priority,
};
use net::owner::{AGENT_NFT_TABLE, PLUGIN_NFT_TABLE};
use net::{Change, Object, Plan, Step, Tracked};

use super::site::{Made, POD_LINK, Site, create, delete, last, replace};
use super::{ALL, ALONE, CLUSTERS, Families, Fault, NOWHERE, TUNNELS};
use crate::{Namespace, Role};

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "pods-dropped",
        what: "A table of somebody else's drops what the node forwards for its pods.",
        symptom: "Pods reach pods of their own node only; nobody is told why.",
        repair: "ip netns exec NODE nft delete table inet hardening",
        on: Role::Node,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: &[Promise::PodToPod, Promise::Outside, Promise::NodeToPod, Promise::PodToNode],
        unfelt: NOWHERE,
        codes: &[Code::PodsDropped],
        healed: false,
        make: pods_dropped,
    },
    Fault {
        name: "masquerade-between-pods",
        what: "A rule of somebody else's gives what pods send to pods the node's address.",
        symptom: "Everything works, but pods see the node where another pod asks, and policies fail.",
        repair: "ip netns exec NODE nft delete table ip snat-all (ip6 with IPv6)",
        on: Role::Node,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: &[Promise::PodToPod, Promise::SelfView],
        unfelt: NOWHERE,
        codes: &[Code::MasqueradeBetweenPods],
        healed: false,
        make: masquerade_between_pods,
    },
    Fault {
        name: "masquerade-missing",
        what: "The rule is gone that gives what pods send beyond the cluster the node's address.",
        symptom: "Pods reach each other and every node, but nothing outside.",
        repair: "podwire lab agent start NODE && podwire lab agent stop NODE; in a lab of one node the pods anew",
        on: Role::Node,
        scenes: ALL,
        families: Families::Any,
        rules: &[Promise::Outside],
        unfelt: ALONE,
        codes: &[Code::MasqueradeMissing],
        healed: true,
        make: masquerade_missing,
    },
    Fault {
        name: "table-dormant",
        what: "The table with the rules that masquerade is dormant: they are there, and none of them acts.",
        symptom: "Pods reach each other and every node, but nothing outside, and the rules look right.",
        repair: "ip netns exec NODE nft add table inet podwire (in a lab of one node podwire_cni)",
        on: Role::Node,
        scenes: ALL,
        families: Families::Any,
        rules: &[Promise::Outside],
        unfelt: ALONE,
        codes: &[Code::TableDormant],
        healed: true,
        make: table_dormant,
    },
    Fault {
        name: "host-port-stale",
        what: "The port of the node still leads to the address of a pod that is gone (in labs with --host-port).",
        symptom: "Who asks for the port gets no answer; the pod itself is reached.",
        repair: "podwire lab pod rm POD && podwire lab pod add NODE",
        on: Role::Pod,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: &[Promise::HostPort],
        unfelt: NOWHERE,
        codes: &[Code::HostPortStale],
        healed: false,
        make: host_port_stale,
    },
    Fault {
        name: "conntrack-stale",
        what: "The kernel leads datagrams of a sender to the address of a pod that is gone, though the port has another one by now (in labs with --host-port).",
        symptom: "Who has sent to the port all the time, from one port of its own, gets no answer; who starts anew is served.",
        repair: "ip netns exec NODE conntrack -D -p udp --orig-dst ADDRESS --orig-port-dst PORT",
        on: Role::Pod,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: &[],
        unfelt: NOWHERE,
        codes: &[Code::FlowStale],
        healed: false,
        make: conntrack_stale,
    },
    Fault {
        name: "tunnel-blocked",
        what: "A firewall of the node drops the tunnel's UDP port.",
        symptom: "Nodes reach each other, and their pods do not.",
        repair: "ip netns exec NODE nft delete table inet host-firewall",
        on: Role::Node,
        scenes: TUNNELS,
        families: Families::Any,
        rules: &[Promise::PodToPod, Promise::PodToNode, Promise::NodeToPod],
        unfelt: NOWHERE,
        codes: &[Code::TunnelDropped],
        healed: false,
        make: tunnel_blocked,
    },
    Fault {
        name: "bridged-dropped",
        what: "Bridged packets pass the node's rules (bridge-nf-call-iptables), and one of them drops what stays on the bridge.",
        symptom: "Pods reach everybody but pods of their own node.",
        repair: "ip netns exec NODE nft delete table inet isolation, or: ip netns exec NODE sysctl -w net.bridge.bridge-nf-call-iptables=0",
        on: Role::Node,
        scenes: ALL,
        families: Families::V4,
        rules: &[Promise::PodToPod],
        unfelt: NOWHERE,
        codes: &[Code::BridgeRulesApplied, Code::PodsDropped],
        healed: false,
        make: bridged_dropped,
    },
    Fault {
        name: "bridged-unseen",
        what: "Bridged packets skip the node's rules (bridge-nf-call-iptables), which services need.",
        symptom: "A pod gets no answer from a service whose pod is on its own node.",
        repair: "ip netns exec NODE sysctl -w net.bridge.bridge-nf-call-iptables=1",
        on: Role::Node,
        scenes: ALL,
        families: Families::V4,
        rules: &[],
        unfelt: NOWHERE,
        codes: &[Code::BridgeRulesSkipped],
        healed: false,
        make: bridged_unseen,
    },
];

/// Where packets enter a chain.
fn base(kind: ChainKind, hook: Hook, priority: i32) -> Option<Base> {
    Some(Base { kind, hook, priority, policy: Policy::Accept, devices: Vec::new() })
}

/// A table of somebody else's with one chain.
fn table(
    place: &Namespace,
    id: &TableId,
    name: &str,
    base: Option<Base>,
    rules: Vec<Rule>,
    why: &'static str,
) -> Plan {
    let table = Table::new(id.clone());
    let chain = Chain { table: id.clone(), name: name.to_owned(), base, rules };
    vec![create(place, table, "is a table of somebody else's"), create(place, chain, why)]
}

fn source(v6: bool) -> Field {
    if v6 { Field::Ip6Source } else { Field::IpSource }
}

fn destination(v6: bool) -> Field {
    if v6 { Field::Ip6Destination } else { Field::IpDestination }
}

/// The addresses of a node's pods, as the first of them has them.
fn pods(site: &Site<'_>) -> Result<ipnet::IpNet, String> {
    let pods = site.pods_of(site.on);
    let first = pods.first().ok_or_else(|| format!("{} has no pods", site.on.name))?;
    Ok(site.address(first, POD_LINK)?.address.trunc())
}

fn pods_dropped(site: &Site<'_>) -> Made {
    let id = TableId::new(nft::Family::Inet, "hardening");
    let pods = pods(site)?;
    let bridge = super::bridges::bridge_of(site, site.on)?.name;
    let beyond = Statement::Match {
        field: Field::OutputName,
        negated: true,
        test: Test::Is(Value::Interface(bridge)),
    };
    let rules = vec![Rule::new([
        Statement::within(source(site.v6), pods),
        beyond,
        Statement::Verdict(Verdict::Drop),
    ])];
    let base = base(ChainKind::Filter, Hook::Forward, priority::FILTER);
    let why = "drops what pods send beyond their own node";
    Ok(table(site.on, &id, "forward", base, rules, why))
}

fn masquerade_between_pods(site: &Site<'_>) -> Made {
    let family = if site.v6 { nft::Family::Ip6 } else { nft::Family::Ip };
    let id = TableId::new(family, "snat-all");
    let bridge = super::bridges::bridge_of(site, site.on)?.name;
    let beyond = Statement::Match {
        field: Field::OutputName,
        negated: true,
        test: Test::Is(Value::Interface(bridge)),
    };
    let rules = vec![Rule::new([
        Statement::within(source(site.v6), pods(site)?),
        beyond,
        Statement::Masquerade { fully_random: false },
    ])];
    let base = base(ChainKind::Nat, Hook::Postrouting, priority::SRCNAT - 10);
    let why = "gives all that pods send the node's address";
    Ok(table(site.on, &id, "postrouting", base, rules, why))
}

/// The chain in which the agent sends pods' packets to its masquerade, without its rules; or the
/// plugins' elements, without those of the node's pods.
fn table_dormant(site: &Site<'_>) -> Made {
    let objects = site.objects(site.on)?;
    let named = |name: &str| {
        objects.iter().find_map(|object| match object {
            Object::Nft(nft::Object::Table(it)) if it.id.name == name => Some(it.clone()),
            _ => None,
        })
    };
    let table = named(AGENT_NFT_TABLE).or_else(|| named(PLUGIN_NFT_TABLE));
    let table = table.ok_or_else(|| format!("{} masquerades nothing", site.on.name))?;
    let asleep = Table { dormant: true, ..table.clone() };
    Ok(vec![replace(site.on, table, asleep, "has none of its rules act")])
}

fn masquerade_missing(site: &Site<'_>) -> Made {
    let space = site.on.space();
    let objects = site.objects(site.on)?;
    let chains = objects.iter().filter_map(|object| match object {
        Object::Nft(nft::Object::Chain(it))
            if it.table.name == AGENT_NFT_TABLE && it.name == "postrouting" =>
        {
            Some(it)
        }
        _ => None,
    });
    if let Some(chain) = chains.into_iter().next() {
        let empty = Chain { rules: Vec::new(), ..chain.clone() };
        let why = "has nothing more masqueraded";
        return Ok(vec![replace(site.on, chain.clone(), empty, why)]);
    }
    let map = if site.v6 { "masquerade6" } else { "masquerade4" };
    let is_ours = |it: &&Element| it.table.name == PLUGIN_NFT_TABLE && it.set == map;
    let elements = objects.iter().filter_map(|object| match object {
        Object::Nft(nft::Object::Element(it)) => Some(it),
        _ => None,
    });
    let gone = |element: &Element| {
        let change = Change::Delete(element.clone().into());
        Step::new(&space, change, "has the pod not masqueraded any more")
    };
    let plan: Plan = elements.filter(is_ours).map(gone).collect();
    if plan.is_empty() {
        return Err(format!("{} masquerades nothing", site.on.name));
    }
    Ok(plan)
}

/// What leads ports of the node to the pod, and where to: the address and port of the pod.
fn ports(site: &Site<'_>) -> Result<Vec<(Element, Vec<Value>)>, String> {
    let (node, own) = (site.node()?, site.address(site.on, POD_LINK)?.address.addr());
    let port = |object: Object| {
        let Object::Nft(nft::Object::Element(element)) = object else { return None };
        let Some(nft::Mapped::Data(to)) = element.value.clone() else { return None };
        let is_its = to.first() == Some(&Value::Address(own));
        (element.table.name == PLUGIN_NFT_TABLE && is_its).then_some((element, to))
    };
    let found: Vec<_> = site.objects(node)?.into_iter().filter_map(port).collect();
    if found.is_empty() {
        return Err(format!(
            "no port of {} leads to {}: --host-port of `podwire lab up` makes one",
            node.name, site.on.name
        ));
    }
    Ok(found)
}

fn host_port_stale(site: &Site<'_>) -> Made {
    let node = site.node()?;
    let nobody = Value::Address(last(site.address(site.on, POD_LINK)?.address));
    let mut plan = Plan::new();
    for (element, to) in ports(site)? {
        let elsewhere = std::iter::once(nobody.clone()).chain(to.into_iter().skip(1));
        let value = Some(nft::Mapped::Data(elsewhere.collect()));
        let wrong = Element { value, ..element.clone() };
        plan.push(delete(node, element, "forgets where the port leads"));
        plan.push(create(node, wrong, "leads the port to the address of a pod that is gone"));
    }
    Ok(plan)
}

/// What is left of a sender outside that talked with the pod that had the port before.
fn conntrack_stale(site: &Site<'_>) -> Made {
    const UDP: u8 = 17;
    /// A port as programs have that choose none.
    const CHOSEN: u16 = 40_000;
    let nobody = last(site.address(site.on, POD_LINK)?.address);
    let (node, sender) = (site.on_underlay(site.node()?)?.0, site.outside()?);
    let flow = ports(site)?.into_iter().find_map(|(element, to)| {
        let nft::Key::Point(key) = element.key else { return None };
        let [.., Value::Protocol(UDP), Value::Port(port)] = key[..] else { return None };
        let [_, Value::Port(inside)] = to[..] else { return None };
        let end = std::net::SocketAddr::new;
        let (to, led_to) = (end(node, port), end(nobody, inside));
        Some(Tracked { protocol: UDP, from: end(sender, CHOSEN), to, led_to })
    });
    let flow = flow.ok_or_else(|| format!("no port of {} is led for UDP", site.on.name))?;
    let why = "leads what one host outside sends to the address of a pod that is gone";
    Ok(vec![create(site.node()?, flow, why)])
}

fn tunnel_blocked(site: &Site<'_>) -> Made {
    let tunnel = site.tunnel(site.on)?;
    let Some(net::LinkKind::Vxlan(net::Vxlan { port, .. })) = tunnel.kind else {
        return Err(format!("{} is no tunnel", tunnel.name));
    };
    let id = TableId::new(nft::Family::Inet, "host-firewall");
    let udp = Statement::is(Field::DestinationPort(Transport::Udp), Value::Port(port));
    let rules = vec![Rule::new([udp, Statement::Verdict(Verdict::Drop)])];
    let base = base(ChainKind::Filter, Hook::Input, priority::FILTER);
    Ok(table(site.on, &id, "input", base, rules, "drops what other nodes send through tunnels"))
}

const BRIDGE_NF: &str = "net/bridge/bridge-nf-call-iptables";

/// The step that has bridged packets pass the node's rules or skip them, where it is otherwise.
fn bridge_nf(
    site: &Site<'_>,
    value: &'static str,
    why: &'static str,
) -> Result<Option<Step>, String> {
    let step = site.set(site.on, BRIDGE_NF, value, why)?;
    let is_new = site.seen(site.on)?.settings.get(&BRIDGE_NF.replace('/', "."));
    Ok(Some(step).filter(|_| is_new.map(String::as_str) != Some(value)))
}

fn bridged_dropped(site: &Site<'_>) -> Made {
    let bridge = super::bridges::bridge_of(site, site.on)?.name;
    let id = TableId::new(nft::Family::Inet, "isolation");
    let name = || Value::Interface(bridge.clone());
    let rules = vec![Rule::new([
        Statement::is(Field::InputName, name()),
        Statement::is(Field::OutputName, name()),
        Statement::Verdict(Verdict::Drop),
    ])];
    let base = base(ChainKind::Filter, Hook::Forward, priority::FILTER);
    let mut plan = table(site.on, &id, "forward", base, rules, "drops what stays on the bridge");
    plan.extend(bridge_nf(site, "1", "has bridged packets pass the node's rules")?);
    Ok(plan)
}

/// A service as kube-proxy has it, with the second pod behind it, and bridged packets that skip its
/// rules: the answer comes from the pod and not from the service.
fn bridged_unseen(site: &Site<'_>) -> Made {
    let pods = site.pods_of(site.on);
    let pod = pods.last().ok_or_else(|| format!("{} has no pods", site.on.name))?;
    let to = site.address(pod, POD_LINK)?.address.addr();
    let id = TableId::new(nft::Family::Ip, "kube-proxy");
    let service = std::net::IpAddr::from([10, 96, 0, 80]);
    let rule = Rule::new([
        Statement::is(destination(false), Value::Address(service)),
        Statement::is(Field::DestinationPort(Transport::Tcp), Value::Port(80)),
        Statement::Nat(nft::Nat {
            kind: nft::NatKind::Dnat,
            to: nft::NatTarget::Address(to, Some(80)),
        }),
    ]);
    let services = "KUBE-SERVICES";
    let mut plan = table(site.on, &id, services, None, vec![rule], "leads a service to a pod");
    let jump = Rule::new([Statement::Verdict(Verdict::Jump(services.to_owned()))]);
    let chain = Chain {
        table: id,
        name: "prerouting".to_owned(),
        base: base(ChainKind::Nat, Hook::Prerouting, priority::DSTNAT),
        rules: vec![jump],
    };
    plan.push(create(site.on, chain, "asks services about all that comes in"));
    plan.extend(bridge_nf(site, "0", "has bridged packets skip the node's rules")?);
    Ok(plan)
}
