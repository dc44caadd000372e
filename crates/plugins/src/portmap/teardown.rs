//! DEL and GC: every port of an attachment, however little is known about it.

use std::net::IpAddr;

use cni::{Error, Request, json};
use ipnet::IpNet;
use kernel::{Kernel, OnError};
use net::nft::Element;

use super::{containers, datagrams, flush, plan, previous, rules};
use crate::attachment::{self, Attachment};
use crate::failures::Failures;
use crate::{alive, elements, masquerade, reference};

/// DEL: removes the attachment's elements and the chains that only these led to, and what the
/// reference plugin left for it. The elements name their attachment, so neither the mappings nor
/// the previous result have to be known, nor does the configuration have to be valid still.
pub(super) fn del(request: &Request) -> Result<(), Error> {
    let attachment = Attachment::of(request);
    let waits = json::member(&request.document, "delWaits") == Some(&true.into());
    let mut kernel = Kernel::new().map_err(Error::internal)?;
    let mut failures = Failures::default();
    let is_own = attachment.recognised();
    let own = elements::find(&mut kernel, &masquerade::table(), &rules::MAPS, is_own);
    let own = failures.note(own).unwrap_or_default();
    let flows = flows(&own);
    let removed_any = !own.is_empty();
    failures.note(remove(&mut kernel, &own));
    let previous = previous(request).ok().flatten().unwrap_or_default();
    let addresses: Vec<IpAddr> =
        containers(&previous, &request.ifname).iter().map(IpNet::addr).collect();
    let theirs = reference::remove_port_mappings(&mut kernel, &attachment, &addresses);
    failures.note(theirs.map_err(Error::internal));
    // Where no child can be had, there is still the slow way.
    if removed_any && (waits || kernel.end_in_child(&flows).is_err()) {
        let flushed = kernel.apply(&[flush(flows)], OnError::Continue).into_result();
        failures.note(flushed.map_err(Error::internal));
    }
    failures.into_result()
}

/// GC: removes the ports of all attachments that are not valid, except for those that live. Without
/// a list of valid attachments nothing changes.
pub(super) fn gc(request: &Request) -> Result<(), Error> {
    let Some(valid) = request.network.valid_attachments.known() else { return Ok(()) };
    let mut kernel = Kernel::new().map_err(Error::internal)?;
    let is_stale = attachment::stale(&request.network.name, valid);
    let stale = elements::find(&mut kernel, &masquerade::table(), &rules::MAPS, is_stale)?;
    let (living, dead): (Vec<_>, Vec<_>) = stale.into_iter().partition(|element| {
        let comment = element.comment.as_deref().unwrap_or_default();
        alive::has_link(&mut kernel, attachment::host_link_in(comment))
            || Attachment::in_comment(comment).is_some_and(|it| alive::is_noted(&mut kernel, &it))
    });
    let mut told: Vec<&str> = Vec::new();
    for comment in living.iter().filter_map(|element| element.comment.as_deref()) {
        if !told.contains(&comment) {
            alive::report(comment);
            told.push(comment);
        }
    }
    let flows = flows(&dead);
    remove(&mut kernel, &dead)?;
    let flushed = kernel.apply(&[flush(flows)], OnError::Continue);
    flushed.into_result().map_err(Error::internal)
}

/// The flows of datagrams to the ports of these elements.
fn flows(elements: &[Element]) -> Vec<net::Flow> {
    datagrams(elements.iter().filter_map(rules::flow_of))
}

/// Removes elements and the chains that only they led to.
pub(super) fn remove(kernel: &mut Kernel, elements: &[Element]) -> Result<(), Error> {
    let plan = plan::removal(elements, &[]);
    kernel.apply(&plan, OnError::Continue).into_result().map_err(Error::internal)
}
