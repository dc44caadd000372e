//! Removing a device without waiting for the kernel to finish.
//!
//! The kernel announces that a device is gone (`RTM_DELLINK`) a few milliseconds after it was asked
//! to remove it, and acknowledges the request only after its grace periods, tens of milliseconds
//! later. At the announcement the device is gone for everybody: its name is free, its addresses and
//! routes are removed. So the request is made by a child of its own, and the parent goes on at the
//! announcement.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use net::{LinkName, Space};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::conntrack;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Kernel;
use crate::netlink::{Protocol, Socket};
use crate::rtnetlink::{self, group, rtm};

/// The kernel announces within milliseconds; this is how long a machine under load may take before
/// the parent does the work itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// A device that a child is removing.
#[derive(Debug)]
pub struct Removal {
    name: LinkName,
    index: u32,
    events: Socket,
    child: File,
}

impl Kernel {
    /// Begins to remove a device of this process' namespace, in a child that outlives the caller if
    /// need be; `None` if there is no such device. Afterwards the child forgets the connections of
    /// `addresses`. Nothing but netlink sockets stays open in it, so nobody waits for it: no pipe
    /// to a runtime, no mount of a namespace.
    pub fn begin_removal(
        &mut self,
        name: &LinkName,
        addresses: &[IpAddr],
    ) -> Result<Option<Removal>> {
        let (home, handle) = self.handle(&Space::Here)?;
        let Some(link) = handle.link(name)? else { return Ok(None) };
        handle.forget(name);
        // The last one to close a netfilter socket waits until what was deleted in nftables is
        // reclaimed, some 10 ms; the child, which keeps it open, will be the last one.
        let netfilter = handle.netfilter(home)?.as_fd().as_raw_fd();
        let mut events = Socket::open(Protocol::Route)?;
        events.subscribe(&[group::LINK])?;
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| Error::errno("make a pipe", e.raw_os_error(), None))?;
        // SAFETY: the child only makes system calls and allocates; no lock of another thread is
        // needed for that, and it leaves by _exit, so that no destructor of the parent runs twice.
        match unsafe { libc::fork() } {
            -1 => Err(Error::io("start a child", &std::io::Error::last_os_error())),
            0 => {
                let code = child(link.index, addresses, &writer, netfilter);
                // SAFETY: _exit has no preconditions.
                unsafe { libc::_exit(code) }
            }
            _ => {
                drop(writer);
                let child = File::from(reader);
                Ok(Some(Removal { name: name.clone(), index: link.index, events, child }))
            }
        }
    }

    /// Has a child of its own forget `flows`, and wait until what was deleted in nftables is
    /// reclaimed, as whoever closes the netfilter socket last does.
    pub fn end_in_child(&mut self, flows: &[net::Flow]) -> Result<()> {
        let (home, handle) = self.handle(&Space::Here)?;
        let netfilter = handle.netfilter(home)?.as_fd().as_raw_fd();
        // SAFETY: as in `begin_removal`.
        match unsafe { libc::fork() } {
            -1 => Err(Error::io("start a child", &std::io::Error::last_os_error())),
            0 => {
                detach([netfilter, netfilter]);
                if !flows.is_empty() {
                    // Nobody would learn of a failure.
                    let _ = Socket::open(Protocol::Netfilter)
                        .and_then(|mut socket| conntrack::flush_flows(&mut socket, flows));
                }
                // SAFETY: _exit has no preconditions.
                unsafe { libc::_exit(0) }
            }
            _ => Ok(()),
        }
    }

    /// Waits until the device is gone for everybody. If the child died or was refused, or the
    /// announcement was lost, the device is removed here, with the answer of the kernel.
    pub fn finish_removal(&mut self, removal: Removal) -> Result<()> {
        let Removal { name, index, mut events, mut child } = removal;
        match announced(&mut events, &mut child, index) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.raw_errno() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error),
        }
        let (_, handle) = self.handle(&Space::Here)?;
        let request = rtnetlink::link::by_index(index);
        match handle.route().request(rtm::DELLINK, 0, &request, |_| {}) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error.during(format!("delete device {name}")))
            }
            _ => Ok(()),
        }
    }
}

/// The child's whole life.
fn child(index: u32, addresses: &[IpAddr], report: &OwnedFd, netfilter: RawFd) -> i32 {
    detach([report.as_raw_fd(), netfilter]);
    let removed = Socket::open(Protocol::Route).and_then(|mut socket| {
        socket.request(rtm::DELLINK, 0, &rtnetlink::link::by_index(index), |_| {})
    });
    let done = match removed {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    // Nobody listens any more if the announcement came first.
    let _ = rustix::io::write(report, &[u8::from(done)]);
    if !addresses.is_empty() {
        let _ = Socket::open(Protocol::Netfilter)
            .and_then(|mut socket| conntrack::flush(&mut socket, addresses));
    }
    i32::from(!done)
}

/// Leaves the session and closes everything but `keep`.
fn detach(mut keep: [RawFd; 2]) {
    let _ = rustix::process::setsid();
    let null = File::options().read(true).write(true).open("/dev/null");
    for standard in 0..3 {
        let null = null.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        // SAFETY: nothing of this child uses these numbers. Where there is no /dev/null they are
        // only closed, so that at least nobody waits for them.
        unsafe {
            if libc::dup2(null, standard) == -1 {
                libc::close(standard);
            }
        }
    }
    // The numbers are closed below; who owns one must not close it again.
    drop(null);
    keep.sort_unstable();
    let [low, high] = keep;
    for (first, last) in [(3, low - 1), (low + 1, high - 1), (high + 1, RawFd::MAX)] {
        if first <= last {
            // SAFETY: closing descriptors that nothing in this short-lived child uses any more.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
    // A pod's runtime may unmount what was the working directory.
    let _ = std::env::set_current_dir("/");
}

/// Whether the kernel announced that the device is gone, or the child says so; `false` if the
/// child failed or died, or time ran out.
fn announced(events: &mut Socket, child: &mut File, index: u32) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let (event_ready, child_ready) = {
            let mut fds = [
                PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(child.as_fd(), PollFlags::IN),
            ];
            let timeout = Timespec::try_from(left).ok();
            rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))
                .map_err(|e| Error::errno("wait for a device to go", e.raw_os_error(), None))?;
            (!fds[0].revents().is_empty(), !fds[1].revents().is_empty())
        };
        if event_ready {
            let gone = events.event(Instant::now() + Duration::from_millis(1), |message| {
                let ours = rtnetlink::link::index(message.payload) == Some(index);
                (message.kind == rtm::DELLINK && ours).then_some(())
            })?;
            if gone.is_some() {
                return Ok(true);
            }
        }
        if child_ready {
            let mut report = [0];
            return Ok(child.read(&mut report).unwrap_or_default() == 1 && report[0] == 1);
        }
    }
}
