//! `portmap`: leads ports of the node to ports of a container.
//!
//! A chained plugin: it comes behind the one that made the container's interface, and returns that
//! one's result. The rules are nftables alone, whatever the back end is called; [`rules`] draws them.

mod check;
mod condition;
mod config;
mod plan;
mod rules;
mod teardown;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use cni::{CniResult, Error, Plugin, Request};
use ipnet::IpNet;
use kernel::{ErrorKind, Kernel, OnError};
use net::nft::{Element, Key};
use net::{Action, Change, Object, Space, Step};

use crate::attachment::Attachment;
use crate::{alive, cable, elements, masquerade};
use config::{Config, Protocol, Snat};
use plan::Seen;
use rules::{Needs, Port};

/// The `portmap` plugin.
#[derive(Clone, Copy, Debug)]
pub struct Portmap;

const HOST: Space = Space::Here;

impl Plugin for Portmap {
    fn name(&self) -> &str {
        "portmap"
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
        let mut kernel = Kernel::new().map_err(Error::internal)?;
        let unavailable = |error: kernel::Error| Error::not_available(error.to_string());
        kernel.check_nftables(&HOST).map_err(unavailable)
    }
}

/// ADD: the previous result, with the ports leading to its addresses. A port that leads somewhere
/// else already is refused before anything is changed.
fn add(request: &Request) -> Result<CniResult, Error> {
    let config = Config::parse(request)?;
    let previous = previous(request)?.ok_or_else(|| {
        Error::internal("must be called as chained plugin")
            .with_details("put portmap behind the plugin that makes the interface, in one list")
    })?;
    let (ports, needs) = needs(&config, request, &previous)?;
    if ports.is_empty() {
        return Ok(previous);
    }
    let attachment = Attachment::of(request);
    let mut kernel = Kernel::new().map_err(Error::internal)?;
    let mut wire = || -> Result<Result<(), (ErrorKind, Error)>, Error> {
        let mut needs = needs.clone();
        let seen = look(&mut kernel, &config, &attachment, &mut needs)?;
        let plan = plan::plan(&needs, config.mark, &seen);
        let applied = kernel.apply(&plan, OnError::Stop);
        Ok(cable::failure(&plan, &applied).map_or(Ok(()), |(step, error)| {
            Err((error.kind(), cable::explain(step, error, words(step))))
        }))
    };
    let done = match wire()? {
        // Another ADD was quicker, which says so now or is gone again; or somebody has just emptied
        // nftables.
        Err((ErrorKind::Exists | ErrorKind::NotFound, _)) => wire()?,
        done => done,
    };
    done.map_err(|(_, error)| error)?;
    // A flow that goes astray for a while is better than a container without ports.
    let flows = datagrams(ports.iter().map(Port::flow));
    let _ = kernel.apply(&[flush(flows)], OnError::Continue);
    Ok(previous)
}

/// The reference's words for a step that failed.
fn words(step: &Step) -> &'static str {
    match step.change {
        Change::Ensure(Object::Sysctl(_)) => "unable to enable route_localnet: ",
        _ => "unable to set up nftables rules for port mappings: ",
    }
}

/// The ports that are asked for, and what they need.
fn needs(
    config: &Config,
    request: &Request,
    previous: &CniResult,
) -> Result<(Vec<Port>, Needs), Error> {
    let containers = containers(previous, &request.ifname);
    let ports = rules::ports(&config.mappings, &containers).map_err(|[first, second]| {
        let (one, other) = (first.target, second.target);
        Error::internal(format!(
            "failed to parse config: host port {first} is mapped twice, to {one} and to {other}"
        ))
        .with_details("runtimeConfig.portMappings: leave one of the two out")
    })?;
    let with_ports = |container: &&IpNet| ports.iter().any(|it| it.target.ip() == container.addr());
    let containers: Vec<IpNet> = containers.iter().filter(with_ports).copied().collect();
    let needs = rules::needs(config, &Attachment::of(request), &ports, &containers);
    Ok((ports, needs))
}

/// The container's addresses that ports lead to: the first one of each family that is on its
/// interface, or on none that is known.
fn containers(previous: &CniResult, ifname: &str) -> Vec<IpNet> {
    let is_its_own = |ip: &&cni::IpConfig| {
        let interface = ip.interface.and_then(|index| previous.interfaces.get(index));
        interface.is_none_or(|it| it.name == ifname && !it.sandbox.is_empty())
    };
    let own = || previous.ips.iter().filter(is_its_own).map(|ip| ip.address);
    let first = |v4: bool| own().find(|address| address.addr().is_ipv4() == v4);
    [first(true), first(false)].into_iter().flatten().collect()
}

/// What is there already, or why a port cannot be had. Ports that lead to the container by another
/// of its networks are not needed: some runtimes ask for the same ones on each.
fn look(
    kernel: &mut Kernel,
    config: &Config,
    attachment: &Attachment,
    needs: &mut Needs,
) -> Result<Seen, Error> {
    let is_own = attachment.recognised();
    let mut found = Vec::new();
    for element in &needs.hairpins {
        found.extend(elements::at_place_of(kernel, element)?);
    }
    // Whoever had this container's address before is gone.
    let mut owners: Vec<Option<String>> = found.iter().map(|old| old.comment.clone()).collect();
    let mut beside = Vec::new();
    let networks = networks(kernel, needs)?;
    for (port, element) in &needs.ports {
        let holders = match element.key {
            // Networks that overlap have different keys.
            Key::Interval(..) => {
                let flow = port.flow();
                let same = networks.get(&(flow.protocol, flow.port)).into_iter().flatten();
                let same = same.filter(|(other, _)| port.overlaps(*other));
                same.map(|(_, element)| element.clone()).collect()
            }
            _ => Vec::from_iter(elements::at_place_of(kernel, element)?),
        };
        for holder in holders {
            let comment = holder.comment.as_deref();
            if comment.is_some_and(|comment| attachment.is_beside(comment)) {
                beside.push(*port);
                continue;
            }
            let may_go = is_own(comment)
                || owners.contains(&holder.comment)
                || comment.is_some_and(|comment| alive::is_gone(kernel, comment));
            if !may_go {
                return Err(taken(port, &holder));
            }
            if !owners.contains(&holder.comment) {
                owners.push(holder.comment.clone());
            }
            found.push(holder);
        }
    }
    needs.leave(&beside);
    let is_needed =
        |old: &Element| needs.elements().any(|it| it.set == old.set && it.key == old.key);
    let mut stale = Vec::new();
    if !owners.is_empty() {
        // All that is left of an ADD before this one, and of those who are gone.
        let is_theirs = |comment: Option<&str>| owners.iter().any(|it| it.as_deref() == comment);
        stale = elements::find(kernel, &masquerade::table(), &rules::MAPS, is_theirs)?;
        stale.retain(|old| !is_needed(old));
    }
    found.retain(is_needed);
    let local_routes = local_routes(kernel, config, needs)?;
    Ok(Seen { replaced: found, stale, local_routes })
}

/// By protocol and port: the flows to it, each with its element.
type Networks = HashMap<(u8, u16), Vec<(net::Flow, Element)>>;

/// The ports in networks of addresses that are there, whosever; read at once, however many are
/// needed.
fn networks(kernel: &mut Kernel, needs: &Needs) -> Result<Networks, Error> {
    let is_in_network = |(_, it): &&(Port, Element)| matches!(it.key, Key::Interval(..));
    let maps: BTreeSet<&str> =
        needs.ports.iter().filter(is_in_network).map(|(_, it)| it.set.as_str()).collect();
    let mut networks = Networks::new();
    for element in elements::find(kernel, &masquerade::table(), &Vec::from_iter(maps), |_| true)? {
        if let Some(flow) = rules::flow_of(&element) {
            networks.entry((flow.protocol, flow.port)).or_default().push((flow, element));
        }
    }
    Ok(networks)
}

fn taken(port: &Port, old: &Element) -> Error {
    let comment = old.comment.as_deref().unwrap_or_default();
    let holder = comment.split_once(", ").map_or(comment, |(_, words)| words);
    let holder = if holder.is_empty() { "somebody without a name" } else { holder };
    let delete = Step::new(&HOST, Change::Delete(old.clone().into()), "");
    let command = net::shell(&delete).join("; ");
    Error::internal(format!("host port {port} is taken: it leads to the container of {holder}"))
        .with_details(format!(
            "choose another hostPort, or delete that container; if it is gone already: {command}"
        ))
}

/// The settings without which packets from the node's loopback addresses do not go to a container:
/// those of the devices by which its ports are reached.
fn local_routes(kernel: &mut Kernel, config: &Config, needs: &Needs) -> Result<Vec<String>, Error> {
    let mut keys = Vec::new();
    if config.snat == Snat::Never {
        return Ok(keys);
    }
    let targets = needs.ports.iter().filter(|(port, _)| port.is_at_loopback());
    let targets: BTreeSet<_> = targets.map(|(port, _)| port.target.ip()).collect();
    for target in targets {
        let link = kernel.way_to(&HOST, target).map_err(|error| {
            Error::internal(format!("unable to enable route_localnet: {error}"))
        })?;
        keys.extend(link.map(|link| format!("net/ipv4/conf/{link}/route_localnet")));
    }
    Ok(keys)
}

/// The flows that have no end of their own.
fn datagrams(flows: impl Iterator<Item = net::Flow>) -> Vec<net::Flow> {
    flows.filter(|flow| flow.protocol == Protocol::Udp.number()).collect()
}

/// The step that forgets where datagrams went before.
fn flush(flows: Vec<net::Flow>) -> Step {
    let flush = Change::Act(Action::FlushFlows { flows });
    Step::new(&HOST, flush, "has senders of datagrams find the new way")
}

/// The result of the plugins before this one.
fn previous(request: &Request) -> Result<Option<CniResult>, Error> {
    request
        .prev_result()
        .map_err(|error| Error { msg: format!("failed to parse config: {}", error.msg), ..error })
}
