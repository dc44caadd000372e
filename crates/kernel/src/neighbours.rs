//! Entries of the table of neighbours that packets leave behind, and how full that table is.
//!
//! It is one table a family for all namespaces of a machine, and when it is full, packets of others
//! are dropped without a word.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;

use crate::error::{ErrorKind, Result};
use crate::netlink::{Protocol, Socket};
use crate::rtnetlink::{self, AF_INET, AF_INET6, neighbour, rtm};

/// A neighbour on a device: who holds an entry, as far as one namespace goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The index of the device.
    pub device: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Whether it stands between us and where a packet goes.
    pub is_gateway: bool,
}

/// The neighbours of one namespace.
#[derive(Debug)]
pub struct Neighbours {
    socket: Socket,
}

impl Neighbours {
    /// Those of the namespace of the calling thread.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// All that are there: the device and the address, and whether somebody has written it, so that it
    /// does not count among those for which there is room.
    pub fn all(&mut self) -> Result<HashMap<(u32, IpAddr), bool>> {
        Ok(self.dump()?.into_iter().collect())
    }

    /// Whether there is one. A question about one of thousands, which cost as much to read as they are.
    pub fn knows(&mut self, device: u32, address: IpAddr) -> Result<bool> {
        Ok(self.state(device, address)?.is_some())
    }

    /// To whom a packet is given that leaves this namespace; none if it does not or has no way.
    pub fn next_hop(&mut self, from: IpAddr, to: IpAddr) -> Option<Hop> {
        let mut hop = None;
        let request = rtnetlink::route::between(from, to);
        let answer = self.socket.get(rtm::GETROUTE, &request, |message| {
            hop = rtnetlink::route::hop(message.payload);
        });
        let (device, gateway) = answer.ok().and(hop)?;
        Some(Hop { device, address: gateway.unwrap_or(to), is_gateway: gateway.is_some() })
    }

    /// Removes those that `is_meant`, but none that somebody has written: only what the kernel would
    /// forget by itself.
    pub fn forget(&mut self, is_meant: impl Fn(u32, IpAddr) -> bool) -> Result<()> {
        let found = self.dump()?.into_iter();
        let meant = found.filter(|((device, address), _)| is_meant(*device, *address));
        self.remove(meant.filter(|(_, is_written)| !is_written).map(|(entry, _)| entry));
        Ok(())
    }

    /// The same of a few, without reading all.
    pub fn forget_few(&mut self, few: impl IntoIterator<Item = (u32, IpAddr)>) -> Result<()> {
        let mut learned = Vec::new();
        for (device, address) in few {
            if self.state(device, address)? == Some(false) {
                learned.push((device, address));
            }
        }
        self.remove(learned.into_iter());
        Ok(())
    }

    fn remove(&mut self, entries: impl Iterator<Item = (u32, IpAddr)>) {
        /// How many messages are sent together.
        const AT_ONCE: usize = 128;
        let requests: Vec<Vec<u8>> =
            entries.map(|(device, address)| neighbour::one(device, address)).collect();
        for some in requests.chunks(AT_ONCE) {
            let batch: Vec<_> = some.iter().map(|it| (rtm::DELNEIGH, 0, it.as_slice())).collect();
            // What went away meanwhile is as gone.
            self.socket.batch(&batch);
        }
    }

    /// Whether somebody has written it; `None` if it is not there.
    fn state(&mut self, device: u32, address: IpAddr) -> Result<Option<bool>> {
        let mut found = None;
        let answer = self.socket.get(rtm::GETNEIGH, &neighbour::one(device, address), |message| {
            found = neighbour::parse(message.payload).map(|it| it.is_written());
        });
        match answer {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            answer => answer.map(|_| found),
        }
    }

    /// Everything of both families, and whether somebody has written it.
    fn dump(&mut self) -> Result<Vec<((u32, IpAddr), bool)>> {
        let mut all = Vec::new();
        for family in [AF_INET, AF_INET6] {
            self.socket.dump(rtm::GETNEIGH, &neighbour::all(family), |message| {
                let entry = neighbour::parse(message.payload);
                all.extend(entry.and_then(|it| Some(((it.index, it.address?), it.is_written()))));
            })?;
        }
        Ok(all)
    }
}

/// How full a table of neighbours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// How many entries it may hold (`gc_thresh3`).
    pub limit: usize,
    /// How many it holds, together with those that somebody has written, for which there is always
    /// room.
    pub used: usize,
    /// How many could not be made since the machine was started.
    pub refused: u64,
}

/// How full the machine's table is; none if that is told only in a namespace out of reach.
pub fn neighbour_fill(is_ipv6: bool) -> Option<Fill> {
    /// What the kernel takes if nobody has set it.
    const USUAL: usize = 1024;
    let (family, table) = if is_ipv6 { ("ipv6", "ndisc_cache") } else { ("ipv4", "arp_cache") };
    let setting = format!("/proc/sys/net/{family}/neigh/default/gc_thresh3");
    let read = |path: &str| fs::read_to_string(path).ok();
    let limit = read(&setting).and_then(|it| it.trim().parse().ok()).unwrap_or(USUAL);
    // The kernel tells of it in the machine's first namespace only, where its first process is.
    let text = read(&format!("/proc/thread-self/net/stat/{table}"))
        .or_else(|| read(&format!("/proc/1/net/stat/{table}")))?;
    let mut lines = text.lines();
    let place = lines.next()?.split_whitespace().position(|name| name == "table_fulls");
    // A line a processor: the first number is the same in all.
    let mut fill = Fill { limit, used: 0, refused: 0 };
    for line in lines {
        let number = |place: usize| {
            let word = line.split_whitespace().nth(place)?;
            u64::from_str_radix(word, 16).ok()
        };
        fill.used = usize::try_from(number(0)?).ok()?;
        fill.refused += place.and_then(number).unwrap_or_default();
    }
    Some(fill)
}

#[cfg(test)]
mod tests {
    use testbed::{Namespace, isolated, sh};

    use super::*;

    #[test]
    fn what_was_written_stays_and_what_was_learned_is_forgotten() {
        isolated!();
        let pod = Namespace::new("pod");
        sh("ip link add left type veth peer name right netns pod; ip link set left up
            ip addr add 10.1.0.1/24 dev left; ip addr add fd00:1::1/64 dev left nodad
            ip neigh add 10.1.0.9 lladdr 02:00:00:00:00:09 dev left nud permanent
            ip neigh add 10.1.0.8 lladdr 02:00:00:00:00:08 dev left nud stale
            ip neigh add fd00:1::8 lladdr 02:00:00:00:00:08 dev left nud stale
            ip neigh add fd00:1::6 lladdr 02:00:00:00:00:06 dev left nud stale
            ip route add 10.2.0.0/16 via 10.1.0.8");
        pod.sh("ip link set right up");
        let mut neighbours = Neighbours::open().unwrap();
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let device = neighbours.next_hop(ip("10.1.0.1"), ip("10.1.0.7")).unwrap().device;
        let direct = Hop { device, address: ip("10.1.0.7"), is_gateway: false };
        assert_eq!(neighbours.next_hop(ip("10.1.0.1"), ip("10.1.0.7")), Some(direct));
        let over = Hop { device, address: ip("10.1.0.8"), is_gateway: true };
        assert_eq!(neighbours.next_hop(ip("10.1.0.1"), ip("10.2.0.1")), Some(over));
        let six = Hop { device, address: ip("fd00:1::7"), is_gateway: false };
        assert_eq!(neighbours.next_hop(ip("fd00:1::1"), ip("fd00:1::7")), Some(six));
        assert_eq!(neighbours.next_hop(ip("10.1.0.1"), ip("10.1.0.1")), None, "it stays here");
        assert_eq!(neighbours.next_hop(ip("10.1.0.1"), ip("192.0.2.1")), None, "no way");
        let all = neighbours.all().unwrap();
        assert_eq!(all.get(&(device, ip("10.1.0.8"))), Some(&false));
        assert_eq!(all.get(&(device, ip("10.1.0.9"))), Some(&true), "there is always room for it");
        let known = ["10.1.0.8", "10.1.0.9", "fd00:1::8", "10.1.0.7", "fd00:1::7"].map(ip);
        let knows = known.map(|address| neighbours.knows(device, address).unwrap());
        assert_eq!(knows, [true, true, true, false, false]);
        neighbours.forget_few(known[1..].iter().map(|address| (device, *address))).unwrap();
        let knows = known.map(|address| neighbours.knows(device, address).unwrap());
        assert_eq!(knows, [true, true, false, false, false], "one is written, one was not meant");
        neighbours.forget(|_, _| true).unwrap();
        let left: Vec<IpAddr> =
            neighbours.all().unwrap().into_keys().map(|(_, address)| address).collect();
        assert!(left.contains(&ip("10.1.0.9")), "{left:?}");
        assert!(!left.contains(&ip("10.1.0.8")) && !left.contains(&ip("fd00:1::6")), "{left:?}");
    }

    #[test]
    fn the_table_tells_how_full_it_is() {
        let fill = neighbour_fill(false).unwrap();
        assert!(fill.limit > 0 && fill.used <= fill.limit, "{fill:?}");
    }
}
