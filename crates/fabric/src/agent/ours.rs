//! Which of what is seen is the agent's: by mark, by table, or by the device that it is on.

use std::collections::BTreeSet;

use net::{LinkName, Object, PROTOCOL_KERNEL, owner};

use crate::desired::is_tunnel;
use crate::machine::is_link_local;
use crate::{Config, firewall};

/// What tells ours from others'.
#[derive(Clone, Debug, Default)]
pub(super) struct Ours {
    /// The names of tunnel devices.
    pub(super) devices: BTreeSet<LinkName>,
    /// Whether all that is on them is ours, whoever wrote it.
    pub(super) takes_over: bool,
}

impl Ours {
    /// What is ours by this configuration.
    pub(super) fn of(config: &Config) -> Self {
        Self { devices: config.tunnel.devices().into(), takes_over: config.takes_over() }
    }

    /// Whether `object` is the agent's to change and to delete.
    pub(super) fn is(&self, object: &Object) -> bool {
        let on = |link: &LinkName| self.devices.contains(link);
        match object {
            Object::Route(route) => {
                let on_ours = || route.link.as_ref().is_some_and(on);
                route.protocol == owner::PROTOCOL
                    || (self.takes_over && route.protocol != PROTOCOL_KERNEL && on_ours())
            }
            Object::Rule(rule) => rule.protocol == owner::PROTOCOL,
            Object::Neighbour(neighbour) => on(&neighbour.link),
            Object::Fdb(fdb) => on(&fdb.link) && fdb.to.is_some(),
            Object::Vni(vni) => on(&vni.link),
            Object::Address(address) => on(&address.link) && !is_link_local(address),
            Object::Link(link) => on(&link.name) && is_tunnel(link),
            Object::Nft(object) => *object.table() == firewall::table(),
            _ => false,
        }
    }
}

/// The device that an object is on, if it goes away with one.
pub(super) fn device_of(object: &Object) -> Option<&LinkName> {
    match object {
        Object::Route(route) => route.link.as_ref(),
        Object::Neighbour(neighbour) => Some(&neighbour.link),
        Object::Fdb(fdb) => Some(&fdb.link),
        Object::Vni(vni) => Some(&vni.link),
        Object::Address(address) => Some(&address.link),
        _ => None,
    }
}
