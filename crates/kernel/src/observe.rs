//! Reading what is there: whole dumps for the eyes, and the objects that a plan compares with.

use std::collections::BTreeMap;
use std::net::IpAddr;

use net::{Address, Fdb, LinkKind, LinkName, Neighbour, Object, Port, Qdisc, Route, RouteKind};
use net::{Link, Scope, Space, Vni, Vxlan, VxlanForm};

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
    /// One device, if it is there.
    Link(LinkName),
    /// The addresses of one device; none if it is not there.
    Addresses(LinkName),
}

impl Kernel {
    /// The objects that `query` finds, as they would be written in a plan.
    pub fn observe(&mut self, space: &Space, query: &Query) -> Result<Vec<Object>> {
        match query {
            Query::All => Ok(self.dump(space)?.objects()),
            Query::Link(name) => {
                let (_, handle) = self.handle(space)?;
                let Some(seen) = handle.link(name)? else { return Ok(Vec::new()) };
                let link = one_link(self, space, &seen)?;
                Ok(link.into_iter().map(Object::Link).collect())
            }
            Query::Addresses(name) => {
                let (_, handle) = self.handle(space)?;
                let index = match handle.index(name) {
                    Ok(index) => index,
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                    Err(error) => return Err(error),
                };
                let mut seen = Vec::new();
                let request = rtnetlink::address::all(index);
                handle.route().dump(rtm::GETADDR, &request, |message| {
                    seen.extend(rtnetlink::address::parse(message.payload));
                })?;
                // A kernel without strict checking sends those of every device.
                seen.retain(|address| address.index == index);
                let objects = seen.iter().map(|a| address_object(a, name.clone()).into());
                Ok(objects.collect())
            }
        }
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
        Ok(found.and_then(|(route, link)| route_object(&route, &|_| link.clone())))
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
        let (home, handle) = self.handle(space)?;
        let mut dump = Dump::default();
        let socket = handle.route();
        dump.links =
            collect(socket, rtm::GETLINK, &rtnetlink::link::all(), rtnetlink::link::parse)?
                .into_iter()
                .map(|link| (link.index, link))
                .collect();
        dump.addresses =
            collect(socket, rtm::GETADDR, &rtnetlink::address::all(0), rtnetlink::address::parse)?;
        dump.routes =
            collect(socket, rtm::GETROUTE, &rtnetlink::route::all(), rtnetlink::route::parse)?;
        for family in [AF_INET, AF_INET6] {
            let request = rtnetlink::rule::all(family);
            dump.rules.extend(collect(socket, rtm::GETRULE, &request, rtnetlink::rule::parse)?);
        }
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

fn collect<T>(
    socket: &mut Socket,
    kind: u16,
    request: &[u8],
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    socket.dump(kind, request, |message: Message<'_>| all.extend(parse(message.payload)))?;
    Ok(all)
}

impl Dump {
    /// What of this a plan can speak of: what somebody wrote, not what the kernel adds by itself
    /// (local routes, connected routes, link-local addresses, learned neighbours).
    pub fn objects(&self) -> Vec<Object> {
        let name = |index: u32| self.links.get(&index)?.name.parse::<LinkName>().ok();
        let mut objects: Vec<Object> = Vec::new();
        for link in self.links.values() {
            let master = link.master.and_then(name);
            objects.extend(link_object(link, master, &name).map(Object::Link));
        }
        for address in self.addresses.iter().filter(|a| a.scope != Scope::Link) {
            objects.extend(name(address.index).map(|link| address_object(address, link).into()));
        }
        objects
            .extend(self.routes.iter().filter_map(|r| route_object(r, &name)).map(Object::Route));
        // Priorities 0, 32766 and 32767 are the three rules of every namespace.
        let own_rules =
            self.rules.iter().filter(|rule| ![0, 32766, 32767].contains(&rule.priority));
        objects.extend(own_rules.cloned().map(Object::Rule));
        for entry in &self.neighbours {
            let Some(link) = name(entry.index) else { continue };
            let Some(mac) = entry.mac else { continue };
            match (entry.bridge, entry.address) {
                (false, Some(address)) if entry.permanent => {
                    objects.push(Neighbour { link, address, mac, protocol: entry.protocol }.into());
                }
                (true, to) if to.is_some() || entry.noarp => {
                    objects.push(Fdb { link, mac, to }.into());
                }
                _ => {}
            }
        }
        let vnis = self.vnis.iter().filter_map(|(index, vni)| Some((name(*index)?, *vni)));
        objects.extend(vnis.map(|(link, vni)| Object::Vni(Vni { link, vni })));
        for qdisc in &self.qdiscs {
            if let (Some(link), Some(kind)) = (name(qdisc.index), qdisc.tbf.clone()) {
                objects.push(Qdisc { link, kind }.into());
            }
        }
        objects.extend(self.nft.iter().cloned().map(Object::Nft));
        objects
    }

    /// Names by index, for those who print.
    pub fn names(&self) -> BTreeMap<u32, &str> {
        self.links.iter().map(|(index, link)| (*index, link.name.as_str())).collect()
    }
}

/// A veth comes without its kind: where its far end is cannot be seen from this side.
fn link_object(
    link: &dump::Link,
    master: Option<LinkName>,
    name: &impl Fn(u32) -> Option<LinkName>,
) -> Option<Link> {
    let kind = match (link.kind.as_str(), &link.vxlan) {
        // Hardware and the loopback device have none.
        ("" | "veth", _) => None,
        ("bridge", _) => Some(LinkKind::Bridge),
        (_, Some(vxlan)) => Some(LinkKind::Vxlan(vxlan_object(vxlan, name))),
        (kind, None) => Some(LinkKind::Other(kind.to_owned())),
    };
    Some(Link {
        name: link.name.parse().ok()?,
        kind,
        mac: link.mac,
        mtu: Some(link.mtu),
        up: Some(link.up),
        master,
        promiscuous: Some(link.promiscuous),
        tx_checksum: None,
        port: link.port.map_or_else(Port::default, |port| Port {
            hairpin: Some(port.hairpin),
            isolated: Some(port.isolated),
        }),
    })
}

fn vxlan_object(it: &dump::Vxlan, name: &impl Fn(u32) -> Option<LinkName>) -> Vxlan {
    let form = if it.external {
        VxlanForm::External { gpe: it.gpe, filtered: it.filtered }
    } else {
        let underlay = it.underlay.and_then(name);
        VxlanForm::Classic { vni: it.vni, underlay, local: it.local }
    };
    Vxlan { port: it.port, form }
}

fn address_object(address: &dump::Address, link: LinkName) -> Address {
    Address { link, address: address.address, broadcast: address.broadcast, nodad: address.nodad }
}

fn route_object(route: &dump::Route, name: &impl Fn(u32) -> Option<LinkName>) -> Option<Route> {
    const LOCAL_TABLE: u32 = 255;
    if route.protocol == net::PROTOCOL_KERNEL || route.table == LOCAL_TABLE || route.hops.len() > 1
    {
        return None;
    }
    // A route that sends nothing on is shown with the loopback device, which nobody asked for.
    let hop = route.hops.first().filter(|_| route.kind == dump::RouteKind::Unicast);
    Some(Route {
        destination: route.destination,
        kind: match route.kind {
            dump::RouteKind::Unicast => RouteKind::Unicast,
            dump::RouteKind::Blackhole => RouteKind::Blackhole,
            dump::RouteKind::Unreachable => RouteKind::Unreachable,
            dump::RouteKind::Local | dump::RouteKind::Other(_) => return None,
        },
        gateway: hop.and_then(|hop| hop.gateway),
        link: hop.and_then(|hop| hop.index).and_then(name),
        source: route.source,
        metric: route.metric,
        table: route.table,
        protocol: route.protocol,
        scope: (route.scope != Scope::Universe).then_some(route.scope),
        mtu: route.mtu,
        advmss: route.advmss,
        onlink: route.onlink,
        encap: route.encap,
    })
}
