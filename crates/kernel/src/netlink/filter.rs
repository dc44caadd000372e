//! What the kernel need not even put into a socket's buffer.

use std::io;
use std::os::fd::AsRawFd;

use libc::{BPF_ABS, BPF_H, BPF_JEQ, BPF_JMP, BPF_LD, BPF_RET, BPF_W, sock_filter, sock_fprog};

use super::Socket;
use crate::error::{Error, Result};

/// Where `struct nlmsghdr` has the type of a message, and the number of the socket that asked for it.
const KIND: u32 = 4;
const PORT: u32 = 12;

impl Socket {
    /// From now on hears nothing of what the socket numbered `port` has the kernel do, of the types
    /// `kinds` of messages, or of all if none is named. Each event that waits to be read is a message
    /// copied, memory taken and a thread woken while the kernel makes the next change.
    pub(crate) fn ignore(&self, port: u32, kinds: &[u16]) -> Result<()> {
        let mut program = program(port, kinds);
        let program =
            sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
        // SAFETY: the pointers and lengths describe a live program, which the kernel copies, and the
        // descriptor is ours.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                std::ptr::from_ref(&program).cast(),
                size_of::<sock_fprog>() as libc::socklen_t,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(Error::io("filter netlink events", &io::Error::last_os_error())),
        }
    }
}

/// A program of the kernel's classic packet filter (`Documentation/networking/filter.rst`). What it
/// loads it takes for big-endian, and headers of netlink are not, so constants are turned round.
fn program(port: u32, kinds: &[u16]) -> Vec<sock_filter> {
    let step = |code: u32, k: u32, jt: usize, jf: usize| sock_filter {
        code: code as u16,
        jt: jt as u8,
        jf: jf as u8,
        k,
    };
    let mut program = Vec::new();
    if !kinds.is_empty() {
        program.push(step(BPF_LD | BPF_H | BPF_ABS, KIND, 0, 0));
    }
    for (place, kind) in kinds.iter().enumerate() {
        let left = kinds.len() - 1 - place;
        // One that is named goes on to the port; after the last one, none is.
        let otherwise = if left == 0 { 2 } else { 0 };
        program.push(step(BPF_JMP | BPF_JEQ, u32::from(kind.to_be()), left, otherwise));
    }
    program.push(step(BPF_LD | BPF_W | BPF_ABS, PORT, 0, 0));
    program.push(step(BPF_JMP | BPF_JEQ, port.to_be(), 1, 0));
    program.push(step(BPF_RET, u32::MAX, 0, 0));
    program.push(step(BPF_RET, 0, 0, 0));
    program
}
