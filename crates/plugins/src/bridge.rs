//! `bridge`: joins the pods of a node by a bridge, and gives them a gateway and a way out.

mod check;
mod config;
mod plan;
#[cfg(test)]
mod tests;

use cni::{CniResult, Command, Error, Plugin, Request};
use kernel::{ErrorKind, Kernel, OnError, Query};
use net::{Link, LinkKind, Mac, Object, Space, Step};

use crate::cable::{self, Cable};
use crate::delegate::Delegate;
use crate::{forwarding, masquerade, teardown};
use config::Config;
use plan::{Seen, Wiring};

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
    let mut cable = Cable::of(request, config.mtu)?;
    if let Some(mac) = config.mac {
        cable.macs[1] = mac;
    }
    let mut kernel = Kernel::new().map_err(Error::internal)?;
    cable.has_room(&mut kernel)?;
    let mut seen = look_at_bridge(&mut kernel, &config)?;

    let wire = |given: CniResult| {
        cable.can_carry(&given.ips)?;
        if config.masquerade {
            seen.masquerade = masquerade::stale(&mut kernel, &given.ips)?;
        }
        if config.is_gateway {
            seen.announced_uplinks = forwarding::announced_uplinks(&mut kernel, &given.ips)?;
        }
        let bridge_mac = cable::random_mac();
        if seen.bridge.is_none() && !make_bridge(&mut kernel, &config, bridge_mac)? {
            let Seen { bridge, addresses, .. } = look_at_bridge(&mut kernel, &config)?;
            seen = Seen { bridge, addresses, ..seen };
        }
        let wiring = Wiring { config: &config, cable: &cable, bridge_mac, seen: &seen };
        let result = wiring.complete(given);
        let plan = wiring.plan(&result)?;
        cable.apply(&mut kernel, &plan, words)?;
        cable.write_down(&mut kernel, config.explain_in.as_deref(), &plan);
        Ok(result)
    };
    match ipam {
        Some(ipam) => ipam.lend(request, wire),
        None => wire(CniResult::default()),
    }
}

/// Makes the bridge; `false` if another ADD was quicker. Whoever comes second looks at what is there:
/// the result names its hardware address, and its addresses may be in the way.
fn make_bridge(kernel: &mut Kernel, config: &Config, mac: Mac) -> Result<bool, Error> {
    let create = net::Change::Create(plan::new_bridge(config, mac).into());
    let plan = vec![Step::new(&Space::Here, create, "joins the pods of this node")];
    let applied = kernel.apply(&plan, OnError::Stop);
    match cable::failure(&plan, &applied) {
        None => Ok(true),
        Some((_, error)) if error.kind() == ErrorKind::Exists => Ok(false),
        Some((step, error)) => Err(cable::explain(step, error, &words(step))),
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

/// The reference's words for a step that failed.
fn words(step: &Step) -> String {
    use net::Change::{Act, Create, Ensure};
    match &step.change {
        Create(Object::Link(Link { kind: Some(LinkKind::Bridge), name, .. }))
        | Ensure(Object::Link(Link { kind: Some(LinkKind::Bridge), name, .. })) => {
            format!("failed to create bridge {:?}: ", name.as_str())
        }
        Ensure(Object::Address(_)) => "failed to set bridge addr: ".to_owned(),
        Create(Object::Nft(net::nft::Object::Element(element))) if element.value.is_none() => {
            "failed to setup spoof-check: ".to_owned()
        }
        Act(net::Action::WaitUp { .. }) => "bridge port in error state: ".to_owned(),
        _ => cable::words(step).to_owned(),
    }
}

fn is_link_local(address: &net::Address) -> bool {
    matches!(address.address, ipnet::IpNet::V6(v6) if v6.addr().is_unicast_link_local())
}
