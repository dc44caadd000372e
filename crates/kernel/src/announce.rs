//! Telling a segment where addresses live now, so that nobody sends to a device that had them
//! before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::Mac;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use crate::error::{Error, Result};

/// Sends one announcement for each of `addresses`, which live behind `mac` on the device with this
/// `index` in the namespace of the calling thread. The device has to be up (`ENETDOWN`).
///
/// The socket has protocol 0 and is not bound, so that it receives nothing. To close a packet
/// socket still waits for an RCU grace period (`packet_release` in net/packet/af_packet.c), which
/// takes 8 to 16 ms: where that counts, one call for all addresses of a device.
pub(crate) fn send(index: u32, mac: Mac, addresses: &[IpAddr]) -> Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|e| Error::errno("open a packet socket", e.raw_os_error(), None))?;
    for address in addresses {
        let (protocol, frame) = match *address {
            IpAddr::V4(v4) => (ETHERTYPE_ARP, arp_announcement(mac, v4)),
            IpAddr::V6(v6) => (ETHERTYPE_IPV6, neighbour_advertisement(mac, v6)),
        };
        let to = Device { index, protocol };
        rustix::io::retry_on_intr(|| rustix::net::sendto(&socket, &frame, SendFlags::empty(), &to))
            .map_err(|e| Error::errno(format!("announce {address}"), e.raw_os_error(), None))?;
    }
    Ok(())
}

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// An ARP announcement (RFC 5227 section 3): a broadcast request in which sender and target are
/// both `address`. The layout is that of RFC 826.
fn arp_announcement(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    [
        &[0xff; 6][..],               // Ethernet: to everybody
        &mac.0,                       //   from
        &ETHERTYPE_ARP.to_be_bytes(), //   what follows
        &[0, 1],                      // ARP: hardware is Ethernet
        &[0x08, 0x00],                //   protocol is IPv4
        &[6, 4],                      //   lengths of their addresses
        &[0, 1],                      //   a request
        &mac.0,                       //   sender
        &address.octets(),
        &[0; 6], //   target, whose hardware address is not looked at
        &address.octets(),
    ]
    .concat()
}

/// An unsolicited neighbour advertisement (RFC 4861 section 7.2.6) from `address` itself to all
/// nodes of the link, with the override flag, so that it replaces what they believed. The router
/// flag is not set: it is a host that has moved.
fn neighbour_advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = [
        &[136, 0][..],     // ICMPv6 (RFC 4861 section 4.4): neighbour advertisement, code 0
        &[0, 0],           //   checksum, set below
        &[0x20, 0, 0, 0],  //   flags: override
        &address.octets(), //   target
        &[2, 1],           //   option: target link-layer address, one unit of 8 bytes
        &mac.0,
    ]
    .concat();
    let sum = icmpv6_checksum(address, ALL_NODES, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    [
        &[0x33, 0x33, 0, 0, 0, 1][..], // Ethernet: to all nodes (RFC 2464 section 7)
        &mac.0,                        //   from
        &ETHERTYPE_IPV6.to_be_bytes(), //   what follows
        &[0x60, 0, 0, 0],              // IPv6 (RFC 8200 section 3): version 6
        &(message.len() as u16).to_be_bytes(), //   payload length
        &[ICMPV6, 255],                //   next header, hop limit as 4861 demands
        &address.octets(),             //   from
        &ALL_NODES.octets(),           //   to
        &message,
    ]
    .concat()
}

const ICMPV6: u8 = 58;

/// The Internet checksum over the pseudo header and the message (RFC 4443 section 2.3, RFC 8200
/// section 8.1). Over a message that holds its checksum it is 0.
fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = (message.len() as u32).to_be_bytes();
    let parts: [&[u8]; 5] =
        [&source.octets(), &destination.octets(), &length, &[0, 0, 0, ICMPV6], message];
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Where a packet socket sends to: `struct sockaddr_ll` (packet(7)), as far as the kernel reads
/// it when the frame brings its own Ethernet header.
struct Device {
    index: u32,
    protocol: u16,
}

// SAFETY: the closure gets a pointer to a whole, initialised `sockaddr_ll` that lives until it
// returns, together with its size.
unsafe impl SocketAddrArg for Device {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as libc::c_ushort,
            sll_protocol: self.protocol.to_be(),
            sll_ifindex: self.index as libc::c_int,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        f(std::ptr::from_ref(&address).cast(), size_of_val(&address) as SocketAddrLen)
    }
}

#[cfg(test)]
mod tests {
    use testbed::{Namespace, isolated, sh};

    use super::*;

    const MAC: Mac = Mac([0x0a, 0x58, 0x0a, 0x01, 0x00, 0x04]);

    #[test]
    fn an_arp_announcement_is_a_request_for_ones_own_address() {
        let frame = arp_announcement(MAC, Ipv4Addr::new(10, 1, 0, 4));
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0a, 0x58, 0x0a, 0x01, 0x00, 0x04, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
            0x0a, 0x58, 0x0a, 0x01, 0x00, 0x04, 10, 1, 0, 4,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 10, 1, 0, 4,
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn a_neighbour_advertisement_overrides_and_adds_up() {
        let address: Ipv6Addr = "fd00:1::4".parse().unwrap();
        let frame = neighbour_advertisement(MAC, address);
        #[rustfmt::skip]
        let expected = [
            0x33, 0x33, 0x00, 0x00, 0x00, 0x01, 0x0a, 0x58, 0x0a, 0x01, 0x00, 0x04, 0x86, 0xdd,
            0x60, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff,
            0xfd, 0x00, 0x00, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x04,
            0xff, 0x02, 0x00, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x01,
            0x88, 0x00, 0x48, 0x37, 0x20, 0x00, 0x00, 0x00,
            0xfd, 0x00, 0x00, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x04,
            0x02, 0x01, 0x0a, 0x58, 0x0a, 0x01, 0x00, 0x04,
        ];
        assert_eq!(frame, expected);
        let (source, destination) = (&frame[22..38], &frame[38..54]);
        let address = |bytes: &[u8]| Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap());
        assert_eq!(icmpv6_checksum(address(source), address(destination), &frame[54..]), 0);
    }

    /// The example of RFC 1071 section 3, whose words add up to ddf2, in a packet without
    /// addresses.
    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        let message = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        let pseudo = 8 + u16::from(ICMPV6);
        let nobody = Ipv6Addr::UNSPECIFIED;
        assert_eq!(icmpv6_checksum(nobody, nobody, &message), !(0xddf2 + pseudo));
    }

    #[test]
    fn neighbours_believe_an_announcement() {
        isolated!();
        let blue = Namespace::new("blue");
        sh("ip link add left type veth peer name right netns blue; ip link set left up");
        blue.sh("ip addr add 10.1.0.1/24 dev right; ip addr add fd00:1::1/64 dev right nodad
             ip link set right up
             ip neigh add 10.1.0.4 lladdr 02:00:00:00:00:99 dev right nud stale
             ip neigh add fd00:1::4 lladdr 02:00:00:00:00:99 dev right nud stale");
        // The kernel takes no IPv6 packet from a link before it has noticed that it has a carrier.
        blue.sh("until ip link show right | grep -q 'state UP'; do sleep 0.01; done");
        let index = sh("ip -o link show left | cut -d: -f1");
        let addresses = ["10.1.0.4".parse().unwrap(), "fd00:1::4".parse().unwrap()];
        send(index.trim().parse().unwrap(), MAC, &addresses).unwrap();
        for address in addresses {
            let entry = blue.sh(&format!("ip neigh show {address} dev right"));
            assert!(entry.contains("lladdr 0a:58:0a:01:00:04"), "{entry}");
        }
        sh("ip link set left down");
        let error = send(index.trim().parse().unwrap(), MAC, &addresses).unwrap_err();
        assert_eq!(error.to_string(), "announce 10.1.0.4: network is down");
    }
}
