//! Looking into iptables in its old form, of which nftables sees nothing. Nothing is changed here.
//!
//! Speaks `getsockopt` as iptables-legacy does (include/uapi/linux/netfilter_ipv4/ip_tables.h and
//! its IPv6 sibling). Asking for a table would load it, so it is asked for only where it is in use.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use net::Space;
use rustix::net::{AddressFamily, SocketType, socket};

use crate::error::{Error, Result};
use crate::executor::Kernel;

impl Kernel {
    /// Whether the old nat table of either family has a chain of this name, or any other mention of
    /// it.
    pub fn legacy_nat_mentions(&mut self, space: &Space, chain: &str) -> Result<bool> {
        self.inside(space, || {
            Ok(FAMILIES.iter().any(|family| family.nat_mentions(chain).unwrap_or_default()))
        })?
    }
}

struct Family {
    /// Lists the tables in use. Not below /proc/net, which is the process' and not the thread's.
    names: &'static str,
    family: AddressFamily,
    level: i32,
}

const FAMILIES: [Family; 2] = [
    Family {
        names: "/proc/thread-self/net/ip_tables_names",
        family: AddressFamily::INET,
        level: libc::IPPROTO_IP,
    },
    Family {
        names: "/proc/thread-self/net/ip6_tables_names",
        family: AddressFamily::INET6,
        level: libc::IPPROTO_IPV6,
    },
];

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`, the same in both families.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;

/// `struct ipt_getinfo`: the name, ..., and the size of the entries in the last four bytes.
const INFO: usize = 84;
/// `struct ipt_get_entries`: the name, the size, padding; the entries follow.
const HEADER: usize = 40;

/// What both begin with.
const TABLE: &[u8] = b"nat";
const TABLE_LENGTH: usize = 32;

impl Family {
    fn nat_mentions(&self, chain: &str) -> Result<bool> {
        let in_use = std::fs::read_to_string(self.names).unwrap_or_default();
        if !in_use.lines().any(|table| table.as_bytes() == TABLE) {
            return Ok(false);
        }
        let socket = socket(self.family, SocketType::DGRAM, None)
            .map_err(|e| Error::errno("open a socket", e.raw_os_error(), None))?;
        let mut info = vec![0; INFO];
        info[..TABLE.len()].copy_from_slice(TABLE);
        self.get(&socket, GET_INFO, &mut info)?;
        let size = &info[INFO - 4..];
        let length = u32::from_ne_bytes([size[0], size[1], size[2], size[3]]);
        let mut entries = vec![0; HEADER + length as usize];
        entries[..TABLE.len()].copy_from_slice(TABLE);
        entries[TABLE_LENGTH..TABLE_LENGTH + 4].copy_from_slice(size);
        self.get(&socket, GET_ENTRIES, &mut entries)?;
        let name = [chain.as_bytes(), b"\0"].concat();
        Ok(entries.windows(name.len()).any(|window| window == name))
    }

    fn get(&self, socket: &OwnedFd, option: i32, bytes: &mut [u8]) -> Result<()> {
        let mut length = bytes.len() as libc::socklen_t;
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the kernel writes at most `length` bytes, which `bytes` has.
        let answer = unsafe {
            libc::getsockopt(fd, self.level, option, bytes.as_mut_ptr().cast(), &mut length)
        };
        match answer {
            0 => Ok(()),
            _ => Err(Error::io("read an iptables table", &std::io::Error::last_os_error())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_the_old_iptables_are_seen_and_none_is_loaded_for_it() {
        testbed::isolated!();
        testbed::need("iptables-legacy", "iptables");
        let mentions = |chain| {
            let mut kernel = Kernel::new().unwrap();
            kernel.legacy_nat_mentions(&Space::Here, chain).unwrap()
        };
        let in_use = || testbed::sh("cat /proc/net/ip_tables_names || true");
        assert!(!mentions("CNI-0123") && in_use().is_empty());
        testbed::sh(
            "iptables-legacy -t nat -N CNI-0123; iptables-legacy -t nat -A CNI-0123 -j RETURN",
        );
        assert!(mentions("CNI-0123"));
        assert!(!mentions("CNI-012") && !mentions("CNI-4567"));
        testbed::sh("ip6tables-legacy -t nat -N CNI-4567");
        assert!(mentions("CNI-4567"));
    }
}
