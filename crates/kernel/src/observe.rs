//! Reading what is there: whole dumps for the eyes, and the objects that a plan compares with.

pub(crate) mod object;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use net::nft::TableId;
use net::{Link, LinkName, Networks, Object, Route, Space, Tracked, Vni};

use self::object::{
    address_object, is_assigned, is_written, link_object, neighbour_object, route_object, to_object,
};

use crate::conntrack;
use crate::dump::{self, Dump};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Kernel;
use crate::handle::read_sysctl;
use crate::netlink::{Message, Socket};
use crate::nft;
use crate::rtnetlink::{self, AF_BRIDGE, AF_INET, AF_INET6, rtm};

/// What to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Everything that a plan can speak of.
    All,
    /// All devices and their addresses.
    LinksAndAddresses,
    /// One device, if it is there.
    Link(LinkName),
    /// The addresses of one device, link-local ones as well; none if it is not there.
    Addresses(LinkName),
    /// One device and all that is on it, but for routes: addresses, permanent neighbours, forwarding
    /// entries, the networks that it takes packets of. Nothing if it is not there.
    On(LinkName),
    /// The routes that one writer has written, of both families and all tables, and those of others
    /// that have to do with them. Of several to one destination in one table, the one that packets
    /// take comes first.
    Routes {
        /// `RTPROT_*`, see [`net::owner::PROTOCOL`].
        protocol: u8,
        /// Those by these devices are told as well, whoever wrote them.
        by: Vec<LinkName>,
        /// And those in the main table to any of these networks or a part of one, also where the
        /// kernel has added them for an address; of several next hops the first one is told.
        within: Networks,
    },
    /// The rules that one writer has written, of both families.
    Rules {
        /// `RTPROT_*`, see [`net::owner::PROTOCOL`].
        protocol: u8,
    },
    /// One table of nftables with all that is in it; nothing if it is not there.
    NftTable(TableId),
    /// The flow with the same ends, wherever it is led; nothing if it is not tracked.
    Tracked(Tracked),
}

impl Kernel {
    /// The objects that `query` finds, as they would be written in a plan.
    pub fn observe(&mut self, space: &Space, query: &Query) -> Result<Vec<Object>> {
        match query {
            Query::All => Ok(self.dump(space)?.objects()),
            Query::LinksAndAddresses => {
                let mut dump = self.links(space)?;
                let (_, handle) = self.handle(space)?;
                let request = rtnetlink::address::all(0);
                let parse = rtnetlink::address::parse;
                dump.addresses = collect(handle.route(), rtm::GETADDR, &request, parse)?;
                Ok(dump.objects())
            }
            Query::Link(name) => {
                let (_, handle) = self.handle(space)?;
                let Some(seen) = handle.link(name)? else { return Ok(Vec::new()) };
                let link = one_link(self, space, &seen)?;
                Ok(link.into_iter().map(Object::Link).collect())
            }
            Query::Addresses(name) => {
                let (_, handle) = self.handle(space)?;
                match handle.index(name) {
                    Ok(index) => addresses_of(handle.route(), index, name, |_| true),
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
                    Err(error) => Err(error),
                }
            }
            Query::On(name) => {
                let (_, handle) = self.handle(space)?;
                let Some(seen) = handle.link(name)? else { return Ok(Vec::new()) };
                let link = one_link(self, space, &seen)?;
                let mut objects: Vec<Object> = link.into_iter().map(Object::Link).collect();
                let (_, handle) = self.handle(space)?;
                objects.extend(what_is_on(handle.route(), &seen, name)?);
                Ok(objects)
            }
            Query::Routes { protocol, by, within } => {
                let routes = self.some_routes(space, *protocol, by, within)?;
                Ok(routes.into_iter().map(Object::Route).collect())
            }
            Query::Rules { protocol } => {
                let (_, handle) = self.handle(space)?;
                let rules = all_rules(handle.route())?;
                let rules = rules.iter().filter(|it| it.protocol == *protocol && is_written(it));
                Ok(rules.filter_map(dump::Rule::object).map(Object::Rule).collect())
            }
            Query::NftTable(table) => {
                let (home, handle) = self.handle(space)?;
                let read = handle.netfilter(home).and_then(|socket| nft::table(socket, table));
                Ok(without_nftables(read)?.into_iter().map(Object::Nft).collect())
            }
            Query::Tracked(flow) => {
                let (home, handle) = self.handle(space)?;
                let found = conntrack::tracked::find(handle.netfilter(home)?, flow)?;
                Ok(found.into_iter().map(Object::Tracked).collect())
            }
        }
    }

    /// A dump of devices alone.
    fn links(&mut self, space: &Space) -> Result<Dump> {
        let (_, handle) = self.handle(space)?;
        let request = rtnetlink::link::all();
        let read = collect(handle.route(), rtm::GETLINK, &request, rtnetlink::link::parse)?;
        let links = read.into_iter().map(|link| (link.index, link)).collect();
        Ok(Dump { links, ..Dump::default() })
    }

    /// What [`Query::Routes`] finds. All are read at once: a request for some of them has the kernel
    /// walk by all of them too.
    fn some_routes(
        &mut self,
        space: &Space,
        protocol: u8,
        by: &[LinkName],
        within: &Networks,
    ) -> Result<Vec<Route>> {
        let (_, handle) = self.handle(space)?;
        let mut devices = Vec::with_capacity(by.len());
        for name in by {
            devices.extend(handle.link(name)?.map(|link| link.index));
        }
        let is_theirs = |route: &dump::Route| {
            let mut hops = route.hops.iter().filter_map(|hop| hop.index);
            route.protocol == protocol || hops.any(|index| devices.contains(&index))
        };
        let is_amid = |route: &dump::Route| {
            route.table == net::MAIN_TABLE && within.around(&route.destination).is_some()
        };
        let mut routes = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let request = rtnetlink::route::of_family(family);
            handle.route().dump(rtm::GETROUTE, &request, |message: Message<'_>| {
                let route = rtnetlink::route::parse(message.payload);
                routes.extend(route.filter(|route| is_theirs(route) || is_amid(route)));
            })?;
        }
        let names = self.names_of(space, &routes)?;
        let name = |index: u32| names.get(&index).cloned().flatten();
        let object = |route: &dump::Route| match is_theirs(route) {
            true => route_object(route, name),
            false => to_object(route, name),
        };
        Ok(routes.iter().filter_map(object).collect())
    }

    /// The names of the devices that `routes` send by, each asked for once.
    fn names_of(
        &mut self,
        space: &Space,
        routes: &[dump::Route],
    ) -> Result<HashMap<u32, Option<LinkName>>> {
        let mut names = HashMap::new();
        for index in routes.iter().flat_map(|route| &route.hops).filter_map(|hop| hop.index) {
            if let Entry::Vacant(entry) = names.entry(index) {
                let link = self.link_at(space, index)?;
                entry.insert(link.and_then(|link| link.name.parse().ok()));
            }
        }
        Ok(names)
    }

    /// One device as it is, with index and state; `None` if there is none of that name.
    pub fn link(&mut self, space: &Space, name: &LinkName) -> Result<Option<dump::Link>> {
        let (_, handle) = self.handle(space)?;
        handle.link(name)
    }

    /// One device by its index; `None` if there is none.
    pub fn link_at(&mut self, space: &Space, index: u32) -> Result<Option<dump::Link>> {
        let (_, handle) = self.handle(space)?;
        let mut found = None;
        let request = rtnetlink::link::by_index(index);
        let answer = handle.route().get(rtm::GETLINK, &request, |message| {
            found = rtnetlink::link::parse(message.payload);
        });
        match answer {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error.during(format!("look up device number {index}")))
            }
            _ => Ok(found),
        }
    }

    /// The number by which `space` knows another namespace, as [`dump::Link::parent_netns`] has it;
    /// `None` if it has none for it.
    pub fn number_of(&mut self, space: &Space, other: &crate::Netns) -> Result<Option<i32>> {
        let (_, handle) = self.handle(space)?;
        let mut number = None;
        let request = rtnetlink::nsid::request(std::os::fd::AsFd::as_fd(other));
        let answer = handle.route().get(rtm::GETNSID, &request, |message| {
            number = rtnetlink::nsid::parse(message.payload);
        });
        match answer {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error.during("look up the number of a namespace"))
            }
            _ => Ok(number),
        }
    }

    /// A kernel setting below `/proc/sys`; `None` if the kernel has no such setting.
    pub fn sysctl(&mut self, space: &Space, key: &str) -> Result<Option<String>> {
        match self.inside(space, || read_sysctl(key))? {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("read {key}"), &error)),
        }
    }

    /// All routes of `space`, with the names of their devices.
    pub fn routes(&mut self, space: &Space) -> Result<Vec<(dump::Route, Vec<LinkName>)>> {
        let (_, handle) = self.handle(space)?;
        let socket = handle.route();
        let links = collect(socket, rtm::GETLINK, &rtnetlink::link::all(), rtnetlink::link::parse)?;
        let routes =
            collect(socket, rtm::GETROUTE, &rtnetlink::route::all(), rtnetlink::route::parse)?;
        let name = |index: u32| {
            let link = links.iter().find(|link| link.index == index)?;
            link.name.parse::<LinkName>().ok()
        };
        let with_names = |route: dump::Route| {
            let names = route.hops.iter().filter_map(|hop| hop.index.and_then(name)).collect();
            (route, names)
        };
        Ok(routes.into_iter().map(with_names).collect())
    }

    /// The device by which packets to `address` leave `space`; `None` if there is no way.
    pub fn way_to(&mut self, space: &Space, address: IpAddr) -> Result<Option<LinkName>> {
        Ok(self.look_up_route(space, address)?.and_then(|(_, link)| link))
    }

    /// The route that a packet of `space` itself to `address` would take; `None` if there is none, or
    /// if it is one of those that the kernel adds by itself.
    pub fn route_to(&mut self, space: &Space, address: IpAddr) -> Result<Option<Route>> {
        let found = self.look_up_route(space, address)?;
        Ok(found.and_then(|(route, link)| route_object(&route, |_| link.clone())))
    }

    /// The entry of the routing tables that a packet to `address` meets, with the name of its device.
    fn look_up_route(
        &mut self,
        space: &Space,
        address: IpAddr,
    ) -> Result<Option<(dump::Route, Option<LinkName>)>> {
        let (_, handle) = self.handle(space)?;
        let Some(route) = rtnetlink::route::look_up(handle.route(), address)? else {
            return Ok(None);
        };
        let index = route.hops.first().and_then(|hop| hop.index);
        let link = index.map(|index| self.link_at(space, index)).transpose()?.flatten();
        Ok(Some((route, link.and_then(|link| link.name.parse().ok()))))
    }

    /// The elements of an nftables set or map whose comment `is_wanted`; `None` if there is no such
    /// set.
    pub fn nft_elements(
        &mut self,
        space: &Space,
        table: &net::nft::TableId,
        set: &str,
        is_wanted: impl Fn(Option<&str>) -> bool,
    ) -> Result<Option<Vec<net::nft::Element>>> {
        let (home, handle) = self.handle(space)?;
        let read =
            handle.netfilter(home).and_then(|socket| nft::elements(socket, table, set, is_wanted));
        without_nftables(read)
    }

    /// One element of an nftables set or map, by its key; `None` also if there is no such set.
    pub fn nft_element(
        &mut self,
        space: &Space,
        table: &net::nft::TableId,
        set: &str,
        key: &net::nft::Key,
    ) -> Result<Option<net::nft::Element>> {
        let (home, handle) = self.handle(space)?;
        let read = handle.netfilter(home).and_then(|socket| nft::element(socket, table, set, key));
        without_nftables(read)
    }

    /// Whether an nftables chain is there with exactly these rules.
    pub fn nft_chain_holds(&mut self, space: &Space, wanted: &net::nft::Chain) -> Result<bool> {
        let (home, handle) = self.handle(space)?;
        without_nftables(handle.netfilter(home).and_then(|socket| nft::holds(socket, wanted)))
    }

    /// Whether there can be nftables rules in `space` at all; an error says why not.
    pub fn check_nftables(&mut self, space: &Space) -> Result<()> {
        let (home, handle) = self.handle(space)?;
        handle.netfilter(home).and_then(nft::check)
    }

    /// Everything in `space`.
    pub fn dump(&mut self, space: &Space) -> Result<Dump> {
        let mut dump = self.links(space)?;
        let (home, handle) = self.handle(space)?;
        let socket = handle.route();
        dump.addresses =
            collect(socket, rtm::GETADDR, &rtnetlink::address::all(0), rtnetlink::address::parse)?;
        dump.routes =
            collect(socket, rtm::GETROUTE, &rtnetlink::route::all(), rtnetlink::route::parse)?;
        dump.rules = all_rules(socket)?;
        for family in [0, AF_BRIDGE] {
            let request = rtnetlink::neighbour::all(family);
            let parse = rtnetlink::neighbour::parse;
            dump.neighbours.extend(collect(socket, rtm::GETNEIGH, &request, parse)?);
        }
        if dump.links.values().any(|link| link.vxlan.is_some_and(|it| it.filtered)) {
            let request = rtnetlink::vni::all(0);
            let read = collect(socket, rtm::GETTUNNEL, &request, rtnetlink::vni::parse)?;
            dump.vnis = read.into_iter().flatten().collect();
        }
        dump.qdiscs =
            collect(socket, rtm::GETQDISC, &rtnetlink::qdisc::all(), rtnetlink::qdisc::parse)?;
        dump.nft = without_nftables(handle.netfilter(home).and_then(nft::dump))?;
        Ok(dump)
    }
}

/// On a kernel without nftables there is none of it, which is an answer to a question, if not to a
/// wish.
pub(crate) fn without_nftables<T: Default>(read: Result<T>) -> Result<T> {
    match read {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(T::default()),
        other => other,
    }
}

/// A device that was asked about by itself, with what only questions of their own tell.
pub(crate) fn one_link(
    kernel: &mut Kernel,
    space: &Space,
    seen: &dump::Link,
) -> Result<Option<Link>> {
    let mut name = |index: Option<u32>| -> Result<Option<LinkName>> {
        let link = index.map(|index| kernel.link_at(space, index)).transpose()?.flatten();
        Ok(link.and_then(|link| link.name.parse().ok()))
    };
    let master = name(seen.master)?;
    let below = name(seen.vxlan.and_then(|vxlan| vxlan.underlay))?;
    let Some(link) = link_object(seen, master, &|_| below.clone()) else { return Ok(None) };
    let tx_checksum = match kernel.tx_checksum(space, &link.name) {
        // It went away after it was looked up: what was seen then is the answer.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        read => read?,
    };
    Ok(Some(Link { tx_checksum, ..link }))
}

/// All that is on a device, but for the device itself.
fn what_is_on(socket: &mut Socket, link: &dump::Link, name: &LinkName) -> Result<Vec<Object>> {
    let index = link.index;
    let mut objects = addresses_of(socket, index, name, is_assigned)?;
    // A kernel without strict checking sends what is on every device, so all is looked at again.
    for family in [0, AF_BRIDGE] {
        let request = rtnetlink::neighbour::on(family, index);
        socket.dump(rtm::GETNEIGH, &request, |message: Message<'_>| {
            let entry = rtnetlink::neighbour::parse(message.payload);
            let entry = entry.filter(|entry| entry.index == index);
            objects.extend(entry.and_then(|entry| neighbour_object(&entry, name.clone())));
        })?;
    }
    if link.vxlan.is_some_and(|it| it.filtered) {
        let request = rtnetlink::vni::all(index);
        let read = collect(socket, rtm::GETTUNNEL, &request, rtnetlink::vni::parse)?;
        let vnis = read.into_iter().flatten().filter(|(on, _)| *on == index);
        objects.extend(vnis.map(|(_, vni)| Object::Vni(Vni { link: name.clone(), vni })));
    }
    Ok(objects)
}

fn addresses_of(
    socket: &mut Socket,
    index: u32,
    name: &LinkName,
    is_wanted: impl Fn(&dump::Address) -> bool,
) -> Result<Vec<Object>> {
    let request = rtnetlink::address::all(index);
    let mut seen = collect(socket, rtm::GETADDR, &request, rtnetlink::address::parse)?;
    // A kernel without strict checking sends those of every device.
    seen.retain(|address| address.index == index && is_wanted(address));
    let objects = seen.iter().map(|address| address_object(address, name.clone()));
    Ok(objects.map(Object::Address).collect())
}

pub(crate) fn all_rules(socket: &mut Socket) -> Result<Vec<dump::Rule>> {
    collect(socket, rtm::GETRULE, &rtnetlink::rule::all(), rtnetlink::rule::parse)
}

pub(crate) fn collect<T>(
    socket: &mut Socket,
    kind: u16,
    request: &[u8],
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    socket.dump(kind, request, |message: Message<'_>| all.extend(parse(message.payload)))?;
    Ok(all)
}
