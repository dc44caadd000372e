//! The asker's end of a session: what a [`probe::Station`] does, on another machine.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use diagnosis::verify::{Outcome, Protocol};
use probe::{Ends, Limits, Query, Sight};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use topology::Machine;

use super::protocol::{self, FrameError, Reply, Request, SILENCE};
use crate::verify::{Heard, HostCall, Opened, PodPort};

/// Why a responder is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No connection.
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    /// One of both does not trust the other.
    #[error("it is not trusted, or does not trust us: {0}")]
    Distrust(rustls::Error),
    /// Its certificate has no such name.
    #[error("{0} is no name that a certificate can have")]
    Name(String),
    /// Nothing came for too long.
    #[error("it does not answer for {} s", SILENCE.as_secs())]
    Silent,
    /// The connection ended in the middle.
    #[error("the connection broke: {0}")]
    Cut(io::Error),
    /// It speaks another version, or something else.
    #[error(transparent)]
    Frame(FrameError),
    /// Whoever asks wanted no more.
    #[error("asked to stop")]
    Stopped,
    /// It does not want to.
    #[error("it refuses: {0}")]
    Refused(String),
}

/// A session with the responder of a node.
#[derive(Debug)]
pub(crate) struct Client {
    talk: StreamOwned<ClientConnection, TcpStream>,
}

impl Client {
    /// Begins a session with the responder at `address`, whose certificate has to have this name.
    pub(crate) fn open(
        name: &str,
        address: SocketAddr,
        config: Arc<ClientConfig>,
    ) -> Result<Self, ClientError> {
        let wanted = ServerName::try_from(name.to_owned())
            .map_err(|_| ClientError::Name(name.to_owned()))?;
        let stream =
            TcpStream::connect_timeout(&address, SILENCE).map_err(ClientError::Unreachable)?;
        stream
            .set_read_timeout(Some(SILENCE))
            .and_then(|()| stream.set_write_timeout(Some(SILENCE)))
            .and_then(|()| stream.set_nodelay(true))
            .map_err(ClientError::Unreachable)?;
        let connection = ClientConnection::new(config, wanted).map_err(ClientError::Distrust)?;
        let mut talk = StreamOwned::new(connection, stream);
        while talk.conn.is_handshaking() {
            talk.conn.complete_io(&mut talk.sock).map_err(failed)?;
        }
        Ok(Self { talk })
    }

    /// The node and its pods.
    pub(crate) fn look(&mut self) -> Result<Machine, ClientError> {
        match self.call(&Request::Look, &|| true)? {
            Reply::Machine(machine) => Ok(*machine),
            other => Err(strange(&other)),
        }
    }

    /// Tells which addresses the other responders have told of, and which ports all of them.
    pub(crate) fn announce(
        &mut self,
        addresses: Vec<IpAddr>,
        ports: BTreeSet<(SocketAddr, Protocol)>,
    ) -> Result<(), ClientError> {
        match self.call(&Request::Announce { addresses, ports }, &|| true)? {
            Reply::Announced => Ok(()),
            other => Err(strange(&other)),
        }
    }

    /// Opens places, and returns their ports.
    pub(crate) fn open_places(
        &mut self,
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<Result<Ends, probe::Failure>>, ClientError> {
        match self.call(&Request::Open(addresses), &|| true)? {
            Reply::Opened(ends) => Ok(ends),
            other => Err(strange(&other)),
        }
    }

    /// Asks from the places.
    pub(crate) fn ask(
        &mut self,
        queries: Vec<Query>,
        limits: Limits,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Result<probe::Reply, probe::Failure>>, ClientError> {
        match self.call(&Request::Ask { queries, limits }, go_on)? {
            Reply::Asked(replies) => Ok(replies),
            other => Err(strange(&other)),
        }
    }

    /// Listens at ports of its pods, for calls that wait so long for their answers.
    pub(crate) fn listen(
        &mut self,
        ports: Vec<PodPort>,
        patience: Duration,
    ) -> Result<Vec<Opened>, ClientError> {
        match self.call(&Request::Listen { ports, patience }, &|| true)? {
            Reply::Listening(opened) => Ok(opened),
            other => Err(strange(&other)),
        }
    }

    /// Who was heard at these ports, which it closes.
    pub(crate) fn heard(&mut self) -> Result<Vec<Heard>, ClientError> {
        match self.call(&Request::Heard, &|| true)? {
            Reply::Heard(heard) => Ok(heard),
            other => Err(strange(&other)),
        }
    }

    /// Has pods and the node ask what is no end of a responder.
    pub(crate) fn make_calls(
        &mut self,
        calls: Vec<HostCall>,
        patience: Duration,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Outcome>, ClientError> {
        match self.call(&Request::Call { calls, patience }, go_on)? {
            Reply::Called(outcomes) => Ok(outcomes),
            other => Err(strange(&other)),
        }
    }

    /// Says that it is still wanted.
    pub(crate) fn keep(&mut self) -> Result<(), ClientError> {
        match self.call(&Request::Keep, &|| true)? {
            Reply::Kept => Ok(()),
            other => Err(strange(&other)),
        }
    }

    /// How questions arrived at the places, by token.
    pub(crate) fn seen(&mut self) -> Result<HashMap<u64, Sight>, ClientError> {
        match self.call(&Request::Seen, &|| true)? {
            Reply::Seen(seen) => Ok(seen.into_iter().collect()),
            other => Err(strange(&other)),
        }
    }

    /// Waits for the reply, or until `go_on` wants no more of it.
    fn call(&mut self, request: &Request, go_on: &dyn Fn() -> bool) -> Result<Reply, ClientError> {
        protocol::send(&mut self.talk, request).map_err(|error| self.parted(error))?;
        loop {
            match protocol::receive(&mut self.talk) {
                Ok(Reply::Working) if go_on() => {}
                Ok(Reply::Working) => return Err(ClientError::Stopped),
                Ok(Reply::Refused(why)) => return Err(ClientError::Refused(why)),
                Ok(reply) => return Ok(reply),
                Err(FrameError::Io(error)) => return Err(self.parted(error)),
                Err(error) => return Err(ClientError::Frame(error)),
            }
        }
    }

    /// Why the other end has left, if it has said so: who does not trust us leaves while we are still
    /// writing, and its alert lies there unread.
    fn parted(&mut self, error: io::Error) -> ClientError {
        let StreamOwned { conn, sock } = &mut self.talk;
        let has_left = !is_silence(&error);
        while has_left && conn.read_tls(sock).is_ok_and(|count| count > 0) {
            if let Err(alert) = conn.process_new_packets() {
                return ClientError::Distrust(alert);
            }
        }
        failed(error)
    }
}

fn strange(reply: &Reply) -> ClientError {
    let mut text = format!("{reply:?}");
    text.truncate(text.floor_char_boundary(60));
    ClientError::Frame(FrameError::Strange(format!("{text} is no answer to what was asked")))
}

/// What an error of the connection means. That of TLS is inside of it.
fn failed(error: io::Error) -> ClientError {
    if is_silence(&error) {
        return ClientError::Silent;
    }
    match error.downcast::<rustls::Error>() {
        Ok(error) => ClientError::Distrust(error),
        Err(error) => ClientError::Cut(error),
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
