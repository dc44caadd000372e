//! Packets from one network to another, and who gets them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use kernel::Netns;
use testbed::look::eventually;

use crate::{Machine, NODE, Port};

/// A port that pods publish in many scenarios, for the web server that they all have.
pub const WEB: Port = Port { address: None, host: 18080, pod: 80, is_udp: false };
/// Another one, for UDP.
pub const NAMES: Port = Port { address: None, host: 15353, pod: 5353, is_udp: true };

/// How long one attempt may take; what is lost while a link comes up is sent again.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a web server says, asked once from a network.
pub fn get(from: &Netns, server: SocketAddr) -> io::Result<String> {
    from.enter(|| {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut told = String::new();
        stream.read_to_string(&mut told)?;
        let (_, body) = told.split_once("\r\n\r\n").unwrap_or_default();
        Ok(body.trim().to_owned())
    })
    .unwrap()
}

/// What a web server says, as soon as it can be reached.
pub fn page(from: &Netns, server: SocketAddr) -> String {
    let what = format!("{server} answers");
    eventually(&what, || get(from, server).ok())
}

/// The address that a datagram comes from for the one who gets it: sent from one network to
/// `target`, arriving at `port` of another. The answer has to come from `target`.
pub fn seen(from: &Netns, target: SocketAddr, to: &Netns, port: u16) -> IpAddr {
    let what = format!("a datagram to {target} is answered");
    eventually(&what, || exchange(from, target, to, port).ok())
}

fn exchange(from: &Netns, target: SocketAddr, to: &Netns, port: u16) -> io::Result<IpAddr> {
    // A socket stays in the network that it was made in. Each attempt is a connection of its own to
    // those who track connections.
    let any = |port| SocketAddr::new(unspecified(target.ip()), port);
    let socket = |netns: &Netns, port| -> io::Result<UdpSocket> {
        let socket = netns.enter(|| UdpSocket::bind(any(port))).unwrap()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let (sender, receiver) = (socket(from, 0)?, socket(to, port)?);
    sender.connect(target)?;
    sender.send(b"who am I?")?;
    let (_, source) = receiver.recv_from(&mut [0; 16])?;
    receiver.send_to(b"you", source)?;
    sender.recv(&mut [0; 16])?;
    Ok(source.ip())
}

/// The addresses in what `ip -o address show` prints.
pub fn addresses(told: &str) -> Vec<IpAddr> {
    let address = |line: &str| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok();
    told.lines().filter_map(address).collect()
}

/// Asserts that the node publishes [`WEB`] and [`NAMES`] of a pod, whose web server tells `name`: to
/// the world outside, to the node itself by its own address and by the loopback's, to another pod and
/// to the pod itself.
#[track_caller]
pub fn assert_published(machine: &Machine, name: &str, pod: &Netns, other: &Netns) {
    let node = machine.node().netns();
    let everybody = [machine.outside(), node, other, pod];
    let ways = NODE.into_iter().flat_map(|address| everybody.map(|from| (from, address)));
    for (from, address) in ways.chain([(node, Ipv4Addr::LOCALHOST.into())]) {
        let what = format!("{address} from {}", from.path().display());
        assert_eq!(page(from, SocketAddr::new(address, WEB.host)), name, "{what}");
        seen(from, SocketAddr::new(address, NAMES.host), pod, NAMES.pod);
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
