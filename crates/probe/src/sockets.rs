//! Sockets as both ends need them. Each is opened in the namespace of the calling thread.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use kernel::probing;
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, ipproto, sockopt};

use crate::wire::Echo;

/// A raw socket that hears one kind of echoes at `address`.
pub(crate) fn raw(address: IpAddr, echo: Echo) -> io::Result<OwnedFd> {
    let protocol = if address.is_ipv4() { ipproto::ICMP } else { ipproto::ICMPV6 };
    let raw = open(address, SocketType::RAW, Some(protocol))?;
    let is_ipv6 = address.is_ipv6();
    probing::hear_only(raw.as_fd(), is_ipv6, echo.kind(is_ipv6)).map_err(io::Error::other)?;
    rustix::net::bind(&raw, &SocketAddr::new(address, 0))?;
    Ok(raw)
}

/// A raw socket that hears a copy of all datagrams that arrive at `address`.
pub(crate) fn raw_datagrams(address: IpAddr) -> io::Result<OwnedFd> {
    let raw = open(address, SocketType::RAW, Some(ipproto::UDP))?;
    rustix::net::bind(&raw, &SocketAddr::new(address, 0))?;
    Ok(raw)
}

/// A socket that sends datagrams from `address`. It is not connected, so that an answer from a wrong
/// address is seen, not dropped.
pub(crate) fn datagrams(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket that waits for connections to `address`.
pub(crate) fn listen(address: IpAddr) -> io::Result<TcpListener> {
    /// As many as the kernel allows (net.core.somaxconn).
    const BACKLOG: i32 = 4096;
    let socket = open(address, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(address, 0))?;
    probing::accept_with_data(socket.as_fd()).map_err(io::Error::other)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// A socket that connects from `address`, and leaves nothing behind when it is closed.
pub(crate) fn client(address: IpAddr) -> io::Result<OwnedFd> {
    let socket = open(address, SocketType::STREAM, None)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    probing::tell_errors(socket.as_fd(), address.is_ipv6()).map_err(io::Error::other)?;
    rustix::net::bind(&socket, &SocketAddr::new(address, 0))?;
    Ok(socket)
}

/// A connection from `address` in the namespace of the calling thread, which nothing is left of when
/// it is dropped, or when the process ends: it is reset.
///
/// # Errors
///
/// As the kernel says; [`io::ErrorKind::TimedOut`] if nobody answers in time.
pub fn connect(address: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let socket = client(address)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let patience = Timespec::try_from(patience).ok();
    let mut events = [PollFd::new(&socket, PollFlags::OUT)];
    if rustix::event::poll(&mut events, patience.as_ref())? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    sockopt::socket_error(&socket)??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn open(
    address: IpAddr,
    kind: SocketType,
    protocol: Option<rustix::net::Protocol>,
) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, kind, flags, protocol)?)
}

/// Lets as much wait to be read as many questions at once bring.
pub(crate) fn let_much_wait(socket: BorrowedFd<'_>) {
    const MUCH: usize = 2 << 20;
    let _ = sockopt::set_socket_recv_buffer_size_force(socket, MUCH)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(socket, MUCH));
}

/// Takes in what has arrived, and returns at once.
pub(crate) fn receive_all(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8], SocketAddr),
) {
    /// A bound, so that a flood keeps nobody here.
    const AT_MOST: usize = 64;
    for _ in 0..AT_MOST {
        match rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((length, _, source)) => {
                let source = source.and_then(|source| SocketAddr::try_from(source).ok());
                if let Some(source) = source {
                    take(&buffer[..length], source);
                }
            }
            Err(rustix::io::Errno::AGAIN) => return,
            // Something went wrong with an earlier packet.
            Err(_) => {}
        }
    }
}

/// Waits until something happens, and returns what.
pub(crate) fn wait(epoll: &OwnedFd, patience: Option<Duration>) -> Vec<epoll::Event> {
    const AT_MOST: usize = 256;
    let mut events = Vec::with_capacity(AT_MOST);
    let patience = patience.and_then(|it| Timespec::try_from(it).ok());
    // A signal, or a wait that is too long to be told, only makes the caller look again.
    let _ = epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), patience.as_ref());
    events
}
