//! Keys that several plugins take, checked alike.

use std::path::PathBuf;

use cni::{Dns, Error, Request, json};
use serde_json::Value;

/// What the kernel takes as the size of a veth's packets.
const VETH_MTU: std::ops::RangeInclusive<u32> = 68..=65535;

/// `mtu`; `None` leaves it to the kernel.
pub(crate) fn mtu(mtu: i64) -> Result<Option<u32>, Error> {
    match u32::try_from(mtu) {
        Ok(0) => Ok(None),
        Ok(mtu) if VETH_MTU.contains(&mtu) => Ok(Some(mtu)),
        _ => {
            let (least, most) = (VETH_MTU.start(), VETH_MTU.end());
            Err(Error::internal(format!(
                "failed to load netconf: mtu: invalid value {mtu}: must be {least} to {most}, or 0 for the kernel's choice"
            )))
        }
    }
}

/// `ipMasqBackend`: a name that the reference knows. All of them mean nftables here.
pub(crate) fn masquerade_backend(name: &str) -> Result<(), Error> {
    match name {
        "" | "iptables" | "nftables" => Ok(()),
        _ => Err(Error::internal(format!("unknown ipmasq backend {name:?}"))),
    }
}

/// `explainIn`, podwire's own: a directory in which ADD leaves what it did, as a shell script with a
/// sentence for each step, until DEL.
pub(crate) fn explain_in(path: PathBuf) -> Option<PathBuf> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

/// `dns`, if it says anything; an empty list counts.
pub(crate) fn dns(request: &Request) -> Option<Dns> {
    let present = |dns: &Value| {
        ["nameservers", "domain", "search", "options"]
            .iter()
            .any(|key| json::member(dns, key).is_some_and(|value| !value.is_null() && value != ""))
    };
    let says_anything = json::member(&request.document, "dns").is_some_and(present);
    says_anything.then(|| request.network.dns.clone())
}
