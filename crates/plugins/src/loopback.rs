//! `loopback`: brings the container's `lo` up.

use std::path::Path;

use cni::{CniResult, Command, Error, Interface, IpConfig, Plugin, Request};
use kernel::{Kernel, OnError, Query};
use net::{Change, Link, LinkName, Object, Space, Step};

/// The `loopback` plugin. It takes no keys, and whatever interface it is asked for, it is `lo`.
#[derive(Clone, Copy, Debug)]
pub struct Loopback;

impl Plugin for Loopback {
    fn name(&self) -> &str {
        "loopback"
    }

    fn build_version(&self) -> &str {
        crate::BUILD
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let previous = previous(request)?;
        let (mut kernel, space) = open(request.netns()?)?;
        set_up(&mut kernel, &space, true)?;
        let addresses = addresses(&mut kernel, &space)?;
        if let Some(previous) = previous {
            return Ok(previous);
        }
        let ips = addresses.into_iter().map(|address| IpConfig {
            interface: Some(0),
            address,
            gateway: None,
        });
        let lo = Interface {
            name: "lo".to_owned(),
            mac: "00:00:00:00:00:00".to_owned(),
            sandbox: request.netns()?.display().to_string(),
            ..Interface::default()
        };
        Ok(CniResult { interfaces: vec![lo], ips: ips.collect(), ..CniResult::default() })
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let Some(netns) = &request.netns else { return Ok(()) };
        // Without its namespace there is no loopback device either.
        let Ok((mut kernel, space)) = open(netns) else { return Ok(()) };
        set_up(&mut kernel, &space, false)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let (mut kernel, space) = open(request.netns()?)?;
        let link = kernel.link(&space, &lo()?).map_err(Error::internal)?;
        match link {
            Some(link) if link.up => Ok(()),
            _ => Err(Error::internal("loopback interface is down")),
        }
    }
}

/// The previous result in a chain. Only ADD looks at it, so only ADD can fail on it.
fn previous(request: &Request) -> Result<Option<CniResult>, Error> {
    debug_assert_eq!(request.command, Command::Add);
    let failed = |error: Error| Error::internal(format!("failed to parse prevResult: {error}"));
    request.prev_result().map_err(failed)
}

fn open(netns: &Path) -> Result<(Kernel, Space), Error> {
    let mut kernel = Kernel::new().map_err(Error::internal)?;
    let space = Space::At(netns.to_owned());
    crate::interface::open_netns(&mut kernel, &space)?;
    Ok((kernel, space))
}

fn set_up(kernel: &mut Kernel, space: &Space, up: bool) -> Result<(), Error> {
    let link = Link { up: Some(up), ..Link::existing(lo()?) };
    let why = if up { "lets the pod reach itself" } else { "ends what the pod said to itself" };
    let plan = [Step::new(space, Change::Ensure(link.into()), why)];
    kernel.apply(&plan, OnError::Stop).into_result().map_err(Error::internal)
}

/// The first address of each family; IPv4 first.
fn addresses(kernel: &mut Kernel, space: &Space) -> Result<Vec<ipnet::IpNet>, Error> {
    let seen = kernel.observe(space, &Query::Addresses(lo()?)).map_err(Error::internal)?;
    let all = seen.into_iter().filter_map(|object| match object {
        Object::Address(address) => Some(address.address),
        _ => None,
    });
    let all: Vec<_> = all.collect();
    if let Some(foreign) = all.iter().find(|address| !address.addr().is_loopback()) {
        let text = format!(
            "loopback interface found with non-loopback address {:?}",
            foreign.addr().to_string()
        );
        return Err(Error::internal(text));
    }
    let first = |v4: bool| all.iter().find(|address| address.addr().is_ipv4() == v4).copied();
    Ok([first(true), first(false)].into_iter().flatten().collect())
}

fn lo() -> Result<LinkName, Error> {
    "lo".parse().map_err(Error::internal)
}
