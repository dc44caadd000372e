//! Options of UDP sockets that only `setsockopt` itself can set.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::error::{Error, Result};

/// Makes a UDP socket fit to probe a path with: every ICMP error that one of its packets causes
/// comes back from the next call as an error, connected or not (`IP_RECVERR`, ip(7)), and packets
/// either may not be fragmented at all, whatever the path's MTU is believed to be
/// (`IP_PMTUDISC_PROBE`), or may be anywhere (`IP_PMTUDISC_DONT`).
pub fn prepare_probe(socket: BorrowedFd<'_>, is_ipv6: bool, dont_fragment: bool) -> Result<()> {
    let on = libc::c_int::from(dont_fragment);
    let options = if is_ipv6 {
        let discover =
            if dont_fragment { libc::IPV6_PMTUDISC_PROBE } else { libc::IPV6_PMTUDISC_DONT };
        vec![
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, discover),
            (libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, on),
        ]
    } else {
        let discover = if dont_fragment { libc::IP_PMTUDISC_PROBE } else { libc::IP_PMTUDISC_DONT };
        vec![
            (libc::IPPROTO_IP, libc::IP_RECVERR, 1),
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discover),
        ]
    };
    for (level, option, value) in options {
        set(socket, level, option, value).map_err(|e| Error::io("prepare a UDP socket", &e))?;
    }
    Ok(())
}

fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the pointer and the length describe one live c_int, and the descriptor is open for
    // as long as it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
