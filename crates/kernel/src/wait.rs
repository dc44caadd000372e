//! Waiting for the kernel by its events instead of by the clock.

use std::time::{Duration, Instant};

use net::LinkName;

use crate::dump::OperState;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::netlink::{Protocol, Socket};
use crate::netns::Netns;
use crate::rtnetlink::{self, rtm};

/// Multicast groups (`RTMGRP_*`).
pub(crate) const LINK_EVENTS: u32 = 0x1;
const IPV6_ADDRESS_EVENTS: u32 = 0x100;

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
    match until(handle, home, LINK_EVENTS, patience, is_up)? {
        true => Ok(()),
        false => Err(late(what(), patience, "it is still not up")),
    }
}

/// Waits until no address of `link` is tentative any more. One that somebody else has is an error.
pub(crate) fn addresses(
    handle: &mut Handle,
    home: &Netns,
    link: &LinkName,
    patience: Duration,
) -> Result<()> {
    let what = || format!("wait for the addresses of {link}");
    let index = handle.index(link)?;
    let are_settled = |handle: &mut Handle| {
        let mut tentative = false;
        let mut failed = None;
        let request = rtnetlink::address::all(index);
        handle.route().dump(rtm::GETADDR, &request, |message| {
            let Some(address) = rtnetlink::address::parse(message.payload) else { return };
            if address.index == index {
                tentative |= address.tentative && !address.dad_failed;
                failed = failed.or(address.dad_failed.then_some(address.address));
            }
        })?;
        match failed {
            Some(address) => {
                let text = format!("link {link} has address {address} in DADFAILED state");
                Err(Error::text(what(), ErrorKind::Exists, text))
            }
            None => Ok(!tentative),
        }
    };
    match until(handle, home, IPV6_ADDRESS_EVENTS, patience, are_settled)? {
        true => Ok(()),
        false => Err(late(what(), patience, "an address is still tentative")),
    }
}

/// Asks `is_done` again at every event of `groups`; `false` if it never was within `patience`.
fn until(
    handle: &mut Handle,
    home: &Netns,
    groups: u32,
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
