//! What the `ptp` plugin is told: its keys, checked.

use std::path::PathBuf;

use cni::{Error, Request};
use serde::Deserialize;

use crate::keys;

/// The plugin's keys, in types that cannot be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// `ipMasq`.
    pub(crate) masquerade: bool,
    /// `mtu`; `None` leaves it to the kernel.
    pub(crate) mtu: Option<u32>,
    /// `explainIn`.
    pub(crate) explain_in: Option<PathBuf>,
    /// `dns`, if it says anything.
    pub(crate) dns: Option<cni::Dns>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    ip_masq: bool,
    ip_masq_backend: String,
    mtu: i64,
    explain_in: PathBuf,
}

impl Config {
    /// Reads and checks the keys, with the reference's words.
    pub(crate) fn parse(request: &Request) -> Result<Self, Error> {
        let keys: Keys = request.config("failed to load netconf")?;
        keys::masquerade_backend(&keys.ip_masq_backend)?;
        Ok(Self {
            masquerade: keys.ip_masq,
            mtu: keys::mtu(keys.mtu)?,
            explain_in: keys::explain_in(keys.explain_in),
            dns: keys::dns(request),
        })
    }
}
