//! Devices, which take more than one message: their ports' flags and some features are set after
//! their creation, and a cable reaches into another namespace.

use std::os::fd::AsFd;

use net::{Link, LinkKind, Port, Space, Vxlan, VxlanForm};

use super::{Kernel, misplaced};
use crate::dump;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::netlink::flag;
use crate::observe;
use crate::rtnetlink::{self, rtm};

/// The master of what is no port (`IFLA_MASTER`).
const NOBODY: u32 = 0;

impl Kernel {
    pub(super) fn create_link(&mut self, space: &Space, link: &Link) -> Result<()> {
        let Some(kind) = &link.kind else {
            let what = format!("create device {}", link.name);
            return Err(Error::text(what, ErrorKind::WrongKind, "its kind is not given"));
        };
        let what = match kind {
            LinkKind::Bridge => format!("create bridge {}", link.name),
            LinkKind::Veth { peer } => format!("create veth {} to {}", link.name, peer.name),
            LinkKind::Vxlan(_) => format!("create tunnel end {}", link.name),
            LinkKind::Other(_) => return Err(misplaced(&link.clone().into())),
        };
        // The far end's namespace is opened first, and lent for the length of the call.
        let peer_space = match kind {
            LinkKind::Veth { peer } if peer.space != *space => Some(peer.space.clone()),
            _ => None,
        };
        let peer_handle = match &peer_space {
            Some(peer_space) => {
                self.handle(peer_space)?;
                self.handles.remove(peer_space)
            }
            None => None,
        };
        let result = self.create_link_towards(space, link, peer_handle.as_ref(), what);
        if let (Some(peer_space), Some(handle)) = (peer_space, peer_handle) {
            self.handles.insert(peer_space, handle);
        }
        result
    }

    fn create_link_towards(
        &mut self,
        space: &Space,
        link: &Link,
        peer: Option<&Handle>,
        what: String,
    ) -> Result<()> {
        let home = self.home.as_fd().try_clone_to_owned().map_err(|e| Error::io(&*what, &e))?;
        let (_, handle) = self.handle(space)?;
        let master = link.master.as_ref().map(|name| handle.index(name)).transpose()?;
        let underlay = match &link.kind {
            Some(LinkKind::Vxlan(Vxlan {
                form: VxlanForm::Classic { underlay: Some(underlay), .. },
                ..
            })) => Some(handle.index(underlay)?),
            _ => None,
        };
        let peer_netns = peer.map(|peer| peer.netns().map_or(home.as_fd(), |netns| netns.as_fd()));
        let resolved = rtnetlink::link::Resolved { index: 0, master, underlay, peer_netns };
        let request = rtnetlink::link::request(link, resolved);
        handle.forget(&link.name);
        handle
            .route()
            .request(rtm::NEWLINK, flag::CREATE | flag::EXCLUSIVE, &request, |_| {})
            .map_err(|e| e.during(what))?;
        if link.port == Port::default() && link.tx_checksum.is_none() {
            return Ok(());
        }
        let index = handle.index(&link.name)?;
        let completed = self.complete(space, link, index);
        completed.or_else(|error| {
            // A device that is not as asked is not made.
            let (_, handle) = self.handle(space)?;
            let _ = delete_by_index(handle, index);
            Err(error)
        })
    }

    pub(super) fn ensure_link(&mut self, space: &Space, link: &Link) -> Result<bool> {
        let (_, handle) = self.handle(space)?;
        let mut seen = handle.link(&link.name)?;
        if seen.is_none() && link.kind.is_some() {
            match self.create_link(space, link) {
                Ok(()) => return Ok(true),
                // Somebody else was quicker: what is there now has to do.
                Err(error) if error.kind() == ErrorKind::Exists => {
                    let (_, handle) = self.handle(space)?;
                    seen = handle.link(&link.name)?;
                }
                Err(error) => return Err(error),
            }
        }
        let Some(seen) = seen else {
            return Err(Error::errno(format!("look up device {}", link.name), libc::ENODEV, None));
        };
        self.check_kind(space, link, &seen)?;
        let wanted = if link.kind.is_some() { &link.without_hardware() } else { link };
        let (_, handle) = self.handle(space)?;
        let master = wanted.master.as_ref().map(|name| handle.index(name)).transpose()?;
        let checksum = match wanted.tx_checksum {
            Some(_) => self.tx_checksum(space, &wanted.name)?,
            None => None,
        };
        if is_satisfied(wanted, &seen, master) && wanted.tx_checksum == checksum {
            return Ok(false);
        }
        self.set_link(space, wanted, seen.index).map(|()| true)
    }

    /// Whether a device that is there can be taken for `link`: what makes it what it is cannot be
    /// changed.
    fn check_kind(&mut self, space: &Space, link: &Link, seen: &dump::Link) -> Result<()> {
        let name = link.name.as_str();
        let (what, text) = match &link.kind {
            Some(LinkKind::Bridge) if seen.kind != "bridge" => {
                ("bridge", format!("{name:?} already exists but is not a bridge"))
            }
            Some(LinkKind::Vxlan(_)) => {
                let seen = observe::one_link(self, space, seen)?;
                if seen.is_some_and(|seen| seen.kind == link.kind) {
                    return Ok(());
                }
                ("tunnel end", format!("{name:?} already exists but is another device"))
            }
            _ => return Ok(()),
        };
        Err(Error::text(format!("create {what} {name}"), ErrorKind::WrongKind, text))
    }

    pub(super) fn set_link(&mut self, space: &Space, link: &Link, index: u32) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        let master = link.master.as_ref().map(|name| handle.index(name)).transpose()?;
        let master = master.or(link.free.then_some(NOBODY));
        let resolved = rtnetlink::link::Resolved { index, master, ..Default::default() };
        let request = rtnetlink::link::request(link, resolved);
        handle
            .route()
            .request(rtm::NEWLINK, 0, &request, |_| {})
            .map_err(|e| e.during(format!("change device {}", link.name)))?;
        self.complete(space, link, index)
    }

    /// Sets what no message about the device itself sets.
    fn complete(&mut self, space: &Space, link: &Link, index: u32) -> Result<()> {
        if link.port != Port::default() {
            let (_, handle) = self.handle(space)?;
            set_port(handle, link, index)?;
        }
        match link.tx_checksum {
            Some(on) => self.set_tx_checksum(space, &link.name, on),
            None => Ok(()),
        }
    }

    pub(super) fn delete_link(&mut self, space: &Space, link: &Link) -> Result<()> {
        let (_, handle) = self.handle(space)?;
        handle.forget(&link.name);
        let request = rtnetlink::link::by_name(&link.name);
        handle
            .route()
            .request(rtm::DELLINK, 0, &request, |_| {})
            .map_err(|e| e.during(format!("delete device {}", link.name)))
    }
}

fn is_satisfied(want: &Link, seen: &dump::Link, master: Option<u32>) -> bool {
    let port = seen.port.unwrap_or_default();
    want.mac.is_none_or(|mac| seen.mac == Some(mac))
        && want.mtu.is_none_or(|mtu| seen.mtu == mtu)
        && want.up.is_none_or(|up| seen.up == up)
        && want.promiscuous.is_none_or(|on| seen.promiscuous == on)
        && master.is_none_or(|index| seen.master == Some(index))
        && !(want.free && seen.master.is_some())
        && want.port.hairpin.is_none_or(|on| port.hairpin == on)
        && want.port.isolated.is_none_or(|on| port.isolated == on)
}

fn set_port(handle: &mut Handle, link: &Link, index: u32) -> Result<()> {
    let request = rtnetlink::link::port_request(link, index);
    handle
        .route()
        .request(rtm::SETLINK, 0, &request, |_| {})
        .map_err(|e| e.during(format!("set bridge port flags of {}", link.name)))
}

fn delete_by_index(handle: &mut Handle, index: u32) -> Result<()> {
    handle.route().request(rtm::DELLINK, 0, &rtnetlink::link::by_index(index), |_| {})
}
