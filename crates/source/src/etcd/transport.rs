//! Connections to etcd whose far end is missed when it goes without a word: a firewall forgets the
//! connection, or a machine dies. Nothing would ever be sent on one that only listens.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, sockopt};
use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector, Transport,
};
use ureq::{Agent, Error};

/// After how long without a word the far end is asked for a sign of life, how often more, and how many
/// have to be missing: it is missed after seventeen seconds.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(8), Duration::from_secs(3), 3);

/// Who asks by such connections.
pub(super) fn agent(config: Config) -> Agent {
    let connector = KeptAlive.chain(RustlsConnector::default());
    Agent::with_parts(config, connector, DefaultResolver::default())
}

/// Makes them.
#[derive(Debug)]
struct KeptAlive;

impl Connector for KeptAlive {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Connection>, Error> {
        let stream = connect(&details.addrs, &details.timeout)?;
        stream.set_nodelay(true)?;
        let (idle, again, missing) = KEEP_ALIVE;
        sockopt::set_tcp_keepidle(&stream, idle)
            .and_then(|()| sockopt::set_tcp_keepintvl(&stream, again))
            .and_then(|()| sockopt::set_tcp_keepcnt(&stream, missing))
            .and_then(|()| sockopt::set_socket_keepalive(&stream, true))
            .map_err(io::Error::from)?;
        let stream = Arc::new(stream);
        let end: Weak<TcpStream> = Arc::downgrade(&stream);
        (details.register_shutdown)(end)?;
        let (input, output) =
            (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Connection { stream, buffers: LazyBuffers::new(input, output) }))
    }
}

/// By the first of `addresses` that answers, each of which has its part of the time.
fn connect(addresses: &[SocketAddr], limit: &NextTimeout) -> Result<TcpStream, Error> {
    let parts = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut failure = Error::ConnectionFailed;
    for address in addresses {
        match TcpStream::connect_timeout(address, *limit.after / parts) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                failure = Error::Timeout(limit.reason);
            }
            Err(error) => failure = error.into(),
        }
    }
    Err(failure)
}

/// One of them.
#[derive(Debug)]
struct Connection {
    /// Whoever may end it from another thread holds it only as long as this does.
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, limit: NextTimeout) -> Result<(), Error> {
        let limit = limit.for_write();
        self.stream.set_write_timeout(patience(&limit)?)?;
        let output = &self.buffers.output()[..amount];
        (&*self.stream).write_all(output).map_err(|error| failure(error, &limit))
    }

    fn await_input(&mut self, limit: NextTimeout) -> Result<bool, Error> {
        let limit = limit.for_read();
        self.stream.set_read_timeout(patience(&limit)?)?;
        let input = self.buffers.input_append_buf();
        let amount = loop {
            match (&*self.stream).read(input) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|error| failure(error, &limit))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// Whether it can be used again: nobody has asked, so that nothing has come.
    fn is_open(&mut self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        recv(&self.stream, &mut [0; 1][..], flags).is_err_and(|errno| errno == Errno::AGAIN)
    }
}

/// How long the next step may take.
fn patience(limit: &NextTimeout) -> Result<Option<Duration>, Error> {
    if limit.after.is_zero() {
        return Err(Error::Timeout(limit.reason));
    }
    Ok(limit.not_zero().map(|time| *time))
}

/// What the kernel means: that the next step took too long, or that the far end is missed.
fn failure(error: io::Error, limit: &NextTimeout) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock => Error::Timeout(limit.reason),
        ErrorKind::TimedOut => {
            io::Error::new(ErrorKind::ConnectionAborted, "it gives no sign of life any more").into()
        }
        _ => error.into(),
    }
}
