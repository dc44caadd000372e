//! What an object, or a change to one, means to the agent.

use ipnet::IpNet;
use net::{Change, Link, MAIN_TABLE, Object, Space};

/// Whether `seen` is what is believed, as far as an event tells.
pub(super) fn holds(believed: &Object, seen: &Object) -> bool {
    if believed == seen {
        return true;
    }
    let one = std::slice::from_ref(believed);
    let told = match (believed, seen) {
        // Events do not say what only ethtool does.
        (Object::Link(want), Object::Link(seen)) => {
            Object::Link(Link { tx_checksum: want.tx_checksum, ..seen.clone() })
        }
        _ => seen.clone(),
    };
    net::diff(&Space::Here, one.to_vec(), &[told], |_| false).is_empty()
}

/// Whether an object is the route to a peer's pods, of which there is one a peer and family.
pub(super) fn is_peer_route(object: &Object) -> bool {
    matches!(object, Object::Route(route) if route.table == MAIN_TABLE)
}

pub(super) fn subnet_of(change: &Change) -> Option<IpNet> {
    match change {
        Change::Create(Object::Route(it)) | Change::Replace { to: Object::Route(it), .. } => {
            Some(it.destination)
        }
        _ => None,
    }
}

/// Whether a change is about one peer, so that the others do not suffer.
pub(super) fn is_of_peer(change: &Change) -> bool {
    matches!(change.object(), Some(Object::Route(_) | Object::Neighbour(_) | Object::Fdb(_)))
}

/// What an object is called in metrics.
pub(super) fn kind(change: &Change) -> &'static str {
    let Some(object) = change.object() else { return "action" };
    match object {
        Object::Netns(_) => "netns",
        Object::Link(_) => "link",
        Object::Address(_) => "address",
        Object::Route(_) => "route",
        Object::Rule(_) => "rule",
        Object::Neighbour(_) => "neighbour",
        Object::Fdb(_) => "fdb",
        Object::Vni(_) => "vni",
        Object::Qdisc(_) => "qdisc",
        Object::Sysctl(_) => "sysctl",
        Object::Nft(_) => "nft",
        Object::Tracked(_) => "tracked",
        Object::File(_) => "file",
    }
}
