//! Real packets: who answers, and whom the one who answers sees.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kernel::Netns;
pub(crate) use probe::Place;
use probe::{Answer, Failure, Limits, Pair, Shape};
use testbed::Namespace;

use crate::node::{Node, space};

/// How long an answer may take that has to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// After this time without an answer it is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long to wait for an answer that must not come: others take microseconds.
const SILENCE: Duration = Duration::from_millis(150);

/// What a packet is carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Answers everybody, by TCP and by UDP, with its own name and the address that it sees; by UDP
/// behind the question, so that answers can be told apart.
#[derive(Debug)]
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Server {
    /// Starts one at a port of all addresses of a namespace.
    pub(crate) fn start(name: &str, inside: &Namespace, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let any = SocketAddr::from(([0_u16; 8], port));
        let open = || (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
        let (tcp, udp) = inside.netns().enter(open).unwrap();
        tcp.set_nonblocking(true).unwrap();
        udp.set_read_timeout(Some(TICK)).unwrap();
        let greeting = move |name: &str, peer: SocketAddr| {
            format!("{name} {}", peer.ip().to_canonical()).into_bytes()
        };
        let (own, ended) = (name.to_owned(), Arc::clone(&stop));
        let by_tcp = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                match tcp.accept() {
                    // Somebody who has gone again needs no answer.
                    Ok((mut stream, peer)) => drop(stream.write_all(&greeting(&own, peer))),
                    Err(_) => thread::sleep(TICK),
                }
            }
        });
        let (own, ended) = (name.to_owned(), Arc::clone(&stop));
        let by_udp = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let mut question = [0; 4];
                if let Ok((length, peer)) = udp.recv_from(&mut question) {
                    let answer = [&question[..length], &greeting(&own, peer)].concat();
                    let _ = udp.send_to(&answer, peer);
                }
            }
        });
        Self { stop, threads: vec![by_tcp, by_udp] }
    }
}

/// How often a server looks whether it should end.
const TICK: Duration = Duration::from_millis(2);

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Who answers at `to`, and whom it sees, as `name address`; `None` if nobody does.
pub(crate) fn answer(from: &Namespace, protocol: Protocol, to: SocketAddr) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match once(from.netns(), protocol, to, AGAIN) {
            Some(told) => return Some(told),
            None => thread::sleep(TICK),
        }
    }
    None
}

/// Whether nobody answers at `to`.
pub(crate) fn is_silent(from: &Namespace, protocol: Protocol, to: SocketAddr) -> bool {
    once(from.netns(), protocol, to, SILENCE).is_none()
}

fn once(from: &Netns, protocol: Protocol, to: SocketAddr, limit: Duration) -> Option<String> {
    match protocol {
        Protocol::Tcp => {
            let stream = from.enter(|| TcpStream::connect_timeout(&to, limit)).unwrap();
            let mut stream = stream.ok()?;
            stream.set_read_timeout(Some(limit)).unwrap();
            let mut told = String::new();
            stream.read_to_string(&mut told).ok()?;
            Some(told)
        }
        Protocol::Udp => Client::new(from, to).ask(limit),
    }
}

/// Somebody who keeps the port that they ask from, so that their questions are one flow.
pub(crate) struct Client {
    socket: UdpSocket,
    /// How many questions were asked.
    asked: Cell<u32>,
}

impl Client {
    pub(crate) fn new(from: &Netns, to: SocketAddr) -> Self {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = from.enter(|| UdpSocket::bind(any).unwrap()).unwrap();
        // Answers of others than who was asked are not taken. Without a route there is no answer.
        let _ = from.enter(|| socket.connect(to)).unwrap();
        Self { socket, asked: Cell::new(0) }
    }

    /// The answer to one question. Those to earlier ones may still come, and are passed over.
    pub(crate) fn ask(&self, limit: Duration) -> Option<String> {
        self.asked.set(self.asked.get() + 1);
        let question = self.asked.get().to_be_bytes();
        self.socket.send(&question).ok()?;
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            self.socket.set_read_timeout(Some(left.max(TICK))).unwrap();
            let mut told = [0; 64];
            match self.socket.recv(&mut told) {
                Ok(length) => {
                    if let Some(answer) = told[..length].strip_prefix(&question) {
                        return Some(String::from_utf8(answer.to_vec()).unwrap());
                    }
                }
                Err(error) => {
                    let no_answer = [
                        ErrorKind::WouldBlock,
                        ErrorKind::TimedOut,
                        ErrorKind::ConnectionRefused,
                        ErrorKind::HostUnreachable,
                        ErrorKind::NetworkUnreachable,
                    ];
                    assert!(no_answer.contains(&error.kind()), "{error}");
                    return None;
                }
            }
        }
    }

    /// As [`Client::ask`], until there is an answer.
    pub(crate) fn insist(&self) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(told) = self.ask(AGAIN) {
                return Some(told);
            }
        }
        None
    }
}

/// An address in a namespace.
pub(crate) fn place(namespace: &Namespace, address: IpAddr) -> Place<'_> {
    Place { netns: namespace.netns(), address }
}

/// Sends a packet between each pair and back; every one has to arrive, with its own source.
#[track_caller]
pub(crate) fn assert_reach(pairs: &[(Place<'_>, Place<'_>)]) {
    assert_reach_within(PATIENCE, pairs);
}

/// The same with an answer within this time.
#[track_caller]
pub(crate) fn assert_reach_within(patience: Duration, pairs: &[(Place<'_>, Place<'_>)]) {
    let asked: Vec<_> = pairs.iter().map(|&(from, to)| Pair { from, to }).collect();
    let answers = exchange(&asked, Shape::default(), patience);
    for (answer, (from, to)) in answers.into_iter().zip(pairs) {
        if let Err(failure) = answer {
            panic!("{} does not reach {}: {failure}", from.address, to.address);
        }
    }
}

/// Sends a packet of this size, whole, and gives what came of it.
pub(crate) fn whole(from: Place<'_>, to: Place<'_>, bytes: usize) -> Result<Answer, Failure> {
    let shape = Shape { bytes, dont_fragment: true };
    exchange(&[Pair { from, to }], shape, PATIENCE).remove(0)
}

/// Asks until every end is ready: an address of IPv6 may be tentative until the kernel has told of
/// its link's carrier.
fn exchange(pairs: &[Pair<'_>], shape: Shape, patience: Duration) -> Vec<Result<Answer, Failure>> {
    let limits = Limits { patience, again: AGAIN, ..Limits::default() };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seed = u64::from_ne_bytes(kernel::random());
        let answers = probe::exchange(pairs, shape, limits, seed);
        let is_ready = |answer| !matches!(answer, &Err(Failure::Unusable { .. }));
        if answers.iter().all(is_ready) || Instant::now() >= deadline {
            return answers;
        }
        thread::sleep(TICK);
    }
}

/// The world beyond the node: a host that knows the node but no pod network, so that only answers
/// to the node's own addresses find back by themselves.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) namespace: Namespace,
}

impl World {
    /// The node's addresses in the world's network.
    pub(crate) const NODE: [&str; 2] = ["192.0.2.1", "2001:db8:99::1"];
    /// The world's own.
    pub(crate) const OWN: [&str; 2] = ["192.0.2.9", "2001:db8:99::9"];
    /// Further addresses of the node, which the world also knows.
    pub(crate) const OTHER: [&str; 2] = ["198.51.100.1", "2001:db8:98::1"];

    /// Joins a world to a node by a cable.
    pub(crate) fn new(node: &Node) -> Self {
        let namespace = space("world");
        // The kernel takes ends of a cable that have the same index for one link, and tells of its
        // carrier up to a second late; until then nobody is found by IPv6.
        node.namespace.sh("ip link add up0 index 100 type veth peer name down0 netns world
             ip address add 192.0.2.1/24 dev up0; ip address add 2001:db8:99::1/64 dev up0 nodad
             ip address add 198.51.100.1/32 dev lo; ip address add 2001:db8:98::1/128 dev lo nodad
             ip link set up0 up");
        namespace.sh(
            "ip address add 192.0.2.9/24 dev down0; ip address add 2001:db8:99::9/64 dev down0 nodad
             ip link set down0 up
             ip route add 198.51.100.1 via 192.0.2.1
             ip route add 2001:db8:98::1 via 2001:db8:99::1",
        );
        Self { namespace }
    }
}
