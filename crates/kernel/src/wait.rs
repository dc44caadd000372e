//! Waiting for the kernel by its events instead of by the clock.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use net::{LinkName, Scope};

use crate::dump::{self, OperState};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::netlink::{Protocol, Socket};
use crate::netns::Netns;
use crate::rtnetlink::{self, group, rtm};

/// Waits until `link` can carry packets.
pub(crate) fn up(
    handle: &mut Handle,
    home: &Netns,
    link: &LinkName,
    patience: Duration,
) -> Result<()> {
    let what = || format!("wait for device {link}");
    let is_up = |handle: &mut Handle| match handle.link(link)? {
        Some(link) => Ok(link.oper_state == OperState::Up),
        None => Err(Error::errno(what(), libc::ENODEV, None)),
    };
    match until(handle, home, &[group::LINK], patience, is_up)? {
        true => Ok(()),
        false => Err(late(what(), patience, "it is still not up")),
    }
}

/// Waits until none of `addresses` (all of `link` if none is named) is tentative any more, and
/// packets to each are delivered: the kernel adds the local route of an IPv6 address a little later,
/// detection or not. One that somebody else has is an error.
pub(crate) fn addresses(
    handle: &mut Handle,
    home: &Netns,
    link: &LinkName,
    addresses: &[IpAddr],
    patience: Duration,
) -> Result<()> {
    let what = || format!("wait for the addresses of {link}");
    let index = handle.index(link)?;
    let look = |handle: &mut Handle| {
        let mut found = Vec::new();
        let request = rtnetlink::address::all(index);
        handle.route().dump(rtm::GETADDR, &request, |message| {
            let address = rtnetlink::address::parse(message.payload);
            found.extend(address.filter(|it| {
                let is_meant = addresses.is_empty() || addresses.contains(&it.address.addr());
                it.index == index && is_meant
            }));
        })?;
        match found.iter().find(|address| address.dad_failed) {
            Some(dump::Address { address, .. }) => {
                let text = format!("link {link} has address {address} in DADFAILED state");
                Err(Error::text(what(), ErrorKind::Exists, text))
            }
            None => Ok(found),
        }
    };
    let are_settled = |handle: &mut Handle| {
        for address in look(handle)? {
            if address.tentative || !is_delivered(handle, &address)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let groups = [group::ADDRESS_V6, group::ROUTE_V6];
    if until(handle, home, &groups, patience, are_settled)?
        // Rules of the administrator may hide a local route for ever.
        || look(handle)?.iter().all(|address| !address.tentative)
    {
        return Ok(());
    }
    Err(late(what(), patience, "an address is still tentative"))
}

/// Whether a packet to this address, which is one of this namespace, stays in it. Those of IPv4 do
/// from the start; a link-local one could not be looked up without its link.
fn is_delivered(handle: &mut Handle, address: &dump::Address) -> Result<bool> {
    let ip = address.address.addr();
    if ip.is_ipv4() || address.scope == Scope::Link {
        return Ok(true);
    }
    let route = rtnetlink::route::look_up(handle.route(), ip)?;
    Ok(route.is_some_and(|route| route.kind == dump::RouteKind::Local))
}

/// Asks `is_done` again at every event of `groups`; `false` if it never was within `patience`.
fn until(
    handle: &mut Handle,
    home: &Netns,
    groups: &[u32],
    patience: Duration,
    is_done: impl Fn(&mut Handle) -> Result<bool>,
) -> Result<bool> {
    if is_done(handle)? {
        return Ok(true);
    }
    let deadline = Instant::now() + patience;
    let mut events = handle.inside(home, || Socket::open(Protocol::Route))??;
    events.subscribe(groups)?;
    // It may have come true between the question and the subscription.
    while !is_done(handle)? {
        match events.event(deadline, |_| Some(())) {
            Ok(Some(())) => {}
            Ok(None) => return Ok(false),
            // Events were lost: look again.
            Err(error) if error.raw_errno() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn late(what: String, patience: Duration, text: &str) -> Error {
    Error::text(what, ErrorKind::TimedOut, format!("{text} after {} ms", patience.as_millis()))
}
