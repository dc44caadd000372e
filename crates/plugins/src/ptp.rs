//! `ptp`: a cable from each pod to the node and nothing between pods, so that all they say to
//! anybody passes the node's routing.

mod check;
mod config;
mod plan;
#[cfg(test)]
mod tests;

use cni::{CniResult, Command, Error, IpConfig, Plugin, Request};
use kernel::Kernel;
use net::{Change, Object, Space, Step};

use crate::cable::{self, Cable};
use crate::delegate::Delegate;
use crate::{forwarding, interface, masquerade, teardown};
use config::Config;
use plan::{Seen, Wiring};

/// The `ptp` plugin.
#[derive(Clone, Copy, Debug)]
pub struct Ptp;

impl Plugin for Ptp {
    fn name(&self) -> &str {
        "ptp"
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
        Delegate::required(request)?.call(Command::Status, request)
    }
}

/// ADD: reserve, look, plan, apply. Whatever fails, nothing stays.
fn add(request: &Request) -> Result<CniResult, Error> {
    let config = Config::parse(request)?;
    let ipam = Delegate::required(request)?;
    let cable = Cable::of(request, config.mtu)?;
    let mut kernel = Kernel::new().map_err(Error::internal)?;
    cable.has_room(&mut kernel)?;
    ipam.lend(request, |given| {
        cable.can_carry(&given.ips)?;
        let seen = look(&mut kernel, &config, &given.ips)?;
        let wiring = Wiring { config: &config, cable: &cable, seen: &seen };
        let result = wiring.complete(given);
        let plan = wiring.plan(&result)?;
        cable.apply(&mut kernel, &plan, words)?;
        cable.write_down(&mut kernel, config.explain_in.as_deref(), &plan);
        Ok(result)
    })
}

/// What an earlier owner of the same addresses left, and what forwarding would take away.
fn look(kernel: &mut Kernel, config: &Config, given: &[IpConfig]) -> Result<Seen, Error> {
    let mut seen = Seen {
        announced_uplinks: forwarding::announced_uplinks(kernel, given)?,
        ..Seen::default()
    };
    if config.masquerade {
        seen.masquerade = masquerade::stale(kernel, given)?;
    }
    for address in interface::addresses(given) {
        let route = kernel.route_to(&Space::Here, address).map_err(Error::internal)?;
        seen.routes.extend(route.filter(|route| route.destination == address.into()));
    }
    Ok(seen)
}

/// The reference's words for a step that failed.
fn words(step: &Step) -> String {
    let on_host = step.space == Space::Here;
    match &step.change {
        Change::Create(Object::Address(address)) if on_host => {
            format!("failed to add IP addr ({}) to veth: ", address.address)
        }
        Change::Create(Object::Route(_)) | Change::Replace { to: Object::Route(_), .. }
            if on_host =>
        {
            "failed to add route on host: ".to_owned()
        }
        Change::Delete(Object::Route(_)) => "failed to delete route: ".to_owned(),
        Change::Ensure(Object::Sysctl(sysctl)) if forwarding::is_switch(sysctl) => {
            "Could not enable IP forwarding: ".to_owned()
        }
        _ => cable::words(step).to_owned(),
    }
}
