//! What packets of our own need of the kernel beside a socket: options that only `setsockopt` itself
//! can set, the queue of errors that a socket's packets have caused, and room for many sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Error, Result};

/// An error that a packet of a socket has caused, as `recvmsg(2)` tells it with `MSG_ERRQUEUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    /// The number of the error.
    pub errno: i32,
    /// Who sent the ICMP message that tells of it, its type and its code; none if it was this kernel
    /// without one.
    pub by: Option<(IpAddr, u8, u8)>,
    /// With `EMSGSIZE`: the size that passes.
    pub mtu: Option<u32>,
    /// Where the packet was sent.
    pub to: Option<IpAddr>,
    /// What came back of the packet's payload, cut off after [`PathError::QUOTED`] bytes. That of a
    /// raw socket begins with the header behind that of IP.
    pub quoted: Vec<u8>,
}

impl PathError {
    /// How much is kept of what came back.
    pub const QUOTED: usize = 64;
}

/// Has every ICMP error that a packet of this socket causes come back from the next call as an error
/// and with [`path_error`], connected or not (`IP_RECVERR`, ip(7)).
pub fn tell_errors(socket: BorrowedFd<'_>, is_ipv6: bool) -> Result<()> {
    let (level, option) = if is_ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
    } else {
        (libc::IPPROTO_IP, libc::IP_RECVERR)
    };
    set(socket, level, option, &1).map_err(|e| Error::io("be told of ICMP errors", &e))
}

/// Has packets of this socket either not be fragmented at all, whatever the path's MTU is believed to
/// be (`IP_PMTUDISC_PROBE`), or be so anywhere (`IP_PMTUDISC_DONT`).
pub fn keep_whole(socket: BorrowedFd<'_>, is_ipv6: bool, whole: bool) -> Result<()> {
    let set_both = || {
        if is_ipv6 {
            let discover = if whole { libc::IPV6_PMTUDISC_PROBE } else { libc::IPV6_PMTUDISC_DONT };
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &discover)?;
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, &libc::c_int::from(whole))
        } else {
            let discover = if whole { libc::IP_PMTUDISC_PROBE } else { libc::IP_PMTUDISC_DONT };
            set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &discover)
        }
    };
    set_both().map_err(|e| Error::io("set how packets are fragmented", &e))
}

/// Has a raw ICMP socket hear messages of one type only.
pub fn hear_only(socket: BorrowedFd<'_>, is_ipv6: bool, kind: u8) -> Result<()> {
    // Bits that are set block. `ICMP_FILTER` (linux/icmp.h) knows the first 32 types, `ICMP6_FILTER`
    // (linux/icmpv6.h) all of them.
    const ICMP_FILTER: libc::c_int = 1;
    const ICMPV6_FILTER: libc::c_int = 1;
    let done = if is_ipv6 {
        let mut blocked = [u32::MAX; 8];
        blocked[usize::from(kind >> 5)] &= !(1 << (kind & 31));
        set(socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &blocked)
    } else {
        set(socket, libc::SOL_RAW, ICMP_FILTER, &!(1_u32 << (kind & 31)))
    };
    done.map_err(|e| Error::io("choose what is heard of ICMP", &e))
}

/// Has a listener wake its owner only when a connection has brought something to read.
pub fn accept_with_data(socket: BorrowedFd<'_>) -> Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, &1)
        .map_err(|e| Error::io("accept connections with data", &e))
}

/// Lets this process have as many files open as it may at all, and returns how many that is.
pub fn allow_many_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if let (Some(current), Some(maximum)) = (limit.current, limit.maximum)
        && current < maximum
        && setrlimit(Resource::Nofile, Rlimit { current: Some(maximum), ..limit }).is_ok()
    {
        return maximum;
    }
    limit.current.unwrap_or(u64::MAX)
}

/// Takes the oldest error off a socket's queue; none if there is none.
pub fn path_error(socket: BorrowedFd<'_>) -> Option<PathError> {
    let mut quoted = [0_u8; PathError::QUOTED];
    // Aligned as control messages have to be.
    let mut control = [0_u64; 32];
    // SAFETY: all zeroes are a valid socket address.
    let mut to: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut part = libc::iovec { iov_base: quoted.as_mut_ptr().cast(), iov_len: quoted.len() };
    // SAFETY: all zeroes are a valid `msghdr`, which consists of pointers and numbers.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = std::ptr::from_mut(&mut to).cast();
    message.msg_namelen = size_of_val(&to) as libc::socklen_t;
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: every pointer in the message leads to a live value of ours of the length beside it.
    let length = unsafe {
        libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
    };
    let length = usize::try_from(length).ok()?;
    let mut error = PathError {
        errno: 0,
        by: None,
        mtu: None,
        to: address(&to),
        quoted: quoted[..length.min(quoted.len())].to_vec(),
    };
    // SAFETY: the kernel has filled the control messages in and set their length.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&message) };
    while !next.is_null() {
        // SAFETY: a pointer that these macros return leads to a whole header within `control`.
        let header = unsafe { &*next };
        if matches!(
            (header.cmsg_level, header.cmsg_type),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        ) {
            // SAFETY: such a message holds this structure, with the socket address of who told of the
            // error behind it, which has room for one of its family (net/ipv4/ip_sockglue.c,
            // net/ipv6/datagram.c); neither needs to be aligned.
            let (told, who) = unsafe {
                let data = libc::CMSG_DATA(next).cast::<libc::sock_extended_err>();
                (data.read_unaligned(), offender(data.add(1).cast()))
            };
            error.errno = told.ee_errno as i32;
            if matches!(told.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6) {
                error.by = who.map(|who| (who, told.ee_type, told.ee_code));
            }
            if error.errno == libc::EMSGSIZE {
                error.mtu = Some(told.ee_info).filter(|mtu| *mtu != 0);
            }
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(&message, next) };
    }
    Some(error)
}

/// Reads an address that need not be aligned.
///
/// # Safety
///
/// The pointer leads to a socket address that is as long as its family says.
unsafe fn offender(at: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: as the caller promises.
    unsafe {
        match libc::c_int::from(at.cast::<libc::sa_family_t>().read_unaligned()) {
            libc::AF_INET => Some(v4(&at.cast::<libc::sockaddr_in>().read_unaligned())),
            libc::AF_INET6 => Some(v6(&at.cast::<libc::sockaddr_in6>().read_unaligned())),
            _ => None,
        }
    }
}

fn address(storage: &libc::sockaddr_storage) -> Option<IpAddr> {
    // SAFETY: the storage is as long as any address.
    unsafe { offender(std::ptr::from_ref(storage).cast()) }
}

fn v4(address: &libc::sockaddr_in) -> IpAddr {
    Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into()
}

fn v6(address: &libc::sockaddr_in6) -> IpAddr {
    Ipv6Addr::from(address.sin6_addr.s6_addr).into()
}

fn set<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer and the length describe one live value, and the descriptor is open for as
    // long as it is borrowed; the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
