//! ICMP and TCP, one question after the other.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

use crate::exchange::within;
use crate::wire::{self, Token};
use crate::{Answer, Failure, Limits, Place, Protocol, Shape};

/// Asks by ICMP or TCP, and waits for what comes of it.
pub(crate) fn ask(
    [from, to]: [Place<'_>; 2],
    protocol: Protocol,
    shape: Shape,
    limits: Limits,
    token: u64,
) -> Result<Answer, Failure> {
    let token = Token { token, attempt: 0 };
    let start = Instant::now();
    let answer = match protocol {
        Protocol::Tcp => tcp(from, to, limits.patience, token),
        _ => echo(from, to, shape, limits.patience, token),
    }?;
    let answer = Answer { rtt: start.elapsed(), ..answer };
    if answer.seen_source != from.address {
        return Err(Failure::SourceChanged { own: from.address, answer });
    }
    Ok(answer)
}

fn tcp(
    from: Place<'_>,
    to: Place<'_>,
    patience: Duration,
    token: Token,
) -> Result<Answer, Failure> {
    let ear = within(to, || {
        let ear = TcpListener::bind((to.address, 0))?;
        ear.set_nonblocking(true)?;
        Ok(ear)
    })?;
    let there = ear.local_addr().map_err(|e| failed(&e))?;
    let socket = within(from, || {
        let socket = socket(from.address, SocketType::STREAM, None)?;
        rustix::net::bind(&socket, &SocketAddr::new(from.address, 0))?;
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        Ok(socket)
    })?;
    match rustix::net::connect(&socket, &there) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(failed(&error.into())),
    }
    if !ready(&socket, PollFlags::OUT, patience) || !ready(&ear, PollFlags::IN, patience) {
        return Err(Failure::TimedOut(patience));
    }
    sockopt::socket_error(&socket)
        .map_err(io::Error::from)
        .map_err(|e| failed(&e))?
        .map_err(|e| failed(&e.into()))?;
    let mut client = TcpStream::from(socket);
    let mut talk = || -> io::Result<wire::Seen> {
        let (mut server, peer) = ear.accept()?;
        for end in [&client, &server] {
            end.set_nonblocking(false)?;
            end.set_read_timeout(Some(patience))?;
        }
        sockopt::set_socket_linger(&server, Some(Duration::ZERO))?;
        let mut buffer = [0; wire::SMALLEST];
        client.write_all(&wire::question(token, 0, to.address))?;
        server.read_exact(&mut buffer)?;
        let answer = wire::answer(&buffer, peer.ip()).ok_or(io::ErrorKind::InvalidData)?;
        server.write_all(&answer)?;
        client.read_exact(&mut buffer)?;
        wire::seen(&buffer).filter(|it| it.token == token).ok_or(io::ErrorKind::InvalidData.into())
    };
    let seen = talk().map_err(|e| failed(&e))?;
    Ok(answer(seen.source, to.address, 0))
}

fn echo(
    from: Place<'_>,
    to: Place<'_>,
    shape: Shape,
    patience: Duration,
    token: Token,
) -> Result<Answer, Failure> {
    let open = |place: Place<'_>| {
        within(place, || {
            let protocol = if place.address.is_ipv4() { ipproto::ICMP } else { ipproto::ICMPV6 };
            let raw = socket(place.address, SocketType::RAW, Some(protocol))?;
            rustix::net::bind(&raw, &SocketAddr::new(place.address, 0))?;
            kernel::prepare_probe(raw.as_fd(), place.address.is_ipv6(), shape.dont_fragment)
                .map_err(io::Error::other)?;
            Ok(raw)
        })
    };
    let (ear, mouth) = (open(to)?, open(from)?);
    let request = wire::echo(token, shape.bytes, to.address);
    rustix::net::sendto(&mouth, &request, SendFlags::empty(), &SocketAddr::new(to.address, 0))
        .map_err(|e| failed(&e.into()))?;
    let deadline = Instant::now() + patience;
    let is_v6 = to.address.is_ipv6();
    let hear = |raw: &OwnedFd, kind| -> Result<(IpAddr, usize), Failure> {
        let mut buffer = vec![0; crate::responder::LARGEST];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !ready(raw, PollFlags::IN, left) {
                return Err(Failure::TimedOut(patience));
            }
            let (length, _, source) =
                rustix::net::recvfrom(raw, &mut buffer[..], RecvFlags::empty())
                    .map_err(|e| failed(&e.into()))?;
            let Some(source) = source.and_then(|it| SocketAddr::try_from(it).ok()) else {
                continue;
            };
            if wire::echoed(&buffer[..length], is_v6, kind) == Some(token) {
                return Ok((source.ip(), length + if is_v6 { 40 } else { 0 }));
            }
        }
    };
    let (seen_source, bytes) = hear(&ear, wire::Echo::Request)?;
    let (answered_from, _) = hear(&mouth, wire::Echo::Reply)?;
    let answer = answer(seen_source, answered_from, bytes);
    if answered_from == to.address {
        Ok(answer)
    } else {
        Err(Failure::OtherAnswered { asked: to.address, answer })
    }
}

fn answer(seen_source: IpAddr, answered_from: IpAddr, bytes: usize) -> Answer {
    Answer { seen_source, answered_from, bytes, rtt: Duration::ZERO }
}

fn socket(
    address: IpAddr,
    kind: SocketType,
    protocol: Option<rustix::net::Protocol>,
) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, kind, flags, protocol)?)
}

fn ready(fd: impl AsFd, what: PollFlags, patience: Duration) -> bool {
    let mut fds = [PollFd::new(&fd, what)];
    poll(&mut fds, Timespec::try_from(patience).ok().as_ref()).is_ok_and(|count| count > 0)
}

fn failed(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(errno) => Failure::errno(errno),
        None => Failure::TimedOut(Duration::ZERO),
    }
}
