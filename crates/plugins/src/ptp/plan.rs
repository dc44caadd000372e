//! The steps of one ADD: pure, from configuration, addresses and what was seen to a plan.
//!
//! A pod's address keeps the prefix of its subnet, but the subnet is not on the link: the route to
//! it that the kernel adds gives way to one by the node, which is the gateway of each pod.
//!
//! ```text
//! pod    10.1.2.2/24 on eth0      10.1.2.1 dev eth0 scope link src 10.1.2.2
//!                                 10.1.2.0/24 via 10.1.2.1 dev eth0 src 10.1.2.2
//! node   10.1.2.1/32 on veth…     10.1.2.2 dev veth… scope host
//! ```

use std::net::IpAddr;

use cni::{CniResult, Error, IpConfig};
use ipnet::IpNet;
use net::nft::Element;
use net::{Action, Address, Change, LinkName, Plan, Port, Route, Scope, Space, Step, Sysctl};

use super::config::Config;
use crate::cable::Cable;
use crate::interface::{self, FarEnd};
use crate::{forwarding, masquerade};

/// How long an end may take to come up. The kernel needs well under a millisecond, and seconds while
/// others make hundreds of links.
const UP_MILLIS: u32 = 10_000;

const HOST: Space = Space::Here;

/// What was seen before planning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Routes of the node to the pod's addresses, left by earlier owners.
    pub(crate) routes: Vec<Route>,
    /// Masquerade elements under the keys of the pod's addresses, left by earlier owners.
    pub(crate) masquerade: Vec<Element>,
    /// Devices whose IPv6 default route came from a router's announcements and would go when
    /// forwarding is switched on.
    pub(crate) announced_uplinks: Vec<LinkName>,
}

/// One ADD.
pub(crate) struct Wiring<'a> {
    pub(crate) config: &'a Config,
    pub(crate) cable: &'a Cable,
    pub(crate) seen: &'a Seen,
}

impl Wiring<'_> {
    /// Completes what IPAM said: which interface each address is on, and DNS.
    pub(crate) fn complete(&self, ipam: CniResult) -> CniResult {
        let mut result = ipam;
        for ip in &mut result.ips {
            ip.interface = Some(1);
        }
        if let Some(dns) = &self.config.dns {
            result.dns = dns.clone();
        }
        result.interfaces = self.cable.interfaces().into();
        result
    }

    /// All steps, in order. `result` is the completed one.
    pub(crate) fn plan(&self, result: &CniResult) -> Result<Plan, Error> {
        let gateways = gateways(&result.ips)?;
        let mut plan =
            self.cable.plan(None, Port::default(), "runs a cable from the pod to the node");
        let has_v6 = gateways.iter().any(IpAddr::is_ipv6);
        if has_v6 {
            let key = |key| format!("net/ipv6/conf/{}/{key}", self.cable.host_link);
            for (sysctl, why) in [
                (Sysctl::new(key("disable_ipv6"), "0"), "switches IPv6 on"),
                (
                    Sysctl::nicety(key("accept_dad"), "0"),
                    "lets the node speak IPv6 to its pod at once",
                ),
            ] {
                plan.push(Step::new(&HOST, Change::Ensure(sysctl.into()), why));
            }
        }
        if self.config.masquerade {
            let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
            let (attachment, stale) = (&self.cable.attachment, &self.seen.masquerade);
            plan.extend(masquerade::plan(&HOST, attachment, &addresses, stale));
        }
        plan.extend(self.host(&result.ips, &gateways));
        plan.extend(self.pod(result));
        // What is shared and stays comes after what may fail for this pod alone.
        plan.extend(forwarding::plan(gateways.into_iter(), &self.seen.announced_uplinks));
        plan.extend(self.waits(has_v6));
        Ok(plan)
    }

    /// Before the kernel has noticed that both ends are plugged in, one of them sends nothing, and
    /// for a moment it does not deliver what comes for a new IPv6 address.
    fn waits(&self, for_v6: bool) -> Plan {
        let Cable { pod, ifname, host_link, .. } = self.cable;
        let mut plan = Plan::new();
        for (space, link, why) in [
            (&HOST, host_link, "waits until the node can answer"),
            (pod, ifname, "waits until the pod can answer"),
        ] {
            let (link, millis) = (link.clone(), UP_MILLIS);
            let mut act = |action| plan.push(Step::new(space, Change::Act(action), why));
            act(Action::WaitUp { link: link.clone(), millis });
            if for_v6 {
                act(Action::WaitAddresses { link, addresses: Vec::new(), millis });
            }
        }
        plan
    }

    /// Addresses and routes of the pod. Routes of the result are added while the whole subnet still
    /// is on the link, where the kernel allows any next hop of it.
    fn pod(&self, result: &CniResult) -> Plan {
        let Cable { pod, ifname, .. } = self.cable;
        let step = |change, why| Step::new(pod, change, why);
        let mut plan = interface::bring_up(pod, ifname, &result.ips, FarEnd::Node);
        for route in to_gateways(ifname, result) {
            plan.push(step(Change::Create(route.into()), "shows the pod its gateway"));
        }
        plan.extend(interface::routes(pod, ifname, result));
        for ip in first_of_subnets(&result.ips) {
            let connected = Route::connected(ip.address, ifname.clone());
            let why = "takes the subnet off the link, where only the node is";
            plan.push(step(Change::Delete(connected.into()), why));
        }
        for route in to_subnets(ifname, result) {
            let why = "leads to the other pods of its subnet by the node";
            plan.push(step(Change::Create(route.into()), why));
        }
        plan
    }

    /// The node's end: it is the gateway, and behind it is the pod.
    fn host(&self, ips: &[IpConfig], gateways: &[IpAddr]) -> Plan {
        let link = &self.cable.host_link;
        let mut plan = Plan::new();
        for gateway in gateways {
            let address = Address {
                nodad: gateway.is_ipv6(),
                ..Address::new(link.clone(), (*gateway).into())
            };
            let why = "makes the node the pod's gateway";
            plan.push(Step::new(&HOST, Change::Create(address.into()), why));
        }
        for ip in ips {
            let address = ip.address.addr();
            let route = Route {
                link: Some(link.clone()),
                scope: address.is_ipv4().then_some(Scope::Host),
                ..Route::new(address.into())
            };
            let found = self.seen.routes.iter().find(|seen| is_in_place_of(seen, &route));
            // An address that was reserved anew belongs to its new owner.
            let change = match found {
                Some(old) => Change::replace(old.clone(), route),
                None => Change::Create(route.into()),
            };
            plan.push(Step::new(&HOST, change, "shows the node where the pod is"));
        }
        plan
    }
}

/// The gateway of each address, each once. A pod without one could not be reached: refused.
fn gateways(ips: &[IpConfig]) -> Result<Vec<IpAddr>, Error> {
    let own = interface::addresses(ips);
    let mut gateways = Vec::new();
    for IpConfig { address, gateway, .. } in ips {
        let refuse = |text: String| {
            let remedy = "ptp puts the gateway on the node's end of the cable: give one of the same \
                          family, which is not the pod's own, in the IPAM configuration";
            Err(Error::internal(text).with_details(remedy))
        };
        match *gateway {
            None => return refuse(format!("IPAM plugin returned no gateway for {address}")),
            Some(gateway)
                if !interface::can_be_gateway(gateway, *address) || own.contains(&gateway) =>
            {
                return refuse(format!("{gateway} cannot be the gateway of {address}"));
            }
            Some(gateway) if !gateways.contains(&gateway) => gateways.push(gateway),
            Some(_) => {}
        }
    }
    Ok(gateways)
}

/// The pod's routes to its gateways, but for those that the result has itself.
pub(super) fn to_gateways(ifname: &LinkName, result: &CniResult) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for ip in &result.ips {
        let Some(gateway) = ip.gateway.map(IpNet::from) else { continue };
        let is_given =
            result.routes.iter().any(|it| it.dst == gateway && interface::is_on_link(it));
        if is_given || routes.iter().any(|route| route.destination == gateway) {
            continue;
        }
        routes.push(Route {
            link: Some(ifname.clone()),
            source: Some(ip.address.addr()),
            scope: gateway.addr().is_ipv4().then_some(Scope::Link),
            ..Route::new(gateway)
        });
    }
    routes
}

/// The pod's routes to its subnets by its gateways, but for those that the result has itself.
pub(super) fn to_subnets(ifname: &LinkName, result: &CniResult) -> Vec<Route> {
    let is_given = |ip: &&IpConfig| {
        let in_main = |route: &cni::Route| route.table.is_none_or(|table| table == net::MAIN_TABLE);
        let subnet = ip.address.trunc();
        result.routes.iter().any(|route| route.dst.trunc() == subnet && in_main(route))
    };
    let route = |ip: &IpConfig| Route {
        gateway: ip.gateway,
        link: Some(ifname.clone()),
        source: Some(ip.address.addr()),
        ..Route::new(ip.address)
    };
    first_of_subnets(&result.ips).filter(|ip| !is_given(ip)).map(route).collect()
}

/// The first address of each subnet that spans more than that address.
fn first_of_subnets(ips: &[IpConfig]) -> impl Iterator<Item = &IpConfig> {
    let is_first = |place: usize, ip: &IpConfig| {
        ips.iter().position(|other| other.address.trunc() == ip.address.trunc()) == Some(place)
    };
    let spans = |ip: &IpConfig| ip.address.prefix_len() < ip.address.max_prefix_len();
    ips.iter()
        .enumerate()
        .filter(move |(place, ip)| is_first(*place, ip) && spans(ip))
        .map(|it| it.1)
}

/// Whether the kernel would replace `seen` by `route`, instead of adding one beside it.
fn is_in_place_of(seen: &Route, route: &Route) -> bool {
    let key = |it: &Route| (it.table, it.destination, it.effective_metric());
    key(seen) == key(route)
}
