//! Faults of what joins nodes: routes, rules, tunnels and the wire below them; and of what is beyond it.

use diagnosis::Code;
use diagnosis::verify::Rule as Promise;
use net::{Change, Encap, Fdb, Link, LinkKind, Mac, Neighbour, Object, Plan};
use net::{Route, RouteKind, Rule, Step, Vni, Vxlan, VxlanForm};

use super::site::{Made, Site, UPLINK, changed, create, delete, replace};
use super::{CLUSTERS, Families, Fault, NOWHERE, Scene, TUNNELS};
use crate::{Namespace, Role};

const FELT: &[Promise] = &[Promise::PodToPod, Promise::PodToNode, Promise::NodeToPod];

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "peer-route-missing",
        what: "The node has no route to the pods of another node.",
        symptom: "Its pods do not reach that node's pods; all others they do.",
        repair: "podwire lab agent start NODE && podwire lab agent stop NODE",
        on: Role::Node,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: FELT,
        unfelt: NOWHERE,
        codes: &[Code::PeerRouteMissing],
        healed: true,
        make: peer_route_missing,
    },
    Fault {
        name: "peer-route-stale",
        what: "The route to another node's pods still leads to the address of a node that is gone.",
        symptom: "Pods do not reach the pods of one node, which reaches everybody else.",
        repair: "podwire lab agent start NODE && podwire lab agent stop NODE",
        on: Role::Node,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: FELT,
        unfelt: NOWHERE,
        codes: &[Code::RouteStale, Code::ForwardingEntryWrong],
        healed: true,
        make: peer_route_stale,
    },
    Fault {
        name: "peer-route-crossed",
        what: "The route to one node's pods leads to another node.",
        symptom: "Pods reach a node's pods slowly, or not at all, by a node that has nothing to do with them.",
        repair: "podwire lab agent start NODE && podwire lab agent stop NODE",
        on: Role::Node,
        scenes: &[Scene::Vxlan, Scene::Gpe, Scene::HostGw],
        families: Families::Any,
        rules: FELT,
        unfelt: &[Scene::HostGw],
        codes: &[Code::PeerRouteWrong],
        healed: true,
        make: peer_route_crossed,
    },
    Fault {
        name: "blackhole-route",
        what: "A route of somebody else's swallows what is for another node's pods.",
        symptom: "Packets to the pods of one node vanish, and nobody is told.",
        repair: "ip -n NODE route del blackhole NETWORK",
        on: Role::Node,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: FELT,
        unfelt: NOWHERE,
        codes: &[Code::PeerRouteMissing],
        healed: false,
        make: blackhole_route,
    },
    Fault {
        name: "rule-shadows-route",
        what: "A policy rule has packets to another node's pods look in a table that leads elsewhere.",
        symptom: "The routes shown by `ip route` are right, and the packets go another way.",
        repair: "ip -n NODE rule del priority 90",
        on: Role::Node,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: FELT,
        unfelt: NOWHERE,
        codes: &[Code::PeerRouteMissing],
        healed: false,
        make: rule_shadows_route,
    },
    Fault {
        name: "path-asymmetric",
        what: "Answers to another node's pods leave by the uplink instead of the tunnel, and rp_filter is strict.",
        symptom: "Packets arrive at the node and are dropped there without a trace.",
        repair: "ip -n NODE rule del priority 91, or: ip netns exec NODE sysctl -w net.ipv4.conf.all.rp_filter=2",
        on: Role::Node,
        scenes: TUNNELS,
        families: Families::V4,
        rules: FELT,
        unfelt: NOWHERE,
        codes: &[Code::ReturnPathFiltered],
        healed: false,
        make: path_asymmetric,
    },
    Fault {
        name: "neighbour-wrong",
        what: "The tunnel takes a wrong hardware address for that of another node's end.",
        symptom: "Packets reach the other node, which does not take them for its own.",
        repair: "podwire lab agent start NODE && podwire lab agent stop NODE",
        on: Role::Node,
        scenes: &[Scene::Vxlan, Scene::Classic],
        families: Families::Any,
        rules: FELT,
        unfelt: NOWHERE,
        codes: &[Code::NeighbourWrong],
        healed: true,
        make: neighbour_wrong,
    },
    Fault {
        name: "fdb-wrong",
        what: "The tunnel's forwarding entry for another node's end leads to a wrong address.",
        symptom: "Pods do not reach the pods of one node.",
        repair: "bridge -n NODE fdb replace MAC dev podwire0 dst ADDRESS",
        on: Role::Node,
        scenes: &[Scene::Classic],
        families: Families::Any,
        rules: FELT,
        unfelt: NOWHERE,
        codes: &[Code::ForwardingEntryWrong],
        healed: true,
        make: fdb_wrong,
    },
    Fault {
        name: "vni-mismatch",
        what: "The node's tunnel takes packets of another virtual network than the others send.",
        symptom: "The node's pods reach no pod of another node, though packets arrive at the node.",
        repair: "podwire lab agent start NODE && podwire lab agent stop NODE",
        on: Role::Node,
        scenes: TUNNELS,
        families: Families::Any,
        rules: FELT,
        unfelt: NOWHERE,
        codes: &[Code::TunnelMismatch],
        healed: true,
        make: vni_mismatch,
    },
    Fault {
        name: "tunnel-port-mismatch",
        what: "The node's tunnel uses another UDP port than those of the others.",
        symptom: "The node's pods reach no pod of another node.",
        repair: "podwire lab agent start NODE && podwire lab agent stop NODE",
        on: Role::Node,
        scenes: TUNNELS,
        families: Families::Any,
        rules: FELT,
        unfelt: NOWHERE,
        codes: &[Code::TunnelMismatch],
        healed: true,
        make: tunnel_port_mismatch,
    },
    Fault {
        name: "tunnel-down",
        what: "The node's tunnel is switched off, and the routes through it are gone.",
        symptom: "The node's pods reach no pod of another node.",
        repair: "podwire lab agent start NODE && podwire lab agent stop NODE",
        on: Role::Node,
        scenes: TUNNELS,
        families: Families::Any,
        rules: FELT,
        unfelt: NOWHERE,
        codes: &[Code::LinkDown],
        healed: true,
        make: tunnel_down,
    },
    Fault {
        name: "mtu-tunnel",
        what: "The node's tunnel takes larger packets than the wire below has room for.",
        symptom: "Large packets to other nodes are sent in pieces, or are lost where pieces are.",
        repair: "ip -n NODE link set podwire0 mtu SIZE",
        on: Role::Node,
        scenes: &[Scene::Vxlan, Scene::Gpe],
        families: Families::Any,
        rules: &[Promise::Mtu],
        unfelt: NOWHERE,
        codes: &[Code::MtuTunnel],
        healed: true,
        make: mtu_tunnel,
    },
    Fault {
        name: "mtu-underlay",
        what: "The switch that the node is cabled to takes smaller packets than the node sends.",
        symptom: "Short answers of other nodes arrive and long ones hang.",
        repair: "ip -n net link set NODE mtu 1500",
        on: Role::Node,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: &[Promise::Mtu],
        unfelt: NOWHERE,
        codes: &[Code::MtuMixed],
        healed: false,
        make: mtu_underlay,
    },
    Fault {
        name: "uplink-down",
        what: "The node's own device to the other nodes is switched off.",
        symptom: "The node and its pods reach nobody else.",
        repair: "ip -n NODE link set eth0 up, then its routes: podwire lab agent restart NODE",
        on: Role::Node,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: FELT,
        unfelt: NOWHERE,
        codes: &[Code::LinkDown],
        healed: false,
        make: uplink_down,
    },
    Fault {
        name: "resolver-gone",
        what: "The address is gone that pods were told to ask for names (in labs with --dns).",
        symptom: "Everything is reached by address, and nothing by name: programs hang for seconds before they fail.",
        repair: "ip -n outside addr add ADDRESS/LENGTH dev eth0",
        on: Role::Outside,
        scenes: CLUSTERS,
        families: Families::Any,
        rules: &[Promise::Dns],
        unfelt: NOWHERE,
        codes: &[Code::ResolverMissing],
        healed: false,
        make: resolver_gone,
    },
];

fn peer_route_missing(site: &Site<'_>) -> Made {
    let route = site.peer_route(site.peer()?)?;
    Ok(vec![delete(site.on, route, "forgets the way to another node's pods")])
}

fn peer_route_stale(site: &Site<'_>) -> Made {
    let (peer, nobody) = (site.peer()?, site.nobody(site.on)?);
    let why = "leads to the address of a node that is gone";
    if site.scene == Scene::Classic {
        return moved(site, peer, nobody, why);
    }
    Ok(vec![redirected(site, peer, nobody, why)?])
}

fn peer_route_crossed(site: &Site<'_>) -> Made {
    let peer = site.peer()?;
    let mut others = site.lab.nodes().filter(|node| *node != site.on && *node != peer);
    let other = others.next().ok_or("the lab has fewer than three nodes")?;
    let why = "leads to another node than the one that has the pods";
    Ok(vec![redirected(site, peer, site.on_underlay(other)?.0, why)?])
}

/// The route to a node's pods, led to another address of the underlay.
fn redirected(
    site: &Site<'_>,
    peer: &Namespace,
    to: std::net::IpAddr,
    why: &'static str,
) -> Result<Step, String> {
    let route = site.peer_route(peer)?;
    let wrong = match route.encap {
        Some(encap) => Route { encap: Some(Encap { to, ..encap }), ..route.clone() },
        None => Route { gateway: Some(to), ..route.clone() },
    };
    Ok(replace(site.on, route, wrong, why))
}

fn blackhole_route(site: &Site<'_>) -> Made {
    let pods = site.pod_net(site.peer()?)?;
    let half = pods.subnets(pods.prefix_len() + 1).ok().and_then(|mut halves| halves.next());
    let half = half.ok_or_else(|| format!("{pods} has no half"))?;
    let hole = Route { kind: RouteKind::Blackhole, ..Route::new(half) };
    Ok(vec![create(site.on, hole, "swallows what is for another node's pods")])
}

/// A rule of somebody's, with a table that leads to the router of the underlay.
fn shadow(site: &Site<'_>, rule: Rule, destination: ipnet::IpNet, why: &'static str) -> Made {
    let (_, router) = site.on_underlay(site.on)?;
    let way = Route {
        gateway: Some(router),
        link: UPLINK.parse().ok(),
        table: rule.table,
        ..Route::new(destination)
    };
    let table = create(site.on, way, "leads to the router, in a table of its own");
    Ok(vec![table, create(site.on, rule, why)])
}

fn rule_shadows_route(site: &Site<'_>) -> Made {
    let pods = site.pod_net(site.peer()?)?;
    let rule = Rule {
        priority: 90,
        v6: site.v6,
        fwmark: None,
        from: None,
        to: Some(pods),
        table: 90,
        protocol: 4,
    };
    let default = if site.v6 { "::/0" } else { "0.0.0.0/0" };
    let default = default.parse().map_err(|_| "no default route".to_owned())?;
    shadow(site, rule, default, "has packets to another node's pods look there")
}

fn path_asymmetric(site: &Site<'_>) -> Made {
    let strict = "net/ipv4/conf/all/rp_filter";
    let (own, pods) = (site.pod_net(site.on)?, site.pod_net(site.peer()?)?);
    let (from, to) = (Some(own), Some(pods));
    let rule = Rule { priority: 91, v6: false, fwmark: None, from, to, table: 91, protocol: 4 };
    let mut plan = shadow(site, rule, pods, "has answers of the node's pods look there")?;
    if site.seen(site.on)?.settings.get("net.ipv4.conf.all.rp_filter").map(String::as_str)
        != Some("1")
    {
        plan.push(site.set(site.on, strict, "1", "drops what comes by another way")?);
    }
    Ok(plan)
}

/// The neighbour by which a tunnel knows another node's end.
fn neighbour(site: &Site<'_>, peer: &Namespace) -> Result<Neighbour, String> {
    let gateway = site.peer_route(peer)?.gateway;
    let known = site.objects(site.on)?.into_iter().filter_map(|object| match object {
        Object::Neighbour(it) if Some(it.address) == gateway => Some(it),
        _ => None,
    });
    let found = known.into_iter().next();
    found.ok_or_else(|| format!("the tunnel does not know {}", peer.name))
}

fn neighbour_wrong(site: &Site<'_>) -> Made {
    let right = neighbour(site, site.peer()?)?;
    let mut bytes = right.mac.0;
    bytes[5] ^= 0x55;
    let wrong = Neighbour { mac: Mac(bytes), ..right.clone() };
    let why = "takes a wrong hardware address for the far end's";
    let mut plan = vec![replace(site.on, right.clone(), wrong.clone(), why)];
    // Where forwarding entries say where an address is, the wrong one has one, too.
    if site.scene == Scene::Classic {
        let entry = entry(site, right.mac)?;
        let there = Fdb { mac: wrong.mac, ..entry };
        plan.push(create(site.on, there, "has it be there as well"));
    }
    Ok(plan)
}

/// The forwarding entry of a hardware address.
fn entry(site: &Site<'_>, mac: Mac) -> Result<Fdb, String> {
    let entries = site.objects(site.on)?.into_iter().filter_map(|object| match object {
        Object::Fdb(it) if it.mac == mac && it.to.is_some() => Some(it),
        _ => None,
    });
    let found = entries.into_iter().next();
    found.ok_or_else(|| format!("the tunnel has no forwarding entry for {mac}"))
}

/// Another node's end of the tunnel, at a wrong address.
fn moved(site: &Site<'_>, peer: &Namespace, to: std::net::IpAddr, why: &'static str) -> Made {
    let right = entry(site, neighbour(site, peer)?.mac)?;
    let wrong = Fdb { to: Some(to), ..right.clone() };
    let gone = delete(site.on, right, "forgets where the far end is");
    Ok(vec![gone, create(site.on, wrong, why)])
}

fn fdb_wrong(site: &Site<'_>) -> Made {
    let peer = site.peer()?;
    let mut others = site.lab.nodes().filter(|node| *node != site.on && *node != peer);
    let to = match others.next() {
        Some(other) => site.on_underlay(other)?.0,
        None => site.nobody(site.on)?,
    };
    moved(site, peer, to, "has the far end be somewhere else")
}

fn vni_mismatch(site: &Site<'_>) -> Made {
    let tunnel = site.tunnel(site.on)?;
    let vxlan = kind(&tunnel)?;
    match vxlan.form {
        VxlanForm::Classic { vni, underlay, local } => {
            let form = VxlanForm::Classic { vni: vni + 1, underlay, local };
            remade(site, &tunnel, Vxlan { form, ..vxlan }, "is of another virtual network")
        }
        VxlanForm::External { .. } => {
            let taken = site.objects(site.on)?.into_iter().filter_map(|object| match object {
                Object::Vni(it) if it.link == tunnel.name => Some(it),
                _ => None,
            });
            let right = taken.into_iter().next().ok_or("the tunnel takes all networks")?;
            let wrong = Vni { vni: right.vni + 1, ..right.clone() };
            let gone = delete(site.on, right, "takes nothing of the cluster's network any more");
            Ok(vec![gone, create(site.on, wrong, "takes packets of another network")])
        }
    }
}

fn tunnel_port_mismatch(site: &Site<'_>) -> Made {
    let tunnel = site.tunnel(site.on)?;
    let vxlan = kind(&tunnel)?;
    let other = Vxlan { port: if vxlan.port == 4789 { 8472 } else { 4789 }, ..vxlan };
    remade(site, &tunnel, other, "listens at another port")
}

fn kind(tunnel: &Link) -> Result<Vxlan, String> {
    match &tunnel.kind {
        Some(LinkKind::Vxlan(vxlan)) => Ok(vxlan.clone()),
        _ => Err(format!("{} is no tunnel", tunnel.name)),
    }
}

/// The tunnel made anew as another one, with all that is on it: what makes it a tunnel is given at
/// creation only.
fn remade(site: &Site<'_>, tunnel: &Link, vxlan: Vxlan, why: &'static str) -> Made {
    let on_it = |object: &Object| match object {
        Object::Address(it) => it.link == tunnel.name,
        Object::Route(it) => it.link.as_ref() == Some(&tunnel.name),
        Object::Neighbour(it) => it.link == tunnel.name,
        Object::Fdb(it) => it.link == tunnel.name,
        Object::Vni(it) => it.link == tunnel.name,
        _ => false,
    };
    let mut plan: Plan = vec![delete(site.on, tunnel.clone(), "takes the tunnel away")];
    let other = Link { kind: Some(LinkKind::Vxlan(vxlan)), ..tunnel.clone() };
    plan.push(create(site.on, other, why));
    let on_it: Vec<Object> = site.objects(site.on)?.into_iter().filter(on_it).collect();
    // Networks first: nothing is sent into one that is not there.
    let (vnis, rest): (Vec<Object>, Vec<Object>) =
        on_it.into_iter().partition(|it| matches!(it, Object::Vni(_)));
    let put = |object: Object| {
        let change = match object {
            object @ (Object::Fdb(_) | Object::Neighbour(_)) => Change::Ensure(object),
            object => Change::Create(object),
        };
        Step::new(&site.on.space(), change, "puts back what was on it")
    };
    plan.extend(vnis.into_iter().chain(rest).map(put));
    Ok(plan)
}

fn tunnel_down(site: &Site<'_>) -> Made {
    let tunnel = site.tunnel(site.on)?;
    let down = |link: &mut Link| link.up = Some(false);
    Ok(vec![changed(site.on, &tunnel, down, "switches the tunnel off")])
}

fn mtu_tunnel(site: &Site<'_>) -> Made {
    let tunnel = site.tunnel(site.on)?;
    let grow = |link: &mut Link| link.mtu = link.mtu.map(|mtu| mtu + 50);
    Ok(vec![changed(site.on, &tunnel, grow, "has the tunnel take larger packets")])
}

fn mtu_underlay(site: &Site<'_>) -> Made {
    let net = site.lab.namespaces.iter().find(|it| it.role == Role::Underlay);
    let net = net.ok_or("the lab has one node")?;
    let port = site.link(net, &site.on.name)?;
    let why = "has the switch take smaller packets from and to the node";
    Ok(vec![changed(net, &port, |link| link.mtu = Some(1400), why)])
}

fn uplink_down(site: &Site<'_>) -> Made {
    let uplink = site.link(site.on, UPLINK)?;
    let down = |link: &mut Link| link.up = Some(false);
    Ok(vec![changed(site.on, &uplink, down, "switches the node's uplink off")])
}

/// The address of the resolver, taken from its host.
fn resolver_gone(site: &Site<'_>) -> Made {
    let resolver = site.resolver()?;
    let is_it = |it: &Object| matches!(it, Object::Address(it) if it.address == resolver);
    let address = site.objects(site.on)?.into_iter().find(is_it);
    let address = address.ok_or_else(|| format!("{} has no {resolver}", site.on.name))?;
    Ok(vec![delete(site.on, address, "takes the resolver its address away")])
}
