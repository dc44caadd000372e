//! Why a change is made, in a sentence for people: what an object is for, before what [`net::diff`]
//! says is the matter with it.

use std::net::IpAddr;

use net::{MAIN_TABLE, Object, Step, nft};

use super::Agent;
use crate::Nodes;

impl Agent {
    /// Why a step of a plan is made.
    pub fn why(&self, step: &Step) -> String {
        why(&self.nodes, step)
    }
}

/// Why a step is made, where these are the nodes.
pub(super) fn why(nodes: &Nodes, step: &Step) -> String {
    match step.change.object().and_then(|object| subject(nodes, object)) {
        Some(subject) => format!("{subject} {}", step.why),
        None => step.why.to_string(),
    }
}

/// What an object is for; `None` where the step says it already.
fn subject(nodes: &Nodes, object: &Object) -> Option<String> {
    let who =
        |address: IpAddr| owner(nodes, address).unwrap_or_else(|| format!("the node at {address}"));
    Some(match object {
        Object::Link(link) => format!("the tunnel device {}", link.name),
        Object::Vni(vni) => format!("the virtual network of {}", vni.link),
        Object::Address(_) => "this node's own address in the tunnel".to_owned(),
        Object::Rule(rule) if rule.fwmark.is_some() => {
            "the rule by which what came by the underlay is answered by it".to_owned()
        }
        Object::Rule(_) => "the rule by which pods reach other nodes through the tunnel".to_owned(),
        Object::Neighbour(neighbour) => {
            format!("the hardware address of the tunnel end of {}", who(neighbour.address))
        }
        Object::Fdb(fdb) => format!("the way to the tunnel end of {}", who(fdb.to?)),
        Object::Route(route) if route.table == MAIN_TABLE => {
            format!("the route to the pods of {}", who(route.destination.network()))
        }
        Object::Route(route) => {
            format!("the route by which pods reach {} itself", who(route.destination.network()))
        }
        Object::Nft(nft::Object::Table(_)) => "the agent's table".to_owned(),
        Object::Nft(nft::Object::Chain(chain)) => {
            format!("the chain {} of the agent's table", chain.name)
        }
        Object::Nft(nft::Object::Set(set)) => format!("the set {} of the agent's table", set.name),
        Object::Nft(nft::Object::Element(element)) => {
            let known = first_address(&element.key).and_then(|address| owner(nodes, address));
            let whose = known.map(|name| format!(" of {name}")).unwrap_or_default();
            format!("the entry{whose} in the set {}", element.set)
        }
        Object::Sysctl(_)
        | Object::Netns(_)
        | Object::Qdisc(_)
        | Object::Tracked(_)
        | Object::File(_) => return None,
    })
}

/// The node that has an address, on the underlay or in the tunnel.
fn owner(nodes: &Nodes, address: IpAddr) -> Option<String> {
    let has = |node: &&crate::Node| {
        let mut outer = node.addresses.iter();
        let mut subnets = node.subnets.iter();
        outer.any(|(_, it)| *it == address) || subnets.any(|(_, it)| it.network() == address)
    };
    nodes.iter().find(has).map(|node| node.name.to_string())
}

fn first_address(key: &nft::Key) -> Option<IpAddr> {
    match key {
        nft::Key::Point(values) | nft::Key::Interval(values, _) => match values.first()? {
            nft::Value::Address(address) => Some(*address),
            _ => None,
        },
        nft::Key::Rest => None,
    }
}
