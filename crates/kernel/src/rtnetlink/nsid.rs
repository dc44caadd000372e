//! `RTM_*NSID`: the numbers by which a namespace knows others (include/uapi/linux/net_namespace.h).

use std::os::fd::{AsRawFd, BorrowedFd};

use super::u32_of;
use crate::attribute::{Writer, iterate};

const NSID: u16 = 1;
const FD: u16 = 3;

/// `struct rtgenmsg`, aligned.
const HEADER: usize = 4;

/// The payload of a request for the number of a namespace.
pub(crate) fn request(netns: BorrowedFd<'_>) -> Vec<u8> {
    let mut writer = Writer::after(&[0; HEADER]);
    writer.put(FD, &netns.as_raw_fd().to_ne_bytes());
    writer.bytes().to_vec()
}

/// Reads an answer; `None` if the namespace has no number.
pub(crate) fn parse(payload: &[u8]) -> Option<i32> {
    let mut attributes = iterate(payload.get(HEADER..)?);
    let (_, value) = attributes.find(|(kind, _)| *kind == NSID)?;
    // -1 stands for none.
    u32_of(value).map(|number| number as i32).filter(|number| *number >= 0)
}
