//! CHECK: is everything as ADD left it?

use cni::{CniResult, Command, Error, Interface, Request};
use ipnet::IpNet;
use kernel::{Kernel, Query, dump};
use net::nft::Chain;
use net::{LinkName, MAIN_TABLE, Object, Space};

use super::config::Config;
use crate::attachment::Attachment;
use crate::delegate::Delegate;
use crate::{interface, masquerade, spoof_check};

/// CHECK, with the reference's words. It is asked about what this attachment needs: a bridge that
/// somebody else made promiscuous, or routes beyond the main table, are no failure.
pub(super) fn check(request: &Request) -> Result<(), Error> {
    let config = Config::parse(request)?;
    if let Some(ipam) = Delegate::find(request)? {
        ipam.call(Command::Check, request)?;
    }
    let previous =
        request.prev_result()?.ok_or_else(|| fail("Required prevResult missing".to_owned()))?;
    let mut kernel = Kernel::new().map_err(Error::internal)?;
    let netns = request.netns()?;
    let pod = Space::At(netns.to_owned());
    interface::open_netns(&mut kernel, &pod)?;

    let ifname: LinkName = request.ifname.parse().map_err(Error::internal)?;
    let recorded = Recorded::find(&previous, &config, request)?;
    let bridge = check_bridge(&mut kernel, &config, recorded.bridge)?;
    let sandbox = &recorded.pod.sandbox;
    if *sandbox != netns.display().to_string() {
        let netns = netns.display();
        return Err(fail(format!(
            "Sandbox in prevResult {sandbox} doesn't match configured netns: {netns}"
        )));
    }
    let link = check_pod_link(&mut kernel, &pod, &ifname, recorded.pod)?;
    check_host_link(&mut kernel, &previous, &link, bridge.index, &config)?;
    if !config.leave_down && !link.up {
        return Err(fail(format!("Interface {ifname} is down")));
    }
    check_network(&mut kernel, &pod, &ifname, link.index, &previous)?;
    if config.is_gateway {
        check_gateways(&mut kernel, &config, request, &previous)?;
    }
    check_rules(&mut kernel, &config, &Attachment::of(request), &previous)
}

/// The interfaces that ADD wrote down.
struct Recorded<'a> {
    bridge: &'a Interface,
    pod: &'a Interface,
}

impl<'a> Recorded<'a> {
    fn find(previous: &'a CniResult, config: &Config, request: &Request) -> Result<Self, Error> {
        let mut interfaces = previous.interfaces.iter();
        let bridge = interfaces
            .clone()
            .find(|it| it.name == config.bridge.as_str() && it.sandbox.is_empty())
            .ok_or_else(|| {
                fail(format!("Bridge interface {} not found in prevResult", config.bridge))
            })?;
        let pod =
            interfaces.find(|it| it.name == request.ifname && !it.sandbox.is_empty()).ok_or_else(
                || fail(format!("Container interface {} not found in prevResult", request.ifname)),
            )?;
        Ok(Self { bridge, pod })
    }
}

fn check_bridge(
    kernel: &mut Kernel,
    config: &Config,
    recorded: &Interface,
) -> Result<dump::Link, Error> {
    let name = &config.bridge;
    let link = look_up(kernel, &Space::Here, name)?;
    if link.kind != "bridge" {
        return Err(fail(format!("Interface {name} does not have link type of bridge")));
    }
    if !recorded.mac.is_empty()
        && link.mac.map(|mac| mac.to_string()).as_ref() != Some(&recorded.mac)
    {
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

fn check_pod_link(
    kernel: &mut Kernel,
    pod: &Space,
    ifname: &LinkName,
    recorded: &Interface,
) -> Result<dump::Link, Error> {
    let link = look_up(kernel, pod, ifname)?;
    if link.kind != "veth" {
        return Err(fail(format!("Error: Container interface {ifname} not of type veth")));
    }
    if !recorded.mac.is_empty()
        && link.mac.map(|mac| mac.to_string()).as_ref() != Some(&recorded.mac)
    {
        return Err(fail(format!(
            "Interface {ifname} Mac {} doesn't match container Mac: {}",
            recorded.mac,
            link.mac.map(|mac| mac.to_string()).unwrap_or_default()
        )));
    }
    Ok(link)
}

/// One of the recorded host interfaces is the far end of the pod's cable and a port of the bridge.
fn check_host_link(
    kernel: &mut Kernel,
    previous: &CniResult,
    pod_link: &dump::Link,
    bridge: u32,
    config: &Config,
) -> Result<(), Error> {
    for recorded in previous.interfaces.iter().filter(|it| it.sandbox.is_empty()) {
        let Ok(name) = recorded.name.parse::<LinkName>() else { continue };
        let link = kernel.link(&Space::Here, &name).map_err(Error::internal)?;
        let Some(link) = link.filter(|link| {
            Some(link.index) == pod_link.parent && link.parent == Some(pod_link.index)
        }) else {
            continue;
        };
        if link.master != Some(bridge) {
            continue;
        }
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
        return Ok(());
    }
    Err(fail(format!("CNI veth created for bridge {} was not found", config.bridge)))
}

/// Addresses and routes of the pod, whichever table they are in.
fn check_network(
    kernel: &mut Kernel,
    pod: &Space,
    ifname: &LinkName,
    index: u32,
    previous: &CniResult,
) -> Result<(), Error> {
    let dump = kernel.dump(pod).map_err(Error::internal)?;
    for ip in interface::own_ips(previous, ifname.as_str()) {
        let found = |seen: &dump::Address| seen.index == index && seen.address == ip.address;
        if !dump.addresses.iter().any(found) {
            let address = ip.address;
            return Err(fail(format!("Failed to match addr {address} on interface {ifname}")));
        }
    }
    for route in &previous.routes {
        let reaches = |hop: &dump::Hop| route.gw.is_none() || hop.gateway == route.gw;
        let found = dump.routes.iter().any(|seen| {
            seen.destination == route.dst.trunc()
                && route.table.is_none_or(|table| seen.table == table)
                && seen.table != LOCAL_TABLE
                && seen.hops.iter().any(reaches)
        });
        if !found {
            let table = route.table.unwrap_or(MAIN_TABLE);
            let via = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
            return Err(fail(format!(
                "Expected Route {}{via} not found in routing table {table}",
                route.dst
            )));
        }
    }
    Ok(())
}

/// The bridge has the gateway addresses, and the node forwards.
fn check_gateways(
    kernel: &mut Kernel,
    config: &Config,
    request: &Request,
    previous: &CniResult,
) -> Result<(), Error> {
    let query = Query::Addresses(config.bridge.clone());
    let seen = kernel.observe(&Space::Here, &query).map_err(Error::internal)?;
    for ip in interface::own_ips(previous, &request.ifname) {
        let Some(gateway) = ip.gateway else { continue };
        let has = |object: &Object| matches!(object, Object::Address(address) if address.address.addr() == gateway);
        if !seen.iter().any(has) {
            let bridge = &config.bridge;
            return Err(fail(format!("Bridge interface {bridge} lacks gateway address {gateway}")));
        }
        let key = interface::forwarding(gateway);
        if kernel.sysctl(&Space::Here, key).map_err(Error::internal)?.as_deref() != Some("1") {
            return Err(fail(format!("{key} is not 1: the node does not forward for its pods")));
        }
    }
    Ok(())
}

/// The attachment's elements are in the maps that the configuration calls for.
fn check_rules(
    kernel: &mut Kernel,
    config: &Config,
    attachment: &Attachment,
    previous: &CniResult,
) -> Result<(), Error> {
    if config.masquerade {
        for address in interface::own_ips(previous, &attachment.ifname).map(|ip| ip.address) {
            let (table, key) = (masquerade::table(), masquerade::key(address.addr()));
            let element = kernel
                .nft_element(&Space::Here, &table, masquerade::map(address.addr()), &key)
                .map_err(Error::internal)?;
            if !element.is_some_and(|element| attachment.owns(element.comment.as_deref())) {
                return Err(missing_rule("masquerade", address));
            }
            check_chain(kernel, &masquerade::subnet_chain(address.trunc()))?;
            check_chain(kernel, &masquerade::postrouting())?;
        }
    }
    if config.spoof_check {
        for set in spoof_check::SETS {
            let elements = kernel
                .nft_elements(&Space::Here, &spoof_check::table(), set, |_| true)
                .map_err(Error::internal)?
                .unwrap_or_default();
            if !elements.iter().any(|element| attachment.owns(element.comment.as_deref())) {
                return Err(fail(format!("spoof check of {} is missing", attachment.ifname)));
            }
        }
        check_chain(kernel, &spoof_check::prerouting())?;
    }
    Ok(())
}

/// The rules that all attachments share are as they were written.
fn check_chain(kernel: &mut Kernel, wanted: &Chain) -> Result<(), Error> {
    match kernel.nft_chain_holds(&Space::Here, wanted).map_err(Error::internal)? {
        true => Ok(()),
        false => {
            Err(fail(format!("nft chain {} {} is not as ADD left it", wanted.table, wanted.name)))
        }
    }
}

fn missing_rule(what: &str, address: IpNet) -> Error {
    fail(format!("{what} of {address} is missing"))
}

const LOCAL_TABLE: u32 = 255;

fn look_up(kernel: &mut Kernel, space: &Space, name: &LinkName) -> Result<dump::Link, Error> {
    let link = kernel.link(space, name).map_err(Error::internal)?;
    link.ok_or_else(|| fail(format!("Interface name {name} not found")))
}

fn fail(text: String) -> Error {
    Error::internal(text)
}
