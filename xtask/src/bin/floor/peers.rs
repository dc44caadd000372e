//! The floor under the agent: what thousands of peers cost when nobody thinks about them.
//!
//! It sends what joins a node to each of its peers, as few system calls as podwire makes, to a kernel
//! in which everything is that all peers share, and prints the microseconds that this took, and those
//! of them that it had a processor. The bytes are put together while the clock runs; hardware addresses are known before, because a name's
//! digest is nobody's message.

use std::error::Error;
use std::time::Instant;

use net::Mac;
use sha2::{Digest, Sha256};

use crate::wire::{ACK, APPEND, CREATE, EXCLUSIVE, Socket};
use crate::wire::{acknowledged, attribute, message, nest, text};
use crate::{INET, NETFILTER, NEW_ELEMENT, NEWROUTE, ROUTE, index, look_up};

/// How many messages go into one datagram.
const BATCH: usize = 64;
const NEWNEIGH: u16 = 28;
/// Podwire's mark, and its table.
const PODWIRE: u8 = 112;
const MAIN: u8 = 254;

/// How peers are joined.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    External,
    Classic,
    Gpe,
}

/// Joins the node 1 of a cluster of `count` others, as the benchmark numbers them, to all of those.
pub(crate) fn join(form: &str, count: &str) -> Result<(), Box<dyn Error>> {
    let form = match form {
        "external" => Form::External,
        "classic" => Form::Classic,
        "gpe" => Form::Gpe,
        _ => return Err("the forms are external, classic and gpe".into()),
    };
    let count: u16 = count.parse()?;
    let peers: Vec<Peer> = (2..=count + 1).map(|number| Peer::new(number, form)).collect();
    let (begin, before) = (Instant::now(), processor_micros()?);
    let mut route = Socket::open(ROUTE, 0)?;
    let mut netfilter = Socket::open(NETFILTER, 0)?;
    let device = index(&route.request(&look_up("podwire0"))?)?;
    netfilter.transact(&transaction(&peers))?;
    let mut messages = peers.iter().flat_map(|peer| peer.messages(device)).peekable();
    while messages.peek().is_some() {
        let mut datagram: Vec<Vec<u8>> = messages.by_ref().take(BATCH).collect();
        if let Some(last) = datagram.last_mut() {
            acknowledged(last);
        }
        route.request(&datagram.concat())?;
    }
    let elapsed = begin.elapsed().as_micros();
    println!("{elapsed} {}", processor_micros()? - before);
    Ok(())
}

/// The processor time of the only thread so far.
fn processor_micros() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanos: u64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanos / 1000)
}

struct Peer {
    form: Form,
    number: [u8; 2],
    mac: [u8; 6],
}

impl Peer {
    fn new(number: u16, form: Form) -> Self {
        let digest = Sha256::digest(format!("n{number:05}"));
        let mut mac = [0; 6];
        mac.copy_from_slice(&digest[..6]);
        Self { form, number: number.to_be_bytes(), mac: Mac::local(mac).0 }
    }

    /// The network address of its pods, which is its own in the tunnel.
    fn inner(&self) -> [u8; 4] {
        let [high, low] = self.number;
        [10, high, low, 0]
    }

    fn address(&self) -> [u8; 4] {
        let [high, low] = self.number;
        [172, 16, high, low]
    }

    fn messages(&self, device: u32) -> Vec<Vec<u8>> {
        let mut messages = Vec::with_capacity(4);
        if self.form != Form::Gpe {
            messages.push(self.neighbour(device));
        }
        if self.form == Form::Classic {
            messages.push(self.forwarding(device));
        }
        let inner = Peer { number: [0, 1], ..*self }.inner();
        messages.push(self.route(device, self.inner(), 24, MAIN, Some(inner)));
        messages.push(self.route(device, self.address(), 32, PODWIRE, None));
        messages
    }

    fn neighbour(&self, device: u32) -> Vec<u8> {
        const PERMANENT: u16 = 0x80;
        let rest =
            [attribute(1, &self.inner()), attribute(2, &self.mac), attribute(12, &[PODWIRE])];
        let header = entry_header(2, device, PERMANENT, 0);
        message(NEWNEIGH, CREATE | EXCLUSIVE, &[header, rest.concat()].concat())
    }

    fn forwarding(&self, device: u32) -> Vec<u8> {
        const BRIDGE: u8 = 7;
        const PERMANENT: u16 = 0x80;
        const SELF: u8 = 2;
        let header = entry_header(BRIDGE, device, PERMANENT, SELF);
        let rest = [attribute(2, &self.mac), attribute(1, &self.address())];
        message(NEWNEIGH, CREATE | APPEND, &[header, rest.concat()].concat())
    }

    fn route(
        &self,
        device: u32,
        to: [u8; 4],
        length: u8,
        table: u8,
        source: Option<[u8; 4]>,
    ) -> Vec<u8> {
        const UNICAST: u8 = 1;
        const ONLINK: u8 = 4;
        let by_frames = self.form != Form::Gpe;
        let flags = if by_frames { ONLINK } else { 0 };
        // So that the kernel need not look for each next hop among all others.
        let scope = (1 + (u32::from_be_bytes(to) >> (32 - length)) % 252) as u8;
        let mut bytes = vec![2, length, 0, 0, table, PODWIRE, scope, UNICAST, flags, 0, 0, 0];
        bytes.extend(attribute(15, &u32::from(table).to_ne_bytes()));
        bytes.extend(attribute(1, &to));
        bytes.extend(attribute(4, &device.to_ne_bytes()));
        if by_frames {
            bytes.extend(attribute(5, &self.inner()));
        }
        bytes.extend(source.iter().flat_map(|source| attribute(7, source)));
        if self.form != Form::Classic {
            const IP: u16 = 2;
            let network = [attribute(1, &1u64.to_be_bytes()), attribute(2, &self.address())];
            bytes.extend(attribute(21, &IP.to_ne_bytes()));
            bytes.extend(nest(22, &network));
        }
        message(NEWROUTE, CREATE | APPEND, &bytes)
    }
}

/// `struct ndmsg`.
fn entry_header(family: u8, device: u32, state: u16, flags: u8) -> Vec<u8> {
    let [low, high] = state.to_ne_bytes();
    [&[family, 0, 0, 0][..], &device.to_ne_bytes(), &[low, high, flags, 0]].concat()
}

/// Adds the pods' subnets and the nodes' addresses to the sets that tell the cluster from the rest.
fn transaction(peers: &[Peer]) -> Vec<u8> {
    let mark = |kind, flags| message(kind, flags, &[0, 0, 0, 10]);
    let mut bytes = mark(0x10, 0);
    for (place, peer) in peers.iter().enumerate() {
        let end = (u32::from_be_bytes(peer.inner()) + 256).to_be_bytes();
        bytes.extend(element(
            "pods4",
            &[element_of(&peer.inner(), false), element_of(&end, true)],
            0,
        ));
        // The last one is acknowledged, and with it all.
        let ack = if place + 1 == peers.len() { ACK } else { 0 };
        bytes.extend(element("nodes4", &[element_of(&peer.address(), false)], ack));
    }
    bytes.extend(mark(0x11, 0));
    bytes
}

fn element(set: &str, elements: &[Vec<u8>], ack: u16) -> Vec<u8> {
    let header = vec![INET, 0, 0, 0];
    let rest = [header, text(1, "podwire"), text(2, set), nest(3, elements)];
    message(NEW_ELEMENT, ack | CREATE | EXCLUSIVE, &rest.concat())
}

fn element_of(key: &[u8], is_end: bool) -> Vec<u8> {
    let mut parts = vec![nest(1, &[attribute(1, key)])];
    if is_end {
        parts.push(attribute(3, &1u32.to_be_bytes()));
    }
    nest(1, &parts)
}
