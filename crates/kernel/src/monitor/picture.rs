//! What a monitor has to remember to understand events: which device an index means, and what the
//! kernel no longer says of an object that is going.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use net::{Link, Mac, Neighbour, Object, Vni};

use super::Notice;
use crate::dump;
use crate::error::Result;
use crate::netlink::Socket;
use crate::observe::collect;
use crate::observe::object::{
    address_object, is_assigned, is_written, link_object, neighbour_object, port_object,
    route_object,
};
use crate::rtnetlink::{address, link, neighbour, route, rtm, rule, vni};

/// The devices of a namespace, by their indices.
#[derive(Debug, Default)]
pub(super) struct Picture {
    devices: HashMap<u32, Device>,
}

#[derive(Debug)]
struct Device {
    link: Link,
    /// The permanent neighbours, with their writers: one that goes has no hardware address left, and
    /// does not look permanent any more.
    neighbours: HashMap<IpAddr, (Mac, u8)>,
}

impl Picture {
    /// Looks at what is there.
    pub(super) fn look(socket: &mut Socket) -> Result<Self> {
        let links = collect(socket, rtm::GETLINK, &link::all(), link::parse)?;
        let entries = collect(socket, rtm::GETNEIGH, &neighbour::all(0), neighbour::parse)?;
        let mut picture = Self::default();
        // Once for the names, and again for who is whose master.
        for link in links.iter().chain(&links) {
            picture.link(link);
        }
        for entry in &entries {
            picture.neighbour(entry, true);
        }
        Ok(picture)
    }

    /// Adds to `notices` what a message of rtnetlink says.
    pub(super) fn tell(&mut self, kind: u16, payload: &[u8], notices: &mut VecDeque<Notice>) {
        let name = |index: u32| self.devices.get(&index).map(|device| device.link.name.clone());
        let notice: fn(Object) -> Notice = match kind {
            rtm::DELADDR | rtm::DELROUTE | rtm::DELRULE | rtm::DELTUNNEL => Notice::Gone,
            _ => Notice::Seen,
        };
        match kind {
            rtm::NEWLINK => match link::parse_port_message(payload) {
                Some((index, port)) => notices.extend(self.port(index, port)),
                None => self.tell_link(payload, notices),
            },
            rtm::DELLINK => {
                let gone = link::index(payload).and_then(|index| self.devices.remove(&index));
                notices.extend(gone.map(|device| Notice::Gone(device.link.into())));
            }
            rtm::NEWNEIGH | rtm::DELNEIGH => {
                let entry = neighbour::parse(payload);
                notices.extend(entry.and_then(|it| self.neighbour(&it, kind == rtm::NEWNEIGH)));
            }
            rtm::NEWADDR | rtm::DELADDR => {
                let address = address::parse(payload).filter(is_assigned);
                let object = address.and_then(|it| Some(address_object(&it, name(it.index)?)));
                notices.extend(object.map(|it| notice(it.into())));
            }
            rtm::NEWROUTE | rtm::DELROUTE => {
                let object = route::parse(payload).and_then(|it| route_object(&it, name));
                notices.extend(object.map(|it| notice(it.into())));
            }
            rtm::NEWRULE | rtm::DELRULE => {
                let object = rule::parse(payload).filter(is_written).and_then(|it| it.object());
                notices.extend(object.map(|it| notice(it.into())));
            }
            rtm::NEWTUNNEL | rtm::DELTUNNEL => {
                let read = vni::parse(payload).into_iter().flatten();
                let objects = read.filter_map(|(index, vni)| Some(Vni { link: name(index)?, vni }));
                notices.extend(objects.map(|it| notice(it.into())));
            }
            _ => {}
        }
    }

    /// Tells a device as it is now, after the one that it was if it has another name.
    fn tell_link(&mut self, payload: &[u8], notices: &mut VecDeque<Notice>) {
        let Some(seen) = link::index(payload).and_then(|_| link::parse(payload)) else { return };
        let before = self.link(&seen);
        let Some(Device { link, .. }) = self.devices.get(&seen.index) else { return };
        let renamed = before.filter(|before| before.name != link.name);
        notices.extend(renamed.map(|before| Notice::Gone(before.into())));
        notices.push_back(Notice::Seen(link.clone().into()));
    }

    /// Remembers a device; returns what it was before, if it was known.
    fn link(&mut self, seen: &dump::Link) -> Option<Link> {
        let name = |index: u32| self.devices.get(&index).map(|device| device.link.name.clone());
        let link = link_object(seen, seen.master.and_then(name), &name)?;
        match self.devices.get_mut(&seen.index) {
            Some(device) => Some(std::mem::replace(&mut device.link, link)),
            None => {
                let device = Device { link, neighbours: HashMap::new() };
                self.devices.insert(seen.index, device);
                None
            }
        }
    }

    /// What a bridge says about one of its ports, of which it tells no more than this.
    fn port(&mut self, index: u32, port: dump::Port) -> Option<Notice> {
        let device = self.devices.get_mut(&index)?;
        device.link.port = port_object(port);
        Some(Notice::Seen(device.link.clone().into()))
    }

    /// Remembers or forgets a neighbour. Of all those that come and go by themselves, which are most
    /// of a busy node's events, nothing is told.
    fn neighbour(&mut self, entry: &dump::Neighbour, is_new: bool) -> Option<Notice> {
        let Device { link, neighbours } = self.devices.get_mut(&entry.index)?;
        let told = if is_new { Notice::Seen } else { Notice::Gone };
        if entry.bridge {
            return neighbour_object(entry, link.name.clone()).map(told);
        }
        let address = entry.address?;
        match entry.mac.filter(|_| is_new && entry.permanent) {
            Some(mac) => {
                neighbours.insert(address, (mac, entry.protocol));
                neighbour_object(entry, link.name.clone()).map(told)
            }
            None => {
                let (mac, protocol) = neighbours.remove(&address)?;
                let gone = Neighbour { link: link.name.clone(), address, mac, protocol };
                Some(Notice::Gone(gone.into()))
            }
        }
    }
}
