//! CHECK: is everything as ADD left it, on both ends of the cable?

use cni::{Error, Request, Route};
use ipnet::IpNet;
use kernel::{Query, dump};
use net::{Object, Space};

use super::config::Config;
use super::plan;
use crate::check::{self, Check, fail};
use crate::delegate::Delegate;
use crate::{forwarding, interface};

/// CHECK. The reference looks at the pod only.
pub(super) fn check(request: &Request) -> Result<(), Error> {
    let config = Config::parse(request)?;
    let ipam = Delegate::required(request)?;
    let mut check = Check::begin(request, Some(&ipam), "ptp: ")?;
    check.sandbox()?;
    let link = check_pod_link(&mut check)?;
    let pod = check.network(&link)?;
    check_pod_routes(&check, &pod)?;
    check_host(&mut check, &link)?;
    if config.masquerade {
        check.masquerade()?;
    }
    Ok(())
}

fn check_pod_link(check: &mut Check<'_>) -> Result<dump::Link, Error> {
    let ifname = &check.ifname;
    let link =
        check.kernel.link(&check.pod, ifname).map_err(Error::internal)?.ok_or_else(|| {
            fail(format!("ptp: Container Interface name in prevResult: {ifname} not found"))
        })?;
    if link.kind != "veth" {
        return Err(fail(format!("Error: Container interface {ifname} not of type veth/p2p")));
    }
    let recorded = check.recorded()?;
    if let Some(mac) = check::other_mac(&link, recorded) {
        let recorded = &recorded.mac;
        return Err(fail(format!(
            "ptp: Interface {ifname} Mac {recorded} doesn't match container Mac: {mac}"
        )));
    }
    if !link.up {
        return Err(fail(format!("Interface {ifname} is down")));
    }
    Ok(link)
}

/// The pod reaches its gateway, and its subnet by the gateway, by whichever table.
fn check_pod_routes(check: &Check<'_>, pod: &dump::Dump) -> Result<(), Error> {
    let routes = plan::to_gateways(&check.ifname, &check.previous).into_iter();
    for route in routes.chain(plan::to_subnets(&check.ifname, &check.previous)) {
        check::route_is_in(pod, &Route::new(route.destination, route.gateway))?;
    }
    Ok(())
}

/// The node's end is the gateway, the node sends by it what is for the pod, and forwards.
fn check_host(check: &mut Check<'_>, pod_link: &dump::Link) -> Result<(), Error> {
    let Some((name, link)) = check.host_link(pod_link, |_| true)? else {
        let ifname = &check.ifname;
        return Err(fail(format!("ptp: host end of container interface {ifname} was not found")));
    };
    if !link.up {
        return Err(fail(format!("Interface {name} is down")));
    }
    let query = Query::Addresses(name.clone());
    let seen = check.kernel.observe(&Space::Here, &query).map_err(Error::internal)?;
    for ip in interface::own_ips(&check.previous, &check.request.ifname) {
        let Some(gateway) = ip.gateway else { continue };
        let has =
            |object: &Object| matches!(object, Object::Address(it) if it.address.addr() == gateway);
        if !seen.iter().any(has) {
            return Err(fail(format!("Interface {name} lacks gateway address {gateway}")));
        }
        let address = ip.address.addr();
        let route = check.kernel.route_to(&Space::Here, address).map_err(Error::internal)?;
        let leads = |route: &net::Route| {
            route.destination == IpNet::from(address) && route.link.as_ref() == Some(&name)
        };
        if !route.as_ref().is_some_and(leads) {
            return Err(fail(format!(
                "Expected Route {} dev {name} not found on the host",
                IpNet::from(address)
            )));
        }
        forwarding::check(&mut check.kernel, gateway)?;
    }
    Ok(())
}
