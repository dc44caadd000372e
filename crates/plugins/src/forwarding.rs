//! Forwarding: what a node needs to be its pods' gateway. It is switched on and never off again.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cni::{Error, IpConfig};
use kernel::Kernel;
use net::{Change, LinkName, Plan, Space, Step, Sysctl};

use crate::{check, interface};

/// Switches IPv6 forwarding on for all devices.
const V6: &str = "net/ipv6/conf/all/forwarding";

/// What has to be 1 for a node to be the gateway that this address is.
fn switch(gateway: IpAddr) -> &'static str {
    if gateway.is_ipv4() { "net/ipv4/ip_forward" } else { V6 }
}

/// The devices by which the node learned its IPv6 default route from a router's announcements, if
/// IPv6 forwarding is still to be switched on for the pods.
pub(crate) fn announced_uplinks(
    kernel: &mut Kernel,
    given: &[IpConfig],
) -> Result<Vec<LinkName>, Error> {
    /// `RTPROT_RA`.
    const ANNOUNCED: u8 = 9;
    if interface::addresses(given).iter().all(IpAddr::is_ipv4)
        || kernel
            .sysctl(&Space::Here, V6)
            .map_err(Error::internal)?
            .is_none_or(|value| value == "1")
    {
        return Ok(Vec::new());
    }
    let everywhere = interface::everywhere(false);
    let routes = kernel.routes(&Space::Here).map_err(Error::internal)?.into_iter();
    let announced = routes
        .filter(|(route, _)| route.destination == everywhere && route.protocol == ANNOUNCED)
        .flat_map(|(_, links)| links);
    Ok(announced.collect())
}

/// The steps that make the node forward for pods with these gateways. A node that forwards IPv6
/// forgets what routers announced to it, and so its own way out, unless its uplinks are told not to.
pub(crate) fn plan(gateways: impl Iterator<Item = IpAddr>, announced_uplinks: &[LinkName]) -> Plan {
    let ensure = |sysctl: Sysctl, why| Step::new(&Space::Here, Change::Ensure(sysctl.into()), why);
    let keep = |link: &LinkName| {
        let accept = Sysctl::new(format!("net/ipv6/conf/{link}/accept_ra"), "2");
        ensure(accept, "keeps the node's own way out, which it learned from a router")
    };
    let switches: BTreeSet<&str> = gateways.map(switch).collect();
    let forward = |key| ensure(Sysctl::new(key, "1"), "lets the node forward for its pods");
    announced_uplinks.iter().map(keep).chain(switches.into_iter().map(forward)).collect()
}

/// Whether a step is one of [`plan`]'s switches.
pub(crate) fn is_switch(sysctl: &Sysctl) -> bool {
    [IpAddr::from([0; 4]), IpAddr::from([0; 16])].map(switch).contains(&sysctl.key.as_str())
}

/// CHECK: the node forwards for pods with this gateway.
pub(crate) fn check(kernel: &mut Kernel, gateway: IpAddr) -> Result<(), Error> {
    let key = switch(gateway);
    match kernel.sysctl(&Space::Here, key).map_err(Error::internal)?.as_deref() {
        Some("1") => Ok(()),
        _ => Err(check::fail(format!("{key} is not 1: the node does not forward for its pods"))),
    }
}
