//! What CHECK looks at for every plugin with a cable: is it as ADD left it?
//!
//! It is asked about what this attachment needs, with the reference's words where it has any. Routes
//! beyond the main table, or what others have added, are no failure.

use cni::{CniResult, Command, Error, Interface, Request};
use kernel::{Kernel, dump};
use net::nft::Chain;
use net::{LinkName, MAIN_TABLE, Mac, Space};

use crate::attachment::Attachment;
use crate::delegate::Delegate;
use crate::{interface, masquerade};

const LOCAL_TABLE: u32 = 255;

/// One CHECK: what it is about, with the pod's namespace open.
pub(crate) struct Check<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) request: &'a Request,
    /// What ADD has answered.
    pub(crate) previous: CniResult,
    /// The pod's namespace.
    pub(crate) pod: Space,
    /// The pod's interface.
    pub(crate) ifname: LinkName,
}

impl<'a> Check<'a> {
    /// Has IPAM check first. `plugin` is what the text about a missing result begins with.
    pub(crate) fn begin(
        request: &'a Request,
        ipam: Option<&Delegate>,
        plugin: &str,
    ) -> Result<Self, Error> {
        if let Some(ipam) = ipam {
            ipam.call(Command::Check, request)?;
        }
        let previous = request
            .prev_result()?
            .ok_or_else(|| fail(format!("{plugin}Required prevResult missing")))?;
        let mut kernel = Kernel::new().map_err(Error::internal)?;
        let pod = Space::At(request.netns()?.to_owned());
        interface::open_netns(&mut kernel, &pod)?;
        let ifname = request.ifname.parse().map_err(Error::internal)?;
        Ok(Self { kernel, request, previous, pod, ifname })
    }

    /// The pod's interface as ADD wrote it down.
    pub(crate) fn recorded(&self) -> Result<&Interface, Error> {
        let name = &self.request.ifname;
        let mut interfaces = self.previous.interfaces.iter();
        interfaces
            .find(|it| it.name == *name && !it.sandbox.is_empty())
            .ok_or_else(|| fail(format!("Container interface {name} not found in prevResult")))
    }

    /// ADD was about this namespace.
    pub(crate) fn sandbox(&self) -> Result<(), Error> {
        let (sandbox, netns) = (&self.recorded()?.sandbox, self.request.netns()?.display());
        match *sandbox == netns.to_string() {
            true => Ok(()),
            false => Err(fail(format!(
                "Sandbox in prevResult {sandbox} doesn't match configured netns: {netns}"
            ))),
        }
    }

    /// The far end of the pod's cable, which is one of the recorded host interfaces, if `fits` too.
    pub(crate) fn host_link(
        &mut self,
        pod_link: &dump::Link,
        fits: impl Fn(&dump::Link) -> bool,
    ) -> Result<Option<(LinkName, dump::Link)>, Error> {
        for recorded in self.previous.interfaces.iter().filter(|it| it.sandbox.is_empty()) {
            let Ok(name) = recorded.name.parse::<LinkName>() else { continue };
            let link = self.kernel.link(&Space::Here, &name).map_err(Error::internal)?;
            let is_far_end = |link: &dump::Link| {
                Some(link.index) == pod_link.parent && link.parent == Some(pod_link.index)
            };
            if let Some(link) = link.filter(|link| is_far_end(link) && fits(link)) {
                return Ok(Some((name, link)));
            }
        }
        Ok(None)
    }

    /// Addresses and routes of the pod, whichever table they are in. What is there is returned.
    pub(crate) fn network(&mut self, pod_link: &dump::Link) -> Result<dump::Dump, Error> {
        let dump = self.kernel.dump(&self.pod).map_err(Error::internal)?;
        let ifname = &self.ifname;
        for ip in interface::own_ips(&self.previous, ifname.as_str()) {
            let found =
                |seen: &dump::Address| seen.index == pod_link.index && seen.address == ip.address;
            if !dump.addresses.iter().any(found) {
                let address = ip.address;
                return Err(fail(format!("Failed to match addr {address} on interface {ifname}")));
            }
        }
        for route in &self.previous.routes {
            route_is_in(&dump, route)?;
        }
        Ok(dump)
    }

    /// The attachment's elements are in the masquerade maps, with the rules that all pods share.
    pub(crate) fn masquerade(&mut self) -> Result<(), Error> {
        let attachment = Attachment::of(self.request);
        for address in interface::own_ips(&self.previous, &attachment.ifname).map(|ip| ip.address) {
            let element = masquerade::element_of(&mut self.kernel, address.addr())?;
            if !element.is_some_and(|element| attachment.owns(element.comment.as_deref())) {
                return Err(fail(format!("masquerade of {address} is missing")));
            }
            chain(&mut self.kernel, &masquerade::subnet_chain(address.trunc()))?;
            chain(&mut self.kernel, &masquerade::postrouting())?;
        }
        Ok(())
    }
}

/// A route of a result is in the table that it was to be in.
pub(crate) fn route_is_in(dump: &dump::Dump, route: &cni::Route) -> Result<(), Error> {
    let reaches = |hop: &dump::Hop| route.gw.is_none() || hop.gateway == route.gw;
    let found = dump.routes.iter().any(|seen| {
        seen.destination == route.dst.trunc()
            && route.table.is_none_or(|table| seen.table == table)
            && seen.table != LOCAL_TABLE
            && seen.hops.iter().any(reaches)
    });
    if found {
        return Ok(());
    }
    let table = route.table.unwrap_or(MAIN_TABLE);
    let via = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
    Err(fail(format!("Expected Route {}{via} not found in routing table {table}", route.dst)))
}

/// The rules that all attachments share are as they were written.
pub(crate) fn chain(kernel: &mut Kernel, wanted: &Chain) -> Result<(), Error> {
    match kernel.nft_chain_holds(&Space::Here, wanted).map_err(Error::internal)? {
        true => Ok(()),
        false => {
            Err(fail(format!("nft chain {} {} is not as ADD left it", wanted.table, wanted.name)))
        }
    }
}

/// The hardware address that a link has instead of the one that was written down, if one was.
pub(crate) fn other_mac(link: &dump::Link, recorded: &Interface) -> Option<String> {
    let mac = link.mac.as_ref().map(Mac::to_string).unwrap_or_default();
    Some(mac).filter(|mac| !recorded.mac.is_empty() && *mac != recorded.mac)
}

/// What CHECK says no with.
pub(crate) fn fail(text: String) -> Error {
    Error::internal(text)
}
