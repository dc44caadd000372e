//! The cable between a pod and its node: names and hardware addresses of its ends, what both
//! plugins that run cables do to make one as a whole or not at all, and what they say if they
//! cannot.

use std::path::Path;

use cni::{Error, Interface, IpConfig, Request};
use kernel::{Applied, ErrorKind, Kernel, OnError};
use net::{
    Change, Link, LinkKind, LinkName, Mac, Object, Peer, Plan, Port, Space, Step, Sysctl, shell,
};

use crate::attachment::Attachment;
use crate::interface;

const HOST: Space = Space::Here;

/// The smallest MTU that IPv6 runs over.
const IPV6_MTU: u32 = 1280;

/// One attachment's cable.
#[derive(Clone, Debug)]
pub(crate) struct Cable {
    /// Whose it is.
    pub(crate) attachment: Attachment,
    /// The pod's namespace.
    pub(crate) pod: Space,
    /// The pod's end.
    pub(crate) ifname: LinkName,
    /// The host's end.
    pub(crate) host_link: LinkName,
    /// The hardware addresses of the ends, the host's first.
    pub(crate) macs: [Mac; 2],
    /// The size of both ends; `None` leaves it to the kernel.
    pub(crate) mtu: Option<u32>,
}

impl Cable {
    /// The cable that a request is about, with hardware addresses of chance.
    pub(crate) fn of(request: &Request, mtu: Option<u32>) -> Result<Self, Error> {
        let attachment = Attachment::of(request);
        let ifname: LinkName = request.ifname.parse().map_err(Error::internal)?;
        let host_link =
            attachment.host_link().ok_or_else(|| Error::internal("no name for a veth"))?;
        let pod = Space::At(request.netns()?.to_owned());
        let macs = [random_mac(), random_mac()];
        Ok(Self { attachment, pod, ifname, host_link, macs, mtu })
    }

    /// Opens the pod's namespace, and sees to it that nothing there has the interface's name.
    ///
    /// This comes before IPAM is asked: to give back a second address would give back the first one
    /// too, which the pod uses.
    pub(crate) fn has_room(&self, kernel: &mut Kernel) -> Result<(), Error> {
        interface::open_netns(kernel, &self.pod)?;
        match kernel.link(&self.pod, &self.ifname).map_err(Error::internal)? {
            Some(_) => Err(self.already_there()),
            None => Ok(()),
        }
    }

    /// Refuses IPv6 addresses for a cable whose packets are too small for them (RFC 8200 section 5):
    /// the kernel gives such a link no IPv6 at all.
    pub(crate) fn can_carry(&self, ips: &[IpConfig]) -> Result<(), Error> {
        let addresses = interface::addresses(ips);
        let is_again = |place: &usize| addresses[..*place].contains(&addresses[*place]);
        if let Some(place) = (0..addresses.len()).find(is_again) {
            let text = format!("IPAM plugin returned {} twice", addresses[place]);
            let remedy =
                "an interface has an address once: leave one out in the IPAM configuration";
            return Err(Error::internal(text).with_details(remedy));
        }
        let v6 = ips.iter().find(|ip| ip.address.addr().is_ipv6());
        match (self.mtu.filter(|mtu| *mtu < IPV6_MTU), v6) {
            (Some(mtu), Some(IpConfig { address, .. })) => Err(Error::internal(format!(
                "failed to load netconf: mtu: invalid value {mtu}: IPv6 addresses such as {address} need {IPV6_MTU} or more"
            ))),
            _ => Ok(()),
        }
    }

    /// The steps that run the cable, in one message: both ends appear where they belong, the host's
    /// as a port of `master` if there is one.
    pub(crate) fn plan(&self, master: Option<&LinkName>, port: Port, why: &'static str) -> Plan {
        let [host_mac, pod_mac] = self.macs;
        let peer = Peer {
            space: self.pod.clone(),
            name: self.ifname.clone(),
            mac: Some(pod_mac),
            mtu: self.mtu,
        };
        let link = Link {
            mac: Some(host_mac),
            mtu: self.mtu,
            master: master.cloned(),
            port,
            ..Link::veth(self.host_link.clone(), peer).up()
        };
        let no_ra = Sysctl::nicety(format!("net/ipv6/conf/{}/accept_ra", self.host_link), "0");
        vec![
            Step::new(&HOST, Change::Create(link.into()), why),
            Step::new(
                &HOST,
                Change::Ensure(no_ra.into()),
                "keeps the pod from announcing itself as the node's router",
            ),
        ]
    }

    /// Both ends as a result lists them, the host's first.
    pub(crate) fn interfaces(&self) -> [Interface; 2] {
        let [host_mac, pod_mac] = self.macs;
        let sandbox = match &self.pod {
            Space::At(path) => path.display().to_string(),
            Space::Here => String::new(),
        };
        [listed(&self.host_link, host_mac), Interface { sandbox, ..listed(&self.ifname, pod_mac) }]
    }

    /// Applies a plan that makes the cable, as a whole or not at all. A host end that is in the way
    /// although the pod has no such interface is what an ADD of the same attachment left when it was
    /// killed: its name says so.
    pub(crate) fn apply(
        &self,
        kernel: &mut Kernel,
        plan: &Plan,
        words: impl Fn(&Step) -> String,
    ) -> Result<(), Error> {
        let applied = kernel.apply(plan, OnError::Undo);
        let Some((step, error)) = failure(plan, &applied) else { return Ok(()) };
        if error.kind() == ErrorKind::Exists && makes_cable(step) {
            let taken = kernel.link(&self.pod, &self.ifname).is_ok_and(|link| link.is_some());
            if taken {
                return Err(self.already_there());
            }
            let delete = Change::Delete(Link::existing(self.host_link.clone()).into());
            let clear = [Step::new(&HOST, delete, "removes what a killed ADD left")];
            let again = match kernel.apply(&clear, OnError::Stop).into_result() {
                Ok(_) => kernel.apply(plan, OnError::Undo),
                Err(_) => applied,
            };
            return failure(plan, &again)
                .map_or(Ok(()), |(step, error)| Err(explain(step, error, &words(step))));
        }
        Err(explain(step, error, &words(step)))
    }

    /// Writes down in `directory` what was done, for people. No pod goes without network for want of
    /// an explanation.
    pub(crate) fn write_down(&self, kernel: &mut Kernel, directory: Option<&Path>, plan: &Plan) {
        let Some(directory) = directory else { return };
        let path = self.attachment.explanation(directory);
        let file = net::File { path, content: net::script(plan) };
        let why = "writes down what was done, for people";
        let step = Step::new(&HOST, Change::Ensure(file.into()), why);
        let _ = kernel.apply(&[step], OnError::Continue);
    }

    /// The pod has an interface of that name: one of another network, or of an ADD before this one.
    fn already_there(&self) -> Error {
        let (ifname, host) = (self.ifname.as_str(), self.host_link.as_str());
        let text =
            format!("container veth name ({ifname:?}) peer provided ({host:?}) already exists");
        Error::internal(text)
            .with_details("choose another CNI_IFNAME, or call DEL for this one first")
    }
}

/// A hardware address by chance.
pub(crate) fn random_mac() -> Mac {
    Mac::local(kernel::random())
}

/// An interface of the host as a result lists it.
pub(crate) fn listed(name: &LinkName, mac: Mac) -> Interface {
    Interface { name: name.to_string(), mac: mac.to_string(), ..Interface::default() }
}

/// The step that failed first, and why.
pub(crate) fn failure<'a>(
    plan: &'a Plan,
    applied: &'a Applied,
) -> Option<(&'a Step, &'a kernel::Error)> {
    let (place, error) = applied.failed.first()?;
    Some((plan.get(*place)?, error))
}

/// A failed step behind the reference's words for it, with the command that a person would try.
pub(crate) fn explain(step: &Step, error: &kernel::Error, words: &str) -> Error {
    Error::internal(format!("{words}{error}")).with_details(shell(step).join("; "))
}

/// The reference's words for the steps that all cables have; empty where it has none.
pub(crate) fn words(step: &Step) -> &'static str {
    match &step.change {
        Change::Create(Object::Link(_)) => "failed to make veth pair: ",
        Change::Create(Object::Address(_)) => "failed to add IP addr: ",
        Change::Create(Object::Route(_)) => "failed to add route: ",
        Change::Create(Object::Nft(_)) | Change::Ensure(Object::Nft(_)) => {
            "failed to set up nftables: "
        }
        _ => "",
    }
}

fn makes_cable(step: &Step) -> bool {
    let Change::Create(Object::Link(link)) = &step.change else { return false };
    matches!(link.kind, Some(LinkKind::Veth { .. }))
}
