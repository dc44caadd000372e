//! What the kernel can do, found out by trying it where nobody is disturbed.

use net::Space;

use crate::error::{ErrorKind, Result};
use crate::executor::Kernel;
use crate::netlink::flag;
use crate::rtnetlink::{self, rtm};

/// What the devices are called that are tried.
const NAME: &str = "try";

impl Kernel {
    /// Whether the kernel can make devices of a kind (`IFLA_INFO_KIND`, what `ip link add type`
    /// takes), found out by trying it in `space`, which should be one of no use to anybody. An error
    /// says why that cannot be told.
    pub fn knows_kind(&mut self, space: &Space, kind: &str) -> Result<bool> {
        let what = || format!("make a device of kind {kind}");
        let (_, handle) = self.handle(space)?;
        let request = rtnetlink::link::bare(NAME, kind);
        let made =
            handle.route().request(rtm::NEWLINK, flag::CREATE | flag::EXCLUSIVE, &request, |_| {});
        match made {
            Ok(()) => {
                let request = rtnetlink::link::bare(NAME, kind);
                handle.route().request(rtm::DELLINK, 0, &request, |_| {}).map(|()| true)
            }
            Err(error) => match error.kind() {
                ErrorKind::Unsupported => Ok(false),
                ErrorKind::Denied => Err(error.during(what())),
                // It wants to know more than that: it is there.
                _ => Ok(true),
            },
        }
    }
}
