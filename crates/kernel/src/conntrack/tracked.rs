//! Flows that are led elsewhere (DNAT), one by one: what keeps datagrams on the way that they went
//! first, whatever rules say by now.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use net::Tracked;

use super::{
    CT_DELETE, CT_GET, CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_IP_V6_DST, CTA_PROTO_DST_PORT,
    CTA_PROTO_NUM, CTA_STATUS, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_TUPLE_REPLY,
    Entry, attribute, header, where_any,
};
use crate::attribute::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::netlink::{Socket, flag};
use crate::rtnetlink::{family, ip, octets};

/// `IPCTNL_MSG_CT_NEW`.
const CT_NEW: u16 = 0x0100;

// `enum ctattr_type`.
const CTA_TIMEOUT: u16 = 7;
const CTA_NAT_DST: u16 = 13;

// `enum ctattr_ip` and `enum ctattr_l4proto`.
const CTA_IP_V6_SRC: u16 = 3;
const CTA_PROTO_SRC_PORT: u16 = 2;

// `enum ctattr_nat` and `enum ctattr_protonat`.
const CTA_NAT_V4_MINIP: u16 = 1;
const CTA_NAT_PROTO: u16 = 3;
const CTA_NAT_V6_MINIP: u16 = 4;
const CTA_PROTONAT_PORT_MIN: u16 = 1;
const CTA_PROTONAT_PORT_MAX: u16 = 2;

// `enum ip_conntrack_status` (nf_conntrack_common.h).
const SEEN_REPLY: u32 = 1 << 1;
const ASSURED: u32 = 1 << 2;
const CONFIRMED: u32 = 1 << 3;
const DST_NAT: u32 = 1 << 5;

/// The most flows that are told of a namespace.
const MOST: usize = 1000;

/// Flows of datagrams that were answered once and are led elsewhere: one for each address and port
/// that is sent to and each that this is led to, and no more than [`MOST`]. The kernel picks them
/// out of its table, from Linux 5.14 on; before, it sends all of it.
pub(crate) fn led(socket: &mut Socket) -> Result<Vec<Tracked>> {
    let mut wanted = Writer::after(&header(0));
    wanted.put_be32(CTA_STATUS, SEEN_REPLY | DST_NAT);
    let mut found = BTreeMap::new();
    where_any(socket, |socket| {
        socket.dump(CT_GET, wanted.bytes(), |message| {
            let entry = Entry::parse(message.payload).filter(is_led);
            let flow = entry.and_then(|entry| tracked(&entry));
            let datagrams = flow.filter(|it| i32::from(it.protocol) == libc::IPPROTO_UDP);
            if let Some(flow) = datagrams.filter(|_| found.len() < MOST) {
                found.entry((flow.to, flow.led_to)).or_insert(flow);
            }
        })
    })
    .map_err(|error| error.during("list tracked flows"))?;
    Ok(found.into_values().collect())
}

/// The flow with the ends of `wanted`, wherever it is led; `None` if it is not tracked.
pub(crate) fn find(socket: &mut Socket, wanted: &Tracked) -> Result<Option<Tracked>> {
    let mut found = None;
    let answer = socket.get(CT_GET, &named(wanted), |message| {
        found = Entry::parse(message.payload).and_then(|entry| tracked(&entry));
    });
    match answer {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.during(format!("look up {}", called(wanted)))),
        Ok(()) => Ok(found),
    }
}

/// Has the kernel track a flow that was answered already, for [`Tracked::SECONDS`] if nothing is
/// sent.
pub(crate) fn create(socket: &mut Socket, flow: &Tracked) -> Result<()> {
    let Tracked { protocol, from, to, led_to } = *flow;
    if [to, led_to].iter().any(|it| it.is_ipv4() != from.is_ipv4()) {
        let text = "addresses of a flow are of one family";
        return Err(Error::text(format!("track {}", called(flow)), ErrorKind::WrongKind, text));
    }
    let mut writer = Writer::after(&header(family(from.ip())));
    put_tuple(&mut writer, CTA_TUPLE_ORIG, protocol, from, to);
    // As if nothing were rewritten: the kernel makes of it what follows from `CTA_NAT_DST`.
    put_tuple(&mut writer, CTA_TUPLE_REPLY, protocol, to, from);
    writer.nest(CTA_NAT_DST, |nat| {
        let lowest = if led_to.is_ipv4() { CTA_NAT_V4_MINIP } else { CTA_NAT_V6_MINIP };
        let (address, port) = (octets(led_to.ip()), led_to.port().to_be_bytes());
        nat.put(lowest, &address).put(lowest + 1, &address);
        nat.nest(CTA_NAT_PROTO, |ports| {
            ports.put(CTA_PROTONAT_PORT_MIN, &port).put(CTA_PROTONAT_PORT_MAX, &port);
        });
    });
    writer.put_be32(CTA_STATUS, CONFIRMED | SEEN_REPLY | ASSURED);
    writer.put_be32(CTA_TIMEOUT, Tracked::SECONDS);
    socket
        .request(CT_NEW, flag::CREATE | flag::EXCLUSIVE, writer.bytes(), |_| {})
        .map_err(|error| error.during(format!("track {}", called(flow))))
}

/// Has the kernel forget a flow.
pub(crate) fn delete(socket: &mut Socket, flow: &Tracked) -> Result<()> {
    socket
        .request(CT_DELETE, 0, &named(flow), |_| {})
        .map_err(|error| error.during(format!("forget {}", called(flow))))
}

/// Names a flow by what was sent.
fn named(flow: &Tracked) -> Vec<u8> {
    let mut writer = Writer::after(&header(family(flow.from.ip())));
    put_tuple(&mut writer, CTA_TUPLE_ORIG, flow.protocol, flow.from, flow.to);
    writer.bytes().to_vec()
}

fn called(flow: &Tracked) -> String {
    format!("the flow from {} to {}", flow.from, flow.to)
}

fn put_tuple(writer: &mut Writer, direction: u16, protocol: u8, from: SocketAddr, to: SocketAddr) {
    let source = if from.is_ipv4() { CTA_IP_V4_SRC } else { CTA_IP_V6_SRC };
    writer.nest(direction, |tuple| {
        tuple.nest(CTA_TUPLE_IP, |ip| {
            ip.put(source, &octets(from.ip())).put(source + 1, &octets(to.ip()));
        });
        tuple.nest(CTA_TUPLE_PROTO, |proto| {
            proto.put(CTA_PROTO_NUM, &[protocol]);
            proto.put(CTA_PROTO_SRC_PORT, &from.port().to_be_bytes());
            proto.put(CTA_PROTO_DST_PORT, &to.port().to_be_bytes());
        });
    });
}

/// Whether an entry is one that a kernel was asked for that looks at its state.
fn is_led(entry: &Entry<'_>) -> bool {
    let status = entry.status.and_then(|bytes| bytes.try_into().ok());
    let wanted = SEEN_REPLY | DST_NAT;
    status.map(u32::from_be_bytes).is_some_and(|status| status & wanted == wanted)
}

/// What an entry says: it is led to whoever answers.
fn tracked(entry: &Entry<'_>) -> Option<Tracked> {
    let end = |tuple, addresses: [u16; 2], port| -> Option<SocketAddr> {
        let part = |kind| attribute(Some(tuple), kind);
        let mut addresses = addresses.into_iter();
        let address = addresses.find_map(|kind| attribute(part(CTA_TUPLE_IP), kind))?;
        let port = attribute(part(CTA_TUPLE_PROTO), port)?.try_into().ok()?;
        let address: IpAddr = ip(address)?;
        Some(SocketAddr::new(address, u16::from_be_bytes(port)))
    };
    const SOURCES: [u16; 2] = [CTA_IP_V4_SRC, CTA_IP_V6_SRC];
    const DESTINATIONS: [u16; 2] = [CTA_IP_V4_DST, CTA_IP_V6_DST];
    let protocol = attribute(Some(entry.original), CTA_TUPLE_PROTO);
    Some(Tracked {
        protocol: *attribute(protocol, CTA_PROTO_NUM)?.first()?,
        from: end(entry.original, SOURCES, CTA_PROTO_SRC_PORT)?,
        to: end(entry.original, DESTINATIONS, CTA_PROTO_DST_PORT)?,
        led_to: end(entry.reply, SOURCES, CTA_PROTO_SRC_PORT)?,
    })
}

#[cfg(test)]
mod tests {
    use testbed::{isolated, need, sh};

    use super::*;
    use crate::netlink::Protocol;

    fn flow(from: &str, to: &str, led_to: &str) -> Tracked {
        let [from, to, led_to] = [from, to, led_to].map(|it| it.parse().unwrap());
        Tracked { protocol: 17, from, to, led_to }
    }

    #[test]
    fn a_flow_is_made_found_and_forgotten() {
        isolated!();
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        for flow in [
            flow("203.0.113.10:40000", "192.0.2.11:8080", "10.244.1.2:80"),
            flow("[2001:db8:ff::10]:40000", "[2001:db8:1::11]:8080", "[fd00:10:244:1::2]:80"),
        ] {
            assert_eq!(find(&mut socket, &flow).unwrap(), None);
            assert_eq!(delete(&mut socket, &flow).unwrap_err().kind(), ErrorKind::NotFound);
            create(&mut socket, &flow).unwrap();
            assert_eq!(create(&mut socket, &flow).unwrap_err().kind(), ErrorKind::Exists);
            assert_eq!(find(&mut socket, &flow).unwrap(), Some(flow.clone()));
            assert_eq!(led(&mut socket).unwrap(), std::slice::from_ref(&flow));
            delete(&mut socket, &flow).unwrap();
            assert_eq!(led(&mut socket).unwrap(), []);
        }
        let mixed = flow("203.0.113.10:40000", "[2001:db8:1::11]:8080", "10.244.1.2:80");
        create(&mut socket, &mixed).unwrap_err();
    }

    /// The commands of a step do what the step does, so that one forgets what the other has made.
    #[test]
    fn a_person_makes_and_sees_the_same() {
        isolated!();
        need("conntrack", "conntrack");
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        for flow in [
            flow("203.0.113.10:40000", "192.0.2.11:8080", "10.244.1.2:80"),
            flow("[2001:db8:ff::10]:40000", "[2001:db8:1::11]:8080", "[fd00:10:244:1::2]:80"),
        ] {
            let script = |change: fn(net::Object) -> net::Change| {
                let change = change(flow.clone().into());
                net::shell(&net::Step::new(&net::Space::Here, change, "")).join("\n")
            };
            let family = if flow.from.is_ipv4() { "ipv4" } else { "ipv6" };
            let list = || {
                let text = sh(&format!("conntrack -L -f {family} 2>/dev/null"));
                // Without the seconds that are left.
                text.split_whitespace()
                    .filter(|word| word.parse::<u32>().is_err())
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            sh(&format!("{} >/dev/null 2>&1", script(net::Change::Create)));
            let theirs = list();
            assert_eq!(led(&mut socket).unwrap(), std::slice::from_ref(&flow));
            delete(&mut socket, &flow).unwrap();
            create(&mut socket, &flow).unwrap();
            assert_eq!(list(), theirs);
            sh(&format!("{} >/dev/null 2>&1", script(net::Change::Delete)));
            assert_eq!(led(&mut socket).unwrap(), []);
        }
    }

    #[test]
    fn what_nobody_answered_is_not_led() {
        isolated!();
        need("conntrack", "conntrack");
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        let entry = "-s 10.0.0.1 -d 10.0.0.2 --sport 4000 --dport 53 -t 600";
        sh(&format!("conntrack -I -p udp {entry} -g 10.9.9.9 2>&1"));
        sh(&format!(
            "conntrack -I -p tcp --state ESTABLISHED {entry} -g 10.9.9.9 -u SEEN_REPLY 2>&1"
        ));
        sh(
            "conntrack -I -p udp -s 10.0.0.1 -d 10.0.0.3 --sport 1 --dport 2 -t 600 -u SEEN_REPLY 2>&1",
        );
        assert_eq!(led(&mut socket).unwrap(), []);
        // Of many senders one stands for all.
        for port in 1000..1020 {
            let from = format!("10.0.0.1:{port}");
            create(&mut socket, &flow(&from, "10.0.0.2:53", "10.9.9.9:53")).unwrap();
        }
        assert_eq!(led(&mut socket).unwrap().len(), 1);
    }
}
