//! One asker's session: what it may do here.
//!
//! It may have packets sent from this node and its pods to addresses that are of the cluster, which
//! is held to two things: it has named the address among those that the responders of its session
//! told it of, and the address is in one of the networks of this responder's own configuration.
//! Sockets that others wait at are never opened, and nothing is sent to ports below 1024.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use diagnosis::verify::Outcome;
use ipnet::IpNet;
use kernel::Netns;
use probe::{Limits, Place, Protocol, Query, Station};
use topology::Machine;

use super::protocol::{self, FrameError, PROTOCOLS, Reply, Request, WORKING};
use crate::look;
use crate::verify::{Here, PodCall};

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
    places: Vec<IpAddr>,
    station: Option<Station>,
}

impl<'a> Session<'a> {
    pub(super) fn new(networks: &'a [IpNet]) -> Self {
        let (machine, station) = (None, None);
        Self { networks, machine, announced: HashSet::new(), places: Vec::new(), station }
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
            Request::Announce(addresses) => {
                if addresses.len() > MOST_ADDRESSES {
                    return Err(format!("more than {MOST_ADDRESSES} addresses"));
                }
                if let Some(address) = addresses.iter().find(|it| !self.is_ours(**it)) {
                    return Err(format!("{address} is in none of the networks of this responder"));
                }
                self.announced = addresses.into_iter().collect();
                Ok(Reply::Announced)
            }
            Request::Keep => Ok(Reply::Kept),
            Request::Open(addresses) => self.open(addresses),
            Request::Ask { queries, limits } => self.ask(&queries, limits, talk),
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
        let place = |(netns, address)| Place { netns, address };
        let places: Vec<Place<'_>> =
            spaces.iter().zip(addresses.iter().copied()).map(place).collect();
        // Those of an earlier time are closed first.
        self.station = None;
        let station = Station::open(&places, &PROTOCOLS).map_err(|error| error.to_string())?;
        let ends = (0..places.len()).map(|place| station.ends(place)).collect();
        self.places = addresses;
        self.station = Some(station);
        Ok(Reply::Opened(ends))
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
            let is_known = self.announced.contains(&to) || self.places.contains(&to);
            if !is_known || !self.is_ours(to) {
                return Err(format!("{to} is no address that a responder has told of"));
            }
            let from = self.places.get(query.from).ok_or("a place that is not open")?;
            if from.is_ipv4() != to.is_ipv4() {
                return Err(format!("{from} and {to} are of two families"));
            }
            if query.protocol != Protocol::Icmp && query.to.port() < 1024 {
                return Err(format!("port {} is not one of ours", query.to.port()));
            }
        }
        let station = self.station.as_mut().ok_or("no place is open")?;
        let limits = Limits { patience: limits.patience.min(MOST_PATIENCE), ..limits };
        let mut go_on = working(talk);
        Ok(Reply::Asked(station.ask(queries, limits, &mut |_| go_on())))
    }

    fn call(
        &self,
        calls: &[PodCall],
        patience: Duration,
        talk: &mut impl Write,
    ) -> Result<Reply, String> {
        if calls.len() > MOST_QUERIES {
            return Err(format!("more than {MOST_QUERIES} questions"));
        }
        let machine = self.machine.as_ref().ok_or("look first")?;
        let near: Vec<_> = calls.iter().copied().filter(|it| self.is_ours(it.to.ip())).collect();
        let patience = patience.min(MOST_CALL);
        let mut told = Here::of(machine).call(&near, patience, &mut working(talk)).into_iter();
        let outcome = |call: &PodCall| {
            let to = call.to.ip();
            let why = "is in none of the networks of the responder";
            let strange = || Outcome::Unknown(format!("{to} {why}"));
            self.is_ours(to).then(|| told.next()).flatten().unwrap_or_else(strange)
        };
        Ok(Reply::Called(calls.iter().map(outcome).collect()))
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

    /// Whether a question to this address is refused, and why; asked by a session that has named
    /// one other's address.
    fn refusal(to: &str, port: u16, protocol: Protocol) -> Option<String> {
        let networks = ["10.1.0.0/16".parse().unwrap()];
        let mut session = Session::new(&networks);
        let mut nowhere = Vec::new();
        let announce = Request::Announce(vec![ip(OTHER)]);
        session.answer(announce, &mut nowhere).unwrap();
        session.places = vec![ip(OWN)];
        let to = SocketAddr::new(ip(to), port);
        let query = Query { from: 0, to, protocol, shape: Shape::default(), token: 1 };
        session.ask(&[query], Limits::default(), &mut nowhere).err()
    }

    #[test]
    fn packets_go_to_addresses_of_the_cluster_only() {
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
        let announce = Request::Announce(vec![ip(OTHER), ip("192.0.2.1")]);
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
}
