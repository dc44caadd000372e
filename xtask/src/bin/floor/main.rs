//! The floor under the plugins: what an attachment costs when nobody thinks about it.
//!
//! It sends the netlink messages of the `bridge` plugin, each of them once, writes the same
//! settings and reads and writes the same files as `host-local`, but reads no configuration, takes
//! no decision and prints no result: addresses and names are its arguments. It says nothing if all
//! goes well. What podwire takes longer than this is podwire's own doing.
//!
//! The way out is the kernel room's: it removes the device by a child, and only that room may fork;
//! and its child holds on to the socket for nftables, which takes long to close after a deletion.
//!
//! Without arguments it ends at once: the floor under the start of a process. With `peers` it is the
//! floor under the agent, see [`peers`].

mod peers;
mod wire;

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use kernel::{Kernel, OnError};
use net::nft::{Family, Key, TableId, Value};
use net::{Change, Space, Step};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wire::{ACK, APPEND, CREATE, DUMP, EXCLUSIVE, Socket};
use wire::{attribute, find, message, nest, text, u32_at};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, form, count] = arguments.as_slice()
        && verb == "peers"
    {
        return peers::join(form, count);
    }
    let [verb, netns, bridge, link, address, directory, masquerade] = arguments.as_slice() else {
        return Ok(());
    };
    let attachment = Attachment {
        netns: netns.into(),
        bridge: bridge.clone(),
        link: link.clone(),
        address: address.parse()?,
        directory: directory.into(),
        masquerade: masquerade == "true",
    };
    if verb == "add" { attachment.add() } else { attachment.del() }
}

struct Attachment {
    netns: PathBuf,
    bridge: String,
    link: String,
    address: Ipv4Addr,
    directory: PathBuf,
    masquerade: bool,
}

// Kinds of messages (include/uapi/linux/rtnetlink.h).
const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;

const LINK_HEADER: usize = 16;
const ADDRESS: u16 = 1;
const IFNAME: u16 = 3;
const ROUTE: u32 = 0;
const NETFILTER: u32 = 12;
const LINK_EVENTS: u32 = 1;

impl Attachment {
    fn add(&self) -> Result<(), Box<dyn std::error::Error>> {
        let home = File::open("/proc/thread-self/ns/net")?;
        let pod = File::open(&self.netns)?;
        enter(&pod)?;
        let mut inside = Socket::open(ROUTE, 0)?;
        enter(&home)?;
        let mut outside = Socket::open(ROUTE, 0)?;

        let bridge = index(&outside.request(&look_up(&self.bridge))?)?;
        let addresses = [&[2, 0, 0, 0][..], &bridge.to_ne_bytes()].concat();
        outside.request(&message(GETADDR, DUMP, &addresses))?;
        self.reserve()?;
        fs::read("/proc/sys/net/ipv4/ip_forward")?;

        outside.request(&self.veth(bridge, &pod))?;
        fs::write(format!("/proc/sys/net/ipv6/conf/{}/accept_ra", self.link), "0")?;
        if self.masquerade {
            let mut netfilter = Socket::open(NETFILTER, 0)?;
            // It is not there, which is what the question is for.
            let _ = netfilter.request(&self.question());
            netfilter.request(&self.addition())?;
        }
        enter(&pod)?;
        fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0")?;
        fs::write("/proc/sys/net/ipv4/conf/eth0/arp_notify", "1")?;
        enter(&home)?;

        let eth0 = index(&inside.request(&look_up("eth0"))?)?;
        let octets = self.address.octets();
        let address = [
            [2, 16, 0, 0].to_vec(),
            eth0.to_ne_bytes().to_vec(),
            attribute(1, &octets),
            attribute(2, &octets),
        ];
        inside.request(&message(NEWADDR, ACK | CREATE | EXCLUSIVE, &address.concat()))?;
        inside.request(&message(NEWLINK, ACK, &link_header(eth0, true)))?;
        let [a, b, ..] = octets;
        let (gateway, main) = ([a, b, 0, 1], 254);
        let route = [
            vec![2, 0, 0, 0, main, 3, 0, 1, 0, 0, 0, 0],
            attribute(4, &eth0.to_ne_bytes()),
            attribute(5, &gateway),
        ];
        inside.request(&message(NEWROUTE, ACK | CREATE | APPEND, &route.concat()))?;
        self.wait(&mut outside)?;
        // An address that is set anew is announced.
        let announce = [link_header(eth0, false), attribute(ADDRESS, &self.pod_mac())];
        inside.request(&message(NEWLINK, ACK, &announce.concat()))?;
        Ok(())
    }

    fn del(&self) -> Result<(), Box<dyn std::error::Error>> {
        let mut kernel = Kernel::new()?;
        let link: net::LinkName = self.link.parse()?;
        let address = self.address.into();
        let removal = kernel.begin_removal(&link, &[address])?;
        if self.masquerade {
            let (table, key) =
                (TableId::new(Family::Inet, TABLE), Key::Point(vec![Value::Address(address)]));
            if let Some(element) = kernel.nft_element(&Space::Here, &table, MAP, &key)? {
                let delete = Change::Delete(net::Object::Nft(element.into()));
                let step = Step::new(&Space::Here, delete, "forgets the pod");
                kernel.apply(&[step], OnError::Stop).into_result()?;
            }
        }
        if let Some(removal) = removal {
            kernel.finish_removal(removal)?;
        }
        let _lock = self.read_reservations()?;
        Ok(fs::remove_file(self.directory.join(self.address.to_string()))?)
    }

    /// Makes both ends of the cable, the near one up and in the bridge.
    fn veth(&self, bridge: u32, pod: &File) -> Vec<u8> {
        let [.., c, d] = self.address.octets();
        let near_mac = [2, 1, 1, 1, c, d];
        let peer = [
            link_header(0, false),
            text(IFNAME, "eth0"),
            attribute(ADDRESS, &self.pod_mac()),
            attribute(28, &pod.as_raw_fd().to_ne_bytes()),
        ];
        let info = [text(1, "veth"), nest(2, &[attribute(1, &peer.concat())])];
        let near = [
            link_header(0, true),
            text(IFNAME, &self.link),
            attribute(ADDRESS, &near_mac),
            attribute(10, &bridge.to_ne_bytes()),
            nest(18, &info),
        ];
        message(NEWLINK, ACK | CREATE | EXCLUSIVE, &near.concat())
    }

    fn pod_mac(&self) -> [u8; 6] {
        let [.., c, d] = self.address.octets();
        [2, 2, 2, 2, c, d]
    }

    /// Waits until the bridge forwards for the pod.
    fn wait(&self, socket: &mut Socket) -> io::Result<()> {
        let mut is_up = || -> io::Result<bool> {
            let seen = socket.request(&look_up(&self.link))?.unwrap_or_default();
            Ok(find(&seen, LINK_HEADER, 16) == Some(&[6]))
        };
        if is_up()? {
            return Ok(());
        }
        let mut events = Socket::open(ROUTE, LINK_EVENTS)?;
        while !is_up()? {
            events.receive()?;
        }
        Ok(())
    }

    /// Takes the address, as `host-local` does: under the lock, after reading who has which.
    fn reserve(&self) -> io::Result<()> {
        let _lock = self.read_reservations()?;
        let cursor = self.directory.join("last_reserved_ip.0");
        let address = self.address.to_string();
        let _ = fs::read(&cursor);
        fs::write(cursor, &address)?;
        File::create_new(self.directory.join(address))?.write_all(b"0123456789abcdef\r\neth0")
    }

    /// Takes the lock and reads every reservation.
    fn read_reservations(&self) -> io::Result<File> {
        let lock = File::create(self.directory.join("lock"))?;
        lock.lock()?;
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            if name.to_str().is_some_and(|name| name.parse::<Ipv4Addr>().is_ok()) {
                // Reservations are given back without the lock that keeps others from reading.
                let _ = fs::read(self.directory.join(name));
            }
        }
        Ok(lock)
    }

    /// The question for the pod's element in the map.
    fn question(&self) -> Vec<u8> {
        message(GET_ELEMENT, ACK, &self.element(&[]))
    }

    /// The transaction that adds the element, which leads to the chain of the subnet.
    fn addition(&self) -> Vec<u8> {
        const GOTO: i32 = -4;
        let mark = |kind| message(kind, 0, &[0, 0, 0, 10]);
        let verdict = [attribute(1, &GOTO.to_be_bytes()), text(2, "subnet")];
        let comment = format!("\0\x40{:063}\0", 0);
        let rest = [nest(2, &[nest(2, &verdict)]), attribute(6, comment.as_bytes())];
        let change = message(NEW_ELEMENT, ACK | CREATE | EXCLUSIVE, &self.element(&rest));
        [mark(0x10), change, mark(0x11)].concat()
    }

    /// The element: its key, and the `rest` of it.
    fn element(&self, rest: &[Vec<u8>]) -> Vec<u8> {
        let key = nest(1, &[attribute(1, &self.address.octets())]);
        let element = nest(1, &[&[key], rest].concat());
        [vec![INET, 0, 0, 0], text(1, TABLE), text(2, MAP), nest(3, &[element])].concat()
    }
}

// nftables (include/uapi/linux/netfilter/nf_tables.h); its subsystem is 10.
const INET: u8 = 1;
const NEW_ELEMENT: u16 = 0x0a0c;
const GET_ELEMENT: u16 = 0x0a0d;
/// What the benchmark prepares.
const TABLE: &str = "floor";
const MAP: &str = "masquerade4";

/// A question for a device, without its counters.
fn look_up(name: &str) -> Vec<u8> {
    let parts = [link_header(0, false), text(IFNAME, name), attribute(29, &8u32.to_ne_bytes())];
    message(GETLINK, ACK, &parts.concat())
}

fn index(link: &Option<Vec<u8>>) -> io::Result<u32> {
    link.as_ref().map(|payload| u32_at(payload, 4)).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// `struct ifinfomsg`.
fn link_header(index: u32, up: bool) -> Vec<u8> {
    let up = u32::from(up);
    [[0; 4], index.to_ne_bytes(), up.to_ne_bytes(), up.to_ne_bytes()].concat()
}

fn enter(netns: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?)
}
