//! What the pods of one node do by themselves, to which an asker that is somewhere else is held.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use diagnosis::verify::{Pairs, Plan, Protocol, Rule, Service, Wanted};
use topology::Machine;

/// The resolvers that the pods of a node are told, and the ports of theirs that ports of the node
/// lead to.
pub(crate) struct Here(Plan);

impl Here {
    /// What follows from the node.
    pub(crate) fn of(machine: &Machine) -> Self {
        let wanted = Wanted {
            subjects: Vec::new(),
            rules: BTreeSet::from([Rule::Dns, Rule::Hairpin]),
            protocols: BTreeSet::new(),
            pairs: Pairs::Usual,
        };
        // Only who is named can be unknown.
        Self(Plan::new(machine, &wanted).unwrap_or_default())
    }

    /// Whether a pod is told that this is a resolver.
    pub(crate) fn resolves(&self, pod: IpAddr, to: SocketAddr) -> bool {
        self.0.calls.iter().any(|it| {
            let from = self.0.places[it.from].address;
            it.service == Service::Resolver && (from, it.to) == (pod, to)
        })
    }

    /// Whether a port of the node leads to this one of a pod.
    pub(crate) fn leads_to(&self, at: SocketAddr, protocol: Protocol) -> bool {
        self.0.calls.iter().any(|it| match it.service {
            Service::Port { place, port } => {
                SocketAddr::new(self.0.places[place].address, port) == at && it.protocol == protocol
            }
            Service::Resolver => false,
        })
    }
}
