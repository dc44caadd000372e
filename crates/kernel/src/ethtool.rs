//! What drivers tell and let one set by `SIOCETHTOOL` (include/uapi/linux/ethtool.h).
//!
//! It is the one interface here that is no netlink: features of devices have a netlink family of
//! their own only since Linux 5.6, and that family asks for a generic netlink number first.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use net::{LinkName, Space};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{Error, Result};
use crate::executor::Kernel;
use crate::rtnetlink::{text, u32_of};

const GET_DRIVER: u32 = 0x03;
const GET_TX_CHECKSUM: u32 = 0x16;
const SET_TX_CHECKSUM: u32 = 0x17;
const GET_STRINGS: u32 = 0x1b;
const GET_STRING_COUNT: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;

/// `ETH_SS_FEATURES`: the names of features.
const FEATURES: u32 = 4;
/// `ETH_GSTRING_LEN`.
const NAME: usize = 32;
/// `struct ethtool_drvinfo`.
const DRIVER_INFO: usize = 196;

/// What a device can do for tunnels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFeatures {
    /// Its driver; `None` if the kernel does not say.
    pub driver: Option<String>,
    /// Whether it cuts large packets of UDP tunnels itself; `None` if the kernel does not know that
    /// feature.
    pub tx_udp_tnl_segmentation: Option<bool>,
}

impl Kernel {
    /// What a device can do for tunnels.
    pub fn link_features(&mut self, space: &Space, name: &LinkName) -> Result<LinkFeatures> {
        self.inside(space, || {
            let device = Device::open(name)?;
            device.features()
        })?
        .map_err(|error| Error::io(format!("look up the features of {name}"), &error))
    }

    /// Whether checksums of what a device sends are left to it; `None` if the device has no such
    /// setting.
    pub fn tx_checksum(&mut self, space: &Space, name: &LinkName) -> Result<Option<bool>> {
        match self.inside(space, || Device::open(name)?.tx_checksum())? {
            Ok(on) => Ok(Some(on)),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(Error::io(format!("look up the checksums of {name}"), &error)),
        }
    }

    pub(crate) fn set_tx_checksum(
        &mut self,
        space: &Space,
        name: &LinkName,
        on: bool,
    ) -> Result<()> {
        self.inside(space, || Device::open(name)?.set_tx_checksum(on))?.map_err(|error| {
            let on = if on { "on" } else { "off" };
            Error::io(format!("turn checksums of {name} {on}"), &error)
        })
    }
}

/// A device of the namespace that the calling thread was in.
struct Device<'a> {
    /// Any socket will do.
    socket: OwnedFd,
    name: &'a LinkName,
}

impl<'a> Device<'a> {
    fn open(name: &'a LinkName) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        Ok(Self { socket, name })
    }

    fn features(&self) -> io::Result<LinkFeatures> {
        let mut info = request(GET_DRIVER, &[], DRIVER_INFO);
        let driver = match self.ask(&mut info) {
            Ok(()) => Some(text(&info[4..4 + NAME])).filter(|driver| !driver.is_empty()),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => None,
            Err(error) => return Err(error),
        };
        let tx_udp_tnl_segmentation = match self.feature("tx-udp_tnl-segmentation") {
            Ok(on) => on,
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => None,
            Err(error) => return Err(error),
        };
        Ok(LinkFeatures { driver, tx_udp_tnl_segmentation })
    }

    /// Whether a feature is on; `None` if the kernel does not know it.
    fn feature(&self, wanted: &str) -> io::Result<Option<bool>> {
        // struct ethtool_sset_info: which sets are asked for in a mask of 64 bits, then one number
        // for each.
        let mut info = request(GET_STRING_COUNT, &[0, 1 << FEATURES, 0], 20);
        self.ask(&mut info)?;
        let count = u32_of(&info[16..]).unwrap_or_default();
        // struct ethtool_gstrings.
        let mut names = request(GET_STRINGS, &[FEATURES, count], 12 + count as usize * NAME);
        self.ask(&mut names)?;
        let Some(at) = names[12..].chunks(NAME).position(|name| text(name) == wanted) else {
            return Ok(None);
        };
        // struct ethtool_gfeatures: for each 32 features four words, of which the third says what
        // is on.
        let blocks = count.div_ceil(32);
        let mut features = request(GET_FEATURES, &[blocks], 8 + blocks as usize * 16);
        self.ask(&mut features)?;
        let active = features.get(8 + at / 32 * 16 + 8..).and_then(u32_of);
        Ok(active.map(|bits| bits & (1 << (at % 32)) != 0))
    }

    fn tx_checksum(&self) -> io::Result<bool> {
        let mut value = request(GET_TX_CHECKSUM, &[0], 8);
        self.ask(&mut value)?;
        Ok(u32_of(&value[4..]) != Some(0))
    }

    fn set_tx_checksum(&self, on: bool) -> io::Result<()> {
        self.ask(&mut request(SET_TX_CHECKSUM, &[u32::from(on)], 8))
    }

    /// Makes a request; the answer is written over it.
    fn ask(&self, request: &mut [u8]) -> io::Result<()> {
        // SAFETY: all fields of it may be zero.
        let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
        // A name has at most 15 bytes, so a zero is left at the end.
        for (to, from) in interface.ifr_name.iter_mut().zip(self.name.as_str().bytes()) {
            *to = from as libc::c_char;
        }
        interface.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
        // SAFETY: the pointers lead to a live ifreq and to a live request, which is as long as the
        // kernel makes the answer: a fixed length, or one for the count that it is told.
        let result =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut interface) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A request that begins with `command` and `numbers`, in room for an answer of `length` bytes.
fn request(command: u32, numbers: &[u32], length: usize) -> Vec<u8> {
    let words = [&[command], numbers].concat();
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    bytes.resize(length, 0);
    bytes
}
