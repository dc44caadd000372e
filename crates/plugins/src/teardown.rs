//! DEL and GC of every plugin with a cable: everything of an attachment goes, however little of it
//! is left, and whichever of these plugins made it.

use std::net::IpAddr;
use std::path::PathBuf;

use cni::{Error, Request, json};
use kernel::{Kernel, Netns, OnError, Removal};
use net::nft::Element;
use net::{Action, Change, Link, LinkName, Plan, Space, Step};
use serde_json::Value;

use crate::attachment::{self, Attachment};
use crate::delegate::Delegate;
use crate::failures::Failures;
use crate::{alive, elements, interface, masquerade, reference, spoof_check};

const HOST: Space = Space::Here;

/// DEL: removes the cable, the rules and the reservation, collects what fails and goes on.
///
/// The cable is found by its name, so that no namespace is needed. The address is given back last,
/// when nothing uses it any more.
pub(crate) fn del(request: &Request) -> Result<(), Error> {
    let config = Teardown::of(request);
    let attachment = Attachment::of(request);
    let addresses = known_addresses(request);
    let mut failures = Failures::default();
    match Kernel::new() {
        Ok(mut kernel) => {
            let removal =
                failures.note(begin(&mut kernel, request, &attachment, &addresses, &config));
            failures.note(remove_rules(&mut kernel, &attachment, &addresses, &config));
            let theirs = reference::remove_rules(&mut kernel, &attachment);
            failures.note(theirs.map_err(Error::internal));
            if let Some(removal) = removal.flatten() {
                failures.note(kernel.finish_removal(removal).map_err(Error::internal));
            }
        }
        Err(error) => {
            failures.note::<()>(Err(Error::internal(error)));
        }
    }
    if let Some(directory) = &config.explain_in {
        // Nothing depends on it.
        let _ = std::fs::remove_file(attachment.explanation(directory));
    }
    failures.note(give_back(request));
    failures.into_result()
}

/// GC: frees what belongs to no valid attachment, here and at the delegate. Without a list of
/// valid attachments nothing changes. An attachment whose interface lives is spared and reported,
/// because a list that leaves it out is more likely wrong than the packets it carries.
pub(crate) fn gc(request: &Request) -> Result<(), Error> {
    let Some(valid) = request.network.valid_attachments.known() else { return Ok(()) };
    let mut failures = Failures::default();
    let mut kernel = Kernel::new().map_err(Error::internal)?;
    let is_stale = attachment::stale(&request.network.name, valid);
    let stale = failures.note(elements(&mut kernel, is_stale)).unwrap_or_default();
    let link_of = |element: &Element| attachment::host_link_in(element.comment.as_deref()?);
    let (living, dead): (Vec<_>, Vec<_>) =
        stale.into_iter().partition(|element| alive::has_link(&mut kernel, link_of(element)));
    for element in living {
        alive::report(&element.comment.unwrap_or_default());
    }
    failures.note(elements::remove(&mut kernel, dead));
    if let Some(ipam) = failures.note(Delegate::find(request)).flatten() {
        failures.note(ipam.call(cni::Command::Gc, request));
    }
    failures.into_result()
}

/// The part of a configuration that DEL needs. Whatever is wrong with it reads as not given: a
/// configuration that became invalid since ADD does not keep a pod from going.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Teardown {
    /// `delWaits`: waits until the kernel has finished, instead of until it has announced; for
    /// nodes on which nobody reaps the child that does the rest.
    waits: bool,
    /// `ipMasq`: the pod's addresses are in the masquerade maps.
    masquerade: bool,
    /// `explainIn`: where ADD left an explanation.
    explain_in: Option<PathBuf>,
}

impl Teardown {
    fn of(request: &Request) -> Self {
        let is_on = |key| json::member(&request.document, key) == Some(&Value::Bool(true));
        let explain_in = json::member(&request.document, "explainIn").and_then(Value::as_str);
        Self {
            waits: is_on("delWaits"),
            masquerade: is_on("ipMasq"),
            explain_in: explain_in.map(PathBuf::from),
        }
    }
}

/// Begins to remove the cable; what is left to wait for.
fn begin(
    kernel: &mut Kernel,
    request: &Request,
    attachment: &Attachment,
    addresses: &[IpAddr],
    config: &Teardown,
) -> Result<Option<Removal>, Error> {
    let Some(host_link) = attachment.host_link() else { return Ok(None) };
    if kernel.link(&HOST, &host_link).map_err(Error::internal)?.is_none() {
        // It was made by the reference plugin, whose host ends have names of chance.
        return remove_in_pod(kernel, request, addresses).map(|()| None);
    }
    // Where no child can be had, there is still the slow way.
    if !config.waits
        && let Ok(removal) = kernel.begin_removal(&host_link, addresses)
    {
        return Ok(removal);
    }
    let plan = removal_plan(&HOST, host_link, addresses);
    kernel.apply(&plan, OnError::Continue).into_result().map(|_| None).map_err(Error::internal)
}

/// Removes the pod's end where only that can be named. A namespace that is gone, or a file that
/// is none, is no failure: what was in it is gone too. An interface of that name that podwire made
/// for another attachment stays: its own DEL would have been found by its host end.
fn remove_in_pod(
    kernel: &mut Kernel,
    request: &Request,
    addresses: &[IpAddr],
) -> Result<(), Error> {
    let Some(path) = request.netns.as_deref().filter(|path| Netns::open(path).is_ok()) else {
        return Ok(());
    };
    let ifname: LinkName = request.ifname.parse().map_err(Error::internal)?;
    let pod = Space::At(path.to_owned());
    if !is_of_this(kernel, &pod, &ifname).map_err(Error::internal)? {
        return Ok(());
    }
    let plan = removal_plan(&pod, ifname, addresses);
    kernel.apply(&plan, OnError::Continue).into_result().map_err(Error::internal)
}

/// Whether a pod's interface may be what a plugin made for this attachment: a cable, the far
/// end of which is no host link of podwire, since those have names of their own attachments. The
/// far end is looked up by its index, which counts only if that device names the pod's interface as
/// its own far end.
fn is_of_this(kernel: &mut Kernel, pod: &Space, ifname: &LinkName) -> Result<bool, kernel::Error> {
    let Some(link) = kernel.link(pod, ifname)?.filter(|link| link.kind == "veth") else {
        return Ok(false);
    };
    let Some(parent) = link.parent else { return Ok(true) };
    let far = kernel.link_at(&HOST, parent)?;
    Ok(!far
        .is_some_and(|far| far.parent == Some(link.index) && attachment::is_host_link(&far.name)))
}

fn removal_plan(space: &Space, link: LinkName, addresses: &[IpAddr]) -> Plan {
    let delete = Change::Delete(Link::existing(link).into());
    let mut plan = vec![Step::new(space, delete, "pulls the cable out")];
    if !addresses.is_empty() {
        let flush = Change::Act(Action::FlushConntrack { addresses: addresses.to_vec() });
        plan.push(Step::new(&HOST, flush, "forgets the pod's connections"));
    }
    plan
}

/// Removes the attachment's elements. Where the runtime remembers the addresses they are looked up
/// by key; the maps, which have an element of each pod, are searched only if that leaves any open.
fn remove_rules(
    kernel: &mut Kernel,
    attachment: &Attachment,
    addresses: &[IpAddr],
    config: &Teardown,
) -> Result<(), Error> {
    let is_own = attachment.recognised();
    let mut found = Vec::new();
    for address in addresses {
        let element = masquerade::element_of(kernel, *address)?;
        found.extend(element.filter(|element| is_own(element.comment.as_deref())));
    }
    let is_complete =
        !addresses.is_empty() && (found.len() == addresses.len() || !config.masquerade);
    if is_complete {
        // The port's own element says whether there is anything to look for.
        let table = spoof_check::table();
        let guard = attachment.host_link().map(|link| spoof_check::guard(&link));
        let guarded =
            guard.map(|key| kernel.nft_element(&HOST, &table, spoof_check::GUARDED, &key));
        if guarded.transpose().map_err(Error::internal)?.flatten().is_some() {
            found.extend(elements::find(kernel, &table, &spoof_check::SETS, is_own)?);
        }
    } else {
        found = elements(kernel, is_own)?;
    }
    elements::remove(kernel, found)
}

/// The elements of all sets of plugins with a cable whose comment is wanted.
fn elements(
    kernel: &mut Kernel,
    is_wanted: impl Fn(Option<&str>) -> bool,
) -> Result<Vec<Element>, Error> {
    let maps = ["masquerade4", "masquerade6"];
    let mut found = elements::find(kernel, &masquerade::table(), &maps, &is_wanted)?;
    let table = spoof_check::table();
    found.extend(elements::find(kernel, &table, &spoof_check::SETS, &is_wanted)?);
    Ok(found)
}

fn give_back(request: &Request) -> Result<(), Error> {
    match Delegate::find(request)? {
        Some(ipam) => ipam.del(request),
        None => Ok(()),
    }
}

/// The attachment's addresses, as the runtime remembers them. A previous result that cannot be
/// read is as good as none.
fn known_addresses(request: &Request) -> Vec<IpAddr> {
    let Some(previous) = request.prev_result().ok().flatten() else { return Vec::new() };
    interface::own_ips(&previous, &request.ifname).map(|ip| ip.address.addr()).collect()
}
