//! `bridge`: joins the pods of a node by a bridge, and gives them a gateway and a way out.

mod check;
mod config;
mod plan;
mod teardown;
#[cfg(test)]
mod tests;

use cni::{CniResult, Command, Error, Plugin, Request};
use kernel::{Applied, ErrorKind, Kernel, OnError, Query};
use net::{Link, LinkKind, LinkName, Mac, Object, Plan, Space, Step, shell};

use crate::attachment::Attachment;
use crate::delegate::Delegate;
use crate::{interface, masquerade};
use config::Config;
use plan::{Chosen, Seen, Wiring};

/// The `bridge` plugin.
#[derive(Clone, Copy, Debug)]
pub struct Bridge;

impl Plugin for Bridge {
    fn name(&self) -> &str {
        "bridge"
    }

    fn build_version(&self) -> &str {
        crate::BUILD
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        add(request)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        check::check(request)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        teardown::del(request)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        teardown::gc(request)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        Config::parse(request)?;
        match Delegate::find(request)? {
            Some(ipam) => ipam.call(Command::Status, request),
            None => Ok(()),
        }
    }
}

/// ADD: look, reserve, plan, apply. Whatever fails, nothing stays but an empty bridge.
fn add(request: &Request) -> Result<CniResult, Error> {
    let config = Config::parse(request)?;
    let ipam = Delegate::find(request)?;
    if !request.version.can_express(ipam.is_some()) {
        // The result could not be printed, so nothing may be made.
        return Err(Error::internal("cannot convert: no valid IP addresses"));
    }
    let attachment = Attachment::of(request);
    let ifname: LinkName = request.ifname.parse().map_err(Error::internal)?;
    let host_link = attachment.host_link().ok_or_else(|| Error::internal("no name for a veth"))?;
    let pod = Space::At(request.netns()?.to_owned());

    let mut kernel = Kernel::new().map_err(Error::internal)?;
    interface::open_netns(&mut kernel, &pod)?;
    if kernel.link(&pod, &ifname).map_err(Error::internal)?.is_some() {
        // Before IPAM is asked: to give back a second address would give back the first one too,
        // which the pod uses.
        return Err(already_there(&ifname, &host_link));
    }
    let mut seen = look_at_bridge(&mut kernel, &config)?;

    let given = ipam.as_ref().map(|ipam| ipam.add(request)).transpose()?;
    let mut wire = || {
        let given = given.clone().unwrap_or_default();
        if ipam.is_some() && given.ips.is_empty() {
            return Err(Error::internal("IPAM plugin returned missing IP config"));
        }
        if config.masquerade {
            seen.masquerade = look_for_masquerade(&mut kernel, &given)?;
        }
        if config.is_gateway {
            seen.announced_uplinks = look_for_announced_uplinks(&mut kernel, &given)?;
        }
        let chosen = choose();
        if seen.bridge.is_none() && !make_bridge(&mut kernel, &config, chosen.bridge_mac)? {
            let Seen { bridge, addresses, .. } = look_at_bridge(&mut kernel, &config)?;
            seen = Seen { bridge, addresses, ..seen.clone() };
        }
        let wiring = Wiring {
            config: &config,
            attachment: &attachment,
            pod: &pod,
            ifname: &ifname,
            host_link: &host_link,
            chosen,
            seen: &seen,
        };
        let result = wiring.complete(given);
        let plan = wiring.plan(&result)?;
        apply(&mut kernel, &plan)?;
        if let Some(directory) = &config.explain_in {
            let file =
                net::File { path: attachment.explanation(directory), content: net::script(&plan) };
            let why = "writes down what was done, for people";
            let step = Step::new(&Space::Here, net::Change::Ensure(file.into()), why);
            // No pod goes without network for want of an explanation.
            let _ = kernel.apply(&[step], OnError::Continue);
        }
        Ok(result)
    };
    let result = wire();
    if let (Err(_), Some(ipam), Some(_)) = (&result, &ipam, &given) {
        // The first failure is the one to report.
        let _ = ipam.del(request);
    }
    result
}

/// Makes the bridge; `false` if another ADD was quicker. Whoever comes second looks at what is there:
/// the result names its hardware address, and its addresses may be in the way.
fn make_bridge(kernel: &mut Kernel, config: &Config, mac: Mac) -> Result<bool, Error> {
    let create = net::Change::Create(plan::new_bridge(config, mac).into());
    let plan = vec![Step::new(&Space::Here, create, "joins the pods of this node")];
    let applied = kernel.apply(&plan, OnError::Stop);
    match failure(&plan, &applied) {
        None => Ok(true),
        Some((_, error)) if error.kind() == ErrorKind::Exists => Ok(false),
        Some((step, error)) => Err(explain(step, error)),
    }
}

/// The bridge and, where they matter, its addresses.
fn look_at_bridge(kernel: &mut Kernel, config: &Config) -> Result<Seen, Error> {
    let name = &config.bridge;
    let seen = kernel.link(&Space::Here, name).map_err(Error::internal)?;
    let Some(link) = seen else { return Ok(Seen::default()) };
    if link.kind != "bridge" {
        let (name, kind) = (name.as_str(), &link.kind);
        let kind = if kind.is_empty() { "physical or loopback" } else { kind };
        let text = format!(
            "failed to create bridge {name:?}: {name:?} already exists but is not a bridge"
        );
        let remedy = format!("it is a {kind} device: set bridge to another name, or remove it");
        return Err(Error::internal(text).with_details(remedy));
    }
    let mut addresses = Vec::new();
    if config.is_gateway {
        let objects = kernel.observe(&Space::Here, &Query::Addresses(name.clone()));
        addresses.extend(objects.map_err(Error::internal)?.into_iter().filter_map(|object| {
            match object {
                Object::Address(address) if !is_link_local(&address) => Some(address),
                _ => None,
            }
        }));
    }
    // A bridge whose address was never set has none once its last port is gone.
    let mac = link.mac.filter(|Mac(bytes)| *bytes != [0; 6]);
    let bridge = Link {
        mac,
        up: Some(link.up),
        promiscuous: Some(link.promiscuous),
        ..Link::bridge(name.clone())
    };
    Ok(Seen { bridge: Some(bridge), addresses, ..Seen::default() })
}

/// The devices by which the node learned its IPv6 default route from a router's announcements, if
/// IPv6 forwarding is still to be switched on for the pods.
fn look_for_announced_uplinks(
    kernel: &mut Kernel,
    given: &CniResult,
) -> Result<Vec<LinkName>, Error> {
    /// `RTPROT_RA`.
    const ANNOUNCED: u8 = 9;
    let forwards = |kernel: &mut Kernel| kernel.sysctl(&Space::Here, interface::FORWARDING_V6);
    if interface::addresses(&given.ips).iter().all(std::net::IpAddr::is_ipv4)
        || forwards(kernel).map_err(Error::internal)?.is_none_or(|value| value == "1")
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

/// What an earlier owner of the same addresses left in the masquerade maps.
fn look_for_masquerade(
    kernel: &mut Kernel,
    given: &CniResult,
) -> Result<Vec<net::nft::Element>, Error> {
    let mut found = Vec::new();
    for address in interface::addresses(&given.ips) {
        let (table, map) = (masquerade::table(), masquerade::map(address));
        let element = kernel
            .nft_element(&Space::Here, &table, map, &masquerade::key(address))
            .map_err(|error| Error::internal(format!("failed to set up masquerade: {error}")))?;
        found.extend(element);
    }
    Ok(found)
}

fn choose() -> Chosen {
    let random: [u8; 18] = kernel::random();
    let mac = |at: usize| {
        let mut bytes = [0; 6];
        bytes.copy_from_slice(&random[at..at + 6]);
        Mac::local(bytes)
    };
    Chosen { bridge_mac: mac(0), host_mac: mac(6), pod_mac: mac(12) }
}

/// Applies a plan as a whole or not at all. A host end that is in the way although the pod has no
/// such interface is what an ADD of the same attachment left when it was killed: its name says so.
fn apply(kernel: &mut Kernel, plan: &Plan) -> Result<(), Error> {
    let applied = kernel.apply(plan, OnError::Undo);
    let Some((step, error)) = failure(plan, &applied) else { return Ok(()) };
    if let (ErrorKind::Exists, Some((host, pod, ifname))) = (error.kind(), cable(step)) {
        let taken = kernel.link(pod, ifname).is_ok_and(|link| link.is_some());
        if taken {
            return Err(already_there(ifname, host));
        }
        let delete = net::Change::Delete(Link::existing(host.clone()).into());
        let clear = [Step::new(&Space::Here, delete, "removes what a killed ADD left")];
        let again = match kernel.apply(&clear, OnError::Stop).into_result() {
            Ok(_) => kernel.apply(plan, OnError::Undo),
            Err(_) => applied,
        };
        return failure(plan, &again).map_or(Ok(()), |(step, error)| Err(explain(step, error)));
    }
    Err(explain(step, error))
}

/// The pod has an interface of that name: one of another network, or of an ADD before this one.
fn already_there(ifname: &LinkName, host: &LinkName) -> Error {
    let (ifname, host) = (ifname.as_str(), host.as_str());
    let text = format!("container veth name ({ifname:?}) peer provided ({host:?}) already exists");
    Error::internal(text).with_details("choose another CNI_IFNAME, or call DEL for this one first")
}

/// The step that failed first, and why.
fn failure<'a>(plan: &'a Plan, applied: &'a Applied) -> Option<(&'a Step, &'a kernel::Error)> {
    let (place, error) = applied.failed.first()?;
    Some((plan.get(*place)?, error))
}

/// The names and the place of the pod's end, if the step makes the cable.
fn cable(step: &Step) -> Option<(&LinkName, &Space, &LinkName)> {
    let net::Change::Create(Object::Link(link)) = &step.change else { return None };
    let Some(LinkKind::Veth { peer }) = &link.kind else { return None };
    Some((&link.name, &peer.space, &peer.name))
}

/// A failed step in the words of the reference where it has any, and with the command that a person
/// would try.
fn explain(step: &Step, error: &kernel::Error) -> Error {
    use net::Change::{Create, Ensure};
    let prefix = match &step.change {
        Create(Object::Link(Link { kind: Some(LinkKind::Bridge), name, .. }))
        | Ensure(Object::Link(Link { kind: Some(LinkKind::Bridge), name, .. })) => {
            return Error::internal(format!(
                "failed to create bridge {:?}: {error}",
                name.as_str()
            ))
            .with_details(shell(step).join("; "));
        }
        Create(Object::Link(_)) => "failed to make veth pair: ",
        Ensure(Object::Address(_)) => "failed to set bridge addr: ",
        Create(Object::Address(_)) => "failed to add IP addr: ",
        Create(Object::Route(_)) => "failed to add route: ",
        Create(Object::Nft(net::nft::Object::Element(element))) if element.value.is_none() => {
            "failed to setup spoof-check: "
        }
        Create(Object::Nft(_)) | Ensure(Object::Nft(_)) => "failed to set up nftables: ",
        net::Change::Act(net::Action::WaitUp { .. }) => "bridge port in error state: ",
        _ => "",
    };
    Error::internal(format!("{prefix}{error}")).with_details(shell(step).join("; "))
}

fn is_link_local(address: &net::Address) -> bool {
    matches!(address.address, ipnet::IpNet::V6(v6) if v6.addr().is_unicast_link_local())
}
