//! CHECK: is everything as ADD left it?

use cni::{Error, Interface, Request};
use kernel::{Kernel, Query, dump};
use net::{LinkName, Object, Space};

use super::config::Config;
use crate::attachment::Attachment;
use crate::check::{self, Check, fail};
use crate::delegate::Delegate;
use crate::{elements, forwarding, interface, spoof_check};

/// CHECK. A bridge that somebody else made promiscuous is no failure.
pub(super) fn check(request: &Request) -> Result<(), Error> {
    let config = Config::parse(request)?;
    let ipam = Delegate::find(request)?;
    let mut check = Check::begin(request, ipam.as_ref(), "")?;
    let bridge = check_bridge(&mut check, &config)?;
    check.sandbox()?;
    let link = check_pod_link(&mut check)?;
    check_host_link(&mut check, &link, bridge.index, &config)?;
    if !config.leave_down && !link.up {
        return Err(fail(format!("Interface {} is down", check.ifname)));
    }
    check.network(&link)?;
    if config.is_gateway {
        check_gateways(&mut check, &config)?;
    }
    if config.masquerade {
        check.masquerade()?;
    }
    if config.spoof_check {
        check_guard(&mut check.kernel, &Attachment::of(request))?;
    }
    Ok(())
}

fn check_bridge(check: &mut Check<'_>, config: &Config) -> Result<dump::Link, Error> {
    let name = &config.bridge;
    let recorded = check
        .previous
        .interfaces
        .iter()
        .find(|it| it.name == name.as_str() && it.sandbox.is_empty())
        .ok_or_else(|| fail(format!("Bridge interface {name} not found in prevResult")))?;
    check.recorded()?;
    let link = look_up(&mut check.kernel, &Space::Here, name)?;
    if link.kind != "bridge" {
        return Err(fail(format!("Interface {name} does not have link type of bridge")));
    }
    if check::other_mac(&link, recorded).is_some() {
        return Err(fail(format!("Bridge interface {name} Mac doesn't match: {}", recorded.mac)));
    }
    if !link.up {
        return Err(fail(format!("Bridge interface {name} is down")));
    }
    if config.promiscuous && !link.promiscuous {
        return Err(fail(format!(
            "Bridge interface {name} configured Promisc Mode true doesn't match current state: false"
        )));
    }
    Ok(link)
}

fn check_pod_link(check: &mut Check<'_>) -> Result<dump::Link, Error> {
    let ifname = &check.ifname;
    let link = look_up(&mut check.kernel, &check.pod, ifname)?;
    if link.kind != "veth" {
        return Err(fail(format!("Error: Container interface {ifname} not of type veth")));
    }
    let recorded: &Interface = check.recorded()?;
    if let Some(mac) = check::other_mac(&link, recorded) {
        let text =
            format!("Interface {ifname} Mac {} doesn't match container Mac: {mac}", recorded.mac);
        return Err(fail(text));
    }
    Ok(link)
}

/// One of the recorded host interfaces is the far end of the pod's cable and a port of the bridge.
fn check_host_link(
    check: &mut Check<'_>,
    pod_link: &dump::Link,
    bridge: u32,
    config: &Config,
) -> Result<(), Error> {
    let found = check.host_link(pod_link, |link| link.master == Some(bridge))?;
    let Some((name, link)) = found else {
        return Err(fail(format!("CNI veth created for bridge {} was not found", config.bridge)));
    };
    let port = link.port.unwrap_or_default();
    for (flag, wanted, found) in [
        ("hairpin mode", config.hairpin, port.hairpin),
        ("port isolation", config.isolated, port.isolated),
    ] {
        if wanted != found {
            return Err(fail(format!(
                "Interface {name} configured {flag} {wanted} doesn't match current state: {found}"
            )));
        }
    }
    Ok(())
}

/// The bridge has the gateway addresses, and the node forwards.
fn check_gateways(check: &mut Check<'_>, config: &Config) -> Result<(), Error> {
    let query = Query::Addresses(config.bridge.clone());
    let seen = check.kernel.observe(&Space::Here, &query).map_err(Error::internal)?;
    for ip in interface::own_ips(&check.previous, &check.request.ifname) {
        let Some(gateway) = ip.gateway else { continue };
        let has = |object: &Object| matches!(object, Object::Address(address) if address.address.addr() == gateway);
        if !seen.iter().any(has) {
            let bridge = &config.bridge;
            return Err(fail(format!("Bridge interface {bridge} lacks gateway address {gateway}")));
        }
        forwarding::check(&mut check.kernel, gateway)?;
    }
    Ok(())
}

/// The spoof check knows the attachment's port, and is as it was written.
fn check_guard(kernel: &mut Kernel, attachment: &Attachment) -> Result<(), Error> {
    for set in spoof_check::SETS {
        let own = elements::find(kernel, &spoof_check::table(), &[set], attachment.recognised())?;
        if own.is_empty() {
            return Err(fail(format!("spoof check of {} is missing", attachment.ifname)));
        }
    }
    check::chain(kernel, &spoof_check::prerouting())
}

fn look_up(kernel: &mut Kernel, space: &Space, name: &LinkName) -> Result<dump::Link, Error> {
    let link = kernel.link(space, name).map_err(Error::internal)?;
    link.ok_or_else(|| fail(format!("Interface name {name} not found")))
}
