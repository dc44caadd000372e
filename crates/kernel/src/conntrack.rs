//! Forgetting tracked connections of addresses that are no longer whose they were, and flows to
//! ports that lead somewhere else now; and such flows one by one ([`tracked`]).
//!
//! Speaks ctnetlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h). The kernel has one table
//! for all namespaces, and a dump walks all of its buckets (12 ms when it is empty, 55 ms with
//! 200,000 entries); so the kernel is asked to delete what matches, which takes a quarter of a
//! millisecond, wherever it can do that right.

pub(crate) mod tracked;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use net::Flow;

use crate::attribute::{Writer, iterate};
use crate::error::{ErrorKind, Result};
use crate::netlink::Socket;
use crate::rtnetlink::{AF_INET, AF_INET6, family, ip, octets};

/// How many connections more may be tracked in the namespace of the calling thread; none if the kernel
/// tracks nothing.
pub fn track_room() -> Option<usize> {
    let read = |name: &str| -> Option<usize> {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some(read("max")?.saturating_sub(read("count")?))
}

/// Deletes the entries whose original or reply source or destination is one of `addresses`. An
/// entry that goes away meanwhile is fine, and so is a kernel that tracks nothing.
pub(crate) fn flush(socket: &mut Socket, addresses: &[IpAddr]) -> Result<()> {
    where_any(socket, |socket| flush_tracked(socket, addresses))
        .map_err(|e| e.during("flush tracked connections"))
}

/// Deletes the entries whose original destination is one of `flows`.
pub(crate) fn flush_flows(socket: &mut Socket, flows: &[Flow]) -> Result<()> {
    /// Each deletion by a filter walks the table, too, so many of them cost more than one dump.
    const FEW: usize = 3;
    where_any(socket, |socket| {
        let mut rest = Vec::new();
        for flow in flows {
            match matching_flow(flow).filter(|_| flows.len() <= FEW) {
                Some(filter) if delete_by(socket, &filter)? => {}
                _ => rest.push(*flow),
            }
        }
        delete_flows(socket, &rest)
    })
    .map_err(|e| e.during("flush tracked flows"))
}

/// Deletes one by one what was sent to one of `flows`, after one look at each of their families.
fn delete_flows(socket: &mut Socket, flows: &[Flow]) -> Result<()> {
    let mut families = BTreeMap::<u8, HashMap<(u8, u16), Vec<IpNet>>>::new();
    for Flow { destination, protocol, port } in flows {
        let ports = families.entry(family(destination.addr())).or_default();
        ports.entry((*protocol, *port)).or_default().push(*destination);
    }
    families.into_iter().try_for_each(|(family, ports)| {
        delete_found(socket, family, |entry| {
            let found = entry.destination().and_then(|(to, at)| Some((to, ports.get(&at)?)));
            found.is_some_and(|(to, nets)| nets.iter().any(|net| net.contains(&to)))
        })
    })
}

/// Does `work` where anything is tracked at all.
fn where_any(socket: &mut Socket, work: impl FnOnce(&mut Socket) -> Result<()>) -> Result<()> {
    if count(socket)? == 0 { Ok(()) } else { work(socket) }
}

fn flush_tracked(socket: &mut Socket, addresses: &[IpAddr]) -> Result<()> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|a| a.is_ipv4());
    if !delete_matching(socket, &v4)? {
        delete_touching(socket, AF_INET, &v4)?;
    }
    // For IPv6 the kernel's filter does the opposite (seen in 6.18): it takes what does not match.
    delete_touching(socket, AF_INET6, &v6)
}

/// Has the kernel delete what has one of these IPv4 addresses at one of its four ends; `false` if
/// it cannot. Kernels before 6.10 know no filter here and refuse a tuple of which only one end is
/// given (`EINVAL`), so none of them takes this for a wish to delete everything.
fn delete_matching(socket: &mut Socket, addresses: &[IpAddr]) -> Result<bool> {
    let places = [
        (CTA_TUPLE_ORIG, End::Source),
        (CTA_TUPLE_REPLY, End::Source),
        (CTA_TUPLE_ORIG, End::Destination),
        (CTA_TUPLE_REPLY, End::Destination),
    ];
    for address in addresses {
        for (direction, end) in places {
            if !delete_by(socket, &matching(*address, direction, end))? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Has the kernel delete what a filter names; `false` if it knows no such filter.
fn delete_by(socket: &mut Socket, filter: &[u8]) -> Result<bool> {
    match socket.request(CT_DELETE, 0, filter, |_| {}) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.raw_errno() == Some(libc::EINVAL) => Ok(false),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes one by one what has one of these addresses.
fn delete_touching(socket: &mut Socket, family: u8, addresses: &[IpAddr]) -> Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    delete_found(socket, family, |entry| entry.touches(addresses))
}

/// Looks through the whole family and deletes one by one what is wanted.
fn delete_found(
    socket: &mut Socket,
    family: u8,
    is_wanted: impl Fn(&Entry<'_>) -> bool,
) -> Result<()> {
    let mut found = Vec::new();
    socket.dump(CT_GET, &header(family), |message| {
        let entry = Entry::parse(message.payload).filter(&is_wanted);
        found.extend(entry.map(|entry| entry.deletion()));
    })?;
    for deletion in &found {
        match socket.request(CT_DELETE, 0, deletion, |_| {}) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

// Message types: the subsystem (`NFNL_SUBSYS_CTNETLINK`) and `enum cntl_msg_types`.
const CT_GET: u16 = 0x0101;
const CT_DELETE: u16 = 0x0102;
const CT_GET_STATS: u16 = 0x0105;

// `enum ctattr_type`.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;

// `enum ctattr_tuple`, `enum ctattr_ip` and `enum ctattr_l4proto`.
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;

/// The number of entries in the namespace of the socket.
fn count(socket: &mut Socket) -> Result<u32> {
    const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
    let mut entries = 0;
    let answer = socket.request(CT_GET_STATS, 0, &header(0), |message| {
        let count = attribute(message.payload.get(4..), CTA_STATS_GLOBAL_ENTRIES);
        entries = count.and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
    });
    match answer {
        // Without conntrack, nfnetlink knows no such subsystem.
        Err(error) if error.raw_errno() == Some(libc::EINVAL) => Ok(0),
        Err(error) => Err(error),
        Ok(()) => Ok(entries),
    }
}

#[derive(Clone, Copy)]
enum End {
    Source = 0,
    Destination = 1,
}

/// Names the entries with the IPv4 `address` at this end of this direction. The kernel compares
/// those parts of a tuple whose bits (`CTA_FILTER_F_CTA_IP_SRC` = 1, `…_DST` = 2,
/// net/netfilter/nf_internals.h) are set in the direction's member of `CTA_FILTER`.
fn matching(address: IpAddr, direction: u16, end: End) -> Vec<u8> {
    // With version 0 the kernel would not look at the family.
    let mut writer = Writer::after(&[AF_INET, 1, 0, 0]);
    writer.nest(direction, |tuple| {
        tuple.nest(CTA_TUPLE_IP, |ip| {
            ip.put(CTA_IP_V4_SRC + end as u16, &octets(address));
        });
    });
    put_filter(&mut writer, direction, 1 << end as u32);
    writer.bytes().to_vec()
}

/// Names the entries whose original destination is `flow`; `None` if no filter of the kernel can:
/// it knows single addresses only, and of IPv6 not even these.
fn matching_flow(flow: &Flow) -> Option<Vec<u8>> {
    // `CTA_FILTER_F_CTA_IP_DST`, `…_PROTO_NUM` and `…_PROTO_DST_PORT`.
    const DESTINATION: u32 = 1 << 1;
    const PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;
    let address = flow.destination.addr();
    let bits = match flow.destination {
        any if any.prefix_len() == 0 => PROTOCOL_AND_PORT,
        IpNet::V4(net) if net.prefix_len() == 32 => PROTOCOL_AND_PORT | DESTINATION,
        _ => return None,
    };
    let mut writer = Writer::after(&[family(address), 1, 0, 0]);
    writer.nest(CTA_TUPLE_ORIG, |tuple| {
        if bits & DESTINATION != 0 {
            tuple.nest(CTA_TUPLE_IP, |ip| {
                ip.put(CTA_IP_V4_DST, &octets(address));
            });
        }
        tuple.nest(CTA_TUPLE_PROTO, |proto| {
            proto.put(CTA_PROTO_NUM, &[flow.protocol]);
            proto.put(CTA_PROTO_DST_PORT, &flow.port.to_be_bytes());
        });
    });
    put_filter(&mut writer, CTA_TUPLE_ORIG, bits);
    Some(writer.bytes().to_vec())
}

/// Says which parts of the tuple of `direction` count.
fn put_filter(writer: &mut Writer, direction: u16, bits: u32) {
    writer.nest(CTA_FILTER, |filter| {
        let bits = |of| if of == direction { bits } else { 0 };
        // `CTA_FILTER_ORIG_FLAGS` and `CTA_FILTER_REPLY_FLAGS`, in host byte order.
        filter.put(1, &bits(CTA_TUPLE_ORIG).to_ne_bytes());
        filter.put(2, &bits(CTA_TUPLE_REPLY).to_ne_bytes());
    });
}

/// `struct nfgenmsg`: family, version 0, resource 0.
fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// What matters of an entry; the attributes are as the kernel sent them.
struct Entry<'a> {
    family: u8,
    original: &'a [u8],
    reply: &'a [u8],
    status: Option<&'a [u8]>,
    zone: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut entry = Self {
            family: *payload.first()?,
            original: &[],
            reply: &[],
            status: None,
            zone: None,
            id: None,
        };
        for (kind, value) in iterate(payload.get(4..)?) {
            match kind {
                CTA_TUPLE_ORIG => entry.original = value,
                CTA_TUPLE_REPLY => entry.reply = value,
                CTA_STATUS => entry.status = Some(value),
                CTA_ZONE => entry.zone = Some(value),
                CTA_ID => entry.id = Some(value),
                _ => {}
            }
        }
        Some(entry)
    }

    /// Whether one of its four ends is one of `addresses`.
    fn touches(&self, addresses: &[IpAddr]) -> bool {
        [self.original, self.reply]
            .into_iter()
            .filter_map(|tuple| attribute(Some(tuple), CTA_TUPLE_IP))
            .flat_map(iterate)
            .filter_map(|(_, bytes)| ip(bytes))
            .any(|end| addresses.contains(&end))
    }

    /// Where it was sent: the address, the protocol and the port.
    fn destination(&self) -> Option<(IpAddr, (u8, u16))> {
        let part = |kind| attribute(Some(self.original), kind);
        let (ip_part, proto) = (part(CTA_TUPLE_IP), part(CTA_TUPLE_PROTO));
        let to = [CTA_IP_V4_DST, CTA_IP_V6_DST].into_iter().find_map(|k| attribute(ip_part, k))?;
        let protocol = attribute(proto, CTA_PROTO_NUM)?.first()?;
        let port = attribute(proto, CTA_PROTO_DST_PORT)?.try_into().ok()?;
        Some((ip(to)?, (*protocol, u16::from_be_bytes(port))))
    }

    /// The message that deletes just this entry: not a later one with the same tuple, which the id
    /// tells apart.
    fn deletion(&self) -> Vec<u8> {
        const NESTED: u16 = 0x8000;
        let mut writer = Writer::after(&header(self.family));
        writer.put(CTA_TUPLE_ORIG | NESTED, self.original);
        if let Some(zone) = self.zone {
            writer.put(CTA_ZONE, zone);
        }
        if let Some(id) = self.id {
            writer.put(CTA_ID, id);
        }
        writer.bytes().to_vec()
    }
}

/// The value of the first attribute of this kind.
fn attribute(bytes: Option<&[u8]>, kind: u16) -> Option<&[u8]> {
    iterate(bytes?).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use testbed::{Namespace, isolated, need, sh};

    use super::*;
    use crate::netlink::{Protocol, flag};

    const CT_NEW: u16 = 0x0100;
    const UDP: u8 = 17;

    #[test]
    fn connections_are_found_at_any_of_their_four_ends() {
        isolated!();
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        let pods = ["10.1.0.4", "fd00:1::4"].map(|a| a.parse().unwrap());
        flush(&mut socket, &pods).unwrap();

        let others = ["10.1.0.5", "10.9.9.9", "10.9.9.9", "10.1.0.5"];
        let others6 = ["fd00:1::5", "fd00:9::9", "fd00:9::9", "fd00:1::5"];
        create(&mut socket, others, 1000);
        create(&mut socket, others6, 1000);
        let ways: [fn(&mut Socket, &[IpAddr]); 2] = [
            |socket, pods| flush(socket, pods).unwrap(),
            // As on a kernel that cannot delete by a filter.
            |socket, pods| {
                for pod in pods {
                    delete_touching(socket, family(*pod), &[*pod]).unwrap();
                }
            },
        ];
        for flush in ways {
            for (pod, others) in [("10.1.0.4", others), ("fd00:1::4", others6)] {
                for place in 0..4 {
                    let mut ends = others;
                    ends[place] = pod;
                    create(&mut socket, ends, 1001 + place as u16);
                }
            }
            for left in [10, 6, 2] {
                assert_eq!(count(&mut socket).unwrap(), left);
                flush(&mut socket, &pods[..usize::from(left < 10) + 1]);
            }
            assert_eq!(count(&mut socket).unwrap(), 2);
        }
    }

    #[test]
    fn a_real_connection_in_a_zone_is_forgotten_and_others_stay() {
        isolated!();
        need("nft", "nftables");
        let blue = Namespace::new("blue");
        two_pods(&blue);
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        // The packets of the pods arrive when their neighbours are found.
        let deadline = Instant::now() + Duration::from_secs(5);
        while count(&mut socket).unwrap() < 4 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(count(&mut socket).unwrap(), 4);
        flush(&mut socket, &["10.1.0.4".parse().unwrap()]).unwrap();
        assert_eq!(count(&mut socket).unwrap(), 2);
    }

    /// Sends datagrams, tracked in zone 7, to and from two addresses of `blue`.
    fn two_pods(blue: &Namespace) {
        sh("ip link add left type veth peer name right netns blue
            ip addr add 10.1.0.1/24 dev left; ip link set left up
            nft add table ip t
            nft add chain ip t zones { type filter hook prerouting priority raw \\; }
            nft add chain ip t out { type filter hook output priority raw \\; }
            nft add rule ip t zones ct zone set 7
            nft add rule ip t out ct zone set 7
            nft add chain ip t tracking { type filter hook input priority 0 \\; }
            nft add rule ip t tracking ct state new counter");
        blue.sh("ip addr add 10.1.0.4/24 dev right; ip addr add 10.1.0.5/24 dev right
                 ip link set right up");
        let say = |from: &str, to: &str| {
            let socket = std::net::UdpSocket::bind((from, 0)).unwrap();
            socket.send_to(b"hello", (to, 9)).unwrap();
        };
        for pod in ["10.1.0.4", "10.1.0.5"] {
            say("10.1.0.1", pod);
            let netns = crate::Netns::open(&blue.path()).unwrap();
            netns.enter(|| say(pod, "10.1.0.1")).unwrap();
        }
    }

    #[test]
    fn thousands_of_others_stay() {
        isolated!();
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        for i in 0..5_000u32 {
            let [_, a, b, c] = i.to_be_bytes();
            let (client, server) = ([10, 20 + a, b, c].into(), [10, 9, 9, 9].into());
            creation(&mut socket, [client, server, server, client], 1000);
        }
        for port in 1000..1050 {
            create(&mut socket, ["10.1.0.4", "10.9.9.9", "10.9.9.9", "10.1.0.4"], port);
        }
        let pods = ["10.1.0.4", "fd00:1::4"].map(|a| a.parse().unwrap());
        flush(&mut socket, &pods).unwrap();
        assert_eq!(count(&mut socket).unwrap(), 5_000);
    }

    #[test]
    fn flows_are_found_by_their_destination() {
        isolated!();
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        let flow = |destination: &str, protocol| Flow {
            destination: destination.parse().unwrap(),
            protocol,
            port: 53,
        };
        let ways: [fn(&mut Socket, &Flow); 2] = [
            |socket, flow| flush_flows(socket, &[*flow]).unwrap(),
            |socket, flow| delete_flows(socket, &[*flow]).unwrap(),
        ];
        for way in ways {
            for port in [53, 54] {
                for host in ["192.0.2.1", "192.0.2.2", "198.51.100.1"] {
                    create(&mut socket, ["10.9.9.9", host, host, "10.9.9.9"], port);
                }
                for host in ["2001:db8::1", "2001:db8::2"] {
                    create(&mut socket, ["fd00:9::9", host, host, "fd00:9::9"], port);
                }
            }
            // The other port of each stays, whatever is named.
            for (destination, protocol, left) in [
                ("192.0.2.1/32", 6, 10),
                ("192.0.2.3/32", UDP, 10),
                ("192.0.2.1/32", UDP, 9),
                ("192.0.2.0/24", UDP, 8),
                ("0.0.0.0/0", UDP, 7),
                ("2001:db8::3/128", UDP, 7),
                ("2001:db8::1/128", UDP, 6),
                ("::/0", UDP, 5),
            ] {
                way(&mut socket, &flow(destination, protocol));
                assert_eq!(count(&mut socket).unwrap(), left, "{destination} {protocol}");
            }
            for port in ["0.0.0.0/0", "::/0"] {
                way(&mut socket, &Flow { port: 54, ..flow(port, UDP) });
            }
            assert_eq!(count(&mut socket).unwrap(), 0);
        }
    }

    /// Each request would walk the whole table, so there are none for flows that nobody sent.
    #[test]
    fn many_flows_are_found_in_one_look() {
        isolated!();
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        for port in 1000..1100 {
            for host in ["192.0.2.1", "192.0.2.2"] {
                create(&mut socket, ["10.9.9.9", host, host, "10.9.9.9"], port);
            }
            create(&mut socket, ["fd00:9::9", "2001:db8::1", "2001:db8::1", "fd00:9::9"], port);
        }
        let flow = |destination: &str, port| Flow {
            destination: destination.parse().unwrap(),
            protocol: UDP,
            port,
        };
        let mut flows: Vec<Flow> = (1010..2000).map(|port| flow("192.0.2.1/32", port)).collect();
        flows.extend((1020..2000).map(|port| flow("::/0", port)));
        // Two destinations of one port.
        flows.push(flow("192.0.2.2/32", 1099));
        let before = socket.next_sequences(1);
        flush_flows(&mut socket, &flows).unwrap();
        let requests = socket.next_sequences(1) - before;
        assert_eq!(count(&mut socket).unwrap(), 300 - 90 - 80 - 1);
        assert!(requests < 200, "{requests} requests to delete 171 of 300 entries");
    }

    fn create(socket: &mut Socket, ends: [&str; 4], port: u16) {
        creation(socket, ends.map(|end| end.parse().unwrap()), port);
    }

    /// Makes an entry with these ends: source and destination, as sent and as answered.
    fn creation(socket: &mut Socket, ends: [IpAddr; 4], port: u16) {
        const CTA_TIMEOUT: u16 = 7;
        let mut writer = Writer::after(&header(family(ends[0])));
        for (direction, ends) in [(CTA_TUPLE_ORIG, &ends[..2]), (CTA_TUPLE_REPLY, &ends[2..])] {
            let first = if ends[0].is_ipv4() { CTA_IP_V4_SRC } else { 3 };
            writer.nest(direction, |tuple| {
                tuple.nest(CTA_TUPLE_IP, |ip| {
                    ip.put(first, &octets(ends[0])).put(first + 1, &octets(ends[1]));
                });
                tuple.nest(2, |protocol| {
                    let port = port.to_be_bytes();
                    protocol.put(1, &[UDP]).put(2, &port).put(3, &port);
                });
            });
        }
        writer.put_be32(CTA_TIMEOUT, 600);
        socket.request(CT_NEW, flag::CREATE | flag::EXCLUSIVE, writer.bytes(), |_| {}).unwrap();
    }
}
