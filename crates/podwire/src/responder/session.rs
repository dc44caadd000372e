//! One asker's session: what it may do here.
//!
//! It may have packets sent from this node and its pods to addresses that are of the cluster, which
//! is held to two things: it has named the address among those that the responders of its session
//! told it of, and the address is in one of the networks of this responder's own configuration.
//!
//! Nothing is sent to ports below 1024, but to the resolvers that a pod of this node is told, and to
//! ports of nodes that lead to pods, which it has named as well: they get a connection without a
//! word, or a datagram that asks who sees it. A port that others may come to is opened only in a pod,
//! where the runtime of this node has had a port of the node lead to it; a program that listens there
//! keeps it. So many at a time are bounded, and the time.

use std::collections::{BTreeSet, HashSet};
use std::convert::identity;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use diagnosis::verify::{Outcome, Protocol};
use ipnet::IpNet;
use kernel::Netns;
use probe::{Limits, Place, Query, Station};
use topology::Machine;

use super::protocol::{self, FrameError, PROTOCOLS, Reply, Request, WORKING};
use crate::look;
use crate::verify::{AT_ONCE, Callee, Here, HostCall, Listen, PodPort, Traces, among, make};

/// How many addresses there may be.
const MOST_ADDRESSES: usize = 8_192;
/// How many questions may be asked in one go.
const MOST_QUERIES: usize = 200_000;
/// How long one may wait for its answer.
const MOST_PATIENCE: Duration = Duration::from_secs(10);
/// How long a call may, while which nothing is said.
const MOST_CALL: Duration = Duration::from_secs(3);
/// How long all of them may take.
const MOST_TIME: Duration = Duration::from_secs(300);

/// What has been opened for an asker.
pub(super) struct Session<'a> {
    networks: &'a [IpNet],
    /// The node and its pods.
    machine: Option<Machine>,
    announced: HashSet<IpAddr>,
    /// Those of nodes that lead to pods.
    ports: BTreeSet<(SocketAddr, Protocol)>,
    places: Vec<(IpAddr, Netns)>,
    station: Option<Station>,
    /// Closed first, and forgotten then.
    listen: Option<(Listen, Traces)>,
}

impl<'a> Session<'a> {
    pub(super) fn new(networks: &'a [IpNet]) -> Self {
        Self {
            networks,
            machine: None,
            announced: HashSet::new(),
            ports: BTreeSet::new(),
            places: Vec::new(),
            station: None,
            listen: None,
        }
    }

    /// Serves an asker until it leaves or is silent for too long.
    pub(super) fn serve(mut self, talk: &mut (impl Read + Write)) -> Result<(), FrameError> {
        loop {
            let request = match protocol::receive(talk) {
                Ok(request) => request,
                Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(());
                }
                Err(FrameError::Io(error)) => return Err(error.into()),
                Err(error) => {
                    // It is told why, in words that every version understands.
                    protocol::send(talk, &Reply::Refused(error.to_string()))?;
                    return Err(error);
                }
            };
            let reply = self.answer(request, talk).unwrap_or_else(Reply::Refused);
            protocol::send(talk, &reply)?;
        }
    }

    fn answer(&mut self, request: Request, talk: &mut impl Write) -> Result<Reply, String> {
        match request {
            Request::Look => {
                let own = Netns::current().and_then(|own| own.id()).map_err(|e| e.to_string())?;
                let machine = look::machine().map_err(|error| error.to_string())?.of_node(own);
                self.machine = Some(machine.clone());
                Ok(Reply::Machine(Box::new(machine)))
            }
            Request::Announce { addresses, ports } => {
                if addresses.len().max(ports.len()) > MOST_ADDRESSES {
                    return Err(format!("more than {MOST_ADDRESSES} addresses"));
                }
                if let Some(address) = addresses.iter().find(|it| !self.is_ours(**it)) {
                    return Err(format!("{address} is in none of the networks of this responder"));
                }
                self.announced = addresses.into_iter().collect();
                self.ports = ports;
                Ok(Reply::Announced)
            }
            Request::Keep => Ok(Reply::Kept),
            Request::Open(addresses) => self.open(addresses),
            Request::Ask { queries, limits } => self.ask(&queries, limits, talk),
            Request::Listen { ports, patience } => self.listen(&ports, patience),
            Request::Heard => {
                let (listen, _traces) = self.listen.take().ok_or("no port is open")?;
                Ok(Reply::Heard(listen.heard()))
            }
            Request::Call { calls, patience } => self.call(&calls, patience, talk),
            Request::Seen => {
                let station = self.station.as_ref().ok_or("no place is open")?;
                Ok(Reply::Seen(station.seen().into_iter().collect()))
            }
        }
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    fn open(&mut self, addresses: Vec<IpAddr>) -> Result<Reply, String> {
        if addresses.len() > MOST_ADDRESSES {
            return Err(format!("more than {MOST_ADDRESSES} addresses"));
        }
        let machine = self.machine.as_ref().ok_or("look first")?;
        let mut spaces = Vec::new();
        for address in &addresses {
            let holder = machine.namespaces.iter().find(|namespace| {
                namespace.dump.addresses.iter().any(|it| it.address.addr() == *address)
            });
            let path = holder.and_then(|it| it.paths.first());
            let is_here = || Netns::current().and_then(|it| it.id()).ok();
            let netns = match path {
                _ if holder.is_some_and(|it| Some(it.id) == is_here()) => Netns::current(),
                Some(path) => Netns::open(path),
                None => return Err(format!("{address} is of nobody on this node")),
            };
            spaces.push(netns.map_err(|error| error.to_string())?);
        }
        // Those of an earlier time are closed first.
        (self.station, self.listen) = (None, None);
        self.places = addresses.into_iter().zip(spaces).collect();
        let places = self.places.iter();
        let places: Vec<Place<'_>> =
            places.map(|(address, netns)| Place { netns, address: *address }).collect();
        let station = Station::open(&places, &PROTOCOLS).map_err(|error| error.to_string())?;
        let ends = (0..places.len()).map(|place| station.ends(place)).collect();
        self.station = Some(station);
        Ok(Reply::Opened(ends))
    }

    fn place(&self, address: IpAddr) -> Result<Place<'_>, String> {
        let found = self.places.iter().find(|(it, _)| *it == address);
        let (address, netns) =
            found.ok_or_else(|| format!("{address} is no place that is open"))?;
        Ok(Place { netns, address: *address })
    }

    fn ask(
        &mut self,
        queries: &[Query],
        limits: Limits,
        talk: &mut impl Write,
    ) -> Result<Reply, String> {
        if queries.len() > MOST_QUERIES {
            return Err(format!("more than {MOST_QUERIES} questions"));
        }
        for query in queries {
            let to = query.to.ip();
            let is_place = || self.places.iter().any(|(address, _)| *address == to);
            let is_known = self.announced.contains(&to) || is_place();
            if !is_known || !self.is_ours(to) {
                return Err(format!("{to} is no address that a responder has told of"));
            }
            let (from, _) = self.places.get(query.from).ok_or("a place that is not open")?;
            if from.is_ipv4() != to.is_ipv4() {
                return Err(format!("{from} and {to} are of two families"));
            }
            if query.protocol != probe::Protocol::Icmp && query.to.port() < 1024 {
                return Err(format!("port {} is not one of ours", query.to.port()));
            }
        }
        let station = self.station.as_mut().ok_or("no place is open")?;
        let limits = Limits { patience: limits.patience.min(MOST_PATIENCE), ..limits };
        let mut go_on = working(talk);
        Ok(Reply::Asked(station.ask(queries, limits, &mut |_| go_on())))
    }

    fn listen(&mut self, ports: &[PodPort], patience: Duration) -> Result<Reply, String> {
        if ports.len() > AT_ONCE {
            return Err(format!("more than {AT_ONCE} ports at a time"));
        }
        let here = Here::of(self.machine.as_ref().ok_or("look first")?);
        // Those of an earlier time are closed first.
        self.listen = None;
        let mut places = Vec::new();
        for port in ports {
            if !here.leads_to(port.at, port.protocol) {
                return Err(format!("no port of this node leads to {}", port.at));
            }
            places.push((self.place(port.at.ip())?, *port));
        }
        let ways: Vec<_> = places.iter().map(|(place, port)| (*place, port.caller)).collect();
        let node = Netns::current().map_err(|error| error.to_string())?;
        let traces = Traces::before(&ways, [&node]);
        let listen = Listen::open(places.into_iter().map(Ok).collect(), patience.min(MOST_CALL));
        let opened = listen.opened().to_vec();
        self.listen = Some((listen, traces));
        Ok(Reply::Listening(opened))
    }

    fn call(
        &self,
        calls: &[HostCall],
        patience: Duration,
        talk: &mut impl Write,
    ) -> Result<Reply, String> {
        if calls.len() > MOST_QUERIES {
            return Err(format!("more than {MOST_QUERIES} questions"));
        }
        let here = Here::of(self.machine.as_ref().ok_or("look first")?);
        let mut wanted = Vec::new();
        for call in calls {
            let HostCall { from, to, protocol, callee } = *call;
            let unknown = |why: &str| Err(Outcome::Unknown(why.to_owned()));
            wanted.push(match callee {
                Callee::Port { .. } if !self.ports.contains(&(to, protocol)) => {
                    return Err(format!("{to} is no port that a responder has told of"));
                }
                _ if from.is_ipv4() != to.is_ipv4() => {
                    return Err(format!("{from} and {to} are of two families"));
                }
                _ if !self.is_ours(to.ip()) => {
                    let why = "is in none of the networks of the responder";
                    unknown(&format!("{} {why}", to.ip()))
                }
                Callee::Resolver if !here.resolves(from, to) => {
                    unknown("its node knows of no such resolver for it")
                }
                _ => Ok((self.place(from)?, *call)),
            });
        }
        let ways = wanted.iter().flatten().map(|(place, call)| (*place, call.to.ip()));
        let node = Netns::current().map_err(|error| error.to_string())?;
        let _traces = Traces::before(&ways.collect::<Vec<_>>(), [&node]);
        let patience = patience.min(MOST_CALL);
        Ok(Reply::Called(among(wanted, identity, |calls| {
            make(calls, patience, &mut working(talk))
        })))
    }
}

/// Tells an asker now and then that something is worked on; whether to go on with it.
fn working(talk: &mut impl Write) -> impl FnMut() -> bool {
    let (start, mut told) = (Instant::now(), Instant::now());
    let mut is_gone = false;
    move || {
        if told.elapsed() >= WORKING {
            told = Instant::now();
            is_gone = protocol::send(talk, &Reply::Working).is_err();
        }
        !is_gone && start.elapsed() < MOST_TIME
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use probe::Shape;

    use super::*;

    const OWN: &str = "10.1.0.2";
    const OTHER: &str = "10.1.1.2";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn announce(addresses: &[&str], ports: &[&str]) -> Request {
        let port = |port: &&str| (port.parse().unwrap(), Protocol::Tcp);
        let addresses = addresses.iter().map(|address| ip(address)).collect();
        Request::Announce { addresses, ports: ports.iter().map(port).collect() }
    }

    /// Whether a question to this address is refused, and why; asked by a session that has named
    /// one other's address.
    fn refusal(to: &str, port: u16, protocol: probe::Protocol) -> Option<String> {
        let networks = ["10.1.0.0/16".parse().unwrap()];
        let mut session = Session::new(&networks);
        let mut nowhere = Vec::new();
        session.answer(announce(&[OTHER], &[]), &mut nowhere).unwrap();
        session.places = vec![(ip(OWN), Netns::current().unwrap())];
        let to = SocketAddr::new(ip(to), port);
        let query = Query { from: 0, to, protocol, shape: Shape::default(), token: 1 };
        session.ask(&[query], Limits::default(), &mut nowhere).err()
    }

    #[test]
    fn packets_go_to_addresses_of_the_cluster_only() {
        use probe::Protocol;
        // What is allowed fails later: nothing is open here.
        let allowed = Some("no place is open".to_owned());
        assert_eq!(refusal(OTHER, 40_000, Protocol::Udp), allowed);
        assert_eq!(refusal(OWN, 40_000, Protocol::Tcp), allowed);
        assert_eq!(refusal(OTHER, 0, Protocol::Icmp), allowed);
        let unknown = |it: &str| Some(format!("{it} is no address that a responder has told of"));
        assert_eq!(refusal("10.1.1.3", 40_000, Protocol::Udp), unknown("10.1.1.3"));
        assert_eq!(refusal("192.0.2.1", 40_000, Protocol::Udp), unknown("192.0.2.1"));
        let port = Some("port 53 is not one of ours".to_owned());
        assert_eq!(refusal(OTHER, 53, Protocol::Udp), port);
    }

    #[test]
    fn nobody_announces_addresses_beyond_the_configured_networks() {
        let networks = ["10.1.0.0/16".parse().unwrap()];
        let mut session = Session::new(&networks);
        let announce = announce(&[OTHER, "192.0.2.1"], &[]);
        let why = session.answer(announce, &mut Vec::new()).unwrap_err();
        assert_eq!(why, "192.0.2.1 is in none of the networks of this responder");
    }

    #[test]
    fn only_places_of_this_node_are_opened() {
        let networks = ["10.1.0.0/16".parse().unwrap()];
        let mut session = Session::new(&networks);
        session.machine = Some(Machine::default());
        let why = session.open(vec![ip(OWN)]).unwrap_err();
        assert_eq!(why, "10.1.0.2 is of nobody on this node");
    }

    #[test]
    fn calls_go_to_ports_that_were_told_of_and_resolvers_that_the_node_knows() {
        let networks = ["192.0.2.0/24".parse().unwrap()];
        let mut session = Session::new(&networks);
        session.machine = Some(Machine::default());
        let ports = ["192.0.2.1:80", "198.51.100.1:80"];
        session.answer(announce(&[], &ports), &mut Vec::new()).unwrap();
        let call = |to: &str, callee| {
            let to = to.parse().unwrap();
            let call = HostCall { from: ip(OWN), to, protocol: Protocol::Tcp, callee };
            session.call(&[call], Duration::ZERO, &mut Vec::new())
        };
        let port = Callee::Port { heard: true };
        // What is allowed fails later: nothing is open here.
        let not_open = "10.1.0.2 is no place that is open";
        assert_eq!(call("192.0.2.1:80", port).unwrap_err(), not_open);
        let why = "192.0.2.1:22 is no port that a responder has told of";
        assert_eq!(call("192.0.2.1:22", port).unwrap_err(), why);
        for (to, callee, why) in [
            ("198.51.100.1:80", port, "198.51.100.1 is in none of the networks of the responder"),
            ("192.0.2.1:53", Callee::Resolver, "its node knows of no such resolver for it"),
        ] {
            let Ok(Reply::Called(outcomes)) = call(to, callee) else { panic!("{to}") };
            assert_eq!(outcomes, [Outcome::Unknown(why.to_owned())]);
        }
    }

    #[test]
    fn only_ports_that_the_node_leads_to_its_pods_are_opened() {
        let networks = ["10.1.0.0/16".parse().unwrap()];
        let mut session = Session::new(&networks);
        session.machine = Some(Machine::default());
        session.places = vec![(ip(OWN), Netns::current().unwrap())];
        let at = SocketAddr::new(ip(OWN), 80);
        let port = PodPort { at, protocol: Protocol::Tcp, caller: ip(OTHER) };
        let why = session.listen(&[port], Duration::ZERO).unwrap_err();
        assert_eq!(why, "no port of this node leads to 10.1.0.2:80");
        let why = session.listen(&[port; AT_ONCE + 1], Duration::ZERO).unwrap_err();
        assert_eq!(why, "more than 32 ports at a time");
    }
}
