//! The steps of one ADD: pure, from configuration, addresses and what was seen to a plan.

use std::iter;
use std::net::IpAddr;

use cni::{CniResult, Error, Interface};
use ipnet::IpNet;
use net::Sysctl;
use net::nft::Element;
use net::{Action, Address, Change, Link, LinkName, Mac, Plan, Port, Space, Step};

use super::config::Config;
use crate::cable::{self, Cable};
use crate::interface::{self, FarEnd};
use crate::{forwarding, masquerade, spoof_check};

/// How long a port may take to come up. The kernel needs well under a millisecond.
const UP_MILLIS: u32 = 2500;

/// What was seen before planning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The bridge, if it is there.
    pub(crate) bridge: Option<Link>,
    /// Its addresses.
    pub(crate) addresses: Vec<Address>,
    /// Masquerade elements under the keys of the pod's addresses, left by earlier owners.
    pub(crate) masquerade: Vec<Element>,
    /// Devices whose IPv6 default route came from a router's announcements and would go when
    /// forwarding is switched on.
    pub(crate) announced_uplinks: Vec<LinkName>,
}

impl Seen {
    /// The bridge's hardware address, if it has one.
    fn mac(&self) -> Option<Mac> {
        self.bridge.as_ref()?.mac
    }
}

/// One ADD.
pub(crate) struct Wiring<'a> {
    pub(crate) config: &'a Config,
    pub(crate) cable: &'a Cable,
    /// The bridge's hardware address, should it have to be made.
    pub(crate) bridge_mac: Mac,
    pub(crate) seen: &'a Seen,
}

const HOST: Space = Space::Here;

impl Wiring<'_> {
    /// Completes what IPAM said: which interface each address is on, gateways, default routes, DNS.
    pub(crate) fn complete(&self, ipam: CniResult) -> CniResult {
        let mut result = ipam;
        for ip in &mut result.ips {
            ip.interface = Some(2);
            if self.config.is_gateway && ip.gateway.is_none() {
                ip.gateway = Some(interface::first_host(ip.address));
            }
        }
        if self.config.is_default_gateway {
            for v4 in [true, false] {
                let everywhere = interface::everywhere(v4);
                let gateway = result
                    .ips
                    .iter()
                    .filter(|ip| ip.address.addr().is_ipv4() == v4)
                    .find_map(|ip| ip.gateway);
                let has_default =
                    result.routes.iter().any(|r| r.dst == everywhere && r.gw.is_some());
                if let (Some(gateway), false) = (gateway, has_default) {
                    result.routes.push(cni::Route::new(everywhere, Some(gateway)));
                }
            }
        }
        if let Some(dns) = &self.config.dns {
            result.dns = dns.clone();
        }
        result.interfaces = self.interfaces();
        result
    }

    /// All steps, in order. `result` is the completed one.
    pub(crate) fn plan(&self, result: &CniResult) -> Result<Plan, Error> {
        let gateways = if self.config.is_gateway { self.gateways(result)? } else { Plan::new() };
        let Cable { attachment, pod, ifname, host_link, macs: [_, pod_mac], .. } = self.cable;
        let mut plan = self.bridge();
        plan.extend(self.cable());
        if self.config.masquerade && !result.ips.is_empty() {
            let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
            plan.extend(masquerade::plan(&HOST, attachment, &addresses, &self.seen.masquerade));
        }
        if self.config.spoof_check {
            plan.extend(spoof_check::plan(&HOST, attachment, host_link, *pod_mac));
        }
        if self.config.leave_down {
            return Ok(plan);
        }
        if result.ips.is_empty() {
            plan.push(Step::new(pod, interface::plug_in(ifname), "plugs the cable in"));
        } else {
            let detect_duplicates = self.config.detect_duplicates;
            let far_end = FarEnd::Segment { detect_duplicates };
            plan.extend(interface::bring_up(pod, ifname, &result.ips, far_end));
            plan.extend(interface::routes(pod, ifname, result));
        }
        // The gateway is shared and stays; so it comes after what may fail for this pod alone, and
        // a configuration that cannot work leaves none behind.
        let waits = self.waits(result, &gateways);
        plan.extend(gateways);
        let wait = Action::WaitUp { link: host_link.clone(), millis: UP_MILLIS };
        plan.push(Step::new(&HOST, Change::Act(wait), "waits until the bridge forwards"));
        plan.extend(waits);
        if !result.ips.is_empty() {
            let announce = Action::Announce { link: ifname.clone(), mac: *pod_mac };
            let why = "tells the segment who has the address now";
            plan.push(Step::new(pod, Change::Act(announce), why));
        }
        Ok(plan)
    }

    /// For a moment the kernel does not deliver what comes for a new IPv6 address. Those whose
    /// duplicates are looked for take seconds, and the configuration says whether to wait for that.
    fn waits(&self, result: &CniResult, gateways: &[Step]) -> Plan {
        let Cable { pod, ifname, .. } = self.cable;
        let mut plan = Plan::new();
        let mut wait = |space: &Space, link: &LinkName, mut addresses: Vec<IpAddr>, why| {
            addresses.retain(IpAddr::is_ipv6);
            if !addresses.is_empty() {
                let (link, millis) = (link.clone(), UP_MILLIS);
                let wait = Action::WaitAddresses { link, addresses, millis };
                plan.push(Step::new(space, Change::Act(wait), why));
            }
        };
        let made = |step: &Step| match &step.change {
            Change::Ensure(net::Object::Address(it)) => Some(it.address.addr()),
            _ => None,
        };
        let gateways = gateways.iter().filter_map(made).collect();
        wait(&HOST, &self.config.bridge, gateways, "waits until the node can answer");
        if !self.config.detect_duplicates {
            let addresses = interface::addresses(&result.ips);
            wait(pod, ifname, addresses, "waits until the pod can answer");
        }
        plan
    }

    /// The bridge itself. One that is there keeps its size, as with the reference.
    fn bridge(&self) -> Plan {
        let name = &self.config.bridge;
        let is_new = self.seen.bridge.is_none();
        let link = if is_new {
            new_bridge(self.config, self.bridge_mac)
        } else {
            Link {
                promiscuous: self.config.promiscuous.then_some(true),
                ..Link::bridge(name.clone()).up()
            }
        };
        let set = |key: &str| {
            let sysctl = Sysctl::nicety(format!("net/ipv6/conf/{name}/{key}"), "0");
            Change::Ensure(sysctl.into())
        };
        let mut plan = Plan::new();
        if !self.seen.bridge.as_ref().is_some_and(|seen| link.is_satisfied_by(seen)) {
            let why = "joins the pods of this node";
            plan.push(Step::new(&HOST, Change::Ensure(link.into()), why));
        }
        let why = "keeps strangers from giving the node addresses";
        plan.push(Step::new(&HOST, set("accept_ra"), why));
        if is_new {
            let why = "lets the node speak IPv6 to its pods at once";
            plan.push(Step::new(&HOST, set("accept_dad"), why));
        }
        let is_pinned = is_new || self.config.is_gateway && self.seen.mac().is_some();
        if !is_pinned {
            plan.push(self.pin());
        }
        plan
    }

    /// A bridge whose address was never set takes its lowest port's, and changes it under the pods
    /// when ports come and go. Setting the one that it has keeps it.
    fn pin(&self) -> Step {
        let mac = Some(self.bridge_mac());
        let pinned = Link { mac, ..Link::existing(self.config.bridge.clone()) };
        let change = Change::replace(pinned.clone(), pinned);
        Step::new(&HOST, change, "keeps the bridge's hardware address as it is")
    }

    /// The gateway addresses on the bridge, and forwarding.
    fn gateways(&self, result: &CniResult) -> Result<Plan, Error> {
        let name = &self.config.bridge;
        let mut plan = Plan::new();
        let mut changed = false;
        for ip in &result.ips {
            let Some(gateway) = ip.gateway else { continue };
            if !interface::can_be_gateway(gateway, ip.address) {
                let text = format!(
                    "failed to set bridge addr: {gateway} cannot be the gateway of {}",
                    ip.address
                );
                let remedy = "give a gateway of the same family in the IPAM configuration";
                return Err(Error::internal(text).with_details(remedy));
            }
            let wanted = IpNet::new(gateway, ip.address.prefix_len()).map_err(Error::internal)?;
            if plan.iter().any(|step: &Step| is_address(step, wanted)) {
                continue;
            }
            if self.seen.addresses.iter().any(|seen| seen.address == wanted) {
                continue;
            }
            let conflicts = conflicts(wanted, &self.seen.addresses);
            if let Some(conflict) = conflicts.first().filter(|_| !self.config.force_address) {
                let (bridge, has) = (name.as_str(), conflict.address);
                let text = format!(
                    "failed to set bridge addr: {bridge:?} already has an IP address different from {wanted}"
                );
                let remedy = format!("it has {has}; remove that or set forceAddress");
                return Err(Error::internal(text).with_details(remedy));
            }
            for conflict in conflicts {
                let delete = Change::Delete(conflict.clone().into());
                plan.push(Step::new(&HOST, delete, "makes room for the gateway address"));
            }
            let address =
                Address { nodad: gateway.is_ipv6(), ..Address::new(name.clone(), wanted) };
            changed = true;
            let why = "makes the bridge the pods' gateway";
            plan.push(Step::new(&HOST, Change::Ensure(address.into()), why));
        }
        if changed && self.seen.bridge.is_some() {
            plan.push(self.pin());
        }
        let gateways = result.ips.iter().filter_map(|ip| ip.gateway);
        plan.extend(forwarding::plan(gateways, &self.seen.announced_uplinks));
        Ok(plan)
    }

    /// The cable between pod and bridge.
    fn cable(&self) -> Plan {
        // Both are off on a new port, so only what is on has to be said.
        let port = Port {
            hairpin: self.config.hairpin.then_some(true),
            isolated: self.config.isolated.then_some(true),
        };
        let why = "runs a cable from the pod to the bridge";
        self.cable.plan(Some(&self.config.bridge), port, why)
    }

    fn bridge_mac(&self) -> Mac {
        self.seen.mac().unwrap_or(self.bridge_mac)
    }

    fn interfaces(&self) -> Vec<Interface> {
        let bridge = cable::listed(&self.config.bridge, self.bridge_mac());
        iter::once(bridge).chain(self.cable.interfaces()).collect()
    }
}

/// The bridge as it is made where there is none.
pub(crate) fn new_bridge(config: &Config, mac: Mac) -> Link {
    Link {
        mac: Some(mac),
        mtu: config.mtu,
        promiscuous: config.promiscuous.then_some(true),
        ..Link::bridge(config.bridge.clone()).up()
    }
}

/// The addresses on the bridge that cannot stand beside `wanted`: any other IPv4 address, and an
/// IPv6 address whose subnet overlaps. IPv6 link-local addresses are never in the way.
fn conflicts(wanted: IpNet, seen: &[Address]) -> Vec<&Address> {
    seen.iter()
        .filter(|address| match (wanted, address.address) {
            (IpNet::V4(_), IpNet::V4(_)) => address.address != wanted,
            (IpNet::V6(want), IpNet::V6(has)) => {
                has != want && (has.contains(&want.network()) || want.contains(&has.network()))
            }
            _ => false,
        })
        .collect()
}

fn is_address(step: &Step, wanted: IpNet) -> bool {
    matches!(&step.change, Change::Ensure(net::Object::Address(it)) if it.address == wanted)
}
